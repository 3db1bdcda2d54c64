"""The least average cost of a finite semi-Markov decision process, enclosed by a Bellman pair in exact fractions.

In state z an action a costs c(z, a), takes τ(z, a) > 0 and leads to z' with probability P(z' | z, a).  For a function h
of the state and numbers l, u:

    c(z, a) - l·τ(z, a) + Σ P(z' | z, a)·h(z') >= h(z)  for all z, a:  every policy costs at least l per unit of time;
    c(z, π) - u·τ(z, π) + Σ P(z' | z, π)·h(z') <= h(z)  for all z:     the policy π costs at most u.

Either follows by adding up along the path: h is bounded on finitely many states, so it vanishes in the average.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple

from queueing.proofs.certificate import Certificate, Kind, require

__all__ = ["BellmanPair", "Step"]

State = Any  # hashable
Action = Any  # hashable


class Step(NamedTuple):
    """What an action does: its `cost`, its `duration`, and the probability of each `next` state."""

    cost: Fraction
    duration: Fraction
    next: Mapping[State, Fraction]


@dataclass(frozen=True, slots=True)
class BellmanPair(Certificate):
    """The least cost per unit of time over all policies is in [`lower`, `upper`], and `policy` attains `upper` at most.

    `process`: {state: {action: step}}; `values`: h; `policy`: {state: action}.
    """

    kind: ClassVar[Kind] = Kind.RATIONAL
    process: Mapping[State, Mapping[Action, Step]]
    values: Mapping[State, Fraction]
    policy: Mapping[State, Action]
    lower: Fraction
    upper: Fraction

    @property
    def claim(self) -> str:
        """The enclosure, and how large the process is."""
        actions = sum(len(steps) for steps in self.process.values())
        return (
            f"over all policies of {len(self.process)} states and {actions} actions the least cost per unit of time"
            f" is between {float(self.lower):.9g} and {float(self.upper):.9g}"
        )

    def check(self) -> None:
        """Steps are well formed, and both inequalities hold wherever they must."""
        h = self.values
        numbers = [self.lower, self.upper, *h.values()]
        for steps in self.process.values():
            for step in steps.values():
                numbers += [step.cost, step.duration, *step.next.values()]
        require(
            all(isinstance(x, int | Fraction) for x in numbers),
            "a number is no fraction, so nothing is exact",
        )
        require(bool(self.process) and set(self.process) <= set(h), "there is no state, or one has no value")
        require(self.lower <= self.upper, "the lower bound is above the upper one")
        for state, steps in self.process.items():
            require(
                state in h and self.policy.get(state) in steps,
                f"{state} has no value, or no action of the policy",
            )
            for action, step in steps.items():
                require(step.duration > 0, f"action {action} in {state} takes no time")
                require(
                    all(p >= 0 and after in self.process for after, p in step.next.items())
                    and sum(step.next.values(), Fraction(0)) == 1,
                    f"action {action} in {state} leads nowhere, or not with probability 1",
                )
                ahead = (
                    step.cost + sum((p * h[after] for after, p in step.next.items()), Fraction(0)) - h[state]
                )
                require(
                    ahead >= self.lower * step.duration,
                    f"action {action} in {state} costs less than the bound",
                )
                if action == self.policy[state]:
                    require(
                        ahead <= self.upper * step.duration,
                        f"the policy costs more in {state} than its bound",
                    )
