"""Exclusive or mixed batches: the threshold three ways, finite N, the chain by enumeration, every refill rule, Δ(N)."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from queueing.models.exclusive_batching import (
    Exclusive,
    Mixed,
    advantage,
    best_refill,
    crossover,
    derivation,
    enclosed_threshold,
    sawtooth,
    threshold,
)
from queueing.proofs.identity import Identity

kappas = st.floats(-5.5, 2).map(lambda x: 10**x)
hazards = st.floats(-4, -0.05).map(lambda x: 10**x)
rates = st.fractions(Fraction(1, 10), Fraction(9, 10), max_denominator=10)


# --- the threshold


@given(kappa=kappas, hazard=st.just(0.0) | hazards)
def test_the_lambert_form_is_the_root(kappa, hazard):
    """Near κ = 0 the branch point of W costs digits."""
    assume(kappa < 600 * (1 - hazard))
    computed, stated = threshold(kappa, hazard)
    assert 0 < computed < 1
    assert math.isclose(computed, stated, rel_tol=1e-8)
    c = -hazard / math.log1p(-hazard) if hazard else 1.0
    assert math.isclose(stated / (1 - stated) + c * math.log1p(-stated), kappa, rel_tol=1e-6)


@given(kappa=kappas, share=st.floats(0.001, 0.999))
def test_no_other_share_costs_less(kappa, share):
    def cost(theta):
        return (kappa - math.log1p(-theta)) / theta

    best = threshold(kappa).stated
    assert cost(best) <= cost(share) * (1 + 1e-9)
    assert math.isclose(cost(best), 1 / (1 - best), rel_tol=1e-5)


@given(kappa=kappas, hazard=st.floats(-2.5, -0.05).map(lambda x: 10**x))
def test_the_first_whole_iteration_to_reach_the_share_is_the_last(kappa, hazard):
    """Against the least of 1,..., t + 50 iterations at the cost of each; a tie may fall either way."""
    assume(kappa < 600 * (1 - hazard))
    stays = math.log1p(-hazard)
    t = math.ceil(math.log1p(-threshold(kappa, hazard).stated) / stays)

    def cost(iterations):
        return (kappa / hazard + iterations) / -math.expm1(iterations * stays)

    assert cost(t) <= min(cost(i) for i in range(1, t + 50)) * (1 + 1e-9)


def test_where_iterations_are_long_the_limit_of_short_ones_asks_for_one_too_many():
    """p0 = 3/4, κ = 2: one iteration costs 44/9 in the unit of α_d/N, two cost 224/45."""
    one, two = ((Fraction(8, 3) + t) / (1 - Fraction(1, 4) ** t) for t in (1, 2))
    assert (one, two) == (Fraction(44, 9), Fraction(224, 45))
    whole, short = (math.log1p(-threshold(2.0, h).stated) / math.log(1 / 4) for h in (0.75, 0.0))
    assert whole <= 1 < short <= 2


@given(kappa=kappas, more=st.floats(1.01, 5))
def test_dearer_prefill_waits_for_more_completions(kappa, more):
    assert threshold(kappa).stated < threshold(kappa * more).stated


# --- finite N in continuous time

whole_kappas = st.fractions(Fraction(1, 1000), 50, max_denominator=1000)


@given(active=st.integers(1, 60), kappa=whole_kappas)
def test_the_best_refill_lies_within_its_bounds_of_the_limit(active, kappa):
    """Nθ0 - 1/2 < k* < Nθ0 + 1, with the proved enclosure of θ0."""
    k, theta = best_refill(active, kappa).computed * active, enclosed_threshold(kappa)
    assert active * theta.low - Fraction(1, 2) < k < active * theta.high + 1


@given(active=st.integers(1, 25), kappa=whole_kappas)
def test_no_other_k_costs_less(active, kappa):
    cost = [
        (kappa + sum(Fraction(1, i) for i in range(active - k + 1, active + 1))) / k
        for k in range(1, active + 1)
    ]
    k = int(best_refill(active, kappa).computed * active)
    assert cost[k - 1] == min(cost)
    assert all(a > b for a, b in pairwise(cost[:k]))


@pytest.mark.parametrize("kappa", [Fraction(1, 100), Fraction(1), Fraction(7)])
def test_it_converges_and_rounding_down_would_not_do(kappa):
    gaps = [abs(best_refill(n, kappa).computed - best_refill(n, kappa).stated) for n in (10, 100, 1000)]
    assert all(gap < Fraction(1, n) for gap, n in zip(gaps, (10, 100, 1000), strict=True))
    k = [best_refill(n, kappa).computed * n for n in range(1, 80)]
    theta = best_refill(1, kappa).stated
    assert any(x != math.floor(n * theta) for n, x in enumerate(k, 1))
    assert any(x != math.ceil(n * theta) for n, x in enumerate(k, 1))


# --- the chain of whole iterations


@cache
def exact(active, p, stops):
    """Mean iterations and completions of a cycle that ends in a state (requests complete) of `stops`, in fractions."""
    mean = {}
    for done in range(active, -1, -1):
        if done in stops:
            mean[done] = (Fraction(0), Fraction(done))
            continue
        left, t, d = active - done, Fraction(1), Fraction(0)
        for j in range(1, left + 1):
            chance = math.comb(left, j) * p**j * (1 - p) ** (left - j)
            t, d = t + chance * mean[done + j][0], d + chance * mean[done + j][1]
        mean[done] = (t / (1 - (1 - p) ** left), d / (1 - (1 - p) ** left))
    return mean[0]


def at_least(k, active):
    return frozenset(range(k, active + 1))


@settings(max_examples=40, deadline=None)
@given(active=st.integers(1, 7), p=rates)
def test_the_chain_equals_first_step_analysis_in_fractions(active, p):
    """Backwards from the end, where the module goes forwards from the start."""
    found = sawtooth(active, float(p))
    for k in range(1, active + 1):
        t, d = exact(active, p, at_least(k, active))
        assert math.isclose(found.iterations[k - 1], t, rel_tol=1e-12)
        assert math.isclose(found.completed[k - 1], d, rel_tol=1e-12)
        assert d >= k
        assert d > k or k == active


@pytest.mark.parametrize(("active", "k"), [(2, 1), (2, 2), (3, 2), (4, 3)])
def test_and_every_history_of_every_request(active, k):
    """p0 = 1/2: all outcomes of coins for every single request, followed for nine iterations; the rest is bounded."""
    law, t, d = {(False,) * active: Fraction(1)}, Fraction(0), Fraction(0)
    for _ in range(9):
        t += sum(law.values())
        after = {}
        for state, chance in law.items():
            for coins in product((False, True), repeat=active):
                to = tuple(a or b for a, b in zip(state, coins, strict=True))
                if sum(to) >= k:
                    d += sum(to) * chance / 2**active
                else:
                    after[to] = after.get(to, Fraction(0)) + chance / 2**active
        law = after
    found, left = sawtooth(active, 0.5), float(sum(law.values()))
    assert t - 1e-12 <= found.iterations[k - 1] <= t + left * 2 * active + 1e-12
    assert d - 1e-12 <= found.completed[k - 1] <= d + left * active + 1e-12


@settings(max_examples=30, deadline=None)
@given(active=st.integers(1, 6), p=rates, prefill=st.integers(1, 30))
def test_no_set_of_states_to_stop_in_beats_the_best_k(active, p, prefill):
    """Every rule that decides by the number of completions, a threshold or not."""

    def cost(stops):
        t, d = exact(active, p, stops)
        return (prefill + t) / d

    best = min(cost(at_least(k, active)) for k in range(1, active + 1))
    for chosen in product((False, True), repeat=active - 1):
        assert cost(frozenset({active, *(i for i, c in enumerate(chosen, 1) if c)})) >= best


@settings(max_examples=30, deadline=None)
@given(active=st.integers(1, 9), p=rates, per_decode=st.floats(0, 5))
def test_decodes_cost_the_same_whatever_k(active, p, per_decode):
    """Requests in all iterations of a cycle, counted in the chain, over completions: 1/p0."""
    spent = np.diff(sawtooth(active, float(p)).iterations, prepend=0.0)
    seats = np.cumsum(spent * np.arange(active, 0, -1))
    each = sawtooth(active, float(p)).seconds(Exclusive(1, 1, 0, per_decode), float(p))
    without = sawtooth(active, float(p)).seconds(Exclusive(1, 1, 0, 0), float(p))
    assert np.allclose(each - without, per_decode * seats / sawtooth(active, float(p)).completed, atol=1e-9)


# --- Δ(N)


def fixed_cost(active, p, prefill):
    """G(N) at α_d = 1, in fractions."""
    cycles = (exact(active, p, at_least(k, active)) for k in range(1, active + 1))
    return active * min((prefill + t) / d for t, d in cycles)


@settings(max_examples=20, deadline=None)
@given(p=rates, prefill=st.integers(1, 30))
def test_fixed_costs_grow_with_the_batch_up_to_their_limit(p, prefill):
    """N times the cost per request: strictly in fractions, below that of the best whole t with many requests."""
    costs = [fixed_cost(n, p, prefill) for n in range(1, 8)]
    assert all(a <= b for a, b in pairwise(costs))
    assert costs[-1] <= min((prefill + t) / (1 - (1 - p) ** t) for t in range(1, 120))


costs = st.floats(-2, 2).map(lambda x: 10**x)


@settings(max_examples=60, deadline=None)
@given(kappa=st.floats(-5, 2).map(lambda x: 10**x), hazard=hazards, active=st.integers(1, 150), base=costs)
def test_computed_and_stated_advantage_differ_by_what_is_said(kappa, hazard, active, base):
    computed, stated = advantage(active, hazard, Exclusive(kappa / hazard, 1.0), Mixed(base))
    scale = 1 / (1 - threshold(kappa).stated) / (hazard * active)
    assert abs(computed - stated) <= (hazard + 1 / active) * scale


def test_it_is_the_stated_value_in_the_limit():
    found = [advantage(n, 1 / n**2, Exclusive(n**2, 1.0), Mixed(2.0)) for n in (10, 40, 160)]
    gaps = [abs(a.computed / a.stated - 1) for a in found]
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2]


@settings(max_examples=40, deadline=None)
@given(hazard=st.floats(0.02, 0.5), prefill=costs, base=costs, prompts=st.floats(0, 3))
def test_at_equal_costs_per_token_the_regime_is_that_of_the_bases(hazard, prefill, base, prompts):
    """Y = 0: away from the boundary by more than the difference of both forms, Δ has the sign of X at every N."""
    assume(hazard * prefill >= 1e-5)
    rim = 1 / (1 - threshold(hazard * prefill).stated)
    exclusive, mixed = Exclusive(prefill, 1.0, prompts), Mixed(base, prompts)
    for n in (1, 3, 10, 60):
        computed, stated = advantage(n, hazard, exclusive, mixed)
        assert (stated > 0) == (rim > base)
        if not 1 / (1 + hazard + 1 / n) < rim / base < 1 / max(1e-9, 1 - hazard - 1 / n):
            assert (computed > 0) == (rim > base)


def signs(hazard, exclusive, mixed, most):
    return [advantage(n, hazard, exclusive, mixed).computed > 0 for n in range(1, most + 1)]


def changes(of):
    return [n for n, (a, b) in enumerate(pairwise(of), 1) if a != b]


@settings(max_examples=40, deadline=None)
@given(hazard=st.floats(0.02, 0.6), prefill=costs, base=costs, dearer=st.floats(0.01, 3))
def test_where_exclusive_batches_pay_more_per_token_the_sign_changes_once_at_most(
    hazard, prefill, base, dearer
):
    assume(hazard * prefill >= 1e-5)
    found = changes(signs(hazard, Exclusive(prefill, 1.0, dearer), Mixed(base), 40))
    assert len(found) <= 1


def test_where_mixed_ones_do_it_may_change_four_times():
    """In fractions, p0 = 1/4: the stated Δ changes once at most, the chain's is above 0 at 2 and 4 alone."""
    p, prefill, base, y = Fraction(1, 4), 2, Fraction(8, 5), Fraction(2, 5)
    exactly = [(fixed_cost(n, p, prefill) - base / p) / n - y for n in range(1, 8)]
    assert [x > 0 for x in exactly] == [False, True, False, True, False, False, False]
    args = (float(p), Exclusive(prefill, 1.0), Mixed(float(base), float(y)))
    for n, x in enumerate(exactly, 1):
        assert math.isclose(advantage(n, *args).computed, x, rel_tol=1e-9)
    stated = [advantage(n, *args).stated > 0 for n in range(1, 30)]
    assert len(changes(stated)) <= 1
    assert crossover(args[1], args[2], args[0]).computed == 4


