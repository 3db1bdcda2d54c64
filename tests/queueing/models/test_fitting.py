"""Fits: exact data gives the law back, the wrong law stays off, and data that cannot decide is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queueing.models.fitting import Measurements, Residuals, fit
from queueing.models.iteration_time import Affine, Combined, Load, Roofline, Table, TileLaw

EXAMPLES = settings(max_examples=40, deadline=None)
SIZES = np.unique(np.concatenate([[1, 2, 8, 32], np.arange(64, 2049, 64), np.arange(65, 2049, 128)]))


def measured(
    law: Any, rng: np.random.Generator, sizes: Any = SIZES, noise: float = 0.0, tile: int = 1
) -> Measurements:
    """Iterations of the law with one chunk and some decodes each, repeated at every size, with relative noise."""
    columns: dict[str, list[float]] = {
        name: [] for name in ("tokens", "decodes", "context", "pairs", "tiled_pairs", "seconds")
    }
    for n in map(int, np.repeat(sizes, 3)):
        decodes = int(rng.integers(0, min(n, 128) + 1))
        q, h = n - decodes, int(rng.integers(0, 4096))
        context = int(decodes * rng.integers(1, 4096))
        chunk, history = (np.array([x] if q else [], np.int64) for x in (q, h))
        seconds = law(Load(n, decodes, context, chunk, history)) * (1 + noise * rng.standard_normal())
        tiled = (-(-q // tile) * tile) * (-(-(h + q) // tile) * tile) if q else 0
        row = (n, decodes, context, q * (h + q / 2), tiled, seconds)
        for name, value in zip(columns, row, strict=True):
            columns[name].append(value)
    return Measurements(**{name: np.array(values) for name, values in columns.items()})  # pyright: ignore


def agree(found: Any, stated: Any, rel: float = 1e-6) -> None:
    """Every coefficient of two laws of one class."""
    assert type(found) is type(stated)
    for name in found.__slots__:
        assert getattr(found, name) == pytest.approx(getattr(stated, name), rel=rel, abs=1e-15), name


COST = st.floats(1e-3, 3e-2)
TOKEN = st.floats(1e-5, 2e-4)
CONTEXT, PAIR = st.floats(1e-8, 1e-6), st.floats(1e-10, 1e-8)


@EXAMPLES
@given(st.builds(Affine, COST, TOKEN, CONTEXT, PAIR), st.integers(0, 2**32 - 1))
def test_affine_comes_back(law: Affine, seed: int) -> None:
    found, residuals = fit(Affine, measured(law, np.random.default_rng(seed)))
    agree(found, law)
    assert residuals.relative_rmse < 1e-9


@EXAMPLES
@given(st.floats(40.0, 900.0), COST, TOKEN, CONTEXT, PAIR, st.integers(0, 2**32 - 1))
def test_roofline_comes_back(
    knee: float, base: float, token: float, context: float, pair: float, seed: int
) -> None:
    law = Roofline(base + knee * token, base, token, context, pair)
    found, residuals = fit(Roofline, measured(law, np.random.default_rng(seed)))
    agree(found, law, 1e-5)  # the search stops at 1e-8 of the knee, which moves a small base by more
    assert found.knee == pytest.approx(knee, rel=1e-5)
    assert residuals.relative_rmse < 1e-7


@EXAMPLES
@given(st.floats(40.0, 900.0), COST, TOKEN, COST, CONTEXT, PAIR, st.integers(0, 2**32 - 1))
def test_combined_comes_back(
    floor: float, base: float, token: float, step: float, context: float, pair: float, seed: int
) -> None:
    law = Combined(base, token, step, context, pair, floor)
    found, _ = fit(Combined, measured(law, np.random.default_rng(seed)))
    agree(found, law, 1e-5)


@EXAMPLES
@given(st.sampled_from([32, 64, 128, 256]), COST, TOKEN, PAIR, CONTEXT, st.integers(0, 2**32 - 1))
def test_tile_law_comes_back_with_its_tile(
    tile: int, step: float, token: float, pair: float, context: float, seed: int
) -> None:
    law = TileLaw(tile, step, token, pair, context)
    agree(fit(TileLaw, measured(law, np.random.default_rng(seed), tile=tile), tile=tile)[0], law)
    bare = TileLaw(tile, step, token, 0.0, context)
    data = measured(bare, np.random.default_rng(seed))
    without = Measurements(data.tokens, data.seconds, data.decodes, data.context)
    agree(fit(TileLaw, without)[0], bare)


@EXAMPLES
@given(st.lists(COST, min_size=8, max_size=8), CONTEXT, PAIR, st.integers(0, 2**32 - 1))
def test_table_comes_back(seconds: list[float], context: float, pair: float, seed: int) -> None:
    law = Table((32, 64, 65, 128, 129, 256, 257, 512), tuple(seconds), context, pair)
    agree(fit(Table, measured(law, np.random.default_rng(seed), law.tokens))[0], law)


def test_tile_constants_come_back() -> None:
    law = Table.of_tiles(64, [3e-3, 5e-3, 4e-3, 9e-3], 2e-5, 1e-7, 1e-9)
    sizes = np.array([1, 30, 64, 65, 100, 128, 129, 180, 192, 193, 256])
    found, residuals = fit(Table, measured(law, np.random.default_rng(3), sizes), tile=64)
    agree(found, law)
    assert residuals.points == 3 * sizes.size


def test_smooth_laws_fail_on_a_staircase() -> None:
    """Negative control: exact times of tiles, up to 8 of them, are over 5 % off under the best law without tiles."""
    data = measured(Combined(1e-3, 1e-5, 4e-3), np.random.default_rng(5), np.arange(1, 1025, 21))
    for smooth in (Affine, Roofline):
        assert fit(smooth, data)[1].relative_rmse > 0.05
    assert fit(Combined, data)[1].relative_rmse < 1e-6
    assert fit(Combined, data, tile=96)[1].relative_rmse > 0.05


def test_noise_is_reported_as_residual() -> None:
    """With 2 % Gaussian noise on N rows and 5 numbers fitted the RMSE is 2 % within 5 standard errors 0.02/√(2N).

    Error probability below 1e-5 by the normal approximation of the chi-square law; the seed is fixed.
    """
    data = measured(
        Affine(1e-2, 1e-4, 2e-7, 5e-9), np.random.default_rng(7), np.repeat(SIZES, 10), noise=0.02
    )
    found, residuals = fit(Affine, data)
    assert residuals.points == data.seconds.size
    error = 5 * 0.02 / np.sqrt(2 * residuals.points)
    assert residuals.relative_rmse == pytest.approx(0.02, abs=error)
    assert residuals.mape == pytest.approx(0.02 * np.sqrt(2 / np.pi), abs=error)
    assert residuals.p95 == pytest.approx(0.02 * 1.96, abs=5 * error)
    assert found.base == pytest.approx(1e-2, rel=0.02)


def test_residuals_name_the_worst_row() -> None:
    residuals = Residuals.of(np.array([1.0, 2.0, 3.3]), np.array([1.0, 2.5, 3.0]))
    assert (residuals.points, residuals.worst) == (3, 1)
    assert residuals.mape == pytest.approx((0.2 + 0.1) / 3)


def test_error_is_relative_not_absolute() -> None:
    """Doubling times and halving times weigh alike per row: scaling one run's unit does not move the others."""
    data = measured(Affine(1e-2, 1e-4), np.random.default_rng(1), noise=0.05)
    bare = Measurements(data.tokens, data.seconds)
    scaled = Measurements(data.tokens, 1000 * data.seconds)
    found, of_scaled = fit(Affine, bare)[0], fit(Affine, scaled)[0]
    assert of_scaled.base == pytest.approx(1000 * found.base)
    slope, constant = np.polyfit(data.tokens, data.seconds, 1)
    absolute = constant + slope * data.tokens
    relative = found.base + found.per_token * data.tokens
    assert np.sum((relative / data.seconds - 1) ** 2) < np.sum((absolute / data.seconds - 1) ** 2)


