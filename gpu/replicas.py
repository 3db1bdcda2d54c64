"""Replicas: g engines, each a process with a model and KV memory of its own, behind a router.

The router is one of the simulator's, asked at each arrival what it would be asked there; requests stay where they are
sent.  If a replica dies, its unfinished requests arrive anew at the others, and since a text does not depend on where
and when it is computed (:mod:`gpu.engine`), it comes out the same.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from gpu.engine import Generation, Sampling, TorchEngine, WallClock, offered, warm_up
from gpu.loader import Model
from queueing.policy import NodeLoads, Policy, Router
from queueing.serving import Server, Wait
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload

__all__ = ["Crash", "merged", "serve_replicas"]

START = 600  # s that a replica may take to load its model
NOWHERE = -1


class Crash(RuntimeError):
    """Every replica has died; what the last of them said is in the message."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What every replica is told at its start."""

    make_model: Callable[[], Model]
    prompts: Sequence[Sequence[int]]
    workload: Workload
    system: System
    policy: Policy
    sampling: Sampling
    backend: str


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Tokens of one batch: (request, token); whose text has ended, and what the books say of them."""

    given: Sequence[tuple[int, int]]
    ended: Sequence[int]
    records: NDArray[Any]  # REQUESTS of queueing.books, one row for each that has ended


@dataclass(frozen=True, slots=True)
class _Served:
    trace: Trace
    model_seconds: Sequence[float]


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why a replica gives up; `everywhere` if another would, too."""

    reason: str
    everywhere: bool


def _replica(pipe: Connection, plan: _Plan) -> None:
    """Body of a replica's process."""
    torch.set_num_threads(1)
    try:
        engine = TorchEngine(
            plan.make_model(), plan.system, len(plan.prompts), sampling=plan.sampling, backend=plan.backend
        )
        for i, prompt in enumerate(plan.prompts):
            engine.add(i, prompt, int(plan.workload.output[i]))
        warm_up(plan.policy, plan.system)
        pipe.send("ready")
        engine.clock = WallClock(pipe.recv())
        pipe.send(_serve(pipe, plan, engine))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # whoever asked is gone
    except Exception as problem:  # noqa: BLE001  # to be said where somebody reads it
        pipe.send(_Failed(f"{type(problem).__name__}: {problem}", isinstance(problem, ValueError)))


def _serve(pipe: Connection, plan: _Plan, engine: TorchEngine) -> _Served:
    server = Server(plan.workload, plan.system, plan.policy, submitted=True)

    def hear() -> None:
        said = pipe.recv()
        if said is None:
            server.close()
        else:
            server.submit(*said)

    while True:
        while pipe.poll():
            hear()
        work = server.plan()
        if work is None:
            return _Served(server.trace(), engine.model_seconds)
        if isinstance(work, Wait):
            left = work.until - engine.clock.now()
            if pipe.poll(None if left == np.inf else max(left, 0.0)):
                hear()
            else:
                engine.clock.sleep_until(work.until)
            continue
        done = engine.execute(work)
        server.commit(done)
        got = work.requests[work.emits].tolist()
        ended = list(done.ended)
        pipe.send(_Tokens([(r, engine.text(r)[-1]) for r in got], ended, server.requests[ended]))


