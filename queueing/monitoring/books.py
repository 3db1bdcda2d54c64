"""Laws of any run, read from the columns of a trace: no idling, first come first served per client, KV memory.

Source: textbook queueing (work conservation, FIFO); block tables as in Kwon et al., SOSP 2023.
"""

# Compiled functions carry no hints: numba types them by what they are called with.
# pyright: basic, reportMissingParameterType=false, reportUnknownParameterType=false

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from queueing.compilation import kernel, loop
from queueing.monitoring.events import NOBODY, ROUNDING
from queueing.trace import STATUS, Trace

__all__ = [
    "Idle",
    "Overtaking",
    "Usage",
    "arrived",
    "in_order",
    "kv_usage",
    "longest_idle",
    "worst_overtaking",
]


def arrived(trace: Trace) -> NDArray[np.bool_]:
    """Which requests came and were not turned away."""
    status = trace.requests["status"]
    return (status != STATUS.index("future")) & (status != STATUS.index("rejected"))


def in_order(trace: Trace) -> bool:
    """Whether batches of one node follow each other, and no request is admitted before it arrives."""
    q, its = trace.requests, trace.iterations
    for node in np.unique(its["node"]):
        mine = its["node"] == node
        start = its["start"][mine]
        end = start + its["seconds"][mine]
        if np.any(start[1:] < end[:-1] - ROUNDING * np.abs(end[:-1])):
            return False
    early = q["admitted"] < q["arrival"] - ROUNDING * np.abs(q["arrival"])
    return not bool(early.any() or np.any(np.diff(q["arrival"]) < 0))


class Idle(NamedTuple):
    """A stretch in which a node served nobody although a request of it was there: s, since when, which request."""

    seconds: float
    since: float
    request: int


def longest_idle(trace: Trace) -> Idle:
    """The longest such stretch; a batch without tokens serves nobody, and counts even if nobody is there.

    A request is there from its arrival to its last token.  Past the last batch a node has until the horizon.
    """
    q, its = trace.requests, trace.iterations
    tokens = its["prefill"].astype(np.int64) + its["decodes"]
    horizon = float(trace.meta.get("horizon", math.nan))
    worst = Idle(0.0, math.nan, NOBODY)
    here = arrived(trace)
    for node in np.unique(np.concatenate([its["node"], q["node"][here]])):
        of_node = np.flatnonzero(here & (q["node"] == node))
        arrival, finished = q["arrival"][of_node], q["finished"][of_node]
        mine = its["node"] == node
        empty = np.flatnonzero(mine & (tokens == 0))
        if len(empty):
            at = empty[np.argmax(its["seconds"][empty])]
            worst = max(worst, Idle(float(its["seconds"][at]), float(its["start"][at]), NOBODY))
        start = its["start"][mine & (tokens > 0)]
        end = start + its["seconds"][mine & (tokens > 0)]
        since, until = np.r_[-math.inf, end], np.r_[start, horizon]
        order = np.sort(arrival)
        came = np.searchsorted(order, since, side="right")
        gone = np.searchsorted(np.sort(finished[~np.isnan(finished)]), since, side="right")
        following = np.r_[order, math.inf][came]
        since = np.where(came > gone, since, following)
        idle = np.subtract(
            until, since, out=np.zeros(len(since)), where=until > since
        )  # not past an unknown horizon
        at = int(np.argmax(idle))
        if idle[at] > worst.seconds:
            left = np.flatnonzero((arrival <= since[at]) & ~(finished <= since[at]))
            worst = Idle(float(idle[at]), float(since[at]), int(of_node[left[0]]))
    return worst


class Overtaking(NamedTuple):
    """A request that was admitted before an earlier one of its client: s between their arrivals, when, and which."""

    seconds: float
    time: float
    request: int
    overtaken: int


