"""FasterTransformer: request-level batching, nobody joins before all are done."""

from __future__ import annotations

from dataclasses import dataclass

from policies.admission import CONTEXT_LIMIT, Admission, admit_whole_prompts, spare_blocks
from policies.parameters import require_choice, require_counts
from queueing.policy import Facts, Policy, plan, serve_decodes

__all__ = ["FasterTransformer"]


@dataclass(frozen=True, slots=True)
class FasterTransformer(Policy):
    """Request-level scheduler: a batch of requests is prefilled together and decoded until its last one is done.

    Algorithm, with R the running requests and W the waiting queue, in order of arrival:
        if R nonempty:  one token for every request of R
        else:           while W nonempty and its head fits and fewer than `batch_size` are active:
                            admit it, prefill its whole prompt

    Assumptions:  the engine takes `batch_size` whole prompts in one batch.
    Guarantee:    admits only when nothing runs, so that no decode waits for a prompt; with the default admission
                  nothing is preempted (tested).
    Not promised: throughput: the batch shrinks to its longest output while others wait (arXiv 2504.07347: not maximally
                  stable; cited).
    Args:
        batch_size: most active requests.
        admission: rule by which KV memory is promised to a new prompt.
    Source: NVIDIA FasterTransformer, as described by Yu et al., OSDI 2022, and Agrawal et al., arXiv 2403.02310.

    Example:
        >>> FasterTransformer().facts.non_idling
        True
    """

    batch_size: int = 8
    admission: Admission = CONTEXT_LIMIT

    def __post_init__(self) -> None:
        require_counts(self, "batch_size")
        require_choice(self, "admission", Admission)

    @property
    def facts(self) -> Facts:
        """Pure batches; every decode in every batch, because no prompt comes between."""
        return Facts(
            non_idling=True,
            fcfs=True,
            stall_free=True,
            mixed=False,
            chunked=False,
            source="arXiv 2403.02310",
        )

    @plan
    def faster_transformer(p, memory, view, batch):
        """Decode while anything runs; then start the next batch of requests."""
        if len(view.running) > 0:
            serve_decodes(view, batch, view.max_tokens, spare_blocks(p.admission))
        else:
            admit_whole_prompts(p.admission, view, batch, view.max_tokens, p.batch_size)
