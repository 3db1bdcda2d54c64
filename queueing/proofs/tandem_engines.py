"""A prefill engine that feeds a decode engine, as a random walk: two counts, and a Lyapunov function that falls.

Requests arrive Poisson, both services are exponential, and time is that of the events (uniformised): the counts p of
prompts and d of requests to decode jump by one at most.  Where an engine is empty its service does nothing.

At an empty decode engine a service of prefill only moves a request.  If decode has capacity to spare against prefill, a
linear V falls nevertheless; if it has none, V needs a curve: here eight linear pieces.

Source: Down and Meyn 1997, Dai and Weiss 1996 for V by linear programs (published; recalled); the pieces are ours.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from queueing.proofs.certificate import Certificate, Kind
from queueing.proofs.claim import Claim
from queueing.proofs.drift import Event, Walk, WalkDrift, Wall
from queueing.proofs.identity import Identity
from queueing.proofs.lyapunov import linear_walk_drift, walk_drift

__all__ = ["CLAIMS", "arc", "tandem"]


def tandem(rate: int, prefill: int, decode: int) -> Walk:
    """The walk with these rates of arrival and of both services."""
    total = rate + prefill + decode
    come = Event(Fraction(rate, total), {"p": 1})
    first, second = (
        Event(Fraction(prefill, total), {"p": -1, "d": 1}),
        Event(Fraction(decode, total), {"d": -1}),
    )

    def events(sides: str) -> tuple[Event, ...]:
        served = (
            event if side == "+" else event._replace(jump={})
            for event, side in zip((first, second), sides, strict=True)
        )
        return (come, *served)

    walls = (Wall({"p": 1}, 1), Wall({"d": 1}, 1))
    return Walk(("p", "d"), walls, {sides: events(sides) for sides in ("++", "+-", "-+", "--")})


def arc(count: int) -> list[dict[str, Fraction]]:
    """Slopes on a quarter of a circle around (1, 0), at rational points: a V without sharp kinks."""
    places = [Fraction(k, count - 1) for k in range(count)]
    return [{"p": 1 + (1 - s * s) / (1 + s * s), "d": 2 * s / (1 + s * s)} for s in places]


TIGHT = tandem(22, 39, 39)


def _linear() -> WalkDrift:
    found = walk_drift(tandem(1, 4, 3), 1)
    assert found is not None
    return found


def _curved() -> WalkDrift:
    found = walk_drift(TIGHT, 20, arc(8), Fraction(1, 20))
    assert found is not None
    return found


def _functions() -> list[Certificate]:
    """Both functions, and the program of the best linear V where its dual proves that the rate is 0."""
    best = linear_walk_drift(TIGHT, 1)
    return [_curved(), _linear(), best, Identity("best linear rate", best.value, 0)]


def _altered() -> list[Certificate]:
    """Twice the rate; a smaller set; a steeper piece; the linear V where decode has nothing to spare."""
    found, linear = _curved(), _linear()
    first, *others = found.pieces
    return [
        replace(found, epsilon=2 * found.epsilon),
        replace(found, outside=2),
        replace(found, pieces=({**first, "p": first["p"] + 1}, *others)),
        replace(linear, walk=TIGHT),
    ]


CLAIMS = (
    Claim(
        name="tandem-engines-drift",
        statement="A prefill engine feeding a decode engine at rates 22, 39 and 39 has no linear Lyapunov function, "
        "but one of eight pieces that falls by 1/20 an event in the mean unless p + d < 20; at rates 1, 4 and 3 a "
        "linear one falls everywhere but at 0.",
        assumptions=(
            "Poisson arrivals, exponential services",
            "reaching the set is positive recurrence (Foster; cited)",
        ),
        source="our calculation; Down and Meyn 1997 and Dai and Weiss 1996 for the method (published; recalled)",
        kind=Kind.RATIONAL,
        evidence=_functions,
        controls={"rate, set, piece and walk altered": _altered},
        where="docs/models/stability.md",
    ),
)
