"""Fitting iteration-time laws to measurements by relative-error nonnegative least squares.

A law that is linear in its coefficients x predicts A·x seconds; the fit is

    min over x >= 0 of Σ_i ((A·x)_i / s_i - 1)² ,

so that a millisecond counts as much against ten as a second against ten thousand.  What enters a law in another way
(the floor n₀, the tile b) is searched for, and the sum above decides.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar, nnls

from queueing.models.iteration_time import Affine, Combined, Roofline, Table, TileLaw
from queueing.tabular import read_table

__all__ = ["Measurements", "Residuals", "fit", "fit_piecewise"]

Floats = NDArray[np.float64]
Law = TypeVar("Law", Affine, Roofline, TileLaw, Combined, Table)

COLUMNS = ("tokens", "decodes", "context", "pairs", "tiled_pairs")
TILES = (16, 32, 64, 128, 256, 512)
FLOORS = 48  # floors tried before the best is refined


@dataclass(frozen=True, slots=True)
class Measurements:
    """Timed iterations in columns; one row is one iteration, or part of a run of iterations that were timed together.

    Columns of the iterations, each of shape [rows], all >= 0:  `tokens` n >= 1;  `decodes` (at most n);  `context`
    Σ L_i (tokens);  `pairs` Σ q·(h + q/2) (token pairs);  `tiled_pairs` Σ ⌈q⌉_b·⌈h + q⌉_b for the tile that is to be
    fitted (used by :class:`TileLaw` alone).  A column left out is zero.  `seconds`, > 0, has one entry per run;
    `run[row]` says to which run an iteration belongs, and without it every row is a run of its own.

    Raises:
        ValueError: a column is empty, of the wrong length, negative or not finite, or a time is not positive.
    """

    tokens: Floats
    seconds: Floats
    decodes: Floats = dataclasses.field(default_factory=lambda: np.zeros(0))
    context: Floats = dataclasses.field(default_factory=lambda: np.zeros(0))
    pairs: Floats = dataclasses.field(default_factory=lambda: np.zeros(0))
    tiled_pairs: Floats = dataclasses.field(default_factory=lambda: np.zeros(0))
    run: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        rows = np.asarray(self.tokens).size
        for name in COLUMNS:
            given: ArrayLike = getattr(self, name)
            column = _column(name, given if np.asarray(given).size or name == "tokens" else np.zeros(rows))
            if column.size != rows or rows == 0:
                raise ValueError(
                    f"{column.size} {name} were measured for {rows} iterations; give one per iteration, at least one"
                )
            object.__setattr__(self, name, column)
        object.__setattr__(self, "seconds", _column("seconds", self.seconds))
        run = np.asarray(self.run) if np.asarray(self.run).size else np.arange(rows)
        if run.shape != (rows,) or run.dtype.kind not in "iu":
            raise ValueError(
                "measurements need one whole number of a run per iteration; leave `run` out if each is one"
            )
        if not np.array_equal(np.unique(run), np.arange(self.seconds.size)):
            raise ValueError(
                f"measurements have {self.seconds.size} seconds for {np.unique(run).size} runs; give one per run, and "
                "number the runs from 0"
            )
        object.__setattr__(self, "run", run.astype(np.int64))
        if self.seconds.min() <= 0:
            raise ValueError(
                f"a measurement took {self.seconds.min()} s; leave out times that are not positive"
            )
        if self.tokens.min() < 1 or np.any(self.decodes > self.tokens):
            raise ValueError(
                "an iteration has at least one token, and no more decodes than tokens; correct the rows"
            )

    @classmethod
    def read_csv(cls, path: str | os.PathLike[str]) -> Measurements:
        """Read a table with the columns `tokens` and `seconds` or `ms`, and any of the other columns but `run`.

        Raises:
            ValueError: a column is missing or a value may not stand where it does, in one sentence.
        """
        table = read_table(path)
        columns = {
            name: np.array(table.numbers(name))
            for name in COLUMNS
            if name in table.columns or name == "tokens"
        }
        inside_ms = "ms" in table.columns and "seconds" not in table.columns
        seconds = np.array(table.numbers("ms")) / 1000.0 if inside_ms else np.array(table.numbers("seconds"))
        return cls(seconds=seconds, **columns)

    def summed(self, column: Floats) -> Floats:
        """Sum of a column over the iterations of each run, shape [runs]."""
        total: Floats = np.zeros(self.seconds.size, np.float64)
        np.add.at(total, self.run, column)
        return total


@dataclass(frozen=True, slots=True)
class Residuals:
    """How far a fitted law is from the measurements, as fractions of the measured seconds.

    `points` runs were fitted; `mape` is the mean of |predicted/measured - 1|, `p95` its 95th percentile,
    `relative_rmse` the root mean square, which the fit minimises, and `worst` the run that is furthest off.  In-sample
    figures: they do not promise as much for loads that were not measured.
    """

    points: int
    mape: float
    p95: float
    relative_rmse: float
    worst: int

    @classmethod
    def of(cls, predicted: Floats, measured: Floats) -> Residuals:
        """Residuals of predictions, both in seconds and of shape [runs]."""
        off = np.abs(predicted / measured - 1.0)
        return cls(
            off.size,
            float(off.mean()),
            float(np.percentile(off, 95)),
            float(np.sqrt(np.mean(off**2))),
            int(off.argmax()),
        )


def fit(law: type[Law], measurements: Measurements, *, tile: int | None = None) -> tuple[Law, Residuals]:
    """Law of the given class with the least relative error on the measurements, and how far it stays off.

    Coefficients are >= 0.  A quantity that is zero in every row (no context, say) was not measured, and its coefficient
    is 0.  `tile` b fixes the tile; without it :class:`TileLaw` tries 16, 32, ..., 512, unless `tiled_pairs` were given,
    which belong to one tile; :class:`Combined` takes 128, and :class:`Table` one free time per size n.  With a tile,
    :class:`Table` has one free time per tile and a common slope.  The floor of :class:`Combined` and the knee of
    :class:`Roofline` are searched among the measured sizes and then between them: the best found, not certified best.

    Raises:
        ValueError: fewer runs than coefficients, where floor, knee and a tile that is searched for count too; or
            measurements that cannot tell two coefficients apart.
    """
    if tile is not None and (isinstance(tile, bool) or not isinstance(tile, int) or tile < 1):
        raise ValueError(f"a tile has a whole number of tokens, at least 1, not {tile!r}")
    fitted, predicted = _FITS[law](measurements, tile)
    return fitted, Residuals.of(predicted, measurements.seconds)


def fit_piecewise(measurements: Measurements, knots: Sequence[int]) -> tuple[Table, Residuals]:
    """Table with points at `knots` (tokens), free times there, and the least relative error on the measurements.

    Between two knots a batch counts for both, by its distance from them, so sizes that were not measured at a knot help
    to fit it, and far fewer numbers are fitted than :class:`Table` has with one time per size.

    Raises:
        ValueError: the knots do not increase or do not span the measured sizes, or there are too few measurements.
    """
    points = np.array(knots)
    tokens = measurements.tokens
    if (np.diff(points) <= 0).any() or not (points[0] <= tokens.min() and tokens.max() <= points[-1]):
        raise ValueError(
            f"knots {list(knots)} do not span batches of {tokens.min():.0f} to {tokens.max():.0f} tokens in order; "
            "give increasing knots from the smallest to the largest"
        )
    hats = [np.interp(tokens, points, np.arange(len(points)) == k) for k in range(len(points))]
    x, predicted, _ = _solve(measurements, "Table", [*hats, *_attention(measurements)])
    times, (context, pair) = x[: len(points)].tolist(), map(float, x[-2:])
    return Table(tuple(points.tolist()), tuple(times), context, pair), Residuals.of(
        predicted, measurements.seconds
    )


def _column(name: str, values: ArrayLike) -> Floats:
    column = np.array(values, dtype=np.float64)
    if column.ndim != 1 or column.size == 0 or not np.all(np.isfinite(column)) or np.any(column < 0):
        raise ValueError(
            f"measurements need a column of finite numbers, at least 0, as {name}; correct or drop the rows"
        )
    column.setflags(write=False)
    return column


def _solve(
    m: Measurements, law: str, columns: Sequence[Floats], searched: int = 0
) -> tuple[Floats, Floats, float]:
    """Coefficients >= 0 of the columns, the predicted seconds, and the root of the sum of squared relative errors.

    `searched` parameters of the law are found outside and need a measurement each as well.
    """
    design = np.stack([m.summed(column) for column in columns], axis=1) / m.seconds[:, None]
    scale = np.abs(design).max(axis=0)
    used = scale > 0
    free = int(used.sum())
    needed = free + searched
    if len(design) < needed:
        raise ValueError(
            f"{law} has {needed} coefficients to fit and {len(design)} measurements; give at least {needed}"
        )
    scaled = design[:, used] / scale[used]
    if np.linalg.matrix_rank(scaled) < free:
        raise ValueError(
            f"the measurements cannot tell the {free} coefficients of {law} apart; vary tokens, context and pairs "
            "independently, or fit a law with fewer coefficients"
        )
    solution, norm = nnls(scaled, np.ones(len(design)))
    coefficients = np.zeros(len(columns))
    coefficients[used] = solution / scale[used]
    return coefficients, (design @ coefficients) * m.seconds, float(norm)


def _attention(m: Measurements) -> list[Floats]:
    return [m.context, m.pairs]


def _affine(m: Measurements, tile: int | None) -> tuple[Affine, Floats]:
    del tile
    x, predicted, _ = _solve(m, "Affine", [np.ones_like(m.tokens), m.tokens, *_attention(m)])
    return Affine(*map(float, x)), predicted


def _tile_law(m: Measurements, tile: int | None) -> tuple[TileLaw, Floats]:
    if tile is None and np.any(m.tiled_pairs):
        raise ValueError("tiled_pairs belong to one tile; say which with tile=")

    def of(b: int) -> tuple[Floats, Floats, float]:
        columns = [np.ceil(m.tokens / b), m.tokens, m.tiled_pairs, m.context]
        return _solve(m, "TileLaw", columns, searched=1 if tile is None else 0)

    b, (x, predicted, _) = _best(of, TILES if tile is None else (tile,))
    return TileLaw(b, *map(float, x)), predicted


def _floored(m: Measurements, law: str, more: Sequence[Floats]) -> tuple[float, Floats, Floats]:
    """Floor n₀, coefficients of 1, max(n, n₀), `more`, context and pairs, and predicted seconds."""

    def of(floor: float) -> tuple[Floats, Floats, float]:
        columns = [np.ones_like(m.tokens), np.maximum(m.tokens, floor), *more, *_attention(m)]
        return _solve(m, law, columns, searched=1)

    sizes = np.unique(m.tokens)[:-1]  # a floor at the largest size would hide the slope
    if sizes.size > FLOORS:
        sizes = np.unique(np.quantile(sizes, np.linspace(0.0, 1.0, FLOORS), method="nearest"))
    tried = [0.0, *sizes.tolist()]
    floor, best = _best(of, tried)
    at = tried.index(floor)
    low, high = tried[max(at - 1, 0)], tried[min(at + 1, len(tried) - 1)]
    if high > low:
        found = minimize_scalar(
            lambda n0: _norm(of, float(n0)),
            bounds=(low, high),
            method="bounded",
            options={"xatol": 1e-9 * high},
        )
        if found.fun < best[2]:
            floor, best = float(found.x), of(float(found.x))
    return floor, best[0], best[1]


def _roofline(m: Measurements, tile: int | None) -> tuple[Roofline, Floats]:
    # max(a, c0 + δn) = c0 + δ·max(n, n0) at the knee n0
    del tile
    floor, (base, per_token, context, pair), predicted = _floored(m, "Roofline", [])
    plateau = base + per_token * floor
    return Roofline(float(plateau), float(base), float(per_token), float(context), float(pair)), predicted


def _combined(m: Measurements, tile: int | None) -> tuple[Combined, Floats]:
    b = 128 if tile is None else tile
    floor, (base, per_token, per_tile, context, pair), predicted = _floored(
        m, "Combined", [np.ceil(m.tokens / b)]
    )
    x = map(float, (base, per_token, per_tile, context, pair))
    return Combined(*x, floor=floor if per_token > 0 else 0.0, tile=b), predicted


def _table(m: Measurements, tile: int | None) -> tuple[Table, Floats]:
    group = m.tokens if tile is None else np.ceil(m.tokens / tile)
    points = np.unique(group)
    steps = [(group == point).astype(np.float64) for point in points]
    more = [] if tile is None else [m.tokens]
    x, predicted, _ = _solve(m, "Table", [*steps, *more, *_attention(m)])
    times, (context, pair) = x[: points.size], map(float, x[-2:])
    if tile is None:
        whole = tuple(int(n) for n in points)
        if not np.array_equal(whole, points):
            raise ValueError("Table needs whole numbers of tokens; round them or fit another law")
        return Table(whole, tuple(times.tolist()), context, pair), predicted
    slope = float(x[points.size])
    constants = np.interp(np.arange(1, points[-1] + 1), points, times)  # tiles between measured ones
    return Table.of_tiles(tile, constants.tolist(), slope, context, pair), predicted


def _norm(of: Callable[[Any], tuple[Floats, Floats, float]], value: Any) -> float:
    try:
        return of(value)[2]
    except ValueError:
        return np.inf  # at this floor or tile two columns coincide


def _best(
    of: Callable[[Any], tuple[Floats, Floats, float]], values: Sequence[Any]
) -> tuple[Any, tuple[Floats, Floats, float]]:
    """The value of least error and its solution; the first value's complaint if there is none."""
    norms = [_norm(of, value) for value in values]
    best = values[int(np.argmin(norms))]
    return best, of(best)


_FITS: dict[Any, Callable[[Measurements, int | None], tuple[Any, Floats]]] = {
    Affine: _affine,
    Roofline: _roofline,
    TileLaw: _tile_law,
    Combined: _combined,
    Table: _table,
}
