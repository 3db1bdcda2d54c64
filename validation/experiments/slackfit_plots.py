"""Figures of the experiment `slackfit`, drawn from the tables of its result."""

from __future__ import annotations

from pathlib import Path

from validation.plots import COLOURS, MARKERS, figure, save
from validation.result import Result

__all__ = ["write_plots"]


def write_plots(result: Result, out: Path) -> list[Path]:
    """Draw attainment against accuracy, attainment by servers left, by speed, and misses by loading time."""
    written: list[Path] = []
    panels = (
        ("bursts", "Bursts: 5550/s with CV² = 8 on 1500/s", {"variable rate (1/s)": 5550.0, "CV²": 8.0}),
        ("ramps", "Ramp to 7800/s at 5000/s²", {"to (1/s)": 7800.0, "slope (1/s²)": 5000.0}),
        ("day", "A synthetic day of functions", {}),
    )
    with figure(columns=3) as (drawing, axes):
        for ax, (table, title, cell) in zip(axes[0], panels, strict=True):
            entries = [e for e in result.tables[table] if all(e[key] == value for key, value in cell.items())]
            for k, entry in enumerate(entries):
                ax.errorbar(
                    100 * entry["accuracy"], entry["attainment"],
                    yerr=[[entry["attainment"] - entry["low"]], [entry["high"] - entry["attainment"]]],
                    color=COLOURS[k % len(COLOURS)], marker=MARKERS[(k + k // len(COLOURS)) % len(MARKERS)],
                    linestyle="none", markersize=5, capsize=2, label=entry["policy"],
                )  # fmt: skip
            ax.set(
                title=title,
                xlabel="mean accuracy of what is in time (%)",
                ylabel="SLO attainment",
                ylim=(0, 1.03),
            )
        axes[0][2].legend(fontsize=6)
        written += save(drawing, out / "attainment_accuracy")
    with figure(columns=3) as (drawing, axes):
        left, middle, right = axes[0]
        for k, name in enumerate(("SlackFit", "MaxBatch", "MaxAccuracy", "INFaaS")):
            some = [e for e in result.tables["failures"] if e["policy"] == name]
            left.plot([e["servers"] for e in some], [e["attainment"] for e in some], color=COLOURS[k],
                      marker=MARKERS[k], label=name)  # fmt: skip
        left.invert_xaxis()
        left.set(title="Servers fail, 3500/s", xlabel="servers left", ylabel="SLO attainment", ylim=(0, 1.03))
        left.legend(fontsize=7)
        sweep = [e for e in result.tables["speed, buckets, subnets"] if e["subnets"] == 5]
        names = ("SlackFit, 4 buckets", "SlackFit, 8 buckets", "SlackFit, 32 buckets", "MaxBatch", "INFaaS")
        for k, name in enumerate(names):
            some = [e for e in sweep if e["policy"] == name]
            middle.plot([e["scale"] for e in some], [e["attainment"] for e in some], color=COLOURS[k],
                        marker=MARKERS[k], label=name)  # fmt: skip
        middle.set(title="Hardest burst, by speed", xlabel="time of every batch over calibration",
                   ylabel="SLO attainment")  # fmt: skip
        middle.legend(fontsize=7)
        loading = result.tables["loading"]
        right.plot(
            [1e3 * e["delay (s)"] for e in loading], [e["misses"] for e in loading], "o-", color=COLOURS[0]
        )
        right.set(
            title="SlackFit where loading takes time",
            xlabel="time to load a subnet (ms)",
            ylabel="share missed",
        )
        right.set_xscale("symlog", linthresh=1.0)
        written += save(drawing, out / "sensitivity")
    return written
