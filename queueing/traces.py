"""Readers of public trace formats: each turns a file of others into a Workload and tells what it left out.

| format | columns read | reader |
|---|---|---|
| Azure LLM inference, raw | TIMESTAMP, ContextTokens, GeneratedTokens | `read_azure` |
| Azure LLM inference, reduced | arrival_s, prompt_tokens, output_tokens | `read_azure` |
| Vidur / Sarathi-Serve | arrived_at, num_prefill_tokens, num_decode_tokens | `read_vidur`, `read_vidur_lengths` |
| Mooncake (JSON lines) | timestamp (ms), input_length, output_length | `read_mooncake` |
| BurstGPT | Timestamp, Request tokens, Response tokens | `read_burstgpt` |
| any CSV with columns for these | named by the caller | `read_columns` |

Times are moved so that the first request arrives at 0.  Files ending in .gz are read through gzip.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from queueing.data import DATASETS, data_folder, dataset, local_copy, verified
from queueing.lengths import Empirical
from queueing.tabular import UNREADABLE, Table, open_text, read_table, replacing
from queueing.workload import ColumnError, Workload

__all__ = [
    "DATASETS",
    "Reading",
    "fetch",
    "local_copy",
    "read_azure",
    "read_burstgpt",
    "read_columns",
    "read_mooncake",
    "read_vidur",
    "read_vidur_lengths",
]

_PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader found: the workload, and what of the file is not in it.

    `rows` in the file; `left_out`, reason -> number of rows; `out_of_order`, rows that stood after a later one and were
    sorted (stably).  Guarantee: rows = len(workload) + sum of left_out.
    """

    workload: Workload
    rows: int
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    out_of_order: int = 0


def read_azure(path: _PathLike) -> Reading:
    """Read an Azure LLM inference trace, as published (TIMESTAMP, ContextTokens, GeneratedTokens) or reduced.

    Time stamps are read to 100 ns, which the published files have, with or without a time zone.  No client is recorded.
    Source: Azure/AzurePublicDataset (CC-BY-4.0); Patel et al., "Splitwise", ISCA 2024.
    """
    table = read_table(path)
    if "TIMESTAMP" not in table.columns:
        return _reading(table, table.numbers("arrival_s"), "prompt_tokens", "output_tokens")
    ticks = [_ticks(cell, table, row) for row, cell in enumerate(table.texts("TIMESTAMP"))]
    first = min(ticks)
    arrival = [(tick - first) / 10**7 for tick in ticks]
    return _reading(table, arrival, "ContextTokens", "GeneratedTokens")


def read_vidur(path: _PathLike) -> Reading:
    """Read a trace of Vidur or Sarathi-Serve with arrival times.

    Columns: arrived_at (s), num_prefill_tokens, num_decode_tokens.
    Errors: ValueError if there is no arrived_at; most processed traces are lists of lengths, for `read_vidur_lengths`.
    """
    table = read_table(path)
    if "arrived_at" not in table.columns:
        raise ValueError(
            f"{table.path} has no column arrived_at, so it is a list of lengths; use read_vidur_lengths"
        )
    return _reading(table, table.numbers("arrived_at"), "num_prefill_tokens", "num_decode_tokens")


def read_vidur_lengths(path: _PathLike) -> Empirical:
    """Read num_prefill_tokens and num_decode_tokens of a Vidur or Sarathi-Serve trace as a list of lengths."""
    table = read_table(path)
    columns = [np.array(table.numbers(name)) for name in ("num_prefill_tokens", "num_decode_tokens")]
    try:
        return Empirical(columns[0], columns[1])
    except ValueError as error:
        raise ValueError(f"{table.path}: {error}") from None


