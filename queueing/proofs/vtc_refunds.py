"""VTC with refunds keeps its bounds: what is predicted in excess may be given back, and T1, T3 hold with 2U*; a proof.

With refunds counters fall, so the floor of `vtc_clients` is no bound below (I2 fails), and another invariant is needed.
Notation as there; e = c - p, which never falls: decoding and lifts raise it, predictions and refunds do not move it.
For a client f let A be the set of others that were not in Q since f was last admitted or lifted (nobody at first)::

    J    for every z not in A, other than f:   e_f + r_f + (sum of r over A) <= e_z + U*

*Admit f*, z in Q:  c_f <= c_z = e_z + p_z, and what the admission commits, with r_z and all r of A, is at most U*, as
memory is held apart; p_z <= r_z.  *Lift f* to x <= c_z: the same.  *Arrive y in A*: y is lifted to the c of some z in Q
(or of the last to leave), so e_y >= e_z - p_y, and y takes r_y >= p_y out of the sum; if z is f, the sum and r_f are
within the memory.  *Others* raise e_z, or lower r.  With Q empty, `last` is f or not in A.

So f in Q implies e_g + r_g <= e_f + U* for every g.  With p_g <= r_g that is L1; and T1 follows, as service is the
change of e while a client stays in Q.

T3, window while f is in Q; with index 1 at the opening, S the services since.  If g is not in A1, J gives at once, and
otherwise it holds from the arrival of g on, that  S_g <= e_g - e_f1 + U*;  hence S_g - S_f <= 2U*.  Until g arrives,
for the others B of A1 that did not come to Q either::

    S_g + r_g <= r_g1,    r_g1 + (sum of r over B) <= U*,    e_f1 + r_g1 + (sum of r over B) <= e_z + U*  for z not in B

A and B are arrays of truth values, and the sums are over arrays that are 0 elsewhere.
Assumptions: as in `vtc_clients`, but for refunds; equal weights.  Source: our derivation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from queueing.proofs import vtc_clients
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.smt import Obligation
from queueing.proofs.transition import Event, System
from queueing.proofs.vtc_clients import THREE, at, every, put, total, vtc

__all__ = ["CLAIMS", "ahead", "any_window", "both_window", "followed", "mutants", "within"]

REAL, REALS, BOOL, BOOLS, CLIENT = (
    "() Real",
    "() (Array Client Real)",
    "() Bool",
    "() (Array Client Bool)",
    "() Client",
)


def e(i: str) -> str:
    """Counter less what is prepaid."""
    return f"(- {at('c', i)} {at('p', i)})"


def _not_negative(clients: Sequence[str], variable: str) -> str:
    """Law of sums: without negative entries it is not negative."""
    return f"(=> {every(clients, lambda i: f'(<= 0 {at(variable, i)})')} (<= 0 {total(clients, variable)}))"


def followed(clients: Sequence[str] = ()) -> System:
    """VTC with refunds, a client f, and its set A; `b` is r on A and 0 elsewhere."""
    system = vtc_clients.refunds(vtc(clients))
    all_of = partial(every, clients)
    sum_b = total(clients, "b")
    renewed = {"A": "anew", "b": "bnew"}
    is_new = {
        "A renewed": all_of(lambda i: f"(= (select anew {i}) (not (or {at('Q', i)} (= {i} f))))"),
        "b renewed": all_of(lambda i: f"(= (select bnew {i}) (ite (select anew {i}) {at('r', i)} 0.0))"),
    }

    def shares(b: str, sum_of_b: str) -> str:
        """Law of sums: b below m, and 0 at f and z, has a sum that leaves m_f and m_z."""
        below = all_of(lambda i: f"(<= 0 (select {b} {i}) {at('m', i)})")
        room = all_of(
            lambda i: (
                f"(=> (and (= 0 (select {b} {i})) (distinct {i} f)) "
                f"(<= (+ {at('m', 'f')} {at('m', i)} {sum_of_b}) {total(clients, 'm')}))"
            )
        )
        one = f"(<= (+ {at('m', 'f')} {sum_of_b}) {total(clients, 'm')})"
        return f"(=> (and {below} (= 0 (select {b} f))) (and {room} {one}))"

    sum_new = f"(+ {' '.join(f'(select bnew {i})' for i in clients)})" if clients else "(Sum bnew)"
    is_new["law of sums"] = shares("bnew", sum_new)

    def changed(event: Event, amount: str) -> Event:
        fewer = put("b", "a", f"(- {at('b', 'a')} {amount})")
        return replace(event, assigns={**event.assigns, "b": f"(ite {at('A', 'a')} {fewer} {{b}})"})

    def arriving(event: Event) -> Event:
        lifted = f"(and (= a f) (< {at('c', 'f')} {event.assigns['v']}))"
        assigns = {
            "A": f"(ite {lifted} anew {put('A', 'a', 'false')})",
            "b": f"(ite {lifted} bnew {put('b', 'a', '0.0')})",
        }
        return replace(
            event,
            inputs={**event.inputs, "anew": BOOLS, "bnew": REALS},
            guards={**event.guards, **is_new},
            assigns={**event.assigns, **assigns},
        )

    admit = system.events["admit"]
    events = {
        "admit": replace(
            admit,
            inputs={**admit.inputs, "anew": BOOLS, "bnew": REALS},
            guards={**admit.guards, **is_new},
            assigns={**admit.assigns, **{k: f"(ite (= a f) {new} {{{k}}})" for k, new in renewed.items()}},
        ),
        "decode": changed(system.events["decode"], "d"),
        "finish": changed(system.events["finish"], "d"),
        "arrive": arriving(system.events["arrive"]),
        "arrive first": arriving(system.events["arrive first"]),
    }
    nobody = all_of(lambda i: f"(not {at('Q', i)})")
    return replace(
        system,
        variables={**system.variables, "A": BOOLS, "b": REALS},
        constants={**system.constants, "f": CLIENT},
        lemmas={
            **system.lemmas,
            "sum leaves f": shares("{b}", sum_b),
            "sum of b is not negative": _not_negative(clients, "b"),
        },
        start={
            **system.start,
            "nobody absent": all_of(lambda i: f"(and (not {at('A', i)}) (= 0 {at('b', i)}))"),
            **({} if clients else {"sum of no one": "(= 0 (Sum {b}))"}),
        },
        events=events,
        invariant={
            **{name: system.invariant[name] for name in ("I0", "I1")},
            "A": all_of(lambda i: f"(=> {at('A', i)} (not (or {at('Q', i)} (= {i} f))))"),
            "b": all_of(lambda i: f"(= {at('b', i)} (ite {at('A', i)} {at('r', i)} 0.0))"),
            "last": f"(=> {nobody} (or (= {{last}} f) (not {at('A', '{last}')})))",
            "J": all_of(
                lambda i: (
                    f"(=> (not (or {at('A', i)} (= {i} f))) "
                    f"(<= (+ {e('f')} {at('r', 'f')} {sum_b}) (+ {e(i)} U)))"
                )
            ),
        },
    )


def ahead(system: System) -> Obligation:
    """What J says of f and a client g in Q."""
    named = replace(system, constants={**system.constants, "g": CLIENT})
    return named.implied("ahead", _ahead("f", "g"))


def _ahead(i: str, j: str) -> str:
    return f"(=> {at('Q', j)} (<= (+ {e(i)} {at('r', i)}) (+ {e(j)} U)))"


def _watched(system: System, events: dict[str, Event], opens: Event) -> System:
    """Services S of f and g since the window opened; it closes when f or, if it must stay, g leaves Q."""

    def watch(name: str, event: Event) -> Event:
        assigns = dict(event.assigns)
        for u in ("f", "g"):
            price = {"admit": "k", "decode": "d"}.get(name)
            if price:
                assigns[f"S{u}"] = f"(ite (= a {u}) (+ {{S{u}}} {price}) {{S{u}}})"
        if name == "admit":
            leaver = "(or (= a f) (= a g))" if "arrived" not in opens.assigns else "(= a f)"
            assigns["open"] = f"(and {{open}} (or stays (not {leaver})))"
        return replace(event, assigns=assigns)

    return replace(
        system,
        variables={**system.variables, "open": BOOL, "Sf": REAL, "Sg": REAL},
        start={**system.start, "closed": "(not {open})"},
        events={**{name: watch(name, event) for name, event in events.items()}, "open": opens},
    )


def both_window(clients: Sequence[str] = ()) -> System:
    """Windows of T1: f and g in Q."""
    system = vtc_clients.refunds(vtc(clients))
    both = f"(and {at('Q', 'f')} {at('Q', 'g')})"
    opens = Event(
        guards={"closed": "(not {open})", "may open": both},
        assigns={"open": "true", "Sf": "0.0", "Sg": "0.0", "ef1": e("f"), "eg1": e("g")},
    )
    system = _watched(system, dict(system.events), opens)
    clauses = {
        "in Q": both,
        "service of f": f"(= {{Sf}} (- {e('f')} {{ef1}}))",
        "service of g": f"(= {{Sg}} (- {e('g')} {{eg1}}))",
        "gap at the opening": "(<= (- U) (- {ef1} {eg1}) U)",
    }
    reserved = {name: system.invariant[name] for name in ("I0", "I1")}
    return replace(
        system,
        variables={**system.variables, "ef1": REAL, "eg1": REAL},
        constants={**system.constants, "f": CLIENT, "g": CLIENT},
        laws={**system.laws, "two": "(distinct f g)"},
        lemmas={**system.lemmas, **reserved, "f of g": _ahead("f", "g"), "g of f": _ahead("g", "f")},
        invariant={name: f"(=> {{open}} {clause})" for name, clause in clauses.items()},
    )


def any_window(clients: Sequence[str] = ()) -> System:
    """Windows of T3: f in Q.  `arrived`: g was not in A1, or has arrived since; `B` as above, `h` is r on B, else 0."""
    system = followed(clients)
    all_of = partial(every, clients)
    sum_h = total(clients, "h")
    opens = Event(
        guards={"closed": "(not {open})", "may open": at("Q", "f")},
        assigns={
            "open": "true",
            "Sf": "0.0",
            "Sg": "0.0",
            "ef1": e("f"),
            "rg1": at("r", "g"),
            "arrived": f"(not {at('A', 'g')})",
            "B": put("A", "g", "false"),
            "h": put("b", "g", "0.0"),
        },
    )
    less = f"(- {at('h', 'a')} d)"
    fewer = f"(ite {at('B', 'a')} {put('h', 'a', less)} {{h}})"
    leaves_b = {"B": put("B", "a", "false"), "h": put("h", "a", "0.0"), "arrived": "(or {arrived} (= a g))"}
    tracked = {"decode": {"h": fewer}, "finish": {"h": fewer}, "arrive": leaves_b, "arrive first": leaves_b}
    events = {
        name: replace(event, assigns={**event.assigns, **tracked.get(name, {})})
        for name, event in system.events.items()
    }
    clauses = {
        "in Q": at("Q", "f"),
        "service of f": f"(and (<= 0 {{Sf}}) (= {{Sf}} (- {e('f')} {{ef1}})))",
        "r of g": "(<= {rg1} U)",
        "arrived": f"(=> {{arrived}} (<= {{Sg}} (+ (- {e('g')} {{ef1}}) U)))",
    }
    away = {
        "g away": f"(and (not {at('Q', 'g')}) (<= (+ {{Sg}} {at('r', 'g')}) {{rg1}}))",
        "B": all_of(lambda i: f"(=> {at('B', i)} (not (or {at('Q', i)} (= {i} f) (= {i} g))))"),
        "h": all_of(lambda i: f"(= {at('h', i)} (ite {at('B', i)} {at('r', i)} 0.0))"),
        "memory": f"(<= (+ {{rg1}} {sum_h}) U)",
        "J1": all_of(
            lambda i: (
                f"(=> (not (or {at('B', i)} (= {i} f) (= {i} g))) (<= (+ {{ef1}} {{rg1}} {sum_h}) (+ {e(i)} U)))"
            )
        ),
    }
    clauses |= {name: f"(=> (not {{arrived}}) {clause})" for name, clause in away.items()}
    watched = _watched(system, events, opens)
    return replace(
        watched,
        variables={**watched.variables, "ef1": REAL, "rg1": REAL, "arrived": BOOL, "B": BOOLS, "h": REALS},
        constants={**watched.constants, "g": CLIENT},
        laws={**watched.laws, "two": "(distinct f g)"},
        lemmas={
            **watched.lemmas,
            **watched.invariant,
            "g of f": _ahead("g", "f"),
            "sum of h is not negative": _not_negative(clients, "h"),
        },
        invariant={f"window, {name}": f"(=> {{open}} {clause})" for name, clause in clauses.items()},
    )


def within(system: System, name: str, *, both: bool = False) -> Obligation:
    """S_g - S_f, and if `both` S_f - S_g, is at most 2U* in an open window."""
    return system.implied(
        name, f"(=> {{open}} (<= {'(- (* 2 U)) ' if both else ''}(- {{Sg}} {{Sf}}) (* 2 U)))"
    )


def twice_as_dear() -> System:
    """Three clients and wp = 2·wq, so that slack = L."""
    three = followed(THREE)
    return replace(three, laws={**three.laws, "twice": "(= slack L)"}).mutant(
        "admit", guards={"price": "(= k (* 2 x))"}
    )


def mutants() -> dict[str, Obligation]:
    """Name of what is broken -> an obligation that is refuted then."""
    right = twice_as_dear()
    greatest = every(THREE, lambda i: f"(=> {at('Q', i)} (<= {at('c', i)} {at('c', 'z')}))")
    prompt_alone = {"fits": f"(<= (+ {total(THREE, 'm')} x) M)"}
    printed = {**right.laws, "bound": "(= U (ite (<= M (* 2 L)) (* 2 L) M))"}
    away_forgotten = {**right.invariant, "J": right.invariant["J"].replace(total(THREE, "b"), "0.0")}
    unlifted, lowered = {"c": "{c}"}, {"c": put("c", "a", at("c", "z"))}
    window = any_window(THREE)
    less = "(=> {open} (<= (- {Sg} {Sf}) (* 1.9 U)))"
    return {
        "no lift": right.mutant("arrive", assigns=unlifted).keeps("arrive", "J"),
        "no lift if nobody waits": right.mutant("arrive first", assigns=unlifted).keeps("arrive first", "J"),
        "lift to the greatest": right.mutant("arrive", guards={"z least": greatest}).keeps("arrive", "J"),
        "lift may lower": right.mutant("arrive", assigns=lowered).keeps("arrive", "J"),
        "another than the least admitted": right.mutant("admit", guards={"least": None}).keeps("admit", "J"),
        "outputs not reserved": right.mutant("admit", guards=prompt_alone).keeps("admit", "I1"),
        "last not updated": right.mutant("admit", assigns={"last": "{last}"}).keeps("admit", "last"),
        "printed U": replace(right, laws=printed).keeps("admit", "J"),
        "more predicted than reserved": right.mutant("admit", guards={"predicted": "(<= 0 q)"}).keeps(
            "admit", "I0"
        ),
        "J without the clients away": replace(right, invariant=away_forgotten).keeps("arrive", "J"),
        "less than 2U*": window.implied("T3 with 1.9U*", less),
    }


def _broken(name: str) -> list[Obligation]:
    return [mutants()[name]]


def _two() -> list[Obligation]:
    system, window = followed(), both_window()
    return [*system.inductive(), ahead(system), *window.inductive(), within(window, "T1", both=True)]


def _any() -> list[Obligation]:
    window = any_window()
    return [*window.inductive(), within(window, "T3")]


def _nothing_happens() -> list[Obligation]:
    window = any_window(THREE)
    return [window.leads(event, f"no {event}", "false") for event in window.events]


ASSUMPTIONS = (
    *(a for a in vtc_clients.CLAIMS[0].assumptions if not a.startswith(("predicted", "of sums"))),
    "at most what is reserved is predicted and charged on admission; what is not produced may be given back at the end",
    "of sums: a changed entry changes the sum by as much; over disjoint sets of clients they add to at most the whole",
)
CONTROLS = {name: partial(_broken, name) for name in mutants()}
CLAIMS = (
    Claim(
        name="vtc-refunds-two-backlogged",
        statement="VTC with predictions and refunds: while two clients have waiting requests, their services differ by "
        "at most 2U*, for any number of clients.",
        assumptions=ASSUMPTIONS,
        source="our derivation",
        kind=Kind.SOLVER,
        evidence=_two,
        controls={name: control for name, control in CONTROLS.items() if name != "less than 2U*"},
        where="docs/models/vtc.md",
    ),
    Claim(
        name="vtc-refunds-any-client",
        statement="VTC with predictions and refunds: while a client has waiting requests, any other gets at most 2U* "
        "more service than it, for any number of clients.",
        assumptions=(*ASSUMPTIONS, "J, of vtc-refunds-two-backlogged"),
        source="our derivation",
        kind=Kind.SOLVER,
        evidence=_any,
        controls={"nothing ever happens": _nothing_happens, "less than 2U*": CONTROLS["less than 2U*"]},
        where="docs/models/vtc.md",
    ),
)
