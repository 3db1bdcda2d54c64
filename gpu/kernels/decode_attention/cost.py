"""Cost of decode attention: what one layer computes and moves, and the least time that takes.

Notation, as in :mod:`queueing.models.iteration_time`: decode i attends to L_i tokens, its new one included.  Per
context token one layer reads 2·Hkv·D entries, its key and its value, and computes 4·Hq·D FLOPs, so the intensity is at
most Hq/Hkv FLOPs per byte of a 16-bit cache: far below any accelerator's ridge, and the bytes decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from queueing.hardware import Hardware, ModelShape

__all__ = ["SplitTile", "bytes_moved", "floor", "flops", "programs", "tile_steps"]

MOST_SEGMENTS = 32


@dataclass(frozen=True, slots=True)
class SplitTile:
    """Split of a context: `segments` programs share it, each goes through its part `keys` tokens at a time.

    `warps` and `stages` are the compiler's: warps of 32 threads per program, and KV tiles in flight.

    Raises:
        ValueError: a size is no power of two, or `keys` is below 16, the least that tensor cores multiply.
    """

    segments: int = 1
    keys: int = 64
    warps: int = 4
    stages: int = 3

    def __post_init__(self) -> None:
        for field in fields(self):
            value: int = getattr(self, field.name)
            least = 16 if field.name == "keys" else 1
            if field.name != "stages" and (value < least or value & (value - 1)):
                raise ValueError(
                    f"split tile has {field.name}={value!r}; give a power of two, at least {least}"
                )
        if self.stages < 1:
            raise ValueError(f"split tile has stages={self.stages!r}; give at least 1")

    @classmethod
    def filling(cls, processors: int, sequences: int, kv_heads: int) -> SplitTile:
        """The fewest segments that give every processor two programs, at most 32.

        It is a function of the batch's size and not of its contexts, so that a recorded launch stays valid as they
        grow.

        Raises:
            ValueError: a count is below 1.
        """
        if min(processors, sequences, kv_heads) < 1:
            raise ValueError(
                f"{processors} processors, {sequences} sequences and {kv_heads} KV heads leave nothing to split; "
                "give at least 1 of each"
            )
        wanted = -(-2 * processors // (sequences * kv_heads))
        return cls(segments=min(MOST_SEGMENTS, 1 << (wanted - 1).bit_length()))


def flops(model: ModelShape, contexts: Sequence[int], window: int | None = None) -> int:
    """FLOPs of one layer: 4·Hq·D per context token."""
    return 4 * model.heads * model.head_dim * sum(_seen(length, window) for length in contexts)


def bytes_moved(
    model: ModelShape, contexts: Sequence[int], tile: SplitTile, window: int | None = None
) -> int:
    """Bytes that one layer moves: keys and values once, queries and outputs, and the segments' parts out and in.

    A part is D sums, a maximum and a total per query head, in float32.  Index tensors, 4 bytes per block, are left out.
    """
    cache = 2 * model.kv_heads * model.head_dim * model.dtype_bytes
    rows = 2 * model.heads * model.head_dim * model.dtype_bytes
    parts = 2 * 4 * tile.segments * model.heads * (model.head_dim + 2)
    return cache * sum(_seen(length, window) for length in contexts) + (rows + parts) * len(contexts)


def programs(model: ModelShape, sequences: int, tile: SplitTile) -> int:
    """Programs of the split, one per sequence, KV head and segment; the reduction has one per sequence and head."""
    return sequences * model.kv_heads * tile.segments


def tile_steps(model: ModelShape, contexts: Sequence[int], tile: SplitTile, window: int | None = None) -> int:
    """KV tiles that all programs of one layer go through; steps begin at multiples of `keys`."""
    return model.kv_heads * sum(
        -(-length // tile.keys) - (length - _seen(length, window)) // tile.keys for length in contexts
    )


def floor(
    model: ModelShape, contexts: Sequence[int], tile: SplitTile, hardware: Hardware, window: int | None = None
) -> float:
    """Least seconds of one layer by the roofline: max(FLOPs / peak, bytes / bandwidth)."""
    return max(
        flops(model, contexts, window) / hardware.flops,
        bytes_moved(model, contexts, tile, window) / hardware.bandwidth,
    )


def _seen(length: int, window: int | None) -> int:
    """Tokens that a decode attends to.

    Raises:
        ValueError: the context is negative, or the window is below 1.
    """
    if length < 0:
        raise ValueError(f"context of {length} tokens is negative; give 0 for padding, or its tokens")
    if window is not None and window < 1:
        raise ValueError(f"window of {window} tokens sees nothing; give at least 1, or None for no window")
    return length if window is None else min(length, window)
