"""Rate limits: which requests a limit per client and minute turns away on arrival, before any scheduler sees them.

A limit looks at arrivals alone, so it is a function of the workload and not of the engine: the serving loop is given
`workload[accepted]`, and what was rejected is reported beside every figure
(:func:`queueing.metrics.fairness.rejected_demand`), because demand that is gone cannot look unfairly served.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from queueing.workload import Workload

__all__ = ["accepted_within"]

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
