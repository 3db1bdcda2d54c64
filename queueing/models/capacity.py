"""Capacity region: the loads that some schedule carries, and what stops the others.

The region of a machine and a set of classes is  { λ >= 0 : θ(λ) >= 1 }  with θ of the batch-composition program
(:mod:`queueing.models.composition`).  It is convex and contains whatever is below one of its points.

*Inside*, the optimal composition is a schedule that carries λ, and θ - 1 its slack.  *Outside*, the prices are a Farkas
ray: they make a request of class k worth h_k, so that  Σ h_k λ_k <= 1  for every load that is carried, and > 1 for this
one.  Prices that are positive say what stands in the way.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from queueing.models.composition import Composition, Solution
from queueing.models.composition_proof import prove
from queueing.models.demand import Demand, Limits, Stairs
from queueing.models.iteration_time import Roofline
from queueing.proofs.certificate import Certificate, Kind
from queueing.proofs.claim import Claim
from queueing.proofs.composition import BatchKind, BestComposition
from queueing.proofs.identity import Identity

__all__ = ["CLAIMS", "Capacity", "Membership", "Point", "Polytopes", "Prices"]

Floats = NDArray[np.float64]
TIGHT = 1e-7  # relative slack below which a limit counts as reached


@dataclass(frozen=True, slots=True)
class Prices:
    """What a little more of each limit is worth: by how much the load carried grows, relative to the load (1 = 100 %).

    `node` per further node; `millisecond` per millisecond that every iteration is shorter; `kv_token` per token of KV
    memory; `place` per request that may decode at once; `tbt` per iteration/s that is demanded less.
    """

    node: float
    millisecond: float
    kv_token: float
    place: float
    tbt: float


@dataclass(frozen=True, slots=True)
class Point:
    """A point of the boundary: `rates` (requests/s by class), a half-space  normal·λ <= 1  that touches the region
    there, the `solution` that carries it, what `binds`, and `prices` of the limits.
    """

    rates: tuple[float, ...]
    normal: tuple[float, ...]
    solution: Solution
    binds: tuple[str, ...]
    prices: Prices


@dataclass(frozen=True, slots=True)
class Membership:
    """Whether a load is carried: `theta` times it is, and `reason` says what carries it or what stops it."""

    inside: bool
    theta: float
    point: Point
    reason: str


@dataclass(frozen=True, slots=True)
class Polytopes:
    """`vertices` [m, K] of a polytope inside the region and half-spaces  normals[i]·λ <= sides[i]  around it; every
    half-space of the inner one is moved out by at most the share `gap` to contain the region.
    """

    vertices: Floats
    normals: Floats
    sides: Floats
    gap: float
    solves: int


class Capacity:
    """The capacity region of one machine and a set of classes; arguments as for :class:`Composition`.

    The rates of the classes are the direction that is meant when none is given.
    """

    def __init__(
        self, stairs: Stairs, classes: Sequence[Demand], limits: Limits, *, pure: bool = False
    ) -> None:
        self.program = Composition(stairs, classes, limits, pure=pure)
        self.limits = limits

    def boundary(self, direction: Sequence[float] | None = None) -> Point:
        """Where the ray of loads in `direction` (requests/s by class, up to scale) leaves the region."""
        solution = self.program.solve(direction)
        chosen = (
            [c.rate for c in self.program.classes] if direction is None else [float(r) for r in direction]
        )
        worth = solution.worth(self.program.need)
        normal = worth / float(worth @ np.array(chosen)) / solution.theta
        return Point(
            tuple(solution.theta * r for r in chosen),
            tuple(map(float, normal)),
            solution,
            self.binds(solution),
            self.prices(solution),
        )

    def membership(self, rates: Sequence[float] | None = None) -> Membership:
        """Whether the load `rates` (requests/s by class) is carried, with the reason in a sentence."""
        point = self.boundary(rates)
        theta = point.solution.theta
        load = sum(point.rates) / theta
        if theta >= 1:
            kinds = "; ".join(
                f"{often:.3g}/s of {self.describe(kind)}" for kind, often in point.solution.batches
            )
            reason = f"{load:.4g} requests/s are carried with {theta - 1:.1%} to spare, by {kinds}"
        else:
            reason = (
                f"{load:.4g} requests/s are {1 / theta - 1:.1%} more than any schedule carries: "
                + "; ".join(point.binds)
            )
        return Membership(theta >= 1, theta, point, reason)

    def certificate(self, rates: Sequence[float] | None = None) -> BestComposition:
        """θ of a load in fractions: a schedule that carries θ times it, and a proof that none carries more."""
        return prove(self.program, rates)

    def support(self, weights: Sequence[float]) -> tuple[float, tuple[float, ...]]:
        """Largest Σ weights·rates in the region, and rates that reach it."""
        value, rates, _ = self.program.support(weights)
        return value, rates

    # --- what binds -------------------------------------------------------------------------------------------------

    def describe(self, kind: BatchKind) -> str:
        """A kind of batch in words."""
        parts = [f"{float(kind.prompt):.4g} prompt tokens"] if kind.prompt else []
        several = len(self.program.classes) > 1
        for k, n in kind.decodes:
            of = f" of {self.program.setting.names[k]}" if several else ""
            parts.append(f"{float(n):.4g} decodes{of}")
        return " + ".join(parts) or "nothing"

    def binds(self, solution: Solution) -> tuple[str, ...]:
        """The limits that the optimal batches press on, each as a clause."""
        s, prices = self.program.setting, self.prices(solution)
        found = [f"time binds: batches fill every second of {s.nodes} node{'s' if s.nodes > 1 else ''}"]
        budget = len(s.seconds)
        if any(kind.tokens == budget for kind, _ in solution.batches):
            found.append(f"token budget binds: batches are filled to {budget} tokens")
        if prices.kv_token * self.limits.kv_tokens > TIGHT:
            most = max(float(kind.decoding) for kind, _ in solution.batches)
            found.append(
                f"decode memory binds: {most:.4g} decodes fill all {self.limits.kv_tokens:.6g} KV tokens"
            )
        if prices.place * s.max_running > TIGHT:
            found.append(f"places bind: {s.max_running} requests decode at once")
        if prices.tbt * float(s.min_batches) > TIGHT:
            found.append(
                f"time between tokens binds: {self.limits.min_iterations:.4g} iterations/s are demanded"
            )
        return tuple(found)

    def prices(self, solution: Solution) -> Prices:
        """Marginal values of the limits: what each batch would gain, times how often it runs (envelope theorem)."""
        s = self.program.setting
        base = 0.0 if s.pure else solution.token
        memory = place = 0.0
        for kind, often in solution.batches:
            if not kind.decodes:
                continue
            n = float(kind.decoding)
            at = [(float(s.context[k] or 0), solution.decode[k] - base) for k, _ in kind.decodes]
            crowded = n >= s.max_running * (1 - TIGHT) and s.max_running < kind.tokens
            if len(at) == 2:
                (x0, y0), (x1, y1) = at
                slope = (y1 - y0) / (x1 - x0)
                memory, place = memory + often * slope, place + often * (y0 - slope * x0) * crowded
            elif self._full(kind) and not crowded:
                memory += often * at[0][1] / at[0][0]
            elif crowded:
                place += often * at[0][1]
        rate = sum(often for _, often in solution.batches)
        node = solution.second - solution.batch * self.limits.min_iterations
        worth = (node, solution.second * rate * 1e-3, memory, place, solution.batch * s.nodes)
        return Prices(*(max(value, 0.0) / solution.theta for value in worth))

    def _full(self, kind: BatchKind) -> bool:
        """Whether the decodes of a batch fill the KV memory."""
        return float(self.program.setting.held(kind)) >= self.limits.kv_tokens * (1 - TIGHT)

    # --- shape ------------------------------------------------------------------------------------------------------

    def polytopes(self, gap: float = 0.01, most: int = 2000) -> Polytopes:
        """Polytopes inside and around the region, at most `gap` apart (relative); for up to five classes.

        Facets of the inner polytope are tried in turn: the region's support in the direction of a facet either proves
        it tight or gives a new vertex.

        Raises:
            ValueError: `gap` is not in (0, 1), or there are more than five classes.
            RuntimeError: it is not reached with `most` supports.
        """
        classes = len(self.program.classes)
        if not 0 < gap < 1:
            raise ValueError(f"the gap between the polytopes must be in (0, 1), not {gap}")
        if classes > 5:
            raise ValueError(
                f"polytopes of {classes} classes have too many facets; join classes until five are left"
            )
        axes = np.eye(classes)
        known: dict[tuple[float, ...], float] = {}
        points = [np.zeros(classes)]
        pending = [*axes, axes.sum(axis=0)]
        while True:
            for normal in pending:
                value, rates = self.support(list(normal))
                known[tuple(normal)] = value
                points.append(np.array(rates))
                if len(known) > most:
                    raise RuntimeError(f"a gap of {gap} needs more than {most} supports; allow a larger gap")
            corners = np.unique(
                [
                    p * np.array(mask)
                    for p in points
                    for mask in itertools.product((0.0, 1.0), repeat=classes)
                ],
                axis=0,
            )
            if classes == 1:
                return self._polytopes(corners, known, 0.0)
            scale = corners.max(axis=0)
            hull = ConvexHull(corners / scale)
            facets = np.unique(np.round(hull.equations, 12), axis=0)
            upper = facets[(facets[:, :-1] >= -1e-9).all(axis=1) & (facets[:, -1] < -1e-9)]
            pending, worst = [], 0.0
            for facet in upper:
                normal = np.maximum(facet[:-1], 0.0) / scale
                normal /= normal.max()
                reached = float((corners @ normal).max())
                outside = min(
                    (v * _stretch(np.array(a), normal) for a, v in known.items()), default=math.inf
                ) / reached - 1  # fmt: skip
                if outside > gap and tuple(normal) not in known:
                    pending.append(normal)
                elif outside > gap:
                    outside = known[tuple(normal)] / reached - 1
                worst = max(worst, outside)
            if not pending:
                return self._polytopes(corners[np.unique(hull.vertices)], known, worst)

    def _polytopes(self, vertices: Floats, known: dict[tuple[float, ...], float], gap: float) -> Polytopes:
        return Polytopes(vertices, np.array(list(known)), np.array(list(known.values())), gap, len(known))


def _stretch(known: Floats, normal: Floats) -> float:
    """The least c with normal <= c·known: a half-space known·λ <= v then gives normal·λ <= c·v for λ >= 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(normal > 0, normal / known, 0.0)
    return float(ratio.max())


