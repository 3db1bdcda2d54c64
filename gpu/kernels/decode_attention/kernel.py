"""Decode attention in Triton: a context is split over programs, and a second kernel joins their parts."""

# Bodies of kernels carry no hints: Triton types them by what they are launched with, which may carry its options too.
# pyright: basic, reportMissingParameterType=false, reportCallIssue=false

from __future__ import annotations

import functools
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpu.kernels.attention.kernel import absorb
from gpu.kernels.decode_attention.cost import SplitTile
from gpu.kernels.variants import Variant

__all__ = ["VARIANTS", "decode_attention", "reduce_kernel", "split_kernel"]

PROCESSORS = 132  # of the device that a split aims at where there is none: an H100's
WARPS = 2  # of a program that joins parts


@triton.jit(do_not_specialize=["table_width"])
def split_kernel(
    q,
    keys,
    values,
    lengths,
    blocks,
    parts,
    maxima,
    totals,
    table_width,
    WINDOW: tl.constexpr,
    SEGMENTS: tl.constexpr,
    GROUP: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    DIM: tl.constexpr,
):
    """Program (s, h, z): the heads of KV head h against the z-th segment of sequence s.

    Writes the unnormalised sums [Hq, SEGMENTS, D] of sequence s, their maxima and totals; an empty segment writes the
    maximum -inf and the total 0, and no sums.
    """
    s = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    segment = tl.program_id(2)
    length = tl.load(lengths + s)
    oldest = 0
    if WINDOW is not None:
        oldest = tl.maximum(0, length - WINDOW)
    origin = oldest // KEYS * KEYS
    share = tl.cdiv(tl.cdiv(length - origin, KEYS), SEGMENTS) * KEYS
    begin = origin + segment * share
    end = tl.minimum(begin + share, length)

    row = tl.arange(0, ROWS)
    dims = tl.arange(0, DIM)
    live = row < GROUP
    inside = live[:, None] & (dims < HEAD_DIM)[None, :]
    heads = (s * KV_HEADS + head) * GROUP + row
    queries = tl.load(q + heads[:, None] * HEAD_DIM + dims[None, :], mask=inside, other=0.0)
    mixed = tl.zeros([ROWS, DIM], tl.float32)
    largest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    for start in range(begin, end, KEYS):
        tokens = start + tl.arange(0, KEYS)
        seen = (tokens >= oldest) & (tokens < end)
        mixed, largest, total = absorb(
            mixed,
            largest,
            total,
            queries,
            keys,
            values,
            blocks + s * table_width,
            tokens,
            seen,
            seen[None, :],
            head,
            BLOCK_SIZE,
            KV_HEADS,
            HEAD_DIM,
            DIM,
        )
    part = heads * SEGMENTS + segment
    tl.store(maxima + part, largest, mask=live)
    tl.store(totals + part, total, mask=live)
    tl.store(parts + part[:, None] * HEAD_DIM + dims[None, :], mixed, mask=inside & (begin < end))


@triton.jit
def reduce_kernel(
    parts,
    maxima,
    totals,
    out,
    SEGMENTS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DIM: tl.constexpr,
):
    """Program r, of one sequence and head:  Σ_z 2^(m_z - m)·mixed_z / Σ_z 2^(m_z - m)·total_z  with m = max m_z."""
    r = tl.program_id(0).to(tl.int64)
    part = r * SEGMENTS + tl.arange(0, SEGMENTS)
    dims = tl.arange(0, DIM)
    inside = dims < HEAD_DIM
    largest = tl.load(maxima + part)
    total = tl.load(totals + part)
    filled = total > 0.0
    mixed = tl.load(
        parts + part[:, None] * HEAD_DIM + dims[None, :], mask=filled[:, None] & inside[None, :], other=0.0
    )
    top = tl.max(largest, 0)
    share = tl.where(filled, tl.exp2(largest - tl.where(top == float("-inf"), 0.0, top)), 0.0)
    whole = tl.sum(share * total, 0)
    joined = tl.sum(share[:, None] * mixed, 0) / tl.where(whole == 0.0, 1.0, whole)
    tl.store(out + r * HEAD_DIM + dims, joined.to(out.dtype.element_ty), mask=inside)


