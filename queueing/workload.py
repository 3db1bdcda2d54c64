"""Workload: the requests a system is offered, in columns, in order of arrival.

Request i arrives at a_i (s) with a prompt of p_i tokens, for which d_i tokens will be generated; it belongs to a client
and carries limits on the time between tokens (TBT) and on the time to first token (TTFT).  The output length d_i is
known to the serving loop alone; what a scheduler may know of it is the separate column `predicted`.

Common random numbers: :meth:`Workload.generate` draws arrivals, lengths and classes from three independent streams
spawned from one generator, so that with one seed the lengths and classes of request i are the same whatever the arrival
process, and Poisson arrivals at rate 2λ are those at rate λ with time halved.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from queueing.lengths import Lengths, Moments
from queueing.tabular import read_tables, replacing

if TYPE_CHECKING:
    from queueing.arrivals import Arrivals

__all__ = ["MOST_TOKENS", "ColumnError", "SloClass", "Summary", "Workload", "csv_pieces", "pieces_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_TOKENS = 10**9  # keeps every sum of products of lengths that the models form inside 64 bits

# column of a CSV file -> field
CSV_COLUMNS = {
    "arrival_s": "arrival",
    "prompt_tokens": "prompt",
    "output_tokens": "output",
    "client": "client",
    "tbt_s": "tbt",
    "ttft_s": "ttft",
    "predicted_tokens": "predicted",
}
_REQUIRED = ("arrival_s", "prompt_tokens", "output_tokens")
ROWS = 1 << 14  # of a file, read at a time


class ColumnError(ValueError):
    """A value that a column of a workload may not hold: `column`, `row` (from 0) and the `problem` in words."""

    def __init__(self, column: str, row: int, problem: str) -> None:
        super().__init__(column, row, problem)
        self.column, self.row, self.problem = column, row, problem

    def __str__(self) -> str:
        return f"{self.column}, row {self.row}: {self.problem}"


@dataclass(frozen=True, slots=True)
class SloClass:
    """A share of the requests that carry the same limits.

    Args: share, probability that a request is of this class; tbt, ttft, limits in s, > 0, inf for none.
    """

    share: float
    tbt: float = np.inf
    ttft: float = np.inf

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"the share of a class is {self.share}; give a probability in [0, 1]")
        for name in ("tbt", "ttft"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"the {name} limit of a class is {getattr(self, name)}; give seconds > 0 (inf for none)"
                )


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures that describe a workload.

    `duration` is last less first arrival (s); `rate` is (n - 1) / duration, None if all arrive at once; percentiles are
    (p50, p90, p99) by linear interpolation; `moments` are those of the lengths as they stand.
    """

    requests: int
    duration: float
    rate: float | None
    moments: Moments
    prompt_percentiles: tuple[float, float, float]
    output_percentiles: tuple[float, float, float]
    longest_prompt: int
    longest_output: int
    clients: int
    slo_classes: int


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class Workload:
    """Requests in order of arrival, as read-only columns of equal length n >= 1, checked at construction.

    Args (each 1-D, length n; copied):
        arrival: s, finite, >= 0, nondecreasing.        prompt, output: tokens, whole numbers from 1 to 10^9.
        client: number >= 0; default all 0.             tbt, ttft: limits in s, > 0; default inf (none).
        predicted: tokens >= 1, the announced bound or prediction of `output`; default None (nothing announced).
    Errors: ValueError in one sentence naming column, row and value (:class:`ColumnError` where there is a row).
    Not promised: that a request fits a system; the serving loop rejects and counts those that do not.
    Example:
        >>> w = Workload([0.0, 0.5], prompt=[100, 7], output=[3, 1])
        >>> len(w), int(w.prompt.sum()), w.client.tolist()
        (2, 107, [0, 0])
    """

    arrival: Floats
    prompt: Ints
    output: Ints
    client: Ints
    tbt: Floats
    ttft: Floats
    predicted: Ints | None

    def __init__(
        self,
        arrival: ArrayLike,
        prompt: ArrayLike,
        output: ArrayLike,
        client: ArrayLike | None = None,
        tbt: ArrayLike | None = None,
        ttft: ArrayLike | None = None,
        predicted: ArrayLike | None = None,
    ) -> None:
        a = _numbers("arrival", arrival)
        n = len(a)
        if n == 0:
            raise ValueError("the workload is empty: give at least one request")
        a = (
            _seconds("arrival", a, (a >= 0) & np.isfinite(a), "an arrival time; give finite seconds >= 0")
            + 0.0
        )
        early = np.concatenate([[False], a[1:] < a[:-1]])
        if early.any():
            row = int(np.argmax(early))
            raise ColumnError(
                "arrival",
                row,
                f"{a[row].item()} s comes after {a[row - 1].item()} s; sort the requests by arrival",
            )
        columns: dict[str, Any] = {
            "arrival": a,
            "prompt": _whole("prompt", prompt, 1),
            "output": _whole("output", output, 1),
            "client": np.zeros(n, np.int64) if client is None else _whole("client", client, 0),
            "tbt": np.full(n, np.inf) if tbt is None else _limit("tbt", tbt),
            "ttft": np.full(n, np.inf) if ttft is None else _limit("ttft", ttft),
            "predicted": None if predicted is None else _whole("predicted", predicted, 1),
        }
        for name, column in columns.items():
            if column is not None:
                if len(column) != n:
                    raise ValueError(
                        f"{name} has {len(column)} rows and arrival has {n}; give one value per request"
                    )
                column.setflags(write=False)
            object.__setattr__(self, name, column)

    # -- making workloads

    @classmethod
    def from_columns(cls, **columns: ArrayLike | None) -> Workload:
        """Make a workload from columns named by field; ValueError names an unknown or missing one."""
        known = [field.name for field in fields(cls)]
        given: dict[str, Any] = dict(columns)
        for name in given:
            if name not in known:
                raise ValueError(f"a workload has no column {name!r}; its columns are {', '.join(known)}")
        for name in ("arrival", "prompt", "output"):
            if given.get(name) is None:
                raise ValueError(f"the column {name} is missing; give arrival, prompt and output")
        return cls(**given)

    @classmethod
    def mapped(cls, **columns: NDArray[Any]) -> Workload:
        """Take columns as they are, neither copied nor checked: they are of a workload that was checked when written.

        They may be files mapped into memory, larger than it.
        """
        made = object.__new__(cls)
        for field in fields(cls):
            object.__setattr__(made, field.name, columns.get(field.name))
        return made

    @classmethod
    def generate(
        cls,
        arrivals: Arrivals,
        lengths: Lengths,
        requests: int,
        rng: np.random.Generator,
        *,
        classes: Sequence[SloClass] = (),
        client: int = 0,
    ) -> Workload:
        """Draw a workload; arrival times, lengths and classes come from independent streams spawned from `rng`.

        Guarantee: from generators with one seed, lengths and classes are the same for every arrival process, arrivals
            are the same for every law of lengths and mix of classes, and a longer workload begins with the shorter one.
        Args: classes, a mix whose shares add up to 1 (none: no limits); client, the number all requests carry.
        """
        if requests < 1:
            raise ValueError(f"{requests} requests were asked for; give at least 1")
        when, how_long, which = rng.spawn(3)
        prompt, output = lengths.sample(requests, how_long)
        tbt = ttft = np.full(requests, np.inf)
        if classes:
            shares = np.array([c.share for c in classes])
            if abs(shares.sum() - 1) > 1e-9:
                raise ValueError(f"the shares of the classes add up to {shares.sum()}; make them add up to 1")
            drawn = np.searchsorted(np.cumsum(shares), which.random(requests), side="right")
            drawn = np.minimum(
                drawn, np.flatnonzero(shares)[-1]
            )  # the last sum may fall short of 1 by rounding
            tbt = np.array([c.tbt for c in classes])[drawn]
            ttft = np.array([c.ttft for c in classes])[drawn]
        return cls(arrivals.times(requests, when), prompt, output, np.full(requests, client), tbt, ttft)

    @classmethod
    def merge(cls, *streams: Workload) -> Workload:
        """One workload of all requests of the streams; requests that arrive together keep the order of the streams."""
        if not streams:
            raise ValueError("nothing to merge: give at least one workload")
        if len({s.predicted is None for s in streams}) > 1:
            raise ValueError(
                "some of the streams have predicted lengths and some have not; give all of them or none"
            )
        order = np.argsort(np.concatenate([s.arrival for s in streams]), kind="stable")
        columns: dict[str, Any] = {}
        for field in fields(cls):
            parts = [getattr(s, field.name) for s in streams]
            columns[field.name] = None if parts[0] is None else np.concatenate(parts)[order]
        return cls(**columns)

    def shift(self, seconds: float) -> Workload:
        """The same requests, each arriving `seconds` later (earlier if negative, but not before 0)."""
        return replace(self, arrival=self.arrival + seconds)

    def scaled(self, factor: float) -> Workload:
        """The same requests at `factor` times the arrival rate: every arrival time is divided by it; limits stay."""
        if not (factor > 0 and np.isfinite(factor)):
            raise ValueError(f"the rate was scaled by {factor}; give a finite factor > 0")
        return replace(self, arrival=self.arrival / factor)

    def head(self, n: int) -> Workload:
        """The first n requests, or all if there are fewer; n >= 1."""
        if n < 1:
            raise ValueError(f"the first {n} requests were asked for; give at least 1")
        return self[:n]

    def __getitem__(self, rows: slice | NDArray[np.bool_] | Ints) -> Workload:
        """Rows by slice, mask or ascending indices; what is left must be a workload, so not empty and in order."""
        if not isinstance(rows, (slice, np.ndarray)):
            raise TypeError(
                f"rows of a workload are taken by slice or array, not by {type(rows).__name__}; read a column"
            )
        columns: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        columns = {name: None if column is None else column[rows] for name, column in columns.items()}
        return Workload(**columns)

    # -- reading workloads

    def __len__(self) -> int:
        return len(self.arrival)

    def __repr__(self) -> str:
        return f"Workload({len(self)} requests, {self.arrival[0]:g} to {self.arrival[-1]:g} s)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Workload):
            return NotImplemented
        pairs = [(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        return all(x is y if x is None or y is None else np.array_equal(x, y) for x, y in pairs)

    def __reduce__(self) -> tuple[type[Workload], tuple[Any, ...]]:
        return Workload, tuple(getattr(self, field.name) for field in fields(self))

    @property
    def slo_class(self) -> Ints:
        """Class of each request: 0 for the smallest TBT limit that occurs, 1 for the next, and so on."""
        return np.unique(self.tbt, return_inverse=True)[1].astype(np.int64)

    def summary(self) -> Summary:
        """Figures that describe the requests; see :class:`Summary`."""
        duration = float(self.arrival[-1] - self.arrival[0])
        p50, p90, p99 = np.percentile(self.prompt, [50, 90, 99]).tolist()
        d50, d90, d99 = np.percentile(self.output, [50, 90, 99]).tolist()
        return Summary(
            requests=len(self),
            duration=duration,
            rate=(len(self) - 1) / duration if duration > 0 else None,
            moments=Moments.of(self.prompt, self.output),
            prompt_percentiles=(p50, p90, p99),
            output_percentiles=(d50, d90, d99),
            longest_prompt=int(self.prompt.max()),
            longest_output=int(self.output.max()),
            clients=len(np.unique(self.client)),
            slo_classes=len(np.unique(self.tbt)),
        )

    # -- CSV

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write one row per request, without loss; the file appears whole or not at all.

        Columns: arrival_s, prompt_tokens, output_tokens, client, tbt_s, ttft_s (inf: no limit), and predicted_tokens if
        something is announced.  `read_csv` gives back an equal workload.
        """
        names = [name for name, field in CSV_COLUMNS.items() if getattr(self, field) is not None]
        columns = [getattr(self, CSV_COLUMNS[name]).tolist() for name in names]
        with replacing(path) as file:
            file.write(",".join(names) + "\n")
            file.writelines(",".join(map(repr, row)) + "\n" for row in zip(*columns, strict=True))

    @classmethod
    def read_csv(cls, path: str | os.PathLike[str]) -> Workload:
        """Read what `write_csv` writes; arrival_s, prompt_tokens and output_tokens are required, the others optional.

        Errors: ValueError in one sentence with file, line and column; an unknown column is an error, never passed over.
        """
        return cls.merge(*csv_pieces(path))


def csv_pieces(path: str | os.PathLike[str], rows: int = ROWS) -> Iterator[Workload]:
    """The requests of a CSV file in workloads of at most `rows`; the one set of rules for such a file."""
    tables = read_tables(path, rows)
    return pieces_of(Path(path), "line", ((table.lines, table.columns, table.numbers) for table in tables))


def pieces_of(
    where: Path,
    unit: str,
    tables: Iterable[tuple[Sequence[int], Iterable[str], Callable[[str], ArrayLike]]],
) -> Iterator[Workload]:
    """Workloads of the tables of one file, each following the one before it in time.

    Args: tables, each the numbers of its rows (in `unit`s), the names of its columns, and the values of a column.
    Errors: ValueError in one sentence with file, row and column.
    """
    last = 0.0
    for numbers, columns, values in tables:
        names = list(columns)
        for name in names:
            if name not in CSV_COLUMNS:
                raise ValueError(
                    f"{where} has the unknown column {name!r}; known are {', '.join(CSV_COLUMNS)}"
                )
        for name in _REQUIRED:
            if name not in names:
                raise ValueError(f"{where} has no column {name!r}; its columns are {', '.join(names)}")
        given = {CSV_COLUMNS[name]: values(name) for name in names}
        try:
            piece = Workload(**given)
            first = piece.arrival[0].item()
            if first < last:
                raise ColumnError(
                    "arrival", 0, f"{first} s comes after {last} s; sort the requests by arrival"
                )
        except ColumnError as error:
            name = next(name for name, field in CSV_COLUMNS.items() if field == error.column)
            raise ValueError(
                f"{where}, {unit} {numbers[error.row]}, column {name}: {error.problem}"
            ) from None
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        last = piece.arrival[-1].item()
        yield piece


def _numbers(name: str, values: ArrayLike) -> NDArray[Any]:
    """Copy of a column as a 1-D array of integers or floats."""
    try:
        column = np.array(values)
    except ValueError:
        column = np.empty((0, 0))
    if column.ndim != 1:
        raise ValueError(f"{name} is not a list of numbers; give one number per request, in one dimension")
    if column.dtype.kind not in "iuf":
        for row, value in enumerate(column.tolist()):
            if column.dtype.kind != "O" or not isinstance(value, Real) or isinstance(value, bool):
                raise ColumnError(name, row, f"{value!r} is not a number")
        column = column.astype(np.float64)
    return column


def _seconds(name: str, column: NDArray[Any], allowed: NDArray[np.bool_], meaning: str) -> Floats:
    if not allowed.all():
        row = int(np.argmin(allowed))
        raise ColumnError(name, row, f"{column[row].item()} is not {meaning}")
    return column.astype(np.float64)


def _limit(name: str, values: ArrayLike) -> Floats:
    column = _numbers(name, values)
    return _seconds(name, column, column > 0, "a limit; give seconds > 0 (inf for none)")


def _whole(name: str, values: ArrayLike, least: int) -> Ints:
    column = _numbers(name, values)
    allowed = (column >= least) & (column <= MOST_TOKENS)
    if column.dtype.kind == "f":
        allowed &= column == np.floor(column)
    if not allowed.all():
        row = int(np.argmin(allowed))
        unit = "a client number" if name == "client" else "a number of tokens"
        raise ColumnError(
            name, row, f"{column[row].item()} is not {unit}; give a whole number from {least} to 10^9"
        )
    return column.astype(np.int64)
