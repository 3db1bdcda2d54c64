"""Days of arrivals for the experiment `mbs`: what is tuned to what, what it attains, and which counts are taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policies.buffer_tuner import Grid
from queueing.function_traces import DAY, MinuteCounts
from queueing.models.buffer_plan import Limit, Service
from queueing.models.serverless import PRICES
from validation.experiments import mbs_days
from validation.experiments.mbs_days import (
    by_hour,
    day,
    function_day,
    function_days,
    function_rows,
    modulated,
)


@pytest.fixture(scope="module")
def on() -> Service:
    return Service(PRICES["aws-100ms"], (1024, 1280, 1536, 1792, 2048))


def test_the_smooth_day_tells_a_plan_that_breaks_the_limit_from_one_that_keeps_it(on: Service) -> None:
    assert len(Grid.of(on, Limit(0.3), 6, 5)) == 150
    hours = day(on, (3, 15), 2)
    for hour in hours:
        assert hour["retuned attained"] >= 0.95 <= hour["safe attained"]
        assert hour["retuned"] <= hour["safe"] * (1 + 1e-12)
    assert min(hour["mean rate attained"] for hour in hours) < 0.95


def test_the_fitted_process_has_the_rate_and_the_spread_of_the_counts() -> None:
    """Rate: that of the counts.  Rates of the phases: at most as varied as the counts, and as varied in singletons."""
    counts = np.random.default_rng(0).poisson(2400 * np.random.default_rng(1).gamma(4.0, 0.25, 60))
    assert modulated(counts).rate == pytest.approx(counts.mean() / 60)
    assert modulated(counts + 60).rate != pytest.approx(counts.mean() / 60)  # control

    def spread(groups: int) -> float:
        rates = np.diag(np.array(modulated(counts, groups).d1))
        return float(rates.std() * 60 / counts.std())

    assert 0.9 < spread(6) < spread(60) == pytest.approx(1.0)
    assert spread(2) < 0.9


def of_rates(*rates: float) -> MinuteCounts:
    """Hours of Poisson counts with these calls/s."""
    rng = np.random.default_rng(0)
    return MinuteCounts(rng.poisson(np.repeat(rates, 60)[None, :] * 60.0))


def test_each_hour_is_tuned_to_the_one_before(on: Service) -> None:
    """Where the rate stays all tunings agree; where it falls, the hour before is like the first; then like the hour."""
    steady, falling, low = function_day(on, of_rates(20.0, 20.0, 3.0, 3.0), (1, 2, 3), seed=0)
    assert steady["retuned"] == steady["first hour"] == steady["own hour"] < steady["one buffer"]
    assert steady["own hour attained"] == pytest.approx(steady["own hour, model"], abs=0.01)
    assert steady["own hour attained"] >= steady["own hour least"] > 0.94
    assert falling["retuned"] == falling["first hour"] != falling["own hour"]
    assert low["retuned"] == low["own hour"] != low["first hour"]
    assert low["rate"] == pytest.approx(3.0, abs=0.18)  # 10,800 calls: six standard deviations
    table = by_hour([[steady], [low]])
    assert [entry["plan"] for entry in table] == list(mbs_days.FUNCTION_PLANS)
    assert table[1]["cost"] == pytest.approx((steady["first hour"] + low["first hour"]) / 2)
    assert table[0]["rate"] == pytest.approx((steady["rate"] + low["rate"]) / 2)


def test_rows_follow_from_the_hours() -> None:
    def hour(rate: float, retuned: float, least: float) -> dict[str, float]:
        row: dict[str, float] = {"hour": 1, "rate": rate, "own hour, model": 0.96}
        for plan in mbs_days.FUNCTION_PLANS:
            row |= {plan: 80.0, f"{plan} attained": 0.97, f"{plan} least": 0.96}
        return row | {"retuned": retuned, "retuned least": least, "retuned attained": least + 0.01}

    rows = {row.quantity: row for row in function_rows([[hour(10, 60.0, 0.96), hour(30, 40.0, 0.93)]] * 3)}
    found = {name.removeprefix("day of functions: "): row.ours for name, row in rows.items()}
    saved = 1 - (10 * 60 + 30 * 40) / 40 / 80  # weighed by requests
    assert [x for name, x in found.items() if "saves" in name] == pytest.approx([saved] * 3)
    broken = {name.rpartition("tuned to the ")[2]: x for name, x in found.items() if "breaks" in name}
    assert broken == {"hour before": 0.5, "first hour": 0.0, "whole day": 0.0, "hour itself": 0.0}
    assert found["least attained by a buffer in an hour, tuned to the hour before"] == 0.93
    assert [row.verdict for row in rows.values() if row.published == 0.95] == ["differs"]
    kept = function_rows([[hour(10, 60.0, 0.96)]] * 3)
    assert [row.verdict for row in kept if row.published == 0.95] == ["reproduced"]


def test_a_published_day_is_taken_where_it_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shape is kept and its rate scaled; without one, synthetic days come in its place."""
    monkeypatch.setenv("TANDEM_DATA", str(tmp_path))
    days, what = function_days(2)
    assert what.startswith("2 synthetic days")
    assert len(days) == 2
    for drawn in days:
        assert drawn.total == pytest.approx(mbs_days.RATE * DAY * 60, rel=1e-3)
    head = ["HashOwner", "HashApp", "HashFunction", "Trigger", *map(str, range(1, DAY + 1))]
    rows = [["o", "a", f"f{k}", "http", *[str(k + (m >= 720)) for m in range(DAY)]] for k in range(2)]
    (tmp_path / "traces").mkdir()
    file = tmp_path / "traces" / "invocations_per_function_md.anon.d01.csv"
    file.write_text("\n".join(map(",".join, [head, *rows])) + "\n")
    days, what = function_days(2)
    assert what.startswith("1 days of Azure Functions 2019")
    halves = days[0].counts.sum(axis=0).reshape(2, 720).sum(axis=1)
    assert halves[1] / halves[0] == pytest.approx(3.0, rel=1e-2)  # control: synthetic halves are near 1
    assert days[0].total == pytest.approx(mbs_days.RATE * DAY * 60, rel=1e-3)
