"""Peaks at ends against all times, runs of MC-SF with blocks, and the obligations' own health."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from policies import ANNOUNCED_LENGTH, McSf, Sarathi
from queueing.models.iteration_time import Affine
from queueing.policy import Policy
from queueing.proofs.certificate import Refuted
from queueing.proofs.claim import Claim, checked
from queueing.proofs.kv_overflow import CLAIMS, ends, reservation, step
from queueing.proofs.smt import Obligation
from queueing.proofs.transition import System as Transitions
from queueing.system import System
from queueing.workload import Workload
from tests.laws import run
from tests.strategies import workloads

residents = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30)), min_size=1, max_size=6)
crowds = workloads(min_requests=3, max_requests=12, max_prompt=20, max_output=12, max_gap=0.1)
LAW = Affine(0.01, 0.001)


def held(requests: list[tuple[int, int]], s: int, size: int) -> int:
    """F(s) in blocks."""
    return sum(-(-(h + s) // size) for h, left in requests if s <= left)


@given(residents, st.integers(1, 16))
def test_the_ends_are_enough(requests: list[tuple[int, int]], size: int):
    last = max(left for _, left in requests)
    largest = max(held(requests, s, size) for s in range(1, last + 1))
    assert largest == max(held(requests, left, size) for _, left in requests)
    after = [(h + 1, left - 1) for h, left in requests if left > 1]
    assert all(held(after, s, size) <= held(requests, s + 1, size) for s in range(1, last + 1))


def test_tokens_in_place_of_blocks_would_not_be():
    """Control: three requests of five tokens fit into sixteen, and need six blocks of four."""
    requests = [(4, 1)] * 3
    assert held(requests, 1, 1) <= 16
    assert 4 * held(requests, 1, 4) > 16


@given(
    crowds,
    st.data(),
    st.sampled_from([1, 4, 16]),
    st.sampled_from([McSf(), Sarathi(admission=ANNOUNCED_LENGTH)]),
)
def test_upper_bounds_are_enough(workload: Workload, data: st.DataObject, size: int, policy: Policy):
    """Announcements above the truth, blocks of several tokens: nobody is preempted."""
    more = data.draw(
        st.lists(st.integers(0, 6), min_size=len(workload.output), max_size=len(workload.output))
    )
    announced = dataclasses.replace(workload, predicted=workload.output + np.array(more))
    trace = run(announced, System(LAW, blocks=-(-60 // size), block_size=size), policy)
    event(f"somebody waits: {bool((trace.iterations['waiting'] > 0).any())}")
    assert trace.requests["preemptions"].sum() == 0


def test_announcements_below_the_truth_overflow():
    """Control: requests announced with one token and running for thirty are preempted."""
    workload = Workload(np.zeros(6), [5] * 6, [30] * 6, predicted=[1] * 6)
    trace = run(workload, System(LAW, blocks=60, block_size=1), McSf())
    assert trace.requests["preemptions"].sum() > 0


@pytest.fixture
def solvers() -> None:
    pytest.importorskip("z3", reason="needs z3, of the extra `proofs`")
    pytest.importorskip("cvc5", reason="needs cvc5, of the extra `proofs`")


@pytest.mark.usefixtures("solvers")
@pytest.mark.parametrize("system", [reservation(), ends(), step()], ids=["reservation", "ends", "step"])
def test_every_event_can_happen(system: Transitions):
    for name in system.events:
        assert not system.leads(name, f"no {name}", "false").holds


@pytest.mark.usefixtures("solvers")
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_scripts_parse_and_their_hypotheses_have_a_model(claim: Claim):
    assert claim.evidence is not None
    for obligation in claim.evidence():
        assert isinstance(obligation, Obligation)
        with pytest.raises(Refuted):
            obligation.claiming("false").check()


@pytest.mark.usefixtures("solvers")
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_proved_and_every_weakened_form_refuted(claim: Claim):
    verdict = checked(claim)
    assert verdict.ok, verdict.reason
    assert all(verdict.controls.values())
