"""Traces on disk: what is loaded equals what was saved, to the bit; what cannot be read says so in one sentence."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars
import pytest
from hypothesis import given

from policies.rad import Rad
from queueing import trace_io
from queueing.models.iteration_time import TileLaw
from queueing.simulator import simulate
from queueing.system import System
from queueing.trace import Trace
from queueing.trace_io import COLUMNS, load, save
from queueing.workload import Workload
from tests.strategies import traces

FORMS = ["run.json", "run.csv", "run.parquet"]


@pytest.fixture(scope="module")
def trace() -> Trace:
    """A run with finished, unfinished, rejected and not yet arrived requests, and with every gap recorded."""
    rng = np.random.default_rng(2)
    n = 60
    prompt = 128 * rng.integers(1, 9, n)
    prompt[7] = 10**5
    offered = Workload(
        np.cumsum(rng.exponential(0.05, n)),
        prompt,
        rng.integers(1, 90, n),
        tbt=np.where(np.arange(n) % 9, 0.1, 0.5),
    )
    return simulate(
        offered, System(TileLaw(128, 4e-3, 5e-6), blocks=500), Rad(), horizon=2.0, record_entries=True
    )


def bits(array: np.ndarray) -> np.ndarray:
    """The values as integers, one for all nan: two arrays are equal to the bit iff these are."""
    if array.dtype.kind != "f":
        return array
    return np.where(np.isnan(array), np.float64(math.nan), array).view(np.int64)


def same_table(a, b) -> bool:
    if a is None or b is None:
        return a is b
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and np.array_equal(bits(a[name]), bits(b[name])) for name in a
    )


def equal(a: Trace, b: Trace) -> bool:
    return (
        all(same_table(getattr(a, name), getattr(b, name)) for name in ("requests", "iterations", "entries"))
        and np.array_equal(a.gaps, b.gaps)
        and np.array_equal(bits(a.class_tbt), bits(b.class_tbt))
        and dict(a.meta) == dict(b.meta)
    )


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("entries", [True, False])
def test_a_run_comes_back_equal(trace, tmp_path, name, entries):
    """Equal in every bit, types and meta included; saved twice, the second replaces the first.

    Negative control: a trace with one float moved by one unit in the last place is not equal.
    """
    kept = trace if entries else dataclasses.replace(trace, entries=None)
    save(trace, tmp_path / name)
    save(kept, tmp_path / name)
    loaded = load(tmp_path / name)
    assert equal(loaded, kept)
    assert os.listdir(tmp_path) == [name]
    start = loaded.iterations["start"].copy()
    start[-1] = np.nextafter(start[-1], 0.0)
    assert not equal(dataclasses.replace(loaded, iterations={**loaded.iterations, "start": start}), kept)


@pytest.mark.parametrize("name", FORMS)
@given(traces())
def test_any_columns_come_back_equal(name, any_trace):
    """Also nan, infinities, -0.0, subnormals, the ends of the integers, empty tables and no entries."""
    with tempfile.TemporaryDirectory() as folder:
        save(any_trace, Path(folder) / name)
        assert equal(load(Path(folder) / name), any_trace)


def test_the_columns_are_those_of_the_simulator(trace):
    """A column that the loop adds must be added to the form on disk, or saving would refuse it."""
    for name in ("requests", "iterations", "entries"):
        table = getattr(trace, name)
        assert {column: array.dtype for column, array in table.items()} == {
            column: np.dtype(kind) for column, kind in COLUMNS[name].items()
        }


# --- interrupted -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class CtrlC:
    """Raises KeyboardInterrupt at the `at`-th call of any of the functions it wraps; never if `at` is 0."""

    at: int = 0
    calls: int = 0

    def wrap(self, function):
        def interruptible(*args, **kwargs):
            self.calls += 1
            if self.calls == self.at:
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        return interruptible


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("former", [True, False])
def test_an_interruption_leaves_the_former_trace_or_none(trace, tmp_path, monkeypatch, name, former):
    """Ctrl-C before each of the steps of saving that touch the disk, one attempt for each; the last one succeeds."""
    path = tmp_path / name
    system = System(TileLaw(128, 4e-3, 5e-6), blocks=500)
    small = simulate(Workload([0.0], [128], [3]), system, Rad(), record_entries=True)
    if former:
        save(small, path)
    frame = polars.DataFrame
    steps = [(trace_io, "_write_csv"), (frame, "write_parquet"), (trace_io.json, "dump"), (os, "replace")]
    steps += [(Path, "write_text"), (json.JSONEncoder, "iterencode")]
    ctrl_c = CtrlC()
    for owner, step in steps:
        monkeypatch.setattr(owner, step, ctrl_c.wrap(getattr(owner, step)))
    attempts = 0
    while True:
        attempts += 1
        ctrl_c.at, ctrl_c.calls = attempts, 0
        try:
            save(trace, path)
        except KeyboardInterrupt:
            ctrl_c.at = 0
            assert os.listdir(tmp_path) == ([name] if former else [])
            assert not former or equal(load(path), small)
        else:
            break
    assert attempts > 3
    assert equal(load(path), trace)
    assert os.listdir(tmp_path) == [name]


def test_killed_from_outside_while_writing(tmp_path):
    """SIGINT to a process that saves in a loop: what stands at the path afterwards is whole."""
    script = f"""
import sys; sys.path[:0] = {sys.path!r}
from queueing.trace_io import load, save
trace = load({str(tmp_path / "a.csv")!r})
print("ready", flush=True)
while True:
    save(trace, {str(tmp_path / "b.csv")!r})
