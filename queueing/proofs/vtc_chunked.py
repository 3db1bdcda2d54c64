"""VTC that charges prompts chunk by chunk obeys VTC's bounds with max(wp, wq)·M in place of U*: a solver proof.

Of clients f and g, in tokens: n of admitted prompts not yet prefilled, o outputs reserved and not yet decoded, m
reserved.  Admission charges nothing; a prefilled token costs wp, a decoded one wq.  What is committed is wp·n + wq·o,
as if prompts were outputs.  With D = max(wp, wq), each event is one of `vtc_pair.pair`, whose variables are

    r = wp·n + wq·o,   tokens reserved D·m,   p = 0,   memory D·M,   slack 0,   so that U* = D·M

and admission of (x, y) is there that of a prompt of D·(x + y) - (wp·x + wq·y) tokens at no charge, with wp·x + wq·y to
follow.  So T1 and T3 hold with 2·D·M.  The rest is let loose as in the pair: I2
and I4 of the whole system do not ask what is charged (`vtc_weighted.floor_alone`).

Assumptions: as in `vtc_pair`, without predictions; unequal weights are not treated here.
Source: our derivation.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.smt import Obligation
from queueing.proofs.transition import Event, System
from queueing.proofs.vtc_pair import OTHER, below_queued, pair
from queueing.proofs.vtc_weighted import floor_alone

__all__ = ["CLAIMS", "chunked", "simulation"]

REAL, BOOL = "() Real", "() Bool"
SEEN = {
    **{name: f"{{{name}}}" for name in ("cf", "cg", "v", "Qf", "Qg")},
    **{f"m{u}": f"(* D {{m{u}}})" for u in ("f", "g", "r")},
    **{f"r{u}": f"(+ (* wp {{n{u}}}) (* wq {{o{u}}}))" for u in OTHER},
    **{f"p{u}": "0.0" for u in OTHER},
}


def chunked() -> System:
    """VTC seen through f and g, prompts charged as they are prefilled; without an invariant of its own."""
    events: dict[str, Event] = {}
    for u, other in OTHER.items():
        events |= {
            f"admit {u}": Event(
                {"x": REAL, "y": REAL, "stays": BOOL},
                {
                    "waits": f"{{Q{u}}}",
                    "least": below_queued(f"{{c{u}}}", other),
                    "lengths": "(and (<= 0 x) (<= 0 y) (<= (+ x y) M))",
                    "fits": "(<= (+ {mf} {mg} {mr} x y) M)",
                },
                {
                    f"n{u}": f"(+ {{n{u}}} x)",
                    f"o{u}": f"(+ {{o{u}}} y)",
                    f"m{u}": f"(+ {{m{u}}} x y)",
                    f"Q{u}": "stays",
                    "v": f"{{c{u}}}",
                },
            ),
            f"prefill {u}": Event(
                {"d": REAL},
                {"admitted": f"(<= 0 d {{n{u}}})", "tokens": f"(<= 0 {{o{u}}})"},
                {f"c{u}": f"(+ {{c{u}}} (* wp d))", f"n{u}": f"(- {{n{u}}} d)"},
            ),
            f"decode {u}": Event(
                {"d": REAL},
                {"reserved": f"(<= 0 d {{o{u}}})", "tokens": f"(<= 0 {{n{u}}})"},
                {f"c{u}": f"(+ {{c{u}}} (* wq d))", f"o{u}": f"(- {{o{u}}} d)"},
            ),
            f"finish {u}": Event(
                {"s": REAL, "d": REAL},
                {
                    "released": f"(and (<= 0 s) (<= 0 d {{o{u}}}))",
                    "tokens": f"(<= 0 {{n{u}}})",
                    "of others": f"(<= (+ {{n{u}}} (- {{o{u}}} d)) (- {{m{u}}} s))",
                },
                {f"o{u}": f"(- {{o{u}}} d)", f"m{u}": f"(- {{m{u}}} s)"},
            ),
            f"arrive {u}": pair().events[f"arrive {u}"],
        }
    events |= {name: event for name, event in pair().events.items() if name.endswith(" other")}
    names = [*(f"{k}{u}" for k in "cnom" for u in OTHER), "mr", "v"]
    return System(
        variables={**dict.fromkeys(names, REAL), "Qf": BOOL, "Qg": BOOL},
        constants=dict.fromkeys(("M", "wp", "wq", "D"), REAL),
        laws={
            "prices": "(and (<= 0 wp) (<= 0 wq) (<= 0 M))",
            "dearest": "(= D (ite (<= wp wq) wq wp))",
        },
        start={"zero": f"(= 0 {' '.join(f'{{{v}}}' for v in names)})", "empty": "(not (or {Qf} {Qg}))"},
        events=events,
    )


def _inputs(name: str) -> dict[str, str]:
    """The inputs of the pair's event, in those of the event of this name here."""
    match name.split():
        case ["admit", "other"]:
            return {"x": "(* D x)", "y": "(* D y)"}
        case ["finish", "other"]:
            return {"s": "(* D s)"}
        case ["admit", _]:
            follows = "(+ (* wp x) (* wq y))"
            return {"x": f"(- (* D (+ x y)) {follows})", "y": follows, "k": "0.0", "q": "0.0"}
        case ["prefill", _]:
            return {"d": "(* wp d)", "t": "0.0"}
        case ["decode", _]:
            return {"d": "(* wq d)", "t": "0.0"}
        case ["finish", _]:
            return {"d": "(* wq d)", "s": "(* D s)", "z": "0.0"}
        case _:
            return {}


