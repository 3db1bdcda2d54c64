"""Metrics: pure functions of a :class:`~queueing.trace.Trace`, numpy arrays out.

`latency` has one number per request, `gaps` the time between tokens, `service` what the engine did, `selection` masks
of requests, `intervals` confidence intervals and warm-up cuts, `stability` the growth test, `summary` all at a glance.
"""

from queueing.metrics.gaps import (
    slai_tbt,
    slai_tbt_quantile,
    tbt,
    tbt_count,
    tbt_mean,
    tbt_quantile,
    tbt_sketch_quantile,
    token_times,
)
from queueing.metrics.intervals import Interval, batch_means, mser5, seed_interval, von_neumann
from queueing.metrics.latency import (
    counted,
    e2e,
    mean,
    observed_until,
    prefill_end,
    quantile,
    quantile_bounds,
    queueing_time,
    slai_ttft,
    tpot,
    ttft,
)
from queueing.metrics.selection import arrived_between, by_prompt_length, of_class, of_client
from queueing.metrics.service import (
    batch_size_histogram,
    batch_tokens,
    composition,
    goodput,
    kv_use,
    slo_attainment,
    slo_met,
    throughput,
    token_throughput,
    utilisation,
)
from queueing.metrics.stability import Growth, backlog, growth_of, growth_test
from queueing.metrics.summary import Quantity, summary

__all__ = [
    "Growth",
    "Interval",
    "Quantity",
    "arrived_between",
    "backlog",
    "batch_means",
    "batch_size_histogram",
    "batch_tokens",
    "by_prompt_length",
    "composition",
    "counted",
    "e2e",
    "goodput",
    "growth_of",
    "growth_test",
    "kv_use",
    "mean",
    "mser5",
    "observed_until",
    "of_class",
    "of_client",
    "prefill_end",
    "quantile",
    "quantile_bounds",
    "queueing_time",
    "seed_interval",
    "slai_tbt",
    "slai_tbt_quantile",
    "slai_ttft",
    "slo_attainment",
    "slo_met",
    "summary",
    "tbt",
    "tbt_count",
    "tbt_mean",
    "tbt_quantile",
    "tbt_sketch_quantile",
    "throughput",
    "token_throughput",
    "token_times",
    "tpot",
    "ttft",
    "utilisation",
    "von_neumann",
]
