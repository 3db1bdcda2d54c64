"""Orca and its paged form: whole prompts beside decodes."""

from __future__ import annotations

from hypothesis import given

from policies import HybridOnly, Orca
from queueing.system import System
from queueing.workload import Workload
from tests.accountant import audit
from tests.laws import LAW, crowded, run
from tests.policies.desk import Desk, decode, waiting
from tests.strategies import systems, workloads

crowds = workloads(min_requests=3, max_requests=10, max_prompt=40, max_output=40, max_gap=0.25)


def test_decodes_and_whole_prompts():
    asked = Desk([decode(), waiting(700), decode(), waiting(30)], max_length=800).ask(Orca())
    assert asked.entries == [(0, 1), (2, 1), (1, 700), (3, 30)]
    assert asked.reserve == {1: 800, 3: 800}  # room for the context limit each


def test_batch_size_counts_all_active():
    asked = Desk([decode(), waiting(7), waiting(7), waiting(7)], max_length=50).ask(Orca(batch_size=3))
    assert [r for r, _ in asked.entries] == [0, 1, 2]


@given(workload=crowds, system=systems(LAW))
def test_full_reservation_never_preempts(workload: Workload, system: System):
    trace = run(workload, system, Orca())
    assert trace.requests["preemptions"].sum() == 0
    for s in audit(workload, system, trace, Orca().admission):
        assert len(s.running) <= 8
        assert all(q == s.left[r] for r, q in s.chunks.items())


def test_paged_memory_admits_more_and_preempts():
    """Control: the same batches on paged memory do preempt, and hold more requests at once."""
    workload, system = crowded()
    paged, full = run(workload, system, HybridOnly()), run(workload, system, Orca())
    assert paged.requests["preemptions"].sum() > 0
    assert paged.iterations["running"].max() > full.iterations["running"].max()