def worst_overtaking(trace: Trace) -> Overtaking:
    """The overtaking with the most seconds between the arrivals; requests of one batch are admitted together.

    O(n log n) for n requests.
    """
    q = trace.requests
    here = np.flatnonzero(arrived(trace))
    client, node = q["client"][here].astype(np.int64), q["node"][here].astype(np.int64)
    group = (
        client - client.min(initial=0) + (np.ptp(client) + 1 if len(client) else 0) * node
    )  # one per client and node
    group = np.unique(group, return_inverse=True)[1]
    of_group = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[of_group], np.arange(group.max(initial=-1) + 2))
    admitted = np.ascontiguousarray(q["admitted"][here], np.float64)
    order = np.argsort(admitted, kind="stable")[: int(np.count_nonzero(~np.isnan(admitted)))]
    found = np.full(2, NOBODY)
    arrival = np.ascontiguousarray(q["arrival"][here], np.float64)
    seconds = loop(_overtaking)(
        order, group, of_group, bounds[:-1].copy(), bounds[1:], admitted, arrival, found
    )
    if seconds == 0:
        return Overtaking(0.0, math.nan, NOBODY, NOBODY)
    r, s = here[found]
    return Overtaking(float(seconds), float(q["admitted"][r]), int(r), int(s))


def _overtaking(order, group, of_group, head, end, admitted, arrival, found):
    """Requests in order of admission, each compared with the first of its group that is still not admitted."""
    worst = 0.0
    for r in order:
        g = group[r]
        while head[g] < end[g] and admitted[of_group[head[g]]] <= admitted[r]:
            head[g] += 1
        if head[g] < end[g]:
            s = of_group[head[g]]
            if arrival[r] - arrival[s] > worst:
                worst = arrival[r] - arrival[s]
                found[0], found[1] = r, s
    return worst


class Usage(NamedTuple):
    """KV blocks: the most in use and in which batch; the batch that lacks most for the tokens of its entries (-1: none)
    and what it needs; whether the column follows the tokens, or prompt + output of the running requests, exactly.
    """

    most: int
    batch: int
    lacking: int
    needed: int
    follows_tokens: bool
    follows_lengths: bool


def kv_usage(trace: Trace, block_size: int) -> Usage:
    """What the column of blocks says, beside what the entries hold: ceil(tokens/block_size) blocks of each request.

    O(entries).  Without entries the last two are False.
    """
    q, its = trace.requests, trace.iterations
    blocks = np.ascontiguousarray(its["blocks"], np.int64)
    batch = int(np.argmax(blocks)) if len(blocks) else NOBODY
    most = int(blocks.max(initial=0))
    if trace.entries is None:
        return Usage(most, batch, NOBODY, 0, False, False)
    n = len(q["arrival"])
    until = np.cumsum(its["entries"], dtype=np.int64)
    nodes = int(its["node"].max(initial=0)) + 1
    found = np.array([NOBODY, 0, 1, 1])
    loop(_usage)(
        its["node"], its["start"] + its["seconds"], blocks, until - its["entries"], until, trace.entries["request"],
        trace.entries["tokens"], np.ascontiguousarray(q["prompt"] + q["output"], np.int64),
        np.ascontiguousarray(q["finished"], np.float64), block_size, np.zeros(n, np.int64),
        np.zeros((nodes, 2), np.int64), found,
    )  # fmt: skip
    return Usage(most, batch, int(found[0]), int(found[1]), bool(found[2]), bool(found[3]))


@kernel
def _blocks(tokens, size):
    return (tokens + size - 1) // size


def _usage(node, end, blocks, first, until, request, tokens, length, finished, size, held, total, found):
    """`held` tokens of each request; `total` blocks of each node, by tokens held and by whole lengths."""
    worst = 0
    for b in range(node.size):
        k = node[b]
        for i in range(first[b], until[b]):
            r, q = request[i], tokens[i]
            before = held[r]
            held[r] = before + q if q > 0 else 0
            total[k, 0] += _blocks(held[r], size) - _blocks(before, size)
            if q == 0 and before > 0:
                total[k, 1] -= _blocks(length[r], size)
            if q > 0 and before == 0:
                total[k, 1] += _blocks(length[r], size)
        if total[k, 0] - blocks[b] > worst:
            worst = total[k, 0] - blocks[b]
            found[0], found[1] = b, total[k, 0]
        if total[k, 0] != blocks[b]:
            found[2] = 0
        if total[k, 1] != blocks[b]:
            found[3] = 0
        for i in range(first[b], until[b]):
            r = request[i]
            if held[r] > 0 and finished[r] <= end[b]:
                total[k, 0] -= _blocks(held[r], size)
                total[k, 1] -= _blocks(length[r], size)
                held[r] = 0
