"""Logs of somebody else's run: one row per request, what it asked for and when it was answered, read into a Trace.

| form | what it holds | reader |
|---|---|---|
| CSV | client, prompt_tokens, output_tokens, arrival_s, first_token_latency_s, request_latency_s | `read_request_log` |
| JSON of the VTC artifact | adapter_dir, prompt_len, output_len, req_time, and the two latencies | `read_responses` |

Latencies are seconds from sending; -1 in both says that the request was rejected.  A log knows no batches, so its trace
has neither iterations nor entries, and `meta["unknown"]` names the request columns that it does not know: they are nan,
or 0 where a column holds whole numbers.  What needs token events refuses such a trace in a sentence.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from queueing.tabular import UNREADABLE, Table, open_text, read_table
from queueing.trace import SKETCH_BINS, STATUS, Trace
from queueing.trace_io import COLUMNS
from queueing.workload import ColumnError, Workload

__all__ = ["read_request_log", "read_responses", "request_log"]

REJECTED = -1.0
UNKNOWN = ["admitted", "prefill_end", "longest_gap", "preemptions"]

# argument of request_log -> column of a CSV log, field of a response of the artifact
_CSV = {
    "client": "client",
    "prompt": "prompt_tokens",
    "output": "output_tokens",
    "arrival": "arrival_s",
    "first_token_latency": "first_token_latency_s",
    "request_latency": "request_latency_s",
}
_RESPONSE = {
    "client": "adapter_dir",
    "prompt": "prompt_len",
    "output": "output_len",
    "arrival": "req_time",
    "first_token_latency": "first_token_latency",
    "request_latency": "request_latency",
}


def request_log(
    arrival: ArrayLike,
    prompt: ArrayLike,
    output: ArrayLike,
    client: ArrayLike,
    first_token_latency: ArrayLike,
    request_latency: ArrayLike,
    *,
    clients: Collection[int] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Trace:
    """Trace of a log in columns, one number per request, in order of arrival.

    Args:
        arrival, prompt, output, client: as in :class:`~queueing.workload.Workload`; s and tokens.
        first_token_latency, request_latency: s from arrival to the first and the last token; -1 in both: rejected.
        clients: the clients there are; None: whoever occurs.
        meta: what else to keep.

    Raises:
        ValueError: a value that no request can have (:class:`~queueing.workload.ColumnError`, with its row).
    """
    offered = Workload(arrival, prompt, output, client)
    first, whole = (
        np.asarray(latency, dtype=np.float64) for latency in (first_token_latency, request_latency)
    )
    for name, latency in (("first_token_latency", first), ("request_latency", whole)):
        if latency.shape != (len(offered),):
            raise ValueError(
                f"{name} has {latency.size} rows and arrival has {len(offered)}; give one value per request"
            )
        _refuse(name, latency, ~(np.isfinite(latency) & ((latency >= 0) | (latency == REJECTED))), "no latency",
                "give seconds >= 0, or -1 for a rejected request")  # fmt: skip
    rejected = whole == REJECTED
    _refuse("first_token_latency", first, (first == REJECTED) != rejected, "rejected in one latency only",
            "a rejected request has -1 in both")  # fmt: skip
    _refuse(
        "request_latency",
        whole,
        whole < first,
        "before the first token",
        "the last token cannot come earlier",
    )
    if clients is not None:
        known = np.isin(offered.client, np.array(sorted(clients), dtype=np.int64))
        _refuse("client", offered.client, ~known, "an unknown client",
                f"the clients are {', '.join(map(str, sorted(clients)))}")  # fmt: skip
    n = len(offered)
    nan, zero = np.full(n, np.nan), np.zeros(n, np.int64)
    finished = np.where(rejected, np.nan, offered.arrival + whole)
    columns: dict[str, NDArray[Any]] = {
        "arrival": offered.arrival,
        "prompt": offered.prompt,
        "output": offered.output,
        "client": offered.client,
        "tbt": offered.tbt,
        "ttft": offered.ttft,
        "slo_class": zero,
        "status": np.where(rejected, STATUS.index("rejected"), STATUS.index("finished")).astype(np.int8),
        "node": zero,
        "decoded": np.where(rejected, 0, offered.output),
        "last_token": finished,
        "admitted": nan,
        "prefill_end": nan,
        "first_token": np.where(rejected, np.nan, offered.arrival + first),
        "finished": finished,
        "preemptions": zero,
        "longest_gap": nan,
        "late_gaps": zero,  # there are no limits to be late for
    }
    iterations = {name: np.zeros(0, kind) for name, kind in COLUMNS["iterations"].items()}
    gaps = np.zeros((1, SKETCH_BINS), np.int64)
    return Trace(columns, iterations, None, gaps, np.array([np.inf]), {**(meta or {}), "unknown": UNKNOWN})


def _refuse(name: str, column: NDArray[Any], wrong: NDArray[np.bool_], what: str, instead: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ColumnError(name, row, f"{column[row].item()} is {what}; {instead}")


def read_request_log(path: str | os.PathLike[str], *, clients: Collection[int] | None = None) -> Trace:
    """Read a CSV log, one row per request in order of arrival; .gz is read through gzip.

    Columns: client, prompt_tokens, output_tokens, arrival_s, first_token_latency_s, request_latency_s (see the module).
    If there is a column request, it holds ids, and no two may be equal; other columns are not looked at.

    Args:
        path: the file.
        clients: the clients there are; a row of another one is refused.  None: whoever occurs.

    Raises:
        ValueError: in one sentence with file, line and column.
    """
    table = read_table(path)
    missing = [name for name in _CSV.values() if name not in table.columns]
    if missing:
        raise ValueError(
            f"{table.path} lacks the columns {', '.join(missing)}; a request log has {', '.join(_CSV.values())}"
        )
    if "request" in table.columns:
        seen: dict[str, int] = {}
        for line, name in zip(table.lines, table.columns["request"], strict=True):
            if seen.setdefault(name, line) != line:
                raise ValueError(
                    f"{table.path}, line {line}, column request: {name} was the id of line {seen[name]}; "
                    "give every request its own"
                )
    return _trace_of(table, _CSV, {name: table.numbers(column) for name, column in _CSV.items()}, clients)


def read_responses(path: str | os.PathLike[str], *, clients: Collection[int] | None = None) -> Trace:
    """Read a result file of the VTC artifact: one line of JSON with config and result.responses.

    The client is the number at the end of adapter_dir.  The summary in the file is not read: it counts rejected rows in
    its means, and never counts them as aborted.  The config is kept as `meta["config"]`.

    Args and errors: as in :func:`read_request_log`; the line that a sentence names is the number of the response.
    """
    where = Path(path)
    try:
        with open_text(where) as file:
            record = json.loads(file.read())
    except UNREADABLE as problem:
        raise ValueError(f"{where} is not JSON in UTF-8: {problem}") from None
    except (json.JSONDecodeError, RecursionError) as problem:
        raise ValueError(f"{where} is not one line of JSON: {problem}") from None
    result = record.get("result") if isinstance(record, dict) else None
    responses = result.get("responses") if isinstance(result, dict) else None
    if not isinstance(responses, list) or not responses:
        raise ValueError(
            f"{where} has no result.responses; give a result file of the VTC artifact with a response"
        )
    cells: dict[str, list[str]] = {column: [] for column in _RESPONSE.values()}
    named: dict[str, str] = {}
    for row, response in enumerate(responses, start=1):
        for column in cells:
            if not isinstance(response, dict) or column not in response:
                raise ValueError(
                    f"{where}, response {row} lacks {column!r}; a response has {', '.join(cells)}"
                )
            cells[column].append(str(response[column]))
        adapter = cells["adapter_dir"][-1]
        number = re.search(r"\d+$", adapter)
        if number is None or named.setdefault(number.group(), adapter) != adapter:
            raise ValueError(
                f"{where}, response {row}, adapter_dir: {adapter!r} does not end in a number of its own; "
                "name every client by one"
            )
        cells["adapter_dir"][-1] = number.group()
    table = Table(where, range(1, len(responses) + 1), cells)
    columns = {name: table.numbers(column) for name, column in _RESPONSE.items()}
    return _trace_of(table, _RESPONSE, columns, clients, {"config": record.get("config")})


def _trace_of(
    table: Table,
    names: Mapping[str, str],
    columns: Mapping[str, Sequence[float]],
    clients: Collection[int] | None,
    meta: Mapping[str, Any] | None = None,
) -> Trace:
    try:
        return request_log(**columns, clients=clients, meta={"source": table.path.name, **(meta or {})})
    except ColumnError as error:
        at = f"{table.path}, line {table.lines[error.row]}, column {names[error.column]}"
        raise ValueError(f"{at}: {error.problem}") from None
