"""Figures of a run of one-shot serving: pure functions of its trace."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from queueing.one_shot.trace import OneShotTrace

__all__ = [
    "attained",
    "attainment",
    "calls_per_request",
    "latency",
    "mean_batch",
    "mean_value",
    "utilisation",
]

Floats = NDArray[np.float64]


def latency(trace: OneShotTrace) -> Floats:
    """Seconds from arrival to the end of the batch, per request; inf where it was never served."""
    return np.where(trace.served, trace.finish - trace.requests.arrival, np.inf)


def attained(trace: OneShotTrace) -> NDArray[np.bool_]:
    """Which requests were finished at or before their deadline."""
    return trace.served & (np.nan_to_num(trace.finish, nan=np.inf) <= trace.requests.deadline)


def attainment(trace: OneShotTrace) -> float:
    """Share of all requests, dropped and unfinished ones included, that met their deadline: SLO attainment."""
    return float(attained(trace).mean())


def mean_value(trace: OneShotTrace) -> float:
    """Mean worth (accuracy) over the requests that met their deadline; nan if none did."""
    met = attained(trace)
    if not met.any():
        return float("nan")
    return float(trace.pool.value[trace.config[trace.batch[met]]].mean())


def mean_batch(trace: OneShotTrace) -> float:
    """Requests per batch that was completed."""
    return float(trace.count[trace.completed].mean())


def calls_per_request(trace: OneShotTrace) -> float:
    """Batches executed, the lost ones included, per request."""
    return len(trace.begin) / len(trace.batch)


def utilisation(trace: OneShotTrace) -> float:
    """Share of the servers' time, from 0 to the last end, that they were loading or executing; servers are limited."""
    if trace.pool.servers is None:
        raise ValueError("servers paid per use have no utilisation; ask a pool with a number of servers")
    return float((trace.end - trace.begin).sum() / (trace.end.max() * trace.pool.servers))
