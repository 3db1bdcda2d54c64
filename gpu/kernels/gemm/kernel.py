"""Matrix product in Triton: one program per tile and share of its reduction, and a second pass that adds the shares."""

# Bodies of kernels carry no hints: Triton types them by what they are launched with, which may carry its options too.
# pyright: basic, reportMissingParameterType=false, reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpu.kernels.gemm.cost import tile_for
from gpu.kernels.variants import Variant
from queueing.tile import Tile

__all__ = ["VARIANTS", "gemm_kernel", "launch_options", "matmul", "reduce_kernel"]

PROCESSORS = 132  # of the device that a tile aims at where there is none: an H100's
BLOCK = 1024  # entries that one program of the second pass adds


@triton.jit(do_not_specialize=["rows"])
def gemm_kernel(
    x,
    weight,
    out,
    rows,
    columns,
    reduction,
    EVEN: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
    SPLIT: tl.constexpr,
    GROUP: tl.constexpr,
):
    """Program (t, z): the z-th share of the reduction of tile t, written to out[z].

    Tiles are numbered down the columns of bands of GROUP rows of tiles, so that programs that run together share both
    their rows and their weights in the L2 cache.
    """
    t = tl.program_id(0)
    share = tl.program_id(1)
    across = tl.cdiv(columns, N)
    band = t // (GROUP * across)
    height = tl.minimum(tl.cdiv(rows, M) - band * GROUP, GROUP)
    within = t - band * GROUP * across
    row = (band * GROUP + within % height).to(tl.int64) * M + tl.arange(0, M)
    column = (within // height).to(tl.int64) * N + tl.arange(0, N)
    steps = tl.cdiv(reduction, K)
    length = tl.cdiv(steps, SPLIT)
    begin = share * length
    end = tl.minimum(begin + length, steps)

    k = tl.arange(0, K)
    # rows and columns beyond the last are computed from others and not written: loads within a step need no mask
    left = x + (row % rows)[:, None] * reduction + (begin * K + k)[None, :]
    right = weight + (column % columns)[None, :] * reduction + (begin * K + k)[:, None]
    total = tl.zeros([M, N], tl.float32)
    for step in range(begin, end):
        if EVEN:
            a = tl.load(left)
            b = tl.load(right)
        else:
            inside = k < reduction - step * K
            a = tl.load(left, mask=inside[None, :], other=0.0)
            b = tl.load(right, mask=inside[:, None], other=0.0)
        total = tl.dot(a, b, total, input_precision="ieee")
        left += K
        right += K
    written = (row < rows)[:, None] & (column < columns)[None, :]
    at = (share * rows.to(tl.int64) + row)[:, None] * columns + column[None, :]
    tl.store(out + at, total.to(out.dtype.element_ty), mask=written)


@triton.jit(do_not_specialize=["entries"])
def reduce_kernel(parts, out, entries, SPLIT: tl.constexpr, BLOCK: tl.constexpr):
    """Program i: the i-th block of the result, its parts [SPLIT, entries] added in order: always the same bits."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < entries
    total = tl.zeros([BLOCK], tl.float32)
    for share in range(SPLIT):
        total += tl.load(parts + share * entries.to(tl.int64) + at, mask=inside, other=0.0)
    tl.store(out + at, total.to(out.dtype.element_ty), mask=inside)


def matmul(x: Tensor, weight: Tensor, tile: Tile | None = None) -> Tensor:
    """x·weightᵀ, with sums in float32, in tiles of `tile`, by default :func:`gpu.kernels.gemm.cost.tile_for`'s.

    Arguments and result are those of :func:`gpu.kernels.gemm.reference.matmul`.  The same tile gives the same bits.

    Raises:
        ValueError: the inner sides differ, or a tensor is not contiguous.
    """
    rows, reduction = x.shape
    columns = weight.shape[0]
    if weight.shape[1] != reduction:
        raise ValueError(
            f"rows of {reduction} entries meet weights of {weight.shape[1]}; give a weight [M, {reduction}]"
        )
    if not (x.is_contiguous() and weight.is_contiguous()):
        raise ValueError("a matrix product reads whole rows; give contiguous tensors")
    out = torch.empty(rows, columns, dtype=x.dtype, device=x.device)
    if not (rows and columns):
        return out
    if tile is None:
        tile = tile_for(
            rows, columns, reduction, processors=_processors(x.device), dtype_bytes=x.element_size()
        )
    if tile.split == 1:
        parts = out
    else:
        parts = torch.empty(tile.split, rows, columns, dtype=torch.float32, device=x.device)
    gemm_kernel[(tile.tiles(rows, columns) // tile.split, tile.split)](
        x,
        weight,
        parts,
        rows,
        columns,
        reduction,
        EVEN=reduction % tile.k == 0,
        M=tile.m,
        N=tile.n,
        K=tile.k,
        SPLIT=tile.split,
        GROUP=tile.group,
        **launch_options(tile),
    )
    if tile.split > 1:
        reduce_kernel[(triton.cdiv(out.numel(), BLOCK),)](
            parts, out, out.numel(), SPLIT=tile.split, BLOCK=BLOCK, num_warps=4
        )
    return out


def launch_options(tile: Tile) -> dict[str, int]:
    """Warps of 32 threads per program, 4 to 8, a thread for 64 sums of a tile; and steps of the reduction in flight."""
    return {
        "num_warps": min(max(4, tile.m * tile.n // (32 * 64)), 8),
        "num_stages": 3 if tile.m >= 128 else 4,
    }


@functools.cache
def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return PROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count


def _variant(tile: Tile) -> Variant:
    """The kernel at a whole number of steps, as in every product of Mistral-7B."""
    return Variant(
        f"gemm {tile.m}x{tile.n}x{tile.k}" + (f" in {tile.split}" if tile.split > 1 else ""),
        gemm_kernel,
        {
            "x": "*bf16",
            "weight": "*bf16",
            "out": "*fp32" if tile.split > 1 else "*bf16",
            "rows": "i32",
            "columns": "i32",
            "reduction": "i32",
        },
        {"EVEN": True, "M": tile.m, "N": tile.n, "K": tile.k, "SPLIT": tile.split, "GROUP": tile.group},
        frozenset({"x", "weight", "out", "columns", "reduction"}),
        launch_options(tile),
        tensor="wgmma" if tile.m >= 64 else "mma",
    )


VARIANTS = (
    *(
        _variant(tile)
        for tile in (Tile(128, 128, 64), Tile(64, 128, 64, split=2), Tile(16, 128, 64, split=4))
    ),
    Variant(
        "gemm reduce",
        reduce_kernel,
        {"parts": "*fp32", "out": "*bf16", "entries": "i32"},
        {"SPLIT": 4, "BLOCK": BLOCK},
        frozenset({"parts", "out"}),
        {"num_warps": 4},
    ),
)
