"""What fairness costs: the time of an iteration under VTC beside FCFS, by number of clients.

    python benchmarks/fairness.py [--json] [--quick]

One process, one core, runs in turns on the same requests: more load than the node carries, so that nearly all clients
have requests waiting, output reserved on admission.  The two differ in nothing but whose turn it is.  A ratio is (CPU
seconds per iteration under VTC)/(under FCFS), of the whole loop, the median of the ratios of neighbours.
"""

from __future__ import annotations

import argparse
import json
import statistics
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
REQUESTS = {False: 60_000, True: 10_000}


def requests(clients: int, count: int) -> Workload:
    """Twice what the node carries, from so many clients, a tenth of whom send nine tenths."""
    rng = np.random.default_rng(clients)
    heavy = rng.uniform(size=count) < 0.9
    few = max(1, clients // 10)
    client = np.where(heavy, rng.integers(0, few, count), rng.integers(0, clients, count))
    output = rng.integers(20, 400, count)
    arrival = np.sort(rng.uniform(0, count / 20, count))
    return Workload(arrival, rng.integers(20, 600, count), output, client, predicted=output)


def seconds(policy: Policy, workload: Workload) -> tuple[float, int]:
    """CPU time of an iteration (s), and how many there were."""
    started = time.process_time()
    iterations = len(simulate(workload, SYSTEM, policy).iterations["start"])
    return (time.process_time() - started) / iterations, iterations


def measured(quick: bool) -> list[dict[str, Any]]:
    """Figures for 10, 1,000 and 100,000 clients, pure and mixed batches."""
    rows: list[dict[str, Any]] = []
    for clients in (10, 1_000, 100_000):
        workload = requests(clients, REQUESTS[quick])
        pairs: dict[str, tuple[Policy, Policy]] = {
            "pure": (Vtc(), Fcfs()),
            "mixed": (Vtc(packing=Packing.MIXED), Sarathi(admission=Vtc().admission, max_num_seqs=1000)),
        }
        for packing, both in pairs.items():
            for policy in both:
                simulate(workload, SYSTEM, policy, horizon=1.0)  # compile
            turns = [[seconds(policy, workload) for policy in both] for _ in range(5)]
            rows.append({
                "clients": clients,
                "packing": packing,
                "iterations": turns[0][0][1],
                "vtc_us": round(1e6 * statistics.median(fair for (fair, _), _ in turns), 3),
                "fcfs_us": round(1e6 * statistics.median(plain for _, (plain, _) in turns), 3),
                "ratio": round(statistics.median(fair / plain for (fair, _), (plain, _) in turns), 3),
            })  # fmt: skip
    return rows


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="What fairness costs per iteration.")
    parser.add_argument("--json", action="store_true", help="print one object")
    parser.add_argument("--quick", action="store_true", help="a sixth of the requests")
    asked = parser.parse_args()
    rows = measured(asked.quick)
    if asked.json:
        ratios = {f"ratio_{row['packing']}_{row['clients']}": row["ratio"] for row in rows}
        print(json.dumps({"benchmark": "fairness", **ratios, "rows": rows}))
        return
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
