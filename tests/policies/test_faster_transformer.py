"""FasterTransformer: nobody joins before all are done."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies import Admission, FasterTransformer, Orca
from queueing.policy import Policy
from queueing.system import System
from queueing.workload import Workload
from tests.accountant import audit
from tests.laws import LAW, run
from tests.policies.desk import Desk, decode, waiting
from tests.strategies import systems, workloads

crowds = workloads(min_requests=3, max_requests=10, max_prompt=40, max_output=40, max_gap=0.25)


def test_decodes_shut_the_door():
    assert Desk([decode(), waiting(10)]).ask(FasterTransformer()).entries == [(0, 1)]
    assert Desk([waiting(10), waiting(20)], max_length=50).ask(FasterTransformer()).entries == [
        (0, 10),
        (1, 20),
    ]


def admits_among_running(workload: Workload, system: System, policy: Policy, admission: Admission) -> bool:
    return any(
        s.admitted and s.running for s in audit(workload, system, run(workload, system, policy), admission)
    )


@given(workload=crowds, system=systems(LAW), admission=st.sampled_from(Admission), size=st.integers(1, 8))
def test_admits_only_when_nothing_runs(workload: Workload, system: System, admission: Admission, size: int):
    policy = FasterTransformer(batch_size=size, admission=admission)
    assert not admits_among_running(workload, system, policy, admission)


def test_orca_admits_among_running():
    """Control: iteration-level scheduling is told apart."""
    workload = Workload([0.0, 0.1], [8, 8], [30, 30])
    system = System(LAW, blocks=100, max_length=100, name="ample")
    assert admits_among_running(workload, system, Orca(), Orca().admission)
