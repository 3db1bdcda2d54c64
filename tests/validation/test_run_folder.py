"""Runs in files on the command line: the same figures, nothing begun in vain, and what stays of them is said."""

from __future__ import annotations

import gzip
import json
from contextlib import contextmanager

import numpy as np
import polars
import pytest

from queueing.workload import Workload
from queueing.workload_files import stored
from validation import cli

SMALL = ["--requests", "40", "--rate", "2", "--lengths", "64,8"]


def run(capsys, *arguments):
    """Run `tandem simulate`; return (exit code, standard output, standard error)."""
    code = 0
    try:
        cli.main(["simulate", *map(str, arguments)])
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys, *arguments):
    """The one line that a bad call ends in."""
    code, out, said = run(capsys, *arguments)
    assert (code, out, said.count("\n")) == (2, "", 1)
    return said


@pytest.fixture
def requests(tmp_path):
    """A file of requests."""
    path = tmp_path / "requests.csv"
    Workload(np.arange(300) / 10, np.full(300, 100), np.full(300, 5)).write_csv(path)
    return path


@pytest.fixture
def interrupted(monkeypatch):
    """Ctrl-C when a simulation first tells how far it is."""

    @contextmanager
    def bar(title):
        def stop(done, total):
            raise KeyboardInterrupt

        yield stop

    monkeypatch.setattr(cli, "progress_bar", bar)


def figures(capsys, *arguments):
    code, out, _ = run(capsys, *arguments, "--json")
    assert code == 0
    return json.loads(out)["figures"]


def test_tables_in_files_change_no_figure(capsys, tmp_path, requests):
    for name, source in (("trace", ["--trace", requests]), ("drawn", SMALL)):
        folder = tmp_path / name
        assert figures(capsys, *source, "--folder", folder) == figures(capsys, *source)
        assert (folder / "run" / "iterations.seconds.npy").is_file()
        assert "name a new" in refused(capsys, *source, "--folder", folder)
    assert figures(capsys, *SMALL, "--seed", 1) != figures(capsys, *SMALL)  # control


BAD = {
    "policy": (["--policy", "sarathy"], "sarathy"),
    "setting of a policy": (["--policy", "sarathi:speed=9"], "speed"),
    "system": (["--system", "gpt-2/abacus"], "gpt-2"),
    "router": (["--nodes", "2", "--router", "random-walk"], "random-walk"),
    "router that is missing": (["--nodes", "2"], "need a router"),
    "horizon": (["--horizon", "-1"], "horizon must be positive"),
    "rate": (["--rate", "2"], "leave out --rate"),
    "form of trace": (["--out", "run.xlsx"], ".parquet"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_option_is_known_before_anything_is_stored(capsys, tmp_path, requests, name):
    """The same call without it does store: the control."""
    options, word = BAD[name]
    call = ["--trace", requests, "--folder", tmp_path / "new"]
    assert word in refused(capsys, *call, *options)
    assert not (tmp_path / "new").exists()
    assert run(capsys, *call)[0] == 0
    assert stored(tmp_path / "new" / "workload") == Workload.read_csv(requests)


def test_a_file_is_refused_in_the_words_that_it_is_refused_in_without_a_folder(capsys, tmp_path):
    path = tmp_path / "requests.csv"
    header = "arrival_s,prompt_tokens,output_tokens\n"
    for text in ("", header, header + "0,1_0,3\n", header + "0,3\n", "client," + header + "0,0,3\n"):
        path.write_text(text)
        said = refused(capsys, "--trace", path, "--folder", tmp_path / "new")
        assert said == refused(capsys, "--trace", path)
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("form", ["csv.gz", "parquet"])
def test_a_damaged_trace_is_named_and_leaves_nothing(capsys, tmp_path, requests, form):
    path = tmp_path / f"whole.{form}"
    if form == "parquet":
        polars.read_csv(requests).write_parquet(path)
    else:
        path.write_bytes(gzip.compress(requests.read_bytes()))
    damaged = tmp_path / f"cut.{form}"
    damaged.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert str(damaged) in refused(capsys, "--trace", damaged, "--folder", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert run(capsys, "--trace", path, "--folder", tmp_path / "new")[0] == 0  # control


def test_ctrl_c_says_what_stays_and_the_command_it_names_goes_on(
    capsys, tmp_path, requests, interrupted, monkeypatch
):
    folder = tmp_path / "new"
    code, out, said = run(capsys, "--trace", requests, "--folder", folder)
    assert (code, out) == (130, "")
    again = f"--trace {folder / 'workload'} --folder {folder}"
    assert (
        said == f"tandem: interrupted; {folder / 'workload'} stays; go on with {again}, or remove {folder}\n"
    )
    assert [path.name for path in folder.iterdir()] == ["workload"]
    assert run(capsys, *again.split())[::2] == (130, said)  # and once more
    assert again.partition(" --folder")[0] in refused(capsys, "--trace", requests, "--folder", folder)
    monkeypatch.undo()
    assert figures(capsys, *again.split()) == figures(capsys, "--trace", requests)


def test_ctrl_c_after_the_run_says_where_its_tables_are(capsys, tmp_path, requests, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    folder = tmp_path / "new"
    place, kept = folder / "run", folder / "workload"
    monkeypatch.setattr(cli.metrics, "summary", stop)
    code, _, said = run(capsys, "--trace", requests, "--folder", folder)
    assert code == 130
    assert said == (
        f"tandem: interrupted; {kept} and {place} stay; remove {place} to run again, and go on with "
        f"--trace {kept} --folder {folder}, or remove {folder}\n"
    )
    code, _, said = run(capsys, *SMALL, "--folder", tmp_path / "drawn")
    place = tmp_path / "drawn" / "run"
    assert said == (
        f"tandem: interrupted; {place} stays; remove {place} to run again, or remove {tmp_path / 'drawn'}\n"
    )


def test_ctrl_c_before_anything_is_kept_says_so(capsys, tmp_path, interrupted):
    assert run(capsys, *SMALL, "--folder", tmp_path / "new") == (
        130, "", "tandem: interrupted; nothing was written\n",
    )  # fmt: skip
    assert not (tmp_path / "new").exists()


def test_a_run_that_fails_says_what_stays(capsys, tmp_path, requests, monkeypatch):
    def fail(*_):
        raise OSError("no more room")

    monkeypatch.setattr(cli, "save", fail)
    code, _, said = run(
        capsys, "--trace", requests, "--folder", tmp_path / "new", "--out", tmp_path / "x.json"
    )
    told, why = said.splitlines()
    assert (code, why) == (2, "tandem: no more room")
    assert f"{tmp_path / 'new' / 'workload'} and {tmp_path / 'new' / 'run'} stay" in told