def _small() -> BestComposition:
    """θ of 1 request/s of 30 + 20 tokens and 2 of 40 + 9, with a budget of 64, 300 KV tokens and 16 places."""
    law = Roofline(0.0234, 0.007, 0.000091, 0.17e-6, 5e-9)
    sizes = ((1.0, 30, 20), (2.0, 40, 9))
    classes = [Demand(f"{p}+{d}", r, p, d, p * d + d * (d + 1) / 2, p * p / 2) for r, p, d in sizes]
    return Capacity(Stairs.of(law.params(), 64), classes, Limits(64, 300, 16)).certificate()


def _boundary() -> list[Certificate]:
    best = _small()
    return [best, Identity("θ", best.theta, Fraction(20000000, 2532913))]


def _altered() -> list[Certificate]:
    """A decode priced a thousandth too cheap; the claim that a little more is carried; one KV token less."""
    best = _small()
    return [
        replace(best, decode=(best.decode[0] * Fraction(999, 1000), best.decode[1])),
        replace(best, theta=best.theta * Fraction(1001, 1000)),
        replace(best, setting=replace(best.setting, kv_tokens=Fraction(299))),
    ]


CLAIMS = (
    Claim(
        name="capacity-boundary",
        statement="1 request/s of 30 + 20 tokens and 2 of 40 + 9 are carried up to 20000000/2532913 (7.896) times "
        "over on the testbed's iteration time with 64 tokens a batch, 300 KV tokens and 16 places, and prices prove "
        "that no more is carried.",
        assumptions=("the calibrated iteration time", "in the mean over time, memory held while decoding"),
        source="our derivation and calculation",
        kind=Kind.RATIONAL,
        evidence=_boundary,
        controls={"a price, θ and memory altered": _altered},
        where="docs/models/capacity.md",
    ),
)
