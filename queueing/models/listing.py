"""The composition program as one reads it, over a list of batches: cvxpy states it, HiGHS solves it.

The same program as :mod:`queueing.models.composition` without generation: for as many batches as one cares to list, for
variants of one's own, and as the other side of tests and benchmarks.  The rates are a parameter, so that a change of
rates re-solves without stating the program again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np

from queueing.models.demand import Demand, Limits, Stairs

__all__ = ["Batches", "Listed", "grid"]


@dataclass(frozen=True, slots=True)
class Batches:
    """A list of batches, one row each: prompt tokens [m], decodes [m, K], seconds beside attention [m]."""

    prompt: Any
    decodes: Any
    seconds: Any

    def __len__(self) -> int:
        return len(self.prompt)


def grid(stairs: Stairs, classes: Sequence[Demand], limits: Limits, tokens: int, decodes: int) -> Batches:
    """Batches with decodes of one class, at every `tokens` tokens and every `decodes` decodes within the limits."""

    def rows() -> Iterator[tuple[int, int, int, float]]:
        for n in range(tokens, min(limits.budget, len(stairs.seconds)) + 1, tokens):
            yield n, 0, 0, stairs.seconds[n - 1]
            for k, c in enumerate(classes):
                if c.decodes > 0:
                    most = min(n, limits.max_running, int(min(limits.kv_tokens / c.mean_context, 2**31)))
                    for d in range(decodes, most + 1, decodes):
                        yield n - d, k, d, stairs.seconds[n - 1]

    found = np.array(list(rows()))
    if len(found) == 0:
        raise ValueError(
            f"no batch of a multiple of {tokens} tokens fits a budget of {limits.budget}; list finer"
        )
    split = np.zeros((len(found), len(classes)))
    split[np.arange(len(found)), found[:, 1].astype(int)] = found[:, 2]
    return Batches(found[:, 0], split, found[:, 3])


class Listed:
    """max θ over batches from a list: x_b of them per second carry θ times the load in the time of g nodes.

        Σ x q >= θ Σ λP,   Σ x n_k >= θ λ_k D_k,   Σ x t + θ Σ λ(κK + φA + ψP) <= g,   Σ x >= g·r_min

    Args:
        stairs: iteration time; only its attention is read, since `batches` bring their seconds.
        classes: demands, with the rates that are meant first.
        limits: nodes and iterations/s; the other limits are those of the list.
        batches: the list.
    """

    def __init__(self, stairs: Stairs, classes: Sequence[Demand], limits: Limits, batches: Batches) -> None:
        self.rates = cp.Parameter(len(classes), nonneg=True, value=[c.rate for c in classes])
        self.often = cp.Variable(len(batches), nonneg=True)  # x_b, batches/s
        self._inverse = cp.Variable(
            nonneg=True
        )  # nodes per unit of load: 1/θ, so that the rates stay parameters
        attention = [
            stairs.per_context * c.context + stairs.per_pair * c.pairs + stairs.per_prompt_token * c.prefill
            for c in classes
        ]
        prefill, decodes = np.array([c.prefill for c in classes]), np.array([c.decodes for c in classes])
        # homogeneous in (x, θ): carry one unit of load on as few nodes as possible; θ is the nodes over that
        self.problem = cp.Problem(
            cp.Minimize(self._inverse),
            [
                batches.prompt @ self.often >= prefill @ self.rates,
                batches.decodes.T @ self.often >= cp.multiply(decodes, self.rates),
                batches.seconds @ self.often + np.array(attention) @ self.rates <= self._inverse,
                cp.sum(self.often) >= limits.min_iterations * self._inverse,
            ],
        )
        self._nodes = limits.nodes

    def solve(self, rates: Sequence[float] | None = None) -> float:
        """θ at `rates` (requests/s by class; the last ones by default).

        Raises:
            ValueError: the list does not carry any load of these classes.
        """
        if rates is not None:
            self.rates.value = np.array(rates, dtype=float)
        self.problem.solve(solver=cp.SCIPY)  # scipy's HiGHS, as silent as `SilentHighs`
        if self.problem.status != cp.OPTIMAL:
            raise ValueError(
                f"the listed batches carry no such load ({self.problem.status}); list batches with prompts, with "
                "decodes of every class, and short enough for the iterations/s that are demanded"
            )
        needed: Any = self._inverse.value
        return self._nodes / float(needed)
