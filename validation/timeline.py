"""Timelines: a run drawn as who got how many tokens in which batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from queueing.trace import Trace
from validation.plots import COLOURS, figure, save

__all__ = ["timeline", "timelines"]

MOST = 60  # requests that fit a page


def timeline(trace: Trace, title: str, path: Path) -> list[Path]:
    """Draw one row per request: a line while it waits, a box per batch that serves it, with the tokens it got there.

    Prompt tokens and output tokens differ in colour and hatching; a cross marks a preemption.

    Args:
        trace: with entries, of at most MOST requests.
        title: of the figure.
        path: where to write it, as PNG and SVG.

    Raises:
        ValueError: the trace has no entries, or more requests than fit a page.
    """
    return timelines({title: trace}, path)


def timelines(traces: Mapping[str, Trace], path: Path) -> list[Path]:
    """Draw several runs side by side on one scale of time, each by its title, as :func:`timeline` draws one.

    Raises:
        ValueError: there is none, or as for :func:`timeline`.
    """
    if not traces:
        raise ValueError("no run was given; give at least one")
    for trace in traces.values():
        if trace.entries is None:
            raise ValueError("a timeline needs entries; run simulate(..., record_entries=True)")
        if (n := len(trace.requests["prompt"])) > MOST:
            raise ValueError(f"a timeline of {n} requests is unreadable; give at most {MOST}")
    batches = max(len(trace.iterations["start"]) for trace in traces.values())
    rows = max(len(trace.requests["prompt"]) for trace in traces.values())
    width = max(5.0, min(14.0, 0.35 * batches + 2))
    with figure(columns=len(traces), width=width, height=0.3 * rows + 1.4) as (drawing, axes):
        end = max(trace.end for trace in traces.values())
        for ax, (title, trace) in zip(axes[0], traces.items(), strict=True):
            _draw(trace, ax)
            ax.set_title(title, fontsize=8, loc="left", wrap=True)
            if len(traces) > 1:
                ax.set_xlim(0, 1.02 * end)
        return save(drawing, path)


def _draw(trace: Trace, ax: Any) -> None:
    q, its, entries = trace.requests, trace.iterations, trace.entries
    assert entries is not None
    n = len(q["prompt"])
    for i, (arrival, admitted) in enumerate(zip(q["arrival"], q["admitted"], strict=True)):
        until = trace.end if np.isnan(admitted) else admitted
        ax.plot([arrival, max(arrival, until)], [i, i], color="0.6", linewidth=1)
    given, at = np.zeros(n, np.int64), 0
    for start, seconds, count in zip(its["start"], its["seconds"], its["entries"], strict=True):
        for e in range(at, at + int(count)):
            r, tokens = int(entries["request"][e]), int(entries["tokens"][e])
            if tokens == 0:
                ax.plot([start], [r], marker="x", color="black")
                given[r] = 0
                continue
            prompt = given[r] < q["prompt"][r]
            given[r] += tokens
            ax.barh(r, seconds, left=start, height=0.7, color=COLOURS[1 if prompt else 2], edgecolor="black",
                    linewidth=0.5, hatch="//" if prompt else "")  # fmt: skip
            ax.text(start + seconds / 2, r, str(tokens), ha="center", va="center", fontsize=7)
        at += int(count)
    rows = zip(q["client"], q["prompt"], q["output"], strict=True)
    labels = [f"{i} (client {c}: {p} + {o})" for i, (c, p, o) in enumerate(rows)]
    ax.set_yticks(range(n), labels, fontsize=7)
    ax.invert_yaxis()
    ax.set_xlabel("time (s); hatched: prompt tokens, plain: output tokens")
