"""Time between tokens under stall-free batches: no gap is longer than the dearest batch that the token budget allows.

A batch of n tokens whose decodes attend to x cached tokens, and whose chunks have y token pairs, takes

    T = t(n) + κ·x + φ·y        t not decreasing, κ, φ >= 0:  the additive normal form with χ = 0

*Plan.*  A stall-free batch takes a token for each of the d running decodes, and then chunks of at most B - (tokens
taken so far).  By induction over what it takes n <= max(B, d).  The decodes' contexts lie in the cache together,
x <= M.  A chunk of q tokens ends at most C tokens into its prompt, so its pairs are q·(h + q/2) <= q·C, and y <= B·C.

*Clock.*  While a request decodes, batches follow each other without a pause and each of them brings its next token.
So a gap is the time of one batch.  Together, if at most N requests decode at once::

    gap <= t(max(B, N)) + κ·M + φ·B·C

Assumptions: nothing is preempted (a preempted request waits, and is recomputed); no batch is capped below N tokens.
Source: Agrawal et al., OSDI 2024, arXiv 2403.02310 (Sarathi-Serve), which states the bound in words; our derivation.
"""

from __future__ import annotations

from dataclasses import replace

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.smt import Obligation
from queueing.proofs.transition import Event, System

__all__ = ["CLAIMS", "clock", "plan", "price"]

REAL, INT, BOOL = "() Real", "() Int", "() Bool"


def plan() -> System:
    """A batch as it fills: d decodes, p prompt tokens, contexts x, pairs y in units of C; N requests decode at most."""
    return System(
        variables={"d": INT, "p": INT, "x": REAL, "y": REAL},
        constants={"B": INT, "N": INT, "M": REAL},
        laws={"sizes": "(and (<= 1 B) (<= 1 N) (<= 0.0 M))"},
        start={"empty": "(and (= 0 {d} {p}) (= 0.0 {x} {y}))"},
        events={
            "decode": Event(
                {"context": REAL},
                {
                    "decodes go first": "(= 0 {p})",
                    "running": "(< {d} N)",
                    "cached": "(and (<= 0.0 context) (<= (+ {x} context) M))",
                },
                {"d": "(+ {d} 1)", "x": "(+ {x} context)"},
            ),
            "chunk": Event(
                {"q": INT, "pairs": REAL},
                {
                    "within the budget": "(and (<= 1 q) (<= q (- B {d} {p})))",
                    "within the context limit": "(and (<= 0.0 pairs) (<= pairs (to_real q)))",
                },
                {"p": "(+ {p} q)", "y": "(+ {y} pairs)"},
            ),
        },
        invariant={
            "counts": "(and (<= 0 {d} N) (<= 0 {p} B))",
            "budget, or decodes alone": "(or (<= (+ {d} {p}) B) (= 0 {p}))",
            "contexts": "(and (<= 0.0 {x}) (<= {x} M))",
            "pairs": "(and (<= 0.0 {y}) (<= {y} (to_real {p})))",
        },
    )


def larger(a: str, b: str) -> str:
    """max(a, b)."""
    return f"(ite (<= {a} {b}) {b} {a})"


def price() -> Obligation:
    """What a planned batch takes; `phi` is φ·C, since y is in units of C."""
    most = larger("B", "N")
    system = plan()
    obligation = system.implied(
        "time of a planned batch",
        f"(<= (+ (t (+ {{d}} {{p}})) (* kappa {{x}}) (* phi {{y}})) (+ (t {most}) (* kappa M) (* phi (to_real B))))",
        {
            "dearer with tokens": f"(=> (<= (+ {{d}} {{p}}) {most}) (<= (t (+ {{d}} {{p}})) (t {most})))",
            "dearer with context": "(<= 0.0 kappa)",
            "dearer with pairs": "(<= 0.0 phi)",
        },
    )
    return replace(obligation, sorts={**obligation.sorts, "t": "(Int) Real", "kappa": REAL, "phi": REAL})


def clock() -> System:
    """Batch boundaries as one request sees them: `last` its last token, `longest` its longest gap so far (s)."""
    gap = "(- (+ {now} T) {last})"
    served = {"now": "(+ {now} T)", "last": "(+ {now} T)"}
    return System(
        variables={"now": REAL, "last": REAL, "longest": REAL, "decodes": BOOL},
        constants={"bound": REAL},
        laws={"bound": "(<= 0.0 bound)"},
        start={"away": "(and (= 0.0 {now} {last} {longest}) (not {decodes}))"},
        events={
            "first token": Event(
                {"T": REAL},
                {"time": "(< 0.0 T)", "not yet": "(not {decodes})"},
                {**served, "decodes": "true"},
            ),
            "batch": Event(
                {"T": REAL},
                {"decodes": "{decodes}", "time": "(and (< 0.0 T) (<= T bound))"},
                {**served, "longest": larger("{longest}", gap)},
            ),
            "batch or idle time without it": Event(
                {"T": REAL}, {"time": "(< 0.0 T)", "not yet": "(not {decodes})"}, {"now": "(+ {now} T)"}
            ),
            "last token": Event(guards={"decodes": "{decodes}"}, assigns={"decodes": "false"}),
        },
        invariant={
            "no pause": "(=> {decodes} (= {last} {now}))",
            "gaps": "(and (<= 0.0 {longest}) (<= {longest} bound))",
        },
    )


def _planned(event: str, clause: str, **guards: str | None) -> list[Obligation]:
    altered = {name.replace("_", " "): guard for name, guard in guards.items()}
    return [plan().mutant(event, guards=altered).keeps(event, clause)]


BUDGET = "budget, or decodes alone"
WITHOUT = "batch or idle time without it"
CLAIMS = (
    Claim(
        name="stall-free-gap",
        statement="Under stall-free batches with a budget of B tokens and at most N decodes no gap between tokens of a "
        "request is longer than t(max(B, N)) + κ·M + φ·B·C.",
        assumptions=(
            "a batch of n tokens takes t(n) + κ·(contexts of its decodes) + φ·(token pairs of its chunks), t not "
            "decreasing, κ, φ >= 0",
            "nothing is preempted; no pause while somebody decodes; no cap below N decodes",
            "M tokens of KV memory, which requests do not share; prompts of at most C tokens",
        ),
        source="arXiv 2403.02310 (in words); our derivation",
        kind=Kind.SOLVER,
        evidence=lambda: [*plan().inductive(), price(), *clock().inductive()],
        controls={
            "a batch of prompts alone goes first": lambda: [
                clock().mutant(WITHOUT, guards={"not yet": None}).keeps(WITHOUT, "no pause"),
                clock().keeps("batch", "gaps").without("no pause"),
            ],
            "prompts beyond the budget": lambda: [
                *_planned("chunk", BUDGET, within_the_budget="(<= 1 q)"),
                price().without(BUDGET, "counts"),
            ],
            "prompts before decodes": lambda: _planned("decode", BUDGET, decodes_go_first=None),
            "any number of decodes": lambda: _planned("decode", "counts", running=None),
            "a law that falls": lambda: [price().without("dearer with tokens")],
            "no limit on the contexts": lambda: _planned("decode", "contexts", cached="(<= 0.0 context)"),
            "no limit on prompts": lambda: _planned(
                "chunk", "pairs", within_the_context_limit="(<= 0.0 pairs)"
            ),
            "a smaller bound": lambda: [price().claiming(price().goal.replace("(<=", "(<", 1))],
        },
        where="docs/policies/sarathi.md",
    ),
)
