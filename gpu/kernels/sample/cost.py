"""Cost of sampling: what the choice of a token per row computes and moves, and the least time that takes."""

from __future__ import annotations

from queueing.hardware import Hardware, ModelShape

__all__ = ["LOGIT_BYTES", "PHILOX", "bytes_moved", "floor", "flops", "programs"]

LOGIT_BYTES = 4
PHILOX = 10 * 10  # operations of a block of four words: per round 4 products, 4 exclusive ors and 2 sums


def flops(model: ModelShape, rows: int) -> int:
    """Scalar operations of a draw, of whole numbers too: a quarter of a Philox block and 12 more per column."""
    return rows * model.vocab * (PHILOX // 4 + 12)


def bytes_moved(model: ModelShape, rows: int) -> int:
    """Bytes: float32 logits in; per row a temperature, request and position in, and a token out."""
    return rows * (model.vocab * LOGIT_BYTES + 4 + 3 * 8)


def programs(model: ModelShape, rows: int) -> int:
    """Programs launched: one per row."""
    return rows


def floor(model: ModelShape, rows: int, hardware: Hardware) -> float:
    """Least seconds by the roofline: max(operations / peak, bytes / bandwidth).

    Few rows do not reach it: each is one program on one processor, and its operations are not those of tensor cores.
    """
    return max(flops(model, rows) / hardware.flops, bytes_moved(model, rows) / hardware.bandwidth)
