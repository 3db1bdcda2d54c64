"""How fairly clients were served: differences of service, response times per client, and what was turned away.

Service itself is in :mod:`queueing.metrics.client_service`; the tables [windows, clients] from there go into
:func:`spread`, :func:`jain` and the like.  `authors_difference` and `accumulated_gap` are the figures of the VTC paper
as its authors compute them, which comparisons with their runs need; they are not the W of their theorems.

Source: Sheng et al., OSDI 2024, and `visualize.py` of Ying1123/VTC-artifact (Apache-2.0); Jain, Chiu and Hawe,
DEC-TR-301, 1984, for the index.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from queueing.cost import TOKENS
from queueing.metrics.client_service import CostFunction, clients, demand, smeared_service, windows
from queueing.metrics.latency import Floats, counted, mean, ttft
from queueing.metrics.selection import of_client
from queueing.trace import Trace

__all__ = [
    "AuthorsDifference",
    "Isolation",
    "ThroughputWithRejections",
    "accumulated_gap",
    "authors_difference",
    "authors_ticks",
    "isolation",
    "jain",
    "response_time",
    "service_difference",
    "spread",
    "throughput_with_rejections",
]

# s, fixed in the authors' plots whatever the length of the run; ticks divide all but the first 30 s into 20 parts
LASTS, WARM_UP, WINDOW, TICKS = 600.0, 30.0, 60.0, 19


def service_difference(served: Floats, weights: ArrayLike | None = None) -> NDArray[np.float64]:
    """W_f - W_g of every pair of clients in each window, each divided by its weight: [windows, clients f, clients g].

    Args:
        served: service [windows, clients].
        weights: one per client, > 0; all 1 by default.
    """
    share = _shares(served, weights)
    return share[:, :, np.newaxis] - share[:, np.newaxis, :]


def spread(served: Floats, weights: ArrayLike | None = None) -> Floats:
    """Greatest less least service of a client in each window: the largest of :func:`service_difference`.

    Not promised: that it says anything about clients that asked for less; theorems speak of backlogged ones only.
    """
    return np.ptp(_shares(served, weights), axis=1)


def jain(served: Floats, weights: ArrayLike | None = None) -> Floats:
    """Jain's index of each window, (sum x)^2 / (n sum x^2) over the n clients: 1 if all are equal, 1/n if one has all.

    Args: as :func:`service_difference`; x is service by weight.  nan where nobody is served.

    Example:
        >>> jain(np.array([[3.0, 3.0], [5.0, 0.0]])).tolist()
        [1.0, 0.5]
    """
    x = _shares(served, weights)
    greatest = np.max(x, axis=1, keepdims=True)
    x = np.divide(x, greatest, out=np.full_like(x, np.nan), where=greatest > 0)  # squares cannot overflow
    return np.sum(x, axis=1) ** 2 / (x.shape[1] * np.sum(x**2, axis=1))


def _shares(served: Floats, weights: ArrayLike | None) -> Floats:
    table = np.asarray(served, np.float64)
    if table.ndim != 2 or table.shape[1] == 0 or not (np.isfinite(table) & (table >= 0)).all():
        raise ValueError(
            "service is a table [windows, clients] of finite numbers >= 0; make it with service_by_tokens(...)"
        )
    if weights is None:
        return table
    share = np.asarray(weights, np.float64)
    if share.shape != (table.shape[1],) or not (np.isfinite(share) & (share > 0)).all():
        raise ValueError(
            f"the weights of {table.shape[1]} clients are {weights}; give one finite weight > 0 for each"
        )
    return table / share


# -- as the authors compute it


class AuthorsDifference(NamedTuple):
    """Max Diff, Avg Diff and Diff Var of the VTC paper (cost/s, and its square), and D at every tick."""

    maximum: float
    average: float
    variance: float
    at_ticks: Floats


def authors_ticks() -> tuple[Floats, Floats]:
    """Starts and ends (s) of the authors' windows: 60 s wide, the k-th from 28.5 k s, k = 1, ..., 19."""
    start = (LASTS - WARM_UP) / 20 * np.arange(1.0, TICKS + 1)
    return start, start + WINDOW


def authors_difference(trace: Trace, cost: CostFunction = TOKENS) -> AuthorsDifference:
    """Max, Avg and Var Diff exactly as the VTC authors compute them.

    With s_i the smeared service and d_i the demand of client i per second of a window,

        D = sum over i of min( max over j of s_j - s_i,  |d_i - s_i| ),

    and the figures are maximum, mean and population variance of D over the 19 windows of `authors_ticks`.

    Kept as it is in their code: windows end at 600 s + whatever the length of the run, so on shorter traces the last
    ones see the drain; demand is counted in tokens (1 and 2 each) whatever the cost, so with another h the two terms
    have different units; rejected requests are in neither, so a rate limit looks fair (`throughput_with_rejections`).

    Args:
        trace: any run, or a log.
        cost: h, of the service.
    """
    start, end = authors_ticks()
    s = smeared_service(trace, start, end, cost) / (end - start)[:, np.newaxis]
    d = demand(trace, start, end, TOKENS, where=trace.finished) / (end - start)[:, np.newaxis]
    D = np.sum(np.minimum(s.max(axis=1, keepdims=True) - s, np.abs(d - s)), axis=1)
    return AuthorsDifference(float(D.max()), float(D.mean()), float(D.var()), D)


