"""Traces on disk: saved as JSON, CSV or Parquet, and loaded again equal to the last bit.

The suffix of the path names the form:

* `.json`     one file, for small runs and for other programs;
* `.csv`      a folder with one CSV file per table, which any tool reads;
* `.parquet`  a folder with one Parquet file per table, compact; needs polars (extra `tables`).

A folder holds `trace.json` (version, meta) beside the tables `requests`, `iterations`, `entries` (if recorded),
`classes` (the tbt limit of each SLO class) and `gaps` (non-zero bins of the sketch).  Floats keep every bit, nan and
infinities included; the payload of a nan is not promised.  Saving is all or nothing: the trace is written beside its
target and moved there in one step, so that an interruption leaves the former trace or none, never part of one.
"""

from __future__ import annotations

import json
import math
import operator
import os
import shutil
import signal
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from queueing.tabular import polars, reading_parquet, replacing
from queueing.trace import SKETCH_BINS, Trace

__all__ = ["form_of", "load", "save"]

VERSION = 1
TITLE = "tandem trace"
COLUMNS: dict[str, dict[str, str]] = {
    "requests": {
        "arrival": "f8", "prompt": "i8", "output": "i8", "client": "i8", "tbt": "f8", "ttft": "f8",
        "slo_class": "i8", "status": "i1", "node": "i8", "decoded": "i8", "last_token": "f8", "admitted": "f8",
        "prefill_end": "f8", "first_token": "f8", "finished": "f8", "preemptions": "i8", "longest_gap": "f8",
        "late_gaps": "i8",
    },
    "iterations": {
        "start": "f8", "seconds": "f8", "context": "i8", "node": "i4", "prefill": "i4", "decodes": "i4",
        "blocks": "i4", "waiting": "i4", "running": "i4", "entries": "i4",
    },
    "entries": {"request": "i4", "tokens": "i4"},
    "classes": {"tbt": "f8"},
    "gaps": {"slo_class": "i8", "bin": "i8", "gaps": "i8"},
}  # fmt: skip

Table = Mapping[str, NDArray[Any]]


