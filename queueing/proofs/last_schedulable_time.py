"""SLAI's last schedulable times: none starts an iteration late under a condition on the load.

After a batch that ended at e a decode that it served gets L = e + TBT - Θ·b̄, b̄ the mean batch so far.  At a boundary
s it is *critical* if s >= L, and falls *due* at the first boundary where it is.  Critical decodes go first, least L
first, up to the cap, the smaller of the token budget and the limit on decodes.  The condition, for a whole m >= 1::

    at any j boundaries in a row at most (j + m - 1)·cap decodes fall due; if m > 1, every TBT exceeds Θ·b̄

For m = 1: at no boundary do more than the cap fall due.  It holds always if no more than m·cap requests may run.

* *Backlog*, in units of the cap: k are critical, d fall due, k' = max(0, k - 1) + d.  The allowance for bursts,
  c' = min(m - 1, c + 1 - d), is not negative by the condition since it was full last; k + c <= m, so m·cap at most
  are critical.
* *Wait*.  One that falls due has p < m before it (units of the cap).  If p < 1 it is served; if not, a whole cap of
  those before it is, and nobody comes before it, since new L lie ahead: TBT > Θ·b̄.  So it waits m - 1 more batches at
  most, and starts less than m batches after L, or after its last token if L was past by then::

    m = 1:  s - L < T', the batch in progress at L        in general:  s - L < m·(the longest batch)

* *Limit*.  So with m = 1 a decode that waits keeps its limit, s + T <= e + TBT, if two batches in a row take no longer
  than Θ·b̄; one that does not wait keeps it if its batch takes no longer than TBT.

Without the condition a decode waits behind others for as many batches as they fill.

Assumptions: nothing is preempted; batches follow each other without a pause while somebody decodes.
Source: the policy is arXiv 2508.01002's, section 6; the condition and the proof are our derivation.
"""

from __future__ import annotations

from dataclasses import replace

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.smt import Obligation
from queueing.proofs.transition import Event, System

__all__ = ["CLAIMS", "backlog", "kept", "late", "never", "order", "proof", "wait"]

REAL, INT = "() Real", "() Int"


def reals(*names: str) -> dict[str, str]:
    """Declarations of real numbers."""
    return dict.fromkeys(names, REAL)


def backlog() -> System:
    """Boundaries: k critical decodes and the allowance c for bursts, in units of the cap; c was full j boundaries ago.

    S fell due since then: the condition is asked of these j and the next boundary alone.
    """
    full = "(- (to_real m) 1.0)"
    left = "(+ {c} (- 1.0 d))"
    return System(
        variables=reals("k", "c", "j", "S"),
        constants={"m": INT},
        laws={"whole": "(<= 1 m)"},
        start={"nobody": f"(and (= 0.0 {{k}} {{j}} {{S}}) (= {{c}} {full}))"},
        events={
            "batch": Event(
                {"d": REAL},
                {"few fall due": f"(and (<= 0.0 d) (<= (+ {{S}} d) (+ {{j}} 1.0 {full})))"},
                {
                    "k": "(+ d (ite (<= {k} 1.0) 0.0 (- {k} 1.0)))",
                    "c": f"(ite (<= {left} {full}) {left} {full})",
                    "j": f"(ite (<= {left} {full}) (+ {{j}} 1.0) 0.0)",
                    "S": f"(ite (<= {left} {full}) (+ {{S}} d) 0.0)",
                },
            ),
        },
        invariant={
            "allowance": f"(and (<= 0.0 {{c}}) (<= {{c}} {full}))",
            "since it was full": f"(= {{c}} (+ {full} (- {{j}} {{S}})))",
            "critical": "(and (<= 0.0 {k}) (<= (+ {k} {c}) (to_real m)))",
        },
    )


def wait() -> System:
    """Boundaries as one decode sees them, in units of the longest batch.

    L; D, the later of L and its last token; `before`, the batch that ended now; while critical, p decodes are before it
    in the queue, in units of the cap, and w batches passed it over.
    """
    critical, queued = "(<= {L} {now})", "(and (<= 0.0 q) (< q (to_real m)))"
    batch = {"time": "(and (< 0.0 T) (<= T 1.0))"}
    passed = {"now": "(+ {now} T)", "before": "T"}
    return System(
        variables={**reals("now", "before", "L", "D", "p"), "w": INT},
        constants={"m": INT},
        laws={"whole": "(<= 1 m)"},
        start={
            "served": "(and (= {D} (ite (<= {L} {now}) {now} {L})) (< 0.0 {before}) (<= {before} 1.0) (= 0 {w}))",
            "place in the queue": "(and (<= 0.0 {p}) (< {p} (to_real m)))",
        },
        events={
            "waits, not critical": Event(
                {"T": REAL, "q": REAL},
                {**batch, "not critical": f"(not {critical})", "few are critical": queued},
                {**passed, "p": "q"},
            ),
            "waits, critical": Event(
                {"T": REAL, "q": REAL},
                {
                    **batch,
                    "critical": critical,
                    "the first are served": "(<= 1.0 {p})",
                    "nobody comes before it": "(and (<= 0.0 q) (<= q (- {p} 1.0)))",
                },
                {**passed, "p": "q", "w": "(+ {w} 1)"},
            ),
            "served": Event(
                {"T": REAL, "q": REAL, "next": REAL},
                {**batch, "few are critical": queued},
                {
                    **passed,
                    "L": "next",
                    "D": "(ite (<= next (+ {now} T)) (+ {now} T) next)",
                    "p": "q",
                    "w": "0",
                },
            ),
        },
        invariant={
            "batches": "(and (< 0.0 {before}) (<= {before} 1.0))",
            "counts": "(and (<= 0 {w}) (<= 0.0 {p}) (<= {L} {D}))",
            "before L": f"(=> (not {critical}) (and (= 0 {{w}}) (= {{L}} {{D}})))",
            "place": "(< (+ {p} (to_real {w})) (to_real m))",
            "passed over": "(< {w} m)",
            "in time": "(=> (= 0 {w}) (< (- {now} {D}) {before}))",
            "late": "(< (- {now} {D}) (+ 1.0 (to_real {w})))",
        },
    )


