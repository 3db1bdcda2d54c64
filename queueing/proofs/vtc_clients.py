"""VTC's counters stay within U* of each other for any number of clients: solver proofs with quantifiers and sums.

The system of `queueing.models.vtc` with equal weights and the cost wp·x + wq·y.  Lengths are multiplied by wq, which
makes it linear: of client i, c is the counter, m the reserved tokens, r the reserved outputs that are not decoded, p
those of them that are charged already because they were predicted; Q says whether a request of it waits.  M is the
memory, L the longest prompt, and wp enters only through *price*:

    the charge k of a prompt of length x:  0 <= k <= x + slack,  slack = max(0, wp - wq)·L

The sum of m over all clients is a symbol with two laws, which finite sums obey: a changed entry changes it by as much,
and no entry is above it if none is negative.  Invariants, with the floor v of the model and U* = M + slack::

    I0   0 <= p_i <= r_i <= m_i             I1   Sum m <= M                I2   Q_i implies v <= c_i
    I3   c_i - p_i + r_i <= v + U*          I4   no Q_i implies v <= c_last

L1, the gap:  i, j in Q implies c_i - c_j <= U*,  by I3 and I0 for i and I2 for j.

Decode and finish act on one client: a step of many is a sequence of such.  That predicted tokens are among those
reserved is true of each request; of a client it is the guard `prepaid`.  `last` is any client at first, as all counters
are 0 then; an arrival to a client in Q changes nothing.

Controls are mutants with three clients and wp = 2·wq, sums written out: no quantifiers, so that solvers find the state
in which the proof breaks.  That a theorem breaks with it is shown by runs, in the tests of the model.
Source: `queueing.models.vtc`; our derivation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.smt import Obligation
from queueing.proofs.transition import Event, System

__all__ = [
    "CLAIMS",
    "THREE",
    "at",
    "every",
    "gap",
    "lift_may_lower",
    "mutants",
    "price_of_a_prompt",
    "put",
    "refunds",
    "total",
    "twice_as_dear",
    "vtc",
]

THREE = ("one", "two", "three")
REAL, REALS, CLIENT = "() Real", "() (Array Client Real)", "() Client"


def at(variable: str, i: str) -> str:
    """Entry of a variable."""
    return f"(select {{{variable}}} {i})"


def put(variable: str, i: str, value: str) -> str:
    """A variable with another entry."""
    return f"(store {{{variable}}} {i} {value})"


def every(clients: Sequence[str], body: Callable[[str], str]) -> str:
    """All clients satisfy the body; these, or any number of them if none is named."""
    return f"(and {' '.join(map(body, clients))})" if clients else f"(forall ((i Client)) {body('i')})"


def total(clients: Sequence[str], variable: str) -> str:
    """Sum of the entries."""
    return f"(+ {' '.join(at(variable, i) for i in clients)})" if clients else f"(Sum {{{variable}}})"


def vtc(clients: Sequence[str] = ()) -> System:
    """VTC with these clients, or with any number of them if none is named."""
    all_of = partial(every, clients)
    held = total(clients, "m")

    def more(variable: str, *terms: str) -> str:
        return put(variable, "a", f"(+ {at(variable, 'a')} {' '.join(terms)})")

    def least(z: str) -> str:
        return all_of(lambda i: f"(=> {at('Q', i)} (<= {at('c', z)} {at('c', i)}))")

    def arrive(guards: dict[str, str], level: str) -> Event:
        lifted = f"(ite (<= {level} {at('c', 'a')}) {at('c', 'a')} {level})"
        return Event(
            {"a": CLIENT, "z": CLIENT},
            {"absent": f"(not {at('Q', 'a')})", **guards},
            {"c": put("c", "a", lifted), "Q": put("Q", "a", "true"), "v": level},
        )

    nobody = all_of(lambda i: f"(not {at('Q', i)})")
    empty = all_of(
        lambda i: f"(and (= 0 {at('c', i)} {at('m', i)} {at('r', i)} {at('p', i)}) (not {at('Q', i)}))"
    )
    if clients:
        preamble = f"(declare-datatypes ((Client 0)) (({' '.join(f'({i})' for i in clients)})))"
        nothing, change = {}, {}
    else:
        preamble = "(declare-sort Client 0)\n(declare-fun Sum ((Array Client Real)) Real)"
        nothing = {"sum of nothing": "(= 0 (Sum {m}))"}
        change = {
            "sum after a change": "(forall ((b (Array Client Real)) (i Client) (x Real)) "
            "(= (Sum (store b i x)) (+ (Sum b) (- x (select b i)))))"
        }
    positive = all_of(lambda i: f"(<= 0 {at('m', i)})")
    bounded = all_of(lambda i: f"(<= {at('m', i)} {held})")
    return System(
        variables={**dict.fromkeys("cmrp", REALS), "Q": "() (Array Client Bool)", "v": REAL, "last": CLIENT},
        constants=dict.fromkeys(("M", "L", "slack", "U"), REAL),
        laws={"sizes": "(and (<= 0 L M) (<= 0 slack))", "bound": "(= U (+ M slack))", **change},
        lemmas={"sum bounds entries": f"(=> {positive} {bounded})"},
        start={"empty": empty, "floor": "(= 0 {v})", **nothing},
        events={
            "admit": Event(
                {"a": CLIENT, **dict.fromkeys(("x", "y", "k", "q"), REAL), "stays": "() Bool"},
                {
                    "waits": at("Q", "a"),
                    "least": least("a"),
                    "lengths": "(and (<= 0 x L) (<= 0 y))",
                    "price": "(<= 0 k (+ x slack))",
                    "predicted": "(<= 0 q y)",
                    "fits": f"(<= (+ {held} x y) M)",
                },
                {
                    "c": more("c", "k", "q"),
                    "m": more("m", "x", "y"),
                    "r": more("r", "y"),
                    "p": more("p", "q"),
                    "Q": put("Q", "a", "stays"),
                    "v": at("c", "a"),
                    "last": "(ite stays {last} a)",
                },
            ),
            "decode": Event(  # d tokens, t of them predicted
                {"a": CLIENT, "d": REAL, "t": REAL},
                {
                    "reserved": f"(and (<= d {at('r', 'a')}) (<= 0 t d))",
                    "prepaid": f"(<= 0 (- {at('p', 'a')} t) (- {at('r', 'a')} d))",
                },
                {"c": more("c", "d", "(- t)"), "r": more("r", "(- d)"), "p": more("p", "(- t)")},
            ),
            "finish": Event(  # release s tokens, d of them outputs that are not produced, z of these predicted
                {"a": CLIENT, "s": REAL, "d": REAL, "z": REAL},
                {
                    "released": "(and (<= 0 d) (<= 0 s))",
                    "prepaid": f"(<= 0 (- {at('p', 'a')} z) (- {at('r', 'a')} d) (- {at('m', 'a')} s))",
                    "nothing given back": "(= z 0)",
                },
                {
                    "c": more("c", "(- z)"),
                    "m": more("m", "(- s)"),
                    "r": more("r", "(- d)"),
                    "p": more("p", "(- z)"),
                },
            ),
            "arrive": arrive({"z waits": at("Q", "z"), "z least": least("z")}, at("c", "z")),
            "arrive first": arrive({"nobody waits": nobody}, at("c", "{last}")),
        },
        invariant={
            "I0": all_of(lambda i: f"(<= 0 {at('p', i)} {at('r', i)} {at('m', i)})"),
            "I1": f"(<= {held} M)",
            "I2": all_of(lambda i: f"(=> {at('Q', i)} (<= {{v}} {at('c', i)}))"),
            "I3": all_of(lambda i: f"(<= (+ (- {at('c', i)} {at('p', i)}) {at('r', i)}) (+ {{v}} U))"),
            "I4": f"(=> {nobody} (<= {{v}} {at('c', '{last}')}))",
        },
        preamble=preamble,
    )


def gap(system: System) -> Obligation:
    """L1: f and g in Q have counters at most U apart."""
    named = replace(system, constants={**system.constants, "f": CLIENT, "g": CLIENT})
    both = {"f waits": at("Q", "f"), "g waits": at("Q", "g")}
    return named.implied("L1", f"(<= (- {at('c', 'f')} {at('c', 'g')}) U)", both)


def price_of_a_prompt() -> Obligation:
    """wp·x <= wq·x + max(0, wp - wq)·L for x in [0, L]: all that the linear form knows of prices."""
    return Obligation(
        "price",
        dict.fromkeys(("wp", "wq", "x", "L"), REAL),
        {"prices": "(and (<= 0 wp) (<= 0 wq))", "length": "(<= 0 x L)"},
        "(<= 0 (* wp x) (+ (* wq x) (* (ite (<= wp wq) 0.0 (- wp wq)) L)))",
    )


def twice_as_dear() -> System:
    """VTC with three clients and wp = 2·wq, so that slack = L."""
    three = vtc(THREE)
    return replace(three, laws={**three.laws, "twice": "(= slack L)"}).mutant(
        "admit", guards={"price": "(= k (* 2 x))"}
    )


def lift_may_lower(system: System) -> System:
    """The mutant whose lift is c := x.  L1 does not see it; T3 does (`vtc_pair`)."""
    lowered = system.mutant("arrive", assigns={"c": put("c", "a", at("c", "z"))})
    return lowered.mutant("arrive first", assigns={"c": put("c", "a", at("c", "{last}"))})


def refunds(system: System) -> System:
    """The mutant that gives back what was predicted and not produced."""
    return system.mutant("finish", guards={"nothing given back": "(<= 0 z d)"})


def mutants() -> dict[str, tuple[System, str, str]]:
    """Name of what is broken -> the system, and an event and a clause that it does not keep."""
    right = twice_as_dear()
    greatest = every(THREE, lambda i: f"(=> {at('Q', i)} (<= {at('c', i)} {at('c', 'z')}))")
    unlifted = {"c": "{c}"}
    prompt_alone = {"fits": f"(<= (+ {total(THREE, 'm')} x) M)"}
    printed = {**right.laws, "bound": "(= U (ite (<= M (* 2 L)) (* 2 L) M))"}
    return {
        "no lift": (right.mutant("arrive", assigns=unlifted), "arrive", "I2"),
        "no lift if nobody waits": (right.mutant("arrive first", assigns=unlifted), "arrive first", "I2"),
        "lift to the greatest": (right.mutant("arrive", guards={"z least": greatest}), "arrive", "I2"),
        "another than the least admitted": (right.mutant("admit", guards={"least": None}), "admit", "I2"),
        "outputs not reserved": (right.mutant("admit", guards=prompt_alone), "admit", "I1"),
        "last not updated": (right.mutant("admit", assigns={"last": "{last}"}), "admit", "I4"),
        "printed U": (replace(right, laws=printed), "admit", "I3"),
        "refunds": (refunds(right), "finish", "I2"),
    }


def _proof() -> list[Obligation]:
    system = vtc()
    return [price_of_a_prompt(), *system.inductive(), gap(system)]


def _broken(name: str) -> list[Obligation]:
    system, event, clause = mutants()[name]
    return [system.keeps(event, clause)]


def _nothing_happens() -> list[Obligation]:
    right = twice_as_dear()
    return [right.leads(event, f"no {event}", "false") for event in right.events]


CLAIMS = (
    Claim(
        name="vtc-counter-gap",
        statement="VTC: the counters of two clients with waiting requests are at most "
        "U* = wq·M + max(0, wp - wq)·L apart, for any number of clients.",
        assumptions=(
            "cost wp·x + wq·y with wp, wq >= 0; equal weights; prompts of at most L tokens",
            "admission reserves prompt and output within M tokens; no preemption; a prompt is charged on admission",
            "predicted outputs are charged on admission, and nothing is given back",
            "of sums: a changed entry changes the sum by as much, and no entry is above it if none is negative",
        ),
        source="our derivation; Lemma 4.3 of Sheng et al., OSDI 2024 (recalled): max(wp·L, wq·M), too small if wp > wq",
        kind=Kind.SOLVER,
        evidence=_proof,
        controls={
            "nothing ever happens": _nothing_happens,
            **{name: partial(_broken, name) for name in mutants()},
        },
        where="docs/models/vtc.md",
    ),
)
