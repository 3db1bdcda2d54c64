"""Service of each client: what was processed for it, priced by a cost h(x, y) of x prompt and y output tokens.

Two forms.  *By token events* (`service_by_tokens`), exact, for traces with entries: h(p, 0) when the prompt is
admitted, and h(p, j) - h(p, j - 1) when output token j is produced; what is computed again after a preemption
is not charged again.
*Smeared* (`smeared_service`), for logs: the whole h(p, q) of a finished request, spread evenly from its first to its
last token, as the VTC authors' plots have it.  The two agree in total only: a smeared prompt is charged while the
request decodes, after its admission.

Every function takes windows as arrays of starts and ends (s) and returns an array [windows, clients], with a column for
each client of :func:`clients`.

Source: Sheng et al., OSDI 2024, and `visualize.py` of Ying1123/VTC-artifact (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from queueing.cost import TOKENS
from queueing.metrics.gaps import token_times
from queueing.metrics.latency import Floats, Mask
from queueing.trace import Trace

__all__ = [
    "CostFunction",
    "ServiceEvents",
    "clients",
    "demand",
    "service_by_tokens",
    "service_events",
    "smeared_service",
]

Ints = NDArray[np.int64]
CostFunction = Callable[[Floats, Floats], Any]  # h(x, y) of arrays of tokens, an array of prices or a number

SHORTEST_SMEAR = 1e-5  # s; the authors drop requests whose tokens span less
FIRST_SMEAR = 1.0  # s; and those whose last token comes before


def clients(trace: Trace) -> Ints:
    """The clients of a trace, in ascending order: the columns of every table of service."""
    return np.unique(trace.requests["client"])


def _column(trace: Trace) -> Ints:
    """Column of each request's client."""
    return np.searchsorted(clients(trace), trace.requests["client"]).astype(np.int64)


def windows(start: ArrayLike, end: ArrayLike) -> tuple[Floats, Floats]:
    """Starts and ends as arrays of one length; ValueError if a window ends before it starts."""
    low, high = np.broadcast_arrays(
        np.atleast_1d(np.asarray(start, np.float64)), np.atleast_1d(np.asarray(end, np.float64))
    )
    wrong = ~(low <= high)
    if low.ndim != 1 or wrong.any():
        at = f"from {low[wrong][0]} to {high[wrong][0]} s" if wrong.any() else f"of shape {low.shape}"
        raise ValueError(f"there is a window {at}; give one start and one later end per window")
    return low, high


def _price(cost: CostFunction, x: Floats, y: Floats) -> Floats:
    price = np.broadcast_to(np.asarray(cost(x, y), np.float64), x.shape)
    wrong = ~(np.isfinite(price) & (price >= 0))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(
            f"the cost of {x[at]:g} prompt and {y[at]:g} output tokens is {price[at]}; give a finite cost h >= 0"
        )
    return price


class ServiceEvents(NamedTuple):
    """Charges in order of time: when (s), to which request, and how much (in units of the cost)."""

    time: Floats
    request: Ints
    charge: Floats


def service_events(trace: Trace, cost: CostFunction = TOKENS) -> ServiceEvents:
    """Every charge of a run, token by token.

    A prompt is charged at `admitted`, the start of the first batch that serves it, whole even if it is prefilled in
    chunks; an output token at the end of the batch that emits it.  So a finished request is charged h(p, q) in all.

    Raises:
        ValueError: the trace has no entries, or the cost falls as a request gets its next token.
    """
    request, produced = token_times(trace)
    q = trace.requests
    served = np.flatnonzero(~np.isnan(q["admitted"]))
    first = np.r_[True, request[1:] != request[:-1]] if len(request) else np.zeros(0, np.bool_)
    begins = np.flatnonzero(first)
    place = (
        np.arange(len(request)) - np.repeat(begins, np.diff(np.r_[begins, len(request)])) + 1
    )  # j = 1, 2, ...
    x, y = q["prompt"][request].astype(np.float64), place.astype(np.float64)
    token = _price(cost, x, y) - _price(cost, x, y - 1)
    if (token < 0).any():
        at = int(np.argmax(token < 0))
        raise ValueError(
            f"the cost of {x[at]:g} prompt tokens falls by {-token[at]:g} with output token {place[at]}; "
            "give a cost that does not fall"
        )
    prompt = _price(cost, q["prompt"][served].astype(np.float64), np.zeros(len(served)))
    time = np.concatenate([q["admitted"][served], produced])
    order = np.argsort(time, kind="stable")
    return ServiceEvents(
        time[order], np.concatenate([served, request])[order], np.concatenate([prompt, token])[order]
    )


