"""Path-wise stability: constants K with  Q*(t) <= W(t) <= Q*(t) + K  for all t, whatever the arrivals.

Notation.  t(n) seconds of a batch of n tokens without attention, w = min t(n)/n the price of a token, so that a batch
wastes t(n) - w·n >= 0.  Work is w a token plus attention, in seconds (:mod:`queueing.models.replay`).  W(t) and Q*(t)
are the backlogs of g engines and of an ideal fluid server of speed g (:mod:`queueing.proofs.sandwich`); A(s, t] is
the work that arrives.  p, d are prompt and decode tokens of a request; b is the tile.

Left side.  A batch does at most its duration of work, so W(t) >= A[s, t] - g (t - s): true for every policy.

Right side, one argument for all.  Let every batch either waste nothing or start at an instant s with W(s) <= R(n).
Let s be the last wasteful start, or the end of the last idle time if that is later.  Then, with g = 1,

    W(t) <= A(s, t] - (t - s) + W(s) + t(n) - w·n <= Q*(t) + max over wasteful n of {R(n) + t(n) - w·n}.

The functions return that maximum, `computed` by enumeration, and its closed form as `stated`.

Assumptions of all: KV memory never binds; a batch is not interrupted; no engine idles while a request could be served;
attention does not depend on the schedule.  **None on arrivals.**  Source: our derivation, docs/models/stability.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import sympy

from queueing.models.closed_form import ClosedForm
from queueing.models.iteration_time import TileLaw
from queueing.models.replay import ExactLaw
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity
from queueing.proofs.rational import exact
from queueing.proofs.sandwich import Arrival, Batch, Sandwich

__all__ = [
    "CLAIMS",
    "Sizes",
    "backlog_bound",
    "cyclic_constant",
    "derivation",
    "mixed_constant",
    "poisson_workload",
    "prompt_bound",
    "prompt_free_interval",
    "pull_constant",
    "rad_constant",
    "work_conserving_constant",
]

ZERO = Fraction(0)
Number = Fraction | int | float


class Sizes(NamedTuple):
    """Largest request: `prompt` and `decodes` in tokens, each its own maximum."""

    prompt: int
    decodes: int


def _largest(law: ExactLaw, most: int, backlog: Callable[[int], Fraction]) -> Fraction:
    """Max over wasteful n <= most of R(n) + t(n) - w·n, 0 if no batch wastes anything."""
    return max((backlog(n) + waste for n in range(1, most + 1) if (waste := law.waste(n)) > 0), default=ZERO)


def _checked(law: ExactLaw, sizes: Sizes) -> TileLaw:
    if not isinstance(law.law, TileLaw):
        raise ValueError(f"RAD and its relatives fill tiles; give a TileLaw, not {type(law.law).__name__}")
    if law.law.per_tiled_pair and sizes.prompt % law.law.tile:
        raise ValueError(
            f"prompts of up to {sizes.prompt} tokens are no multiples of the tile {law.law.tile}"
        )
    if min(sizes) < 0:
        raise ValueError(f"a request has no negative number of tokens; give at least 0, not {sizes}")
    return law.law


def rad_constant(law: ExactLaw, sizes: Sizes) -> ClosedForm[Fraction]:
    """K₀ of RAD without cycles on one engine:  (b - 1)·ω + τ/b,  ω the decode work of the largest request.

    Here R(n) = n·ω: a batch with n < b tokens starts only when no prompt is left, and serves all n requests there are.
    The sum n·ω + τ(1 - n/b) does not fall in n, because ω >= w·d_max >= τ/b.  Without attention ω = w·d_max.
    K₀ = 0 if b = 1 or nothing is decoded: then no batch wastes anything.

    Assumptions: prompts are multiples of RAD's chunk, and that of b; those of the module.
    Guarantee: the least such constant (docs/models/stability.md; the tests approach it).
    """
    tile = _checked(law, sizes)
    omega = law.decode_work(sizes.prompt, sizes.decodes)
    if tile.tile == 1 or sizes.decodes == 0:
        return ClosedForm(ZERO, ZERO)
    computed = _largest(law, tile.tile - 1, lambda n: n * omega)
    return ClosedForm(computed, (tile.tile - 1) * omega + exact(tile.tile_time) / tile.tile)


def pull_constant(
    law: ExactLaw, sizes: Sizes, engines: int, chunk: int | None = None
) -> ClosedForm[Fraction]:
    """K_g of g engines that pull prompts from one queue:  (g - 1)·(π + b·ω) + K₀,  π the work of the largest prompt.

    An engine takes the oldest prompt when it enters prefill mode, and keeps the request.  Let s be the last instant
    at which an engine is idle or starts a wasteful batch: the queue is empty then.  That engine is short: what it
    holds and what it will still waste add up to at most K₀.  Each other engine either is short as well, or wastes
    nothing and holds at most one prompt in part and b requests to decode, the prompt's own included: π + b·ω >= K₀.

    Not promised: anything of the kind under routing on arrival that does not look at the state: all work may go to one
    engine.  Apply g = 1 to each engine's own arrivals there.
    """
    if engines < 1:
        raise ValueError(f"there is at least one engine; give engines >= 1, not {engines}")
    tile = _checked(law, sizes)
    omega, pi = law.decode_work(sizes.prompt, sizes.decodes), law.prompt_work(sizes.prompt, chunk)
    short = rad_constant(law, sizes)
    busy = max([pi + k * omega for k in range(tile.tile + 1)] + [short.computed])
    computed = max(short.computed * k + busy * (engines - k) for k in range(1, engines + 1))
    return ClosedForm(computed, (engines - 1) * (pi + tile.tile * omega) + short.stated)


def mixed_constant(law: ExactLaw, budget: int, decodes: int) -> ClosedForm[Fraction]:
    """K of mixed batches of min(B, loadable) tokens, prompts of any length:  w(B - 1)(1 + d_max) + τ/b.

    A batch of n < B tokens holds everything loadable, one token at least of each request there is; afterwards each has
    at most d_max decodes left, so R(n) = w·n·(1 + d_max).  Sarathi-Serve is such a policy where at most B requests run.

    Args: budget, B (tokens), a multiple of the tile; decodes, d_max.
    Assumptions: no attention; those of the module.
    """
    tile = _checked(law, Sizes(0, decodes))
    if budget < 1 or budget % tile.tile:
        raise ValueError(f"full batches need a budget of whole tiles of {tile.tile} tokens, not {budget}")
    if law.has_attention:
        raise ValueError("this constant is for a law without attention; leave its attention terms at 0")
    w = law.price
    computed = _largest(law, budget - 1, lambda n: w * n * (1 + decodes))
    stated = w * (budget - 1) * (1 + decodes) + exact(tile.tile_time) / tile.tile
    return ClosedForm(computed, stated if tile.tile > 1 else ZERO)


def work_conserving_constant(law: ExactLaw, longest: int) -> ClosedForm[Fraction]:
    """K of any policy whose batches hold min(b, loadable) tokens:  w(b - 1)(L - 1) + t(b - 1),  L = max (p + d).

    Here t(n) is affine, or affine with a plateau, and b is the largest batch allowed, at which t(n)/n is least.  A
    batch of n < b tokens meets at most n requests, so R(n) = w·n·L.  If no batch of more than m < b - 1 tokens wastes
    anything, m stands for b - 1 above; if none does, K = 0.  In tokens (W/w, Q*/w) and with t(b - 1) <= t(b):
    (b - 1)(L - 1) + b.  Hence the stability of every work-conserving policy, the theorem of arXiv 2504.07347, for
    bounded lengths and without fluid limits.

    Args: law, with `most` = b; longest, L (tokens).
    """
    if isinstance(law.law, TileLaw) or law.has_attention:
        raise ValueError(
            "this constant is for an affine law, with or without a plateau, and without attention"
        )
    if longest < 1:
        raise ValueError(f"a request has at least one token; give longest >= 1, not {longest}")
    b, w = law.best, law.price
    computed = _largest(law, b - 1, lambda n: w * n * longest)
    wasteful = max((n for n in range(1, b) if law.waste(n) > 0), default=0)
    return ClosedForm(computed, w * wasteful * (longest - 1) + law.seconds(wasteful) if wasteful else ZERO)


def cyclic_constant(
    law: ExactLaw, sizes: Sizes, cycle: int
) -> tuple[ClosedForm[Fraction], ClosedForm[Fraction]]:
    """Surcharge u and constant K_N of RAD with cycles of N prompts:  u = v/N,  K_N = K₀ + v,  v = d_max·τ(1 - 1/b).

    W(t) <= Q*_u(t) + K_N, where Q*_u charges every request u more than its work.  A cycle whose prompts are used up
    decodes what it has, at most d_max batches, each of which wastes at most τ(1 - 1/b), while prompts wait.  Let s be
    the last wasteful start without waiting prompts.  Of the cycles that are drained in (s, t] all but the first have
    started N prompts after s, and those arrived after s: so at most 1 + A/N are drained, A the number of arrivals in
    (s, t].

    Hence stability for every arrival process whose rate is below 1/(E[X] + u): finite N costs v/N per request at most.
    """
    if cycle < 1:
        raise ValueError(f"a cycle starts at least one prompt; give cycle >= 1, not {cycle}")
    tile = _checked(law, sizes)
    most = max((law.waste(n) for n in range(1, tile.tile)), default=ZERO) * sizes.decodes
    drained = sizes.decodes * exact(tile.tile_time) * (1 - Fraction(1, tile.tile))
    short = rad_constant(law, sizes)
    return ClosedForm(most / cycle, drained / cycle), ClosedForm(
        short.computed + most, short.stated + drained
    )


def backlog_bound(
    sigma: Number, rho: Number, constant: Fraction, engines: int = 1, initial: Number = 0, after: Number = 0
) -> Fraction:
    """H: largest backlog if A[s, t] <= σ + ρ(t - s) for all s <= t and ρ <= g:  σ + K + (W₀ - (g - ρ)t)^+.

    W₀ is work beyond the envelope that is there at time 0, and t = `after` the time since (s); without it H = σ + K.

    Raises:
        ValueError: ρ > g, where no bound exists, or a negative σ, ρ, W₀ or t.
    """
    sigma, rho, initial, after = (exact(x) for x in (sigma, rho, initial, after))
    if not 0 <= rho <= engines:
        raise ValueError(
            f"work comes at rate {float(rho)} to {engines} engines; a bound needs a rate from 0 to {engines}"
        )
    if min(sigma, initial, after) < 0:
        raise ValueError(
            "the burst, the initial work and the time since are not negative; give numbers from 0"
        )
    return sigma + constant + max(ZERO, initial - (engines - rho) * after)


def prompt_bound(ideal: Fraction, constant: Fraction, decode_work: Fraction = ZERO) -> Fraction:
    """Longest time from a request's arrival to the end of its prompt under RAD on one engine:  Q*(a) + K₀ - ω_r.

    Until then every batch but the one in progress at the arrival a is full of work that was there at a, because
    prompts go in order of arrival: the time is at most W(a), and what the batch in progress still wastes, less the
    request's own decode work ω_r.  Both together are at most Q*(a) + K₀ (the proof of the sandwich bounds them
    together).

    Args:
        ideal: Q*(a), the request itself included (s).  If A[s, t] <= σ + ρ(t - s) with ρ <= 1, it is at most σ, and
            the bound at most H - ω_r.
        constant: K₀ (s).
        decode_work: ω_r (s).

    Not promised: any bound on the time between tokens.
    """
    return ideal + constant - decode_work


def prompt_free_interval(sigma: Number, rho: Number, constant: Fraction) -> Fraction:
    """Longest time between instants without unserved prompts, RAD on one engine, ρ < 1:  H/(1 - ρ),  H = σ + K₀.

    From the last wasteful start s (or end of idleness) until the next such instant v all batches are full, so
    0 <= W(v) <= H - (1 - ρ)(v - s).
    """
    if not 0 <= exact(rho) < 1:
        raise ValueError(f"work comes at rate {rho}; this bound needs a rate below 1")
    return backlog_bound(sigma, rho, constant) / (1 - exact(rho))


def poisson_workload(
    rate: Number, works: Mapping[Fraction, Fraction], constant: Fraction, engines: int = 1
) -> tuple[ClosedForm[Fraction], ClosedForm[Fraction]]:
    """Bounds on the stationary mean of W under Poisson arrivals:  λE[X²]/(2(g - λE[X])), and that plus K.

    Q* is then the workload of M/G/1 at speed g.  Stated: from E[d(Q*²)/dt] = 0.  Computed: the Pollaczek-Khinchine law
    itself, a geometric number of residual works Y with P(Y > y) = ∫_y^∞ P(X > x)dx/E[X], the tail integrated piece by
    piece.  So RAD's mean backlog is within K₀ of the least that any policy attains.

    Args: rate, λ (1/s); works, probability of each work X (s) of a request; constant, K (s).

    Raises:
        ValueError: probabilities that do not add up to 1, or a load that reaches g.
    """
    lam = exact(rate)
    if sum(works.values()) != 1 or min(works.values()) < 0 or min(works) < 0:
        raise ValueError("the works need probabilities that add up to exactly 1; give fractions")
    mean = sum((x * p for x, p in works.items()), ZERO)
    square = sum((x * x * p for x, p in works.items()), ZERO)
    rho = lam * mean / engines
    if not 0 <= rho < 1:
        raise ValueError(f"the load is {float(rho)}; a stationary mean needs one below 1")
    stated = lam * square / (2 * (engines - lam * mean))
    # E[Y] E[X] = int x P(X > x) dx, on which P(X > x) is constant between the values of X
    tail, below, moment = Fraction(1), ZERO, ZERO
    for x in sorted(works):
        moment += tail * (x * x - below * below) / 2
        below, tail = x, tail - works[x]
    computed = rho / (1 - rho) * (moment / mean) if mean else ZERO
    return ClosedForm(computed, stated), ClosedForm(computed + constant, stated + constant)


def derivation() -> tuple[Identity, ...]:
    """The algebra behind the closed forms, in symbols: waste, its sum with R(n), its step in n, and the mean of Q*."""
    tau, nu, b, n, d, omega, L, c, a, lam, m1, m2, g, q = sympy.symbols(
        "tau nu b n d omega L c a lambda m1 m2 g q", positive=True
    )
    w = tau / b + nu
    waste = tau + nu * n - w * n
    rad = n * omega + waste
    mixed = w * n * (1 + d) + waste
    price = c / b + a
    affine = price * n * L + (c + a * n) - price * n
    mean = sympy.solve(lam * (m2 + 2 * m1 * q) - 2 * g * q, q)[0]
    return (
        Identity("waste of n <= b tokens", waste, tau * (1 - n / b)),
        Identity("K₀ is reached at n = b - 1", rad.subs(n, b - 1), (b - 1) * omega + tau / b),
        Identity("step of the sum in n", rad.subs(n, n + 1) - rad, omega - tau / b),
        Identity("K of mixed batches", mixed.subs(n, b - 1), w * (b - 1) * (1 + d) + tau / b),
        Identity("K of the affine law", affine.subs(n, b - 1), price * (b - 1) * (L - 1) + c + a * (b - 1)),
        Identity("mean of Q*", mean, lam * m2 / (2 * (g - lam * m1))),
    )


def _misprints() -> tuple[Identity, ...]:
    """Constants without what the last batch itself wastes, and Pollaczek and Khinchine for any speed at speed 1."""
    tau, nu, b, n, d, omega, lam, m1, m2, g, q = sympy.symbols(
        "tau nu b n d omega lambda m1 m2 g q", positive=True
    )
    waste = tau + nu * n - (tau / b + nu) * n
    mean = sympy.solve(lam * (m2 + 2 * m1 * q) - 2 * g * q, q)[0]
    mixed = ((tau / b + nu) * n * (1 + d) + waste).subs(n, b - 1)
    return (
        Identity("K₀ without τ/b", (n * omega + waste).subs(n, b - 1), (b - 1) * omega),
        Identity("K of mixed batches, decodes alone", mixed, (tau / b + nu) * (b - 1) * d + tau / b),
        Identity("mean of Q* at speed 1", mean, lam * m2 / (2 * (1 - lam * m1))),
    )


def _run(constant: Fraction) -> list[Sandwich]:
    """A full tile of prompt for each of three requests, then two batches of their three decodes; τ = 1, ν = 1/4, b = 4.

    A token costs w = 1/2, so that each brings 3 s of work; t(4) = 2 and t(3) = 7/4, of which 1/4 is wasted.
    """
    half = Fraction(1, 2)
    arrivals = tuple(Arrival(ZERO, Fraction(3)) for _ in range(3))
    prompts = [Batch(Fraction(2 * r), Fraction(2 * r + 2), {r: Fraction(2)}) for r in range(3)]
    start, lasts = Fraction(6), Fraction(7, 4)
    decodes = [
        Batch(start + k * lasts, start + (k + 1) * lasts, dict.fromkeys(range(3), half)) for k in (0, 1)
    ]
    return [Sandwich(arrivals, (*prompts, *decodes), constant=constant)]


EXCESS = Fraction(3, 7)  # of the run, at 9 s, where the ideal server is done and 3/2 s of work are not quite


def _before_they_came() -> list[Sandwich]:
    """The run with one arrival after its prompt was served."""
    return [
        replace(run, arrivals=(*run.arrivals[:2], Arrival(Fraction(5), Fraction(3)))) for run in _run(EXCESS)
    ]


PAGE = "docs/models/stability.md"

CLAIMS = (
    Claim(
        name="sandwich-constants",
        statement="The largest R(n) + waste of n < b tokens, at n = b - 1, is K = (b - 1)ω + τ/b for RAD, w(b - "
        "1)(1 + d) + τ/b for mixed batches of whole tiles and w(b - 1)(L - 1) + t(b - 1) under an affine law, so "
        "that W <= Q* + K; under Poisson arrivals E[Q*] = λE[X²]/(2(g - λE[X])).",
        assumptions=(
            "the argument of the module: W <= R(n) where a wasteful batch of n tokens starts",
            "ω >= τ/b",
        ),
        source="our derivation; proved for all arrivals in the kernel (rad-sandwich, work-conserving-sandwich)",
        kind=Kind.IDENTITY,
        evidence=derivation,
        controls={"the waste of the last batch forgotten": _misprints},
        where=PAGE,
    ),
    Claim(
        name="sandwich-of-a-run",
        statement="On a run of three requests in tiles of 4 tokens (τ = 1, ν = 1/4) Q* <= W <= Q* + 3/7 at all t, "
        "far below K₀ = 13/4.",
        assumptions=("the run as logged",),
        source="our calculation",
        kind=Kind.RATIONAL,
        evidence=lambda: _run(EXCESS),
        controls={
            "a smaller constant": lambda: _run(EXCESS - Fraction(1, 1000)),
            "served before it came": _before_they_came,
        },
        where=PAGE,
    ),
)
