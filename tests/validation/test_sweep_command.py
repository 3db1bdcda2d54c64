"""`tandem sweep`: one table whoever computes it, whatever is killed, and nothing lost to bad input.

Processes are really killed: workers and the command itself by SIGKILL, the command by Ctrl-C.  What makes these tests
sure is that points are counted on disk before and after, not that they are timed.
"""

import dataclasses
import doctest
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from queueing.lengths import Fixed, Independent
from tests.validation.mortal import dies_always, dies_once
from validation import executors, sweep_folder, sweep_point, sweep_run
from validation.cli import main
from validation.executors import PATIENCE, each
from validation.sources import files_of, fingerprint
from validation.sweep import Records
from validation.sweep_commands import seeds_of
from validation.sweep_point import Outcome, Point
from validation.sweep_run import sweep

SYSTEM = "mistral-7b/rtx-6000-ada"
BASE = Point("sarathi", 1.5, SYSTEM, 0, lengths="64,8", requests=60)
GRID = [
    dataclasses.replace(BASE, policy=policy, rate=rate, seed=seed)
    for policy, rate, seed in product(["sarathi", "vllm"], [1.0, 40.0], [0, 1])
]
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="ray is not installed: pip install 'tandem-queueing[scale]'",
)
PROGRAM = [sys.executable, "-c", "from validation.cli import main; main()"]
LONG = ["sweep", "--policy", "sarathi", "--rate", "1.2", "--seed", "0-11", "--requests", "8000", "--json"]


def run(capsys, *arguments):
    """Run `tandem`; return (exit code, standard output, standard error)."""
    code = 0
    try:
        main(list(map(str, arguments)))
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def contents(folder):
    """Bytes of every file below a folder, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def births(folder):
    """Inode and time of every point's file: a file that was written again has another."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (folder / "points").iterdir()
    }


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    """The grid, computed one after the other in this process."""
    return sweep(GRID, tmp_path_factory.mktemp("serial") / "sweep", executor="serial")


@pytest.fixture(scope="module")
def cluster():
    """One Ray on the loopback for all tests, started as the command starts it."""
    executors.require("ray")  # before Ray is imported: this keeps it on the loopback
    ray = importlib.import_module("ray")
    executors._start(ray, 2, None)
    yield ray
    ray.shutdown()


# --- the figures


def test_a_point_is_simulate_with_the_same_options(capsys, serial):
    for record in serial.records[::3]:
        options = ["--policy", record["policy"], "--rate", record["rate"], "--seed", record["seed"]]
        _, out, _ = run(capsys, "simulate", *options, "--lengths", "64,8", "--requests", 60, "--json")
        figures = {name: figure["value"] for name, figure in json.loads(out)["figures"].items()}
        assert figures == {name: record[name] for name in figures}
        units = {name: figure["unit"] for name, figure in json.loads(out)["figures"].items()}
        assert units == {name: serial.units[name] for name in units}


def test_policies_meet_the_same_requests_and_another_load_only_scales_their_times():
    here, faster, elsewhere, other = (
        dataclasses.replace(BASE, **change).workload()
        for change in (
            {"policy": "vllm"}, {"rate": 3.0}, {"system": "llama-3-8b/a100"}, {"seed": 1},
        )
    )  # fmt: skip
    base = BASE.workload()
    for same in (here, elsewhere):
        assert np.array_equal(base.arrival, same.arrival)
        assert np.array_equal(base.prompt, same.prompt)
    assert np.allclose(base.arrival, 2 * faster.arrival, rtol=1e-12)
    assert not np.allclose(base.arrival, other.arrival)  # control: another seed draws others


def test_the_table_holds_the_records_and_no_clock(serial):
    polars = pytest.importorskip("polars")
    frame = polars.read_parquet(serial.table)
    assert frame.height == len(GRID) == len(set(GRID))
    assert frame.columns == list(serial.records[0])
    keys = [tuple(row[name] for name in ("policy", "rate", "system", "seed")) for row in frame.to_dicts()]
    assert keys == sorted(keys)
    for name in frame.columns:
        there = [record[name] for record in serial.records]
        if frame[name].dtype == polars.Float64:  # nan, no figure, stands as null
            assert np.array_equal(frame[name].cast(polars.Float64).fill_null(np.nan), there, equal_nan=True)
        else:
            assert frame[name].to_list() == there
    assert Records(serial.records).where(policy="vllm", rate=1.0).values("finished") == {0: 60.0, 1: 60.0}


