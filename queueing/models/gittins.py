"""The Gittins index of a job whose size is known in law only, exactly, from a histogram of sizes.

Notation.  X is the size of a job and a its age, the service it has had.  The index is the best ratio, over stopping
ages b > a, of the chance to finish to the service spent,

    G(a) = max over b of  P(a < X <= b | X > a) / E[min(X, b) - a | X > a] ,

and the job of largest index is served.  The hazard is h(k) = P(X = k | X >= k).  With sizes in whole tokens and
decisions between tokens, the ratio for b is the average of h(a + 1), ..., h(b) with weights P(X >= a + 1), ...,
P(X >= b).  So

    hazard nonincreasing    b = a + 1 is best,  G(a) = h(a + 1):         least age first (foreground-background)
    hazard nondecreasing    b at the end,  G(a) = 1/E[X - a | X > a]:    who has begun goes on (first come first served)

On a histogram the hazard ends at 1, so that the first case holds while the end is far: G is the larger of both.

Guarantee (cited): serving by G minimises the mean response time of M/G/1 among all policies that do not know sizes
(Gittins 1989; Scully, Harchol-Balter and Scheller-Wolf 2018), and the mean completion time of a batch of jobs.
Not promised: either where several jobs are served at once, or where the speed depends on the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise

import numpy as np
import sympy
from numpy.typing import NDArray

from queueing.models.closed_form import ClosedForm
from queueing.models.priority import Rank
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity

__all__ = ["CLAIMS", "derivation", "gittins_index", "gittins_rank", "hazards", "monotone_hazard_index"]

ZERO = Fraction(0)
Histogram = Mapping[int, Fraction | int]  # weight of each size in tokens


def gittins_index(histogram: Histogram, age: Fraction | int) -> Fraction:
    """G(age) per token of service, in exact fractions; the age need not be whole.

    Args: histogram, the weight of each size (tokens, >= 1); age >= 0, below the largest size.

    Raises:
        ValueError: no weight is positive, one is negative, a size is below 1; or no job gets that old.

    Example:
        >>> [str(gittins_index({1: 3, 5: 1}, age)) for age in (0, 1, 4)]  # most end at once, the others late
        ['3/4', '1/4', '1']
    """
    weights = _checked(histogram)
    older = [(x, w) for x, w in sorted(weights.items()) if x > age]
    if age < 0 or not older:
        raise ValueError(f"no job has age {age}; give one from 0 to below {max(weights)}")
    alive = sum((w for _, w in older), ZERO)
    finished, spent, best, reached = ZERO, ZERO, ZERO, Fraction(age)
    for x, w in older:  # the best b is a size: between two of them more is spent and nothing finishes
        spent += alive * (x - reached)
        finished, alive, reached = finished + w, alive - w, Fraction(x)
        best = max(best, finished / spent)
    return best


def hazards(histogram: Histogram) -> tuple[Fraction, ...]:
    """h(1), ..., h(largest size); the last is 1."""
    weights = _checked(histogram)
    alive, found = sum(weights.values(), ZERO), list[Fraction]()
    for k in range(1, max(weights) + 1):
        ending = weights.get(k, ZERO)
        found.append(ending / alive)
        alive -= ending
    return tuple(found)


def monotone_hazard_index(histogram: Histogram, age: int) -> ClosedForm[Fraction]:
    """G at a whole age if the hazard is monotone below the largest size:  max(h(a + 1), 1/E[X - a | X > a]).

    A nondecreasing hazard makes the second the larger, a nonincreasing one the first, as long as the end is far.
    Computed: by :func:`gittins_index`, over all stopping ages.

    Raises:
        ValueError: the hazard both rises and falls below the largest size; or as for :func:`gittins_index`.
    """
    computed, h = gittins_index(histogram, age), hazards(histogram)
    steps = list(pairwise(h[:-1]))
    if any(a < b for a, b in steps) and any(a > b for a, b in steps):
        raise ValueError("the hazard of this histogram rises and falls; take gittins_index")
    older = [(x, w) for x, w in _checked(histogram).items() if x > age]
    remaining = sum((w * (x - age) for x, w in older), ZERO) / sum((w for _, w in older), ZERO)
    return ClosedForm(computed, max(h[age], 1 / remaining))


def gittins_rank(histograms: Mapping[float, Histogram]) -> Rank:
    """Rank 1/G for :func:`queueing.models.priority.soap`, with a step of one token and decisions between tokens.

    `histograms` holds the law of the size under each prediction.  Within a token a job cannot be preempted.

    Raises:
        ValueError: when called, for a prediction without a histogram.
    """
    ranks = {
        y: np.array([float(1 / gittins_index(histogram, a)) for a in range(max(_checked(histogram)))])
        for y, histogram in histograms.items()
    }

    def rank(predictions: NDArray[np.float64], ages: NDArray[np.float64]) -> NDArray[np.float64]:
        if missing := set(predictions.ravel().tolist()) - set(ranks):
            raise ValueError(f"there is no histogram for the predictions {sorted(missing)}")
        a = ages.ravel()
        rows = [
            ranks[y][np.minimum(a.astype(np.int64), len(ranks[y]) - 1)] for y in predictions.ravel().tolist()
        ]
        return np.where(a == np.floor(a), np.array(rows), -np.inf)

    return rank


def derivation() -> tuple[Identity, ...]:
    """Two sums behind the average of hazards, for three ages in symbols: S_k = P(X >= k)."""
    s1, s2, s3, s4 = sympy.symbols("S1:5", positive=True)
    h1, h2, h3 = 1 - s2 / s1, 1 - s3 / s2, 1 - s4 / s3
    finished, spent = s1 - s4, (s1 - s2) * 1 + (s2 - s3) * 2 + s3 * 3  # min(X, 3), the rest reaches 3
    return (
        Identity("service until age 3", spent, s1 + s2 + s3),
        Identity(
            "the ratio is an average of hazards",
            finished / spent,
            (s1 * h1 + s2 * h2 + s3 * h3) / (s1 + s2 + s3),
        ),
        Identity(
            "one more token moves it towards the next hazard",
            (s1 - s3) / (s1 + s2) - h1,
            (h2 - h1) * s2 / (s1 + s2),
        ),
    )


def _checked(histogram: Histogram) -> dict[int, Fraction]:
    weights = {x: Fraction(w) for x, w in histogram.items() if w}
    if not weights or min(weights.values()) < 0 or min(weights) < 1:
        raise ValueError(f"give positive weights of sizes >= 1, not {dict(histogram)}")
    return weights


def _plain_average() -> tuple[Identity, ...]:
    """Every age counted alike, however few get there, and all three tokens spent on everybody."""
    s1, s2, s3, s4 = sympy.symbols("S1:5", positive=True)
    h1, h2, h3 = 1 - s2 / s1, 1 - s3 / s2, 1 - s4 / s3
    return (
        Identity("the ratio is the plain average of hazards", (s1 - s4) / (s1 + s2 + s3), (h1 + h2 + h3) / 3),
        Identity("service until age 3, of all", s1 + s2 + s3, 3 * s1),
    )


CLAIMS = (
    Claim(
        name="gittins-index",
        statement="The ratio of Gittins for stopping at age b is the average of the hazards at a + 1, ..., b with "
        "weights P(X >= k), so one more token moves it towards the next hazard: the largest is the next hazard "
        "where hazards fall, and 1/E[X - a | X > a] where they rise.",
        assumptions=("sizes in whole tokens, decisions between tokens", "shown in symbols for three ages"),
        source="Gittins 1989 (published; recalled); the average is our derivation",
        kind=Kind.IDENTITY,
        evidence=derivation,
        controls={"every age counts alike": _plain_average},
        where="docs/models/gittins.md",
    ),
)
