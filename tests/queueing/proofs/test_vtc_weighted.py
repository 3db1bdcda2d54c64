"""Weighted VTC: the solver proofs are accepted, and a run shows that predictions cost T3 its sharper bound."""

from __future__ import annotations

from fractions import Fraction

import pytest

from queueing.cost import Cost
from queueing.models.vtc import Setting, Vtc, violated
from queueing.proofs.certificate import Refuted
from queueing.proofs.claim import Claim, checked
from queueing.proofs.vtc_weighted import CASES, CLAIMS, product, weighted

pytest.importorskip("z3")
pytest.importorskip("cvc5")


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_every_claim_is_checked_with_its_controls(claim: Claim) -> None:
    verdict = checked(claim)
    assert verdict.ok, verdict.reason


@pytest.mark.parametrize(("case", "event"), [("w >= 1", "admit g"), ("w <= 1", "admit f")])
def test_a_memory_that_does_not_bound_what_is_reserved_is_refuted(case: str, event: str) -> None:
    u = event[-1]
    mutant = weighted(case).mutant(event, guards={"fits": None, "price": "(= k 0)"})
    with pytest.raises(Refuted):
        mutant.keeps(event, f"I3 {u}").check()


def test_products_are_told_of_the_right_side_of_one() -> None:
    (above, below) = CASES
    assert product(above, "t") != product(below, "t")


@pytest.mark.parametrize("memory", [20, 40])
@pytest.mark.parametrize("weight", [2, 4])
def test_with_predictions_and_a_larger_weight_g_gets_ahead_by_nearly_twice_u(
    memory: int, weight: int
) -> None:
    """f is charged a full memory twice, the second time for predicted tokens that do not come while g is served.

    So the bound U*/f_g + U*/min(f_f, f_g) fails; 2·U*/min(f_f, f_g), which is proved, is nearly met.
    """
    system = Vtc(Setting(2, memory, longest=1, cost=Cost(0, 1), weights=(1, weight)))
    f, g = 0, 1
    system.arrive(f, 1, memory - 1)
    system.arrive(f, 1, memory - 3, predicted=memory - 3)
    system.arrive(f, 1, memory - 1)  # never fits
    for _ in range(weight):
        system.arrive(g, 1, memory - 1)
    for _ in range(weight * memory):
        system.arrive(g, 1, 1)
    assert system.admit() is not None
    while system.running:
        system.decode()
    before = list(system.service)  # the window opens: f and g wait
    while True:
        admitted = system.admit()
        of_g = [k for k, running in enumerate(system.running) if running.request.client == g]
        assert not violated(system)
        assert system.queue[f]
        if not (admitted or of_g):
            break
        system.decode(of_g)
    ahead = Fraction(system.service[g] - before[g], weight) - (system.service[f] - before[f])
    bound = Fraction(system.bound)
    assert ahead > bound / weight + bound
    assert 2 * bound - 5 <= ahead <= 2 * bound
