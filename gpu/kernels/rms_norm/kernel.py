"""Root-mean-square normalisation in Triton: one program per row, which it reads once."""

# Bodies of kernels carry no hints: Triton types them by what they are launched with, which may carry its options too.
# pyright: basic, reportMissingParameterType=false, reportCallIssue=false, reportArgumentType=false, reportReturnType=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpu.kernels.variants import Variant

__all__ = ["VARIANTS", "rms_norm", "rms_norm_kernel"]


@triton.jit(do_not_specialize=["epsilon"])
def rms_norm_kernel(
    x,
    residual,
    weight,
    normed,
    summed,
    epsilon,
    HIDDEN: tl.constexpr,
    BLOCK: tl.constexpr,
    ADDS: tl.constexpr,
):
    """Program i: row i, in registers from its load to its store."""
    entry = tl.arange(0, BLOCK)
    inside = entry < HIDDEN
    at = tl.program_id(0).to(tl.int64) * HIDDEN + entry
    row = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if ADDS:
        row += tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)
        rounded = row.to(summed.dtype.element_ty)
        tl.store(summed + at, rounded, mask=inside)
        row = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(row * row, 0) / HIDDEN + epsilon)
    gain = tl.load(weight + entry, mask=inside, other=0.0).to(tl.float32)
    tl.store(normed + at, (row * scale * gain).to(normed.dtype.element_ty), mask=inside)


def rms_norm(x: Tensor, weight: Tensor, epsilon: float, residual: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rows s = x + residual, and each divided by its root mean square.

    Arguments and result are those of :func:`gpu.kernels.rms_norm.reference.rms_norm`.

    Raises:
        ValueError: shapes differ, or a tensor is not contiguous.
    """
    hidden = x.shape[-1]
    if weight.shape != (hidden,) or (residual is not None and residual.shape != x.shape):
        raise ValueError(
            f"rows of {tuple(x.shape)} meet a weight of {tuple(weight.shape)} and a residual of "
            f"{None if residual is None else tuple(residual.shape)}; give [H] and the shape of the rows"
        )
    if not (x.is_contiguous() and (residual is None or residual.is_contiguous())):
        raise ValueError("a norm reads whole rows; give contiguous tensors")
    normed = torch.empty(*x.shape, dtype=x.dtype, device=x.device)
    summed = x if residual is None else torch.empty(*x.shape, dtype=x.dtype, device=x.device)
    if x.numel():
        rms_norm_kernel[(x.shape[0],)](
            x,
            x if residual is None else residual,
            weight,
            normed,
            summed,
            epsilon,
            HIDDEN=hidden,
            BLOCK=triton.next_power_of_2(hidden),
            ADDS=residual is not None,
            num_warps=warps(hidden),
        )
    return normed, summed


def warps(hidden: int) -> int:
    """Warps of 32 threads that share a row, about 16 entries a thread."""
    return min(max(1, triton.next_power_of_2(hidden) // (32 * 16)), 16)


VARIANTS = tuple(
    Variant(
        f"rms_norm {hidden}",
        rms_norm_kernel,
        dict.fromkeys(("x", "residual", "weight", "normed", "summed"), "*bf16") | {"epsilon": "fp32"},
        {"HIDDEN": hidden, "BLOCK": triton.next_power_of_2(hidden), "ADDS": True},
        frozenset({"x", "residual", "weight", "normed", "summed"}),
        {"num_warps": warps(hidden)},
    )
    for hidden in (4096,)
)
