"""What the engine did: composition of its batches, utilisation, throughput, goodput, SLO attainment, KV memory.

The observation lasts from 0 to T = :func:`~queueing.metrics.latency.observed_until`; a batch that the horizon cuts
counts up to T as busy time and credits no tokens.  Rejected requests are in none of these; `summary` counts them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from queueing.metrics.latency import Floats, Mask, counted, observed_until
from queueing.trace import Trace

__all__ = [
    "batch_size_histogram",
    "batch_tokens",
    "composition",
    "goodput",
    "kv_use",
    "slo_attainment",
    "slo_met",
    "throughput",
    "token_throughput",
    "utilisation",
]


def batch_tokens(trace: Trace) -> NDArray[np.int64]:
    """Tokens of each batch: prompt tokens and decodes."""
    return trace.iterations["prefill"].astype(np.int64) + trace.iterations["decodes"]


def composition(trace: Trace) -> dict[str, float]:
    """Shares of batches that are pure prefill, pure decode and mixed, and mean tokens of each kind per batch.

    `mean_decodes` is over batches with a decode and `mean_prefill` over those with a chunk; nan where there are none.
    """
    prefill, decodes = trace.iterations["prefill"], trace.iterations["decodes"]
    n = len(prefill)
    chunks, tokens = prefill > 0, decodes > 0

    def share(which: Mask) -> float:
        return float(np.count_nonzero(which)) / n if n else math.nan

    return {
        "prefill_only": share(chunks & ~tokens),
        "decode_only": share(tokens & ~chunks),
        "mixed": share(tokens & chunks),
        "mean_prefill": float(np.mean(prefill[chunks])) if chunks.any() else math.nan,
        "mean_decodes": float(np.mean(decodes[tokens])) if tokens.any() else math.nan,
    }


def batch_size_histogram(trace: Trace) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct batch sizes (tokens) in ascending order, and how many batches had each."""
    sizes, counts = np.unique(batch_tokens(trace), return_counts=True)
    return sizes, counts.astype(np.int64)


def utilisation(trace: Trace) -> Floats:
    """Share of the observation that each node spent executing batches; one number per node."""
    its = trace.iterations
    until = observed_until(trace)
    nodes = int(trace.meta.get("nodes", int(np.max(its["node"], initial=0)) + 1))
    if not until > 0:
        return np.zeros(nodes)
    busy = np.minimum(its["start"] + its["seconds"], until) - its["start"]
    return np.bincount(its["node"], weights=busy, minlength=nodes) / until


def _per_second(count: float, trace: Trace) -> float:
    until = observed_until(trace)
    return float(count) / until if until > 0 else math.nan


def throughput(trace: Trace) -> float:
    """Requests finished per second of observation."""
    return _per_second(int(np.count_nonzero(trace.finished)), trace)


def token_throughput(trace: Trace) -> float:
    """Output tokens emitted per second of observation, those of unfinished requests included."""
    return _per_second(int(np.sum(trace.requests["decoded"])), trace)


def slo_met(trace: Trace) -> Mask:
    """Which requests finished within all their limits: ttft <= its limit and no gap longer than tbt.

    An unfinished request has not met its limits; a rejected one neither.
    """
    q = trace.requests
    in_time = q["first_token"] - q["arrival"] <= q["ttft"]  # nan compares false
    return trace.finished & in_time & (q["late_gaps"] == 0)


def slo_attainment(trace: Trace, where: Mask | None = None) -> float:
    """Share of the requests that met all their limits; nan if there are none.

    Unfinished requests count as missed, so the share is a lower bound for a longer run; rejected ones are left out.

    Args:
        trace: the run.
        where: requests to count, all by default; an SLO class is `of_class(trace, tbt)`.
    """
    here = counted(trace) if where is None else counted(trace) & where
    n = np.count_nonzero(here)
    return float(np.count_nonzero(slo_met(trace) & here) / n) if n else math.nan


def goodput(trace: Trace) -> float:
    """Requests finished within all their limits, per second of observation."""
    return _per_second(int(np.count_nonzero(slo_met(trace))), trace)


def kv_use(trace: Trace) -> tuple[float, float]:
    """Mean over busy time, and maximum, of the KV blocks in use as a share of all; nan if the trace knows no total."""
    its = trace.iterations
    total = float(trace.meta.get("blocks", math.nan))
    if len(its["blocks"]) == 0:
        return 0.0, 0.0
    mean_blocks = float(np.average(its["blocks"], weights=its["seconds"]))
    return mean_blocks / total, float(np.max(its["blocks"])) / total
