"""Run a sweep: many independent points, on any executor, taken up again where it was stopped, into one table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from queueing.system import System
from queueing.workload import Workload
from validation.executors import each, require
from validation.options import system_of
from validation.sweep_folder import SweepFolder, tables
from validation.sweep_point import Outcome, Point, drawn, made_by, outcome_of

__all__ = ["Sweep", "sweep"]


@dataclass(frozen=True, slots=True)
class Sweep:
    """A finished sweep: a record a point, sorted by point, and the units of its figures.

    `records` suit :class:`validation.sweep.Records`; `table` is the file that holds them; `computed` of them were
    computed by this call, the others were there; `processor_seconds` is what all of them took, whenever they ran.
    """

    records: list[dict[str, Any]]
    units: dict[str, str]
    table: Path
    computed: int
    processor_seconds: float


def sweep(
    points: Iterable[Point],
    out: str | os.PathLike[str],
    *,
    executor: str = "joblib",
    workers: int = 2,
    ray_address: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Sweep:
    """Simulate every point once, and only those that are not on disk; the table has the same bytes on every executor.

    Each finished point is put on disk at once, so that a sweep that is stopped loses the points in hand, and the same
    call again does what is missing.

    Args:
        points: what to run, in any order; a point named twice is run once.
        out: folder of the sweep, see :mod:`validation.sweep_folder`.
        executor, workers, ray_address: see :func:`validation.executors.each`.
        progress: called with (points finished, points in all).

    Raises:
        ValueError: no points, a system that is not known, or a folder of something else.
        ImportError: the executor, or polars, is not installed.
        ChildProcessError: workers die again and again.
        PolicyBreach: a policy broke a rule; the sentence names the point.
        OSError: the folder cannot be written.
    """
    ordered = sorted(set(points), key=lambda point: point.key)
    if not ordered:
        raise ValueError("a sweep needs points; give at least one policy, rate, system and seed")
    require(executor, workers, ray_address)
    tables()
    systems = {name: system_of(name) for name in sorted({point.system for point in ordered})}
    folder = SweepFolder(Path(out), ordered, systems)
    missing = folder.missing()
    done = len(ordered) - len(missing)
    progress(done, len(ordered))
    if executor != "serial":
        compile_once(missing, systems)
    laws = {point.lengths: drawn(point.lengths) for point in ordered}
    work = partial(_outcome, systems=systems, sources=made_by(), laws=laws)
    for k, outcome in each(work, missing, executor=executor, workers=workers, address=ray_address):
        folder.keep(missing[k], outcome)
        done += 1
        progress(done, len(ordered))
    records, units, seconds = folder.write_table()
    return Sweep(records, units, folder.table, len(missing), seconds)


def compile_once(points: Iterable[Point], systems: dict[str, System]) -> None:
    """Have the machine code of every policy on disk before several workers look for it there at once."""
    one = Workload([0.0], [1], [1])
    for point in {(p.policy, p.system, p.router): p for p in points}.values():
        point.simulated(systems[point.system], one)


def _outcome(point: Point, systems: dict[str, System], sources: str, laws: dict[str, str]) -> Outcome:
    return outcome_of(point, systems[point.system], sources, laws[point.lengths])
