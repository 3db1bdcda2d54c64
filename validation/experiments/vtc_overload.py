"""Fair service under overload: VTC keeps clients equal that ask for more than their share, FCFS does not.

Two clients at 1.5 and 3 requests/s, and eight at 0.4 or 0.6, on a server that carries about 1.75.  The FCFS run has
600 s of arrivals and the others 360 s: totals are not compared.
What is compared, and how: :mod:`validation.vtc_runs`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from validation.result import Result
from validation.vtc_runs import experiment

__all__ = ["NAME", "RUNS", "run"]

NAME = "vtc-overload"
RUNS = ("fcfs_overload", "vtc_overload", "vtc_pred_50_overload", "vtc_overload_multi")
FALLING = ("fcfs_overload", "vtc_overload", "vtc_pred_50_overload")  # Avg Diff


def run(
    quick: bool = False,
    out: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Run the experiment in this process; write its plots into `out` if it is given."""
    del workers
    return experiment(NAME, RUNS, FALLING, quick, out, progress)
