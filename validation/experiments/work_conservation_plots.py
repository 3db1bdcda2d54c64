"""Figures of the experiment `work-conservation`: growth by load, the region of two classes, the drift field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from queueing.models.fluid import Discipline, Fluid
from validation.drift import field
from validation.plots import COLOURS, MARKERS, figure, save

__all__ = ["Drifting", "drift_plot", "write_plots"]

Entries = Sequence[Mapping[str, Any]]
Floats = NDArray[np.float64]


def write_plots(fed: Entries, full: Entries, edges: Mapping[str, float], out: Path) -> list[Path]:
    """Draw everything; return the files written."""
    return [*_growth(fed, edges, out), *_region(fed, out), *_rates(full, out)]


def _growth(fed: Entries, edges: Mapping[str, float], out: Path) -> list[Path]:
    with figure(width=5.5) as (drawing, axes):
        ax = axes[0][0]
        loads = np.linspace(0.78, 1.22, 200)
        lines: dict[str, list[float]] = {}
        for k, name in enumerate(name for name in edges if name != "edge"):
            lines[name] = (100 * np.maximum(0.0, 1 - edges[name] / (loads * edges["edge"]))).tolist()
            here = [e for e in fed if e["case"] == name]
            value = np.array([100 * e["growth"] for e in here])
            errors = [value - [100 * e["low"] for e in here], [100 * e["high"] for e in here] - value]
            ax.plot(loads, lines[name], color=COLOURS[k + 4], linewidth=1)
            ax.errorbar([e["load"] for e in here], value, yerr=errors, fmt=MARKERS[k], color=COLOURS[k + 4],
                        markersize=4, capsize=2, label=name)  # fmt: skip
        ax.axvline(1, color="grey", linestyle=":", linewidth=0.8)
        ax.set(title="Backlog by load: theory (lines) and simulation", xlabel="load, in b/(t(b)·m)",
               ylabel="growth (percent of the arrivals)")  # fmt: skip
        ax.legend(fontsize=7)
        data = {"load": loads.tolist(), "theory": lines, "simulated": [e for e in fed if e["case"] in lines]}
        return save(drawing, out / "growth", data)


def _region(fed: Entries, out: Path) -> list[Path]:
    """Rates of two classes in tokens: both axes in shares of b/t(b)."""
    with figure() as (drawing, axes):
        ax = axes[0][0]
        ax.plot([0, 1], [1, 0], color="black", linewidth=1, label="λ₁m₁ + λ₂m₂ = b/t(b)")
        here = [e for e in fed if e["case"].startswith("Sarathi, chats")]
        points: list[dict[str, Any]] = []
        for e in here:
            share = float(e["case"].split()[-1])
            said = "grows" if e["grows"] else "stable" if e["stable"] else "open"
            points.append({"chats": share * e["load"], "documents": (1 - share) * e["load"], "verdict": said})
        for k, said in enumerate(("stable", "grows", "open")):
            of = [p for p in points if p["verdict"] == said]
            ax.plot([p["chats"] for p in of], [p["documents"] for p in of], MARKERS[k], color=COLOURS[(3, 5, 0)[k]],
                    markersize=6, label=f"simulated: {said}")  # fmt: skip
        ax.set(title="Two classes, Sarathi-Serve", xlabel="tokens/s of chats, in b/t(b)",
               ylabel="tokens/s of documents, in b/t(b)")  # fmt: skip
        ax.legend(fontsize=7)
        return save(drawing, out / "region", points)


def _rates(full: Entries, out: Path) -> list[Path]:
    with figure() as (drawing, axes):
        ax = axes[0][0]
        at = np.arange(len(full))
        value = np.array([e["carried"] for e in full])
        errors = [value - [e["low"] for e in full], [e["high"] for e in full] - value]
        ax.scatter(at, [e["theory"] for e in full], marker="_", s=500, color="black", label="theory")
        ax.errorbar(
            at,
            value,
            yerr=errors,
            fmt=MARKERS[0],
            color=COLOURS[5],
            markersize=4,
            capsize=4,
            label="simulated",
        )
        ax.set_xticks(at, labels=[e["policy"] for e in full], fontsize=7)
        ax.set(title="Endless work", ylabel="rate (tokens/s)", ylim=(0, None))
        ax.legend(fontsize=7)
        return save(drawing, out / "rates", list(full))


class Drifting(NamedTuple):
    """A fluid under a discipline, and the path of a run: prompt tokens waiting and requests decoding."""

    fluid: Fluid
    discipline: Discipline
    prompts: Floats
    decoding: Floats


def drift_plot(cases: Mapping[str, Drifting], out: Path) -> list[Path]:
    """Draw the field of each case with the run on it."""
    most = 1.05 * max(float(case.prompts.max()) for case in cases.values())
    places = 1.05 * max(float(case.decoding.max()) for case in cases.values())
    P, D = np.meshgrid(np.linspace(most / 40, most, 16), np.linspace(places / 40, places, 14))
    data: dict[str, Any] = {"prompts": P.tolist(), "decoding": D.tolist()}
    with figure(columns=len(cases)) as (drawing, axes):
        for ax, (name, case) in zip(axes[0], cases.items(), strict=True):
            dP, dD = field(case.fluid, case.discipline, P, D)
            length = np.hypot(dP / most, dD / places)
            ax.quiver(P, D, dP / most / length, dD / places / length, length, cmap="cividis", scale=22,
                      width=0.004)  # fmt: skip
            ax.plot(case.prompts, case.decoding, color=COLOURS[5], linewidth=0.8, label="simulated")
            ax.plot(case.prompts[:1], case.decoding[:1], "o", color=COLOURS[5], markersize=5, label="start")
            ax.set(
                title=f"{name} at 0.95 of b/(t(b)·m)",
                xlabel="prompt tokens waiting",
                ylabel="requests decoding",
            )
            ax.legend(fontsize=7)
            data[name] = {
                "field": [dP.tolist(), dD.tolist()],
                "run": [case.prompts.tolist(), case.decoding.tolist()],
            }
        return save(drawing, out / "drift", data)
