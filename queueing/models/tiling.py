"""Optimal token budgets: how much load any schedule of mixed batches can carry, in stationary means.

Notation: λ requests per second, r iterations per second of one node; S = E[p + d] tokens per request,
K = E[p·d + d(d+1)/2] context tokens its decodes attend to, A = E[p²/2] prefill token pairs, D = E[d]
(:class:`queueing.lengths.Moments`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from queueing.lengths import Moments
from queueing.models.iteration_time import Roofline

__all__ = ["CompactOptimum", "compact_lp"]


@dataclass(frozen=True, slots=True)
class CompactOptimum:
    """Optimum of the compact LP: `rate` λ (requests/s), `iterations` r (1/s), rows that bind, and each row's price.

    `prices[name]` is how much λ grows per unit of the row's right-hand side.
    """

    rate: float
    iterations: float
    binding: tuple[str, ...]
    prices: dict[str, float]

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
    attention = law.per_context * lengths.K + law.per_pair * lengths.A
    names = ("plateau", "linear", "budget", "kv", "active", "tbt")
    rows = np.array(
        [
            [attention, law.plateau],
            [law.per_token * lengths.S + attention, law.base],
            [lengths.S, -budget],
            [lengths.K, -kv_tokens],
            [lengths.output, -max_running],
            [0.0, -1.0],
        ]
    )
    sides = np.array([1.0, 1.0, 0.0, 0.0, 0.0, -min_iterations])
    # λ ~ 1/s and r ~ 10/s, while K ~ 10^6 tokens: scale each row to unit size before solving
    scale = np.maximum(
        np.abs(rows).max(axis=1), 1e-12
    )  # a row of next to nothing never binds, and stays next to nothing
    solution = linprog([-1.0, 0.0], A_ub=rows / scale[:, None], b_ub=sides / scale, method="highs")
    if solution.status != 0:
        raise ValueError(
            f"no rate satisfies the compact LP with at least {min_iterations} iterations/s: {solution.message}"
        )
    rate, iterations = (float(x) for x in solution.x)
    prices = -solution.ineqlin.marginals / scale
    binding = tuple(name for name, price in zip(names, prices, strict=True) if price > 1e-12)
    return CompactOptimum(rate, iterations, binding, dict(zip(names, map(float, prices), strict=True)))
