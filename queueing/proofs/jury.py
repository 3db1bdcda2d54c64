"""Zeros inside a circle, counted in exact fractions: the test of Schur, Cohn and Jury, run backwards as a check.

A polynomial that starts with zⁿ is built up from reflection coefficients k₁, ..., kₙ by

    p₀ = 1,    p_j(z) = z·p_(j-1)(z) + k_j·p*_(j-1)(z),    p*(z) = z^deg·p(1/z)  (coefficients in reverse).

On the unit circle |p| = |p*|, so that by Rouché's theorem the larger of the two terms decides how many zeros of p_j lie
inside: one more than of p_(j-1) if |k_j| < 1; as many as p_(j-1) has *outside* if |k_j| > 1.  Neither leaves a zero on
the circle.  So the k_j prove the count, and all zeros lie inside exactly if every |k_j| < 1.

Source: Schur (1917), Cohn (1922), Jury (1964), in Levinson's order; recalled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from queueing.proofs.certificate import Certificate, Kind, require

__all__ = ["ZerosInDisc", "count_zeros"]


@dataclass(frozen=True, slots=True)
class ZerosInDisc(Certificate):
    """How many zeros of a polynomial have modulus below `radius`, none being on that circle.

    Args:
        coefficients: c₀, ..., cₙ of  c₀·zⁿ + ... + cₙ,  highest power first, c₀ not 0.
        radius: r > 0.
        reflections: k₁, ..., kₙ of p(r·z)/(c₀·rⁿ).

    Example:
        >>> count_zeros((2, -3, 1), Fraction(3, 4)).claim  # zeros 1/2 and 1
        'of the 2 zeros 1 have modulus below 3/4 and 1 above'
    """

    kind: ClassVar[Kind] = Kind.RATIONAL
    coefficients: tuple[Fraction, ...]
    radius: Fraction
    reflections: tuple[Fraction, ...]

    @property
    def inside(self) -> int:
        """Zeros of modulus below the radius, with multiplicity."""
        inside = 0
        for degree, k in enumerate(self.reflections):
            inside = inside + 1 if abs(k) < 1 else degree - inside
        return inside

    @property
    def outside(self) -> int:
        """Zeros of modulus above the radius, with multiplicity."""
        return len(self.reflections) - self.inside

    @property
    def stable(self) -> bool:
        """Whether all zeros lie inside: a linear recursion with this polynomial dies out faster than radiusⁿ."""
        return self.outside == 0

    @property
    def claim(self) -> str:
        """Both counts."""
        n = len(self.coefficients) - 1
        return f"of the {n} zeros {self.inside} have modulus below {self.radius} and {self.outside} above"

    def check(self) -> None:
        """Build the polynomial up from its reflections, none of modulus 1."""
        require(self.radius > 0, f"the radius {self.radius} is not positive")
        require(self.coefficients[0] != 0, "the first coefficient is 0")
        require(
            len(self.reflections) == len(self.coefficients) - 1,
            "a reflection is missing, or there is one too many",
        )
        built = [Fraction(1)]
        for k in self.reflections:
            require(abs(k) != 1, f"reflection {k} has modulus 1 and decides nothing")
            built = [a + k * b for a, b in zip([*built, 0], [0, *reversed(built)], strict=True)]
        for i, (a, c) in enumerate(zip(built, self.coefficients, strict=True)):
            stated = c / (self.coefficients[0] * self.radius**i)
            require(a == stated, f"the reflections give {a} for the coefficient {stated} at place {i}")


def count_zeros(coefficients: Sequence[Fraction | int], radius: Fraction | int = 1) -> ZerosInDisc:
    """Find the reflections of a polynomial, highest power first, and with them its zeros inside |z| = r.

    Raises:
        ValueError: the first coefficient is 0; the radius is not positive; or a reflection has modulus 1, as when a
            zero lies on the circle or two zeros mirror each other in it.
    """
    exact, r = tuple(Fraction(c) for c in coefficients), Fraction(radius)
    if not exact or exact[0] == 0 or r <= 0:
        raise ValueError(
            f"give coefficients from the highest power, the first not 0, and a radius > 0; not {exact}, {r}"
        )
    left, reflections = [c / (exact[0] * r**i) for i, c in enumerate(exact)], list[Fraction]()
    while len(left) > 1:
        k = left[-1]
        if abs(k) == 1:
            raise ValueError(f"a zero may lie on the circle of radius {r}; take another radius")
        reflections.append(k)
        left = [(a - k * b) / (1 - k * k) for a, b in zip(left, reversed(left), strict=True)][:-1]
    return ZerosInDisc(exact, r, tuple(reversed(reflections)))
