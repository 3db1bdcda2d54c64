"""VTC with prompts charged chunk by chunk: every event of it is one of the pair, and not if a rule is broken."""

from __future__ import annotations

import pytest

from queueing.proofs.certificate import Refuted
from queueing.proofs.claim import checked
from queueing.proofs.vtc_chunked import CLAIMS, chunked, simulation

pytest.importorskip("z3")
pytest.importorskip("cvc5")


def test_every_claim_is_checked_with_its_controls() -> None:
    for claim in CLAIMS:
        verdict = checked(claim)
        assert verdict.ok, verdict.reason


@pytest.mark.parametrize(
    ("event", "guard"),
    [("decode g", "reserved"), ("finish g", "of others"), ("arrive f", "floor rises"), ("admit g", "waits")],
)
def test_an_event_without_a_guard_is_none_of_the_pair(event: str, guard: str) -> None:
    mutant = chunked().mutant(event, guards={guard: None})
    step = next(o for o in simulation(mutant) if o.name.startswith(event))
    with pytest.raises(Refuted):
        step.check()
