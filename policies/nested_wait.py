"""Nested WAIT: thresholds by what has been decoded, for unknown output lengths (arXiv 2504.11320)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies.admission import WHOLE_PROMPT, Admission, spare_blocks, start
from policies.parameters import require_choice, require_positive, require_rising, require_thresholds
from policies.wait import decode_or_preempt, last_service, waited_enough
from queueing.policy import (
    Batch,
    Facts,
    Policy,
    View,
    hold,
    is_decoding,
    is_preempted,
    kernel,
    plan,
    prompt_if_admitted,
    tokens_used,
)

__all__ = ["NestedWait"]


@dataclass(frozen=True, slots=True)
class NestedWait(Policy):
    """Threshold policy without announcements: requests that outlive a segment gather at the entry of the next.

    Notation: segment k of a request by its decoded tokens, k = #{boundaries reached}; its entry holds who waits
    (k = 0), or who has decoded just as many tokens as its boundary (k > 0); n_k the threshold of its entry.
    Algorithm, at each batch boundary:
        m := the most segments 0, ..., m - 1 whose entries hold n_k requests each
        one token for every request in them;  if m > 0:  admit n_0 of W, whole prompts
        if m = 0:  do nothing until it is not
    Who runs in segment m or later keeps its KV memory and waits.
    Addition: a segment whose oldest member has got nothing for `patience` seconds advances too, whatever the entries
    hold; else the last requests would never end.  The longer the patience, the closer to the source's policy.

    Assumptions:  none on lengths; memory for what waits in the segments.
    Guarantee:    without knowing lengths, throughput approaches that of the fluid point with a buffer of memory that
                  grows only logarithmically (cited: arXiv 2504.11320, recalled).
    Not promised: short gaps between tokens, which last until enough others have come as far.
    Args:
        thresholds: n_k of each segment (requests).
        boundaries: decoded tokens at which the segments end, rising; the last segment goes on beyond its own.
        patience: time after which a segment advances without a full entry (s).
        admission: rule by which KV memory is promised to a new prompt.
    Source: arXiv 2504.11320, algorithm Nested WAIT (recalled); `patience` is our addition.

    Example:
        >>> NestedWait(thresholds=(8, 4), boundaries=(64, 1024)).facts.stall_free
        False
    """

    thresholds: tuple[int, ...] = (2, 4)
    boundaries: tuple[int, ...] = (16, 1024)
    patience: float = 1.0
    admission: Admission = WHOLE_PROMPT

    def __post_init__(self) -> None:
        require_thresholds(self, "thresholds")
        require_rising(self, "boundaries", len(self.thresholds))
        require_positive(self, "patience")
        require_choice(self, "admission", Admission)

    @property
    def facts(self) -> Facts:
        """Groups in order of arrival; decodes wait for others, and the engine for a full group."""
        return Facts(
            non_idling=False,
            fcfs=True,
            stall_free=False,
            mixed=True,
            chunked=False,
            source="arXiv 2504.11320",
        )

    @plan
    def nested_wait(p, memory, view, batch):
        """Advance the segments up to the first whose entry is not full, and those that have waited long enough."""
        until = np.inf
        full = True
        for k in range(len(p.thresholds)):
            since, entered = segment(p, view, k)
            full = full and entered >= p.thresholds[k]
            if full or waited_enough(view, since, p.patience):
                advance_segment(p, view, batch, k)
            else:
                until = min(until, since + p.patience)
        if tokens_used(batch) == 0:
            hold(batch, until)


@kernel
def segment_of(p, view: View, r: int) -> int:
    """k: how many boundaries the decoded tokens of `r` have reached; a request that waits is in segment 0."""
    k = 0
    while k < len(p.boundaries) - 1 and view.blocks[r] > 0 and view.decoded[r] >= p.boundaries[k]:
        k += 1
    return k


@kernel
def segment(p, view: View, k: int) -> tuple[float, int]:
    """The earliest last service of a member of segment `k` (inf if it has none), and how many are at its entry."""
    since, entered = np.inf, 0
    if k == 0:
        entered = len(view.waiting)
        for r in view.waiting:
            since = min(since, last_service(view, r))
    for r in view.running:
        if segment_of(p, view, r) == k:
            since = min(since, last_service(view, r))
            if k > 0 and view.decoded[r] == p.boundaries[k - 1]:
                entered += 1
    return since, entered


@kernel
def advance_segment(p, view: View, batch: Batch, k: int) -> None:
    """One token for every decoding request of segment `k`; if it is the first, n_0 new requests as far as they fit."""
    for r in view.running:
        if segment_of(p, view, r) == k and is_decoding(view, r) and not is_preempted(batch, r):
            decode_or_preempt(view, batch, r, spare_blocks(p.admission))
    if k > 0:
        return
    for i in range(min(p.thresholds[0], len(view.waiting))):
        r = view.waiting[i]
        length = prompt_if_admitted(view, r)
        if tokens_used(batch) + length > view.max_tokens or start(p.admission, view, batch, r, length) == 0:
            break
