"""WAIT: a type of request advances when enough new ones of it wait (Ao, Luo, Simchi-Levi, Wang, arXiv 2504.11320)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies.admission import ANNOUNCED_LENGTH, Admission, spare_blocks, start
from policies.parameters import require_choice, require_positive, require_rising, require_thresholds
from queueing.policy import (
    NONE,
    Batch,
    Facts,
    Policy,
    View,
    has_slot,
    hold,
    is_decoding,
    is_preempted,
    is_served,
    kernel,
    plan,
    preempt,
    prompt_if_admitted,
    take_decode,
    tokens_used,
)

__all__ = ["Wait", "decode_or_preempt", "last_service", "waited_enough"]


@dataclass(frozen=True, slots=True)
class Wait(Policy):
    """Threshold policy: groups of equal requests move through their stages together, so that batches are large.

    Notation: type j of a request by its announced output, n_j its threshold, W_j and D_j who waits and who runs.
    Algorithm, at each batch boundary:
        for every type j with |W_j| >= n_j:     one token for every request of D_j;  admit n_j of W_j, whole prompts
        if there is none:                       do nothing until there is
    Each stage of type j then has 0 or n_j requests, no more than  Σ_j n_j (l'_j + 1)(l_j + l'_j/2)  tokens in all.
    So much memory is enough if blocks are given as they are filled (WHOLE_PROMPT); if they are given at once
    (ANNOUNCED_LENGTH), it takes  Σ_j n_j (l'_j + 1)(l_j + l'_j).
    Addition: a type whose oldest member has got nothing for `patience` seconds advances without a full group; else
    the last requests would never end.  The longer the patience, the closer to the source's policy.

    Assumptions:  types are known on arrival and alike within: l_j prompt tokens, l'_j decodes; memory as above.
    Guarantee:    with n_j above what arrives in an iteration of the fullest batch, every queue is that of a stable bulk
                  service (queueing.models.wait.thresholds gives the least such n_j); throughput approaches that of
                  the fluid point (cited: arXiv 2504.11320, recalled).
    Not promised: short gaps between tokens, which last until the next group is there; anything for unknown lengths.
    Args:
        thresholds: n_j of each type (requests).
        outputs: longest announced output of each type, rising (tokens); the last type takes all longer ones too.
        patience: time after which a type advances without a full group (s).
        admission: rule by which KV memory is promised to a new prompt.
    Source: arXiv 2504.11320, algorithm WAIT (recalled); `patience` is our addition.

    Example:
        >>> Wait(thresholds=(8, 2), outputs=(64, 512)).facts.non_idling
        False
    """

    thresholds: tuple[int, ...] = (8, 4)
    outputs: tuple[int, ...] = (64, 1024)
    patience: float = 1.0
    admission: Admission = ANNOUNCED_LENGTH

    def __post_init__(self) -> None:
        require_thresholds(self, "thresholds")
        require_rising(self, "outputs", len(self.thresholds))
        require_positive(self, "patience")
        require_choice(self, "admission", Admission)

    @property
    def facts(self) -> Facts:
        """Groups of a type, so nothing is in order or stall-free, and the engine waits for a full group."""
        return Facts(
            non_idling=False,
            fcfs=False,
            stall_free=False,
            mixed=True,
            chunked=False,
            source="arXiv 2504.11320",
        )

    @plan
    def wait(p, memory, view, batch):
        """Advance every type with a full group, or with a member that has waited long enough."""
        until = np.inf
        for j in range(len(p.thresholds)):
            since, waiting = group(p, view, j)
            if waiting >= p.thresholds[j] or waited_enough(view, since, p.patience):
                decode_type(p, view, batch, j)
                admit_type(p, view, batch, j)
            else:
                until = min(until, since + p.patience)
        if tokens_used(batch) == 0:
            hold(batch, until)


@kernel
def type_of(p, view: View, r: int) -> int:
    """j: the first type whose announced outputs are not exceeded, or the last."""
    j = 0
    while j < len(p.outputs) - 1 and view.predicted[r] > p.outputs[j]:
        j += 1
    return j


@kernel
def last_service(view: View, r: int) -> float:
    """When `r` last got an output token, or else arrived (s)."""
    return view.arrival[r] if np.isnan(view.last_token[r]) else view.last_token[r]


@kernel
def waited_enough(view: View, since: float, patience: float) -> bool:
    """Whether the wait since then is over; in the form in which `hold` computes its end."""
    return view.now >= since + patience


@kernel
def group(p, view: View, j: int) -> tuple[float, int]:
    """The earliest last service of a member of type `j` (inf if it has none), and how many of it wait."""
    since, waiting = np.inf, 0
    for r in view.waiting:
        if type_of(p, view, r) == j:
            since = min(since, last_service(view, r))
            waiting += 1
    for r in view.running:
        if type_of(p, view, r) == j:
            since = min(since, last_service(view, r))
    return since, waiting


@kernel
def decode_type(p, view: View, batch: Batch, j: int) -> None:
    """One token for every decoding request of type `j`."""
    for r in view.running:
        if type_of(p, view, r) == j and is_decoding(view, r) and not is_preempted(batch, r):
            decode_or_preempt(view, batch, r, spare_blocks(p.admission))


@kernel
def decode_or_preempt(view: View, batch: Batch, r: int, spare: int) -> None:
    """Give `r` its token; without memory preempt the latest request not served so far, or else `r`."""
    while not has_slot(view, batch, r, spare):
        victim = latest_left_out(view, batch, r)
        if victim == NONE:
            preempt(view, batch, r)
            return
        preempt(view, batch, victim)
    take_decode(view, batch, r)


@kernel
def latest_left_out(view: View, batch: Batch, but: int) -> int:
    """The latest running request that this batch neither serves nor preempts so far, other than `but`, or NONE."""
    for k in range(len(view.running) - 1, -1, -1):
        r = view.running[k]
        if r != but and not is_preempted(batch, r) and not is_served(batch, r):
            return r
    return NONE


@kernel
def admit_type(p, view: View, batch: Batch, j: int) -> None:
    """Admit the first n_j waiting requests of type `j` with their whole prompts, as far as they fit."""
    admitted = 0
    for r in view.waiting:
        if admitted == p.thresholds[j]:
            break
        if type_of(p, view, r) == j:
            length = prompt_if_admitted(view, r)
            if (
                tokens_used(batch) + length > view.max_tokens
                or start(p.admission, view, batch, r, length) == 0
            ):
                break
            admitted += 1
