"""The solver proof of deficit round robin's bound; and a run of the rule that the proof does not cover."""

from __future__ import annotations

from collections import deque

import pytest

from queueing.proofs.certificate import Refuted
from queueing.proofs.claim import checked
from queueing.proofs.deficit_round_robin import CLAIMS, mutants

pytest.importorskip("z3")
pytest.importorskip("cvc5")


def test_every_claim_is_checked_with_its_controls() -> None:
    for claim in CLAIMS:
        verdict = checked(claim)
        assert verdict.ok, verdict.reason


@pytest.mark.parametrize("name", mutants())
def test_a_broken_rule_is_refuted(name: str) -> None:
    with pytest.raises(Refuted):
        mutants()[name].check()


def admissions(turns: int, quantum: int, prompt: int, output: int, *, ends_at_zero: bool) -> list[int]:
    """Two clients whose requests fill the memory each; a prompt token costs 1, an output token 2."""
    deficit, ring, misfit, left, order = [0, 0], deque([0, 1]), None, 0, list[int]()
    while len(order) < turns:
        u = ring.popleft()
        if u == misfit and (deficit[u] < 0 or (ends_at_zero and deficit[u] == 0)):
            misfit = None
            ring.append(u)
            continue
        if deficit[u] <= 0:
            deficit[u] += quantum
        while deficit[u] > 0 and left == 0:
            order.append(u)
            deficit[u] -= prompt
            left = output
        if deficit[u] <= 0:
            ring.append(u)
            continue
        misfit = u
        ring.appendleft(u)
        deficit[order[-1]] -= 2  # who runs gets a token
        left -= 1
    return order


@pytest.mark.parametrize(("prompt", "output"), [(2, 249), (2, 333), (4, 248)])
def test_a_client_whose_deficit_is_used_up_exactly_keeps_its_turn(prompt: int, output: int) -> None:
    """By the rule of the artifact the other client is never served; if a turn ends at 0, both are."""
    assert set(admissions(100, 500, prompt, output, ends_at_zero=False)) == {0}
    fair = admissions(100, 500, prompt, output, ends_at_zero=True)
    assert abs(fair.count(0) - fair.count(1)) * (prompt + 2 * output) <= 2 * 500 + 2 * 2 * (prompt + output)
