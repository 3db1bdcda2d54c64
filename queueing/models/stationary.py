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

from queueing.proofs.exact_chain import StationaryLaw

__all__ = ["certified_law", "stationary"]

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
