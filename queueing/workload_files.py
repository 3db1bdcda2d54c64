"""Workloads larger than memory: columns in files, written piece by piece, and mapped into memory.

    workload = store(read_pieces("day.parquet"), "day")      # or any iterable of workloads, in order of time
    trace = simulate(workload, system, policy, folder=Path("run"))

Each piece is a :class:`~queueing.workload.Workload` and so was checked; that they follow one another is checked here.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from queueing.storage import Files
from queueing.tabular import reading_parquet
from queueing.workload import ROWS, Workload, csv_pieces, pieces_of

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
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    with Files(part) as files:
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
    return stored(target)


def stored(folder: str | os.PathLike[str]) -> Workload:
    """The workload that :func:`store` wrote, mapped into memory; ValueError if there is none, or not the whole."""
    where = Path(folder)
    columns: dict[str, Any] = {}
    for field in fields(Workload):
        file = where / f"{field.name}.npy"
        if file.exists():
            try:
                columns[field.name] = np.load(file, mmap_mode="r")
            except (ValueError, EOFError) as problem:
                raise ValueError(f"{file} is damaged: {problem}; make {where} again with store()") from None
        elif field.name != "predicted":
            raise ValueError(f"{where} is no stored workload: {file.name} is missing; make it with store()")
    if len({column.shape for column in columns.values()}) > 1:
        raise ValueError(f"the columns in {where} are of unequal lengths; make it again with store()")
    return Workload.mapped(**columns)


def read_pieces(path: str | os.PathLike[str], rows: int = ROWS) -> Iterator[Workload]:
    """The requests of a CSV file, by the rules of :meth:`Workload.read_csv`, or of a Parquet file of such columns.

    At most `rows` of them are in memory at a time.

    Raises:
        ValueError: a row or a column is not as it should be, or the file is damaged; one sentence names file and row.
        ImportError: Parquet without polars.
    """
    where = Path(path)
    return (
        pieces_of(where, "row", _parquet(where, rows))
        if where.suffix == ".parquet"
        else csv_pieces(where, rows)
    )


def _parquet(where: Path, rows: int) -> Iterator[tuple[range, list[str], Callable[[str], Any]]]:
    """Tables of a Parquet file, whose rows count from 0."""
    for first in itertools.count(0, rows):
        with reading_parquet(where) as polars:
            piece = polars.scan_parquet(where, glob=False).slice(first, rows).collect()
        if len(piece) == 0 and first > 0:
            return
        if len(piece) == 0:
            raise ValueError(f"{where} is empty: give at least one row")
        yield (
            range(first, first + len(piece)),
            piece.columns,
            lambda name, piece=piece: piece[name].to_numpy(),
        )
