"""The folder of a run larger than the memory, `tandem simulate --folder`: requests, tables, and what stays of them.

FOLDER/workload holds the requests of a trace, in files that the run maps into memory; FOLDER/run the tables of the run.
Each of the two is there whole or not at all.  A run that did not end is begun again on the requests that were stored.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from queueing.workload import Workload
from queueing.workload_files import read_pieces, store, stored

__all__ = ["Interrupted", "requests_in_files", "tables", "telling_what_stays"]


class Interrupted(Exception):
    """Ctrl-C stopped a command that leaves something behind; the message says what, and how to go on."""


def tables(folder: Path, trace: Path | None) -> Path:
    """Place of the tables of a run; ValueError if something is in the way, there or at that of the requests."""
    place, requests = folder / "run", folder / "workload"
    if trace is not None and trace.is_file() and requests.exists():
        raise ValueError(f"{requests} holds requests; go on with --trace {requests}, or name a new folder")
    if place.exists() and not (place.is_dir() and next(place.iterdir(), None) is None):
        raise ValueError(f"{place} is not an empty folder; name a new one, or remove it")
    return place


def requests_in_files(folder: Path, trace: Path) -> Workload:
    """The requests of a trace, stored in `folder`; those of a folder in which they are stored are left there."""
    return stored(trace) if trace.is_dir() else store(read_pieces(trace), folder / "workload")


@contextmanager
def telling_what_stays(folder: Path, warn: Callable[[str], None]) -> Generator[None]:
    """Say, if the block fails, what it leaves in the folder, and how to go on or to be rid of it.

    Raises:
        Interrupted: Ctrl-C stopped the block, which leaves something.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as problem:
        place, requests = folder / "run", folder / "workload"
        left = [str(each) for each in (requests, place) if each.exists()]
        if not left:
            raise
        said = f"{' and '.join(left)} stay{'s' if len(left) == 1 else ''}; "
        if place.exists():
            said += f"remove {place} to run again" + (", and " if requests.exists() else ", or ")
        if requests.exists():
            said += f"go on with --trace {requests} --folder {folder}, or "
        said += f"remove {folder}"
        if isinstance(problem, KeyboardInterrupt):
            raise Interrupted(said) from None
        warn(said)
        raise
