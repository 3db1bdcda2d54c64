"""The fluid of long requests: a differential equation whose right-hand side jumps, and the motion along the jump.

Notation of :mod:`queueing.models.fluid`; outputs are geometric, of hazard h.  With lengths m times longer and
iterations m times shorter, m → ∞, P in units of m tokens:

    dP/dt = λp - q/T,      dD/dt = (q/p - h·x)/T.

Between P = 0 and the limit R on decodes (the tile b, or the places S) the batch is that of a `loaded` node.  At either
bound the scheduler switches from iteration to iteration, and the state slides along it:

* P = 0, `starved`: prompts are served as they come, q = λp·(seconds of a round).  Mixed and alternating batches shrink
  to that q.  Full tiles do not shrink: they take the share λp·T(c)/c of the time, which is Filippov's mixture of
  prefill and decode.  Prompts first always finds a few that came during the last batch: decodes stall until D = S.
* D = R, `full`: q = phR replaces what ends.  Full tiles mix as Filippov says.  Prompts first does not: it never waits
  for a full cap, and takes a batch of prompts after every batch of decodes.

Assumptions: those of the fluid; first n → ∞, then m → ∞.  Full tiles: both together.
Source: A. F. Filippov, Differential Equations with Discontinuous Righthand Sides, 1988; equivalent control: V. Utkin,
1992 (published, recalled).  The motions are our derivation, docs/models/fluid.md.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import numpy as np
import sympy
from scipy.optimize import brentq

from queueing.models.fluid import Alternating, Floats, Fluid, FullTile, MixedBudget, PrefillFirst
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity

__all__ = ["CLAIMS", "Round", "Sliding", "derivation", "drift", "flow", "limit", "stationary"]

Sliding = MixedBudget | FullTile | PrefillFirst | Alternating


class Round(NamedTuple):
    """`prompt` tokens and `decodes` served in so many `seconds`, over one batch or several."""

    prompt: float
    decodes: float
    seconds: float


def limit(discipline: Sliding) -> float:
    """R: decodes at which prompts must wait."""
    match discipline:
        case MixedBudget(budget, places):
            return min(budget, places)
        case FullTile(tile, _):
            return tile
        case PrefillFirst(_, places) | Alternating(_, places):
            return places


def loaded(fluid: Fluid, discipline: Sliding, decoding: float) -> Round:
    """Round while prompts wait and there is room."""
    match discipline:
        case MixedBudget(budget, _):
            if budget == math.inf:
                raise ValueError("without a budget the queue empties in no time; give a finite one")
            q = max(0.0, budget - decoding)
            return Round(q, decoding, fluid.seconds(q + decoding))
        case FullTile(_, q) | PrefillFirst(q, _):
            return Round(q, 0.0, fluid.seconds(q))
        case Alternating(q, _):
            return Round(q, decoding, fluid.seconds(q) + fluid.seconds(decoding))


def starved(fluid: Fluid, discipline: Sliding, decoding: float, q: float) -> Round:
    """Round with q tokens, all that came since the last."""
    match discipline:
        case MixedBudget():
            return Round(q, decoding, fluid.seconds(q + decoding))
        case FullTile(_, chunk):
            return Round(q, decoding, fluid.seconds(decoding) + q * fluid.seconds(chunk) / chunk)
        case PrefillFirst():
            return Round(q, 0.0, fluid.seconds(q))
        case Alternating():
            return Round(q, decoding, fluid.seconds(q) + fluid.seconds(decoding))


def full(fluid: Fluid, discipline: Sliding) -> float:
    """Requests per second at D = R, as many as end: the edge, of mixed batches that with places S/d for S/(d + 1)."""
    if isinstance(discipline, MixedBudget):
        ending = fluid.end * discipline.places
        return ending / fluid.seconds(discipline.places + fluid.prompt * ending)
    return discipline.edge(fluid)


def drift(fluid: Fluid, discipline: Sliding, prompts: float, decoding: float) -> tuple[float, float]:
    """(dP/dt, dD/dt) at P = `prompts` and D = `decoding`, sliding included.

    Raises:
        ValueError: outputs are not geometric, or mixed batches have no budget.
    """
    p, h, most = fluid.prompt, fluid.end, limit(discipline)

    def velocity(r: Round) -> tuple[float, float]:
        return fluid.rate * p - r.prompt / r.seconds, (r.prompt / p - h * r.decodes) / r.seconds

    if decoding > most:
        q, x = discipline.batch(fluid, prompts, decoding, True)
        return velocity(Round(q, x, fluid.seconds(q + x)))
    move = velocity(loaded(fluid, discipline, decoding))
    if prompts <= 0 and move[0] < 0:
        q = _root(
            lambda q: q - fluid.rate * p * starved(fluid, discipline, decoding, q).seconds, fluid.rate * p
        )
        move = 0.0, velocity(starved(fluid, discipline, decoding, q))[1]
    if decoding < most or move[1] <= 0:
        return move
    growth = p * (fluid.rate - full(fluid, discipline))
    return (growth if prompts > 0 else max(0.0, growth)), 0.0


def flow(
    fluid: Fluid,
    discipline: Sliding,
    seconds: float,
    step: float,
    prompts: float = 0.0,
    decoding: float = 0.0,
) -> Floats:
    """Rows (t, P, D) of the solution of :func:`drift`: Euler steps, cut short where P = 0 or D meets the limit."""
    now, most = 0.0, limit(discipline)
    rows = [(now, prompts, decoding)]
    while now < seconds:
        dp, dd = drift(fluid, discipline, prompts, decoding)
        empty = prompts / -dp if dp < 0 < prompts else math.inf
        meets = (most - decoding) / dd if (most - decoding) * dd > 0 else math.inf
        ahead = min(step, empty, meets)
        now += ahead
        prompts = 0.0 if ahead == empty else prompts + ahead * dp
        decoding = most if ahead == meets else decoding + ahead * dd
        rows.append((now, prompts, decoding))
    return np.array(rows)


def stationary(fluid: Fluid, discipline: Sliding) -> float:
    """D at rest, with P = 0.

    Raises:
        ValueError: the load is above the edge, and prompts pile up.
    """
    at = limit(discipline)
    if drift(fluid, discipline, 0.0, at)[1] < 0:
        at = _root(lambda d: -drift(fluid, discipline, 0.0, d)[1], at)
    if (growth := drift(fluid, discipline, 0.0, at)[0]) > 0:
        raise ValueError(f"{growth:.4g} tokens pile up per second; give a rate below the edge")
    return at


def derivation() -> tuple[Identity, ...]:
    """The algebra of sliding in symbols, T(x) = c₀ + δx."""
    p, h, b, c, lam, c0, slope, D, q = sympy.symbols("p h b c lambda c0 delta D q", positive=True)
    share, tile, chunk, decode = sympy.symbols("alpha T_b T_c T_D", positive=True)
    prefill, decoding = (lam * p - c / chunk, c / p / chunk), (lam * p, -h * D / decode)
    mixture = [share * x + (1 - share) * y for x, y in zip(prefill, decoding, strict=True)]
    empty = sympy.solve(mixture[0], share)[0]
    tokens = sympy.solve(q - lam * p * (decode + q * chunk / c), q)[0]  # of a starved round
    round_ = (q / p - h * D) / (decode + q * chunk / c)
    top = [m.subs({D: b, decode: tile}) for m in mixture]
    at_limit = sympy.solve(top[1], share)[0]
    edge = 1 / (p * chunk / c + tile / (h * b))
    batch = sympy.solve(q - lam * p * (c0 + slope * (q + D)), q)[0]
    mixed = lam - h * D / (c0 + slope * (batch + D))
    rest = sympy.solve(mixed, D)[0]
    return (
        Identity("share of prefill at P = 0", empty, lam * p * chunk / c),
        Identity(
            "rounds of full tiles are Filippov's mixture",
            round_.subs(q, tokens),
            mixture[1].subs(share, empty),
        ),
        Identity("growth at D = b", top[0].subs(share, at_limit), p * (lam - edge)),
        Identity("mixed batches at rest", rest, lam * c0 / h / (1 - slope * lam * (p + 1 / h))),
    )


def _root(rising: Any, ahead: float) -> float:
    """Zero of a function that rises from at most 0 at 0; `ahead` is a first guess of a place beyond it."""
    while rising(ahead) < 0:
        ahead *= 2
    return cast(float, brentq(rising, 0.0, ahead, xtol=1e-14)) if ahead else 0.0


def _by_batches() -> tuple[Identity, ...]:
    """Filippov's weights taken for shares of batches, not of time; and prompts that never decode."""
    p, h, b, c, lam, c0, slope, D = sympy.symbols("p h b c lambda c0 delta D", positive=True)
    share, chunk, tile = sympy.symbols("alpha T_c T_b", positive=True)
    prefill, decoding = lam * p - c / chunk, lam * p
    of_batches = (share * chunk * prefill + (1 - share) * tile * decoding) / (
        share * chunk + (1 - share) * tile
    )
    empty = sympy.solve(sympy.numer(sympy.together(of_batches)), share)[0]
    batch = lam * p * (c0 + slope * D) / (1 - lam * p * slope)
    rest = sympy.solve(lam - h * D / (c0 + slope * (batch + D)), D)[0]
    return (
        Identity("share of prefill among batches", empty, lam * p * chunk / c),
        Identity("mixed batches at rest, prompts alone", rest, lam * c0 / h / (1 - slope * lam * p)),
        Identity("edge without the time of prompts", 1 / (p * chunk / c + tile / (h * b)), h * b / tile),
    )


CLAIMS = (
    Claim(
        name="sliding-motion",
        statement="At P = 0 full tiles prefill the share λp·T(c)/c of the time, which is Filippov's mixture; at D = "
        "b prompts grow by p(λ - edge); mixed batches rest at D = λc0/(h(1 - δλ(p + 1/h))).",
        assumptions=("T(x) = c0 + δx, outputs of constant hazard h", "many requests, then long ones"),
        source="our derivation; Filippov 1988 and Utkin 1992 for sliding (published; recalled)",
        kind=Kind.IDENTITY,
        evidence=derivation,
        controls={"shares of batches for shares of time": _by_batches},
        where="docs/models/fluid.md",
    ),
)
