"""WAIT's memory: thresholds bound what a type holds, whoever comes and whenever it advances.

A type has prompts of p tokens, o decodes and the threshold n; a request in stage k holds p + k tokens.  When the type
advances, all its requests move on by a stage and at most n enter stage 0; after stage o they leave.  So no stage ever
holds more than n, by induction over the advances, and by induction over the stages::

    held <= n(o + 1)(p + o/2)        reserved, prompt and output at once: <= n(o + 1)(p + o)

for any number of stages and types.  Where a type advances with a full group alone, every stage holds 0 or n; who enters
by patience, which is the library's addition, makes a smaller group and no larger memory.

Assumptions: equal requests within a type; nothing is preempted, so a type moves as a whole.
Source: Ao, Luo, Simchi-Levi and Wang, arXiv 2504.11320, for the rule (recalled); our derivation.
"""

from __future__ import annotations

from dataclasses import replace

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.smt import Obligation
from queueing.proofs.transition import Event, System

__all__ = ["CLAIMS", "advance", "stages", "thresholds", "types"]

REAL, INT = "() Real", "() Int"


def advance(*, full: bool = False) -> Obligation:
    """When a type advances, stage j gets who was in stage j - 1, or who enters: n at most; 0 or n with full groups."""
    some = "(or (= 0 {0}) (= n {0}))" if full else "(<= 0 {0} n)"
    return Obligation(
        "full groups stay so" if full else "no stage holds more than a group",
        {"old": "(Int) Int", "new": "(Int) Int", "j": INT, "n": INT, "entering": INT},
        {
            "before": f"(=> (<= 1 j) {some.format('(old (- j 1))')})",
            "a group enters": some.format("entering"),
            "all move on": "(= (new j) (ite (= j 0) entering (old (- j 1))))",
            "stage": "(<= 0 j)",
        },
        some.format("(new j)"),
    )


def stages() -> System:
    """Stages of a type, listed from 0 to o: tokens held and reserved, in units of n; a is the share of n in stage k."""
    return System(
        variables={"k": REAL, "held": REAL, "reserved": REAL},
        constants={"p": REAL, "o": REAL},
        laws={"lengths": "(and (<= 0.0 p) (<= 0.0 o))"},
        start={"none yet": "(= 0.0 {k} {held} {reserved})"},
        events={
            "stage": Event(
                {"a": REAL},
                {"at most a group": "(and (<= 0.0 a) (<= a 1.0))", "goes on": "(<= {k} o)"},
                {
                    "k": "(+ {k} 1.0)",
                    "held": "(+ {held} (* a (+ p {k})))",
                    "reserved": "(+ {reserved} (* a (+ p o)))",
                },
            )
        },
        invariant={
            "stages": "(<= 0.0 {k})",
            "held": "(<= (* 2.0 {held}) (* {k} (- (+ p p {k}) 1.0)))",
            "reserved": "(<= {reserved} (* {k} (+ p o)))",
        },
    )


def types() -> System:
    """Types, listed one by one: what they hold, and what their thresholds allow."""
    return System(
        variables={"held": REAL, "allowed": REAL},
        constants={"M": REAL},
        start={"none yet": "(= 0.0 {held} {allowed})"},
        events={
            "type": Event(
                {"x": REAL, "y": REAL},
                {"within its stages": "(<= x y)"},
                {"held": "(+ {held} x)", "allowed": "(+ {allowed} y)"},
            )
        },
        invariant={"thresholds": "(<= {held} {allowed})"},
    )


ALL_STAGES = {"all stages": "(= {k} (+ o 1.0))"}
HELD = "(<= {held} (* (+ o 1.0) (+ p (/ o 2.0))))"
RESERVED = "(<= {reserved} (* (+ o 1.0) (+ p o)))"


def thresholds() -> list[Obligation]:
    """Groups, stages and types."""
    return [
        advance(),
        advance(full=True),
        *stages().inductive(),
        stages().implied("held by a type", HELD, ALL_STAGES),
        stages().implied("reserved by a type", RESERVED, ALL_STAGES),
        *types().inductive(),
        types().implied("the thresholds fit", "(<= {held} M)", {"memory": "(<= {allowed} M)"}),
    ]


CLAIMS = (
    Claim(
        name="wait-memory",
        statement="Under thresholds n_j WAIT holds at most Σ n_j(o_j + 1)(p_j + o_j/2) tokens, and reserves at most "
        "Σ n_j(o_j + 1)(p_j + o_j), for any number of types and stages.",
        assumptions=("requests of a type have equal lengths p_j, o_j", "nothing is preempted"),
        source="arXiv 2504.11320 (recalled); our derivation",
        kind=Kind.SOLVER,
        evidence=thresholds,
        controls={
            "more than a group enters": lambda: [advance().without("a group enters")],
            "who is in a stage stays there": lambda: [advance().without("all move on")],
            "full groups with patience": lambda: [
                replace(
                    advance(full=True),
                    hypotheses={**advance(full=True).hypotheses, "a group enters": "(<= 0 entering n)"},
                )
            ],
            "stages beyond the last": lambda: [
                stages().implied("one more", HELD, {"all stages": "(= {k} (+ o 2.0))"})
            ],
            "more than a group in a stage": lambda: [
                stages().mutant("stage", guards={"at most a group": "(<= 0.0 a)"}).keeps("stage", "held")
            ],
            "the memory held, for what is reserved": lambda: [
                stages().implied("reserved", HELD.replace("{held}", "{reserved}"), ALL_STAGES)
            ],
            "a smaller memory": lambda: [stages().implied("less", HELD.replace("(<=", "(<", 1), ALL_STAGES)],
            "a type beyond its thresholds": lambda: [
                types().mutant("type", guards={"within its stages": None}).keeps("type", "thresholds")
            ],
        },
        where="docs/policies/wait.md",
    ),
)
