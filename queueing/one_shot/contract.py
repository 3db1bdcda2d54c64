"""The contract of one-shot policies: `decide(p, memory, view, action)` says what an idle server runs next.

The body reads the :class:`View`, writes the :class:`Action` in the words below, keeps its own counters in `memory`, and
returns nothing.  It is asked at every arrival, completion, failure and timer while requests wait, once for each idle
server in turn (again, if all it did was drop), and once per batch where servers are unlimited.  It sees nothing of
requests that have not arrived.  The loop checks each action on its own books and raises
:class:`queueing.run.PolicyBreach`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from queueing.compilation import kernel
from queueing.one_shot.pool import Pool
from queueing.policy import HasBody, NoMemory, Plan

__all__ = [
    "Action",
    "OneShotPolicy",
    "View",
    "decide",
    "drop",
    "head_deadline",
    "run",
    "take",
    "take_first",
    "wait_until",
    "waiting",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TAKEN, CONFIGURATION, DROPPED = range(3)  # cells of an action's `counts`


class View(NamedTuple):
    """What a policy may know when a server asks; the arrays are read-only.

    `queue`: ids that wait, by deadline if the policy is `by_deadline`, else by arrival (ties by id).
    `arrival`, `deadline`, `kind`: per request id, inf, inf and -1 before its arrival.
    `server`: the idle server that asks, `held` the configuration it holds (-1: none); 0 and -1 if they are unlimited.
    `idle`, `alive`: servers that are idle, and that have not failed (0 if unlimited).
    `arrived`: requests that have arrived so far.
    `seconds`, `value`, `switch`: the table of the pool, its worth and its loading times.
    """

    now: float
    queue: Ints
    arrival: Floats
    deadline: Floats
    kind: Ints
    server: int
    held: int
    idle: int
    alive: int
    arrived: int
    seconds: Floats
    value: Floats
    switch: Floats


class Action(NamedTuple):
    """What is asked for: requests of one batch, its configuration, requests to drop, and when to be asked again."""

    taken: Ints
    dropped: Ints
    counts: Ints
    until: Floats


@kernel
def waiting(view: View) -> int:
    """How many requests wait."""
    return len(view.queue)


@kernel
def head_deadline(view: View) -> float:
    """Deadline of the first in the queue: the least of all if the queue is by deadline; s."""
    return view.deadline[view.queue[0]]  # pyright: ignore[reportReturnType]


@kernel
def take(view: View, action: Action, r: int) -> None:
    """Put request `r` into the batch."""
    n = action.counts[TAKEN]
    if n < len(action.taken):
        action.taken[n] = r
    action.counts[TAKEN] = n + 1


@kernel
def take_first(view: View, action: Action, b: int) -> int:
    """Put the first `b` of the queue, or all if fewer wait, into the batch; how many those are."""
    b = min(b, len(view.queue))
    for i in range(b):
        take(view, action, view.queue[i])
    return b


@kernel
def run(action: Action, configuration: int) -> None:
    """Execute the batch under this configuration; 0 if none is named."""
    action.counts[CONFIGURATION] = configuration


@kernel
def drop(view: View, action: Action, r: int) -> None:
    """Give up request `r`."""
    n = action.counts[DROPPED]
    if n < len(action.dropped):
        action.dropped[n] = r
    action.counts[DROPPED] = n + 1


@kernel
def wait_until(action: Action, t: float) -> None:
    """Ask again at `t` (s, later than now) at the latest."""
    action.until[0] = min(action.until[0], t)


def decide(function: Callable[[Any, Any, View, Action], None]) -> Plan:
    """Mark `function(p, memory, view, action)` as the body of the one-shot policy it stands in."""
    return Plan(function)


class OneShotPolicy(HasBody):
    """Base of every one-shot policy: a frozen dataclass of parameters with one function marked :func:`decide`.

    `by_deadline`: whether its queue is in order of deadlines rather than of arrival.
    `source`: where the policy is defined.
    """

    __slots__ = ()
    by_deadline: ClassVar[bool] = False
    source: ClassVar[str] = ""

    def prepare(self, pool: Pool) -> NamedTuple:
        """Return fresh memory for one run: what the policy derives from the profile of the pool, and its counters."""
        del pool
        return NoMemory(np.zeros(1, np.int64))
