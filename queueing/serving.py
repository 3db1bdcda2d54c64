"""Serving with any engine: the loop of the simulator, cut open where a batch is executed.

    plan, check, KV blocks   ->   engine.execute(work) -> seconds   ->   tokens credited, times noted

What stands before and after the engine is the compiled code of :mod:`queueing.loop`, so that a policy is asked the same
question here and in the simulator.  The clock of the node moves as it does there: to the end of a batch, to an arrival,
to the end of a hold.  A real clock enters only through the seconds that an engine reports, which count from the node's
clock to the moment the last token of the batch was known; so they contain what the loop itself takes.
"""

# Compiled functions carry no hints: numba types them by what they are called with.
# pyright: basic, reportMissingParameterType=false, reportUnknownParameterType=false

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from queueing.batch import ENTRIES, VICTIMS
from queueing.books import (
    BREACH,
    DONE,
    HELD,
    HOLDING,
    IDLE,
    LOG_FULL,
    NEXT,
    NOTHING,
    PLAN,
    QUEUE_FULL,
)
from queueing.compilation import interpreted, loop
from queueing.loop import commit, deliver, desk, granted, launch, look, make_room, memory_of, ready
from queueing.models.iteration_time import Load
from queueing.policy import Policy
from queueing.run import Run
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload

__all__ = ["Done", "Engine", "ReplayEngine", "Server", "SimulatedEngine", "Wait", "Work", "serve"]

Ids = NDArray[np.uint32]
Ints = NDArray[np.int64]


def open_batch(plan, p, memories, b, limits, due, delivered, more):
    """Let in the requests that are due, and begin a batch; `delivered` were let in before.

    Returns (code, tokens, decodes, context, chunks).
    """
    while b.cursor[NEXT] - delivered < due.size:
        if not make_room(0, b, 0):
            return QUEUE_FULL, 0, 0, 0, 0
        deliver(due[b.cursor[NEXT] - delivered], 0, b, limits)
        b.cursor[NEXT] += 1
    if b.loads.unfinished[0] == 0:
        return NOTHING, 0, 0, 0, 0
    code = ready(0, b, limits)
    if code != PLAN:
        return code, 0, 0, 0, 0
    plan(p, memory_of(memories, 0), look(0, b, limits), desk(0, b))
    return granted(0, more, b, limits)


def close_batch(seconds, tokens, decodes, context, b, limits):
    """Log the batch on the desk as one of so many seconds, and credit its tokens."""
    code = launch(0, seconds, tokens, decodes, context, b, limits)
    if code == DONE:
        commit(0, desk(0, b), b, limits)
    return code


