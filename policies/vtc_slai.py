"""VTC over SLAI's batches: deadlines decide which decodes run now, counters decide whose prompt is next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.admission import Admission, spare_blocks
from policies.counters import arrivals, counters, put_back, settle
from policies.packing import Packing
from policies.slai import Slai, critical_decodes, queue_decodes, serve_by_deadline, set_last_schedulable_times
from policies.vtc import Vtc, admit_fairly
from queueing.policy import Facts, Policy, is_decoding, is_preempted, plan, take_chunk, tokens_used

__all__ = ["VtcSlai", "VtcSlaiMemory"]

MIXED_TURNS, SLAI = Vtc(packing=Packing.MIXED), Slai()

Ints, Floats = NDArray[np.int64], NDArray[np.float64]


class VtcSlaiMemory(NamedTuple):
    """The counters of policies.counters, and what SLAI keeps (policies.slai)."""

    counter: Floats
    heap: Ints
    key: Floats
    place: Ints
    head: Ints
    tail: Ints
    seen: Ints
    average: Floats
    behind: Ints
    state: Ints
    charged: Ints
    supposed: Floats
    numbers: Ints
    lst: Floats
    queue: Ints
    busy: Floats
    batches: Ints


@dataclass(frozen=True, slots=True)
class VtcSlai(Policy):
    """Fair scheduler with deadlines: SLAI's steps, with the waiting prompts in VTC's order.

    Algorithm:
        1. decodes past their last schedulable time;  2. started prompts, in chunks;
        3. while tokens are left: u := the client of Q with the least counter;  its first request, if it fits, in chunks
        4. the other decodes, in order of their last schedulable times, in what is left
    Charges and lifts are VTC's: the whole prompt on admission, a token when it is decoded.

    Assumptions:  as for VTC and SLAI.
    Guarantee:    every admission is that of the client with the least counter, so that VTC's bounds on service hold,
                  a prompt counted whole when it is admitted (our derivation; tested by refinement).
    Not promised: SLAI's deadlines: who is next may have the longest prompt.
    Args:
        turns: VTC with MIXED packing; its lift, predictor, cost, weights and admission hold, its budget does not.
        batches: SLAI; its order and admission do not hold.
    Source: arXiv 2401.00588 (counters) and arXiv 2508.01002 (batches); the combination is our derivation.

    Example:
        >>> VtcSlai(batches=Slai(token_budget=256)).facts.mixed
        True
    """

    turns: Vtc = MIXED_TURNS
    batches: Slai = SLAI

    def __post_init__(self) -> None:
        if self.turns.artifact or self.turns.packing != Packing.MIXED:
            raise ValueError(
                "VtcSlai admits prompts beside decodes: give turns=Vtc(packing=MIXED), not the artifact"
            )

    @property
    def admission(self) -> Admission:
        """Rule by which KV memory is promised to a new prompt: that of the turns."""
        return self.turns.admission

    @property
    def facts(self) -> Facts:
        """Mixed batches, out of order, and decodes that wait."""
        return Facts(
            non_idling=True,
            fcfs=False,
            stall_free=False,
            mixed=True,
            chunked=True,
            source="arXiv 2401.00588; arXiv 2508.01002",
        )

    def init(self, requests: int) -> VtcSlaiMemory:
        """Return fresh memory: nobody seen, no batch yet."""
        return VtcSlaiMemory(*counters(requests), *self.batches.init(requests))

    @plan
    def vtc_slai(p, memory, view, batch):
        """SLAI's steps, the order of admission VTC's."""
        settle(p.turns, memory, view)
        arrivals(p.turns, memory, view)
        slai = p.batches
        spare = spare_blocks(p.turns.admission)
        budget = min(slai.token_budget, view.max_tokens)
        set_last_schedulable_times(slai, memory, view)
        waiting_decodes = queue_decodes(memory, view)
        critical = critical_decodes(memory, view, waiting_decodes)
        k, decodes = serve_by_deadline(slai, memory, view, batch, spare, 0, 0, critical)
        for r in view.running:
            if not is_decoding(view, r) and not is_preempted(batch, r):
                take_chunk(view, batch, r, budget - tokens_used(batch))
        admit_fairly(p.turns, memory, view, batch, budget, slai.max_num_seqs)
        serve_by_deadline(slai, memory, view, batch, spare, k, decodes, waiting_decodes)
        put_back(p.turns, memory, view, batch)
