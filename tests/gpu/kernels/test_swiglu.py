"""The gated activation: reference against its definition, kernel against the reference, costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu.kernels.swiglu import cost, kernel, reference
from queueing.hardware import HARDWARE, MODELS, ModelShape
from tests.gpu.kernels.launches import programs
from tests.gpu.kernels.paged import TOLERANCE, planted

pytestmark = pytest.mark.usefixtures("poisoned")
SEEDS = st.integers(0, 2**32 - 1)
WIDTHS = st.one_of(st.integers(1, 40), st.integers(cost.BLOCK - 2, cost.BLOCK + 2))
shapes = {"tokens": st.integers(0, 4), "width": WIDTHS, "seed": SEEDS, "scale": st.sampled_from([1.0, 30.0])}


def rows(tokens: int, width: int, seed: int, scale: float, dtype: torch.dtype) -> torch.Tensor:
    """Gate and up, within larger memory that holds NaN."""
    around = torch.full((tokens + 2, 2 * width), float("nan"), dtype=dtype)
    drawn = np.random.default_rng(seed).standard_normal((tokens, 2 * width))
    around[1:-1] = torch.from_numpy(scale * drawn)
    return around[1:-1]


def excess(computed, stated, dtype) -> float:
    """Largest error in roundings of the type, of a number or of 1e-3 if it is smaller."""
    ratio = (computed.double() - stated.double()).abs() / stated.double().abs().clamp(min=1e-3)
    return float(np.nan_to_num(ratio.numpy(), nan=np.inf).max(initial=0.0)) / torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@given(**shapes)
def test_reference_is_the_definition(tokens, width, seed, scale, dtype) -> None:
    both = rows(tokens, width, seed, scale, dtype)
    gate, up = both[:, :width].double(), both[:, width:].double()
    assert excess(reference.swiglu(both), gate / (1 + torch.exp(-gate)) * up, dtype) <= 8


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@given(**shapes)
@settings(max_examples=15)
def test_kernel_is_the_reference(tokens, width, seed, scale, dtype) -> None:
    both = rows(tokens, width, seed, scale, dtype)
    assert excess(kernel.swiglu(both), reference.swiglu(both), dtype) <= 8


def test_the_ends_of_the_gate_are_no_nan() -> None:
    both = torch.tensor([[-1e30, -200.0, 0.0, 200.0, 1e30, 2.0, 2.0, 2.0, 2.0, 2.0]])
    assert kernel.swiglu(both).tolist() == reference.swiglu(both).tolist()
    assert kernel.swiglu(both)[0, 2:].tolist() == pytest.approx([0.0, 400.0, 2e30])


CAUGHT = {
    "gate and up exchanged": (
        "gated = gate / (1.0 + tl.exp(-gate)) * up",
        "gated = up / (1.0 + tl.exp(-up)) * gate",
    ),
    "the other sign": ("tl.exp(-gate)", "tl.exp(gate)"),
    "no gate": ("gate / (1.0", "1.0 / (1.0"),
    "halves of another width": ("at + width", "at + width - 1"),
    "rows of one half": ("row * 2 * width", "row * width"),
    "an entry too few": ("inside = entry < width", "inside = entry < width - 1"),
    "the first block for all": ("tl.program_id(1) * BLOCK", "0 * tl.program_id(1) * BLOCK"),
}


@pytest.mark.parametrize(("right", "wrong"), CAUGHT.values(), ids=CAUGHT)
def test_planted_errors_are_caught(right, wrong, tmp_path) -> None:
    both = rows(3, cost.BLOCK + 5, 0, 1.0, torch.float32)
    broken = planted(kernel, right, wrong, tmp_path)
    assert excess(broken.swiglu(both), reference.swiglu(both), torch.float32) > 1000
    assert excess(kernel.swiglu(both), reference.swiglu(both), torch.float32) <= 8


def test_costs_are_those_of_launch_and_tensors() -> None:
    shape = ModelShape("toy", 1, 16, 1, 1, 16, 2 * cost.BLOCK + 1, 16)
    both = rows(3, shape.intermediate, 0, 1.0, torch.float16)
    assert programs(kernel, "swiglu_kernel", both, launcher="swiglu") == cost.programs(shape, 3) == 9
    assert cost.bytes_moved(shape, 3) == both.nbytes + reference.swiglu(both).nbytes


def test_floor_of_the_design_at_mistral_on_h100() -> None:
    model, h100 = MODELS["mistral-7b"], HARDWARE["h100"]
    assert cost.bytes_moved(model, 1) == pytest.approx(86e3, rel=1e-3)
    assert cost.floor(model, 1, h100) == pytest.approx(25.7e-9, rel=2e-3)
    assert 32 * cost.floor(model, 64, h100) == pytest.approx(0.05e-3, rel=0.06)
    assert 32 * cost.floor(model, 512, h100) == pytest.approx(0.42e-3, rel=3e-3)
    assert cost.flops(model, 512) / h100.flops < cost.floor(model, 512, h100) / 100  # bytes decide


def test_bad_rows_are_named() -> None:
    with pytest.raises(ValueError, match="of 7 entries"):
        kernel.swiglu(torch.zeros(2, 7))
    with pytest.raises(ValueError, match="contiguous"):
        kernel.swiglu(torch.zeros(8, 2).T)
