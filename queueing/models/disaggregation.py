"""Disaggregated serving: how many engines for prefill and decode, and how many attention engines for one FFN engine.

Notation.  λ requests per second; an engine prefills μ requests per second; TTFT and TPOT are limits on the time to the
first token and per output token (s); m_d mean output tokens; t(n) seconds of a batch of n decodes.  g engines, of which
g_p prefill; δ_p, δ_d seconds of prefill and decode work per request.  A slot holds one request after another, always
full; P, D prompt and output tokens of a request.  r attention engines of B slots each share one FFN engine.

Sources: arXiv 2603.04716 for the counts, arXiv 2601.21351 for r* (published; recalled).  The enumeration of the static
split with its loss of at most 1/g, and the load per slot by length-biased sampling, are our derivation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import sympy
from scipy.optimize import root_scalar
from scipy.special import gammaincc

from queueing.models.closed_form import ClosedForm
from queueing.models.iteration_time import Affine, Roofline
from queueing.models.replay import ExactLaw
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity
from queueing.proofs.rational import exact

__all__ = [
    "CLAIMS",
    "AttentionFfn",
    "attention_ffn_ratio",
    "decode_batch",
    "derivation",
    "prefill_decode_ratio",
    "prefill_rate",
    "slot_load",
    "static_split",
]

ZERO = Fraction(0)
MOST_PLACES = 10_000_000  # up to which the queue length of M/M/1 is summed


# --- prefill and decode --------------------------------------------------------------------------------------------


def prefill_rate(service: float, ttft: float, quantile: float | None = None) -> ClosedForm[float]:
    """Largest arrival rate (requests/s) at which one prefill engine keeps its TTFT:  λ_p = μ - h/TTFT.

    h = 1 if the mean must not exceed the limit, h = ln(1/(1 - q)) if the q-quantile must not: the sojourn time of M/M/1
    is exponential of rate μ - λ.
    Computed: from the balance equations of the queue length.  An arrival that finds n stays Erlang(n + 1, μ); the rate
    at which the mixture meets the limit is found by bisection.

    Assumptions: Poisson arrivals, exponential prefill times, first come first served, one prompt at a time.  For other
    prefill times the mean is too short if their squared coefficient of variation exceeds 1, too long below.

    Args: service, μ (requests/s); ttft (s); quantile q in (0, 1), or None for the mean.

    Raises:
        ValueError: not even an empty engine meets the limit.
    """
    if quantile is not None and not 0 < quantile < 1:
        raise ValueError(
            f"a quantile lies strictly between 0 and 1, not at {quantile}; give None for the mean"
        )
    share = 1.0 if quantile is None else math.log(1 / (1 - quantile))
    if not (service > 0 and service * ttft > share):
        raise ValueError(
            f"prefill at {service} requests/s cannot keep a limit of {ttft} s even when idle; "
            f"give μ·TTFT above {share:.4g}"
        )
    if 60 * service * ttft / share > MOST_PLACES:
        raise ValueError(f"a limit of {ttft} s does not bind at {service} requests/s; take μ itself")
    places = np.arange(math.ceil(60 * service * ttft / share))  # the rest of the queue has probability e^-60
    stay = (places + 1) / service if quantile is None else gammaincc(places + 1, service * ttft)
    limit = ttft if quantile is None else 1 - quantile

    def excess(rate: float) -> float:
        weight = (rate / service) ** places
        return float(weight @ stay / weight.sum()) - limit

    met = root_scalar(excess, bracket=(0.0, service), xtol=1e-14, rtol=1e-14).root
    return ClosedForm(float(met), service - share / ttft)


def decode_batch(law: Affine | Roofline, tpot: float, context: int) -> ClosedForm[int]:
    """Largest batch of decodes that takes at most TPOT:  B = ⌊min((TPOT - c₀)/(δ + κL), (TPOT - a)/(κL))⌋.

    L = `context` tokens in the KV cache of a decode, its new one included; c₀, δ, κ and the plateau a are the law's.
    Computed: by doubling and bisection on the law itself, in exact fractions.

    Assumptions: every decode has the mean context, and the pool is always full.

    Raises:
        ValueError: not even one decode meets the limit, or any number does.
    """
    timed, limit = ExactLaw(law, most=1), exact(tpot)
    if context < 1:
        raise ValueError(f"a decode attends to at least its own token; give context >= 1, not {context}")

    def fits(n: int) -> bool:
        return timed.seconds(n) + n * timed.decode_attention(context - 1) <= limit

    attention = exact(law.per_context) * context
    slope = exact(law.per_token) + attention
    if not fits(1):
        raise ValueError(f"one decode takes longer than {tpot} s; allow more time per output token")
    if slope == 0:
        raise ValueError(
            "decodes of this law take no time, so any batch meets the limit; give a cost per token"
        )
    low, high = 1, 2
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    stated = (limit - exact(law.base)) / slope
    if isinstance(law, Roofline) and attention:
        stated = min(stated, (limit - exact(law.plateau)) / attention)
    return ClosedForm(low, math.floor(stated))


def prefill_decode_ratio(
    service: float, ttft: float, law: Affine | Roofline, tpot: float, context: int, output: float
) -> ClosedForm[float]:
    """Prefill engines per decode engine:  (B/(m_d·t(B))) / (μ - 1/TTFT),  whatever the arrival rate.

    A decode engine finishes B/(m_d·t(B)) requests a second, a prefill engine takes in μ - 1/TTFT; λ cancels.
    Computed: the same ratio of both parts' computed values, :func:`prefill_rate` and :func:`decode_batch`.

    Assumptions: those of both parts; arrivals split at random over the prefill engines.  Counts are whole numbers:
    round both up, or see :func:`static_split`.

    Args: service, μ (requests/s); ttft, tpot (s); law of a decode batch; context (tokens); output, m_d (tokens).
    """
    if output <= 0:
        raise ValueError(f"a request has {output} output tokens in the mean; give more than 0")
    arrivals, batch = prefill_rate(service, ttft), decode_batch(law, tpot, context)
    timed = ExactLaw(law, most=1)

    def ratio(rate: float, n: int) -> float:
        return float(n / (timed.seconds(n) + n * timed.decode_attention(context - 1))) / output / rate

    return ClosedForm(ratio(arrivals.computed, batch.computed), ratio(arrivals.stated, batch.stated))


def static_split(engines: int, prefill: Fraction, decode: Fraction) -> ClosedForm[Fraction]:
    """Capacity (requests/s) of g engines, each for one phase:  max(⌊x⌋/δ_p, (g - ⌈x⌉)/δ_d),  x = g·δ_p/(δ_p + δ_d).

    Computed: the best of all g_p of  min(g_p/δ_p, (g - g_p)/δ_d).
    Guarantee: with shared engines' capacity c = g/(δ_p + δ_d),  (1 - 1/g)·c <= capacity <= c;  the right side is met
    exactly if x is a whole number, the left one exactly if (g - 1)·δ_p/(δ_p + δ_d) is.  One engine cannot be split.

    Args: engines, g; prefill, decode, δ_p and δ_d > 0 (s per request), fractions for an exact answer.

    Raises:
        ValueError: g < 1, or a phase without work.

    Example:
        >>> static_split(3, Fraction(1), Fraction(1)).stated  # of 3/2 for shared engines
        Fraction(1, 1)
    """
    if engines < 1 or prefill <= 0 or decode <= 0:
        raise ValueError(
            "a split needs an engine and work in both phases; "
            f"give g >= 1 and δ_p, δ_d > 0, not {engines}, {prefill}, {decode}"
        )
    computed = max(min(n / prefill, (engines - n) / decode) for n in range(engines + 1))
    x = engines * prefill / (prefill + decode)
    return ClosedForm(
        Fraction(computed), max(Fraction(math.floor(x)) / prefill, Fraction(engines - math.ceil(x)) / decode)
    )


# --- attention and FFN ---------------------------------------------------------------------------------------------


def slot_load(requests: Mapping[tuple[int, int], Fraction | int]) -> ClosedForm[Fraction]:
    """Stationary mean of KV tokens in a slot that is never empty:  θ = E[PD]/E[D] + E[D(D - 1)]/(2E[D]).

    A step finds a request in proportion to its D (length-biased sampling), at an age that is uniform on 0, ..., D - 1.
    The load is P + age: tokens cached before the step; counting the token of the step itself adds 1.
    Computed: from the Markov chain of the age, which ends with hazard P(D = a + 1 | D > a), and the mean prompt of
    those that get that old.

    Args: requests, the weight of each (P, D); the weights need not add up to 1.

    Raises:
        ValueError: a length is negative, D is 0, or no weight is positive.
    """
    weights = {pair: Fraction(w) for pair, w in requests.items() if w}
    if not weights or min(weights.values()) < 0 or any(p < 0 or d < 1 for p, d in weights):
        raise ValueError(f"give positive weights of pairs (P >= 0, D >= 1), not {dict(requests)}")
    total = sum(weights.values(), ZERO)
    alive, prompts = total, sum((w * p for (p, _), w in weights.items()), ZERO)
    ending: dict[int, tuple[Fraction, Fraction]] = {}
    for (p, d), w in weights.items():
        gone, theirs = ending.get(d, (ZERO, ZERO))
        ending[d] = (gone + w, theirs + w * p)
    here, mass, load = Fraction(1), ZERO, ZERO  # stationary weight of age 0 is 1
    for age in range(max(ending)):
        mass, load = mass + here, load + here * (age + prompts / alive)
        gone, theirs = ending.get(age + 1, (ZERO, ZERO))
        here *= 1 - gone / alive  # balance: age + 1 is reached from `age` alone
        alive, prompts = alive - gone, prompts - theirs

    def mean(value: Mapping[tuple[int, int], int]) -> Fraction:
        return sum((w * value[pair] for pair, w in weights.items()), ZERO) / total

    output = mean({(p, d): d for p, d in weights})
    stated = mean({(p, d): p * d for p, d in weights}) / output
    stated += mean({(p, d): d * (d - 1) for p, d in weights}) / (2 * output)
    return ClosedForm(load / mass, stated)


@dataclass(frozen=True, slots=True)
class AttentionFfn:
    """One FFN engine that serves r attention engines: throughput per engine  r·B/((r + 1)·max(t_A, t_C, t_F(r))).

    t_A = β_A + α_A·B·θ,  t_F(r) = β_F + α_F·r·B,  t_C constant (s): the three overlap in a pipeline, so the slowest
    sets the pace.

    Fields: `attention_base` β_A, `ffn_base` β_F > 0, `communication` t_C (s); `per_kv` α_A (s per KV token); `per_slot`
    α_F > 0 (s per slot); `slots` B; `load` θ (tokens per slot, :func:`slot_load`).

    Assumptions: all attention engines carry the mean load.  Behind a barrier over r engines t_A is the mean of their
    maximum and grows with r, and :func:`attention_ffn_ratio` need not be the best.

    Raises:
        ValueError: a cost is negative, or the FFN costs nothing.
    """

    attention_base: float
    per_kv: float
    ffn_base: float
    per_slot: float
    communication: float
    slots: int
    load: float

    def __post_init__(self) -> None:
        costs = (self.attention_base, self.per_kv, self.communication, self.load)
        if min(costs) < 0 or self.ffn_base <= 0 or self.per_slot <= 0 or self.slots < 1:
            raise ValueError(f"costs are >= 0, those of the FFN > 0, and there is a slot; not {self}")

    @property
    def attention(self) -> float:
        """t_A, one step of an attention engine (s)."""
        return self.attention_base + self.per_kv * self.slots * self.load

    def throughput(self, ratio: float) -> float:
        """Tokens per second and engine at `ratio` r > 0 attention engines to one FFN engine."""
        ffn = self.ffn_base + self.per_slot * ratio * self.slots
        return ratio * self.slots / ((ratio + 1) * max(self.attention, self.communication, ffn))


def attention_ffn_ratio(system: AttentionFfn) -> ClosedForm[float]:
    """Attention engines per FFN engine with the most throughput:  r* = max(r_A, r_C, r_peak).

    r_A = (t_A - β_F)/(α_F·B) and r_C = (t_C - β_F)/(α_F·B) are where the FFN becomes the slowest; r_peak =
    √(β_F/(α_F·B)) is the best ratio while it is.  Below max(r_A, r_C) throughput grows, because the pace is constant.
    Computed: golden-section search, as throughput is unimodal in r.

    Not promised: the best whole number, which is ⌊r*⌋ or ⌈r*⌉ of the two with more throughput; the best ratio if
    communication takes longer with r.
    """
    per_ratio = system.per_slot * system.slots
    stated = max(
        (system.attention - system.ffn_base) / per_ratio,
        (system.communication - system.ffn_base) / per_ratio,
        math.sqrt(system.ffn_base / per_ratio),
    )
    golden = (math.sqrt(5) - 1) / 2
    low, high = math.log(1e-12), math.log(1e12)  # throughput is unimodal in ln r as well
    while high - low > 1e-12:
        left, right = high - golden * (high - low), low + golden * (high - low)
        if system.throughput(math.exp(left)) < system.throughput(math.exp(right)):
            low = left
        else:
            high = right
    return ClosedForm(math.exp((low + high) / 2), stated)


# --- algebra -------------------------------------------------------------------------------------------------------


def derivation() -> tuple[Identity, ...]:
    """The algebra of every statement above, in symbols."""
    mu, lam, a, p, d, q = sympy.symbols("mu lambda a p d q", positive=True)
    g, prefill, decode, beta, alpha, r = sympy.symbols("g delta_p delta_d beta_F alpha_B r", positive=True)
    rho = sympy.Symbol("rho", positive=True)
    geometric = (1 - rho) * sympy.diff(rho / (1 - rho), rho) / mu  # Σ (1 - ρ)·ρⁿ·(n + 1)/μ
    x = g * prefill / (prefill + decode)
    peak = sympy.sqrt(beta / alpha)
    slope = sympy.diff(r / ((r + 1) * (beta + alpha * r)), r)
    return (
        Identity("mean sojourn of M/M/1", geometric.subs(rho, lam / mu), 1 / (mu - lam)),
        Identity(
            "the q-quantile of an exponential sojourn",
            1 - sympy.exp(-(mu - lam) * (sympy.log(1 / (1 - q)) / (mu - lam))),
            q,
        ),
        Identity("both phases bind at x", x / prefill, (g - x) / decode),
        Identity("shared engines' capacity is met at x", x / prefill, g / (prefill + decode)),
        Identity(
            "rounding x down and up loses the same where (g - 1)·x/g is whole",
            (x - x / g) / prefill,
            (g - (x - x / g + 1)) / decode,
        ),
        Identity(
            "KV tokens over the life of a request",
            sympy.summation(p + a, (a, 0, d - 1)),
            p * d + d * (d - 1) / 2,
        ),
        Identity(
            "slope of throughput while the FFN is slowest",
            slope * ((r + 1) * (beta + alpha * r)) ** 2,
            beta - alpha * r**2,
        ),
        Identity("it vanishes at the peak", slope.subs(r, peak), 0),
    )


def _misprints() -> tuple[Identity, ...]:
    """A slot whose first decode already holds a token, and a tail taken for that of a constant sojourn."""
    p, d, a, mu, lam, q = sympy.symbols("p d a mu lambda q", positive=True)
    tail = sympy.exp(-(mu - lam) * q / (mu - lam))
    return (
        Identity("ages from 1 to d", sympy.summation(p + a, (a, 1, d)), p * d + d * (d - 1) / 2),
        Identity("the q-quantile at q times the mean", 1 - tail, q),
    )


def _unrounded() -> tuple[Identity, ...]:
    """Rounding x up loses what rounding it down loses, wherever x lies."""
    g, prefill, decode, f = sympy.symbols("g delta_p delta_d f", positive=True)
    x = g * prefill / (prefill + decode)
    return (Identity("rounding either way", (x - f) / prefill, (g - (x - f + 1)) / decode),)


CLAIMS = (
    Claim(
        name="disaggregation-split",
        statement="Of g engines x = g·δ_p/(δ_p + δ_d) for prefill carry g/(δ_p + δ_d), what shared engines carry; the "
        "q-quantile of TTFT is ln(1/(1 - q))/(μ - λ); a slot holds E[PD] + E[D(D - 1)]/2 token-iterations per request; "
        "r = sqrt(β_F/(α_F·B)) attention engines for one FFN engine are best while that is slowest.",
        assumptions=(
            "prefill is M/M/1, its sojourn exponential",
            "x need not be whole (whole counts lose at most 1/g)",
            "slots always full",
        ),
        source="arXiv 2603.04716 and arXiv 2601.21351 (published; recalled); split and load per slot: our "
        "derivation",
        kind=Kind.IDENTITY,
        evidence=derivation,
        controls={"ages from 1, quantiles in proportion": _misprints, "any share of an engine": _unrounded},
        where="docs/models/disaggregation.md",
    ),
)
