"""VTC by the book, as a user would write it: no heap, no variants, one prompt token costs 1 and one output token 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from queueing.policy import (
    NONE,
    Policy,
    admit,
    blocks_for,
    free_blocks,
    is_served,
    kernel,
    plan,
    serve_decodes,
)


class Books(NamedTuple):
    """Counters of clients, and of requests: whether they were seen, and output tokens charged."""

    counter: NDArray[np.int64]
    seen: NDArray[np.int64]
    charged: NDArray[np.int64]
    last: NDArray[np.int64]


@kernel
def least(memory, view, batch):
    """The first request of the waiting client with the least counter."""
    best = NONE
    for r in view.waiting:
        if memory.seen[r] != 1 or is_served(batch, r):
            continue
        if best == NONE or memory.counter[view.client[r]] < memory.counter[view.client[best]]:
            best = r
    return best


@kernel
def waits(memory, view, u):
    """Whether client u has a waiting request that was seen."""
    for r in view.waiting:
        if memory.seen[r] == 1 and view.client[r] == u:
            return True
    return False


@dataclass(frozen=True, slots=True)
class PlainVtc(Policy):
    """Fair scheduler, pure batches, whole reservation."""

    def init(self, requests: int) -> Books:
        """Nobody seen, all counters 0."""
        zeros = np.zeros((3, requests), np.int64)
        return Books(zeros[0].copy(), zeros[1].copy(), zeros[2].copy(), np.full(1, NONE))

    @plan
    def plain_vtc(p, memory, view, batch):
        """Charge, lift, admit."""
        for r in view.served:
            memory.counter[view.client[r]] += 2 * (view.decoded[r] - memory.charged[r])
            memory.charged[r] = view.decoded[r]
        for r in view.waiting:
            u = view.client[r]
            if memory.seen[r] == 0:
                if not waits(memory, view, u):
                    k = least(memory, view, batch)
                    if k != NONE:
                        memory.counter[u] = max(memory.counter[u], memory.counter[view.client[k]])
                    elif memory.last[0] != NONE:
                        memory.counter[u] = max(memory.counter[u], memory.counter[memory.last[0]])
                memory.seen[r] = 1
        served = False
        while True:
            r = least(memory, view, batch)
            if r == NONE:
                break
            reserve = view.prompt[r] + view.predicted[r]
            if blocks_for(view, reserve) > free_blocks(batch):
                break
            admit(view, batch, r, view.prompt[r], reserve)
            memory.counter[view.client[r]] += view.prompt[r]
            memory.seen[r] = 2
            memory.last[0] = view.client[r]
            served = True
        if not served:
            serve_decodes(view, batch, view.max_tokens, 0)
