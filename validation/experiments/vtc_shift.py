"""Shifting demand: least counter first hoards credit for a client that was away, VTC lifts it.

Two clients for 900 s: on and off beside 2 requests/s, then one each, then 0.5 and 1.5.  Avg Diff of VTC jumps between
two values with K and is shown, not judged.
What is compared, and how: :mod:`validation.vtc_runs`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from validation.result import Result
from validation.vtc_runs import experiment

__all__ = ["NAME", "RUNS", "run"]

NAME = "vtc-shift"
RUNS = ("vtc_dist_shift", "lcf_dist_shift")
FALLING = ("lcf_dist_shift", "vtc_dist_shift")  # Avg Diff


def run(
    quick: bool = False,
    out: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Run the experiment in this process; write its plots into `out` if it is given."""
    del workers
    return experiment(NAME, RUNS, FALLING, quick, out, progress)
