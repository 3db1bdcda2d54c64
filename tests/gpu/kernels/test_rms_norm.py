"""Root-mean-square normalisation: reference against its definition, kernel against the reference, costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu.kernels.rms_norm import cost, kernel, reference
from queueing.hardware import HARDWARE, MODELS, ModelShape
from tests.gpu.kernels.launches import programs
from tests.gpu.kernels.paged import TOLERANCE, error, planted

pytestmark = pytest.mark.usefixtures("poisoned")
SEEDS = st.integers(0, 2**32 - 1)
shapes = {"tokens": st.integers(0, 6), "hidden": st.integers(1, 300), "adds": st.booleans(), "seed": SEEDS}


def arguments(tokens: int, hidden: int, adds: bool, seed: int, dtype: torch.dtype = torch.float32):
    """Rows, weight, epsilon and residual; rows within larger memory that holds NaN."""
    rng = np.random.default_rng(seed)
    around = torch.full((2, tokens + 2, hidden), float("nan"), dtype=dtype)
    around[:, 1:-1] = torch.from_numpy(rng.standard_normal((2, tokens, hidden)))
    weight = torch.from_numpy(1 + 0.1 * rng.standard_normal(hidden)).to(dtype)
    return around[0, 1:-1], weight, 1e-5, around[1, 1:-1] if adds else None


def difference(computed, stated) -> float:
    return max(error(c, s) for c, s in zip(computed, stated, strict=True))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@given(**shapes)
def test_reference_is_the_definition(tokens, hidden, adds, dtype, seed) -> None:
    x, weight, epsilon, residual = arguments(tokens, hidden, adds, seed, dtype)
    s = (x if residual is None else (x.double() + residual.double()).to(dtype)).double().numpy()
    mean = (s * s).sum(axis=1, keepdims=True) / hidden
    stated = torch.from_numpy(weight.double().numpy() * s / np.sqrt(mean + epsilon)), torch.from_numpy(s)
    assert difference(reference.rms_norm(x, weight, epsilon, residual), stated) <= 2 * TOLERANCE[dtype]


@given(tokens=st.integers(1, 6), hidden=st.integers(1, 300), seed=SEEDS, power=st.integers(-20, 20))
def test_scale_does_not_matter_without_epsilon(tokens, hidden, seed, power) -> None:
    x, weight, _, _ = arguments(tokens, hidden, False, seed)
    computed, stated = (reference.rms_norm(y, weight, 0.0, None)[0] for y in (x * 2.0**power, x))
    assert error(computed, stated) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@given(**shapes)
@settings(max_examples=15)
def test_kernel_is_the_reference(tokens, hidden, adds, dtype, seed) -> None:
    given_ = arguments(tokens, hidden, adds, seed, dtype)
    computed, stated = kernel.rms_norm(*given_), reference.rms_norm(*given_)
    assert difference(computed, stated) <= TOLERANCE[dtype]
    assert torch.equal(computed[1], stated[1])  # one sum, rounded once


CAUGHT = {
    "no epsilon": ("/ HIDDEN + epsilon", "/ HIDDEN"),
    "mean over the padded row": ("/ HIDDEN", "/ BLOCK"),
    "a row too long": ("inside = entry < HIDDEN", "inside = entry <= HIDDEN"),
    "a row too short": ("inside = entry < HIDDEN", "inside = entry < HIDDEN - 1"),
    "residual left out": ("row += tl.load(residual + at", "row += 0 * tl.load(residual + at"),
    "sum not rounded": ("row = rounded.to(tl.float32)", "row = row"),
    "no square": ("tl.sum(row * row, 0)", "tl.sum(row, 0)"),
    "rows of one weight": ("weight + entry", "weight + entry * 0"),
    "the first row for all": ("tl.program_id(0)", "(0 * tl.program_id(0))"),
}


@pytest.mark.parametrize(("right", "wrong"), CAUGHT.values(), ids=CAUGHT)
def test_planted_errors_are_caught(right, wrong, tmp_path) -> None:
    assert unlike(planted(kernel, right, wrong, tmp_path))


def test_without_a_planted_error_nothing_is_caught() -> None:
    assert not unlike(kernel)


def unlike(module) -> bool:
    """Whether kernel and reference differ: in float32, on rows as small as epsilon too; in half precision by roundings.

    A reduction in another order moves a few entries of a thousand by a rounding; a sum that is not rounded, many.
    """
    for dtype in TOLERANCE:
        x, weight, epsilon, residual = arguments(5, 100, True, 0, dtype)
        assert residual is not None
        for scale in (1.0, 2.0**-8):
            these = x * scale, weight, epsilon, residual * scale
            computed, stated = module.rms_norm(*these), reference.rms_norm(*these)
            if dtype is torch.float32 and difference(computed, stated) > TOLERANCE[dtype]:
                return True
            if dtype is torch.float16 and (computed[0] != stated[0]).double().mean() > 0.02:
                return True
    return False


def test_costs_are_those_of_launch_and_tensors() -> None:
    shape = ModelShape("toy", 1, 40, 1, 1, 16, 16, 16)
    x, weight, epsilon, residual = arguments(7, shape.hidden, True, 0, torch.float16)
    assert residual is not None
    launched = programs(kernel, "rms_norm_kernel", x, weight, epsilon, residual, launcher="rms_norm")
    assert launched == cost.programs(shape, 7)
    moved = (x, residual, weight, *reference.rms_norm(x, weight, epsilon, residual))
    assert cost.bytes_moved(shape, 7) == sum(t.nbytes for t in moved)


def test_floor_of_the_design_at_mistral_on_h100() -> None:
    model, h100 = MODELS["mistral-7b"], HARDWARE["h100"]
    token = (cost.bytes_moved(model, 1000) - cost.bytes_moved(model, 0)) / 1000
    assert token == 32 << 10  # 32 KB each, two norms a layer
    assert token / h100.bandwidth == pytest.approx(9.8e-9, rel=3e-3)
    assert 64 * cost.floor(model, 64, h100) == pytest.approx(0.04e-3, rel=0.01)
    assert 64 * cost.floor(model, 512, h100) == pytest.approx(0.32e-3, rel=0.03)
    assert cost.flops(model, 512) / h100.flops < cost.floor(model, 512, h100) / 100  # bytes decide


def test_bad_rows_are_named() -> None:
    x = torch.zeros(2, 8)
    with pytest.raises(ValueError, match=r"a weight of \(9,\)"):
        kernel.rms_norm(x, torch.zeros(9), 1e-5, None)
    with pytest.raises(ValueError, match=r"a residual of \(1, 8\)"):
        kernel.rms_norm(x, torch.zeros(8), 1e-5, x[:1])
    with pytest.raises(ValueError, match="contiguous"):
        kernel.rms_norm(torch.zeros(8, 2).T, torch.zeros(8), 1e-5, None)
