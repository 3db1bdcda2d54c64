"""What it costs to read a trace with every monitor: seconds and memory, by number of requests and of clients.

    python benchmarks/monitors.py [--json] [--quick]

One process, one core.  The traces are simulated runs of VTC with entries, at somewhat more load than the node carries,
so that nearly all clients have requests waiting all the time: pairs of clients cost most then.  Outputs have 4 tokens
in the mean.  `seconds` is the least of three readings by all monitors, events included, after one that compiles;
`peak_bytes` what numpy took at most while reading, per request, beside the trace itself (`trace_bytes`), and
`memory_ratio` the largest ratio of the two.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from typing import Any

import numpy as np

from policies import Vtc
from queueing.models.iteration_time import Affine
from queueing.monitors import check
from queueing.simulator import simulate
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload

SYSTEM = System(Affine(0.005, 5e-6), blocks=10_000, block_size=1, name="benchmark")
MEAN_OUTPUT = 4
SIZES = ((100_000, 27), (1_000_000, 27), (1_000_000, 300), (1_000_000, 1000))
TARGET_SECONDS = 3.0  # for 10^6 requests


def recorded(requests: int, clients: int) -> Trace:
    """A run of so many requests from so many clients."""
    rng = np.random.default_rng(clients)
    output = rng.geometric(1 / MEAN_OUTPUT, requests)
    arrival = np.sort(rng.uniform(0, requests / 1000, requests))
    client = rng.integers(0, clients, requests)
    workload = Workload(arrival, rng.integers(1, 200, requests), output, client, predicted=output)
    return simulate(workload, SYSTEM, Vtc(), record_entries=True)


def size(trace: Trace) -> int:
    """Bytes of the columns of a trace."""
    tables = (trace.requests, trace.iterations, trace.entries or {})
    return sum(column.nbytes for table in tables for column in table.values())


def measured(sizes: tuple[tuple[int, int], ...]) -> list[dict[str, Any]]:
    """A row for each size."""
    check(recorded(1000, 3))  # compile
    rows: list[dict[str, Any]] = []
    for requests, clients in sizes:
        trace = recorded(requests, clients)
        best, findings = np.inf, check(trace)
        for _ in range(3):
            started = time.perf_counter()
            check(trace)
            best = min(best, time.perf_counter() - started)
        tracemalloc.start()
        check(trace)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        rows.append({
            "requests": requests,
            "clients": clients,
            "tokens": int(trace.requests["decoded"].sum()),
            "seconds": round(best, 3),
            "peak_bytes": round(peak / requests, 1),
            "trace_bytes": round(size(trace) / requests, 1),
            "verdicts": sorted({found.verdict for found in findings}),
        })  # fmt: skip
    return rows


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="What it costs to read a trace with every monitor.")
    parser.add_argument("--json", action="store_true", help="print one object")
    parser.add_argument("--quick", action="store_true", help="the smallest size only")
    arguments = parser.parse_args()
    rows = measured(SIZES[:1] if arguments.quick else SIZES)
    if arguments.json:
        memory = max(row["peak_bytes"] / row["trace_bytes"] for row in rows)
        print(
            json.dumps(
                {
                    "benchmark": "monitors",
                    "target_seconds": TARGET_SECONDS,
                    "memory_ratio": memory,
                    "rows": rows,
                }
            )
        )
        return
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
