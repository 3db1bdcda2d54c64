"""The fluid model of each scheduler: batches of masses instead of requests, the path they give, and their edge.

Notation.  λ requests per second with p prompt tokens each; h_a = P(output = a + 1 | output > a) and d the mean output;
T(x) seconds of an iteration of x tokens, T(0) its limit from above.  P prompt tokens wait, D_a requests that have a
output tokens decode.  A batch of q prompt tokens and x of the D = Σ D_a decodes takes T = T(q + x) and moves

    P ← P + λpT - q,      D_(a+1) ← x/D·(1 - h_a)·D_a + (1 - x/D)·D_(a+1),      D_0 ← q/p + (1 - x/D)·D_0 .

*Many requests.*  At λn, budgets and places n times as large and T(x/n), state/n tends to this recursion as n → ∞: what
arrives or ends in an iteration is a sum of O(n) independent terms (law of large numbers), and a batch depends
continuously on state/n along the path.  Where it does not, see docs/models/fluid.md.

*Long requests.*  If lengths are m times longer too, and iterations m times shorter (:meth:`Fluid.refined`), the
recursion tends to the differential equation of :mod:`queueing.models.sliding`.

Assumptions: memory is reserved by places and never binds; prompts of one length; outputs i.i.d.; the last chunk of a
prompt emits no token (where it does, the output is one shorter); no attention.
Source: fluid limits, Dai, Ann. Appl. Probab. 5, 1995 (published, recalled); these models and edges, our derivation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

import numpy as np
import sympy
from numpy.typing import NDArray

from queueing.models.closed_form import ClosedForm
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity

__all__ = [
    "CLAIMS",
    "Alternating",
    "Discipline",
    "Fluid",
    "FullTile",
    "MixedBudget",
    "Path",
    "PrefillFirst",
    "UntilEmpty",
    "derivation",
    "edge",
    "path",
]

Floats = NDArray[np.float64]
DUST = 1e-9  # mass below which rounding, not the discipline, says that something is there


@dataclass(frozen=True, slots=True)
class Fluid:
    """What is served: `rate` λ (1/s), `prompt` p (tokens), `hazard` h of the output, `seconds` T of x tokens.

    The last number of `hazard` holds from its age on: (h,) is the geometric law of mean 1/h, (0, 0, 1) three tokens.

    Raises:
        ValueError: a rate below 0, no prompt, or hazards that are no probabilities or let an output go on for ever.

    Example:
        >>> Fluid(1.0, 10.0, (0.0, 0.5), lambda x: 1 + x).output
        3.0
    """

    rate: float
    prompt: float
    hazard: tuple[float, ...]
    seconds: Callable[[float], float]

    def __post_init__(self) -> None:
        if self.rate < 0 or not self.prompt > 0:
            raise ValueError(f"give a rate >= 0 and prompts > 0 tokens, not {self.rate} and {self.prompt}")
        if not self.hazard or not all(0 <= h <= 1 for h in self.hazard) or self.hazard[-1] == 0:
            raise ValueError(f"hazards are probabilities, the last of them above 0, not {self.hazard}")

    @property
    def survival(self) -> Floats:
        """P(output > a) for every age of `hazard`."""
        return np.array([math.prod(1 - h for h in self.hazard[:a]) for a in range(len(self.hazard))])

    @property
    def output(self) -> float:
        """Mean output d (tokens)."""
        return float(self.survival[:-1].sum() + self.survival[-1] / self.hazard[-1])

    @property
    def end(self) -> float:
        """The one hazard of geometric outputs.

        Raises:
            ValueError: outputs are of another law.
        """
        *others, last = self.hazard
        if others:
            raise ValueError(f"this needs geometric outputs, one hazard instead of {len(self.hazard)}")
        return last

    def refined(self, m: float) -> Fluid:
        """Lengths m times longer, iterations m times shorter; geometric outputs."""
        return Fluid(self.rate, m * self.prompt, (self.end / m,), lambda x: self.seconds(x) / m)


class Discipline(Protocol):
    """A scheduler on masses."""

    def batch(self, fluid: Fluid, prompts: float, decoding: float, turn: bool) -> tuple[float, float]:
        """Prompt tokens q and decodes x of the next batch; `turn`: the last one held no prompt."""
        ...

    def edge(self, fluid: Fluid) -> float:
        """Requests per second while prompts always wait."""
        ...


class _Bounds:
    __slots__ = ()

    def __post_init__(self) -> None:
        for field in fields(self):  # pyright: ignore[reportArgumentType]  # a mixin of dataclasses
            if not getattr(self, field.name) > 0:
                raise ValueError(f"{type(self).__name__} needs {field.name} above 0; give more")


@dataclass(frozen=True, slots=True)
class MixedBudget(_Bounds):
    """Sarathi: every decode, and prompts in what the `budget` B leaves and in free `places` S.  Orca: B = ∞."""

    budget: float = math.inf
    places: float = math.inf

    def batch(self, fluid: Fluid, prompts: float, decoding: float, turn: bool) -> tuple[float, float]:
        """All decodes, and what may go with them."""
        room = min(self.budget - decoding, fluid.prompt * (self.places - decoding))
        return max(0.0, min(prompts, room)), decoding

    def edge(self, fluid: Fluid) -> float:
        """θ/T(θ(p + d)),  θ = min(B/(p + d), S/(d + 1)) requests an iteration; affine: 1/(δ(p + d) + c₀/θ)."""
        if math.inf == self.budget == self.places:
            raise ValueError("nothing bounds the batch; give a budget or places")
        tokens = fluid.prompt + fluid.output
        joining = min(self.budget / tokens, self.places / (fluid.output + 1))
        return joining / fluid.seconds(joining * tokens)


@dataclass(frozen=True, slots=True)
class FullTile(_Bounds):
    """RAD: `chunk` prompt tokens, unless there are fewer or `tile` b decodes; else up to b decodes."""

    tile: float
    chunk: float

    def batch(self, fluid: Fluid, prompts: float, decoding: float, turn: bool) -> tuple[float, float]:
        """A whole chunk, or decodes."""
        if decoding < self.tile and prompts >= self.chunk:
            return self.chunk, 0.0
        return 0.0, min(decoding, self.tile)

    def edge(self, fluid: Fluid) -> float:
        """1/(p·T(c)/c + d·T(b)/b)."""
        prefill = fluid.prompt * fluid.seconds(self.chunk) / self.chunk
        return 1 / (prefill + fluid.output * fluid.seconds(self.tile) / self.tile)


@dataclass(frozen=True, slots=True)
class PrefillFirst(_Bounds):
    """vLLM: up to `cap` prompt tokens alone while any wait and one of `places` S is free; else all decodes."""

    cap: float
    places: float

    def batch(self, fluid: Fluid, prompts: float, decoding: float, turn: bool) -> tuple[float, float]:
        """Prompts, or else decodes."""
        q = min(prompts, self.cap, fluid.prompt * (self.places - decoding))
        return (q, 0.0) if q > DUST * fluid.prompt * self.places else (0.0, decoding)

    def edge(self, fluid: Fluid) -> float:
        """hS/(T(S) + T(phS)), geometric outputs; phS > cap is prefilled in caps and the rest."""
        ending = fluid.end * self.places
        q = fluid.prompt * ending
        caps = max(0, math.ceil(q / self.cap - DUST) - 1)
        prefill = caps * fluid.seconds(self.cap) + fluid.seconds(q - caps * self.cap)
        return ending / (fluid.seconds(self.places) + prefill)


@dataclass(frozen=True, slots=True)
class Alternating(_Bounds):
    """ChunkOnly: a batch of up to `budget` B prompt tokens and one of all decodes in turn, within `places` S."""

    budget: float
    places: float

    def batch(self, fluid: Fluid, prompts: float, decoding: float, turn: bool) -> tuple[float, float]:
        """Prompts if it is their turn and any may start, or else decodes."""
        q = min(prompts, self.budget, fluid.prompt * (self.places - decoding))
        prefill = (turn or decoding == 0) and q > DUST * fluid.prompt * self.places
        return (q, 0.0) if prefill else (0.0, decoding)

    def edge(self, fluid: Fluid) -> float:
        """θ/(T(pθ) + T(θ/h)),  θ = min(B/p, hS) requests a round, geometric outputs."""
        joining = min(self.budget / fluid.prompt, fluid.end * self.places)
        return joining / (fluid.seconds(joining * fluid.prompt) + fluid.seconds(joining / fluid.end))


@dataclass(frozen=True, slots=True)
class UntilEmpty(_Bounds):
    """FasterTransformer: up to `places` S prompts, then decodes until none is left; outputs of bounded length."""

    places: float

    def batch(self, fluid: Fluid, prompts: float, decoding: float, turn: bool) -> tuple[float, float]:
        """Decodes while there are any."""
        return (0.0, decoding) if decoding > 0 else (min(prompts, fluid.prompt * self.places), 0.0)

    def edge(self, fluid: Fluid) -> float:
        """S/(T(pS) + Σ_a T(S·P(output > a))).

        Raises:
            ValueError: outputs have no longest, and the fluid never empties; with S places the cycle grows like log S.
        """
        if fluid.hazard[-1] < 1:
            raise ValueError("outputs have no longest and the batch never empties; give a last hazard of 1")
        decoding = sum(fluid.seconds(self.places * s) for s in fluid.survival.tolist())
        return self.places / (fluid.seconds(fluid.prompt * self.places) + decoding)


class Path(NamedTuple):
    """At each `start` of an iteration (s): `prompts` P (tokens), `decoding` D and all `finished` so far (requests)."""

    start: Floats
    prompts: Floats
    decoding: Floats
    finished: Floats


def path(
    fluid: Fluid,
    discipline: Discipline,
    iterations: int,
    prompts: float = 0.0,
    decoding: Sequence[float] = (),
) -> Path:
    """The recursion from P `prompts` and D_a `decoding`, one number for each hazard, none at first if left out.

    Raises:
        ValueError: `decoding` has another length, or a mass is negative.
    """
    h = np.array(fluid.hazard)
    ages = np.array(decoding, float) if len(decoding) else np.zeros(len(h))
    if ages.shape != h.shape or min(prompts, *ages) < 0:
        raise ValueError(f"give prompts >= 0 and a mass >= 0 for each of {len(h)} hazards, not {decoding}")
    now, finished, turn = 0.0, 0.0, True
    rows: list[tuple[float, float, float, float]] = []
    for _ in range(iterations):
        total = float(ages.sum())
        rows.append((now, prompts, total, finished))
        q, x = discipline.batch(fluid, prompts, total, turn)
        seconds, served = fluid.seconds(q + x), ages * (x / total if total else 0.0)
        staying = served * (1 - h)
        ages -= served
        ages[1:] += staying[:-1]
        ages[-1] += staying[-1]  # beyond the last age the hazard stays: nobody is there if it is 1
        ages[0] += q / fluid.prompt
        finished += float((served * h).sum())
        prompts += fluid.rate * fluid.prompt * seconds - q
        now, turn = now + seconds, q == 0
    return Path(*np.array(rows).reshape(-1, 4).T)


def edge(fluid: Fluid, discipline: Discipline, iterations: int = 4000) -> ClosedForm[float]:
    """Requests per second that the discipline serves while prompts always wait; no load above it is carried.

    Computed: slope of what is finished along :func:`path` with endless prompts, from its second half on.
    """
    stated, half = discipline.edge(fluid), iterations // 2
    run = path(fluid, discipline, iterations, math.inf)
    slope = np.polyfit(run.start[half:], run.finished[half:], 1)[0]
    return ClosedForm(float(slope), stated)


def derivation() -> tuple[Identity, ...]:
    """The algebra of the edges in symbols, T(x) = c₀ + δx where it matters, and of their order."""
    p, d, B, S, c, b, mu, c0, slope, k = sympy.symbols("p d B S c b mu c0 delta k", positive=True)
    chunk, tile, share, theta = sympy.symbols("T_c T_b alpha theta", positive=True)
    budget = sympy.solve(theta * p + theta * d - B, theta)[0]
    places = sympy.solve(theta * d + theta - S, theta)[0]
    mixed = theta / (c0 + slope * theta * (p + d))
    rad = sympy.solve([share * c / chunk - mu * p, (1 - share) * b / tile - mu * d], [share, mu])[mu]
    affine = {chunk: c0 + slope * c, tile: c0 + slope * b}
    prefill_first = (S / d) / ((c0 + slope * S) + (k * c0 + slope * p * S / d))  # k batches of prompts
    return (
        Identity("requests joining an iteration, budget binding", budget, B / (p + d)),
        Identity("places binding", places, S / (d + 1)),
        Identity("mixed batches", mixed, 1 / (slope * (p + d) + c0 / theta)),
        Identity("full tiles", rad, 1 / (p * chunk / c + d * tile / b)),
        Identity("full tiles, affine", 1 / rad.subs(affine), slope * (p + d) + c0 * (p / c + d / b)),
        Identity("prompts first, affine", 1 / prefill_first, slope * (p + d) + c0 * (1 + k) * d / S),
    )


def _wrong_edges() -> tuple[Identity, ...]:
    """No place while prefilled; prefill at no cost beside full tiles; prompts and decodes of vLLM in one batch."""
    p, d, S, c, b, mu, c0, slope, k = sympy.symbols("p d S c b mu c0 delta k", positive=True)
    chunk, tile, share, theta = sympy.symbols("T_c T_b alpha theta", positive=True)
    places = sympy.solve(theta * d + theta - S, theta)[0]
    rad = sympy.solve([share * c / chunk - mu * p, (1 - share) * b / tile - mu * d], [share, mu])[mu]
    prefill_first = (S / d) / ((c0 + slope * S) + (k * c0 + slope * p * S / d))
    return (
        Identity("places without the prompt's", places, S / d),
        Identity("full tiles of decodes alone", rad, b / (d * tile)),
        Identity("prompts first in one batch", 1 / prefill_first, slope * (p + d) + c0 * d / S),
    )


CLAIMS = (
    Claim(
        name="fluid-edges",
        statement="The edge of mixed batches is 1/(δ(p + d) + c0/θ), θ = min(B/(p + d), S/(d + 1)); that of full "
        "tiles 1/(δ(p + d) + c0(p/c + d/b)); that of prompts first 1/(δ(p + d) + c0(1 + k)d/S) with k batches of "
        "prompts to one of decodes.",
        assumptions=(
            "T(x) = c0 + δx",
            "memory never binds; prompts of one length",
            "prompts always wait, in the fluid",
        ),
        source="our derivation; fluid limits: Dai, Ann. Appl. Probab. 5, 1995 (published; recalled)",
        kind=Kind.IDENTITY,
        evidence=derivation,
        controls={"places, prefill and first batches at no cost": _wrong_edges},
        where="docs/models/fluid.md",
    ),
)
