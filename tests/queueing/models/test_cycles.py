"""RAD with finite cycles: the waste by enumeration of the real policy, capacities, and the simulated edge."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from policies.rad import Rad
from queueing.arrivals import Poisson
from queueing.metrics.stability import growth_test
from queueing.models.cycles import capacity, least_cycle, mean_waste, most_waste
from queueing.models.iteration_time import Affine, TileLaw
from queueing.models.replay import ExactLaw, replay
from queueing.simulator import simulate
from queueing.system import ENDLESS, System
from queueing.workload import Workload

TAU = 2.0**-6
LAW = TileLaw(4, TAU, 2.0**-12)
EXACT = ExactLaw(LAW)
NODE = System(LAW, ENDLESS, block_size=1, max_length=ENDLESS, last_chunk_emits=False)


def waste_of(decodes: tuple[int, ...], cycle: float) -> Fraction:
    """Busy time less work when these requests, all at once, are served by the real policy."""
    n = len(decodes)
    workload = Workload([0.0] * n, [4] * n, decodes)
    trace = simulate(workload, NODE, Rad(4, 4, cycle), record_entries=True, python=True)
    _, batches = replay(trace, EXACT)
    return batches[-1].end - sum((b.work for b in batches), Fraction(0))


laws_of_decodes = st.lists(st.integers(1, 6), min_size=1, max_size=5).map(
    lambda d: {k: Fraction(d.count(k), len(d)) for k in d}
)


@given(laws_of_decodes, st.integers(1, 8), st.integers(1, 8))
def test_mean_waste_in_closed_form(decodes, tile, cycle):
    law = ExactLaw(TileLaw(tile, TAU, 2.0**-12))
    if cycle <= tile:
        found = mean_waste(law, decodes, cycle)
        assert found.computed == found.stated
        most = most_waste(law, max(decodes))
        assert most.computed == most.stated >= found.stated


@pytest.mark.parametrize("cycle", [1, 2, 3, 4])
def test_mean_waste_of_the_real_policy(cycle):
    """All outcomes of a cycle's decode lengths, weighted, in exact time."""
    decodes = {1: Fraction(1, 2), 3: Fraction(1, 3), 4: Fraction(1, 6)}
    mean = Fraction(0)
    for outcome in product(decodes, repeat=cycle):
        mean += math.prod(decodes[d] for d in outcome) * waste_of(outcome, cycle)
    assert mean == mean_waste(EXACT, decodes, cycle).stated
    assert mean != mean_waste(EXACT, {d: Fraction(1, 3) for d in decodes}, cycle).stated  # control


@given(st.lists(st.integers(1, 5), min_size=1, max_size=40), st.integers(1, 9))
def test_no_cycle_wastes_more_than_the_bound(decodes, cycle):
    """All prompts at once: every cycle but the last runs saturated; per cycle at most v."""
    cycles = -(-len(decodes) // cycle)
    assert waste_of(tuple(decodes), cycle) <= cycles * most_waste(EXACT, max(decodes)).stated


def test_long_cycles_waste_little():
    """N in {b, 4b, 16b, inf} on one list of 256 requests: waste falls, and the bound on the capacity holds for each."""
    rng = np.random.default_rng(0)
    decodes = tuple(int(d) for d in rng.integers(1, 9, 256))
    work = sum((EXACT.price * (4 + d) for d in decodes), Fraction(0)) / 256
    found = {n: waste_of(decodes, n) for n in (4, 16, 64, math.inf)}
    assert found[4] > found[16] > found[64] > found[math.inf] <= most_waste(EXACT, 8).stated
    for n in (4, 16, 64):
        reached = 256 / (256 * work + found[n])
        assert capacity(work, most_waste(EXACT, 8).stated, n) <= reached < 1 / work


def test_the_simulated_edge_is_the_capacity():
    """N = 2 of b = 4: stable at 0.93 of g/(x̄ + E[v_N]/N), growing at 1.07, at an error of 0.001 each; seed 0.

    Control: both rates are stable for N = inf.
    """
    decodes = {1: Fraction(1, 4), 2: Fraction(1, 4), 3: Fraction(1, 4), 4: Fraction(1, 4)}
    work = EXACT.price * (4 + Fraction(5, 2))
    edge = float(capacity(work, mean_waste(EXACT, decodes, 2).stated, 2))
    assert edge * 1.07 < 0.95 / float(work)
    rng = np.random.default_rng(0)
    for share, cycle, grows in ((0.93, 2, False), (1.07, 2, True), (1.07, math.inf, False)):
        n = 20_000
        workload = Workload(Poisson(share * edge).times(n, rng), np.full(n, 4), rng.integers(1, 5, n))
        last = float(workload.arrival[-1])
        trace = simulate(workload, NODE, Rad(4, 4, cycle), horizon=last)
        verdict = growth_test(trace, start=last / 10)
        assert verdict.grows == grows
        if not grows:
            assert verdict.grows_less_than(0.03)


def test_mean_cycle_of_a_saturated_run():
    """1,000 cycles of N = 2, seed 0: their mean time is 2·x̄ + E[v_2] within its interval (error 0.001)."""
    rng = np.random.default_rng(0)
    d = rng.integers(1, 5, 2000)
    trace = simulate(Workload(np.zeros(2000), np.full(2000, 4), d), NODE, Rad(4, 4, 2))
    ends = np.sort(trace.requests["finished"]).reshape(-1, 2)[:, 1]
    spans = np.diff(ends, prepend=0.0)
    stated = (
        2 * EXACT.price * Fraction(13, 2)
        + mean_waste(EXACT, {k: Fraction(1, 4) for k in (1, 2, 3, 4)}, 2).stated
    )
    reach = stats.t.ppf(1 - 5e-4, len(spans) - 1) * spans.std(ddof=1) / np.sqrt(len(spans))
    assert abs(spans.mean() - float(stated)) < reach
    assert abs(spans.mean() - float(2 * EXACT.price * Fraction(13, 2))) > reach  # control: no waste


@given(
    st.fractions(Fraction(1, 50), 5, max_denominator=50),
    st.fractions(0, 10, max_denominator=50),
    st.fractions(0, Fraction(99, 100), max_denominator=100),
    st.integers(1, 4),
)
def test_least_cycle(work, waste, load, engines):
    rate = load * engines / work
    found = least_cycle(rate, work, waste, engines)
    assert found.computed == found.stated
    assert capacity(work, waste, int(found.stated), engines) > rate
    if found.stated > 1:
        assert capacity(work, waste, int(found.stated) - 1, engines) <= rate


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: mean_waste(EXACT, {1: Fraction(1)}, 5), "cycles of 1 to 4"),
        (lambda: mean_waste(EXACT, {1: Fraction(1, 2)}, 2), "exactly 1"),
        (lambda: most_waste(ExactLaw(Affine(1.0, 1.0), 4), 2), "give a TileLaw"),
        (lambda: capacity(Fraction(0), Fraction(1), 1), "work above 0"),
        (lambda: least_cycle(Fraction(1), Fraction(1), Fraction(1)), "no cycle is long enough"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
