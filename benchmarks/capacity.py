"""Speed of the capacity programs: generation with many classes, warm re-solves, membership, and lists of batches.

    python benchmarks/capacity.py [--json] [--quick]

Programs that are compared solve the same problem in turns, and the ratio is the median of the ratios of neighbours.
Times are CPU seconds of single-threaded code.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from queueing.models.capacity import Capacity  # noqa: E402
from queueing.models.composition import Composition  # noqa: E402
from queueing.models.composition_proof import prove  # noqa: E402
from queueing.models.demand import Demand, Limits, Stairs  # noqa: E402
from queueing.models.iteration_time import Combined, Roofline, TileLaw  # noqa: E402
from queueing.models.listing import Listed, grid  # noqa: E402

BUDGET = 1024
LAWS = {
    "roofline": Roofline(0.0234, 0.007, 0.000091, 0.17e-6, 5e-9),
    "tiles": TileLaw(128, 0.012, 5e-6, 0.0, 1e-7),
    "combined": Combined(0.005, 2e-5, 0.006, 2e-7, 1e-8, 0, 128),
}
TARGETS = {
    "generation_seconds_200": ("<=", 5.0),
    "ratio_resolve": (">=", 20.0),
    "membership_milliseconds": ("<=", 10.0),
    "scaling_exponent": ("<=", 1.3),
}


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU seconds that `work` takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def classes(count: int, rng: np.random.Generator) -> list[Demand]:
    """Classes of equal requests, prompts of 50 to 8000 tokens, outputs of 2 to 1000."""
    found = []
    for k in range(count):
        p, d = float(rng.integers(50, 8000)), float(rng.integers(2, 1000))
        found.append(Demand(str(k), float(rng.random()) + 0.01, p, d, p * d + d * (d + 1) / 2, p * p / 2))
    return found


def generation() -> dict[str, float]:
    """200 classes from nothing to the optimum, on three laws and two memories; and one certificate."""
    times, certified = [], []
    for law in LAWS.values():
        for memory in (235_728, 30_000):
            many = classes(200, np.random.default_rng(0))
            stairs, limits = Stairs.of(law.params(), BUDGET), Limits(BUDGET, memory, 128)
            times.append(cpu_seconds(lambda s=stairs, m=many, x=limits: Composition(s, m, x).solve()))
        program = Composition(stairs, many, limits)
        certified.append(cpu_seconds(lambda p=program: prove(p).check()))
    return {"generation_seconds_200": max(times), "certificate_seconds_200": max(certified)}


def resolves(turns: int) -> dict[str, float]:
    """A change of rates: the warm program against one stated and solved afresh in cvxpy over the batches it knows."""
    some = classes(10, np.random.default_rng(1))
    stairs, limits = Stairs.of(LAWS["roofline"].params(), BUDGET), Limits(BUDGET, 235_728, 128)
    program = Composition(stairs, some, limits)
    program.solve()
    batches = grid(stairs, some, limits, 128, 16)
    stated = Listed(stairs, some, limits, batches)
    rng, repeats = np.random.default_rng(2), 20
    ratios, parametric, warm = [], [], []
    for _ in range(turns):
        rates = [
            [c.rate * x for c, x in zip(some, rng.uniform(0.8, 1.2, 10), strict=True)] for _ in range(repeats)
        ]
        ours = cpu_seconds(lambda: [program.solve(r) for r in rates]) / repeats  # noqa: B023
        fresh = cpu_seconds(lambda: Listed(stairs, some, limits, batches).solve(rates[0]))  # noqa: B023
        again = cpu_seconds(lambda: stated.solve(rates[1]))  # noqa: B023
        warm.append(ours)
        ratios.append(fresh / ours)
        parametric.append(again / ours)
    return {
        "resolve_milliseconds": statistics.median(warm) * 1e3,
        "ratio_resolve": statistics.median(ratios),
        "ratio_resolve_parametric": statistics.median(parametric),
        "listed_batches": float(len(batches)),
    }


def membership(points: int) -> dict[str, float]:
    """Whether a load of four classes is inside, with its reason, after set-up: the median and the slowest."""
    some = classes(4, np.random.default_rng(3))
    stairs, limits = Stairs.of(LAWS["roofline"].params(), BUDGET), Limits(BUDGET, 235_728, 128)
    region = Capacity(stairs, some, limits)
    rng = np.random.default_rng(4)
    for _ in range(20):
        region.membership(list(rng.exponential(size=4)))
    loads = [list(rng.exponential(size=4)) for _ in range(points)]
    times = [cpu_seconds(lambda r=load: region.membership(r)) for load in loads]
    return {
        "membership_milliseconds": statistics.median(times) * 1e3,
        "membership_milliseconds_slowest": max(times) * 1e3,
    }


def columns(largest: int, turns: int) -> dict[str, float]:
    """Listed programs of 10^3, 10^4 and 10^5 batches, stated and solved; the exponent of time over columns."""
    some = classes(8, np.random.default_rng(5))
    stairs, limits = Stairs.of(LAWS["roofline"].params(), BUDGET), Limits(BUDGET, 235_728, 128)
    found: dict[str, float] = {}
    sizes, times = [], []
    for tokens, decodes in ((64, 16), (16, 6), (8, 1)):
        batches = grid(stairs, some, limits, tokens, decodes)
        if len(batches) > largest:
            continue
        spent = statistics.median(
            cpu_seconds(lambda b=batches: Listed(stairs, some, limits, b).solve()) for _ in range(turns)
        )
        sizes.append(len(batches))
        times.append(spent)
        found[f"listed_seconds_{len(batches)}"] = spent
    found["scaling_exponent"] = float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
    return found


def measured(quick: bool) -> dict[str, Any]:
    """Everything in one run."""
    found: dict[str, Any] = generation()
    found |= resolves(3 if quick else 7)
    found |= membership(50 if quick else 300)
    found |= columns(20_000 if quick else 200_000, 1 if quick else 3)
    meets = {
        name: bool(found[name] >= target if sign == ">=" else found[name] <= target)
        for name, (sign, target) in TARGETS.items()
    }
    return {
        "name": "capacity",
        "quick": quick,
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()[0]},
        **found,
        "targets": {name: f"{sign} {target:g}" for name, (sign, target) in TARGETS.items()},
        "meets": meets,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="speed of the capacity programs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="a smaller size of the same thing")
    options = parser.parse_args()
    found = measured(options.quick)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        aim = f"  (target {found['targets'][name]})" if name in TARGETS else ""
        if name not in ("targets", "meets"):
            print(f"{name:36} {f'{value:,.4g}' if isinstance(value, float) else value}{aim}")


if __name__ == "__main__":
    main()
