"""Traces of cloud functions as counts per minute: Azure Functions 2019 as published, and a synthetic one like it.

A trace of this kind says how often each function was called in each minute, not when; :meth:`MinuteCounts.times` places
the calls at random within their minutes, which is what a Poisson process does given its counts.  A minute may be
squeezed: SuperServe plays 24 hours in 120 s, a minute in 1/12 s.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from queueing.tabular import read_table

__all__ = ["DAY", "MinuteCounts", "read_azure_functions", "synthetic_functions"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

DAY = 1440  # minutes
# Calls per day below which a share of the applications stays, and the share: one an hour, and one a minute.
# Shahrad et al., "Serverless in the Wild", ATC 2020, figure 5 as recalled: there of applications, here of functions.
RARE, OFTEN = (24.0, 0.45), (1440.0, 0.81)


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class MinuteCounts:
    """Calls per function (row) and minute (column).

    Args: counts = [functions, minutes], whole numbers >= 0, at least one of them > 0; copied, read-only.
    """

    counts: Ints

    def __init__(self, counts: ArrayLike) -> None:
        table = np.array(counts, np.float64)
        if table.ndim != 2 or not table.size:
            raise ValueError(
                f"the counts have shape {table.shape}; give one row per function, one column per minute"
            )
        good = np.isfinite(table) & (table >= 0) & (table == np.floor(table))
        if not good.all():
            row, minute = np.argwhere(~good)[0]
            raise ValueError(
                f"function {row} has {table[row, minute]:g} calls in minute {minute}; give whole counts >= 0"
            )
        if not table.any():
            raise ValueError("no function is ever called; give at least one call")
        if table.sum() >= 2**53:
            raise ValueError(
                f"there are {table.sum():g} calls in all; give fewer than 2^53, which can be counted"
            )
        whole = table.astype(np.int64)
        whole.flags.writeable = False
        object.__setattr__(self, "counts", whole)

    def __repr__(self) -> str:
        return (
            f"MinuteCounts({len(self.counts)} functions, {self.counts.shape[1]} minutes, {self.total} calls)"
        )

    @property
    def total(self) -> int:
        """Calls in all."""
        return int(self.counts.sum())

    def thinned(self, calls: float, rng: np.random.Generator) -> MinuteCounts:
        """About `calls` calls instead of `total`: counts scaled and rounded up or down at random, right on average."""
        if not calls > 0:
            raise ValueError(f"{calls} calls; give a number > 0")
        scaled = self.counts * (calls / self.total)
        whole = np.floor(scaled)
        return MinuteCounts(whole + (rng.random(scaled.shape) < scaled - whole))

    def times(self, rng: np.random.Generator, *, minute: float = 60.0) -> tuple[Floats, Ints]:
        """Arrival times (s, ascending) and the function of each, uniform within a minute of `minute` seconds."""
        if not 0 < minute < np.inf:
            raise ValueError(f"a minute of {minute} s; give finite seconds > 0")
        function, column = np.nonzero(self.counts)
        calls = self.counts[function, column]
        times = (np.repeat(column, calls) + rng.random(int(calls.sum()))) * minute
        order = np.argsort(times, kind="stable")
        return times[order], np.repeat(function, calls)[order]


def read_azure_functions(path: str | os.PathLike[str]) -> MinuteCounts:
    """Read one day of Azure Functions 2019: columns HashOwner, HashApp, HashFunction, Trigger, 1 ... 1440.

    Errors: ValueError naming file, line and column of a cell that is no count; OSError if it cannot be read.
    Source: Azure/AzurePublicDataset, `invocations_per_function_md.anon.dNN.csv` (CC-BY-4.0); Shahrad et al., ATC 2020.
    """
    table = read_table(path)
    table.texts("HashFunction")
    counts = np.array([table.numbers(str(minute)) for minute in range(1, DAY + 1)]).T
    good = (counts >= 0) & (counts == np.floor(counts))
    if not good.all():
        row, minute = np.argwhere(~good)[0]
        raise ValueError(
            f"{table.path}, line {table.lines[row]}, column {minute + 1}: {counts[row, minute]:g} is no number of calls"
        )
    return MinuteCounts(counts)


def synthetic_functions(
    functions: int,
    rng: np.random.Generator,
    *,
    minutes: int = DAY,
    swing: float = 1 / 3,
    burst: float = 1.0,
    timers: float = 0.29,
    most: float = 1e6,
) -> MinuteCounts:
    """Counts like those of Azure Functions 2019: a few functions make nearly all calls, in bursts, most by day.

    Calls per day of a function: log-normal through two published points, 45 % at most one an hour and 81 % at most one
    a minute (1.77 decades of standard deviation), cut at `most`.  Those two give the most popular 19 % of the
    functions 99.9 % of the calls before the cut; published is 99.6 %.
    Within the day: rate × (1 + swing sin(2π t/day)), a peak twice the trough at 1/3; each minute times a Gamma variable
    of mean 1 and coefficient of variation `burst`, then Poisson.  A share `timers` is called by timers instead: evenly.
    Args: functions >= 1; minutes >= 1; 0 <= swing < 1; burst >= 0; 0 <= timers <= 1; most = calls per day, > 0.
    Not promised: correlation between functions, memory of the bursts from minute to minute, cold starts.
    Source: the two points and 29 % on timers are from Shahrad et al., ATC 2020, as recalled; the rest is ours.
    """
    if functions < 1 or minutes < 1:
        raise ValueError(f"{functions} functions and {minutes} minutes; give at least one of each")
    if not (0 <= swing < 1 and burst >= 0 and 0 <= timers <= 1 and most > 0):
        raise ValueError(
            f"swing {swing}, burst {burst}, timers {timers}, most {most}; "
            "give 0 <= swing < 1, burst >= 0, a share of timers and most > 0"
        )
    mean, sd = daily_law()
    daily = np.minimum(10 ** rng.normal(mean, sd, functions), most)
    hour = np.arange(minutes) / DAY
    rate = daily[:, None] / DAY * (1 + swing * np.sin(2 * np.pi * hour))
    weight = rng.gamma(burst**-2, burst**2, rate.shape) if burst > 0 else 1.0
    counts = rng.poisson(rate * weight)
    timed = rng.random(functions) < timers
    steps = (np.arange(minutes + 1) + rng.random(functions)[:, None]) * (daily / DAY)[:, None]
    counts[timed] = np.diff(np.floor(steps), axis=1)[timed]
    if not counts.any():
        counts[0, 0] = 1  # a trace has a call
    return MinuteCounts(counts)


def daily_law() -> tuple[float, float]:
    """Mean and standard deviation of log10 of a function's calls per day, through the two published points."""
    (few, low), (many, high) = RARE, OFTEN
    z = norm.ppf([low, high])
    sd = (np.log10(many) - np.log10(few)) / (z[1] - z[0])
    return float(np.log10(few) - z[0] * sd), float(sd)
