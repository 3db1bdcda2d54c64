"""Identities: two expressions are equal for all values of their symbols, shown by symbolic simplification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import sympy

from queueing.proofs.certificate import Certificate, Kind, require

__all__ = ["Identity"]


@dataclass(frozen=True, slots=True)
class Identity(Certificate):
    """`computed` = `stated`, as expressions.

    Args:
        name: what the identity says, in words.
        computed: the expression that the derivation ends with.
        stated: the expression in the source.

    Example:
        >>> n = sympy.Symbol("n", integer=True, positive=True)
        >>> k = sympy.Symbol("k", integer=True)
        >>> Identity("sum of the first n numbers", sympy.summation(k, (k, 1, n)), n * (n + 1) / 2).holds
        True
        >>> Identity("a wrong one", sympy.summation(k, (k, 1, n)), n * n / 2).holds
        False
    """

    kind: ClassVar[Kind] = Kind.IDENTITY
    name: str
    computed: Any  # sympy.Expr, which ships no type hints
    stated: Any

    @property
    def claim(self) -> str:
        """Name and both sides."""
        return f"{self.name}: {self.computed} = {self.stated}"

    def check(self) -> None:
        """Simplify the difference of both sides to zero.

        Raises:
            Refuted: what is left of the difference is not zero.
        """
        left = sympy.simplify(sympy.sympify(self.computed) - sympy.sympify(self.stated))
        require(left == 0, f"{self.name}: computed - stated = {left}, not 0")
