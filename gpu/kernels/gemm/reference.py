"""Matrix product in torch: what the kernel computes."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import linear

__all__ = ["matmul"]


def matmul(x: Tensor, weight: Tensor) -> Tensor:
    """x·weightᵀ, with sums in float32.

    Shapes: `x` [N, K]; `weight` [M, K], rows are outputs as in checkpoints; returns [N, M] in the type of `x`.
    """
    return linear(x, weight)
