"""Counters of service, one per client: what VTC and its variants have in common (Sheng et al., OSDI 2024).

Notation: c_u the counter of client u; Q the clients with a waiting request; h(x, y) the cost of x input and y output
tokens, not decreasing in either; f_u the weight of u.

    arrival at u not in Q   c_u := max(c_u, min of c over Q), or, if Q is empty, max(c_u, c of the last to leave Q)
    admission of r          c_u += h(p, pred)/f_u          pred output tokens are supposed; 0 without a predictor
    output token j          c_u += (h(p, j) - h(p, j - 1))/f_u     if j > pred
    end after q < pred      c_u -= (h(p, pred) - h(p, q))/f_u      what was charged and not used

A prediction need not be whole: the token that reaches beyond it is charged in part, so that in the end a request is
charged h(p, q)/f_u exactly; the artifact charges that token in full.

A variant chooses the lift, the predictor and the cost.  Waiting requests stand in a queue per client, and the clients
of Q in a heap by counter.  Keys in the heap may be out of date, but only too low, because counters rise; so the top is
brought up to date until it stays the top.  With refunds a counter can fall, and its client is put right at once.

Ties between counters go to the client whose next request came first, so that the names of clients do not matter; in
the artifact, to the client that was seen first.

A request that was preempted goes to the front of its client's queue, without a lift, and is not charged for its prompt
again.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from queueing.batch import NONE, VICTIMS, Batch, View
from queueing.policy import kernel

__all__ = [
    "Counters",
    "Lift",
    "Predictor",
    "admit_next",
    "arrivals",
    "cost_of",
    "counters",
    "next_client",
    "put_back",
    "settle",
    "weight",
]

Ints, Floats = NDArray[np.int64], NDArray[np.float64]


class Lift(IntEnum):
    """How far the counter of a client that comes back is lifted."""

    LEAST = 0  # to the least counter in Q, or to that of the last client to leave it
    NEVER = 1  # not at all: least counter first (LCF)
    ARTIFACT = 2  # to the least counter in Q, and not at all if Q is empty

    def __repr__(self) -> str:
        return self.name


class Predictor(IntEnum):
    """What output length is charged on admission."""

    NONE = 0
    ANNOUNCED = 1  # the announced one: an oracle if announcements are true
    AVERAGE = 2  # moving average of the client's past outputs: (4·v + q)/5
    NOISY = 3  # the announced one times a number drawn evenly between 1 - noise and 1 + noise

    def __repr__(self) -> str:
        return self.name


class Counters(NamedTuple):
    """Memory of a counter policy; [clients] and [requests] are arrays of one length, above every id."""

    counter: Floats  # [clients]
    heap: Ints  # [clients] the clients of Q, a binary heap by `key`
    key: Floats  # [clients] counter when it was last looked at
    place: Ints  # [clients] where it stands in the heap; NONE if not in Q
    head: Ints  # [clients] first waiting request, or NONE
    tail: Ints  # [clients] last one
    seen: Ints  # [clients] when the client was first seen; 0 if it was not
    average: Floats  # [clients] moving average of outputs; 0 before the first end
    behind: Ints  # [requests] next waiting request of the same client, or NONE
    state: Ints  # [requests] 0 unknown, 1 waiting, 2 admitted once
    charged: Ints  # [requests] output tokens accounted for
    supposed: Floats  # [requests] pred
    numbers: Ints  # [SIZE, LAST, SEEN, STEPS]


SIZE, LAST, SEEN, STEPS = (
    0,
    1,
    2,
    3,
)  # clients in the heap; last to leave Q; clients seen; decode batches in a row


def counters(most: int) -> Counters:
    """Return fresh counters for request and client ids below `most`."""
    numbers = np.zeros(4, np.int64)
    numbers[LAST] = NONE

    def floats() -> Floats:
        return np.zeros(most)

    def ints(value: int = 0) -> Ints:
        return np.full(most, value, np.int64)

    return Counters(
        floats(), ints(), floats(), ints(NONE), ints(NONE), ints(NONE), ints(), floats(), ints(NONE), ints(), ints(),
        floats(), numbers,
    )  # fmt: skip


# -- cost


@kernel
def cost_of(h, x, y):
    """h(x, y)."""
    whole = h.input * x + h.output * y + h.product * x * y + h.constant
    return whole + h.input_square * x * x + h.output_square * y * y


@kernel
def weight(p, u):
    """f_u: the weight at the client's id, or the last one."""
    return p.weights[min(u, len(p.weights) - 1)]


