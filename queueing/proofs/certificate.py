"""What a certificate is: evidence with a checker of its own.

| kind | what `check()` does |
|---|---|
| `kernel` | has Coq's kernel accept the proof, no axioms |
| `solver` | has two independent SMT solvers agree |
| `rational` | evaluates inequalities in exact fractions |
| `identity` | simplifies a difference to zero, symbolically |
| `exact-chain` | balances a finite Markov chain in exact fractions |
| `tested` | runs a property test within its budget |
| `measured` | compares with a measurement |
| `cited` | nothing: somebody else's theorem, with its assumptions |
| `open` | nothing: nobody's theorem yet |

Only the first five are proofs; a numeric check never poses as one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import ClassVar

__all__ = ["PROOFS", "Certificate", "Kind", "Refuted", "Unchecked"]


class Kind(StrEnum):
    """How a claim is known; shown wherever the claim is."""

    KERNEL = "kernel"
    SOLVER = "solver"
    RATIONAL = "rational"
    IDENTITY = "identity"
    EXACT_CHAIN = "exact-chain"
    TESTED = "tested"
    MEASURED = "measured"
    CITED = "cited"
    OPEN = "open"


PROOFS = frozenset({Kind.KERNEL, Kind.SOLVER, Kind.RATIONAL, Kind.IDENTITY, Kind.EXACT_CHAIN})


class Refuted(AssertionError):
    """A certificate does not prove what it claims; the message says where it fails."""


class Unchecked(RuntimeError):
    """A certificate could not be checked: a prover is missing, gave up or ran out of time.  It proves nothing."""


class Certificate(ABC):
    """Evidence for one claim.

    `check()` returns if the evidence proves the claim, and raises :class:`Refuted` otherwise.  It never calls the code
    that produced the evidence.
    """

    __slots__ = ()
    kind: ClassVar[Kind]

    @property
    @abstractmethod
    def claim(self) -> str:
        """What is proved, in one sentence."""

    @abstractmethod
    def check(self) -> None:
        """Verify the evidence again.

        Raises:
            Refuted: it does not prove the claim.
        """

    @property
    def holds(self) -> bool:
        """Whether `check()` passes."""
        try:
            self.check()
        except Refuted:
            return False
        return True


def require(condition: bool, sentence: str) -> None:
    """Raise :class:`Refuted` with `sentence` unless `condition` holds."""
    if not condition:
        raise Refuted(sentence)
