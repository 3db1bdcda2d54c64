"""A_min: bounds that rise, eviction from below, and MC-SF where announcements are trusted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import AMin, McSf
from queueing.system import System
from queueing.workload import Workload
from tests.accountant import audit
from tests.laws import LAW, run, same_tables
from tests.policies.desk import Desk, decode, waiting
from tests.strategies import systems, workloads

crowds = workloads(min_requests=3, max_requests=10, max_prompt=40, max_output=40, max_gap=0.25)


def test_admits_by_the_lower_bound():
    """α = 1/4: bounds 10, 3, and, since 20 tokens are there already, 20."""
    queue = [
        waiting(9, predicted=40),
        waiting(9, predicted=12),
        waiting(29, predicted=30, decoded=20, recomputed=20),
    ]
    assert [r for r, _ in Desk(queue).ask(AMin()).entries] == [1, 0, 2]


def test_admits_what_its_bound_lets_in():
    """Both outputs may come to 64 tokens and overflow; by a quarter of it they fit together."""
    queue = [waiting(16, predicted=64), waiting(16, predicted=64)]
    admitted = {
        share: len(Desk(queue, total_blocks=6).ask(AMin(share=share)).entries) for share in (0.25, 1.0)
    }
    assert admitted == {0.25: 2, 1.0: 1}


def test_evicts_the_least_bound_the_latest_of_equals():
    full = [
        decode(16, predicted=40, blocks=1),
        decode(16, predicted=8, blocks=1),
        decode(16, predicted=8, blocks=1),
    ]
    asked = Desk([*full, waiting(3)], total_blocks=4).ask(AMin())
    assert asked.victims == [2]
    assert asked.entries == [(0, 1), (1, 1)]  # nobody comes in while somebody is put out


@given(workload=crowds, system=systems(LAW), share=st.sampled_from([0.125, 0.5, 1.0]))
def test_nobody_enters_while_somebody_is_evicted(workload: Workload, system: System, share: float):
    policy = AMin(share=share)
    told = dataclasses.replace(workload, predicted=workload.output)
    for s in audit(told, system, run(told, system, policy), None):
        assert not (s.victims and s.admitted)


@given(workload=crowds, system=systems(LAW))
def test_trusted_announcements_make_it_mc_sf(workload: Workload, system: System):
    told = dataclasses.replace(workload, predicted=workload.output)
    assert same_tables(run(told, system, AMin(share=1.0)), run(told, system, McSf())) == ""


def test_a_small_share_evicts():
    """Control: the same with a share that promises too little is another schedule, with evictions."""
    n = 8
    crowd = Workload(np.zeros(n), np.full(n, 4), np.full(n, 24), predicted=np.full(n, 24))
    system = System(LAW, blocks=60, block_size=1)
    bold = run(crowd, system, AMin(share=0.125))
    assert bold.requests["preemptions"].sum() > 0
    assert same_tables(bold, run(crowd, system, McSf())) != ""
    assert not bold.unfinished.any()


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_bad_share(share: float):
    with pytest.raises(ValueError, match=r"share of AMin must be above 0 and at most 1, not"):
        AMin(share=share)
