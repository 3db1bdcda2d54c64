"""Tables on disk: CSV read with line numbers, Parquet by polars, and files that are either whole or absent.

A reader names file, line and column in every complaint; a writer puts its text beside the target and moves it there in
one step, so that an interrupted run leaves the old file or none, never half a file.
"""

from __future__ import annotations

import csv
import gzip
import importlib
import itertools
import math
import os
import sys
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

__all__ = [
    "UNREADABLE",
    "Table",
    "open_text",
    "polars",
    "read_table",
    "read_tables",
    "reading_parquet",
    "replacing",
]

UNREADABLE = (
    UnicodeDecodeError,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
)  # what a file that is not text may raise


@dataclass(frozen=True, slots=True)
class Table:
    """Cells of a CSV file as text: `columns[name][row]`, and the line of the file each row stands on."""

    path: Path
    lines: Sequence[int]
    columns: Mapping[str, Sequence[str]]

    def texts(self, column: str) -> Sequence[str]:
        """Cells of one column; ValueError names the columns there are if it is absent."""
        if column not in self.columns:
            raise ValueError(
                f"{self.path} has no column {column!r}; its columns are {', '.join(self.columns)}"
            )
        return self.columns[column]

    def numbers(self, column: str) -> list[float]:
        """Cells of one column as numbers (inf allowed, nan not); ValueError names the first cell that is none."""
        cells = self.texts(column)
        with suppress(ValueError):
            values = list(map(float, cells))
            if "_" not in "".join(cells) and not any(map(math.isnan, values)):
                return values
        row = next(row for row, cell in enumerate(cells) if not _is_number(cell))
        raise ValueError(
            f"{self.path}, line {self.lines[row]}, column {column}: {cells[row]!r} is not a number"
        )


def _is_number(cell: str) -> bool:
    try:
        return "_" not in cell and not math.isnan(float(cell))
    except ValueError:
        return False


def read_table(path: str | os.PathLike[str]) -> Table:
    """Read a CSV file (UTF-8, comma, one header line; gzip if its name ends in .gz); blank lines are passed over.

    Errors: ValueError in one sentence for a file that is not such a table or has no rows; OSError if it cannot be read.
    """
    (table,) = read_tables(path, sys.maxsize)
    return table


def read_tables(path: str | os.PathLike[str], rows: int) -> Iterator[Table]:
    """The same file in tables of at most `rows` rows; what is wrong is raised where it is reached."""
    where = Path(path)
    empty = True
    try:
        with open_text(where) as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            twice = [name for name in header if header.count(name) > 1]
            if twice:
                raise ValueError(f"{where} has the column {twice[0]!r} twice; give every column its own name")
            filled = (cells for cells in reader if cells)
            while True:
                lines: list[int] = []
                table: list[list[str]] = []
                for cells in itertools.islice(filled, rows):
                    if len(cells) != len(header):
                        raise ValueError(
                            f"{where}, line {reader.line_num}: {len(cells)} cells under a header of {len(header)}; "
                            "give every row one cell per column"
                        )
                    lines.append(reader.line_num)
                    table.append(cells)
                if not lines:
                    break
                empty = False
                yield Table(where, lines, dict(zip(header, map(list, zip(*table, strict=True)), strict=True)))
    except (csv.Error, *UNREADABLE) as problem:
        raise ValueError(f"{where} is not a CSV file in UTF-8: {problem}") from None
    if empty:
        raise ValueError(f"{where} is empty: give a header line and at least one row")


def polars() -> Any:
    """The library that reads and writes Parquet; ImportError says how to install it."""
    try:
        return importlib.import_module("polars")
    except ImportError:
        raise ImportError(
            "Parquet needs polars: pip install 'tandem-queueing[tables]', or use a form without, such as CSV"
        ) from None


@contextmanager
def reading_parquet(path: Path) -> Generator[Any]:
    """polars, by which the block reads the Parquet file `path`; ValueError if that is damaged or is none."""
    library = polars()
    try:
        yield library
    except (library.exceptions.PolarsError, library.exceptions.PanicException) as problem:
        raise ValueError(f"{path} is not a whole Parquet file: {' '.join(str(problem).split())}") from None


def open_text(path: Path) -> TextIO:
    """Open a text file for reading, through gzip if its name ends in .gz; a byte-order mark is passed over."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Generator[TextIO]:
    """Write a text file that appears whole or not at all, whatever interrupts the writing.

    The text goes to a hidden file in the same folder, which takes the target's name when the block ends without an
    exception and is removed otherwise.  A target that is no regular file (a pipe, a terminal) is written directly.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        with target.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
