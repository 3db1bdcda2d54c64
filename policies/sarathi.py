"""Sarathi-Serve: stall-free batching under a token budget (Agrawal et al., OSDI 2024, arXiv 2403.02310)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from queueing.policy import (
    FIFO,
    NONE,
    Facts,
    Policy,
    is_decoding,
    is_preempted,
    next_waiting,
    plan,
    take_chunk,
    take_decodes,
    tokens_used,
)


@dataclass(frozen=True, slots=True)
class Sarathi(Policy):
    budget: int = 512
    order: int = FIFO
    max_active: int = 128
    facts: ClassVar[Facts] = Facts(non_idling=True, fcfs=True, stall_free=True, mixed=True, chunked=True, source="arXiv 2403.02310, Algorithm 3")

    @plan
    def sarathi(p, memory, view, batch):  # noqa: N805
        take_decodes(view, batch, len(view.running))
        for r in view.running:
            if not is_decoding(view, r) and not is_preempted(batch, r):
                take_chunk(view, batch, r, p.budget - tokens_used(batch))
        r = next_waiting(view, batch, p.order, 0.0)
        while r != NONE and take_chunk(view, batch, r, p.budget - tokens_used(batch)) > 0:
            r = next_waiting(view, batch, p.order, 0.0)
