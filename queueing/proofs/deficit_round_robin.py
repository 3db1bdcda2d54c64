"""Deficit round robin whose turns end when the deficit is used up: two backlogged clients differ by a constant.

Notation, prices and U* as in `vtc_pair`; d_u is the deficit, quantum > 0.  The rule that is proved::

    a turn of u begins:  if d_u <= 0:  d_u += quantum
    in its turn, while d_u > 0:  admit the first request of u if it fits, d_u -= its prompt's charge; else wait, first
    the turn ends when d_u <= 0, or nothing of u waits;  outputs are taken off d_u as they are decoded, at any time

In every state, for every u:   I6   d_u <= quantum          I7   d_u - r_u >= -U*

I7 because u has d_u > 0 when a request is admitted, which takes at most U* off with all that u has reserved.

A window while f, g have waiting requests: both are in the list, so their turns alternate.  S_u is the service since it
opened, T_u the quantum times the turns that u began since then; b_u the deficit at the opening, less a quantum if the
first turn begins with credit, as d_u > 0 is kept by a client that leaves the list::

    S_u = T_u + b_u - d_u,   -max(quantum, U*) <= b_u <= quantum,   d_u <= 0 between two turns in the window,
    T_f - T_g is 0 before every turn of the first of them, and a quantum in its favour before one of the other

    so that  abs(S_f - S_g) <= 2·quantum + U* + max(quantum, U*)

`policies.DeficitRoundRobin` has this rule; with its `artifact` it differs in what it does after a misfit, and the bound
is not proved.  (1) A client that waits in its turn until d_u = 0 exactly gets another quantum and goes on: with whole
charges it can keep its turn for ever.  (2) A client of which a request did not fit, and was admitted later in its
turn, loses its next turn.  Both are controls: the proof breaks with either.

Assumptions: as in `vtc_pair`, without predictions; equal weights; of any number of other clients only the memory that
they hold matters.
Source: our derivation; round robin by deficits is Shreedhar and Varghese's, SIGCOMM 1995.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.smt import Obligation
from queueing.proofs.transition import Event, System
from queueing.proofs.vtc_pair import OTHER

__all__ = ["CLAIMS", "CONSTANT", "bound", "deficits", "mutants", "window"]

REAL, BOOL = "() Real", "() Bool"
BEGINS_F = "(or {turng} (and {next} (not {turnf})))"  # of f and g, f is the one whose turn begins next


def deficits() -> System:
    """What f and g may have of deficits and reserved tokens, whoever's turn it is."""
    fits = "(<= (+ {mf} {mg} {mr} x y) M)"
    events: dict[str, Event] = {
        "admit other": Event(
            {"x": REAL, "y": REAL},
            {"lengths": "(and (<= 0 x) (<= 0 y))", "fits": fits},
            {"mr": "(+ {mr} x y)"},
        ),
        "finish other": Event({"s": REAL}, {"released": "(<= 0 s {mr})"}, {"mr": "(- {mr} s)"}),
    }
    invariant = {"I0": "(<= 0 {mr})", "I1": "(<= (+ {mf} {mg} {mr}) M)"}
    for u in OTHER:
        events |= {
            f"quantum {u}": Event(
                guards={"used up": f"(<= {{d{u}}} 0)"}, assigns={f"d{u}": f"(+ {{d{u}}} quantum)"}
            ),
            f"admit {u}": Event(
                dict.fromkeys(("x", "y", "k"), REAL),
                {
                    "deficit": f"(< 0 {{d{u}}})",
                    "lengths": "(and (<= 0 x L) (<= 0 y))",
                    "price": "(<= 0 k (+ x slack))",
                    "fits": fits,
                },
                {f"d{u}": f"(- {{d{u}}} k)", f"r{u}": f"(+ {{r{u}}} y)", f"m{u}": f"(+ {{m{u}}} x y)"},
            ),
            f"decode {u}": Event(
                {"k": REAL},
                {"reserved": f"(<= 0 k {{r{u}}})"},
                {f"d{u}": f"(- {{d{u}}} k)", f"r{u}": f"(- {{r{u}}} k)"},
            ),
            f"finish {u}": Event(
                {"s": REAL, "y": REAL},
                {
                    "released": f"(and (<= 0 s) (<= 0 y {{r{u}}}))",
                    "of others": f"(<= (- {{r{u}}} y) (- {{m{u}}} s))",
                },
                {f"r{u}": f"(- {{r{u}}} y)", f"m{u}": f"(- {{m{u}}} s)"},
            ),
        }
        invariant |= {
            f"I0 {u}": f"(<= 0 {{r{u}}} {{m{u}}})",
            f"I6 {u}": f"(<= {{d{u}}} quantum)",
            f"I7 {u}": f"(<= (- U) (- {{d{u}}} {{r{u}}}))",
        }
    reals = [*(f"{k}{u}" for k in "dmr" for u in OTHER), "mr"]
    return System(
        variables=dict.fromkeys(reals, REAL),
        constants=dict.fromkeys(("M", "L", "slack", "U", "quantum"), REAL),
        laws={
            "sizes": "(and (<= 0 L M) (<= 0 slack) (< 0 quantum))",
            "bound": "(= U (+ M slack))",
        },
        start={"zero": f"(= 0 {' '.join(f'{{{v}}}' for v in reals)})"},
        events=events,
        invariant=invariant,
    )


