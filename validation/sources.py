"""Which sources a result was made by: a digest of every file of the packages it came through.

A result that is kept on disk may be taken up again only if the same code would give it again.  Nobody bumps a version
number at each edit, so the files themselves are the version: an edit of a comment makes a result stale too, which costs
a run and never a wrong figure.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
from pathlib import Path

from queueing.simulator import versions

__all__ = ["files_of", "fingerprint"]


def files_of(name: str) -> dict[str, Path]:
    """Name and path of each source and data file of a package, or of the one file of a module."""
    file = importlib.import_module(name).__file__
    if file is None:
        raise ValueError(f"{name} lies in no file, so that its sources cannot be told apart")
    top = Path(file)
    if top.name != "__init__.py":
        return {name: top}
    found = sorted(
        path for path in top.parent.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )
    return {f"{name}/{path.relative_to(top.parent).as_posix()}": path for path in found}


@functools.cache
def fingerprint(*modules: str) -> str:
    """Digest of all files of the packages and modules named, and of the versions of Python and of the libraries below.

    Read once a process.  Two processes with the same fingerprint compute the same figures, but for the last bit where
    numpy chooses other instructions for another processor.
    """
    digest = hashlib.sha256(repr(sorted(versions().items())).encode())
    for module in modules:
        for name, path in files_of(module).items():
            digest.update(f"{name}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]
