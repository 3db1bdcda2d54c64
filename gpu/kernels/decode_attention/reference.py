"""Decode attention in torch: what the kernel computes, which is attention with one query per sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from gpu.kernels.attention.reference import attention

__all__ = ["decode_attention"]


def decode_attention(
    q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, blocks: Tensor, window: int | None
) -> Tensor:
    """Attention of the last token of each sequence to its cached tokens, itself included:  softmax(qKᵀ/√D)·V.

    It is :func:`gpu.kernels.attention.reference.attention` where sequence s has the one query s.  A sequence of length
    0 is padding: its output is 0.

    Shapes: `q` [S, Hq, D] and `keys`, `values` [blocks, block_size, Hkv, D], all contiguous; `lengths` i32 [S];
    `blocks` i32 [S, most blocks]; `window` tokens or None.  Returns [S, Hq·D].
    """
    starts = torch.arange(q.shape[0] + 1, dtype=torch.int32, device=q.device)
    return attention(q, keys, values, starts, lengths, blocks, window)
