"""The agenda of the loop: nodes in a binary heap, the one whose next event is first at the top.

An *event* of a node is the end of its batch or of its hold, or, of an idle node with work, the first moment after its
clock, when it may plan.  Between two arrivals nodes do not meet, so the loop asks only for nodes whose event is due: an
iteration costs O(log g) of g nodes.
"""

# Compiled functions carry no hints: numba types them by what they are called with.
# pyright: basic, reportMissingParameterType=false, reportUnknownParameterType=false

from __future__ import annotations

import numpy as np

from queueing.books import ABSENT, IDLE, SCHEDULED
from queueing.compilation import kernel

__all__ = ["due", "schedule"]


@kernel
def put(j, k, a):
    """Node `k` takes place `j` of the heap."""
    a.node[j] = k
    a.place[k] = j


@kernel
def rise(j, a):
    """Move the node at place `j` up to where its parent is no later."""
    k = a.node[j]
    while j > 0:
        parent = (j - 1) // 2
        if a.time[a.node[parent]] <= a.time[k]:
            break
        put(j, a.node[parent], a)
        j = parent
    put(j, k, a)


@kernel
def sink(j, size, a):
    """Move the node at place `j` down to where its children are no earlier."""
    k = a.node[j]
    while 2 * j + 1 < size:
        child = 2 * j + 1
        if child + 1 < size and a.time[a.node[child + 1]] < a.time[a.node[child]]:
            child += 1
        if a.time[k] <= a.time[a.node[child]]:
            break
        put(j, a.node[child], a)
        j = child
    put(j, k, a)


@kernel
def due(b, until):
    """Whether some node has an event by time `until`; the first of them is `b.agenda.node[0]`."""
    return b.cursor[SCHEDULED] > 0 and b.agenda.time[b.agenda.node[0]] <= until


@kernel
def schedule(k, b):
    """Enter the next event of node `k`, or take the node off if it has none."""
    a = b.agenda
    size = b.cursor[SCHEDULED]
    if b.nodes.state[k] == IDLE and b.loads.unfinished[k] == 0:
        if a.place[k] != ABSENT:
            hole = int(a.place[k])
            a.place[k] = ABSENT
            b.cursor[SCHEDULED] = size - 1
            if hole < size - 1:
                put(hole, a.node[size - 1], a)
                rise(hole, a)
                sink(int(a.place[a.node[hole]]), size - 1, a)
        return
    if b.nodes.state[k] == IDLE:
        # arrivals at its clock come first, as they do before an event at their time
        a.time[k] = np.nextafter(b.nodes.clock[k], np.inf)
    else:
        a.time[k] = b.nodes.until[k]
    if a.place[k] == ABSENT:
        put(size, k, a)
        b.cursor[SCHEDULED] = size + 1
        rise(size, a)
    else:
        rise(int(a.place[k]), a)
        sink(int(a.place[k]), size, a)
