"""Selections of requests: boolean masks in the order of `trace.requests`, to be combined with & | ~."""

from __future__ import annotations

import math

import numpy as np

from queueing.metrics.latency import Floats, Mask, mean, quantile
from queueing.trace import Trace

__all__ = ["arrived_between", "by_prompt_length", "class_index", "of_class", "of_client"]


def class_index(trace: Trace, tbt_class: float) -> int:
    """Row of the SLO class whose tbt limit is `tbt_class` seconds."""
    at = np.flatnonzero(trace.class_tbt == tbt_class)
    if len(at) == 0:
        known = ", ".join(f"{limit:g}" for limit in trace.class_tbt)
        raise ValueError(
            f"no request has the tbt limit {tbt_class:g} s; the classes of this trace are {known}"
        )
    return int(at[0])


def of_class(trace: Trace, tbt_class: float) -> Mask:
    """Requests whose limit on the time between tokens is `tbt_class` seconds (inf: no limit)."""
    return trace.requests["slo_class"] == class_index(trace, tbt_class)


def of_client(trace: Trace, client: int) -> Mask:
    """Requests of one client."""
    return trace.requests["client"] == client


def arrived_between(trace: Trace, start: float, end: float = math.inf) -> Mask:
    """Requests that arrived at or after `start` and before `end` (s): `start` is the warm-up cut."""
    arrival = trace.requests["arrival"]
    return (arrival >= start) & (arrival < end)


def by_prompt_length(
    trace: Trace, values: Floats, width: int = 512, where: Mask | None = None
) -> dict[str, Floats]:
    """Mean, median, p99 and maximum of a latency in each bucket of prompt lengths: a table in columns.

    Bucket k holds prompts of k width + 1 ... (k + 1) width tokens; empty buckets are left out.  Censored latencies
    count as infinite.

    Args:
        trace: the run.
        values: one per request of `trace`; nan where not defined.
        width: tokens per bucket, at least 1.
        where: requests to count, all by default.
    """
    if width < 1:
        raise ValueError(f"a bucket holds at least 1 prompt length, not {width}; pass a positive width")
    chosen = ~np.isnan(values) if where is None else where & ~np.isnan(values)
    values = values[chosen]
    bucket = (trace.requests["prompt"][chosen] - 1) // width
    buckets = np.unique(bucket)
    groups = [values[bucket == k] for k in buckets]
    return {
        "prompt_from": buckets * width + 1.0,
        "prompt_to": (buckets + 1.0) * width,
        "requests": np.array([float(len(g)) for g in groups]),
        "mean": np.array([mean(g) for g in groups]),
        "median": np.array([quantile(g, 0.5) for g in groups]),
        "p99": np.array([quantile(g, 0.99) for g in groups]),
        "max": np.array([quantile(g, 1.0) for g in groups]),
    }