def save(trace: Trace, path: str | os.PathLike[str]) -> None:
    """Write `trace` to `path`, whole or not at all; the suffix names the form.

    Args:
        trace: its meta must be made of None, booleans, numbers, strings, lists and dictionaries.
        path: ends in .json, .csv or .parquet.  A trace that is there is replaced, anything else is left alone.

    Raises:
        ValueError: the suffix, a column or the meta is not known, or something else stands at `path`.
        ImportError: Parquet without polars.
        OSError: it cannot be written.
    """
    target = Path(path)
    form = form_of(target)
    tables = _tables_of(trace)
    header = {"format": TITLE, "version": VERSION, "meta": _plain(dict(trace.meta), "meta")}
    if form == ".json":
        if target.is_dir():
            raise ValueError(f"{target} is a folder; choose another name for the trace")
        columns = {name: {c: _listed(a) for c, a in table.items()} for name, table in tables.items()}
        with replacing(target) as file:
            json.dump({**header, "tables": columns}, file, allow_nan=False)
        return
    frame_of = polars().DataFrame if form == ".parquet" else None
    with _replacing_folder(target) as part:
        for name, table in tables.items():
            if frame_of is None:
                with (part / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                    _write_csv(file, table)
            else:
                frame_of(dict(table)).write_parquet(part / f"{name}.parquet")
        text = json.dumps({**header, "tables": list(tables)}, indent=1, allow_nan=False)
        (part / "trace.json").write_text(text + "\n", encoding="utf-8")


def load(path: str | os.PathLike[str]) -> Trace:
    """Read the trace that :func:`save` wrote to `path`: equal columns, sketch and meta.

    Raises:
        ValueError: what stands at `path` is not a whole trace; one sentence names the file and the column.
        ImportError: Parquet without polars.
        OSError: it cannot be read.
    """
    source = Path(path)
    form = form_of(source)
    top = source if form == ".json" else source / "trace.json"
    header = _read_header(top)
    names: Any = header["tables"]
    read: dict[str, Mapping[str, Any]] = {}
    if form == ".json":
        if not isinstance(names, dict):
            raise ValueError(f"{top} holds no tables; save the trace again")
        read = dict(names)
    else:
        read_file = _read_csv if form == ".csv" else _read_parquet
        for name in names:
            file = source / f"{name}{form}"
            if not file.is_file():
                raise ValueError(
                    f"{source} has no table {name!r}: the file {file.name} is missing; save the trace again"
                )
            read[name] = read_file(file, name)
    unknown = [name for name in read if name not in COLUMNS]
    missing = [name for name in COLUMNS if name not in read and name != "entries"]
    if unknown or missing:
        what = f"a table {unknown[0]!r} that is not known" if unknown else f"no table {missing[0]!r}"
        raise ValueError(f"{source} has {what}; a trace has the tables {', '.join(COLUMNS)}")
    tables = {name: _checked(table, name, str(source)) for name, table in read.items()}
    return Trace(
        requests=tables["requests"],
        iterations=tables["iterations"],
        entries=tables.get("entries"),
        gaps=_sketch(tables["gaps"], len(tables["classes"]["tbt"]), source),
        class_tbt=tables["classes"]["tbt"],
        meta=header["meta"],
    )


def form_of(path: Path) -> str:
    """Form of trace that the suffix of `path` names; ValueError if it names none."""
    if path.suffix not in (".json", ".csv", ".parquet"):
        raise ValueError(f"{path} names no form of trace; let it end in .json, .csv or .parquet")
    return path.suffix


def _tables_of(trace: Trace) -> dict[str, Table]:
    at_class, at_bin = np.nonzero(trace.gaps)
    tables: dict[str, Table] = {"requests": trace.requests, "iterations": trace.iterations}
    if trace.entries is not None:
        tables["entries"] = trace.entries
    tables["classes"] = {"tbt": trace.class_tbt}
    tables["gaps"] = {"slo_class": at_class, "bin": at_bin, "gaps": trace.gaps[at_class, at_bin]}
    return {name: _checked(table, name, "the trace") for name, table in tables.items()}


def _checked(table: Mapping[str, Any], name: str, where: str) -> Table:
    """The known columns of `table`, in their order and types; ValueError for any other, or of unequal lengths."""
    known = COLUMNS[name]
    for column in table:
        if column not in known:
            raise ValueError(
                f"{where}: table {name!r} has an unknown column {column!r}; it has the columns {', '.join(known)}"
            )
    arrays: dict[str, NDArray[Any]] = {}
    for column, kind in known.items():
        if column not in table:
            raise ValueError(f"{where}: table {name!r} lacks the column {column!r}; save the trace again")
        arrays[column] = _column(table[column], np.dtype(kind), f"{where}: table {name!r}, column {column!r}")
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) > 1:
        raise ValueError(
            f"{where}: table {name!r} has columns of {sorted(lengths)} rows; give all the same length"
        )
    return arrays


def _column(values: Any, kind: np.dtype[Any], where: str) -> NDArray[Any]:
    wanted = "numbers" if kind.kind == "f" else f"integers of {8 * kind.itemsize} bits"
    try:
        if isinstance(values, np.ndarray):
            array = values.astype(kind, casting="same_kind")
        elif kind.kind == "f":
            array = np.array([float(x) for x in values], dtype=kind)
        else:
            array = np.array([operator.index(x) for x in values], dtype=np.int64).astype(kind)
    except (TypeError, ValueError, OverflowError) as problem:
        raise ValueError(f"{where} should hold {wanted}: {problem}") from None
    if kind.kind == "i" and not np.array_equal(array, values):
        raise ValueError(f"{where} should hold {wanted}, but one is too large")
    return np.ascontiguousarray(array)


def _sketch(table: Table, classes: int, source: Path) -> NDArray[np.int64]:
    sketch = np.zeros((classes, SKETCH_BINS), np.int64)
    inside = (table["slo_class"] >= 0) & (table["slo_class"] < classes)
    inside &= (table["bin"] >= 0) & (table["bin"] < SKETCH_BINS)
    if not np.all(inside):
        at = int(np.argmin(inside))
        raise ValueError(
            f"{source}: row {at} of table 'gaps' names class {table['slo_class'][at]} and bin {table['bin'][at]}, "
            f"but there are {classes} classes and {SKETCH_BINS} bins; save the trace again"
        )
    sketch[table["slo_class"], table["bin"]] = table["gaps"]
    return sketch


# JSON knows no nan and no infinities: columns spell them as strings, meta as {"float": ...}.


