"""Windows of fair service in a log: latencies only, so service is smeared and time advances in ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from queueing.cost import Cost
from queueing.monitoring.fair import PLAIN, Terms, terms_met
from queueing.monitoring.findings import Assumption, Finding, Run
from queueing.trace import Trace

__all__ = ["SmearedGrowth", "smeared_growth", "window_growth"]

Floats = NDArray[np.float64]


class SmearedGrowth(NamedTuple):
    """Largest growth by its factor 1/f_f + 1/f_g, from `since` to `time` (s); clients (ahead, behind)."""

    value: float
    factor: float
    time: float
    since: float
    clients: tuple[int, ...]


def window_growth(log: Trace, terms: Terms = PLAIN, step: float = 1.0) -> Finding:
    """T1 on a run of which only latencies are known: growth of the difference of service while two clients both wait.

    A request waits from its arrival to its first token; its prompt is charged at the first token and its outputs evenly
    from there to its last; time advances in ticks of `step` s from 0 to the last arrival.  So the verdict is *outside*
    for any log, and `share` = value/bound is the figure: an indication, comparable between logs.

    Not promised: anything where queues empty for moments between ticks; windows that were cut then look like one, and
    the value may be several times the true one.

    Args:
        log: any trace that knows arrivals, first tokens and ends.
        terms: with a linear cost, and `memory`; or with `unit`.
        step: s between ticks.
    """
    assumptions, unit = terms_met(Run(log), terms)
    worst = smeared_growth(log, terms.cost, terms.weights, step)
    return Finding(
        "window_growth", worst.value, unit * worst.factor, "service", worst.time, worst.since, worst.clients, -1,
        (Assumption("token events", None, f"smeared from first to last token, on ticks of {step:g} s"), *assumptions),
    )  # fmt: skip


def smeared_growth(log: Trace, cost: Cost, weights: Sequence[float], step: float) -> SmearedGrowth:
    """Growth of W_g/f_g - W_f/f_f while f and g wait, on ticks of `step` s from 0 to the last arrival.

    Of a request with prompt p, q outputs, first token at s and last at e, h(p, 0) is charged at s and h(p, q) - h(p, 0)
    evenly over [s, e]; it waits in [arrival, s).  O(requests + ticks · clients²).

    Raises:
        ValueError: the step is not above 0.
    """
    if not 0 < step < math.inf:
        raise ValueError(f"step must be positive and finite, not {step!r} s")
    q = log.requests
    names, client = np.unique(q["client"], return_inverse=True)
    share = 1 / np.array(weights)[np.clip(names, 0, len(weights) - 1)]
    served = log.finished
    arrived = served | log.unfinished
    arrivals = q["arrival"][arrived]
    ticks: Floats = step * np.arange(math.floor(float(arrivals.max(initial=0)) / step) + 1, dtype=np.float64)
    waiting = np.zeros((len(names), len(ticks)), np.int64)
    S = np.zeros((len(names), len(ticks)))
    for u in range(len(names)):
        mine = (client == u) & arrived
        begun = np.sort(q["first_token"][mine & ~np.isnan(q["first_token"])])
        came = np.searchsorted(np.sort(q["arrival"][mine]), ticks, side="right")
        waiting[u] = came - np.searchsorted(begun, ticks, side="right")
        mine &= served
        p, n = q["prompt"][mine].astype(np.float64), q["output"][mine].astype(np.float64)
        price = np.broadcast_to(cost(p, 0 * p), p.shape)
        S[u] = share[u] * _smeared(
            q["first_token"][mine], q["finished"][mine], price, cost(p, n) - price, ticks
        )
    return _largest(S, waiting > 0, share, names, ticks)


def _smeared(first: Floats, last: Floats, at_once: Floats, evenly: Floats, ticks: Floats) -> Floats:
    """Charged by each tick: a ramp from `first` to `last` is one line that begins and one that ends."""
    begin, end = (np.searchsorted(ticks, time) for time in (first, last))
    slope = np.divide(evenly, last - first, out=np.zeros(len(first)), where=last > first)

    def until(at: NDArray[np.int64], amount: Floats) -> Floats:
        return np.cumsum(
            np.bincount(at, weights=amount, minlength=len(ticks) + 1)[: len(ticks)], dtype=np.float64
        )

    slopes = until(begin, slope) - until(end, slope)
    starts = until(begin, slope * first) - until(end, slope * first)
    return until(begin, at_once) + until(end, evenly) + slopes * ticks - starts


def _largest(
    S: Floats, waits: NDArray[np.bool_], share: Floats, names: NDArray[np.int64], ticks: Floats
) -> SmearedGrowth:
    n = len(names)
    factor = share[:, np.newaxis] + share
    low, since = np.zeros((n, n)), np.zeros((n, n))
    before = np.zeros((n, n), np.bool_)
    worst = SmearedGrowth(0.0, 2 * float(share.max(initial=0)), math.nan, math.nan, ())
    for k, now in enumerate(ticks):
        both = np.logical_and.outer(waits[:, k], waits[:, k])
        ahead = np.subtract.outer(S[:, k], S[:, k])  # [g, f]
        since = np.where(both & before, since, now)
        low = np.where(both & before, np.minimum(low, ahead), ahead)
        before = both
        ratio = np.where(both, ahead - low, 0) / factor
        g, f = np.unravel_index(np.argmax(ratio), ratio.shape)
        if ratio[g, f] > worst.value / worst.factor:
            pair = (int(names[g]), int(names[f]))
            worst = SmearedGrowth(
                float(ahead[g, f] - low[g, f]), float(factor[g, f]), float(now), float(since[g, f]), pair
            )
    return worst
