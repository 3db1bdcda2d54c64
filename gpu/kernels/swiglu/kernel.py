"""The gated activation in Triton: one pass over gate and up."""

# Bodies of kernels carry no hints: Triton types them by what they are launched with, which may carry its options too.
# pyright: basic, reportMissingParameterType=false, reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpu.kernels.swiglu.cost import BLOCK
from gpu.kernels.variants import Variant

__all__ = ["VARIANTS", "swiglu", "swiglu_kernel"]


@triton.jit
def swiglu_kernel(gate_up, out, width, BLOCK: tl.constexpr):
    """Program (i, j): the j-th block of row i."""
    row = tl.program_id(0).to(tl.int64)
    entry = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = entry < width
    at = gate_up + row * 2 * width + entry
    gate = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(at + width, mask=inside, other=0.0).to(tl.float32)
    gated = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(out + row * width + entry, gated.to(out.dtype.element_ty), mask=inside)


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate)·up.

    Arguments and result are those of :func:`gpu.kernels.swiglu.reference.swiglu`.

    Raises:
        ValueError: rows have no two halves, or are not contiguous.
    """
    rows, both = gate_up.shape
    if both % 2:
        raise ValueError(f"rows of {both} entries are no gate and up; give an even number")
    if not gate_up.is_contiguous():
        raise ValueError("the gated activation reads whole rows; give a contiguous tensor")
    out = torch.empty(rows, both // 2, dtype=gate_up.dtype, device=gate_up.device)
    if out.numel():
        grid = (rows, triton.cdiv(both // 2, BLOCK))
        swiglu_kernel[grid](gate_up, out, both // 2, BLOCK=BLOCK, num_warps=4)
    return out


VARIANTS = (
    Variant(
        "swiglu",
        swiglu_kernel,
        {"gate_up": "*bf16", "out": "*bf16", "width": "i32"},
        {"BLOCK": BLOCK},
        frozenset({"gate_up", "out", "width"}),
        {"num_warps": 4},
    ),
)
