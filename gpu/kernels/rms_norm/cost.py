"""Cost of root-mean-square normalisation: what one of a layer's two norms computes and moves, and the least time."""

from __future__ import annotations

from queueing.hardware import Hardware, ModelShape

__all__ = ["bytes_moved", "floor", "flops", "programs"]


def flops(model: ModelShape, tokens: int) -> int:
    """FLOPs of one norm: per entry the sum with the residual, a square, its sum, and two factors; 3 more per token."""
    return tokens * (5 * model.hidden + 3)


def bytes_moved(model: ModelShape, tokens: int) -> int:
    """Bytes of one norm with residual: rows and residual in, sum and normed rows out, and the weight once."""
    return (4 * tokens + 1) * model.hidden * model.dtype_bytes


def programs(model: ModelShape, tokens: int) -> int:
    """Programs launched: one per token."""
    return tokens


def floor(model: ModelShape, tokens: int, hardware: Hardware) -> float:
    """Least seconds of one norm by the roofline: max(FLOPs / peak, bytes / bandwidth); bytes decide everywhere."""
    return max(flops(model, tokens) / hardware.flops, bytes_moved(model, tokens) / hardware.bandwidth)
