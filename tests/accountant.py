"""An accountant of traces: replays the log of who got how many tokens, in plain Python, on books of its own.

It shares no line with the serving loop.  :func:`audit` raises :class:`BooksDoNotBalance` at the first figure of a trace
that its own books contradict, and returns one :class:`Step` per batch for the tests of what policies declare.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from policies.admission import Admission
from queueing.models.iteration_time import Load
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload


class BooksDoNotBalance(AssertionError):
    """A figure of the trace differs from the accountant's."""


def require(holds: bool, law: str, *details: Any) -> None:
    if not holds:
        raise BooksDoNotBalance(f"{law}: {details}")


@dataclass
class Account:
    """One request."""

    prompt: int  # to prefill before it decodes; grows by what was generated when it is preempted
    original: int
    output: int
    predicted: int
    tbt: float
    prefilled: int = 0
    decoded: int = 0
    context: int = 0
    blocks: int = 0
    granted: int = 0  # tokens of all batches
    lost: int = 0  # tokens of the KV cache lost to preemptions
    preemptions: int = 0
    admitted: float = math.nan
    prefill_end: float = math.nan
    first_token: float = math.nan
    last_token: float = math.nan
    finished: float = math.nan
    gaps: list[float] = field(default_factory=list)

    @property
    def decoding(self) -> bool:
        return self.blocks > 0 and self.prefilled == self.prompt


@dataclass(frozen=True)
class Step:
    """One batch, as it stood when it was planned."""

    node: int
    start: float
    seconds: float
    idled: float  # time the node let pass though it had unfinished requests (s)
    entries: list[tuple[int, int]]  # (request, tokens), in the order of the batch
    victims: list[int]
    admitted: list[int]
    queue: list[int]  # the waiting queue, victims of this batch at its front
    running: list[int]  # before the batch, ascending
    decoding: list[int]  # those of them that were decoding
    left: dict[int, int]  # prompt tokens left of each chunk's request, the chunk included
    free: int  # KV blocks free before the batch
    freed: int  # KV blocks of the victims
    last_decoded: float  # end of the batch before (s)

    @property
    def tokens(self) -> int:
        return sum(q for _, q in self.entries)

    @property
    def decodes(self) -> list[int]:
        return [r for r, _ in self.entries if r not in self.left]

    @property
    def chunks(self) -> dict[int, int]:
        return {r: q for r, q in self.entries if r in self.left}


def audit(workload: Workload, system: System, trace: Trace, admission: Admission | None) -> list[Step]:
    """Replay `trace` and check every figure in it; return the steps, node by node."""
    entries = trace.entries
    assert entries is not None, "record_entries was not set"
    ends = np.cumsum(trace.iterations["entries"])
    log = list(zip(entries["request"].tolist(), entries["tokens"].tolist(), strict=True))
    require(len(log) == (ends[-1] if len(ends) else 0), "entries of the log are counted by the iterations")
    rows = [
        dict(zip(trace.iterations, row, strict=True)) for row in zip(*trace.iterations.values(), strict=True)
    ]
    for row, end in zip(rows, ends, strict=True):
        row["log"] = log[end - row["entries"] : end]
    steps: list[Step] = []
    horizon = trace.meta["horizon"]
    for node in range(trace.meta["nodes"]):
        mine = np.flatnonzero(trace.requests["node"] == node).tolist()
        replay = _Node(workload, system, admission, node, mine, horizon)
        steps += [replay.batch(row) for row in rows if row["node"] == node]
        replay.close(trace)
    unseen = np.flatnonzero(trace.requests["node"] < 0)
    require(bool(np.all(workload.arrival[unseen] >= horizon)), "every request arrives at some node", unseen)
    require(
        bool(np.all(trace.requests["status"][unseen] == 0)), "a request that did not arrive is in the future"
    )
    samples = int(np.maximum(trace.requests["decoded"] - 1, 0).sum())
    require(int(trace.gaps.sum()) == samples, "the sketch counts every gap between tokens", samples)
    return steps


