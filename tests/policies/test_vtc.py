"""VTC, LCF and FCFS: counters step by step against a naive replay, bounds on service, and the artifact's rules."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from policies import (
    ANNOUNCED_LENGTH,
    WHOLE_PROMPT,
    Cost,
    Fcfs,
    Lift,
    Packing,
    Predictor,
    Vllm,
    Vtc,
)
from policies.counters import arrivals, drawn, settle
from policies.packing import artifact_peak
from queueing.batch import NONE
from queueing.compilation import interpreted
from queueing.policy import Policy
from queueing.system import System
from queueing.workload import Workload
from tests.accountant import Step, audit
from tests.laws import LAW, admission_of, run, same_tables
from tests.policies.desk import Desk, Req, decode, waiting
from tests.strategies import systems, workloads

crowds = workloads(min_requests=4, max_requests=12, max_prompt=30, max_output=20, max_gap=0.15)


def told(workload: Workload) -> Workload:
    """With true announcements, so that reservation never preempts."""
    return dataclasses.replace(workload, predicted=workload.output)


# -- at a desk


def standing(policy: Vtc, counter: dict[int, float], requests: list[Req]) -> Any:
    """Memory in which the clients of the waiting requests are in Q with these counters."""
    memory = policy.init(16)
    arriving = interpreted(arrivals)
    arriving(policy, memory, Desk(requests).view())
    for u, c in counter.items():
        memory.counter[u] = c
    return memory


def test_the_least_counter_goes_first_and_pays_its_prompt():
    """Client 2 has paid least; after its prompt of 40 client 1 has; then 2 again."""
    queue = [waiting(10, client=1), waiting(40, client=2), waiting(10, client=2), waiting(10, client=1)]
    memory = standing(Vtc(), {1: 30.0, 2: 0.0}, queue)
    asked = Desk(queue).ask(Vtc(), memory)
    assert [r for r, _ in asked.entries] == [1, 0, 2, 3]  # at 0, 30, 40 and 40
    assert memory.counter[1:3].tolist() == [50.0, 50.0]


def test_stops_at_a_head_that_does_not_fit():
    """The head of client 1 does not fit; that of client 2 would, and waits behind it."""
    requests = [decode(20), waiting(300, client=1, predicted=600), waiting(10, client=2, predicted=9)]
    memory = standing(Vtc(), {1: 0.0, 2: 5.0}, requests)
    assert Desk(requests, total_blocks=50).ask(Vtc(), memory).entries == [(0, 1)]


@pytest.mark.parametrize(
    ("lift", "queued", "lifted"),
    [(Lift.LEAST, True, 20.0), (Lift.NEVER, True, 3.0), (Lift.ARTIFACT, True, 20.0),
     (Lift.LEAST, False, 50.0), (Lift.NEVER, False, 3.0), (Lift.ARTIFACT, False, 3.0)],
)  # fmt: skip
def test_lift_of_a_client_that_comes_back(lift: Lift, queued: bool, lifted: float):
    """Counters 20 and 90 in Q, 50 of the last to leave it; the client that comes back has 3."""
    policy = Vtc(lift=lift)
    queue = [waiting(9, client=0), waiting(9, client=1)] if queued else []
    memory = standing(policy, {0: 20.0, 1: 90.0, 2: 50.0, 3: 3.0}, queue)
    memory.numbers[1] = 2
    interpreted(arrivals)(policy, memory, Desk([*queue, waiting(9, client=3)]).view())
    assert memory.counter[3] == lifted


def test_ties_go_to_the_first_request_and_in_the_artifact_to_the_first_client():
    queue = [waiting(5, client=1), waiting(5, client=0), waiting(5, client=1), waiting(5, client=0)]
    assert [r for r, _ in Desk(queue).ask(Vtc()).entries] == [0, 1, 2, 3]
    memory = Vtc.as_artifact().init(8)
    memory.seen[[0, 1]] = 1, 2
    memory.numbers[2] = 2
    assert [r for r, _ in Desk(queue).ask(Vtc.as_artifact(), memory).entries] == [1, 0, 3, 2]


# -- what a request is charged in the end


@pytest.mark.parametrize("cost", [Cost(1.0, 2.0), Cost.profiled(), Cost(0.0, 1.0, input_square=0.5)], ids=str)
@pytest.mark.parametrize("predictor", list(Predictor), ids=repr)
@pytest.mark.parametrize("output", [1, 4, 9])
def test_charges_add_up_to_the_cost(cost: Cost, predictor: Predictor, output: int):
    """Prompt, tokens and refund of a request of weight 2 whose length is announced as 6."""
    policy = Vtc(cost=cost, predictor=predictor, weights=(2.0,))
    memory = policy.init(8)
    memory.average[0] = 2.75
    assert Desk([waiting(7, predicted=6)]).ask(policy, memory).entries == [(0, 7)]
    for j in range(1, output + 1):
        served = Req(
            prompt=7, prefilled=7, decoded=j, predicted=6, waiting=j == output
        )  # blocks are gone at the end
        Desk([served], served=[0], queue=[]).ask(policy, memory)
    h = cost.input * 7 + cost.output * output + cost.product * 7 * output + cost.constant
    h += cost.input_square * 49 + cost.output_square * output**2
    assert memory.counter[0] == pytest.approx(h / 2)
    assert memory.average[0] == pytest.approx((4 * 2.75 + output) / 5)
    assert memory.supposed[0] == {0: 0.0, 1: 6.0, 2: 2.75}.get(predictor, memory.supposed[0])


def test_the_artifact_charges_twice_where_somebody_ends():
    """A batch of two in which one ends: both are charged again; the first token of a prompt never is."""
    policy = Vtc.as_artifact()
    memory = policy.init(8)
    memory.charged[:2] = 3, 5
    batch = [
        Req(prompt=7, prefilled=7, decoded=4, client=0),
        Req(waiting=True, prompt=7, decoded=6, client=1),
    ]
    interpreted(settle)(policy, memory, Desk(batch, served=[0, 1], queue=[]).view())
    assert memory.counter[:2].tolist() == [4.0, 4.0]
    first = policy.init(8)
    interpreted(settle)(policy, first, Desk([Req(prompt=7, prefilled=7, decoded=1)], served=[0]).view())
    assert first.counter[0] == 0.0


def test_the_artifacts_peak_by_hand():
    """Entries (used, left) sorted by left; the largest of Σ used + k·left over the first k."""
    requests = [decode(30, predicted=10), decode(50, predicted=3), waiting(20, predicted=40)]
    desk = Desk(requests, total_blocks=1000, block_size=1)
    entries = sorted(((31, 8), (51, 1), (21, 39)), key=lambda pair: -pair[1])
    peak = max(sum(u for u, _ in entries[: k + 1]) + (k + 1) * left for k, (_, left) in enumerate(entries))
    assert interpreted(artifact_peak)(desk.view(), desk.batch(), 2) == peak


def test_noise_is_evenly_drawn():
    """Kolmogorov's distance of 4,000 numbers; a fair generator exceeds the bound with probability 1e-6."""
    number = interpreted(drawn)
    for seed in (1, 2):
        assert stats.kstest([number(r, seed) for r in range(4000)], "uniform").pvalue > 1e-6
    assert number(5, 1) != number(5, 2)


