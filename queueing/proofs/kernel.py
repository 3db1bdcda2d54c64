"""Kernel proofs: theorems in Coq, compiled, closed, and checked again by the independent checker `coqchk`.

The sources are in `queueing/proofs/coq`, and need Coq 8.16 or later and its standard library.  They are compiled in a
folder of their own, so that nothing is written beside them.  A negative control is a source with one hypothesis or
constant altered, which must not compile: it shows that the proof needs what was altered, not that the altered statement
is false.  That it is false is shown by runs, in Rad_controls.v and Vtc_controls.v, as claims of their own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from typing import ClassVar

from queueing.proofs.certificate import Certificate, Kind, Unchecked, require

__all__ = ["SOURCES", "KernelProof", "coq_version"]

SOURCES = Path(__file__).with_name("coq")
SECONDS = 180  # of one call of coqc
CLOSED = "Closed under the global context"
# coqchk cannot look into this sealed module of Coq's own library, and lists its definitions beside axioms
SEALED = "Coq.ssr.ssrunder.Under_rel."


def coq_version() -> str | None:
    """Version of the Coq that is installed, or None."""
    if shutil.which("coqc") is None or shutil.which("coqchk") is None:
        return None
    found = re.search(r"version\s+([\d.]+)", _call("coqc", "--version").stdout)
    return found.group(1) if found else None


def _call(*command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except FileNotFoundError:
        raise Unchecked("Coq is not installed; install it (Debian: apt-get install coq)") from None
    except subprocess.TimeoutExpired:
        raise Unchecked(f"{command[0]} took more than {SECONDS} s; give it a faster machine") from None


def _requires(source: str) -> list[str]:
    """Modules of this folder that a source imports, in order."""
    named = re.findall(r"From\s+Tandem\s+Require\s+(?:Import|Export)\s+([^.]+)\.", source)
    return [name for names in named for name in names.split()]


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="tandem-coq-")
    Finalize(None, folder.cleanup, exitpriority=0)  # a process of a pool ends without what `atexit` promises
    return folder


@cache
def _compiled(file: str, altered: tuple[tuple[str, str], ...] = ()) -> tuple[Path, str]:
    """The folder in which `file` and what it imports is compiled, and what coqc said; an error is in the text."""
    original = (SOURCES / f"{file}.v").read_text()
    source = original
    for old, new in altered:
        if old not in source:
            raise ValueError(f"{file}.v does not contain {old!r}; alter something that is there")
        source = source.replace(old, new)
    home = Path(_folder().name)
    if altered:
        home = Path(tempfile.mkdtemp(dir=home))
    for name in _requires(source):
        built, said = _compiled(name)
        if said:
            return home, said
        if built != home:
            for path in built.glob("*.vo"):
                shutil.copy(path, home)
    (home / f"{file}.v").write_text(source)
    result = _call("coqc", "-q", "-Q", ".", "Tandem", f"{file}.v", folder=home)
    said = "" if result.returncode == 0 else result.stderr.strip() or "coqc failed"
    if altered and "Syntax error" in said:
        raise ValueError(f"{file}.v with {altered[0][1]!r} is no Coq, and controls nothing: {said[-200:]}")
    return home, said


@cache
def _audited(file: str) -> str:
    """What coqchk says of a compiled file: its summary of axioms."""
    home, _ = _compiled(file)
    result = _call("coqchk", "-silent", "-o", "-norec", f"Tandem.{file}", "-Q", ".", "Tandem", folder=home)
    return result.stdout + result.stderr if result.returncode == 0 else f"coqchk: {result.stderr.strip()}"


@dataclass(frozen=True, slots=True)
class KernelProof(Certificate):
    """A theorem of a Coq source, proved from nothing but its own hypotheses.

    Args:
        file: name of the source, without .v.
        theorem: name of the theorem in it.
        altered: pairs of text to replace in the source first, for negative controls.
    """

    kind: ClassVar[Kind] = Kind.KERNEL
    file: str
    theorem: str
    altered: tuple[tuple[str, str], ...] = ()

    @property
    def claim(self) -> str:
        """The theorem by name, and what was altered."""
        changes = "".join(f", with {new!r} for {old!r}" for old, new in self.altered)
        return f"{self.theorem} in {self.file}.v{changes}"

    @property
    def statement(self) -> str:
        """The theorem as Coq prints it.

        Raises:
            Refuted: the source does not compile.
        """
        return self._ask(f"Check {self.theorem}.")

    def check(self) -> None:
        """Compile the source, print the theorem's assumptions, and have coqchk check the compiled file.

        Raises:
            Refuted: it does not compile, rests on an axiom, or is not accepted by coqchk.
            Unchecked: Coq is not installed.
        """
        said = self._ask(f"Print Assumptions {self.theorem}.")
        require(CLOSED in said, f"{self.theorem} rests on axioms: {said}")
        if not self.altered:
            audit = _audited(self.file)
            found = re.search(r"\* Axioms:\s*(.*?)\n\s*\n", audit, re.DOTALL)
            require(found is not None, f"coqchk does not accept {self.file}: {audit[:300]}")
            assert found is not None
            axioms = [name for name in found.group(1).split() if not name.startswith((SEALED, "<none>"))]
            require(not axioms, f"{self.file} rests on {', '.join(axioms)}")

    def _ask(self, question: str) -> str:
        if coq_version() is None:
            raise Unchecked("Coq is not installed; install it (Debian: apt-get install coq)")
        home, error = _compiled(self.file, self.altered)
        require(not error, f"{self.claim}: {' '.join(error.split())[:300]}")
        with tempfile.TemporaryDirectory() as place:
            script = Path(place) / "question.v"
            script.write_text(f"From Tandem Require Import {self.file}.\n{question}\n")
            result = _call("coqc", "-q", "-Q", str(home), "Tandem", str(script))
        require(result.returncode == 0, f"{self.claim}: {' '.join(result.stderr.split())[:300]}")
        return result.stdout.strip()
