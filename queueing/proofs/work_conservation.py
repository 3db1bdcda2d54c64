"""Work-conserving batches by solvers: full while much is left, their drift, the rate of any policy, and the sandwich.

A batch takes t(n) seconds for its n <= b tokens; a request has at most L tokens left; W is what all have left.

* P1, pigeonhole.  In units of L a request has r <= 1 left, and it may be given at least one token.  So w <= n <= C for
  the n requests and the C tokens that may be given, by induction over the requests: w > b - 1 implies C >= b, and a
  work-conserving batch, min(b, C), is full.  RAD's batches are full or all-decode: W <= w(b - 1)d where one is not.
* P2, drift.  λ requests per second bring λm tokens; W moves by λm·t(b) - b in the mean over a full batch, which is
  negative if and only if λm < b/t(b).
* P3, finiteness.  Every request has a token left, so n <= W: at most bL - 1 requests, of 1 to L tokens, in {W < bL}.
* P5, converse.  Under t(n) = c + a·max(0, n - b0) no batch serves more per second than the largest, n/t(n) <= b/t(b),
  if c >= a·b0.  In units of t(b)/b then n <= t(n), and what has been served by t is at most t.
* Sandwich.  Q* is the backlog of a server of speed 1, work in seconds; a batch of e <= t work *wastes* t - e.  A batch
  that wastes something starts only where W + (its waste) <= K, and the engine idles only without work::

    Q* <= W      W + (waste still to come) - Q* <= K      at every instant, for all arrivals

  Over a full batch W - Q* does not grow, over another it ends at K at most.  RAD: n <= b - 1 decodes of at most d
  tokens waste τ(1 - n/b), so that K = w(b - 1)d + τ/b.

P4, from drift to hitting times, is the kernel's (`foster-hitting-time`).

Sources: arXiv 2504.07347 for the class of policies (recalled); the steps and constants are our derivation.
"""

from __future__ import annotations

from dataclasses import replace

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.smt import Obligation
from queueing.proofs.transition import Event, System

__all__ = [
    "CLAIMS",
    "affine_rate",
    "converse",
    "drift",
    "listing",
    "pigeonhole",
    "rad",
    "requests",
    "sandwich",
    "waste",
]

REAL, INT = "() Real", "() Int"


def reals(*names: str) -> dict[str, str]:
    """Declarations of real numbers."""
    return dict.fromkeys(names, REAL)


def smaller(a: str, b: str) -> str:
    """min(a, b)."""
    return f"(ite (<= {a} {b}) {a} {b})"


def requests() -> System:
    """The requests at a batch boundary, listed one by one; w in units of L, one event for each kind of request.

    w: what they have left; n: how many; P, D: prompt tokens and decode tokens that may be given now.
    """
    left = {"left": "(and (< 0.0 r) (<= r 1.0))"}
    return System(
        variables={"w": REAL, "n": INT, "P": INT, "D": INT},
        constants={"b": INT},
        laws={"batches": "(<= 1 b)"},
        start={"nobody": "(and (= 0.0 {w}) (= 0 {n} {P} {D}))"},
        events={
            "prompt": Event(
                {"r": REAL, "q": INT},
                {**left, "a token may be given": "(<= 1 q)"},
                {"w": "(+ {w} r)", "n": "(+ {n} 1)", "P": "(+ {P} q)"},
            ),
            "decode": Event({"r": REAL}, left, {"w": "(+ {w} r)", "n": "(+ {n} 1)", "D": "(+ {D} 1)"}),
        },
        invariant={
            "at most L each": "(and (<= 0.0 {w}) (<= {w} (to_real {n})))",
            "a token each": "(<= {n} (+ {P} {D}))",
            "counts": "(and (<= 0 {P}) (<= 0 {D} {n}) (=> (= 0 {P}) (= {n} {D})))",
        },
    )


MUCH = {"much is left": "(< (- (to_real b) 1.0) {w})"}


def together() -> str:
    """Tokens of a work-conserving batch."""
    return smaller("b", "(+ {P} {D})")


def apart() -> str:
    """Tokens of the larger of two batches, one of prompts alone and one of decodes alone."""
    prompts, decodes = smaller("b", "{P}"), smaller("b", "{D}")
    return f"(ite (<= {prompts} {decodes}) {decodes} {prompts})"


