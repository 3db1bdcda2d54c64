"""VTC's counters, made from the events of any run, and how far two of them come apart."""

# Compiled functions carry no hints: numba types them by what they are called with.
# pyright: basic, reportMissingParameterType=false, reportUnknownParameterType=false

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
from numpy.typing import NDArray

from queueing.compilation import kernel, loop
from queueing.cost import Cost
from queueing.monitoring.charges import (
    AHEAD,
    BEHIND,
    RATIO,
    SINCE,
    TIME,
    VALUE,
    Worst,
    blank,
    charge,
    worst_of,
)
from queueing.monitoring.events import (
    ADMIT,
    ARRIVE,
    BEGIN,
    END,
    FINISH,
    NOBODY,
    PREEMPT,
    SEEN,
    TOKEN,
    RunEvents,
)

__all__ = ["counter_gap", "replay", "tournament"]

Floats = NDArray[np.float64]


def counter_gap(events: RunEvents, cost: Cost, weights: Floats) -> Worst:
    """Largest (c_f - c_g)·f_f over queued clients f and g: counters by VTC's rule, whatever admitted the requests.

    Q is what the scheduler knows of, so clients join it by SEEN.  While Q is nonempty its least counter never falls
    (who comes is lifted to it), so that only a client whose own counter rose can be farther above it than before.

    Args:
        events: of one node.
        cost: h.
        weights: f, of each client.

    Returns: the value is c_f - c_g, its factor 1/f_f; ahead is f, behind g.
    """
    n = len(events.clients)
    number, who = blank()
    loop(_counters)(
        events.kind, events.who, events.client, events.prompt, events.start, events.end, events.arrival,
        astuple(cost), weights, np.zeros(len(events.client), np.int32), np.zeros(n), np.zeros(n, np.int32),
        np.full(n, math.inf), tournament(n), np.zeros(n, np.int64), np.zeros(n, np.bool_), number, who,
    )  # fmt: skip
    return worst_of(number, who)


def tournament(n: int) -> NDArray[np.int64]:
    """A tree of matches among n clients of equal keys: who wins at node i plays at i // 2; client u starts at n + u."""
    tree = np.concatenate([np.zeros(n, np.int64), np.arange(n)])
    for i in range(n - 1, 0, -1):
        tree[i] = tree[2 * i]
    return tree


@kernel
def replay(tree, key, u):
    """The key of `u` changed: play its matches again; tree[1] is the client with the least key."""
    i = (u + key.size) // 2
    while i >= 1:
        a, b = tree[2 * i], tree[2 * i + 1]
        winner = a if key[a] <= key[b] else b
        if winner == tree[i] and winner != u:
            break  # nothing changes further up
        tree[i] = winner
        i //= 2


@kernel
def _look(tree, key, weights, u, now, number, who):
    """How far `u`, which is in Q, is above the least counter."""
    g = tree[1]
    value = key[u] - key[g]
    if value * weights[u] > number[RATIO]:
        number[RATIO] = value * weights[u]
        number[VALUE] = value
        number[TIME] = number[SINCE] = now
        who[AHEAD], who[BEHIND] = u, g


def _counters(
    kind, whose, client, prompt, start, end, arrival, h, weights, made, c, waiting, key, tree, changed, touched,
    number, who,
):  # fmt: skip
    """`key` is the counter of clients in Q, inf for the others."""
    now, last, count = 0.0, NOBODY, 0
    for k in range(kind.size):
        what, r = kind[k], whose[k]
        if what == TOKEN:
            u = client[r]
            made[r] += 1
            c[u] += charge(h, prompt[r], made[r]) / weights[u]
            if not touched[u]:
                touched[u] = True
                changed[count] = u
                count += 1
            continue
        if what in (FINISH, ARRIVE):
            continue
        for i in range(count):
            u = changed[i]
            touched[u] = False
            if waiting[u] > 0:
                key[u] = c[u]
                replay(tree, key, u)
        for i in range(count):
            if waiting[changed[i]] > 0:
                _look(tree, key, weights, changed[i], now, number, who)
        count = 0
        if what == BEGIN:
            now = start[r]
        elif what == END:
            now = end[r]
        else:
            u = client[r]
            if what == SEEN:
                now = max(now, arrival[r])
                if waiting[u] == 0:
                    least = key[tree[1]]
                    if least < math.inf:
                        c[u] = max(c[u], least)
                    elif last != NOBODY:
                        c[u] = max(c[u], c[last])
                waiting[u] += 1
            elif what == PREEMPT:
                waiting[u] += 1
            elif what == ADMIT:
                if made[r] == 0:  # what is computed again is not charged again
                    c[u] += charge(h, prompt[r], 0) / weights[u]
                waiting[u] -= 1
                if waiting[u] == 0:
                    last = u
            key[u] = c[u] if waiting[u] > 0 else math.inf
            replay(tree, key, u)
            if waiting[u] > 0:
                _look(tree, key, weights, u, now, number, who)
