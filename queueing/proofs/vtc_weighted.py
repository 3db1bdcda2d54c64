"""VTC with weights: services divided by weights stay within U*/f_f + U*/f_g; solver proofs with a symbolic weight.

The pair of `vtc_pair`, in units of the counter in which client f has weight 1, so that w is the weight of g over that
of f; c, p, r and S are divided by the weights.  For two clients in Q all through a window, and for f in Q and any g::

    without predictions   T1   abs(S_f - S_g) <= U* + U*/w          T3   S_g - S_f <= U*/w + U*/min(1, w)
    with predictions      T1   abs(S_f - S_g) <= 2U*/min(1, w)      T3   S_g - S_f <= 2U*/min(1, w)

With predictions the bound of T3 above is false for w > 1: f may have been charged U* for tokens that are not produced,
while g, which pays less for the little memory left, gets ahead by as much again; a run is in the tests.

That the rest may be let loose needs I2 and I4 of any number of weighted clients.  They rest on no more than that
counters do not fall, whatever is charged: :func:`floor_alone`.

Products with w are all that is nonlinear.  Solvers are handed instances of

    product   t >= 0 implies t <= w·t if w >= 1, and 0 <= w·t <= t if w <= 1

which is proved first; the two cases of w are proved apart.
Assumptions: as in `vtc_pair`.  Source: our derivation; proofs by hand in docs/models/vtc.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from queueing.proofs import vtc_clients
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.smt import Obligation
from queueing.proofs.transition import System
from queueing.proofs.vtc_pair import OTHER, any_window, both_window, earned, pair, unpredicted

__all__ = [
    "CASES",
    "CLAIMS",
    "any_weighted",
    "both_weighted",
    "floor_alone",
    "invariant",
    "product",
    "weighted",
]

CASES = {"w >= 1": "(<= 1 w)", "w <= 1": "(and (< 0 w) (<= w 1))"}


def product(case: str, term: str) -> str:
    """What is told of w·term."""
    if case == "w >= 1":
        return f"(=> (<= 0 {term}) (<= {term} (* w {term})))"
    return f"(=> (<= 0 {term}) (<= 0 (* w {term}) {term}))"


def weighted(case: str) -> System:
    """The pair with w on one side of 1; events that move the floor are told of w times its rise."""
    system = pair(weighted=True)
    smaller = "1.0" if case == "w >= 1" else "w"
    events = {
        name: replace(
            event, guards={**event.guards, "product": product(case, f"(- {event.assigns['v']} {{v}})")}
        )
        if "v" in event.assigns
        else event
        for name, event in system.events.items()
    }
    return replace(
        system,
        laws={**system.laws, "weight": CASES[case]},
        events=events,
        invariant={k: t.replace("(ite (<= 1.0 w) 1.0 w)", smaller) for k, t in system.invariant.items()},
    )


def _told(case: str, system: System) -> System:
    ahead = {u: f"(- {earned(u)} {{v}})" for u in OTHER}
    told = {f"product of {u}": product(case, term) for u, term in ahead.items()}
    told |= {f"product of {u}, committed": product(case, f"(+ {t} {{r{u}}})") for u, t in ahead.items()}
    return replace(system, lemmas={**system.lemmas, **told})


def _when_open(clause: str) -> str:
    return f"(=> {{open}} {clause})"


def both_weighted(case: str, *, predicted: bool) -> tuple[System, Obligation]:
    """Windows of T1, and T1."""
    system = weighted(case) if predicted else unpredicted(weighted(case))
    if predicted:
        smaller = "1.0" if case == "w >= 1" else "w"
        gap = f"(<= (- U) (* {smaller} (- {{ef1}} {{eg1}})) U)"
        goal = f"(<= (- (* 2 U)) (* {smaller} (- {{Sf}} {{Sg}})) (* 2 U))"
    else:
        gap = "(and (<= (- {ef1} {eg1}) U) (<= (* w (- {eg1} {ef1})) U))"
        goal = "(<= (- (+ (* w U) U)) (* w (- {Sf} {Sg})) (+ (* w U) U))"
    window = _told(case, both_window(system))
    window = replace(window, invariant={**window.invariant, "gap at the opening": _when_open(gap)})
    title = f"T1, {case}, {'with' if predicted else 'without'} predictions"
    return window, window.implied(title, _when_open(goal))


def any_weighted(case: str, *, predicted: bool) -> tuple[System, Obligation]:
    """Windows of T3, and T3."""
    system = weighted(case) if predicted else unpredicted(weighted(case))
    smaller = "1.0" if case == "w >= 1" else "w"
    window = _told(case, any_window(system))
    altered = {
        "credit": "(and (<= 0 {rg1}) (<= (* w {rg1}) U) (or (= {credit1} {rg1}) (<= (- {v1} {eg1}) {credit1})))",
        "opening": f"(<= (* {smaller} (- (+ {{ef1}} {{credit1}}) {{v1}})) U)",
    }
    window = replace(window, invariant={**window.invariant, **{k: _when_open(t) for k, t in altered.items()}})
    title = f"T3, {case}, {'with' if predicted else 'without'} predictions"
    if predicted:
        return window, window.implied(title, _when_open(f"(<= (* {smaller} (- {{Sg}} {{Sf}})) (* 2 U))"))
    return window, window.implied(title, _when_open(sharper(case)))


def sharper(case: str) -> str:
    """S_g - S_f <= U*/w + U*/min(1, w), times w."""
    return f"(<= (* w (- {{Sg}} {{Sf}})) (+ U {'(* w U)' if case == 'w >= 1' else 'U'}))"


def floor_alone() -> list[Obligation]:
    """I2 and I4 for any number of clients, whatever is charged."""
    system = vtc_clients.vtc()
    system = system.mutant(
        "admit", guards={"price": "(<= 0 k)", "predicted": "(<= 0 q)", "lengths": None, "fits": None}
    )
    system = system.mutant("decode", guards={"reserved": "(<= t d)", "prepaid": None})
    system = system.mutant("finish", guards={"released": None, "prepaid": None})
    return replace(system, invariant={name: system.invariant[name] for name in ("I2", "I4")}).inductive()


def invariant() -> Iterator[Obligation]:
    """The invariant is inductive: I0 to I2 for every w, I3 and I5 for either case of it."""
    plain = pair(weighted=True)
    easy = {name: clause for name, clause in plain.invariant.items() if name[:2] in ("I0", "I1", "I2")}
    yield from replace(plain, invariant=easy).inductive()
    for case, law in CASES.items():
        yield Obligation(
            f"product, {case}", {"w": "() Real", "t": "() Real"}, {"weight": law}, product(case, "t")
        )
        system = weighted(case)
        for clause in system.invariant.keys() - easy.keys():
            yield system.starts(clause)
            yield from (system.keeps(event, clause) for event in system.events)


def _bounds(*, predicted: bool) -> Iterator[Obligation]:
    for case in CASES:
        for window, bound in (
            both_weighted(case, predicted=predicted),
            any_weighted(case, predicted=predicted),
        ):
            yield from window.steps()
            yield bound


def _plain() -> list[Obligation]:
    return [*floor_alone(), *invariant(), *_bounds(predicted=False)]


def _predicted() -> list[Obligation]:
    return list(_bounds(predicted=True))


def _claims(case: str, goal: str, *, predicted: bool, both: bool = False) -> list[Obligation]:
    window, bound = (both_weighted if both else any_weighted)(case, predicted=predicted)
    return [bound.claiming(window.before(_when_open(goal)))]


CLAIMS = (
    Claim(
        name="vtc-weighted",
        statement="VTC with weights f_u: services divided by weights differ by at most U*/f_f + U*/f_g while f and g "
        "are backlogged; any g is ahead of a backlogged f by at most U*/f_g + U*/min(f_f, f_g).",
        assumptions=(
            "as of vtc-two-backlogged, but for weights, which are positive, and without predictions",
            "of the other clients: the floor never falls, and nothing else (the obligations on I2 and I4)",
        ),
        source="our derivation",
        kind=Kind.SOLVER,
        evidence=_plain,
        controls={
            "T1 with 2U* for a smaller weight": partial(
                _claims, "w <= 1", "(<= (- {Sg} {Sf}) (* 2 U))", predicted=False, both=True
            ),
            "T3 with U*/f_f + U*/f_g for a smaller weight": partial(
                _claims, "w <= 1", sharper("w >= 1"), predicted=False
            ),
        },
        where="docs/models/vtc.md",
    ),
    Claim(
        name="vtc-weighted-predicted",
        statement="VTC with weights and predictions of which nothing is given back: in both cases 2U*/min(f_f, f_g).",
        assumptions=("as of vtc-weighted, with predictions", "the invariant of vtc-weighted"),
        source="our derivation; U*/f_g + U*/min(f_f, f_g) does not bound T3 here",
        kind=Kind.SOLVER,
        evidence=_predicted,
        controls={
            "T3 with U*/f_g + U*/min": partial(_claims, "w >= 1", sharper("w >= 1"), predicted=True),
            "T3 with 2U* for a smaller weight": partial(
                _claims, "w <= 1", "(<= (- {Sg} {Sf}) (* 2 U))", predicted=True
            ),
        },
        where="docs/models/vtc.md",
    ),
)
