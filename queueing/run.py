"""The books of one run: what is known of the workload, the requests, the nodes and their batches, and the trace of it.

Whoever drives the loop of :mod:`queueing.loop`, a simulator with a law or an engine with a clock, keeps these books,
and the trace is made from them alone.
"""

from __future__ import annotations

import functools
import math
import platform
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from queueing.agenda import TOP
from queueing.batch import COUNTS
from queueing.books import (
    CHUNKS,
    CURSOR,
    DESKS,
    ENTRIES_LOG,
    HAVE,
    ITERATION,
    ITERATIONS,
    MOST_CLASSES,
    NEED,
    NEXT,
    NOBODY,
    NODE,
    NODES,
    REQUEST,
    REQUESTS,
    ROUTING,
    ROW_ENTRIES,
    ROWS,
    RULE,
    RULES,
    SOURCE,
    Agenda,
    Books,
    Limits,
    fields_of,
    widened,
)
from queueing.policy import NodeLoads, Policy, Router
from queueing.storage import Memory, Storage, pieces
from queueing.system import System
from queueing.trace import SKETCH_BINS, Trace
from queueing.workload import Workload

__all__ = ["PolicyBreach", "Run", "versions"]

HIDDEN = {
    "prefilled",
    "recomputed",
    "predicted",
    "blocks",
    "context",
    "phase",
    "stamp",
}  # state, not a result


class PolicyBreach(RuntimeError):
    """A policy asked for a batch that breaks a rule of the serving loop; nothing is repaired."""


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    alias = array.view()
    alias.flags.writeable = False
    return alias


def _as_is(array: NDArray[Any]) -> NDArray[Any]:
    return array