# --- the same bytes, whoever computes them


def test_the_order_and_the_number_of_namings_do_not_matter(serial, tmp_path):
    again = sweep([*reversed(GRID), GRID[3]], tmp_path / "sweep", executor="serial")
    assert again.table.read_bytes() == serial.table.read_bytes()
    assert again.computed == len(GRID)
    other = sweep(
        [dataclasses.replace(point, seed=point.seed + 1) for point in GRID],
        tmp_path / "other",
        executor="serial",
    )
    assert other.table.read_bytes() != serial.table.read_bytes()  # control: the bytes know the seeds


def test_joblib_gives_the_same_bytes(serial, tmp_path):
    assert sweep(GRID, tmp_path / "sweep").table.read_bytes() == serial.table.read_bytes()


@needs_ray
def test_ray_gives_the_same_bytes(serial, tmp_path, cluster):
    found = sweep(GRID, tmp_path / "sweep", executor="ray")
    assert found.table.read_bytes() == serial.table.read_bytes()
    assert found.computed == len(GRID)


@needs_ray
def test_a_running_cluster_is_asked_by_its_address(serial, tmp_path, cluster):
    address = cluster.get_runtime_context().gcs_address
    assert address.startswith("127.0.0.1:")
    out = tmp_path / "sweep"
    options = [part for policy in ("sarathi", "vllm") for part in ("--policy", policy)]
    options += ["--rate", "1", "--rate", "40", "--seed", "0-1", "--lengths", "64,8", "--requests", "60"]
    command = [*PROGRAM, "sweep", *options, "--out", str(out), "--executor", "ray", "--ray-address", address]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert (out / "table.parquet").read_bytes() == serial.table.read_bytes()
    assert cluster.is_initialized()
    assert cluster.cluster_resources()["CPU"] == 2  # it was joined, and still stands


def test_a_table_with_another_figure_has_other_bytes(serial, tmp_path):
    polars = pytest.importorskip("polars")
    frame = polars.read_parquet(serial.table)
    bent = frame.with_columns(polars.col("throughput") * (1 + 2**-52))
    bent.write_parquet(tmp_path / "bent.parquet")
    frame.write_parquet(tmp_path / "same.parquet")
    assert (tmp_path / "same.parquet").read_bytes() == serial.table.read_bytes()
    assert (tmp_path / "bent.parquet").read_bytes() != serial.table.read_bytes()


# --- taken up again


