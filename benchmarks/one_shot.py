"""Speed of the one-shot loop beside its limit and beside plain Python, as ratios in one run.

    python benchmarks/one_shot.py [--json] [--quick]

One process, one core, runs in turns on the same requests, first come first served on eight servers at a load of 0.8.
`share_of_bare`: against a bare compiled recursion (the earliest free server takes the next request; no queue, policy,
check or trace).  `ratio_heap`: against an event loop of a priority queue in plain Python, as simulators of such
systems are usually written.  `ratio_twin`: against the interpreted twin.  Medians of the ratios of neighbours.
"""

from __future__ import annotations

import argparse
import heapq
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from queueing.arrivals import Poisson
from queueing.one_shot import OneShotPolicy, Pool, Requests, decide, serve, take_first

SERVERS, SECONDS, LOAD = 8, 1.0, 0.8
POOL = Pool(np.full((1, 1, 1), SECONDS), servers=SERVERS)


@dataclass(frozen=True, slots=True)
class Fifo(OneShotPolicy):
    @decide
    def fifo(p, memory, view, action):
        take_first(view, action, 1)


@numba.njit
def bare(arrival: Any, servers: int, seconds: float) -> Any:
    """Ends of all requests: each goes to the server that is free first."""
    free = np.zeros(servers)
    ends = np.empty(len(arrival))
    for i in range(len(arrival)):
        s = np.argmin(free)
        ends[i] = free[s] = max(free[s], arrival[i]) + seconds
    return ends


def by_heap(arrival: list[float]) -> list[float]:
    """The same as an event loop: a heap of arrivals and completions, a list of those who wait."""
    events = [(t, 1, i) for i, t in enumerate(arrival)]
    heapq.heapify(events)
    waiting: list[int] = []
    idle, head, ends = SERVERS, 0, [0.0] * len(arrival)
    while events:
        now, what, i = heapq.heappop(events)
        if what == 1:
            waiting.append(i)
        else:
            idle += 1
        while idle and head < len(waiting):
            r = waiting[head]
            head += 1
            idle -= 1
            ends[r] = now + SECONDS
            heapq.heappush(events, (ends[r], 0, r))
    return ends


def timed(work: Callable[[], Any]) -> float:
    """CPU seconds of a call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measured(requests: int) -> dict[str, float]:
    arrival = Poisson(LOAD * SERVERS / SECONDS).times(requests, np.random.default_rng(1))
    few = requests // 50
    whole, part = Requests(arrival), Requests(arrival[:few])
    ends = serve(whole, POOL, Fifo()).finish  # compiles
    assert np.allclose(ends, bare(arrival, SERVERS, SECONDS))
    assert np.allclose(ends[:few], by_heap(arrival[:few].tolist()))
    serve(part, POOL, Fifo(), python=True)
    rows: list[tuple[float, float, float, float]] = []
    for _ in range(5):
        ours = timed(lambda: serve(whole, POOL, Fifo())) / requests
        rows.append(
            (
                ours,
                timed(lambda: bare(arrival, SERVERS, SECONDS)) / requests / ours,
                timed(lambda: by_heap(arrival[:few].tolist())) / few / ours,
                timed(lambda: serve(part, POOL, Fifo(), python=True)) / few / ours,
            )
        )
    ours, share, heap, twin = map(statistics.median, zip(*rows, strict=True))
    return {
        "batches_per_second": 1 / ours,
        "share_of_bare": share,
        "ratio_heap": heap,
        "ratio_twin": twin,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="a fifth of the requests")
    asked = parser.parse_args()
    figures = measured(200_000 if asked.quick else 1_000_000)
    if asked.json:
        print(json.dumps(figures))
    else:
        for name, figure in figures.items():
            print(f"{name:20s} {figure:.4g}")
