"""Tables in files: the same run to the last bit, in less memory than the trace takes, and nothing half-written."""

import subprocess
import sys
import textwrap

import numpy as np
import polars
import pytest

from policies import Sarathi
from policies.routing import JoinShortestQueue
from queueing import metrics, storage
from queueing.simulator import simulate
from queueing.storage import Files, Memory
from queueing.system import System
from queueing.workload import Workload
from queueing.workload_files import read_pieces, store, stored
from tests.laws import differing

SYSTEM = System.rad_tile_model()


def offered(n, seed=0, start=0.0):
    rng = np.random.default_rng(seed)
    return Workload(start + np.cumsum(rng.exponential(0.05, n)), rng.integers(1, 300, n), rng.integers(1, 40, n),
                    tbt=rng.choice([0.1, 0.5, np.inf], n))  # fmt: skip


@pytest.mark.parametrize("entries", [False, True])
def test_the_run_is_the_same_in_files(tmp_path, monkeypatch, entries):
    monkeypatch.setattr(storage, "AT_ONCE", 100)  # many pieces
    run = {"nodes": 3, "router": JoinShortestQueue(), "record_entries": entries}
    here = simulate(offered(500), SYSTEM, Sarathi(), **run)
    there = simulate(offered(500), SYSTEM, Sarathi(), **run, folder=tmp_path / "run")
    assert not differing(here, there)
    np.testing.assert_equal(metrics.summary(here), metrics.summary(there))
    assert isinstance(there.iterations["start"], np.memmap)
    other = simulate(offered(500, seed=1), SYSTEM, Sarathi(), **run, folder=tmp_path / "other")  # control
    assert differing(here, other)


def test_columns_are_ordinary_files_and_nothing_else_stays(tmp_path):
    trace = simulate(offered(50), SYSTEM, Sarathi(), folder=tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {f"iterations.{name}.npy" for name in trace.iterations} | {
        f"requests.{name}.npy" for name in trace.requests if isinstance(trace.requests[name], np.memmap)
    }
    assert np.array_equal(np.load(tmp_path / "run" / "iterations.seconds.npy"), trace.iterations["seconds"])


@pytest.mark.parametrize("keep", [Memory, None])
def test_appended_rows_come_back(tmp_path, keep):
    kept = (Files(tmp_path / "x") if keep is None else keep()).rows("a", np.int32)
    assert len(kept.all()) == 0
    parts = [np.arange(k, dtype=np.int32) for k in (3, 0, 70_000, 1)]
    for part in parts:
        kept.append(part, 0.5)
    assert np.array_equal(kept.all(), np.concatenate(parts))


def test_tables_begin_where_a_cache_line_does(tmp_path):
    for keep in (Memory(), Files(tmp_path / "x")):
        assert keep.zeros(7, np.dtype("V192")).ctypes.data % 64 == 0


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not an empty folder; name a new one"):
        simulate(offered(5), SYSTEM, Sarathi(), folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


# --- workloads in files


def test_a_stored_workload_is_the_pieces_one_after_another(tmp_path):
    whole = offered(1000)
    kept = store((whole[k : k + 300] for k in range(0, 1000, 300)), tmp_path / "w")
    assert kept == whole == stored(tmp_path / "w")
    assert isinstance(kept.arrival, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        kept.prompt[0] = 1
    with pytest.raises(ValueError, match="name a new folder"):
        store([whole], tmp_path / "w")


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([], "give at least one piece"),
        ([offered(5), offered(5)], "before the end of the one before it"),
        ([offered(5), Workload([99.0], [1], [1], predicted=[2])], "give all of them or none"),
    ],
)
def test_pieces_that_are_no_workload_leave_nothing(tmp_path, pieces, said):
    with pytest.raises(ValueError, match=said):
        store(pieces, tmp_path / "w")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_pieces_of_a_file_are_the_file(tmp_path, form):
    whole, path = offered(100), tmp_path / f"w.{form}"
    whole.write_csv(tmp_path / "w.csv")
    if form == "parquet":
        polars.read_csv(tmp_path / "w.csv", infer_schema_length=None).write_parquet(path)
    pieces = list(read_pieces(path, rows=33))
    assert [len(piece) for piece in pieces] == [33, 33, 33, 1]
    assert Workload.merge(*pieces) == whole


def test_a_bad_row_is_named_by_its_piece(tmp_path):
    path = tmp_path / "w.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,5,5\n1,0,5\n")
    with pytest.raises(
        ValueError, match=r"w\.csv, rows from 1: prompt, row 0: 0\.0 is not a number of tokens"
    ):
        list(read_pieces(path, rows=1))
    path.write_text("arrival_s,prompt_tokens,colour\n0,5,5\n")
    with pytest.raises(ValueError, match="unknown column 'colour'"):
        list(read_pieces(path))


SCRIPT = """
    import resource, sys
    from pathlib import Path
    import numpy as np
    from policies import Sarathi
    from queueing.simulator import simulate
    from queueing.system import System
    from queueing.workload import Workload
    from queueing.workload_files import store

    def piece(k):
        rng = np.random.default_rng(k)
        n = 1 << 17
        return Workload(1e5 * k + np.cumsum(rng.exponential(0.1, n)), np.ones(n, int), np.ones(n, int))

    folder = Path(sys.argv[1])
    system = System.rad_tile_model()
    simulate(piece(0)[:10], system, Sarathi())  # machine code and libraries are there
    def private():
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData"))
    workload = store(map(piece, range(8)), folder / "w")
    resource.setrlimit(resource.RLIMIT_DATA, (private() * 1024 + {allowed},) * 2)
    trace = simulate(workload, system, Sarathi(), folder={folder})
    print(int(trace.finished.sum()), sum(a.nbytes for a in trace.requests.values()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of private memory are Linux's")
def test_a_trace_larger_than_the_memory_it_may_use(tmp_path):
    """A million requests, whose tables take 350 MB, in 60 MB of private memory; without files that is not enough."""
    allowed = 60 << 20

    def run(folder):
        code = textwrap.dedent(SCRIPT).format(allowed=allowed, folder=folder)
        where = tmp_path / str(folder)[:4]
        where.mkdir()
        return subprocess.run(
            [sys.executable, "-c", code, where], capture_output=True, text=True, check=False
        )

    inside = run('folder / "run"')
    assert inside.returncode == 0, inside.stderr
    finished, size = map(int, inside.stdout.split())
    assert finished == 8 << 17
    assert size > 2 * allowed
    outside = run(None)  # control
    assert outside.returncode != 0
    assert "MemoryError" in outside.stderr
