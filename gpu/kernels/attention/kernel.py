"""Attention of prompt chunks in Triton: tiles of queries that share a KV head go through their keys once."""

# Bodies of kernels carry no hints: Triton types them by what they are launched with, which may carry its options too.
# pyright: basic, reportMissingParameterType=false, reportCallIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpu.kernels.attention.cost import AttentionTile
from gpu.kernels.variants import Variant

__all__ = ["VARIANTS", "absorb", "attention", "attention_kernel"]

TILE = AttentionTile()


@triton.jit
def absorb(
    mixed,
    largest,
    total,
    q,
    keys,
    values,
    table,
    tokens,
    loaded,
    visible,
    head,
    BLOCK_SIZE: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DIM: tl.constexpr,
):
    """One KV tile joins an online softmax in base 2:  x = log₂(e)·qKᵀ/√D,  m' = max(m, x),  d = 2^(m - m'),

        total' = d·total + Σ 2^(x - m'),     mixed' = d·mixed + 2^(x - m')·V.

    `tokens` [KEYS] of one sequence are found through its block `table`; those not `loaded` are not touched, and row r
    gives weight to token j iff visible[r, j].  A row that has seen nothing has m = -inf and zeros.

    Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", arXiv 1805.02867; Dao et al.,
    "FlashAttention", arXiv 2205.14135.
    """
    dims = tl.arange(0, DIM)
    block = tl.load(table + tokens // BLOCK_SIZE, mask=loaded, other=0).to(tl.int64)
    at = (block * BLOCK_SIZE + tokens % BLOCK_SIZE) * (KV_HEADS * HEAD_DIM) + head * HEAD_DIM
    inside = dims < HEAD_DIM
    k = tl.load(keys + at[None, :] + dims[:, None], mask=loaded[None, :] & inside[:, None], other=0.0)
    v = tl.load(values + at[:, None] + dims[None, :], mask=loaded[:, None] & inside[None, :], other=0.0)
    scale: tl.constexpr = 1.4426950408889634 * HEAD_DIM**-0.5
    scores = tl.where(visible, tl.dot(q, k, input_precision="ieee") * scale, float("-inf"))
    raised = tl.maximum(largest, tl.max(scores, 1))
    # -inf less -inf is no number: a row that has seen nothing is shifted by 0
    shift = tl.where(raised == float("-inf"), 0.0, raised)
    weights = tl.exp2(scores - shift[:, None])
    decay = tl.exp2(largest - shift)
    total = total * decay + tl.sum(weights, 1)
    mixed = mixed * decay[:, None] + tl.dot(weights.to(v.dtype), v, input_precision="ieee")
    return mixed, raised, total


@triton.jit(do_not_specialize=["rows", "sequences", "table_width"])
def attention_kernel(
    q,
    keys,
    values,
    starts,
    lengths,
    blocks,
    out,
    rows,
    sequences,
    table_width,
    WINDOW: tl.constexpr,
    GROUP: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    DIM: tl.constexpr,
):
    """Program (t, h): the t-th query tile against KV head h.

    With b queries per tile, sequence s owns the tiles from ⌊starts[s]/b⌋ + s on: at least ⌈n_s/b⌉ of them, whatever
    the other sequences have, so that the grid needs no lengths and a tile finds its sequence by bisection.
    """
    tile = tl.program_id(0)
    head = tl.program_id(1)
    QUERIES: tl.constexpr = ROWS // GROUP
    s = 0
    beyond = sequences
    while beyond - s > 1:
        middle = (s + beyond) // 2
        owns = tl.load(starts + middle) // QUERIES + middle <= tile
        s = tl.where(owns, middle, s)
        beyond = tl.where(owns, beyond, middle)
    begin = tl.load(starts + s)
    end = tl.load(starts + s + 1)
    length = tl.load(lengths + s)
    first = begin + (tile - begin // QUERIES - s) * QUERIES

    row = tl.arange(0, ROWS)
    dims = tl.arange(0, DIM)
    query = first + row // GROUP
    packed = row < QUERIES * GROUP
    live = packed & (query < end)
    position = length - end + query
    at = (query.to(tl.int64) * KV_HEADS + head) * GROUP + row % GROUP
    at = at[:, None] * HEAD_DIM + dims[None, :]
    inside = (dims < HEAD_DIM)[None, :]
    queries = tl.load(q + at, mask=live[:, None] & inside, other=0.0)

    oldest = 0
    if WINDOW is not None:
        oldest = tl.maximum(0, length - end + first - WINDOW + 1)
    newest = tl.where(first < end, length - end + tl.minimum(first + QUERIES, end), 0)
    mixed = tl.zeros([ROWS, DIM], tl.float32)
    largest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    for start in range(oldest // KEYS * KEYS, newest, KEYS):
        tokens = start + tl.arange(0, KEYS)
        loaded = (tokens >= oldest) & (tokens < newest)
        visible = live[:, None] & (tokens[None, :] <= position[:, None])
        if WINDOW is not None:
            visible = visible & (tokens[None, :] > position[:, None] - WINDOW)
        mixed, largest, total = absorb(
            mixed,
            largest,
            total,
            queries,
            keys,
            values,
            blocks + s.to(tl.int64) * table_width,
            tokens,
            loaded,
            visible,
            head,
            BLOCK_SIZE,
            KV_HEADS,
            HEAD_DIM,
            DIM,
        )
    mixed = mixed / tl.where(total == 0.0, 1.0, total)[:, None]
    # rows after the last sequence are padding: its spare tiles write their zeros
    limit = tl.where(s == sequences - 1, rows, end)
    tl.store(out + at, mixed.to(out.dtype.element_ty), mask=(packed & (query < limit))[:, None] & inside)


def attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    starts: Tensor,
    lengths: Tensor,
    blocks: Tensor,
    window: int | None,
    tile: AttentionTile = TILE,
) -> Tensor:
    """Causal attention of the last tokens of each sequence to its cached tokens, by the tiles of `tile`.

    Arguments and result are those of :func:`gpu.kernels.attention.reference.attention`.  Scores, softmax and sums are
    float32; weights are rounded to the type of the values before they multiply them.

    Raises:
        ValueError: Hq is no multiple of Hkv, `window` is below 1, a tensor is not contiguous, or a tile holds no query.
    """
    rows, heads, size = q.shape
    block_size, kv_heads = keys.shape[1:3]
    if heads % kv_heads:
        raise ValueError(f"{heads} query heads share {kv_heads} KV heads; give a multiple")
    if window is not None and window < 1:
        raise ValueError(f"window of {window} tokens sees nothing; give at least 1, or None for no window")
    if not (q.is_contiguous() and keys.is_contiguous() and values.is_contiguous()):
        raise ValueError("attention reads whole heads; give contiguous queries, keys and values")
    sequences = lengths.shape[0]
    out = torch.empty_like(q)
    if sequences == 0:
        return out.zero_().view(rows, heads * size)
    grid = (rows // tile.queries(heads // kv_heads) + sequences, kv_heads)
    attention_kernel[grid](
        q,
        keys,
        values,
        starts,
        lengths,
        blocks,
        out,
        rows,
        sequences,
        blocks.stride(0),
        **_constants(window, heads // kv_heads, kv_heads, size, block_size, tile),
        **_options(tile),
    )
    return out.view(rows, heads * size)


def _constants(
    window: int | None, group: int, kv_heads: int, size: int, block_size: int, tile: AttentionTile
) -> dict[str, Any]:
    return {
        "WINDOW": window,
        "GROUP": group,
        "KV_HEADS": kv_heads,
        "HEAD_DIM": size,
        "BLOCK_SIZE": block_size,
        "ROWS": tile.rows,
        "KEYS": tile.keys,
        "DIM": max(16, triton.next_power_of_2(size)),
    }


def _options(tile: AttentionTile) -> dict[str, Any]:
    return {"num_warps": tile.warps, "num_stages": tile.stages}


def _variant(window: int | None) -> Variant:
    """The kernel at the heads of Mistral-7B."""
    tensors = ("q", "keys", "values", "out")
    indices = ("starts", "lengths", "blocks")
    return Variant(
        f"attention {TILE.rows}x{TILE.keys}" + (f" window {window}" if window else ""),
        attention_kernel,
        {
            **dict.fromkeys(tensors, "*bf16"),
            **dict.fromkeys(indices, "*i32"),
            **dict.fromkeys(("rows", "sequences", "table_width"), "i32"),
        },
        _constants(window, 4, 8, 128, 16, TILE),
        frozenset(tensors + indices),
        _options(TILE),
        tensor="wgmma",
    )


VARIANTS = (_variant(None), _variant(4096))
