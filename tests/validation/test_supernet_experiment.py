"""The experiment `supernet`: the measured profile becomes a frontier, and what ran is what is executed."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn", reason="the digits come with scikit-learn, of the extra `serverless`")

from gpu.supernet import Architecture
from gpu.supernet_training import study
from queueing.one_shot import metrics
from tests.one_shot_accountant import audit
from validation.experiments import supernet


def test_a_measured_profile_is_served_and_executed() -> None:
    """The frontier is of the study's subnets, no policy breaks the books, every batch can be executed for real."""
    found = study(Architecture((8, 16), (2, 2)), epochs=1, repeats=2)
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
