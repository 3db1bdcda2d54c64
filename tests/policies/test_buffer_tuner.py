"""Tuning of buffers: the exhaustive grid as ground truth of the optimisation; cut points; a day of arrivals."""

from __future__ import annotations

import sys
from typing import Literal

import numpy as np
import pytest

from policies.buffer_tuner import Grid, best_partition, policy_of, search, tune
from queueing.models.buffer_plan import BufferModel, Limit, Service
from queueing.models.partition import equal_load, partition_cost
from queueing.models.serverless import PRICES, mixes
from tests.queueing.models.poisson_buffer import PoissonBuffer

SERVICE = Service(PRICES["aws-100ms"], PRICES["aws-100ms"].memories(1024, 6912, 256))
FEW = Service(PRICES["aws-100ms"], (1024, 1792, 3328), kilobytes=SERVICE.kilobytes[::4].tolist())


def law(rate: float):
    return lambda share, size, timeout: PoissonBuffer(rate * share, size, timeout)


def test_the_grid_is_that_of_the_design() -> None:
    grid = Grid.of(SERVICE, Limit(0.3))
    assert (len(grid.memories), len(grid.sizes), len(grid.timeouts), len(grid)) == (24, 10, 10, 2400)
    assert (grid.sizes[0], grid.sizes[-1], grid.timeouts[0], grid.timeouts[-1]) == (1, 26, 0.01, 0.3)
    assert len(set(grid.settings())) == len(grid)
    with pytest.raises(ValueError, match="has no setting"):
        Grid((), (1,), (0.1,))


