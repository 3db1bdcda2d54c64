"""Speed of the serving loop: beside pyserq, beside its own plain-Python twin, and beside the least it could do.

    python benchmarks/simulator.py [--json] [--quick]

Everything is measured in one run.  Two programs that are compared run in turns, and the ratio is the median of the
ratios of neighbours, so that a busy machine slows both; times are CPU seconds of single-threaded code.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numba  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks import peers  # noqa: E402
from policies.rad import Rad  # noqa: E402
from policies.sarathi import Sarathi  # noqa: E402
from queueing import metrics  # noqa: E402
from queueing.arrivals import Poisson  # noqa: E402
from queueing.books import ITERATIONS  # noqa: E402
from queueing.lengths import ShareGPT  # noqa: E402
from queueing.simulator import simulate, versions  # noqa: E402
from queueing.system import System  # noqa: E402
from queueing.trace import Trace  # noqa: E402
from queueing.workload import Workload  # noqa: E402

RATE = 20.0  # requests/s of RAD's instance
TARGETS = {
    "ratio_pyserq": (">=", 40.0),
    "ratio_twin": (">=", 100.0),
    "scaling_ratio": ("<=", 1.3),
    "peak_gigabytes": ("<=", 1.5),
    "compile_policy_seconds": ("<=", 5.0),
}


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds that `work` took, and what it returned."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def iterations(trace: Trace) -> int:
    return len(trace.iterations["start"])


def beside_pyserq(turns: int, horizon: float) -> dict[str, float]:
    """Iterations per CPU second of pyserq and of ours on the same requests, all columns and the sketch recorded."""
    system, policy = System.rad_tile_model(), Rad()
    program = peers.program(RATE, horizon, seed=1)
    peer = peers.run_pyserq(program, horizon)
    repeats = 20

    def served() -> Trace:
        return [simulate(peer.workload, system, policy, horizon=horizon) for _ in range(repeats)][-1]

    trace = served()  # compiles
    count = repeats * iterations(trace)
    theirs, ours, summarised = [], [], []
    for _ in range(turns):
        seconds, _ = cpu_seconds(lambda: peers.pyserq_only(program))
        several, _ = cpu_seconds(served)
        adding, _ = cpu_seconds(lambda: [metrics.summary(trace) for _ in range(repeats)])
        theirs.append(peer.iterations / seconds)
        ours.append(count / several)
        summarised.append(count / (several + adding))
    return {
        "pyserq_iterations_per_second": statistics.median(theirs),
        "rad_iterations_per_second": statistics.median(ours),
        "rad_iterations_per_second_with_summary": statistics.median(summarised),
        "ratio_pyserq": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        "ratio_pyserq_with_summary": statistics.median(
            a / b for a, b in zip(summarised, theirs, strict=True)
        ),
        "iterations_equal_pyserq": float(iterations(trace) == peer.iterations),
    }


def beside_twin(turns: int, seconds: float) -> dict[str, float]:
    """The same lines of Python, interpreted and compiled, on the first `seconds` of RAD's instance.

    The compiled run is long, the interpreted one its beginning, with fewer decodes in a batch: the ratio is modest.
    """
    workload, system, policy = (
        peers.rad_instance(20_000, RATE, np.random.default_rng(2)),
        System.rad_tile_model(),
        Rad(),
    )
    twin, ours = [], []
    for _ in range(turns):
        spent, trace = cpu_seconds(lambda: simulate(workload, system, policy, horizon=seconds, python=True))
        twin.append(iterations(trace) / spent)
        spent, trace = cpu_seconds(lambda: simulate(workload, system, policy))
        ours.append(iterations(trace) / spent)
    return {
        "twin_iterations_per_second": statistics.median(twin),
        "ratio_twin": statistics.median(a / b for a, b in zip(ours, twin, strict=True)),
    }


def sarathi_on_sharegpt(turns: int, requests: int) -> dict[str, float]:
    """Sarathi-Serve, 512 tokens, ShareGPT lengths, Llama-3-8B on A100, 4 req/s: more than one GPU keeps up with."""
    system, policy, rate = System.named("llama-3-8b", "a100"), Sarathi(512), 4.0
    lengths = ShareGPT(source="table")
    workload = Workload.generate(Poisson(rate), lengths, requests, np.random.default_rng(3))
    found = []
    for _ in range(turns + 1):
        spent, trace = cpu_seconds(lambda: simulate(workload, system, policy))
        found.append((iterations(trace) / spent, requests / spent))
    mix = metrics.composition(trace)
    return {
        "sarathi_iterations_per_second": statistics.median(f[0] for f in found[1:]),
        "sarathi_requests_per_second": statistics.median(f[1] for f in found[1:]),
        "sarathi_offered_requests_per_second": rate,
        "sarathi_served_requests_per_second": metrics.throughput(trace),
        "sarathi_mean_decodes": mix["mean_decodes"],
        "sarathi_utilisation": float(metrics.utilisation(trace)[0]),
    }


# --- size --------------------------------------------------------------------------------------------------------


def size_in_this_process(requests: int) -> dict[str, float]:
    """Time per iteration and peak memory of one run of `requests` requests of RAD's instance."""
    system, policy = System.rad_tile_model(), Rad()
    simulate(peers.rad_instance(50, RATE, np.random.default_rng(4)), system, policy)
    workload = peers.rad_instance(requests, RATE, np.random.default_rng(4))
    seconds, trace = cpu_seconds(lambda: simulate(workload, system, policy))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"nanoseconds": seconds / iterations(trace) * 1e9, "gigabytes": peak}


