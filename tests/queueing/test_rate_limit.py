"""Rate limits: the naive rule on any workload, and the published counts on the real one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueing.data import data_folder
from queueing.rate_limit import accepted_within
from queueing.tabular import read_table
from queueing.workload import Workload
from tests.strategies import workloads

FOLDER = data_folder()
needs_data = pytest.mark.skipif(FOLDER is None, reason="TANDEM_DATA names no folder with the fairness runs")


def naive(workload: Workload, limit: int, window: float, count_rejected: bool = False) -> list[bool]:
    """Every pair of requests is compared."""
    accepted: list[bool] = []
    for i in range(len(workload)):
        recent = [
            j
            for j in range(i)
            if workload.client[j] == workload.client[i]
            and workload.arrival[i] - workload.arrival[j] <= window
            and (accepted[j] or count_rejected)
        ]
        accepted.append(len(recent) < limit)
    return accepted


windows = st.sampled_from([0.5, 1.0, 2.0, 4.0])  # of the order of the gaps drawn, whole ones included


@given(workloads(max_requests=25), st.integers(1, 4), windows)
def test_as_the_naive_rule(workload: Workload, limit: int, window: float) -> None:
    assert accepted_within(workload, limit, window).tolist() == naive(workload, limit, window)


@given(workloads(max_requests=25), st.integers(1, 4), windows)
def test_laws(workload: Workload, limit: int, window: float) -> None:
    accepted = accepted_within(workload, limit, window)
    for client in np.unique(workload.client):
        mine = workload.client == client
        sent = workload.arrival[mine & accepted]
        for end in sent:
            assert np.count_nonzero((sent <= end) & (end - sent <= window)) <= limit
        alone = workload[mine]  # clients do not see one another
        assert np.array_equal(accepted_within(alone, limit, window), accepted[mine])
    assert accepted_within(workload, len(workload), window).all()
    assert accepted_within(workload[accepted], limit, window).all()  # a second limit finds nothing to do


def test_an_arrival_at_the_edge_of_the_window_is_in_it_and_rejections_do_not_count() -> None:
    late = Workload([0.0, 60.0, 60.5, 61.0], [1] * 4, [1] * 4)
    assert accepted_within(late, 1).tolist() == [True, False, True, False]
    assert naive(late, 1, 60.0, count_rejected=True) == [True, False, False, False]
    assert accepted_within(late, 1, 59.0).tolist() == [True, True, False, False]


@needs_data
def test_rejections_on_the_real_workload() -> None:
    """919 and 341; the authors' server turned away 919 and 342, by actual rather than planned times."""
    assert FOLDER is not None
    for limit, rejected, measured in ((5, 919, 919), (20, 341, 342)):
        table = read_table(FOLDER / "fairness" / f"lshare_rpm{limit}_real.csv")
        names = ("arrival_s", "prompt_tokens", "output_tokens", "client", "first_token_latency_s")
        *columns, first_token = (np.array(table.numbers(name)) for name in names)
        workload = Workload(*columns)
        accepted = accepted_within(workload, limit)
        assert np.count_nonzero(~accepted) == rejected
        assert np.count_nonzero(first_token == -1) == measured
        assert np.count_nonzero((first_token == -1) == accepted) <= 16  # requests on which the two differ
        counting_rejections = naive(workload, limit, 60.0, count_rejected=True)
        assert counting_rejections.count(False) > rejected + 100  # another rule, far from the published count


def test_bad_input_says_what_to_do() -> None:
    one = Workload([0.0], [1], [1])
    for limit in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="whole number of at least 1"):
            accepted_within(one, limit)  # pyright: ignore[reportArgumentType]
    for window in (0.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="finite number > 0"):
            accepted_within(one, 1, window)
