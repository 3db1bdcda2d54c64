"""Sarathi-Serve: stall-free batching under a token budget (Agrawal et al., OSDI 2024, arXiv 2403.02310)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.admission import WHOLE_PROMPT, Admission, spare_blocks, start
from policies.parameters import require_choice, require_counts
from queueing.models.iteration_time import Load
from queueing.policy import (
    FIFO,
    NONE,
    Facts,
    Order,
    Policy,
    active,
    is_decoding,
    is_preempted,
    next_waiting,
    plan,
    serve_decodes,
    take_chunk,
    tokens_used,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Sarathi", "token_budget_for"]


@dataclass(frozen=True, slots=True)
class Sarathi(Policy):
    """Stall-free scheduler: every decode in every batch, and prompt chunks in what the token budget B leaves.

    Algorithm, with D the decoding requests, S the started prompts, W the waiting queue:
        used := |D|:  one token for every request of D, in order of arrival
        for r in S:  chunk of min(left(r), B - used) tokens
        while W nonempty, its head fits and used < B:  admit it, chunk of min(P(head), B - used) tokens
    Memory: a decode asks for a free KV block; while there is none, the latest-arrived running request not yet visited
    is preempted, and if there is none, the decode itself.

    Assumptions:  at most B decodes run at once, so that prompts get on; no preemption, for the bound below.
    Guarantee:    every decoding request is served in every batch (tested), so that a gap between tokens is the time of
                  one batch of at most max(B, |D|) tokens; any work-conserving policy, and this is one, is stable in the
                  whole capacity region of a batch time affine in tokens (cited: arXiv 2504.07347).
    Not promised: the order of service under SPF bounds no prompt's wait: long prompts can starve; full tiles.
    Args:
        token_budget: B, most tokens in a batch unless the decodes alone are more.
        order: FIFO or SPF (the variant the SLAI authors compare with); STRICT_SPF puts `tbt <= strict_tbt` first.
        max_num_seqs: most requests that may hold KV blocks.
        strict_tbt: largest limit on the time between tokens that counts as strict under STRICT_SPF (s).
        admission: rule by which KV memory is promised to a new prompt.
    Source: Agrawal et al., OSDI 2024, arXiv 2403.02310, algorithm 3.

    Example:
        >>> Sarathi(token_budget=2048, order=Order.SPF).name
        'Sarathi(token_budget=2048, order=SPF)'
        >>> Sarathi().facts.stall_free
        True
    """

    token_budget: int = 512
    order: Order = FIFO
    max_num_seqs: int = 128
    strict_tbt: float = 0.1
    admission: Admission = WHOLE_PROMPT

    def __post_init__(self) -> None:
        require_counts(self, "token_budget", "max_num_seqs")
        require_choice(self, "order", Order)
        require_choice(self, "admission", Admission)

    @property
    def facts(self) -> Facts:
        """Every decode in every batch; the order of admission is a parameter."""
        return Facts(
            non_idling=True,
            fcfs=self.order == Order.FIFO,
            stall_free=True,
            mixed=True,
            chunked=True,
            source="arXiv 2403.02310, algorithm 3",
        )

    @plan
    def sarathi(p, memory, view, batch):
        """Decodes, then started prompts, then new ones."""
        budget = min(p.token_budget, view.max_tokens)
        serve_decodes(view, batch, view.max_tokens, spare_blocks(p.admission))
        for r in view.running:
            if not is_decoding(view, r) and not is_preempted(batch, r):
                take_chunk(view, batch, r, budget - tokens_used(batch))
        while tokens_used(batch) < budget and active(view, batch) < p.max_num_seqs:
            r = next_waiting(view, batch, p.order, p.strict_tbt)
            if r == NONE or start(p.admission, view, batch, r, budget - tokens_used(batch)) == 0:
                break


def token_budget_for(
    tbt: float,
    law: Callable[[Load], float],
    *,
    tile: int = 128,
    decodes: int = 0,
    decode_context: int = 0,
    history: int = 0,
    largest: int = 16384,
) -> int:
    """Return the largest token budget whose batch takes at most `tbt` seconds at a typical state of the engine.

    B = max { n in tile * {1, 2, ...} : T(n) <= tbt },  T(n) the time of `decodes` decode tokens, each attending
    `decode_context` tokens, and one prompt chunk of the other n - decodes tokens after `history` cached ones.

    Args:
        tbt: limit on the time between tokens (s).
        law: iteration-time model, from a load to seconds.
        tile: granularity (tokens); one token past a tile costs a whole one.
        decodes: decode tokens in the typical batch.
        decode_context: KV tokens that each of them attends to.
        history: tokens of the chunk's prompt that are already in the KV cache.
        largest: budgets beyond this are not tried (tokens).

    Raises:
        ValueError: no budget meets the limit, or an argument is out of range.

    Not promised: that the limit holds at other contexts than those given.
    Source: arXiv 2403.02310, where the budget comes from a profile of the engine; here the profile is the law.
    """
    if not tbt > 0:
        raise ValueError(f"tbt must be positive, not {tbt!r}")
    if tile < 1 or min(decodes, decode_context, history) < 0:
        given = (tile, decodes, decode_context, history)
        raise ValueError(f"tile must be at least 1 and the counts at least 0, not {given}")

    def seconds(n: int) -> float:
        chunk = np.full(1 if n > decodes else 0, n - decodes)
        cached = np.full(len(chunk), history)
        return law(Load(n, min(n, decodes), min(n, decodes) * decode_context, chunk, cached))

    meeting = [n for n in range(tile, largest + 1, tile) if seconds(n) <= tbt]
    if not meeting:
        raise ValueError(
            f"no token budget from {tile} to {largest} keeps a batch within {tbt} s; allow more time"
        )
    return meeting[-1]
