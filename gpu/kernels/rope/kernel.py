"""Rotary position embedding in Triton: one pass over queries, keys and values, keys and values into the cache."""

# Bodies of kernels carry no hints: Triton types them by what they are launched with, which may carry its options too.
# pyright: basic, reportMissingParameterType=false, reportCallIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpu.kernels.variants import Variant

__all__ = ["VARIANTS", "rope_and_store", "rope_kernel"]

WARPS = 2


@triton.jit
def rope_kernel(
    qkv,
    positions,
    cos_sin,
    keys,
    values,
    slots,
    q,
    GROUP: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    HEADS_PADDED: tl.constexpr,
    HALF_PADDED: tl.constexpr,
):
    """Program (t, h): token t, and KV head h with its query heads; the tile's row GROUP is the key."""
    t = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1)
    HALF: tl.constexpr = HEAD_DIM // 2
    HEADS: tl.constexpr = GROUP * KV_HEADS
    row = tl.arange(0, HEADS_PADDED)
    dims = tl.arange(0, HALF_PADDED)
    inside = dims < HALF

    angle = cos_sin + tl.load(positions + t) * HEAD_DIM + dims
    cos = tl.load(angle, mask=inside, other=0.0)[None, :]
    sin = tl.load(angle + HALF, mask=inside, other=0.0)[None, :]
    head = tl.where(row < GROUP, h * GROUP + row, HEADS + h)
    source = qkv + t * ((HEADS + 2 * KV_HEADS) * HEAD_DIM) + head[:, None] * HEAD_DIM + dims[None, :]
    used = (row <= GROUP)[:, None] & inside[None, :]
    first = tl.load(source, mask=used, other=0.0).to(tl.float32)
    second = tl.load(source + HALF, mask=used, other=0.0).to(tl.float32)
    left = first * cos - second * sin
    right = second * cos + first * sin

    query = used & (row < GROUP)[:, None]
    target = q + t * (HEADS * HEAD_DIM) + head[:, None] * HEAD_DIM + dims[None, :]
    tl.store(target, left.to(q.dtype.element_ty), mask=query)
    tl.store(target + HALF, right.to(q.dtype.element_ty), mask=query)

    slot = tl.load(slots + t)
    at = (slot * KV_HEADS + h) * HEAD_DIM
    key = used & (row == GROUP)[:, None] & (slot >= 0)
    target = keys + at + tl.broadcast_to(dims[None, :], [HEADS_PADDED, HALF_PADDED])
    tl.store(target, left.to(keys.dtype.element_ty), mask=key)
    tl.store(target + HALF, right.to(keys.dtype.element_ty), mask=key)
    entry = tl.arange(0, 2 * HALF_PADDED)
    kept = (entry < HEAD_DIM) & (slot >= 0)
    value = tl.load(qkv + (t * (HEADS + 2 * KV_HEADS) + HEADS + KV_HEADS + h) * HEAD_DIM + entry, mask=kept)
    tl.store(values + at + entry, value.to(values.dtype.element_ty), mask=kept)


def rope_and_store(
    qkv: Tensor, positions: Tensor, cos_sin: Tensor, keys: Tensor, values: Tensor, slots: Tensor
) -> Tensor:
    """Rotates queries and keys by their positions, and writes keys and values into the KV cache.

    Arguments and result are those of :func:`gpu.kernels.rope.reference.rope_and_store`; the rotation is float32.

    Raises:
        ValueError: the head dimension is odd, `qkv` holds no whole group of query heads per KV head, or a tensor is
            not contiguous.
    """
    tokens, width = qkv.shape
    kv_heads, size = keys.shape[2:]
    heads = width // size - 2 * kv_heads
    if size % 2:
        raise ValueError(f"heads of {size} entries have no halves to rotate; give an even head dimension")
    if width % size or heads < 1 or heads % kv_heads:
        raise ValueError(
            f"rows of {width} entries are not queries, keys and values of {kv_heads} KV heads of {size}; "
            "give (Hq + 2·Hkv)·D entries with Hq a multiple of Hkv"
        )
    if not (qkv.is_contiguous() and keys.is_contiguous() and values.is_contiguous()):
        raise ValueError("rotary embedding reads and writes whole rows; give contiguous tensors")
    q = torch.empty(tokens, heads, size, dtype=qkv.dtype, device=qkv.device)
    if tokens:
        rope_kernel[(tokens, kv_heads)](
            qkv,
            positions,
            cos_sin,
            keys,
            values,
            slots,
            q,
            **_constants(heads // kv_heads, kv_heads, size),
            num_warps=WARPS,
        )
    return q


def _constants(group: int, kv_heads: int, size: int) -> dict[str, Any]:
    return {
        "GROUP": group,
        "KV_HEADS": kv_heads,
        "HEAD_DIM": size,
        "HEADS_PADDED": triton.next_power_of_2(group + 1),
        "HALF_PADDED": triton.next_power_of_2(size // 2),
    }


_TENSORS = {**dict.fromkeys(("qkv", "keys", "values", "q"), "*bf16"), "cos_sin": "*fp32"}
_INDICES = {"positions": "*i64", "slots": "*i64"}
VARIANTS = (
    Variant(
        "rope",
        rope_kernel,
        _TENSORS | _INDICES,
        _constants(4, 8, 128),
        frozenset(_TENSORS | _INDICES),
        {"num_warps": WARPS},
    ),
)
