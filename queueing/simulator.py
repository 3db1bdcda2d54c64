"""Simulate a policy on a workload and a system under a virtual clock.

The loop itself, with its rules and conventions, is :mod:`queueing.loop`; `python=True` runs the same lines as plain
Python (the twin), which is the oracle of the compiled loop and the place to set a breakpoint.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from queueing.books import BREACH, DONE, NEXT, QUEUE_FULL
from queueing.compilation import compiled, interpreted, loop
from queueing.loop import serve
from queueing.policy import Policy, Router, route
from queueing.run import PolicyBreach, Run, versions
from queueing.storage import Files
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload

__all__ = ["PolicyBreach", "simulate", "versions"]


@dataclass(frozen=True, slots=True)
class _Single(Router):
    """The router of a single node."""

    @route
    def single(p: Any, i: int, draws: Any, loads: Any) -> int:
        return 0


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
    folder: Path | None = None,
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
        folder: keep the tables in files there, mapped into memory, so that the run may be larger than the memory; the
            trace is read from them, so they must stay as long as it is used.  An empty or a new folder, which is as
            before if the run fails.
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
    with nullcontext() if folder is None else Files(folder) as storage:
        run = Run(
            workload, system, policy, nodes=nodes, router=router, seed=seed, horizon=horizon,
            record_entries=record_entries, python=python, storage=storage,
        )  # fmt: skip
        route_by = router if router is not None else _Single()
        draws = np.random.default_rng(seed).random((len(workload), route_by.draws_per_request))
        law, law_p = system.iteration_time.lower()
        if python:
            go: Any = interpreted(serve)
            bodies = (
                policy.body.python, policy, run.memories, interpreted(law), law_p, route_by.body.python, route_by,
            )  # fmt: skip
        else:
            go = loop(serve, policy.body.function, law, route_by.body.function)
            bodies = (
                policy.body.compiled, policy.parameters(), run.memories, _compiled_law(law), law_p,
                route_by.body.compiled, route_by.parameters(),
            )  # fmt: skip
        while True:
            code = go(*bodies, draws, run.books, run.limits)
            if code == BREACH:
                raise run.breach()
            if code == QUEUE_FULL:
                run.grow_queue()
            run.move_log()
            if progress is not None:
                progress(min(int(run.cursor[NEXT]), len(workload)), len(workload))
            if code == DONE:
                return run.trace()
