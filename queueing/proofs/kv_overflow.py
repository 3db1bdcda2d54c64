"""KV memory is never exceeded: by block admission with whole reservation, and by admission up to the peak (MC-SF).

*Reservation.*  A request is admitted with blocks that hold all it may ever have, prompt and announced output, if so
many are free; it ends when it has them all, or before.  One request a and the sum of all others stand for any number of
them: u tokens in the cache, t that they may ever have, c what their blocks hold; C what all blocks hold::

    0 <= u_a <= t_a <= c_a      0 <= u <= t <= c      c_a + c <= C        in every state, so that  u_a + u <= C

*Peak.*  A request that holds h tokens and ends l iterations ahead will hold blocks(h + s) in the s-th, if s <= l, and
nothing after; F(s) is the sum, and *safe* means F(s) <= M at every s.  Two steps, each by induction over the requests,
so for any number; lengths and iterations in units of a block, in which an iteration is 1/(block size)::

    ends     F(s) <= F(e), e the first end from s on; F(s) = 0 if there is none; so it is enough to look at the ends
    step     F'(s) <= F(s + 1) if everybody gets a token or ends, as announced or before; what is safe stays so
    admit    who comes is looked at together with who is there, at all their ends

Assumptions: nothing is preempted; for the peak, outputs no longer than announced, and a token in every iteration.
Source: Jaillet et al., arXiv 2502.07115, for MC-SF's rule (recalled); the proofs are our derivation.
"""

from __future__ import annotations

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.smt import Obligation
from queueing.proofs.transition import Event, System

__all__ = ["CLAIMS", "ends", "peak", "reservation", "reserved", "step"]

REAL, INT = "() Real", "() Int"


def reservation() -> System:
    """A request a and the rest, under block admission."""
    admit = {
        "lengths": "(and (<= 1 x) (<= 1 y))",
        "blocks hold them": "(<= (+ x y) k)",
        "free": "(<= (+ {ca} {c} k) C)",
    }
    return System(
        variables=dict.fromkeys(("ua", "ta", "ca", "u", "t", "c"), INT),
        constants={"C": INT},
        laws={"memory": "(<= 0 C)"},
        start={"empty": "(and (= 0 {ua}) (= 0 {ta}) (= 0 {ca}) (= 0 {u}) (= 0 {t}) (= 0 {c}))"},
        events={
            "admit a": Event(
                {"x": INT, "y": INT, "k": INT},
                {"alone": "(and (= 0 {ua}) (= 0 {ta}) (= 0 {ca}))", **admit},
                {"ta": "(+ x y)", "ca": "k"},
            ),
            "admit other": Event(
                {"x": INT, "y": INT, "k": INT}, admit, {"t": "(+ {t} x y)", "c": "(+ {c} k)"}
            ),
            "serve a": Event(
                {"n": INT}, {"left": "(and (<= 0 n) (<= (+ {ua} n) {ta}))"}, {"ua": "(+ {ua} n)"}
            ),
            "serve others": Event(
                {"n": INT}, {"left": "(and (<= 0 n) (<= (+ {u} n) {t}))"}, {"u": "(+ {u} n)"}
            ),
            "end a": Event(assigns={"ua": "0", "ta": "0", "ca": "0"}),
            "end other": Event(
                {"n": INT, "m": INT, "k": INT},
                {"one of them": "(and (<= 0 n m k) (<= 0 (- {u} n) (- {t} m) (- {c} k)))"},
                {"u": "(- {u} n)", "t": "(- {t} m)", "c": "(- {c} k)"},
            ),
        },
        invariant={
            "a within its blocks": "(<= 0 {ua} {ta} {ca})",
            "others within theirs": "(<= 0 {u} {t} {c})",
            "blocks within memory": "(<= (+ {ca} {c}) C)",
        },
    )


def reserved() -> list[Obligation]:
    """The invariant, and that the cache holds no more than the memory."""
    system = reservation()
    return [*system.inductive(), system.implied("the cache fits", "(<= (+ {ua} {u}) C)")]


def rounded(tokens: str, blocks: str) -> str:
    """So many blocks are the tokens rounded up, in units of a block."""
    return f"(and (< (- (to_real {blocks}) 1.0) {tokens}) (<= {tokens} (to_real {blocks})))"


def while_there(time: str, left: str, blocks: str) -> str:
    """What a request holds at a time, if it ends after `left`."""
    return f"(ite (<= {time} {left}) {blocks} 0)"


def ends() -> System:
    """Who is there, listed one by one: what they hold at s, and at e, the first end from s on."""
    return System(
        variables={"at": INT, "end": INT},
        constants={"s": REAL, "e": REAL, "M": INT},
        laws={"the end comes later": "(<= s e)"},
        start={"nobody": "(= 0 {at} {end})"},
        events={
            "request": Event(
                {"h": REAL, "l": REAL, "k": INT, "m": INT},
                {
                    "lengths": "(and (<= 0.0 h) (<= 0.0 l) (<= 0 k) (<= 0 m))",
                    "blocks at s": rounded("(+ h s)", "k"),
                    "blocks at e": rounded("(+ h e)", "m"),
                    "no end between": "(or (< l s) (<= e l))",
                },
                {
                    "at": f"(+ {{at}} {while_there('s', 'l', 'k')})",
                    "end": f"(+ {{end}} {while_there('e', 'l', 'm')})",
                },
            )
        },
        invariant={"memory grows between ends": "(<= 0 {at} {end})"},
    )