class _Front:
    """What the front end knows: who serves what, and what has come back."""

    def __init__(self, plan: _Plan, replicas: int, router: Router, seed: int) -> None:
        n = len(plan.workload)
        context = multiprocessing.get_context("spawn")
        self.plan, self.router = plan, router
        self.draws = np.random.default_rng(seed).random((n, router.draws_per_request))
        self.text: list[list[int]] = [[] for _ in range(n)]
        self.owner = np.full(n, NOWHERE)
        self.finished = np.zeros(n, np.bool_)
        self.records: dict[int, NDArray[Any]] = {}  # of the finished requests
        self.last = np.zeros(replicas)  # when each was last sent a request (s)
        self.served: dict[int, _Served] = {}
        self.crashed: list[int] = []
        self.reason = "it ended without a word"
        self.pipes: dict[int, Connection] = {}  # of those alive
        self.processes: list[SpawnProcess] = []
        for k in range(replicas):
            mine, theirs = context.Pipe()
            process = context.Process(target=_replica, args=(theirs, plan), daemon=True)
            process.start()
            theirs.close()
            self.pipes[k] = cast("Connection", mine)
            self.processes.append(process)

    def begin(self) -> None:
        """Wait for the models to be loaded, and set all clocks to 0."""
        for k in list(self.pipes):
            if self.pipes[k].poll(START):
                self.hear(k, 0.0)
            else:
                self.lose(k, 0.0)
        self.zero = time.perf_counter()
        for k in list(self.pipes):
            self.tell(k, self.zero)

    def now(self) -> float:
        """Seconds since all clocks were set."""
        return time.perf_counter() - self.zero

    def send(self, request: int, at: float) -> None:
        """Have the router choose a replica, and hand over a request that arrives there at `at` (s)."""
        alive = sorted(self.pipes)
        if not alive:
            raise Crash(f"every replica has died, the last because {self.reason}")
        k = 0
        if len(alive) > 1:
            k = int(self.router.body.python(self.router, request, self.draws, self._loads(alive)))
        node = alive[k]
        self.owner[request] = node
        self.last[node] = max(at, self.last[node])
        self.tell(node, (request, float(self.last[node])))

    def _loads(self, alive: list[int]) -> NodeLoads:
        """Requests, and tokens known to be outstanding; a prompt counts whole until its first token is there."""
        offered, here = self.plan.workload, ~self.finished
        given = np.array([len(text) for text in self.text])
        announced = (
            self.plan.system.max_length - offered.prompt if offered.predicted is None else offered.predicted
        )
        work = np.where(given == 0, offered.prompt, 0) + np.maximum(announced - given, 0)
        unfinished = [int((here & (self.owner == k)).sum()) for k in alive]
        outstanding = [int(work[here & (self.owner == k)].sum()) for k in alive]
        return NodeLoads(np.array(unfinished), np.array(outstanding))

    def tell(self, k: int, what: Any) -> None:
        """Send a replica a message; one that is gone loses it, and is noticed when it is listened to."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipes[k].send(what)

    def hear(self, k: int, now: float) -> None:
        """Take one message of a replica, or its death."""
        try:
            said = self.pipes[k].recv()
        except (EOFError, OSError, pickle.UnpicklingError):  # killed, perhaps in the middle of a message
            self.lose(k, now)
            return
        if isinstance(said, _Tokens):
            for request, token in said.given:
                self.text[request].append(token)
            self.finished[list(said.ended)] = True
            self.records.update(zip(said.ended, said.records, strict=True))
        elif isinstance(said, _Served):
            self.served[k] = said
            del self.pipes[k]
        elif isinstance(said, _Failed):
            if said.everywhere:
                raise ValueError(said.reason)
            self.reason = said.reason

    def lose(self, k: int, now: float) -> None:
        """A replica has died: its unfinished requests arrive anew, in their order."""
        self.pipes.pop(k).close()
        self.crashed.append(k)
        for request in np.flatnonzero((self.owner == k) & ~self.finished).tolist():
            self.text[request].clear()
            self.send(request, now)

    def stop(self) -> None:
        """End every process that was started."""
        for pipe in self.pipes.values():
            pipe.close()
        for process in self.processes:
            process.join(1.0)
            if process.is_alive():
                process.terminate()
                process.join()


def serve_replicas(
    make_model: Callable[[], Model],
    prompts: Sequence[Sequence[int]],
    policy: Policy,
    system: System,
    *,
    replicas: int,
    router: Router,
    output: int | Sequence[int] = 64,
    workload: Workload | None = None,
    sampling: Sampling | None = None,
    backend: str = "reference",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    started: Callable[[Sequence[int]], None] | None = None,
) -> Generation:
    """Serve prompts with several replicas, each a process of its own, and return texts and one trace of all.

    Args:
        make_model: called in each replica's process; must be picklable, such as functools.partial(load, directory).
        prompts: token ids of each request, in the order of the workload.
        policy: the scheduler of every replica.
        system: KV memory and limits of each.
        replicas: how many.
        router: who sends an arriving request to which replica.
        output: the most tokens of each text, or of all.
        workload: arrivals, clients and limits; by default all prompts arrive at once from one client.
        sampling: how tokens are chosen.
        backend: "reference" or "triton".
        seed: of the router's draws.
        progress: called now and then with (requests finished, requests in all).
        started: called with the process ids when all clocks start.

    In the trace a request has the times of the replica that finished it; iterations of one that died and its sketch of
    gaps are lost with it, and `meta["crashed"]` names it.

    Raises:
        ValueError: fewer than one replica; a prompt does not fit; the policy broke a rule.
        Crash: every replica has died.
    """
    if replicas < 1:
        raise ValueError(f"replicas must be at least 1, not {replicas}")
    workload = offered(prompts, output, workload)
    plan = _Plan(make_model, prompts, workload, system, policy, sampling or Sampling(), backend)
    front = _Front(plan, replicas, router, seed)
    try:
        front.begin()
        if started is not None:
            started([process.pid or 0 for process in front.processes])
        _run(front, progress)
    finally:
        front.stop()
    traces = {k: served.trace for k, served in front.served.items()}
    if not traces:
        raise Crash(
            f"every replica has died before it told what it had done, the last because {front.reason}"
        )
    meta = {"router": router.name, "crashed": tuple(front.crashed)}
    trace = merged(workload, traces, front.owner, meta, front.records)
    spent = [s for k in sorted(front.served) for s in front.served[k].model_seconds]
    return Generation(tuple(map(tuple, front.text)), trace, np.array(spent), workload)


def _run(front: _Front, progress: Callable[[int, int], None] | None) -> None:
    """Send requests as they arrive, hear what the replicas say, and collect their traces at the end."""
    arrival = front.plan.workload.arrival
    following, closing = 0, False
    while not closing or front.pipes:
        if following == len(arrival) and front.finished.all() and not closing:
            closing = True
            for k in front.pipes:
                front.tell(k, None)
        left = max(arrival[following] - front.now(), 0.0) if following < len(arrival) else None
        if not front.pipes and not front.finished.all():
            raise Crash(f"every replica has died, the last because {front.reason}")
        ready = wait(list(front.pipes.values()), left) if front.pipes else []
        for k in [k for k, pipe in front.pipes.items() if pipe in ready]:
            front.hear(k, front.now())
        # one at a time, and listen between: a replica that cannot speak does not hear
        if following < len(arrival) and arrival[following] <= front.now():
            front.send(following, float(arrival[following]))
            following += 1
        if progress is not None:
            progress(int(front.finished.sum()), len(arrival))


def merged(
    workload: Workload,
    traces: Mapping[int, Trace],
    owner: NDArray[np.int64],
    meta: Mapping[str, Any],
    records: Mapping[int, Any],
) -> Trace:
    """One trace of several nodes: each request as its node `owner[i]` saw it, batches in order of their start.

    Arrivals are the workload's, also of requests that arrived anew elsewhere.  Of a node without a trace `records` say
    what its books said of each request that it finished.

    Raises:
        ValueError: there is no trace at all.
    """
    if not traces:
        raise ValueError("no node left a trace; there is nothing to merge")
    nodes = sorted(traces)
    first = traces[nodes[0]]
    requests = {name: column.copy() for name, column in first.requests.items()}
    for k in nodes:
        mine = np.flatnonzero(owner == k)
        for name, column in requests.items():
            column[mine] = traces[k].requests[name][mine]
    for i in np.flatnonzero(~np.isin(owner, nodes)).tolist():
        for name in set(requests) & set(records[i].dtype.names):
            requests[name][i] = records[i][name]
        requests["status"][i], requests["output"][i] = records[i]["phase"], records[i]["decoded"]
    requests["arrival"], requests["node"] = workload.arrival.copy(), owner.astype(requests["node"].dtype)
    its = {name: np.concatenate([traces[k].iterations[name] for k in nodes]) for name in first.iterations}
    its["node"] = np.repeat(nodes, [len(traces[k].iterations["start"]) for k in nodes]).astype(
        its["node"].dtype
    )
    order = np.argsort(its["start"], kind="stable")
    entries = None
    if all(traces[k].entries is not None for k in nodes):
        parts = [traces[k].entries or {} for k in nodes]
        ends = np.cumsum(its["entries"]).tolist()
        counts = its["entries"].tolist()
        rows = [np.arange(ends[j] - counts[j], ends[j]) for j in order.tolist()]
        at = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        entries = {name: np.concatenate([part[name] for part in parts])[at] for name in parts[0]}
    return Trace(
        requests,
        {name: column[order] for name, column in its.items()},
        entries,
        np.sum([traces[k].gaps for k in nodes], axis=0),
        first.class_tbt,
        {**first.meta, **meta, "nodes": len(nodes) + len(meta.get("crashed", ()))},
    )
