"""Two engines, each of which prefills one class of requests and decodes the other's: where not idling is not enough.

Buffers: prompts of the first class wait at engine a (1) and decode at b (2); those of the second wait at b (3) and
decode at a (4).  Both arrive at rate 1; a prompt takes `prompt` seconds, the decodes of a request `decode`, so that the
load of either engine is prompt + decode.  If decodes go first, those of the two classes are never served at the same
time once one buffer of decodes is empty (a virtual station), and 2·decode < 1 is needed as well:

* decode < 1/2: a Lyapunov function, one linear piece for each engine, falls;
* decode > 1/2: a path grows by a factor each time it comes round, at loads below 1.

Source: Rybko and Stolyar 1992 for the network, Dai 1995 for stability by fluid models (published; recalled); both
certificates are our calculation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from queueing.proofs.certificate import Certificate, Kind
from queueing.proofs.claim import Claim
from queueing.proofs.drift import FluidDrift, FluidModel, FluidPath, Leg, Rule
from queueing.proofs.identity import Identity
from queueing.proofs.lyapunov import fluid_drift

__all__ = ["CLAIMS", "ENGINES", "crossed", "divergent"]

ZERO, ONE = Fraction(0), Fraction(1)
ENGINES = (frozenset("14"), frozenset("23"))  # the buffers of each
PROMPT = Fraction(1, 10)  # s


def crossed(prompt: Fraction, decode: Fraction, decode_first: bool = True) -> FluidModel:
    """The fluid model of both engines, which never idle; without `decode_first` in any order of service."""
    effects: dict[str, Mapping[str, Fraction]] = {
        "prefill a": {"1": -ONE, "2": ONE},
        "decode b": {"2": -ONE},
        "prefill b": {"3": -ONE, "4": ONE},
        "decode a": {"4": -ONE},
    }
    rules: list[Rule] = []
    for engine, waiting, decoding in (("a", "1", "4"), ("b", "3", "2")):
        spent = {f"prefill {engine}": prompt, f"decode {engine}": decode}
        rules.append(Rule(f"engine {engine}", spent, ONE))
        rules.append(Rule(f"{engine} does not idle", spent, ONE, "=", frozenset((waiting, decoding))))
        if decode_first:
            first = {f"decode {engine}": decode}
            rules.append(Rule(f"{engine} decodes first", first, ONE, "=", frozenset(decoding)))
    return FluidModel({"1": ONE, "2": ZERO, "3": ONE, "4": ZERO}, effects, tuple(rules))


def divergent(decode: Fraction) -> FluidPath:
    """The path from one unit of prompts at a: they drain, then the decodes they leave at b, while 3 fills; and back."""
    filling = 1 / (1 / PROMPT - 1)  # s until buffer 1 is empty
    left = filling * (1 / PROMPT - 1 / decode)  # in buffer 2 then
    growth = filling + left / (1 / decode - 1)  # what came to buffer 3 meanwhile
    legs: list[Leg] = []
    for scale, one, other in ((ONE, "a", "b"), (growth, "b", "a")):
        busy = {f"prefill {one}": 1 / PROMPT, f"decode {other}": 1 / decode}
        legs.append(Leg(scale * filling, busy))
        legs.append(Leg(scale * (growth - filling), {**busy, f"prefill {one}": ONE}))
    return FluidPath(crossed(PROMPT, decode), {"1": ONE}, tuple(legs), growth**2)


def _falling() -> FluidDrift:
    found, _ = fluid_drift(crossed(PROMPT, Fraction(12, 25), decode_first=False), ENGINES)
    assert found is not None
    return found


def _larger() -> list[Certificate]:
    """The same V where decodes take 3/5 s and go first; falling twice as fast; and with a piece that is too large."""
    found = _falling()
    first, *others = found.pieces
    return [
        replace(found, model=crossed(PROMPT, Fraction(3, 5))),
        replace(found, epsilon=2 * found.epsilon),
        replace(found, pieces=({**first, "2": ONE}, *others)),
    ]


def _growing() -> list[Certificate]:
    path = divergent(Fraction(3, 5))
    return [path, Identity("growth", path.growth, Fraction(9, 4))]


def _shrinking() -> list[Certificate]:
    """Lighter decodes; and the path of the heavy ones where a may serve its prompts no faster than b decodes."""
    path = divergent(Fraction(3, 5))
    slower = replace(path, model=crossed(Fraction(1, 5), Fraction(3, 5)))
    return [divergent(Fraction(9, 20)), slower]


CLAIMS = (
    Claim(
        name="crossed-engines-drift",
        statement="Two engines that prefill one class each and decode the other's (prompts 1/10 s, decodes 12/25 s, "
        "one request a second of each class) are stable in the fluid whatever the order of service, if they do not "
        "idle: V of two pieces falls.",
        assumptions=("fluid model; stability of the network itself by Dai 1995 (cited)",),
        source="Rybko and Stolyar 1992, Dai 1995 (published; recalled); the function is our calculation",
        kind=Kind.RATIONAL,
        evidence=lambda: [_falling()],
        controls={"longer decodes that go first, a larger rate, a larger piece": _larger},
        where="docs/models/stability.md",
    ),
    Claim(
        name="crossed-engines-diverge",
        statement="With decodes of 3/5 s that go first, at a load of 7/10 of either engine, a fluid path multiplies "
        "its start by 9/4 each time it comes round: work conservation is not sufficient in networks with cycles of "
        "priority.",
        assumptions=("fluid model",),
        source="Rybko and Stolyar 1992 (published; recalled); the path is our calculation",
        kind=Kind.RATIONAL,
        evidence=_growing,
        controls={"decodes of 9/20 s, prompts of 1/5 s": _shrinking},
        where="docs/models/stability.md",
    ),
)
