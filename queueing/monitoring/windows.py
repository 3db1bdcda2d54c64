"""Growth of the difference in service of two clients, over all windows in which one of them, or both, wait."""

# Compiled functions carry no hints: numba types them by what they are called with.
# pyright: basic, reportMissingParameterType=false, reportUnknownParameterType=false

from __future__ import annotations

import math
from dataclasses import astuple
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from queueing.compilation import kernel, loop
from queueing.cost import Cost
from queueing.monitoring.charges import (
    AHEAD,
    BEHIND,
    RATIO,
    REQUEST,
    SINCE,
    TIME,
    VALUE,
    Worst,
    blank,
    charge,
    worst_of,
)
from queueing.monitoring.counters import replay, tournament
from queueing.monitoring.events import ADMIT, BEGIN, END, FINISH, NOBODY, PREEMPT, SEEN, TOKEN, RunEvents

__all__ = ["BACKLOGGED", "BOTH", "NEWCOMER", "service_growth"]

BOTH, BACKLOGGED, NEWCOMER = range(3)
LEAD, HEAD, OUTSIDE, ENTERED = range(4)  # of the largest

Floats = NDArray[np.float64]


def service_growth(
    events: RunEvents, cost: Cost, weights: Floats, mode: int, watched: NDArray[np.bool_]
) -> Worst:
    """Largest growth of W_g/f_g - W_f/f_f by its factor, over windows in which f waits.

    ==========  ======================================================  =======================
    mode        the windows                                             factor
    ==========  ======================================================  =======================
    BOTH        f and g have a waiting request all through              1/f_g + 1/f_f
    BACKLOGGED  f has                                                   1/f_g + 1/min(f_f, f_g)
    NEWCOMER    f had nothing waiting or running when its request came  1/f_g + 1/min(f_f, f_g)
                and waits for its admission
    ==========  ======================================================  =======================

    Waiting is by the times of the trace, from ARRIVE to ADMIT.  While g gets nothing, W_g/f_g - W_f/f_f can only fall,
    so that its least value since the window began is met just before a charge of g, and the largest growth just
    after one: only charges are looked at.

    Most pairs are passed over.  Let P_u be W_u/f_u plus what it is raised by while u does not wait: to the least P of
    those who wait, when u joins them or is about to be charged.  Then the growth from t1 to t2 is at most
    (P_g - P_f)(t2) + (P_f - P_g)(t1).  A first walk finds the largest value of each term, the second leaves out pairs
    whose one term with the other's largest value is not above the worst seen so far.

    Args:
        events: of one node.
        cost: h.
        weights: f, of each client.
        mode: which windows.
        watched: which clients are looked at; all others neither wait nor get anything.

    Returns: ahead is g, behind f.
    """
    place = np.where(watched, np.cumsum(watched) - 1, NOBODY)
    m = int(np.count_nonzero(watched))
    number, who = blank()
    if m == 0:
        return worst_of(number, who)
    share = 1 / weights[watched]
    slack = (
        2 * float(share.min()) * (1 - 1e-9)
    )  # least factor of a pair; a little less, lest rounding pass one over
    low, mark = np.zeros((m, m)), np.zeros((m, m), np.int32)
    largest = np.zeros(4)
    for walk in (False, True):
        loop(_growth)(
            events.kind, events.who, events.client, events.prompt, events.start, events.end, events.arrival,
            astuple(cost), share, slack, mode, walk, largest, place, np.zeros(len(events.client), np.int32),
            Clients(
                np.zeros(m), np.zeros(m), np.zeros(m), np.zeros(m), np.full(m, math.inf), np.full(m, math.inf),
                tournament(m), tournament(m), np.zeros(m, np.bool_), np.zeros(m, np.int32),
                np.zeros(m, np.int32), np.zeros(m), np.zeros(m, np.int32), np.full(m, NOBODY), np.zeros(m, np.int32),
                np.zeros(128, np.int64),
            ),
            low, mark, number, who,
        )  # fmt: skip
    chosen = np.flatnonzero(watched)
    for i in (AHEAD, BEHIND):
        who[i] = chosen[who[i]] if who[i] != NOBODY else NOBODY
    return worst_of(number, who)


