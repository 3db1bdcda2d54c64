"""Speed-up of a sweep on two cores over one, on the same 64 points, as a ratio in one run.

    python benchmarks/sweep.py [--json] [--quick]

`speedup` is the time of `sweep(executor="serial")` over that of two processes of joblib, each with a new folder and
everything counted: starting the workers, files and table.  Runs alternate; a figure is the median of the ratios of
neighbours.  It means something only where nothing else runs: `others_serial` and `others_parallel` say how many cores
others kept busy meanwhile (Linux).  `speedup_processor` does not feel them: twice the processor seconds of the serial
run over all those of the parallel one, workers' imports included, which is what two free cores would give if the work
split evenly.  Both tables are compared byte for byte.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from joblib.externals.loky import get_reusable_executor

from validation.sweep_point import Point
from validation.sweep_run import sweep

ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Run:
    wall: float
    processor: float
    others: float
    table: bytes


def points(requests: int) -> list[Point]:
    axes = product(("sarathi", "slai"), (0.8, 1.0, 1.2, 1.4), ("mistral-7b/rtx-6000-ada",), range(8))
    return [Point(*values, requests=requests) for values in axes]


def spent() -> float:
    """Processor seconds of this process and of those it has waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def busy() -> float:
    """Processor seconds of the whole machine; nan where nobody tells."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return float("nan")
    user, nice, system, _, _, irq, soft, *_ = map(int, stat.read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + soft) / 100


def timed(executor: str, requests: int) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        began, ours, all_of_it = time.perf_counter(), spent(), busy()
        found = sweep(points(requests), Path(folder) / "sweep", executor=executor)
        wall = time.perf_counter() - began
        if executor == "joblib":
            get_reusable_executor().shutdown()  # its processor time is known when it has been waited for
        took, everything, whole = spent() - ours, busy() - all_of_it, time.perf_counter() - began
        assert found.computed == 64
        return Run(wall, took, (everything - took) / whole, found.table.read_bytes())


def measured(requests: int) -> dict[str, float]:
    timed("serial", 10)  # compiles
    rounds = [(timed("serial", requests), timed("joblib", requests)) for _ in range(ROUNDS)]
    assert len({run.table for pair in rounds for run in pair}) == 1
    return {
        "speedup": statistics.median(one.wall / two.wall for one, two in rounds),
        "speedup_processor": statistics.median(2 * one.processor / two.processor for one, two in rounds),
        "others_serial": statistics.median(one.others for one, _ in rounds),
        "others_parallel": statistics.median(two.others for _, two in rounds),
        "serial_seconds": statistics.median(one.wall for one, _ in rounds),
        "parallel_seconds": statistics.median(two.wall for _, two in rounds),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests")
    asked = parser.parse_args()
    figures = measured(4_000 if asked.quick else 40_000)
    if asked.json:
        print(json.dumps(figures))
    else:
        for name, figure in figures.items():
            print(f"{name:20s} {figure:.4g}")
