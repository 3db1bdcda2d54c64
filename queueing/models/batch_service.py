"""Batch service: whatever waits is served at once, in seconds affine in how many there are.

Notation.  Poisson arrivals at λ per second; a batch of n takes α·n + τ0 seconds, in which all n stay until its end, and
the next batch is everyone who came meanwhile, or else the next to come.  ρ = λα < 1 and x = λτ0.  Batch sizes B are a
chain:  B' = max(1, A),  A Poisson with mean ρB + x.  q = P(A = 0) is the share of batches followed by idleness.

    E[B] = (x + q)/(1 - ρ) ,     E[T] = α(2+ρ)(1+2ρx)/(2(1-ρ²)) + τ0(1+ρ) + (1+2ρ)·λτ0²/(2(1+ρ)(x+q)) .

So the mean sojourn depends on q alone and falls in it.  With z_0 = 0, z_{k+1} = e^{-ρ(1 - z_k)} and
P_k = Π_{j<k} e^{-x(1 - z_j)},

    q = P_∞ / Σ_k (1 - z_k)·P_k ,        1 - ρ - x <= q_J <= q <= e^{-λ(α+τ0)} ,

q_J the root of  q = e^{-(x + ρq)/(1-ρ)}  (Jensen's inequality for q = E[e^{-ρB - x}]; the last one is B >= 1).  E[T] is
φ1 at q = 0 and φ0 at q = 1 - ρ - x, hence  E[T] <= min(φ0, φ1);  φ0 is the smaller if and only if λ(α + τ0) < 1, where
even a batch of one is served faster than the next arrives.

Sources: arXiv 1912.06322 for model and min(φ0, φ1) (published; recalled).  The formula in q, the series for q, q_J and
the lower bound are our derivation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import sympy
from numpy.typing import NDArray
from scipy import stats
from scipy.special import lambertw

from queueing.models.closed_form import ClosedForm
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity

__all__ = ["CLAIMS", "BatchLaw", "BatchService", "derivation"]

SMALL = 1e-200  # odds whose products are no longer exact in floats
LARGEST = 5000  # states of the chain; its matrix has the square of it


@dataclass(frozen=True, slots=True, eq=False)
class BatchLaw:
    """Stationary law of batch sizes 1, ..., K where arrivals beyond K are lost; `lost` bounds what that does.

    Sizes are stochastically smaller than without K, and with e = E[(A - K)^+], e2 = E[A²; A > K]:
    q is too large by e at most, E[B] too small by e/(1-ρ), E[B²] by `lost` = ((1+2x)·e/(1-ρ) + e2)/(1-ρ²).
    """

    probability: NDArray[np.float64]
    idle: float
    lost: float

    def moment(self, n: int) -> float:
        """E[B^n]."""
        return float(self.probability @ np.arange(1.0, len(self.probability) + 1) ** n)


@dataclass(frozen=True, slots=True)
class BatchService:
    """Arrivals at `rate` λ per second; a batch of n takes `each`·n + `base` = α·n + τ0 seconds.

    Each method that returns a pair computes it from the stationary law of the chain of batch sizes.

    Raises:
        ValueError: λ is not positive, α or τ0 negative, both 0, or λα >= 1.

    Example:
        >>> node = BatchService(rate=0.8, each=1.0, base=2.0)
        >>> [round(value, 5) for value in node.bound()]
        [18.88189, 18.88889]
    """

    rate: float
    each: float
    base: float

    def __post_init__(self) -> None:
        if not self.rate > 0 or min(self.each, self.base) < 0 or not 0 < self.each + self.base < math.inf:
            raise ValueError(f"give λ > 0 and α, τ0 >= 0, not both 0; not {self}")
        if self.load >= 1:
            raise ValueError(f"λα is {self.load:.3g}; the queue is stable below 1, so lower the rate")

    @property
    def load(self) -> float:
        """ρ = λα."""
        return self.rate * self.each

    def law(self, error: float = 1e-9) -> BatchLaw:
        """The law of batch sizes, with so many states that `lost` is at most `error`.

        Raises:
            ValueError: more than 5000 states are needed.
        """
        rho, x = self.load, self.rate * self.base
        mean = (x + 1) / (1 - rho)
        size = math.ceil(mean + 4 * math.sqrt(mean / (1 - rho**2)) + 4)
        while size <= LARGEST:
            n = np.arange(1, size + 1)
            arriving = rho * n + x
            rows = stats.poisson.pmf(n[None, :], arriving[:, None])
            idle = np.exp(-arriving)
            rows[:, 0] += idle
            rows[:, -1] += stats.poisson.sf(size, arriving)
            system = rows.T - np.eye(size)
            system[-1] = 1.0
            law = np.linalg.solve(system, np.eye(size)[-1])
            beyond = law @ (arriving * stats.poisson.sf(size - 1, arriving))  # E[A; A > K] >= e
            square = law @ (arriving**2 * stats.poisson.sf(size - 2, arriving)) + beyond
            lost = float(((1 + 2 * x) * beyond / (1 - rho) + square) / (1 - rho**2))
            if lost <= error:
                return BatchLaw(law, float(law @ idle), lost)
            size += math.ceil(size / 2)
        raise ValueError(
            f"λα = {rho:.4g} needs more than {LARGEST} states; use idle_share and sojourn_at, which need none"
        )

    def idle(self) -> ClosedForm[float]:
        """q, share of batches after which nobody waits:  P_∞/Σ (1 - z_k)·P_k.

        The generating function of B satisfies  f(z) = e^{-x(1-z)}·f(e^{-ρ(1-z)}) - q(1-z)  and f(0) = 0; it is unrolled
        from z = 0.  1 - z_k falls by the factor ρ at least, and the series ends where the rest is below 1e-16.
        """
        return ClosedForm(self.law().idle, self.idle_share)

    def mean_batch(self) -> ClosedForm[float]:
        """E[B] = (λτ0 + q)/(1 - ρ); it grows with λ (published), so a fixed cost of a batch is shared by more."""
        return ClosedForm(self.law().moment(1), (self.rate * self.base + self.idle_share) / (1 - self.load))

    def mean_sojourn(self) -> ClosedForm[float]:
        """E[T], seconds from arrival to the end of the batch, waiting included, by the formula at q.

        Computed: E[B·H + λH²/2]/E[B] with H = αB + τ0, requests held over time (Little).
        """
        return ClosedForm(self._by_law(), self.sojourn_at(self.idle_share))

    def bound(self) -> ClosedForm[float]:
        """E[T] <= min(φ0, φ1), in seconds.  Equal if τ0 = 0; the gap vanishes as λ -> 0 and as λα -> 1.

        φ0 = (α+τ0)/(2(1-λα))·(1 + 2λτ0 + (1-λτ0)/(1+λα)),   φ1 = 3τ0/(2(1-λα)) + (α/2)(λα+2)/(1-λ²α²).
        """
        return ClosedForm(self._by_law(), min(self.low_load_bound, self.high_load_bound))

    @property
    def idle_share(self) -> float:
        """The share q by its series, whatever the load; ``sojourn_at(idle_share)`` is E[T]."""
        rho, x = self.load, self.rate * self.base
        gap, product, total = 1.0, 1.0, 0.0  # 1 - z_k, P_k
        while gap * (1 + x) > 1e-16 * (1 - rho):
            total += gap * product
            product *= math.exp(-x * gap)
            gap = -math.expm1(-rho * gap)
        return product / total

    @property
    def low_load_bound(self) -> float:
        """φ0, the formula at q = 1 - λ(α + τ0), that is E[B] = 1."""
        rho, x, one = self.load, self.rate * self.base, self.each + self.base
        return one / (2 * (1 - rho)) * (1 + 2 * x + (1 - x) / (1 + rho))

    @property
    def high_load_bound(self) -> float:
        """φ1, the formula at q = 0: never idle."""
        rho = self.load
        return 1.5 * self.base / (1 - rho) + self.each / 2 * (rho + 2) / (1 - rho**2)

    def enclosure(self) -> tuple[float, float]:
        """Bounds of E[T] by the two bounds of q; the upper one is at most min(φ0, φ1).

        q_J = ((1-ρ)/ρ)·W_0((ρ/(1-ρ))·e^{-x/(1-ρ)}), or e^{-x} if ρ = 0.
        """
        rho, x = self.load, self.rate * self.base
        odds = rho / (1 - rho)
        least = float(lambertw(odds * math.exp(-x / (1 - rho))).real) / odds if odds > SMALL else math.exp(-x)
        return self.sojourn_at(math.exp(-rho - x)), self.sojourn_at(least)

    def sojourn_at(self, idle: float) -> float:
        """E[T] as a function of q."""
        rho, x = self.load, self.rate * self.base
        batch = self.each * (2 + rho) * (1 + 2 * rho * x) / (2 * (1 - rho**2)) + self.base * (1 + rho)
        if x == 0:
            return batch
        return batch + (1 + 2 * rho) * x * self.base / (2 * (1 + rho) * (x + idle))

    def _by_law(self) -> float:
        law = self.law()
        one, two = law.moment(1), law.moment(2)
        together = self.each * two + self.base * one
        square = self.each**2 * two + 2 * self.each * self.base * one + self.base**2
        return (together + self.rate * square / 2) / one


def derivation() -> tuple[Identity, ...]:
    """The algebra of moments, bounds and limits, in symbols."""
    lam, alpha, tau, q, z, m1, m2 = sympy.symbols("lambda alpha tau_0 q z m_1 m_2", positive=True)
    rho, x = lam * alpha, lam * tau
    h1, h2 = alpha * m1 + tau, alpha**2 * m2 + 2 * alpha * tau * m1 + tau**2
    # B' = A + [A = 0], E[A | H] = λH, E[A² | H] = λH + (λH)²
    solved = sympy.solve([lam * h1 + q - m1, lam * h1 + lam**2 * h2 + q - m2], [m1, m2], dict=True)[0]
    sojourn = ((alpha * m2 + tau * m1) + lam * h2 / 2) / m1
    general = sojourn.subs(solved)
    stated = (
        alpha * (2 + rho) * (1 + 2 * rho * x) / (2 * (1 - rho**2))
        + tau * (1 + rho)
        + (1 + 2 * rho) * lam * tau**2 / (2 * (1 + rho) * (x + q))
    )
    low = (alpha + tau) / (2 * (1 - rho)) * (1 + 2 * x + (1 - x) / (1 + rho))
    high = 3 * tau / (2 * (1 - rho)) + alpha / 2 * (rho + 2) / (1 - rho**2)
    size, k = sympy.symbols("n k", integer=True, positive=True)
    mean = rho * size + x
    terms = sympy.exp(-mean) * (sympy.exp(mean * z) - 1) + sympy.exp(-mean) * z  # Σ_{k>=1} z^k + [A = 0]·z
    slope = -(1 + 2 * rho) * lam * tau**2 / (2 * (1 + rho) * (x + q) ** 2)
    heavy = sympy.limit((1 - k) * high.subs(lam, k / alpha), k, 1)
    return (
        Identity("mean batch", solved[m1], (x + q) / (1 - rho)),
        Identity("mean sojourn", general, stated),
        Identity("it falls in q", sympy.diff(stated, q), slope),
        Identity("φ0 is the value at E[B] = 1", stated.subs(q, 1 - rho - x), low),
        Identity("φ1 is the value at q = 0", stated.subs(q, 0), high),
        Identity(
            "which is smaller",
            (low - high) * 2 * lam * (1 + rho),
            -(1 + 2 * rho) * x * (1 - rho - x) / (1 - rho),
        ),
        Identity(
            "one step of the generating function",
            terms,
            sympy.exp(-x * (1 - z)) * sympy.exp(-rho * (1 - z) * size) - sympy.exp(-mean) * (1 - z),
        ),
        Identity("no delay but service as λ -> 0", sympy.limit(low, lam, 0), alpha + tau),
        Identity(
            "φ0 and the lower bound agree to first order in λ",
            sympy.limit(sympy.diff(stated.subs(q, sympy.exp(-rho - x)) - low, lam), lam, 0),
            0,
        ),
        Identity("(1 - ρ)·φ1 as ρ -> 1", heavy, sympy.Rational(3, 2) * (tau + alpha / 2)),
    )


def _derived_with(spread: int, fresh: int) -> tuple[Identity, ...]:
    """Mean batch and sojourn, if E[A² | H] is `spread`·λH + (λH)² and the server starts `fresh` requests when idle."""
    lam, alpha, tau, q, m1, m2 = sympy.symbols("lambda alpha tau_0 q m_1 m_2", positive=True)
    rho, x = lam * alpha, lam * tau
    h1, h2 = alpha * m1 + tau, alpha**2 * m2 + 2 * alpha * tau * m1 + tau**2
    square = spread * lam * h1 + lam**2 * h2 + fresh * q
    found = sympy.solve([lam * h1 + fresh * q - m1, square - m2], [m1, m2], dict=True)[0]
    sojourn = ((alpha * m2 + tau * m1) + lam * h2 / 2) / m1
    batch = alpha * (2 + rho) * (1 + 2 * rho * x) / (2 * (1 - rho**2))
    stated = batch + tau * (1 + rho) + (1 + 2 * rho) * lam * tau**2 / (2 * (1 + rho) * (x + q))
    return (Identity("mean sojourn", sojourn.subs(found), stated),)


CLAIMS = (
    Claim(
        name="batch-service-sojourn",
        statement="Take-all batch service has mean sojourn α(2+ρ)(1+2ρx)/(2(1-ρ²)) + τ0(1+ρ) + "
        "(1+2ρ)·λτ0²/(2(1+ρ)(x+q)), ρ = λα, x = λτ0; it falls in q, and is φ1 at q = 0 and φ0 at q = 1 - ρ - x, hence "
        "at most min(φ0, φ1).",
        assumptions=(
            "Poisson arrivals at λ < 1/α; a batch of n takes αn + τ0 seconds, and takes all that wait",
            "q, the share of batches followed by idleness, is at least 0 and at least 1 - ρ - x (as E[B] >= 1)",
        ),
        source="arXiv 1912.06322 for min(φ0, φ1) (published; recalled); the formula in q is our derivation",
        kind=Kind.IDENTITY,
        evidence=derivation,
        controls={
            "the number that comes during a batch does not vary": lambda: _derived_with(0, 1),
            "nobody starts an idle server": lambda: _derived_with(1, 0),
        },
        where="docs/models/batch_service.md",
    ),
)
