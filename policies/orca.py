"""Orca: iteration-level scheduling with whole prompts (Yu et al., OSDI 2022)."""

from __future__ import annotations

from dataclasses import dataclass

from policies.admission import CONTEXT_LIMIT, Admission, admit_whole_prompts, spare_blocks
from policies.parameters import require_choice, require_counts
from queueing.policy import Facts, Policy, plan, serve_decodes

__all__ = ["Orca"]


@dataclass(frozen=True, slots=True)
class Orca(Policy):
    """Iteration-level scheduler: requests join and leave between any two iterations, each prompt in one piece.

    Algorithm, with D the decoding requests and W the waiting queue, in order of arrival:
        one token for every request of D
        while W nonempty and its head fits and fewer than `batch_size` are active:  admit it, prefill its whole prompt

    Assumptions:  the engine takes batches as long as the prompts that meet in one; with the default admission, KV
                  memory for `batch_size` requests of the context limit.
    Guarantee:    every decoding request is served in every batch; with the default admission nothing is preempted
                  (tested).  Work-conserving, hence stable in the whole capacity region of a batch time affine in
                  tokens, if memory never binds (cited: arXiv 2504.07347).
    Not promised: short gaps between tokens: a gap lasts as long as the prompts in the batch take; a full batch, since
                  memory reserved for the context limit is mostly unused.
    Args:
        batch_size: most active requests.
        admission: rule by which KV memory is promised to a new prompt.
    Source: Yu et al., "Orca: A Distributed Serving System for Transformer-Based Generative Models", OSDI 2022.

    Example:
        >>> Orca().batch_size, Orca().admission
        (8, CONTEXT_LIMIT)
    """

    batch_size: int = 8
    admission: Admission = CONTEXT_LIMIT

    def __post_init__(self) -> None:
        require_counts(self, "batch_size")
        require_choice(self, "admission", Admission)

    @property
    def facts(self) -> Facts:
        """Mixed batches of decodes and whole prompts, in order of arrival."""
        return Facts(
            non_idling=True,
            fcfs=True,
            stall_free=True,
            mixed=True,
            chunked=False,
            source="Orca, OSDI 2022",
        )

    @plan
    def orca(p, memory, view, batch):
        """Decodes, and whole prompts beside them."""
        serve_decodes(view, batch, view.max_tokens, spare_blocks(p.admission))
        admit_whole_prompts(p.admission, view, batch, view.max_tokens, p.batch_size)
