"""Chunking alone: batches of prompt chunks and batches of decodes in turn, Sarathi-Serve without its mixing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.admission import WHOLE_PROMPT, Admission, spare_blocks, start
from policies.parameters import require_choice, require_counts
from queueing.policy import (
    FIFO,
    NONE,
    Facts,
    Policy,
    active,
    is_decoding,
    next_waiting,
    plan,
    serve_decodes,
    take_chunk,
    tokens_used,
)

__all__ = ["ChunkOnly", "ChunkOnlyMemory"]

PREFILL, DECODE = 0, 1  # whose turn it is


class ChunkOnlyMemory(NamedTuple):
    """What the policy keeps between batches."""

    turn: NDArray[np.int64]  # [1] PREFILL or DECODE


@dataclass(frozen=True, slots=True)
class ChunkOnly(Policy):
    """Ablation of Sarathi-Serve that chunks prompts but does not mix: prompt chunks and decodes take turns.

    Algorithm, with a token budget B:
        turn PREFILL:  chunks of the started prompts, B tokens in all; if there are none, of new prompts, while they fit
        turn DECODE, or nothing to prefill:  one token for every decoding request
    A batch of chunks passes the turn to DECODE, and a batch of decodes to PREFILL; with nothing to decode, PREFILL
    keeps it.

    Assumptions:  none beyond those of the serving loop.
    Guarantee:    while KV memory is free, a decoding request is served in one of any two batches that follow (tested).
    Not promised: throughput: prompts' batches leave the decodes' memory reads unshared; short time to first token.
    Args:
        token_budget: B, most prompt tokens in a batch.
        max_num_seqs: most requests that may hold KV blocks.
        admission: rule by which KV memory is promised to a new prompt.
    Source: "chunked-prefills-only", Agrawal et al., OSDI 2024, arXiv 2403.02310, ablation; the turns are those of
    `simple_chunking_scheduler` in microsoft/sarathi-serve.

    Example:
        >>> ChunkOnly(token_budget=1024).facts.mixed
        False
    """

    token_budget: int = 512
    max_num_seqs: int = 128
    admission: Admission = WHOLE_PROMPT

    def __post_init__(self) -> None:
        require_counts(self, "token_budget", "max_num_seqs")
        require_choice(self, "admission", Admission)

    @property
    def facts(self) -> Facts:
        """Pure batches in turn, in order of arrival."""
        return Facts(
            non_idling=True,
            fcfs=True,
            stall_free=False,
            mixed=False,
            chunked=True,
            source="arXiv 2403.02310, ablation",
        )

    def init(self, requests: int) -> ChunkOnlyMemory:
        """Return fresh memory: prompts have the first turn."""
        del requests
        return ChunkOnlyMemory(np.full(1, PREFILL))

    @plan
    def chunk_only(p, memory, view, batch):
        """Chunks and decodes in turn."""
        decoding = 0
        for r in view.running:
            decoding += is_decoding(view, r)
        if memory.turn[0] == PREFILL or decoding == 0:
            budget = min(p.token_budget, view.max_tokens)
            for r in view.running:
                if not is_decoding(view, r):
                    take_chunk(view, batch, r, budget - tokens_used(batch))
            started = tokens_used(batch)
            while started == 0 and tokens_used(batch) < budget and active(view, batch) < p.max_num_seqs:
                r = next_waiting(view, batch, FIFO, 0.0)
                if r == NONE or start(p.admission, view, batch, r, budget - tokens_used(batch)) == 0:
                    break
        if tokens_used(batch) > 0:
            memory.turn[0] = DECODE
        else:
            serve_decodes(view, batch, view.max_tokens, spare_blocks(p.admission))
            memory.turn[0] = PREFILL
