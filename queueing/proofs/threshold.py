"""Enclosure of the refill threshold: the root of  θ/(1 - θ) + ln(1 - θ) = κ  lies between two fractions.

The left side F has the slope θ/(1 - θ)² > 0 on (0, 1), so its root is unique, and F(low) <= κ <= F(high) encloses it.
Logarithms are bounded in fractions:  ln x = m·ln 2 + ln(x/2^m)  with  ln r = 2·Σ u^(2i+1)/(2i + 1),
u = (r - 1)/(r + 1), and the terms left out add up to at most  u^(2n+1)/((2n + 1)(1 - u²)), twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from queueing.proofs.certificate import Certificate, Kind, require

__all__ = ["ThresholdEnclosure", "log_bounds"]


@dataclass(frozen=True, slots=True)
class ThresholdEnclosure(Certificate):
    """The root of  θ/(1 - θ) + ln(1 - θ) = κ  lies in [`low`, `high`]; `terms` of the series settle it."""

    kind: ClassVar[Kind] = Kind.RATIONAL
    kappa: Fraction
    low: Fraction
    high: Fraction
    terms: int = 40

    @property
    def claim(self) -> str:
        """κ and both ends."""
        return f"the threshold at κ = {self.kappa} lies in [{self.low}, {self.high}]"

    def check(self) -> None:
        """F(low) <= κ <= F(high), with logarithms rounded to the unfavourable side."""
        require(0 <= self.low <= self.high < 1, f"[{self.low}, {self.high}] is no interval in [0, 1)")
        require(self.terms >= 1, f"{self.terms} terms of the series bound no logarithm")
        below, _ = log_bounds(1 / (1 - self.low), self.terms)
        most = self.low / (1 - self.low) - below
        require(most <= self.kappa, f"at the lower end the left side may be {float(most)}, above κ")
        _, above = log_bounds(1 / (1 - self.high), self.terms)
        least = self.high / (1 - self.high) - above
        require(least >= self.kappa, f"at the upper end the left side may be {float(least)}, below κ")


def log_bounds(x: Fraction, terms: int) -> tuple[Fraction, Fraction]:
    """Fractions below and above ln x, for x >= 1, from so many terms, 10⁻³⁸ apart or less at 40.

    Raises:
        ValueError: x < 1 or no term.
    """
    if x < 1 or terms < 1:
        raise ValueError(f"bounds of ln x need x >= 1 and a term, not {x} and {terms}")
    doublings = (x.numerator // x.denominator).bit_length() - 1
    two, rest = _series(Fraction(2), terms), _series(x / 2**doublings, terms)
    return doublings * two[0] + rest[0], doublings * two[1] + rest[1]


def _series(r: Fraction, terms: int) -> tuple[Fraction, Fraction]:
    """Bounds of ln r, r in [1, 2]."""
    u = (r - 1) / (r + 1)
    power, low = u, Fraction(0)
    for i in range(terms):
        low += 2 * power / (2 * i + 1)
        power *= u * u
    return low, low + 2 * power / ((2 * terms + 1) * (1 - u * u))