def simulation(system: System) -> list[Obligation]:
    """The start, and every event, is one of the pair; a prefill is a decode of it."""
    small = pair()
    before = {name: system.before(term) for name, term in SEEN.items()}
    after = {name: system.after(term) for name, term in SEEN.items()}
    constants = {"M": "(* D M)", "L": "(* D M)", "slack": "0.0", "U": "(* D M)"}

    def told(template: str, values: dict[str, str]) -> str:
        names = " ".join(f"({name} {term})" for name, term in values.items())
        return f"(let ({names}) {template.format_map(before)})"

    first = " ".join(told(template, constants) for template in (*small.start.values(), *small.laws.values()))
    found = [replace(system, invariant={"start of the pair": f"(and {first})"}).starts("start of the pair")]
    for name in system.events:
        step = small.events[name.replace("prefill", "decode")]
        values = {**constants, **_inputs(name)}
        goals = [told(guard, values) for guard in step.guards.values()]
        goals += [f"(= {after[v]} {told(step.assigns.get(v, f'{{{v}}}'), values)})" for v in small.variables]
        found.append(system.leads(name, f"{name} is an event of the pair", f"(and {' '.join(goals)})"))
    return found


def _proof() -> list[Obligation]:
    return [*simulation(chunked()), *floor_alone()]


def _cheap() -> list[Obligation]:
    system = chunked()
    priced = {**system.laws, "dearest": "(= D wq)"}
    return [o for o in simulation(replace(system, laws=priced)) if o.name.startswith("admit f")]


def _without(event: str, guard: str) -> list[Obligation]:
    mutant = chunked().mutant(event, guards={guard: None})
    return [o for o in simulation(mutant) if o.name.startswith(event)]


CLAIMS = (
    Claim(
        name="vtc-chunked",
        statement="VTC that charges prompts as they are prefilled: T1 and T3 hold with 2·max(wp, wq)·M.",
        assumptions=(
            "as of vtc-any-client, but that prompts are charged token by token; without predictions",
            "T1 and T3 of the pair, vtc-two-backlogged and vtc-any-client, of which this is an instance",
        ),
        source="our derivation",
        kind=Kind.SOLVER,
        evidence=_proof,
        controls={
            "wq·M where prompts are dearer": _cheap,
            "outputs not reserved": partial(_without, "admit f", "fits"),
            "another than the least admitted": partial(_without, "admit f", "least"),
            "more prefilled than admitted": partial(_without, "prefill f", "admitted"),
        },
        where="docs/models/vtc.md",
    ),
)