def accumulated_gap(trace: Trace, at: ArrayLike | None = None, cost: CostFunction = TOKENS) -> Floats:
    """Greatest less least smeared service of a client from 30 s to x + 30 s, as the authors plot it.

    Clients all of whose requests were rejected are left out, as there.

    Args:
        trace: any run, or a log.
        at: x (s), at least 0; by default the 19 ticks 28.5 k.
        cost: h.
    """
    x = authors_ticks()[0] if at is None else np.atleast_1d(np.asarray(at, np.float64))
    answered = np.isin(clients(trace), trace.requests["client"][trace.finished])
    return spread(smeared_service(trace, WARM_UP, x + WARM_UP, cost)[:, answered])


# -- response times


def response_time(trace: Trace, start: ArrayLike, end: ArrayLike) -> Floats:
    """Mean time to first token (s) of the requests whose first token falls in t1 <= t < t2: [windows, clients].

    nan where a client got no first token.  A request that waits longer is seen later: read it beside the arrivals.
    """
    low, high = windows(start, end)
    q = trace.requests
    begun = np.flatnonzero(~np.isnan(q["first_token"]))
    when, waited = q["first_token"][begun], ttft(trace)[begun]
    n = len(clients(trace))
    client = np.searchsorted(clients(trace), q["client"][begun])
    table = np.full((len(low), n), np.nan)
    for k, (t1, t2) in enumerate(zip(low, high, strict=True)):
        inside = (when >= t1) & (when < t2)
        answered = np.bincount(client[inside], minlength=n)
        total = np.bincount(client[inside], weights=waited[inside], minlength=n)
        np.divide(total, answered, out=table[k], where=answered > 0)
    return table


class Isolation(NamedTuple):
    """Response time (s) of one client beside others and alone: per window, and over all its requests."""

    shared: Floats
    alone: Floats
    shared_mean: float
    alone_mean: float

    @property
    def delay(self) -> float:
        """Mean seconds that the others cost the client; inf if some of its requests were never answered."""
        return self.shared_mean - self.alone_mean


def isolation(shared: Trace, alone: Trace, client: int, start: ArrayLike, end: ArrayLike) -> Isolation:
    """How much the others cost a client: its response time in the shared run beside that of a run of it alone.

    Args:
        shared: the run with all clients.
        alone: a run of this client's requests alone, same system and policy.
        client: a client that keeps to its share; of one that does not, no isolation is promised.
        start, end: the windows of :func:`response_time` (s).

    Raises:
        ValueError: a run has no request of the client, or `alone` has not the same requests of it.
    """
    runs = (shared, alone)
    mine = [of_client(trace, client) for trace in runs]
    for trace, where in zip(runs, mine, strict=True):
        if not where.any():
            raise ValueError(
                f"there is no client {client}; the clients are {', '.join(map(str, clients(trace)))}"
            )
    for name in ("arrival", "prompt", "output"):
        if not np.array_equal(shared.requests[name][mine[0]], alone.requests[name][mine[1]]):
            raise ValueError(
                f"the runs differ in the {name} of client {client}; run the same requests of it alone"
            )
    over_time = [
        response_time(trace, start, end)[:, np.searchsorted(clients(trace), client)] for trace in runs
    ]
    means = [mean(ttft(trace)[where]) for trace, where in zip(runs, mine, strict=True)]
    return Isolation(over_time[0], over_time[1], means[0], means[1])


# -- what was served, and what was turned away


class ThroughputWithRejections(NamedTuple):
    """Tokens per second of what was served, beside the demand that was not: never quote the first alone.

    `seconds`: until the last token; `rejected_share`: of the cost of all demand; `rejected_by_client`: cost of the
    rejected requests of each client, in the order of `clients`.
    """

    tokens_per_second: float
    seconds: float
    requests: int
    rejected_requests: int
    rejected_share: float
    rejected_by_client: Floats


def throughput_with_rejections(trace: Trace, cost: CostFunction = TOKENS) -> ThroughputWithRejections:
    """Prompt and output tokens of finished requests per second until the last of them, and the rejected demand.

    The first figure is the authors' throughput.  Nan rates where nothing finished.

    Args:
        trace: any run, or a log; of a rate-limited run, with the rejected requests put back
            (:func:`queueing.rate_limit.with_rejected`).
        cost: h, for the rejected share.
    """
    q = trace.requests
    done = trace.finished
    seconds = float(np.max(q["finished"][done])) if done.any() else math.nan
    tokens = int(np.sum(q["prompt"][done]) + np.sum(q["output"][done]))
    everything = (-math.inf, math.inf)
    turned_away = demand(trace, *everything, cost, where=trace.rejected)[0]
    offered = demand(trace, *everything, cost, where=counted(trace) | trace.rejected).sum()
    return ThroughputWithRejections(
        tokens_per_second=tokens / seconds if seconds > 0 else math.nan,
        seconds=seconds,
        requests=int(np.count_nonzero(counted(trace))),
        rejected_requests=int(np.count_nonzero(trace.rejected)),
        rejected_share=float(turned_away.sum() / offered) if offered > 0 else math.nan,
        rejected_by_client=turned_away,
    )