# -- against a naive replay


def unfair_admissions(
    policy: Policy, workload: Workload, system: System, steps: list[Step], lift: bool
) -> int:
    """Admissions that a plain reading of the algorithm would not have made: counters from the steps of the run."""
    wp, wq = 1.0, 2.0
    weights = getattr(policy, "weights", (1.0,))
    c: dict[int, float] = {}
    last: int | None = None
    queues: dict[int, list[int]] = {}
    known: set[int] = set()
    wrong = 0
    before: Step | None = None
    for s in steps:
        for r, _ in before.entries if before else []:
            u = int(workload.client[r])
            emits = r not in before.left or (system.last_chunk_emits and before.chunks[r] == before.left[r])
            c[u] += wq * emits / weights[min(u, len(weights) - 1)]
        for r in s.queue:
            u = int(workload.client[r])
            if r not in known:
                known.add(r)
                c.setdefault(u, 0.0)
                waiting_clients = [v for v, q in queues.items() if q]
                if lift and not queues.get(u) and (waiting_clients or last is not None):
                    c[u] = max(c[u], min(c[v] for v in waiting_clients) if waiting_clients else c[last])  # pyright: ignore
                queues.setdefault(u, []).append(r)
        for r in s.admitted:
            best = min((v for v, q in queues.items() if q), key=lambda v: (round(c[v], 9), queues[v][0]))
            u = int(workload.client[r])
            wrong += best != u or queues[u][0] != r
            queues[u].remove(r)
            c[u] += wp * workload.prompt[r] / weights[min(u, len(weights) - 1)]
            if not queues[u]:
                last = u
        before = s
    return wrong


@given(
    workload=crowds,
    system=systems(LAW),
    lift=st.sampled_from([Lift.LEAST, Lift.NEVER]),
    packing=st.sampled_from(list(Packing)),
    weights=st.sampled_from(
        [(1.0, 1.0, 1.0), (1.0, 4.0, 4.0), (2.0, 0.5, 1.0)]
    ),  # of one length: one compilation
)
def test_every_admission_is_that_of_the_algorithm(
    workload: Workload, system: System, lift: Lift, packing: Packing, weights: tuple[float, ...]
):
    workload = told(workload)
    policy = Vtc(lift=lift, packing=packing, weights=weights, token_budget=16)
    steps = audit(workload, system, run(workload, system, policy), policy.admission)
    assert unfair_admissions(policy, workload, system, steps, lift == Lift.LEAST) == 0


