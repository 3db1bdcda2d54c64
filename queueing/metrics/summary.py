"""The figures of one run at a glance, each with its unit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from queueing.metrics.gaps import tbt_count, tbt_mean, tbt_quantile
from queueing.metrics.latency import (
    Mask,
    counted,
    e2e,
    observed_until,
    prefill_end,
    quantile,
    queueing_time,
    tpot,
    ttft,
)
from queueing.metrics.service import (
    batch_tokens,
    composition,
    goodput,
    kv_use,
    slo_attainment,
    throughput,
    token_throughput,
    utilisation,
)
from queueing.trace import Trace

__all__ = ["Quantity", "summary"]


class Quantity(NamedTuple):
    """A number and its unit ("1" for shares and counts)."""

    value: float
    unit: str


def summary(trace: Trace, where: Mask | None = None) -> dict[str, Quantity]:
    """Figures of one run for the command line and for JSON; names carry no unit, the values do.

    Args:
        trace: the run.
        where: requests whose latencies to count (say, after the warm-up); counts, rates and TBT are of the whole run.
    """
    chosen = counted(trace) if where is None else counted(trace) & where
    tokens = batch_tokens(trace)
    mix = composition(trace)
    kv_mean, kv_max = kv_use(trace)
    rows = {
        "requests": (len(trace.requests["arrival"]), "1"),
        "finished": (np.count_nonzero(trace.finished), "1"),
        "unfinished": (np.count_nonzero(trace.unfinished & counted(trace)), "1"),
        "not arrived": (np.count_nonzero(~counted(trace) & ~trace.rejected), "1"),
        "rejected": (np.count_nonzero(trace.rejected), "1"),
        "preemptions": (np.sum(trace.requests["preemptions"]), "1"),
        "observed": (observed_until(trace), "s"),
        "iterations": (len(tokens), "1"),
        "tokens per batch": (np.mean(tokens) if len(tokens) else np.nan, "tokens"),
        "decodes per decoding batch": (mix["mean_decodes"], "tokens"),
        "prefill-only batches": (mix["prefill_only"], "1"),
        "decode-only batches": (mix["decode_only"], "1"),
        "mixed batches": (mix["mixed"], "1"),
        "utilisation": (np.mean(utilisation(trace)), "1"),
        "kv use, mean": (kv_mean, "1"),
        "kv use, max": (kv_max, "1"),
        "throughput": (throughput(trace), "requests/s"),
        "token throughput": (token_throughput(trace), "tokens/s"),
        "goodput": (goodput(trace), "requests/s"),
        "slo attainment": (slo_attainment(trace, where), "1"),
    }
    latencies = {
        "queueing time": queueing_time(trace), "prefill_end": prefill_end(trace), "ttft": ttft(trace),
        "e2e": e2e(trace), "tpot": tpot(trace),
    }  # fmt: skip
    for name, values in latencies.items():
        rows[f"{name}, median"] = (quantile(values[chosen], 0.5), "s")
        rows[f"{name}, p99"] = (quantile(values[chosen], 0.99), "s")
    rows["tbt, mean"] = (tbt_mean(trace), "s")
    for limit in trace.class_tbt:
        label = f"tbt (limit {limit:g} s)" if len(trace.class_tbt) > 1 else "tbt"
        if tbt_count(trace, limit):
            rows[f"{label}, median"] = (tbt_quantile(trace, 0.5, limit), "s")
            rows[f"{label}, p99"] = (tbt_quantile(trace, 0.99, limit), "s")
    return {name: Quantity(float(value), unit) for name, (value, unit) in rows.items()}
