"""The report: one file, all published figures, results taken up only where the same sources made them."""

import dataclasses
import html
import json
import re
import sys
import types

import pytest

from queueing.data import Lacking
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim, Verdict
from validation import experiments, report
from validation.cli import main
from validation.published import figures, keys_of, published
from validation.result import Result, Row

KEY = "slai: capacity gain"


@pytest.fixture
def runs(monkeypatch):
    """Two experiments that cost nothing, and how often each was run; `broken` lacks a library."""
    monkeypatch.delenv("TANDEM_DATA", raising=False)
    count = {"one": 0, "broken": 0}

    def module(name, run):
        made = types.ModuleType(f"fake_{name}", f"The claim of {name}.\n\nMore.")
        made.run = run
        monkeypatch.setitem(sys.modules, made.__name__, made)
        monkeypatch.setitem(experiments.MODULES, name, made.__name__)

    def one(quick, out, workers, progress):
        count["one"] += 1
        progress(1, 1)
        (out / "a_figure.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
        rows = [
            Row("gain <b>", "percent", published(KEY).value, 27.5, 25.0, float("inf"), "reproduced", KEY),
            Row("other", "s", None, float("nan"), 0.0, 1.0, "not testable here"),
        ]
        return Result("one", 0.1, [0], {"python": "3"}, rows, {"table": [{"x": 1, "y": None}]}, ["a note"])

    def broken(quick, out, workers, progress):
        count["broken"] += 1
        raise Lacking("this needs a library: pip install it")

    module("one", one)
    module("broken", broken)
    return count


def gathered(tmp_path, fresh=False, quick=True):
    return report.gather(["one", "broken"], quick, tmp_path, 1, fresh, lambda name, done, total: None)


def test_what_the_same_sources_made_is_taken_up(tmp_path, runs, monkeypatch):
    first, lacking = gathered(tmp_path)
    assert (first.again, first.claim, lacking.result) == (False, "The claim of one.", None)
    assert "pip install it" in lacking.reason
    again, _ = gathered(tmp_path)
    assert again.again
    assert again.result.to_json() == first.result.to_json()
    assert runs == {"one": 1, "broken": 2}
    gathered(tmp_path, fresh=True)
    gathered(tmp_path, quick=False)
    assert runs["one"] == 3
    monkeypatch.setattr(report, "fingerprint", lambda *_: "other sources")
    assert not gathered(tmp_path)[0].again
    assert runs["one"] == 4


def test_what_other_data_libraries_or_processors_made_is_made_again(tmp_path, runs, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    (data / "lengths.csv").write_text("1,2\n")
    out = tmp_path / "out"
    out.mkdir()
    versions = dict(report._installed())

    def again():
        assert gathered(out)[0].again == gathered(out)[0].again is True  # the same environment twice
        return runs["one"]

    gathered(out)
    assert again() == 1
    monkeypatch.setenv("TANDEM_DATA", str(data))
    for count, change in enumerate(
        (
            lambda: None,
            lambda: (data / "lengths.csv").write_text("1,2\n3,4\n"),
            lambda: (data / "more.csv").write_text(""),
            lambda: monkeypatch.setattr(report, "_installed", lambda: versions | {"torch": "0.1"}),
            lambda: monkeypatch.setattr(report, "_processor", lambda: "another"),
        ),
        start=2,
    ):
        change()
        assert not gathered(out)[0].again
        assert again() == count


def test_what_is_edited_during_a_run_did_not_make_it(tmp_path, runs, monkeypatch):
    original = sys.modules["fake_one"].run

    def edited(**arguments):
        monkeypatch.setattr(report, "fingerprint", lambda *_: "edited")
        return original(**arguments)

    monkeypatch.setattr(sys.modules["fake_one"], "run", edited)
    before = report.environment()["sources"]
    assert report.make("one", True, tmp_path, 1, lambda done, total: None).versions["sources"] == before
    assert report.kept("one", True, tmp_path) is None
    assert (
        report.make("one", True, tmp_path, 1, lambda done, total: None).versions["sources"] == "edited"
    )  # control


def test_only_figures_of_the_run_are_shown(tmp_path, runs):
    gathered(tmp_path)
    (tmp_path / "one" / "of_another_size.svg").write_text("<svg/>")
    sections = gathered(tmp_path)
    assert sections[0].result.drawings == ["a_figure.svg"]
    page = report.page(sections, [], True, tmp_path, {})
    assert "a figure</figcaption>" in page
    assert "of another size" not in page
    shown = dataclasses.replace(
        sections[0].result, drawings=["a_figure.svg", "of_another_size.svg"]
    )  # control
    assert "of another size" in report.page(
        [dataclasses.replace(sections[0], result=shown)], [], True, tmp_path, {}
    )


def test_a_page_of_what_was_taken_up_is_the_page_of_what_was_made(tmp_path, runs):
    def shown():
        sections = [dataclasses.replace(section, again=False) for section in gathered(tmp_path)]
        return report.page(sections, [], True, tmp_path, {}), report.as_json(sections, [], {})

    made = shown()
    assert shown() == made
    assert runs["one"] == 1
    gathered(tmp_path, quick=False)
    assert shown()[1] == made[1]  # made a second time


def test_a_run_that_is_stopped_leaves_the_earlier_one(tmp_path, runs, monkeypatch):
    gathered(tmp_path)

    def stopped(quick, out, workers, progress):
        (out / "a_figure.svg").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["fake_one"], "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        gathered(tmp_path, quick=False)
    assert (tmp_path / "one" / "a_figure.svg").read_text() != "half"
    assert report.kept("one", True, tmp_path) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "one"]


@pytest.mark.parametrize(
    "problem",
    [ValueError("a bug"), ChildProcessError("workers died"), FileNotFoundError("gone"), KeyError("x")],
)
def test_an_error_is_a_section_that_failed_and_not_one_that_lacks_something(
    tmp_path, runs, monkeypatch, capsys, problem
):
    def failing(quick, out, workers, progress):
        raise problem

    monkeypatch.setattr(sys.modules["fake_broken"], "run", failing)
    arguments = ["report", "broken", "one", "--quick", "--no-claims", "--out", str(tmp_path)]
    assert _exit(arguments) == 1
    assert f"broken: failed: {type(problem).__name__}" in capsys.readouterr().out
    assert f"Failed: {type(problem).__name__}" in (tmp_path / "report.html").read_text()
    assert runs["one"] == 1  # the others go on


def test_an_interrupt_says_what_is_kept(tmp_path, runs, monkeypatch, capsys):
    def stopped(quick, out, workers, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["fake_broken"], "run", stopped)
    assert _exit(["report", "one", "broken", "--quick", "--no-claims", "--out", str(tmp_path)]) == 130
    said = capsys.readouterr().err
    assert f"stay in {tmp_path}" in said
    assert "nothing was written" not in said
    assert report.kept("one", True, tmp_path) is not None


@pytest.mark.parametrize("text", ["", '{"name": "one"', '{"name": "one"}', "[]", '{"rows": [{"colour": 1}]}'])
def test_a_result_that_is_half_there_is_made_again(tmp_path, runs, text):
    gathered(tmp_path)
    (tmp_path / "one" / "one.json").write_text(text)
    assert report.kept("one", True, tmp_path) is None
    assert not gathered(tmp_path)[0].again


def test_every_published_figure_has_rows_or_a_reason(tmp_path, runs):
    found = {answer.figure.key: answer for answer in report.answers(gathered(tmp_path))}
    assert found.keys() == figures().keys()
    assert [row.ours for row in found[KEY].rows] == [27.5]
    for key, answer in found.items():
        assert (len(answer.rows) > 0) == (key == KEY)
        assert bool(answer.reason) == (key != KEY)
    other = next(iter(keys_of("slai") - {KEY}))
    assert found[other].reason == "its experiment is not part of this run"


def test_the_page_is_one_file_with_everything_in_it(tmp_path, runs):
    claim = Claim("a-claim", "it holds & more", "folklore", Kind.TESTED, where="tests")
    verdict = Verdict(claim, None, 0.0, 0, {})
    page = report.page(gathered(tmp_path), [verdict], True, tmp_path, {"python": "3"})
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", page)  # nothing from elsewhere
    assert 'src="data:image/svg+xml;base64,' in page
    assert "gain &lt;b&gt;" in page  # text is text, whatever it says
    for text in ("27.5", "∞", "a note", "pip install it", "it holds & more", *figures()):
        assert text in html.unescape(page)
    elsewhere = page.replace("data:image/svg+xml;base64,", "https://example.org/")  # control
    assert re.findall(r"(?:src|href)=\"(?!#|data:)", elsewhere)


def test_the_command_writes_page_and_json(tmp_path, runs, capsys):
    out = tmp_path / "results"
    assert _exit(["report", "one", "broken", "--quick", "--no-claims", "--out", str(out)]) == 0
    assert "broken: not run: this needs a library" in capsys.readouterr().out
    assert (out / "report.html").read_text().startswith("<!doctype html>")
    assert json.loads((out / "report.json").read_text())["experiments"]["one"]["quick"] is True
    assert _exit(["report", "one", "--quick", "--no-claims", "--json", "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["claims"] == []
    assert runs["one"] == 1


def test_bad_input_gets_one_sentence_and_nothing_is_run(tmp_path, runs, capsys):
    assert _exit(["report", "one", "nothing", "--out", str(tmp_path / "r")]) == 2
    assert "there is no experiment 'nothing'; known:" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
    (tmp_path / "file").write_text("mine")
    assert _exit(["report", "one", "--out", str(tmp_path / "file")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"
    assert runs["one"] == 0


def _exit(arguments):
    try:
        main(arguments)
    except SystemExit as stop:
        return stop.code or 0
    return 0
