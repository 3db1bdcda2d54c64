"""VTC with refunds: the solver proofs of T1 and T3 are accepted, for three clients too; every broken rule is caught."""

from __future__ import annotations

import pytest

from queueing.proofs.certificate import Refuted
from queueing.proofs.claim import Claim, checked
from queueing.proofs.vtc_clients import THREE, at, refunds, twice_as_dear
from queueing.proofs.vtc_refunds import CLAIMS, any_window, followed, mutants, within

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


def test_three_clients_satisfy_what_any_number_does_without_the_laws_of_sums() -> None:
    """Their sums are written out, so that the laws are theorems, and are left out."""
    window = any_window(THREE)
    for certificate in [*followed(THREE).inductive(), *window.inductive(), within(window, "T3")]:
        laws = [name for name in certificate.hypotheses if name.startswith(("law of sums", "sum "))]
        assert laws
        certificate.without(*laws).check()


def test_the_floor_is_no_invariant_with_refunds() -> None:
    """Control: the proof of VTC without refunds does not carry over, as a counter falls below the floor."""
    with pytest.raises(Refuted):
        refunds(twice_as_dear()).keeps("finish", "I2").check()


def test_a_window_with_the_other_client_away_exists() -> None:
    """The clauses about clients away are not vacuous: a window is open in which g is away, owed, and then arrives."""
    window = any_window(THREE)
    away = (
        f"(not (and {{open}} (not {{arrived}}) (< 0 {{rg1}}) (< 0 {{Sg}}) (< {at('c', 'g')} {at('c', 'f')})))"
    )
    with pytest.raises(Refuted):
        window.implied("no such window", away).check()
