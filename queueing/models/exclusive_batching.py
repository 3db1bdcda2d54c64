"""Exclusive or mixed batching: how far to let a batch of decodes run down before prefill takes over.

Notation.  Exclusive batching (EB) decodes N requests until k of them at least are complete, then prefills one new
request for each of those: a sawtooth.  A prefill of n prompts takes α_p + β_p·n seconds, a decode of n α_d + β_d·n.
In an iteration each request ends with probability p0 (geometric outputs, constant hazard).  θ = k/N,  κ = p0·α_p/α_d.

    seconds per request    (α_p + α_d·ln(1/(1 - θ))/p0)/(θN) + β_p + β_d/p0 ,   least at the root θ0 of
    θ/(1 - θ) + ln(1 - θ) = κ :     θ0 = 1 + 1/W_{-1}(-e^{-(1+κ)}) ,   where it is  α_d/(p0·N·(1 - θ0)) + β_p + β_d/p0 .

Mixed batching (MB) keeps all N places filled: a new prompt joins the iteration after a request ends, and every place
ends with p0 in each.  An iteration takes α + β'_p·(prompts in it) + β'_d·N seconds and completes N·p0 in the mean.

    Δ(N) = EB - MB = X/N + Y,    X = (α_d/(1 - θ0) - α)/p0,    Y = β_p - β'_p + (β_d - β'_d)/p0    seconds per request.

Assumptions: a backlog of prompts; outputs without memory; no limit on KV tokens (see `sawtooth_memory`).
Source: arXiv 2606.00516 for EB, the equation of θ0, its limit k*/N → θ0 and a scalar Δ(N) (published; recalled, not
quoted).  Lambert form, whole iterations, finite N, Δ as written here and the crossover are our derivation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import sympy
from numpy.typing import NDArray
from scipy.special import gammaln, lambertw

from queueing.models.closed_form import ClosedForm
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity
from queueing.proofs.threshold import ThresholdEnclosure

__all__ = [
    "CLAIMS",
    "Exclusive",
    "Mixed",
    "Sawtooth",
    "advantage",
    "best_refill",
    "crossover",
    "derivation",
    "enclosed_threshold",
    "sawtooth",
    "threshold",
]

SMALLEST, LARGEST = 1e-6, 600.0  # κ: below, W is too near its branch point for floats; above, e^{-κ} is lost
MOST = 4096  # requests up to which a crossover is sought: the chain of N takes N² operations


class Exclusive(NamedTuple):
    """Costs of separate batches: `prefill` α_p, `decode` α_d (s), `per_prompt` β_p, `per_decode` β_d (s a request)."""

    prefill: float
    decode: float
    per_prompt: float = 0.0
    per_decode: float = 0.0


class Mixed(NamedTuple):
    """Costs of a mixed iteration: `base` α (s), `per_prompt` β'_p, `per_decode` β'_d (s a request)."""

    base: float
    per_prompt: float = 0.0
    per_decode: float = 0.0


def threshold(kappa: float, hazard: float = 0.0) -> ClosedForm[float]:
    """Best share of requests to let finish, for many requests:  1 + 1/(c·W_{-1}(-e^{-(1+κ)/c}/c)).

    With `hazard` 0 outputs end in continuous time, c = 1, and it is θ0.  With p0 > 0 iterations are whole, the share
    complete after t of them is  θ_t = 1 - (1 - p0)^t,  and one iteration more lowers the cost per request if and only
    if  θ_t/(1 - θ_t) + c·ln(1 - θ_t) < κ,  c = p0/(-ln(1 - p0)).  So the first iteration to reach the root is the last.

    Computed: the root by bisection.  It is unique: the left side has the slope (1 - c + c·θ)/(1 - θ)² > 0.

    Args: kappa, κ = p0·α_p/α_d; hazard, p0 in [0, 1).

    Raises:
        ValueError: κ is not in [10⁻⁶, 600·c], or p0 not in [0, 1).

    Example:
        >>> round(threshold(1.0).stated, 6)
        0.682156
    """
    if not 0 <= hazard < 1:
        raise ValueError(f"give p0 at least 0 and below 1, not {hazard}")
    c = -hazard / math.log1p(-hazard) if hazard > 0 else 1.0
    if not SMALLEST <= kappa <= LARGEST * c:
        raise ValueError(f"give κ = p0·α_p/α_d between {SMALLEST} and {LARGEST * c:.6g}, not {kappa}")
    low, high = 0.0, 4 * kappa + 8  # of the odds θ/(1 - θ), in which a large root is as exact as a small one
    while low < (middle := (low + high) / 2) < high:
        if middle - c * math.log1p(middle) < kappa:
            low = middle
        else:
            high = middle
    stated = 1 + 1 / (c * complex(lambertw(-math.exp(-(1 + kappa) / c) / c, -1)).real)
    return ClosedForm(high / (1 + high), stated)


def enclosed_threshold(kappa: Fraction, width: Fraction = Fraction(1, 10**9)) -> ThresholdEnclosure:
    """θ0 between two fractions, at most `width` apart, with a certificate.

    Raises:
        ValueError: κ is out of range, or the width too small for floats to propose the interval.
    """
    middle = Fraction(threshold(float(kappa)).computed)
    found = ThresholdEnclosure(kappa, max(Fraction(0), middle - width / 2), middle + width / 2)
    if not found.holds:
        raise ValueError(
            f"no interval of width {float(width)} could be proved; give one above 1e-15 and below 1 - θ0"
        )
    return found


def best_refill(active: int, kappa: Fraction) -> ClosedForm[Fraction]:
    """The best k/N of N requests whose outputs end at rate p0 each in continuous time, and θ0.

    **Nθ0 - 1/2 < k* < Nθ0 + 1**, hence |k*/N - θ0| < 1/N.  With n requests left the next ends after 1/(p0·n)
    iterations, so k take S_k/p0 in the mean,  S_k = Σ_{i=N-k+1}^N 1/i,  and k* is the first k < N with
    k/(N - k) >= κ + S_k,  or N.  Now  ln(N/(N - k)) - k/(2N(N - k)) < S_k < ln(N/(N - k)),  by trapezoids and
    integral:  k >= Nθ0 is enough, and  θ = k*/N < θ0  needs  (θ0 - θ)·θ/(1 - θ)² <= θ/(2N(1 - θ)).

    Computed: exactly, from that death process.  `stated` is θ0 to float precision.

    Args: active, N >= 1; kappa, κ in [10⁻⁶, 600].

    Raises:
        ValueError: N < 1 or κ out of range.
    """
    if active < 1:
        raise ValueError(f"a batch has at least one request, not {active}")
    stated = Fraction(threshold(float(kappa)).stated)
    waited = Fraction(0)
    for k in range(1, active):
        waited += Fraction(1, active - k + 1)
        if k >= (active - k) * (kappa + waited):
            return ClosedForm(Fraction(k, active), stated)
    return ClosedForm(Fraction(1), stated)


@dataclass(frozen=True, slots=True, eq=False)
class Sawtooth:
    """For k = 1, ..., N in turn: mean `iterations` until k of N requests are complete, and mean `completed` by then."""

    iterations: NDArray[np.float64]  # [N]
    completed: NDArray[np.float64]  # [N], more than k: several may end in the last iteration

    def seconds(self, costs: Exclusive, hazard: float) -> NDArray[np.float64]:
        """Seconds per request for each k, by renewal-reward; decodes cost β_d/p0 a request whatever k (Wald), [N]."""
        fixed = (costs.prefill + costs.decode * self.iterations) / self.completed
        return fixed + costs.per_prompt + costs.per_decode / hazard


def sawtooth(active: int, hazard: float) -> Sawtooth:
    """The exact chain of whole iterations, by the mean iterations m_d that a cycle spends with d requests complete.

    m_d·(1 - (1 - p0)^(N-d)) = 1{d = 0} + Σ_{e<d} m_e·P(e → d),  where D moves from e to d as N - e coins say.  Then
    E[T_k] = Σ_{d<k} m_d  and  E[D_{T_k}] = p0·Σ_{d<k} (N - d)·m_d.

    No rule for refilling that looks at the past beats the best k: if g is the least fixed cost per request, one
    iteration more pays if and only if  α_d < g·p0·(N - d),  and once it does not it never will.

    Raises:
        ValueError: N < 1 or p0 not in (0, 1).
    """
    if active < 1 or not 0 < hazard < 1:
        raise ValueError(f"give N >= 1 and p0 strictly between 0 and 1, not {active} and {hazard}")
    factorial = gammaln(np.arange(active + 1) + 1.0)  # logarithms
    ends, stays = math.log(hazard), math.log1p(-hazard)
    spent = np.zeros(active)
    spent[0] = 1.0
    for d in range(active):
        n = active - d
        spent[d] /= -math.expm1(n * stays)
        j = np.arange(1, n)
        law = np.exp(factorial[n] - factorial[j] - factorial[n - j] + j * ends + (n - j) * stays)
        spent[d + 1 :] += spent[d] * law
    return Sawtooth(np.cumsum(spent), hazard * np.cumsum(spent * np.arange(active, 0, -1)))


def advantage(active: int, hazard: float, exclusive: Exclusive, mixed: Mixed) -> ClosedForm[float]:
    """Δ(N), seconds per request of EB at its best less those of MB: below 0 EB is faster, above 0 MB.

    Stated:  X/N + Y.  If both pay equally per token, Y = 0, its sign does not depend on N: EB is faster if and only if
    α > α_d/(1 - θ0).  Otherwise it changes at most once in N.

    Computed: by the best k of the exact chain.  Let G(N)/N be its cost of prefill and decode bases.  G grows with N:
    N requests can follow the best rule for N + 1 beside a feigned one.  So N·Δ(N) grows if Y >= 0, and **the sign
    changes once at most; if Y < 0 it may change more often**, which the stated form does not see.
    In all tests computed and stated differ by at most p0 + 1/N times  α_d/((1 - θ0)·p0·N).

    Raises:
        ValueError: N < 1, p0 not in (0, 1), a cost is negative, a base not positive, or κ out of range.
    """
    fixed, slope = _split(exclusive, mixed, hazard)
    theta = threshold(hazard * exclusive.prefill / exclusive.decode).stated
    stated = (exclusive.decode / (1 - theta) / hazard - fixed) / active
    return ClosedForm((_fixed_cost(active, hazard, exclusive) - fixed) / active + slope, stated + slope)


def crossover(exclusive: Exclusive, mixed: Mixed, hazard: float) -> ClosedForm[float]:
    """The number of requests N where the cheaper kind of batch changes:  -X/Y.

    Computed: from the exact chain, the last whole N before Δ takes the sign of Y for good.  If Y < 0, mixed batches
    are cheaper at that N and exclusive ones above; if Y > 0 the other way round.
    For Y > 0 by bisection, N·Δ(N) being monotone.  For Y < 0 from above: G(n) <= G(N) for n <= N, so no n from
    (G(N) - α/p0)/|Y| to N has Δ(n) > 0; this is repeated, from the limit G(∞), until N no longer falls.

    Both are zeros of functions that differ as said in :func:`advantage`; where X is a small difference of large costs
    they can be far apart, and one may exist without the other; `stated` may then be below 1.

    Args: hazard, p0 in (0, 1).

    Raises:
        ValueError: the sign never changes, or beyond 4096 requests; or input that :func:`advantage` refuses.

    Example:
        >>> mixed = Mixed(base=0.02, per_decode=0.0004)  # no second batch to start, but dearer decodes
        >>> found = crossover(Exclusive(prefill=0.1, decode=0.02, per_decode=0.0003), mixed, hazard=0.01)
        >>> found.computed, round(found.stated, 1)  # mixed batches up to 66 requests, exclusive above
        (66.0, 70.1)
    """
    fixed, slope = _split(exclusive, mixed, hazard)
    kappa = hazard * exclusive.prefill / exclusive.decode
    if slope == 0:
        raise ValueError("costs per token are equal, so -X/Y does not exist; take the sign of advantage")
    stated = (fixed - exclusive.decode / (1 - threshold(kappa).stated) / hazard) / slope
    if slope > 0:
        low, high = 0, MOST + 1
        while high - low > 1:
            middle = (low + high) // 2
            below = _fixed_cost(middle, hazard, exclusive) + slope * middle < fixed
            low, high = (middle, high) if below else (low, middle)
    else:
        t = max(1, math.ceil(math.log1p(-threshold(kappa, hazard).computed) / math.log1p(-hazard)))
        limit = (exclusive.prefill + exclusive.decode * t) / -math.expm1(t * math.log1p(-hazard))
        low = min(MOST, _last(limit - fixed, -slope))
        while low >= 1 and (fewer := _last(_fixed_cost(low, hazard, exclusive) - fixed, -slope)) < low:
            low = fewer
    if low < 1:
        raise ValueError(
            f"{'mixed' if slope > 0 else 'exclusive'} batches are cheaper at every N; use them always"
        )
    if low == MOST:
        raise ValueError(
            f"the crossover, at about {stated:.6g} requests, is beyond {MOST}; take it as never reached"
        )
    return ClosedForm(float(low), stated)


def _split(exclusive: Exclusive, mixed: Mixed, hazard: float) -> tuple[float, float]:
    """α/p0, what MB pays per request and 1/N;  Y, what EB pays more per request at any N."""
    if not 0 < hazard < 1:
        raise ValueError(f"give p0 strictly between 0 and 1, not {hazard}")
    if min(*exclusive, *mixed) < 0 or min(exclusive.prefill, exclusive.decode, mixed.base) <= 0:
        raise ValueError(f"costs are >= 0, and those of a batch > 0; not {exclusive} and {mixed}")
    slope = exclusive.per_prompt - mixed.per_prompt + (exclusive.per_decode - mixed.per_decode) / hazard
    return mixed.base / hazard, slope


def _fixed_cost(active: int, hazard: float, costs: Exclusive) -> float:
    """G(N): N times what EB pays per request for prefill and decode bases, at the best k."""
    bases = costs._replace(per_prompt=0.0, per_decode=0.0)
    return active * float(sawtooth(active, hazard).seconds(bases, hazard).min())


def _last(gap: float, rate: float) -> int:
    """The last whole n with rate·n < gap."""
    return math.ceil(gap / rate) - 1


def derivation() -> tuple[Identity, ...]:
    """The algebra behind the threshold, in symbols."""
    theta, kappa, c, v, q, t, K, N, k = sympy.symbols("theta kappa c v q t K N k", positive=True)
    log = sympy.log(1 - theta)
    cost = (kappa - log) / theta  # times α_d/(p0·N)
    root: Any = theta / (1 - theta) + log
    done = 1 - q**t
    y, at_root = -v / c, v - 1 - c * sympy.log(v)  # v = 1/(1 - θ)
    return (
        Identity("slope of the cost per request, times θ²", sympy.diff(cost, theta) * theta**2, root - kappa),
        Identity("cost at the root", cost.subs(kappa, root), 1 / (1 - theta)),
        Identity(
            "the left side grows, so the root is unique",
            sympy.diff(theta / (1 - theta) + c * log, theta),
            (1 - c + c * theta) / (1 - theta) ** 2,
        ),
        Identity(
            "Lambert form: y = -1/(c·(1 - θ)) at the root",
            y * sympy.exp(y),
            -sympy.exp(-(1 + at_root) / c) / c,
        ),
        Identity(
            "one more whole iteration, K = α_p/α_d: both costs per request over both shares",
            (K + t + 1) * done - (K + t) * (1 - q ** (t + 1)),
            q**t * (done / q**t - (1 - q) * (K + t)),
        ),
        Identity(
            "k/(N - k) - S_k grows with k, so the first k to reach κ is the best",
            (k + 1) / (N - k - 1) - k / (N - k) - 1 / (N - k),
            (k + 1) / ((N - k) * (N - k - 1)),
        ),
    )


def _misprints() -> tuple[Identity, ...]:
    """A logarithm of the wrong sign, and Lambert's argument without its 1."""
    theta, kappa, v = sympy.symbols("theta kappa v", positive=True)
    cost = (kappa - sympy.log(1 - theta)) / theta
    slope = sympy.diff(cost, theta) * theta**2
    at_root = v - 1 - sympy.log(v)
    return (
        Identity("slope of the cost", slope, theta / (1 - theta) - sympy.log(1 - theta) - kappa),
        Identity("Lambert form", -v * sympy.exp(-v), -sympy.exp(-at_root)),
    )


