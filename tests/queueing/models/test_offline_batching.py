"""The cheapest batches in hindsight: against all partitions, and never above a policy with the latencies it gave."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.multi_buffer import MultiBuffer
from queueing.models.buffer_plan import Service
from queueing.models.offline_batching import cheapest_batches
from queueing.models.serverless import FunctionTime, Prices, Tier
from queueing.one_shot import Pool, Requests, metrics, serve

SERVICE = Service(
    Prices("p", (Tier(0, 4096, per_gb_second=1e-5),), 1e-6, 0.125),
    (1024, 2048),
    FunctionTime(0.25, 0.125, 1.0, 2048.0),
    (1.0, 2.0, 5.0),
    3,
)


def partitions_of(items: list[int]) -> Iterator[list[list[int]]]:
    if not items:
        yield []
        return
    first, *rest = items
    for others in partitions_of(rest):
        yield [[first], *others]
        for i, part in enumerate(others):
            yield [*others[:i], [first, *part], *others[i + 1 :]]


@st.composite
def some(draw: st.DrawFn, most: int = 5) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(1, most))
    gaps = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    return np.cumsum(gaps) / 8, np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))


@given(some(), st.integers(0, 24))
def test_it_is_the_best_of_all_partitions(case: tuple[np.ndarray, np.ndarray], eighths: int) -> None:
    arrival, kind = case
    limit = 1.25 + eighths / 8
    costs = [np.inf]
    for partition in partitions_of(list(range(len(arrival)))):
        total = 0.0
        for part in partition:
            least = np.inf
            for k in range(2):
                if len(part) <= 3:
                    seconds = SERVICE.seconds[k, kind[part].max(), len(part) - 1]
                    if arrival[part].max() + seconds <= arrival[part].min() + limit:
                        least = min(least, SERVICE.dollars[k, kind[part].max(), len(part) - 1])
            total += least
        costs.append(total)
    if min(costs) == np.inf:
        with pytest.raises(ValueError, match="even alone"):
            cheapest_batches(arrival, kind, limit, SERVICE)
        return
    found = cheapest_batches(arrival, kind, limit, SERVICE)
    assert found.cost == pytest.approx(min(costs), rel=1e-12)
    assert sorted(r for batch in found.batches for r in batch) == list(range(len(arrival)))


@given(some(8), st.integers(1, 3), st.integers(0, 8), st.integers(0, 1), st.booleans())
def test_no_policy_is_cheaper_in_hindsight(
    case: tuple[np.ndarray, np.ndarray], size: int, eighths: int, k: int, two: bool
) -> None:
    """With the latencies that the policy gave as limits."""
    arrival, kind = case
    policy = MultiBuffer((0,) if two else (), (size,), (eighths / 8,), (k,))
    trace = serve(Requests(arrival, kind=kind), Pool(SERVICE.seconds, None), policy)
    paid = SERVICE.dollars[trace.config, trace.largest, trace.count - 1].sum()
    hindsight = cheapest_batches(arrival, kind, metrics.latency(trace) + 1e-12, SERVICE)
    assert hindsight.cost <= paid * (1 + 1e-12)


def test_hindsight_can_be_cheaper_and_tighter_limits_cost_more() -> None:
    """Controls: a timer that runs out just before the next request; and a limit under which nobody can wait."""
    arrival, kind = [0.0, 0.5], [0, 0]
    trace = serve(Requests(arrival, kind=kind), Pool(SERVICE.seconds, None), MultiBuffer(timeouts=(0.375,)))
    alone = SERVICE.dollars[0, 0, 0] * 2
    assert SERVICE.dollars[trace.config, trace.largest, trace.count - 1].sum() == pytest.approx(alone)
    assert cheapest_batches(arrival, kind, np.inf, SERVICE).batches == ((0, 1),)
    assert cheapest_batches(arrival, kind, 0.8, SERVICE).batches == ((0,), (1,))
    assert (
        cheapest_batches(arrival, kind, np.inf, SERVICE).cost
        < cheapest_batches(arrival, kind, 0.8, SERVICE).cost
    )


@pytest.mark.parametrize(
    ("arrival", "kind", "limit", "message"),
    [
        ([0.0] * 13, [0] * 13, 1.0, "1 to 12 requests"),
        ([0.0], [0, 1], 1.0, "one kind each"),
        ([0.0, 0.0], [0, 2], 0.8, "request 1 cannot be served"),
        ([0.0, 0.0], [0, -1], np.inf, "of kind -1; give one of the classes 0 to 2"),
        ([0.0, 0.0], [0.7, 0], np.inf, "of kind 0.7"),
        ([0.0, 0.0], [0, 9], np.inf, "of kind 9"),
        ([0.0, 0.0], [0, np.nan], np.inf, "of kind nan"),
        ([0.0, np.nan], [0, 0], np.inf, "finite arrivals"),
        ([0.0, 0.0], [0, 0], np.nan, "inf for no limit"),
    ],
)
def test_bad_input_is_one_sentence(
    arrival: list[float], kind: list[float], limit: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cheapest_batches(arrival, kind, limit, SERVICE)
    assert (
        cheapest_batches([0.0, 0.0], [0.0, 2.0], np.inf, SERVICE).cost > 0
    )  # control: whole kinds in floats
