"""Time between tokens (TBT): every gap between consecutive output tokens of a request, waits and preemptions included.

A trace with entries gives every gap exactly (:func:`tbt`); without them, quantiles come from its sketch with relative
error at most :data:`~queueing.trace.GAP_ERROR` (0.4 %), for gaps between a microsecond and twelve days.  Both define
the q-quantile of n gaps as the ceil(q n)-th smallest.

The SLAI authors pool over tokens rather than gaps: each first token adds a sample of 0 s (`slai_tbt`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from queueing.metrics.latency import Floats, Mask, quantile
from queueing.metrics.selection import class_index, of_class
from queueing.trace import Trace, gap_values

__all__ = [
    "slai_tbt",
    "slai_tbt_quantile",
    "tbt",
    "tbt_count",
    "tbt_mean",
    "tbt_quantile",
    "tbt_sketch_quantile",
    "token_times",
]

Ints = NDArray[np.int64]


def token_times(trace: Trace) -> tuple[Ints, Floats]:
    """Request and time (s) of every output token, in order of request, then of time.

    A request of prompt P that had emitted d tokens when it was last preempted must be given P + d tokens before it
    emits again; from then on every batch that serves it emits one token.

    Raises:
        ValueError: the trace has no entries, or they contradict its count of tokens.
    """
    if trace.entries is None:
        raise ValueError(
            "this trace has no entries: run simulate(..., record_entries=True), or use tbt_quantile on the sketch"
        )
    its = trace.iterations
    ends = np.repeat(its["start"] + its["seconds"], its["entries"])
    carried_out = ends <= float(
        trace.meta.get("horizon", math.inf)
    )  # a batch that the horizon cuts credits nothing
    request = trace.entries["request"][carried_out].astype(np.int64)
    by_request = np.argsort(request, kind="stable")
    request = request[by_request]
    tokens = trace.entries["tokens"][carried_out][by_request].astype(np.int64)
    ends = ends[carried_out][by_request]
    if len(request) == 0:
        return request, ends

    first = np.r_[True, request[1:] != request[:-1]]
    begins = np.flatnonzero(first | (tokens == 0))  # segments: from an admission to a preemption
    segment = np.cumsum(first | (tokens == 0)) - 1
    given = np.cumsum(tokens)
    before = given[begins] - tokens[begins]
    within = given - before[segment]
    total = np.add.reduceat(tokens, begins)
    owner = request[begins]
    round_ = np.arange(len(begins)) - np.flatnonzero(first[begins])[np.cumsum(first[begins]) - 1]

    emits_at_end = int(bool(trace.meta.get("last_chunk_emits", True)))
    prompt = trace.requests["prompt"]
    emitted = np.zeros(len(prompt), np.int64)
    target = np.zeros(len(begins), np.int64)
    for k in range(int(round_.max()) + 1):  # at most once per preemption of the most preempted request
        now = round_ == k
        target[now] = prompt[owner[now]] + emitted[owner[now]]
        emitted[owner[now]] += np.maximum(total[now] - target[now] + emits_at_end, 0)
    if not np.array_equal(emitted, trace.requests["decoded"]):
        at = int(np.flatnonzero(emitted != trace.requests["decoded"])[0])
        raise ValueError(
            f"request {at} has {trace.requests['decoded'][at]} output tokens, but its entries give {emitted[at]}; "
            "the trace is inconsistent, record it again"
        )
    emits = (within + emits_at_end > target[segment]) & (tokens > 0)
    return request[emits], ends[emits]


def tbt(trace: Trace, where: Mask | None = None) -> Floats:
    """Every gap between consecutive output tokens (s), grouped by request; needs a trace with entries.

    Args:
        trace: the run, recorded with `record_entries=True`.
        where: requests whose gaps to return, all by default.
    """
    request, time = token_times(trace)
    same = request[1:] == request[:-1]
    if where is not None:
        same = same & where[request[1:]]
    return np.diff(time)[same]


def slai_tbt(trace: Trace, where: Mask | None = None) -> Floats:
    """What the SLAI authors' code calls TBT: every gap, and a sample of 0 s for each first token (s)."""
    began = ~np.isnan(trace.requests["first_token"])
    firsts = np.count_nonzero(began if where is None else began & where)
    return np.concatenate([np.zeros(firsts), tbt(trace, where)])


def _sketch(trace: Trace, tbt_class: float | None) -> Ints:
    return trace.gaps.sum(axis=0) if tbt_class is None else trace.gaps[class_index(trace, tbt_class)]


def _sketch_quantile(counts: Ints, q: float, zeros: int) -> float:
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile lies between 0 and 1, not at {q}; pass 0.99 for the 99th percentile")
    n = int(counts.sum()) + zeros
    if n == 0:
        return math.nan
    rank = max(math.ceil(q * n), 1)
    if rank <= zeros:
        return 0.0
    return float(gap_values()[np.searchsorted(np.cumsum(counts), rank - zeros)])


def tbt_sketch_quantile(trace: Trace, q: float, tbt_class: float | None = None) -> float:
    """The `q`-quantile of the gaps read from the sketch (s), within a share `GAP_ERROR` of the exact one."""
    return _sketch_quantile(_sketch(trace, tbt_class), q, 0)


def tbt_quantile(trace: Trace, q: float, tbt_class: float | None = None) -> float:
    """The `q`-quantile of the gaps (s): exact with entries, else from the sketch (relative error 0.4 %).

    Gaps that had not ended when the run ended are not samples; `longest_gap` and the latencies tell of their requests.

    Args:
        trace: the run.
        q: between 0 and 1.
        tbt_class: the tbt limit (s) that names an SLO class; all classes pooled by default.
    """
    if trace.entries is None:
        return tbt_sketch_quantile(trace, q, tbt_class)
    return quantile(tbt(trace, None if tbt_class is None else of_class(trace, tbt_class)), q)


def slai_tbt_quantile(trace: Trace, q: float, tbt_class: float | None = None) -> float:
    """The `q`-quantile of :func:`slai_tbt` (s): exact with entries, else from the sketch (relative error 0.4 %)."""
    where = None if tbt_class is None else of_class(trace, tbt_class)
    if trace.entries is not None:
        return quantile(slai_tbt(trace, where), q)
    began = ~np.isnan(trace.requests["first_token"])
    zeros = int(np.count_nonzero(began if where is None else began & where))
    return _sketch_quantile(_sketch(trace, tbt_class), q, zeros)


def tbt_count(trace: Trace, tbt_class: float | None = None) -> int:
    """Number of gaps seen."""
    return int(_sketch(trace, tbt_class).sum())


def tbt_mean(trace: Trace, tbt_class: float | None = None) -> float:
    """Mean gap (s), exact without entries: the gaps of a request add up to its last - first token."""
    q = trace.requests
    where = q["decoded"] > 1
    if tbt_class is not None:
        where = where & of_class(trace, tbt_class)
    gaps = int(np.sum(q["decoded"][where] - 1))
    return float(np.sum(q["last_token"][where] - q["first_token"][where])) / gaps if gaps else math.nan
