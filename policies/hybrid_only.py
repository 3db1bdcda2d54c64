"""Hybrid batching alone: Orca's batches on paged KV memory, Sarathi-Serve without its chunks."""

from __future__ import annotations

from dataclasses import dataclass

from policies.admission import WHOLE_PROMPT, Admission
from policies.orca import Orca

__all__ = ["HybridOnly"]


@dataclass(frozen=True, slots=True)
class HybridOnly(Orca):
    """Ablation of Sarathi-Serve that mixes decodes and prompts but does not chunk: :class:`Orca` on paged memory.

    Algorithm:    that of Orca, with KV blocks for the prompt alone on admission, and vLLM's rule of preemption.
    Assumptions:  those of Orca.
    Guarantee:    equal to Sarathi-Serve with an unbounded token budget, batch by batch (tested).
    Not promised: a bound on the gap between tokens: it lasts as long as the prompts that joined.
    Args:
        batch_size: most requests that may hold KV blocks.
        admission: rule by which KV memory is promised to a new prompt.
    Source: "hybrid-batching-only", Agrawal et al., OSDI 2024, arXiv 2403.02310, ablation.

    Example:
        >>> HybridOnly().name, HybridOnly().facts.chunked
        ('HybridOnly', False)
    """

    batch_size: int = 128
    admission: Admission = WHOLE_PROMPT
