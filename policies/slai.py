"""SLAI: last schedulable times for decodes, shortest prompt first for the rest (Bari, Hegde, de Veciana, 2025).

Notation: `LST` last schedulable time of a decode (s); `TBT_i` limit of request i on the time between tokens (s);
`bbar` running mean of the durations of all batches so far (s); `Theta` safety offset (batches); `B` token budget.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.admission import WHOLE_PROMPT, Admission, spare_blocks, start
from policies.parameters import require_choice, require_counts, require_positive
from queueing.policy import (
    NONE,
    SPF,
    Batch,
    Facts,
    Order,
    Policy,
    View,
    active,
    has_slot,
    is_decoding,
    is_preempted,
    is_served,
    kernel,
    next_waiting,
    plan,
    preempt,
    take_chunk,
    take_decode,
    tokens_used,
)

__all__ = ["Slai", "SlaiMemory"]


class SlaiMemory(NamedTuple):
    """What SLAI keeps between batches."""

    lst: NDArray[np.float64]  # [n] last schedulable time of each decode (s)
    queue: NDArray[np.int64]  # [n] the decoding requests by (LST, arrival), rebuilt at every step
    busy: NDArray[np.float64]  # [1] total duration of all batches so far (s)
    batches: NDArray[np.int64]  # [1] how many


@dataclass(frozen=True, slots=True)
class Slai(Policy):
    """SLO-aware scheduler: a decode may wait until its last schedulable time, and prompts use the tokens it leaves.

    Algorithm: when a batch that gave request i a token (or the last chunk of its prompt) ends at time e,
        Theta := above_offset if the used share of KV blocks >= memory_limit, else below_offset
        LST_i := e + TBT_i - Theta * bbar                                                          (eq. 8)
    and LST_i then stays as it is until i is served again.  The next batch takes, up to B tokens in all:
      1. critical decodes, those with now >= LST, least LST first;  2. the prompt already started;
      3. the waiting requests, sorted by `order`;  4. new prompts in that order, until the head does not fit;
      5. the other decodes, least LST first.
    Memory: a decode asks for a free KV block; while there is none, the last started and unfinished prompt is preempted,
    and if there is none, the decode itself.

    Assumptions:  TBT_i well above bbar; batch durations that vary slowly, so that their mean since the start predicts.
    Guarantee:    without waiting or unfinished prompts every decode runs in every batch (tested).  Published: median
                  time to first token 53 % below Sarathi-Serve's, capacity at a median below 0.5 s 26 % above it
                  (cited: abstract of arXiv 2508.01002; the load of the first is not stated there).
    Not promised: that a TBT limit is met (the offset is a heuristic margin); progress of long prompts, which SPF can
                  starve at high load; stability up to the capacity.
    Args:
        token_budget: B, most tokens in a batch, prompt chunks and decodes together.
        max_num_seqs: most requests that may hold KV blocks.
        limit_total_decodes: most decodes in a batch.
        time_between_tokens: TBT_i of a request that names none (s).
        order: FIFO, SPF, or STRICT_SPF (requests with `tbt <= strict_tbt` first), applied at every step.
        fixed_offset: Theta is `below_offset` whatever the memory does; the authors' fixed settings put 10 there.
        below_offset, above_offset: Theta below `memory_limit` and from it on (batches).
        memory_limit: share of KV blocks in use at which Theta changes.
        strict_tbt: largest limit that counts as strict under STRICT_SPF (s).
        admission: rule by which KV memory is promised to a new prompt.
    Source: Bari, Hegde, de Veciana, arXiv 2508.01002, section 6, as coded in agrimUT/SLAI.

    Example:
        >>> Slai().name, Slai(below_offset=10, fixed_offset=True).name
        ('Slai', 'Slai(fixed_offset=True, below_offset=10)')
        >>> Slai(order=SPF).facts.fcfs
        False
    """

    token_budget: int = 512
    max_num_seqs: int = 128
    limit_total_decodes: int = 128
    time_between_tokens: float = 0.2
    order: Order = SPF
    fixed_offset: bool = False
    below_offset: float = 5.0
    above_offset: float = 10.0
    memory_limit: float = 0.96
    strict_tbt: float = 0.1
    admission: Admission = WHOLE_PROMPT

    def __post_init__(self) -> None:
        require_counts(self, "token_budget", "max_num_seqs", "limit_total_decodes")
        require_positive(self, "time_between_tokens", "memory_limit", "strict_tbt")
        require_choice(self, "order", Order)
        require_choice(self, "admission", Admission)
        for name in ("below_offset", "above_offset"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} of Slai must be zero or more, not {getattr(self, name)!r}")

    @property
    def facts(self) -> Facts:
        """Decodes wait behind prompts, so nothing is stall-free; the order of admission is a parameter."""
        return Facts(
            non_idling=True,
            fcfs=self.order == Order.FIFO,
            stall_free=False,
            mixed=True,
            chunked=True,
            source="arXiv 2508.01002, section 6; agrimUT/SLAI",
        )

    def init(self, requests: int) -> SlaiMemory:
        """Return fresh memory: no batch seen, no decode queued."""
        return SlaiMemory(
            np.zeros(requests), np.zeros(requests, np.int64), np.zeros(1), np.zeros(1, np.int64)
        )

    @plan
    def slai(p, memory, view, batch):
        """The steps 0 to 5 of the authors' code."""
        spare = spare_blocks(p.admission)
        budget = min(p.token_budget, view.max_tokens)
        set_last_schedulable_times(p, memory, view)
        waiting_decodes = queue_decodes(memory, view)

        critical = critical_decodes(memory, view, waiting_decodes)
        k, decodes = serve_by_deadline(p, memory, view, batch, spare, 0, 0, critical)
        for r in view.running:  # at most one: a chunk ends before its prompt only where the budget does
            if not is_decoding(view, r) and not is_preempted(batch, r):
                take_chunk(view, batch, r, budget - tokens_used(batch))
        while tokens_used(batch) < budget and active(view, batch) < p.max_num_seqs:
            r = next_waiting(view, batch, p.order, p.strict_tbt)
            if r == NONE or start(p.admission, view, batch, r, budget - tokens_used(batch)) == 0:
                break
        serve_by_deadline(p, memory, view, batch, spare, k, decodes, waiting_decodes)


