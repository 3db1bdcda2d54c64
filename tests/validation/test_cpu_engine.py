"""The experiment cpu-engine without its model: prompts, lengths, the stretched law; a run of it takes minutes."""

from __future__ import annotations

import numpy as np
import pytest

from queueing.models.iteration_time import Affine, Load
from validation.experiments import cpu_engine
from validation.experiments.cpu_engine import Stretched, log_uniform, prompts_of, ranked


def test_prompts_are_cut_one_after_the_other_and_begin_again_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu_engine, "prose", lambda: ["abc", "defg"])
    encode = [*map(ord, "abcdefg")]
    cut = prompts_of(lambda text: [*map(ord, text)], [2, 4, 3, 1])
    assert cut == [encode[:2], encode[2:6], encode[:3], encode[3:4]]


def test_lengths_are_uniform_in_the_logarithm() -> None:
    """Kolmogorov-Smirnov at 1e-6; uniform lengths fail it."""
    low, high, n = 16, 220, 20_000
    rng = np.random.default_rng(1)
    critical = np.sqrt(np.log(2 / 1e-6) / (2 * n))

    def distance(lengths: np.ndarray) -> float:
        at = np.arange(low, high)
        below = np.searchsorted(np.sort(lengths), at, side="right") / n
        return float(abs(below - np.log((at + 1) / low) / np.log(high / low)).max())

    drawn = log_uniform(rng, (low, high), n)
    assert low <= drawn.min() <= drawn.max() < high
    assert distance(drawn) < critical
    assert distance(rng.integers(low, high, n)) > 10 * critical


def test_a_stretched_law_is_the_law_times_its_factor() -> None:
    law, load = Affine(0.01, 1e-4), Load(64, 3, 200, np.array([61]), np.array([0]))
    assert Stretched(law, 1.0)(load) == law(load)
    assert Stretched(law, 1.25)(load) == pytest.approx(1.25 * law(load)) != law(load)


def test_policies_are_ranked_from_the_least() -> None:
    side = {"a": {"x": 3.0, "y": 0.0}, "b": {"x": 1.0, "y": 2.0}, "c": {"x": 2.0, "y": 1.0}}
    assert ranked(side, "x") == ["b", "c", "a"]
    assert ranked(side, "y") == ["a", "c", "b"]
