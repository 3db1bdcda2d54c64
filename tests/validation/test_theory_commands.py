"""`tandem tile` and `tandem capacity`: figures, certificates, and bad input in one line."""

import json

import pytest

from queueing.models.iteration_time import Table
from queueing.system import System
from validation.cli import main


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and error output of a command."""
    code = 0
    try:
        main(list(arguments))
    except SystemExit as stop:
        code = int(stop.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_tile_gives_the_optimum_with_its_certificate(capsys):
    code, out, err = run(
        capsys, "tile", "--model", "mistral-7b", "--hardware", "rtx-6000-ada", "--lengths", "sharegpt", "--json",
        "--budget", "512",
    )  # fmt: skip
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["rate"] == pytest.approx(1.94, rel=0.01)
    assert found["token_budget"] == 512
    assert found["certificate"]["checked"]
    assert found["certificate"]["kind"] == "rational"
    spent = sum(b["per_second"] * b["linear_seconds"] for b in found["batches"])
    assert spent < 1
    tokens = sum(b["per_second"] * (b["prompt_tokens"] + b["decodes"]) for b in found["batches"])
    assert tokens == pytest.approx(found["tokens_per_second"])


def test_more_budget_carries_no_less(capsys):
    rates = []
    for budget in ("128", "256", "512", "1024"):
        _, out, _ = run(capsys, "tile", "--budget", budget, "--json")
        rates.append(json.loads(out)["rate"])
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(1.36, rel=0.01)
    assert rates[1] == pytest.approx(1.80, rel=0.01)
    assert rates[3] == pytest.approx(1.95, rel=0.01)


@pytest.mark.parametrize(("load", "inside"), [("1.0", True), ("1.9", True), ("2.0", False)])
def test_capacity_says_in_or_out(capsys, load, inside):
    code, out, _ = run(capsys, "capacity", "--class", f"sharegpt@{load}", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["inside"] is inside
    assert (found["theta"] >= 1) is inside
    assert ("to spare" if inside else "more than any schedule carries") in found["reason"]


def test_a_picture_of_two_classes(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "region.png"
    code, out, _ = run(
        capsys, "capacity", "--class", "sharegpt@1", "--class", "6144,128@0.2", "--plot", str(picture)
    )
    assert code == 0
    assert picture.stat().st_size > 5000
    assert "capacity of" in out


BAD = {
    "no rate": (["capacity", "--class", "sharegpt"], "LENGTHS@RATE"),
    "no number": (["capacity", "--class", "sharegpt@fast"], "LENGTHS@RATE"),
    "zero load": (["capacity", "--class", "sharegpt@0"], "not all zero"),
    "negative load": (["capacity", "--class", "sharegpt@-1"], "finite number >= 0"),
    "unknown lengths": (["tile", "--lengths", "novels"], "lengths 'novels' are not known"),
    "unknown system": (["tile", "--model", "gpt-9"], "gpt-9"),
    "budget below one": (["tile", "--budget", "0"], "budget must be a whole number"),
    "iterations out of reach": (["tile", "--tbt", "0.001"], "out of reach"),
    "no time": (["tile", "--tbt", "0"], "--tbt must be a positive"),
    "picture of one class": (
        ["capacity", "--class", "sharegpt@1", "--plot", "x.png"],
        "no picture in the plane",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(capsys, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    arguments, sentence = BAD[name]
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_table_that_falls_is_refused(capsys, tmp_path):
    """A fall of 2 % is noise of a measurement; one of a third is a mistake."""
    path = tmp_path / "falls.json"
    for seconds, wanted in ((0.0294, 0), (0.02, 2)):
        System(Table((1, 64, 65, 128), (0.03, 0.03, seconds, 0.04)), 1000, name="falls").to_file(path)
        code, _, err = run(capsys, "tile", "--system", str(path), "--budget", "128")
        assert code == wanted
    assert "iteration time falls" in err
