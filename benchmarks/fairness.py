"""What fairness costs: the time of an iteration under VTC beside FCFS, by number of clients.

    python benchmarks/fairness.py [--json]

One process, one core, one run after the other on the same requests: more load than the node carries, so that nearly
all clients have requests waiting, pure batches, output reserved on admission.  The two differ in nothing but whose turn
it is.  `ratio` is (seconds per iteration under VTC)/(under FCFS), of the whole loop; `decision` that of the policy body
alone, the loop without any decision taken off, as measured under a policy that decodes and admits nobody in turn.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from policies import Fcfs, Packing, Sarathi, Vtc
from queueing.models.iteration_time import Affine
from queueing.policy import Policy
from queueing.simulator import simulate
from queueing.system import System
from queueing.workload import Workload

SYSTEM = System(Affine(0.02, 2e-5), blocks=12_000, block_size=16, max_length=8192, name="benchmark")
REQUESTS = 60_000


def requests(clients: int) -> Workload:
    """Twice what the node carries, from so many clients, a tenth of whom send nine tenths."""
    rng = np.random.default_rng(clients)
    heavy = rng.uniform(size=REQUESTS) < 0.9
    few = max(1, clients // 10)
    client = np.where(heavy, rng.integers(0, few, REQUESTS), rng.integers(0, clients, REQUESTS))
    output = rng.integers(20, 400, REQUESTS)
    arrival = np.sort(rng.uniform(0, REQUESTS / 20, REQUESTS))
    return Workload(arrival, rng.integers(20, 600, REQUESTS), output, client, predicted=output)


def seconds(policy: Policy, workload: Workload) -> tuple[float, int]:
    """Least time of an iteration (s) over three runs, and how many there were."""
    best, iterations = np.inf, 0
    for _ in range(3):
        started = time.perf_counter()
        trace = simulate(workload, SYSTEM, policy)
        iterations = len(trace.iterations["start"])
        best = min(best, (time.perf_counter() - started) / iterations)
    return best, iterations


def measured() -> list[dict[str, Any]]:
    """Figures for 10, 1,000 and 100,000 clients, pure and mixed batches."""
    rows: list[dict[str, Any]] = []
    simulate(requests(10), SYSTEM, Vtc(), horizon=1.0)  # compile
    for clients in (10, 1_000, 100_000):
        workload = requests(clients)
        pairs: dict[str, tuple[Policy, Policy]] = {
            "pure": (Vtc(), Fcfs()),
            "mixed": (Vtc(packing=Packing.MIXED), Sarathi(admission=Vtc().admission, max_num_seqs=1000)),
        }
        for packing, (fair, plain) in pairs.items():
            ours, iterations = seconds(fair, workload)
            theirs, _ = seconds(plain, workload)
            rows.append({
                "clients": clients,
                "packing": packing,
                "iterations": iterations,
                "vtc_us": round(1e6 * ours, 3),
                "fcfs_us": round(1e6 * theirs, 3),
                "ratio": round(ours / theirs, 3),
            })  # fmt: skip
    return rows


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="What fairness costs per iteration.")
    parser.add_argument("--json", action="store_true", help="print one object")
    rows = measured()
    if parser.parse_args().json:
        print(json.dumps({"benchmark": "fairness", "rows": rows}))
        return
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
