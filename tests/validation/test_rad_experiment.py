"""RAD's bound, its cycles and ragged prompts in closed form against endless work, with controls, and a small run."""

import math

import numpy as np
import pytest

from policies import Rad, Sarathi
from validation.experiments import rad as experiment
from validation.experiments.rad import Carries, Fed, bound, cycle_rates, mean_tokens, ragged_rate, staircase
from validation.published import keys_of


def carried(policy, ragged=False, seeds=2, requests=6000):
    rates = [Carries(policy, ragged, seed, requests).record()["tokens"] for seed in range(seeds)]
    return float(np.mean(rates)) / mean_tokens(ragged)


def test_moments_are_those_of_the_lengths():
    """Means of 200,000 requests within five standard errors."""
    for ragged in (False, True):
        prompt, output = experiment.lengths(200_000, np.random.default_rng(0), ragged)
        total = (prompt + output).astype(float)
        assert abs(total.mean() - mean_tokens(ragged)) < 5 * total.std() / math.sqrt(len(total))


def test_without_cycles_every_tile_is_full():
    assert carried(Rad(), seeds=1) == pytest.approx(bound(), rel=1e-6)
    assert carried(Rad(), ragged=True, seeds=1) < 0.95 / (experiment.PRICE * mean_tokens(True))  # control


def test_cycles_carry_what_their_waste_leaves():
    """Two seeds within 2 % for N <= b; beyond, between the bounds."""
    for cycle in (32, 128):
        least, most = cycle_rates(cycle)
        assert least == most
        assert carried(Rad(cycle=cycle)) == pytest.approx(least, rel=0.02)
    least, most = cycle_rates(512)
    assert least < carried(Rad(cycle=512)) < most
    assert cycle_rates(32)[1] < 0.5 * bound()  # control: the waste is no detail


def test_ragged_prompts_waste_their_last_tile_and_mixing_recovers_it():
    assert carried(Rad(), ragged=True) == pytest.approx(ragged_rate(), rel=0.01)
    mixed = carried(Sarathi(128, max_num_seqs=4096), ragged=True)
    assert mixed == pytest.approx(1 / (experiment.PRICE * mean_tokens(True)), rel=1e-6)
    assert mixed > 1.05 * ragged_rate()


def test_budgets_follow_the_staircase():
    found = {b: Carries(Sarathi(b, max_num_seqs=4096), False, 0, 3000).record()["tokens"] for b in (128, 129)}
    for budget, tokens in found.items():
        assert tokens == pytest.approx(staircase(budget), rel=1e-6)
    assert found[129] < 0.6 * found[128]  # control: one token past the tile


def test_the_drift_changes_sign_at_the_bound():
    """30,000 requests at 0.85 and 1.15; each verdict errs with probability 0.001."""
    below, above = (Fed(load, 30_000).record() for load in (0.85, 1.15))
    assert (below["stable"], above["grows"]) == (True, True)
    assert max(below["price"], above["price"]) <= 1 + 1e-9  # nobody serves more than a token a w


def test_the_experiment_answers_every_figure_it_is_given(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(experiment, "REQUESTS", {True: 2000})
    monkeypatch.setattr(experiment, "SATURATED", {True: 3000})
    monkeypatch.setattr(experiment, "SEEDS", {True: 2})
    seen = []
    result = experiment.run(quick=True, out=tmp_path, workers=1, progress=lambda *done: seen.append(done))
    assert {row.key for row in result.rows} - {None} == keys_of("rad")
    assert all(row.low <= row.ours <= row.high for row in result.rows)
    assert seen[-1][0] == seen[-1][1]
    assert {path.name for path in tmp_path.iterdir()} == {
        "rad.json",
        "cycles.json",
        "cycles.png",
        "cycles.svg",
    }


def test_a_cycle_is_judged_by_its_theory_and_only_where_it_has_a_figure():
    """Theory has 20 to 30 requests/s, and half a percent is ours."""
    for low, high, verdict in (
        (18.0, 20.0, "reproduced"),
        (30.1, 31.0, "reproduced"),
        (18.0, 19.0, "differs"),
        (31.0, 32.0, "differs"),
        (math.nan, math.nan, "not testable here"),
        (-math.inf, math.inf, "not testable here"),
    ):
        entry = {"N": 512, "least": 20.0, "most": 30.0, "carried": (low + high) / 2, "low": low, "high": high}
        (row,) = experiment._cycle_rows([entry])
        assert row.verdict == verdict


def test_one_run_without_a_figure_leaves_what_is_said_of_all_open():
    fed = [
        {"load": load, "growth": 0.0, "low": 0.0, "high": 0.0, "grows": load > 1, "stable": load < 1, "allowed": 1.0,
         "price": 0.9}
        for load in (0.9, 1.1)
    ]  # fmt: skip
    budgets = [{"B": b, "theory": 2.0, "carried": 2.0} for b in (64, 128)]

    def verdicts(runs, carried):
        return [row.verdict for row in [*experiment._growth_rows(runs), experiment._budget_row(carried)]]

    assert verdicts(fed, budgets) == ["reproduced"] * 5
    off = [fed[0], fed[1] | {"allowed": 0.99, "price": 1.01}], [budgets[0], budgets[1] | {"carried": 1.9}]
    assert verdicts(*off) == ["reproduced"] * 2 + ["differs"] * 3
    lost = (
        [fed[0], fed[1] | {"allowed": math.nan, "price": math.nan}],
        [
            budgets[0],
            budgets[1] | {"carried": math.nan},
        ],
    )
    assert verdicts(*lost) == ["reproduced"] * 2 + ["not testable here"] * 3
