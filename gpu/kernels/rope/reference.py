"""Rotary position embedding in torch: what the kernel computes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["rope_and_store"]


def rope_and_store(
    qkv: Tensor, positions: Tensor, cos_sin: Tensor, keys: Tensor, values: Tensor, slots: Tensor
) -> Tensor:
    """Rotates queries and keys by their positions, and writes keys and values into the KV cache.

    A head x = (x₁, x₂) of two halves becomes (x₁ cos - x₂ sin, x₂ cos + x₁ sin), in float32, where cos and sin are
    those of its position; each pair (x₁[i], x₂[i]) turns by one angle, so a score depends on the distance of positions
    alone.

    Shapes: `qkv` [N, (Hq + 2·Hkv)·D]; `positions` i64 [N]; `cos_sin` f32 [longest, D], cosines then sines, D/2 each;
    `keys`, `values` [blocks, block_size, Hkv, D], contiguous, written at `slots` i64 [N]; slot -1 writes nothing.
    Returns the rotated queries [N, Hq, D].

    Assumes that positions and slots lie in their tables and that slots other than -1 differ.

    Source: Su et al., "RoFormer", arXiv 2104.09864; the halves are the convention of Hugging Face's checkpoints.
    """
    kv_heads, size = keys.shape[2:]
    heads = qkv.shape[1] // size - 2 * kv_heads
    x = qkv.view(-1, heads + 2 * kv_heads, size)
    cos, sin = cos_sin[positions].unsqueeze(1).chunk(2, dim=-1)
    first, second = x[:, : heads + kv_heads].float().chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(qkv.dtype)
    written = slots >= 0
    at = slots[written]
    keys.view(-1, kv_heads, size)[at] = turned[written, heads:].to(keys.dtype)
    values.view(-1, kv_heads, size)[at] = x[written, heads + kv_heads :].to(values.dtype)
    return turned[:, :heads].contiguous()