def decode_attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor,
    blocks: Tensor,
    window: int | None,
    tile: SplitTile | None = None,
) -> Tensor:
    """Attention of the last token of each sequence to its cached tokens, each context split into `tile.segments`.

    Arguments and result are those of :func:`gpu.kernels.decode_attention.reference.decode_attention`; the default tile
    fills the processors of the device.  Scores, softmax and sums are float32; weights are rounded to the type of the
    values before they multiply them.

    Raises:
        ValueError: Hq is no multiple of Hkv, `window` is below 1, or a tensor is not contiguous.
    """
    sequences, heads, size = q.shape
    block_size, kv_heads = keys.shape[1:3]
    if heads % kv_heads:
        raise ValueError(f"{heads} query heads share {kv_heads} KV heads; give a multiple")
    if window is not None and window < 1:
        raise ValueError(f"window of {window} tokens sees nothing; give at least 1, or None for no window")
    if not (q.is_contiguous() and keys.is_contiguous() and values.is_contiguous()):
        raise ValueError("attention reads whole heads; give contiguous queries, keys and values")
    out = torch.empty_like(q)
    if sequences == 0:
        return out.view(0, heads * size)
    if tile is None:
        tile = SplitTile.filling(_processors(q.device), sequences, kv_heads)
    parts = torch.empty(sequences, heads, tile.segments, size, dtype=torch.float32, device=q.device)
    maxima = torch.empty(sequences, heads, tile.segments, dtype=torch.float32, device=q.device)
    totals = torch.empty_like(maxima)
    split_kernel[(sequences, kv_heads, tile.segments)](
        q,
        keys,
        values,
        lengths,
        blocks,
        parts,
        maxima,
        totals,
        blocks.stride(0),
        **_constants(window, heads // kv_heads, kv_heads, size, block_size, tile),
        **_options(tile),
    )
    reduce_kernel[(sequences * heads,)](parts, maxima, totals, out, **_joined(tile, size), num_warps=WARPS)
    return out.view(sequences, heads * size)


def _constants(
    window: int | None, group: int, kv_heads: int, size: int, block_size: int, tile: SplitTile
) -> dict[str, Any]:
    return {
        "WINDOW": window,
        "SEGMENTS": tile.segments,
        "GROUP": group,
        "KV_HEADS": kv_heads,
        "HEAD_DIM": size,
        "BLOCK_SIZE": block_size,
        "ROWS": max(16, triton.next_power_of_2(group)),
        "KEYS": tile.keys,
        "DIM": max(16, triton.next_power_of_2(size)),
    }


def _joined(tile: SplitTile, size: int) -> dict[str, Any]:
    return {"SEGMENTS": tile.segments, "HEAD_DIM": size, "DIM": triton.next_power_of_2(size)}


def _options(tile: SplitTile) -> dict[str, Any]:
    return {"num_warps": tile.warps, "num_stages": tile.stages}


@functools.cache
def _processors(device: torch.device) -> int:
    """Streaming multiprocessors of a device."""
    if device.type != "cuda":
        return PROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count


def _variants(tile: SplitTile, window: int | None) -> tuple[Variant, Variant]:
    """Both kernels at the heads of Mistral-7B."""
    name = f"in {tile.segments}" + (f" window {window}" if window else "")
    parts = ("parts", "maxima", "totals")
    caches, indices = ("q", "keys", "values"), ("lengths", "blocks")
    return (
        Variant(
            f"decode attention {name}",
            split_kernel,
            {
                **dict.fromkeys(caches, "*bf16"),
                **dict.fromkeys(parts, "*fp32"),
                **dict.fromkeys(indices, "*i32"),
                "table_width": "i32",
            },
            _constants(window, 4, 8, 128, 16, tile),
            frozenset(caches + parts + indices),
            _options(tile),
            tensor="mma",
        ),
        Variant(
            f"decode attention reduce {name}",
            reduce_kernel,
            {**dict.fromkeys(parts, "*fp32"), "out": "*bf16"},
            _joined(tile, 128),
            frozenset((*parts, "out")),
            {"num_warps": WARPS},
        ),
    )


VARIANTS = (
    *_variants(SplitTile(segments=1), None),
    *_variants(SplitTile(segments=32), None),
    _variants(SplitTile(segments=32), 4096)[0],
)
