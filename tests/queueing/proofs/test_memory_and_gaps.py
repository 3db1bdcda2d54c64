"""KV memory and gaps between tokens: what the solvers prove holds of runs, and fails where a hypothesis does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from policies import McSf, Sarathi, Vllm, Vtc
from queueing.models.iteration_time import Affine
from queueing.proofs import kv_overflow, time_between_tokens
from queueing.proofs.claim import Claim, checked
from queueing.system import System
from queueing.workload import Workload
from tests.laws import run
from tests.strategies import workloads

pytest.importorskip("z3", reason="needs z3, of the extra `proofs`")
pytest.importorskip("cvc5", reason="needs cvc5, of the extra `proofs`")

crowds = workloads(min_requests=3, max_requests=12, max_prompt=20, max_output=12, max_gap=0.1)


@pytest.mark.parametrize(
    "claim", [*kv_overflow.CLAIMS, *time_between_tokens.CLAIMS], ids=lambda claim: claim.name
)
def test_proved_and_every_weakened_form_refuted(claim: Claim) -> None:
    verdict = checked(claim)
    assert verdict.ok, verdict.reason
    assert all(verdict.controls.values())


@given(crowds, st.sampled_from([McSf(), Vtc()]))
def test_nobody_is_preempted_with_true_announcements(workload: Workload, policy: McSf | Vtc) -> None:
    system = System(Affine(0.01, 0.001), blocks=60, block_size=1)
    trace = run(dataclasses.replace(workload, predicted=workload.output), system, policy)
    assert trace.requests["preemptions"].sum() == 0
    assert (trace.iterations["blocks"] <= system.blocks).all()


def test_announcements_below_the_truth_overflow() -> None:
    """Control: requests announced with one token and running for thirty are preempted."""
    workload = Workload(np.zeros(6), [5] * 6, [30] * 6, predicted=[1] * 6)
    trace = run(workload, System(Affine(0.01, 0.001), blocks=60, block_size=1), McSf())
    assert trace.requests["preemptions"].sum() > 0


@given(crowds, st.integers(12, 40))
def test_gaps_under_a_budget(workload: Workload, budget: int) -> None:
    """Affine law without context: no gap beyond base + budget·per_token, if nothing is preempted."""
    law = Affine(0.25, 0.125)
    system = System(law, blocks=10_000, block_size=1, max_running=12)
    trace = run(workload, system, Sarathi(token_budget=budget))
    assume(np.isfinite(trace.requests["longest_gap"]).any())
    assert np.nanmax(trace.requests["longest_gap"]) <= (0.25 + 0.125 * budget) * (1 + 1e-12)


def test_whole_prompts_exceed_it() -> None:
    """Control: vLLM serves a long prompt in a batch of its own while another request decodes."""
    workload = Workload([0.0, 0.5], [4, 400], [30, 2])
    trace = run(workload, System(Affine(0.25, 0.125), blocks=10_000, block_size=1, max_running=12), Vllm())
    assert np.nanmax(trace.requests["longest_gap"]) > 0.25 + 0.125 * 40
