"""Ragged batches over a poisoned paged cache, attention in float64 the slow way, and kernels with a planted error."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 16
TOLERANCE = {torch.float32: 5e-6, torch.float16: 4e-3}

# one token, edges of a block and of two, before and after; chunks within, at and across an edge; padding
EDGES = [
    (1, 0),
    (1, 14),
    (1, 15),
    (1, 16),
    (15, 0),
    (16, 0),
    (17, 0),
    (3, 14),
    (2, 31),
    (33, 15),
    (0, 0),
    (5, 60),
]


@dataclass(frozen=True)
class Batch:
    """Arguments of an attention, and the keys and values [L, Hkv, D] of each sequence as they are without pages."""

    q: Tensor
    keys: Tensor
    values: Tensor
    starts: Tensor
    lengths: Tensor
    blocks: Tensor
    window: int | None
    plain_keys: list[NDArray[np.float64]]
    plain_values: list[NDArray[np.float64]]

    def chunked(self) -> tuple[Any, ...]:
        """Arguments of `attention`."""
        return self.q, self.keys, self.values, self.starts, self.lengths, self.blocks, self.window

    def decoded(self) -> tuple[Any, ...]:
        """Arguments of `decode_attention`, if every sequence has one row."""
        return self.q, self.keys, self.values, self.lengths, self.blocks, self.window

    def swapped(self) -> Batch:
        """The batch in which the two longest sequences have each other's first block.

        Two blocks of one sequence would not do: attention does not care in which order it sees the tokens it sees.
        """
        s, t = self.lengths.argsort()[-2:].tolist()
        blocks = self.blocks.clone()
        blocks[s, 0], blocks[t, 0] = self.blocks[t, 0], self.blocks[s, 0]
        return replace(self, blocks=blocks)

    def shortened(self) -> Batch:
        """The batch whose queries stand one token too early."""
        return replace(self, lengths=(self.lengths - 1).clamp(min=0))


def batch(
    sequences: Sequence[tuple[int, int]],
    seed: int,
    *,
    group: int = 2,
    kv_heads: int = 2,
    size: int = 16,
    dtype: torch.dtype = torch.float32,
    window: int | None = None,
    spare: int = 0,
) -> Batch:
    """Sequences of (new, cached) tokens in blocks shuffled over the cache, with `spare` rows of queries at the end.

    What no query may see is NaN: the rest of the last block, tokens before the window, every block of nobody, and
    those that unused entries of the block table name.
    """
    rng = np.random.default_rng(seed)
    width = 1 + max((-(-(new + cached) // BLOCK) for new, cached in sequences), default=0)
    count = len(sequences) * width + 2
    order = iter(rng.permutation(count).tolist())
    nobody = next(order)
    keys = torch.full((count, BLOCK, kv_heads, size), float("nan"), dtype=dtype)
    values = keys.clone()
    table = torch.full((len(sequences), width), nobody, dtype=torch.int32)
    rows = sum(new for new, _ in sequences) + spare
    plain: tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]] = ([], [])
    for s, (new, cached) in enumerate(sequences):
        seen = new + cached
        for cache, dense in zip((keys, values), plain, strict=True):
            drawn = torch.from_numpy(rng.standard_normal((seen, kv_heads, size))).to(dtype)
            if window is not None:
                drawn[: max(0, cached + 1 - window)] = float("nan")
            dense.append(drawn.double().numpy())
            for b in range(-(-seen // BLOCK)):
                if cache is keys:
                    table[s, b] = next(order)
                piece = drawn[b * BLOCK : (b + 1) * BLOCK]
                cache[table[s, b], : len(piece)] = piece
    starts = torch.tensor([0, *np.cumsum([new for new, _ in sequences])], dtype=torch.int32)
    lengths = torch.tensor([new + cached for new, cached in sequences], dtype=torch.int32)
    q = torch.from_numpy(rng.standard_normal((rows, group * kv_heads, size))).to(dtype)
    return Batch(q, keys, values, starts, lengths, table, window, *plain)


def dense_attention(b: Batch) -> Tensor:
    """Causal attention by its definition, token by token in float64."""
    q = b.q.double().numpy()
    rows, heads, size = q.shape
    out = np.zeros_like(q)
    starts = b.starts.tolist()
    for s, (keys, values) in enumerate(zip(b.plain_keys, b.plain_values, strict=True)):
        for row in range(starts[s], starts[s + 1]):
            position = len(keys) - (starts[s + 1] - row)
            oldest = 0 if b.window is None else max(0, position - b.window + 1)
            for head in range(heads):
                shared = head // (heads // keys.shape[1])
                scores = keys[oldest : position + 1, shared] @ q[row, head] / np.sqrt(size)
                weights = np.exp(scores - scores.max())
                out[row, head] = weights @ values[oldest : position + 1, shared] / weights.sum()
    return torch.from_numpy(out.reshape(rows, heads * size))


def error(computed: Tensor, stated: Tensor) -> float:
    """Largest difference; infinite if a number is none."""
    difference = (computed.double() - stated.double()).abs().numpy()
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))


def planted(module: ModuleType, right: str, wrong: str, directory: Path) -> ModuleType:
    """The module with `right`, which it holds once, replaced by `wrong`."""
    source = inspect.getsource(module)
    assert source.count(right) == 1, f"{module.__name__} holds {right!r} {source.count(right)} times"
    path = directory / "planted.py"
    path.write_text(source.replace(right, wrong))
    spec = importlib.util.spec_from_file_location("planted", path)
    assert spec is not None
    assert spec.loader is not None
    broken = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(broken)
    return broken
