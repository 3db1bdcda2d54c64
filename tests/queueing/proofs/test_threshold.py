"""Enclosures of the refill threshold: bounds of logarithms, intervals that hold, shifted ones that are refuted."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueing.models.exclusive_batching import enclosed_threshold, threshold
from queueing.proofs.certificate import Kind, Refuted
from queueing.proofs.threshold import ThresholdEnclosure, log_bounds

numbers = st.fractions(1, 10**6, max_denominator=1000)
kappas = st.fractions(Fraction(1, 10**5), 500, max_denominator=10**5)


# --- logarithms


@given(x=numbers, terms=st.integers(1, 12))
def test_bounds_enclose_the_logarithm_and_tighten(x, terms):
    """Against finer bounds, whose own order is checked, and against floats."""
    (low, high), (finer_low, finer_high) = log_bounds(x, terms), log_bounds(x, terms + 20)
    assert low <= finer_low <= finer_high <= high
    assert math.isclose(finer_low, math.log(x), rel_tol=1e-12)
    assert x == 1 or low < high  # a logarithm of a rational above 1 is irrational


@given(x=numbers)
def test_forty_terms_are_accurate_to_38_digits(x):
    low, high = log_bounds(x, 40)
    assert 0 <= high - low < Fraction(1, 10**36)
    assert high - low <= Fraction(1, 10**38) * (1 + math.floor(math.log2(x)))


@given(x=numbers, y=numbers)
def test_bounds_add_up_as_logarithms_do(x, y):
    (a, b), (c, d), (low, high) = (log_bounds(z, 15) for z in (x, y, x * y))
    assert a + c <= high
    assert low <= b + d


def test_a_bound_without_the_terms_left_out_would_fail():
    """The partial sum itself lies below the logarithm: it is no upper bound."""
    low, _ = log_bounds(Fraction(2), 3)
    assert low < log_bounds(Fraction(2), 30)[0]


# --- certificates


@given(kappa=kappas, digits=st.integers(3, 12))
def test_an_enclosure_holds_and_one_shifted_by_its_width_is_refuted(kappa, digits):
    width = Fraction(1, 10**digits)
    found = enclosed_threshold(kappa, min(width, Fraction(1, 2000)))
    found.check()
    assert found.kind is Kind.RATIONAL
    assert found.high - found.low <= width
    for shift in (found.high - found.low, found.low - found.high):
        low, high = found.low + shift, found.high + shift
        wrong = ThresholdEnclosure(kappa, low, high)
        assert not wrong.holds


@given(kappa=kappas)
def test_the_closed_form_in_floats_lies_in_it(kappa):
    found = enclosed_threshold(kappa, Fraction(1, 10**9))
    assert found.low <= threshold(float(kappa)).stated <= found.high


def test_it_says_which_end_fails():
    assert ThresholdEnclosure(Fraction(1), Fraction(682, 1000), Fraction(683, 1000)).holds
    with pytest.raises(Refuted, match="at the lower end"):
        ThresholdEnclosure(Fraction(1), Fraction(683, 1000), Fraction(684, 1000)).check()
    with pytest.raises(Refuted, match="at the upper end"):
        ThresholdEnclosure(Fraction(1), Fraction(681, 1000), Fraction(682, 1000)).check()


def test_too_few_terms_prove_nothing_false():
    """With one term bounds are wide: a narrow interval is refuted, a wide one holds."""
    narrow = enclosed_threshold(Fraction(1))
    assert not ThresholdEnclosure(narrow.kappa, narrow.low, narrow.high, terms=1).holds
    assert ThresholdEnclosure(Fraction(1), Fraction(1, 2), Fraction(4, 5), terms=1).holds
    assert not ThresholdEnclosure(Fraction(1), Fraction(1, 2), Fraction(4, 5), terms=0).holds


@pytest.mark.parametrize(("low", "high"), [(Fraction(3, 4), Fraction(1, 2)), (Fraction(1, 2), Fraction(1))])
def test_what_is_no_interval_is_refuted(low, high):
    with pytest.raises(Refuted, match="no interval"):
        ThresholdEnclosure(Fraction(1), low, high).check()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: log_bounds(Fraction(1, 2), 5), "x >= 1"),
        (lambda: log_bounds(Fraction(2), 0), "and a term"),
        (lambda: enclosed_threshold(Fraction(1), Fraction(1, 10**30)), "above 1e-15"),
        (lambda: enclosed_threshold(Fraction(500), Fraction(1, 10)), "below 1 - θ0"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()
