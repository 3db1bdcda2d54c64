"""Sweeps over rates and seeds: the records of many runs, and the rate at which a latency crosses a target.

A *record* is a mapping of one run's figures; `rate` (requests/s) and `seed` are among its keys.  With common random
numbers policies are compared seed by seed, and an interval is Student's t over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from validation.result import over_seeds

__all__ = ["Records", "crossing", "gains"]


def crossing(rates: Sequence[float], medians: Sequence[float], target: float) -> float:
    """Rate at which the median first reaches `target`, on the line through (rate, log median); nan if it never does."""
    for (r0, m0), (r1, m1) in zip(
        zip(rates, medians, strict=True), zip(rates[1:], medians[1:], strict=True), strict=False
    ):
        if m0 < target <= m1:
            return r0 + (r1 - r0) * math.log(target / m0) / math.log(m1 / m0)
    return math.nan


class Records:
    """The records of all runs, selected by exact values of their keys and averaged over seeds."""

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        self.records = records

    def where(self, **values: Any) -> Records:
        """Return the records that have all these values."""
        return Records([r for r in self.records if all(r[k] == v for k, v in values.items())])

    def by_seed(self, quantity: str) -> dict[int, list[tuple[float, float]]]:
        """(rate, quantity) pairs of each seed, in order of rate."""
        found: dict[int, list[tuple[float, float]]] = {}
        for r in sorted(self.records, key=lambda r: r["rate"]):
            found.setdefault(r["seed"], []).append((r["rate"], r[quantity]))
        return found

    def crossing(self, quantity: str, target: float) -> dict[int, float]:
        """Rate at which `quantity` crosses `target`, by seed."""
        return {
            seed: crossing([rate for rate, _ in pairs], [value for _, value in pairs], target)
            for seed, pairs in self.by_seed(quantity).items()
        }

    def at(self, quantity: str, rates: Mapping[int, float]) -> list[float]:
        """`quantity` at the rate of each seed, on the line between grid rates; seeds without a rate are left out."""
        return [
            float(np.interp(rates[seed], [rate for rate, _ in pairs], [value for _, value in pairs]))
            for seed, pairs in self.by_seed(quantity).items()
            if math.isfinite(rates[seed])
        ]

    def values(self, quantity: str) -> dict[int, float]:
        """`quantity` by seed, of records at one rate."""
        return {r["seed"]: r[quantity] for r in self.records}

    def mean(self, quantity: str) -> tuple[float, float, float]:
        """Mean of `quantity` over the records with its interval."""
        return over_seeds([r[quantity] for r in self.records])


def gains(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    """Percent by which `ours` exceeds `theirs`, seed by seed; seeds in which either never crosses are left out."""
    pairs = [(ours[s], theirs[s]) for s in ours if s in theirs]
    return [100 * (a / b - 1) for a, b in pairs if math.isfinite(a) and math.isfinite(b)]