def read_mooncake(path: _PathLike) -> Reading:
    """Read a Mooncake trace: JSON lines with timestamp (ms), input_length and output_length (tokens).

    Not kept: hash_ids, the identity of prompt blocks, because the serving loop has no prefix cache.
    Source: kvcache-ai/Mooncake (Apache-2.0); Qin et al., FAST 2025.
    """
    where = Path(path)
    names = ("timestamp", "input_length", "output_length")
    lines: list[int] = []
    cells: dict[str, list[str]] = {name: [] for name in names}
    try:
        with open_text(where) as file:
            for line, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                record = _record(text, f"{where}, line {line}")
                for name in names:
                    if not isinstance(record, dict) or name not in record:
                        raise ValueError(
                            f"{where}, line {line} lacks {name!r}; a Mooncake line has {', '.join(names)}"
                        )
                    cells[name].append(str(record[name]))
                lines.append(line)
    except UNREADABLE as problem:
        raise ValueError(f"{where} is not JSON lines in UTF-8: {problem}") from None
    if not lines:
        raise ValueError(f"{where} is empty: give at least one line of JSON")
    table = Table(where, lines, cells)
    return _reading(table, [ms / 1000 for ms in table.numbers("timestamp")], "input_length", "output_length")


def _record(text: str, where: str) -> Any:
    """One line of JSON."""
    try:
        return json.loads(text.rstrip())
    except json.JSONDecodeError as problem:
        what = f"{problem.msg}, at column {problem.colno}"
    except (
        ValueError,
        RecursionError,
    ) as problem:  # numbers of thousands of digits, brackets of thousands of levels
        what = str(problem)
    raise ValueError(f"{where} is not JSON: {what}")


def read_burstgpt(path: _PathLike, *, client: str | None = None) -> Reading:
    """Read a BurstGPT trace: Timestamp (s), Request tokens, Response tokens.

    A row with no response tokens is a failed request (the trace's own convention): it is left out and counted.
    Args: client, a column (such as "Model") whose values become clients, in order of appearance; None: one client.
    Source: HPMLL/BurstGPT (CC-BY-4.0); Wang et al., arXiv 2401.17644.
    """
    table = read_table(path)
    failed = [tokens == 0 for tokens in table.numbers("Response tokens")]
    return _reading(
        table,
        table.numbers("Timestamp"),
        "Request tokens",
        "Response tokens",
        client,
        {"no response tokens": failed},
    )


def read_columns(
    path: _PathLike,
    *,
    arrival: str = "arrival_s",
    prompt: str = "prompt_tokens",
    output: str = "output_tokens",
    client: str | None = None,
    seconds_per_unit: float = 1.0,
) -> Reading:
    """Read any CSV file whose columns the caller names; other columns are not looked at.

    Args: names of columns; client as in `read_burstgpt`; seconds_per_unit, 0.001 where the arrival column is in ms.
    """
    if not (seconds_per_unit > 0 and np.isfinite(seconds_per_unit)):
        raise ValueError(f"a unit of arrival time is {seconds_per_unit} s; give a finite number > 0")
    table = read_table(path)
    return _reading(table, [t * seconds_per_unit for t in table.numbers(arrival)], prompt, output, client)


def _reading(
    table: Table,
    arrival: Sequence[float],
    prompt: str,
    output: str,
    client: str | None = None,
    leave_out: Mapping[str, Sequence[bool]] | None = None,
) -> Reading:
    """Workload of the rows that no reason leaves out, sorted stably by arrival, first arrival at 0."""
    rows = len(table.lines)
    when = np.array(arrival)
    if not np.isfinite(when).all():
        line = table.lines[int(np.argmin(np.isfinite(when)))]
        raise ValueError(f"{table.path}, line {line}: the arrival time is not finite; give seconds")
    kept = np.ones(rows, dtype=bool)
    left_out: dict[str, int] = {}
    for reason, flags in (leave_out or {}).items():
        left_out[reason] = int((kept & np.array(flags)).sum())
        kept &= ~np.array(flags)
    if not kept.any():
        raise ValueError(
            f"{table.path}: all {rows} rows are left out ({', '.join(left_out)}); nothing remains to serve"
        )
    with np.errstate(over="ignore"):  # times 10^308 s apart become infinite, and are refused below
        when = when - when[kept].min()
    order = np.flatnonzero(kept)
    out_of_order = int((when[order] < np.maximum.accumulate(when[order])).sum())
    order = order[np.argsort(when[order], kind="stable")]
    names = {"prompt": prompt, "output": output}
    try:
        workload = Workload(
            when[order],
            np.array(table.numbers(prompt))[order],
            np.array(table.numbers(output))[order],
            None if client is None else _numbered(table.texts(client))[order],
        )
    except ColumnError as error:
        line = table.lines[order[error.row]]
        name = names.get(error.column, error.column)
        raise ValueError(f"{table.path}, line {line}, column {name}: {error.problem}") from None
    return Reading(workload, rows, {reason: n for reason, n in left_out.items() if n}, out_of_order)


