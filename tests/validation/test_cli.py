"""The command line: figures on good input, one line and exit code 2 on bad input, nothing half-written."""

import json

import pytest

from queueing.trace_io import load
from validation.cli import main

SMALL = ["--requests", "40", "--rate", "2", "--lengths", "64,8"]


def run(capsys, *arguments):
    """Run `tandem`; return (exit code, standard output, standard error)."""
    code = 0
    try:
        main(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_simulate_prints_one_json_object(capsys):
    code, out, _ = run(capsys, "simulate", "--policy", "rad", *SMALL, "--json")
    read = json.loads(out)
    assert code == 0
    assert read["figures"]["finished"] == {"value": 40.0, "unit": "1"}
    assert read["figures"]["ttft, median"]["unit"] == "s"


def test_the_same_seed_gives_the_same_figures_and_another_does_not(capsys):
    first, again, other = (
        json.loads(run(capsys, "simulate", *SMALL, "--seed", seed, "--json")[1])["figures"] for seed in "112"
    )
    assert first == again != other


def test_compare_sets_policies_side_by_side(capsys):
    policies = ("sarathi", "sarathi:token_budget=64,order=spf", "slai")
    options = [part for policy in policies for part in ("--policy", policy)]
    code, out, _ = run(capsys, "compare", *options, *SMALL, "--json")
    assert code == 0
    assert tuple(json.loads(out)) == policies
    assert "ttft, median" in run(capsys, "compare", *options, *SMALL)[1]


@pytest.mark.parametrize("suffix", ["json", "csv"])
def test_a_saved_trace_can_be_loaded(capsys, tmp_path, suffix):
    path = tmp_path / f"run.{suffix}"
    assert run(capsys, "simulate", *SMALL, "--out", str(path))[0] == 0
    assert load(path).finished.all()


def test_a_trace_of_ones_own(capsys, tmp_path):
    path = tmp_path / "requests.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,100,5\n0.5,20,3\n")
    code, out, _ = run(capsys, "simulate", "--trace", str(path), "--json")
    assert code == 0
    assert json.loads(out)["figures"]["requests"]["value"] == 2


def test_several_nodes_behind_a_router(capsys):
    arguments = ["simulate", *SMALL, "--nodes", "2", "--router", "join-shortest-queue", "--json"]
    assert json.loads(run(capsys, *arguments)[1])["meta"]["nodes"] == 2


def test_experiments_are_listed(capsys):
    assert "slai" in json.loads(run(capsys, "experiment", "list", "--json")[1])


def test_no_arguments_show_the_help(capsys):
    code, out, _ = run(capsys)
    assert code == 0
    assert "simulate" in out


HEADER = "arrival_s,prompt_tokens,output_tokens\n"
BAD_TRACES = {
    "negative length": (HEADER + "0,-5,3\n", "prompt"),
    "zero length": (HEADER + "0,5,0\n", "output"),
    "NaN length": (HEADER + "0,nan,3\n", "prompt"),
    "fractional length": (HEADER + "0,2.5,3\n", "prompt"),
    "unsorted arrivals": (HEADER + "2,5,3\n1,5,3\n", "arrival"),
    "negative arrival": (HEADER + "-1,5,3\n", "arrival"),
    "no requests": (HEADER, "empty"),
    "no header": ("", "empty"),
    "unknown column": ("arrival_s,prompt_tokens,output_tokens,colour\n0,5,3,red\n", "colour"),
    "missing column": ("arrival_s,prompt_tokens\n0,5\n", "output_tokens"),
    "a word for a number": (HEADER + "0,five,3\n", "five"),
}


@pytest.mark.parametrize("name", BAD_TRACES)
def test_a_bad_trace_is_one_clear_line_and_writes_nothing(capsys, tmp_path, name):
    text, word = BAD_TRACES[name]
    trace, out = tmp_path / "requests.csv", tmp_path / "out.json"
    trace.write_text(text)
    code, printed, error = run(capsys, "simulate", "--trace", str(trace), "--out", str(out))
    assert code == 2
    assert printed == ""
    assert error.startswith("tandem: ")
    assert error.count("\n") == 1
    assert word in error
    assert sorted(tmp_path.iterdir()) == [trace]


BAD_OPTIONS = {
    "unknown policy": (["--policy", "fastest"], "sarathi"),
    "unknown parameter": (["--policy", "sarathi:speed=9"], "token_budget"),
    "budget below one": (["--policy", "sarathi:token_budget=0"], "token_budget"),
    "parameter not a number": (["--policy", "sarathi:token_budget=many"], "integer"),
    "unknown lengths": (["--lengths", "long"], "sharegpt"),
    "unknown format": (["--trace", "x.csv", "--format", "xml"], "azure"),
    "missing file": (["--trace", "missing.csv"], "missing.csv"),
    "zero rate": (["--rate", "0"], "rate"),
    "unknown system": (["--system", "gpt-9/abacus"], "mistral-7b"),
    "nodes without a router": (["--nodes", "2"], "router"),
    "unknown router": (["--nodes", "2", "--router", "best"], "round_robin"),
    "no nodes": (["--nodes", "0"], "nodes"),
    "class that is none": (["--class", "half"], "SHARE:TBT_S"),
    "class of too many parts": (["--class", "1:0.1:1:2"], "4 parts"),
    "negative seed": (["--seed", "-1"], "--seed"),
    "more requests than memory": (["--requests", "100000001"], "at most 100000000"),
    "more requests than numbers": (["--requests", "9" * 30], "at most 100000000"),
    "shares that do not add up": (["--class", "0.5:0.1"], "add up"),
    "unknown form of trace": (["--out", "trace.xml"], ".json"),
    "unknown option": (["--speed", "9"], "--speed"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_a_bad_option_is_one_clear_line(capsys, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    options, word = BAD_OPTIONS[name]
    code, out, error = run(capsys, "simulate", "--requests", "5", *options)
    assert code == 2
    assert out == ""
    assert error.startswith("tandem: ")
    assert error.count("\n") == 1
    assert word in error
    assert list(tmp_path.iterdir()) == []


def test_a_prompt_larger_than_the_memory_is_rejected_and_counted(capsys, tmp_path):
    path = tmp_path / "requests.csv"
    path.write_text(HEADER + "0,100,5\n0,9000,5\n")
    figures = json.loads(run(capsys, "simulate", "--trace", str(path), "--json")[1])["figures"]
    assert (figures["rejected"]["value"], figures["finished"]["value"]) == (1, 1)


def test_an_interrupt_says_so_and_writes_nothing(capsys, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("validation.cli.simulate", interrupted)
    code, _, error = run(capsys, "simulate", *SMALL, "--out", str(tmp_path / "run.json"))
    assert code == 130
    assert "interrupted" in error
    assert list(tmp_path.iterdir()) == []
