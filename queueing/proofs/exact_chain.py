"""Stationary laws of finite Markov chains, checked in exact fractions.

A law π on a finite set of states is stationary for the transition probabilities P if  π >= 0,  Σ π = 1  and  πP = π.
It is the only one if every state reaches one and the same state that π is positive on: then whatever the start, time
averages tend to π.  All of that is checked; nothing is said about chains that were cut off, unless the cut is part of
the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from queueing.proofs.certificate import Certificate, Kind, require

__all__ = ["StationaryLaw"]

State = Any  # hashable
Transitions = Mapping[State, Mapping[State, Fraction]]


@dataclass(frozen=True, slots=True)
class StationaryLaw(Certificate):
    """`law` is the only stationary law of the chain with these `transitions`: {state: {next: probability}}."""

    kind: ClassVar[Kind] = Kind.EXACT_CHAIN
    transitions: Transitions
    law: Mapping[State, Fraction]

    @property
    def claim(self) -> str:
        """How many states, and how many are visited for ever."""
        visited = sum(1 for p in self.law.values() if p)
        return f"the chain of {len(self.transitions)} states has one stationary law, positive on {visited} of them"

    def mean(self, value: Mapping[State, Fraction]) -> Fraction:
        """Time average of a function of the state."""
        return sum((p * value[state] for state, p in self.law.items() if p), Fraction(0))

    def check(self) -> None:
        """Rows are distributions, the law is balanced, and it is the only one."""
        for state, row in self.transitions.items():
            require(all(p >= 0 for p in row.values()), f"a probability out of {state} is negative")
            require(
                sum(row.values(), Fraction(0)) == 1, f"the probabilities out of {state} do not add up to 1"
            )
            require(
                all(after in self.transitions for after in row), f"{state} leads to a state without a row"
            )
        require(set(self.law) <= set(self.transitions), "the law names a state without a row")
        require(all(p >= 0 for p in self.law.values()), "a probability of the law is negative")
        require(sum(self.law.values(), Fraction(0)) == 1, "the law does not add up to 1")
        after: dict[State, Fraction] = dict.fromkeys(self.transitions, Fraction(0))
        for state, p in self.law.items():
            for reached, step in self.transitions[state].items():
                after[reached] += p * step
        for state, p in after.items():
            require(
                p == self.law.get(state, Fraction(0)),
                f"{state} is entered with {p}, not with its own probability",
            )
        visited = {state for state, p in self.law.items() if p}
        before: dict[State, set[State]] = {state: set() for state in self.transitions}
        for state, row in self.transitions.items():
            for reached, step in row.items():
                if step:
                    before[reached].add(state)
        start = next(iter(visited))
        seen, stack = {start}, [start]
        while stack:
            for state in before[stack.pop()] - seen:
                seen.add(state)
                stack.append(state)
        # a state that reaches one visited state reaches all: visited states never leave, and all reach `start`
        require(
            seen == set(self.transitions),
            "some states never reach the visited ones, so other laws are stationary",
        )