def pigeonhole() -> list[Obligation]:
    """P1 for any n: the induction, the count, and the batch."""
    system = requests()
    return [
        *system.inductive(),
        system.implied("much left means many", "(<= b {n})", MUCH),
        system.implied("much left fills a batch", f"(= b {together()})", MUCH),
    ]


def rad() -> list[Obligation]:
    """P1 of RAD: at most b - 1, in units of w·d, is left where a batch is not full.  Prompts may be of any length."""
    any_length = requests().mutant("prompt", guards={"left": "(< 0.0 r)"})
    clauses = {**any_length.invariant, "at most L each": "(=> (= 0 {P}) (<= {w} (to_real {n})))"}
    system = replace(any_length, constants={"b": INT, "load": INT}, invariant=clauses)
    rule = {"full or drained": "(or (<= b load) (and (= 0 {P}) (= {D} load)))", "not full": "(< load b)"}
    return [*system.inductive(), system.implied("little is left", "(<= {w} (- (to_real b) 1.0))", rule)]


def drift() -> list[Obligation]:
    """P2, as an equivalence; x = λm, T = t(b), and c = b/t(b)."""
    sorts = reals("x", "T", "c", "b", "served", "change")
    given = {
        "a batch takes time": "(< 0.0 T)",
        "rate of a full batch": "(= b (* c T))",
        "change in the mean": "(= change (- (* x T) served))",
        "full": "(= served b)",
    }
    return [Obligation("drift over a full batch", sorts, given, "(= (< change 0.0) (< x c))")]


def listing() -> System:
    """P3: in tokens, n <= W, by induction over the requests; and no request has more than W."""
    return System(
        variables={"W": INT, "n": INT, "most": INT},
        constants={"L": INT},
        start={"nobody": "(= 0 {W} {n} {most})"},
        events={
            "request": Event(
                {"r": INT},
                {"a token is left": "(<= 1 r)", "length": "(<= r L)"},
                {"W": "(+ {W} r)", "n": "(+ {n} 1)", "most": "(ite (<= {most} r) r {most})"},
            )
        },
        invariant={"no more than tokens": "(<= 0 {n} {W})", "none has more": "(<= 0 {most} {W})"},
    )


def affine_rate() -> list[Obligation]:
    """P5, n·t(b) <= b·t(n) for n <= b, in the unit a s if a > 0, and if a = 0; and that c >= a·b0 is needed."""
    sorts = reals("c", "b0", "b", "n")
    law = {"law": "(and (<= 0.0 b0) (<= 0.0 c))", "tokens": "(and (<= 1.0 n) (<= n b))"}
    time = {k: f"(+ c (ite (<= {k} b0) 0.0 (- {k} b0)))" for k in ("n", "b")}
    cheapest = f"(<= (* n {time['b']}) (* b {time['n']}))"
    name = "the largest batch is the cheapest per token"
    at_b0 = {"cheapest": cheapest, "a smaller one": "(and (= n b0) (< n b))"}
    return [
        Obligation(name, sorts, {**law, "fixed part": "(<= b0 c)"}, cheapest),
        Obligation(f"{name}, a = 0", sorts, law, "(<= (* n c) (* b c))"),
        Obligation("only if the fixed part pays b0 tokens", sorts, {**law, **at_b0}, "(<= b0 c)"),
    ]


def converse() -> System:
    """P5 over a run, in units of t(b)/b: S tokens served by the time t, A arrived, W left; idling is allowed."""
    return System(
        variables=reals("t", "S", "A", "W"),
        start={"beginning": "(= 0.0 {t} {S} {A} {W})"},
        events={
            "arrival": Event({"x": REAL}, {"tokens": "(< 0.0 x)"}, {"A": "(+ {A} x)", "W": "(+ {W} x)"}),
            "batch": Event(
                {"n": REAL, "T": REAL},
                {"there": "(and (<= 0.0 n) (<= n {W}))", "none is cheaper": "(<= n T)"},
                {"t": "(+ {t} T)", "S": "(+ {S} n)", "W": "(- {W} n)"},
            ),
            "idle": Event({"T": REAL}, {"time": "(<= 0.0 T)"}, {"t": "(+ {t} T)"}),
        },
        invariant={
            "served by t": "(<= {S} {t})",
            "left": "(and (= {W} (- {A} {S})) (<= (- {A} {t}) {W}))",
        },
    )


