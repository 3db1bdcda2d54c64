"""The cheapest batches in hindsight: which requests to put together if all arrivals are known, exactly.

A batch S starts when the last of it has come and runs on one of the memories:

    feasible iff  max_S a + τ(M, largest of S, |S|) <= min_S (a + limit) ,     C(S) = least cost(M, ...) of the feasible
    V(∅) = 0 ,    V(R) = min of C(S) + V(R - S) over S in R that contain the first of R

a minimum over all set partitions, 3^n steps.  No policy that keeps the same limits costs less, whatever it knows.

Source: our derivation (the offline problem of BATCH and Multi-Buffer Serving as a set partition).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from queueing.models.buffer_plan import Service
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim

__all__ = ["CLAIMS", "MOST", "OfflineBatches", "cheapest_batches"]

MOST = 12  # requests: 3^12 steps are some seconds


@dataclass(frozen=True, slots=True)
class OfflineBatches:
    """USD of all batches, and their members."""

    cost: float
    batches: tuple[tuple[int, ...], ...]


def cheapest_batches(
    arrival: ArrayLike, kind: ArrayLike, limit: ArrayLike, service: Service
) -> OfflineBatches:
    """The cheapest partition of at most 12 requests into batches that finish each within its limit.

    Args: arrival [n] s; kind [n] classes; limit [n] or one, s of latency, inf for none.
    Raises:
        ValueError: too many requests, columns of other lengths, a kind that the service lacks, or a request that no
            call serves in time.
    """
    a, drawn = np.asarray(arrival, np.float64).ravel(), np.asarray(kind, np.float64).ravel()
    n, classes = len(a), service.seconds.shape[1]
    if not 1 <= n <= MOST or len(drawn) != n:
        raise ValueError(f"{n} arrivals and {len(drawn)} kinds; give one kind each, and 1 to {MOST} requests")
    until = a + np.broadcast_to(np.asarray(limit, np.float64), n)
    if not np.isfinite(a).all() or np.isnan(until).any():
        raise ValueError(
            f"arrivals {a} s with a limit of {limit} s; give finite arrivals, and inf for no limit"
        )
    bad = drawn[~((drawn >= 0) & (drawn < classes) & (drawn == np.floor(drawn)))]
    if len(bad):
        raise ValueError(
            f"a request is of kind {bad[0]:g}; give one of the classes 0 to {classes - 1} of the service"
        )
    c = drawn.astype(np.int64)
    calls = [math.inf] * (1 << n)
    for mask in range(1, 1 << n):
        s = [r for r in range(n) if mask >> r & 1]
        if len(s) <= service.seconds.shape[2]:
            row = (slice(None), c[s].max(), len(s) - 1)
            in_time = a[s].max() + service.seconds[row] <= until[s].min()
            if in_time.any():
                calls[mask] = float(service.dollars[row][in_time].min())
    best, choice = [math.inf] * (1 << n), [0] * (1 << n)
    best[0] = 0.0
    for mask in range(1, 1 << n):
        first = mask & -mask
        rest = mask ^ first
        others = rest
        while True:  # all subsets of the rest
            cost = calls[first | others] + best[rest ^ others]
            if cost < best[mask]:
                best[mask], choice[mask] = cost, first | others
            if others == 0:
                break
            others = (others - 1) & rest
    everything = (1 << n) - 1
    if best[everything] == math.inf:
        late = next(r for r in range(n) if calls[1 << r] == math.inf)
        raise ValueError(
            f"request {late} cannot be served within its limit even alone: raise the limit or add memory"
        )
    batches: list[tuple[int, ...]] = []
    left = everything
    while left:
        batches.append(tuple(r for r in range(n) if choice[left] >> r & 1))
        left ^= choice[left]
    return OfflineBatches(best[everything], tuple(batches))


CLAIMS = (
    Claim(
        name="offline-batches",
        statement="No policy costs less on up to 12 requests than the cheapest partition that keeps each request "
        "within the latency which that policy gave it.",
        assumptions=(
            "functions start at once, as many as are asked for",
            "a batch starts once all of it has come",
        ),
        source="our derivation",
        kind=Kind.TESTED,
        where="tests/queueing/models/test_offline_batching.py::test_no_policy_is_cheaper_in_hindsight",
    ),
)
