"""Laws of one length, each given by its probabilities on whole numbers of tokens.

Notation: X = the length, F its distribution function, Q its quantile function, q(n) = P(X = n) its probabilities.
Every law is bounded, as the stability theorems ask, so all of its moments are finite sums over q.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

__all__ = [
    "Fixed",
    "Length",
    "LogNormal",
    "Quantiles",
    "TruncatedExponential",
    "UniformTiles",
    "at_least_one",
    "cosine_levels",
    "first_two_moments",
    "invert",
    "rounded_pmf",
    "stratum_levels",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Length(Protocol):
    """Law of one length: `pmf()[n]` is the probability of n tokens, n = 0 .. largest; `pmf()[0]` is 0."""

    def pmf(self) -> Floats:
        """Probabilities by number of tokens."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same number of tokens, >= 1."""

    tokens: int

    def __post_init__(self) -> None:
        at_least_one("the fixed length", self.tokens)

    def pmf(self) -> Floats:
        """All mass on `tokens`."""
        mass = np.zeros(self.tokens + 1)
        mass[-1] = 1.0
        return mass


@dataclass(frozen=True, slots=True)
class UniformTiles:
    """Uniform on whole tiles: b * U{1, ..., k}; mean b(k+1)/2, second moment b^2 (k+1)(2k+1)/6.

    Args: tile = b >= 1 tokens; most = k >= 1 tiles.
    """

    tile: int
    most: int

    def __post_init__(self) -> None:
        at_least_one("the tile", self.tile)
        at_least_one("the largest number of tiles", self.most)

    def pmf(self) -> Floats:
        """1/k on each multiple of the tile."""
        mass = np.zeros(self.tile * self.most + 1)
        mass[self.tile :: self.tile] = 1 / self.most
        return mass


@dataclass(frozen=True, slots=True)
class TruncatedExponential:
    """min(1 + floor(Exp(m)), M): geometric lengths, the mass past M on M.

    With q = exp(-1/m):  P(X > n) = q^n for n < M;  E[X] = (1 - q^M) / (1 - q).
    Args: mean = m > 0, mean in tokens of the exponential (not of X); most = M >= 1 tokens.
    """

    mean: float
    most: int

    def __post_init__(self) -> None:
        if not (self.mean > 0 and math.isfinite(self.mean)):
            raise ValueError(f"the mean of the exponential is {self.mean}; give finite tokens > 0")
        at_least_one("the largest length", self.most)

    def pmf(self) -> Floats:
        """q^(n-1) (1 - q) below M, q^(M-1) on M."""
        above = np.exp(-np.arange(self.most) / self.mean)  # P(X > n), n = 0 .. M-1
        return np.concatenate([[0.0], -np.diff(above, append=0.0)])


@dataclass(frozen=True, slots=True)
class LogNormal:
    """exp(N(ln median, sigma^2)) rounded to whole tokens, conditioned on least <= X <= most.

    Args: median, tokens > 0 of the law before conditioning; sigma > 0; 1 <= least <= most, tokens.
    """

    median: float
    sigma: float
    least: int
    most: int

    def __post_init__(self) -> None:
        if not (
            self.median > 0 and math.isfinite(self.median) and self.sigma > 0 and math.isfinite(self.sigma)
        ):
            raise ValueError(
                f"log-normal with median {self.median} and sigma {self.sigma}; give finite numbers > 0"
            )
        at_least_one("the least length", self.least)
        if not self.least <= self.most:
            raise ValueError(f"lengths from {self.least} to {self.most}; give bounds in ascending order")
        if not self._masses().sum() > 0:
            raise ValueError(f"a log-normal with median {self.median} and sigma {self.sigma} never falls between "
                             f"{self.least} and {self.most}; widen the bounds")  # fmt: skip

    def _masses(self) -> Floats:
        edges = (np.log(np.arange(self.least, self.most + 2) - 0.5) - math.log(self.median)) / self.sigma
        # the smaller tail of each interval, so that far ones keep their digits
        return np.where(
            edges[:-1] > 0, ndtr(-edges[:-1]) - ndtr(-edges[1:]), ndtr(edges[1:]) - ndtr(edges[:-1])
        )

    def pmf(self) -> Floats:
        """Mass of the normal law between ln(n - 1/2) and ln(n + 1/2), divided by the mass within the bounds."""
        mass = self._masses()
        return np.concatenate([np.zeros(self.least), mass / mass.sum()])


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Law with a piecewise linear quantile function through given points, rounded to whole tokens.

    Q(levels[i]) = values[i].  Equal neighbouring values are an atom.
    Args: levels, increasing from 0 to 1; values, tokens >= 1, nondecreasing, as many.
    """

    levels: tuple[float, ...]
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        u, x = self.levels, self.values
        if len(u) != len(x) or len(u) < 2:
            raise ValueError(f"{len(u)} levels and {len(x)} values; give equally many, at least 2")
        if u[0] != 0 or u[-1] != 1 or not all(a < b for a, b in itertools.pairwise(u)):
            raise ValueError(f"the levels run from {u[0]} to {u[-1]}; give increasing levels from 0 to 1")
        at_least_one("the least quantile", x[0])
        if not all(a <= b for a, b in itertools.pairwise(x)):
            raise ValueError(f"the quantiles {x[:5]}... decrease somewhere; give them in ascending order")

    def pmf(self) -> Floats:
        """F(n + 1/2) - F(n - 1/2) of the piecewise linear law."""
        return rounded_pmf(np.array(self.levels), np.array(self.values))


def cosine_levels(n: int) -> tuple[float, ...]:
    """Levels, n of them, from 0 to 1, (1 - cos(pi k/(n-1)))/2: finer towards both ends, where quantiles are steep."""
    levels = (1 - np.cos(np.pi * np.arange(n) / (n - 1))) / 2
    return (0.0, *levels[1:-1].tolist(), 1.0)


def stratum_levels(strata: tuple[float, ...], steps: int) -> tuple[float, ...]:
    """Levels in `steps` equal steps from each stratum's beginning to its end."""
    inner = [np.linspace(a, b, steps, endpoint=False) for a, b in itertools.pairwise(strata)]
    return (*np.concatenate(inner).tolist(), 1.0)


def rounded_pmf(levels: Floats, values: Ints) -> Floats:
    """Probabilities of round(Q(U)) for piecewise linear Q: values are whole, so no atom lies on a half."""
    halves = np.arange(values[0], values[-1]) + 0.5
    below = np.concatenate([[0.0], np.interp(halves, values, levels), [1.0]])
    return np.concatenate([np.zeros(values[0]), np.diff(below)])


def invert(mass: Floats, u: Floats) -> Ints:
    """Lengths drawn from uniforms by inversion of the distribution function."""
    largest = int(np.flatnonzero(mass)[-1])  # the last sum may fall short of 1 by rounding
    return np.minimum(np.searchsorted(np.cumsum(mass), u, side="right"), largest).astype(np.int64)


def first_two_moments(mass: Floats) -> tuple[float, float]:
    """E[X] and E[X^2]."""
    n = np.arange(len(mass), dtype=np.float64)
    return float(mass @ n), float(mass @ n**2)


def at_least_one(what: str, tokens: int) -> None:
    """Raise ValueError unless `tokens` is a whole number from 1 to 10^9."""
    if isinstance(tokens, bool) or not isinstance(tokens, (int, np.integer)) or not 1 <= tokens <= 10**9:
        raise ValueError(f"{what} is {tokens!r}; give a whole number of tokens from 1 to 10^9")
