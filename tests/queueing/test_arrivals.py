"""Arrival processes: distributions against closed forms, the laws they share, and exact envelopes.

Distributions are tested by the Dvoretzky-Kiefer-Wolfowitz inequality, P(sup |F_n - F| > e) <= 2 exp(-2 n e^2).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import gammainc

from queueing.arrivals import (
    Arrivals,
    Deterministic,
    Gamma,
    MarkovianArrivals,
    OnOff,
    Poisson,
    Ramp,
    SigmaRho,
    Superposed,
    TraceArrivals,
    burstiness,
)

MMPP = MarkovianArrivals.mmpp([0.5, 8.0], [[-0.2, 0.2], [0.4, -0.4]])
MAP = MarkovianArrivals(
    ((-5.0, 1.0, 0.5), (0.0, -3.0, 1.0), (0.2, 0.0, -1.0)),
    ((3.0, 0.0, 0.5), (0.5, 1.0, 0.5), (0.0, 0.7, 0.1)),
)
PROCESSES: list[Arrivals] = [
    Poisson(3.0),
    Gamma(2.0, 0.5),
    Gamma(2.0, 4.0),
    Deterministic(4.0, first=1.0),
    MMPP,
    MAP,
    MarkovianArrivals.interrupted_poisson(5.0, 2.0, 3.0),
    OnOff(Poisson(2.0), 3.0, 1.5),
    Ramp(0.0, 4.0, 10.0),
    Ramp(4.0, 1.0, 10.0),
    Ramp(4.0, 1.0, 10.0, cv=2.0),
    Superposed((Deterministic(1.0), Gamma(2.0, 2.0))),
    SigmaRho(5.0, 2.0, (1.0, 3.0, 0.5, 5.0) * 200),
    TraceArrivals(np.arange(700) / 3),
]
ERROR = 1e-6


def rejected(x: np.ndarray[Any, Any], distribution: Callable[[Any], Any]) -> bool:
    """True if x is no sample of this continuous law, with probability of error at most ERROR."""
    at = distribution(np.sort(x))
    n = len(x)
    gap = max(float((np.arange(1, n + 1) / n - at).max()), float((at - np.arange(n) / n).max()))
    return gap > math.sqrt(math.log(2 / ERROR) / (2 * n))


def exponential(x: Any) -> Any:
    return -np.expm1(-x)


def intervals(process: Arrivals, n: int, seed: int) -> np.ndarray[Any, Any]:
    return np.diff(process.times(n, np.random.default_rng(seed)), prepend=0.0)


# -- what all processes share


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_times_are_a_repeatable_ordered_prefix(process: Arrivals) -> None:
    short, long = (process.times(n, np.random.default_rng(3)) for n in (150, 600))
    assert np.array_equal(long[:150], short)
    assert long.dtype == np.float64
    assert len(long) == 600
    assert long[0] >= 0
    assert (np.diff(long) >= 0).all()
    assert np.isfinite(long).all()
    assert len(process.times(0, np.random.default_rng(3))) == 0
    random = not isinstance(process, Deterministic | SigmaRho | TraceArrivals)
    other = process.times(150, np.random.default_rng(4))
    assert np.array_equal(other, short) != random  # negative control: another seed, other times


@pytest.mark.parametrize(
    ("slow", "fast"),
    [
        (Poisson(0.5), Poisson(2.0)),
        (Gamma(0.5, 2.0), Gamma(2.0, 2.0)),
        (Deterministic(0.5), Deterministic(2.0)),
        (MAP, MarkovianArrivals(4 * np.array(MAP.d0), 4 * np.array(MAP.d1))),  # type: ignore[arg-type]
        (Ramp(0.5, 1.0, 40.0), Ramp(2.0, 4.0, 10.0)),
    ],
    ids=lambda p: type(p).__name__,
)  # fmt: skip
def test_the_rate_only_scales_time(slow: Arrivals, fast: Arrivals) -> None:
    assert fast.rate == pytest.approx(4 * slow.rate)
    one, two = (p.times(300, np.random.default_rng(9)) for p in (slow, fast))
    assert two == pytest.approx(one / 4, rel=1e-12)
    assert two != pytest.approx(one / 5, rel=1e-12)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_rate_is_the_long_run_rate(process: Arrivals) -> None:
    """Blocks of n/20 arrivals last n/(20λ) within 6 standard errors of 20 blocks (Student's t, 19 degrees: 1e-5 each).

    Negative control: a rate 20 % off is rejected wherever the process is random.
    """
    n = 600 if isinstance(process, SigmaRho | TraceArrivals) else 40_000
    t = process.times(n, np.random.default_rng(21))
    t = t[n // 10 :] if isinstance(process, Ramp) else t  # past the ramp
    blocks = np.diff(t[:: (len(t) - 1) // 20])
    per_block = (len(t) - 1) // 20
    error = blocks.std(ddof=1) / math.sqrt(len(blocks))
    expected = per_block / process.rate
    slack = 6 * error + 0.04 * expected * isinstance(process, OnOff | SigmaRho)  # cycles do not divide blocks
    assert abs(blocks.mean() - expected) <= slack + 1e-9
    assert abs(blocks.mean() - 1.2 * expected) > slack


# -- renewal processes


def test_poisson_and_gamma_intervals() -> None:
    """20,000 intervals each, error probability at most 1e-6; a Gamma of cv 1.1 is told from a Poisson process."""
    x = intervals(Poisson(3.0), 20_000, 1)
    assert not rejected(3 * x, exponential)
    assert rejected(3.2 * x, exponential)
    for cv in (0.3, 1.0, 2.5):
        x = intervals(Gamma(2.0, cv), 20_000, 2)
        assert not rejected(x, lambda y, k=cv**-2: gammainc(k, 2.0 * k * y))
    assert rejected(2.0 * intervals(Gamma(2.0, 1.1), 20_000, 2), exponential)


def test_deterministic_is_a_grid() -> None:
    assert Deterministic(4.0, first=2.0).times(3, np.random.default_rng()).tolist() == [2.0, 2.25, 2.5]


# -- MAP


def test_map_closed_forms_of_special_cases() -> None:
    """Poisson, interrupted Poisson, hyperexponential renewal, and alternating intervals have known moments."""
    poisson = MarkovianArrivals(((-3.0,),), ((3.0,),))
    assert (poisson.rate, poisson.interval_cv) == pytest.approx((3.0, 1.0))
    assert poisson.lag1_correlation == pytest.approx(0.0, abs=1e-12)

    rate, on, off = 5.0, 2.0, 3.0
    ipp = MarkovianArrivals.interrupted_poisson(rate, on, off)
    assert ipp.rate == pytest.approx(rate * on / (on + off))
    a, b = 1 / on, 1 / off
    assert ipp.interval_cv**2 == pytest.approx(1 + 2 * rate * a / (a + b) ** 2)  # Kuczura 1973
    assert ipp.lag1_correlation == pytest.approx(0.0, abs=1e-12)

    p, rates = 0.3, (1.0, 6.0)  # hyperexponential renewal: each arrival draws the phase anew
    d1 = tuple(tuple(r * q for q in (p, 1 - p)) for r in rates)
    renewal = MarkovianArrivals(((-1.0, 0.0), (0.0, -6.0)), d1)
    mean, second = (p / rates[0] + (1 - p) / rates[1], 2 * (p / rates[0] ** 2 + (1 - p) / rates[1] ** 2))
    assert renewal.rate == pytest.approx(1 / mean)
    assert renewal.interval_cv**2 == pytest.approx(second / mean**2 - 1)
    assert renewal.lag1_correlation == pytest.approx(0.0, abs=1e-12)

    # phases that alternate deterministically at each arrival: intervals alternate Exp(1), Exp(4)
    swap = MarkovianArrivals(((-1.0, 0.0), (0.0, -4.0)), ((0.0, 1.0), (4.0, 0.0)))
    mean = (1 + 1 / 4) / 2
    variance = (2 + 2 / 16) / 2 - mean**2
    assert swap.rate == pytest.approx(1 / mean)
    assert swap.lag1_correlation == pytest.approx((1 / 4 - mean**2) / variance)
    assert MMPP.lag1_correlation > 0.05 > 0 > swap.lag1_correlation  # negative control: not always 0


@pytest.mark.parametrize("process", [MMPP, MAP], ids=["MMPP", "MAP"])
def test_map_simulation_has_the_stated_moments(process: MarkovianArrivals) -> None:
    """Mean, second moment and lag-1 product of intervals within 5 standard errors over 40 blocks of 2,500 intervals.

    The error probability of each is about 1e-5 (Student's t with 39 degrees).  Negative control: without its
    correlation the MMPP's lag-1 product is rejected.
    """
    x = intervals(process, 100_001, 7)[1:]
    mean, variance = 1 / process.rate, (process.interval_cv / process.rate) ** 2
    product = mean**2 + variance * process.lag1_correlation

    def z(values: np.ndarray[Any, Any], expected: float) -> float:
        blocks = values[: len(values) // 40 * 40].reshape(40, -1).mean(axis=1)
        return float((blocks.mean() - expected) / (blocks.std(ddof=1) / math.sqrt(40)))

    assert abs(z(x, mean)) < 5
    assert abs(z(x**2, mean**2 + variance)) < 5
    assert abs(z(x[1:] * x[:-1], product)) < 5
    if process is MMPP:
        assert abs(z(x[1:] * x[:-1], mean**2)) > 5


def test_map_starts_stationary() -> None:
    """E[N(1)] = λ over 3,000 starts within 5 standard errors (about 6e-7); started in phase 0 it is not."""
    rng = np.random.default_rng(5)
    counts = np.array([(MMPP.times(60, rng) <= 1.0).sum() for _ in range(3000)])
    assert counts.max() < 60
    error = counts.std() / math.sqrt(len(counts))
    assert abs(counts.mean() - MMPP.rate) < 5 * error
    phase_1 = (1 - math.exp(-0.6)) / 0.6  # share of [0, 1] lost by the memory of the start
    from_0 = MMPP.rate - (8.0 - 0.5) * float(MMPP.stationary[1]) * phase_1
    assert abs(counts.mean() - from_0) > 5 * error


# -- on-off and ramp


def test_on_off_is_silent_while_off_and_keeps_the_inner_process() -> None:
    """Even minutes only, as in the VTC workloads: 30 arrivals 2 s apart, a minute of silence, and again."""
    t = OnOff(Deterministic(0.5), on=60.0, off=60.0).times(95, np.random.default_rng())
    assert t.tolist() == [120 * (k // 30) + 2.0 * (k % 30) for k in range(95)]
    inner, on, off = Poisson(2.0), 3.0, 1.5
    t = OnOff(inner, on, off).times(2000, np.random.default_rng(6))
    assert (t % (on + off) <= on + 1e-9).all()
    assert (inner.times(2000, np.random.default_rng(6)) % (on + off) > on + 1e-9).any()  # negative control
    resumed = t - off * np.floor(t / (on + off))
    assert resumed == pytest.approx(inner.times(2000, np.random.default_rng(6)))


@pytest.mark.parametrize(
    "ramp", [Ramp(0.0, 4.0, 500.0), Ramp(8.0, 0.5, 2000.0), Ramp(2.0, 2.0, 10.0)], ids=repr
)
def test_ramp_is_poisson_in_its_own_clock(ramp: Ramp) -> None:
    """Λ of the times is a Poisson process of rate 1 (20,000 intervals, error 1e-6); Λ of a steady process is not."""
    t = ramp.times(20_000, np.random.default_rng(8))
    assert not rejected(np.diff(ramp.expected(t), prepend=0.0), exponential)
    assert ramp.expected(t) == pytest.approx(np.cumsum(np.random.default_rng(8).standard_exponential(20_000)))
    on_ramp = t[t < ramp.duration]
    if ramp.start != ramp.end:
        assert len(on_ramp) > 900
        steady = Poisson((ramp.start + ramp.end) / 2).times(len(on_ramp), np.random.default_rng(8))
        assert rejected(np.diff(ramp.expected(steady[steady < ramp.duration])), exponential)


def test_a_ramp_of_renewals_is_gamma_in_its_own_clock() -> None:
    """Λ of the times has the Gamma intervals drawn for it; the Poisson ramp's are told apart (error 1e-6)."""
    bursty, plain = Ramp(1.0, 4.0, 500.0, cv=2.0), Ramp(1.0, 4.0, 500.0)
    own = np.diff(bursty.expected(bursty.times(20_000, np.random.default_rng(8))), prepend=0.0)
    assert own == pytest.approx(intervals(Gamma(1.0, 2.0), 20_000, 8), abs=1e-6)
    assert rejected(own, exponential)
    assert not rejected(np.diff(plain.expected(plain.times(20_000, np.random.default_rng(8)))), exponential)


def test_superposed_arrivals_are_those_of_the_parts() -> None:
    parts = (Deterministic(1.0), Gamma(2.0, 2.0), Poisson(0.5))
    merged = Superposed(parts).times(2000, np.random.default_rng(5))
    streams = np.random.default_rng(5).spawn(3)
    alone = [part.times(2000, stream) for part, stream in zip(parts, streams, strict=True)]
    assert sum(int((t <= merged[-1]).sum()) for t in alone) == 2000
    assert np.array_equal(np.sort(np.concatenate([t[t <= merged[-1]] for t in alone])), merged)
    assert np.isin(np.arange(100.0), merged).all()  # the steady part is there whole
    assert not np.isin(
        np.arange(100.0), Superposed(parts[1:]).times(2000, np.random.default_rng(5))
    ).any()  # control


# -- envelopes

costs = st.lists(st.integers(1, 20) | st.floats(0.01, 20.0), min_size=1, max_size=12)
rates = st.floats(0.01, 50.0) | st.sampled_from([0.5, 1.0, 3.0, 1 / 3])


def windows(times: list[float], work: list[float], rho: float) -> Fraction:
    """Largest A[s, t] - rho (t - s) over closed windows, by looking at all of them in fractions."""
    t, c = [Fraction(x) for x in times], [Fraction(x) for x in work]
    return max(
        sum(c[k] for k in range(len(t)) if t[i] <= t[k] <= t[j]) - Fraction(rho) * (t[j] - t[i])
        for i in range(len(t))
        for j in range(i, len(t))
    )


@given(costs, st.floats(0.0, 30.0), rates)
def test_sigma_rho_keeps_its_envelope_exactly(work: list[float], extra: float, rho: float) -> None:
    """In exact arithmetic, on every closed window; and no request could have come earlier (by 1 part in 10^9)."""
    sigma = max(work) + extra
    t = SigmaRho(sigma, rho, tuple(work)).times(len(work), np.random.default_rng()).tolist()
    assert windows(t, work, rho) <= Fraction(sigma)
    assert burstiness(t, work, rho) == windows(t, work, rho)
    assert t[0] == 0.0
    for k in range(1, len(t)):
        earlier = [*t[:k], max(t[k - 1], t[k] * (1 - 1e-9))]
        if earlier[-1] < t[k]:  # negative control: the envelope is tight
            assert windows(earlier, work[: k + 1], rho) > Fraction(sigma)


@given(costs, rates, st.lists(st.floats(0.0, 3.0), min_size=12, max_size=12))
def test_burstiness_is_the_largest_window(work: list[float], rho: float, gaps: list[float]) -> None:
    t = np.cumsum(gaps)[: len(work)].tolist()
    assert burstiness(t, work, rho) == windows(t, work, rho)


def test_sigma_rho_bursts_and_then_keeps_the_rate() -> None:
    t = SigmaRho(3.0, 0.5, (1.0,) * 8).times(8, np.random.default_rng())
    assert t.tolist() == [0.0, 0.0, 0.0, 2.0, 4.0, 6.0, 8.0, 10.0]


# -- bad input


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Poisson(0.0), "is 0.0"),
        (lambda: Poisson(math.inf), "is inf"),
        (lambda: Gamma(1.0, -1.0), "is -1.0"),
        (lambda: Gamma(math.nan, 1.0), "is nan"),
        (lambda: Deterministic(1.0, -2.0), "is -2.0"),
        (lambda: OnOff(Poisson(1.0), 0.0, 1.0), "on-time is 0.0"),
        (lambda: OnOff(Poisson(1.0), 1.0, math.inf), "off-time is inf"),
        (lambda: Ramp(1.0, 0.0, 1.0), "at the end is 0.0"),
        (lambda: Ramp(-1.0, 1.0, 1.0), "at the start is -1.0"),
        (lambda: Ramp(1.0, 1.0, 0.0), "duration of the ramp is 0.0"),
        (lambda: Ramp(1.0, 1.0, 1.0, cv=0.0), "variation is 0.0"),
        (lambda: Superposed(()), "nothing to superpose"),
        (lambda: SigmaRho(1.0, 1.0, ()), "no costs"),
        (lambda: SigmaRho(1.0, 1.0, (1.0, 2.0)), "cost 1 is 2.0"),
        (lambda: SigmaRho(1.0, 1.0, (0.0,)), "cost 0 is 0.0"),
        (lambda: SigmaRho(1.0, 0.0, (1.0,)), "rho is 0.0"),
        (lambda: SigmaRho(1.0, 1.0, (1.0,)).times(2, np.random.default_rng()), "there are 1 costs"),
        (lambda: TraceArrivals(np.array([])), "at least one"),
        (lambda: TraceArrivals(np.array([0.0, 2.0, 1.0])), "row 2: 1.0"),
        (lambda: TraceArrivals(np.array([-1.0])), "row 0: -1.0"),
        (lambda: TraceArrivals(np.array([0.0])).times(2, np.random.default_rng()), "1 are recorded"),
        (lambda: MarkovianArrivals(((-1.0, 1.0),), ((0.0, 0.0),)), "d0 is not a square matrix"),
        (lambda: MarkovianArrivals(((-1.0,),), ((math.nan,),)), "d1 is not a square matrix"),
        (lambda: MarkovianArrivals(((-1.0,),), ((1.0, 0.0), (0.0, 1.0))), "one size"),
        (lambda: MarkovianArrivals(((-1.0,),), ((2.0,),)), "sums to 1.0"),
        (lambda: MarkovianArrivals(((1.0,),), ((-1.0,),)), "-1.0 is no transition rate"),
        (lambda: MarkovianArrivals(((-1.0, 1.0), (1.0, -1.0)), ((0.0, 0.0), (0.0, 0.0))), "nothing ever arrives"),
        (lambda: MarkovianArrivals(((-2.0, 1.0), (0.0, -1.0)), ((1.0, 0.0), (0.0, 1.0))), "irreducible"),
        (lambda: MarkovianArrivals.mmpp([1.0], [[-1.0, 1.0], [1.0, -1.0]]), "one rate per phase"),
        (lambda: MarkovianArrivals.interrupted_poisson(1.0, 0.0, 1.0), "on-time 0.0"),
    ],
)  # fmt: skip
def test_bad_processes_are_named_in_one_sentence(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_matrices_may_be_given_as_lists() -> None:
    assert MarkovianArrivals([[-1.0]], [[1.0]]) == MarkovianArrivals(((-1.0,),), ((1.0,),))  # type: ignore[arg-type]
    assert dataclasses.is_dataclass(MMPP)
    assert hash(MMPP) == hash(MarkovianArrivals(MMPP.d0, MMPP.d1))