def service_by_tokens(trace: Trace, start: ArrayLike, end: ArrayLike, cost: CostFunction = TOKENS) -> Floats:
    """W(t1, t2) of every client: charges at t1 <= t < t2, by token events.

    Args:
        trace: the run, recorded with `record_entries=True`.
        start, end: t1 and t2 of each window (s).
        cost: h.

    Returns: [windows, clients]; exact sums where charges are whole numbers, else rounded as a difference of sums.

    Raises:
        ValueError: as :func:`service_events`, or a window ends before it starts.
    """
    low, high = windows(start, end)
    events = service_events(trace, cost)
    times, at = np.unique(np.concatenate([low, high]), return_inverse=True)
    n, client = len(clients(trace)), _column(trace)
    # charges between two times of interest go into one bin; the last bin, past all of them, is not needed
    cell = np.searchsorted(times, events.time, side="right") * n + client[events.request]
    binned = np.bincount(cell, weights=events.charge, minlength=(len(times) + 1) * n).astype(np.float64)
    until = np.cumsum(binned.reshape(-1, n), axis=0)[at]
    return until[len(low) :] - until[: len(low)]


def smeared_service(trace: Trace, start: ArrayLike, end: ArrayLike, cost: CostFunction = TOKENS) -> Floats:
    """Service of every client with each finished request's cost spread evenly from its first to its last token.

    As in the authors' plots, requests that ended before 1 s or whose tokens span less than 1e-5 s are left out.

    Args:
        trace: any run, or a log.
        start, end: the windows (s).
        cost: h, of the prompt and the whole output.

    Returns: [windows, clients].
    """
    low, high = windows(start, end)
    q = trace.requests
    span = q["finished"] - q["first_token"]  # nan where it did not happen, and a nan is not at least anything
    kept = np.flatnonzero(trace.finished & (q["finished"] >= FIRST_SMEAR) & (span >= SHORTEST_SMEAR))
    first, last, client = q["first_token"][kept], q["finished"][kept], _column(trace)[kept]
    price = _price(cost, q["prompt"][kept].astype(np.float64), q["output"][kept].astype(np.float64))
    table = np.zeros((len(low), len(clients(trace))))
    for k, (t1, t2) in enumerate(zip(low, high, strict=True)):
        overlap = np.maximum(np.minimum(last, t2) - np.maximum(first, t1), 0)
        table[k] = np.bincount(client, weights=price * overlap / span[kept], minlength=table.shape[1])
    return table


def demand(
    trace: Trace, start: ArrayLike, end: ArrayLike, cost: CostFunction = TOKENS, where: Mask | None = None
) -> Floats:
    """What each client asked for: h(p, q) of the requests that arrived at t1 <= t <= t2, both ends included.

    Args:
        trace: any run, or a log.
        start, end: the windows (s).
        cost: h.
        where: requests to count; all that were not rejected by default.

    Returns: [windows, clients].
    """
    low, high = windows(start, end)
    q = trace.requests
    chosen = np.flatnonzero(~trace.rejected if where is None else where)
    arrival, client = q["arrival"][chosen], _column(trace)[chosen]
    price = _price(cost, q["prompt"][chosen].astype(np.float64), q["output"][chosen].astype(np.float64))
    table = np.zeros((len(low), len(clients(trace))))
    for k, (t1, t2) in enumerate(zip(low, high, strict=True)):
        inside = (arrival >= t1) & (arrival <= t2)
        table[k] = np.bincount(client[inside], weights=price[inside], minlength=table.shape[1])
    return table
