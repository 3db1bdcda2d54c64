"""First come, first served: prompts before decodes, in order of arrival, whoever sent them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.admission import ANNOUNCED_LENGTH, Admission, start
from policies.packing import decode_all, may_look_for_work, start_artifact
from policies.parameters import require_choice, require_counts
from queueing.policy import (
    FIFO,
    NONE,
    Facts,
    Policy,
    active,
    next_waiting,
    plan,
    prompt_if_admitted,
    tokens_used,
)

__all__ = ["Fcfs", "FcfsMemory"]


class FcfsMemory(NamedTuple):
    """What FCFS keeps between batches."""

    numbers: NDArray[np.int64]  # as in policies.counters; only the count of decode batches in a row is used


@dataclass(frozen=True, slots=True)
class Fcfs(Policy):
    """Arrival order and pure batches: the baseline that VTC is held against, in everything but whose turn it is.

    Algorithm, between two batches:
        while W is nonempty:  r := its first request;  if r does not fit, stop;  admit r
        who was admitted is prefilled in a batch of its own;  if nobody was, one token for every request of D

    Assumptions:  none beyond those of the serving loop.
    Guarantee:    admissions in order of arrival; nothing is preempted if admission reserves the whole output (tested).
    Not promised: any share to a client: who sends more gets more, without bound (tests of VTC use it as the control).
    Args:
        max_num_seqs: most requests that may hold KV blocks.
        admission: rule by which KV memory is promised to a new prompt.
        artifact: look for prompts, and fit them into memory, as the VTC authors' server does (policies.packing).
    Source: baseline of Sheng et al., OSDI 2024, arXiv 2401.00588.

    Example:
        >>> Fcfs().facts.fcfs
        True
    """

    max_num_seqs: int = 1000
    admission: Admission = ANNOUNCED_LENGTH
    artifact: bool = False

    def __post_init__(self) -> None:
        require_counts(self, "max_num_seqs")
        require_choice(self, "admission", Admission)

    @property
    def facts(self) -> Facts:
        """Pure batches of whole prompts or decodes, in order of arrival."""
        return Facts(
            non_idling=True,
            fcfs=True,
            stall_free=False,
            mixed=False,
            chunked=False,
            source="arXiv 2401.00588",
        )

    def init(self, requests: int) -> FcfsMemory:
        """Return fresh memory: no batch yet."""
        del requests
        return FcfsMemory(np.zeros(4, np.int64))

    @plan
    def fcfs(p, memory, view, batch):
        """Admit from the head while it fits; else decode."""
        if may_look_for_work(p.artifact, memory.numbers, view):
            while active(view, batch) < p.max_num_seqs:
                r = next_waiting(view, batch, FIFO, 0.0)
                if r == NONE or tokens_used(batch) + prompt_if_admitted(view, r) > view.max_tokens:
                    break
                if p.artifact:
                    if not start_artifact(view, batch, r):
                        break
                elif start(p.admission, view, batch, r, prompt_if_admitted(view, r)) == 0:
                    break
        decode_all(p.admission, memory.numbers, view, batch)