def step() -> System:
    """Who is there, listed one by one: what they hold at s + 1 before an iteration, and at s after it; g is a token."""
    before = f"(+ {{before}} {while_there('(+ s g)', 'l', 'k')})"
    return System(
        variables={"before": INT, "after": INT},
        constants={"s": REAL, "g": REAL, "M": INT},
        laws={"ahead": "(and (< 0.0 g) (<= g s))"},
        start={"nobody": "(= 0 {before} {after})"},
        events={
            "goes on": Event(
                {**dict.fromkeys(("h", "l", "h1", "l1"), REAL), "k": INT, "m": INT},
                {
                    "lengths": "(and (<= 0.0 h) (<= g l) (<= 0 k) (<= 0 m))",
                    "blocks before": rounded("(+ h s g)", "k"),
                    "blocks after": rounded("(+ h1 s)", "m"),
                    "has a token more": "(<= h1 (+ h g))",
                    "comes nearer to its end": "(<= l1 (- l g))",
                },
                {"before": before, "after": f"(+ {{after}} {while_there('s', 'l1', 'm')})"},
            ),
            "ends": Event(
                {"h": REAL, "l": REAL, "k": INT},
                {"lengths": "(and (<= 0.0 h) (<= g l) (<= 0 k))", "blocks before": rounded("(+ h s g)", "k")},
                {"before": before},
            ),
        },
        invariant={"no more after": "(<= {after} {before})"},
    )


CHECKED = {"checked at the ends": "(<= {end} M)"}
SAFE = {"safe before": "(<= {before} M)"}


def peak() -> list[Obligation]:
    """The ends are enough, and what is safe stays so."""
    return [
        *ends().inductive(),
        ends().implied("the ends are enough", "(<= {at} M)", CHECKED),
        *step().inductive(),
        step().implied("safe after a step", "(<= {after} M)", SAFE),
    ]


def altered(system: System, event: str, clause: str, **guards: str | None) -> list[Obligation]:
    """The obligation that the event keeps the clause, with guards altered (underscores for blanks)."""
    return [
        system.mutant(event, guards={k.replace("_", " "): g for k, g in guards.items()}).keeps(event, clause)
    ]


GROWS, LESS = "memory grows between ends", "no more after"
LARGER = "(and (<= k (+ x y)) (< (+ x y) (+ k 16)))"
CLAIMS = (
    Claim(
        name="kv-reservation",
        statement="Block admission that reserves prompt and announced output never exceeds the KV memory, for any "
        "number of requests.",
        assumptions=("a request ends with its announced output or before", "nothing is preempted"),
        source="our derivation",
        kind=Kind.SOLVER,
        evidence=reserved,
        controls={
            "blocks of 16 tokens rounded down": lambda: altered(
                reservation(), "admit a", "a within its blocks", blocks_hold_them=LARGER
            ),
            "no output reserved": lambda: altered(
                reservation(), "admit other", "others within theirs", blocks_hold_them="(<= x k)"
            ),
            "free blocks not looked at": lambda: altered(
                reservation(), "admit other", "blocks within memory", free=None
            ),
            "outputs longer than announced": lambda: altered(
                reservation(), "serve a", "a within its blocks", left="(<= 0 n)"
            ),
        },
        where="docs/policies/admission.md",
    ),
    Claim(
        name="kv-peak",
        statement="Admission up to the peak of memory, looked for at the announced ends alone (MC-SF), never "
        "exceeds it, for any number of requests and blocks of any size.",
        assumptions=(
            "outputs are no longer than announced",
            "every request that runs gets a token in every iteration, prompts in one piece",
            "nobody is admitted whose peak does not fit, also alone",
        ),
        source="arXiv 2502.07115, rule of MC-SF (recalled); our derivation",
        kind=Kind.SOLVER,
        evidence=peak,
        controls={
            "memory now, not at the ends": lambda: [
                ends().implied("later", "(<= {end} M)", {"checked now": "(<= {at} M)"})
            ],
            "an end that is not looked at": lambda: altered(ends(), "request", GROWS, no_end_between=None),
            "blocks rounded down at the ends": lambda: altered(
                ends(),
                "request",
                GROWS,
                blocks_at_e="(and (<= (to_real m) (+ h e)) (< (+ h e) (+ (to_real m) 1.0)))",
            ),
            "announcements below the truth": lambda: altered(
                step(), "goes on", LESS, comes_nearer_to_its_end=None
            ),
            "a decode that waits": lambda: altered(
                step(), "goes on", LESS, has_a_token_more="(= h1 h)", comes_nearer_to_its_end="(= l1 l)"
            ),
            "two tokens in an iteration": lambda: altered(
                step(), "goes on", LESS, has_a_token_more="(= h1 (+ h g g))"
            ),
        },
        where="docs/policies/mc_sf.md",
    ),
)
