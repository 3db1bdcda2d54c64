"""RAD: resource-aware dynamic scheduling, full tiles and a threshold (Bari, Hegde, de Veciana, arXiv 2508.01002).

Notation: `b` tokens in the optimal tile (b_col); `D` decoding requests; `P` unfinished prompts, oldest first; `N`
prompts started per cycle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.admission import WHOLE_PROMPT, Admission, spare_blocks, start
from policies.parameters import require_choice, require_counts
from queueing.policy import (
    NONE,
    Batch,
    Facts,
    Policy,
    View,
    decodes_and_oldest_prompt,
    kernel,
    plan,
    serve_decodes,
    take_chunk,
)

__all__ = ["Rad", "RadMemory"]


class RadMemory(NamedTuple):
    """What RAD keeps between batches."""

    started: NDArray[np.int64]  # [1] prompts started in this cycle


@dataclass(frozen=True, slots=True)
class Rad(Policy):
    """Throughput-optimal scheduler: full tiles only, prefill and decode sharing the time by a threshold.

    Algorithm 1, at each batch boundary:
        if |D| = b, or P empty, or the cycle's N prompts are used up and D nonempty:
            one token of every request of D                                      (decode mode)
        else:
            the next `chunk` tokens of the oldest request of P                   (prefill mode)
    A cycle starts at most N prompts and ends when all it started are decoded.

    Assumptions:  1, 2 (our reading) Poisson arrivals, i.i.d. bounded sizes, output lengths unknown; 3 prompts are
                  multiples of `chunk`, the least common multiple of the three tile sides of the matrix products;
                  4 the KV memory holds b requests of the largest size; scheduling takes no time.
    Guarantee:    with N = inf and uniformly random routing, positive recurrent whenever lam * dbar < g, and for
                  lam * dbar > g no scheduler is stable (cited: theorems 1 and 2 of arXiv 2508.01002, from a secondary
                  source).  Here: every batch is a full chunk or all-decode, |D| <= b, at most one prompt partly
                  prefilled (tested).
    Not promised: any latency; optimality where prompts are ragged, memory forces recomputation, or the first tile does
                  not carry the cost: under the measured cost of docs/policies/rad.md mixed batches beat pure ones.
    Args:
        tile: b, the most decodes in a batch (tokens).
        chunk: prompt tokens of a prefill batch; a multiple of `tile` (see :meth:`for_tiles`).
        cycle: N, prompts started per cycle; inf for no cycles.
        admission: rule by which KV memory is promised to a new prompt; if it refuses, the batch decodes.
    Source: arXiv 2508.01002, algorithm 1; what a cycle does when a prompt is preempted is our derivation: its restart
    counts as a start.

    Example:
        >>> Rad.for_tiles(row=128, column=64, reduction=32)
        Rad(tile=64, chunk=128, cycle=inf, admission=WHOLE_PROMPT)
        >>> Rad(cycle=256).name
        'Rad(cycle=256)'
    """

    tile: int = 128
    chunk: int = 128
    cycle: float = math.inf
    admission: Admission = WHOLE_PROMPT

    def __post_init__(self) -> None:
        require_counts(self, "tile", "chunk")
        require_choice(self, "admission", Admission)
        if self.chunk % self.tile:
            raise ValueError(f"chunk of Rad must be a multiple of the tile of {self.tile}, not {self.chunk}")
        if not (self.cycle >= 1 and (math.isinf(self.cycle) or self.cycle == int(self.cycle))):
            raise ValueError(
                f"cycle of Rad must be a whole number of prompts, at least 1, or inf, not {self.cycle}"
            )

    @classmethod
    def for_tiles(cls, row: int, column: int, reduction: int, cycle: float = math.inf) -> Rad:
        """Return RAD for GEMM kernels with output tiles `row` x `column` and reduction tile `reduction` (tokens)."""
        return cls(tile=column, chunk=math.lcm(row, column, reduction), cycle=cycle)

    @property
    def facts(self) -> Facts:
        """Pure batches of chunks or decodes, in order of arrival."""
        return Facts(
            non_idling=True,
            fcfs=True,
            stall_free=False,
            mixed=False,
            chunked=True,
            source="arXiv 2508.01002, algorithm 1",
        )

    def init(self, requests: int) -> RadMemory:
        """Return fresh memory: a cycle that has started nothing."""
        del requests
        return RadMemory(np.zeros(1, np.int64))

    @plan
    def rad(p, memory, view, batch):
        """Decode when the tile is full, or nothing may be prefilled; else prefill."""
        tile = min(p.tile, view.max_tokens)
        if len(view.running) == 0:
            memory.started[0] = 0  # all that the cycle started is decoded: the next begins
        decoding, oldest = decodes_and_oldest_prompt(view)
        if decoding >= tile or oldest == NONE or not prefill(p, memory, view, batch, oldest):
            serve_decodes(view, batch, tile, spare_blocks(p.admission))


@kernel
def prefill(p, memory: RadMemory, view: View, batch: Batch, oldest: int) -> bool:
    """Give `oldest` its next chunk; False if it may not start, for want of memory or of a place in the cycle."""
    chunk = min(p.chunk, view.max_tokens)
    if view.blocks[oldest] > 0:
        return take_chunk(view, batch, oldest, chunk) > 0
    if memory.started[0] >= p.cycle or start(p.admission, view, batch, oldest, chunk) == 0:
        return False
    memory.started[0] += 1
    return True
