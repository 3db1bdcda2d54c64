"""Confidence intervals of simulation output: within one run by batch means, across seeds by Student's t.

*Batch means*: the values of one run in order of arrival, cut into k batches of equal length; if the batches are long
compared with the memory of the process, their statistics are nearly independent and normal.  Von Neumann's ratio tests
that independence (Fishman 1978): with batch statistics Y_1 ... Y_k,

    C = 1 - sum (Y_j - Y_{j+1})^2 / (2 sum (Y_j - mean Y)^2)

is, for independent normal Y, about normal with mean 0 and variance (k - 2) / (k^2 - 1); positive correlation raises it.
The confidence level is asymptotic in the length of a batch: the intervals of short or heavily loaded runs cover less
often than they say, and a warm-up left in shifts them.  Independent seeds have no such weakness.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from queueing.metrics.latency import Floats, mean

__all__ = ["Interval", "batch_means", "mser5", "seed_interval", "von_neumann"]

MOST_BATCHES, FEWEST_BATCHES = 64, 8
CORRELATED = 0.1  # p-value of von Neumann's test below which longer batches are tried


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, its confidence interval [low, high] and how it was made; -inf and inf: nothing is known."""

    value: float
    low: float
    high: float
    method: str

    def __post_init__(self) -> None:
        if self.low > self.value or self.value > self.high:
            raise ValueError(
                f"the value {self.value} must lie in [{self.low}, {self.high}]; check the bounds' order"
            )

    def __contains__(self, x: float) -> bool:
        return self.low <= x <= self.high

    @property
    def half_width(self) -> float:
        """Half of the interval's length."""
        return (self.high - self.low) / 2


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, not at {level}; pass 0.95 for 95 %")


def _around(value: float, sample: Floats, level: float, method: str) -> Interval:
    if not (math.isfinite(value) and np.all(np.isfinite(sample))):
        lost = int(np.count_nonzero(~np.isfinite(sample)))
        return Interval(value, -math.inf, math.inf, f"{method}, {lost} of them not finite")
    k = len(sample)
    reach = float(stats.t.ppf((1 + level) / 2, k - 1)) * float(np.std(sample, ddof=1)) / math.sqrt(k)
    return Interval(value, value - reach, value + reach, method)


def seed_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Student's t interval for the mean of one value per seed, exact if the values are independent and normal.

    Compare two policies on common random numbers by the interval of their differences, seed by seed.  If a value is
    infinite (a censored quantile), the interval is the whole line.

    Args:
        values: one number per seed, at least two.
        level: confidence level.
    """
    _check_level(level)
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1 or len(sample) < 2:
        raise ValueError(
            f"an interval needs at least 2 seeds in one row, not shape {sample.shape}; run more seeds"
        )
    return _around(float(np.mean(sample)), sample, level, f"Student t, {len(sample)} seeds")


def von_neumann(batches: ArrayLike) -> float:
    """P-value of "the batches are independent" against positive correlation of neighbours (von Neumann's ratio)."""
    y = np.asarray(batches, dtype=float)
    k = len(y)
    if k < 3:
        raise ValueError(f"von Neumann's ratio needs at least 3 batches, not {k}; cut the run into more")
    spread = float(np.sum((y - y.mean()) ** 2))
    if not spread > 0:
        return 1.0
    c = 1 - float(np.sum(np.diff(y) ** 2)) / (2 * spread)
    return float(stats.norm.sf(c / math.sqrt((k - 2) / (k * k - 1))))


def batch_means(
    values: ArrayLike, statistic: Callable[[Floats], float] = mean, level: float = 0.95
) -> Interval:
    """Interval for a statistic (mean, quantile, ...) of one stationary run, from batches of it.

    The estimate is the statistic of all values, its spread that of the statistic over the batches (*sectioning*).
    64 batches are tried first and halved until von Neumann's test no longer rejects their independence at 10 %, and the
    mean over the batches lies within the interval: the 99th percentile of ten values is their maximum, far from that of
    all.  Where 8 batches still fail, `method` says "correlated" or "biased" and the interval is not to be trusted: read
    `method`.

    Args:
        values: in order of arrival, warm-up already cut; nan entries are left out, the first few may be dropped to make
            the batches equally long.
        statistic: what is estimated; for a quantile `lambda x: quantile(x, 0.99)`.
        level: confidence level.
    """
    _check_level(level)
    array = np.asarray(values, dtype=float)
    array = array[~np.isnan(array)]
    if len(array) < 2 * FEWEST_BATCHES:
        raise ValueError(
            f"batch means need at least {2 * FEWEST_BATCHES} values, not {len(array)}; run for longer"
        )
    k = MOST_BATCHES
    while k > FEWEST_BATCHES and len(array) < 2 * k:
        k //= 2
    while True:
        size = len(array) // k
        used = array[len(array) - k * size :]
        sample = np.array([statistic(batch) for batch in used.reshape(k, size)])
        interval = _around(float(statistic(used)), sample, level, f"batch means, {k} batches")
        flaw = _flaw(sample, interval) if math.isfinite(interval.half_width) else ""
        if not flaw:
            return interval
        if k == FEWEST_BATCHES:
            return replace(interval, method=f"batch means, {k} {flaw} batches")
        k //= 2


def _flaw(batches: Floats, interval: Interval) -> str:
    """What makes batches too short for their interval to be trusted; empty if nothing does."""
    if von_neumann(batches) < CORRELATED:
        return "correlated"
    centre = mean(batches)
    if abs(centre - interval.value) > interval.half_width and not math.isclose(centre, interval.value):
        return "biased"
    return ""


def mser5(series: ArrayLike) -> int:
    """Length of the warm-up to cut from `series`, by the MSER-5 rule (White, Cobb & Spratt 2000).

    With z_1 ... z_m the means of successive groups of 5, cut the d <= m/2 groups that minimise the squared standard
    error of the rest, sum_{j>d} (z_j - mean_{j>d})^2 / (m - d)^2.  A result of half the series means that it is too
    short or not stationary: not promised to be harmless then.
    """
    array = np.asarray(series, dtype=float)
    m = len(array) // 5
    if m < 4:
        raise ValueError(f"MSER-5 needs at least 20 values, not {len(array)}; run for longer")
    if not np.all(np.isfinite(array)):
        raise ValueError("MSER-5 needs finite values; cut the censored end of the run first")
    z = array[: 5 * m].reshape(m, 5).mean(axis=1)
    z = z - z.mean()  # the rule does not depend on the level, the arithmetic does
    left = m - np.arange(m // 2 + 1)
    total, squares = np.cumsum(z[::-1])[::-1], np.cumsum(z[::-1] ** 2)[::-1]
    scatter = squares[: len(left)] - total[: len(left)] ** 2 / left
    return 5 * int(np.argmin(scatter / left**2))
