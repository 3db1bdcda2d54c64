"""What the parts of the experiment `mbs` share: the functions on offer, the rate, and a plan on given requests."""

from __future__ import annotations

import numpy as np

from policies.buffer_tuner import policy_of
from queueing.models.buffer_plan import Plan, Service
from queueing.models.serverless import PRICES
from queueing.one_shot import Pool, Requests, metrics, serve

__all__ = ["DOLLARS", "RATE", "service", "simulated"]

RATE = 40.0  # requests/s
DOLLARS = 1e6  # tables are in USD per million requests


def service() -> Service:
    """Functions of 1024..6912 MB by 256, billed by 100 ms as in the authors' code."""
    prices = PRICES["aws-100ms"]
    return Service(prices, prices.memories(1024, 6912, 256))


def simulated(on: Service, plan: Plan, requests: Requests, seconds: float) -> dict[str, float]:
    """Figures of a plan on these requests by event simulation; `least` is the attainment of its worst buffer."""
    trace = serve(requests, Pool(on.seconds, servers=None), policy_of(plan))
    x = on.kilobytes
    own = x[requests.kind]
    within = metrics.latency(trace) <= seconds * own
    buffer = np.searchsorted(plan.last, requests.kind)
    return {
        "cost": float(on.dollars[trace.config, trace.largest, trace.count - 1].sum()) / len(requests),
        "padding": float((trace.count * x[trace.largest]).sum() / own.sum()) - 1,
        "calls": metrics.calls_per_request(trace),
        "attained": float(within.mean()),
        "least": min(float(within[buffer == i].mean()) for i in np.unique(buffer)),
    }
