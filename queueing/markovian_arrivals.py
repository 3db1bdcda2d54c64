"""Markovian arrival processes (MAP): arrivals whose rate follows a finite Markov chain.

The chain is the phase of the process; what arrives is marked on its transitions.  Poisson, Markov-modulated Poisson
(MMPP), interrupted Poisson and phase-type renewal processes are special cases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import connected_components

__all__ = ["MarkovianArrivals"]

Floats = NDArray[np.float64]
Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class MarkovianArrivals:
    """MAP: a Markov chain moves by D0 without and by D1 with an arrival; it starts in its stationary phase.

    With D = D0 + D1 irreducible, pi D = 0, pi 1 = 1, and M = (-D0)^{-1}:
        rate            λ = pi D1 1
        after arrivals  phi = pi D1 / λ, moved by P = M D1
        intervals       E[X] = phi M 1 = 1/λ,  E[X^2] = 2 phi M^2 1,  E[X_0 X_1] = phi M P M 1
    An MMPP is the case D1 = diag(rates).
    Args: d0, d1 = square matrices, 1/s, as nested sequences; off-diagonal of d0 and all of d1 >= 0; rows of d0 + d1 sum
        to 0; d1 not 0.
    Not promised: speed; arrivals are drawn one transition at a time (about half a microsecond each).
    Source: M. F. Neuts, "A versatile Markovian point process", J. Appl. Prob. 16 (1979); Lucantoni, Meier-Hellstern and
        Neuts, Adv. Appl. Prob. 22 (1990).
    """

    d0: Matrix
    d1: Matrix

    def __post_init__(self) -> None:
        for name in ("d0", "d1"):
            object.__setattr__(self, name, _square(name, getattr(self, name)))
        d0, d1 = np.array(self.d0), np.array(self.d1)
        if d0.shape != d1.shape:
            raise ValueError(f"d0 is {d0.shape} and d1 is {d1.shape}; give matrices of one size")
        rates = np.concatenate([(d0 - np.diag(np.diag(d0))).ravel(), d1.ravel()])
        if rates.min() < 0:
            raise ValueError(
                f"{rates.min()} is no transition rate; give d1 >= 0 and d0 >= 0 off the diagonal"
            )
        off = np.abs((d0 + d1).sum(axis=1))
        if (off > 1e-9 * np.abs(d0).max()).any():
            row = int(np.argmax(off))
            raise ValueError(
                f"row {row} of d0 + d1 sums to {(d0 + d1).sum(axis=1)[row]}; make every row sum to 0"
            )
        if not d1.any():
            raise ValueError(
                "d1 is 0, so nothing ever arrives; give some transition with an arrival a positive rate"
            )
        if connected_components(d0 + d1 != 0, directed=True, connection="strong")[0] > 1:
            raise ValueError("some phase cannot be reached from another; give d0 + d1 irreducible")

    @classmethod
    def mmpp(cls, rates: Sequence[float], generator: Sequence[Sequence[float]]) -> MarkovianArrivals:
        """Markov-modulated Poisson process: rate `rates[i]` while a chain with that generator is in phase i, 1/s."""
        d1 = np.diag(np.array(rates, dtype=np.float64))
        q = np.array(generator, dtype=np.float64)
        if q.shape != d1.shape:
            raise ValueError(f"{len(d1)} rates and a generator of shape {q.shape}; give one rate per phase")
        return cls(_square("d0", q - d1), _square("d1", d1))

    @classmethod
    def interrupted_poisson(cls, rate: float, mean_on: float, mean_off: float) -> MarkovianArrivals:
        """Poisson at `rate` (1/s) during exponential on-times, nothing during exponential off-times (means in s)."""
        if not (rate > 0 and 0 < mean_on < math.inf and 0 < mean_off < math.inf):
            raise ValueError(
                f"rate {rate}, mean on-time {mean_on} and mean off-time {mean_off}; give finite numbers > 0"
            )
        return cls.mmpp([rate, 0.0], [[-1 / mean_on, 1 / mean_on], [1 / mean_off, -1 / mean_off]])

    def scaled(self, factor: float) -> MarkovianArrivals:
        """The same process on a clock that runs `factor` times as fast: rate times factor, the same correlations."""
        _require_factor(factor)
        return MarkovianArrivals(
            _square("d0", factor * np.array(self.d0)), _square("d1", factor * np.array(self.d1))
        )

    def intensified(self, factor: float) -> MarkovianArrivals:
        """Arrivals `factor` times as frequent in every phase, the silent moves of the phase as they are.

        D1 times factor, the diagonal of D0 reset; how Multi-Buffer Serving gives a class or a buffer its share.  For an
        MMPP and a factor below 1 this is thinning; otherwise the phase also moves with arrivals, and less often.
        """
        _require_factor(factor)
        d0, d1 = np.array(self.d0), factor * np.array(self.d1)
        silent = d0 - np.diag(np.diag(d0))
        return MarkovianArrivals(
            _square("d0", silent - np.diag((silent + d1).sum(axis=1))), _square("d1", d1)
        )

    def thinned(self, share: float) -> MarkovianArrivals:
        """Each arrival kept with probability `share`, independently: D1 times share, the rest of it silent."""
        if not 0 < share <= 1:
            raise ValueError(f"a share of {share} of the arrivals; give a probability in (0, 1]")
        d0, d1 = np.array(self.d0), np.array(self.d1)
        return MarkovianArrivals(_square("d0", d0 + (1 - share) * d1), _square("d1", share * d1))

    def superposed(self, other: MarkovianArrivals) -> MarkovianArrivals:
        """Both processes at once, independent of each other: D0 and D1 are Kronecker sums, the phases pairs."""
        mine, its = np.eye(len(self.d0)), np.eye(len(other.d0))
        sums = [
            np.kron(np.array(a), its) + np.kron(mine, np.array(b))
            for a, b in ((self.d0, other.d0), (self.d1, other.d1))
        ]
        return MarkovianArrivals(_square("d0", sums[0]), _square("d1", sums[1]))

    @property
    def stationary(self) -> Floats:
        """pi, the stationary distribution of the phase."""
        d = np.array(self.d0) + np.array(self.d1)
        equations = np.vstack([d.T, np.ones(len(d))])
        scale = np.abs(d).max() or 1.0
        equations[:-1] /= scale
        return np.linalg.lstsq(equations, np.append(np.zeros(len(d)), 1.0), rcond=None)[0].clip(0.0)

    @property
    def rate(self) -> float:
        """λ = pi D1 1."""
        return float(self.stationary @ np.array(self.d1).sum(axis=1))

    @property
    def interval_cv(self) -> float:
        """Coefficient of variation of a stationary time between arrivals."""
        return math.sqrt(self._interval_variance()) * self.rate

    @property
    def lag1_correlation(self) -> float:
        """Correlation of consecutive stationary times between arrivals."""
        phi, M, P = self._embedded()
        return float(phi @ M @ P @ M.sum(axis=1) - self.rate**-2) / self._interval_variance()

    def times(self, n: int, rng: np.random.Generator) -> Floats:
        """Simulate transitions until n of them are arrivals; two uniforms per transition, one for the first phase."""
        d0, d1 = np.array(self.d0), np.array(self.d1)
        phases = len(d0)
        hold = -1 / np.diag(d0)  # every phase is left, or has arrivals: irreducible and d1 not 0
        silent = d0 - np.diag(np.diag(d0))
        moves = np.cumsum(np.hstack([silent, d1]) * hold[:, None], axis=1)
        for row, rates in enumerate(np.hstack([silent, d1])):
            moves[row, np.flatnonzero(rates)[-1] :] = np.inf  # the last sum may fall short of 1 by rounding
        hold_list, moves_list = hold.tolist(), moves.tolist()
        phase = min(int(np.searchsorted(np.cumsum(self.stationary), rng.random(), side="right")), phases - 1)
        found: list[float] = []
        t = 0.0
        while len(found) < n:
            for u, v in zip((-np.log1p(-rng.random(1024))).tolist(), rng.random(1024).tolist(), strict=True):
                t += u * hold_list[phase]
                row = moves_list[phase]
                to = 0
                while row[to] <= v:
                    to += 1
                phase = to % phases
                if to >= phases:
                    found.append(t)
        return np.array(found[:n])

    def _embedded(self) -> tuple[Floats, Floats, Floats]:
        """phi, M, P of the class docstring."""
        d1 = np.array(self.d1)
        M = np.linalg.inv(-np.array(self.d0))
        return self.stationary @ d1 / self.rate, M, M @ d1

    def _interval_variance(self) -> float:
        phi, M, _ = self._embedded()
        return float(2 * phi @ M @ M.sum(axis=1)) - self.rate**-2


def _require_factor(factor: float) -> None:
    if not 0 < factor < math.inf:
        raise ValueError(f"a factor of {factor}; give a finite number > 0")


def _square(name: str, values: ArrayLike) -> Matrix:
    """Nested tuples of a square matrix of finite numbers."""
    try:
        given = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        given = np.empty(0)
    n = len(given)
    if given.shape != (n, n) or n == 0 or not np.isfinite(given).all():
        raise ValueError(f"{name} is not a square matrix of finite numbers; give rows of equal length, 1/s")
    return tuple(tuple(float(x) for x in given[i]) for i in range(n))
