"""The edge of work-conserving batches with controls on either side, rates in closed form, and a small run."""

import math

import numpy as np
import pytest

from validation.experiments import work_conservation as experiment
from validation.experiments.work_conservation import (
    CASES,
    CHATS,
    POLICIES,
    SARATHI,
    STEEP,
    Feed,
    Full,
    edge,
    least_full,
    theory,
)
from validation.published import keys_of
from validation.saturation import saturate


def test_full_batches_serve_exactly_the_edge():
    """Sarathi's batches are full with endless work: its tokens/s are b/t(b) to the last digits; half a budget's not."""
    assert Full("Sarathi", 0, 6000).record()["carried"] == pytest.approx(edge(1), rel=1e-9)
    prompt, output, _ = CHATS(3000, np.random.default_rng(0))
    half = type(SARATHI)(token_budget=256, max_num_seqs=512)
    assert saturate(POLICIES["Sarathi"][1], half, prompt, output).tokens < 0.9 * edge(1)


def test_pure_batches_serve_what_their_own_theory_says():
    """One seed of 8,000 requests within 3 %; the theory of one is no theory of the other."""
    found = {name: Full(name, 0, 8000).record()["carried"] for name in ("vLLM", "FasterTransformer")}
    found["Orca"] = Full("Orca", 0, 4000).record()["carried"]
    assert least_full() <= found.pop("Orca") < 0.999 * edge(1)  # whole prompts leave a little room
    for name, carried in found.items():
        assert carried == pytest.approx(theory(name), rel=0.03)
    assert theory("FasterTransformer") < theory("vLLM") / 3 < edge(1) / 3.3  # control


def test_the_drift_changes_sign_at_the_edge_for_batches_that_mix():
    """At 0.9 and 1.1 of it, 30,000 requests; each verdict errs with probability 0.001; vLLM is the control at 0.95."""
    below, above = (Feed("Sarathi", edge(), load, 30_000).record() for load in (0.9, 1.1))
    assert below["stable"]
    assert above["grows"]
    assert Feed("vLLM", edge(), 0.95, 30_000).record()["grows"]


def test_the_largest_batch_is_not_always_the_best():
    """Where t(n)/n rises, two tokens a batch carry 4/3 a second and one carries 2, exactly."""
    prompt, output, _ = CASES["steep, 1 token"][1].lengths(500, np.random.default_rng(1))
    one, two = (
        saturate(STEEP, CASES[f"steep, {name}"][0], prompt, output).tokens for name in ("1 token", "2 tokens")
    )
    assert (one, two) == (pytest.approx(2.0), pytest.approx(4 / 3, rel=0.02))


def test_the_experiment_answers_every_figure_it_is_given(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(experiment, "REQUESTS", {True: 2000})
    monkeypatch.setattr(experiment, "SATURATED", {True: 1500})
    monkeypatch.setattr(experiment, "SEEDS", {True: 2})
    seen = []
    result = experiment.run(quick=True, out=tmp_path, workers=1, progress=lambda *done: seen.append(done))
    assert {row.key for row in result.rows} - {None} == keys_of("work-conservation")
    assert all(row.low <= row.ours <= row.high for row in result.rows)
    assert seen[-1][0] == seen[-1][1]
    figures = {
        f"{name}.{kind}" for name in ("growth", "region", "rates", "drift") for kind in ("json", "png", "svg")
    }
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {*figures, "batches.png", "batches.svg", "work-conservation.json"}


def test_a_run_that_settles_nothing_is_not_judged():
    """Control of the verdicts: neither, one, and the other of what the growth test can show."""
    record = {"growth": 0.01, "low": -0.02, "high": 0.04, "grows": False, "stable": False}
    assert experiment._growth_row(record, "", True).verdict == "not testable here"
    assert experiment._growth_row(record | {"stable": True}, "", True).verdict == "differs"
    assert experiment._growth_row(record | {"stable": True}, "", False).verdict == "reproduced"


def test_a_rate_is_judged_by_its_theory_and_only_where_it_has_a_figure():
    """Full batches carry exactly b/t(b), to nine digits; whole prompts leave a little room."""
    exact = {"theory": 1000.0, "policy": "Sarathi"}
    ranges = {
        (990.0, 1010.0): "reproduced",
        (1000.0, 1000.0): "reproduced",
        (1000.1, 1010.0): "differs",
        (990.0, 999.9): "differs",
        (math.nan, math.nan): "not testable here",
        (-math.inf, math.inf): "not testable here",
    }
    for (low, high), verdict in ranges.items():
        (row,) = experiment._rate_rows([exact | {"carried": (low + high) / 2, "low": low, "high": high}])
        assert row.verdict == verdict
    least = least_full()
    room = {"theory": 1.1 * least, "carried": 1.05 * least, "low": 1.04 * least, "high": 1.06 * least}
    for policy, verdict in (("Orca", "reproduced"), ("Sarathi", "differs")):
        (row,) = experiment._rate_rows([room | {"policy": policy}])
        assert row.verdict == verdict
