"""When a waiting request may be admitted, and how much KV memory it is given at once: one rule, any policy.

Notation, for a request r:  P_r tokens to prefill (what was generated before a preemption included), o_r announced
output tokens still to come, C the context limit of the model, M the KV blocks of the node, m the watermark; l_r = o_r
iterations until its end, or o_r + 1 if its prompt is still to be prefilled; h_r tokens in the KV cache, or P_r - 1
if its prompt is still to be prefilled, so that P_r are there after the iteration of its prompt.

| rule              | blocks given on admission     | admitted when                                       | grows |
|-------------------|-------------------------------|-----------------------------------------------------|-------|
| WHOLE_PROMPT      | those of P_r                  | m blocks stay free                                  | yes   |
| CONTEXT_LIMIT     | those of C                    | they are free                                       | no    |
| ANNOUNCED_LENGTH  | those of P_r + o_r            | they are free                                       | no *  |
| PEAK              | those of P_r                  | the peak of all admitted requests is at most M - m  | yes   |

The *peak* supposes that every admitted request gets a token in every iteration from now until its announced end: in
the s-th of them, this one being the first, the request j holds h_j + s tokens if s <= l_j and nothing after, so that

    peak = max over k of  sum_j { blocks(h_j + l_k) : l_j >= l_k }.

Memory rises between two ends, so the ends are where to look.

Assumptions: `predicted` bounds the output length (* else such a request outgrows what it was given, and grows as
under WHOLE_PROMPT); for PEAK also that all requests decode in step.  Where nothing was announced, `predicted` is what
the context limit allows, and ANNOUNCED_LENGTH is CONTEXT_LIMIT.
Guarantee: under CONTEXT_LIMIT, and under ANNOUNCED_LENGTH with true bounds, nothing is ever preempted; nor under PEAK
with the true lengths, where prompts go in one piece and every decode runs in every batch (tested).
Not promised: that PEAK prevents preemption where decodes wait or prompts are chunked; any of the rules' optimality.
Sources: WHOLE_PROMPT and its watermark, vLLM (Kwon et al., SOSP 2023); CONTEXT_LIMIT, Orca (Yu et al., OSDI 2022);
PEAK, the look-ahead of the VTC authors' server (Sheng et al., OSDI 2024), here counted in blocks.
"""

from __future__ import annotations

import math
from enum import IntEnum

from queueing.batch import (
    ENTRIES,
    FIFO,
    NONE,
    Batch,
    View,
    active,
    admit,
    announced_left,
    blocks_for,
    fits,
    free_blocks,
    is_decoding,
    is_preempted,
    next_waiting,
    prompt_if_admitted,
    tokens_used,
)
from queueing.policy import kernel

__all__ = [
    "ANNOUNCED_LENGTH",
    "CONTEXT_LIMIT",
    "PEAK",
    "WHOLE_PROMPT",
    "Admission",
    "admit_whole_prompts",
    "bound_left",
    "may_admit",
    "peak_blocks",
    "reservation",
    "spare_blocks",
    "start",
    "within_peak",
]


class Admission(IntEnum):
    """How KV memory is promised to a request on admission."""

    WHOLE_PROMPT = 0
    CONTEXT_LIMIT = 1
    ANNOUNCED_LENGTH = 2
    PEAK = 3

    def __repr__(self) -> str:
        return self.name


WHOLE_PROMPT, CONTEXT_LIMIT = Admission.WHOLE_PROMPT, Admission.CONTEXT_LIMIT
ANNOUNCED_LENGTH, PEAK = Admission.ANNOUNCED_LENGTH, Admission.PEAK


@kernel
def reservation(rule: int, view: View, r: int) -> int:
    """Tokens for which `r` is given KV blocks on admission; at most the whole memory, at least its prompt."""
    whole = prompt_if_admitted(view, r)
    wanted = whole
    if rule == CONTEXT_LIMIT:
        wanted = view.max_length
    elif rule == ANNOUNCED_LENGTH:
        wanted = whole + announced_left(view, r)
    return max(whole, min(wanted, view.total_blocks * view.block_size))


@kernel
def spare_blocks(rule: int) -> int:
    """KV blocks that must be free before a decode, even if it needs none: the slot that vLLM asks for."""
    return 1 if rule == WHOLE_PROMPT else 0


