"""Cost of a matrix product: what it computes and moves, the tile it is cut into, and the least time that takes.

Notation, as in :mod:`queueing.tile`: rows are tokens, columns outputs, and the reduction runs over inputs.
"""

from __future__ import annotations

from queueing.hardware import Hardware, ModelShape
from queueing.tile import Tile

__all__ = ["PRODUCTS", "bytes_moved", "floor", "flops", "products", "tile_for"]

PRODUCTS = ("qkv", "output", "gate_up", "down", "head")
LEAST_STEPS = 4  # of the reduction, in a program: fewer do not pay for the second pass


def products(model: ModelShape) -> dict[str, tuple[int, int]]:
    """(columns, reduction) of the products of one layer, and of the head, by name."""
    heads = model.heads * model.head_dim
    shapes = (
        (heads + 2 * model.kv_heads * model.head_dim, model.hidden),
        (model.hidden, heads),
        (2 * model.intermediate, model.hidden),
        (model.hidden, model.intermediate),
        (model.vocab, model.hidden),
    )
    return dict(zip(PRODUCTS, shapes, strict=True))


def flops(rows: int, columns: int, reduction: int) -> int:
    """FLOPs: a multiplication and an addition per row, column and input."""
    return 2 * rows * columns * reduction


def bytes_moved(rows: int, columns: int, reduction: int, dtype_bytes: int = 2, split: int = 1) -> int:
    """Bytes: weight, rows and result once each; a split writes its float32 parts and reads them again.

    A lower bound: a row of tiles reads the weight again, from the L2 cache if `group` keeps it there.
    """
    once = (columns * reduction + rows * reduction + rows * columns) * dtype_bytes
    return once + (2 * split * rows * columns * 4 if split > 1 else 0)


def floor(rows: int, columns: int, reduction: int, hardware: Hardware, dtype_bytes: int = 2) -> float:
    """Least seconds by the roofline: max(FLOPs / peak, bytes / bandwidth), without a split."""
    return max(
        flops(rows, columns, reduction) / hardware.flops,
        bytes_moved(rows, columns, reduction, dtype_bytes) / hardware.bandwidth,
    )


def tile_for(
    rows: int, columns: int, reduction: int, *, processors: int, dtype_bytes: int = 2, most: int = 128
) -> Tile:
    """The tile of a product: as tall as its rows, at most `most`, and split while processors would stand idle.

    `m` is the power of two from 16 to `most` that covers the rows, if one does; `n` = 128; `k` = 128 bytes of the
    reduction.  The split is the largest power of two with which the programs are still one wave and each keeps 4 steps.
    """
    m = min(max(16, 1 << (rows - 1).bit_length()), most)
    tile = Tile(m, 128, 128 // dtype_bytes)
    alone, steps = tile.tiles(rows, columns), -(-reduction // tile.k)
    split = 1
    while 2 * split * alone <= processors and 2 * split * LEAST_STEPS <= steps:
        split *= 2
    return Tile(tile.m, tile.n, tile.k, split)
