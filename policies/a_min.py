"""A_min: scheduling by lower bounds on the output, raised as tokens appear (arXiv 2508.14544)."""

from __future__ import annotations

from dataclasses import dataclass

from policies.admission import bound_left, within_peak
from queueing.policy import (
    NONE,
    Batch,
    Facts,
    Policy,
    View,
    admit,
    free_blocks,
    is_decoding,
    is_preempted,
    kernel,
    next_block,
    plan,
    preempt,
    prompt_if_admitted,
    take_decode,
    tokens_used,
)

__all__ = ["AMin"]


@dataclass(frozen=True, slots=True)
class AMin(Policy):
    """Trusts the least an output can be: admits by it, and evicts by it when it proves too little.

    Notation: u_r announced output tokens of r, l_r = max(⌈α·u_r⌉, tokens decoded) the lower bound, M the KV memory.
    Algorithm:
        while the tokens of the next iteration exceed M:  evict the request of D with the least l_r, the latest if equal
        one token for every request left in D
        if nobody was evicted:  for r in W, by l_r:
            P := most tokens ever held by D, what this batch admits, and r, if each ends at its bound
            if P > M:  stop
            admit r, prefill its whole prompt

    Assumptions:  outputs are between α·u and u; whole prompts fit in a batch.
    Guarantee:    for requests all there at the beginning and rounds of one unit, the sum of completion times is within
                  a factor O(log 1/α) of the best, where reserving u loses polynomially in 1/α (cited: arXiv
                  2508.14544, recalled).
    Not promised: that nothing is preempted, short gaps between tokens, or a bound on anybody's wait.
    Args:
        share: α in (0, 1], the least share of the announcement that an output takes; 1 trusts it, as MC-SF does.
    Source: arXiv 2508.14544, algorithm A_min (recalled).  Here an evicted request keeps its tokens and recomputes
    their KV entries, where the source starts it again; that none is admitted while one is evicted is our reading.

    Example:
        >>> AMin(share=0.5).name
        'AMin(share=0.5)'
    """

    share: float = 0.25

    def __post_init__(self) -> None:
        if isinstance(self.share, bool) or not isinstance(self.share, int | float) or not 0 < self.share <= 1:
            raise ValueError(f"share of AMin must be above 0 and at most 1, not {self.share!r}")

    @property
    def facts(self) -> Facts:
        """Mixed batches of decodes and whole prompts, out of order."""
        return Facts(
            non_idling=True, fcfs=False, stall_free=True, mixed=True, chunked=False, source="arXiv 2508.14544"
        )

    @plan
    def a_min(p, memory, view, batch):
        """Evict from below until the next tokens fit; decode; admit from below while the peak fits."""
        evicted = make_room(view, batch, p.share)
        for r in view.running:
            if is_decoding(view, r) and not is_preempted(batch, r):
                take_decode(view, batch, r)
        bound, place = 0, -1
        while not evicted:
            bound, place = next_bound(view, p.share, bound, place)
            if place == NONE:
                break
            r = view.waiting[place]
            if tokens_used(batch) + prompt_if_admitted(view, r) > view.max_tokens:
                break
            if not within_peak(view, batch, r, p.share):
                break
            admit(view, batch, r, prompt_if_admitted(view, r), prompt_if_admitted(view, r))


@kernel
def lower_bound(view: View, r: int, share: float) -> int:
    """l_r: the least number of output tokens that `r` can come to."""
    return bound_left(view, r, share) + view.decoded[r]


@kernel
def make_room(view: View, batch: Batch, share: float) -> bool:
    """Evict requests of the least bound, the latest of equals, until every other has its next block; say if any was."""
    evicted = False
    while True:
        needed = 0
        least = NONE
        for r in view.running:
            if is_preempted(batch, r):
                continue
            if is_decoding(view, r):
                needed += next_block(view, r)
            if least == NONE or lower_bound(view, r, share) <= lower_bound(view, least, share):
                least = r
        if needed <= free_blocks(batch):
            return evicted
        preempt(view, batch, least)
        evicted = True


@kernel
def next_bound(view: View, share: float, bound: int, place: int) -> tuple[int, int]:
    """The least (bound, place in the queue) of a waiting request above the one given; (0, NONE) if there is none."""
    best, found = 0, NONE
    for k in range(len(view.waiting)):
        least = lower_bound(view, view.waiting[k], share)
        if (least > bound or (least == bound and k > place)) and (found == NONE or least < best):
            best, found = least, k
    return best, found
