"""Two sides of the rate that memory carries, with controls, and a small run of the experiment `kv-stability`."""

from fractions import Fraction

import numpy as np
import pytest

from queueing.models.memory import SwapNode, held
from validation.experiments import kv_stability as experiment
from validation.experiments.kv_stability import EQUALLY, Fed, Full, demand, largest, reserved, swapping
from validation.published import keys_of


def test_demand_is_what_requests_hold_over_their_lives():
    prompt, output = np.array([3, 1, 3]), np.array([2, 4, 2])
    lives = [sum(held(int(s), int(d) - 1)) for s, d in zip(prompt, output, strict=True)]
    assert demand(prompt, output) == pytest.approx(np.mean(lives))
    assert demand(prompt, output + 1) > demand(prompt, output)  # control


def test_the_fast_swapping_node_is_the_one_of_the_theorem():
    """Arrivals that overload and arrivals that do not, iteration by iteration."""
    node = SwapNode(30, {(2, 3): Fraction(1)})
    arrivals = np.random.default_rng(0).poisson(1.6, 300).tolist()
    state, present = (), []
    for came in arrivals:
        state = (*node.run(state)[0], *[(2, 3, 0)] * came)
        present.append(len(state))
    assert swapping(30, 2, 3, arrivals).tolist() == present
    assert swapping(20, 2, 3, arrivals).tolist() != present  # control: another memory


def test_the_swapping_node_is_stable_on_one_side_only():
    """δ = 0.19; 20,000 requests, each verdict wrong with probability 0.001."""
    below, above = (Fed("swapping", load, 20_000, 0.03).record() for load in (0.95 * 0.81, 1.05))
    assert below["stable"]
    assert above["grows"]
    assert not below["grows"]


def test_work_conserving_memory_carries_mu_and_reservation_its_share():
    """Two thousand requests; δ bounds what is missing from below, half a percent is the lengths'."""
    found = {name: Full("20 ms", name, 0, 2000).record()["carried"] for name in ("Sarathi", "reservation")}
    assert 1 - largest() - 0.005 < found["Sarathi"] < 1.02
    assert found["reservation"] == pytest.approx(reserved(), abs=0.02)
    assert reserved() < 0.6  # control


def test_equal_requests_in_step_lose_little_where_lost_tokens_are_prefilled():
    assert Full(EQUALLY, "Sarathi", 0, 2000).record()["carried"] > 0.95
    assert (
        Full(EQUALLY, "reservation", 0, 2000).record()["carried"] < 0.6
    )  # control: room is kept for what is not yet


def test_the_experiment_answers_every_figure_it_is_given(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(experiment, "REQUESTS", {True: 1000})
    monkeypatch.setattr(experiment, "SATURATED", {True: 400})
    seen = []
    result = experiment.run(quick=True, out=tmp_path, workers=1, progress=lambda *done: seen.append(done))
    assert {row.key for row in result.rows} - {None} == keys_of("kv-stability")
    assert all(row.low <= row.ours <= row.high for row in result.rows)
    assert seen[-1][0] == seen[-1][1]
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".png", ".svg"}


def test_the_error_of_the_condition_is_judged_to_either_side():
    """Percent short of μ on the A100, of which at most 10 were published; negative is more than μ."""
    for (low, high), verdict in {
        (2.0, 4.0): "reproduced",
        (-9.0, 9.0): "reproduced",
        (8.0, 12.0): "not testable here",
        (-12.0, -8.0): "not testable here",
        (11.0, 12.0): "differs",
        (-12.0, -11.0): "differs",
    }.items():
        shares = {"carried": 1 - (low + high) / 200, "low": 1 - high / 100, "high": 1 - low / 100}
        (row,) = experiment._share_rows([{"system": "A100 table", "policy": "vLLM", **shares}])
        assert row.verdict == verdict
