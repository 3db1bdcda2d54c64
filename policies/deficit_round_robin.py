"""Deficit round robin among clients, adapted to token service (Shreedhar and Varghese 1995; as in VTC's artifact)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.admission import ANNOUNCED_LENGTH, Admission, start
from policies.counters import cost_of, weight
from policies.packing import decode_all, may_look_for_work, start_artifact
from policies.parameters import require_choice, require_counts, require_weights
from queueing.batch import NONE, VICTIMS
from queueing.cost import TOKENS, Cost
from queueing.policy import Batch, Facts, Policy, View, active, kernel, plan, prompt_if_admitted, tokens_used

__all__ = ["DeficitMemory", "DeficitRoundRobin"]

Ints, Floats = NDArray[np.int64], NDArray[np.float64]


class DeficitMemory(NamedTuple):
    """What the round robin keeps; [clients] and [requests] are arrays of one length, above every id."""

    deficit: Floats  # [clients] service that a client may still get; negative is debt
    ring: Ints  # [clients] the active clients in turn, a circular list
    active: Ints  # [clients] whether it is in the ring
    head: Ints  # [clients] first waiting request, or NONE
    tail: Ints  # [clients]
    behind: Ints  # [requests] next waiting request of the same client, or NONE
    state: Ints  # [requests] 0 unknown, 1 waiting, 2 admitted once
    charged: Ints  # [requests] output tokens accounted for
    numbers: Ints  # [FIRST, LENGTH, MISFIT, STEPS]


FIRST, LENGTH, MISFIT = (
    0,
    1,
    2,
)  # where the ring begins; clients in it; the last client whose head did not fit


@dataclass(frozen=True, slots=True)
class DeficitRoundRobin(Policy):
    """Fair scheduler without an order of counters: clients take turns, each with a quantum of service.

    Notation: d_u the deficit of client u, the active list of clients in turn.
    Algorithm:
        on arrival at u not in the list:  append u
        between two batches, while the list is nonempty:
            u := its first;  if a request of u did not fit, and meanwhile d_u <= 0, its turn is over: move it to the end
            if d_u <= 0:  d_u += quantum
            while d_u > 0 and u has a waiting request r:
                if r does not fit:  u stays first, remember it, stop
                admit r;  d_u -= h(p, 0)/f_u
            put u to the end if a request of it waits or d_u < 0, else take it off the list
        for every output token j of the last batch:  d_u -= (h(p, j) - h(p, j - 1))/f_u
    Pure batches, as in VTC.

    Assumptions:  none on lengths; admission that reserves the whole output, lest the latest be preempted.
    Guarantee:    admissions within a client are in order of arrival; two clients with requests waiting all through a
                  window differ in service by at most 2·quantum + U* + max(quantum, U*), with linear costs, equal
                  weights and whole reservation (our derivation; queueing.proofs.deficit_round_robin).
    Not promised: that bound with `artifact`, whose turns go on at d_u = 0, so that a client may keep its turn for ever.
    Args:
        quantum: service that a turn adds (in units of h); the artifact takes a twentieth of the memory's tokens.
        cost: h.
        weights: share of each client by its id, the last for all further ones.
        max_num_seqs: most requests that may hold KV blocks.
        admission: rule by which KV memory is promised to a new prompt.
        artifact: look for prompts, and fit them into memory, as the VTC authors' server does (policies.packing).
    Source: Shreedhar and Varghese, SIGCOMM 1995; the adaptation of Ying1123/VTC-artifact.

    Example:
        >>> DeficitRoundRobin(quantum=100.0).name
        'DeficitRoundRobin(quantum=100.0)'
    """

    quantum: float = 500.0
    cost: Cost = TOKENS
    weights: tuple[float, ...] = (1.0,)
    max_num_seqs: int = 1000
    admission: Admission = ANNOUNCED_LENGTH
    artifact: bool = False

    def __post_init__(self) -> None:
        require_counts(self, "max_num_seqs")
        require_choice(self, "admission", Admission)
        require_weights(self, "weights")
        if not 1 <= self.quantum < np.inf:
            raise ValueError(
                f"quantum of DeficitRoundRobin must be at least 1 and finite, not {self.quantum!r}"
            )

    @property
    def facts(self) -> Facts:
        """Pure batches, out of order between clients."""
        return Facts(
            non_idling=True,
            fcfs=False,
            stall_free=False,
            mixed=False,
            chunked=False,
            source="SIGCOMM 1995; VTC-artifact",
        )

    def init(self, requests: int) -> DeficitMemory:
        """Return fresh memory: an empty list, no deficits."""
        numbers = np.zeros(4, np.int64)
        numbers[MISFIT] = NONE

        def ints(value: int = 0) -> Ints:
            return np.full(requests, value, np.int64)

        return DeficitMemory(
            np.zeros(requests), ints(), ints(), ints(NONE), ints(NONE), ints(NONE), ints(), ints(), numbers
        )

    @plan
    def deficit_round_robin(p, memory, view, batch):
        """Charge, queue, and let clients take turns."""
        charge(p, memory, view)
        queue_arrivals(memory, view)
        if may_look_for_work(p.artifact, memory.numbers, view):
            take_turns(p, memory, view, batch)
        decode_all(p.admission, memory.numbers, view, batch)
        for k in range(batch.count[VICTIMS]):
            r = batch.victim[k]
            u = view.client[r]
            memory.behind[r] = memory.head[u]
            memory.head[u] = r
            if memory.behind[r] == NONE:
                memory.tail[u] = r
            append(memory, u)


@kernel
def charge(p, memory: DeficitMemory, view: View) -> None:
    """Take the output tokens of the last batch off the deficits."""
    for r in view.served:
        u = view.client[r]
        prompt = view.prompt[r] - view.recomputed[r]
        more = cost_of(p.cost, prompt, view.decoded[r]) - cost_of(p.cost, prompt, memory.charged[r])
        memory.deficit[u] -= more / weight(p, u)
        memory.charged[r] = view.decoded[r]


@kernel
def queue_arrivals(memory: DeficitMemory, view: View) -> None:
    """Queue who came since the last batch."""
    k = len(view.waiting)
    while k > 0 and memory.state[view.waiting[k - 1]] == 0:
        k -= 1
    for i in range(k, len(view.waiting)):
        r = view.waiting[i]
        u = view.client[r]
        memory.state[r] = 1
        if memory.head[u] == NONE:
            memory.head[u] = r
        else:
            memory.behind[memory.tail[u]] = r
        memory.tail[u] = r
        append(memory, u)


@kernel
def append(memory: DeficitMemory, u) -> None:
    """Put client `u` at the end of the list, unless it is in it."""
    if memory.active[u] == 0:
        end = (memory.numbers[FIRST] + memory.numbers[LENGTH]) % len(memory.ring)
        memory.ring[end] = u
        memory.active[u] = 1
        memory.numbers[LENGTH] += 1


@kernel
def take_first(memory: DeficitMemory):
    """Take the first client off the list."""
    u = memory.ring[memory.numbers[FIRST]]
    memory.numbers[FIRST] = (memory.numbers[FIRST] + 1) % len(memory.ring)
    memory.numbers[LENGTH] -= 1
    memory.active[u] = 0
    return u


@kernel
def put_first(memory: DeficitMemory, u) -> None:
    """Put client `u` back at the front of the list."""
    memory.numbers[FIRST] = (memory.numbers[FIRST] - 1) % len(memory.ring)
    memory.ring[memory.numbers[FIRST]] = u
    memory.numbers[LENGTH] += 1
    memory.active[u] = 1


@kernel
def take_turns(p, memory: DeficitMemory, view: View, batch: Batch) -> None:
    """Admit until a head does not fit or nobody is left in the list."""
    while memory.numbers[LENGTH] > 0:
        u = take_first(memory)
        used_up = memory.deficit[u] < 0 or (memory.deficit[u] == 0 and not p.artifact)
        if u == memory.numbers[MISFIT] and used_up:
            memory.numbers[MISFIT] = NONE
            append(memory, u)
            continue
        if memory.deficit[u] <= 0:
            memory.deficit[u] += p.quantum
        while memory.deficit[u] > 0 and memory.head[u] != NONE:
            r = memory.head[u]
            if not admit_head(p, view, batch, r):
                memory.numbers[MISFIT] = u
                put_first(memory, u)
                return
            if memory.state[r] == 1:
                prompt = view.prompt[r] - view.recomputed[r]
                memory.deficit[u] -= cost_of(p.cost, prompt, 0) / weight(p, u)
            memory.state[r] = 2
            memory.head[u] = memory.behind[r]
            memory.behind[r] = NONE
            if memory.numbers[MISFIT] == u and not p.artifact:
                memory.numbers[MISFIT] = NONE
        if memory.head[u] != NONE or memory.deficit[u] < 0:
            append(memory, u)


@kernel
def admit_head(p, view: View, batch: Batch, r) -> bool:
    """Admit `r` with its whole prompt, if it fits and a place is free."""
    prompt = prompt_if_admitted(view, r)
    if active(view, batch) >= p.max_num_seqs or tokens_used(batch) + prompt > view.max_tokens:
        return False
    if p.artifact:
        return start_artifact(view, batch, r)
    return start(p.admission, view, batch, r, prompt) > 0
