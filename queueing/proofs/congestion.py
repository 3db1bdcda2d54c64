"""A cycle of a saturated node that evicts on overflow, replayed in whole numbers.

State: how many requests are at stage 1, ..., l; one at stage k holds s + k of the M tokens.  In a step those at stage l
leave, the others go up by one, whole requests of the lowest stages are evicted until the rest fits, and new requests
fill what is free.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from queueing.proofs.certificate import Certificate, Kind, require

__all__ = ["CongestionCycle", "State"]

State = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CongestionCycle(Certificate):
    """`states` follow one another for ever, and `completed` requests leave while they pass once.

    Args: memory M, prompt s (tokens); states, each l numbers, stage 1 first.
    """

    kind: ClassVar[Kind] = Kind.RATIONAL
    memory: int
    prompt: int
    states: tuple[State, ...]
    completed: int

    @property
    def throughput(self) -> Fraction:
        """Requests completed per step."""
        return Fraction(self.completed, len(self.states))

    @property
    def claim(self) -> str:
        """Length and throughput of the cycle."""
        return (
            f"{self.memory} tokens with prompts of {self.prompt}: {len(self.states)} states repeat, "
            f"and {self.throughput} requests are completed per step"
        )

    def check(self) -> None:
        """Each state fits, evicts no more than it must and the newest first, and has no room left for a request."""
        require(bool(self.states), "a cycle has at least one state")
        for t, (before, after) in enumerate(
            zip(self.states, [*self.states[1:], self.states[0]], strict=True)
        ):
            self._check_step(before, after, f"step {t}")
        left = sum(state[-1] for state in self.states)
        require(left == self.completed, f"{left} requests leave in the cycle, not {self.completed}")

    def _check_step(self, before: State, after: State, where: str) -> None:
        require(
            len(before) == len(after) >= 1 and min(after) >= 0,
            f"{where}: stages differ, or a count is negative",
        )
        used = sum((self.prompt + k) * n for k, n in enumerate(after, start=1))
        require(used <= self.memory, f"{where}: {used} tokens do not fit into {self.memory}")
        require(used + self.prompt + 1 > self.memory, f"{where}: another request fits beside {used} tokens")
        evicted = [n - m for n, m in zip(before, after[1:], strict=False)]  # of stages 2, ..., l
        require(all(e >= 0 for e in evicted), f"{where}: more requests at a stage than were one below")
        last = max((i for i, e in enumerate(evicted) if e), default=None)
        if last is not None:
            require(not any(after[1 : last + 1]), f"{where}: one was evicted though a newer one was there")
            kept = used - (self.prompt + 1) * after[0]
            require(kept + self.prompt + last + 2 > self.memory, f"{where}: the last eviction was not needed")
