"""The judge of benchmarks, on made-up figures: what got worse is named, noise is looked at again, nothing is timed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import check
from benchmarks.check import NotRun, Ratio, judged, main, read, text

ROOT = Path(__file__).parents[1]
SPEED = Ratio("loop", "speed", 50.0, "higher", 0.2, "noise")
COST = Ratio("loop", "cost", 2.0, "lower", 0.1, "noise")
NO_RATIOS = {"check", "peers", "engine"}  # this judge, a part of another, and one that needs a GPU


class Runs:
    """A benchmark whose runs give these figures, one after the other."""

    def __init__(self, *figures: Mapping[str, Any]) -> None:
        self.figures, self.count = figures, 0

    def __call__(self, benchmark: str) -> Mapping[str, Any]:
        assert benchmark == "loop"
        self.count += 1
        return self.figures[self.count - 1]


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "stored.json"
    path.write_text(text([SPEED, COST]))
    return path


# --- one ratio ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "now", "verdict"),
    [
        (SPEED, 40.0, "ok"), (SPEED, 39.9, "worse"), (SPEED, 60.0, "ok"), (SPEED, 60.1, "better"),
        (COST, 2.2, "ok"), (COST, 2.21, "worse"), (COST, 1.8, "ok"), (COST, 1.79, "better"),
    ],
)  # fmt: skip
def test_a_ratio_is_worse_beyond_its_threshold_alone(ratio: Ratio, now: float, verdict: str) -> None:
    assert ratio.verdict(now) == verdict


@given(
    st.floats(0.01, 100), st.floats(0.01, 0.99), st.sampled_from(["higher", "lower"]), st.floats(0.001, 1000)
)
def test_the_threshold_parts_worse_from_the_rest(
    stored: float, tolerance: float, better: Any, now: float
) -> None:
    ratio = Ratio("loop", "x", stored, better, tolerance, "noise")
    beyond = now / ratio.threshold if better == "lower" else ratio.threshold / now
    if abs(beyond - 1) > 1e-9:
        assert (ratio.verdict(now) == "worse") == (beyond > 1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"better": "more"}, "loop speed: better is higher or lower, not 'more'"),
        ({"stored": 0.0}, "loop speed: stored must be a positive number, not 0.0"),
        ({"stored": float("nan")}, "loop speed: stored must be a positive number, not nan"),
        ({"tolerance": 1.0}, "loop speed: tolerance is a share between 0 and 1, not 1.0"),
        ({"reason": ""}, "loop speed: give the reason for a tolerance of 0.2"),
    ],
)
def test_a_ratio_that_says_nothing_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        replace(SPEED, **change)


# --- runs --------------------------------------------------------------------------------------------------------


def test_figures_within_their_thresholds_need_one_run() -> None:
    runs = Runs({"speed": 45.0, "cost": 2.1})
    assert [(f.now, f.runs, f.verdict) for f in judged([SPEED, COST], runs)] == [
        (45.0, 1, "ok"),
        (2.1, 1, "ok"),
    ]


def test_one_bad_run_is_no_regression() -> None:
    runs = Runs({"speed": 10.0, "cost": 2.0}, {"speed": 51.0, "cost": 2.0}, {"speed": 49.0, "cost": 2.0})
    speed, cost = judged([SPEED, COST], runs)
    assert (speed.now, speed.runs, speed.verdict) == (49.0, 3, "ok")
    assert (cost.now, cost.runs) == (2.0, 3)


def test_two_bad_runs_of_three_are_one() -> None:
    runs = Runs({"speed": 10.0, "cost": 2.0}, {"speed": 51.0, "cost": 2.0}, {"speed": 11.0, "cost": 2.0})
    assert judged([SPEED, COST], runs)[0].verdict == "worse"
    assert runs.count == 3


@pytest.mark.parametrize(
    "figures", [{}, {"speed": None}, {"speed": "fast"}, {"speed": float("inf")}, {"speed": -1}]
)
def test_a_ratio_that_is_not_printed_is_named(figures: dict[str, Any]) -> None:
    with pytest.raises(NotRun, match=r"prints speed = .* print it, or take it out of stored\.json"):
        judged([SPEED], Runs(figures))


def test_a_benchmark_that_fails_says_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "HERE", tmp_path)
    (tmp_path / "loop.py").write_text("raise SystemExit('first line\\nthere is no pyserq')\n")
    with pytest.raises(NotRun, match=r"benchmarks/loop.py ended with exit code 1: there is no pyserq$"):
        check.run("loop")
    (tmp_path / "loop.py").write_text("print('warm')\n")
    with pytest.raises(NotRun, match="printed something else than one object"):
        check.run("loop")
    (tmp_path / "loop.py").write_text("import sys\nprint('{\"options\": %d}' % len(sys.argv))\n")
    assert check.run("loop") == {"options": 3}


# --- the command -------------------------------------------------------------------------------------------------

GOOD, BAD = {"speed": 50.0, "cost": 2.0}, {"speed": 30.0, "cost": 2.0}


def test_all_is_well(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], Runs(GOOD), stored) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == ["ratio", "stored", "now", "threshold", "runs", "verdict"]
    assert [row.split() for row in rows] == [
        ["loop", "speed", "50", "50", ">=", "40", "1", "ok"],
        ["loop", "cost", "2", "2", "<=", "2.2", "1", "ok"],
    ]


def test_a_regression_says_what_to_do(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = stored.read_text()
    assert main(["loop"], Runs(BAD, BAD, BAD), stored) == 1
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("loop speed went from 50 to 30, beyond 40: find the change with `git bisect run ")
    assert "`python benchmarks/check.py loop --update`" in said
    assert stored.read_text() == before


def test_an_update_stores_the_median_of_three_runs(stored: Path) -> None:
    assert main(["--update"], Runs(BAD, GOOD, {"speed": 31.23456, "cost": 2.0}), stored) == 0
    assert read(stored) == [replace(SPEED, stored=31.23), COST]


def test_a_failure_loses_nothing_of_the_others(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored.write_text(text([SPEED, replace(COST, benchmark="door")]))

    def run(benchmark: str) -> Mapping[str, Any]:
        if benchmark == "door":
            raise NotRun("the door is shut")
        return {"speed": 60.0}

    assert main(["--update"], run, stored) == 125
    assert capsys.readouterr().err.splitlines()[-1] == "the door is shut"
    assert read(stored) == [replace(SPEED, stored=60.0), replace(COST, benchmark="door")]


def broken(_: str) -> Mapping[str, Any]:
    raise AssertionError("nothing is to be run")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t[:-5], "stored.json is not {benchmark: {field: ratio}}: "),
        (lambda t: "[]", "stored.json is not {benchmark: {field: ratio}}: "),
        (lambda t: t.replace('"reason"', '"why"'), "stored.json is not {benchmark: {field: ratio}}: "),
        (lambda t: t.replace("50.0", "0"), "loop speed: stored must be a positive number, not 0"),
    ],
)
def test_a_broken_file_is_one_sentence(
    stored: Path, change: Callable[[str], str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stored.write_text(change(stored.read_text()))
    assert main([], broken, stored) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(sentence)


def test_an_unknown_benchmark_is_named(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coffee"], broken, stored) == 2
    assert capsys.readouterr().err == "there is no benchmark 'coffee' with stored ratios; known: loop\n"


# --- what is stored ----------------------------------------------------------------------------------------------


def without_ratios(folder: Path, ratios: list[Ratio]) -> set[str]:
    return {path.stem for path in folder.glob("*.py")} - {ratio.benchmark for ratio in ratios} - NO_RATIOS


def unprinted(folder: Path, ratios: list[Ratio]) -> list[str]:
    """Stored ratios whose benchmark does not name them; of a name that is put together, its first word counts."""
    sources = {path.stem: path.read_text() for path in folder.glob("*.py")}
    return [
        r.name
        for r in ratios
        if not re.search(rf"\b({r.field}|{r.field.split('_')[0]}_\{{)", sources[r.benchmark])
    ]


def test_every_benchmark_has_a_stored_ratio_that_it_prints(tmp_path: Path) -> None:
    folder, ratios = ROOT / "benchmarks", read()
    assert without_ratios(folder, ratios) == set()
    assert unprinted(folder, ratios) == []
    (tmp_path / "loop.py").write_text("print({'pace': 3})\n")  # controls
    assert without_ratios(tmp_path, []) == {"loop"}
    assert unprinted(tmp_path, [SPEED]) == ["loop speed"]


def test_what_is_stored_is_as_an_update_writes_it() -> None:
    assert json.loads(text(read())) == json.loads(check.STORED.read_text())
    assert text(read()) == check.STORED.read_text()