def sandwich() -> System:
    """W, Q* and the waste to come of the batch in progress, in seconds of work, K being any constant."""
    ideal = "(ite (<= {Q} T) 0.0 (- {Q} T))"
    return System(
        variables=reals("W", "Q", "waste"),
        constants={"K": REAL},
        laws={"constant": "(<= 0.0 K)"},
        start={"empty": "(= 0.0 {W} {Q} {waste})"},
        events={
            "arrival": Event({"x": REAL}, {"work": "(<= 0.0 x)"}, {"W": "(+ {W} x)", "Q": "(+ {Q} x)"}),
            "start": Event(
                {"z": REAL},
                {"boundary": "(= 0.0 {waste})", "little is left": "(and (<= 0.0 z) (<= (+ {W} z) K))"},
                {"waste": "z"},
            ),
            "part of a batch": Event(
                {"T": REAL, "e": REAL},
                {
                    "no faster than 1": "(and (<= 0.0 e) (<= e T))",
                    "there": "(<= e {W})",
                    "wastes as announced": "(<= (- T e) {waste})",
                },
                {"W": "(- {W} e)", "Q": ideal, "waste": "(- {waste} (- T e))"},
            ),
            "idle": Event(
                {"T": REAL}, {"time": "(<= 0.0 T)", "nothing is left": "(= 0.0 {W} {waste})"}, {"Q": ideal}
            ),
        },
        invariant={
            "signs": "(and (<= 0.0 {Q}) (<= 0.0 {waste}))",
            "left side": "(<= {Q} {W})",
            "right side": "(<= (+ {W} {waste}) (+ {Q} K))",
        },
    )


def steady() -> Obligation:
    """Over a part of a full batch, e = T, W - Q* does not grow."""
    full = sandwich().mutant("part of a batch", guards={"wastes as announced": "(= e T)"})
    part = full.leads("part of a batch", "a full batch does not widen the sandwich", "true")
    return part.claiming("(<= (- W.next Q.next) (- W Q))")


def waste() -> Obligation:
    """RAD's K: n <= b - 1 decodes of D = w·d at most, and their waste τ(1 - n/b) = (b - n)u, u = τ/b <= D."""
    return Obligation(
        "work and waste of a batch of decodes",
        reals("n", "b", "D", "u"),
        {
            "decodes": "(and (<= 0.0 n) (<= n (- b 1.0)))",
            "a tile costs no more than its tokens": "(and (<= 0.0 u) (<= u D))",
        },
        "(<= (+ (* n D) (* (- b n) u)) (+ (* (- b 1.0) D) u))",
    )


