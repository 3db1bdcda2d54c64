"""Isolation: a client that stays within its share is served at once under VTC, and waits behind others under FCFS.

Three clients at 0.25, 0.5 and 1.5 requests/s; and one that sends 0.5 requests/s every other minute beside one at 2.
What is compared, and how: :mod:`validation.vtc_runs`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from validation.result import Result
from validation.vtc_runs import experiment

__all__ = ["NAME", "RUNS", "run"]

NAME = "vtc-isolation"
RUNS = ("vtc_proportional", "fcfs_on_off_less", "vtc_on_off_less")
FALLING = ("fcfs_on_off_less", "vtc_on_off_less")  # Avg Diff


def run(
    quick: bool = False,
    out: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Run the experiment in this process; write its plots into `out` if it is given."""
    del workers
    return experiment(NAME, RUNS, FALLING, quick, out, progress)
