"""Time between tokens under stall-free batches: no gap is longer than the dearest batch within the token budget.

A batch of n tokens, of which the decodes attend to x tokens in the cache, takes T = t(n) + κ·x, t not decreasing and
κ >= 0.  Stall-free batches hold every running decode, and prompt tokens only up to the budget B, so that n <= B if no
more than B requests decode; the cache holds at most M tokens.  While a request decodes, batches follow each other
without a pause; so the gap between its tokens is the time of the one batch that brings the next::

    gap <= t(B) + κ·M

Prompt attention, where it is not in t, is at most the dearest chunk's and is added to the right side.

Assumptions: at most B requests decode; no preemption (a preempted request waits, and is recomputed).
Source: Agrawal et al., OSDI 2024, arXiv 2403.02310 (Sarathi-Serve), which states the bound in words; our derivation.
"""

from __future__ import annotations

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.smt import Obligation

__all__ = ["CLAIMS", "gap"]

REAL, INT = "() Real", "() Int"
SORTS = {"t": "(Int) Real", "kappa": REAL, "B": INT, "M": REAL, "n": INT, "x": REAL, "start": REAL, "end": REAL,
         "before": REAL, "gap": REAL}  # fmt: skip


def gap() -> Obligation:
    """The batch that brings the next token starts when the last token came, and holds at most the budget."""
    return Obligation(
        "gap of a decode",
        SORTS,
        {
            "dearer with tokens": "(=> (<= n B) (<= (t n) (t B)))",
            "dearer with context": "(<= 0 kappa)",
            "within the budget": "(<= 1 n B)",
            "within memory": "(<= 0 x M)",
            "time of the batch": "(= end (+ start (t n) (* kappa x)))",
            "no pause": "(= start before)",
            "in every batch": "(= gap (- end before))",
        },
        "(<= gap (+ (t B) (* kappa M)))",
    )


CLAIMS = (
    Claim(
        name="stall-free-gap",
        statement="Under stall-free batches of at most B tokens no gap between tokens of a request is longer than "
        "t(B) + κ·M.",
        assumptions=(
            "a batch of n tokens whose decodes attend to x takes t(n) + κ·x, t not decreasing, κ >= 0",
            "at most B requests decode; nothing is preempted; M tokens of KV memory",
        ),
        source="arXiv 2403.02310 (in words); our derivation",
        kind=Kind.SOLVER,
        evidence=lambda: [gap()],
        controls={
            "a batch without the decode goes first": lambda: [gap().without("no pause")],
            "prompts beyond the budget": lambda: [gap().without("within the budget", "dearer with tokens")],
            "a law that falls": lambda: [gap().without("dearer with tokens")],
            "no limit on the context": lambda: [gap().without("within memory")],
        },
        where="docs/policies/sarathi.md",
    ),
)
