"""The command as it is installed: interrupted while it starts, it says so in one line."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class CtrlC(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.{usual})
sys.meta_path.insert(0, CtrlC())
sys.argv = ["tandem", "--help"]
from {entered} import main
main()
"""


def ended(module, entered="validation.command", usual="default_int_handler"):
    """Exit code, output and errors of `tandem --help` that is interrupted when it loads `module`."""
    script = SCRIPT.format(module=module, entered=entered, usual=usual)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    return done.returncode, done.stdout, done.stderr


def test_it_is_what_the_package_installs():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"tandem": "validation.command:main"}


@pytest.mark.parametrize("module", ["numpy", "llvmlite", "queueing.simulator", "validation.options"])
def test_an_interruption_while_a_library_is_loaded_is_one_line(module):
    assert ended(module) == (130, "", "tandem: interrupted; nothing was written\n")


def test_without_it_there_is_a_traceback():
    """Control: the command line itself, which is loaded before it can catch anything."""
    code, _, said = ended("queueing.simulator", entered="validation.cli")
    assert code != 130
    assert "Traceback" in said


def test_where_interruptions_are_ignored_it_goes_on():
    code, out, said = ended("numpy", usual="SIG_IGN")
    assert (code, said) == (0, "")
    assert "Usage" in out
