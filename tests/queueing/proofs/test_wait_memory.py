"""WAIT's memory: proved, refuted where weakened, and the largest of runs with any thresholds and any patience."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import ANNOUNCED_LENGTH, WHOLE_PROMPT, Admission, Wait
from queueing.models.iteration_time import Affine
from queueing.proofs.certificate import Refuted
from queueing.proofs.claim import checked
from queueing.proofs.smt import Obligation
from queueing.proofs.wait_memory import CLAIMS, stages, types
from queueing.system import System
from queueing.workload import Workload
from tests.laws import run

lengths = st.tuples(st.integers(1, 9), st.integers(1, 5))


@given(
    st.tuples(lengths, lengths),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.01, 0.3])), min_size=1, max_size=30),
    st.sampled_from([0.05, 0.5, 50.0]),
    st.sampled_from([WHOLE_PROMPT, ANNOUNCED_LENGTH]),
)
def test_no_run_holds_more(
    kinds: tuple[tuple[int, int], tuple[int, int]],
    thresholds: tuple[int, int],
    requests: list[tuple[int, float]],
    patience: float,
    admission: Admission,
):
    """Two types of equal requests, ample memory: blocks of a token never exceed the bound, patience or not."""
    (p0, o0), (p1, more) = kinds
    prompt, output = np.array([p0, p1]), np.array([o0, o0 + more])
    kind = np.array([k for k, _ in requests])
    arrival = np.cumsum([gap for _, gap in requests])
    workload = Workload(arrival, prompt[kind], output[kind], predicted=output[kind])
    policy = Wait(thresholds=thresholds, outputs=(o0, o0 + more), patience=patience, admission=admission)
    system = System(Affine(0.01, 0.001), blocks=4096, block_size=1, last_chunk_emits=False)
    trace = run(workload, system, policy)
    assert trace.requests["preemptions"].sum() == 0
    each = prompt + (output / 2 if admission == WHOLE_PROMPT else output)
    assert trace.iterations["blocks"].max() <= float(np.sum(np.array(thresholds) * (output + 1) * each))


def test_requests_that_differ_hold_more():
    """Control: a prompt of 30 tokens among those of 2 of one type."""
    workload = Workload(np.zeros(4), [2, 2, 2, 30], [3] * 4, predicted=[3] * 4)
    system = System(Affine(0.01, 0.001), blocks=4096, block_size=1, last_chunk_emits=False)
    trace = run(workload, system, Wait(thresholds=(1,), outputs=(3,), admission=WHOLE_PROMPT))
    assert trace.iterations["blocks"].max() > (3 + 1) * (2 + 3 / 2)


@pytest.fixture
def solvers() -> None:
    pytest.importorskip("z3", reason="needs z3, of the extra `proofs`")
    pytest.importorskip("cvc5", reason="needs cvc5, of the extra `proofs`")


@pytest.mark.usefixtures("solvers")
def test_proved_and_every_weakened_form_refuted():
    verdict = checked(CLAIMS[0])
    assert verdict.ok, verdict.reason
    assert all(verdict.controls.values())


@pytest.mark.usefixtures("solvers")
def test_scripts_parse_and_their_hypotheses_have_a_model():
    evidence = CLAIMS[0].evidence
    assert evidence is not None
    for obligation in evidence():
        assert isinstance(obligation, Obligation)
        with pytest.raises(Refuted):
            obligation.claiming("false").check()
    for system in (stages(), types()):
        for name in system.events:
            assert not system.leads(name, f"no {name}", "false").holds
