"""Matrix product: reference against its definition, kernel within the error of its sums, tiles against launches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gpu.kernels.gemm import cost, kernel, reference
from queueing.hardware import HARDWARE, MODELS
from queueing.tile import Tile
from tests.gpu.kernels.launches import programs
from tests.gpu.kernels.paged import planted

pytestmark = pytest.mark.usefixtures("poisoned")
SEEDS = st.integers(0, 2**32 - 1)
DTYPES = [torch.float32, torch.float16]
SIDES = st.sampled_from([16, 32, 64])
TILES = st.builds(Tile, SIDES, SIDES, SIDES, st.integers(1, 4), st.integers(1, 3))
COUNTS = st.integers(1, 100)


def operands(rows: int, columns: int, reduction: int, seed: int, dtype: torch.dtype):
    """Rows and weight within larger memory that holds NaN, where a read past their ends shows."""
    rng = np.random.default_rng(seed)
    found = []
    for side in (rows, columns):
        around = torch.full((side + 2, reduction), float("nan"), dtype=dtype)
        around[1:-1] = torch.from_numpy(rng.standard_normal((side, reduction)))
        found.append(around[1:-1])
    return tuple(found)


def excess(matmul, x, weight) -> float:
    """Largest error over its bound: K roundings of float32 on Σ|x||w|, and one of the result's type."""
    exact = x.double() @ weight.double().T
    sums = x.double().abs() @ weight.double().abs().T
    bound = x.shape[1] * 2.0**-23 * sums + torch.finfo(x.dtype).eps * exact.abs() + 1e-7
    ratio = ((matmul(x, weight).double() - exact).abs() / bound).numpy()
    return float(np.nan_to_num(ratio, nan=np.inf).max(initial=0.0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(rows=COUNTS, columns=COUNTS, reduction=COUNTS, seed=SEEDS)
def test_reference_is_the_product(rows, columns, reduction, dtype, seed) -> None:
    x, weight = operands(rows, columns, reduction, seed, dtype)
    assert excess(reference.matmul, x, weight) <= 1


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(tile=TILES, rows=COUNTS, columns=COUNTS, reduction=COUNTS, seed=SEEDS)
@settings(max_examples=8)
def test_kernel_is_the_product(tile, rows, columns, reduction, dtype, seed) -> None:
    x, weight = operands(rows, columns, reduction, seed, dtype)
    assert excess(lambda *of: kernel.matmul(*of, tile), x, weight) <= 1


@pytest.mark.parametrize("rows", [1, 16, 17])
def test_the_kernels_own_tile_serves(rows) -> None:
    x, weight = operands(rows, 130, 513, rows, torch.float32)
    assert excess(kernel.matmul, x, weight) <= 1


@given(rows=st.integers(1, 60), columns=st.integers(1, 60), reduction=COUNTS, seed=SEEDS)
@settings(max_examples=5)
def test_order_of_tiles_and_of_programs_changes_no_bit(rows, columns, reduction, seed) -> None:
    x, weight = operands(rows, columns, reduction, seed, torch.float32)
    computed = [kernel.matmul(x, weight, Tile(16, 32, 32, split=2, group=group)) for group in (1, 2, 2)]
    assert torch.equal(computed[0], computed[1])
    assert torch.equal(computed[1], computed[2])


CAUGHT = {
    "parts of a step are lost": ("tl.dot(a, b, total, input", "tl.dot(a, b, input"),
    "the last step is whole": ("k < reduction - step * K", "k < reduction"),
    "a share too few": ("share * length\n", "share * (length + 1)\n"),
    "shares overlap": ("tl.minimum(begin + length, steps)", "steps"),
    "rows go on in memory": ("(row % rows)[:, None] * reduction", "(row % rows)[:, None] * (reduction + 1)"),
    "the last row is not written": ("(row < rows)[:, None]", "(row < rows - 1)[:, None]"),
    "bands are as high as they may be": ("tl.minimum(tl.cdiv(rows, M) - band * GROUP, GROUP)", "GROUP"),
    "all columns are the first tile's": ("(within // height).to", "(within // height // 8).to"),
    "parts are taken once": ("parts + share * entries", "parts + 0 * entries"),
    "the last part is lost": ("for share in range(SPLIT)", "for share in range(SPLIT - 1)"),
}


@pytest.mark.parametrize(("right", "wrong"), CAUGHT.values(), ids=CAUGHT)
def test_planted_errors_are_caught(right, wrong, tmp_path) -> None:
    assert excess(on_small_tiles(planted(kernel, right, wrong, tmp_path)), *ragged()) > 100


def test_without_a_planted_error_nothing_is_caught() -> None:
    assert excess(on_small_tiles(kernel), *ragged()) <= 1


def ragged():
    """Five rows of tiles in bands of two, three columns, and five steps in two shares; every end is ragged."""
    return operands(70, 40, 70, 0, torch.float32)


def on_small_tiles(module):
    return lambda x, weight: module.matmul(x, weight, Tile(16, 16, 16, split=2, group=2))


@given(tile=TILES, rows=COUNTS, columns=COUNTS)
def test_tiles_are_the_programs_launched(tile, rows, columns) -> None:
    x, weight = operands(rows, columns, 8, 0, torch.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "reduce_kernel", {(-(-rows * columns // kernel.BLOCK),): lambda *_, **__: None})
        launched = programs(kernel, "gemm_kernel", x, weight, tile, launcher="matmul")
    assert launched == tile.tiles(rows, columns)


@given(rows=COUNTS, columns=COUNTS, reduction=COUNTS, split=st.integers(1, 4))
def test_bytes_are_those_of_the_tensors(rows, columns, reduction, split) -> None:
    x, weight = operands(rows, columns, reduction, 0, torch.float16)
    out = reference.matmul(x, weight)
    parts = 0 if split == 1 else torch.zeros(split, rows, columns).nbytes
    assert (
        cost.bytes_moved(rows, columns, reduction, 2, split)
        == x.nbytes + weight.nbytes + out.nbytes + 2 * parts
    )


@given(st.integers(1, 5000), st.integers(1, 30000), st.integers(1, 20000), st.integers(1, 160))
def test_the_tile_covers_the_rows_and_fills_one_wave(rows, columns, reduction, processors) -> None:
    tile = cost.tile_for(rows, columns, reduction, processors=processors)
    assert tile.m == 128 or tile.m >= rows
    assert tile.m == 16 or tile.m < 2 * rows  # no smaller one does
    steps = -(-reduction // tile.k)
    if tile.split > 1:
        assert tile.waves(rows, columns, processors) == 1
        assert steps >= tile.split * cost.LEAST_STEPS
    assume(steps >= 2 * tile.split * cost.LEAST_STEPS)
    assert 2 * tile.tiles(rows, columns) > processors  # no larger split would be one wave


def test_floors_of_the_design_at_mistral_on_h100() -> None:
    """The design counts weights alone; rows and results add at most 4 % at 64 tokens."""
    model, h100 = MODELS["mistral-7b"], HARDWARE["h100"]
    products = cost.products(model)
    stated = {"qkv": (15.0e-6, 50.9e-9), "output": (10.0e-6, 33.9e-9), "gate_up": (70.1e-6, 237e-9),
              "down": (35.1e-6, 119e-9), "head": (78e-6, 265e-9)}  # fmt: skip
    for name, (weights, token) in stated.items():
        columns, reduction = products[name]
        assert cost.bytes_moved(0, columns, reduction) / h100.bandwidth == pytest.approx(weights, rel=4e-3)
        assert cost.flops(1, columns, reduction) / h100.flops == pytest.approx(token, rel=4e-3)
        assert cost.floor(64, columns, reduction, h100) == pytest.approx(weights, rel=0.04)
        assert cost.floor(1024, columns, reduction, h100) == pytest.approx(1024 * token, rel=4e-3)
    layer = sum(columns * reduction for columns, reduction in list(products.values())[:-1])
    assert layer == model.layer_weights


def test_corners_of_the_page_at_mistral() -> None:
    """Where one token more takes another wave; and no product is a ceil law on either GPU."""
    tile, products = Tile(128, 128, 64), cost.products(MODELS["mistral-7b"])
    stated = {
        "qkv": ((640, 1408, 2048), (256, 512, 768, 1152)),
        "output": ((1024, 2048), (384, 768, 1280)),
        "down": ((1024, 2048), (384, 768, 1280)),
        "gate_up": (
            tuple(n for n in range(128, 2049, 128) if n not in (768, 1664)),
            tuple(range(128, 1281, 128)),
        ),
    }
    for name, corners in stated.items():
        columns = products[name][0]
        for processors, budgets in zip((264, 108), corners, strict=True):
            assert tile.corners(columns, processors, most=budgets[-1]) == budgets
            assert tile.law_tile(columns, processors) is None
    assert tile.law_tile(products["down"][0], 128) == 512


def test_bad_operands_are_named() -> None:
    x = torch.zeros(2, 8)
    with pytest.raises(ValueError, match="weights of 9"):
        kernel.matmul(x, torch.zeros(3, 9))
    with pytest.raises(ValueError, match="contiguous"):
        kernel.matmul(torch.zeros(8, 2).T, torch.zeros(3, 8))
    assert kernel.matmul(x[:0], torch.zeros(3, 8)).shape == (0, 3)
