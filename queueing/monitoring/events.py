"""What happened in a run, one event after the other: arrivals, admissions, tokens, ends, from the entries of a trace.

A node takes decisions between its batches.  So the events of one batch that runs from s to e come in this order::

    ARRIVE, SEEN   requests that came by s and that no batch hid from the scheduler
    BEGIN          at s;  then PREEMPT and ADMIT in the order of the batch
    ARRIVE         requests that come in s < t < e: they wait from then on, and the scheduler does not know them yet
    END            at e;  then TOKEN and FINISH in the order of the batch; all tokens of a batch come at one time
    SEEN           what came meanwhile: the scheduler charges the tokens first and looks at its queue next

An arrival at exactly e is after END, and seen at once.  An event is its kind and a number, of a batch for BEGIN and END
and of a request for the others; its time follows from them.  That is five bytes an event, and one pass over the trace.

Assumption: entries as :mod:`queueing.trace` has them.  A batch that the horizon cuts credits nothing.
"""

# Compiled functions carry no hints: numba types them by what they are called with.
# pyright: basic, reportMissingParameterType=false, reportUnknownParameterType=false

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from queueing.compilation import kernel, loop
from queueing.trace import STATUS, Trace

__all__ = [
    "ADMIT",
    "ARRIVE",
    "BEGIN",
    "END",
    "FINISH",
    "PREEMPT",
    "SEEN",
    "TOKEN",
    "Flaws",
    "RunEvents",
    "run_events",
]

ARRIVE, SEEN, BEGIN, ADMIT, PREEMPT, END, TOKEN, FINISH = range(8)
NOBODY = -1
OVERLAPS, TOO_EARLY, CHUNKED = range(3)
ROUNDING = 1e-9  # relative, of times that were written out and read back

Ints, Floats = NDArray[np.int64], NDArray[np.float64]


class Flaws(NamedTuple):
    """Counts of batches that begin before the last one ends, of admissions before the arrival, and of prompts that the
    batch that admits them does not prefill whole.
    """

    overlaps: int
    too_early: int
    chunked: int


@dataclass(frozen=True, eq=False)
class RunEvents:
    """The events of one node, with the columns of the trace that they refer to; `client` counts from 0."""

    kind: NDArray[np.int8]
    who: NDArray[np.int32]
    clients: Ints  # [clients] their numbers in the trace
    client: NDArray[np.int32]  # [requests]
    arrival: Floats
    prompt: Ints
    output: Ints
    start: Floats  # [batches]
    end: Floats
    flaws: Flaws


