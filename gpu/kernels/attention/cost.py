"""Cost of attention of prompt chunks: what one layer computes and moves, and the least time that takes.

Notation, as in :mod:`queueing.models.iteration_time`: a chunk is q new tokens after h cached ones.  Its row i sees
h + i + 1 tokens, so it has q·h + q(q + 1)/2 token pairs; the law's q·(h + q/2) leaves out half of the diagonal, q/2.
A pair costs 4·Hq·D FLOPs, 2 for the score and 2 for the value per head and dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from queueing.hardware import Hardware, ModelShape

__all__ = ["AttentionTile", "Chunk", "bytes_moved", "floor", "flops", "pairs", "programs", "tile_steps"]

Chunk = tuple[int, int]
"""New tokens q and cached tokens h of one sequence."""


@dataclass(frozen=True, slots=True)
class AttentionTile:
    """Tile of one program: `rows` pairs of query and head against `keys` tokens at a time.

    The Hq/Hkv query heads that share a KV head are rows of one tile, so that keys and values are read once for all of
    them.  `warps` and `stages` are the compiler's: warps of 32 threads per program, and KV tiles in flight.

    Raises:
        ValueError: a size is no power of two, or `rows` or `keys` is below 16, the least that tensor cores multiply.
    """

    rows: int = 128
    keys: int = 64
    warps: int = 8
    stages: int = 2

    def __post_init__(self) -> None:
        for field in fields(self):
            value: int = getattr(self, field.name)
            least = 16 if field.name in ("rows", "keys") else 1
            if field.name != "stages" and (value < least or value & (value - 1)):
                raise ValueError(
                    f"attention tile has {field.name}={value!r}; give a power of two, at least {least}"
                )
        if self.stages < 1:
            raise ValueError(f"attention tile has stages={self.stages!r}; give at least 1")

    def queries(self, group: int) -> int:
        """Queries that one tile holds if `group` query heads share a KV head.

        Raises:
            ValueError: not one query fits.
        """
        if not 1 <= group <= self.rows:
            raise ValueError(
                f"attention tile of {self.rows} rows holds no query of {group} heads; give more rows"
            )
        return self.rows // group


def pairs(chunk: Chunk, window: int | None = None) -> int:
    """Token pairs of one chunk: Σ_i min(h + i + 1, window) over its rows i = 0 .. q - 1.

    Raises:
        ValueError: a count is negative, or the window is below 1.
    """
    new, cached = chunk
    if new < 0 or cached < 0:
        raise ValueError(f"chunk {chunk} has a negative count; give new and cached tokens, both at least 0")
    if window is None:
        return new * cached + new * (new + 1) // 2
    if window < 1:
        raise ValueError(f"window of {window} tokens sees nothing; give at least 1, or None for no window")
    growing = min(max(window - cached, 0), new)  # rows that still see everything before them
    return growing * cached + growing * (growing + 1) // 2 + (new - growing) * window


def flops(model: ModelShape, chunks: Sequence[Chunk], window: int | None = None) -> int:
    """FLOPs of one layer: 4·Hq·D per token pair."""
    return 4 * model.heads * model.head_dim * sum(pairs(chunk, window) for chunk in chunks)


def bytes_moved(model: ModelShape, chunks: Sequence[Chunk], window: int | None = None) -> int:
    """Bytes that one layer must move: queries in, outputs out, and every visible key and value once.

    A lower bound: a query tile reads the keys before it again, from the L2 cache if they are still there.  Index
    tensors, 4 bytes per block, are left out.
    """
    token = model.head_dim * model.dtype_bytes
    rows = sum(new for new, _ in chunks)
    context = sum(_context(chunk, window) for chunk in chunks if chunk[0])
    return 2 * model.heads * token * rows + 2 * model.kv_heads * token * context


def programs(model: ModelShape, chunks: Sequence[Chunk], tile: AttentionTile) -> int:
    """Programs launched: (⌊N/b⌋ + S)·Hkv with b queries per tile, those included that find no row to serve.

    The grid is a function of N and S alone, so that the host need not know the lengths.
    """
    queries = tile.queries(model.heads // model.kv_heads)
    return (sum(new for new, _ in chunks) // queries + len(chunks)) * model.kv_heads


def tile_steps(
    model: ModelShape, chunks: Sequence[Chunk], tile: AttentionTile, window: int | None = None
) -> int:
    """KV tiles that all programs of one layer go through; each costs 4·rows·keys·D FLOPs, filled or not.

    The query tile of rows i .. i + b - 1 goes from the first token that row i sees to the last that its last row sees,
    in steps that begin at multiples of `keys`; tiles before the window are skipped.
    """
    queries = tile.queries(model.heads // model.kv_heads)
    steps = 0
    for new, cached in chunks:
        for first in range(0, new, queries):
            newest = cached + min(first + queries, new)
            oldest = 0 if window is None else max(0, cached + first + 1 - window)
            steps += -(-newest // tile.keys) - oldest // tile.keys
    return steps * model.kv_heads


def floor(model: ModelShape, chunks: Sequence[Chunk], hardware: Hardware, window: int | None = None) -> float:
    """Least seconds of one layer by the roofline: max(FLOPs / peak, bytes / bandwidth)."""
    return max(
        flops(model, chunks, window) / hardware.flops, bytes_moved(model, chunks, window) / hardware.bandwidth
    )


def _context(chunk: Chunk, window: int | None) -> int:
    """Tokens that some row of the chunk sees."""
    new, cached = chunk
    return new + cached if window is None else min(new + cached, new + window - 1)