@kernel
def drawn(r, seed) -> float:
    """A number from 0 to 1 for request `r`, as good as evenly drawn: 32 bits of its id and the seed, mixed."""
    bits = (int(r) * 0x9E3779B1 + seed * 0x85EBCA6B) & 0xFFFFFFFF
    for _ in range(3):
        bits = ((bits ^ (bits >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    return (bits ^ (bits >> 16)) / 0x100000000


# -- the heap of Q


@kernel
def before(artifact: bool, memory: Counters, u, v):
    """Whether client `u` goes before `v` by key, then by tie."""
    if memory.key[u] != memory.key[v]:
        return memory.key[u] < memory.key[v]
    return memory.seen[u] < memory.seen[v] if artifact else memory.head[u] < memory.head[v]


@kernel
def swap(memory: Counters, i, j) -> None:
    """Exchange two places of the heap."""
    u, v = memory.heap[i], memory.heap[j]
    memory.heap[i], memory.heap[j] = v, u
    memory.place[u], memory.place[v] = j, i


@kernel
def sift(artifact: bool, memory: Counters, u) -> None:
    """Move `u` up or down to where its key belongs."""
    i = memory.place[u]
    while i > 0 and before(artifact, memory, u, memory.heap[(i - 1) // 2]):
        swap(memory, i, (i - 1) // 2)
        i = (i - 1) // 2
    while True:
        j = 2 * i + 1
        if j >= memory.numbers[SIZE]:
            break
        if j + 1 < memory.numbers[SIZE] and before(artifact, memory, memory.heap[j + 1], memory.heap[j]):
            j += 1
        if not before(artifact, memory, memory.heap[j], u):
            break
        swap(memory, i, j)
        i = j


@kernel
def enter(artifact: bool, memory: Counters, u) -> None:
    """Client `u` joins Q."""
    size = memory.numbers[SIZE]
    memory.heap[size] = u
    memory.place[u] = size
    memory.key[u] = memory.counter[u]
    memory.numbers[SIZE] = size + 1
    sift(artifact, memory, u)


@kernel
def leave(artifact: bool, memory: Counters, u) -> None:
    """Client `u` leaves Q."""
    i = memory.place[u]
    size = memory.numbers[SIZE] - 1
    swap(memory, i, size)
    memory.numbers[SIZE] = size
    memory.place[u] = NONE
    if i < size:
        sift(artifact, memory, memory.heap[i])


@kernel
def next_client(artifact: bool, memory: Counters) -> int:
    """The client of Q with the least counter, or NONE."""
    while memory.numbers[SIZE] > 0:
        u = memory.heap[0]
        if memory.key[u] == memory.counter[u]:
            return u
        memory.key[u] = memory.counter[u]
        sift(artifact, memory, u)
    return NONE


# -- events


@kernel
def settle(p, memory: Counters, view: View) -> None:
    """Charge the output tokens of the last batch; return to those who ended what was supposed and not used."""
    ended = 0
    for r in view.served:
        ended += 1 if view.blocks[r] == 0 else 0
    for r in view.served:
        u = view.client[r]
        f = weight(p, u)
        prompt = view.prompt[r] - view.recomputed[r]
        for j in range(memory.charged[r] + 1, view.decoded[r] + 1):
            if j > memory.supposed[r] and not (p.artifact and j == 1):
                paid = j - 1 if p.artifact else max(j - 1, memory.supposed[r])
                memory.counter[u] += (cost_of(p.cost, prompt, j) - cost_of(p.cost, prompt, paid)) / f
        memory.charged[r] = view.decoded[r]
        if (
            p.artifact and ended > 0 and view.decoded[r] > memory.supposed[r]
        ):  # it charges the whole batch once more
            j = view.decoded[r]
            memory.counter[u] += (cost_of(p.cost, prompt, j) - cost_of(p.cost, prompt, j - 1)) / f
        if view.blocks[r] == 0:
            q = view.decoded[r]
            if memory.supposed[r] > q:
                unused = cost_of(p.cost, prompt, memory.supposed[r]) - cost_of(p.cost, prompt, q)
                memory.counter[u] -= unused / f
                if memory.place[u] != NONE:
                    memory.key[u] = memory.counter[u]
                    sift(p.artifact, memory, u)
            memory.average[u] = q if memory.average[u] == 0 else (4 * memory.average[u] + q) / 5


@kernel
def arrivals(p, memory: Counters, view: View) -> None:
    """Queue who came since the last batch, and lift clients that come back."""
    k = len(view.waiting)
    while k > 0 and memory.state[view.waiting[k - 1]] == 0:
        k -= 1
    for i in range(k, len(view.waiting)):
        r = view.waiting[i]
        u = view.client[r]
        if memory.seen[u] == 0:
            memory.numbers[SEEN] += 1
            memory.seen[u] = memory.numbers[SEEN]
        memory.state[r] = 1
        if memory.place[u] != NONE:
            memory.behind[memory.tail[u]] = r
            memory.tail[u] = r
            continue
        if p.lift != Lift.NEVER:
            least = next_client(p.artifact, memory)
            if least == NONE and p.lift == Lift.LEAST:
                least = memory.numbers[LAST]
            if least != NONE:
                memory.counter[u] = max(memory.counter[u], memory.counter[least])
        memory.head[u] = memory.tail[u] = r
        enter(p.artifact, memory, u)


@kernel
def admit_next(p, memory: Counters, view: View, u) -> None:
    """The first request of `u`, the next client, is admitted: charge it and take it from the queue."""
    r = memory.head[u]
    if memory.state[r] == 1:
        prompt = view.prompt[r] - view.recomputed[r]
        if p.predictor == Predictor.ANNOUNCED:
            memory.supposed[r] = view.predicted[r]
        elif p.predictor == Predictor.AVERAGE:
            memory.supposed[r] = memory.average[u]
        elif p.predictor == Predictor.NOISY:
            memory.supposed[r] = view.predicted[r] * (1 + p.noise * (2 * drawn(r, p.seed) - 1))
        memory.counter[u] += cost_of(p.cost, prompt, memory.supposed[r]) / weight(p, u)
    memory.state[r] = 2
    memory.head[u] = memory.behind[r]
    memory.behind[r] = NONE
    if memory.head[u] == NONE:
        memory.numbers[LAST] = u
        leave(p.artifact, memory, u)
    else:
        memory.key[u] = memory.counter[u]
        sift(p.artifact, memory, u)


@kernel
def put_back(p, memory: Counters, view: View, batch: Batch) -> None:
    """Whom the batch preempts goes to the front of its client's queue."""
    for k in range(batch.count[VICTIMS]):
        r = batch.victim[k]
        u = view.client[r]
        memory.behind[r] = memory.head[u]
        memory.head[u] = r
        if memory.place[u] == NONE:
            memory.tail[u] = r
            enter(p.artifact, memory, u)
        else:
            sift(p.artifact, memory, u)
