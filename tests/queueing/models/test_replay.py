"""Replay: exact times agree with recorded ones, work is conserved, and what cannot be replayed is refused."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.rad import Rad
from policies.sarathi import Sarathi
from policies.vllm import Vllm
from queueing.models.iteration_time import Affine, Roofline, TileLaw
from queueing.models.replay import ExactLaw, replay
from queueing.simulator import simulate
from queueing.system import ENDLESS, System
from queueing.workload import Workload
from tests.strategies import pressing_workloads

PAPER = TileLaw(128, 4e-3, 5e-6)  # the instance of RAD's tile model


def node(law, **limits) -> System:
    return System(law, ENDLESS, block_size=1, max_length=ENDLESS, **limits)


def test_prices():
    law = ExactLaw(PAPER)
    assert 128 * law.price == Fraction(4640, 10**6)  # seconds, as stated with the model
    assert law.waste(128) == 0
    assert law.waste(129) == Fraction(4, 1000) * Fraction(127, 128)
    assert ExactLaw(PAPER, most=64).price == law.seconds(64) / 64  # no full tile is allowed


@given(
    st.builds(Affine, st.sampled_from([0.0, 0.5, 0.25]), st.sampled_from([0.125, 1.0]))
    | st.builds(
        Roofline, st.sampled_from([0.5, 3.0]), st.sampled_from([0.0, 0.5]), st.sampled_from([0.125, 1.0])
    )
    | st.builds(TileLaw, st.integers(1, 9), st.sampled_from([0.5, 1.0]), st.sampled_from([0.0, 0.25])),
    st.integers(1, 30),
)
def test_no_batch_is_cheaper_by_the_token_than_the_price(law, most):
    found = ExactLaw(law, most)
    assert found.price == min(found.seconds(n) / n for n in range(1, most + 1))
    assert all(float(found.seconds(n)) == law.params().token_time[n] for n in range(1, most + 1))


def test_attention_is_the_law_s():
    affine = ExactLaw(Affine(0.5, 0.25, per_context=0.125, per_pair=0.0625), most=8)
    whole, cut = affine.prompt_work(7), affine.prompt_work(7, chunk=2)
    assert whole == cut == 7 * affine.price + Fraction(49, 32)
    assert affine.decode_work(7, 2) == 2 * affine.price + Fraction(8 + 9, 8)
    tiled = ExactLaw(TileLaw(4, 0.5, 0.25, per_tiled_pair=0.125))
    assert tiled.prompt_work(8, chunk=4) == 8 * tiled.price + Fraction(4 * 4 + 4 * 8, 8)
    assert tiled.prompt_work(8) == 8 * tiled.price + Fraction(8 * 8, 8)  # depends on the chunk


@given(pressing_workloads(tile=4, decodes=4), st.booleans(), st.sampled_from([0.0, 2.0**-9]))
def test_a_dyadic_run_is_replayed_to_the_last_bit_and_serves_all_its_work(workload, emits, kappa):
    law = TileLaw(4, 2.0**-6, 2.0**-12, 2.0**-14, kappa)
    trace = simulate(workload, node(law, last_chunk_emits=emits), Rad(4, 4), record_entries=True, python=True)
    arrivals, batches = replay(trace, ExactLaw(law), chunk=4)
    it = trace.iterations
    assert [float(b.start) for b in batches] == it["start"].tolist()
    assert [float(b.end) for b in batches] == (it["start"] + it["seconds"]).tolist()
    for r, arrival in enumerate(arrivals):
        assert sum(b.served.get(r, 0) for b in batches) == arrival.work


@given(pressing_workloads(tile=4, decodes=4, seconds_per_token=1.16e-3))
def test_a_run_of_rounded_coefficients_agrees_to_a_nanosecond(workload):
    """4 ms and 160 µs are no dyadic numbers: exact and recorded ends differ, by less than the replay allows."""
    law = TileLaw(4, 4e-3, 1.6e-4)
    trace = simulate(workload, node(law), Rad(4, 4), record_entries=True, python=True)
    _, batches = replay(trace, ExactLaw(law))
    assert (
        max(
            abs(float(b.end) - s - d)
            for b, s, d in zip(
                batches, *(trace.iterations[c].tolist() for c in ("start", "seconds")), strict=True
            )
        )
        < 1e-9
    )


def test_preempted_work_is_done_again():
    law = TileLaw(4, 2.0**-6, 2.0**-12)
    small = System(law, blocks=10, block_size=2, max_length=100, max_running=4)
    workload = Workload([0.0] * 4, [5] * 4, [6] * 4)
    trace = simulate(workload, small, Vllm(), record_entries=True, python=True)
    assert trace.requests["preemptions"].sum() > 0
    arrivals, batches = replay(trace, ExactLaw(law))
    undone = sum((sum(b.undone.values()) for b in batches), Fraction(0))
    assert undone > 0
    assert sum(b.work for b in batches) - undone == sum(a.work for a in arrivals)
    attentive = dataclasses.replace(law, per_context=0.5)
    trace = simulate(
        workload,
        dataclasses.replace(small, iteration_time=attentive),
        Vllm(),
        record_entries=True,
        python=True,
    )
    with pytest.raises(ValueError, match="preempted"):
        replay(trace, ExactLaw(attentive))


def test_what_cannot_be_replayed_is_refused():
    law = TileLaw(4, 2.0**-6, 2.0**-12)
    workload = Workload([0.0, 0.5], [4, 4], [2, 2])
    trace = simulate(workload, node(law), Rad(4, 4), python=True)
    with pytest.raises(ValueError, match="record_entries"):
        replay(trace, ExactLaw(law))
    trace = simulate(workload, node(law), Sarathi(4), record_entries=True, python=True)
    with pytest.raises(ValueError, match="give its law"):
        replay(trace, ExactLaw(TileLaw(4, 2.0**-5, 2.0**-12)))
    with pytest.raises(ValueError, match="at least one token"):
        ExactLaw(law, most=0)
    with pytest.raises(ValueError, match="give most"):
        ExactLaw(Affine(1.0, 1.0))
    # a request arrives at the float end of a batch, and that lies 2e-19 s off the exact one
    rounded = TileLaw(4, 0.1, 0.0)
    ends = simulate(Workload([0.0], [12], [1]), node(rounded), Rad(4, 4), python=True).end
    assert Fraction(ends) != Fraction(3, 10)
    at_the_end = Workload([0.0, ends], [12, 4], [2, 1])
    trace = simulate(at_the_end, node(rounded), Rad(4, 4), record_entries=True, python=True)
    with pytest.raises(ValueError, match="dyadic"):
        replay(trace, ExactLaw(rounded))
