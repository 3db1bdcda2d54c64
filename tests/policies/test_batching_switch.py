"""The switch: the sawtooth, its limits, and the kind that the model names."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import BatchingSwitch, FasterTransformer, HybridOnly, RoundRobin
from queueing.models.exclusive_batching import Exclusive, Mixed, advantage, threshold
from queueing.models.iteration_time import Affine
from queueing.simulator import simulate
from queueing.system import System
from queueing.workload import Workload
from tests.accountant import audit
from tests.laws import LAW, run, same_tables
from tests.policies.desk import Desk, decode, waiting
from tests.strategies import systems, workloads

crowds = workloads(min_requests=3, max_requests=10, max_prompt=40, max_output=40, max_gap=0.25)
exclusive = BatchingSwitch(crossover=0, mixed_first=True, theta=0.5, places=4)


def test_prompts_wait_until_the_share_is_done():
    """Four were active after the last refill: with three or four left they decode, with two the prompts come in."""
    for left, entries in ((4, "decodes"), (3, "decodes"), (2, "prompts")):
        memory = exclusive.init(0)
        memory.filled[0] = 4
        requests = [*(decode() for _ in range(left)), waiting(9), waiting(9), waiting(9)]
        asked = Desk(requests).ask(exclusive, memory).entries
        assert asked == ([(k, 1) for k in range(left)] if entries == "decodes" else [(2, 9), (3, 9)])


def test_mixed_on_the_other_side_of_the_crossover():
    requests = [decode(), waiting(9), waiting(9)]
    for crossover, first, mixed in ((2, False, True), (3, False, False), (3, True, True), (2, True, False)):
        policy = BatchingSwitch(crossover=crossover, mixed_first=first)
        memory = policy.init(0)
        memory.filled[0] = 1
        asked = Desk(requests).ask(policy, memory).entries
        assert asked == ([(0, 1), (1, 9), (2, 9)] if mixed else [(0, 1)])


@given(
    workload=crowds,
    system=systems(LAW),
    theta=st.sampled_from([0.25, 0.5, 0.8, 0.9, 1.0]),
    places=st.integers(1, 10),
)
def test_the_sawtooth(workload: Workload, system: System, theta: float, places: int):
    """Pure batches, at most so many active, and refills that begin only when the share is done."""
    policy = BatchingSwitch(crossover=0, mixed_first=True, theta=theta, places=places)
    filled, refilling = 0, False
    for s in audit(workload, system, run(workload, system, policy), policy.admission):
        assert not (s.chunks and s.decodes)
        assert len(s.running) - len(s.victims) + len(s.admitted) <= places
        if s.admitted:
            assert refilling or filled - len(s.running) >= Fraction(str(theta)) * filled
            filled = len(s.running) + len(s.admitted)
        elif filled - len(s.running) >= Fraction(str(theta)) * filled:
            filled = len(s.running)  # nobody was there to come in
        refilling = bool(s.admitted)


@given(workload=crowds, system=systems(LAW))
def test_always_mixed_is_orca_on_paged_memory(workload: Workload, system: System):
    always = BatchingSwitch(crossover=0, places=128, max_batched_tokens=1 << 30)
    assert same_tables(run(workload, system, always), run(workload, system, HybridOnly())) == ""


@given(workload=crowds, system=systems(LAW))
def test_the_whole_share_is_a_batch_of_requests(workload: Workload, system: System):
    """θ = 1: nobody enters while others decode, as under FasterTransformer."""
    for policy in (BatchingSwitch(crossover=0, mixed_first=True, theta=1.0), FasterTransformer()):
        before: list[int] = []
        for s in audit(workload, system, run(workload, system, policy), policy.admission):
            if s.admitted and not s.victims:
                assert not s.decoding or before, "prompts came in beside decodes, and none before"
            before = s.admitted


PLACES, HAZARD = 32, 1 / 16


def completed(policy: BatchingSwitch, law: Affine, seconds: float) -> int:
    """Requests completed at saturation: geometric outputs, all of them decoded after the prompt if batches are pure.

    The model's mixed batches have a request in its place for as many iterations as its output has tokens, so that
    there the prompt brings the first of them.
    """
    rng = np.random.default_rng(3)
    n = 20_000
    workload = Workload(np.zeros(n), np.full(n, 20), rng.geometric(HAZARD, n))
    system = System(law, blocks=1 << 30, max_length=1 << 20, last_chunk_emits=not policy.mixed_first)
    return int(simulate(workload, system, policy, horizon=seconds, router=RoundRobin()).finished.sum())


@pytest.mark.parametrize(("more", "faster"), [(0.0, "mixed"), (3.0, "exclusive")])
def test_the_sign_of_the_difference_names_the_faster(more: float, faster: str):
    """A pure batch takes 1 s, a mixed one `more` s longer: the kind that the sign names is faster, by what it says."""
    pure, both = Exclusive(prefill=1.0, decode=1.0), Mixed(base=1.0 + more)
    delta = advantage(PLACES, HAZARD, pure, both).computed
    assert (delta < 0) == (faster == "exclusive")
    seconds = 4000.0
    theta = threshold(HAZARD * pure.prefill / pure.decode).stated
    sawtooth = BatchingSwitch(theta=theta, crossover=0, mixed_first=True, places=PLACES)
    replacing = BatchingSwitch(crossover=0, places=PLACES)
    done = {
        "exclusive": completed(sawtooth, Affine(pure.decode, 0.0), seconds),
        "mixed": completed(replacing, Affine(both.base, 0.0), seconds),
    }
    assert max(done, key=lambda kind: done[kind]) == faster
    assert seconds / done["exclusive"] - seconds / done["mixed"] == pytest.approx(delta, rel=0.1)


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"theta": 0.0}, "theta of BatchingSwitch must be above 0 and at most 1, not 0.0"),
        ({"crossover": -1}, "crossover of BatchingSwitch must be an integer of at least 0, not -1"),
        ({"crossover": True}, "crossover of BatchingSwitch must be an integer of at least 0, not True"),
        ({"mixed_first": 2}, "mixed_first of BatchingSwitch must be true or false, not 2"),
        ({"places": 0}, "places of BatchingSwitch must be an integer of at least 1, not 0"),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        BatchingSwitch(**parameters)
