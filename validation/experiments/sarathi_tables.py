"""Tables of the experiment `sarathi`: what its records say, averaged over seeds, and what single batches cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from validation.experiments.sarathi_batches import (
    CHUNKS,
    DECODES,
    PROMPTS,
    Saturated,
    chunk_overhead,
    hybrid_ratio,
    yi_overhead,
    yi_pair,
)
from validation.experiments.sarathi_capacity import (
    BUDGET,
    CASES,
    SLO,
    AtRate,
    Search,
    ceiling,
    stall_capacity,
    system,
)
from validation.experiments.sarathi_plots import TABLES
from validation.result import over_seeds
from validation.sweep import Records

__all__ = [
    "ABLATION",
    "ABLATION_LOADS",
    "BASELINES",
    "ENGINES",
    "MAIN_LOAD",
    "PIPELINED",
    "PLACES_TRIED",
    "SCALES",
    "Measured",
    "ours",
    "tables_of",
]

BASELINES = ("vllm", "orca", "hybrid-only", "fastertransformer")
PLACES_TRIED = ("vllm 32", "vllm 64", "vllm")
LOADS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of the ceiling
ABLATION = {"hybrid-only": "hybrid-only", "chunk-only 1024": "chunks-only", "sarathi 1024": "both"}
ABLATION_LOADS = (0.5, 0.7, 0.85)
MAIN_LOAD = 0.7
ENGINES = (0.005, 0.01)  # s that an engine adds to every iteration
SCALES = ((1.0, 1.0), (0.5, 1.0), (1.5, 1.0), (1.0, 0.5), (1.0, 1.5))  # of kappa and phi
PIPELINED = ("sarathi 512", "sarathi 2048", "vllm", "hybrid-only")


def ours(slo: str) -> str:
    """Sarathi-Serve with the budget for a limit."""
    return f"sarathi {BUDGET[slo]}"


class Measured:
    """The records of all runs."""

    def __init__(
        self, jobs: Sequence[object], records: Sequence[Mapping[str, Any]], count: int, short: int
    ) -> None:
        def of(kind: type) -> Records:
            return Records([r for job, r in zip(jobs, records, strict=True) if isinstance(job, kind)])

        self.count, self.short = count, short
        self.searched, self.at_rates, self.pipelines = of(Search), of(AtRate), of(Saturated)

    def capacity(self, case: str, slo: str, name: str, count: int = 0, **scale: float) -> dict[int, float]:
        """Capacity by seed (requests/s)."""
        chosen = {"kappa": 1.0, "phi": 1.0, "engine": 0.0, "count": count or self.count} | scale
        return self.searched.where(case=case, slo=slo, policy=name, **chosen).values("capacity")

    def ratio(self, case: str, slo: str, name: str, count: int = 0, **scale: float) -> list[float]:
        """Sarathi-Serve's capacity over that of `name`, by seed."""
        mine = self.capacity(case, slo, ours(slo), count, **scale)
        theirs = self.capacity(case, slo, name, count, **scale)
        return [mine[seed] / theirs[seed] for seed in mine]

    def reach(self, case: str, slo: str) -> tuple[float, float]:
        """Union of the intervals of the ratio over vLLM, over all scalings."""
        found = [over_seeds(self.ratio(case, slo, "vllm", kappa=k, phi=p)) for k, p in SCALES]
        return min(low for _, low, _ in found), max(high for _, _, high in found)


def capacity_table(measured: Measured, seeds: int) -> list[dict[str, Any]]:
    """Capacities, and what Sarathi-Serve's is over each, beside what theory says of the same requests."""
    table: list[dict[str, Any]] = []
    for case in CASES:
        for slo, budget in BUDGET.items():
            edge = over_seeds([ceiling(case, seed, measured.count, budget) for seed in range(seeds)])[0]
            stalls = over_seeds(
                [stall_capacity(case, k, measured.count, SLO["strict"]) for k in range(seeds)]
            )[0]
            for name in (ours(slo), *BASELINES):
                value, low, high = over_seeds(list(measured.capacity(case, slo, name).values()))
                ratio, least, most = over_seeds(measured.ratio(case, slo, name))
                table.append(
                    {
                        "lengths": case,
                        "limit": slo,
                        "policy": name,
                        "capacity": value,
                        "low": low,
                        "high": high,
                        "ceiling": edge,
                        "stalls": stalls if (slo, name) == ("strict", "vllm") else math.nan,
                        "ratio": ratio,
                        "ratio low": least,
                        "ratio high": most,
                    }
                )
    return table


