"""Exact Markov chains of tiny serving systems, built by stepping the very policy functions, uncompiled.

Time is slotted: an iteration of n tokens takes `slots[n - 1]` slots (one, if no table is given), and at the end of each
slot at most one request arrives, of kind k (prompt, output) with probability p_k.  A request that finds `room` requests
in the system is lost; so the chain is finite, and the share of time at `room` says how far it is from the system
without a bound.  KV memory is ample, and announced output lengths are the true ones.

A state is what is in the system between two batches, oldest first: (running, prompt tokens prefilled, tokens decoded,
kind) of each request, and the policy's memory.  The policy's own body plans a batch from its view of that state; the
batch is carried out; requests that have all their tokens leave.  While it runs others may arrive.

Only policies that look at neither the clock nor durations, and whose counters are bounded, have such a chain: SLAI
reads both, and RAD without cycles counts its prompts for ever.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import networkx as nx
import numpy as np

from queueing.batch import COUNTS, ENTRIES, FREE, VICTIMS, Batch, View
from queueing.models.stationary import certified_law
from queueing.policy import Policy
from queueing.proofs.exact_chain import StationaryLaw

__all__ = ["Kind", "SlottedSystem", "SystemState", "chain", "in_system", "mean_in_system"]

BLOCKS = 1 << 20
Row = tuple[bool, int, int, int]
Arrivals = dict[tuple[int, ...], Fraction]


class Kind(NamedTuple):
    """Requests of one kind: tokens in, tokens out, and the probability that one arrives in a slot."""

    prompt: int
    output: int
    probability: Fraction


class SystemState(NamedTuple):
    """Requests in the system, oldest first, each (running, prefilled, decoded, kind); and the policy's memory."""

    requests: tuple[Row, ...]
    memory: tuple[tuple[int, ...], ...]


Rows = dict[SystemState, dict[SystemState, Fraction]]


@dataclass(frozen=True, slots=True)
class SlottedSystem:
    """A slotted system: kinds of requests, room for so many, and how long a batch takes.

    `last_chunk_emits`, whether the last prompt chunk emits the first token; `slots`, how many a batch of 1, 2, ...
    tokens takes, larger batches being forbidden; () for one slot whatever it holds.

    Raises:
        ValueError: the kinds' probabilities are no sub-distribution, or a length, the room or a duration is below one.
    """

    kinds: tuple[Kind, ...]
    room: int
    last_chunk_emits: bool = True
    slots: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.room < 1 or any(kind.prompt < 1 or kind.output < 1 for kind in self.kinds):
            raise ValueError(
                "a slotted system needs room for a request, and prompts and outputs of at least one token"
            )
        if not all(isinstance(kind.probability, int | Fraction) for kind in self.kinds):
            raise ValueError("the probabilities of arrivals must be fractions, so that the law is exact")
        if any(kind.probability < 0 for kind in self.kinds) or sum(k.probability for k in self.kinds) > 1:
            raise ValueError("the probabilities of arrivals must be >= 0 and add up to at most 1")
        if any(slots < 1 for slots in self.slots):
            raise ValueError(f"a batch takes at least one slot, so the table cannot be {self.slots}")

    def duration(self, tokens: int) -> int:
        """Slots that a batch of so many tokens takes; with none, the one slot for which the node does nothing.

        Raises:
            ValueError: the batch is larger than the table allows.
        """
        if not self.slots or tokens == 0:
            return 1
        if tokens > len(self.slots):
            raise ValueError(f"a batch has {tokens} tokens where {len(self.slots)} are allowed")
        return self.slots[tokens - 1]

    def arrivals(
        self, present: int, left: int, slots: int
    ) -> tuple[dict[tuple[int, ...], Fraction], Fraction]:
        """Law of who arrives, kinds in order, during a batch that begins with `present` requests and ends with `left`.

        And the mean number of requests in the system at the beginning of each of its slots, added up.
        """
        law: Arrivals = {(): Fraction(1)}
        held = Fraction(0)
        for slot in range(1, slots + 1):
            held += sum(p * (present + len(arrived)) for arrived, p in law.items())
            here = left if slot == slots else present  # who is done leaves before somebody arrives
            after: defaultdict[tuple[int, ...], Fraction] = defaultdict(Fraction)
            for arrived, p in law.items():
                free = here + len(arrived) < self.room
                for k, kind in enumerate(self.kinds):
                    if free and kind.probability:
                        after[*arrived, k] += p * kind.probability
                coming = sum(kind.probability for kind in self.kinds) if free else Fraction(0)
                if coming < 1:
                    after[arrived] += p * (1 - coming)
            law = dict(after)
        return law, held

    def step(self, policy: Policy, state: SystemState) -> tuple[SystemState, int]:
        """The state after the next batch if nobody arrives, and the slots it takes."""
        fresh: Any = policy.init(self.room)
        columns = [np.array(values, array.dtype) for values, array in zip(state.memory, fresh, strict=True)]
        memory = type(fresh)(*columns)
        requests = list(state.requests)
        tokens = 0
        if requests:
            batch = _empty_batch(self.room)
            policy.body.python(policy, memory, self._view(state.requests), batch)
            if int(batch.count[VICTIMS]) or not int(batch.count[ENTRIES]):
                raise ValueError(
                    f"{policy.name} holds or preempts, which a slotted system without memory limits excludes"
                )
            for e in range(int(batch.count[ENTRIES])):
                r, q = int(batch.request[e]), int(batch.tokens[e])
                tokens += q
                _, prefilled, decoded, kind = requests[r]
                if prefilled < self.kinds[kind].prompt:
                    prefilled += q
                    decoded += prefilled == self.kinds[kind].prompt and self.last_chunk_emits
                else:
                    decoded += 1
                requests[r] = (True, prefilled, int(decoded), kind)
        left = tuple(row for row in requests if row[2] < self.kinds[row[3]].output)
        return SystemState(left, _frozen(memory)), self.duration(tokens)

    def _view(self, requests: Sequence[Row]) -> View:
        """What a server may know of the state; every array read-only."""
        prompts = [self.kinds[kind].prompt for _, _, _, kind in requests]
        announced = [self.kinds[kind].output for _, _, _, kind in requests]
        emitted = 1 if self.last_chunk_emits else 0
        context = [p + max(d - emitted, 0) if p else 0 for _, p, d, _ in requests]
        n = len(requests)

        def column(values: Sequence[Any], kind: str = "i8") -> Any:
            array = np.array(values, kind)
            array.flags.writeable = False
            return array

        zeros = column([0] * n)
        return View(
            now=0.0, iteration=0, last_seconds=1.0,
            waiting=column([r for r, row in enumerate(requests) if not row[0]], "u4"),
            running=column([r for r, row in enumerate(requests) if row[0]], "u4"),
            served=column([], "u4"), served_tokens=column([]), arrival=column([0.0] * n, "f8"), prompt=column(prompts),
            prefilled=column([row[1] for row in requests]), decoded=column([row[2] for row in requests]),
            recomputed=zeros, client=zeros, tbt=column([math.inf] * n, "f8"), predicted=column(announced),
            last_token=column([math.nan] * n, "f8"), blocks=column([c if row[0] else 0 for c, row in
                                                                    zip(context, requests, strict=True)]),
            context=column(context), free_blocks=BLOCKS, total_blocks=BLOCKS, block_size=1, watermark=1,
            max_length=1 << 10, max_running=self.room, max_tokens=1 << 20,
        )  # fmt: skip


