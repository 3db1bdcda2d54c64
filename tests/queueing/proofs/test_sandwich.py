"""The sandwich's checker: the sweep against the definitions, its instants, its controls, and the left side."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from policies.catalogue import classes
from policies.rad import Rad
from policies.sarathi import Sarathi
from queueing.models.iteration_time import Affine, TileLaw
from queueing.models.replay import ExactLaw, replay
from queueing.policy import Policy
from queueing.proofs.certificate import Kind, Refuted
from queueing.proofs.sandwich import Arrival, Batch, Sandwich, backlog, ideal_backlog, instants
from queueing.simulator import simulate
from queueing.system import ENDLESS, System
from tests.strategies import parameters_of, pressing_workloads, systems, workloads
from tests.thorough import thorough

TAU = 2.0**-6  # s; dyadic, so that floats and fractions agree to the last bit
HALF, ONE = Fraction(1, 2), Fraction(1)


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[Arrival], list[Batch], int]:
    """Any arrivals, and up to three engines that serve, waste and undo at will."""
    number = st.integers(0, 12).map(lambda k: Fraction(k, 4))
    arrivals = [
        Arrival(t, x + 1) for t, x in draw(st.lists(st.tuples(number, number), min_size=1, max_size=6))
    ]
    engines = draw(st.integers(1, 3))
    batches: list[Batch] = []
    for _ in range(engines):
        now = Fraction(0)
        for wait, lasts, share in draw(st.lists(st.tuples(number, number, st.integers(0, 4)), max_size=4)):
            start, end = now + wait, now + wait + lasts + 1
            undone = {0: HALF} if draw(st.integers(0, 5)) == 0 else {}
            batches.append(Batch(start, end, {0: (end - start) * Fraction(share, 4)}, undone))
            now = end
    return arrivals, batches, engines


@thorough
@given(logs(), st.lists(st.integers(0, 400).map(lambda k: Fraction(k, 23)), max_size=30))
def test_the_sweep_is_the_definition_and_misses_no_extreme(log, times):
    """At its instants it gives W and Q* as defined, and at no other time is W - Q* further out."""
    arrivals, batches, engines = log
    found = list(instants(arrivals, batches, engines))
    for time, real, ideal in found:
        assert ideal == ideal_backlog(arrivals, engines, time)
        lost = sum((sum(b.undone.values()) for b in batches if b.start == time), Fraction(0))
        assert real in (backlog(arrivals, batches, time), backlog(arrivals, batches, time) - lost)
    low, high = (found[i].excess for i in (0, 0))
    low, high = min(i.excess for i in found), max(i.excess for i in found)
    for t in times:
        if found[0].time <= t <= found[-1].time:
            assert low <= backlog(arrivals, batches, t) - ideal_backlog(arrivals, engines, t) <= high


def test_the_largest_excess_may_lie_between_events():
    """One token in a batch as long as a full tile of 4: Q* is empty after 1, W only after 4.  Excess 3/4 in between."""
    arrivals = (Arrival(Fraction(0), ONE),)
    batches = (Batch(Fraction(0), Fraction(4), {0: ONE}),)
    top = Sandwich(arrivals, batches).extremes()[1]
    assert (top.time, top.excess) == (1, Fraction(3, 4))
    ends = [backlog(arrivals, batches, t) - ideal_backlog(arrivals, 1, t) for t in (Fraction(0), Fraction(4))]
    assert ends == [0, 0]  # at the arrival, the start and the end alone nothing is seen
    assert Sandwich(arrivals, batches, constant=Fraction(3, 4)).holds
    assert not Sandwich(arrivals, batches, constant=Fraction(74, 100)).holds


def test_a_surcharge_is_charged_per_request():
    arrivals = (Arrival(Fraction(0), ONE), Arrival(Fraction(1), ONE))
    batches = (Batch(Fraction(0), Fraction(2), {0: ONE}), Batch(Fraction(2), Fraction(4), {1: ONE}))
    assert not Sandwich(arrivals, batches, constant=HALF).holds
    assert Sandwich(arrivals, batches, constant=HALF, surcharge=ONE).holds
    top = Sandwich(arrivals, batches, surcharge=HALF).extremes()[1]
    assert (top.time, top.excess) == (3, HALF)  # Q* has got rid of both and of their surcharge


good = (Arrival(Fraction(0), Fraction(4)), Arrival(Fraction(1), ONE))


@pytest.mark.parametrize(
    ("batches", "sentence"),
    [
        ([Batch(Fraction(0), Fraction(3), {0: Fraction(4)})], "below Q"),
        ([Batch(Fraction(0), Fraction(5), {0: Fraction(5)})], "more than it asked"),
        ([Batch(Fraction(0), Fraction(5), {0: ONE}), Batch(Fraction(4), Fraction(6), {1: ONE})], "overlap"),
        ([Batch(HALF, Fraction(5), {1: ONE})], "before it came"),
        ([Batch(ONE, ONE, {1: ONE})], "no time"),
        ([Batch(Fraction(0), Fraction(4), {0: -ONE})], "was served -1"),
        ([Batch(Fraction(2), Fraction(5), {0: ONE}, {1: ONE})], "lost 1 of 0"),
    ],
)
def test_an_impossible_log_is_refuted(batches, sentence):
    """Controls: a server faster than its law, too much service, two batches at once, clairvoyance, and so on."""
    with pytest.raises(Refuted, match=sentence):
        Sandwich(good, tuple(batches)).check()
    honest = Sandwich(good, (Batch(Fraction(0), Fraction(5), {0: Fraction(4)}),), constant=ONE)
    honest.check()
    assert honest.kind is Kind.RATIONAL
    assert "2 requests in 1 batches" in honest.claim


# -- left side: no policy is ever ahead of the ideal server


@pytest.mark.parametrize("cls", classes(Policy).values(), ids=list(classes(Policy)))
@thorough
@given(data=st.data())
def test_no_policy_beats_the_ideal_server(cls: type[Policy], data: st.DataObject):
    """Any parameters, and memory that runs short: preempted work counts again, rejected work never."""
    law = TileLaw(data.draw(st.sampled_from([3, 4, 16])), TAU, 2.0**-12)
    node, policy = data.draw(systems(law)), data.draw(parameters_of(cls))
    workload = data.draw(workloads(max_prompt=40, max_output=12, max_gap=0.125))
    trace = simulate(workload, node, policy, record_entries=True, python=True)
    event(f"preempted: {bool(trace.requests['preemptions'].any())}")
    Sandwich(*replay(trace, ExactLaw(law))).check()


@thorough
@given(pressing_workloads(tile=1, decodes=4), st.sampled_from([0.0, 2.0**-9]), st.integers(2, 8))
def test_no_policy_beats_the_ideal_server_with_attention_and_an_affine_law(workload, kappa, most):
    """However prompts are cut, their attention adds up to the same, so work is defined for every schedule."""
    law = Affine(TAU, 2.0**-9, kappa, 2.0**-12)
    limits: dict[str, Any] = {"block_size": 1, "max_length": ENDLESS, "max_batch_tokens": most}
    node = System(law, ENDLESS, last_chunk_emits=False, **limits)
    for policy in (Sarathi(most, max_num_seqs=most), Rad(1, most)):
        trace = simulate(workload, node, policy, record_entries=True, python=True)
        Sandwich(*replay(trace, ExactLaw(law, most))).check()
