"""The solver proof of VTC's counter gap: it is accepted whole, and every broken rule takes a named clause with it."""

from __future__ import annotations

import pytest

from queueing.proofs.certificate import Refuted
from queueing.proofs.claim import checked
from queueing.proofs.smt import SOLVERS
from queueing.proofs.vtc_clients import CLAIMS, THREE, gap, lift_may_lower, mutants, twice_as_dear, vtc

pytest.importorskip("z3")
pytest.importorskip("cvc5")


def test_every_claim_is_checked_with_its_controls() -> None:
    for claim in CLAIMS:
        verdict = checked(claim)
        assert verdict.ok, verdict.reason
        assert verdict.certificates == len(list(claim.evidence() if claim.evidence else ()))


@pytest.mark.parametrize("name", mutants())
def test_a_broken_rule_loses_the_clause_that_rests_on_it(name: str) -> None:
    mutant, event, clause = mutants()[name]
    with pytest.raises(Refuted, match=f"{event} keeps {clause}"):
        mutant.keeps(event, clause).check()
    twice_as_dear().keeps(event, clause).check()


def test_the_gap_alone_does_not_see_a_lift_that_lowers_counters() -> None:
    mutant = lift_may_lower(vtc())
    for certificate in [*mutant.inductive(), gap(mutant)]:
        certificate.check()


def test_three_clients_satisfy_what_any_number_does() -> None:
    three = vtc(THREE)
    for certificate in three.inductive():
        certificate.check()


@pytest.mark.parametrize(
    ("clause", "laws"),
    [("I1", ["sum after a change"]), ("I3", ["sum bounds entries", "sum bounds entries, after"])],
)
def test_the_laws_of_sums_are_needed(clause: str, laws: list[str]) -> None:
    """Without one no solver finds the proof; it may not find a counterexample either, as there are quantifiers."""
    weakened = vtc().keeps("admit", clause).without(*laws)
    assert "unsat" not in {ask(weakened.script, 2).status for ask in SOLVERS.values()}
