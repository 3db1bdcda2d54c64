"""Figures of the experiment `mbs`, drawn from the tables of its result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from validation.experiments.mbs_days import FUNCTION_PLANS
from validation.plots import COLOURS, MARKERS, figure, save
from validation.result import Result

__all__ = ["write_plots"]


def write_plots(result: Result, out: Path) -> list[Path]:
    """Draw cost, padding and calls against the number of buffers, the searches, and the days; return the files."""
    curve, compared, searched, _, hours, functions = result.tables.values()
    cases = list(dict.fromkeys((r["mix"], r["limit"]) for r in curve))
    written: list[Path] = []
    with figure(columns=3) as (drawing, axes):
        for k, case in enumerate(cases):
            rows = [r for r in curve if (r["mix"], r["limit"]) == case and r["n"] > 0]
            style = {"color": COLOURS[k], "marker": MARKERS[k], "markersize": 4, "linewidth": 1.1}
            numbers = [r["n"] for r in rows]
            for ax, name in zip(axes[0], ("cost", "padding", "calls"), strict=True):
                ax.plot(numbers, [r[name] for r in rows], label=f"{case[0]}, {case[1]} s/KB", **style)
            _simulated(axes[0], [r for r in compared if (r["mix"], r["limit"]) == case and r["n"] > 0], k)
        for ax, label in zip(
            axes[0], ("USD per million requests", "padding", "calls per request"), strict=True
        ):
            ax.set(xscale="log", xlabel="buffers", ylabel=label, ylim=(0, None))
            ax.set_xticks([1, 2, 4, 8, 16], labels=["1", "2", "4", "8", "16"])
        axes[0][0].set_title("Theory (lines), simulation (crosses)")
        axes[0][0].legend(fontsize=7)
        written += save(drawing, out / "buffers")
    with figure(columns=2) as (drawing, axes):
        for k, method in enumerate(("bayes", "penalty", "random")):
            counts = sorted(float(r["evaluations"]) for r in searched if r["method"] == method)
            met = [c for c in counts if math.isfinite(c)]
            axes[0][0].step(
                [0, *met, 240], [0, *((i + 1) / len(counts) for i in range(len(met))), len(met) / len(counts)],
                where="post", color=COLOURS[k], label=f"{method} ({len(counts)} runs)",
            )  # fmt: skip
        axes[0][0].set(
            xlabel="evaluations",
            ylabel="share of runs within 1 %",
            title="Search of a grid of 2,400",
            xlim=(0, 240),
        )
        axes[0][0].legend(fontsize=7)
        for k, name in enumerate(("retuned", "mean rate", "safe")):
            axes[0][1].plot(
                [r["hour"] for r in hours], [r[name] for r in hours], color=COLOURS[k], label=name
            )
            bad = [r for r in hours if r[f"{name} attained"] < 0.95]
            axes[0][1].plot([r["hour"] for r in bad], [r[name] for r in bad], "x", color=COLOURS[5])
        axes[0][1].set(
            xlabel="hour",
            ylabel="USD per million requests",
            title="A day (crosses: limit broken)",
            ylim=(0, None),
        )
        axes[0][1].legend(fontsize=7)
        written += save(drawing, out / "search_and_day")
    return written + _function_day(functions, out)


def _function_day(hours: Sequence[Mapping[str, Any]], out: Path) -> list[Path]:
    """Cost and attainment of each plan by the hour."""
    with figure(columns=2) as (drawing, axes):
        for k, name in enumerate(FUNCTION_PLANS):
            rows = [r for r in hours if r["plan"] == name]
            for ax, column in zip(axes[0], ("cost", "worst buffer"), strict=True):
                style = {"color": COLOURS[k], "marker": MARKERS[k], "markersize": 3, "linewidth": 1.0}
                ax.plot([r["hour"] for r in rows], [r[column] for r in rows], label=name, **style)
        axes[0][0].set(xlabel="hour", ylabel="USD per million requests", title="A day of functions")
        axes[0][1].axhline(0.95, color="black", linewidth=0.6, linestyle=":")
        axes[0][1].set(xlabel="hour", ylabel="within the limit, worst buffer", title="Limit: 0.95")
        axes[0][0].legend(fontsize=7)
        return save(drawing, out / "function_day")


def _simulated(axes: Any, rows: Sequence[Mapping[str, Any]], k: int) -> None:
    """One cross per number of buffers, the mean over seeds."""
    for n in dict.fromkeys(r["n"] for r in rows):
        some = [r for r in rows if r["n"] == n]
        for ax, name, unit in zip(axes, ("cost", "padding", "calls"), (1e6, 1.0, 1.0), strict=True):
            ax.plot([n], [unit * sum(r[name] for r in some) / len(some)], "x", color=COLOURS[k], markersize=9)
