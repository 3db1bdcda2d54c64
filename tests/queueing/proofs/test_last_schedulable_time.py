"""SLAI's decodes start in time where few fall due together, measured on runs, and later where many do.

Everything is recomputed from the trace: last schedulable times, who was critical at each boundary, who fell due.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from policies import Slai
from queueing.models.iteration_time import Affine
from queueing.proofs.certificate import Refuted
from queueing.proofs.claim import checked
from queueing.proofs.last_schedulable_time import CLAIMS, backlog, wait
from queueing.proofs.smt import Obligation
from queueing.proofs.transition import System as Transitions
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload
from tests.laws import run
from tests.strategies import workloads

SYSTEM = System(Affine(0.05, 0.01), blocks=5_000, block_size=1)
crowds = workloads(min_requests=3, max_requests=14, max_prompt=40, max_output=12, max_gap=0.1)


@dataclass
class Measured:
    """What a run was like.

    `late`: of every token after the first, how long after L, or the last token if later, its batch began, and the
    duration of the batch before; `critical`, `due`: how many at each boundary; `slack`: least TBT - Θ·b̄;
    `longest`: batch; `waits`: tokens whose decode was left out of a batch.
    """

    late: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    critical: list[int] = field(default_factory=list[int])
    due: list[int] = field(default_factory=list[int])
    slack: float = np.inf
    longest: float = 0.0

    waits: int = 0

    def few(self, cap: int, m: int) -> bool:
        """At most (j + m - 1)·cap fall due at any j boundaries in a row."""
        total = np.concatenate([[0], np.cumsum(self.due)])
        windows = [(j, total[j:] - total[: len(total) - j]) for j in range(1, len(total))]
        return all((w <= (j + m - 1) * cap).all() for j, w in windows)

    def condition(self, cap: int, m: int) -> bool:
        """That of the theorem."""
        return self.few(cap, m) and (m == 1 or self.slack > 1e-9)


def measure(trace: Trace, policy: Slai) -> Measured:
    its, entries, requests = trace.iterations, trace.entries, trace.requests
    assert entries is not None
    found = Measured()
    given_so_far = np.zeros(len(requests["prompt"]), np.int64)
    schedulable: dict[int, float] = {}  # last schedulable time of every request that decodes
    since: dict[int, float] = {}  # that, or its last token if later
    ends: dict[int, float] = {}  # of the batch that served it last
    was_due: set[int] = set()
    at, busy = 0, 0.0
    for k, (start, seconds) in enumerate(zip(its["start"], its["seconds"], strict=True)):
        critical = {r for r, lst in schedulable.items() if start >= lst}
        found.critical.append(len(critical))
        found.due.append(len(critical - was_due))
        was_due |= critical
        served: Sequence[int] = range(at, at + int(its["entries"][k]))
        at += int(its["entries"][k])
        busy += float(seconds)
        end, mean = start + seconds, busy / (k + 1)
        found.longest = max(found.longest, float(seconds))
        for e in served:
            r = int(entries["request"][e])
            if r in since:
                found.waits += bool(start > ends[r])
                found.late.append((float(start - since[r]), float(its["seconds"][k - 1])))
            given_so_far[r] += entries["tokens"][e]
            was_due.discard(r)
            schedulable.pop(r, None)
            since.pop(r, None)
            if given_so_far[r] < requests["prompt"][r]:
                continue
            if (
                given_so_far[r] < requests["prompt"][r] + requests["output"][r] - 1
            ):  # the last chunk brings a token
                limit = requests["tbt"][r]
                limit = float(limit) if np.isfinite(limit) else policy.time_between_tokens
                schedulable[r] = end + limit - policy.below_offset * mean
                ends[r] = end
                since[r] = max(schedulable[r], end)
                found.slack = min(found.slack, limit - policy.below_offset * mean)
    return found


@given(crowds, st.sampled_from([0.0, 1.0, 3.0]), st.integers(1, 4), st.integers(4, 30))
def test_decodes_start_in_time_where_the_condition_holds(
    workload: Workload, offset: float, cap: int, budget: int
):
    """Any number of requests may run; the least m for which the condition holds is measured on the run."""
    policy = Slai(
        token_budget=budget, max_num_seqs=14, limit_total_decodes=cap, fixed_offset=True, below_offset=offset
    )
    trace = run(workload, SYSTEM, policy)
    assert trace.requests["preemptions"].sum() == 0
    found = measure(trace, policy)
    m = next((m for m in range(1, 15) if found.condition(cap, m)), None)
    event(f"m = {m}, somebody waits: {found.waits > 0}")
    if m is None:
        return
    assert max(found.critical, default=0) <= m * cap
    assert all(late < m * found.longest + 1e-9 for late, _ in found.late)
    if m == 1:
        assert all(late < before + 1e-9 for late, before in found.late)


def crowd(n: int, tbt: float) -> Workload:
    """Prompts of four tokens that arrive together."""
    return Workload(np.zeros(n), [4] * n, [8] * n, tbt=[tbt] * n)


def test_more_that_fall_due_than_a_batch_takes_are_later():
    """Control for m = 1: ten decodes fall due together, and a batch takes two; so m = 5, and two batches late."""
    policy = Slai(
        token_budget=60, max_num_seqs=12, limit_total_decodes=2, fixed_offset=True, below_offset=1.0
    )
    found = measure(run(crowd(10, 0.3), SYSTEM, policy), policy)
    assert not found.condition(2, 1)
    assert any(late > 2 * before for late, before in found.late)


def test_the_smallest_case():
    """Two decodes fall due in a batch of 600 prompt tokens, a batch takes one: late for m = 1, in time for m = 2."""
    policy = Slai(
        token_budget=600, max_num_seqs=4, limit_total_decodes=1, fixed_offset=True, below_offset=0.0
    )
    workload = Workload([0.0, 0.0, 0.1, 0.1], [4, 4, 600, 600], [3, 3, 1, 1], tbt=[0.7, 0.7, 9.0, 9.0])
    found = measure(run(workload, SYSTEM, policy), policy)
    assert max(found.due) == 2
    assert not found.condition(1, 1)
    assert found.condition(1, 2)
    assert any(late > before for late, before in found.late)
    assert found.longest < max(late for late, _ in found.late) < 2 * found.longest


def test_without_slack_a_strict_user_goes_first():
    """Control for the slack: with a limit below Θ·b̄ one is due at every boundary, its L before that of who waits."""
    policy = Slai(
        token_budget=60, max_num_seqs=3, limit_total_decodes=1, fixed_offset=True, below_offset=10.0
    )
    workload = Workload(np.zeros(2), [4, 4], [60, 4], tbt=[0.001, 0.7])
    found = measure(run(workload, SYSTEM, policy), policy)
    assert found.few(1, 2)
    assert found.slack < 0
    assert max(late for late, _ in found.late) > 2 * found.longest


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
@pytest.mark.parametrize("system", [backlog(), wait()], ids=["backlog", "wait"])
def test_every_event_can_happen(system: Transitions):
    for name in system.events:
        assert not system.leads(name, f"no {name}", "false").holds


@pytest.mark.usefixtures("solvers")
def test_scripts_parse_and_their_hypotheses_have_a_model():
    evidence = CLAIMS[0].evidence
    assert evidence is not None
    for obligation in evidence():
        assert isinstance(obligation, Obligation)
        if obligation.name != "never passed over with m = 1":  # there the hypotheses contradict each other
            with pytest.raises(Refuted):
                obligation.claiming("false").check()
