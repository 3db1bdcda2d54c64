"""SLAI's decodes start less than an iteration late if no more are critical than a batch takes, and later if more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import Slai
from queueing.models.iteration_time import Affine
from queueing.proofs.claim import checked
from queueing.proofs.last_schedulable_time import CLAIMS
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload
from tests.laws import run
from tests.strategies import workloads

pytest.importorskip("z3", reason="needs z3, of the extra `proofs`")
pytest.importorskip("cvc5", reason="needs cvc5, of the extra `proofs`")

SYSTEM = System(Affine(0.05, 0.01), blocks=5_000, block_size=1)
crowds = workloads(min_requests=3, max_requests=14, max_prompt=40, max_output=12, max_gap=0.1)


def lateness(trace: Trace, policy: Slai) -> list[tuple[float, float]]:
    """Of every decode: seconds from its last schedulable time, or last token if later, to its batch; batch before."""
    its, entries = trace.iterations, trace.entries
    assert entries is not None
    busy = np.cumsum(its["seconds"])
    given, last, at = np.zeros(len(trace.requests["prompt"]), np.int64), {}, 0
    found: list[tuple[float, float]] = []
    for k, (start, seconds) in enumerate(zip(its["start"], its["seconds"], strict=True)):
        served = range(at, at + int(its["entries"][k]))
        for e in served:
            r = int(entries["request"][e])
            if r in last:
                found.append((start - last[r], float(its["seconds"][k - 1])))
            given[r] += entries["tokens"][e]
        for e in served:
            r = int(entries["request"][e])
            if given[r] >= trace.requests["prompt"][r]:
                limit = trace.requests["tbt"][r]
                limit = limit if np.isfinite(limit) else policy.time_between_tokens
                last[r] = start + seconds + max(limit - policy.below_offset * busy[k] / (k + 1), 0.0)
        at += int(its["entries"][k])
    return found


def test_proved_and_every_weakened_form_refuted() -> None:
    verdict = checked(CLAIMS[0])
    assert verdict.ok, verdict.reason
    assert all(verdict.controls.values())


@given(crowds, st.sampled_from([0.0, 2.0, 5.0]), st.integers(8, 30))
def test_decodes_start_less_than_an_iteration_late(workload: Workload, offset: float, budget: int) -> None:
    policy = Slai(
        token_budget=budget, max_num_seqs=8, limit_total_decodes=8, fixed_offset=True, below_offset=offset
    )
    trace = run(workload, SYSTEM, policy)
    assert trace.requests["preemptions"].sum() == 0
    assert all(late < before + 1e-9 for late, before in lateness(trace, policy))


def test_more_critical_decodes_than_a_batch_takes_are_later() -> None:
    """Control: ten decodes fall due together, and a batch takes two."""
    workload = Workload(np.zeros(10), [4] * 10, [8] * 10, tbt=[0.3] * 10)
    policy = Slai(
        token_budget=60, max_num_seqs=12, limit_total_decodes=2, fixed_offset=True, below_offset=1.0
    )
    assert any(late > 2 * before for late, before in lateness(run(workload, SYSTEM, policy), policy))