class _Node:
    def __init__(
        self,
        workload: Workload,
        system: System,
        admission: Admission | None,
        node: int,
        mine: list[int],
        horizon: float,
    ) -> None:
        self.system, self.admission, self.node, self.horizon = system, admission, node, horizon
        self.arrival = {r: float(workload.arrival[r]) for r in mine}
        self.accounts: dict[int, Account] = {}
        self.rejected: set[int] = set()
        for r in mine:
            prompt, output = int(workload.prompt[r]), int(workload.output[r])
            room = system.blocks - system.watermark_blocks
            if prompt + output > system.max_length or self.blocks_for(prompt + output) > room:
                self.rejected.add(r)
                continue
            known = workload.predicted
            predicted = system.max_length - prompt if known is None else int(known[r])
            self.accounts[r] = Account(prompt, prompt, output, predicted, float(workload.tbt[r]))
        self.coming = sorted(self.accounts, key=lambda r: (self.arrival[r], r))
        self.queue: list[int] = []
        self.end = 0.0

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.system.block_size)

    @property
    def running(self) -> list[int]:
        return sorted(r for r, a in self.accounts.items() if a.blocks > 0)

    @property
    def free(self) -> int:
        return self.system.blocks - sum(a.blocks for a in self.accounts.values())

    def reserve(self, a: Account) -> int:
        """Tokens for which a request gets KV blocks on admission."""
        memory = self.system.blocks * self.system.block_size
        wanted = {
            Admission.CONTEXT_LIMIT: self.system.max_length,
            Admission.ANNOUNCED_LENGTH: a.prompt + max(a.predicted - a.decoded, 0),
        }.get(self.admission or Admission.WHOLE_PROMPT, a.prompt)
        return max(a.prompt, min(wanted, memory))

    def batch(self, row: dict[str, Any]) -> Step:
        start, seconds = float(row["start"]), float(row["seconds"])
        require(start >= self.end, "the clock of a node is monotone", start, self.end)
        require(start < self.horizon, "no batch starts at or after the horizon", start)
        busy = bool(self.queue or self.running) or any(self.arrival[r] <= self.end for r in self.coming)
        ready = self.end if busy else min((self.arrival[r] for r in self.coming), default=math.inf)
        require(start >= ready, "no batch starts before there is something to serve", start, ready)
        while self.coming and self.arrival[self.coming[0]] <= start:
            self.queue.append(self.coming.pop(0))
        running, free = self.running, self.free
        decoding = [r for r in running if self.accounts[r].decoding]
        victims = [r for r, q in row["log"] if q == 0]
        entries = [(r, q) for r, q in row["log"] if q != 0]
        require(row["log"][: len(victims)] == [(r, 0) for r in victims], "preemptions come first")
        require(len(entries) > 0, "a batch serves somebody")
        require(len({r for r, _ in entries}) == len(entries), "a batch serves a request once", entries)
        freed = 0
        for r in victims:
            freed += self.preempt(r)
        queue = list(self.queue)
        admitted: list[int] = []
        left: dict[int, int] = {}
        load = Load(0, 0, 0, np.zeros(0, np.int64), np.zeros(0, np.int64))
        chunks: list[tuple[int, int]] = []
        context = decodes = 0
        for r, q in entries:
            require(r in self.accounts, "no service before arrival, to strangers, or after rejection", r)
            a = self.accounts[r]
            require(math.isnan(a.finished), "no service after the end", r)
            require(self.arrival[r] <= start, "no service before arrival", r, start)
            held = a.context + q
            if a.blocks == 0:
                require(r in self.queue, "only waiting requests are admitted", r)
                self.queue.remove(r)
                admitted.append(r)
                held = self.reserve(a)
                a.admitted = start if math.isnan(a.admitted) else a.admitted
            if a.prefilled < a.prompt:
                left[r] = a.prompt - a.prefilled
                require(1 <= q <= left[r], "a chunk is part of what is left of the prompt", r, q, left[r])
                chunks.append((q, a.prefilled))
            else:
                require(q == 1, "a decode is one token", r, q)
                decodes += 1
                context += a.context + 1
            a.blocks = max(a.blocks, self.blocks_for(held))
            a.granted += q
        tokens = sum(q for _, q in entries)
        require(self.free >= 0, "KV memory is never exceeded", self.free)
        require(len(self.running) <= self.system.max_running, "no more run than there are places")
        require(tokens <= self.system.max_batch_tokens, "the engine's token limit holds", tokens)
        load = Load(
            tokens,
            decodes,
            context,
            np.array([q for q, _ in chunks], int),
            np.array([h for _, h in chunks], int),
        )
        law: Callable[[Load], float] = self.system.iteration_time
        require(math.isclose(seconds, law(load), rel_tol=1e-12), "a batch takes what the law says", load)
        stated = {
            "prefill": tokens - decodes,
            "decodes": decodes,
            "context": context,
            "blocks": self.system.blocks - self.free,
            "waiting": len(self.queue),
            "running": len(self.running),
        }
        for name, figure in stated.items():
            require(
                int(row[name]) == figure, f"column {name} agrees with the entries", int(row[name]), figure
            )
        before, self.end = self.end, start + seconds
        if self.end <= self.horizon:
            for r, q in entries:
                self.credit(r, q)
        return Step(
            self.node, start, seconds, start - ready, entries, victims, admitted, queue, running, decoding, left,
            free, freed, before,
        )  # fmt: skip

    def preempt(self, r: int) -> int:
        a = self.accounts.get(r)
        require(a is not None and a.blocks > 0, "only running requests are preempted, each once", r)
        assert a is not None
        freed = a.blocks
        a.prompt = a.original + a.decoded
        a.lost += a.context
        a.preemptions += 1
        a.blocks = a.context = a.prefilled = 0
        self.queue.insert(0, r)
        return freed

    def credit(self, r: int, q: int) -> None:
        a = self.accounts[r]
        a.context += q
        if a.prefilled < a.prompt:
            a.prefilled += q
            if a.prefilled < a.prompt:
                return
            a.prefill_end = self.end if math.isnan(a.prefill_end) else a.prefill_end
            if not self.system.last_chunk_emits:
                return
        if a.decoded == 0:
            a.first_token = self.end
        else:
            a.gaps.append(self.end - a.last_token)
        a.decoded += 1
        a.last_token = self.end
        if a.decoded == a.output:
            a.finished = self.end
            a.blocks = 0

    def close(self, trace: Trace) -> None:
        """Compare the closed accounts with the table of requests, and weigh tokens."""
        for r in self.rejected:
            require(bool(trace.rejected[r]), "a request that can never be finished is rejected", r)
            require(int(trace.requests["decoded"][r]) == 0, "a rejected request gets nothing", r)
        for r, a in self.accounts.items():
            done = not math.isnan(a.finished)
            require(bool(trace.finished[r]) == done, "the status says who is finished", r)
            require(not trace.rejected[r], "what can be finished is not rejected", r)
            require(
                bool(trace.unfinished[r]) == (not done),
                "every request is finished, rejected or unfinished",
                r,
            )
            stated = {
                "decoded": a.decoded,
                "preemptions": a.preemptions,
                "admitted": a.admitted,
                "prefill_end": a.prefill_end,
                "first_token": a.first_token,
                "last_token": a.last_token,
                "finished": a.finished,
                "longest_gap": max(a.gaps, default=0.0),
                "late_gaps": sum(gap > a.tbt for gap in a.gaps),
            }
            for name, figure in stated.items():
                found = trace.requests[name][r]
                same = found == figure or (math.isnan(found) and math.isnan(figure))
                require(bool(same), f"column {name} agrees with the entries", r, found, figure)
            if done:
                require(a.decoded == a.output, "a finished request has its whole output", r)
                unwritten = 1 if self.system.last_chunk_emits else 0  # the last token is never attended to
                require(
                    a.granted == a.original + a.output - unwritten + a.lost,
                    "tokens given = prompt + decodes + recomputed",
                    r,
                )