# --- the crossover


@settings(max_examples=60, deadline=None)
@given(
    hazard=st.floats(0.02, 0.6),
    prefill=costs,
    gap=st.floats(-0.5, 1),
    y=st.floats(-3, 3).filter(lambda y: abs(y) > 0.02),
)
def test_the_crossover_is_the_last_change_of_sign(hazard, prefill, gap, y):
    """Against every N up to 60."""
    assume(hazard * prefill >= 1e-5)
    exclusive = Exclusive(prefill, 1.0, max(y, 0.0))
    mixed = Mixed((1 + hazard * prefill) * (1 + gap), max(-y, 0.0))
    values = [advantage(n, hazard, exclusive, mixed).computed for n in range(1, 61)]
    assume(min(map(abs, values)) > 1e-9)  # a tie may fall either way
    found = changes([x > 0 for x in values])
    try:
        computed, stated = crossover(exclusive, mixed, hazard)
    except ValueError as refused:
        sentence = str(refused)
    else:
        sentence = ""
    if sentence:
        assert not found
        assert "at every N" in sentence or "is beyond" in sentence
        return
    assert computed >= 60 or found[-1] == computed
    low, high = (advantage(int(n), hazard, exclusive, mixed).computed for n in (computed, computed + 1))
    assert (low > 0, high > 0) == (y < 0, y > 0)
    x = -stated * y  # X, as Δ is stated
    assert math.isclose(advantage(7, hazard, exclusive, mixed).stated, x / 7 + y, rel_tol=1e-9, abs_tol=1e-9)
    rim = (hazard + 1 / computed) / (1 - threshold(hazard * prefill).stated) / hazard
    assert abs(computed - stated) <= rim / abs(y) + 1


