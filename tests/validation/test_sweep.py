"""Crossings, gains and verdicts on made-up curves."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from validation.sweep import Records, crossing, gains

RATES = [round(0.2 * k, 1) for k in range(1, 11)]


@given(slope=st.floats(0.5, 5), at=st.floats(0.25, 1.95), target=st.floats(0.1, 2))
def test_crossing_is_exact_on_exponentials(slope, at, target):
    """On medians that grow exponentially in the rate, the interpolation has no error."""
    medians = [target * math.exp(slope * (rate - at)) for rate in RATES]
    assert crossing(RATES, medians, target) == pytest.approx(at, rel=1e-9)


@given(factor=st.floats(1.05, 1.6), slope=st.floats(1, 5))
def test_a_policy_that_carries_more_by_a_factor_gains_that_factor(factor, slope):
    base = [0.2 * math.exp(slope * rate) for rate in RATES]
    better = [0.2 * math.exp(slope * rate / factor) for rate in RATES]
    theirs, ours = crossing(RATES, base, 0.5), crossing(RATES, better, 0.5)
    assume(math.isfinite(theirs) and math.isfinite(ours))
    assert gains({0: ours}, {0: theirs}) == [pytest.approx(100 * (factor - 1), rel=1e-6)]


def test_a_median_that_never_crosses_has_no_capacity():
    assert math.isnan(crossing([1.0, 2.0], [0.1, 0.2], 0.5))
    assert gains({0: math.nan}, {0: 1.0}) == []


def test_records_are_selected_by_value_and_read_by_seed():
    records = Records(
        [{"seed": s, "rate": r, "policy": "a", "m": r * 10**s} for s in (0, 1) for r in (2.0, 1.0)]
    )
    assert records.by_seed("m") == {0: [(1.0, 1.0), (2.0, 2.0)], 1: [(1.0, 10.0), (2.0, 20.0)]}
    assert records.where(rate=1.0).values("m") == {0: 1.0, 1: 10.0}
    assert records.where(rate=3.0).records == []
    assert records.crossing("m", 15.0).keys() == {0, 1}


def test_a_quantity_is_read_at_the_rate_of_each_seed():
    records = Records([{"seed": s, "rate": r, "m": r * 10**s} for s in (0, 1, 2) for r in (2.0, 1.0)])
    assert records.at("m", {0: 1.25, 1: 1.5, 2: math.nan}) == [pytest.approx(1.25), pytest.approx(15.0)]
