"""KV memory is never exceeded: by block admission with whole reservation, and by admission up to the peak (MC-SF).

*Reservation.*  A request is admitted with blocks that hold all it may ever have, prompt and announced output, if so
many are free; it ends when it has them all, or before.  One request a and the sum of all others stand for any number of
them: u tokens in the cache, t that they may ever have, c what their blocks hold; C what all blocks hold::

    0 <= u_a <= t_a <= c_a      0 <= u <= t <= c      c_a + c <= C        in every state, so that  u_a + u <= C

*Peak.*  Every running request gets a token in every step and ends when it was announced to.  f(t) is what they hold t
steps ahead.  Between two ends nobody leaves, so f grows, and looking at the ends is enough::

    f(t) <= M at every end t   implies   f(t) <= M at every t >= 0

which stays true after a step, f'(t) = f(t + 1), and when somebody ends before, f' <= f.

Assumptions: nothing is preempted; for the peak, outputs no longer than announced, and a token in every step.
Source: Jaillet et al., arXiv 2502.07115, for MC-SF's rule (recalled); the proofs are our derivation.
"""

from __future__ import annotations

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.smt import Obligation
from queueing.proofs.transition import Event, System

__all__ = ["CLAIMS", "peak", "reservation"]

INT = "() Int"


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


def peak() -> list[Obligation]:
    """Ends are enough; a step and an early end keep what was found.

    What holds of every t >= 0 is stated of one, `at`, that may be any.
    """
    between = Obligation(
        "memory grows between two ends",
        dict.fromkeys(("S", "n", "t", "end", "M"), INT),
        {"nobody leaves": "(<= 0 n)", "before the end": "(<= 0 t end)", "checked": "(<= (+ S (* n end)) M)"},
        "(<= (+ S (* n t)) M)",
    )
    ends = Obligation(
        "the ends are enough",
        {"f": "(Int) Int", "next": "(Int) Int", "M": INT, "last": INT, "at": INT},
        {
            "between ends it grows": "(=> (<= 0 at last) (<= (f at) (f (next at))))",
            "afterwards nothing is held": "(=> (< last at) (= (f at) 0))",
            "memory": "(<= 0 M)",
            "checked": "(=> (<= 0 at last) (<= (f (next at)) M))",
            "ahead": "(<= 0 at)",
        },
        "(<= (f at) M)",
    )
    later = {"f": "(Int) Int", "g": "(Int) Int", "M": INT, "at": INT}
    step = Obligation(
        "a step ahead",
        later,
        {
            "fits": "(=> (<= 0 (+ at 1)) (<= (f (+ at 1)) M))",
            "ahead": "(<= 0 at)",
            "everyone has a token": "(= (g at) (f (+ at 1)))",
        },
        "(<= (g at) M)",
    )
    early = Obligation(
        "somebody ends before",
        later,
        {"fits": "(=> (<= 0 at) (<= (f at) M))", "ahead": "(<= 0 at)", "less is held": "(<= (g at) (f at))"},
        "(<= (g at) M)",
    )
    return [between, ends, step, early]


def outlives() -> list[Obligation]:
    """A request of u tokens goes on after its announced end, beside others whose ends were checked."""
    return [
        Obligation(
            "an announcement below the truth",
            dict.fromkeys(("others", "u", "M"), INT),
            {"checked": "(<= others M)", "somebody": "(<= 1 u)", "memory": "(<= 0 others)"},
            "(<= (+ others u) M)",
        )
    ]


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
            "blocks for less than the request": lambda: [
                reservation().mutant("admit a", guards={"blocks hold them": "(<= (+ x y) (+ k 1))"})
                .keeps("admit a", "a within its blocks")
            ],
            "no output reserved": lambda: [
                reservation().mutant("admit other", guards={"blocks hold them": "(<= x k)"})
                .keeps("admit other", "others within theirs")
            ],
            "free blocks not looked at": lambda: [
                reservation().mutant("admit other", guards={"free": None})
                .keeps("admit other", "blocks within memory")
            ],
            "outputs longer than announced": lambda: [
                reservation().mutant("serve a", guards={"left": "(<= 0 n)"})
                .keeps("serve a", "a within its blocks")
            ],
        },
        where="docs/policies/admission.md",
    ),
    Claim(
        name="kv-peak",
        statement="Admission up to the peak of memory, looked for at the announced ends alone (MC-SF), never "
        "exceeds it.",
        assumptions=(
            "outputs are no longer than announced",
            "every request that runs gets a token in every step; blocks of one token",
        ),
        source="arXiv 2502.07115, rule of MC-SF (recalled); our derivation",
        kind=Kind.SOLVER,
        evidence=peak,
        controls={
            "memory now, not at the ends": lambda: [
                peak()[0].without("checked"),
                Obligation("now", peak()[0].sorts, {**peak()[0].without("checked").hypotheses, "now": "(<= S M)"},
                           peak()[0].goal),
            ],
            "an end that is not looked at": lambda: [peak()[0].without("before the end")],
            "announcements below the truth": outlives,
        },
        where="docs/policies/mc_sf.md",
    ),
)  # fmt: skip
