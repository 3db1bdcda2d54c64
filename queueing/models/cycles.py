"""RAD with cycles of N prompts: what a finite N costs in capacity.

Notation.  b, τ tile and its time; X work of a request, x̄ = E[X] (s); d its decode tokens; g engines.  A cycle starts at
most N prompts and ends when all of them are decoded.  With prompts always waiting it takes the work of N requests and
v_N, the waste of the short batches at its end:

    capacity = g·N / (N·x̄ + E[v_N]) = g / (x̄ + E[v_N]/N)        requests per second

Stable below: with N or more prompts waiting a cycle starts N of them, and in the mean so few arrive meanwhile that
their number falls by N - λ(N·x̄ + E[v_N])/g > 0 per cycle (Foster).  Above it the number waiting drifts to infinity.
At most d_max batches of a cycle are short while prompts wait, and each wastes at most τ(1 - 1/b): v_N <= v.
The path-wise form, without any law of arrivals, is :func:`queueing.models.stability.cyclic_constant`.

Assumptions: RAD's; sizes i.i.d.; on g > 1 engines, Poisson arrivals routed uniformly at random.
Source: the outline for finite N is our derivation (docs/models/stability.md); RAD is arXiv 2508.01002.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import comb

from queueing.models.closed_form import ClosedForm
from queueing.models.iteration_time import TileLaw
from queueing.models.replay import ExactLaw
from queueing.proofs.rational import exact

__all__ = ["capacity", "least_cycle", "mean_waste", "most_waste"]

ZERO = Fraction(0)
Decodes = Mapping[int, Fraction]  # probability of each number of decode tokens


def mean_waste(law: ExactLaw, decodes: Decodes, cycle: int) -> ClosedForm[Fraction]:
    """E[v_N] of a saturated cycle of N <= b prompts:  τ(E[max of N decode lengths] - N·E[d]/b).

    All N decode together, n_k = #{d >= k} of them in the k-th batch, which wastes τ(1 - n_k/b) if n_k >= 1.  Computed:
    the mean of that waste over the binomial law of n_k, summed over k.

    Raises:
        ValueError: N is not in 1..b (for N > b take :func:`most_waste`), or the probabilities do not add up to 1.
    """
    tile = _tile(law)
    if not 1 <= cycle <= tile.tile:
        raise ValueError(
            f"cycles of 1 to {tile.tile} prompts decode together; give such a cycle, not {cycle}"
        )
    if sum(decodes.values()) != 1 or min(decodes.values()) < 0 or min(decodes) < 0:
        raise ValueError("decode lengths need probabilities that add up to exactly 1; give fractions")
    computed = largest = ZERO
    for k in range(1, max(decodes) + 1):
        going = sum((p for d, p in decodes.items() if d >= k), ZERO)
        for n in range(1, cycle + 1):
            computed += comb(cycle, n) * going**n * (1 - going) ** (cycle - n) * law.waste(n)
        largest += 1 - (1 - going) ** cycle
    mean = sum((d * p for d, p in decodes.items()), ZERO)
    return ClosedForm(computed, exact(tile.tile_time) * (largest - cycle * mean / tile.tile))


def most_waste(law: ExactLaw, decodes: int) -> ClosedForm[Fraction]:
    """V = d_max·τ(1 - 1/b) >= v_N, whatever N; computed as d_max times the largest waste of a batch."""
    tile = _tile(law)
    worst = max((law.waste(n) for n in range(1, tile.tile)), default=ZERO)
    return ClosedForm(decodes * worst, decodes * exact(tile.tile_time) * (1 - Fraction(1, tile.tile)))


def capacity(mean_work: Fraction, waste: Fraction, cycle: int, engines: int = 1) -> Fraction:
    """G / (x̄ + v/N), requests per second; with v = E[v_N] the capacity itself, with a bound on it a lower bound."""
    if cycle < 1 or engines < 1 or mean_work <= 0 or waste < 0:
        raise ValueError("a capacity needs a cycle and engines >= 1, work above 0 and waste of at least 0")
    return engines / (mean_work + waste / cycle)


def least_cycle(
    rate: Fraction, mean_work: Fraction, waste: Fraction, engines: int = 1
) -> ClosedForm[Fraction]:
    """Least N whose lower bound on the capacity exceeds λ:  floor(λ·v/(g - λ·x̄)) + 1.

    Computed by doubling and bisection on :func:`capacity`.  Args: rate, λ (1/s); waste, v from :func:`most_waste` (s).

    Raises:
        ValueError: λ·x̄ >= g, where no N will do.
    """
    if not 0 <= rate * mean_work < engines:
        raise ValueError(
            f"the load {float(rate * mean_work)} is not below {engines} engines; no cycle is long enough"
        )
    high = 1
    while capacity(mean_work, waste, high, engines) <= rate:
        high *= 2
    low = high // 2  # not enough, or 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if capacity(mean_work, waste, middle, engines) > rate else (middle, high)
    return ClosedForm(Fraction(high), Fraction(rate * waste // (engines - rate * mean_work) + 1))


def _tile(law: ExactLaw) -> TileLaw:
    if not isinstance(law.law, TileLaw):
        raise ValueError(f"RAD fills tiles; give a TileLaw, not {type(law.law).__name__}")
    return law.law