def test_only_what_is_missing_or_damaged_is_done_again(serial, tmp_path):
    out = tmp_path / "sweep"
    first = sweep(GRID, out, executor="serial")
    before = births(out)
    assert sweep(GRID, out, executor="serial").computed == 0
    assert births(out) == before  # control: what is whole is left alone
    absent, cut, empty, foreign, bent = (out / "points" / name for name in sorted(before)[:5])
    whole = cut.read_bytes()
    absent.unlink()
    cut.write_bytes(whole[: len(whole) // 2])
    empty.write_bytes(b"")
    foreign.write_bytes(whole)
    bent.write_text(bent.read_text().replace('"figures": {', '"figures": [').replace("},", "],", 1))
    first.table.write_bytes(first.table.read_bytes()[:100])
    found = sweep(GRID, out, executor="serial")
    assert found.computed == 5
    assert found.table.read_bytes() == serial.table.read_bytes()
    after = births(out)
    assert {name for name in after if after[name] != before[name]} == {
        path.name for path in (absent, cut, empty, foreign, bent)
    }


def test_any_part_of_a_points_file_is_none(serial, tmp_path):
    """No prefix of the file counts as finished: the object of JSON ends with its last byte."""
    out = tmp_path / "sweep"
    sweep([BASE], out, executor="serial")
    (path,) = (out / "points").iterdir()
    folder = sweep_folder.SweepFolder(out, [BASE], {SYSTEM: sweep_run.system_of(SYSTEM)})
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert folder.missing() == [BASE]
    path.write_bytes(whole)
    assert folder.missing() == []  # control


def test_figures_that_are_not_finite_come_back(tmp_path):
    folder = sweep_folder.SweepFolder(tmp_path / "sweep", [BASE], {})
    figures = {"a": float("nan"), "b": float("inf"), "c": -0.1, "d": float("-inf")}
    folder.keep(BASE, Outcome(figures, dict.fromkeys(figures, "s"), 1.0))
    (row,), units, seconds = folder.records()
    assert np.array_equal([row[name] for name in figures], list(figures.values()), equal_nan=True)
    assert (units, seconds) == (dict.fromkeys(figures, "s"), 1.0)


# --- killed


def test_a_dead_worker_costs_what_it_had_in_hand(tmp_path):
    items = [(str(tmp_path), k) for k in range(12)]
    results = list(each(dies_once, items))
    assert (tmp_path / "died").exists()
    assert sorted(results) == [(k, k * k) for k in range(12)]  # each once


def test_workers_that_die_again_and_again_are_one_sentence_and_the_others_are_done(tmp_path):
    results = each(dies_always, [(str(tmp_path), k) for k in range(12)])
    done = []
    with pytest.raises(ChildProcessError, match=f"died {PATIENCE} times in a row"):
        done.extend(results)
    assert sorted(done) == [(k, k * k) for k in sorted({k for k, _ in done})]
    assert 3 not in dict(done)


@needs_ray
def test_a_dead_worker_of_ray_costs_what_it_had_in_hand(tmp_path, cluster):
    items = [(str(tmp_path), k) for k in range(6)]
    results = list(each(dies_once, items, executor="ray"))
    assert (tmp_path / "died").exists()
    assert sorted(results) == [(k, k * k) for k in range(6)]


@needs_ray
def test_ray_gives_up_on_work_that_kills_every_worker(cluster):
    with pytest.raises(ChildProcessError, match=f"died {PATIENCE} times"):
        list(each(dies_always, [("", 3)], executor="ray"))


@needs_ray
def test_nobody_at_the_address_is_a_sentence():
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    began = time.monotonic()
    with pytest.raises(ConnectionError, match="no Ray cluster to reach at"):
        executors._start(importlib.import_module("ray"), 2, f"127.0.0.1:{port}")
    assert time.monotonic() - began < 10


@needs_ray
def test_an_error_in_ray_is_the_error_itself(cluster):
    with pytest.raises(ValueError, match="invalid literal"):
        list(each(int, ["1", "one"], executor="ray"))


def started(out):
    """`tandem sweep` over twelve points in a process group of its own, when at least two points are on disk."""
    process = subprocess.Popen(
        [*PROGRAM, *LONG, "--out", str(out)],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while len(list(out.glob("points/*.json"))) < 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    return process


def workers_of(process):
    """Process ids of its workers, as the kernel lists its children."""
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    children = [pid for thread in threads for pid in (thread / "children").read_text().split()]
    return [int(pid) for pid in children if b"popen_loky" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Bytes of the table of the twelve points that nobody disturbed."""
    points = [Point("sarathi", 1.2, SYSTEM, seed, requests=8000) for seed in range(12)]
    return sweep(points, tmp_path_factory.mktemp("long") / "sweep", executor="serial").table.read_bytes()


linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="workers are found through /proc")


@linux
def test_kill_9_of_a_worker_loses_and_doubles_no_point(undisturbed, tmp_path):
    out = tmp_path / "sweep"
    process = started(out)
    victim, *_ = workers_of(process)
    os.kill(victim, signal.SIGKILL)
    before = births(out)
    printed, error = process.communicate(timeout=100)
    assert process.returncode == 0, error
    assert len(before) < 12  # it died in the middle
    assert json.loads(printed)["computed"] == 12
    assert (out / "table.parquet").read_bytes() == undisturbed
    assert {name: born for name, born in births(out).items() if name in before} == before


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill -9 of everything", "Ctrl-C"])
def test_a_stopped_sweep_goes_on_where_it_was(capsys, undisturbed, tmp_path, number):
    out = tmp_path / "sweep"
    process = started(out)
    os.killpg(process.pid, number)
    printed, error = process.communicate(timeout=60)
    before = births(out)
    finished = {name for name in before if name.endswith(".json") and not name.startswith(".")}
    assert 2 <= len(finished) < 12
    assert printed == b""
    assert not (out / "table.parquet").exists()
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert error.decode() == (
            f"tandem: interrupted; {len(finished)} of 12 points are kept in {out}, and the same command again "
            "does the others\n"
        )
    code, again, _ = run(capsys, *LONG, "--executor", "serial", "--out", out)
    assert code == 0
    assert json.loads(again)["computed"] == 12 - len(finished)
    assert (out / "table.parquet").read_bytes() == undisturbed
    after = births(out)
    assert all(after[name] == before[name] for name in finished)


# --- bad input: one sentence, nothing lost


def swept(capsys, out, *options):
    """A small sweep by the command line."""
    base = [
        "--policy",
        "sarathi",
        "--rate",
        "2",
        "--lengths",
        "64,8",
        "--requests",
        "40",
        "--executor",
        "serial",
    ]
    return run(capsys, "sweep", *base, *options, "--out", out, "--json")


def one_sentence(error, *words):
    assert error.startswith("tandem: ")
    assert error.count("\n") == 1
    assert all(word in error for word in words)


def test_a_folder_of_another_sweep_is_left_alone(capsys, tmp_path):
    out = tmp_path / "sweep"
    assert swept(capsys, out)[0] == 0
    before = contents(out)
    for options, word in (
        (["--seed", "0-1"], "seed"),
        (["--rate", "3"], "rate"),
        (["--requests", "41"], "requests"),
    ):
        code, printed, error = swept(capsys, out, *options)
        assert (code, printed) == (2, "")
        one_sentence(error, "another sweep", word, "give another --out, or remove the folder")
        assert contents(out) == before
    assert json.loads(swept(capsys, out)[1])["computed"] == 0  # control: the same sweep is welcome


def test_a_folder_made_by_other_sources_is_left_alone(capsys, tmp_path, monkeypatch):
    out = tmp_path / "sweep"
    assert swept(capsys, out)[0] == 0
    before = contents(out)
    with monkeypatch.context() as edited:
        edited.setattr(sweep_folder, "made_by", lambda: "0123456789abcdef")
        code, _, error = swept(capsys, out)
    assert code == 2
    one_sentence(error, "other sources", "give another --out, or remove the folder")
    assert contents(out) == before
    assert json.loads(swept(capsys, out)[1])["computed"] == 0  # control: unedited, it is taken up


def test_a_system_file_that_changed_makes_another_sweep(capsys, tmp_path):
    file, out = tmp_path / "mine.json", tmp_path / "sweep"
    law = {"law": "TileLaw", "tile": 128, "tile_time": 4e-3, "per_token": 5e-6}
    file.write_text(json.dumps({"iteration_time": law, "blocks": 1000}))
    assert swept(capsys, out, "--system", file)[0] == 0
    assert swept(capsys, out, "--system", file)[0] == 0
    file.write_text(json.dumps({"iteration_time": law, "blocks": 999}))
    code, _, error = swept(capsys, out, "--system", file)
    assert code == 2
    one_sentence(error, "systems whose files have changed")


def test_another_list_of_lengths_makes_another_sweep(capsys, tmp_path, monkeypatch):
    """A list in the folder TANDEM_DATA stands before the shipped table; here one law for another stands for that."""
    out = tmp_path / "sweep"
    assert swept(capsys, out)[0] == 0
    before = contents(out)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(sweep_point, "lengths_of", lambda text: Independent(Fixed(64), Fixed(9)))
        code, _, error = swept(capsys, out)
    assert code == 2
    one_sentence(error, "another list of lengths", "TANDEM_DATA")
    assert contents(out) == before
    assert json.loads(swept(capsys, out)[1])["computed"] == 0  # control: the same list is welcome


def test_a_sweep_stopped_before_it_said_what_it_is_goes_on(capsys, tmp_path):
    out = tmp_path / "sweep"
    (out / "points").mkdir(parents=True)
    assert swept(capsys, out)[0] == 0
    other = tmp_path / "other"
    (other / "points").mkdir(parents=True)
    (other / "points" / "mine.txt").write_text("ten years")  # control
    assert swept(capsys, other)[0] == 2


def test_a_folder_that_is_no_sweep_is_left_alone(capsys, tmp_path):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.tex").write_text("ten years")
    code, _, error = swept(capsys, out)
    assert code == 2
    one_sentence(error, "other things than a sweep")
    assert contents(out) == {"thesis.tex": b"ten years"}


@pytest.mark.parametrize("text", ["", '{"format": "tandem sw', "[1]", '{"format": "other"}'])
def test_a_damaged_head_is_a_sentence_and_keeps_the_points(capsys, tmp_path, text):
    out = tmp_path / "sweep"
    assert swept(capsys, out)[0] == 0
    (out / "sweep.json").write_text(text)
    before = contents(out)
    code, _, error = swept(capsys, out)
    assert code == 2
    one_sentence(error, "sweep.json cannot be read")
    assert contents(out) == before


def test_a_folder_that_cannot_be_written_is_known_before_the_work(capsys, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(sweep_run, "each", lambda *given, **options: calls.append(given) or iter(()))
    (tmp_path / "file").write_text("mine")
    for out, word in ((tmp_path / "file", "is a file"), (tmp_path / "file" / "sweep", "cannot be written")):
        code, _, error = swept(capsys, out)
        assert code == 2
        one_sentence(error, word)
    assert calls == []
    assert contents(tmp_path) == {"file": b"mine"}
    swept(capsys, tmp_path / "sweep")
    assert len(calls) == 1  # control: where it can be written, the work begins


@pytest.mark.parametrize(
    ("module", "options", "word"),
    [
        ("ray", ["--executor", "ray"], "pip install 'tandem-queueing[scale]'"),
        ("joblib", ["--executor", "joblib"], "pip install joblib"),
        ("polars", [], "pip install 'tandem-queueing[tables]'"),
    ],
)
def test_what_is_not_installed_is_named_before_the_work(capsys, tmp_path, monkeypatch, module, options, word):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not there
    code, printed, error = swept(capsys, tmp_path / "sweep", *options)
    assert (code, printed) == (2, "")
    one_sentence(error, word)
    assert list(tmp_path.iterdir()) == []


BAD_OPTIONS = {
    "unknown executor": (["--executor", "slurm"], "joblib, ray, serial"),
    "an address for joblib": (["--ray-address", "10.0.0.1:6379"], "--executor ray"),
    "no workers": (["--workers", "0"], "--workers"),
    "unknown policy": (["--policy", "fastest"], "sarathi"),
    "unknown system": (["--system", "gpt-9/abacus"], "mistral-7b"),
    "a rate of nothing": (["--rate", "0"], "positive"),
    "an endless rate": (["--rate", "inf"], "positive"),
    "no requests": (["--requests", "0"], "requests"),
    "nodes without a router": (["--nodes", "2"], "router"),
    "unknown router": (["--nodes", "2", "--router", "best"], "round_robin"),
    "unknown lengths": (["--lengths", "long"], "sharegpt"),
    "a class that is none": (["--class", "half"], "SHARE:TBT_S"),
    "a seed that is none": (["--seed", "-1"], "0-9"),
    "a range backwards": (["--seed", "9-0"], "0-9"),
    "a range without end": (["--seed", "0-99999999999999"], "points at most"),
    "too many points": (["--seed", "0-999999", "--rate", "3"], "make several"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_a_bad_option_is_one_sentence_and_leaves_no_folder(capsys, tmp_path, name):
    options, word = BAD_OPTIONS[name]
    code, printed, error = swept(capsys, tmp_path / "sweep", *options)
    assert (code, printed) == (2, "")
    one_sentence(error, word)
    assert list(tmp_path.iterdir()) == []


def test_other_sources_in_a_worker_are_a_sentence():
    work = partial(
        sweep_run._outcome,
        systems={SYSTEM: sweep_run.system_of(SYSTEM)},
        sources=sweep_point.made_by(),
        laws={BASE.lengths: sweep_point.drawn(BASE.lengths)},
    )
    assert len(list(each(work, [BASE], executor="serial"))) == 1  # control
    with pytest.raises(ValueError, match="install the same version everywhere"):
        list(each(partial(work, sources="0123456789abcdef"), [BASE], executor="serial"))
    with pytest.raises(ValueError, match="give both the same TANDEM_DATA"):
        list(each(partial(work, laws={BASE.lengths: "0123456789abcdef"}), [BASE], executor="serial"))


def test_a_point_that_fails_is_named_and_the_finished_ones_stay(capsys, tmp_path, monkeypatch):
    def failing(point, systems, sources, laws):
        if point.seed == 1:
            raise ValueError(f"{point}: no")
        return Outcome({"ttft, median": 1.0}, {"ttft, median": "s"}, 0.0)

    monkeypatch.setattr(sweep_run, "_outcome", failing)
    code, _, error = swept(capsys, tmp_path / "sweep", "--seed", "0-2")
    assert code == 2
    one_sentence(error, "seed=1")
    assert len(births(tmp_path / "sweep")) == 1


# --- what people read, and what names the sources


def test_people_get_a_table_with_intervals(capsys, tmp_path):
    options = ["--policy", "sarathi", "--rate", "2", "--seed", "0-2", "--lengths", "64,8", "--requests", "40"]
    code, out, _ = run(capsys, "sweep", *options, "--executor", "serial", "--out", tmp_path / "sweep")
    assert code == 0
    assert "±" in out
    assert "3 points, 3 of them computed now" in out


def test_seeds_are_numbers_and_ranges():
    assert seeds_of(["3", "0-2"]) == [3, 0, 1, 2]


def test_the_fingerprint_knows_every_file_and_an_edit_of_any(tmp_path, monkeypatch):
    package = tmp_path / "small_package"
    (package / "data").mkdir(parents=True)
    for name in ("__init__.py", "model.py", "data/table.csv"):
        (package / name).write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert set(files_of("small_package")) == {
        "small_package/__init__.py", "small_package/model.py", "small_package/data/table.csv",
    }  # fmt: skip
    plain = fingerprint.__wrapped__("small_package")
    assert plain == fingerprint.__wrapped__("small_package")
    for name in ("model.py", "data/table.csv"):
        (package / name).write_text("x = 2\n")
        edited = fingerprint.__wrapped__("small_package")
        assert edited != plain
        plain = edited
    assert "queueing/simulator.py" in files_of("queueing")


# --- the arithmetic of the page


def test_the_arithmetic_of_the_page_is_as_executed():
    page = Path(__file__).parents[2] / "docs" / "sweep.md"
    text = page.read_text(encoding="utf-8")
    examples = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    assert doctest.DocTestRunner(verbose=False).run(examples).failed == 0
    assert len(examples.examples) > 20
    bent = doctest.DocTestParser().get_doctest(text.replace("141e3", "142e3"), {}, page.name, str(page), 0)
    assert doctest.DocTestRunner(verbose=False).run(bent, out=lambda _: None).failed > 0  # control


def test_the_inputs_of_the_page_are_those_of_the_benchmarks():
    docs = Path(__file__).parents[2] / "docs"
    found = re.search(
        r"per_core, iterations_per_core = ([\d.e]+), ([\d.e]+)", (docs / "sweep.md").read_text()
    )
    table = (docs / "benchmarks.md").read_text()
    for name, value in zip(("requests", "iterations"), found.groups(), strict=True):
        (figure, unit), *_ = re.findall(rf"`sarathi_{name}_per_second` \| ([\d.]+) ([kM])", table)
        measured = float(figure) * {"k": 1e3, "M": 1e6}[unit]
        assert abs(np.log(float(value) / measured)) < np.log(
            1.5
        )  # an order of magnitude is what the page claims
