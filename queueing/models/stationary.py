"""Stationary laws of finite chains by the elimination of Grassmann, Taksar and Heyman, in floats or in fractions.

States are eliminated one after the other: what enters a state is handed on to where it leads, in proportion, so that
the remaining chain is the original watched on fewer states.  No subtraction occurs, hence no cancellation: each entry
of the law is relatively accurate in floats, and exact in fractions.

Source: Grassmann, Taksar, Heyman, Operations Research 33(5), 1985 (recalled).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from fractions import Fraction
from typing import TypeVar

from queueing.proofs.certificate import Certificate, Kind
from queueing.proofs.claim import Claim
from queueing.proofs.exact_chain import StationaryLaw
from queueing.proofs.identity import Identity

__all__ = ["CLAIMS", "certified_law", "stationary"]

State = TypeVar("State", bound=Hashable)
Number = TypeVar("Number", float, Fraction)


def stationary(transitions: Mapping[State, Mapping[State, Number]]) -> dict[State, Number]:
    """Stationary law of an irreducible chain {state: {next: probability}}, in the numbers it is given in.

    Raises:
        ValueError: the chain is empty, a state leads to one without a row, or the chain is not irreducible.
    """
    if not any(p for row in transitions.values() for p in row.values()):
        raise ValueError("a chain needs at least one state, and a way out of it")
    states = list(transitions)
    rows = {state: {t: p for t, p in row.items() if p} for state, row in transitions.items()}
    into: dict[State, set[State]] = {state: set() for state in states}
    for state, row in rows.items():
        for t in row:
            if t not in rows:
                raise ValueError(f"state {state!r} leads to {t!r}, which has no row")
            into[t].add(state)
    eliminated: list[tuple[State, dict[State, Number], Number]] = []
    waiting = set(states)
    while len(waiting) > 1:
        last = min(waiting, key=lambda s: len(into[s]) * len(rows[s]))  # the one that fills in least
        row = {t: p for t, p in rows[last].items() if t != last}
        if not row:
            raise ValueError(f"state {last!r} leads nowhere else, so the chain is not irreducible")
        out = _total(row)
        entering = {s: rows[s].pop(last) for s in into[last] if s != last}
        for s, p in entering.items():
            for t, q in row.items():
                rows[s][t] = rows[s][t] + p * q / out if t in rows[s] else p * q / out
                into[t].add(s)
        for t in row:
            into[t].discard(last)
        waiting.discard(last)
        eliminated.append((last, entering, out))
    root = waiting.pop()
    one = next(
        p / p for row in transitions.values() for p in row.values() if p
    )  # in the numbers that are given
    weight: dict[State, Number] = {root: one}
    for state, entering, out in reversed(eliminated):
        if not entering:
            raise ValueError(f"state {state!r} is never entered, so the chain is not irreducible")
        weight[state] = _total({s: weight[s] * p for s, p in entering.items()}) / out
    whole = _total(weight)
    return {state: weight[state] / whole for state in states}


def certified_law(transitions: Mapping[State, Mapping[State, Fraction]]) -> StationaryLaw:
    """The stationary law of a chain in fractions, as a certificate."""
    return StationaryLaw(transitions, stationary(transitions))


def _total(values: Mapping[State, Number]) -> Number:
    first, *rest = values.values()
    total = first
    for value in rest:
        total = total + value
    return total


def _queue() -> dict[int, dict[int, Fraction]]:
    """A queue with room for 4: one comes with 1/3 a step, one leaves with 1/2."""
    up, down = Fraction(1, 3), Fraction(1, 2)
    rows: dict[int, dict[int, Fraction]] = {}
    for n in range(5):
        moves = ({n + 1: up} if n < 4 else {}) | ({n - 1: down} if n else {})
        rows[n] = moves | {n: 1 - sum(moves.values(), Fraction(0))}
    return rows


def _geometric() -> list[Certificate]:
    """Each step up the law shrinks by 2/3."""
    found = certified_law(_queue())
    ratios = [
        Identity(f"from {n} to {n + 1}", found.law[n + 1] / found.law[n], Fraction(2, 3)) for n in range(4)
    ]
    return [found, *ratios]


def _unbalanced() -> list[Certificate]:
    """The uniform law; and two queues side by side, of which one is never left."""
    uniform = StationaryLaw(_queue(), dict.fromkeys(range(5), Fraction(1, 5)))
    apart = {n + 5: {m + 5: p for m, p in row.items()} for n, row in _queue().items()}
    return [uniform, StationaryLaw(_queue() | apart, certified_law(_queue()).law)]


CLAIMS = (
    Claim(
        name="stationary-law-of-a-queue",
        statement="The queue with room for 4, arrivals of probability 1/3 and departures of 1/2 a step has one "
        "stationary law, geometric of ratio 2/3.",
        assumptions=("at most one of both in a step",),
        source="classical; Grassmann, Taksar and Heyman 1985 for the elimination (recalled)",
        kind=Kind.EXACT_CHAIN,
        evidence=_geometric,
        controls={"a uniform law, a law that is not the only one": _unbalanced},
        where="docs/models/markov.md",
    ),
)