class Run:
    """The books of one run of `policy` on `nodes` nodes of `system`; `python` lays them out for the loop's twin.

    `rows` of the log are kept in the tables; :meth:`move_log` empties them into columns.  What has a row per request,
    and the trace, lie in `storage`.
    """

    def __init__(
        self,
        workload: Workload,
        system: System,
        policy: Policy,
        *,
        nodes: int = 1,
        router: Router | None = None,
        seed: int = 0,
        horizon: float = math.inf,
        record_entries: bool = False,
        python: bool = False,
        rows: int = 1 << 16,
        storage: Storage | None = None,
    ) -> None:
        n = len(workload)
        self._storage = storage = Memory() if storage is None else storage
        self._python = python
        self.workload, self.system, self.policy, self.router = workload, system, policy, router
        self.seed, self.horizon, self.record_entries = seed, horizon, record_entries
        places = system.max_running
        width = min(places, n + 64) + 1  # the loop refuses a batch that names more requests than there are
        self.class_tbt = np.unique(np.concatenate([np.unique(workload.tbt[at]) for at in pieces(n)]))
        if len(self.class_tbt) > MOST_CLASSES:
            raise ValueError(
                f"the requests have {len(self.class_tbt)} limits on the time between tokens; group them into at most "
                f"{MOST_CLASSES}, each a class with its own sketch of gaps"
            )
        source = storage.zeros(n, SOURCE)
        requests = storage.zeros(n, widened(REQUESTS) if python else REQUESTS)
        for at in pieces(n):
            for name in ("arrival", "prompt", "output", "client", "tbt"):
                source[name][at] = getattr(workload, name)[at]
            known = workload.predicted
            source["predicted"][at] = system.max_length - workload.prompt[at] if known is None else known[at]
            source["slo_class"][at] = np.searchsorted(self.class_tbt, workload.tbt[at])
            for name in ("last_token", "admitted", "prefill_end", "first_token", "finished"):
                requests[name][at] = math.nan
            requests["arrival"][at] = requests["tbt"][at] = math.inf
            requests["node"][at] = NOBODY
        state = storage.zeros(nodes, NODES)
        state["free"] = system.blocks
        state["head"] = state["tail"] = 256
        loads = NodeLoads(np.zeros(nodes, np.int64), np.zeros(nodes, np.int64))
        self.tables: dict[str, Any] = {
            "source": source,
            "requests": requests,
            "shown": _read_only(requests),
            "nodes": state,
            "loads": loads,
            "shown_loads": NodeLoads(*map(_read_only, loads)),
            "agenda": Agenda(storage.zeros(TOP + nodes, "f8"), np.zeros(TOP + nodes, np.int32)),
            "places": np.zeros(nodes, np.int32),
            "queue": np.zeros((nodes, 1024), np.uint32),
            "members": (members := np.zeros((nodes, width), np.uint32)),
            "shown_members": _read_only(members),
            "desks": (desks := np.zeros((nodes, width), DESKS)),
            "shown_desks": _read_only(desks),
            "chunks": np.zeros((nodes, width), CHUNKS),
            "victims": np.zeros((nodes, width), np.uint32),
            "count": np.zeros((nodes, COUNTS), np.int64),
            "log": np.zeros(rows, ITERATIONS),
            "entries": np.zeros(max(4 * rows, 4 * width) if record_entries else 1, ENTRIES_LOG),
            "gaps": np.zeros((len(self.class_tbt), SKETCH_BINS), np.int64),
            "cursor": np.zeros(CURSOR, np.int64),
        }
        self.cursor: NDArray[np.int64] = self.tables["cursor"]
        self.limits = Limits(
            system.blocks, system.block_size, system.watermark_blocks, system.max_length, places,
            system.max_batch_tokens, system.last_chunk_emits, record_entries, horizon,
        )  # fmt: skip
        memory = policy.init(max(n, int(workload.client.max(initial=-1)) + 1))
        make: Any = type(memory)
        self.memories = make(*(np.repeat(np.asarray(a)[None], nodes, axis=0) for a in memory))
        self._iterations = {
            name: storage.rows(f"iterations.{name}", ITERATIONS[name]) for name in ITERATIONS.names or ()
        }
        names = ENTRIES_LOG.names if record_entries else ()
        self._entries = {name: storage.rows(f"entries.{name}", ENTRIES_LOG[name]) for name in names or ()}
        self._open()

    def _open(self) -> None:
        """Lay the tables out for the loop: whole for the compiled one, field by field for its twin."""
        tables = {**self.tables, "shown_queue": _read_only(self.tables["queue"])}
        lay = fields_of if self._python else _as_is
        self.books = Books(**{name: lay(tables[name]) for name in Books._fields})

    def grow_queue(self) -> None:
        """Double the waiting queues' buffer."""
        queue = self.tables["queue"]
        self.tables["queue"] = np.concatenate([queue, np.zeros_like(queue)], axis=1)
        self._open()

    def move_log(self) -> None:
        """Append the filled rows of the log and of the entries to columns, and empty both."""
        share = max(int(self.cursor[NEXT]), 1) / max(len(self.workload), 1)
        for columns, table, filled in (
            (self._iterations, "log", ROWS),
            (self._entries, "entries", ROW_ENTRIES),
        ):
            for name, column in columns.items():
                column.append(self.tables[table][name][: self.cursor[filled]], share)
            self.cursor[filled] = 0

    def breach(self) -> PolicyBreach:
        """The broken rule in a sentence."""
        c = self.cursor
        who = "the batch" if c[REQUEST] == NOBODY else f"request {c[REQUEST]}"
        numbers = f" ({c[NEED]} asked for, {c[HAVE]} allowed)" if c[HAVE] or c[NEED] else ""
        culprit: Any = self.router if c[RULE] == ROUTING else self.policy
        return PolicyBreach(
            f"{culprit.name} broke a rule in iteration {c[ITERATION]} of node {c[NODE]} "
            f"(t = {self.tables['nodes']['clock'][c[NODE]]:.6g} s), {who}{numbers}: {RULES[c[RULE]]}"
        )

    def trace(self) -> Trace:
        """What happened so far."""
        self.move_log()
        known = self.tables["requests"]
        source = self.tables["source"]
        requests: dict[str, NDArray[Any]] = {
            name: np.ascontiguousarray(getattr(self.workload, name))
            for name in ("arrival", "prompt", "client", "tbt", "ttft")
        }
        kept = {
            name: source[name] for name in ("output", "slo_class")
        }  # an engine learns the output at the end
        kept |= {
            name: known[name] for name in REQUESTS.names or () if name not in {*requests, *kept, *HIDDEN}
        }
        kept["status"] = known["phase"]
        requests |= {
            name: self._storage.column(
                f"requests.{name}",
                values,
                np.int8 if name == "status" else np.int64 if values.dtype.kind in "iu" else np.float64,
            )
            for name, values in kept.items()
        }
        system = self.system
        meta = {
            "policy": self.policy.name,
            "system": system.name,
            "nodes": len(self.tables["nodes"]),
            "router": None if self.router is None else self.router.name,
            "seed": self.seed,
            "horizon": self.horizon,
            "last_chunk_emits": system.last_chunk_emits,
            "blocks": system.blocks,
            "block_size": system.block_size,
            "versions": versions(),
        }
        return Trace(
            requests,
            {name: column.all() for name, column in self._iterations.items()},
            {name: column.all() for name, column in self._entries.items()} if self.record_entries else None,
            self.tables["gaps"],
            self.class_tbt,
            meta,
        )


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on."""
    found = {"python": platform.python_version()}
    for package in ("tandem-queueing", "numpy", "numba", "scipy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