class Clients(NamedTuple):
    """What the walk knows of each client."""

    S: Floats  # W/f
    P: Floats
    gain: Floats  # of the batch that ends
    outside: Floats  # got while it does not wait, since it last did
    least: Floats  # P while it waits, else inf
    most: Floats  # -P while it waits, else inf
    low_tree: NDArray[np.int64]  # the client with the least `least` below each node
    high_tree: NDArray[np.int64]
    waits: NDArray[np.bool_]
    waiting: NDArray[np.int32]  # its requests that wait
    running: NDArray[np.int32]
    since: Floats  # when its window began
    stretch: NDArray[np.int32]  # number of its window
    first: NDArray[np.int64]  # the request that opened it
    changed: NDArray[np.int32]  # who gains in the batch that ends
    stack: NDArray[np.int64]  # nodes of a tree still to look below


@kernel
def _place(c, u):
    """P of `u` changed, or it began or ceased to wait."""
    c.least[u] = c.P[u] if c.waits[u] else math.inf
    c.most[u] = -c.P[u] if c.waits[u] else math.inf
    replay(c.low_tree, c.least, u)
    replay(c.high_tree, c.most, u)


@kernel
def _level(c, u):
    """P of `u`, or if it does not wait, the least P of those who do if that is more."""
    least = c.least[c.low_tree[1]]
    return c.P[u] if c.waits[u] or least == math.inf else max(c.P[u], least)


@kernel
def _next(tree, key, limit, stack, top):
    """The next waiting client with a key up to `limit`, and how many nodes are left on the stack; none is NOBODY."""
    while top > 0:
        top -= 1
        i = stack[top]
        if key[tree[i]] <= limit and key[tree[i]] < math.inf:
            if i >= key.size:
                return i - key.size, top
            stack[top], stack[top + 1] = 2 * i, 2 * i + 1
            top += 2
    return NOBODY, 0


@kernel
def _before(c, g, mode, low, mark, walk, largest, best):
    """Just before a charge of g: the least W_g - W_f so far, for every f that waits."""
    if mode == BOTH and not c.waits[g]:
        return
    level = _level(c, g)
    if not walk:
        largest[HEAD] = max(largest[HEAD], -c.most[c.high_tree[1]] - level)  # -inf if nobody waits
        return
    needed = best - largest[LEAD] - (0.0 if c.waits[g] else largest[OUTSIDE])
    mine = c.stretch[g] if mode == BOTH else 0
    c.stack[0] = 1
    f, top = _next(c.high_tree, c.most, -level - needed, c.stack, 1)  # P_f - level >= needed
    while f != NOBODY:
        ahead = c.S[g] - c.S[f]
        window = max(c.stretch[f], mine)
        if mark[g, f] != window or ahead < low[g, f]:
            mark[g, f] = window
            low[g, f] = ahead
        f, top = _next(c.high_tree, c.most, -level - needed, c.stack, top)


@kernel
def _after(c, g, mode, share, low, mark, walk, largest, best, now, number, who):
    """Just after it: how much W_g - W_f has grown."""
    if mode == BOTH and not c.waits[g]:
        return
    level = _level(c, g)
    if not walk:
        largest[LEAD] = max(largest[LEAD], level - c.least[c.low_tree[1]])
        return
    if c.waits[g]:
        needed = best - max(largest[HEAD], largest[ENTERED])
    else:
        needed = best - largest[HEAD] - largest[OUTSIDE]
    mine = c.stretch[g] if mode == BOTH else 0
    c.stack[0] = 1
    f, top = _next(c.low_tree, c.least, level - needed, c.stack, 1)
    while f != NOBODY:
        if f != g and mark[g, f] == max(c.stretch[f], mine):
            growth = c.S[g] - c.S[f] - low[g, f]
            factor = share[g] + (share[f] if mode == BOTH else max(share[f], share[g]))
            if growth > number[RATIO] * factor:
                number[RATIO] = growth / factor
                number[VALUE] = growth
                number[TIME] = now
                number[SINCE] = max(c.since[f], c.since[g]) if mode == BOTH else c.since[f]
                who[AHEAD], who[BEHIND], who[REQUEST] = g, f, c.first[f]
        f, top = _next(c.low_tree, c.least, level - needed, c.stack, top)


