"""Obligations of a small transition system: a gauge that is filled and emptied stays within its size."""

from __future__ import annotations

from dataclasses import replace

import pytest

from queueing.proofs.certificate import Refuted
from queueing.proofs.transition import Event, System

pytest.importorskip("z3")
pytest.importorskip("cvc5")

AMOUNT = {"d": "() Real"}
GAUGE = System(
    variables={"level": "() Real"},
    constants={"size": "() Real"},
    laws={"size": "(<= 0 size)"},
    start={"empty": "(= 0 {level})"},
    events={
        "fill": Event(AMOUNT, {"room": "(<= 0 d (- size {level}))"}, {"level": "(+ {level} d)"}),
        "empty": Event(AMOUNT, {"content": "(<= 0 d {level})"}, {"level": "(- {level} d)"}),
    },
    invariant={"below": "(<= {level} size)", "above": "(<= 0 {level})"},
)


def test_an_invariant_is_proved_at_the_start_and_after_every_event() -> None:
    obligations = GAUGE.inductive()
    assert len(obligations) == len(GAUGE.invariant) * (1 + len(GAUGE.events))
    assert len(GAUGE.steps()) == 1 + len(GAUGE.events)
    for obligation in [*obligations, *GAUGE.steps()]:
        obligation.check()
    GAUGE.implied("room is left", "(<= 0 (- size {level}))").check()


@pytest.mark.parametrize(
    ("event", "guard", "clause"), [("fill", "room", "below"), ("empty", "content", "above")]
)
def test_an_event_without_its_guard_loses_a_clause(event: str, guard: str, clause: str) -> None:
    with pytest.raises(Refuted, match=f"{event} keeps {clause}"):
        GAUGE.mutant(event, guards={guard: None}).keeps(event, clause).check()
    assert not all(obligation.holds for obligation in GAUGE.mutant(event, guards={guard: None}).steps())


def test_a_start_outside_and_an_altered_assignment_are_refuted() -> None:
    with pytest.raises(Refuted):
        GAUGE.starts("below").without("empty").check()
    with pytest.raises(Refuted):
        GAUGE.mutant("fill", assigns={"level": "(+ {level} d d)"}).keeps("fill", "below").check()
    with pytest.raises(Refuted):
        GAUGE.implied("full", "(= {level} size)").check()


def test_a_guard_that_is_not_there_cannot_be_altered() -> None:
    with pytest.raises(ValueError, match="no guard"):
        GAUGE.mutant("fill", guards={"content": None})


def test_a_name_is_not_used_twice() -> None:
    """Else a guard named like an assignment would vanish."""
    fill = replace(GAUGE.events["fill"], guards={"new level": "(<= 0 d)"})
    with pytest.raises(ValueError, match="'new level' names two things"):
        replace(GAUGE, events={"fill": fill}).keeps("fill", "above")
