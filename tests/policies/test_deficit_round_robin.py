"""Deficit round robin against a naive replay, and shares in the long run; VTC over SLAI's batches."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import FIFO, Cost, DeficitRoundRobin, Fcfs, Lift, Packing, Slai, Vtc, VtcSlai
from queueing.policy import Policy
from queueing.system import System
from queueing.workload import Workload
from tests.accountant import Step, audit
from tests.laws import LAW, admission_of, run, same_tables
from tests.policies.test_vtc import told, unfair_admissions
from tests.strategies import systems, workloads

crowds = workloads(min_requests=4, max_requests=12, max_prompt=30, max_output=20, max_gap=0.15)


def out_of_turn(policy: DeficitRoundRobin, workload: Workload, system: System, steps: list[Step]) -> int:
    """Steps whose admissions are not those of a plain reading of the algorithm; who fits is read off the step."""
    d: dict[int, float] = {}
    turns: deque[int] = deque()
    queues: dict[int, list[int]] = {}
    known: set[int] = set()
    misfit: int | None = None
    wrong = 0
    before: Step | None = None

    def f(u: int) -> float:
        return policy.weights[min(u, len(policy.weights) - 1)]

    for s in steps:
        for r, _ in before.entries if before else []:
            emits = r not in before.left or (system.last_chunk_emits and before.chunks[r] == before.left[r])
            d[int(workload.client[r])] -= 2.0 * emits / f(int(workload.client[r]))
        for r in s.queue:
            if r not in known:
                known.add(r)
                u = int(workload.client[r])
                d.setdefault(u, 0.0)
                queues.setdefault(u, []).append(r)
                if u not in turns:
                    turns.append(u)
        admitted: list[int] = []
        stopped = False
        while turns and not stopped:
            u = turns.popleft()
            if u == misfit and (d[u] < 0 or (d[u] == 0 and not policy.artifact)):
                misfit = None
                turns.append(u)
                continue
            if d[u] <= 0:
                d[u] += policy.quantum
            while d[u] > 0 and queues[u]:
                if len(admitted) == len(s.admitted):  # the next one did not fit
                    misfit, stopped = u, True
                    turns.appendleft(u)
                    break
                r = queues[u].pop(0)
                admitted.append(r)
                misfit = None if misfit == u and not policy.artifact else misfit
                d[u] -= float(workload.prompt[r]) / f(u)
            if not stopped and (queues[u] or d[u] < 0):
                turns.append(u)
        wrong += admitted != s.admitted
        before = s
    return wrong


@given(
    workload=crowds,
    system=systems(LAW),
    quantum=st.sampled_from([1.0, 7.0, 500.0]),
    weights=st.sampled_from([(1.0, 1.0), (1.0, 4.0)]),
)
def test_every_admission_is_that_of_the_algorithm(
    workload: Workload, system: System, quantum: float, weights: tuple[float, ...]
):
    workload = told(workload)
    policy = DeficitRoundRobin(quantum=quantum, weights=weights)
    steps = audit(workload, system, run(workload, system, policy), policy.admission)
    assert out_of_turn(policy, workload, system, steps) == 0


def rivals(n: int = 400, share: float = 0.85) -> tuple[Workload, System]:
    rng = np.random.default_rng(3)
    client = (rng.uniform(size=n) > share).astype(int)
    return (
        told(Workload(np.zeros(n), rng.integers(1, 30, n), rng.integers(1, 30, n), client)),
        System(LAW, blocks=120, block_size=1),
    )


def test_other_orders_are_noticed():
    """Control: FCFS, VTC, and another quantum do not pass the replay."""
    workload, system = rivals(80)
    for policy in (Fcfs(), Vtc(), DeficitRoundRobin(quantum=40.0)):
        steps = audit(workload, system, run(workload, system, policy), admission_of(policy))
        assert out_of_turn(DeficitRoundRobin(), workload, system, steps) > 0


def shares(policy: Policy) -> float:
    """Service of client 1 over that of client 0 while both have requests waiting."""
    workload, system = rivals()
    got = [0.0, 0.0]
    for s in audit(workload, system, run(workload, system, policy), admission_of(policy)):
        if {int(workload.client[r]) for r in s.queue} != {0, 1}:
            break
        for r, q in s.chunks.items():
            got[int(workload.client[r])] += q
        for r in s.decodes:
            got[int(workload.client[r])] += 2
    return got[1] / got[0]


@pytest.mark.parametrize(("weights", "ratio"), [((1.0, 1.0), 1.0), ((1.0, 2.0), 2.0)])
def test_turns_share_by_weight(weights: tuple[float, ...], ratio: float):
    """Client 1 sends a seventh of the requests.  Control: under FCFS it gets about that."""
    assert shares(DeficitRoundRobin(quantum=20.0, weights=weights)) == pytest.approx(ratio, rel=0.25)
    assert shares(Fcfs()) < 0.4


def test_a_deficit_used_up_exactly_ends_the_turn():
    """Requests that fill the memory and cost a quantum: clients alternate, and by the artifact's rule do not."""
    both = told(Workload(np.zeros(40), [2] * 40, [249] * 40, [0] * 20 + [1] * 20))
    system = System(LAW, blocks=300, block_size=1)
    first: dict[bool, list[int]] = {}
    for artifact in (False, True):
        policy = dataclasses.replace(DeficitRoundRobin(quantum=500.0), artifact=artifact)
        trace = run(both, system, policy, horizon=np.inf)
        order = np.argsort(trace.requests["admitted"], kind="stable")
        first[artifact] = both.client[order][:20].tolist()
        assert not trace.rejected.any()
    assert first[False] == [0, 1] * 10
    assert (
        first[True] != first[False]
    )  # who is next keeps the turn at d = 0; starved in tests/queueing/proofs


# -- VTC over SLAI


@given(workload=crowds, system=systems(LAW), lift=st.sampled_from([Lift.LEAST, Lift.NEVER]))
def test_slai_admits_in_the_order_of_counters(workload: Workload, system: System, lift: Lift):
    workload = told(workload)
    policy = VtcSlai(turns=Vtc(lift=lift, packing=Packing.MIXED), batches=Slai(token_budget=16))
    steps = audit(workload, system, run(workload, system, policy), policy.admission)
    assert unfair_admissions(policy.turns, workload, system, steps, lift == Lift.LEAST) == 0


@given(workload=crowds, system=systems(LAW))
def test_one_client_is_served_as_by_slai(workload: Workload, system: System):
    alone = dataclasses.replace(told(workload), client=np.zeros(len(workload), int))
    fair = VtcSlai()
    slai = Slai(order=FIFO, admission=fair.admission)
    assert same_tables(run(alone, system, fair), run(alone, system, slai)) == ""


def test_several_clients_are_not():
    """Control: the greedier client of two waits."""
    workload, system = rivals(60)
    fair = VtcSlai()
    slai = Slai(order=FIFO, admission=fair.admission)
    assert same_tables(run(workload, system, fair), run(workload, system, slai)) != ""


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (
            lambda: DeficitRoundRobin(quantum=0.5),
            "quantum of DeficitRoundRobin must be at least 1 and finite, not 0.5",
        ),
        (
            lambda: DeficitRoundRobin(weights=()),
            r"weights of DeficitRoundRobin must be positive and finite, not \(\)",
        ),
        (lambda: DeficitRoundRobin(cost=Cost(-1.0)), "a cost must not fall with tokens"),
        (lambda: VtcSlai(turns=Vtc()), r"give turns=Vtc\(packing=MIXED\), not the artifact"),
    ],
)
def test_bad_parameters(make: Any, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        make()