"""
    system = System(TileLaw(128, 4e-3, 5e-6), blocks=500)
    trace = simulate(Workload([0.0] * 50, [128] * 50, [200] * 50), system, Rad(), record_entries=True)
    save(trace, tmp_path / "a.csv")
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    while not (tmp_path / "b.csv").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in said
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "b.csv"]
    assert equal(load(tmp_path / "b.csv"), trace)


# --- bad input -------------------------------------------------------------------------------------------------------


def edit_header(path: Path, change) -> None:
    top = path if path.is_file() else path / "trace.json"
    header = json.loads(top.read_text())
    change(header)
    top.write_text(json.dumps(header))


def edit_table(path: Path, name: str, change) -> None:
    """Change the columns of one saved table, whatever its form."""
    if path.suffix == ".json":
        edit_header(path, lambda header: change(header["tables"][name]))
    elif path.suffix == ".csv":
        lines = [line.split(",") for line in (path / f"{name}.csv").read_text().splitlines()]
        columns = {cells[0]: list(cells[1:]) for cells in zip(*lines, strict=True)}
        change(columns)
        rows = zip(*([column, *cells] for column, cells in columns.items()), strict=False)
        (path / f"{name}.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    else:
        columns = polars.read_parquet(path / f"{name}.parquet").to_dict(as_series=False)
        change(columns)
        polars.DataFrame(columns).write_parquet(path / f"{name}.parquet")


def refused(path: Path, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FORMS)
def test_wrong_columns_are_named(trace, tmp_path, name):
    """A missing, an unknown, a renamed column and one of words: the table and the column are named."""
    path = tmp_path / name

    def after(table, change, said):
        save(trace, path)
        edit_table(path, table, change)
        refused(path, said)

    after("requests", lambda t: t.pop("prompt"), "'requests' lacks the column 'prompt'")
    after("iterations", lambda t: t.update(speed=t["start"]), "'iterations' has an unknown column 'speed'")
    after("entries", lambda t: t.update(token=t.pop("tokens")), "'entries' has an unknown column 'token'")
    after("requests", lambda t: t.update(prompt=["many"] * len(t["prompt"])), "'prompt' should|'many'")
    after("requests", lambda t: t.update(prompt=[1.5] * len(t["prompt"])), r"'prompt' should|'1\.5'")
    after("iterations", lambda t: t.update(node=[2**40] * len(t["node"])), r"'node' should|1099511627776")
    after("gaps", lambda t: t.update(bin=[10**6] * len(t["bin"])), "bin 1000000")
    save(trace, path)
    assert equal(load(path), trace)


@pytest.mark.parametrize("name", ["run.csv", "run.parquet"])
def test_a_missing_table_is_named(trace, tmp_path, name):
    save(trace, tmp_path / name)
    (tmp_path / name / f"entries{Path(name).suffix}").unlink()
    refused(tmp_path / name, "no table 'entries'")


@pytest.mark.parametrize("name", FORMS)
def test_what_is_no_trace_is_refused(trace, tmp_path, name):
    path = tmp_path / name
    refused(path, "there is no trace at")
    save(trace, path)
    edit_header(path, lambda header: header.update(version=99))
    refused(path, "version 99")
    edit_header(path, lambda header: header.pop("format"))
    refused(path, "is not a trace")
    top = path if path.is_file() else path / "trace.json"
    top.write_text("{")
    refused(path, "is not a trace")


def test_a_cut_file_is_refused(trace, tmp_path):
    for name, table in (("run.csv", "iterations.csv"), ("run.parquet", "iterations.parquet")):
        save(trace, tmp_path / name)
        file = tmp_path / name / table
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(ValueError, match="is not a"):
            load(tmp_path / name)


def test_columns_of_unequal_length_are_refused(trace, tmp_path):
    save(trace, tmp_path / "run.json")
    edit_table(tmp_path / "run.json", "requests", lambda t: t["prompt"].pop())
    refused(tmp_path / "run.json", "columns of \\[59, 60\\] rows")


def test_nothing_else_is_overwritten(trace, tmp_path):
    """A folder or file that is not a trace stays as it was."""
    (tmp_path / "run.csv").mkdir()
    (tmp_path / "run.csv" / "thesis.tex").write_text("years of work")
    (tmp_path / "run.parquet").write_text("a file")
    (tmp_path / "run.json").mkdir()
    for name in FORMS:
        with pytest.raises(ValueError, match="choose another name"):
            save(trace, tmp_path / name)
    assert (tmp_path / "run.csv" / "thesis.tex").read_text() == "years of work"
    assert (tmp_path / "run.parquet").read_text() == "a file"


def test_an_unknown_suffix_is_refused(trace, tmp_path):
    for call in (lambda: save(trace, tmp_path / "run.xlsx"), lambda: load(tmp_path / "run.xlsx")):
        with pytest.raises(ValueError, match=r"\.json, \.csv or \.parquet"):
            call()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, {"float": 1.0}, np.float64(1.0) * 1j, object()])
def test_meta_that_json_would_change_is_refused(trace, tmp_path, value):
    with pytest.raises(ValueError, match="meta"):
        save(dataclasses.replace(trace, meta={"x": value}), tmp_path / "run.json")
    assert os.listdir(tmp_path) == []


def test_without_polars_parquet_says_what_to_install(trace, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r"pip install 'tandem-queueing\[tables\]'"):
        save(trace, tmp_path / "run.parquet")
    assert os.listdir(tmp_path) == []
    save(trace, tmp_path / "run.csv")
    assert equal(load(tmp_path / "run.csv"), trace)
