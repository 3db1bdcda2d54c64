"""The Gittins index: exact against brute force, known cases, and optimal by exact dynamic programming and by SOAP."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from queueing.models.gittins import derivation, gittins_index, gittins_rank, hazards, monotone_hazard_index
from queueing.models.priority import Jobs, limited_preemption, soap
from queueing.proofs.identity import Identity

histograms = st.dictionaries(st.integers(1, 7), st.integers(1, 9), min_size=1, max_size=5)
rates = st.lists(st.fractions(Fraction(1, 20), Fraction(19, 20), max_denominator=20), min_size=1, max_size=6)


def with_hazards(h):
    """The law whose hazards are `h`, and 1 after them."""
    alive, law = Fraction(1), {}
    for k, now in enumerate([*h, Fraction(1)], start=1):
        law[k] = alive * now
        alive -= law[k]
    return law


# --- the index itself


@given(histogram=histograms, quarters=st.integers(0, 27))
def test_the_index_is_the_best_ratio_of_all_stopping_ages(histogram, quarters):
    age = Fraction(quarters, 4)
    assume(age < max(histogram))
    older = {x: w for x, w in histogram.items() if x > age}

    def ratio(b):
        return Fraction(sum(w for x, w in older.items() if x <= b), 1) / sum(
            w * (min(Fraction(x), b) - age) for x, w in older.items()
        )

    found = gittins_index(histogram, age)
    assert found == max(ratio(Fraction(b, 4)) for b in range(quarters + 1, 4 * max(histogram) + 4))
    later = {x + 3: w for x, w in histogram.items()}
    assert gittins_index(later, age + 3) == found  # only what is left counts


@given(h=rates, where=st.integers(0, 6))
def test_hazards_come_back(h, where):
    assert hazards(with_hazards(h)) == (*h, 1)


@given(h=rates, falling=st.booleans(), age=st.integers(0, 6))
def test_monotone_hazards_have_the_stated_index(h, falling, age):
    histogram = with_hazards(sorted(h, reverse=falling))
    assume(age < max(histogram))
    computed, stated = monotone_hazard_index(histogram, age)
    assert computed == stated
    if not falling:
        older = {x: w for x, w in histogram.items() if x > age}
        assert stated == sum(older.values()) / sum(w * (x - age) for x, w in older.items())


def test_neither_part_of_the_stated_index_will_do_alone():
    soon, late = (
        with_hazards([Fraction(9, 10), Fraction(1, 10)]),
        with_hazards([Fraction(1, 10), Fraction(9, 10)]),
    )
    assert monotone_hazard_index(soon, 0).computed == hazards(soon)[0] != 1 / Fraction(119, 100)
    assert monotone_hazard_index(late, 0).computed != hazards(late)[0]


# --- known policies


@given(h=rates, load=st.floats(0.1, 0.9))
def test_rising_hazards_mean_first_come_first_served(h, load):
    histogram = with_hazards(sorted(h))
    size, weight = [float(x) for x in histogram], [float(w) for w in histogram.values()]
    jobs = Jobs(size, np.zeros(len(size)), weight)
    rate = load / jobs.mean(jobs.size)
    wait = rate * jobs.mean(jobs.size**2) / (2 * (1 - load))
    assert soap(jobs, rate, gittins_rank({0.0: histogram})) == pytest.approx(wait + jobs.size)


def test_falling_hazards_mean_least_age_first():
    """Two kinds of job, nine in ten of about one token: the order of indices is that of ages until few are left."""
    alive = [Fraction(9, 10) * Fraction(1, 5) ** k + Fraction(1, 10) * Fraction(4, 5) ** k for k in range(60)]
    histogram = {k: alive[k - 1] - alive[k] for k in range(1, 60)} | {60: alive[59]}
    index = [gittins_index(histogram, a) for a in range(10)]
    assert index == list(hazards(histogram)[:10]) == sorted(index, reverse=True)
    jobs = Jobs(list(histogram), np.zeros(60), [float(w) for w in histogram.values()])
    rate = 0.8 / jobs.mean(jobs.size)
    best = jobs.mean(soap(jobs, rate, gittins_rank({0.0: histogram})))
    assert best == pytest.approx(
        jobs.mean(soap(jobs, rate, between_tokens(lambda y, a: a + 0 * y))), rel=1e-4
    )
    assert best < 0.9 * jobs.mean(soap(jobs, rate, lambda y, a: 0 * (y + a)))


def between_tokens(rank):
    """The same rank for jobs that are not preempted within a token."""
    return lambda y, a: np.where(a == np.floor(a), rank(y, a), -np.inf)


# --- optimal


def best_total(histogram, start, rule=None):
    """Least mean sum of completion times of jobs at these ages, or that of `rule`, by exact dynamic programming."""
    h = hazards(histogram)

    @cache
    def cost(ages):
        if not ages:
            return Fraction(0)
        served = set(ages) if rule is None else {max(ages, key=rule)}
        found = []
        for age in served:
            others = list(ages)
            others.remove(age)
            goes_on = (1 - h[age]) * cost(tuple(sorted([*others, age + 1]))) if h[age] < 1 else 0
            found.append(len(ages) + h[age] * cost(tuple(others)) + goes_on)
        return min(found)

    return cost(tuple(sorted(start)))


@given(histogram=histograms)
@settings(deadline=None)
def test_the_index_rule_is_optimal_for_three_jobs(histogram):
    index = {a: gittins_index(histogram, a) for a in range(max(histogram))}
    for start in ((0, 0, 0), (0, 0, max(histogram) - 1), (0, max(histogram) // 2, max(histogram) // 2)):
        assert best_total(histogram, start) == best_total(histogram, start, index.__getitem__)


def test_hazard_alone_and_mean_remaining_size_are_not_optimal():
    def remaining(histogram):
        older = {a: {x: w for x, w in histogram.items() if x > a} for a in range(max(histogram))}
        return {
            a: -Fraction(sum(w * (x - a) for x, w in o.items()), sum(o.values())) for a, o in older.items()
        }

    two = {2: 9, 9: 1}  # no job ends at 1, so the hazard sees nothing at age 0
    hazard = dict(enumerate(hazards({1: 1, **two})))
    assert best_total({1: 1, **two}, (0, 0), hazard.__getitem__) > best_total({1: 1, **two}, (0, 0))
    long = {1: 1, 2: 1, 9: 2}
    assert best_total(long, (0, 0, 1), remaining(long).__getitem__) > best_total(long, (0, 0, 1))


points = st.lists(
    st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 9)),
    min_size=1,
    max_size=8,
    unique_by=lambda p: p[:2],
)


@given(points=points, load=st.floats(0.1, 0.95))
def test_no_rank_between_tokens_beats_it(points, load):
    jobs = Jobs(*zip(*points, strict=True))
    rate = load / jobs.mean(jobs.size)
    laws = {float(y): {x: w for x, q, w in points if q == y} for _, y, _ in points}
    best = jobs.mean(soap(jobs, rate, gittins_rank(laws)))
    for rank in (
        lambda y, a: 0 * (y + a),
        lambda y, a: y + 0 * a,
        lambda y, a: a + 0 * y,
        lambda y, a: np.abs(a - y),
        limited_preemption(0.5),
        limited_preemption(np.inf),
    ):
        assert best <= jobs.mean(soap(jobs, rate, between_tokens(rank))) * (1 + 1e-12)


# --- algebra and bad input


def test_every_identity_holds_and_a_changed_one_fails():
    for identity in derivation():
        identity.check()
        assert not Identity(identity.name, identity.computed, 2 * identity.stated).holds


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: gittins_index({}, 0), "positive weights"),
        (lambda: gittins_index({0: 1}, 0), "sizes >= 1"),
        (lambda: gittins_index({3: 1}, 3), "from 0 to below 3"),
        (lambda: gittins_index({3: 1}, -1), "from 0 to below 3"),
        (lambda: monotone_hazard_index({1: 1, 3: 1, 5: 1}, 0), "take gittins_index"),
        (lambda: soap(Jobs([1], [2], [1]), 0.5, gittins_rank({1.0: {1: 1}})), "no histogram"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()