def window() -> System:
    """A window of two backlogged clients; it opens in any state that the deficits can have, in or between turns.

    Further variables: `turnf`, whether f is in its turn; `next`, whether of f and g the next turn is f's; `freshf`,
    whether f began no turn since the opening; `first`, whether the first turn to begin is f's; S, T, b as above.
    """
    system = deficits()
    events = {name: event for name, event in system.events.items() if not name.startswith("quantum")}
    clauses: dict[str, str] = {}
    idle = "(not (or {turnf} {turng}))"
    for u, other in OTHER.items():
        mine = "{next}" if u == "f" else "(not {next})"
        least = f"(ite (or {{fresh{u}}} (<= quantum U)) (- U) (- quantum))"
        admit, decode = events[f"admit {u}"], events[f"decode {u}"]
        earned = {f"S{u}": f"(+ {{S{u}}} k)"}
        events |= {
            f"admit {u}": replace(
                admit,
                guards={**admit.guards, "in turn": f"{{turn{u}}}"},
                assigns={**admit.assigns, **earned},
            ),
            f"decode {u}": replace(decode, assigns={**decode.assigns, **earned}),
            f"begin {u}": Event(
                guards={"idle": idle, "next": mine},
                assigns={
                    f"d{u}": f"(ite (<= {{d{u}}} 0) (+ {{d{u}}} quantum) {{d{u}}})",
                    f"b{u}": f"(ite (<= {{d{u}}} 0) {{b{u}}} (- {{b{u}}} quantum))",
                    f"T{u}": f"(+ {{T{u}}} quantum)",
                    f"turn{u}": "true",
                    f"fresh{u}": "false",
                },
            ),
            f"end {u}": Event(
                guards={"in turn": f"{{turn{u}}}", "used up": f"(<= {{d{u}}} 0)"},
                assigns={f"turn{u}": "false", "next": "false" if u == "f" else "true"},
            ),
        }
        clauses |= {
            f"service of {u}": f"(= {{S{u}}} (- (+ {{T{u}}} {{b{u}}}) {{d{u}}}))",
            f"before {u} begins": f"(=> {{fresh{u}}} (and (= {{T{u}}} 0) (<= {{d{u}}} {{b{u}}})))",
            f"after {u} begins": f"(=> (not {{fresh{u}}}) (<= quantum {{T{u}}}))",
            f"opening of {u}": f"(<= {least} {{b{u}}} quantum)",
            f"used up by {u}": f"(=> (and (not {{fresh{u}}}) (not {{turn{u}}})) (<= {{d{u}}} 0))",
            f"turn of {u}": f"(=> {{turn{u}}} (and {mine} (not {{turn{other}}})))",
        }
    clauses["turns alternate"] = (
        f"(= (- {{Tf}} {{Tg}}) (ite {{first}} (ite {BEGINS_F} 0.0 quantum) (ite {BEGINS_F} (- quantum) 0.0)))"
    )
    return replace(
        system,
        variables={
            **system.variables,
            **dict.fromkeys((f"{k}{u}" for k in "STb" for u in OTHER), REAL),
            **dict.fromkeys((*(f"{k}{u}" for k in ("turn", "fresh") for u in OTHER), "next", "first"), BOOL),
        },
        start={
            **{f"{name} at the opening": clause for name, clause in system.invariant.items()},
            "nothing yet": "(= 0 {Sf} {Sg} {Tf} {Tg})",
            "deficits": "(and (= {bf} {df}) (= {bg} {dg}))",
            "fresh": "(and {freshf} {freshg})",
            "first": f"(= {{first}} {BEGINS_F})",
            "one turn at most": "(and (=> {turnf} (and {next} (not {turng}))) (=> {turng} (not {next})))",
        },
        events=events,
        invariant=clauses,
        lemmas=system.invariant,
    )


