"""WAIT against its fluid point: the law of iteration time, memory, exponents with controls, and a small run."""

import numpy as np
import pytest

from policies import Sarathi
from queueing.models.iteration_time import Load
from queueing.simulator import simulate
from queueing.workload import Workload
from validation.experiments import wait as experiment
from validation.experiments.wait import BATCHES, LAW, SHARE, Fed, HeldTokens, Walk, memory_of, slope
from validation.published import keys_of


def test_the_law_counts_tokens_held_and_compiles_to_the_same():
    load = Load(12, 2, 110, np.array([10]), np.array([30]))
    assert HeldTokens(1.0, 0.5)(load) == 1 + 0.5 * (110 + 40)
    workload = Workload([0.0, 0.001], [30, 20], [4, 6])
    runs = [
        simulate(workload, experiment._system(1000), Sarathi(64), python=python) for python in (False, True)
    ]
    assert np.array_equal(runs[0].iterations["seconds"], runs[1].iterations["seconds"])
    # one prompt of 30, alone; then 31 beside 20; both are d0 + d1 times what is held
    assert runs[0].iterations["seconds"][:2] == pytest.approx([LAW.base + LAW.per_held * n for n in (30, 51)])


def test_memory_under_thresholds_is_the_bound_and_no_more():
    found = Fed("WAIT", SHARE, 5000).record()
    n = experiment.thresholds(experiment.types(SHARE), experiment.BASE, experiment.PER_HELD)
    assert found["most tokens"] == memory_of(n)
    assert Fed("WAIT, rounded down", SHARE, 5000).record()["most tokens"] < memory_of(n)  # control


def test_exponents_are_read_off_shares_with_known_ones():
    """40 sets of 50 walks, noise of their own at every horizon.

    The interval holds the exponent in 19 sets of 20, as far as 50 walks may be resampled; if in truth it does in 91 %
    of them, it does in fewer than 30 of 40 with probability 6e-4.  An exponent a quarter away is some five standard
    errors off.
    """
    t = np.array([1.0, 2.0, 4.0, 8.0])
    for exponent in (-0.5, -1.0):
        held, other = 0, 0
        for seed in range(40):
            noise = np.random.default_rng(seed).lognormal(0.0, 0.5, (50, len(t)))
            _, low, high = slope(noise * t**exponent, t)
            held += low <= exponent <= high
            other += low <= exponent - 0.25 <= high
        assert held >= 30
        assert other <= 8  # control


def test_a_threshold_at_the_fluid_point_leaves_more_behind_than_one_above():
    """Mean over 6 walks at 12 s; the queue of the first is a random walk, that of the second has a drift."""
    left = [
        np.mean([Walk(n, seed, (12.0,)).record()["left"] for seed in range(6)])
        for n in (BATCHES, BATCHES + 1)
    ]
    assert left[0] > 2 * left[1]


def test_the_experiment_answers_every_figure_it_is_given(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(experiment, "REQUESTS", {True: 3000})
    monkeypatch.setattr(experiment, "WALKS", {True: 2})
    monkeypatch.setattr(experiment, "HORIZONS", {True: (2.0, 4.0)})
    seen = []
    result = experiment.run(quick=True, out=tmp_path, workers=1, progress=lambda *done: seen.append(done))
    assert {row.key for row in result.rows} - {None} == keys_of("wait")
    assert all(row.low <= row.ours <= row.high for row in result.rows)
    assert seen[-1] == (10, 10)
    assert {path.name for path in tmp_path.iterdir()} == {"wait.json", "gap.json", "gap.png", "gap.svg"}
