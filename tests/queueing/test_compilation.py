"""Machine code is found on disk again exactly when nothing that it was made of has changed."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest

from queueing.compilation import fingerprint, kernel
from queueing.trace import gap_bin


class Size(IntEnum):
    """A constant by another name."""

    SMALL = 20


class Large(IntEnum):
    """The same, edited."""

    SMALL = 40


def function(text: str, **scope: object) -> types.FunctionType:
    """The function `f` of a piece of source, with `scope` as its globals."""
    space: dict[str, object] = {"np": np, **scope}
    exec(text, space)
    made = space["f"]
    assert isinstance(made, types.FunctionType)
    return made


def closure(value: object) -> types.FunctionType:
    def f(x):
        return x * value

    return f


def module(n: int) -> types.ModuleType:
    made = types.ModuleType("h")
    made.N = n
    return made


USE = "def f(x):\n    return x * {}"
EDITS = {
    "text": (function(USE.format(20)), function(USE.format(40))),
    "constant": (function(USE.format("N"), N=20), function(USE.format("N"), N=40)),
    "type of a constant": (function(USE.format("N"), N=20), function(USE.format("N"), N=20.0)),
    "numpy scalar": (function(USE.format("N"), N=np.int64(20)), function(USE.format("N"), N=np.int64(40))),
    "array": (function(USE.format("N[0]"), N=np.array([20])), function(USE.format("N[0]"), N=np.array([40]))),
    "tuple of arrays": (
        function(USE.format("N[0][0]"), N=(np.array([20]),)),
        function(USE.format("N[0][0]"), N=(np.array([40]),)),
    ),
    "enumeration": (function(USE.format("E.SMALL"), E=Size), function(USE.format("E.SMALL"), E=Large)),
    "module": (function(USE.format("h.N"), h=module(20)), function(USE.format("h.N"), h=module(40))),
    "swapped constants": (
        function(USE.format("A - B"), A=2, B=22),
        function(USE.format("A - B"), A=22, B=2),
    ),
    "default": (function("def f(x, n=20):\n    return x * n"), function("def f(x, n=40):\n    return x * n")),
    "closure": (closure(20), closure(40)),
    "array in a closure": (closure(np.array([20])), closure(np.array([40]))),
    "kernel": (
        function(USE.format("g(1)"), g=kernel(closure(20))),
        function(USE.format("g(1)"), g=kernel(closure(40))),
    ),
    "kernel of a kernel": (
        function(USE.format("g(1)"), g=function(USE.format("h(1)"), h=closure(20))),
        function(USE.format("g(1)"), g=function(USE.format("h(1)"), h=closure(40))),
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_changes_the_fingerprint(edit: str):
    before, after = EDITS[edit]
    assert fingerprint(before) != fingerprint(after)


def test_no_edit_changes_nothing():
    """Control: the same text and constants, made twice, have one fingerprint; so has a function and its kernel."""
    again = function(USE.format("N"), N=20)
    assert fingerprint(EDITS["constant"][0]) == fingerprint(again) == fingerprint(kernel(again))


def test_a_kernel_called_from_python_runs_its_twin():
    assert gap_bin(0.5) == gap_bin.py_func(0.5)
    assert kernel(closure(3))(7) == 21


RUN = """
import sys

PYTHON = False
sys.path[:0] = [sys.argv[1], *sys.argv[2:]]
from mine import Mine
from queueing.models.iteration_time import Affine
from queueing.simulator import simulate
from queueing.system import System
from queueing.workload import Workload
workload, system = Workload([0.0] * 5, [20] * 5, [9] * 5), System(Affine(2.0**-6, 2.0**-10), blocks=100)
trace = simulate(workload, system, Mine(), python=PYTHON)
print(trace.iterations["prefill"][0])
"""
POLICY = """
import dataclasses
import helper
from queueing.policy import Policy, is_decoding, plan, serve_decodes, take_chunk

@dataclasses.dataclass(frozen=True)
class Mine(Policy):
    @plan
    def mine(p, memory, view, batch):
        serve_decodes(view, batch, 999, 1)
        for r in view.running:
            if not is_decoding(view, r):
                take_chunk(view, batch, r, helper.CHUNK)
        for r in view.waiting:
            take_chunk(view, batch, r, helper.CHUNK)
"""


def run(folder: Path, **environment: str) -> int:
    """Prefill tokens of the first batch, in a process of its own."""
    command = [sys.executable, str(folder / "run.py"), str(folder), *sys.path]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_an_edited_file_and_a_damaged_cache(tmp_path: Path):
    """A module's constant is edited between two processes; then the loops' machine code is cut short."""
    (tmp_path / "run.py").write_text(RUN)
    (tmp_path / "mine.py").write_text(POLICY)
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    for chunk in (3, 5):
        (tmp_path / "helper.py").write_text(f"CHUNK = {chunk}\n")
        assert run(tmp_path, **cache) == 5 * chunk
    kept = [*tmp_path.glob("cache/**/loop.serve*.nbc")]
    assert kept
    for file in kept:
        file.write_bytes(file.read_bytes()[:100])
    assert run(tmp_path, **cache) == 25


def test_nowhere_to_write(tmp_path: Path):
    """Without a place for machine code the package still imports and runs; nothing is kept."""
    first = "import numba.core.caching as caching\ncaching.CacheImpl._locator_classes = []\n"
    (tmp_path / "run.py").write_text(first + RUN.replace("PYTHON = False", "PYTHON = True"))
    (tmp_path / "mine.py").write_text(POLICY)
    (tmp_path / "helper.py").write_text("CHUNK = 4\n")
    assert run(tmp_path) == 20