def _listed(array: NDArray[Any]) -> list[Any]:
    values = array.tolist()
    if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
        return [x if math.isfinite(x) else repr(x) for x in values]
    return values


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, list):
        return [_plain(item, f"{where}[{k}]") for k, item in enumerate(cast("list[Any]", value))]
    if isinstance(value, dict):
        mapping = cast("dict[Any, Any]", value)
        for key in mapping:
            if not isinstance(key, str) or list(mapping) == ["float"]:
                raise ValueError(
                    f"{where} has the key {key!r}, which JSON would change; name it by another string"
                )
        return {key: _plain(item, f"{where}.{key}") for key, item in mapping.items()}
    raise ValueError(
        f"{where} is {value!r}; meta holds None, booleans, numbers, strings, lists and dictionaries"
    )


def _unplain(found: dict[str, Any]) -> Any:
    return float(found["float"]) if list(found) == ["float"] else found


def _read_header(top: Path) -> dict[str, Any]:
    if not top.is_file():
        raise ValueError(
            f"there is no trace at {top.parent if top.name == 'trace.json' else top}; check the path"
        )
    try:
        header = json.loads(top.read_text(encoding="utf-8"), object_hook=_unplain)
    except ValueError as problem:
        raise ValueError(f"{top} is not a trace: {problem}") from None
    if (
        not isinstance(header, dict)
        or header.get("format") != TITLE
        or not {"meta", "tables"} <= header.keys()
    ):
        raise ValueError(f"{top} is not a trace; it should begin with the format {TITLE!r}")
    if header.get("version") != VERSION:
        raise ValueError(
            f"{top} is a trace of version {header.get('version')}, and only {VERSION} is read here"
        )
    return cast("dict[str, Any]", header)


def _write_csv(file: TextIO, table: Table) -> None:
    file.write(",".join(table) + "\n")
    rows = len(next(iter(table.values())))
    for k in range(0, rows, 1 << 16):  # repr of a float is the shortest text that reads back to the same bits
        columns = [map(repr, array[k : k + (1 << 16)].tolist()) for array in table.values()]
        file.writelines(",".join(cells) + "\n" for cells in zip(*columns, strict=True))


def _read_csv(path: Path, name: str) -> Table:
    with path.open(encoding="utf-8-sig") as file:
        header = [column.strip() for column in file.readline().split(",")]
        known = COLUMNS.get(name, {})
        kind = np.dtype([(column, known.get(column, "f8")) for column in dict.fromkeys(header)])
        if len(kind.names or ()) != len(header):
            raise ValueError(
                f"{path} names a column twice: {', '.join(header)}; give every column its own name"
            )
        _checked({column: np.zeros(0, kind[column]) for column in header}, name, str(path))
        here = file.tell()
        if not file.readline():
            return {column: np.zeros(0, kind[column]) for column in header}
        file.seek(here)
        try:
            rows = np.loadtxt(file, dtype=kind, delimiter=",", ndmin=1, comments=None)
        except ValueError as problem:
            raise ValueError(f"{path} is not a table of numbers: {problem}") from None
    return {column: rows[column] for column in header}


def _read_parquet(path: Path, name: str) -> Table:
    with reading_parquet(path) as library:
        frame = library.read_parquet(path)
        return {column: frame[column].to_numpy() for column in frame.columns}


@contextmanager
def _replacing_folder(target: Path) -> Generator[Path]:
    """A new folder that takes the place of `target` when the block ends well, and vanishes otherwise."""
    target = target.resolve()
    if target.exists() and not (target / "trace.json").is_file():
        raise ValueError(f"{target} is there and is not a trace; choose another name or remove it")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        part.mkdir()
        yield part
        with _uninterrupted():  # two renames, since no call replaces a folder that is not empty
            if target.exists():
                os.replace(target, old)
            os.replace(part, target)
    finally:
        with _uninterrupted():
            if old.exists() and not target.exists():
                os.replace(old, target)
            shutil.rmtree(part, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _uninterrupted() -> Generator[None]:
    """Put Ctrl-C off until the block is done; it reaches only the main thread."""
    handler = signal.getsignal(signal.SIGINT)
    if (
        handler is None or threading.current_thread() is not threading.main_thread()
    ):  # None: not Python's to restore
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if caught and callable(handler):
            handler(*caught[0])
