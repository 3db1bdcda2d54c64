"""Routers against the laws that are known of them, the day's arrivals and tokens, and a small run of `cluster-day`.

Intervals over seeds are Student's t at 99.9 %, so that each comparison errs for one choice of seeds in a thousand.
"""

import math

import numpy as np
import pytest

from policies import Sarathi
from queueing.lengths import ShareGPT
from queueing.metrics import seed_interval
from queueing.system import System
from validation.experiments import cluster_day as experiment
from validation.experiments.cluster_day import CAPACITY, Day, expected, load, offered, unevenness
from validation.experiments.cluster_queues import LOAD, Queues, share_with, time_in_system
from validation.published import keys_of
from validation.saturation import saturate

LEVEL = 0.999


def simulated(router, replicas, requests, name="time", seeds=6):
    found = [Queues(router, replicas, requests, seed).record()[name] for seed in range(seeds)]
    return seed_interval(np.array(found)[..., 2] if name == "shares" else found, LEVEL)


# --- laws of queues ----------------------------------------------------------------------------------------------


def test_laws_meet_where_one_is_the_other():
    """One replica is M/M/1 behind any router; in the limit round robin's arrivals are regular, D/M/1."""
    assert time_in_system("round robin", LOAD, 1) == pytest.approx(time_in_system("random", LOAD, 1))
    assert time_in_system("least work", LOAD, 1) == pytest.approx(1 / (1 - LOAD))
    assert time_in_system("round robin", LOAD, 4) < 0.8 * time_in_system("random", LOAD, 4)  # control
    sigma = 1 - 1 / time_in_system("round robin", LOAD, 10**6)
    assert sigma == pytest.approx(math.exp(-(1 - sigma) / LOAD), rel=1e-5)
    assert sigma != pytest.approx(math.exp(-(1 - sigma) * LOAD), rel=1e-1)  # control: rate and mean swapped


def test_erlangs_formula_is_the_chain_of_many_servers():
    """T by Little's law from the balance equations of M/M/3, solved on 400 states."""
    g, rate = 3, 3 * LOAD
    weights = np.cumprod([1.0, *(rate / min(k, g) for k in range(1, 400))])
    in_system = float(np.arange(400) @ weights / weights.sum())
    assert time_in_system("least work", LOAD, g) == pytest.approx(in_system / rate)
    assert time_in_system("least work", LOAD, g + 1) != pytest.approx(in_system / rate, rel=0.05)  # control


def test_shares_add_up_to_the_requests_in_system():
    """Σ_k s_k = λ·T, Little's law at one replica, behind both routers."""
    for d, router in ((1, "random"), (2, "two choices")):
        total = sum(share_with(d, LOAD, k) for k in range(1, 200 if d == 1 else 12))
        assert total == pytest.approx(LOAD * time_in_system(router, LOAD, 1))
    assert share_with(3, LOAD, 2) < share_with(2, LOAD, 2) < share_with(1, LOAD, 2)


def test_a_law_that_is_not_known_is_not_made_up():
    with pytest.raises(
        ValueError, match=r"^there is no closed form for 'shortest queue'; give one of random, "
    ):
        time_in_system("shortest queue", LOAD, 10)
    with pytest.raises(ValueError, match=r"^the load is 1.0; give a number between 0 and 1"):
        time_in_system("random", 1.0, 10)


def test_simulated_queues_keep_their_laws():
    """Random and round robin on 20 replicas, least work on 5: each law within its interval, its rival outside."""
    for router, rival, replicas in (
        ("random", "round robin", 20),
        ("round robin", "random", 20),
        ("least work", "two choices", 5),
    ):
        found = simulated(router, replicas, 30_000)
        assert found.low - 0.02 < time_in_system(router, LOAD, replicas) < found.high + 0.02, router
        assert time_in_system(rival, LOAD, replicas) not in found, router  # control


def test_two_choices_keep_the_law_of_infinitely_many_replicas():
    """200 replicas, where the mean field errs by the order of 1/200; one choice and three are the controls."""
    found = simulated("two choices", 200, 100_000, "shares", seeds=4)
    assert found.low - 1 / 200 < share_with(2, LOAD, 3) < found.high + 1 / 200
    assert all(not found.low - 1 / 200 < share_with(d, LOAD, 3) < found.high + 1 / 200 for d in (1, 3))


