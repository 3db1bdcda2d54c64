"""Pigeonhole, drift, rate and sandwich by solvers: proved, refuted where weakened, and held against small numbers."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueing.proofs import work_conservation as proofs
from queueing.proofs.certificate import Refuted
from queueing.proofs.claim import Claim, checked
from queueing.proofs.smt import Obligation
from queueing.proofs.transition import System

pytest.importorskip("z3", reason="needs z3, of the extra `proofs`")
pytest.importorskip("cvc5", reason="needs cvc5, of the extra `proofs`")


@pytest.mark.parametrize("claim", proofs.CLAIMS, ids=lambda claim: claim.name)
def test_proved_and_every_weakened_form_refuted(claim: Claim):
    verdict = checked(claim)
    assert verdict.ok, verdict.reason
    assert all(verdict.controls.values())


@pytest.mark.parametrize("claim", proofs.CLAIMS, ids=lambda claim: claim.name)
def test_scripts_parse_and_their_hypotheses_have_a_model(claim: Claim):
    """A contradiction among hypotheses would prove anything: each is satisfiable with `false` as the goal."""
    assert claim.evidence is not None
    for obligation in claim.evidence():
        assert isinstance(obligation, Obligation)
        with pytest.raises(Refuted):
            obligation.claiming("false").check()


@pytest.mark.parametrize(
    ("system", "events"),
    [
        (proofs.requests(), ["prompt", "decode"]),
        (proofs.listing(), ["request"]),
        (proofs.converse(), ["arrival", "batch", "idle"]),
        (proofs.sandwich(), ["arrival", "start", "part of a batch", "idle"]),
    ],
)
def test_every_event_can_happen(system: System, events: list[str]):
    assert list(system.events) == events
    for event in events:
        assert not system.leads(event, f"no {event}", "false").holds


def test_unmixed_batches_carry_three_of_five():
    """Two prompt tokens and three decodes, five in a batch: apart at most 3, together 5."""
    system = proofs.requests()
    assert system.implied("apart", f"(= 3 {proofs.apart()})", proofs.UNMIXED).holds
    assert system.implied("together", f"(= 5 {proofs.together()})", proofs.UNMIXED).holds


@pytest.mark.parametrize(("b", "longest"), [(1, 3), (3, 1), (3, 4), (4, 3)])
def test_the_pigeonhole_by_enumeration_is_sharp(b: int, longest: int):
    """(b - 1)·L tokens may lie with b - 1 requests, and no more may."""
    lengths = range(1, longest + 1)
    most = max(sum(some) for n in range(b) for some in combinations_with_replacement(lengths, n))
    assert most == (b - 1) * longest


@given(*[st.fractions(0, 9, max_denominator=5)] * 3, st.integers(1, 40), st.integers(1, 40))
def test_the_largest_batch_in_numbers(c: Fraction, a: Fraction, b0: Fraction, n: int, more: int):
    """Both directions, at numbers: cheapest if c >= a·b0; if not, a batch of b0 beats one of b0 + `more`."""

    def time(tokens: Fraction | int) -> Fraction:
        return c + a * max(Fraction(0), tokens - b0)

    b = n + more
    if c >= a * b0:
        assert n * time(b) <= b * time(n)
    else:
        assert b0 * time(b0 + more) > (b0 + more) * time(b0)


MOVES = st.lists(
    st.tuples(st.sampled_from(["come", "full", "waste", "idle"]), st.integers(1, 6), st.integers(0, 6))
)


@given(MOVES)
def test_a_random_path_stays_in_the_sandwich(moves: list[tuple[str, int, int]]):
    """Runs of the transition system by hand, with K as large as its starts made necessary; it is attained or larger."""
    work, ideal, constant, worst = 0, 0, 0, 0
    for kind, x, z in moves:
        if kind == "come":
            work, ideal = work + x, ideal + x
            continue
        if kind == "idle":
            time, done = (x, 0) if work == 0 else (0, 0)
        else:
            done = min(x, work)
            wasted = z if kind == "waste" and done else 0
            time = done + wasted
            constant = max(constant, work + wasted) if wasted else constant
        work, ideal = work - done, max(0, ideal - time)
        worst = max(worst, work - ideal)
        assert ideal <= work <= ideal + constant
    assert worst <= constant
