"""Figures of the experiment `sarathi`, drawn from the tables of its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from validation.experiments.sarathi_capacity import CASES, SLO
from validation.plots import COLOURS, MARKERS, figure, save
from validation.result import Result

__all__ = ["TABLES", "write_plots"]

TABLES = (
    "capacity (requests/s)",
    "capacity over vLLM under other costs and in short runs (ratio)",
    "latency by rate (s)",
    "overhead of chunks (percent)",
    "decodes beside a prompt over decodes alone (ratio)",
    "bubbles of a saturated two-stage pipeline (percent)",
)
Entries = Sequence[Mapping[str, Any]]


def _bars(entries: Entries, value: str, low: str, high: str) -> list[list[float]]:
    """Lengths of the error bars below and above; none where an interval is endless."""
    below = [max(e[value] - e[low], 0.0) for e in entries]
    above = [max(e[high] - e[value], 0.0) for e in entries]
    return [[b if np.isfinite(b) else 0.0 for b in side] for side in (below, above)]


def _style(k: int) -> dict[str, Any]:
    return {"color": COLOURS[k], "marker": MARKERS[k], "markersize": 4, "linewidth": 1.1, "capsize": 2}


def write_plots(result: Result, out: Path) -> list[Path]:
    """Draw capacities, gaps by rate, chunk overhead, prompts beside decodes and bubbles; return the files written."""
    capacity, _, by_rate, overhead, hybrid, bubbles = (result.tables[name] for name in TABLES)
    return [
        *_capacity(capacity, out),
        *_gaps(by_rate, capacity, out),
        *_overhead(overhead, hybrid, out),
        *_bubbles(bubbles, out),
    ]


def _capacity(table: Entries, out: Path) -> list[Path]:
    with figure(columns=len(CASES)) as (drawing, axes):
        for ax, case in zip(axes[0], CASES, strict=True):
            for k, slo in enumerate(SLO):
                here = [e for e in table if e["lengths"] == case and e["limit"] == slo]
                at = np.arange(len(here)) + 0.2 * k - 0.1
                errors = _bars(here, "capacity", "low", "high")
                ax.errorbar(at, [e["capacity"] for e in here], yerr=errors, fmt=MARKERS[k], color=COLOURS[k + 4],
                            capsize=3, label=f"{slo}, {SLO[slo]} s")  # fmt: skip
                ax.axhline(here[0]["ceiling"], color=COLOURS[k + 4], linestyle=(":", "--")[k], linewidth=1.0,
                           label=f"ceiling of any schedule, {here[0]['policy'].split()[-1]} tokens")  # fmt: skip
            stalls = [e["stalls"] for e in table if e["lengths"] == case and np.isfinite(e["stalls"])]
            ax.scatter(
                [0.9], stalls, marker="_", s=300, color="black", label="one gap in 100 stalled, strict"
            )
            names = list(dict.fromkeys(e["policy"].split()[0] for e in table))
            ax.set_xticks(range(len(names)), labels=names, rotation=20, fontsize=7)
            ax.set(title=f"{case} lengths", ylabel="capacity (requests/s)", ylim=(0, None))
        axes[0][0].legend(fontsize=7)
        return save(drawing, out / "capacity")


def _gaps(table: Entries, capacity: Entries, out: Path) -> list[Path]:
    shown = ("sarathi 512", "sarathi 2048", "vllm", "orca")
    with figure(columns=len(CASES)) as (drawing, axes):
        for ax, case in zip(axes[0], CASES, strict=True):
            for k, name in enumerate(shown):
                here = sorted(
                    (e for e in table if e["lengths"] == case and e["policy"] == name),
                    key=lambda e: e["rate"],
                )
                values = [e["tbt99"] for e in here]
                errors = _bars(here, "tbt99", "tbt99 low", "tbt99 high")
                ax.errorbar([e["rate"] for e in here], values, yerr=errors, label=name, **_style(k))
            for limit in SLO.values():
                ax.axhline(limit, color="grey", linestyle="--", linewidth=0.8)
            edge = max(e["ceiling"] for e in capacity if e["lengths"] == case)
            ax.axvline(edge, color="grey", linestyle=":", linewidth=1.2, label="ceiling of any schedule")
            ax.set(title=f"{case} lengths", xlabel="arrival rate (requests/s)", yscale="log",
                   ylabel="99th percentile, time between tokens (s)")  # fmt: skip
        axes[0][0].legend(fontsize=7)
        return save(drawing, out / "p99_tbt")


def _overhead(table: Entries, hybrid: Entries, out: Path) -> list[Path]:
    with figure(columns=2) as (drawing, axes):
        left, right = axes[0]
        kinds = dict.fromkeys((e["model"], e["chunk"]) for e in table if e["chunk"] != 1024)
        for k, (model, chunk) in enumerate(kinds):
            here = [e for e in table if (e["model"], e["chunk"]) == (model, chunk)]
            errors = _bars(here, "overhead", "low", "high")
            style = _style(k) | {"label": f"{model.split(',')[0]}, chunks of {chunk}"}
            left.errorbar(
                [e["prompt"] / 1000 for e in here],
                [e["overhead"] for e in here],
                yerr=errors,
                **style,
            )
        left.axhline(
            25, color="grey", linestyle="--", linewidth=0.8, label="published: at most about, 512, Yi-34B"
        )
        left.set(title="Chunks against the prompt in one piece", xlabel="prompt (thousand tokens)",
                 ylabel="overhead (percent)", ylim=(None, 60))  # fmt: skip
        left.legend(fontsize=6)
        for k, decodes in enumerate(sorted({e["decodes"] for e in hybrid})):
            here = [e for e in hybrid if e["decodes"] == decodes and e["context"] == 1024]
            style = _style(k) | {"label": f"{decodes} decodes"}
            del style["capsize"]
            right.plot([e["prompt"] for e in here], [e["whole"] for e in here], **style)
        right.axhline(28.3, color="grey", linestyle="--", linewidth=0.8, label="published: up to")
        right.set(title="Decodes beside a whole prompt", xlabel="prompt (tokens)", xscale="log", yscale="log",
                  ylabel="batch time over decodes alone")  # fmt: skip
        right.legend(fontsize=7)
        return save(drawing, out / "chunks_and_prompts")


def _bubbles(table: Entries, out: Path) -> list[Path]:
    with figure() as (drawing, axes):
        ax = axes[0][0]
        names = list(dict.fromkeys(e["policy"] for e in table))
        for k, case in enumerate(CASES):
            here = [e for e in table if e["lengths"] == case]
            at = np.arange(len(here)) + 0.2 * k - 0.1
            errors = _bars(here, "bubbles", "low", "high")
            ax.errorbar(at, [e["bubbles"] for e in here], yerr=errors, fmt=MARKERS[k], color=COLOURS[k + 4], capsize=3,
                        label=f"{case}, recursion")  # fmt: skip
            ax.scatter(at, [e["stated"] for e in here], marker="_", s=220, color=COLOURS[k + 4],
                       label=f"{case}, rises and falls (theory)")  # fmt: skip
        ax.set_xticks(range(len(names)), labels=names, rotation=15, fontsize=7)
        ax.set(title="Two stages, saturated", ylabel="bubbles (percent of the time)", ylim=(0, None))
        ax.legend(fontsize=7)
        return save(drawing, out / "bubbles")
