"""Everything that is known of an authors' run beside the judged figures: shown against the simulator's, not judged.

One dictionary of figures per run, of a log or of a simulated trace alike.  Which of them count as published is said by
the registry (:mod:`validation.published`): a figure without a line there is not shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from queueing import metrics
from queueing.cost import Cost
from queueing.trace import Trace

__all__ = ["Amount", "amounts", "growth_while_both_wait", "most_together"]

Floats = NDArray[np.float64]

FEW = 8  # clients; up to so many have figures of their own
WAITS = (10.0, 30.0)  # s, mean time to first token of a client that counts as waiting
TWICE_U = 40_000.0  # cost: 2U = 2 max(wp Lin, wq M) of weights 1 and 2 and a pool of 10,000 tokens


class Amount(NamedTuple):
    """A figure with its unit."""

    value: float
    unit: str


def amounts(trace: Trace) -> Mapping[str, Amount]:
    """All figures of a run, by name."""
    return dict([*_whole(trace), *_by_client(trace)])


def _whole(trace: Trace) -> Iterator[tuple[str, Amount]]:
    """Figures of all clients together."""
    for name, found in (
        ("", metrics.authors_difference(trace)),
        (", profiled cost", metrics.authors_difference(trace, Cost.profiled())),
    ):
        unit = "ms/s" if name else "cost/s"
        yield f"Max Diff{name}", Amount(found.maximum, unit)
        yield f"Diff Var{name}", Amount(found.variance, f"({unit})²")
        if name:  # the other is judged
            yield f"Avg Diff{name}", Amount(found.average, unit)
    waited = metrics.ttft(trace)[trace.finished]
    yield "tokens per second", Amount(metrics.throughput_with_rejections(trace).tokens_per_second, "tokens/s")
    yield "median time to first token", Amount(float(np.median(waited)), "s")
    yield "p95 time to first token", Amount(float(np.percentile(waited, 95)), "s")
    pace = metrics.tpot(trace)[trace.finished]
    yield "median time per output token", Amount(1e3 * float(np.median(pace)), "ms")
    yield "most tokens of requests served at one time", Amount(most_together(trace) / 1e3, "1000 tokens")
    yield "largest accumulated gap", Amount(float(metrics.accumulated_gap(trace).max()) / 1e3, "1000 cost")
    yield (
        "growth of a difference of service while both wait, over 2U",
        Amount(growth_while_both_wait(trace), "1"),
    )


def _by_client(trace: Trace) -> Iterator[tuple[str, Amount]]:
    """Figures of single clients; where there are many, by how many requests each sent, as their names mean nothing."""
    ids, sent = np.unique(trace.requests["client"], return_counts=True)
    mean = metrics.response_time(trace, 0.0, 1e6)[0]
    for seconds in WAITS:
        name = f"clients that wait {seconds:g} s or more in the mean"
        yield name, Amount(float(np.count_nonzero(mean >= seconds)), "clients")
    if len(ids) > FEW:
        for count, seconds in zip(sent.tolist(), mean, strict=True):
            yield (
                f"mean time to first token of the client with {count} requests",
                Amount(float(seconds), "s"),
            )
        return
    until = _arrivals_end(trace)
    for name, start, end in (("while requests arrive", 30.0, until), ("from 300 s to 600 s", 300.0, 600.0)):
        for client, served in zip(ids, metrics.smeared_service(trace, start, end)[0], strict=True):
            yield f"service of client {client} {name}", Amount(float(served) / 1e3, "1000 cost")
    for client, seconds in zip(ids, mean, strict=True):
        yield f"mean time to first token of client {client}", Amount(float(seconds), "s")
    late = metrics.smeared_service(trace, 360.0, 600.0)[0]
    if len(ids) == 2 and late[1] > 0:
        more = 100.0 * (float(late[0] / late[1]) - 1.0)
        yield "service of client 0 more than that of client 1 from 360 s to 600 s", Amount(more, "percent")


def _arrivals_end(trace: Trace) -> float:
    """The full minute next to the last arrival (s): they are planned for a number of minutes."""
    return 60.0 * round(float(trace.requests["arrival"].max()) / 60.0)


def most_together(trace: Trace) -> float:
    """Largest sum of the tokens that the requests served at one time hold when each is done: prompts and outputs.

    A request is served from its first token to its last, as logs know no admission.  The sum may exceed the memory.
    """
    first, last, prompt, output = (
        trace.requests[name][trace.finished] for name in ("first_token", "finished", "prompt", "output")
    )
    at, change = np.r_[first, last], np.r_[prompt + output, -prompt - output]
    return float(np.cumsum(change[np.lexsort((change, at))]).max())


def growth_while_both_wait(trace: Trace) -> float:
    """Largest growth of |W_f - W_g| over a stretch in which both clients wait, over 2U; while requests arrive.

    On a grid of one second, as logs give no better: a client waits if a request of its has arrived and has no token;
    prompts count at the first token, outputs evenly from there to the last.  Where queues empty for moments between
    two seconds the grid joins stretches, and the figure is too large.
    """
    q = trace.requests
    at = np.arange(0.0, _arrivals_end(trace) + 1.0)
    first = np.where(trace.finished, q["first_token"], np.inf)
    last = np.where(trace.finished, q["finished"], np.inf)
    ids = metrics.clients(trace)
    waiting = np.zeros((len(ids), len(at)), np.bool_)
    served = np.zeros((len(ids), len(at)))
    for k, client in enumerate(ids):
        mine = np.flatnonzero((q["client"] == client) & trace.finished)
        for i in mine:
            waiting[k] |= (q["arrival"][i] <= at) & (at < first[i])
            share = np.clip((at - first[i]) / max(last[i] - first[i], 1e-9), 0.0, 1.0)
            served[k] += q["prompt"][i] * (at >= first[i]) + 2.0 * q["output"][i] * share
    most = 0.0
    for f, g in combinations(range(len(ids)), 2):
        both = np.flatnonzero(waiting[f] & waiting[g])
        for stretch in np.split(both, np.flatnonzero(np.diff(both) > 1) + 1):
            if stretch.size:
                most = max(most, float(np.ptp(served[f][stretch] - served[g][stretch])))
    return most / TWICE_U
