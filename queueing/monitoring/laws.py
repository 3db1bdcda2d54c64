"""Laws that any run of a serving engine should keep, as monitors."""

from __future__ import annotations

import math
from dataclasses import dataclass

from queueing.monitoring.books import Idle, Overtaking, kv_usage, longest_idle, worst_overtaking
from queueing.monitoring.findings import Assumption, Finding, Run

__all__ = ["ClientOrder", "KvConservation", "WorkConservation"]


@dataclass(frozen=True)
class WorkConservation:
    """No node stands idle, or runs a batch without tokens, while a request that arrived there is not finished.

    Args:
        slack: s between batches that do not count, as real engines need some.
    """

    slack: float = 0.0

    def read(self, run: Run) -> Finding:
        """What was found."""
        worst = longest_idle(run.trace) if run.batches.holds else Idle(math.nan, math.nan, -1)
        client = (int(run.trace.requests["client"][worst.request]),) if worst.request >= 0 else ()
        return Finding(
            "WorkConservation", worst.seconds, self.slack, "s", worst.since + worst.seconds, worst.since, client,
            worst.request, (run.batches, run.times),
        )  # fmt: skip


@dataclass(frozen=True)
class ClientOrder:
    """First come, first served within each client, by first admissions, on each node; `request` overtook another."""

    def read(self, run: Run) -> Finding:
        """What was found."""
        q = run.trace.requests
        known = "admitted" not in run.trace.meta.get("unknown", ())
        recorded = Assumption(
            "admissions", known, "recorded" if known else "this log does not know their times"
        )
        worst = worst_overtaking(run.trace) if known else Overtaking(math.nan, math.nan, -1, -1)
        since, client, note = math.nan, (), ""
        if worst.request >= 0:
            since, client = float(q["arrival"][worst.overtaken]), (int(q["client"][worst.request]),)
            note = f"it overtook request {worst.overtaken}"
        return Finding(
            "ClientOrder",
            worst.seconds,
            0.0,
            "s",
            worst.time,
            since,
            client,
            worst.request,
            (recorded, run.times),
            note,
        )


@dataclass(frozen=True)
class KvConservation:
    """KV blocks in use are never more than there are, nor fewer than the tokens of the entries need.

    Args:
        blocks, block_size: of a node; by default what the trace names.
    """

    blocks: int | None = None
    block_size: int | None = None

    def read(self, run: Run) -> Finding:
        """What was found."""
        its, meta = run.trace.iterations, run.trace.meta
        blocks = int(meta.get("blocks", 0)) if self.blocks is None else self.blocks
        size = int(meta.get("block_size", 0)) if self.block_size is None else self.block_size
        known = blocks > 0 and size > 0
        memory = Assumption("KV memory is known", known, f"{blocks} blocks of {size} tokens" if known else
                            "this trace does not name it; give blocks=... and block_size=...")  # fmt: skip
        usage = kv_usage(run.trace, max(size, 1))
        value, bound, at = usage.most, blocks, usage.batch
        if run.trace.entries is None:
            note = "without entries nothing but the whole memory is compared"
        elif usage.lacking >= 0:
            note = "the tokens of the entries need more blocks than the batch says to use"
            if usage.most <= blocks:
                value, bound, at = usage.needed, int(its["blocks"][usage.lacking]), usage.lacking
        elif usage.follows_tokens:
            note = "blocks are those of the tokens held"
        elif usage.follows_lengths:
            note = "blocks are those of prompt + output of the running requests"
        else:
            note = "blocks are at least those of the tokens held"
        time = float(its["start"][at]) if at >= 0 else math.nan
        return Finding(
            "KvConservation", value, bound, "blocks", time, time, (), -1, (run.batches, memory), note
        )
