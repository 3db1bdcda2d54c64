"""Speed of a thousand replicas behind a router: requests in time and memory, and what a replica more costs.

    python benchmarks/cluster.py [--json] [--quick] [--folder FOLDER]

Sarathi-Serve on replicas of one A100 each (Llama-3-8B), lengths of ShareGPT, Poisson arrivals at 0.8 of what the
replicas carry, join the shortest queue.  `replica_ratio`: time per iteration with 1,000 replicas over that with 10, as
many requests per replica, run in turns, so that batches are alike; the median of the ratios of neighbours.  `seconds`
and `gigabytes` are of the whole run of 10^7 requests, drawing them and summing up included: wall clock, and the private
memory at its highest.  The tables lie in files of FOLDER (a temporary one), so that memory beyond the private is the
system's to give and to take.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from policies import JoinShortestQueue, Sarathi
from queueing import metrics
from queueing.arrivals import Poisson
from queueing.lengths import ShareGPT
from queueing.simulator import simulate, versions
from queueing.system import System
from queueing.workload import Workload

REPLICAS, RATE, LONGEST = 1000, 2.6, 7000  # requests/s of one replica; tokens of a prompt
REQUESTS = {False: 10_000_000, True: 1_000_000}
TARGETS = {"seconds": 300.0, "gigabytes": 8.0, "replica_ratio": 1.5}


def offered(requests: int, replicas: int, seed: int = 0) -> Workload:
    rng = np.random.default_rng(seed)
    prompt, output = ShareGPT(source="table").sample(requests, rng)
    arrival = Poisson(RATE * replicas).times(requests, rng)
    return Workload(arrival, np.minimum(prompt, LONGEST), output)


def served(workload: Workload, replicas: int, folder: Path | None = None) -> tuple[float, Any]:
    """CPU seconds of a run, and its trace."""
    system = System.named("llama-3-8b", "a100")
    began = time.process_time()
    trace = simulate(workload, system, Sarathi(), nodes=replicas, router=JoinShortestQueue(), folder=folder)
    return time.process_time() - began, trace


def private_gigabytes() -> float:
    """Private memory of this process now; pages of mapped files, which the system may take back, are not in it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "VmSwap"))) / 1e6


class Highest(threading.Thread):
    """Looks at the private memory ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.gigabytes, self.done = 0.0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.1):
            self.gigabytes = max(self.gigabytes, private_gigabytes())


def nanoseconds(each: int, replicas: int) -> float:
    """CPU time of one iteration."""
    seconds, trace = served(offered(each * replicas, replicas), replicas)
    return 1e9 * seconds / len(trace.iterations["start"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests")
    parser.add_argument("--folder", type=Path, help="a place for the tables; 9 GB, a tenth with --quick")
    given = parser.parse_args()
    served(offered(1000, 10), 10)  # compiled before anything is measured
    each = 300 if given.quick else 1000
    pairs = [(nanoseconds(each, 10), nanoseconds(each, REPLICAS)) for _ in range(3)]
    figures: dict[str, Any] = {
        "nanoseconds_10": statistics.median(few for few, _ in pairs),
        "nanoseconds_1000": statistics.median(many for _, many in pairs),
        "replica_ratio": statistics.median(many / few for few, many in pairs),
    }
    watch = Highest()
    watch.start()
    requests = REQUESTS[given.quick]
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        began = time.perf_counter()
        trace = served(offered(requests, REPLICAS), REPLICAS, Path(place) / "run")[1]
        summary = metrics.summary(trace)
        seconds = time.perf_counter() - began
    watch.done.set()
    figures |= {
        "requests": requests,
        "iterations": len(trace.iterations["start"]),
        "finished": int(trace.finished.sum()),
        "seconds": seconds,
        "gigabytes": watch.gigabytes,
        "requests_per_second": requests / seconds,
        "ttft_p99_seconds": summary["ttft, p99"].value,
    }
    targets = {
        name: limit for name, limit in TARGETS.items() if not (given.quick and name != "replica_ratio")
    }
    figures["met"] = {name: figures[name] <= limit for name, limit in targets.items()}
    figures["versions"] = dict(versions())
    if given.json:
        print(json.dumps(figures, indent=1))
        return
    for name, value in figures.items():
        print(f"{name:24} {value:.4g}" if isinstance(value, float) else f"{name:24} {value}")


if __name__ == "__main__":
    main()
