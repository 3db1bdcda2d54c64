"""Sarathi-Serve against vLLM, Orca and FasterTransformer: capacity, cost of chunks, prompts beside decodes, pipelines.

Published (Agrawal et al., OSDI 2024, arXiv 2403.02310): under limits on the time between tokens Sarathi-Serve carries
2.6 times vLLM's load for Mistral-7B on an A100, stalls vanish at little cost in throughput, pipelines lose their
bubbles.

Ours: Llama-3-8B on the A100 whose kernels were measured.  It has the layers, heads and widths of Mistral-7B and
another vocabulary; the law is kernel time alone, without launch gaps and scheduler.  Limits are Mistral-7B's in the
paper, 0.1 s (strict, budget 512) and 0.5 s (relaxed, budget 2048) for the 99th percentile of gaps between tokens,
beside a median scheduling delay of at most 2 s.  The ShareGPT-like lengths have the median and the 90th percentile of
the paper's, and so have the log-normal arXiv-like ones.  Poisson arrivals; every policy sees the same requests; a
figure is the mean over seeds with its Student-t interval.  Capacities are those of
:mod:`validation.experiments.sarathi_capacity`, single batches and pipelines those of
:mod:`validation.experiments.sarathi_batches`.

The verdict on a ratio of capacities asks whether the published figure lies in the union of the intervals with the two
attention coefficients, which are derived and not measured, as they are, halved and raised by half.  What an engine adds
to every iteration is in no kernel's time; ratios with 5 and 10 ms of it have rows of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from operator import methodcaller
from pathlib import Path
from typing import Any, Protocol

from queueing.simulator import versions
from validation.executors import in_order
from validation.experiments.sarathi_batches import Saturated
from validation.experiments.sarathi_capacity import BUDGET, CASES, SLO, AtRate, Search, ceiling
from validation.experiments.sarathi_plots import write_plots
from validation.experiments.sarathi_rows import notes_of, rows_of
from validation.experiments.sarathi_tables import (
    ABLATION,
    ABLATION_LOADS,
    BASELINES,
    ENGINES,
    PIPELINED,
    PLACES_TRIED,
    SCALES,
    Measured,
    ours,
    tables_of,
)
from validation.result import Result

__all__ = ["NAME", "run"]

NAME = "sarathi"
FULL = {"seeds": 8, "requests": 2000, "short": 400, "saturated": 400}
QUICK = {"seeds": 3, "requests": 400, "short": 200, "saturated": 300}
LOADS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of the ceiling


class Job(Protocol):
    """Something that gives a record of figures."""

    def record(self) -> dict[str, Any]: ...


def searches(seeds: int, count: int, short: int) -> list[Search]:
    """Capacities: of every policy, of vLLM by its places, and of the two compared under other costs."""
    both = [(case, slo) for case in CASES for slo in SLO]
    found = [
        Search(case, slo, name, seed, count)
        for case, slo in both
        for name in (ours(slo), *BASELINES)
        for seed in range(seeds)
    ]
    found += [
        Search("sharegpt", "strict", name, seed, count) for name in PLACES_TRIED[:-1] for seed in range(seeds)
    ]
    scaled = [(count, kappa, phi, 0.0) for kappa, phi in SCALES[1:]]
    scaled += [(count, 1.0, 1.0, engine) for engine in ENGINES] + [(short, 1.0, 1.0, 0.0)]
    found += [
        Search(case, slo, name, seed, *variant)
        for variant in scaled
        for case, slo in both
        for name in (ours(slo), "vllm")
        for seed in range(seeds)
    ]
    return found


def runs_at_rates(seeds: int, count: int) -> list[AtRate]:
    """Latencies over the rates, then the three variants of the ablation; rates in shares of the ceiling."""
    found: list[AtRate] = []
    for case in CASES:
        edge = ceiling(case, 0, count, BUDGET["relaxed"])
        found += [
            AtRate(case, name, load * edge, seed, count)
            for name in (*map(ours, SLO), *BASELINES[:2])
            for load in LOADS
            for seed in range(seeds)
        ]
        found += [
            AtRate(case, name, load * edge, seed, count)
            for name in ABLATION
            for load in ABLATION_LOADS
            for seed in range(seeds)
        ]
    return found


def run(
    quick: bool = False,
    out: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Run the experiment; write plots into `out` if it is given."""
    began = time.perf_counter()
    size = QUICK if quick else FULL
    seeds, count, short = size["seeds"], size["requests"], size["short"]
    jobs: list[Job] = [*searches(seeds, count, short), *runs_at_rates(seeds, count)]
    jobs += [
        Saturated(case, name, seed, size["saturated"])
        for case in CASES
        for name in PIPELINED
        for seed in range(seeds)
    ]
    records = in_order(methodcaller("record"), jobs, workers=workers, progress=progress)
    measured = Measured(jobs, records, count, short)
    tables = tables_of(measured, seeds)
    rows = list(rows_of(measured, tables))
    seconds = time.perf_counter() - began
    result = Result(NAME, seconds, list(range(seeds)), versions(), rows, tables, list(notes_of(measured)))
    if out is not None:
        write_plots(result, out)
    return result