def test_other_orders_are_noticed():
    """Control: the replay finds admissions of FCFS, and of the wrong lift, that VTC would not have made."""
    rng = np.random.default_rng(0)
    n = 60
    client = np.where(rng.uniform(size=n) < 0.8, 0, 1)
    workload = told(
        Workload(np.sort(rng.uniform(0, 2, n)), rng.integers(1, 30, n), rng.integers(1, 20, n), client)
    )
    system = System(LAW, blocks=80, block_size=1)
    for policy, lift in ((Fcfs(), True), (Vtc(lift=Lift.NEVER), True), (Vtc(), False)):
        steps = audit(workload, system, run(workload, system, policy), admission_of(policy))
        assert unfair_admissions(policy, workload, system, steps, lift) > 0


@given(workload=crowds, system=systems(LAW))
def test_one_client_is_served_first_come_first_served(workload: Workload, system: System):
    alone = dataclasses.replace(told(workload), client=np.zeros(len(workload), int))
    assert same_tables(run(alone, system, Vtc()), run(alone, system, Fcfs())) == ""


@given(workload=crowds, system=systems(LAW))
def test_pure_packing_is_that_of_vllm(workload: Workload, system: System):
    """FCFS with blocks for the prompt alone is vLLM's scheduler without its cap on tokens and places, as long as nobody
    is preempted: the accounts of preempted requests differ in nothing here either.
    """
    fcfs = Fcfs(admission=WHOLE_PROMPT)
    vllm = Vllm(max_batched_tokens=1 << 30)
    roomy = dataclasses.replace(system, blocks=system.blocks * 50)
    assert same_tables(run(workload, roomy, fcfs), run(workload, roomy, vllm)) == ""


@given(workload=crowds, system=systems(LAW), packing=st.sampled_from(list(Packing)))
def test_reservation_never_preempts(workload: Workload, system: System, packing: Packing):
    policy = Vtc(packing=packing, admission=ANNOUNCED_LENGTH)
    assert run(told(workload), system, policy).requests["preemptions"].sum() == 0


# -- the bound on service


def service_gap(workload: Workload, steps: list[Step], wp: float, wq: float) -> float:
    """Largest difference in service, over windows in which both of two clients have a request waiting all the while."""
    spread: dict[int, float] = {0: 0.0, 1: 0.0}
    low = high = worst = 0.0
    backlogged = False
    for s in steps:
        waiting_clients = {int(workload.client[r]) for r in s.queue if r not in s.admitted}
        for r in s.admitted:
            spread[int(workload.client[r])] += wp * workload.prompt[r]
        for r in s.decodes:
            spread[int(workload.client[r])] += wq
        for r, q in s.chunks.items():
            spread[int(workload.client[r])] += wq * (q == s.left[r])  # the last chunk emits
        gap = spread[0] - spread[1]
        both = {0, 1} <= waiting_clients
        low, high = (min(low, gap), max(high, gap)) if both and backlogged else (gap, gap)
        worst, backlogged = max(worst, high - low), both
    return worst


@pytest.mark.parametrize("seed", range(2))
def test_backlogged_clients_get_the_same_within_the_bound(seed: int):
    """2U* for VTC; the control, FCFS with one client sending nine of ten requests, passes it many times over."""
    rng = np.random.default_rng(seed)
    n, memory, wp, wq = 300, 200, 1.0, 2.0
    client = (rng.uniform(size=n) < 0.1).astype(int)
    workload = told(Workload(np.zeros(n), rng.integers(1, 40, n), rng.integers(1, 60, n), client))
    system = System(LAW, blocks=memory, block_size=1)
    bound = 2 * (wq * memory + max(0.0, wp - wq) * 40)
    gaps = {
        policy.name: service_gap(
            workload, audit(workload, system, run(workload, system, policy), policy.admission), wp, wq
        )
        for policy in (Vtc(), Fcfs())
    }
    assert gaps["Vtc"] <= bound < gaps["Fcfs"] / 3


# -- bad input


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Vtc(weights=(1.0, 0.0)), r"weights of Vtc must be positive and finite, not \(1.0, 0.0\)"),
        (lambda: Vtc(weights=(-1.0,)), r"weights of Vtc must be positive and finite, not \(-1.0,\)"),
        (lambda: Vtc(noise=1.5), "noise of Vtc must be between 0 and 1, not 1.5"),
        (lambda: Vtc(artifact=True), "the artifact packs PURE batches and lifts by ARTIFACT or NEVER"),
        (lambda: Cost(1.0, -2.0), "a cost must not fall with tokens: give coefficients of at least 0"),
        (lambda: Cost(0.0, 0.0, constant=1.0), "a cost of nothing but a constant charges no token"),
        (lambda: Cost(math.nan), "a cost must not fall with tokens"),
    ],
)
def test_bad_parameters(make: Any, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        make()


def test_memory_has_no_ghosts():
    """Nobody in Q, nothing lifted, before the first arrival."""
    memory = Vtc().init(4)
    assert memory.numbers.tolist() == [0, NONE, 0, 0]
