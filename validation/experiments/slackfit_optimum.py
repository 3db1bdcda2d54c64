"""Policies that choose a subnet against the offline optimum: small random instances, and one server under bursts."""

from __future__ import annotations

from typing import Any

import numpy as np

from policies import Clipper, Infaas, MaxAccuracy, MaxBatch, SlackFit
from queueing.arrivals import Gamma
from queueing.models.supernet import SLO, ofa_resnet
from queueing.models.zilp import Offline
from queueing.one_shot import OneShotPolicy, Pool, Requests, metrics, serve
from validation.result import over_seeds

__all__ = ["against_optimum", "busy_server", "instance", "worth"]

TICK = 0.0005  # s

POLICIES: dict[str, OneShotPolicy] = {
    "SlackFit": SlackFit(),
    "SlackFit, 32 buckets": SlackFit(buckets=32),
    "SlackFit, refitted": SlackFit(refit=True),
    "MaxBatch": MaxBatch(),
    "MaxBatch, refitted": MaxBatch(refit=True),
    "MaxAccuracy": MaxAccuracy(),
    "INFaaS": Infaas(),
    "Clipper+, second": Clipper(1),
}


def instance(rng: np.random.Generator) -> Offline:
    """3 to 7 queries with one limit, 4 subnets with P1 and P2, batches to 4, one server; accuracy in 1/10000."""
    arrival = np.cumsum(rng.integers(0, 4, rng.integers(3, 8)))
    slo = int(rng.integers(6, 14))
    base, step = np.sort(rng.integers(1, 5, 4)), np.sort(rng.integers(1, 4, 4))
    worth = np.sort(rng.choice(np.arange(7300, 8100), 4, replace=False))
    latency = base[:, None] + step[:, None] * np.arange(4)
    return Offline(
        tuple(arrival.tolist()),
        tuple((arrival + slo).tolist()),
        tuple(tuple(row) for row in latency.tolist()),
        tuple(worth.tolist()),
    )


def busy_server(seeds: int, queries: int, rate: float = 800.0) -> list[dict[str, Any]]:
    """Worth over optimum where one server of the calibrated frontier has bursts (CV² = 8) at 0.8 of its capacity.

    Times in ticks of 0.5 ms: arrivals rounded down, latencies up.
    """
    frontier = ofa_resnet()
    latency = tuple(tuple(row) for row in np.ceil(frontier.latency / TICK).astype(int).tolist())
    accuracy = tuple(round(10_000 * x) for x in frontier.accuracy)
    ratios: dict[str, list[float]] = {name: [] for name in POLICIES}
    for seed in range(seeds):
        times = Gamma(rate, 8**0.5).times(queries, np.random.default_rng(seed))
        arrival = np.floor(times / TICK).astype(int)
        due = arrival + round(SLO / TICK)
        o = Offline(tuple(arrival.tolist()), tuple(due.tolist()), latency, accuracy)
        best = o.value(o.by_order().schedule)
        for name, policy in POLICIES.items():
            ratios[name].append(worth(policy, o) / best)
    return [_entry(name, some) for name, some in ratios.items()]


def _entry(name: str, ratios: list[float]) -> dict[str, Any]:
    interval = dict(zip(("mean", "low", "high"), over_seeds(ratios), strict=True))
    optimal = float(np.mean(np.array(ratios) == 1.0))
    return {"policy": name, **interval, "worst": min(ratios), "optimal": optimal}


def worth(policy: OneShotPolicy, o: Offline) -> int:
    """What a policy attains, in whole numbers.

    Deadlines are half a tick later: policies ask for "before the deadline" and the optimum for "at the deadline at the
    latest", which on whole ticks is then the same.
    """
    table = np.array(o.latency, np.float64)[:, None, :]
    pool = Pool(table, o.servers, np.array(o.worth) / 10_000)
    trace = serve(Requests(o.arrival, np.array(o.deadline) + 0.5), pool, policy)
    met = metrics.attained(trace)
    return int(np.array(o.worth)[trace.config[trace.batch[met]]].sum())


def against_optimum(instances: int, seed: int = 0) -> tuple[list[dict[str, Any]], int, int]:
    """Table of worth over optimum per policy; on how many instances both programs agree; how often one is above."""
    rng = np.random.default_rng(seed)
    ratios: dict[str, list[float]] = {name: [] for name in POLICIES}
    agree = above = 0
    for _ in range(instances):
        o = instance(rng)
        ordered = o.by_order()
        agree += o.by_program().worth == ordered.worth == o.value(ordered.schedule)
        for name, policy in POLICIES.items():
            attained = worth(policy, o)
            above += attained > ordered.worth
            if ordered.worth:
                ratios[name].append(attained / ordered.worth)
    return [_entry(name, some) for name, some in ratios.items()], agree, above
