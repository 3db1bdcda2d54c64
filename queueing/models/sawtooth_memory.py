"""Memory of the sawtooth: KV tokens held by N requests that are refilled in cycles, and how many are safe.

Notation as in :mod:`queueing.models.exclusive_batching`.  A cycle ends once the share θ of N requests is complete; in
the fluid that takes  T = ln(1/(1 - θ))/p0  iterations.  Then θN new prompts of μ_L tokens come in.  So at a refill the
share θ(1 - θ)^i of the requests is i cycles old and holds μ_L + i·T tokens.

Assumptions: prompts of equal length; outputs of constant hazard p0; cycles of equal length.
Source: arXiv 2606.00516 for the tokens at a refill and a memory-safe N (published; recalled, not quoted).  The law of
the tokens, the peak within a cycle and where the stated N fails are our derivation.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import sympy
from scipy import stats
from scipy.optimize import minimize_scalar

from queueing.models.closed_form import ClosedForm
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity

__all__ = ["CLAIMS", "derivation", "memory_safe", "overflow", "peak_tokens", "tokens_at_refill"]


def tokens_at_refill(prompt: float, hazard: float, theta: float) -> ClosedForm[float]:
    """Mean tokens of an active request just after a refill:  m = μ_L + ((1 - θ)/(θ·p0))·ln(1/(1 - θ)).

    Computed: over the cohorts, until less than 10⁻¹⁹ of the requests is older.

    Args: prompt, μ_L tokens; hazard, p0 in (0, 1); theta, θ in [10⁻⁴, 1).

    Raises:
        ValueError: an argument is out of range.
    """
    cycle = _cycle(prompt, hazard, theta)
    cohorts = np.arange(math.ceil(45 / -math.log1p(-theta)) + 1)
    share = theta * (1 - theta) ** cohorts
    return ClosedForm(float(share @ (prompt + cycle * cohorts)), prompt + (1 - theta) / theta * cycle)


def peak_tokens(prompt: float, hazard: float, theta: float) -> ClosedForm[float]:
    """Most tokens held at any time of a cycle, per place N, in the fluid: **not always those at the refill**.

    τ iterations after it  e^{-p0·τ}·(m + τ)  are held.  That rises at first if and only if m < 1/p0, so with short
    prompts: to  e^{p0·m - 1}/p0  at τ = 1/p0 - m, or to the end of the cycle if that comes first.

    Computed: by search over the cycle.  Arguments and errors as for :func:`tokens_at_refill`.
    """
    cycle, m = _cycle(prompt, hazard, theta), tokens_at_refill(prompt, hazard, theta).stated

    def held(tau: float) -> float:
        return math.exp(-hazard * tau) * (m + tau)

    grid = np.linspace(0.0, cycle, 513)
    top = float(max(grid, key=held))
    around = (max(0.0, top - grid[1]), min(cycle, top + grid[1]))
    found: Any = minimize_scalar(lambda tau: -held(tau), bounds=around, method="bounded")
    return ClosedForm(max(held(top), -float(found.fun)), held(min(cycle, max(0.0, 1 / hazard - m))))


def overflow(active: int, memory: float, prompt: float, hazard: float, theta: float) -> float:
    """Probability that N requests of independent ages hold more than C tokens just after a refill.

    Each is a geometric number of cycles old, so all together a negative binomial number of them.
    In the sawtooth ages depend on each other and cycles vary.  For large N the variance of its tokens is that of
    independent ages times  (1 - θ + θ²/ln²(1 - θ))/(2 - θ) <= 1.

    Args: active, N >= 1; memory, C tokens; else as for :func:`tokens_at_refill`.

    Raises:
        ValueError: an argument is out of range.
    """
    cycle = _cycle(prompt, hazard, theta)
    if active < 1:
        raise ValueError(f"a batch has at least one request, not {active}")
    return float(stats.nbinom.sf(math.floor((memory - active * prompt) / cycle), active, theta))


def memory_safe(memory: float, prompt: float, hazard: float, theta: float, miss: float) -> ClosedForm[int]:
    """Most requests N whose tokens at the refill exceed C with probability ε at most.

    Stated, as in the source:  ⌊(C - ν·ln(1/ε))/m⌋,  ν = 1/(p0²·μ_L),  m as in :func:`tokens_at_refill`.
    Computed: by :func:`overflow`.

    **The stated N is not safe.**  Tokens vary by √N and its reserve does not grow, so for large C they exceed memory
    nearly every other time.  For small C it can be 0 or less where requests do fit.  Use the computed N, and fewer
    where :func:`peak_tokens` exceeds m.

    Args: memory, C tokens; miss, ε in (0, 1); prompt, μ_L > 0; else as for :func:`tokens_at_refill`.

    Raises:
        ValueError: an argument is out of range, or not even one request is safe.
    """
    mean = tokens_at_refill(prompt, hazard, theta).stated
    if not 0 < miss < 1 or prompt <= 0:
        raise ValueError(
            f"give ε strictly between 0 and 1 and prompts of some tokens, not {miss} and {prompt}"
        )
    if overflow(1, memory, prompt, hazard, theta) > miss:
        raise ValueError(f"memory of {memory} tokens is not safe for one request; give more, or a larger ε")
    low, high = 1, math.ceil(memory / prompt) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (middle, high) if overflow(middle, memory, prompt, hazard, theta) <= miss else (low, middle)
        )
    return ClosedForm(low, math.floor((memory - math.log(1 / miss) / (hazard**2 * prompt)) / mean))


def _cycle(prompt: float, hazard: float, theta: float) -> float:
    """T, iterations of a cycle in the fluid."""
    if prompt < 0 or not 0 < hazard < 1 or not 1e-4 <= theta < 1:
        raise ValueError(
            f"give μ_L >= 0, p0 in (0, 1) and θ in [0.0001, 1), not {prompt}, {hazard} and {theta}"
        )
    return -math.log1p(-theta) / hazard


def derivation() -> tuple[Identity, ...]:
    """The algebra of ages, peak and variance, in symbols."""
    theta, p, m, tau, L, V, N = sympy.symbols("theta p m tau L V N", positive=True)
    held = sympy.exp(-p * tau) * (m + tau)
    mean = (1 - theta) / theta * L  # of the ages, in 1/p0 iterations: with L = ln(1/(1 - θ)) the balance is
    spread = (1 - theta) * L**2 / theta**2  # variance of one age
    # k of N leave at random, the others age by a cycle of variance θ/((1 - θ)N): the sum of ages has the variance
    after = (1 - theta) ** 2 * V + N * theta * (1 - theta) * spread + (1 - theta) * theta * N
    settled = N * spread * (1 - theta + theta**2 / L**2) / (2 - theta)
    return (
        Identity("mean age stays as it is over a cycle", (1 - theta) * (mean + L), mean),
        Identity(
            "slope of the tokens held", sympy.diff(held, tau), sympy.exp(-p * tau) * (1 - p * (m + tau))
        ),
        Identity("tokens at the peak", held.subs(tau, 1 / p - m), sympy.exp(p * m - 1) / p),
        Identity("variance of all ages stays as it is over a cycle", after.subs(V, settled), settled),
    )


def _independent() -> tuple[Identity, ...]:
    """The variance of all ages if they did not depend on each other, and the peak taken to be at the refill."""
    theta, L, V, N, p, m, tau = sympy.symbols("theta L V N p m tau", positive=True)
    spread = (1 - theta) * L**2 / theta**2
    after = (1 - theta) ** 2 * V + N * theta * (1 - theta) * spread + (1 - theta) * theta * N
    held = sympy.exp(-p * tau) * (m + tau)
    return (
        Identity("variance of independent ages", after.subs(V, N * spread), N * spread),
        Identity("the peak is at the refill", held.subs(tau, 1 / p - m), m),
    )


CLAIMS = (
    Claim(
        name="sawtooth-memory",
        statement="After a refill a request holds μ_L + ((1 - θ)/(θ·p0))·ln(1/(1 - θ)) tokens in the mean; within a "
        "cycle the fluid holds e^{-p0·τ}(m + τ), at most e^{p0·m - 1}/p0; the variance of all ages is "
        "(1 - θ + θ²/L²)/(2 - θ) times that of independent ones, L = ln(1/(1 - θ)).",
        assumptions=(
            "outputs of constant hazard p0, prompts of equal length",
            "many requests, cycles of equal length",
        ),
        source="our derivation; arXiv 2606.00516 for the tokens at a refill (published; recalled)",
        kind=Kind.IDENTITY,
        evidence=derivation,
        controls={"ages independent, and the peak at the refill": _independent},
        where="docs/models/exclusive_batching.md",
    ),
)