def touch_memory() -> None:
    """Have the machine hand out 2 GB once, and give them back.

    A virtual machine that has never used its memory gets each page from its host on first touch, up to 10 us a page:
    a cost of the host, which would fall on the longest run alone.  In a process of its own, because a process counts
    its parent's peak as its own.
    """
    subprocess.run([sys.executable, "-c", "import numpy; numpy.ones(1 << 31, numpy.uint8)"], check=True)


def in_fresh_process(*arguments: str, cache: str | None = None) -> dict[str, float]:
    environment = dict(os.environ, **({} if cache is None else {"NUMBA_CACHE_DIR": cache}))
    done = subprocess.run(
        [sys.executable, __file__, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def sizes(turns: int, largest: int) -> dict[str, float]:
    """10^4 requests and more, each run in a process of its own, in turns; the largest median over the least."""
    counts = [n for n in (10_000, 100_000, 1_000_000) if n <= largest]
    runs: dict[int, list[dict[str, float]]] = {n: [] for n in counts}
    for _ in range(turns):
        for n in counts:
            touch_memory()
            runs[n].append(in_fresh_process("--size", str(n)))
    time_of = {n: statistics.median(run["nanoseconds"] for run in runs[n]) for n in counts}
    found = {f"nanoseconds_per_iteration_{n}": time_of[n] for n in counts}
    found["scaling_ratio"] = max(time_of.values()) / min(time_of.values())
    found["peak_gigabytes"] = max(run["gigabytes"] for run in runs[counts[-1]])
    found["peak_requests"] = float(counts[-1])
    return found


# --- compilation -------------------------------------------------------------------------------------------------


def first_run_in_this_process(name: str) -> dict[str, float]:
    policy = {"rad": Rad(), "sarathi": Sarathi(512)}[name]
    workload = Workload([0.0, 1.0], [128, 256], [3, 4])
    spent, _ = cpu_seconds(lambda: simulate(workload, System.rad_tile_model(), policy))
    return {"seconds": spent}


def compilation() -> dict[str, float]:
    """Seconds before a policy's first run: nothing on disk, only the policy new, and everything on disk."""
    with tempfile.TemporaryDirectory() as cache:
        everything = in_fresh_process("--first-run", "rad", cache=cache)["seconds"]
        policy = in_fresh_process("--first-run", "sarathi", cache=cache)["seconds"]
        warm = in_fresh_process("--first-run", "rad", cache=cache)["seconds"]
    return {
        "compile_everything_seconds": everything,
        "compile_policy_seconds": policy,
        "load_seconds": warm,
    }


# --- the limit -----------------------------------------------------------------------------------------------------


@numba.njit
def least_work(decodes, prefill, decoded, context, last_token, output, log):  # pragma: no cover
    """What any simulator that counts tokens per request must do: credit each decode, write a row per iteration."""
    now = 0.0
    for row in range(len(decodes)):
        now += 1.0
        for r in range(decodes[row]):
            context[r] += 1
            decoded[r] += 1
            last_token[r] = now
            if decoded[r] == output[r]:
                decoded[r] = 0
        for column in range(log.shape[0]):
            log[column, row] = prefill[row]


def limit(turns: int) -> dict[str, float]:
    """Beside the loop: a bare loop that only credits the same decodes, with no queue, no plan, no check, no sketch.

    Also the cost of an iteration as a + b decodes, from runs in which 1 and 97 requests decode all the time.
    """
    system, policy = System.rad_tile_model(), Rad()
    workload = peers.rad_instance(20_000, RATE, np.random.default_rng(5))
    trace = simulate(workload, system, policy)
    columns = [np.zeros(128, np.int64) for _ in range(2)]
    decodes, prefill = trace.iterations["decodes"], trace.iterations["prefill"]
    log = np.zeros((len(ITERATIONS.names or ()), len(decodes)), np.int64)

    def bare() -> None:
        least_work(decodes, prefill, *columns, np.zeros(128), np.full(128, 1000), log)

    def steady(n: int) -> Callable[[], Trace]:
        requests = Workload(np.zeros(n), np.full(n, 128), np.full(n, 100_000))
        return lambda: simulate(requests, system, policy)

    bare()
    share, costs = [], []
    for _ in range(turns):
        ours, _ = cpu_seconds(lambda: simulate(workload, system, policy))
        least, _ = cpu_seconds(lambda: [bare() for _ in range(10)])
        share.append(least / 10 / ours)
        one, many = (cpu_seconds(steady(n)) for n in (1, 97))
        costs.append((one[0] / iterations(one[1]), many[0] / iterations(many[1])))
    one, many = (statistics.median(c[k] for c in costs) for k in (0, 1))
    rate = len(decodes) / statistics.median(cpu_seconds(bare)[0] for _ in range(5))
    return {
        "bare_iterations_per_second": rate,
        "share_of_bare": statistics.median(share),
        "nanoseconds_per_decode": (many - one) / 96 * 1e9,
        "nanoseconds_per_iteration_fixed": (one - (many - one) / 96) * 1e9,
        "bytes_per_iteration": float(ITERATIONS.itemsize),
    }


def measured(quick: bool) -> dict[str, Any]:
    turns = 3 if quick else 7
    found: dict[str, Any] = {}
    start = time.perf_counter()
    found |= beside_pyserq(turns, 50.0 if quick else 100.0)
    found |= beside_twin(3, 3.0 if quick else 10.0)
    found |= sarathi_on_sharegpt(3, 2_000 if quick else 10_000)
    found |= sizes(3 if quick else 5, 100_000 if quick else 1_000_000)
    found |= compilation()
    found |= limit(3)
    meets = {
        name: bool(found[name] >= target if sign == ">=" else found[name] <= target)
        for name, (sign, target) in TARGETS.items()
    }
    return {
        "name": "simulator",
        "seconds": time.perf_counter() - start,
        "quick": quick,
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "load": os.getloadavg()[0]},
        "versions": versions(),
        **found,
        "targets": {name: f"{sign} {target:g}" for name, (sign, target) in TARGETS.items()},
        "meets": meets,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="speed of the serving loop")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="a smaller size of the same thing")
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--first-run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.size:
        print(json.dumps(size_in_this_process(options.size)))
    elif options.first_run:
        print(json.dumps(first_run_in_this_process(options.first_run)))
    else:
        found = measured(options.quick)
        if options.json:
            print(json.dumps(found, indent=1))
            return
        for name, value in found.items():
            shown = f"{value:,.4g}" if isinstance(value, float) else value
            aim = f"  (target {found['targets'][name]})" if name in TARGETS else ""
            if name not in ("targets", "meets"):
                print(f"{name:40} {shown}{aim}")


if __name__ == "__main__":
    main()