ONE = Fraction(1)


def _enclosed() -> list[ThresholdEnclosure]:
    return [enclosed_threshold(kappa) for kappa in (ONE / 10, ONE, 10 * ONE)]


def _shifted() -> list[ThresholdEnclosure]:
    """The same intervals, moved up by their width, and the threshold that forgets the logarithm: κ/(1 + κ)."""
    moved = [replace(e, low=e.high, high=2 * e.high - e.low) for e in _enclosed()]
    fluid = [replace(e, low=e.kappa / (1 + e.kappa), high=e.kappa / (1 + e.kappa)) for e in _enclosed()]
    return [*moved, *fluid]


PAGE = "docs/models/exclusive_batching.md"

CLAIMS = (
    Claim(
        name="exclusive-batching-threshold",
        statement="Exclusive batches cost least per request when they are let run down to the root θ0 of "
        "θ/(1 - θ) + ln(1 - θ) = κ, κ = p0·α_p/α_d, which is unique: θ0 = 1 + 1/W(-e^{-(1+κ)}) on the branch -1; the "
        "cost there is α_d/(p0·N·(1 - θ0)) beside what each token costs.",
        assumptions=(
            "a backlog of prompts",
            "outputs of constant hazard p0",
            "many requests, no limit on KV tokens",
        ),
        source="arXiv 2606.00516 for the equation (published; recalled); Lambert form, whole iterations: our "
        "derivation",
        kind=Kind.IDENTITY,
        evidence=derivation,
        controls={"a sign, and the 1 in Lambert's argument": _misprints},
        where=PAGE,
    ),
    Claim(
        name="exclusive-batching-enclosure",
        statement="θ0 at κ = 1/10, 1 and 10 lies in intervals of width 10⁻⁹, by fractions on both sides of logarithms.",
        assumptions=("none beside the equation",),
        source="our calculation",
        kind=Kind.RATIONAL,
        evidence=_enclosed,
        controls={"the intervals beside, and κ/(1 + κ)": _shifted},
        where=PAGE,
    ),
)
