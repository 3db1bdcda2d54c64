"""The agenda of the loop: nodes in a heap, the one whose next event is first at the top.

An *event* of a node is the end of its batch or of its hold, or, of an idle node with work, the first moment after its
clock, when it may plan.  Between two arrivals nodes do not meet, so the loop asks only for nodes whose event is due: an
iteration costs O(log g) of g nodes.  The heap has four children to a place, which share a cache line.
"""

# Compiled functions carry no hints: numba types them by what they are called with.
# pyright: basic, reportMissingParameterType=false, reportUnknownParameterType=false

from __future__ import annotations

import numpy as np

from queueing.books import IDLE, NOBODY, SCHEDULED
from queueing.compilation import kernel

__all__ = ["TOP", "due", "following", "schedule"]

TOP = 3  # place of the first node; its children are at 4..7, theirs at 8..23, and so on


@kernel
def put(j, time, k, b):
    """Node `k`, whose event is at `time`, takes place `j`."""
    b.agenda.time[j] = time
    b.agenda.node[j] = k
    b.places[k] = j


@kernel
def first_child(j, end, b):
    """The place below `j` whose event is first, or `end` if there is none."""
    child = 4 * (j - TOP) + 4
    if child >= end:
        return end
    time = b.agenda.time
    if child + 4 <= end:  # sums of comparisons: a branch on times nobody can foresee is dearer
        left = child + (time[child + 1] < time[child])
        right = child + 2 + (time[child + 3] < time[child + 2])
        return left + (right - left) * (time[right] < time[left])
    for other in range(child + 1, end):
        if time[other] < time[child]:
            child = other
    return child


@kernel
def place(j, time, k, end, b):
    """Node `k` takes place `j`, or one above it where its parent is no later, or below it where no child is earlier."""
    while j > TOP:
        parent = (j - 4) // 4 + TOP
        if b.agenda.time[parent] <= time:
            break
        put(j, b.agenda.time[parent], b.agenda.node[parent], b)
        j = parent
    while True:
        child = first_child(j, end, b)
        if child == end or time <= b.agenda.time[child]:
            break
        put(j, b.agenda.time[child], b.agenda.node[child], b)
        j = child
    put(j, time, k, b)


@kernel
def due(b, until):
    """Whether some node has an event by time `until`; the first of them is `b.agenda.node[TOP]`."""
    return b.cursor[SCHEDULED] > 0 and b.agenda.time[TOP] <= until


@kernel
def following(b):
    """The node after the first, or NOBODY."""
    end = TOP + b.cursor[SCHEDULED]
    child = first_child(TOP, end, b)
    return NOBODY if child == end else b.agenda.node[child]


@kernel
def schedule(k, b):
    """Enter the next event of node `k`, or take the node off if it has none."""
    j = b.places[k]
    end = TOP + b.cursor[SCHEDULED]
    time = b.nodes.until[k]
    if b.nodes.state[k] == IDLE:
        # arrivals at its clock come first, as they do before an event at their time
        time = np.nextafter(b.nodes.clock[k], np.inf)
        if b.loads.unfinished[k] == 0:
            if j == 0:
                return
            end -= 1
            b.places[k] = 0
            b.cursor[SCHEDULED] -= 1
            if j == end:
                return
            time, k = b.agenda.time[end], b.agenda.node[end]  # the last one fills the hole
    if j == 0:
        j = end
        end += 1
        b.cursor[SCHEDULED] += 1
    place(j, time, k, end, b)