@dataclass(frozen=True, slots=True)
class Wait:
    """There is nothing to execute before `until` (s on the node's clock), or before something arrives."""

    until: float


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A batch to execute, planned at `now` (s on the node's clock) and checked.

    `requests` and the `tokens` each gets, in the order of the batch; `context`, tokens that each has in the KV cache
    before it; `blocks`, KV blocks that each holds from now on; `victims`, preempted before it; `load`, what an
    iteration-time law asks for; `emits`, whether the batch gives each request a token of output.
    """

    now: float
    requests: Ids
    tokens: Ints
    context: Ints
    blocks: Ints
    victims: Ids
    load: Load
    emits: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a batch: `seconds` from the planning of it to its last token; requests whose text has `ended`."""

    seconds: float
    ended: Sequence[int] = ()


class Engine(Protocol):
    """Whatever executes batches."""

    def execute(self, work: Work) -> Done:
        """Execute a batch and say how long it took."""
        ...

    def wait(self, until: float) -> None:
        """Return at time `until` (s on the node's clock), or earlier if something new has arrived."""
        ...


class Server:
    """One node whose batches somebody else executes: :meth:`plan`, execute, :meth:`commit`, and so on.

    Args:
        workload: requests in order of arrival; `output` is the most tokens each may get.
        system: KV memory and limits; its law is not used.
        policy: the scheduler.
        record_entries: record which request got how many tokens in which batch.
        python: run the plain-Python twin of the compiled code.
        submitted: only requests that are handed over by :meth:`submit` are served here, as on one of several nodes.
    """

    def __init__(
        self,
        workload: Workload,
        system: System,
        policy: Policy,
        *,
        record_entries: bool = True,
        python: bool = False,
        submitted: bool = False,
    ) -> None:
        self.run = Run(workload, system, policy, record_entries=record_entries, python=python, rows=1 << 12)
        run = self.run
        if python:
            self._open_batch: Any = interpreted(open_batch)
            self._close_batch: Any = interpreted(close_batch)
            self._bodies: tuple[Any, ...] = (policy.body.python, policy, run.memories)
        else:
            self._open_batch = loop(open_batch, policy.body.function)
            self._close_batch = loop(close_batch)
            self._bodies = (policy.body.compiled, policy.parameters(), run.memories)
        self.requests: NDArray[Any] = run.tables["requests"]  # REQUESTS of queueing.books: read, do not write
        self._source: NDArray[Any] = run.tables["source"]
        self._node: Any = run.tables["nodes"][0]
        self._desk: Any = {name: run.tables["desks"][name][0] for name in run.tables["desks"].dtype.names}
        self._count: NDArray[np.int64] = run.tables["count"][0]
        self._planned: tuple[int, int, int] | None = None
        # who comes here, in order of arrival, and when; `known` of them so far
        self._coming = np.arange(len(workload))
        self._arrival = workload.arrival.copy()
        self._known = 0 if submitted else len(workload)
        self._open = submitted

    @property
    def clock(self) -> float:
        """Where the node's clock stands (s)."""
        return float(self._node["clock"])

    @property
    def unfinished(self) -> int:
        """Requests that have come and are not finished."""
        return int(self.run.tables["loads"].unfinished[0]) + self._known - int(self.run.cursor[NEXT])

    def submit(self, request: int, at: float) -> None:
        """Hand over a request that arrives at `at` (s), not before any other.

        Raises:
            ValueError: the server takes its requests from the workload, or another one arrived later.
        """
        if not self._open:
            raise ValueError("this server serves its whole workload; make it with submitted=True")
        if self._known and at < self._arrival[self._known - 1]:
            raise ValueError(
                f"request {request} arrives at {at} s, before one handed over earlier; hand over in order"
            )
        self._coming[self._known], self._arrival[self._known] = request, at
        self._source["arrival"][request] = at
        self._known += 1

    def close(self) -> None:
        """Say that nothing more will be submitted."""
        self._open = False

    def plan(self) -> Work | Wait | None:
        """What to do next: execute a batch, wait, or nothing, because every request is finished.

        After a :class:`Wait` the next call takes it that its time has come, or that something has been submitted.

        Raises:
            PolicyBreach: the policy asked for a batch that breaks a rule.
            RuntimeError: the batch before was not committed.
        """
        if self._planned is not None:
            raise RuntimeError("commit the batch in execution before planning the next one")
        run, node = self.run, self._node
        delivered = int(run.cursor[NEXT])
        if node["state"] == HOLDING:
            node["state"] = IDLE
            awake = min(float(node["until"]), self._next(delivered))
            if awake < math.inf:  # else it has been closed meanwhile
                node["clock"] = max(float(node["clock"]), awake)
        until = int(np.searchsorted(self._arrival[: self._known], node["clock"], "right"))
        due = self._coming[delivered:until]
        while True:
            more = self._open or until < self._known
            code, tokens, decodes, context, chunks = self._open_batch(
                *self._bodies, run.books, run.limits, due, delivered, more
            )
            if code == DONE:
                break
            if code == NOTHING:
                if not more:
                    return None
                node["state"], node["until"] = HOLDING, math.inf
                code = HELD
            if code == HELD:
                return Wait(min(float(node["until"]), self._next(until)))
            if code == BREACH:
                raise run.breach()
            if code == QUEUE_FULL:
                run.grow_queue()
            elif code == LOG_FULL:
                run.move_log()
        self._planned = (tokens, decodes, context)
        desk_, entries, victims = self._desk, int(self._count[ENTRIES]), int(self._count[VICTIMS])
        chosen, given = desk_["request"][:entries].copy(), desk_["tokens"][:entries].copy()
        known, parts = self.requests, run.tables["chunks"][0, :chunks]
        missing = known["prompt"][chosen] - known["prefilled"][chosen]
        return Work(
            self.clock,
            chosen,
            given,
            known["context"][chosen].astype(np.int64),
            known["blocks"][chosen].astype(np.int64),
            run.tables["victims"][0, :victims].copy(),
            Load(tokens, decodes, context, parts["tokens"].copy(), parts["history"].copy()),
            missing <= np.where(missing > 0, given, 0) if run.limits.last_chunk_emits else missing == 0,
        )

    def _next(self, delivered: int) -> float:
        """When the next request arrives (s)."""
        return float(self._arrival[delivered]) if delivered < self._known else math.inf

    def commit(self, done: Done) -> None:
        """Credit the tokens of the batch in execution.

        Raises:
            ValueError: the engine reports no positive, finite time, or the end of a request that got no token.
            RuntimeError: no batch is in execution.
        """
        if self._planned is None:
            raise RuntimeError("no batch is in execution; plan one first")
        if not (done.seconds > 0 and math.isfinite(done.seconds)):
            raise ValueError(
                f"the engine reports a batch of {done.seconds} s; report a positive, finite time"
            )
        for r in done.ended:  # the books learn now how long the text is
            self._source["output"][r] = self.requests["output"][r] = self.requests["decoded"][r] + 1
        code = self._close_batch(done.seconds, *self._planned, self.run.books, self.run.limits)
        self._planned = None
        assert code == DONE, code

    def trace(self) -> Trace:
        """What happened so far."""
        return self.run.trace()


@dataclass(frozen=True, slots=True)
class SimulatedEngine:
    """An engine that takes the time that a law says; with it :func:`serve` is :func:`queueing.simulator.simulate`."""

    seconds: Callable[[Load], float]

    def execute(self, work: Work) -> Done:
        """Take the law's seconds."""
        return Done(self.seconds(work.load))

    def wait(self, until: float) -> None:
        """Virtual time needs no waiting."""


class ReplayEngine:
    """An engine that takes the time that each batch took in a recorded run of one node, and checks every decision.

    Raises:
        ValueError: the trace has no entries, or comes from several nodes.
    """

    def __init__(self, trace: Trace) -> None:
        if trace.entries is None:
            raise ValueError("the trace does not say who was served; record it with record_entries=True")
        if (trace.iterations["node"] != 0).any():
            raise ValueError("the trace has several nodes; replay each by itself")
        self._its, self._entries = trace.iterations, trace.entries
        self._output = trace.requests["output"]
        self._decoded = np.zeros(len(self._output), np.int64)
        self._iteration, self._entry = 0, 0

    def execute(self, work: Work) -> Done:
        """Take the recorded seconds.

        Raises:
            ValueError: the decision is not the recorded one.
        """
        k, at = self._iteration, self._entry
        if k == len(self._its["start"]):
            raise ValueError(f"the recorded run ends after {k} batches, and this one goes on")
        until = at + int(self._its["entries"][k])
        request = np.concatenate([work.victims, work.requests]).astype(np.int64)
        tokens = np.concatenate([np.zeros(len(work.victims), np.int64), work.tokens])
        same = (
            float(self._its["start"][k]) == work.now
            and np.array_equal(request, self._entries["request"][at:until])
            and np.array_equal(tokens, self._entries["tokens"][at:until])
        )
        if not same:
            raise ValueError(
                f"batch {k} is another one than recorded: planned at {work.now} s for requests {request.tolist()} "
                f"with {tokens.tolist()} tokens; recorded at {self._its['start'][k]} s for "
                f"{self._entries['request'][at:until].tolist()} with {self._entries['tokens'][at:until].tolist()}"
            )
        self._iteration, self._entry = k + 1, until
        got = work.requests[work.emits]
        self._decoded[got] += 1
        ended = got[self._decoded[got] == self._output[got]]
        return Done(float(self._its["seconds"][k]), ended.tolist())

    def wait(self, until: float) -> None:
        """Recorded time needs no waiting."""


def serve(
    workload: Workload,
    system: System,
    policy: Policy,
    engine: Engine,
    *,
    record_entries: bool = True,
    python: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Trace:
    """Serve `workload` with `engine` under `policy` on one node, and return the trace.

    With :class:`SimulatedEngine` the trace is that of :func:`queueing.simulator.simulate`, number for number.

    Args:
        workload: requests in order of arrival; `output` is the most tokens each may get.
        system: KV memory and limits.
        policy: the scheduler.
        engine: executes the batches.
        record_entries: record which request got how many tokens in which batch.
        python: run the plain-Python twin of the loop.
        progress: called after each batch with (requests arrived, requests in all).

    Raises:
        PolicyBreach: the policy asked for a batch that breaks a rule.
    """
    server = Server(workload, system, policy, record_entries=record_entries, python=python)
    while (work := server.plan()) is not None:
        if isinstance(work, Wait):
            engine.wait(work.until)
            continue
        server.commit(engine.execute(work))
        if progress is not None:
            progress(int(server.run.cursor[NEXT]), len(workload))
    return server.trace()