def test_the_shortest_queue_is_between_its_bounds():
    """Two choices above and M/M/5 below, on the same requests."""
    above, at = (
        [Queues(router, 5, 30_000, seed).record()["time"] for seed in range(6)]
        for router in ("two choices", "shortest queue")
    )
    assert seed_interval(np.subtract(above, at), LEVEL).low > 0
    assert seed_interval(at, LEVEL).low > time_in_system("least work", LOAD, 5)


# --- the day -----------------------------------------------------------------------------------------------------


def test_arrivals_follow_the_rate():
    """24 hours of 60,000 requests: χ² below its 99.9 % quantile at 23 degrees; even hours are the control."""
    arrival = offered(1000, 60_000 / (1000 * 0.6 * CAPACITY), 0).arrival
    hours = np.histogram(arrival, 24, (0, 60_000 / (600 * CAPACITY)))[0]
    fine = load((np.arange(24 * 100) + 0.5) / 2400).reshape(24, 100).mean(axis=1)
    stated = 60_000 * fine / fine.sum()
    assert ((hours - stated) ** 2 / stated).sum() < 49.7 < ((hours - 2500) ** 2 / 2500).sum()
    assert (load(4 / 24), load(16 / 24)) == (pytest.approx(0.25), pytest.approx(0.95))


def test_the_rate_that_a_replica_carries():
    """Endless work, 10,000 requests: what is meant by load 1, within 3 %."""
    prompt, output = ShareGPT(source="table").sample(10_000, np.random.default_rng(1))
    system = System.named("llama-3-8b", "a100")
    assert saturate(system, Sarathi(), np.minimum(prompt, 7000), output).rate == pytest.approx(
        CAPACITY, rel=0.03
    )


def test_tokens_spread_as_the_law_of_blind_routers_says():
    """300 replicas, where the sample of a cv has a standard error of 4.1 %; the other router's law is the control."""
    tokens = np.random.default_rng(0).integers(1, 4000, 30_000)
    blind = {
        "random": np.random.default_rng(1).integers(0, 300, 30_000),
        "round robin": np.arange(30_000) % 300,
    }
    for router, other in (("random", "round robin"), ("round robin", "random")):
        found = unevenness(np.bincount(blind[router], tokens, 300))
        assert found == pytest.approx(expected(router, tokens, 300), rel=0.14)
        assert found != pytest.approx(expected(other, tokens, 300), rel=0.3)
    assert math.isnan(expected("shortest queue", tokens, 300))


def test_routers_meet_the_same_requests_and_one_replica_needs_none():
    one = [Day(router, 1, 300.0, 0).record() for router in ("random", "shortest queue")]
    assert one[0]["p99 TTFT by hour"] == one[1]["p99 TTFT by hour"]
    two = [Day(router, 2, 300.0, 0).record() for router in ("random", "shortest queue")]
    assert two[0]["load by hour"] == two[1]["load by hour"]
    assert two[0]["mean TTFT"] != two[1]["mean TTFT"]  # control


# --- rows --------------------------------------------------------------------------------------------------------


def test_an_interval_that_holds_law_and_rival_settles_nothing():
    verdicts = [
        experiment._judged("", "1", 1.0, 2.0, values, slack).verdict
        for values, slack in (
            ([0.99, 1.0, 1.01], 0.0),
            ([2.99, 3.0, 3.01], 0.0),
            ([0.0, 1.0, 2.0], 0.0),
            ([0.99, 1.0, 1.01], 1.5),
        )
    ]
    assert verdicts == ["reproduced", "differs", "not testable here", "not testable here"]


def test_the_experiment_has_a_row_for_every_figure(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(experiment, "COMPRESSED", 40.0)
    monkeypatch.setattr(experiment, "DAY", 60.0)
    monkeypatch.setattr(experiment, "OWN_PACE", {True: 2})
    monkeypatch.setattr(experiment, "REQUESTS", {True: 1000})
    monkeypatch.setattr(experiment, "SEEDS", {True: 2})
    monkeypatch.setattr(experiment, "LAW_SEEDS", {True: 2})
    seen = []
    result = experiment.run(quick=True, out=tmp_path, workers=1, progress=lambda *done: seen.append(done))
    assert {row.key for row in result.rows} - {None} == keys_of("cluster-day") == set()
    assert all(row.low <= row.ours <= row.high for row in result.rows)
    assert seen[-1][0] == seen[-1][1]
    assert sum("2 replicas, day of 60 s" in row.quantity for row in result.rows) == 3 * 5 + 4
    figures = {f"{name}.{kind}" for name in ("day", "queues") for kind in ("json", "png", "svg")}
    assert {path.name for path in tmp_path.iterdir()} == {*figures, "cluster-day.json"}
