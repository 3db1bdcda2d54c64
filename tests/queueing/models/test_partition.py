"""Cut points: dynamic programming against all partitions, and equal load against both."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueing.models.partition import equal_load, partition_cost, partitions, range_costs


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    """Costs of all ranges of up to 8 classes, some impossible, with ties."""
    k = draw(st.integers(1, 8))
    cell = st.integers(0, 9).map(float) | st.just(np.inf)
    cells = iter(draw(st.lists(cell, min_size=k * (k + 1) // 2, max_size=k * (k + 1) // 2)))
    return range_costs(k, lambda i, j: 100.0 if i == j else next(cells) + 3.0 * (i == 0))


def everything(table: np.ndarray, n: int) -> float:
    """The least cost of all partitions into at most n ranges, one by one."""
    k = len(table)
    return min(
        partition_cost(table, [*cuts, k - 1])
        for m in range(min(n, k))
        for cuts in itertools.combinations(range(k - 1), m)
    )


@given(tables(), st.integers(1, 9), st.data())
def test_no_partition_costs_less(table: np.ndarray, most: int, data: st.DataObject) -> None:
    """And equal load, of any loads, never beats it."""
    k = len(table)
    load = data.draw(st.lists(st.floats(0.01, 1.0), min_size=k, max_size=k))
    if not np.isfinite(everything(table, most)):
        with pytest.raises(ValueError, match="no partition"):
            partitions(table, most)
        return
    found = partitions(table, most)
    assert len(found) == most
    for n, best in enumerate(found, start=1):
        assert best.cost == everything(table, n)
        assert len(best.last) <= n
        if np.isfinite(best.cost):
            assert best.cost == partition_cost(table, best.last)
        assert partition_cost(table, equal_load(load, n)) >= best.cost


def test_a_greedy_choice_is_found_out() -> None:
    """Control: one cut at a time, each the best that can be added, costs more here."""
    table = range_costs(6, lambda i, j: float((j - i) ** 2))
    cuts: list[int] = []
    for _ in range(2):
        cuts = min(
            (sorted([*cuts, c]) for c in range(5) if c not in cuts),
            key=lambda cs: partition_cost(table, [*cs, 5]),
        )
    assert partition_cost(table, [*cuts, 5]) == 5.0
    assert partitions(table, 3)[-1].cost == 3.0


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=40), st.integers(1, 20))
def test_equal_load_is_even_to_a_class(load: list[float], buffers: int) -> None:
    last = equal_load(load, buffers)
    assert last[-1] == len(load) - 1
    assert len(last) <= buffers
    assert list(last) == sorted(set(last))
    parts = np.add.reduceat(load, [0, *(np.array(last[:-1]) + 1)]) if len(last) > 1 else np.array([sum(load)])
    assert parts.max() <= sum(load) / buffers + max(load) + 1e-9


def test_equal_load_by_hand() -> None:
    assert equal_load([1, 1, 1, 1], 2) == (1, 3)
    assert equal_load([3, 1, 1, 1], 2) == (0, 3)
    assert equal_load([1, 8, 1], 5) == (0, 1, 2)  # one class has most of it: two ranges would be empty
    assert equal_load([1, 1, 1, 1], 1) == (3,)


@pytest.mark.parametrize(
    "build",
    [
        lambda: partitions(np.zeros((2, 2)), 1),
        lambda: partitions(np.zeros((2, 3)), 0),
        lambda: equal_load([], 1),
        lambda: equal_load([0.0], 1),
        lambda: equal_load([1.0], 0),
        lambda: equal_load([-1.0, 2.0], 1),
    ],
)
def test_bad_input_is_one_sentence(build) -> None:
    with pytest.raises(ValueError, match="; give") as error:
        build()
    assert "\n" not in str(error.value)
