"""Markovian arrivals fitted, scaled, thinned and superposed: their moments, against those asked for and those drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from queueing.map_fitting import fit_intervals, fit_moments, interval_moments
from queueing.markovian_arrivals import MarkovianArrivals

rates = st.floats(0.1, 50.0)
MAP = MarkovianArrivals(
    ((-5.0, 1.0, 0.5), (0.0, -3.0, 1.0), (0.2, 0.0, -1.0)),
    ((3.0, 0.0, 0.5), (0.5, 1.0, 0.5), (0.0, 0.7, 0.1)),
)
MMPP = MarkovianArrivals.mmpp([20.0, 1.0], [[-0.5, 0.5], [0.2, -0.2]])


def mmpp(fast: float, slow: float, out: float, back: float) -> MarkovianArrivals:
    return MarkovianArrivals.mmpp([fast, slow], [[-out, out], [back, -back]])


def moments(process: MarkovianArrivals) -> tuple[float, float, float]:
    return 1 / process.rate, process.interval_cv, process.lag1_correlation


@settings(max_examples=min(25, settings().max_examples))
@given(rates, rates, st.floats(0.05, 5.0), st.floats(0.05, 5.0))
def test_the_fit_has_the_moments_and_is_the_process(a: float, b: float, out: float, back: float) -> None:
    process = mmpp(a, b, out, back)
    assume(process.interval_cv > 1.1 and process.lag1_correlation > 1e-3)
    fast = float(process.stationary[np.argmax([a, b])])
    fitted = fit_moments(*moments(process), fast=fast)
    assert moments(fitted) == pytest.approx(moments(process), rel=1e-6)
    assert np.sort(np.diag(np.array(fitted.d1))) == pytest.approx(np.sort([a, b]), rel=1e-3)
    other = fit_moments(1.1 / process.rate, process.interval_cv, process.lag1_correlation, fast=fast)
    assert moments(other) != pytest.approx(moments(process), rel=1e-6)  # negative control


def test_the_correlation_of_an_mmpp_is_bounded_as_stated() -> None:
    """ρ_1 = γ (1 - 1/cv²)/2 with γ the second eigenvalue of the phase from arrival to arrival; not so for any MAP."""
    for process, holds in ((MMPP, True), (mmpp(9.0, 0.5, 3.0, 1.0), True), (MAP, False)):
        d0, d1 = np.array(process.d0), np.array(process.d1)
        gamma = np.sort(np.abs(np.linalg.eigvals(np.linalg.solve(-d0, d1))))[-2]
        stated = gamma * (1 - process.interval_cv**-2) / 2
        assert (process.lag1_correlation == pytest.approx(stated, rel=1e-9)) == holds


def test_recorded_intervals_are_fitted() -> None:
    """60,000 intervals of a known process: rate, cv and correlation within 6 % (each over six standard errors here)."""
    gaps = np.diff(MMPP.times(60_000, np.random.default_rng(3)))
    fitted = fit_intervals(gaps, fast=float(MMPP.stationary[0]))
    assert moments(fitted) == pytest.approx(interval_moments(gaps), rel=1e-6)
    assert moments(fitted)[:2] == pytest.approx(moments(MMPP)[:2], rel=0.06)
    assert fitted.lag1_correlation == pytest.approx(MMPP.lag1_correlation, abs=0.06)
    shuffled = np.random.default_rng(4).permutation(gaps)  # negative control: order is what correlation sees
    assert abs(interval_moments(shuffled)[2]) < 0.06 < MMPP.lag1_correlation


@pytest.mark.parametrize("process", [MMPP, MAP], ids=["MMPP", "MAP"])
def test_scaling_moves_the_clock_only(process: MarkovianArrivals) -> None:
    fast = process.scaled(4.0)
    assert moments(fast) == pytest.approx((0.25 / process.rate, *moments(process)[1:]))
    more = process.intensified(4.0)
    assert moments(more)[1:] != pytest.approx(moments(process)[1:])  # control: the phase stays slow
    assert np.array(more.d1) == pytest.approx(4 * np.array(process.d1))


def test_thinning_an_mmpp_is_its_intensity_scaled_and_of_a_map_it_is_not() -> None:
    assert np.array(MMPP.thinned(0.3).d0) == pytest.approx(np.array(MMPP.intensified(0.3).d0))
    assert MAP.thinned(0.3).rate == pytest.approx(0.3 * MAP.rate)
    assert MAP.intensified(0.3).rate != pytest.approx(0.3 * MAP.rate, rel=1e-3)


def test_a_thinned_process_is_one_that_loses_arrivals() -> None:
    """40,000 arrivals kept with probability 0.4: mean within 6 % and cv within 6 %, over six standard errors."""
    rng = np.random.default_rng(5)
    t = MMPP.times(100_000, rng)
    kept = np.diff(t[rng.random(len(t)) < 0.4])
    stated = MMPP.thinned(0.4)
    assert interval_moments(kept)[:2] == pytest.approx(moments(stated)[:2], rel=0.06)
    assert interval_moments(kept)[:2] != pytest.approx(moments(MMPP.scaled(0.4))[:2], rel=0.06)  # control


def test_superposition_adds_rates_and_is_the_merged_process() -> None:
    both = MMPP.superposed(MAP)
    assert both.rate == pytest.approx(MMPP.rate + MAP.rate)
    assert len(both.d0) == 6
    streams = np.random.default_rng(6).spawn(2)
    parts = [p.times(80_000, s) for p, s in zip((MMPP, MAP), streams, strict=True)]
    until = min(part[-1] for part in parts)
    merged = np.sort(np.concatenate([part[part < until] for part in parts]))
    assert interval_moments(np.diff(merged))[:2] == pytest.approx(moments(both)[:2], rel=0.06)
    assert math.isclose(both.superposed(both).rate, 2 * both.rate)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0.0, 2.0, 0.1), "a mean of 0.0 s"),
        ((1.0, 0.9, 0.1), "no MMPP of two phases has cv 0.9"),
        ((1.0, 2.0, 0.4), "= 0.375"),
        ((1.0, 2.0, -0.1), "correlation -0.1"),
    ],
)
def test_what_no_mmpp_has_is_refused(arguments: tuple[float, float, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fit_moments(*arguments)


def test_bad_input_is_refused_in_one_sentence() -> None:
    for call in (lambda: MAP.scaled(0.0), lambda: MAP.intensified(math.inf), lambda: MAP.thinned(1.5)):
        with pytest.raises(ValueError, match="give a"):
            call()
    for gaps in ([1.0, 2.0], [1.0, 1.0, 1.0], [1.0, -1.0, 2.0]):
        with pytest.raises(ValueError, match="at least three"):
            interval_moments(gaps)
