"""The learners that regions are compared with find the best of a quiet plant, and each in its own way."""

from __future__ import annotations

import numpy as np
import pytest

from policies.configuration_search import GpUcb, HillClimbing, RandomSearch
from policies.region_rl import Learner
from queueing.models.parallelism import distances

GRID = np.array([(a, b) for a in (1, 2, 4, 8, 16) for b in (1, 2, 4, 8)], np.float64)
D = distances(GRID)
SMOOTH = -np.abs(np.log2(GRID) - np.array([3.0, 1.0])).sum(axis=1)  # one peak, at (8, 2)


def played(learner: Learner, worth: np.ndarray, epochs: int) -> list[int]:
    choices: list[int] = []
    for _ in range(epochs):
        x = learner.suggest(0)
        learner.observe(0, x, float(worth[x]))
        choices.append(x)
    return choices


def test_random_search_plays_all_alike() -> None:
    learner = RandomSearch(len(GRID), 1, np.random.default_rng(1))
    choices = played(learner, SMOOTH, 3 * len(GRID))
    assert np.bincount(choices, minlength=len(GRID)).tolist() == [3] * len(GRID)
    assert learner.best(0) == int(SMOOTH.argmax())


def test_hill_climbing_stops_where_nothing_near_is_better() -> None:
    """It finds the peak of a smooth plant; with a second hill it ends on either, by where it starts."""
    assert {_climbed(SMOOTH, seed) for seed in range(8)} == {int(SMOOTH.argmax())}
    two = SMOOTH.copy()
    two[GRID[:, 0] == 1] = 1.0  # a ridge behind a valley: better, and out of reach from the peak
    two[GRID[:, 0] == 2] = -10.0
    ends = [
        bool(GRID[_climbed(two, seed), 0] == 1) for seed in range(20)
    ]  # all alike with probability below 1e-4
    assert any(ends)
    assert not all(ends)


def _climbed(worth: np.ndarray, seed: int) -> int:
    learner = HillClimbing(D, 1, np.random.default_rng(seed))
    played(learner, worth, 300)
    return learner.best(0)


def test_the_gaussian_process_needs_few_plays() -> None:
    pytest.importorskip("sklearn", reason="GP-UCB is of the extra `serverless`")
    learner = GpUcb(GRID, 1, np.random.default_rng(3))
    played(learner, SMOOTH, 12)
    assert learner.best(0) == int(SMOOTH.argmax())
    fresh = RandomSearch(
        len(GRID), 1, np.random.default_rng(3)
    )  # control: twelve random plays seldom suffice
    misses = 0
    for seed in range(10):
        fresh = RandomSearch(len(GRID), 1, np.random.default_rng(seed))
        played(fresh, SMOOTH, 6)
        misses += fresh.best(0) != int(SMOOTH.argmax())
    assert misses >= 3


def test_bad_input_is_refused_in_one_sentence() -> None:
    rng = np.random.default_rng()
    for call in (lambda: RandomSearch(0, 1, rng), lambda: HillClimbing(D, 0, rng)):
        with pytest.raises(ValueError, match="give at least one"):
            call()
