"""The loop of one-shot serving under a virtual clock: arrivals, completions, failures, timers, and the checks.

At one instant completions come first, then failures, then arrivals, then decisions; a batch that ends when its server
fails is complete.  The same lines run compiled and, as their oracle, interpreted.
"""

# Compiled functions carry no hints: numba types them by what they are called with.
# pyright: basic, reportMissingParameterType=false, reportUnknownParameterType=false

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from queueing.compilation import kernel
from queueing.one_shot.contract import CONFIGURATION, DROPPED, TAKEN, View

__all__ = ["RULES", "Books", "serve_one_shot"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NOT_YET, WAITING, IN_BATCH, GIVEN_UP = range(4)  # state of a request
NEXT, LOW, HIGH, BATCHES, RULE, CULPRIT = range(6)  # cells of the cursor

RULES = (
    "",
    "a batch or a drop names a request that does not wait (twice, perhaps, or both)",
    "a batch has more requests than the largest the pool can run",
    "the configuration is not one of the pool's",
    "the pool cannot run such a batch under this configuration",
    "the policy asks to be asked again at a time that is not in the future",
    "requests wait, a server is idle, and the policy neither runs, drops nor waits until a time",
)
NOT_WAITING, TOO_MANY, NO_CONFIGURATION, IMPOSSIBLE, NOT_LATER, STUCK = range(1, 7)


class Books(NamedTuple):
    """All that a run knows; n requests, c servers (at least one row), m batches at most.

    `order` is the key by which requests wait; `clock` = (now, next time at which the policy asked to be asked).
    """

    arrival: Floats
    deadline: Floats
    kind: Ints
    order: Floats
    failures: Floats
    seconds: Floats
    value: Floats
    switch: Floats
    limited: bool
    seen_arrival: Floats
    seen_deadline: Floats
    seen_kind: Ints
    queue: Ints
    view_arrival: Floats  # the same three columns, and the queue, as the policy sees them: read-only
    view_deadline: Floats
    view_kind: Ints
    view_queue: Ints
    state: Ints
    batch: Ints
    begin: Floats
    end: Floats
    server: Ints
    config: Ints
    count: Ints
    largest: Ints
    loading: Floats
    completed: NDArray[np.bool_]
    held: Ints
    running: Ints  # batch that each server executes, -1 if idle
    dead: NDArray[np.bool_]
    cursor: Ints
    clock: Floats


def serve_one_shot(decide, p, memory, books, action):
    """Serve until nothing is left to happen; False if the policy broke a rule, which then stands in the cursor."""
    cursor, clock = books.cursor, books.clock
    n = len(books.arrival)
    while True:
        now = next_event(books, n)
        if now == math.inf:
            if cursor[LOW] < cursor[HIGH] and not all_failed(books):
                return broken(cursor, STUCK, books.queue[cursor[LOW]])
            return True
        clock[0] = now
        clock[1] = math.inf
        if books.limited:
            complete(books, now)
            fail(books, now)
        while cursor[NEXT] < n and books.arrival[cursor[NEXT]] <= now:
            r = cursor[NEXT]
            books.seen_arrival[r] = books.arrival[r]
            books.seen_deadline[r] = books.deadline[r]
            books.seen_kind[r] = books.kind[r]
            line_up(books, r)
            cursor[NEXT] += 1
        server = 0
        while server < len(books.running) and cursor[LOW] < cursor[HIGH]:
            if books.running[server] != -1 or books.dead[server]:
                server += 1
                continue
            action.counts[:] = 0
            action.until[0] = math.inf
            decide(p, memory, what_is_known(books, server), action)
            if not granted(books, action, server, now):
                return False
            # asked again only after a drop, or, where servers are unlimited, after a batch
            if action.counts[DROPPED] == 0 and action.counts[TAKEN] == 0:
                server += 1


@kernel
def broken(cursor, rule, culprit):
    """Note which rule was broken over which request."""
    cursor[RULE] = rule
    cursor[CULPRIT] = culprit
    return False


@kernel
def all_failed(books):
    """Whether no server is left, so that what waits must stay unserved."""
    for s in range(len(books.dead)):
        if not books.dead[s]:
            return False
    return True


@kernel
def next_event(books, n):
    """When something happens next; inf if never."""
    t = math.inf
    if books.cursor[NEXT] < n:
        t = books.arrival[books.cursor[NEXT]]
    waits = books.cursor[LOW] < books.cursor[HIGH]
    if waits:
        t = min(t, books.clock[1])
    if books.limited:
        for s in range(len(books.running)):
            if books.running[s] != -1:
                t = min(t, books.end[books.running[s]])
            if not books.dead[s] and (waits or books.running[s] != -1):
                t = min(t, books.failures[s])
    return t


@kernel
def complete(books, now):
    """Servers whose batch has ended are idle again."""
    for s in range(len(books.running)):
        b = books.running[s]
        if b != -1 and books.end[b] <= now:
            books.running[s] = -1


@kernel
def fail(books, now):
    """Servers fail for good; what they were executing waits again."""
    for s in range(len(books.running)):
        if not books.dead[s] and books.failures[s] <= now:
            books.dead[s] = True
            b = books.running[s]
            if b != -1:
                books.end[b] = books.failures[s]
                books.completed[b] = False
                books.running[s] = -1
                for r in range(books.cursor[NEXT]):
                    if books.batch[r] == b:
                        line_up(books, r)


@kernel
def line_up(books, r):
    """Request r joins the queue at its place in the order."""
    queue, cursor = books.queue, books.cursor
    i = cursor[HIGH]
    while i > cursor[LOW] and (
        books.order[queue[i - 1]] > books.order[r]
        or (books.order[queue[i - 1]] == books.order[r] and queue[i - 1] > r)
    ):
        queue[i] = queue[i - 1]
        i -= 1
    queue[i] = r
    cursor[HIGH] += 1
    books.state[r] = WAITING
    books.batch[r] = -1


@kernel
def what_is_known(books, server):
    """The view of the policy when this server asks."""
    idle, alive = 0, 0
    if books.limited:
        for s in range(len(books.running)):
            alive += not books.dead[s]
            idle += not books.dead[s] and books.running[s] == -1
    return View(
        books.clock[0],
        books.view_queue[books.cursor[LOW] : books.cursor[HIGH]],
        books.view_arrival,
        books.view_deadline,
        books.view_kind,
        server,
        books.held[server],
        idle,
        alive,
        books.cursor[NEXT],
        books.seconds,
        books.value,
        books.switch,
    )


@kernel
def granted(books, action, server, now):
    """Check the action and carry it out; False if it breaks a rule."""
    cursor, state = books.cursor, books.state
    taken, dropped, k = action.counts[TAKEN], action.counts[DROPPED], action.counts[CONFIGURATION]
    if taken > books.seconds.shape[2]:
        return broken(cursor, TOO_MANY, -1)
    if k < 0 or k >= books.seconds.shape[0]:
        return broken(cursor, NO_CONFIGURATION, -1)
    if dropped > len(action.dropped):
        return broken(cursor, NOT_WAITING, -1)
    largest = 0
    for i in range(taken):
        r = action.taken[i]
        if r < 0 or r >= len(state) or state[r] != WAITING:
            return broken(cursor, NOT_WAITING, r)
        state[r] = IN_BATCH
        largest = max(largest, books.kind[r])
    for i in range(dropped):
        r = action.dropped[i]
        if r < 0 or r >= len(state) or state[r] != WAITING:
            return broken(cursor, NOT_WAITING, r)
        state[r] = GIVEN_UP
    if action.until[0] != math.inf:
        if not action.until[0] > now:
            return broken(cursor, NOT_LATER, -1)
        books.clock[1] = min(books.clock[1], action.until[0])
    if taken > 0:
        seconds = books.seconds[k, largest, taken - 1]
        if seconds == math.inf:
            return broken(cursor, IMPOSSIBLE, action.taken[0])
        launch(books, action, server, k, largest, seconds, now)
    close_ranks(books, taken + dropped)
    return True


@kernel
def launch(books, action, server, k, largest, seconds, now):
    """Start a batch."""
    b = books.cursor[BATCHES]
    books.cursor[BATCHES] += 1
    loading = 0.0
    if books.limited:
        if books.held[server] != -1 and books.held[server] != k:
            loading = books.switch[k]
        books.held[server] = k
        books.running[server] = b
    books.begin[b] = now
    books.loading[b] = loading
    books.end[b] = now + loading + seconds
    books.server[b] = server
    books.config[b] = k
    books.count[b] = action.counts[TAKEN]
    books.largest[b] = largest
    books.completed[b] = True
    for i in range(action.counts[TAKEN]):
        books.batch[action.taken[i]] = b


@kernel
def close_ranks(books, gone):
    """Take the `gone` requests that no longer wait out of the queue; a prefix costs only its own length."""
    queue, state, cursor = books.queue, books.state, books.cursor
    while gone > 0 and state[queue[cursor[LOW]]] != WAITING:
        cursor[LOW] += 1
        gone -= 1
    if gone == 0:
        return
    left = 0
    for i in range(cursor[LOW], cursor[HIGH]):
        if state[queue[i]] == WAITING:
            queue[cursor[LOW] + left] = queue[i]
            left += 1
    cursor[HIGH] = cursor[LOW] + left
