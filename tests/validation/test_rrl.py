"""The experiment `rrl`: what it counts, on whom, and the environment for other libraries."""

from __future__ import annotations

import numpy as np
import pytest

from policies.region_rl import TABULAR, RegionRl
from queueing.models.parallelism import CpuPlant, distances, expected_rewards, speed
from validation.experiments import rrl
from validation.parallelism_env import parallelism_env
from validation.published import keys_of

SMALL = CpuPlant(workers=(1, 2, 4), inter=(1, 2, 4), intra=(1, 2, 4))


def test_epochs_are_counted_until_the_best_is_held() -> None:
    """A learner that knows the best needs no epoch, one that never learns the horizon, tabular something between."""
    worth, _ = expected_rewards(SMALL, 20.0, 20, 50, np.random.default_rng(0), speed)

    class Fixed:
        def __init__(self, x: int) -> None:
            self.x = x

        def suggest(self, load: int) -> int:
            return self.x

        def observe(self, load: int, configuration: int, reward: float) -> None:
            pass

        def best(self, load: int) -> int:
            return self.x

    best, worst = int(worth.argmax()), int(worth.argmin())
    assert rrl.epochs_to_reach(SMALL, 20.0, worth, lambda rng: Fixed(best), 60, 0) == 0
    assert rrl.epochs_to_reach(SMALL, 20.0, worth, lambda rng: Fixed(worst), 60, 0) == 60
    d = distances(SMALL.grid)
    needed = rrl.epochs_to_reach(SMALL, 20.0, worth, lambda rng: RegionRl(d, 1, TABULAR, rng), 600, 0)
    assert 0 < needed < 600


def test_a_ratio_of_epochs_answers_what_is_published() -> None:
    """The run itself takes ten seconds and is not repeated here: its rows are this one and their median."""
    tabular = {"epochs": 90.0, "lower quartile": 80.0, "upper quartile": 120.0}
    regions = {"epochs": 9.0, "lower quartile": 8.0, "upper quartile": 10.0}
    row = rrl._ratio_row("made up", tabular, regions)
    assert {row.key} == keys_of("rrl")
    assert (row.low, row.ours, row.high) == (8.0, 10.0, 15.0)
    assert row.verdict == "not testable here"


def test_a_day_counts_late_requests() -> None:
    """None where the limit is far away, all where nothing can keep it; the best of each load is the least late."""
    never, always = (CpuPlant(slo=slo, workers=(1,), inter=(1,), intra=(1,)) for slo in (1e6, 1e-9))
    assert rrl.late_over_a_day(never, (1.0, 2.0, 4.0), rrl.Fixed([0, 0, 0]), 0) == 0
    assert rrl.late_over_a_day(always, (1.0, 2.0, 4.0), rrl.Fixed([0, 0, 0]), 0) == 1
    loads = (10.0, 30.0, 60.0)
    worth = [expected_rewards(SMALL, s, 10, 50, np.random.default_rng(0), speed)[0] for s in loads]
    best = rrl.Fixed([int(w.argmax()) for w in worth])
    worst = rrl.Fixed([int(w.argmin()) for w in worth])
    assert rrl.late_over_a_day(SMALL, loads, best, 1) < rrl.late_over_a_day(SMALL, loads, worst, 1)


def test_every_learner_plays_every_plant() -> None:
    for plant, loads in rrl.PLANTS.values():
        for name, make in rrl.learners(plant).items():
            if any(part in name for part in rrl.missing()):
                continue  # its library is of an extra
            learner = make(np.random.default_rng(0))
            for _ in range(3):
                x = learner.suggest(0)
                arrival = np.cumsum(np.random.default_rng(1).standard_exponential(20)) / loads[0]
                learner.observe(0, x, speed(plant.latency(x, arrival), plant.slo))
            assert 0 <= learner.best(0) < len(plant.grid)


def test_the_environment_is_one_of_gymnasium() -> None:
    pytest.importorskip("gymnasium", reason="the environment is of the extra `serverless`")
    from gymnasium.utils.env_checker import check_env

    env = parallelism_env(SMALL, (10.0, 40.0), requests=20, epochs=5)
    check_env(env, skip_render_check=True)
    env.reset(seed=1)
    ended = [env.step(env.action_space.sample())[3] for _ in range(5)]
    assert ended == [False] * 4 + [True]
    with pytest.raises(ValueError, match="give rates > 0"):
        parallelism_env(SMALL, ())
