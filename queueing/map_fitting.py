"""Fit a Markov-modulated Poisson process of two phases to moments and correlation of times between arrivals.

Notation: X time between arrivals, m = E[X], cv = sd(X)/m, ρ_k = correlation of X_0 and X_k.  For every MMPP of two
phases cv >= 1, ρ_k = ρ_1 γ^{k-1} with 0 <= γ < 1, and ρ_1 = γ (1 - 1/cv²)/2: so ρ_1 < (1 - 1/cv²)/2.  Mean, cv and ρ_1
fix γ but leave one of the four rates free, given here by the share of time in the fast phase.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from queueing.markovian_arrivals import MarkovianArrivals

__all__ = ["fit_intervals", "fit_moments", "interval_moments"]

Floats = NDArray[np.float64]
EXACT = 1e-7  # largest relative error of a moment that counts as met


def interval_moments(intervals: ArrayLike) -> tuple[float, float, float]:
    """Mean (s), coefficient of variation and lag-1 correlation of recorded times between arrivals, at least three."""
    x = np.asarray(intervals, np.float64).ravel()
    if len(x) < 3 or not (np.isfinite(x) & (x >= 0)).all() or not x.std() > 0:
        raise ValueError("give at least three finite intervals >= 0 that are not all equal")
    centred = x - x.mean()
    return float(x.mean()), float(x.std() / x.mean()), float((centred[:-1] * centred[1:]).mean() / x.var())


def fit_moments(mean: float, cv: float, lag1: float, *, fast: float = 0.2) -> MarkovianArrivals:
    """Return the MMPP of two phases with this mean (s), cv and lag-1 correlation, and a share `fast` of its time fast.

    Solved by least squares on the logarithms of rates, from several starts; what it returns meets the three to 1e-7.

    Errors: ValueError if no such process exists (cv <= 1, or a correlation outside (0, (1 - 1/cv²)/2)), or if none was
    found with that share: the sentence names the nearest.

    Source: moments of Markovian arrival processes, Lucantoni, Meier-Hellstern and Neuts, Adv. Appl. Prob. 22 (1990).
    The authors of BATCH fit with the KPC-Toolbox.

    Example:
        >>> fitted = fit_moments(0.05, 2.0, 0.2)
        >>> round(fitted.rate, 4), round(fitted.interval_cv, 4), round(fitted.lag1_correlation, 4)
        (20.0, 2.0, 0.2)
    """
    if not (0 < mean < math.inf and 0 < fast < 1):
        raise ValueError(
            f"a mean of {mean} s and a share of {fast}; give finite seconds > 0 and a share in (0, 1)"
        )
    most = (1 - cv**-2) / 2 if cv > 0 else -math.inf
    if not (cv > 1 and 0 < lag1 < most):
        raise ValueError(
            f"no MMPP of two phases has cv {cv:.4g} and lag-1 correlation {lag1:.4g}; "
            f"give cv > 1 and a correlation above 0 and below (1 - 1/cv^2)/2 = {max(most, 0.0):.4g}"
        )

    def process(x: Floats) -> MarkovianArrivals:
        ratio, switching = np.exp(x)  # fast rate over slow less 1; moves of the phase per mean interval
        rates = np.array([1 + ratio, 1.0]) / (fast * ratio + 1)
        away = switching * (1 - fast), switching * fast
        return MarkovianArrivals.mmpp(rates.tolist(), [[-away[0], away[0]], [away[1], -away[1]]])

    def errors(x: Floats) -> Floats:
        found = process(x)
        return np.array([found.interval_cv / cv - 1, found.lag1_correlation / lag1 - 1])

    best = None
    for start in ((2.0, -2.0), (4.0, -4.0), (6.0, -2.0), (8.0, 0.0), (1.0, 0.0)):
        solved = least_squares(
            errors, start, bounds=([-12, -14], [18, 8]), xtol=1e-14, ftol=1e-14, gtol=1e-14
        )
        if best is None or solved.cost < best.cost:
            best = solved
        if np.abs(solved.fun).max() < EXACT:
            break
    assert best is not None
    unit = process(best.x)
    if np.abs(best.fun).max() >= EXACT:
        raise ValueError(
            f"no MMPP that is fast {fast:g} of the time has cv {cv:.4g} and correlation {lag1:.4g}; the nearest are "
            f"{unit.interval_cv:.4g} and {unit.lag1_correlation:.4g}; give these or another share"
        )
    return unit.scaled(1 / (mean * unit.rate))


def fit_intervals(intervals: ArrayLike, *, fast: float = 0.2) -> MarkovianArrivals:
    """Fit recorded times between arrivals (s) by :func:`fit_moments`."""
    return fit_moments(*interval_moments(intervals), fast=fast)
