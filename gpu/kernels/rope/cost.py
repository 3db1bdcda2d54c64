"""Cost of rotary embedding with the KV write: what one layer computes and moves, and the least time that takes."""

from __future__ import annotations

from queueing.hardware import Hardware, ModelShape

__all__ = ["bytes_moved", "floor", "flops", "programs"]


def flops(model: ModelShape, tokens: int) -> int:
    """FLOPs of one layer: 3 per rotated entry, (Hq + Hkv)·D of them per token."""
    return 3 * tokens * (model.heads + model.kv_heads) * model.head_dim


def bytes_moved(model: ModelShape, tokens: int) -> int:
    """Bytes that one layer moves: queries, keys and values in and out, each once.

    Left out: cosines, sines, positions and slots, 4·D + 16 bytes per token, which all layers share and the L2 cache
    keeps.
    """
    return 2 * tokens * (model.heads + 2 * model.kv_heads) * model.head_dim * model.dtype_bytes


def programs(model: ModelShape, tokens: int) -> int:
    """Programs launched: one per token and KV head."""
    return tokens * model.kv_heads


def floor(model: ModelShape, tokens: int, hardware: Hardware) -> float:
    """Least seconds of one layer by the roofline: max(FLOPs / peak, bytes / bandwidth); bytes decide everywhere."""
    return max(flops(model, tokens) / hardware.flops, bytes_moved(model, tokens) / hardware.bandwidth)
