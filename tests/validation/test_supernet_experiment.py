"""The experiment `supernet`: subnets are chosen on one split, judged on another, and what ran is executed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn", reason="the digits come with scikit-learn, of the extra `serverless`")

from gpu.supernet import Architecture
from gpu.supernet_training import Profile, Study, study
from queueing.one_shot import metrics
from tests.one_shot_accountant import audit
from validation.experiments import supernet
from validation.published import keys_of


@pytest.fixture(scope="module")
def found() -> Study:
    return study(Architecture((8, 16), (2, 2)), epochs=1, repeats=2)


def test_a_measured_profile_is_served_and_executed(found: Study) -> None:
    """The frontier is of the study's subnets, no policy breaks the books, every batch can be executed for real."""
    frontier, number = supernet.frontier_of(found)
    assert np.array_equal(frontier.accuracy, np.array(found.profile.accuracy)[number])
    assert np.array_equal(frontier.latency, np.array(found.profile.latency)[number])
    assert len(frontier) == len(frontier.pareto())
    runs = supernet.simulated(frontier, 0.5, 300, seed=0)
    for name, trace in runs.items():
        audit(trace)
        assert 0 <= metrics.attainment(trace) <= 1, name
    assert runs["Clipper+, largest"].config.tolist() != runs["Clipper+, smallest"].config.tolist()  # control
    total, single = supernet.executed(found, number, runs["SlackFit"], batches=5)
    assert -1 < total < 100
    assert single >= 0
    chosen = json.loads(supernet.profile_json(found, number))["subnets"]
    assert [entry["accuracy"] for entry in chosen] == frontier.accuracy.tolist()
    assert [entry["test_accuracy"] for entry in chosen] == [found.tested[k] for k in number]


def test_rows_answer_every_published_figure(found: Study) -> None:
    """Those of the network, and who is ahead: the whole run trains for too long here."""
    frontier, _ = supernet.frontier_of(found)
    runs = [[supernet.simulated(frontier, 0.5, 300, seed) for seed in range(2)]]
    rows = [*supernet._network_rows([found]), supernet._ahead("SlackFit", "MaxBatch", runs)]
    assert {row.key for row in rows} - {None} == keys_of("supernet")
    separate = next(row for row in rows if row.key == "supernet: memory of separate networks")
    assert separate.ours == found.separate / found.shared
    same = supernet._ahead("SlackFit", "SlackFit", runs)  # control
    assert (same.low, same.ours, same.high) == (0.0, 0.0, 0.0)


def known(found: Study, validation: list[float], test: list[float]) -> Study:
    """The study as if these were its accuracies, each more accurate subnet the slower one."""
    subnets = len(found.subnets)
    latency = [[(k + 1) * (b + 1) * 1e-3 for b in range(16)] for k in range(subnets)]
    return replace(found, profile=Profile(validation, latency), tested=test)


def test_test_digits_judge_and_do_not_choose(found: Study) -> None:
    rising = np.linspace(0.5, 0.9, len(found.subnets)).tolist()
    one, other = known(found, rising, rising), known(found, rising, rising[::-1])
    frontier, number = supernet.frontier_of(one)
    assert number == supernet.frontier_of(other)[1] == list(range(len(rising)))
    assert supernet.frontier_of(known(found, rising[::-1], rising))[1] == [0]  # control
    trace = supernet.simulated(frontier, 0.5, 300, seed=0)["Clipper+, largest"]
    assert supernet.tested_accuracy(one, number, trace) == pytest.approx(0.9) == metrics.mean_value(trace)
    assert supernet.tested_accuracy(other, number, trace) == pytest.approx(0.5)


def test_choosing_by_luck_is_seen(found: Study) -> None:
    """Validation accuracy that tells nothing of test accuracy overstates the subnets chosen by it; equal splits not."""
    noise = np.random.default_rng(0)

    def figures(studies: list[Study]) -> list[float]:
        rows = supernet._choice_rows(studies, [supernet.frontier_of(s) for s in studies])
        assert all(row.low <= row.ours <= row.high for row in rows)
        return [row.ours for row in rows]

    lucky = [known(found, noise.normal(0.8, 0.02, 8).clip(0, 1).tolist(), [0.8] * 8) for _ in range(20)]
    assert (
        figures(lucky)[2] > 0.005
    )  # mean of the records of eight draws less their mean, sd 0.02: about 0.6 sd
    rising = np.linspace(0.5, 0.9, 8)
    assert figures([known(found, rising.tolist(), rising.tolist())] * 2) == pytest.approx(
        [0.5, 0.9, 0.0, 1.0]
    )
    easier = [
        known(found, (rising + 0.05).tolist(), rising.tolist())
    ] * 2  # validation digits easier for all: no luck
    assert figures(easier)[2] == pytest.approx(0.0)


def test_intervals_are_over_networks_or_over_the_arrivals_of_one() -> None:
    mean, low, high = supernet._over([[0.0, 2.0], [0.9, 1.1], [1.0, 1.0]])
    assert mean == low == high == pytest.approx(1.0)  # networks agree, however their arrivals differ
    mean, low, high = supernet._over([[0.0, 2.0]])
    assert low < mean < high
    assert mean == pytest.approx(1.0)


def test_a_tie_is_not_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attainments by hand, ten seeds: ahead, behind, both at 1.0 in every run, and now the one and now the other."""
    monkeypatch.setattr(supernet.metrics, "attainment", lambda share: share)
    ones = np.ones(10)
    noise = 0.01 * np.arange(10) - 0.045
    for one, verdict in (
        (ones + 0.1, "reproduced"),
        (ones - 0.1, "differs"),
        (ones, "differs"),
        (ones + noise, "not testable here"),
    ):
        runs: Any = [[{"SlackFit": float(a), "MaxBatch": 1.0} for a in one]]
        assert supernet._ahead("SlackFit", "MaxBatch", runs).verdict == verdict
