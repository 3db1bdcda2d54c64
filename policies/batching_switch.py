"""Exclusive or mixed batching, whichever costs less per request at the number that is there (arXiv 2606.00516)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.admission import WHOLE_PROMPT, Admission, admit_whole_prompts, spare_blocks
from policies.parameters import require_choice, require_counts
from queueing.policy import Facts, Policy, active, plan, serve_decodes, tokens_used

__all__ = ["BatchingSwitch", "SawtoothMemory"]


class SawtoothMemory(NamedTuple):
    """What the sawtooth keeps between batches."""

    filled: NDArray[np.int64]  # [1] active requests when the last refill ended
    refilling: NDArray[np.int64]  # [1] 1 while prompts are taken in


@dataclass(frozen=True, slots=True)
class BatchingSwitch(Policy):
    """Sawtooth or replacement: prompts wait until a share θ of the decodes are done, or take the free places at once.

    Algorithm, with D the decoding requests, W the waiting queue, N = min(|D| + |W|, `places`):
        mixed (N > `crossover`, or N <= `crossover` if `mixed_first`):
            one token for every request of D;  beside them whole prompts of W, while they fit
        exclusive (else):
            once θ of those active after the last refill are done:  batches of whole prompts of W, while they fit
            until then:  one token for every request of D

    The cost of a request in exclusive batches less that in mixed ones is close to Δ(N) = X/N + Y, whose sign changes at
    most once in N (queueing.models.exclusive_batching gives θ and the crossover, and says where the exact cost
    changes more often).

    Assumptions:  for θ and the crossover: outputs of constant hazard, costs affine in prompts and decodes.
    Guarantee:    at most `places` requests are active, and an exclusive batch holds prompts or decodes (tested).
    Not promised: short gaps between tokens; that the cheaper kind at saturation is the better one below it.
    Args:
        theta: θ in (0, 1], the share of the active requests that complete before prompts are let in.
        crossover: number of requests N at which the kinds change places; 0 for one kind at every N.
        mixed_first: mixed batches up to the crossover and exclusive ones above it, not the other way round.
        places: most active requests.
        max_batched_tokens: most tokens in a batch with prompts, unless one prompt alone is longer.
        admission: rule by which KV memory is promised to a new prompt.
    Source: arXiv 2606.00516 (recalled); that N counts who waits, and the cap on the batch, are our reading.

    Example:
        >>> BatchingSwitch(crossover=0, mixed_first=True).facts.mixed  # exclusive at every N
        False
    """

    theta: float = 0.5
    crossover: int = 16
    mixed_first: bool = False
    places: int = 128
    max_batched_tokens: int = 8192
    admission: Admission = WHOLE_PROMPT

    def __post_init__(self) -> None:
        require_counts(self, "places", "max_batched_tokens")
        require_choice(self, "admission", Admission)
        if not isinstance(self.mixed_first, bool):
            raise ValueError(f"mixed_first of BatchingSwitch must be true or false, not {self.mixed_first!r}")
        if not 0 < self.theta <= 1:
            raise ValueError(f"theta of BatchingSwitch must be above 0 and at most 1, not {self.theta!r}")
        if isinstance(self.crossover, bool) or not isinstance(self.crossover, int) or self.crossover < 0:
            raise ValueError(
                f"crossover of BatchingSwitch must be an integer of at least 0, not {self.crossover!r}"
            )

    @property
    def facts(self) -> Facts:
        """In order of arrival; the kinds of batches, and with them the stalls, are those that the crossover allows."""
        never = self.mixed_first and self.crossover == 0
        always = self.crossover == 0 and not self.mixed_first
        return Facts(
            non_idling=True,
            fcfs=True,
            stall_free=always,
            mixed=not never,
            chunked=False,
            source="arXiv 2606.00516",
        )

    def init(self, requests: int) -> SawtoothMemory:
        """Return fresh memory: nothing was filled yet."""
        del requests
        return SawtoothMemory(np.zeros(1, np.int64), np.zeros(1, np.int64))

    @plan
    def batching_switch(p, memory, view, batch):
        """Mixed batches, or the two edges of the sawtooth."""
        cap = min(p.max_batched_tokens, view.max_tokens)
        n = min(len(view.running) + len(view.waiting), p.places)
        if (n > p.crossover) != p.mixed_first:
            serve_decodes(view, batch, view.max_tokens, spare_blocks(p.admission))
            admit_whole_prompts(p.admission, view, batch, cap, p.places)
            memory.filled[0] = active(view, batch)
            return
        if (
            memory.filled[0] - len(view.running) >= p.theta * memory.filled[0] - 1e-9
        ):  # nine tenths of ten are nine
            memory.refilling[0] = 1
        if memory.refilling[0] == 1:
            admit_whole_prompts(p.admission, view, batch, cap, p.places)
            memory.filled[0] = active(view, batch)
        if tokens_used(batch) == 0:
            memory.refilling[0] = 0
            serve_decodes(view, batch, view.max_tokens, spare_blocks(p.admission))