def sensitivity_table(measured: Measured) -> list[dict[str, Any]]:
    """Ratio over vLLM: attention coefficients scaled, seconds of an engine added, short runs."""
    table: list[dict[str, Any]] = []
    for case in CASES:
        for slo in SLO:
            variants = [(measured.count, *scale, 0.0) for scale in SCALES]
            variants += [(measured.count, 1.0, 1.0, engine) for engine in ENGINES]
            for count, kappa, phi, engine in [*variants, (measured.short, 1.0, 1.0, 0.0)]:
                scale = {"kappa": kappa, "phi": phi, "engine": engine}
                ratio, low, high = over_seeds(measured.ratio(case, slo, "vllm", count, **scale))
                entry = {"lengths": case, "limit": slo, "requests": count} | scale
                table.append(entry | {"ratio": ratio, "low": low, "high": high})
    return table


def rate_table(measured: Measured) -> list[dict[str, Any]]:
    """Latencies by policy and rate, mean over seeds with intervals."""
    table: list[dict[str, Any]] = []
    found = measured.at_rates.records
    for case, name, rate in dict.fromkeys((r["case"], r["policy"], r["rate"]) for r in found):
        here = measured.at_rates.where(case=case, policy=name, rate=rate)
        entry: dict[str, Any] = {"lengths": case, "policy": name, "rate": rate}
        for quantity in ("ttft50", "tbt99", "delay50"):
            entry[quantity], entry[f"{quantity} low"], entry[f"{quantity} high"] = here.mean(quantity)
        table.append(entry)
    return table


def overhead_table() -> list[dict[str, Any]]:
    """Percent that chunks add to a prompt alone."""
    law, pair = system("arxiv").iteration_time, yi_pair()
    table: list[dict[str, Any]] = [
        {
            "model": "Llama-3-8B, A100 (law)",
            "chunk": q,
            "prompt": p,
            "overhead": chunk_overhead(law, p, q),
            "low": min(chunk_overhead(system("arxiv", phi=f).iteration_time, p, q) for f in (0.5, 1.5)),
            "high": max(chunk_overhead(system("arxiv", phi=f).iteration_time, p, q) for f in (0.5, 1.5)),
        }
        for q in CHUNKS
        for p in PROMPTS
    ]
    return table + [
        {
            "model": "Yi-34B, two A100s (measured prompts)",
            "chunk": q,
            "prompt": p,
            "overhead": yi_overhead(p, q, pair),
            "low": yi_overhead(p, q, 0.5 * pair),
            "high": yi_overhead(p, q, 1.5 * pair),
        }
        for q in CHUNKS
        for p in PROMPTS
    ]


def hybrid_table() -> list[dict[str, Any]]:
    """How much longer decodes take beside a whole prompt, and beside a chunk that fills a budget of 512."""
    law = system("arxiv").iteration_time
    return [
        {
            "prompt": p,
            "decodes": d,
            "context": c,
            "whole": hybrid_ratio(law, p, d, c),
            "chunk": hybrid_ratio(law, 512 - d, d, c),
        }
        for p in (1024, *PROMPTS)
        for d in DECODES
        for c in (512, 1024, 4096)
    ]


def bubble_table(measured: Measured) -> list[dict[str, Any]]:
    """Share of a saturated two-stage pipeline that is bubbles, by policy: computed, and by the closed form."""
    table: list[dict[str, Any]] = []
    for case in CASES:
        for name in PIPELINED:
            here = measured.pipelines.where(case=case, policy=name)
            value, low, high = here.mean("bubbles")
            entry = {"lengths": case, "policy": name, "bubbles": value, "low": low, "high": high}
            table.append(entry | {"stated": here.mean("stated")[0]})
    return table


def tables_of(measured: Measured, seeds: int) -> dict[str, list[dict[str, Any]]]:
    """All tables by their names."""
    made = (
        capacity_table(measured, seeds),
        sensitivity_table(measured),
        rate_table(measured),
        overhead_table(),
        hybrid_table(),
        bubble_table(measured),
    )
    return dict(zip(TABLES, made, strict=True))
