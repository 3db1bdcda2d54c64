"""Workloads larger than memory: columns in files, written piece by piece, and mapped into memory.

    workload = store(read_pieces("day.parquet"), "day")      # or any iterable of workloads, in order of time
    trace = simulate(workload, system, policy, folder=Path("run"))

Each piece is a :class:`~queueing.workload.Workload` and so was checked; that they follow one another is checked here.
"""

from __future__ import annotations

import csv
import importlib
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from queueing.storage import Files
from queueing.tabular import open_text
from queueing.workload import CSV_COLUMNS, Workload

__all__ = ["read_pieces", "store", "stored"]


def store(pieces: Iterable[Workload], folder: str | os.PathLike[str]) -> Workload:
    """Write the requests of the pieces, one after another, into a new folder, and return them mapped into memory.

    Takes the memory of one piece.  The folder appears whole or not at all.

    Raises:
        ValueError: there is no piece, or one begins before the last one ended, or only some have predicted lengths, or
            the folder is there.
    """
    target = Path(folder)
    if target.exists():
        raise ValueError(f"{target} is there; name a new folder for the workload, or read it with stored()")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        files = Files(part)
        columns: dict[str, Any] = {}
        last = -np.inf
        for piece in pieces:
            given = {field.name: getattr(piece, field.name) for field in fields(Workload)}
            given = {name: values for name, values in given.items() if values is not None}
            if not columns:
                columns = {name: files.rows(name, values.dtype) for name, values in given.items()}
            if given.keys() != columns.keys():
                raise ValueError(
                    "some pieces have predicted lengths and some have not; give all of them or none"
                )
            if piece.arrival[0] < last:
                raise ValueError(
                    f"a piece begins at {piece.arrival[0]} s, before the end of the one before it at {last} s; "
                    "give the pieces in order of time"
                )
            last = float(piece.arrival[-1])
            for name, values in given.items():
                columns[name].append(values, 1.0)
        if not columns:
            raise ValueError("the workload is empty: give at least one piece")
        for column in columns.values():
            column.all()
        os.replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return stored(target)


def stored(folder: str | os.PathLike[str]) -> Workload:
    """The workload that :func:`store` wrote, mapped into memory; ValueError if there is none."""
    where = Path(folder)
    columns: dict[str, Any] = {}
    for field in fields(Workload):
        file = where / f"{field.name}.npy"
        if file.exists():
            columns[field.name] = np.load(file, mmap_mode="r")
        elif field.name != "predicted":
            raise ValueError(f"{where} is no stored workload: {file.name} is missing; make it with store()")
    return Workload.mapped(**columns)


def read_pieces(path: str | os.PathLike[str], rows: int = 1 << 20) -> Iterator[Workload]:
    """The requests of a CSV file (as :meth:`Workload.read_csv` reads) or of a Parquet file with the same columns.

    At most `rows` of them are in memory at a time.

    Raises:
        ValueError: a row or a column is not as it should be; the sentence names the file and the piece.
        ImportError: Parquet without polars.
    """
    where = Path(path)
    tables = _parquet(where, rows) if where.suffix == ".parquet" else _csv(where, rows)
    for first, table in tables:
        unknown = [name for name in table if name not in CSV_COLUMNS]
        if unknown:
            raise ValueError(
                f"{where} has the unknown column {unknown[0]!r}; known are {', '.join(CSV_COLUMNS)}"
            )
        try:
            yield Workload.from_columns(**{CSV_COLUMNS[name]: values for name, values in table.items()})
        except ValueError as error:
            raise ValueError(f"{where}, rows from {first}: {error}") from None


def _csv(where: Path, rows: int) -> Iterator[tuple[int, dict[str, Any]]]:
    with open_text(where) as file:
        reader = csv.reader(file, strict=True)
        header = [name.strip() for name in next(reader, [])]
        for first in itertools.count(0, rows):
            cells = list(itertools.islice(reader, rows))
            if not cells:
                return
            try:
                yield first, dict(zip(header, np.array(cells, np.float64).T, strict=True))
            except ValueError as error:
                raise ValueError(f"{where}, rows from {first}: {error}") from None


def _parquet(where: Path, rows: int) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        polars: Any = importlib.import_module("polars")
    except ImportError:
        raise ImportError(
            "Parquet needs polars: pip install 'tandem-queueing[tables]', or give a CSV file"
        ) from None
    frame = polars.scan_parquet(where)
    for first in itertools.count(0, rows):
        piece = frame.slice(first, rows).collect()
        if len(piece) == 0:
            return
        yield first, {name: piece[name].to_numpy() for name in piece.columns}
