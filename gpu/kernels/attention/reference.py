"""Attention over the paged KV cache in torch: what the kernels compute."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

__all__ = ["attention"]


def attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    starts: Tensor,
    lengths: Tensor,
    blocks: Tensor,
    window: int | None,
) -> Tensor:
    """Causal attention of the last tokens of each sequence to its cached tokens:  softmax(qKᵀ/√D)·V.

    Sequence s has n_s = starts[s+1] - starts[s] queries, which stand at the end of its lengths[s] tokens: its row i is
    token lengths[s] - n_s + i.  Token p sees token j iff j <= p and, with a window, j > p - window.  Query head h
    reads KV head h // (Hq/Hkv).  Scores, softmax and sums are float32.  Rows outside every sequence, and those of
    sequences of length 0, are 0.

    Shapes: `q` [N, Hq, D] and `keys`, `values` [blocks, block_size, Hkv, D], all contiguous; `starts` i32 [S + 1];
    `lengths` i32 [S]; `blocks` i32 [S, most blocks], where token j of s lies in blocks[s, j // block_size];
    `window` tokens or None.  Returns [N, Hq·D].

    Assumes n_s <= lengths[s] unless that is 0.  Only cache entries that some query sees are read, so that what stands
    in the rest of a block has no effect, NaN included.
    """
    rows, heads, size = q.shape
    block_size, kv_heads = keys.shape[1:3]
    group = heads // kv_heads
    ends = lengths.tolist()
    slots = _slots(blocks, max(ends, default=0), block_size)
    flat_keys, flat_values = keys.view(-1, kv_heads * size), values.view(-1, kv_heads * size)
    grouped = q.view(rows, kv_heads, group, size)
    out = torch.zeros_like(grouped)
    bounds = starts.tolist()
    for s, (begin, end, length) in enumerate(zip(bounds, bounds[1:], ends, strict=False)):
        n = end - begin
        if n == 0 or length == 0:
            continue
        oldest = 0 if window is None else max(0, length - n - window + 1)
        seen = length - oldest
        # gathered sequence by sequence, keys and values stay in a core's cache, and nothing is padded
        at = slots[s, oldest:length]
        k = flat_keys.index_select(0, at).view(seen, kv_heads, size).transpose(0, 1)
        v = flat_values.index_select(0, at).view(seen, kv_heads, size).transpose(0, 1)
        queries = grouped[begin:end].transpose(0, 1).reshape(kv_heads, n * group, size)
        mixed = scaled_dot_product_attention(
            queries.float()[None],
            k.float()[None],
            v.float()[None],
            attn_mask=None if n == 1 else _visible(n, seen, window, q.device).repeat_interleave(group, 0),
        )
        out[begin:end] = mixed.view(kv_heads, n, group, size).transpose(0, 1)
    return out.view(rows, heads * size)


def _slots(blocks: Tensor, longest: int, block_size: int) -> Tensor:
    """Rows of the flattened cache at which the tokens of each sequence lie, [S, >= longest]."""
    used = blocks[:, : -(-longest // block_size), None]
    return (used * block_size + torch.arange(block_size, device=blocks.device)).flatten(1)


def _visible(queries: int, seen: int, window: int | None, device: torch.device) -> Tensor:
    """Which of the last `seen` tokens the last `queries` of them see, [queries, seen]."""
    query = torch.arange(seen - queries, seen, device=device)[:, None]
    key = torch.arange(seen, device=device)
    return (key <= query) if window is None else (key <= query) & (key > query - window)
