"""Tables in files: the same run to the last bit, in less memory than the trace takes, and nothing half-written."""

import errno
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from policies import Sarathi
from policies.routing import JoinShortestQueue
from queueing import metrics, storage
from queueing.simulator import simulate
from queueing.storage import Files, Memory
from queueing.system import System
from queueing.workload import Workload
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


class Stopped(Exception):
    """What ends a run before its end."""


@pytest.mark.parametrize("there", [True, False])
def test_a_run_that_fails_leaves_the_folder_as_it_was(tmp_path, there):
    """Whatever ends it; a run that ends well is the control, and what somebody else put there stays."""
    folder = tmp_path / "new" / "run"
    if there:
        folder.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))

    def stop(done, total):
        assert any(folder.iterdir())
        raise Stopped

    with pytest.raises(Stopped):
        simulate(offered(50), SYSTEM, Sarathi(), folder=folder, progress=stop)
    assert sorted(tmp_path.rglob("*")) == before

    def put(done, total):
        (folder / "mine.txt").write_text("mine")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(offered(50), SYSTEM, Sarathi(), folder=folder, progress=put)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    (folder / "mine.txt").unlink()
    simulate(offered(50), SYSTEM, Sarathi(), folder=folder)
    assert any(folder.iterdir())


# --- a full disk


@pytest.fixture
def taken(monkeypatch):
    """Bytes of the disk that each table held when it was mapped."""
    found = []
    mapped = np.memmap

    def memmap(file, *args, **kwargs):
        found.append(512 * os.fstat(file.fileno()).st_blocks)
        return mapped(file, *args, **kwargs)

    monkeypatch.setattr(np, "memmap", memmap)
    return found


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot take the blocks of a file")
def test_a_table_has_its_place_on_the_disk_before_it_is_written(tmp_path, taken):
    for rows in (1, 10_000, 1_000_000):
        Files(tmp_path / str(rows)).zeros(rows, np.int64)
    assert all(size >= 8 * rows for size, rows in zip(taken, (1, 10_000, 1_000_000), strict=True))
    with (tmp_path / "sparse").open("wb") as file:  # control
        file.truncate(8_000_000)
        assert 512 * os.fstat(file.fileno()).st_blocks < 8_000_000


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL, None])
@pytest.mark.parametrize("free", [79, 80])
def test_where_blocks_cannot_be_taken_the_room_is_looked_at(tmp_path, monkeypatch, code, free):
    def refuse(*_):
        raise OSError(code, "not here")

    if code is None:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    else:
        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 0, free))
    files = Files(tmp_path / "run")
    if free == 80:
        assert files.zeros(10, np.int64).tolist() == [0] * 10
        return
    with pytest.raises(
        OSError, match=r"the disk of .*run is full: 8e-05 MB more are needed and 7\.9e-05 MB are free"
    ):
        files.zeros(10, np.int64)
    assert list((tmp_path / "run").iterdir()) == []


SMALL_DISK = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
              'mount -t tmpfs -o size=2m none "$1" && exec "$2" -c "$3" "$1"', "sh"]  # fmt: skip
FILLED = """
    import gc, os, signal, sys
    from pathlib import Path
    import numpy as np
    from policies import Sarathi
    from queueing.simulator import simulate
    from queueing.system import System
    from queueing.workload import Workload
    from queueing.workload_files import store

    place, n = Path(sys.argv[1]), 2000
    workload = Workload(np.arange(n) / 10, np.full(n, 9), np.full(n, 3))
    said = []
    for filler in range(0, 2 << 20, 64 << 10):
        (place / "filler").write_bytes(bytes(filler))
        try:
            offered = store([workload], place / "w")
            simulate(offered, System.rad_tile_model(), Sarathi(), folder=place / "run")
            said.append("ended well")
        except OSError as error:
            said.append(str(error))
            assert not (place / "run").exists(), list((place / "run").iterdir())
        offered = None
        gc.collect()  # what is mapped takes room although its file has no name
        for folder in ("w", "run"):
            for file in (place / folder).glob("*"):
                file.unlink()
            if (place / folder).exists():
                (place / folder).rmdir()
        assert [path.name for path in place.iterdir()] == ["filler"], list(place.rglob("*"))
    print(*said, sep="\\n")
    (place / "filler").unlink()
    child = os.fork()
    if child == 0:
        np.memmap(place / "sparse", "u1", "w+", shape=(4 << 20,))[:] = 1
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGBUS)
"""


def test_a_disk_that_fills_up_ends_in_a_sentence_and_leaves_nothing(tmp_path):
    """A run on a disk of 2 MB, of which less and less is free: it ends well or says so, wherever it stands.

    Control: a table whose place is not taken beforehand, on the same disk, ends the process by SIGBUS.
    """
    if (
        shutil.which("unshare") is None
        or subprocess.run([*SMALL_DISK, tmp_path, "true"], check=False).returncode
    ):
        pytest.skip("no file system can be mounted here")
    done = subprocess.run(
        [*SMALL_DISK, tmp_path, sys.executable, textwrap.dedent(FILLED)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *said, control = done.stdout.splitlines()
    assert control == "True"
    assert said[0] == "ended well"
    refused = [sentence for sentence in said if sentence != "ended well"]
    assert len(set(refused)) > 3  # at several of its tables
    assert all(sentence.startswith(f"the disk of {tmp_path}") for sentence in refused)


# --- larger than memory


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