@kernel
def resident(view: View, batch: Batch, candidate: int, j: int) -> int:
    """The j-th of: running requests, entries of the batch, `candidate`; NONE for a victim and for no newcomer."""
    running = len(view.running)
    if j < running:
        r = view.running[j]
        return NONE if is_preempted(batch, r) else r
    e = j - running
    if e < batch.count[ENTRIES]:
        return batch.request[e] if batch.reserve[e] > 0 else NONE
    return candidate


@kernel
def bound_left(view: View, r: int, share: float) -> int:
    """Output tokens of `r` still to come if it ends after `share` of the announced ones; none if it outlived them."""
    return max(math.ceil(share * view.predicted[r] - 1e-9) - view.decoded[r], 0)  # 0.55 of 100 is 55


@kernel
def iterations_left(view: View, r: int, j: int, share: float) -> int:
    """Iterations until that end of `r`, the j-th resident: one per token, and one to prefill its prompt."""
    decoding = j < len(view.running) and is_decoding(view, r)
    return bound_left(view, r, share) + (0 if decoding else 1)


@kernel
def held_before(view: View, r: int, j: int) -> int:
    """h_r: tokens of `r`, the j-th resident, in the KV cache, as if it had held one more in every iteration so far."""
    decoding = j < len(view.running) and is_decoding(view, r)
    return view.context[r] if decoding else prompt_if_admitted(view, r) - 1


@kernel
def peak_blocks(view: View, batch: Batch, candidate: int, share: float) -> int:
    """Most KV blocks ever held by the running requests, those this batch admits, and `candidate`, in step.

    Each ends after `share` of its announced output tokens.
    """
    residents = len(view.running) + batch.count[ENTRIES] + 1
    peak = 0
    for k in range(residents):
        r = resident(view, batch, candidate, k)
        if r == NONE:
            continue
        ahead = iterations_left(view, r, k, share)
        held = 0
        for j in range(residents):
            q = resident(view, batch, candidate, j)
            if q != NONE and iterations_left(view, q, j, share) >= ahead:
                held += blocks_for(view, held_before(view, q, j) + ahead)
        peak = max(peak, held)
    return peak


@kernel
def within_peak(view: View, batch: Batch, r: int, share: float) -> bool:
    """Whether the peak with `r` admitted leaves the watermark free, its prompt fits now, and a place is free.

    Alone it may always be admitted, unless its prompt does not fit.
    """
    if active(view, batch) >= view.max_running:
        return False
    if blocks_for(view, prompt_if_admitted(view, r)) > free_blocks(batch):
        return False
    alone = active(view, batch) == 0
    return alone or peak_blocks(view, batch, r, share) <= view.total_blocks - view.watermark


@kernel
def may_admit(rule: int, view: View, batch: Batch, r: int) -> bool:
    """Whether the waiting request `r` may be admitted now; alone it always may, unless its prompt does not fit.

    A request that has outlived its announcement grows from its first decode on; it leaves the watermark under every
    rule, lest two of them put each other out for ever.
    """
    if view.decoded[r] > 0 and announced_left(view, r) == 0 and rule != CONTEXT_LIMIT:
        return fits(view, batch, r, prompt_if_admitted(view, r))
    if rule == PEAK:
        return within_peak(view, batch, r, 1.0)
    reserve = reservation(rule, view, r)
    if rule == WHOLE_PROMPT:
        return fits(view, batch, r, reserve)
    return active(view, batch) < view.max_running and blocks_for(view, reserve) <= free_blocks(batch)


@kernel
def start(rule: int, view: View, batch: Batch, r: int, tokens: int) -> int:
    """Admit the waiting request `r` if `rule` allows, and give it up to `tokens`; return how many, 0 if not."""
    return admit(view, batch, r, tokens, reservation(rule, view, r)) if may_admit(rule, view, batch, r) else 0


@kernel
def admit_whole_prompts(rule: int, view: View, batch: Batch, cap: int, places: int) -> None:
    """Admit the head of the queue with its whole prompt, again and again while it fits.

    At most `cap` tokens in the batch (a longer prompt starts a batch of its own), at most `places` active requests.
    """
    while active(view, batch) < places:
        r = next_waiting(view, batch, FIFO, 0.0)
        if r == NONE:
            break
        length = prompt_if_admitted(view, r)
        if tokens_used(batch) > 0 and tokens_used(batch) + length > cap:
            break
        if start(rule, view, batch, r, length) == 0:
            break
