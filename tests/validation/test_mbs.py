"""The experiment `mbs`: its shape test, its verdicts, and that what it reports can be told from what it must not be."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from queueing.models.buffer_plan import Service
from queueing.models.serverless import PRICES
from validation import experiments
from validation.experiments import mbs
from validation.published import keys_of


def test_it_is_registered() -> None:
    assert experiments.load(mbs.NAME) is mbs


@pytest.mark.parametrize(
    ("costs", "shaped"),
    [
        ([3.0, 2.0, 4.0], True),
        ([5.0, 3.0, 2.0, 2.5], True),
        ([1.0, 2.0, 3.0], False),
        ([3.0, 2.0, 1.0], False),
        ([3.0, 1.0, 4.0, 2.0], False),
        ([3.0, 3.0, 1.0, 4.0], False),
    ],
)
def test_a_u_has_its_least_strictly_inside(costs: list[float], shaped: bool) -> None:
    assert mbs.u_shape(costs) == shaped


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same experiment with 4 memories, and a search that proposes at random."""
    prices = PRICES["aws-100ms"]
    monkeypatch.setattr(mbs, "service", lambda: Service(prices, (1024, 1536, 1792, 2560)))
    monkeypatch.setattr(mbs, "cut_points", lambda *_: [{"excess": 0.0}])
    for name in ("day", "day_rows", "function_rows"):
        monkeypatch.setattr(mbs, name, lambda *_: [])
    monkeypatch.setattr(mbs, "function_days", lambda *_: ([], "none"))
    found = {"grid": 2400, "allowed": 240, "evaluations": 17, "within 1 %": True}
    monkeypatch.setattr(
        mbs, "optimised", lambda *_: [{"method": m, **found} for m in ("bayes", "penalty", "random")]
    )


@pytest.mark.usefixtures("small")
def test_rows_say_what_was_found(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = mbs.run(quick=True, out=tmp_path)
    assert result.rows[0].ours == 1.0  # the shape
    by_published = {r.published: r for r in result.rows}
    assert by_published[8.0].verdict == by_published[37.0].verdict == "differs"
    for row in (by_published[8.0], by_published[37.0], by_published[3.0]):
        assert (row.verdict == "reproduced") == (row.low >= (row.published or math.nan))
    assert {row.key for row in result.rows} - {None} == keys_of("mbs")
    compared = result.tables["simulated"]
    for row in compared:
        assert row["cost"] == pytest.approx(row["cost, theory"], rel=0.05)
        assert row["calls"] == pytest.approx(row["calls, theory"], rel=0.05)
        assert (row["padding"] < 1e-9) == (row["n"] == 0)
    for mix in {
        r["mix"] for r in compared
    }:  # common random numbers: seed by seed the best is cheaper than one buffer
        some = [r for r in compared if r["mix"] == mix]
        cost = {(r["n"], r["seed"]): r["cost"] for r in some}
        best = next(r["n"] for r in some if r["best"])
        assert all(cost[best, seed] < cost[1, seed] < cost[0, seed] * 1.001 for seed in range(10))
    written = json.loads((tmp_path / "mbs.json").read_text())
    assert [r["quantity"] for r in written["rows"]] == [r.quantity for r in result.rows]
    assert {f.name for f in tmp_path.iterdir()} >= {"buffers.svg", "buffers.png", "search_and_day.svg"}


def test_verdicts_of_the_search_follow_from_its_runs() -> None:
    def rows(evaluations: float) -> list:
        run = {
            "grid": 2400,
            "allowed": 240,
            "evaluations": evaluations,
            "within 1 %": math.isfinite(evaluations),
        }
        return mbs._search_rows([{"method": m, **run} for m in ("bayes", "penalty", "random")])

    assert [rows(x)[0].verdict for x in (30, math.inf)] == ["reproduced", "differs"]
    assert [rows(x)[-1].verdict for x in (240, math.inf)] == ["reproduced", "differs"]


def test_up_to_is_reached_by_the_whole_interval_or_not() -> None:
    """Calls of one buffer over those of the best number, by hand; published are up to 3."""

    def verdict(ratios: list[float]) -> str:
        runs = [
            {"mix": "a", "limit": 0.3, "n": n, "best": n == 4, "seed": seed, "cost": 1.0, "padding": 1.0,
             "calls": ratio if n == 1 else 1.0, "attained": 0.96, "cost, theory": 1.0, "calls, theory": 1.0}
            for seed, ratio in enumerate(ratios) for n in (0, 1, 4, 16)
        ]  # fmt: skip
        return next(
            r.verdict for r in mbs._ratio_rows(runs, [("a", 0.3)]) if r.quantity.startswith("calls, one")
        )

    assert verdict([3.59, 3.61, 3.63]) == verdict([3.0, 3.0, 3.0]) == "reproduced"
    assert verdict([2.89, 2.91, 2.93]) == "differs"
    assert verdict([2.9, 3.0, 3.2]) == "not testable here"
    for known in (
        [3.6],
        [3.6, math.inf, 3.6],
        [math.inf, math.inf],
        [3.6, math.nan],
    ):  # one seed, or no figure
        assert verdict(known) == "not testable here"
