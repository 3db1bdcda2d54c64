"""Routers: where each sends a request, by state and by draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from policies import JoinShortestQueue, LeastWork, PowerOfD, RoundRobin, Sarathi, UniformRandom
from queueing.policy import NodeLoads, Router
from queueing.simulator import simulate
from queueing.system import System
from queueing.workload import Workload
from tests.laws import LAW


def routed(
    router: Router, i: int, draws: list[float], unfinished: list[int], work: list[int] | None = None
) -> int:
    rows = np.array([draws] * (i + 1))
    loads = NodeLoads(np.array(unfinished), np.array(work or unfinished))
    return router.body.python(router, i, rows, loads)


def test_state_blind():
    assert [routed(RoundRobin(), i, [0.0], [9, 0, 0]) for i in range(5)] == [0, 1, 2, 0, 1]
    for draw, node in [(0.0, 0), (0.33, 0), (0.34, 1), (0.67, 2), (1 - 2.0**-53, 2)]:
        assert routed(UniformRandom(), 0, [draw], [9, 9, 0]) == node


def test_state_aware():
    assert routed(JoinShortestQueue(), 0, [0.0], [3, 1, 1], work=[0, 9, 9]) == 1
    assert routed(LeastWork(), 0, [0.0], [0, 9, 9], work=[3, 2, 2]) == 1


def test_power_of_d_takes_the_shortest_of_those_drawn():
    loads = [5, 3, 0, 4]
    assert routed(PowerOfD(d=2), 0, [0.0, 0.3], loads) == 1
    assert routed(PowerOfD(d=2), 0, [0.3, 0.3], loads) == 1  # drawn with replacement
    assert routed(PowerOfD(d=3), 0, [0.0, 0.99, 0.6], loads) == 2
    assert routed(PowerOfD(d=1), 0, [0.9], loads) == routed(UniformRandom(), 0, [0.9], loads) == 3
    assert routed(PowerOfD(d=2), 0, [0.9, 0.0], [4, 1, 1, 4]) == 3  # the first drawn of equals


def counts(router: Router, n: int = 4000, nodes: int = 4, seed: int = 0) -> Any:
    """Requests sent to each node, all arriving so far apart that every node is idle."""
    workload = Workload(np.arange(n, dtype=float), np.full(n, 3), np.full(n, 1))
    system = System(LAW, blocks=100, name="idle")
    trace = simulate(workload, system, Sarathi(), nodes=nodes, router=router, seed=seed)
    return np.bincount(trace.requests["node"], minlength=nodes)


def test_counts():
    """Round robin splits evenly, join-shortest-queue on idle nodes takes the first; uniform random passes a chi-square
    test: the statistic of 4 cells exceeds 27.9 with probability 4e-6 (3 degrees of freedom; seed fixed).
    """
    assert counts(RoundRobin(), n=4001).tolist() == [1001, 1000, 1000, 1000]
    assert counts(JoinShortestQueue()).tolist() == [4000, 0, 0, 0]
    assert counts(LeastWork()).tolist() == [4000, 0, 0, 0]
    uniform = counts(UniformRandom())
    assert ((uniform - 1000) ** 2 / 1000).sum() < 27.9
    assert (
        (counts(RoundRobin(), n=4000, nodes=2) - 1000) ** 2 / 1000
    ).sum() > 27.9  # control: two nodes get all


def test_draws_come_from_the_seed_alone():
    assert counts(UniformRandom(), seed=3).tolist() == counts(UniformRandom(), seed=3).tolist()
    assert counts(UniformRandom(), seed=3).tolist() != counts(UniformRandom(), seed=4).tolist()


def test_join_shortest_queue_balances():
    """Work piles up less unevenly under join-shortest-queue than when all goes to one of two nodes at random."""
    rng = np.random.default_rng(0)
    n = 300
    workload = Workload(np.sort(rng.uniform(0, 60, n)), rng.integers(20, 200, n), rng.integers(1, 60, n))
    system = System(LAW, blocks=4000, name="ample")
    mean = {
        type(router).__name__: float(
            np.mean(
                simulate(workload, system, Sarathi(), nodes=4, router=router, seed=1).requests["finished"]
                - workload.arrival
            )
        )
        for router in (JoinShortestQueue(), PowerOfD(), UniformRandom())
    }
    assert mean["JoinShortestQueue"] < mean["PowerOfD"] < mean["UniformRandom"]


def test_bad_parameters():
    with pytest.raises(ValueError, match=r"^d of PowerOfD must be an integer of at least 1, not 0$"):
        PowerOfD(d=0)
