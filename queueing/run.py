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

from queueing.batch import COUNTS
from queueing.books import (
    ABSENT,
    AGENDA,
    CURSOR,
    DESKS,
    ENTRIES_LOG,
    HAVE,
    ITERATION,
    ITERATIONS,
    LINE,
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
    Books,
    Limits,
    fields_of,
)
from queueing.policy import NodeLoads, Policy, Router
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


def _on_a_line(n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros that begin where a cache line does."""
    raw = np.zeros(n * dtype.itemsize + LINE, np.uint8)
    first = -raw.ctypes.data % LINE
    return raw[first : first + n * dtype.itemsize].view(dtype)


def _as_is(array: NDArray[Any]) -> NDArray[Any]:
    return array


class _Columns:
    """Rows in columns that grow as a whole; memory past the last row is reserved but never touched."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._columns = {name: np.empty(1 << 16, dtype[name]) for name in dtype.names or ()}
        self._rows = 0

    def append(self, table: NDArray[Any], share: float) -> None:
        """Append the rows of a structured array, with which this `share` of the run is done."""
        rows = self._rows + len(table)
        room = rows * min(max(1.1 / share, 2), 16)  # enough for the rest, so that rows are rarely moved
        for name, column in self._columns.items():
            if rows > len(column):
                grown = np.empty(int(room), column.dtype)
                grown[: self._rows] = column[: self._rows]
                column = self._columns[name] = grown
            column[self._rows : rows] = table[name]
        self._rows = rows

    def all(self) -> dict[str, NDArray[Any]]:
        """Every row so far, by column."""
        return {name: column[: self._rows] for name, column in self._columns.items()}


class Run:
    """The books of one run of `policy` on `nodes` nodes of `system`; `python` lays them out for the loop's twin.

    `rows` of the log are kept in the tables; :meth:`move_log` empties them into columns.
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
    ) -> None:
        n = len(workload)
        self._python = python
        self.workload, self.system, self.policy, self.router = workload, system, policy, router
        self.seed, self.horizon, self.record_entries = seed, horizon, record_entries
        places = system.max_running
        width = min(places, n + 64) + 1  # the loop refuses a batch that names more requests than there are
        predicted = workload.predicted
        self.class_tbt, slo_class = np.unique(workload.tbt, return_inverse=True)
        source = np.zeros(n, SOURCE)
        for name in ("arrival", "prompt", "output", "client", "tbt"):
            source[name] = getattr(workload, name)
        source["predicted"] = system.max_length - workload.prompt if predicted is None else predicted
        source["slo_class"] = slo_class
        requests = _on_a_line(n, REQUESTS)
        for name in ("last_token", "admitted", "prefill_end", "first_token", "finished"):
            requests[name] = math.nan
        requests["arrival"] = requests["tbt"] = math.inf
        requests["node"] = NOBODY
        state = np.zeros(nodes, NODES)
        state["free"] = system.blocks
        state["head"] = state["tail"] = 256
        loads = NodeLoads(np.zeros(nodes, np.int64), np.zeros(nodes, np.int64))
        agenda = np.zeros(nodes, AGENDA)
        agenda["place"] = ABSENT
        self.tables: dict[str, Any] = {
            "source": source,
            "requests": requests,
            "shown": _read_only(requests),
            "nodes": state,
            "loads": loads,
            "shown_loads": NodeLoads(*map(_read_only, loads)),
            "agenda": agenda,
            "queue": np.zeros((nodes, 1024), np.uint32),
            "desks": (desks := np.zeros((nodes, width), DESKS)),
            "shown_desks": _read_only(desks),
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
        self._iterations, self._entries = _Columns(ITERATIONS), _Columns(ENTRIES_LOG)
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
            columns.append(self.tables[table][: self.cursor[filled]], share)
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
        requests["output"] = np.ascontiguousarray(source["output"])  # an engine learns it at the end
        requests["slo_class"] = np.ascontiguousarray(source["slo_class"])
        requests["status"] = known["phase"].astype(np.int8)
        for name in REQUESTS.names or ():
            if name not in requests and name not in HIDDEN:
                requests[name] = np.ascontiguousarray(known[name])
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
            self._iterations.all(),
            self._entries.all() if self.record_entries else None,
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