ONE = {"m = 1": "(= 1 m)"}


def late(*, m: int | None = None) -> Obligation:
    """At every boundary, so at the one where it is served too: less than m batches late."""
    if m == 1:
        return wait().implied("less than the batch in progress late", "(< (- {now} {D}) {before})", ONE)
    return wait().implied("less than m batches late", "(< (- {now} {D}) (to_real m))")


def never() -> Obligation:
    """With m = 1 a critical decode is never passed over, whoever would come before it."""
    system = wait().mutant("waits, critical", guards={"nobody comes before it": None})
    obligation = system.leads("waits, critical", "never passed over with m = 1", "false")
    return replace(obligation, hypotheses={**obligation.hypotheses, **ONE})


def order() -> Obligation:
    """Whoever is served at s or later, or is not critical at s, comes behind who is critical at s."""
    return Obligation(
        "new ones come behind",
        reals("s", "L", "e", "TBT", "offset", "L1"),
        {
            "critical": "(<= L s)",
            "served later, or not critical": "(or (and (< s e) (= L1 (- (+ e TBT) offset))) (< s L1))",
            "slack": "(< offset TBT)",
        },
        "(< L L1)",
    )


def kept() -> list[Obligation]:
    """The limit of a decode that waits is kept if two batches take no longer than the offset; else if one does not."""
    sorts = reals("last", "TBT", "offset", "L", "s", "before", "T")
    waits = {
        "last schedulable time": "(= L (- (+ last TBT) offset))",
        "less than one iteration late": "(< (- s L) before)",
        "two batches within the offset": "(<= (+ before T) offset)",
    }
    at_once = {"does not wait": "(= s last)", "a batch within the limit": "(<= T TBT)"}
    goal = "(<= (+ s T) (+ last TBT))"
    return [
        Obligation("the limit of one that waits", sorts, waits, goal),
        Obligation("the limit of one that does not", sorts, at_once, goal),
    ]


def proof() -> list[Obligation]:
    """Backlog, wait and limit."""
    few = backlog().implied("at most m caps are critical", "(<= {k} (to_real m))")
    return [*backlog().inductive(), few, *wait().inductive(), late(), late(m=1), never(), order(), *kept()]


PASSED = "waits, critical"
CLAIMS = (
    Claim(
        name="slai-last-schedulable-time",
        statement="Under SLAI no decode that waits starts one iteration or more after its last schedulable time, and "
        "its limit is kept if two consecutive batches take no longer than Θ mean ones; with bursts of m caps it "
        "starts less than m longest iterations after.",
        assumptions=(
            "at no boundary do more than min(token_budget, limit_total_decodes) decodes fall due, which holds if no "
            "more requests may run; for m > 1, at no j boundaries in a row more than j + m - 1 times as many, and no "
            "limit within Θ mean batches",
            "nothing is preempted; no pause while somebody decodes",
        ),
        source="arXiv 2508.01002, section 6 (the policy); condition and proof are our derivation",
        kind=Kind.SOLVER,
        evidence=proof,
        controls={
            "any number falls due": lambda: [
                backlog().mutant("batch", guards={"few fall due": "(<= 0.0 d)"}).keeps("batch", "allowance"),
                never().without("place"),
            ],
            "more than the allowance": lambda: [
                backlog().mutant("batch", guards={"few fall due": "(and (<= 0.0 d) (<= (+ {S} d) (+ {j} 0.1 m)))"})
                .keeps("batch", "allowance")
            ],
            "critical decodes anywhere in the queue": lambda: [
                wait().mutant(PASSED, guards={"the first are served": None, "nobody comes before it": "(<= 0.0 q)"})
                .keeps(PASSED, "passed over"),
            ],
            "later ones come before it": lambda: [
                wait().mutant(PASSED, guards={"nobody comes before it": "(and (<= 0.0 q) (<= q {p}))"})
                .keeps(PASSED, "place")
            ],
            "no slack": lambda: [order().without("slack")],
            "pauses": lambda: [
                wait().mutant("waits, not critical", guards={"time": "(< 0.0 T)"}, assigns={"before": "1.0"})
                .keeps("waits, not critical", "in time")
            ],
            "exactly on time": lambda: [late(m=1).claiming("(<= now D)")],
            "batches of any duration": lambda: [kept()[0].without("two batches within the offset"),
                                                kept()[1].without("a batch within the limit")],
        },
        where="docs/policies/slai.md",
    ),
)  # fmt: skip
