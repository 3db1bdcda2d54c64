"""Speculative decoding under load: what a draft model saves when the batch is small, and costs when it is not.

Notation.  A request of m output tokens is prefilled and then decoded in rounds: k tokens are drafted one by one, and
verified together.  Each drafted token is accepted with probability α if all before it were; a round yields the accepted
tokens and one more.  A stage costs  base + slope·B  seconds in a batch of B requests.  λ requests per second; L seconds
from arrival to the last token.  k = 0 is plain decoding.

    L = C1 + C2·B  with  B = λ·L  (Little)   gives   L = C1/(1 - λ·C2),

where C1 adds up the bases and C2 the slopes: prefill once, verify once a round, draft k times a round.

Source: arXiv 2605.15051 (published; recalled).  The mean over Poisson arrivals, the break-even rate and both
limits are our derivation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import sympy
from scipy.optimize import root_scalar

from queueing.models.closed_form import ClosedForm
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity

__all__ = [
    "CLAIMS",
    "Cost",
    "Speculation",
    "Stage",
    "blow_up",
    "break_even",
    "derivation",
    "latency",
    "poisson_latency",
    "rounds",
    "speedup_limit",
    "tokens_per_round",
]

DOUBLINGS = 64  # of the number of iterations: 2^64 of them settle whatever floats can tell from divergence


class Stage(NamedTuple):
    """One call of a model takes  base + slope·B  seconds in a batch of B requests."""

    base: float
    slope: float


FREE = Stage(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Cost:
    """Latency of a request in a batch of B:  L = C1 + C2·B, with C1 = `fixed` > 0 and C2 = `per_request` >= 0 (s).

    Raises:
        ValueError: C1 <= 0 or C2 < 0.
    """

    fixed: float
    per_request: float

    def __post_init__(self) -> None:
        if not (self.fixed > 0 and self.per_request >= 0):
            raise ValueError(
                f"a request takes time: give C1 > 0 and C2 >= 0, not {self.fixed}, {self.per_request}"
            )

    def in_batch(self, batch: float) -> float:
        """Latency (s) in a batch that always holds `batch` requests."""
        return self.fixed + self.per_request * batch


@dataclass(frozen=True, slots=True)
class Speculation:
    """How requests are decoded: `output` m tokens, `accept` α, `drafted` k tokens a round, and the stages' costs.

    `verify` is one call over k + 1 tokens of each request, `draft` one call of the draft model, `prefill` the prompt.

    Assumptions: α depends neither on the position nor on the batch (batch-dependent acceptance is open); rounds are
    counted as m/E[tokens of a round], see :func:`rounds`; every stage sees the same batch.

    Raises:
        ValueError: α outside [0, 1], k < 0 or m < 1.
    """

    output: int
    accept: float
    drafted: int
    verify: Stage
    draft: Stage = FREE
    prefill: Stage = FREE

    def __post_init__(self) -> None:
        _checked(self.output, self.accept, self.drafted)

    @property
    def cost(self) -> Cost:
        """C1 and C2 of a request."""
        n = self.output / float(tokens_per_round(self.accept, self.drafted).stated)
        fixed, slope = (
            p + n * (v + self.drafted * d)
            for p, v, d in zip(self.prefill, self.verify, self.draft, strict=True)
        )
        return Cost(fixed, slope)


def tokens_per_round(accept: Fraction | float, drafted: int) -> ClosedForm[Fraction]:
    """Mean tokens of a round:  (1 - α^(k+1))/(1 - α),  which is k + 1 at α = 1.

    Computed: the mean over the number of accepted tokens, which is j < k with probability α^j·(1 - α) and k with α^k.
    """
    _checked(1, accept, drafted)
    a = Fraction(accept)
    stated = (1 - a ** (drafted + 1)) / (1 - a) if a != 1 else Fraction(drafted + 1)
    return ClosedForm(sum(((j + 1) * p for j, p in enumerate(_accepted(a, drafted))), Fraction(0)), stated)


def rounds(output: int, accept: Fraction, drafted: int) -> ClosedForm[Fraction]:
    """Mean number of rounds for m tokens, and its estimate  m/E[tokens of a round]  (stated).

    The estimate is low by at most k/E[tokens of a round]: what the last round yields beyond m (Wald's identity).
    Computed: by the recursion on the tokens that are left.
    """
    _checked(output, accept, drafted)
    law, mean = _accepted(Fraction(accept), drafted), [Fraction(0)]
    for left in range(1, output + 1):
        mean.append(1 + sum((p * mean[max(0, left - j - 1)] for j, p in enumerate(law)), Fraction(0)))
    return ClosedForm(mean[output], output / tokens_per_round(accept, drafted).stated)


def latency(rate: float, cost: Cost) -> ClosedForm[float]:
    """Latency (s) at λ = `rate` requests per second:  L = C1/(1 - λ·C2).

    Computed: by iterating L <- C1 + C2·(λ·L), 2^64 times.

    Assumptions: a request sees the time average of the batch.  It sees one request more, itself; see
    :func:`poisson_latency`.  The difference is the factor 1 + C2/C1.

    Raises:
        ValueError: λ·C2 >= 1, where the batch grows without bound.

    Example:
        >>> latency(1.0, Cost(fixed=3.0, per_request=0.25))
        ClosedForm(computed=4.0, stated=4.0)
    """
    _stable(rate, cost)
    return ClosedForm(_iterated(rate, cost), cost.fixed / (1 - rate * cost.per_request))


def poisson_latency(rate: float, cost: Cost) -> ClosedForm[float]:
    """Mean latency (s) with Poisson arrivals and rounds much shorter than L:  E[L] = (C1 + C2)/(1 - λ·C2).

    While n requests are present each gets 1/(C1 + C2·n) of its work done per second: a processor-sharing queue, whose
    mean does not depend on the law of the work.
    Computed: from the balance equations for exponential work, n up to twelve standard deviations and more, and Little.

    Source: our derivation; insensitivity is Kelly's theorem on symmetric queues (cited).

    Raises:
        ValueError: λ·C2 >= 1.
    """
    _stable(rate, cost)
    load = rate * cost.per_request
    stated = (cost.fixed + cost.per_request) / (1 - load)
    most = math.ceil(rate * stated + (12 * math.sqrt(rate * stated) + 60) / (1 - load))
    n = np.arange(1, most + 1)
    log_weight = np.concatenate(([0.0], np.cumsum(np.log(rate * (cost.fixed + cost.per_request * n) / n))))
    weight = np.exp(log_weight - log_weight.max())
    return ClosedForm(float(weight[1:] @ n / weight.sum()) / rate, stated)


def blow_up(cost: Cost) -> ClosedForm[float]:
    """Rate (requests/s) at which latency has no bound:  1/C2.

    Computed: by bisection, the largest rate at which the iteration of :func:`latency` settles.

    Raises:
        ValueError: C2 = 0: latency never blows up.
    """
    if cost.per_request == 0:
        raise ValueError("C2 = 0: requests do not slow each other down, and no rate is too high")
    low, high = 0.0, 1.0
    while math.isfinite(_iterated(high, cost)):
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if math.isfinite(_iterated(middle, cost)) else (low, middle)
    return ClosedForm(low, 1 / cost.per_request)


def speedup_limit(plain: Cost, speculative: Cost, batch: float) -> ClosedForm[float]:
    """Speed-up in a *closed* system whose batch B grows:  C2 of plain over C2 of speculative decoding.

    Computed: (C1 + C2·B)/(C1' + C2'·B) at B = `batch`; it is off by |C1·C2' - C1'·C2|/(C2'·(C1' + C2'·B)).
    Not promised: the same limit at high *rates*.  There the speed-up tends to 0 or to infinity at the smaller of both
    blow-up rates, and is C1/C1' throughout if both are equal.

    Raises:
        ValueError: C2' = 0.
    """
    if speculative.per_request == 0:
        raise ValueError("speculative decoding with C2 = 0 gains without limit; give its cost per request")
    return ClosedForm(
        plain.in_batch(batch) / speculative.in_batch(batch), plain.per_request / speculative.per_request
    )


def break_even(plain: Cost, speculative: Cost) -> ClosedForm[float]:
    """Rate (requests/s) at which both take equally long:  (C1 - C1')/(C1·C2' - C1'·C2).

    Below it the one with the smaller C1 is faster, above it the one with the smaller C2.
    Computed: by bisection on the two latencies.

    Raises:
        ValueError: one of both is nowhere slower, so that no rate is even.
    """
    gain, loss = plain.fixed - speculative.fixed, speculative.per_request - plain.per_request
    if gain * loss <= 0:
        raise ValueError(f"no rate is even: one of {plain} and {speculative} is nowhere slower")
    first = min(1 / cost.per_request for cost in (plain, speculative) if cost.per_request)

    def ahead(share: float) -> float:  # 1/L is finite up to the blow-up itself
        rate = share * first
        return (1 - rate * speculative.per_request) / speculative.fixed - (
            1 - rate * plain.per_request
        ) / plain.fixed

    even = root_scalar(ahead, bracket=(0.0, 1.0), xtol=1e-15, rtol=1e-14).root * first
    stated = gain / (plain.fixed * speculative.per_request - speculative.fixed * plain.per_request)
    return ClosedForm(float(even), stated)


def derivation() -> tuple[Identity, ...]:
    """The algebra of every statement above, in symbols."""
    c1, c2, d1, d2, rate, batch, mean = sympy.symbols("C1 C2 C1' C2' lambda B N", positive=True)
    found = sympy.solve(sympy.Eq(mean, rate * (c1 + c2 * mean)), mean)[0] / rate  # N = λL
    # balance (n + 1)·π(n + 1) = λ(C1 + C2(n + 1))·π(n), summed over n
    shared = sympy.solve(sympy.Eq(mean, rate * (c1 + c2 * (mean + 1))), mean)[0] / rate
    speedup = c1 / (1 - rate * c2) * (1 - rate * d2) / d1
    even = sympy.solve(sympy.Eq(speedup, 1), rate)[0]
    alpha, k = sympy.symbols("alpha k", positive=True)
    tokens = (1 - alpha ** (k + 1)) / (1 - alpha)
    return (
        Identity("Little's law and L = C1 + C2·B", found, c1 / (1 - rate * c2)),
        Identity("balance of the sharing queue, and Little", shared, (c1 + c2) / (1 - rate * c2)),
        Identity(
            "speed-up as the batch grows",
            sympy.limit((c1 + c2 * batch) / (d1 + d2 * batch), batch, sympy.oo),
            c2 / d2,
        ),
        Identity(
            "slope of the speed-up in the rate",
            sympy.diff(speedup, rate) * (1 - rate * c2) ** 2 * d1 / c1,
            c2 - d2,
        ),
        Identity("break-even rate", even, (c1 - d1) / (c1 * d2 - d1 * c2)),
        Identity("one more token drafted adds α^(k+1)", tokens.subs(k, k + 1) - tokens, alpha ** (k + 1)),
    )


def _accepted(accept: Fraction, drafted: int) -> list[Fraction]:
    """Probabilities that 0, ..., k drafted tokens are accepted."""
    return [accept**j * (1 - accept) for j in range(drafted)] + [accept**drafted]


def _iterated(rate: float, cost: Cost) -> float:
    slope, intercept = rate * cost.per_request, cost.fixed  # L <- intercept + slope·L, composed with itself
    for _ in range(DOUBLINGS):
        slope, intercept = slope * slope, intercept * (1 + slope)
        if slope > 1:
            return math.inf
    return intercept


def _stable(rate: float, cost: Cost) -> None:
    if not rate > 0:
        raise ValueError(f"the rate is {rate} requests/s; give one above 0")
    if rate * cost.per_request >= 1:
        raise ValueError(
            f"at {rate} requests/s the batch grows without bound; stay below {1 / cost.per_request:.6g}"
        )


def _checked(output: int, accept: Fraction | float, drafted: int) -> None:
    if output < 1 or not 0 <= accept <= 1 or drafted < 0:
        raise ValueError(f"give m >= 1, α in [0, 1] and k >= 0, not {output}, {accept}, {drafted}")


def _one_mean() -> tuple[Identity, ...]:
    """Poisson arrivals taken for a constant number in the batch, and draft tokens that depend on none before them."""
    little, shared = derivation()[:2]
    alpha, k = sympy.symbols("alpha k", positive=True)
    tokens = (1 - alpha ** (k + 1)) / (1 - alpha)
    return (
        Identity("both means are one", little.computed, shared.computed),
        Identity("every drafted token adds α", tokens.subs(k, k + 1) - tokens, alpha),
    )


CLAIMS = (
    Claim(
        name="speculative-latency",
        statement="Speculative decoding has latency C1/(1 - λC2) with the batch held at its mean, (C1 + C2)/(1 - λC2) "
        "under Poisson arrivals; its speed-up moves with the sign of C2 - C2' in λ, is 1 at "
        "λ = (C1 - C1')/(C1·C2' - C1'·C2), and tends to C2/C2' as the batch grows.",
        assumptions=(
            "a stage costs affinely in its batch",
            "a token is accepted with probability α if all before it were",
        ),
        source="arXiv 2605.15051 for C1/(1 - λC2) (published; recalled); Poisson mean and limits: our derivation",
        kind=Kind.IDENTITY,
        evidence=derivation,
        controls={"a Poisson number taken for its mean": _one_mean},
        where="docs/models/speculative.md",
    ),
)
