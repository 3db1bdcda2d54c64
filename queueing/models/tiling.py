"""Optimal token budgets: how much load any schedule of mixed batches can carry, in stationary means.

Notation: λ requests per second, r iterations per second of one node; S = E[p + d] tokens per request,
K = E[p·d + d(d+1)/2] context tokens its decodes attend to, A = E[p²/2] prefill token pairs, D = E[d]
(:class:`queueing.lengths.Moments`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from queueing.lengths import Moments
from queueing.models.iteration_time import Roofline
from queueing.proofs.certificate import Certificate, Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity
from queueing.proofs.rational import Infeasible, Optimum, Program, Unbounded, exact
from queueing.proofs.simplex import certify

__all__ = ["CLAIMS", "CompactOptimum", "compact_lp"]


@dataclass(frozen=True, slots=True)
class CompactOptimum:
    """Optimum of the compact LP: `rate` λ (requests/s), `iterations` r (1/s), rows that bind, and each row's price.

    `prices[name]` is how much λ grows per unit of the row's right-hand side; `certificate` proves the optimum in
    fractions.
    """

    rate: float
    iterations: float
    binding: tuple[str, ...]
    prices: dict[str, float]
    certificate: Optimum

    @property
    def iteration_seconds(self) -> float:
        """Mean time between iteration starts at the optimum (s)."""
        return 1.0 / self.iterations


def compact_lp(
    law: Roofline,
    lengths: Moments,
    *,
    budget: int,
    kv_tokens: float,
    max_running: int,
    min_iterations: float = 0.0,
) -> CompactOptimum:
    """Largest arrival rate that stationary mixed batching of one node can carry, as a linear program in (λ, r).

        max λ   subject to
        plateau   a·r  + λ(κK + πA)        ≤ 1
        linear    c₀·r + λ(δS + κK + πA)   ≤ 1
        budget    λS ≤ B·r
        kv        λK ≤ M·r        (Little's law; every decode runs in each iteration)
        active    λD ≤ n_max·r
        tbt       r ≥ min_iterations

    Assumptions: every batch is the average batch; prompts being prefilled and the rounding of KV blocks take no memory.
    Both make the value an upper estimate of the rate a scheduler can carry, not a guarantee.

    Raises:
        ValueError: a coefficient is negative, or no rate is feasible.
    """
    numbers = [
        law.plateau,
        law.base,
        law.per_token,
        law.per_context,
        law.per_pair,
        budget,
        kv_tokens,
        max_running,
    ]
    if min(numbers) < 0 or law.per_token <= 0 or budget < 1:
        raise ValueError(
            f"compact LP needs nonnegative costs, a positive cost per token and budget >= 1, not {numbers}"
        )
    attention = exact(law.per_context) * exact(lengths.K) + exact(law.per_pair) * exact(lengths.A)
    linear = exact(law.per_token) * exact(lengths.S) + attention
    of_rate: dict[str, Any] = {
        "plateau": attention,
        "linear": linear,
        "budget": lengths.S,
        "active": lengths.output,
    }
    of_iterations: dict[str, Any] = {
        "plateau": law.plateau,
        "linear": law.base,
        "budget": -budget,
        "active": -max_running,
        "tbt": -1,
    }
    if not math.isinf(kv_tokens):
        of_rate["kv"], of_iterations["kv"] = lengths.K, -exact(kv_tokens)
    program = Program.of(
        {
            "plateau": ("<=", 1),
            "linear": ("<=", 1),
            "budget": ("<=", 0),
            "kv": ("<=", 0),
            "active": ("<=", 0),
            "tbt": ("<=", -exact(min_iterations)),
        },
        {"rate": (1, of_rate), "iterations": (0, of_iterations)},
    )
    found = certify(program)
    if isinstance(found, Infeasible):
        raise ValueError(
            f"no rate satisfies the compact LP with at least {min_iterations} iterations/s: {found.claim}"
        )
    if isinstance(found, Unbounded):
        raise ValueError(
            "the compact LP is unbounded: with no cost at all any rate is carried; check the law"
        )
    prices = {row.name: float(found.y.get(row.name, 0)) for row in program.rows}
    rate, iterations = (float(found.x.get(name, 0)) for name in ("rate", "iterations"))
    return CompactOptimum(rate, iterations, tuple(n for n, p in prices.items() if p > 0), prices, found)


TESTBED = Roofline(plateau=23.4e-3, base=7.0e-3, per_token=0.091e-3, per_context=0.17e-6, per_pair=5e-9)
MEANS = Moments(2340.0, 438.7, 2 * 4.92e6, 439**2 + 266**2, 1.0488e6)
TABLE = {128: "1.36", 256: "1.80", 512: "1.94", 1024: "1.95"}  # tokens: requests/s


def _optimum(budget: int, kv_tokens: float = 235_728) -> Optimum:
    return compact_lp(TESTBED, MEANS, budget=budget, kv_tokens=kv_tokens, max_running=128).certificate


def _table() -> list[Certificate]:
    """Each optimum with its prices, and that it rounds to the entry."""
    found: list[Certificate] = []
    for budget, entry in TABLE.items():
        best = _optimum(budget)
        found += [
            best,
            Identity(f"at {budget} tokens", Fraction(round(best.value * 100), 100), Fraction(entry)),
        ]
    return found


def _altered() -> list[Certificate]:
    """A price that is a ten-thousandth too low, and the point that is best without a limit on memory."""
    dearest = [(best, max(best.y, key=lambda name: best.y[name])) for best in map(_optimum, TABLE)]
    cheaper = [replace(b, y={**b.y, name: b.y[name] * Fraction(9999, 10000)}) for b, name in dearest]
    return [*cheaper, replace(_optimum(1024), x=_optimum(1024, 1e12).x)]


CLAIMS = (
    Claim(
        name="tiling-table",
        statement="With ShareGPT's means on the testbed (Mistral-7B, RTX 6000 Ada) the compact program carries "
        "1.36, 1.80, 1.94 and 1.95 requests per second at most with budgets of 128, 256, 512 and 1024 tokens.",
        assumptions=(
            "the calibrated iteration time",
            "mixed batches in stationary means, 128 places, 235,728 KV tokens",
        ),
        source="our derivation and calculation",
        kind=Kind.RATIONAL,
        evidence=_table,
        controls={"a price too low, a point that ignores memory": _altered},
        where="docs/models/tiling.md",
    ),
)