@kernel
def _pay(c, u, price, largest):
    """Charge `u`; what it gets while it does not wait is added up."""
    c.S[u] += price
    c.P[u] += price
    if c.waits[u]:
        _place(c, u)
    else:
        c.outside[u] += price
        largest[OUTSIDE] = max(largest[OUTSIDE], c.outside[u])


@kernel
def _begin(c, u, last, mode, low, mark, walk, largest):
    """Client `u` begins to wait: raise P; what it gained while it did not wait counts as if others had been ahead."""
    if c.least[c.low_tree[1]] == math.inf and last != NOBODY:
        c.P[u] = max(c.P[u], c.P[last])
    c.P[u] = _level(c, u)
    c.outside[u] = 0.0
    if mode != BOTH and walk:
        c.stack[0] = 1
        f, top = _next(c.low_tree, c.least, math.inf, c.stack, 1)
        while f != NOBODY:
            if mark[u, f] == c.stretch[f]:
                gained = c.S[u] - c.S[f] - low[u, f]
                largest[ENTERED] = max(largest[ENTERED], gained - c.P[u] + c.P[f])
            f, top = _next(c.low_tree, c.least, math.inf, c.stack, top)
    c.waits[u] = True
    _place(c, u)


def _growth(
    kind, whose, client, prompt, start, end, arrival, h, share, slack, mode, walk, largest, place, made, c, low, mark,
    number, who,
):  # fmt: skip
    """Walk over the events; the first time only for the `largest` P_g - P_f after, and P_f - P_g before a charge."""
    now, count, windows, last = 0.0, 0, 0, NOBODY
    for k in range(kind.size):
        what, r = kind[k], whose[k]
        if what == TOKEN:
            made[r] += 1
            u = place[client[r]]
            price = charge(h, prompt[r], made[r])
            if u != NOBODY and price > 0.0:
                if c.gain[u] == 0.0:
                    c.changed[count] = u
                    count += 1
                c.gain[u] += price * share[u]
            continue
        if what == FINISH:
            u = place[client[r]]
            if u != NOBODY:
                c.running[u] -= 1
            continue
        if count > 0:
            for i in range(count):
                _before(c, c.changed[i], mode, low, mark, walk, largest, slack * number[RATIO])
            for i in range(count):
                u = c.changed[i]
                _pay(c, u, c.gain[u], largest)
                c.gain[u] = 0.0
            for i in range(count):
                u = c.changed[i]
                _after(c, u, mode, share, low, mark, walk, largest, slack * number[RATIO], now, number, who)
            count = 0
        if what == BEGIN:
            now = start[r]
        elif what == END:
            now = end[r]
        elif what != SEEN:
            u = place[client[r]]
            if u == NOBODY:
                continue
            if what == ADMIT:
                c.waiting[u] -= 1
                c.running[u] += 1
                price = charge(h, prompt[r], 0) * share[u] if made[r] == 0 else 0.0  # never twice
                _before(c, u, mode, low, mark, walk, largest, slack * number[RATIO])
                if c.waiting[u] == 0 or mode == NEWCOMER:
                    c.waits[u] = False
                    _place(c, u)
                    last = u
                _pay(c, u, price, largest)
                _after(c, u, mode, share, low, mark, walk, largest, slack * number[RATIO], now, number, who)
            else:  # ARRIVE or PREEMPT
                now = max(now, arrival[r])
                c.running[u] -= 1 if what == PREEMPT else 0
                if c.waiting[u] == 0 and (mode != NEWCOMER or c.running[u] == 0):
                    windows += 1
                    c.stretch[u], c.since[u], c.first[u] = windows, now, r
                    _begin(c, u, last, mode, low, mark, walk, largest)
                c.waiting[u] += 1
