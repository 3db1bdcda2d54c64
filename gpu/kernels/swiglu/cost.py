"""Cost of the gated activation: what one layer computes and moves, and the least time that takes."""

from __future__ import annotations

from queueing.hardware import Hardware, ModelShape

__all__ = ["BLOCK", "bytes_moved", "floor", "flops", "programs"]

BLOCK = 1024  # entries of the result per program


def flops(model: ModelShape, tokens: int) -> int:
    """FLOPs of one layer: an exponential, a sum, a quotient and a product per entry of the result."""
    return 4 * tokens * model.intermediate


def bytes_moved(model: ModelShape, tokens: int) -> int:
    """Bytes of one layer: gate and up in, the result out."""
    return 3 * tokens * model.intermediate * model.dtype_bytes


def programs(model: ModelShape, tokens: int) -> int:
    """Programs launched: one per token and block."""
    return tokens * -(-model.intermediate // BLOCK)


def floor(model: ModelShape, tokens: int, hardware: Hardware) -> float:
    """Least seconds of one layer by the roofline: max(FLOPs / peak, bytes / bandwidth); bytes decide everywhere."""
    return max(flops(model, tokens) / hardware.flops, bytes_moved(model, tokens) / hardware.bandwidth)
