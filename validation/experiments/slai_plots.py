"""Figures of the experiment `slai`, drawn from the tables of its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from validation.plots import COLOURS, MARKERS, figure, save
from validation.result import Result

__all__ = ["CONVENTIONS", "PROMPT_TABLE", "write_plots"]

CONVENTIONS = {"decode emits first": False, "last chunk emits": True}  # value of last_chunk_emits
PROMPT_TABLE = "p99 of prefill_end by prompt tokens, decode emits first (s)"

TITLES = {
    ("decode emits first", "prefill_end"): "Prompt done (the authors' TTFT)",
    ("decode emits first", "ttft"): "First token emitted",
    ("last chunk emits", "ttft"): "First token, emitted by the last chunk",
}


def curve(axes: Any, entries: Sequence[Mapping[str, Any]], quantity: str, k: int, label: str | None) -> None:
    """One policy's `quantity` against the rate, with its interval."""
    rates = [e["rate"] for e in entries]
    middle = [e[quantity] for e in entries]
    below = [max(e[quantity] - e[f"{quantity} low"], 0.0) for e in entries]
    above = [max(e[f"{quantity} high"] - e[quantity], 0.0) for e in entries]
    style = {"color": COLOURS[k], "marker": MARKERS[k], "markersize": 3.5, "linewidth": 1.1, "capsize": 2}
    axes.errorbar(rates, middle, yerr=[below, above], label=label, **style)


def write_plots(result: Result, out: Path) -> list[Path]:
    """Draw medians against the rate, time between tokens, and tails by prompt length; return the files written."""
    rates = [entry for convention in CONVENTIONS for entry in result.tables[f"{convention} (s)"]]
    policies = list(dict.fromkeys(e["policy"] for e in rates))
    most = next(r.ours for r in result.rows if r.quantity.startswith("ceiling"))
    written: list[Path] = []

    with figure(columns=3) as (drawing, axes):
        for ax, ((convention, measure), title) in zip(axes[0], TITLES.items(), strict=True):
            for k, name in enumerate(policies):
                entries = [e for e in rates if e["policy"] == name and e["convention"] == convention]
                curve(ax, entries, f"median {measure}", k, name)
            ax.axhline(0.5, color="grey", linestyle="--", linewidth=0.8)
            ax.axvline(most, color="grey", linestyle=":", linewidth=1.2, label="ceiling (compact LP)")
            ax.set(
                title=title,
                xlabel="arrival rate (requests/s)",
                ylabel="median (s)",
                yscale="log",
                ylim=(0.1, 30),
            )
        axes[0][0].legend(fontsize=7)
        written += save(drawing, out / "median_ttft")

    with figure(columns=2) as (drawing, axes):
        for ax, which, limit in zip(axes[0], ("strict", "relaxed"), (0.1, 0.5), strict=True):
            for k, name in enumerate(policies):
                entries = [
                    e for e in rates if e["policy"] == name and e["convention"] == "decode emits first"
                ]
                curve(ax, entries, f"p99 tbt {which}", k, name)
            ax.axhline(limit, color="grey", linestyle="--", linewidth=0.8, label="limit")
            title = f"Time between tokens, {which} users"
            ax.set(
                title=title, xlabel="arrival rate (requests/s)", ylabel="99th percentile (s)", yscale="log"
            )
        axes[0][0].legend(fontsize=7)
        written += save(drawing, out / "p99_tbt")

    by_prompt = result.tables[PROMPT_TABLE]
    buckets = [key for key in by_prompt[0] if ".." in key]
    with figure(columns=3) as (drawing, axes):
        for ax, rate in zip(axes[0], sorted({e["rate"] for e in by_prompt}), strict=False):
            for k, name in enumerate(policies):
                (entry,) = (e for e in by_prompt if e["rate"] == rate and e["policy"] == name)
                values = [entry[b] for b in buckets]
                ax.plot(
                    buckets,
                    values,
                    color=COLOURS[k],
                    marker=MARKERS[k],
                    markersize=3.5,
                    linewidth=1.1,
                    label=name,
                )
            ax.set(
                title=f"{rate} requests/s",
                xlabel="prompt (tokens)",
                ylabel="99th percentile, prompt done (s)",
                yscale="log",
                ylim=(0.5, 500),
            )
            ax.tick_params(axis="x", labelrotation=30, labelsize=7)
        axes[0][0].legend(fontsize=7)
        written += save(drawing, out / "p99_by_prompt")
    return written
