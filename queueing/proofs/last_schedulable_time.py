"""SLAI's last schedulable times: no decode starts more than one iteration after its own, under a condition on the load.

At a batch boundary s a decode with last schedulable time L is *critical* if s >= L.  Critical decodes come first, least
L first, up to the cap, which is the smaller of the token budget and the limit on decodes.  The condition::

    at no boundary more decodes are critical than the cap

holds always if at most as many requests may run; nobody is preempted, and batches follow each other without a pause
while somebody decodes.  Then a critical decode is in the batch.  So one that waited at the boundary s' before was not
critical there, s' < L, and the batch that serves it starts at s = s' + T'::

    s - L < T'        the duration of the batch in progress at L

and one that did not wait at any boundary is served as soon as can be, be L past or not.

SLAI sets L = last + TBT - Θ·b̄, Θ batches of the mean duration before the limit, so that the limit is kept,
s + T <= last + TBT, if the two batches together take no longer than Θ·b̄.

Without the condition a decode waits behind others that are critical, for as many iterations as there are others.

Source: the policy is arXiv 2508.01002's, section 6; the condition and the proof are our derivation.
"""

from __future__ import annotations

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.smt import Obligation

__all__ = ["CLAIMS", "kept", "late"]

REAL, INT, BOOL = "() Real", "() Int", "() Bool"


def late() -> Obligation:
    """Served at s, and waiting at the boundary s' before, a decode starts less than one iteration late."""
    return Obligation(
        "less than one iteration late",
        {
            "before": REAL,
            "s": REAL,
            "T": REAL,
            "L": REAL,
            "place": INT,
            "critical": INT,
            "cap": INT,
            "served": BOOL,
        },
        {
            "batches last": "(< 0 T)",
            "no pause": "(= s (+ before T))",
            "critical decodes are first": "(=> (>= before L) (<= 0 place (- critical 1)))",
            "no more are critical than the cap": "(<= critical cap)",
            "the first of them are served": "(=> (and (>= before L) (< place cap)) served)",
            "waits before": "(not served)",
        },
        "(< (- s L) T)",
    )


def kept() -> Obligation:
    """The limit on the time between tokens is kept if two batches take no longer than the offset."""
    return Obligation(
        "the limit is kept",
        dict.fromkeys(("last", "TBT", "offset", "L", "s", "before", "T"), REAL),
        {
            "last schedulable time": "(= L (- (+ last TBT) offset))",
            "less than one iteration late": "(< (- s L) before)",
            "two batches within the offset": "(<= (+ before T) offset)",
        },
        "(<= (+ s T) (+ last TBT))",
    )


CLAIMS = (
    Claim(
        name="slai-last-schedulable-time",
        statement="Under SLAI no decode that waits starts one iteration or more after its last schedulable time, and "
        "its limit is kept if two consecutive batches take no longer than Θ mean ones.",
        assumptions=(
            "at every boundary at most min(token_budget, limit_total_decodes) decodes are past their last schedulable "
            "time; it suffices that no more requests may run",
            "nothing is preempted; no pause while somebody decodes",
        ),
        source="arXiv 2508.01002, section 6 (the policy); condition and proof are our derivation",
        kind=Kind.SOLVER,
        evidence=lambda: [late(), kept()],
        controls={
            "any number of critical decodes": lambda: [late().without("no more are critical than the cap")],
            "pauses": lambda: [late().without("no pause")],
            "critical decodes anywhere in the queue": lambda: [late().without("critical decodes are first")],
            "batches of any duration": lambda: [kept().without("two batches within the offset")],
        },
        where="docs/policies/slai.md",
    ),
)
