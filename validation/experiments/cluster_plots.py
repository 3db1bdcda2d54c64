"""Figures of the experiment `cluster-day`: load and p99 TTFT over the day, and lengths of queues against their laws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from validation.experiments.cluster_queues import LEVELS, LOAD, ROUTERS, share_with
from validation.plots import COLOURS, MARKERS, figure, save
from validation.result import over_seeds

__all__ = ["write_plots"]

Records = Sequence[Mapping[str, Any]]


def write_plots(days: Records, queues: Records, out: Path) -> list[Path]:
    """Draw both figures, each with its data beside it."""
    return [*_day(days, out), *_queues(queues, out)]


def _day(days: Records, out: Path) -> list[Path]:
    hours = np.arange(24) + 0.5
    drawn: dict[str, Any] = {"hour": hours.tolist()}
    with figure(columns=2) as (drawing, axes):
        left, right = axes[0]
        carried = np.mean([record["load by hour"] for record in days], axis=0)
        drawn["load"] = carried.tolist()
        left.step(np.arange(25), [*carried, carried[-1]], where="post", color="black", linewidth=1)
        left.axhline(1, color="grey", linestyle="--", linewidth=0.8, label="what the replicas carry")
        left.set(title="Arrivals", xlabel="hour of the day", ylabel="load", ylim=(0, 1.1))
        left.legend(fontsize=7)
        for k, router in enumerate(ROUTERS):
            of = [record["p99 TTFT by hour"] for record in days if record["router"] == router]
            found = np.array([over_seeds(values) for values in zip(*of, strict=True)]).T
            value, low, high = found if len(of) > 1 else np.tile(found[0], (3, 1))
            drawn[router] = {"p99 TTFT": value.tolist(), "low": low.tolist(), "high": high.tolist()}
            right.errorbar(hours, value, yerr=[value - low, high - value], fmt=MARKERS[k] + "-", color=COLOURS[k],
                           markersize=3, linewidth=1, capsize=2, label=router)  # fmt: skip
        right.set(
            title="p99 TTFT of what came in the hour", xlabel="hour of the day", ylabel="s", yscale="log"
        )
        right.legend(fontsize=7)
        return save(drawing, out / "day", drawn)


def _queues(queues: Records, out: Path) -> list[Path]:
    most, levels = max(record["replicas"] for record in queues), np.arange(1, LEVELS + 1)
    drawn: dict[str, Any] = {"requests": levels.tolist(), "replicas": most, "load": LOAD}
    with figure() as (drawing, axes):
        ax = axes[0][0]
        for k, (d, router) in enumerate(((1, "random"), (2, "two choices"))):
            of = [
                record["shares"]
                for record in queues
                if record["router"] == router and record["replicas"] == most
            ]
            found, law = np.mean(of, axis=0), [share_with(d, LOAD, int(j)) for j in levels]
            drawn[router] = {"simulated": found.tolist(), "law": law}
            ax.plot(
                levels,
                law,
                color=COLOURS[2 * k],
                linewidth=1,
                label=f"λ^k, {router}" if d == 1 else "λ^(2^k-1), g → ∞",
            )
            ax.plot(
                levels, found, MARKERS[k], color=COLOURS[2 * k], markersize=4, label=f"{router}, simulated"
            )
        ax.set(title=f"Exponential service, {most} replicas at {LOAD:g}", xlabel="k requests or more",
               ylabel="share of the replicas", yscale="log", ylim=(1e-7, 1.5))  # fmt: skip
        ax.legend(fontsize=7)
        return save(drawing, out / "queues", drawn)