def chain(system: SlottedSystem, policy: Policy, most: int = 5000) -> StationaryLaw:
    """The chain of a policy on a slotted system from batch to batch, with its stationary law, certified.

    With one slot per batch that is the law over time; else :func:`mean_in_system` weighs the batches by their slots.

    Raises:
        ValueError: the policy's memory holds no whole numbers, its batch is too large, or more than `most` states are
            reached.
    """
    start = SystemState((), _frozen(policy.init(system.room)))
    rows: Rows = {}
    stack = [start]
    while stack:
        state = stack.pop()
        if state in rows:
            continue
        if len(rows) == most:
            raise ValueError(f"more than {most} states are reached; give less room or fewer kinds")
        after, slots = system.step(policy, state)
        arrivals, _ = system.arrivals(len(state.requests), len(after.requests), slots)
        row: dict[SystemState, Fraction] = {}
        for arrived, p in arrivals.items():
            new = tuple((False, 0, 0, k) for k in arrived)
            row[SystemState(after.requests + new, after.memory)] = p
        rows[state] = row
        stack += row
    return certified_law(_recurrent(rows))


def in_system(law: StationaryLaw) -> Mapping[SystemState, Fraction]:
    """Number of requests in each state, to average."""
    return {state: Fraction(len(state.requests)) for state in law.transitions}


def mean_in_system(system: SlottedSystem, policy: Policy, most: int = 5000) -> Fraction:
    """Number of requests in the system at the beginning of a slot, averaged over time, exactly (renewal-reward).

    Raises:
        ValueError: as for :func:`chain`.
    """
    law = chain(system, policy, most)
    held: dict[SystemState, Fraction] = {}
    slots: dict[SystemState, Fraction] = {}
    for state in law.transitions:
        after, taken = system.step(policy, state)
        slots[state] = Fraction(taken)
        _, held[state] = system.arrivals(len(state.requests), len(after.requests), taken)
    return law.mean(held) / law.mean(slots)


def _recurrent(rows: Rows) -> Rows:
    """The states that the empty system comes back to."""
    graph: Any = nx.DiGraph([(s, t) for s, row in rows.items() for t in row])
    last = next(iter(nx.attracting_components(graph)))
    return {s: row for s, row in rows.items() if s in last}


def _empty_batch(room: int) -> Batch:
    count = np.zeros(COUNTS, np.int64)
    count[FREE] = BLOCKS
    ids, tokens = np.zeros(room + 1, np.uint32), np.zeros(room + 1, np.int64)
    return Batch(ids, tokens, tokens.copy(), ids.copy(), count, np.full(1, math.nan))


def _frozen(memory: Any) -> tuple[tuple[int, ...], ...]:
    if any(array.dtype.kind != "i" for array in memory):
        raise ValueError("a policy that remembers times or durations has no finite chain here")
    return tuple(tuple(int(v) for v in array) for array in memory)
