"""Congestion that service itself induces: a saturated node that evicts on overflow, as an exact map.

Notation.  A request with s prompt tokens holds s + k tokens at stage k = 1, ..., l and leaves after stage l; the node
holds M tokens.  Whenever there is room, the next request starts (saturated input).  When the growth of the running ones
no longer fits, the newest are evicted and lose their tokens.  With several lengths D, S_k = P(D >= k) is the share of a
cohort that reaches stage k, and  c_k = (s + k)·S_k  the memory of a cohort at stage k, per request admitted.

    eviction-free equilibrium   n* = M/Σ c_k  requests admitted per step
    deviations y from it        c_1·y_t + c_2·y_(t-1) + ... + c_L·y_(t-L+1) = 0 ,

whose characteristic polynomial  P(z) = c_1·z^(L-1) + ... + c_L  is the survival polynomial.

One length: the coefficients grow, so all zeros have modulus above 1 (Eneström-Kakeya) and the equilibrium repels in
every direction; what is reached instead serves synchronised cohorts, M/(s + l) requests every l steps.
Two or more lengths, s large against them: P tends to  P₀ = Σ S_k·z^(L-k), and  (z - 1)·P₀ = z^L - Σ_d P(D = d)·z^(L-d),
so on the unit circle lie exactly the g-th roots of unity but 1, g the gcd of the lengths, and no zero lies outside.
Coprime lengths are stable; otherwise those zeros move outwards by the factor 1 + 1/s, in first order.

Source: arXiv 2606.15555 (published; recalled, the model is our reading of it).  The bound on every window of l steps,
the factor 1 + 1/s and the proofs are our derivation; that almost every start ends in the worst cycle is theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple, TypeVar

import sympy

from queueing.models.closed_form import ClosedForm
from queueing.proofs.certificate import Certificate, Kind
from queueing.proofs.claim import Claim
from queueing.proofs.congestion import CongestionCycle, State
from queueing.proofs.identity import Identity
from queueing.proofs.jury import ZerosInDisc, count_zeros

__all__ = [
    "CLAIMS",
    "GcdTest",
    "SaturatedNode",
    "derivation",
    "find_cycle",
    "fluid_step",
    "gcd_test",
    "stability",
    "survival_polynomial",
    "worst_loss",
]

ZERO = Fraction(0)
Number = TypeVar("Number", Fraction, float)
Law = Mapping[int, Fraction | int]  # weight of each decode length


@dataclass(frozen=True, slots=True)
class SaturatedNode:
    """A node of `memory` M tokens whose requests have `prompt` s tokens and decode for `length` l steps.

    Raises:
        ValueError: l < 1, s < 0, or not even one request fits to its end.
    """

    memory: int
    prompt: int
    length: int

    def __post_init__(self) -> None:
        if self.length < 1 or self.prompt < 0 or self.prompt + self.length > self.memory:
            raise ValueError(
                f"give l >= 1, s >= 0 and room for s + l tokens, not l = {self.length}, s = {self.prompt}, "
                f"M = {self.memory}"
            )

    @property
    def equilibrium(self) -> Fraction:
        """n*, requests per step without evictions: no cycle completes more."""
        return Fraction(self.memory, sum(self.prompt + k for k in range(1, self.length + 1)))

    @property
    def least_completed(self) -> int:
        """⌊M/(s + l)⌋: requests that are completed in any l consecutive steps, at least, from a full node on.

        Of the requests present at a time at least that many stay: there are that many, since l-stage requests fill no
        more; and the newest go first, one by one, only while more than M tokens are held, hence more than that many.
        """
        return self.memory // (self.prompt + self.length)

    def step(self, state: State) -> State:
        """The next state: leave, grow, evict the newest until the rest fits, admit."""
        s, after = self.prompt, [0, *state[:-1]]
        used = sum((s + k) * n for k, n in enumerate(after, start=1))
        for i in range(1, self.length):
            if used <= self.memory:
                break
            gone = min(after[i], -((self.memory - used) // (s + i + 1)))  # rounded up
            after[i] -= gone
            used -= gone * (s + i + 1)
        after[0] = (self.memory - used) // (s + 1)
        return tuple(after)


def find_cycle(node: SaturatedNode, start: State | None = None) -> CongestionCycle:
    """The cycle that the node ends in from `start` (stage 1 first; None: an empty node), by Brent's algorithm.

    Raises:
        ValueError: `start` has not l stages, a negative count, or does not fit.
    """
    state = (0,) * node.length if start is None else start
    used = sum((node.prompt + k) * n for k, n in enumerate(state, start=1))
    if len(state) != node.length or min(state) < 0 or used > node.memory:
        raise ValueError(f"give {node.length} counts >= 0 that fit into {node.memory} tokens, not {state}")
    power, period, anchor, runner = 1, 1, state, node.step(state)
    while runner != anchor:
        if period == power:
            power, period, anchor = 2 * power, 0, runner
        runner, period = node.step(runner), period + 1
    states = [runner]
    while len(states) < period:
        states.append(node.step(states[-1]))
    return CongestionCycle(node.memory, node.prompt, tuple(states), sum(x[-1] for x in states))


def worst_loss(node: SaturatedNode) -> ClosedForm[Fraction]:
    """Share of the eviction-free throughput that the synchronised cycle loses:  (l - 1)/(2(s + l))  < 1/2.

    Computed: from the cycle that an empty node ends in.  It equals the stated value if s + k divides M for all k <= l,
    and tends to it as M grows.  No cycle of the fluid map loses more (:attr:`SaturatedNode.least_completed`).
    """
    computed = 1 - find_cycle(node).throughput / node.equilibrium
    return ClosedForm(computed, Fraction(node.length - 1, 2 * (node.prompt + node.length)))


def survival_polynomial(lengths: Law, prompt: int | None) -> tuple[Fraction, ...]:
    """c_1, ..., c_L of  P(z) = c_1·z^(L-1) + ... + c_L,  highest power first; without prompt, its limit S_1, ..., S_L.

    Args: lengths, the weight of each decode length; prompt, s (tokens), None for the limit of a large s.

    Raises:
        ValueError: no weight is positive, one is negative, a length is below 1, or s < 0.
    """
    law = _shares(lengths)
    if prompt is not None and prompt < 0:
        raise ValueError(f"a prompt has {prompt} tokens; give s >= 0, or None for the limit")
    reach = [sum((p for d, p in law.items() if d >= k), ZERO) for k in range(1, max(law) + 1)]
    return tuple(
        reach if prompt is None else ((prompt + k) * share for k, share in enumerate(reach, start=1))
    )


def fluid_step(coefficients: Sequence[Number], memory: Number, cohorts: Sequence[Number]) -> list[Number]:
    """The map in real numbers: cohorts (requests at admission, less evicted ones) after one more step, newest first.

    Args: coefficients, c_1, ..., c_L; memory, M; cohorts, L numbers.  Fractions or floats alike.
    """
    after = [memory * 0, *cohorts[:-1]]
    used = sum((c * y for c, y in zip(coefficients, after, strict=True)), memory * 0)
    for i, c in enumerate(coefficients):
        if used <= memory:
            break
        gone = min(after[i], (used - memory) / c)
        after[i] -= gone
        used -= gone * c
    after[0] = max(memory - used, memory * 0) / coefficients[0]
    return after


def stability(lengths: Law, prompt: int, radius: Fraction | int = 1) -> ZerosInDisc:
    """How many modes of deviation from the eviction-free equilibrium grow slower and faster than radiusᵗ.

    `stable` at radius 1: small deviations die out, and nothing is evicted.

    Raises:
        ValueError: the test decides nothing at this radius, as when a mode neither grows nor dies out; try another.
    """
    return count_zeros(survival_polynomial(lengths, prompt), radius)


class GcdTest(NamedTuple):
    """The gcd `divisor` g of the lengths, the `identity`  P₀ = Π_{d | g, d > 1} Φ_d · R,  and `rest`, the zeros of R.

    The zeros of R all lie inside the unit circle.
    """

    divisor: int
    identity: Identity
    rest: ZerosInDisc

    @property
    def stable(self) -> bool:
        """Whether all zeros of P₀ lie inside: the lengths are coprime."""
        return self.divisor == 1 and self.rest.stable


def gcd_test(lengths: Law) -> GcdTest:
    """Stable for large prompts if and only if the lengths are coprime; the evidence is exact.

    Raises:
        ValueError: as for :func:`survival_polynomial`.

    Example:
        >>> gcd_test({2: 1, 3: 1}).stable, gcd_test({4: 1, 6: 1}).stable
        (True, False)
    """
    z, law = sympy.Symbol("z"), _shares(lengths)
    limit = sympy.Poly(
        [sympy.Rational(c.numerator, c.denominator) for c in survival_polynomial(law, None)], z
    )
    g = math.gcd(*law)
    on_circle = sympy.Poly(1, z)
    for d in range(2, g + 1):
        if g % d == 0:
            on_circle *= sympy.Poly(sympy.cyclotomic_poly(d, z), z)
    rest = limit.quo(on_circle)
    fractions = [Fraction(int(c.p), int(c.q)) for c in rest.all_coeffs()]
    name = f"survival polynomial of the lengths {sorted(law)}, gcd {g}"
    return GcdTest(
        g, Identity(name, on_circle.as_expr() * rest.as_expr(), limit.as_expr()), count_zeros(fractions)
    )


def derivation() -> tuple[Identity, ...]:
    """The algebra of every statement above, in symbols."""
    s, length, k, M, w, z, p = sympy.symbols("s l k M w z p", positive=True)
    F = sympy.Function("F")
    per_request = sympy.summation(s + k, (k, 1, length))  # memory times steps
    loss = (length - 1) / (2 * (s + length))
    limit = sum(z ** (5 - j) * (1 if j <= 3 else p) for j in range(1, 6))
    return (
        Identity("loss of the synchronised cycle", 1 - (M / (s + length) / length) / (M / per_request), loss),
        Identity("the largest loss", sympy.limit(loss, length, sympy.oo), sympy.Rational(1, 2)),
        Identity("(z - 1)·P₀ for the lengths 3 and 5", (z - 1) * limit, z**5 - (1 - p) * z**2 - p),
        Identity(
            "s·F + w·F' is a derivative, with w = 1/z and P(z) = z^L·(s·F(w) + w·F'(w))",
            s * F(w) + w * sympy.diff(F(w), w),
            w ** (1 - s) * sympy.diff(w**s * F(w), w),
        ),
        Identity(
            "F(w·(1 + 1/s)) is F + w·F'/s in first order, so zeros w of F move to w/(1 + 1/s)",
            sympy.diff(F(w * (1 + z)), z).doit().subs(z, 0).doit(),
            w * sympy.diff(F(w), w),
        ),
    )


def _shares(lengths: Law) -> dict[int, Fraction]:
    weights = {d: Fraction(w) for d, w in lengths.items() if w}
    if not weights or min(weights.values()) < 0 or min(weights) < 1:
        raise ValueError(f"give positive weights of decode lengths >= 1, not {dict(lengths)}")
    total = sum(weights.values(), ZERO)
    return {d: w / total for d, w in weights.items()}


def _from_zero() -> tuple[Identity, ...]:
    """Stages counted from 0, and the polynomial of both lengths without the cohort that leaves first."""
    s, length, k, M, z, p = sympy.symbols("s l k M z p", positive=True)
    per_request = sympy.summation(s + k, (k, 0, length - 1))
    lost = 1 - (M / (s + length) / length) / (M / per_request)
    limit = sum(z ** (5 - j) for j in range(1, 6))
    return (
        Identity("loss of the synchronised cycle", lost, (length - 1) / (2 * (s + length))),
        Identity("(z - 1)·P₀ for the lengths 3 and 5", (z - 1) * limit, z**5 - (1 - p) * z**2 - p),
    )


SMALL = SaturatedNode(memory=60, prompt=0, length=3)


def _cycles() -> list[Certificate]:
    """The cycle that the empty node ends in, the equilibrium, and the loss of the one against the other."""
    worst, still = find_cycle(SMALL), find_cycle(SMALL, (10, 10, 10))
    lost = Identity("share lost", 1 - worst.throughput / still.throughput, Fraction(1, 3))
    return [worst, still, lost]


def _altered() -> list[Certificate]:
    """One more completed; the oldest evicted; ten evicted for nothing."""
    worst, still = find_cycle(SMALL), find_cycle(SMALL, (10, 10, 10))
    turns = [((30, 0, 10), (1, 28, 1)), ((10, 10, 10), (60, 0, 0))]
    cycles = [replace(still, states=states, completed=states[0][-1] + states[1][-1]) for states in turns]
    return [replace(worst, completed=worst.completed + 1), *cycles]


def _modes() -> list[Certificate]:
    """By the reflections of the survival polynomial, and for long prompts by gcd; each with its count of zeros."""
    coprime, even, limit = stability({3: 1, 5: 1}, 100), stability({2: 1, 4: 1}, 100), gcd_test({3: 1, 5: 1})
    counts = [(coprime, 0), (limit.rest, 0), (even, 1)]
    found = [c for zeros, n in counts for c in (zeros, Identity("zeros outside", zeros.outside, n))]
    return [*found, limit.identity, Identity("factors on the circle", limit.divisor, 1)]


def _mistaken_modes() -> list[Certificate]:
    """The reflections of the lengths 3 and 5 for the polynomial of 2, 4 and of 3, 5 with longer prompts."""
    coprime = stability({3: 1, 5: 1}, 100)
    others = [survival_polynomial(law, prompt) for law, prompt in (({2: 1, 5: 1}, 100), ({3: 1, 5: 1}, 101))]
    return [replace(coprime, coefficients=other) for other in others]


PAGE = "docs/models/congestion.md"
SOURCE = "arXiv 2606.15555 (published; recalled)"

CLAIMS = (
    Claim(
        name="congestion-loss",
        statement="The synchronised cycle of a saturated node that evicts loses (l - 1)/(2(s + l)) of the "
        "throughput without evictions, 1/2 in the limit; zeros of the survival polynomial move outwards by 1 + 1/s "
        "in first order.",
        assumptions=("one length l, prompts of s tokens, saturated input; the newest are evicted",),
        source=f"{SOURCE}; the factor 1 + 1/s is our derivation",
        kind=Kind.IDENTITY,
        evidence=derivation,
        controls={"stages counted from 0, one length for two": _from_zero},
        where=PAGE,
    ),
    Claim(
        name="congestion-cycle",
        statement="A node of 60 tokens with requests of 1, 2 and 3 tokens (s = 0, l = 3) repeats three states and "
        "completes 20/3 requests a step if it starts empty, and 10 if it starts at its equilibrium: a third is lost.",
        assumptions=("the map as stated: leave, grow, evict the newest until the rest fits, admit",),
        source="our calculation",
        kind=Kind.RATIONAL,
        evidence=_cycles,
        controls={"one more completed, the oldest evicted, evictions for nothing": _altered},
        where=PAGE,
    ),
    Claim(
        name="congestion-modes",
        statement="Deviations from the equilibrium die out for decode lengths 3 and 5 (prompts of 100 tokens: all "
        "four zeros inside the circle, and in the limit of long prompts), and one mode of three grows for 2 and 4.",
        assumptions=("both lengths equally likely", "in the fluid, small deviations"),
        source=f"{SOURCE} for the role of the gcd; the instances are our calculation",
        kind=Kind.RATIONAL,
        evidence=_modes,
        controls={"the evidence of other lengths and prompts": _mistaken_modes},
        where=PAGE,
    ),
)
