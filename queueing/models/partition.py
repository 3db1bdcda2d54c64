"""Cut points of sizes: which neighbouring classes share a buffer, exactly, by dynamic programming.

C(i, j) is the least cost of one buffer that takes the classes i..j-1 (per request of all, not of the buffer's; inf
where no setting keeps the limit).  The least cost of the first j classes in at most n buffers is

    V_1(j) = C(0, j) ,     V_n(j) = min( V_{n-1}(j), min_{i<j} V_{n-1}(i) + C(i, j) )

since ranges are separate and costs add.  K(K+1)/2 values of C, O(n·K²) additions.  Whatever C is, no other choice of
ranges costs less.

Source: textbook dynamic programming over ordered partitions; as a yardstick of Multi-Buffer Serving's equal-load ranges
our derivation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim

__all__ = ["CLAIMS", "Partition", "equal_load", "partition_cost", "partitions", "range_costs"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Partition:
    """Ranges of classes by their `last` class, rising, the last one K - 1; and what they cost together."""

    last: tuple[int, ...]
    cost: float


def range_costs(classes: int, cost: Callable[[int, int], float]) -> Floats:
    """[K, K + 1]: cost(i, j - 1) of the classes i..j-1 at [i, j], inf elsewhere; `cost` takes first and last class.

    A ValueError of `cost` (no setting keeps the limit) counts as inf.
    """
    table = np.full((classes, classes + 1), np.inf)
    for i in range(classes):
        for j in range(i + 1, classes + 1):
            try:
                table[i, j] = cost(i, j - 1)
            except ValueError:
                continue
    return table


def partition_cost(table: Floats, last: ArrayLike) -> float:
    """Cost of the ranges that end with the classes `last`."""
    ends = np.asarray(last, np.int64) + 1
    return float(table[np.append(0, ends[:-1]), ends].sum())


def partitions(table: ArrayLike, most: int) -> list[Partition]:
    """The cheapest ranges, at most n of them, for n = 1, ..., `most`.

    Args: table = [K, K + 1] as :func:`range_costs` gives it, no nan.
    Raises:
        ValueError: the table has another shape, or no partition has a finite cost.
    """
    c = np.asarray(table, np.float64)
    k = len(c)
    if c.shape != (k, k + 1) or k == 0 or np.isnan(c).any() or most < 1:
        raise ValueError(
            f"a table of shape {c.shape} for {most} buffers; give costs [K, K + 1], no nan, and most >= 1"
        )
    value, choice = np.full((most, k + 1), np.inf), np.zeros((most, k + 1), np.int64)
    value[0, 1:] = c[0, 1:]
    value[:, 0] = 0.0
    for n in range(1, most):
        split = value[n - 1, :k, None] + c  # [i, j]
        choice[n] = split.argmin(axis=0)
        value[n] = split.min(axis=0)
        kept = value[n - 1] <= value[n]
        value[n, kept], choice[n, kept] = value[n - 1, kept], -1
    if not np.isfinite(value[-1, k]):
        raise ValueError(
            f"no partition into {most} ranges has a finite cost: raise the limit or allow more ranges"
        )
    return [Partition(_ends(choice, n, k), float(value[n, k])) for n in range(most)]


def _ends(choice: NDArray[np.int64], n: int, k: int) -> tuple[int, ...]:
    ends: list[int] = []
    j = k
    while j > 0:
        if n > 0 and choice[n, j] == -1:
            n -= 1
            continue
        ends.append(j - 1)
        j, n = (int(choice[n, j]), n - 1) if n > 0 else (0, 0)
    return tuple(reversed(ends))


def equal_load(load: ArrayLike, buffers: int) -> tuple[int, ...]:
    """Last class of each of `buffers` ranges of about equal load: Multi-Buffer Serving's cut points.

    Args: load = of each class, >= 0, such as its share of the requests, or that times its size.
    Returns: the last classes, rising.  There a class on a boundary is shared; here it goes where its middle lies.  A
        range that would hold no class is left out, so there can be fewer than asked for.
    """
    f = np.asarray(load, np.float64)
    if f.ndim != 1 or not f.size or not (f >= 0).all() or not f.sum() > 0 or buffers < 1:
        raise ValueError(
            f"loads {f} in {buffers} buffers; give loads >= 0, not all 0, and at least one buffer"
        )
    middle = (np.cumsum(f) - f / 2) / f.sum()
    place = np.minimum((buffers * middle).astype(np.int64), buffers - 1)
    return tuple(np.append(np.flatnonzero(np.diff(place)), len(f) - 1).tolist())


CLAIMS = (
    Claim(
        name="buffer-cut-points",
        statement="The ranges found by dynamic programming cost the least of all partitions into at most n ranges, so "
        "equal-load ranges never cost less.",
        assumptions=("the cost of a range does not depend on the other ranges",),
        source="textbook dynamic programming; our derivation for buffers",
        kind=Kind.TESTED,
        where="tests/queueing/models/test_partition.py::test_no_partition_costs_less",
    ),
)
