"""Simulate a policy on a workload and a system: the books of one run, and the loop over them.

The loop itself, with its rules and conventions, is :mod:`queueing.loop`; `python=True` runs the same lines as plain
Python (the twin), which is the oracle of the compiled loop and the place to set a breakpoint.
"""

from __future__ import annotations

import functools
import math
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from queueing.batch import COUNTS
from queueing.books import (
    BREACH,
    CURSOR,
    DESKS,
    DONE,
    ENTRIES_LOG,
    HAVE,
    ITERATION,
    ITERATIONS,
    NEED,
    NEXT,
    NOBODY,
    NODE,
    NODES,
    QUEUE_FULL,
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
from queueing.compilation import compiled, interpreted, loop
from queueing.loop import serve
from queueing.policy import Policy, Router, route
from queueing.system import System
from queueing.trace import SKETCH_BINS, Trace
from queueing.workload import Workload

__all__ = ["PolicyBreach", "simulate", "versions"]

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


@dataclass(frozen=True, slots=True)
class _Single(Router):
    """The router of a single node."""

    @route
    def single(p: Any, i: int, draws: Any, loads: Any) -> int:
        return 0


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    alias = array.view()
    alias.flags.writeable = False
    return alias


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


class _Run:
    """The books of one run, and the compiled or interpreted loop over them."""

    def __init__(
        self,
        workload: Workload,
        system: System,
        policy: Policy,
        nodes: int,
        router: Router | None,
        seed: int,
        horizon: float,
        record_entries: bool,
        python: bool,
        rows: int,
    ) -> None:
        n = len(workload)
        self._python = python
        places = system.max_running
        width = min(places, n + 64) + 1  # the loop refuses a batch that names more requests than there are
        predicted = workload.predicted
        self.class_tbt, slo_class = np.unique(workload.tbt, return_inverse=True)
        source = np.zeros(n, SOURCE)
        for name in ("arrival", "prompt", "output", "client", "tbt"):
            source[name] = getattr(workload, name)
        source["predicted"] = system.max_length - workload.prompt if predicted is None else predicted
        source["slo_class"] = slo_class
        requests = np.zeros(n, REQUESTS)
        for name in ("last_token", "admitted", "prefill_end", "first_token", "finished"):
            requests[name] = math.nan
        requests["arrival"] = requests["tbt"] = math.inf
        requests["node"] = NOBODY
        state = np.zeros(nodes, NODES)
        state["free"] = system.blocks
        state["head"] = state["tail"] = 256
        self.tables: dict[str, Any] = {
            "source": source,
            "requests": requests,
            "shown": _read_only(requests),
            "nodes": state,
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
        route_by = router if router is not None else _Single()
        draws = np.random.default_rng(seed).random((n, route_by.draws_per_request))
        memory = policy.init(max(n, int(workload.client.max(initial=-1)) + 1))
        make: Any = type(memory)
        memories = make(*(np.repeat(np.asarray(a)[None], nodes, axis=0) for a in memory))
        law, law_p = system.iteration_time.lower()
        if python:
            run: Any = interpreted(serve)
            bodies = (
                policy.body.python,
                policy,
                memories,
                interpreted(law),
                law_p,
                route_by.body.python,
                route_by,
            )
        else:
            run = loop(serve, policy.body.function, law, route_by.body.function)
            bodies = (
                policy.body.compiled, policy.parameters(), memories, _compiled_law(law), law_p,
                route_by.body.compiled, route_by.parameters(),
            )  # fmt: skip
        self._loop, self._bodies, self._draws = run, bodies, draws
        self.policy, self.router = policy, route_by
        self._open()

    def _open(self) -> None:
        """Lay the tables out for the loop: whole for the compiled one, field by field for its twin."""
        tables = {**self.tables, "shown_queue": _read_only(self.tables["queue"])}
        lay = fields_of if self._python else _as_is
        self.books = Books(**{name: lay(tables[name]) for name in Books._fields})

    def serve(self) -> int:
        """Go on until the workload is done, a buffer is full, or a rule is broken; return which."""
        return self._loop(*self._bodies, self._draws, self.books, self.limits)

    def grow_queue(self) -> None:
        """Double the waiting queues' buffer."""
        queue = self.tables["queue"]
        self.tables["queue"] = np.concatenate([queue, np.zeros_like(queue)], axis=1)
        self._open()

    def move_log(self, iterations: _Columns, entries: _Columns) -> None:
        """Append the filled rows of the log and of the entries to columns, and empty both."""
        share = max(int(self.cursor[NEXT]), 1) / len(self.tables["source"])
        for columns, table, filled in ((iterations, "log", ROWS), (entries, "entries", ROW_ENTRIES)):
            columns.append(self.tables[table][: self.cursor[filled]], share)
            self.cursor[filled] = 0

    def breach(self) -> PolicyBreach:
        """The broken rule in a sentence."""
        c = self.cursor
        who = "the batch" if c[REQUEST] == NOBODY else f"request {c[REQUEST]}"
        numbers = f" ({c[NEED]} asked for, {c[HAVE]} allowed)" if c[HAVE] or c[NEED] else ""
        culprit = self.router if c[RULE] == ROUTING else self.policy
        return PolicyBreach(
            f"{culprit.name} broke a rule in iteration {c[ITERATION]} of node {c[NODE]} "
            f"(t = {self.tables['nodes']['clock'][c[NODE]]:.6g} s), {who}{numbers}: {RULES[c[RULE]]}"
        )


@functools.cache
def _compiled_law(law: Callable[..., float]) -> Any:
    return compiled(law)


def simulate(
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
    progress: Callable[[int, int], None] | None = None,
) -> Trace:
    """Serve `workload` on `system` under `policy` and return the :class:`~queueing.trace.Trace`.

    Args:
        workload: requests in order of arrival.
        system: iteration-time model, KV memory and limits of each node.
        policy: the scheduler of every node.
        nodes: number of identical nodes, each with its own memory and queue.
        router: who sends an arriving request to which node; required when `nodes` > 1.
        seed: seeds the router's draws, the only randomness of a run.
        horizon: no batch starts and no request arrives at or after this time (s).
        record_entries: also record which request got how many tokens in which batch.
        python: run the plain-Python twin of the compiled loop: some five hundred times slower, steppable, same result.
        progress: called now and then with (requests arrived, requests in all).

    Raises:
        PolicyBreach: the policy asked for a batch that breaks a rule.
        ValueError: an argument is out of range.
    """
    if nodes < 1:
        raise ValueError(f"nodes must be at least 1, not {nodes}")
    if nodes > 1 and router is None:
        raise ValueError(
            f"{nodes} nodes need a router; pass router=..., for example policies.routing.RoundRobin()"
        )
    if not horizon > 0:
        raise ValueError(f"horizon must be positive, not {horizon}")
    run = _Run(workload, system, policy, nodes, router, seed, horizon, record_entries, python, rows=1 << 16)
    iterations, entries = _Columns(ITERATIONS), _Columns(ENTRIES_LOG)
    while True:
        code = run.serve()
        if code == BREACH:
            raise run.breach()
        if code == QUEUE_FULL:
            run.grow_queue()
        run.move_log(iterations, entries)
        if progress is not None:
            progress(min(int(run.cursor[NEXT]), len(workload)), len(workload))
        if code == DONE:
            break
    known = run.tables["requests"]
    requests: dict[str, NDArray[Any]] = {
        name: np.ascontiguousarray(getattr(workload, name))
        for name in ("arrival", "prompt", "output", "client", "tbt", "ttft")
    }
    requests["slo_class"] = np.ascontiguousarray(run.tables["source"]["slo_class"])
    requests["status"] = known["phase"].astype(np.int8)
    for name in REQUESTS.names or ():
        if name not in requests and name not in HIDDEN:
            requests[name] = np.ascontiguousarray(known[name])
    meta = {
        "policy": policy.name,
        "system": system.name,
        "nodes": nodes,
        "router": None if router is None else router.name,
        "seed": seed,
        "horizon": horizon,
        "last_chunk_emits": system.last_chunk_emits,
        "blocks": system.blocks,
        "block_size": system.block_size,
        "versions": versions(),
    }
    return Trace(
        requests,
        iterations.all(),
        entries.all() if record_entries else None,
        run.tables["gaps"],
        run.class_tbt,
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
