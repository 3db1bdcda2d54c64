"""Fair service on real requests: FCFS, least counter first, VTC and rate limits, measured on a GPU and simulated.

27 clients, 1500 requests in 600 s.  FCFS lets the busiest clients delay all others; LCF and VTC do not, and rate limits
look fair because what they turn away is in no metric: rejected requests stand in a row of their own.
What is compared, and how: :mod:`validation.vtc_runs`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from validation.result import Result
from validation.vtc_runs import experiment

__all__ = ["NAME", "RUNS", "run"]

NAME = "vtc-real"
RUNS = ("fcfs_real", "lcf_real", "vtc_real", "vtc_oracle_real", "lshare_rpm5_real", "lshare_rpm20_real")
FALLING = ("fcfs_real", "lcf_real", "vtc_real")  # Avg Diff


def run(
    quick: bool = False,
    out: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Run the experiment in this process; write its plots into `out` if it is given."""
    del workers
    return experiment(NAME, RUNS, FALLING, quick, out, progress)
