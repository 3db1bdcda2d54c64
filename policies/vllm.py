"""vLLM: prompts before decodes, on paged KV memory (Kwon et al., SOSP 2023, arXiv 2309.06180)."""

from __future__ import annotations

from dataclasses import dataclass

from policies.admission import WHOLE_PROMPT, Admission, admit_whole_prompts, spare_blocks
from policies.parameters import require_choice, require_counts
from queueing.policy import Facts, Policy, plan, serve_decodes, tokens_used

__all__ = ["Vllm"]


@dataclass(frozen=True, slots=True)
class Vllm(Policy):
    """Prefill-first scheduler: while a waiting prompt fits, a batch holds whole prompts only, and decodes stall.

    Algorithm, with the waiting queue W in order of arrival (preempted requests at its front):
        while W nonempty and its head fits and tokens + P(head) <= cap:  admit it, prefill its whole prompt
        if nothing was admitted:  one token for every decoding request, in order of arrival
    Memory: a decode asks for a free KV block; while there is none, the latest-arrived running request not yet visited
    is preempted, and if there is none, the decode itself.

    Assumptions:  the engine takes a batch of `max_batched_tokens`.
    Guarantee:    no decode-only batch while the head of the queue could be admitted (tested).
    Not promised: any bound on the time between tokens: k prompt batches in a row stall every decode k times; maximal
                  throughput (arXiv 2504.07347: not work-conserving, stable in less than the capacity region; cited).
    Args:
        max_batched_tokens: most prompt tokens in a batch; a longer prompt goes alone, where the engine refuses it.
        max_num_seqs: most requests that may hold KV blocks.
        admission: rule by which KV memory is promised to a new prompt.
    Source: Kwon et al., SOSP 2023, arXiv 2309.06180 (the scheduler before chunked prefill).

    Example:
        >>> Vllm().facts.mixed, Vllm(max_num_seqs=32).name
        (False, 'Vllm(max_num_seqs=32)')
    """

    max_batched_tokens: int = 8192
    max_num_seqs: int = 128
    admission: Admission = WHOLE_PROMPT

    def __post_init__(self) -> None:
        require_counts(self, "max_batched_tokens", "max_num_seqs")
        require_choice(self, "admission", Admission)

    @property
    def facts(self) -> Facts:
        """Pure batches, in order of arrival."""
        return Facts(
            non_idling=True,
            fcfs=True,
            stall_free=False,
            mixed=False,
            chunked=False,
            source="arXiv 2309.06180",
        )

    @plan
    def vllm(p, memory, view, batch):
        """Prefill first; decode when nothing can be prefilled."""
        cap = min(p.max_batched_tokens, view.max_tokens)
        admit_whole_prompts(p.admission, view, batch, cap, p.max_num_seqs)
        if tokens_used(batch) == 0:
            serve_decodes(view, batch, view.max_tokens, spare_blocks(p.admission))