def test_both_approach_each_other_for_many_requests_and_long_outputs():
    found = [
        crossover(Exclusive(1 / p, 1.0, 0, 0.0), Mixed(2.0, 0.0, 0.003), hazard=p)
        for p in (0.05, 0.01, 0.004)
    ]
    gaps = [abs(c.computed / c.stated - 1) for c in found]
    assert gaps[-1] < gaps[0] < 0.1


def test_a_crossover_with_the_wrong_sign_of_x_is_no_zero():
    exclusive, mixed = Exclusive(100.0, 1.0), Mixed(2.0, 0.0, 0.003)
    at = crossover(exclusive, mixed, 0.01).stated
    assert abs(advantage(round(at), 0.01, exclusive, mixed).stated) < 1e-3
    wrong = (1 / threshold(1.0).stated - 2.0) / 0.01 / 0.3  # 1/θ0 for 1/(1 - θ0)
    assert abs(wrong - at) > 100


# --- algebra and bad input


def test_every_identity_holds_and_a_changed_one_fails():
    for identity in derivation():
        identity.check()
        assert not Identity(identity.name, identity.computed, identity.stated * 2).holds


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: threshold(0.0), "between 1e-06 and 600"),
        (lambda: threshold(601.0), "not 601"),
        (lambda: threshold(300.0, 0.999), "and 86"),
        (lambda: threshold(1.0, 1.0), "below 1"),
        (lambda: best_refill(0, Fraction(1)), "at least one request"),
        (lambda: best_refill(5, Fraction(0)), "give κ"),
        (lambda: sawtooth(0, 0.5), "N >= 1"),
        (lambda: sawtooth(5, 0.0), "strictly between 0 and 1"),
        (lambda: advantage(5, 1.0, Exclusive(1, 1), Mixed(1)), "strictly between 0 and 1"),
        (lambda: advantage(5, 0.5, Exclusive(1, 1, -1), Mixed(1)), "costs are >= 0"),
        (lambda: advantage(5, 0.5, Exclusive(1, 0), Mixed(1)), "> 0"),
        (lambda: crossover(Exclusive(1, 1, 1), Mixed(2, 1), 0.5), "costs per token are equal"),
        (lambda: crossover(Exclusive(1, 1, 1), Mixed(0.5), 0.5), "mixed batches are cheaper at every N"),
        (lambda: crossover(Exclusive(1, 1), Mixed(9, 1), 0.5), "exclusive batches are cheaper at every N"),
        (lambda: crossover(Exclusive(1, 1), Mixed(0.5, 1e-5), 0.5), "is beyond 4096"),
        (lambda: crossover(Exclusive(1, 1, 1e-5), Mixed(9), 0.5), "is beyond 4096"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()
