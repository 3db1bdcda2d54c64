"""Rate limits: which requests a limit per client and minute turns away on arrival, before any scheduler sees them.

A limit looks at arrivals alone, so it is a function of the workload and not of the engine: the serving loop is given
`workload[accepted]`, and :func:`with_rejected` puts the others back into its trace, because demand that is gone cannot
look unfairly served (:func:`queueing.metrics.fairness.throughput_with_rejections`).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from queueing.trace import SKETCH_BINS, STATUS, Trace
from queueing.workload import Workload

__all__ = ["accepted_within", "with_rejected"]

MINUTE = 60.0


def accepted_within(workload: Workload, limit: int, window: float = MINUTE) -> NDArray[np.bool_]:
    """RPM(n): which requests are accepted if a client may have at most `limit` of them accepted in any window.

    A request that arrives at a is rejected if at least n accepted requests of its client arrived at a - window or
    later.  Rejected requests do not count.  So every closed window holds at most n accepted requests of a client, and
    the rule is greedy: it rejects nothing that could be accepted without rejecting something earlier.

    Args:
        workload: the requests, in order of arrival.
        limit: n, at least 1.
        window: s, > 0; 60 gives requests per minute.

    Returns: one flag per request, True if accepted; `workload[flags]` is what the engine is offered.

    Raises:
        ValueError: the limit or the window is out of range.

    Source: the RPM baseline of Sheng et al., OSDI 2024, as their artifact runs it.

    Example:
        >>> late = Workload([0.0, 10.0, 59.0, 60.0, 60.5], [1] * 5, [1] * 5)
        >>> accepted_within(late, 2).tolist()
        [True, True, False, False, True]
    """
    if isinstance(limit, bool) or not isinstance(limit, (int, np.integer)) or limit < 1:
        raise ValueError(
            f"a client may send {limit!r} requests per window; give a whole number of at least 1"
        )
    if not (window > 0 and math.isfinite(window)):
        raise ValueError(f"the window of a rate limit is {window} s; give a finite number > 0")
    limit = min(int(limit), len(workload))
    _, client = np.unique(workload.client, return_inverse=True)
    recent = np.full(
        (int(client.max()) + 1, limit), -np.inf
    )  # a ring: the last `limit` accepted arrivals of each
    oldest = [0] * len(recent)
    accepted = np.zeros(len(workload), np.bool_)
    for i, (u, arrival) in enumerate(zip(client.tolist(), workload.arrival.tolist(), strict=True)):
        at = oldest[u]
        if arrival - recent[u, at] > window:  # the n-th last one has left the window
            accepted[i] = True
            recent[u, at] = arrival
            oldest[u] = (at + 1) % limit
    return accepted


def with_rejected(trace: Trace, workload: Workload, accepted: NDArray[np.bool_]) -> Trace:
    """The trace of `workload[accepted]` with the requests that were turned away back in it, as rejected.

    Args:
        trace: a run of `workload[accepted]`.
        workload: what was offered.
        accepted: one flag per request of the workload.

    Returns: a trace with one request per request of the workload, in its order; batches and gaps are those of the run.

    Raises:
        ValueError: the trace is not one of the accepted requests.
    """
    flags = np.asarray(accepted)
    if flags.dtype != np.bool_ or flags.shape != (len(workload),):
        raise ValueError(f"there are {len(workload)} requests; give one flag, True or False, for each")
    kept = np.flatnonzero(flags)
    if not np.array_equal(trace.requests["arrival"], workload.arrival[kept]):
        raise ValueError("the trace is not one of the accepted requests; simulate workload[accepted]")
    class_tbt, slo_class = np.unique(workload.tbt, return_inverse=True)
    known: dict[str, NDArray[Any]] = {
        name: getattr(workload, name) for name in ("arrival", "prompt", "output", "client", "tbt", "ttft")
    }
    known["slo_class"] = slo_class
    requests: dict[str, NDArray[Any]] = {}
    for name, column in trace.requests.items():
        absent = math.nan if column.dtype.kind == "f" and name != "longest_gap" else 0
        whole = np.full(len(workload), STATUS.index("rejected") if name == "status" else absent, column.dtype)
        whole[kept] = column
        requests[name] = known[name].astype(column.dtype) if name in known else whole
    entries = None
    if trace.entries is not None:
        request = trace.entries["request"]
        entries = {**trace.entries, "request": kept.astype(request.dtype)[request]}
    gaps = np.zeros((len(class_tbt), SKETCH_BINS), np.int64)
    gaps[np.searchsorted(class_tbt, trace.class_tbt)] = trace.gaps
    return dataclasses.replace(trace, requests=requests, entries=entries, gaps=gaps, class_tbt=class_tbt)