@kernel
def set_last_schedulable_times(p, memory: SlaiMemory, view: View) -> None:
    """Step 0: the mean takes in the batch that just ended, and every decode it served gets a new LST."""
    if view.iteration > memory.batches[0]:
        memory.batches[0] = view.iteration
        memory.busy[0] += view.last_seconds
    if view.iteration == 0:
        return
    bbar = memory.busy[0] / view.iteration
    used = (view.total_blocks - view.free_blocks) / view.total_blocks
    theta = p.below_offset if p.fixed_offset or used < p.memory_limit else p.above_offset
    for i in view.served:
        if is_decoding(view, i):
            tbt = view.tbt[i] if view.tbt[i] < math.inf else p.time_between_tokens
            memory.lst[i] = view.now + tbt - theta * bbar


@kernel
def queue_decodes(memory: SlaiMemory, view: View) -> int:
    """Sort the decoding requests by (LST, arrival) into `memory.queue`; return how many there are."""
    queue = memory.queue
    length = 0
    for r in view.running:  # in order of arrival, so that strict comparison keeps ties in it
        if is_decoding(view, r):
            j = length
            while j > 0 and memory.lst[queue[j - 1]] > memory.lst[r]:
                queue[j] = queue[j - 1]
                j -= 1
            queue[j] = r
            length += 1
    return length


@kernel
def critical_decodes(memory: SlaiMemory, view: View, waiting_decodes: int) -> int:
    """How many decodes at the front of the queue are past their last schedulable time."""
    k = 0
    while k < waiting_decodes and view.now >= memory.lst[memory.queue[k]]:
        k += 1
    return k


@kernel
def serve_by_deadline(p, memory, view: View, batch: Batch, spare: int, k: int, decodes: int, until: int):
    """Steps 1 and 5: decode the queue from its k-th request on, `decodes` being served; return where both stand."""
    budget = min(p.token_budget, view.max_tokens)
    while k < until and tokens_used(batch) < budget and decodes < p.limit_total_decodes:
        decodes += decode_or_preempt(view, batch, memory.queue[k], spare)
        k += 1
    return k, decodes


@kernel
def decode_or_preempt(view: View, batch: Batch, r: int, spare: int) -> int:
    """Give `r` its token and return 1; without memory preempt the last started prompt, or else `r`, and return 0."""
    while not has_slot(view, batch, r, spare):
        victim = last_paused(view, batch)
        if victim == NONE:
            preempt(view, batch, r)
            return 0
        preempt(view, batch, victim)
    take_decode(view, batch, r)
    return 1


@kernel
def last_paused(view: View, batch: Batch) -> int:
    """The latest started prompt that is unfinished and not in this batch, or NONE."""
    for k in range(len(view.running) - 1, -1, -1):
        r = view.running[k]
        if not is_decoding(view, r) and not is_preempted(batch, r) and not is_served(batch, r):
            return r
    return NONE