def bound(system: System, most: str) -> Obligation:
    """Services differ by at most this."""
    return system.implied("two backlogged clients", f"(<= (- {most}) (- {{Sf}} {{Sg}}) {most})")


MAX = "(ite (<= U quantum) quantum U)"
CONSTANT = f"(+ quantum quantum U {MAX})"


def mutants() -> dict[str, Obligation]:
    """Name of what is broken -> an obligation that is refuted then."""
    loose, tied = deficits(), window()

    def also(name: str, event: Event) -> System:
        return replace(tied, events={**tied.events, name: event})

    again = Event(
        guards={"in turn": "{turnf}", "used up exactly": "(= {df} 0)"},
        assigns={"df": "(+ {df} quantum)"},
    )
    skip = Event(
        guards={"idle": "(not (or {turnf} {turng}))", "next": "{next}", "in debt": "(< {df} 0)"},
        assigns={"next": "false"},
    )
    return {
        "a second quantum in a turn": also("again f", again).keeps("again f", "service of f"),
        "a turn is lost": also("skip f", skip).keeps("skip f", "turns alternate"),
        "a quantum beside credit": loose.mutant("quantum f", guards={"used up": None}).keeps(
            "quantum f", "I6 f"
        ),
        "admitted in debt": loose.mutant("admit f", guards={"deficit": None}).keeps("admit f", "I7 f"),
        "outputs not reserved": loose.mutant("admit f", guards={"fits": "(<= (+ {mf} {mg} {mr} x) M)"}).keeps(
            "admit f", "I1"
        ),
        "a turn ends with credit": tied.mutant("end f", guards={"used up": None}).keeps(
            "end f", "used up by f"
        ),
        "less than the bound": bound(tied, f"(+ quantum quantum (* 0.9 U) {MAX})"),
    }


def _proof() -> list[Obligation]:
    tied = window()
    return [*deficits().inductive(), *tied.steps(), bound(tied, CONSTANT)]


def _broken(name: str) -> list[Obligation]:
    return [mutants()[name]]


def _nothing_happens() -> list[Obligation]:
    tied = window()
    return [tied.leads(event, f"no {event}", "false") for event in tied.events]


CLAIMS = (
    Claim(
        name="deficit-round-robin",
        statement="Deficit round robin whose turns end when the deficit is used up: while two clients have waiting "
        "requests, their services differ by at most 2·quantum + U* + max(quantum, U*), for any number of clients.",
        assumptions=(
            "cost wp·x + wq·y with wp, wq >= 0; equal weights; prompts of at most L tokens",
            "admission reserves prompt and output within M tokens; no preemption; a prompt is charged on admission",
            "a turn gives one quantum if d <= 0 when it begins, and no other; it ends when d <= 0 or nothing waits",
            "not the rule of the artifact after a misfit, by which a client may keep its turn for ever",
        ),
        source="our derivation; deficits are Shreedhar and Varghese's, SIGCOMM 1995",
        kind=Kind.SOLVER,
        evidence=_proof,
        controls={
            "nothing ever happens": _nothing_happens,
            **{name: partial(_broken, name) for name in mutants()},
        },
        where="docs/policies/deficit_round_robin.md",
    ),
)
