"""The solver proofs of T1 and T3: accepted whole; every broken rule is caught, and one by T3 alone."""

from __future__ import annotations

import pytest

from queueing.proofs.certificate import Refuted
from queueing.proofs.claim import Claim, checked
from queueing.proofs.vtc_clients import THREE
from queueing.proofs.vtc_pair import (
    CLAIMS,
    any_window,
    both_window,
    lift_may_lower,
    mutants,
    pair,
    simulation,
    unpredicted,
    within,
)

pytest.importorskip("z3")
pytest.importorskip("cvc5")


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_every_claim_is_checked_with_its_controls(claim: Claim) -> None:
    verdict = checked(claim)
    assert verdict.ok, verdict.reason


@pytest.mark.parametrize("name", mutants())
def test_a_broken_rule_is_refuted(name: str) -> None:
    with pytest.raises(Refuted):
        mutants()[name].check()


def test_two_backlogged_clients_do_not_see_a_lift_that_lowers_counters() -> None:
    """Every obligation of T1 survives it; of T3, that service is at most the counter's change does not."""
    mutant = lift_may_lower(unpredicted(pair()))
    window = both_window(mutant)
    for certificate in [*mutant.inductive(), *window.inductive(), window.implied("T1", within(2, both=True))]:
        certificate.check()
    with pytest.raises(Refuted):
        any_window(mutant).keeps("arrive g", "after").check()


def test_the_simple_form_gives_three_times_the_constant() -> None:
    window = any_window(pair(), simple=True)
    for certificate in [*window.inductive(), window.implied("T3, simple form", within(3))]:
        certificate.check()


@pytest.mark.parametrize(
    ("title", "fact"),
    [
        ("arrive by f", "I2"),
        ("arrive first by other", "I4"),
        ("admit by other", "I2"),
        ("admit by other", "fits"),
        ("arrive by g", "z least"),
    ],
)
def test_the_aggregation_rests_on_the_invariants_of_the_whole(title: str, fact: str) -> None:
    """Without a fact of the whole system, three clients have a step that the pair has not."""
    step = next(o for o in simulation(THREE) if o.name.startswith(title))
    step.check()
    names = [name for name in step.hypotheses if name in (fact, f"{fact}, after")]
    with pytest.raises(Refuted):
        step.without(*names).check()
