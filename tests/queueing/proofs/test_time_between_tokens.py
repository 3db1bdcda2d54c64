"""Gaps between tokens under Sarathi-Serve and vLLM, against the bound that the solvers prove; its parts one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from policies import Sarathi, Vllm
from queueing.models.iteration_time import Affine, Load
from queueing.proofs.certificate import Refuted
from queueing.proofs.claim import Claim, checked
from queueing.proofs.smt import Obligation
from queueing.proofs.time_between_tokens import CLAIMS, clock, plan, price
from queueing.proofs.transition import System as Transitions
from queueing.system import System
from queueing.workload import Workload
from tests.laws import run
from tests.strategies import workloads

LAW = Affine(2.0**-4, 2.0**-7, 2.0**-12, 2.0**-13)  # dyadic: no rounding in the sums of a batch
crowds = workloads(min_requests=3, max_requests=12, max_prompt=60, max_output=12, max_gap=0.5)


def bound(budget: int, decodes: int, memory: int, prompt: int) -> float:
    """t(max(B, N)) + κ·M + φ·B·C."""
    base = LAW(Load(max(budget, decodes), 0, 0, np.zeros(0, np.int64), np.zeros(0, np.int64)))
    return base + LAW.per_context * memory + LAW.per_pair * budget * prompt


@given(crowds, st.integers(2, 40), st.integers(1, 12))
def test_no_gap_of_sarathi_is_longer(workload: Workload, budget: int, places: int):
    """More decodes than the budget too; `memory` is what runs held at most, so that nobody is preempted."""
    system = System(LAW, blocks=10_000, block_size=1)
    trace = run(workload, system, Sarathi(token_budget=budget, max_num_seqs=places))
    assert trace.requests["preemptions"].sum() == 0
    gaps = trace.requests["longest_gap"]
    assume(np.nanmax(gaps, initial=0.0) > 0)
    memory = int(trace.iterations["blocks"].max())
    most = int(trace.iterations["decodes"].max())
    event(f"decodes beyond the budget: {most > budget}")
    # times are sums along the run, and differ from the sums of a batch by rounding
    assert np.nanmax(gaps) <= bound(budget, most, memory, int(workload.prompt.max())) * (1 + 1e-9)


def test_the_bound_is_not_far():
    """One decode beside a long prompt in chunks of the budget: tokens make up most of the longest gap."""
    workload = Workload([0.0, 0.1], [1, 400], [40, 1])
    trace = run(workload, System(LAW, blocks=10_000, block_size=1), Sarathi(token_budget=32))
    longest = np.nanmax(trace.requests["longest_gap"])
    assert 0.6 * bound(32, 1, 440, 400) < longest <= bound(32, 1, 440, 400)


def test_a_batch_of_prompts_alone_exceeds_it():
    """Control: vLLM prefills a prompt in a batch of its own while another request decodes."""
    workload = Workload([0.0, 0.1], [1, 400], [40, 1])
    trace = run(workload, System(LAW, blocks=10_000, block_size=1), Vllm())
    assert np.nanmax(trace.requests["longest_gap"]) > bound(32, 1, 440, 400)


def test_preemption_exceeds_it():
    """Control: of two requests that outgrow the memory one waits for the other's end."""
    workload = Workload([0.0, 0.0], [8, 8], [40, 40])
    trace = run(workload, System(LAW, blocks=60, block_size=1), Sarathi(token_budget=16))
    assert trace.requests["preemptions"].sum() > 0
    assert np.nanmax(trace.requests["longest_gap"]) > 2 * bound(16, 2, 60, 48)


@pytest.fixture
def solvers() -> None:
    pytest.importorskip("z3", reason="needs z3, of the extra `proofs`")
    pytest.importorskip("cvc5", reason="needs cvc5, of the extra `proofs`")


@pytest.mark.usefixtures("solvers")
@pytest.mark.parametrize("system", [plan(), clock()], ids=["plan", "clock"])
def test_every_event_can_happen(system: Transitions):
    for name in system.events:
        assert not system.leads(name, f"no {name}", "false").holds


@pytest.mark.usefixtures("solvers")
def test_scripts_parse_and_their_hypotheses_have_a_model():
    evidence = CLAIMS[0].evidence
    assert evidence is not None
    for obligation in evidence():
        assert isinstance(obligation, Obligation)
        with pytest.raises(Refuted):
            obligation.claiming("false").check()


@pytest.mark.usefixtures("solvers")
@pytest.mark.parametrize(
    "hypothesis", ["dearer with tokens", "dearer with context", "dearer with pairs", "pairs"]
)
def test_every_part_of_the_price_is_needed(hypothesis: str):
    assert price().holds
    assert not price().without(hypothesis).holds


@pytest.mark.usefixtures("solvers")
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_proved_and_every_weakened_form_refuted(claim: Claim):
    verdict = checked(claim)
    assert verdict.ok, verdict.reason
    assert all(verdict.controls.values())
