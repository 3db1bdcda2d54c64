"""Static batching: a batch is done when its longest answer is, unless those that are done drop out.

Notation.  A batch of B requests with outputs S_1, ..., S_B (tokens, independent, one law F) takes a0 + a1·B seconds to
prefill, and c0 + c1·(requests in the batch) in each of its steps, of which there are M_B = max S_i.

    padded     a0 + a1·B + (c0 + c1·B)·M_B          all stay to the end
    elastic    a0 + a1·B + c0·M_B + c1·Σ S_i        those done drop out

    E[M_B] = Σ_{t>=0} (1 - F(t)^B) <= E[S] + σ·(B - 1)/sqrt(2B - 1)     (Gumbel; Hartley, David)

Requests per second with batches of B always full, B/E[seconds]:

- **fixed, elastic**: grows with B, to 1/(a1 + c1·E[S]), since E[M_B] is concave.
- **fixed, padded**: tends to 1/(a1 + c1·longest), and can be far above that at moderate B, since the cost c1·B·E[M_B]
  grows faster than B.  It need not have a single hump.
- **dynamic** (all that waits is one batch): stable below these limits; above them a large batch is followed by a larger
  one in the mean.  So a padded server that takes all that waits can fail at a rate that batches of a fixed B carry.  A
  clip of n tokens raises its limit to 1/(a1 + c1·n) at least.

Source: arXiv 2407.05347 for the three ways to batch and the use of order statistics (published; recalled).  Costs in
this form, the limits, and what grows are our derivation; the bound by σ is classical.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

import sympy

from queueing.models.closed_form import ClosedForm
from queueing.models.multi_bin import mean_longest
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity

__all__ = [
    "CLAIMS",
    "BatchCosts",
    "best_batch",
    "derivation",
    "longest_bound",
    "longest_geometric",
    "longest_uniform",
    "rate",
    "rate_limit",
    "seconds",
]

Law = Mapping[int, Fraction | int]  # weight of each length, tokens
ZERO = Fraction(0)


class BatchCosts(NamedTuple):
    """Seconds: `prefill` a0 and `per_prompt` a1 of a batch, `step` c0 and `per_token` c1 of each step."""

    prefill: Fraction
    per_prompt: Fraction
    step: Fraction
    per_token: Fraction


def longest_uniform(most: int, batch: int) -> ClosedForm[Fraction]:
    """E[M_B] for lengths uniform on 1, ..., N:  N - Σ_{i<=B} C(B+1, i)·β_i·N^{1-i}/(B + 1),  Bernoulli's β, β_1 = -1/2.

    That is N·B/(B + 1) + 1/2 + O(B/N).  Computed: Σ_m m·(m^B - (m - 1)^B)/N^B.

    Raises:
        ValueError: N or B is below 1.
    """
    _positive(most, batch)
    computed = sum(m * (m**batch - (m - 1) ** batch) for m in range(1, most + 1))
    tail = ZERO
    for i in range(batch + 1):
        beta = Fraction(-1, 2) if i == 1 else Fraction(str(sympy.bernoulli(i)))
        tail += math.comb(batch + 1, i) * beta * Fraction(most) ** (1 - i)
    return ClosedForm(Fraction(computed, most**batch), most - tail / (batch + 1))


def longest_geometric(stop: Fraction, batch: int) -> ClosedForm[Fraction]:
    """E[M_B] for lengths that end with probability p after each token:  Σ_{j=1}^{B} (-1)^{j+1}·C(B, j)/(1 - (1-p)^j).

    Computed: by the chain of how many are left,  m_r = 1 + Σ_j C(r, j)·(1-p)^j·p^{r-j}·m_j.

    Raises:
        ValueError: p is not in (0, 1], or B below 1.
    """
    _positive(1, batch)
    if not 0 < stop <= 1:
        raise ValueError(f"give a probability p in (0, 1], not {stop}")
    p, q = Fraction(stop), 1 - Fraction(stop)
    left = [ZERO]
    for r in range(1, batch + 1):
        rest = sum((math.comb(r, j) * q**j * p ** (r - j) * left[j] for j in range(r)), ZERO)
        left.append((1 + rest) / (1 - q**r))
    stated = sum(((-1) ** (j + 1) * math.comb(batch, j) / (1 - q**j) for j in range(1, batch + 1)), ZERO)
    return ClosedForm(left[batch], stated)


def longest_bound(law: Law, batch: int) -> ClosedForm[float]:
    """E[M_B], computed exactly, is at most  E[S] + σ·(B - 1)/sqrt(2B - 1).

    Cauchy-Schwarz of S - E[S] with B·F^{B-1} - 1, as functions on [0, 1]; sharp for some law for each B.

    Raises:
        ValueError: as for :func:`queueing.models.multi_bin.mean_longest`.
    """
    computed = mean_longest(law, batch)
    mean, square = _moment(law, 1), _moment(law, 2)
    sigma = math.sqrt(square - mean**2)
    return ClosedForm(float(computed), float(mean) + sigma * (batch - 1) / math.sqrt(2 * batch - 1))


def seconds(law: Law, batch: int, costs: BatchCosts, elastic: bool = False) -> ClosedForm[Fraction]:
    """Mean seconds of a batch:  a0 + a1·B + (c0 + c1·B)·E[M_B], or a0 + a1·B + c0·E[M_B] + c1·B·E[S] if `elastic`.

    Computed: step by step, how many are left being binomial.

    Raises:
        ValueError: a cost is negative or all are 0, or as for :func:`queueing.models.multi_bin.mean_longest`.
    """
    longest, mean = mean_longest(law, batch), _moment(law, 1)
    _paid(costs)
    fixed = costs.prefill + costs.per_prompt * batch
    kept = batch * mean if elastic else batch * longest
    total = sum(map(Fraction, law.values()), ZERO)
    computed = Fraction(fixed)
    for t in range(max(s for s, w in law.items() if w)):
        alive = sum((Fraction(w) for s, w in law.items() if s > t), ZERO) / total
        for r in range(1, batch + 1):
            chance = math.comb(batch, r) * Fraction(alive**r * (1 - alive) ** (batch - r))
            computed += chance * (costs.step + costs.per_token * (r if elastic else batch))
    return ClosedForm(computed, fixed + costs.step * longest + costs.per_token * kept)


def rate(law: Law, batch: int, costs: BatchCosts, elastic: bool = False) -> Fraction:
    """Requests per second with batches of B always full; a server that waits for B is stable below it.

    Raises:
        ValueError: as for :func:`seconds`.
    """
    _paid(costs)
    longest = mean_longest(law, batch)
    kept = _moment(law, 1) if elastic else longest
    once = costs.prefill + costs.step * longest
    return batch / (once + batch * (costs.per_prompt + costs.per_token * kept))


def rate_limit(law: Law, costs: BatchCosts, elastic: bool = False) -> Fraction:
    """The limit of :func:`rate` as B grows, below which a server that takes all that waits is stable.

    1/(a1 + c1·longest), or 1/(a1 + c1·E[S]) if `elastic`.  Foster (cited): the mean batch that follows one of n is
    λ·E[seconds of n], which for large n is less than n if and only if λ is below the limit.

    Raises:
        ValueError: nothing depends on the size of a batch, so that there is no limit.
    """
    last = _moment(law, 1) if elastic else Fraction(max(s for s, w in law.items() if w))
    each = costs.per_prompt + costs.per_token * last
    if not each:
        raise ValueError("the rate has no limit; give a cost per prompt or per token")
    return Fraction(1) / each


def best_batch(law: Law, costs: BatchCosts, most: int, elastic: bool = False) -> int:
    """The batch of at most `most` requests with the highest rate, the least of equals.

    Raises:
        ValueError: as for :func:`seconds`.
    """
    _positive(1, most)
    return max(range(1, most + 1), key=lambda b: (rate(law, b, costs, elastic), -b))


def derivation() -> tuple[Identity, ...]:
    """The order statistics and the limits, in symbols."""
    u, v = sympy.symbols("u v", positive=True)
    B = 1 + sympy.Symbol("n", integer=True, nonnegative=True)
    low, high = sympy.symbols("l h", positive=True)
    a0, a1, c0, c1, F, m, s = sympy.symbols("a_0 a_1 c_0 c_1 F m s", positive=True)
    padded = (a0 + a1 * v + (c0 + c1 * v) * m) / v  # E[M] tends to m
    elastic = (a0 + a1 * v + c0 * m + c1 * v * s) / v
    variance = sympy.integrate(sympy.expand((B * u ** (B - 1) - 1) ** 2), (u, 0, 1))
    return (
        Identity(
            "longest of B uniform",
            sympy.integrate((low + (high - low) * u) * B * u ** (B - 1), (u, 0, 1)),
            low + (high - low) * B / (B + 1),
        ),
        Identity("norm in the bound by σ", variance, (B - 1) ** 2 / (2 * B - 1)),
        Identity(
            "E[M_B] is concave: its second differences",
            (1 - F ** (B + 2)) - 2 * (1 - F ** (B + 1)) + (1 - F**B),
            -(F**B) * (1 - F) ** 2,
        ),
        Identity("limit of the padded", sympy.limit(padded, v, sympy.oo), a1 + c1 * m),
        Identity("limit of the elastic", sympy.limit(elastic, v, sympy.oo), a1 + c1 * s),
        Identity("seconds that dropping out saves", (padded - elastic) * v, c1 * v * (m - s)),
    )


def _moment(law: Law, n: int) -> Fraction:
    return sum((Fraction(w) * s**n for s, w in law.items()), ZERO) / sum(law.values(), ZERO)


def _positive(most: int, batch: int) -> None:
    if min(most, batch) < 1:
        raise ValueError(f"lengths and batches are at least 1, not {most} and {batch}")


def _paid(costs: BatchCosts) -> None:
    if min(costs) < 0 or not any(costs):
        raise ValueError(f"costs are at least 0 and not all 0, not {costs}")


def _misprints() -> tuple[Identity, ...]:
    """The longest of B as if it were the mean of B, and the waste of idle places taken for none."""
    u, a1, c0, c1, m, s, v = sympy.symbols("u a_1 c_0 c_1 m s v", positive=True)
    low, high, B = sympy.symbols("l h B", positive=True)
    longest = sympy.integrate((low + (high - low) * u) * B * u ** (B - 1), (u, 0, 1))
    padded = (a1 * v + (c0 + c1 * v) * m) / v
    return (
        Identity("longest of B uniform", longest, (low + high) / 2),
        Identity(
            "limit of the padded, paid by the mean length", sympy.limit(padded, v, sympy.oo), a1 + c1 * s
        ),
    )


CLAIMS = (
    Claim(
        name="static-batching-limits",
        statement="Full padded batches are served at a rate that tends to 1/(a1 + c1·longest), elastic ones at a rate "
        "that tends to 1/(a1 + c1·E[S]); dropping out saves c1·B·(E[M_B] - E[S]) seconds; E[M_B] is concave in B and "
        "exceeds E[S] by σ(B - 1)/sqrt(2B - 1) at most.",
        assumptions=("outputs independent, of one law with a largest length", "every batch is full"),
        source="our derivation; arXiv 2407.05347 for the ways to batch (published; recalled); the bound by σ: Gumbel, "
        "Hartley and David (classical)",
        kind=Kind.IDENTITY,
        evidence=derivation,
        controls={"all outputs are of mean length": _misprints},
        where="docs/models/static_batching.md",
    ),
)
