"""What policies that choose a subnet have in common: the profile, what fits, and what to do when nothing does.

Notation.  l_k(b): seconds of a batch of b under subnet k, for the largest kind of request, and no less than for fewer;
slack: least deadline of the queue less now;  a batch *fits* if loading + l_k(b) < slack.  With that strict inequality,
and nothing to load, a batch that fits ends in time in floating-point numbers too: l < fl(d - t) implies l <= d - t.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from queueing.one_shot import Action, Pool, View, drop, kernel, run, take_first

__all__ = [
    "DROP_HEAD",
    "RUN_FASTEST",
    "NoneFits",
    "Profile",
    "fits",
    "give_up",
    "largest_fitting",
    "profile",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class NoneFits(IntEnum):
    """What to do where nothing that the policy considers fits the head of the queue; the paper says nothing of it.

    DROP_HEAD: give it up.  RUN_FASTEST: as many as the fastest subnet can take at once, the query among them, though it
    will be late.
    """

    DROP_HEAD = 0
    RUN_FASTEST = 1


DROP_HEAD, RUN_FASTEST = NoneFits.DROP_HEAD, NoneFits.RUN_FASTEST


class Profile(NamedTuple):
    """The pool as these policies see it.

    `latency`: [K, B], s;  `best_first`: subnets from the most accurate to the least, of equals the faster one first;
    `fastest`: the subnet that is first with one request, of equals with two, ..., of equals the more accurate.
    """

    latency: Floats
    best_first: Ints
    fastest: int


def profile(pool: Pool) -> Profile:
    """Read the profile off a pool."""
    latency = np.maximum.accumulate(pool.seconds.max(axis=1), axis=1)
    if not np.isfinite(latency).any():
        raise ValueError("no configuration of the pool can run any batch; give it finite seconds")
    best_first = np.lexsort((latency[:, 0], -pool.value))
    fastest = np.lexsort((-pool.value, *latency.T[::-1]))[0]
    return Profile(latency, best_first, int(fastest))


@kernel
def fits(view: View, latency: Floats, k: int, b: int, slack: float) -> bool:
    """Whether `b` requests under subnet `k`, loaded if the server holds another, end before the slack is used up."""
    loading = view.switch[k] if view.held != -1 and view.held != k else 0.0
    return loading + latency[k, b - 1] < slack


@kernel
def largest_fitting(view: View, latency: Floats, k: int, slack: float) -> int:
    """The largest batch under subnet `k` that fits; 0 if none does."""
    b = latency.shape[1]
    while b > 0 and not fits(view, latency, k, b, slack):
        b -= 1
    return b


@kernel
def largest(latency: Floats, k: int) -> int:
    """The largest batch that subnet `k` can run at all; 0 if there is none."""
    b = latency.shape[1]
    while b > 0 and latency[k, b - 1] == np.inf:
        b -= 1
    return b


@kernel
def give_up(rule: int, view: View, action: Action, latency: Floats, k: int) -> None:
    """Nothing fits: drop the head of the queue, or run subnet `k` for as many as it takes."""
    b = largest(latency, k)
    if rule == DROP_HEAD or b == 0:
        drop(view, action, view.queue[0])
    else:
        take_first(view, action, b)
        run(action, k)
