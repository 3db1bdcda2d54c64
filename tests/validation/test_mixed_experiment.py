"""Exclusive and mixed batches with endless work against their chains, with controls, and a small run."""

import math

import numpy as np
import pytest

from queueing.models.iteration_time import Load
from validation.experiments import mixed as experiment
from validation.experiments.mixed import EXCLUSIVE, LAWS, MIXED, PLACES, Cost, best, theory
from validation.published import keys_of

NONE = np.zeros(0, np.int64)


def test_costs_are_those_of_the_model():
    prompts, decodes = Load(3, 0, 0, np.ones(3, np.int64), np.zeros(3, np.int64)), Load(5, 5, 50, NONE, NONE)
    both = Load(7, 5, 50, np.ones(2, np.int64), np.zeros(2, np.int64))
    assert LAWS[False](prompts) == pytest.approx(EXCLUSIVE.prefill + 3 * EXCLUSIVE.per_prompt)
    assert LAWS[False](decodes) == pytest.approx(EXCLUSIVE.decode + 5 * EXCLUSIVE.per_decode)
    assert LAWS[True](both) == pytest.approx(MIXED.base + 2 * MIXED.per_prompt + 7 * MIXED.per_decode)


@pytest.mark.parametrize("k", [4, 22, 60])
def test_exclusive_batches_cost_what_the_exact_chain_says(k):
    """Three seeds of 6,000 requests within 2 %; another share is dearer by more than that."""
    found = np.mean([Cost(False, 64, k, seed, 6000).record()["seconds"] for seed in range(3)])
    assert found == pytest.approx(theory(False, 64, k), rel=0.02)
    assert k == best(64) or theory(False, 64, k) > 1.2 * theory(False, 64, best(64))  # control


def test_the_kinds_change_places():
    """Exclusive dearer at 16 places and cheaper at 256, one seed; mixed at its closed form within 1 %."""
    for n, dearer in ((16, True), (256, False)):
        exclusive, mixed = (Cost(kind, n, best(n), 0, 6000).record()["seconds"] for kind in (False, True))
        assert (exclusive > mixed) == dearer
        assert mixed == pytest.approx(theory(True, n), rel=0.01)


def test_the_experiment_answers_every_figure_it_is_given(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(experiment, "REQUESTS", {True: 1500})
    monkeypatch.setattr(experiment, "SEEDS", {True: 2})
    seen = []
    result = experiment.run(quick=True, out=tmp_path, workers=1, progress=lambda *done: seen.append(done))
    assert {row.key for row in result.rows} - {None} == keys_of("mixed")
    assert all(row.low <= row.ours <= row.high for row in result.rows)
    assert seen[-1][0] == seen[-1][1]
    assert {path.name for path in tmp_path.iterdir()} == {
        "mixed.json",
        "kinds.json",
        "kinds.png",
        "kinds.svg",
    }


def test_the_sign_of_a_difference_is_judged_by_its_interval():
    """Exclusive less mixed by hand, three seeds: of the sign of X/N + Y, of the other one, of either, of none."""

    def verdicts(*factors):
        by = {}
        for n in PLACES:
            by[True, n, n] = [1.0] * 3
            by[False, n, best(n)] = [1 + f * experiment._stated(n)["X/N + Y"] for f in factors]
        rows = experiment._kind_rows(experiment.Found(by))
        return {row.verdict for row in rows if row.key == "mixed: sign of the difference"}

    assert verdicts(1.0, 1.1, 0.9) == {"reproduced"}
    assert verdicts(-1.0, -1.1, -0.9) == {"differs"}
    assert verdicts(1.0, -1.1, 0.2) == verdicts(math.nan, 1.0, 1.0) == {"not testable here"}
