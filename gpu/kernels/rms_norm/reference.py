"""Root-mean-square normalisation in torch: what the kernel computes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["rms_norm"]


def rms_norm(x: Tensor, weight: Tensor, epsilon: float, residual: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rows s = x + residual, and each divided by its root mean square:  w·s/√(mean(s²) + ε).

    The sum is rounded to the type of `x` before it is normalised, as it is what later layers add to; the statistics
    are float32.  Without a residual s is `x` itself.

    Shapes: `x`, `residual` [N, H]; `weight` [H].  Returns (normed [N, H], s [N, H]).

    Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", arXiv 1910.07467.
    """
    summed = x if residual is None else x + residual
    wide = summed.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return (wide * scale * weight.float()).to(x.dtype), summed