UNMIXED = {"two tokens of prompts, three decodes, b = 5": "(and (= 2 {P}) (= 3 {D}) (= 5 b))"}
CONSERVING = "a batch has min(b, what may be given) tokens, at least one of every request"
PAGE = "docs/models/stability.md"
CLAIMS = (
    Claim(
        name="full-batch-pigeonhole",
        statement="Where requests of at most L tokens have more than (b - 1)L left together, every work-conserving "
        "batch has b tokens, for any number of requests.",
        assumptions=(CONSERVING, "prompts and decodes in one batch"),
        source="arXiv 2504.07347 (recalled); our derivation",
        kind=Kind.SOLVER,
        evidence=pigeonhole,
        controls={
            "batches of prompts alone or of decodes alone": lambda: [
                requests().implied("unmixed", f"(= b {apart()})", {**MUCH, **UNMIXED})
            ],
            "more than (b - 2)L": lambda: [
                requests().implied("less", f"(= b {together()})", {"left": "(< (- (to_real b) 2.0) {w})"})
            ],
            "a prompt that may be given nothing": lambda: [
                requests().mutant("prompt", guards={"a token may be given": "(<= 0 q)"}).keeps("prompt", "a token each")
            ],
            "longer requests": lambda: [
                requests().mutant("decode", guards={"left": "(< 0.0 r)"}).keeps("decode", "at most L each")
            ],
        },
        where=PAGE,
    ),
    Claim(
        name="rad-little-left",
        statement="Where a batch of RAD is not full, at most w(b - 1)d of work is left, d the most decode tokens of a "
        "request, for any number of requests.",
        assumptions=("a batch of RAD is full, or no prompt waits and it decodes for everybody (rad-batches)",),
        source="arXiv 2508.01002, algorithm RAD (recalled); our derivation",
        kind=Kind.SOLVER,
        evidence=rad,
        controls={"prompts wait beside it": lambda: [rad()[-1].without("full or drained")],
                  "full batches too": lambda: [rad()[-1].without("not full")]},
        where=PAGE,
    ),
    Claim(
        name="full-batch-drift",
        statement="Over a full batch the tokens left fall in the mean if and only if λm < b/t(b).",
        assumptions=("λ·t(b) requests of m tokens in the mean come during a batch of t(b)",),
        source="arXiv 2504.07347 (recalled); our derivation",
        kind=Kind.SOLVER,
        evidence=drift,
        controls={"batches that are not full": lambda: [drift()[0].without("full")],
                  "at λm = b/t(b)": lambda: [drift()[0].claiming("(= (< change 0.0) (<= x c))")]},
        where=PAGE,
    ),
    Claim(
        name="little-left-finite",
        statement="At most n requests have n tokens left together, and none has more than all, so that finitely many "
        "states have W < bL.",
        assumptions=("every request has a token left",),
        source="our derivation",
        kind=Kind.SOLVER,
        evidence=lambda: listing().inductive(),
        controls={"requests without a token": lambda: [listing().mutant("request", guards={"a token is left": None})
                                                       .keeps("request", "no more than tokens")]},
        where=PAGE,
    ),
    Claim(
        name="affine-token-rate",
        statement="Under t(n) = c + a·max(0, n - b0) the largest batch is the cheapest per token if c >= a·b0, and "
        "only if it is where a batch of b0 may be had; then no policy has served more than b·t/t(b) tokens by t.",
        assumptions=("batches of at most b tokens, b > b0 for the second half",),
        source="our derivation",
        kind=Kind.SOLVER,
        evidence=lambda: [*affine_rate(), *converse().inductive()],
        controls={
            "any fixed part": lambda: [affine_rate()[0].without("fixed part")],
            "no batch of b0": lambda: [affine_rate()[2].without("a smaller one")],
            "cheaper batches": lambda: [converse().mutant("batch", guards={"none is cheaper": None})
                                        .keeps("batch", "served by t")],
        },
        where=PAGE,
    ),
    Claim(
        name="sandwich-steps",
        statement="At every instant and for all arrivals Q* <= W <= Q* + K, if a batch that wastes starts only where "
        "the work left and its waste are K at most; under RAD K = w(b - 1)d + τ/b.",
        assumptions=("nobody serves faster than 1; no idling with work; nothing is lost", "d >= 1"),
        source="our derivation",
        kind=Kind.SOLVER,
        evidence=lambda: [*sandwich().inductive(), steady(), waste()],
        controls={
            "waste while much is left": lambda: [
                sandwich().mutant("start", guards={"little is left": "(<= 0.0 z)"})
                .keeps("start", "right side")
            ],
            "a constant without the waste": lambda: [
                sandwich().mutant("start", guards={"little is left": "(and (<= 0.0 z) (<= {W} K))"})
                .keeps("start", "right side")
            ],
            "idling with work": lambda: [
                sandwich().mutant("idle", guards={"nothing is left": "(= 0.0 {waste})"}).keeps("idle", "right side")
            ],
            "a server faster than 1": lambda: [
                sandwich().mutant("part of a batch", guards={"no faster than 1": "(<= 0.0 e)"})
                .keeps("part of a batch", "left side")
            ],
            "a batch that wastes widens it": lambda: [steady().without("wastes as announced")],
            "a batch as long as b decodes": lambda: [waste().without("decodes")],
            "tokens that cost less than their tile": lambda: [waste().without("a tile costs no more than its tokens")],
        },
        where=PAGE,
    ),
)  # fmt: skip
