"""A sweep on disk: what it is, a file for each finished point, and the table of them all.

    sweep.json          the sweep: its axes, the digest of its points, the sources that it is made by
    points/DIGEST.json  a finished point: its values, its figures with their units, and how long it took
    table.parquet       all points, one a row, sorted by point: values and figures, no times and no dates

Every file appears whole or not at all.  A point is finished if its file can be read and is about that point; any other
file is as good as none.  The table is made of the points' files alone, and so has the same bytes whoever computed them,
in whatever order.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from queueing.simulator import versions
from queueing.system import System
from validation.result import write_atomically
from validation.sweep_point import Outcome, Point, drawn, made_by

__all__ = ["SweepFolder"]

TITLE = "tandem sweep"
KINDS = {"rate": "Float64", "seed": "Int64", "requests": "Int64", "nodes": "Int64"}  # other values are texts


class SweepFolder:
    """The folder of the sweep over `points`, made if it is not there; a folder of anything else is left alone.

    Args:
        path: the folder.
        points: distinct, sorted by key.
        systems: what the points' systems are, by name.

    Raises:
        ValueError: the folder holds something else, or another sweep, or this one made by other sources.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, points: Sequence[Point], systems: Mapping[str, System]) -> None:
        self.path, self.points = path, points
        self.sweep = json.loads(json.dumps(_described(points, systems)))  # as it reads back
        head = path / "sweep.json"
        if path.exists() and not path.is_dir():
            raise ValueError(f"--out {path} is a file; give a folder")
        if head.exists():
            self._same(head)
        elif path.is_dir() and any(
            found.name != "points" or any(found.iterdir()) for found in path.iterdir()
        ):
            raise ValueError(
                f"--out {path} holds other things than a sweep; give a new folder, or an empty one"
            )
        # also where it is there already: a folder that cannot be written is known before the work, not after
        try:
            (path / "points").mkdir(parents=True, exist_ok=True)
            write_atomically(head, (json.dumps(self.sweep, indent=1) + "\n").encode())
        except OSError as problem:
            raise OSError(
                f"--out {path} cannot be written ({problem.strerror}); give another folder"
            ) from None

    @property
    def table(self) -> Path:
        """Where the table is."""
        return self.path / "table.parquet"

    def _same(self, head: Path) -> None:
        there = _read(head)
        if there is None or there.get("format") != TITLE:
            raise ValueError(
                f"{head} cannot be read, so that nobody knows whose points {self.path} holds; give another --out, or "
                "remove the folder to begin again"
            )
        if there == self.sweep:
            return
        axes: Any = there.get("axes")
        other = [
            name for name, values in self.sweep["axes"].items() if axes is None or axes.get(name) != values
        ]
        if there.get("digest") != self.sweep["digest"]:
            what = f"another sweep (other values of {', '.join(other) or 'some points'})"
        elif there.get("systems") != self.sweep["systems"]:
            what = "this sweep on systems whose files have changed"
        elif there.get("lengths") != self.sweep["lengths"]:
            what = "this sweep with another list of lengths (is TANDEM_DATA another?)"
        else:
            what = "this sweep made by other sources or versions of libraries"
        raise ValueError(
            f"{self.path} holds {what}, and figures of two kinds are not mixed; give another --out, or remove the "
            "folder to begin again"
        )

    def _file(self, point: Point) -> Path:
        return self.path / "points" / f"{point.digest}.json"

    def keep(self, point: Point, outcome: Outcome) -> None:
        """Put a finished point on disk, whole."""
        figures = {name: _spelled(value) for name, value in outcome.figures.items()}
        text = json.dumps(
            {"point": asdict(point), **asdict(outcome), "figures": figures}, indent=1, allow_nan=False
        )
        write_atomically(self._file(point), (text + "\n").encode())

    def outcome(self, point: Point) -> Outcome | None:
        """What is on disk of a point; None if it is not there, damaged, or about another point."""
        found = _read(self._file(point))
        if found is None or found.get("point") != json.loads(json.dumps(asdict(point))):
            return None
        try:
            figures = {name: math.nan if x is None else float(x) for name, x in found["figures"].items()}
            units = {name: str(found["units"][name]) for name in figures}
            return Outcome(figures, units, float(found["seconds"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def missing(self) -> list[Point]:
        """Points that are not finished."""
        return [point for point in self.points if self.outcome(point) is None]

    def records(self) -> tuple[list[dict[str, Any]], dict[str, str], float]:
        """Values and figures of every point, in order; the units of the figures; and the processor time of them all."""
        rows: list[dict[str, Any]] = []
        units: dict[str, str] = {}
        seconds = 0.0
        for point in self.points:
            found = self.outcome(point)
            if found is None:
                raise ValueError(
                    f"{self._file(point)} has been damaged or removed; run the same command again"
                )
            rows.append({**found.figures, **point.row()})
            units |= found.units
            seconds += found.seconds
        figures = [name for name in units if name not in Point.__dataclass_fields__]
        columns = [*Point.__dataclass_fields__, *figures]
        return [{name: row.get(name, math.nan) for name in columns} for row in rows], units, seconds

    def write_table(self) -> tuple[list[dict[str, Any]], dict[str, str], float]:
        """Write the table, whole, and return :meth:`records`; nan stands as null in it."""
        polars = tables()
        rows, units, seconds = self.records()
        kinds = {
            name: getattr(
                polars, KINDS.get(name, "String" if name in Point.__dataclass_fields__ else "Float64")
            )
            for name in rows[0]
        }
        frame = polars.DataFrame(rows, schema=kinds).fill_nan(None)
        content = io.BytesIO()
        frame.write_parquet(content)
        write_atomically(self.table, content.getvalue())
        return rows, units, seconds


def tables() -> Any:
    """The library that writes Parquet."""
    try:
        return importlib.import_module("polars")
    except ImportError:
        raise ImportError(
            "the table of a sweep needs polars: pip install 'tandem-queueing[tables]'"
        ) from None


def _described(points: Sequence[Point], systems: Mapping[str, System]) -> dict[str, Any]:
    values = [asdict(point) for point in points]
    return {
        "format": TITLE,
        "points": len(points),
        "axes": {name: sorted({repr(value[name]) for value in values}) for name in values[0]},
        "digest": hashlib.sha256(json.dumps(values).encode()).hexdigest(),
        "systems": {
            name: hashlib.sha256(repr(system).encode()).hexdigest()[:16] for name, system in systems.items()
        },
        "lengths": {text: drawn(text) for text in sorted({point.lengths for point in points})},
        "sources": made_by(),
        "versions": versions(),
    }


def _read(path: Path) -> dict[str, Any] | None:
    """An object of JSON; None if there is none, or not a whole one."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _spelled(value: float) -> float | str | None:
    """JSON knows no nan and no infinities."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else repr(value)