def test_iterations_timed_together_are_fitted_as_sums() -> None:
    law = Roofline(23e-3, 7e-3, 9e-5)
    tokens, run, seconds = [], [], []
    for k, chunk in enumerate((64, 128, 256, 384, 512, 768, 1024)):
        pieces = [min(chunk, 2048 - start) for start in range(0, 2048, chunk)]
        tokens += pieces
        run += [k] * len(pieces)
        seconds.append(sum(max(23e-3, 7e-3 + 9e-5 * q) for q in pieces))
    data = Measurements(np.array(tokens, float), np.array(seconds), run=np.array(run))
    agree(fit(Roofline, data)[0], law)


def test_read_csv(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("tokens,context,ms\n1,10,5.0\n100,0,6\n200,5,8\n300,900,12\n")
    data = Measurements.read_csv(path)
    assert data.seconds.tolist() == [5e-3, 6e-3, 8e-3, 12e-3]
    assert (data.context.tolist(), data.pairs.tolist()) == ([10, 0, 5, 900], [0, 0, 0, 0])
    path.write_text("tokens,ms\n1,x\n")
    with pytest.raises(ValueError, match=r"line 2, column ms: 'x' is not a number"):
        Measurements.read_csv(path)
    path.write_text("tokens\n1\n")
    with pytest.raises(ValueError, match="no column 'seconds'"):
        Measurements.read_csv(path)


def rows(n: int, **more: Any) -> Measurements:
    return Measurements(np.arange(1.0, n + 1), np.arange(1.0, n + 1), **more)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: fit(Affine, rows(1)), "2 coefficients to fit and 1 measurements"),
        (lambda: fit(Roofline, rows(2)), "3 coefficients to fit and 2 measurements"),
        (lambda: fit(Combined, rows(3)), "4 coefficients to fit and 3 measurements"),
        (lambda: fit(TileLaw, rows(2)), "3 coefficients to fit and 2 measurements"),
        (lambda: fit(Affine, rows(5, context=np.arange(5.0) + 1, pairs=np.arange(5.0) + 1)), "cannot tell"),
        (lambda: fit(TileLaw, rows(9), tile=1), "cannot tell"),
        (lambda: fit(TileLaw, rows(9, tiled_pairs=np.ones(9))), "say which"),
        (lambda: fit(Combined, rows(9), tile=0), "not 0"),
        (lambda: fit(Table, Measurements(np.array([1.5]), np.array([1.0]))), "whole numbers"),
        (lambda: Measurements(np.array([1.0]), np.array([0.0])), "not positive"),
        (lambda: Measurements(np.array([1.0]), np.array([-1.0])), "seconds"),
        (lambda: Measurements(np.array([1.0]), np.array([np.nan])), "seconds"),
        (lambda: Measurements(np.array([]), np.array([])), "tokens"),
        (lambda: Measurements(np.array([0.0]), np.array([1.0])), "at least one token"),
        (lambda: Measurements(np.array([1.0, 2.0]), np.array([1.0])), "1 seconds for 2 runs"),
        (lambda: rows(3, context=np.ones(2)), "2 context"),
        (lambda: rows(3, decodes=np.full(3, 5.0)), "no more decodes"),
        (lambda: rows(3, run=np.array([0.0, 1.0, 2.0])), "whole number of a run"),
        (lambda: rows(3, run=np.array([0, 1, 3])), "number the runs"),
    ],
)
def test_bad_measurements_are_refused_in_one_sentence(make: Any, says: str) -> None:
    with pytest.raises(ValueError) as refused:
        make()
    message = str(refused.value)
    assert says in message
    assert "\n" not in message