def run_events(trace: Trace, node: int = 0) -> RunEvents:
    """The events of a node.

    Raises:
        ValueError: the trace has no entries, or they contradict its other columns.
    """
    if trace.entries is None:
        raise ValueError("this trace has no entries: run simulate(..., record_entries=True)")
    q, its = trace.requests, trace.iterations
    n = len(q["arrival"])
    status = q["status"]
    here = (status != STATUS.index("future")) & (status != STATUS.index("rejected")) & (q["node"] == node)
    queue = np.flatnonzero(here)
    arrival = np.ascontiguousarray(q["arrival"], np.float64)
    if np.any(np.diff(arrival[queue]) < 0):
        raise ValueError(
            "the requests of this trace are not in order of arrival; sort them and record it again"
        )
    request = trace.entries["request"]
    if len(request) and not 0 <= request.min() <= request.max() < n:
        raise ValueError(f"an entry of this trace names a request beyond its {n}; record it again")
    until = np.cumsum(its["entries"], dtype=np.int64)
    if len(request) != (until[-1] if len(until) else 0):
        raise ValueError(
            f"the batches of this trace count other entries than its {len(request)}; record it again"
        )
    stranger = np.flatnonzero(~here[request] & (np.repeat(its["node"], its["entries"]) == node))
    if len(stranger):
        raise ValueError(
            f"request {request[stranger[0]]} is served by node {node} and never arrived there; record the trace again"
        )
    batches = np.flatnonzero(its["node"] == node)
    start = np.ascontiguousarray(its["start"], np.float64)
    end = start + its["seconds"]
    preemptions = int(q["preemptions"][queue].sum())
    size = 4 * len(queue) + 2 * len(batches) + int(q["decoded"][queue].sum()) + 2 * preemptions
    kind, who = np.empty(size, np.int8), np.empty(size, np.int32)
    flaws = np.zeros(3, np.int64)
    prompt = np.ascontiguousarray(q["prompt"], np.int64)
    output = np.ascontiguousarray(q["output"], np.int64)
    made, got, target = np.zeros(n, np.int32), np.zeros(n, np.int64), np.full(n, -1, np.int64)
    used = loop(_unroll)(
        batches, queue, arrival, prompt, output, start, end, until - its["entries"], until,
        request, trace.entries["tokens"], int(bool(trace.meta.get("last_chunk_emits", True))),
        float(trace.meta.get("horizon", math.inf)), made, got, target, kind, who, flaws,
    )  # fmt: skip
    wrong = np.flatnonzero(made[queue] != q["decoded"][queue])
    if used > size or len(wrong):
        r = int(queue[wrong[0]]) if len(wrong) else int(queue[0])
        raise ValueError(
            f"request {r} has {q['decoded'][r]} output tokens, but its entries give {made[r]}; "
            "the trace is inconsistent, record it again"
        )
    clients, client = np.unique(q["client"], return_inverse=True)
    return RunEvents(
        kind[:used], who[:used], clients.astype(np.int64), client.astype(np.int32), arrival, prompt, output,
        start, end, Flaws(*flaws.tolist()),
    )  # fmt: skip


@kernel
def _put(kind, who, k, what, whom):
    if k < kind.size:
        kind[k] = what
        who[k] = whom
    return k + 1


def _unroll(
    batches, queue, arrival, prompt, output, start, end, first, until, request, tokens, emits, horizon,
    made, got, target, kind, who, flaws,
):  # fmt: skip
    """Write the events and return how many there are.  `target` is -1 while a request does not run."""
    k, a = 0, 0
    clock = -math.inf
    for b in batches:
        t, e = start[b], end[b]
        if t < clock - ROUNDING * abs(clock):
            flaws[OVERLAPS] += 1
        while a < queue.size and arrival[queue[a]] <= t:
            k = _put(kind, who, k, ARRIVE, queue[a])
            k = _put(kind, who, k, SEEN, queue[a])
            a += 1
        k = _put(kind, who, k, BEGIN, b)
        for i in range(first[b], until[b]):
            r = request[i]
            if tokens[i] == 0:
                k = _put(kind, who, k, PREEMPT, r)
                target[r] = -1
                got[r] = 0
            elif target[r] < 0:
                k = _put(kind, who, k, ADMIT, r)
                target[r] = prompt[r] + made[r]
                if arrival[r] > t + ROUNDING * abs(t):
                    flaws[TOO_EARLY] += 1
                if tokens[i] < target[r]:
                    flaws[CHUNKED] += 1
        seen = a
        while a < queue.size and arrival[queue[a]] < e:
            k = _put(kind, who, k, ARRIVE, queue[a])
            a += 1
        k = _put(kind, who, k, END, b)
        if e <= horizon:
            for i in range(first[b], until[b]):
                r = request[i]
                if tokens[i] == 0:
                    continue
                got[r] += tokens[i]
                if got[r] + emits > target[r]:
                    k = _put(kind, who, k, TOKEN, r)
                    made[r] += 1
                    if made[r] == output[r]:
                        k = _put(kind, who, k, FINISH, r)
                        target[r] = -1
        for j in range(seen, a):
            k = _put(kind, who, k, SEEN, queue[j])
        clock = e
    while a < queue.size:
        k = _put(kind, who, k, ARRIVE, queue[a])
        k = _put(kind, who, k, SEEN, queue[a])
        a += 1
    return k