def _numbered(labels: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Labels as numbers in order of first appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)


def _ticks(text: str, table: Table, row: int) -> int:
    """A time stamp in units of 100 ns since year 1; seven digits of the second, which `datetime` cannot hold."""
    body, dot, tail = text.strip().partition(".")
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
    try:
        if len(digits) > 7 or (dot and not digits):
            raise ValueError
        whole = datetime.fromisoformat(body + tail[len(digits) :])
        since = whole.replace(tzinfo=None) - datetime.min - (whole.utcoffset() or timedelta())
    except ValueError:
        raise ValueError(
            f"{table.path}, line {table.lines[row]}, column TIMESTAMP: {text!r} is not a time; "
            "give YYYY-MM-DD HH:MM:SS with at most seven decimals"
        ) from None
    return (since.days * 86_400 + since.seconds) * 10**7 + int(digits.ljust(7, "0"))


# -- public files by name


def fetch(name: str) -> Path:
    """Path of a public data set, reduced and verified.

    It comes from the folder TANDEM_DATA if that is set, else it is downloaded once.  A download goes through pooch into
    its cache, from a fixed commit, and is reduced to the columns of the data set; what counts is the sha256 of the
    reduced file.
    Errors: ValueError for an unknown name or a file that is not the expected one; ModuleNotFoundError without pooch.
    """
    wanted = dataset(name)
    if data_folder() is not None:
        return local_copy(name)
    try:
        import pooch
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"downloading {name} needs pooch: pip install 'tandem-queueing[traces]', "
            f"or set TANDEM_DATA to a folder that holds {wanted.path}"
        ) from None
    raw = Path(
        pooch.retrieve(wanted.url, known_hash=None, fname=f"{name}.raw.csv", path=pooch.os_cache("tandem"))
    )
    reduced = raw.with_name(f"{name}.csv")
    reducer: Callable[[Path, Path], None] = _reduce_azure if name.startswith("azure") else _reduce_lengths
    reducer(raw, reduced)
    return verified(reduced, wanted)


def _reduce_lengths(raw: Path, reduced: Path) -> None:
    """num_prefill_tokens and num_decode_tokens of a processed trace, as prompt_tokens and output_tokens."""
    table = read_table(raw)
    pairs = zip(table.numbers("num_prefill_tokens"), table.numbers("num_decode_tokens"), strict=True)
    with replacing(reduced) as file:
        file.write("prompt_tokens,output_tokens\n")
        file.writelines(f"{p:.0f},{d:.0f}\n" for p, d in pairs)


def _reduce_azure(raw: Path, reduced: Path) -> None:
    """TIMESTAMP as seconds after the first request with seven decimals, and the two lengths."""
    table = read_table(raw)
    ticks = [_ticks(cell, table, row) for row, cell in enumerate(table.texts("TIMESTAMP"))]
    rows = zip(ticks, table.numbers("ContextTokens"), table.numbers("GeneratedTokens"), strict=True)
    with replacing(reduced) as file:
        file.write("arrival_s,prompt_tokens,output_tokens\n")
        for tick, p, d in rows:
            since = tick - ticks[0]
            file.write(f"{since // 10**7}.{since % 10**7:07d},{p:.0f},{d:.0f}\n")