@pytest.mark.parametrize(("mix", "seconds", "lo", "hi"), [("original", 0.3, 9, 14), ("bimodal", 0.3, 0, 15)])
def test_bayes_meets_the_grid_with_a_tenth_of_its_evaluations(
    mix: str, seconds: float, lo: int, hi: int
) -> None:
    """Within 1 % after at most 240 of 2,400; control: random search does not with as many as it took."""
    pytest.importorskip("optuna")
    pytest.importorskip("torch")
    limit = Limit(seconds)
    grid = Grid.of(SERVICE, limit)
    m = BufferModel(law(40.0), mixes()[mix], SERVICE, limit, lo, hi)
    _, least = m.best(grid.settings())
    found = search(m, grid, len(grid) // 10, 0, enough=1.01 * least)
    assert found.setting is not None
    assert least <= found.cost <= 1.01 * least
    assert m.attained(found.setting) >= 0.95
    assert list(found.course) == sorted(found.course, reverse=True)
    blind = [search(m, grid, len(found.course), seed, "random").cost for seed in range(20)]
    assert np.median(blind) > 1.01 * least


def test_random_search_of_everything_is_the_grid() -> None:
    limit = Limit(0.3)
    grid = Grid.of(FEW, limit, 4, 3)
    m = BufferModel(law(40.0), np.ones(8), FEW, limit, 0, 7)
    assert search(m, grid, len(grid), 3, "random").cost == m.best(grid.settings())[1]
    none = BufferModel(law(40.0), np.ones(8), FEW, Limit(0.01), 0, 7)
    assert search(none, grid, len(grid), 3, "random").setting is None


@pytest.mark.parametrize("method", ["bayes", "penalty"])
def test_no_evaluation_is_spent_twice(method: Literal["bayes", "penalty"]) -> None:
    """A grid of 1 memory, 2 sizes, 3 timeouts has 4 different settings, since calls of one have no timer."""
    pytest.importorskip("optuna")
    pytest.importorskip("torch")
    grid = Grid((1,), (1, 3), (0.01, 0.1, 0.2))
    m = BufferModel(law(40.0), np.ones(8), FEW, Limit(0.5))
    found = search(m, grid, 50, 0, method, start=2)
    assert len(found.course) == 4 < len(grid)
    assert found.cost == m.best(grid.settings())[1]
    assert len(search(m, grid, 50, 0, "random").course) == len(grid)  # control


def test_equal_load_never_beats_the_best_cut_points_and_sometimes_loses() -> None:
    limit = Limit(0.3)
    grid = Grid.of(FEW, limit, 4, 3)
    gaps = []
    for mix in mixes(FEW.kilobytes).values():
        found, table = best_partition(law(40.0), mix, FEW, limit, grid, 8)
        plans = tune(law(40.0), mix, FEW, limit, grid, range(1, 9))
        for n, plan in plans.items():
            assert plan.last == equal_load(mix * FEW.kilobytes, n)
            assert plan.cost == pytest.approx(partition_cost(table, plan.last), rel=1e-12)
            gaps.append(plan.cost / found[n - 1].cost - 1)
        costs = [p.cost for p in found]
        assert costs == sorted(costs, reverse=True)
    assert min(gaps) >= -1e-12
    assert max(gaps) > 0.01  # control: they are not the same cuts


def test_cost_has_its_least_strictly_inside() -> None:
    """More buffers pad less and fill more slowly: the cost falls, then rises; control: of equal sizes it only rises."""
    limit = Limit(0.5)
    grid = Grid.of(SERVICE, limit, 6, 4)
    plans = tune(law(40.0), mixes()["original"], SERVICE, limit, grid)
    cost = np.array([p.cost for p in plans.values()])
    least = int(cost.argmin())
    assert 0 < least < len(cost) - 1
    assert (np.diff(cost)[:least] < 0).all()
    assert (np.diff(cost)[least:] > 0).all()
    assert (np.diff([p.padding for p in plans.values()]) < 0).all()
    same = Service(PRICES["aws-100ms"], SERVICE.memory, kilobytes=np.linspace(60, 60.1, 32).tolist())
    alike = [p.cost for p in tune(law(40.0), mixes()["original"], same, limit, grid).values()]
    assert int(np.argmin(alike)) == 0


def test_a_plan_per_hour_costs_no_more_than_one_for_the_day() -> None:
    """Both over the same grid; the day's plan must keep the limit in every hour, so each hour could choose it."""
    limit = Limit(0.3)
    grid = Grid.of(FEW, limit, 4, 3)
    rates = 40 * (1 + 0.8 * np.sin(2 * np.pi * np.arange(0, 24, 4) / 24))
    hourly = [
        BufferModel(law(r), mixes(FEW.kilobytes)["original"], FEW, limit).best(grid.settings())[1]
        for r in rates
    ]
    models = [BufferModel(law(r), mixes(FEW.kilobytes)["original"], FEW, limit) for r in rates]
    kept = [s for s in grid.settings() if all(m.attained(s) >= 0.95 for m in models)]
    daily = min(float(np.average([m.cost(s) for m in models], weights=rates)) for s in kept)
    assert float(np.average(hourly, weights=rates)) < daily


def test_the_policy_carries_the_plan_out() -> None:
    plan = tune(law(40.0), mixes()["original"], SERVICE, Limit(0.3), Grid.of(SERVICE, Limit(0.3), 3, 2), [3])[
        3
    ]
    policy = policy_of(plan)
    assert policy.cuts == plan.last[:-1]
    assert policy.sizes == tuple(s.size for s in plan.settings)
    assert len(policy.timeouts) == len(policy.configurations) == 3


def test_impossible_limits_and_missing_optuna_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    impossible = Limit(0.01)
    grid = Grid.of(FEW, impossible, 4, 3)
    with pytest.raises(ValueError, match="raise the limit"):
        tune(law(40.0), np.ones(8), FEW, impossible, grid)
    m = BufferModel(law(40.0), np.ones(8), FEW, Limit(0.3))
    with pytest.raises(ValueError, match="at least 1"):
        search(m, grid, 0)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"serverless") as error:
        search(m, grid, 5)
    assert "\n" not in str(error.value)
