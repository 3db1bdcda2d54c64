"""Priority by a rank: mean response time of M/G/1 under any rank function, and of shortest predicted remaining time.

Notation.  Jobs arrive Poisson(λ) to one server of speed 1; a job has a size x and a prediction y, of joint law g, and
an age a, the service it has had.  The job of least rank(y, a) is served, first come first served among equals; it may
be preempted at any time and resumed.  (X, Y) is a random job, and for a threshold r

    ρ_new(r) = λ·E[service from the start until the rank is first >= r]
    ρ_old(r) = λ·E[service from the start while the rank is <= r]
    Q(r)     = E[Σ over all stretches of ages with rank <= r of (service in the stretch)²] .

SOAP:  with  w(a) = max of rank(y, b) over a <= b < x,  the mean response time of a job (x, y) is

    E[T(x, y)] = λ·Q(w(0)) / (2·(1 - ρ_old(w(0)))·(1 - ρ_new(w(0)))) + ∫_0^x da / (1 - ρ_new(w(a))) .

Source: Scully, Harchol-Balter and Scheller-Wolf, SOAP, 2018 (published; recalled); SPRPT with limited preemption from
TRAIL, arXiv 2410.01035, and arXiv 2503.07545 (recalled); its form for laws with atoms is our derivation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sympy
from numpy.typing import ArrayLike, NDArray

from queueing.models.closed_form import ClosedForm
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity

__all__ = ["CLAIMS", "Jobs", "Rank", "derivation", "limited_preemption", "soap", "sprpt"]

Floats = NDArray[np.float64]
Rank = Callable[[Floats, Floats], Floats]  # of predictions [D, 1] and ages [1, 2A], broadcast to [D, 2A]


@dataclass(frozen=True, slots=True, eq=False)
class Jobs:
    """Law of (size, prediction) on finitely many points.

    Fields, one entry per point: `size` > 0 and `prediction` >= 0 (s), `weight` >= 0, scaled to add up to 1.  Every size
    is a multiple of `step` (s).

    Raises:
        ValueError: lengths differ, a size is no positive multiple of the step, or the weights are no law.
    """

    size: Floats
    prediction: Floats
    weight: Floats
    step: float

    def __init__(self, size: ArrayLike, prediction: ArrayLike, weight: ArrayLike, step: float = 1.0) -> None:
        x, y, w = (np.atleast_1d(np.asarray(v, np.float64)) for v in (size, prediction, weight))
        if not (x.ndim == 1 and x.shape == y.shape == w.shape):
            raise ValueError(
                f"give as many sizes as predictions and weights, not {x.shape}, {y.shape}, {w.shape}"
            )
        if not (step > 0 and np.all(x > 0) and _multiples(x, step)):
            raise ValueError(f"sizes are positive multiples of the step, here {step}; choose a finer step")
        if not (np.all(w >= 0) and 0 < w.sum() < np.inf and np.all(y >= 0)):
            raise ValueError("weights are nonnegative, not all zero, and predictions are nonnegative")
        for name, value in (("size", x), ("prediction", y), ("weight", w / w.sum()), ("step", float(step))):
            object.__setattr__(self, name, value)

    @classmethod
    def gridded(cls, density: Callable[[Floats, Floats], Floats], most: float, cells: int) -> Jobs:
        """A density g(x, y) at the middles of `cells` cells up to `most`, both ways; the rest is cut off.

        The error is of second order in most/cells where g is smooth, besides what is cut off.
        """
        points = np.asarray(np.arange(1, 2 * cells, 2) * (most / cells / 2), np.float64)
        x, y = (v.ravel() for v in np.meshgrid(points, points, indexing="ij"))
        weight = np.asarray(density(x, y), np.float64)
        return cls(x[weight > 0], y[weight > 0], weight[weight > 0], most / cells / 2)

    def mean(self, values: ArrayLike) -> float:
        """Mean over jobs of one value per point."""
        return float(self.weight @ np.asarray(values, np.float64))


def soap(jobs: Jobs, rate: float, rank: Rank) -> Floats:
    """Mean response time (s) of a job at each point of the law, by SOAP's formula.

    The rank is taken at every multiple of the step and as constant between two, at its value in the middle.  So the
    result is exact for ranks that change only there, and for those whose comparisons do, such as y - a with sizes and
    predictions on the grid; for others it is that of the rank so rounded.

    Assumptions: M/G/1 as above; the prediction says nothing of the size beyond g.
    Not promised: anything on batches: the server works on one job at a time.

    Args: jobs; rate λ (1/s); rank, a function of arrays (predictions, ages), smaller first, -inf for jobs that cannot
    be preempted.

    Raises:
        ValueError: λ·E[X] >= 1, or a rank is not a number.

    Example:
        >>> jobs = Jobs(size=[1, 3], prediction=[1, 3], weight=[1, 1])
        >>> soap(jobs, 0.25, lambda y, a: 0 * (y + a))  # first come first served, mean wait 1.25
        array([2.25, 4.25])
    """
    load = rate * jobs.mean(jobs.size)
    if not 0 < load < 1:
        raise ValueError(
            f"the load is {load:.6g}; give a rate above 0 and below {rate / load if load else 0:.6g}"
        )
    h = jobs.step
    cells = np.rint(jobs.size / h).astype(np.int64)
    kinds, kind = np.unique(jobs.prediction, return_inverse=True)
    last = int(cells.max())
    # column 2i is the age i·h, of no width, and column 2i + 1 the ages between i·h and (i + 1)·h
    age, width = np.asarray(np.arange(2 * last) * (h / 2), np.float64), np.tile([0.0, h], last)
    ranks = np.broadcast_to(rank(kinds[:, None], age[None, :]), (len(kinds), 2 * last))
    if np.isnan(ranks).any():
        raise ValueError("a rank is not a number; give -inf to jobs that cannot be preempted, and no nan")
    leaving = np.zeros((len(kinds), last + 1))
    np.add.at(leaving, (kind, cells), jobs.weight)
    alive = np.repeat(leaving[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:], 2, axis=1)  # P(prediction, X > age)
    served = np.concatenate((np.zeros((len(kinds), 1)), (alive * width).cumsum(axis=1)), axis=1)
    values, order = np.unique(ranks, return_inverse=True)  # ranks are only compared, so their order will do
    order = order.reshape(ranks.shape)
    new = np.zeros(len(values))
    for done, top in zip(served, np.maximum.accumulate(order, axis=1), strict=True):
        new += rate * done[np.searchsorted(top, np.arange(len(values)))]
    start = age - width / 2  # of each column

    def waiting(r: int) -> float:
        low = order <= r
        begins = np.maximum.accumulate(np.where(low, -1, np.arange(2 * last)), axis=1) + 1
        before = start - start[np.minimum(begins, 2 * last - 1)]
        square = (low * alive * (2 * before + width) * width).sum()
        old = rate * (np.logical_and.accumulate(low, axis=1) * alive * width).sum()
        return float(rate * square / (2 * (1 - old) * (1 - new[r])))

    response = np.empty(len(cells))
    waited: dict[int, float] = {}
    for i, (n, k) in enumerate(zip(cells.tolist(), kind.tolist(), strict=True)):
        worst = np.maximum.accumulate(order[k, : 2 * n][::-1])[::-1]
        first = int(worst[0])
        if first not in waited:
            waited[first] = waiting(first)
        response[i] = waited[first] + (width[: 2 * n] / (1 - new[worst])).sum()
    return response


def limited_preemption(share: float) -> Rank:
    """Rank of SPRPT whose jobs cannot be preempted from age C·y on:  y - a before, -inf after.  `share` is C >= 0.

    A job that has not started has rank y whatever C.
    """
    if not share >= 0:
        raise ValueError(f"the share of the prediction is {share}; give C >= 0")

    def rank(y: Floats, a: Floats) -> Floats:
        free = (a < share * y) if np.isfinite(share) else np.full(np.broadcast(y, a).shape, True)
        return np.where(free | (a == 0), y - a, -np.inf)

    return rank


def sprpt(jobs: Jobs, rate: float, share: float) -> ClosedForm[Floats]:
    """Mean response time (s) of a job (x, r) under SPRPT that is not preempted from age a₀ = C·r on:

        E[T(x, r)] = λ·(A_r + B_r)/(2·(1 - ρ_r)·(1 - ρ_r⁻)) + ∫_0^min(x, a₀) da/(1 - ρ⁻((r - a)⁺)) + (x - a₀)⁺

    with  A_r = E[X²; Y <= r],  B_r = E[((X - min(Y - r, C·Y))⁺)²; Y > r],  ρ_r = λ·E[X; Y <= r]  and  ρ_r⁻ the same for
    Y < r.  C = 0: shortest predicted job first.  C >= 1 with y = x: shortest remaining processing time.
    Computed: by :func:`soap`.

    The source has (1 - ρ_r)², which is the same where no two jobs have equal predictions; with atoms it is too large.

    Args: jobs, on whose grid predictions and C·y lie; rate λ (1/s); share, C >= 0, inf for no limit.

    Raises:
        ValueError: λ·E[X] >= 1, or a prediction or C·y is off the grid.
    """
    rank = limited_preemption(share)
    x, y, g, h = jobs.size, jobs.prediction, jobs.weight, jobs.step
    stop = share * y if np.isfinite(share) else np.full_like(y, np.inf)
    if not (_multiples(y, h) and _multiples(np.where(stop < x, stop, 0.0), h)):
        raise ValueError(f"predictions and C·y must be multiples of the step, here {h}; choose a finer step")
    computed = soap(jobs, rate, rank)
    values, kind = np.unique(y, return_inverse=True)
    work = np.bincount(kind, rate * g * x)
    through = np.concatenate(([0.0], work.cumsum()))  # load of the predictions before each value, and of all

    def below(r: Floats) -> Floats:
        return through[np.searchsorted(values, r - h / 4)]  # strictly; grid points are h apart

    stated = np.empty_like(x)
    for i, (size, r, a0) in enumerate(zip(x, y, stop, strict=True)):
        later = y > r + h / 4
        A = g[~later] @ x[~later] ** 2
        B = g[later] @ np.maximum(x[later] - np.minimum(y[later] - r, stop[later]), 0.0) ** 2
        wait = rate * (A + B) / (2 * (1 - through[kind[i] + 1]) * (1 - through[kind[i]]))
        free = min(size, a0)
        breaks = np.concatenate(
            ([0.0], np.sort((r - values)[(r - values > 0) & (r - values < free)]), [free])
        )
        middles = (breaks[1:] + breaks[:-1]) / 2
        stated[i] = wait + (np.diff(breaks) / (1 - below(np.maximum(r - middles, 0.0)))).sum() + size - free
    return ClosedForm(computed, stated)


def derivation() -> tuple[Identity, ...]:
    """Both limits of the formula, in symbols: what a job has left that comes first, and what interrupts a service."""
    x, r, late, C, a, t = sympy.symbols("x r u C a t", positive=True)  # a job of prediction y = r + u > r
    y = r + late
    left = sympy.Max(x - sympy.Min(y - r, C * y), 0)
    load = sympy.Function("rho")

    def exposed(share: int) -> sympy.Integral:  # to arrivals, until age C·r
        return sympy.Integral(1 / (1 - load(r - a)), (a, 0, share * r))

    return (
        Identity("C = 0: a later job that has started is served to its end", left.subs(C, 0), x),
        Identity("C = 0: nothing interrupts the service", exposed(0).doit() + (x - C * r).subs(C, 0), x),
        Identity("C = 1, y = x: what a larger job has left when it passes r", left.subs(x, y).subs(C, 1), r),
        Identity(
            "C = 1, y = x = r: interrupted by the load below what remains",
            exposed(1).transform(a, (r - t, t)),
            sympy.Integral(1 / (1 - load(t)), (t, 0, r)),
        ),
    )


def _multiples(values: Floats, step: float) -> bool:
    steps = values / step
    return bool(np.all(np.isfinite(steps)) and np.all(np.abs(steps - np.rint(steps)) < 1e-6))


def _from_the_threshold() -> tuple[Identity, ...]:
    """A later job that cannot be preempted from age C·r on, not from C times its own prediction."""
    x, r, late, C = sympy.symbols("x r u C", positive=True)
    left = sympy.Max(x - sympy.Min(late, C * r), 0)
    return (Identity("C = 1, y = x: left when it passes r", left.subs(x, r + late).subs(C, 1), r),)


def _preempted() -> tuple[Identity, ...]:
    """With C = 0 a job that has started gives way to every r."""
    x, r, late, C = sympy.symbols("x r u C", positive=True)
    left = sympy.Max(x - sympy.Min(late, C * (r + late)), 0)
    return (Identity("C = 0: a later job leaves what is beyond r", left.subs(C, 0), x - late),)


CLAIMS = (
    Claim(
        name="priority-limits",
        statement="SPRPT with preemption up to age C times the prediction is, at C = 0, shortest predicted job "
        "first without preemption, and at C = 1 with true predictions SRPT: a larger job has r left when it passes "
        "r, and a service is exposed to the load below what remains.",
        assumptions=("M/G/1, preempt and resume", "the formula of SOAP (cited)"),
        source="Scully, Harchol-Balter and Scheller-Wolf 2018; arXiv 2410.01035 and 2503.07545 (published; "
        "recalled); both limits are our derivation",
        kind=Kind.IDENTITY,
        evidence=derivation,
        controls={"age counted from the threshold": _from_the_threshold, "C = 0 preempts": _preempted},
        where="docs/models/priority.md",
    ),
)
