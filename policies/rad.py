"""RAD: Resource-Aware Dynamic scheduling (Bari, Hegde, de Veciana, arXiv 2508.01002, Algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from queueing.policy import NONE, Facts, Policy, decodes_and_oldest_prompt, plan, take_chunk, take_decodes


@dataclass(frozen=True, slots=True)
class Rad(Policy):
    tile: int = 128
    chunk: int = 128
    facts: ClassVar[Facts] = Facts(non_idling=True, fcfs=True, stall_free=False, mixed=False, chunked=True, source="arXiv 2508.01002, Algorithm 1")

    @plan
    def rad(p, memory, view, batch):  # noqa: N805
        decoding, oldest = decodes_and_oldest_prompt(view)
        if decoding >= p.tile or oldest == NONE or take_chunk(view, batch, oldest, p.chunk) <= 0:
            take_decodes(view, batch, p.tile)
