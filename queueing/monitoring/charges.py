"""Charges, and the tokens that running requests take and commit; what the walks over events have in common."""

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
from queueing.monitoring.events import ADMIT, BEGIN, FINISH, NOBODY, PREEMPT, TOKEN, RunEvents

__all__ = ["AHEAD", "BEHIND", "RATIO", "REQUEST", "SINCE", "TIME", "VALUE", "Reserved", "Worst", "blank", "charge",
           "reserved", "worst_of"]  # fmt: skip

VALUE, RATIO, TIME, SINCE = range(4)  # of the worst
AHEAD, BEHIND, REQUEST = range(3)

Floats = NDArray[np.float64]


class Worst(NamedTuple):
    """The largest value/factor: the value, its factor, when it was reached (s), since when it grew (s), the client that
    is ahead and the one behind (places in `RunEvents.clients`, -1: none), and a request of the latter (-1: none).
    """

    value: float
    factor: float
    time: float
    since: float
    ahead: int
    behind: int
    request: int


def worst_of(number: Floats, who: NDArray[np.int64]) -> Worst:
    """What a walk noted in the arrays of :func:`blank`."""
    factor = number[VALUE] / number[RATIO] if number[RATIO] > 0 else math.nan
    return Worst(
        float(number[VALUE]), float(factor), float(number[TIME]), float(number[SINCE]), *who.tolist()
    )


def blank() -> tuple[Floats, NDArray[np.int64]]:
    """Where a walk notes the worst: VALUE, RATIO, TIME, SINCE; and AHEAD, BEHIND, REQUEST."""
    return np.array([0.0, 0.0, math.nan, math.nan]), np.full(3, NOBODY)


@kernel
def charge(h, x, j):
    """h(x, j) - h(x, j - 1), of output token j >= 1; h(x, 0) if j is 0."""
    if j == 0:
        return h[0] * x + h[3] * x * x + h[5]
    return h[1] + h[2] * x + h[4] * (2 * j - 1)


class Reserved(NamedTuple):
    """Most prompt and output tokens of requests that run at once, when (s), and the most that an admission commits."""

    tokens: int
    time: float
    committed: float


def reserved(events: RunEvents, cost: Cost) -> Reserved:
    """What the running requests take, prompts and outputs that are still to come included.

    An admission commits h(p, q) of its request and, of every other one that runs, what its outputs still cost.
    """
    found = np.array([0.0, math.nan, 0.0])
    loop(_reserved)(
        events.kind, events.who, events.prompt, events.output, events.start, astuple(cost),
        np.zeros(len(events.prompt), np.int32), found,
    )  # fmt: skip
    return Reserved(int(found[0]), float(found[1]), float(found[2]))


@kernel
def _rest(h, x, made, q):
    """h(x, q) - h(x, made)."""
    return (q - made) * (h[1] + h[2] * x + h[4] * (q + made))


def _reserved(kind, whose, prompt, output, start, h, made, found):
    now, tokens, rest = 0.0, 0, 0.0
    for k in range(kind.size):
        what, r = kind[k], whose[k]
        if what == BEGIN:
            now = start[r]
        elif what == TOKEN:
            made[r] += 1
            rest -= charge(h, prompt[r], made[r])
        elif what == ADMIT:
            tokens += prompt[r] + output[r]
            rest += _rest(h, prompt[r], made[r], output[r])
            if tokens > found[0]:
                found[0] = tokens
                found[1] = now
            price = charge(h, prompt[r], 0) if made[r] == 0 else 0.0
            found[2] = max(found[2], rest + price)
        elif what == PREEMPT:
            tokens -= prompt[r] + output[r]
            rest -= _rest(h, prompt[r], made[r], output[r])
        elif what == FINISH:
            tokens -= prompt[r] + output[r]
