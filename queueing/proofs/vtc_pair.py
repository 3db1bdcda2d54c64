"""VTC seen through two of any number of clients: solver proofs that their services stay within 2U* of each other.

Clients f and g are followed; of all others, *the rest*, only the tokens reserved are kept.  Lengths, c, m, r, p, the
floor v and U* are as in `vtc_clients`; e = c - p.  The rest is let loose: when it admits or arrives, the floor moves to
*any* level from v up to the counters of f and g as far as these are in Q; and a client that is lifted is lifted to any
such level.

Why nothing is lost: a step of any number of clients, seen as (c_f, c_g, ..., Sum m - m_f - m_g, v), is a step of this
system, or leaves it as it is.  That needs one fact of the whole, that the new floor is not below v, which is I2 of the
client in Q that sets it or I4 of the last to leave; `vtc_clients` proves both.  :func:`simulation` makes these
inclusions obligations, with quantifiers.  So what holds in all runs here holds for any two of n clients, for all n.

Beside I0 to I3, with the stale credit σ_u = min(r_u, max(0, v - e_u))::

    I5   e_f + r_f + σ_g <= v + U*          and with f and g exchanged

A window opens in any state, which history variables remember (index 1); S_f and S_g are the services since then::

    T1   while f, g are in Q:   S_f = e_f - e_f1,  S_g = e_g - e_g1,  -U* <= e_f1 - e_g1 <= U*
         so that abs(S_f - S_g) <= 2U*
    T3   while f is in Q:       S_f = e_f - e_f1 >= 0,  v1 <= v,  e_f1 + σ_g1 <= v1 + U*,  and
         until g is in Q:       S_g = e_g - e_g1,  S_g + r_g <= r_g1
         from then on:          S_g <= e_g - v1 + σ_g1
         so that S_g - S_f <= 2U*

The simple form, with r_g1 for σ_g1, gives 3U*.

Weights.  In units of the counter in which f has weight 1, let g have weight w; of both, c, p, r, S are divided by the
weights, m is not.  Then I3 is f_u·(e_u + r_u - v) <= U* and I5 has min(1, w)·σ.  Products with w make it nonlinear.

Source: our derivation; T1 with max(wp·L, wq·M) is Theorem 4.4 of Sheng et al., OSDI 2024 (published), T3 with a factor
4 its Theorem 4.9 (recalled).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from queueing.proofs import vtc_clients
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.smt import Obligation
from queueing.proofs.transition import Event, System
from queueing.proofs.vtc_clients import at, every, total

__all__ = ["CLAIMS", "any_window", "both_window", "mutants", "pair", "simulation", "unpredicted", "within"]

REAL, BOOL, CLIENT = "() Real", "() Bool", "() Client"
OTHER = {"f": "g", "g": "f"}


def least(a: str, b: str) -> str:
    """The smaller of two terms."""
    return f"(ite (<= {a} {b}) {a} {b})"


def earned(u: str) -> str:
    """e_u."""
    return f"(- {{c{u}}} {{p{u}}})"


def stale(u: str) -> str:
    """σ_u."""
    debt = f"(- {{v}} {earned(u)})"
    return least(f"{{r{u}}}", f"(ite (<= {debt} 0.0) 0.0 {debt})")


def below_queued(level: str, *clients: str) -> str:
    """The level is at most the counter of those of the clients that are in Q."""
    return f"(and {' '.join(f'(=> {{Q{u}}} (<= {level} {{c{u}}}))' for u in clients)})"


def pair(*, weighted: bool = False) -> System:
    """VTC seen through f and g; g may have a weight w (solvers want the help that `vtc_weighted` gives)."""

    def priced(u: str, term: str) -> str:
        """What is divided by the weight of u, in units of cost."""
        return f"(* w {term})" if weighted and u == "g" else term

    common = least("1.0", "w") if weighted else "1.0"
    events: dict[str, Event] = {}
    for u, other in OTHER.items():
        events |= {
            f"admit {u}": Event(
                {**dict.fromkeys(("x", "y", "k", "q"), REAL), "stays": BOOL},
                {
                    "waits": f"{{Q{u}}}",
                    "least": below_queued(f"{{c{u}}}", other),
                    "lengths": "(and (<= 0 x L) (<= 0 y))",
                    "price": f"(<= 0 {priced(u, 'k')} (+ x slack))",
                    "predicted": "(<= 0 q y)",
                    "fits": f"(<= (+ {{mf}} {{mg}} {{mr}} x {priced(u, 'y')}) M)",
                },
                {
                    f"c{u}": f"(+ {{c{u}}} k q)",
                    f"m{u}": f"(+ {{m{u}}} x {priced(u, 'y')})",
                    f"r{u}": f"(+ {{r{u}}} y)",
                    f"p{u}": f"(+ {{p{u}}} q)",
                    f"Q{u}": "stays",
                    "v": f"{{c{u}}}",
                },
            ),
            f"decode {u}": Event(
                {"d": REAL, "t": REAL},
                {
                    "reserved": f"(and (<= d {{r{u}}}) (<= 0 t d))",
                    "prepaid": f"(<= 0 (- {{p{u}}} t) (- {{r{u}}} d))",
                },
                {f"c{u}": f"(+ {{c{u}}} d (- t))", f"r{u}": f"(- {{r{u}}} d)", f"p{u}": f"(- {{p{u}}} t)"},
            ),
            f"finish {u}": Event(
                {"s": REAL, "d": REAL, "z": REAL},
                {
                    "released": "(and (<= 0 d) (<= 0 s))",
                    "prepaid": f"(<= 0 (- {{p{u}}} z) (- {{r{u}}} d))",
                    "of others": f"(<= {priced(u, f'(- {{r{u}}} d)')} (- {{m{u}}} s))",
                    "nothing given back": "(= z 0)",
                },
                {
                    f"c{u}": f"(- {{c{u}}} z)",
                    f"m{u}": f"(- {{m{u}}} s)",
                    f"r{u}": f"(- {{r{u}}} d)",
                    f"p{u}": f"(- {{p{u}}} z)",
                },
            ),
            f"arrive {u}": Event(
                {"level": REAL},
                {
                    "absent": f"(not {{Q{u}}})",
                    "floor rises": "(<= {v} level)",
                    "below queued": below_queued("level", other),
                },
                {f"c{u}": f"(ite (<= level {{c{u}}}) {{c{u}}} level)", f"Q{u}": "true", "v": "level"},
            ),
        }
    loose = {"floor rises": "(<= {v} level)", "below queued": below_queued("level", "f", "g")}
    events |= {
        "admit other": Event(
            {"level": REAL, "x": REAL, "y": REAL},
            {**loose, "lengths": "(and (<= 0 x) (<= 0 y))", "fits": "(<= (+ {mf} {mg} {mr} x y) M)"},
            {"mr": "(+ {mr} x y)", "v": "level"},
        ),
        "finish other": Event({"s": REAL}, {"released": "(<= 0 s {mr})"}, {"mr": "(- {mr} s)"}),
        "arrive other": Event({"level": REAL}, loose, {"v": "level"}),
    }
    invariant = {"I0": "(<= 0 {mr})", "I1": "(<= (+ {mf} {mg} {mr}) M)"}
    for u, other in OTHER.items():
        committed = f"(- (+ {earned(u)} {{r{u}}}) {{v}})"
        reserved = f"(<= {priced(u, f'{{r{u}}}')} {{m{u}}})"
        invariant |= {
            f"I0 {u}": f"(and (<= 0 {{p{u}}} {{r{u}}}) {reserved})",
            f"I2 {u}": f"(=> {{Q{u}}} (<= {{v}} {{c{u}}}))",
            f"I3 {u}": f"(<= {priced(u, committed)} U)",
            f"I5 {u}": f"(<= (+ {priced(u, committed)} (* {common} {stale(other)})) U)",
        }
    reals = [*(f"{k}{u}" for k in "cmrp" for u in OTHER), "mr", "v"]
    return System(
        variables={**dict.fromkeys(reals, REAL), "Qf": BOOL, "Qg": BOOL},
        constants=dict.fromkeys(("M", "L", "slack", "U", *(["w"] if weighted else [])), REAL),
        laws={
            "sizes": "(and (<= 0 L M) (<= 0 slack))",
            "bound": "(= U (+ M slack))",
            **({"weight": "(< 0 w)"} if weighted else {}),
        },
        start={"zero": f"(= 0 {' '.join(f'{{{v}}}' for v in reals)})", "empty": "(not (or {Qf} {Qg}))"},
        events=events,
        invariant=invariant,
    )


def watched(
    system: System, stays: Sequence[str], history: Mapping[str, str], clauses: Mapping[str, str]
) -> System:
    """The system with a window, that opens when the clients of `stays` are in Q, and closes when one leaves.

    Its variables: `open`; Sf and Sg, the services since it opened; and `history`, name -> what it is at the opening.
    The clauses, which are the whole invariant of what is returned, are claimed of open windows.  The invariant of
    the system, kept because no event of it reads the window, becomes a lemma.
    """

    def watch(name: str, event: Event) -> Event:
        inside = [event.assigns.get(f"Q{u}", f"{{Q{u}}}") for u in stays]
        assigns = {**event.assigns, "open": f"(and {{open}} {' '.join(inside)})"}
        for u in OTHER:
            if name in (f"admit {u}", f"decode {u}"):
                assigns[f"S{u}"] = f"(+ {{S{u}}} {'k' if name.startswith('admit') else 'd'})"
        if "entered" in history:
            assigns["entered"] = f"(or {{entered}} {event.assigns.get('Qg', '{Qg}')})"
        return replace(event, assigns=assigns)

    queued = f"(and {' '.join(f'{{Q{u}}}' for u in stays)})"
    opens = Event(
        guards={"closed": "(not {open})", "may open": queued},
        assigns={"open": "true", "Sf": "0.0", "Sg": "0.0", **history},
    )
    flags = {name: BOOL if name in ("open", "entered") else REAL for name in ("open", "Sf", "Sg", *history)}
    return replace(
        system,
        variables={**system.variables, **flags},
        start={**system.start, "closed": "(not {open})"},
        events={**{name: watch(name, event) for name, event in system.events.items()}, "open": opens},
        invariant={name: f"(=> {{open}} {clause})" for name, clause in {"in Q": queued, **clauses}.items()},
        lemmas={**system.lemmas, **system.invariant},
    )


def both_window(system: System) -> System:
    """Windows of T1: f and g in Q."""
    return watched(
        system,
        ("f", "g"),
        {"ef1": earned("f"), "eg1": earned("g")},
        {
            "service of f": f"(= {{Sf}} (- {earned('f')} {{ef1}}))",
            "service of g": f"(= {{Sg}} (- {earned('g')} {{eg1}}))",
            "gap at the opening": "(<= (- U) (- {ef1} {eg1}) U)",
        },
    )


def any_window(system: System, *, simple: bool = False) -> System:
    """Windows of T3: f in Q, g anywhere; the simple form has r_g1 in the place of σ_g1."""
    return watched(
        system,
        ("f",),
        {"ef1": earned("f"), "eg1": earned("g"), "rg1": "{rg}", "v1": "{v}", "entered": "{Qg}"}
        | {"credit1": "{rg}" if simple else stale("g")},
        {
            "service of f": f"(= {{Sf}} (- {earned('f')} {{ef1}}))",
            "service": "(<= 0 {Sf})",
            "floor": "(<= {v1} {v})",
            "credit": "(and (<= 0 {rg1} U) (or (= {credit1} {rg1}) (<= (- {v1} {eg1}) {credit1})))",
            "opening": "(<= (+ {ef1} {credit1}) (+ {v1} U U))"
            if simple
            else "(<= (+ {ef1} {credit1}) (+ {v1} U))",
            "g away": "(=> (not {entered}) (not {Qg}))",
            "before g is in Q": "(=> (not {entered}) "
            f"(and (= {{Sg}} (- {earned('g')} {{eg1}})) (<= (+ {{Sg}} {{rg}}) {{rg1}})))",
            "after": f"(=> {{entered}} (<= {{Sg}} (+ (- {earned('g')} {{v1}}) {{credit1}})))",
        },
    )


def within(factor: int, *, both: bool = False) -> str:
    """S_g - S_f is at most a multiple of U*, and if `both` so is S_f - S_g."""
    least_difference = f"(- (* {factor} U)) " if both else ""
    return f"(=> {{open}} (<= {least_difference}(- {{Sg}} {{Sf}}) (* {factor} U)))"


def simulation(clients: Sequence[str] = ()) -> list[Obligation]:
    """Every event of VTC by any client is an event of the pair or changes nothing in it; and so is the start.

    With clients named, f and g are the first two of them; otherwise any two of any number.
    """
    small, large = pair(), vtc_clients.vtc(clients)
    f, g = clients[:2] if clients else ("f", "g")
    positive = every(clients, lambda i: f"(<= 0 {at('m', i)})")
    two = f"(=> {positive} (<= (+ {at('m', f)} {at('m', g)}) {total(clients, 'm')}))"
    large = replace(
        large,
        constants=large.constants if clients else {**large.constants, "f": CLIENT, "g": CLIENT},
        laws={**large.laws, "two": f"(distinct {f} {g})"},
        lemmas={**large.lemmas, "sum bounds two entries": two},
    )

    rest = f"(- {total(clients, 'm')} {at('m', f)} {at('m', g)})"
    seen = {f"{k}{u}": at(k, i) for k in "cmrpQ" for u, i in (("f", f), ("g", g))} | {"mr": rest, "v": "{v}"}
    before = {name: large.before(term) for name, term in seen.items()}
    after = {name: large.after(term) for name, term in seen.items()}

    first = " ".join(template.format_map(before) for template in small.start.values())
    found = [replace(large, invariant={"start of the pair": f"(and {first})"}).starts("start of the pair")]
    level = {"admit": at("c", "a"), "arrive": at("c", "z"), "arrive first": at("c", "{last}")}
    for name, event in large.events.items():
        for who, actor in {"f": f"(= a {f})", "g": f"(= a {g})", "other": f"(distinct a {f} {g})"}.items():
            step = small.events.get(f"{name.removesuffix(' first')} {who}", Event())
            shown = replace(
                event,
                inputs={**event.inputs, "level": REAL},
                guards={**event.guards, "actor": actor, "new floor": f"(= level {level.get(name, '{v}')})"},
            )
            new = {v: step.assigns.get(v, f"{{{v}}}").format_map(before) for v in small.variables}
            goals = [guard.format_map(before) for guard in step.guards.values()]
            goals += [f"(= {after[v]} {term})" for v, term in new.items()]
            system = replace(large, events={name: shown})
            title = f"{name} by {who} is an event of the pair"
            found.append(system.leads(name, title, f"(and {' '.join(goals)})"))
    return found


def twice_as_dear() -> System:
    """The pair with wp = 2·wq, so that slack = L."""
    priced = replace(pair(), laws={**pair().laws, "twice": "(= slack L)"})
    for u in OTHER:
        priced = priced.mutant(f"admit {u}", guards={"price": "(= k (* 2 x))"})
    return priced


def unpredicted(system: System) -> System:
    """VTC without predictions."""
    for u in OTHER:
        system = system.mutant(f"admit {u}", guards={"predicted": "(= q 0)"})
    return replace(system, invariant={**system.invariant, "nothing predicted": "(= 0 {pf} {pg})"})


def lift_may_lower(system: System) -> System:
    """The mutant whose lift is c := x; without predictions T1 does not see it."""
    for u in OTHER:
        system = system.mutant(f"arrive {u}", assigns={f"c{u}": "level"})
    return system


def mutants() -> dict[str, Obligation]:
    """Name of what is broken -> an obligation that is refuted then."""
    right = twice_as_dear()
    printed = replace(right, laws={**right.laws, "bound": "(= U (ite (<= M (* 2 L)) (* 2 L) M))"})
    prompt_alone = {"fits": "(<= (+ {mf} {mg} {mr} x) M)"}
    window = any_window(right)
    return {
        "no lift": right.mutant("arrive f", assigns={"cf": "{cf}"}).keeps("arrive f", "I2 f"),
        "lift to the greatest": right.mutant("arrive f", guards={"below queued": None}).keeps(
            "arrive f", "I2 g"
        ),
        "lift may lower": any_window(lift_may_lower(unpredicted(right))).keeps("arrive g", "after"),
        "another than the least admitted": right.mutant("admit f", guards={"least": None}).keeps(
            "admit f", "I2 g"
        ),
        "outputs not reserved": right.mutant("admit f", guards=prompt_alone).keeps("admit f", "I1"),
        "last not updated": right.mutant("arrive f", guards={"floor rises": None}).keeps("arrive f", "I3 g"),
        "printed U": printed.keeps("admit f", "I3 f"),
        "refunds": right.mutant("finish f", guards={"nothing given back": "(<= 0 z d)"}).keeps(
            "finish f", "I2 f"
        ),
        "no I5": window.keeps("open", "opening").without("I5 f", "I5 f, after"),
        "2U* from the simple form": any_window(right, simple=True).implied(
            "T3 by the simple form", within(2)
        ),
        "less than 2U*": window.implied("T3 with 1.9U*", within(2).replace("(* 2 U)", "(* 1.9 U)")),
    }


def _two() -> list[Obligation]:
    system = both_window(pair())
    return [
        *simulation(),
        *pair().inductive(),
        *system.inductive(),
        system.implied("T1", within(2, both=True)),
    ]


def _any() -> list[Obligation]:
    system = any_window(pair())
    return [*system.steps(), system.implied("T3", within(2))]


def _broken(name: str) -> list[Obligation]:
    return [mutants()[name]]


def _controls(*names: str) -> dict[str, partial[list[Obligation]]]:
    return {name: partial(_broken, name) for name in names}


def _nothing_happens() -> list[Obligation]:
    right = any_window(twice_as_dear())
    return [right.leads(event, f"no {event}", "false") for event in right.events]


ASSUMPTIONS = vtc_clients.CLAIMS[0].assumptions
PAGE = "docs/models/vtc.md"
CLAIMS = (
    Claim(
        name="vtc-two-backlogged",
        statement="VTC: over a window in which two clients always have waiting requests, their services differ by at "
        "most 2U*, U* = wq·M + max(0, wp - wq)·L, for any number of clients.",
        assumptions=ASSUMPTIONS,
        source="our derivation; with max(wp·L, wq·M) Theorem 4.4 of Sheng et al., OSDI 2024 (published)",
        kind=Kind.SOLVER,
        evidence=_two,
        controls=_controls(
            "no lift",
            "lift to the greatest",
            "another than the least admitted",
            "outputs not reserved",
            "last not updated",
            "printed U",
            "refunds",
        ),
        where=PAGE,
    ),
    Claim(
        name="vtc-any-client",
        statement="VTC: over a window in which a client always has waiting requests, any other gets at most 2U* more "
        "service than it, for any number of clients.",
        assumptions=(*ASSUMPTIONS, "the invariant of vtc-two-backlogged"),
        source="our derivation; Theorem 4.9 of Sheng et al., OSDI 2024 (recalled) has a factor 4",
        kind=Kind.SOLVER,
        evidence=_any,
        controls={
            "nothing ever happens": _nothing_happens,
            **_controls("lift may lower", "no I5", "2U* from the simple form", "less than 2U*"),
        },
        where=PAGE,
    ),
)
