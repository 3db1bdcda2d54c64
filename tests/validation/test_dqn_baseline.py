"""A deep Q-network as a learner: it learns what a table would, and says which extra it needs."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from queueing.models.parallelism import CpuPlant
from validation.dqn_baseline import DqnBaseline
from validation.experiments import rrl

SMALL = CpuPlant(workers=(1, 2, 4), inter=(1, 2), intra=(1, 2))
LOADS = (10.0, 40.0)
COUNT = len(SMALL.grid)
BY_LOAD = np.stack(
    [np.linspace(1.0, 0.0, COUNT), np.linspace(0.0, 1.0, COUNT)]
)  # the best moves with the load


def trained(epochs: int, seed: int, **how: float) -> DqnBaseline:
    """A network that has played `epochs` times at loads in turn, for `BY_LOAD` with noise."""
    pytest.importorskip("stable_baselines3", reason="the network is of the extra `rl`")
    noise = np.random.default_rng(seed + 1).normal(0, 0.05, epochs)
    learner = DqnBaseline(SMALL, LOADS, np.random.default_rng(seed), **how)
    for epoch in range(epochs):
        load = epoch % 2
        x = learner.suggest(load)
        learner.observe(load, x, float(BY_LOAD[load, x] + noise[epoch]))
    return learner


def test_the_network_finds_the_best_of_each_load() -> None:
    """Worth of what it believes best: near the best after 600 epochs on each seed; without gradient steps, not."""
    for seed in range(3):
        learner, idle = trained(600, seed), trained(600, seed, steps=0)
        assert min(BY_LOAD[load, learner.best(load)] for load in (0, 1)) >= 0.8
        assert min(BY_LOAD[load, idle.best(load)] for load in (0, 1)) < 0.8  # negative control


def test_runs_repeat_and_exploration_is_a_share() -> None:
    assert [trained(60, 5).best(0), trained(60, 5).best(1)] == [
        trained(60, 5).best(0),
        trained(60, 5).best(1),
    ]
    greedy = trained(60, 5, epsilon=0.0)
    assert {greedy.suggest(1) for _ in range(20)} == {greedy.best(1)}
    anywhere = trained(0, 5, epsilon=1.0)
    assert {anywhere.suggest(0) for _ in range(300)} == set(
        range(COUNT)
    )  # one misses w.p. 12·(11/12)^300 < 1e-10


@pytest.mark.parametrize("how", [{"rate": 0.0}, {"rate": math.nan}, {"steps": -1}, {"epsilon": 1.5}])
def test_bad_input_is_refused_in_one_sentence(how: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="give a rate > 0, a count >= 0 and a share"):
        DqnBaseline(SMALL, LOADS, np.random.default_rng(0), **how)


def test_without_its_library_the_experiment_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of learners that cannot run say so, and hold no figure."""
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(ImportError, match=r"tandem-queueing\[rl\]"):
        DqnBaseline(SMALL, LOADS, np.random.default_rng(0))
    monkeypatch.setattr(rrl, "find_spec", lambda module: None)
    assert set(rrl.missing()) == set(rrl.NEEDS)
    rows = [*rrl._ratio_rows("deep Q-network", []), rrl._from_data_row("R0 = 2", [])]
    assert ["install tandem-queueing[rl]" in rows[0].quantity, "[serverless]" in rows[1].quantity] == [
        True,
        True,
    ]
    assert all(math.isnan(row.ours) and row.verdict == "not testable here" for row in rows)
    _, _, _, table, epochs = rrl._case(("GPU", 800.0, (1,), ("deep Q-network", "GP-UCB")))
    assert (table, epochs) == ([], {})
