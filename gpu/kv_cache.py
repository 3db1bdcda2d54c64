"""The paged KV cache: where the keys and values of every token lie, and which blocks are whose.

The books of the serving loop count blocks; here they have names.  Token j of a request lies in block `table[row, j //
block_size]` at offset `j % block_size`, `row` being the place of the request among the running ones.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["BlockTables", "KVCache"]

NONE = -1


class KVCache:
    """Keys and values of every layer, `keys` and `values` [layers, blocks, block_size, kv_heads, head_dim].

    Memory: 2·layers·blocks·block_size·kv_heads·head_dim entries.

    Raises:
        ValueError: the device has no room for them; the sentence says how much is asked for.
    """

    def __init__(
        self,
        layers: int,
        blocks: int,
        block_size: int,
        kv_heads: int,
        head_dim: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        shape = (layers, blocks, block_size, kv_heads, head_dim)
        try:
            self.keys: Tensor = torch.zeros(shape, dtype=dtype, device=device)
            self.values: Tensor = torch.zeros(shape, dtype=dtype, device=device)
        except (RuntimeError, MemoryError):
            needed = 2 * layers * blocks * block_size * kv_heads * head_dim * dtype.itemsize
            raise ValueError(
                f"{device} has no room for {blocks} KV blocks ({needed / 2**30:.1f} GiB); ask for fewer"
            ) from None

    @property
    def block_size(self) -> int:
        """Tokens per block."""
        return self.keys.shape[2]


class BlockTables:
    """Which blocks each running request holds: a row per place, and a list of the free blocks, last in first out.

    Invariant: every block is free or in exactly one row; row i holds `count[i]` blocks.

    Args:
        blocks: in all.
        rows: requests that may hold blocks at once.
        width: most blocks of one request.
        requests: ids run from 0 to this number, exclusive.
    """

    def __init__(self, blocks: int, rows: int, width: int, requests: int) -> None:
        self.table: NDArray[np.int32] = np.zeros((rows, width), np.int32)
        self.count: NDArray[np.int64] = np.zeros(rows, np.int64)
        self.row: NDArray[np.int64] = np.full(
            requests, NONE, np.int64
        )  # of each request; NONE: it holds nothing
        self._free = list(range(blocks - 1, -1, -1))
        self._places = list(range(rows - 1, -1, -1))

    @property
    def free(self) -> int:
        """Free blocks."""
        return len(self._free)

    def hold(self, requests: NDArray[np.uint32], blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Have each request hold so many blocks, keeping those it has; return their rows.

        Raises:
            RuntimeError: there are too few free blocks or places, which the books of the loop exclude.
        """
        for r in requests[self.row[requests] == NONE]:
            if not self._places:
                raise RuntimeError(f"request {r} finds no place among {len(self.count)} running requests")
            self.row[r] = self._places.pop()
        rows = self.row[requests]
        for k in np.flatnonzero(self.count[rows] < blocks):
            row, held, wanted = int(rows[k]), int(self.count[rows[k]]), int(blocks[k])
            if wanted - held > len(self._free) or wanted > self.table.shape[1]:
                raise RuntimeError(
                    f"request {requests[k]} asks for {wanted} blocks, holds {held}, and {len(self._free)} are free"
                )
            for place in range(held, wanted):
                self.table[row, place] = self._free.pop()
            self.count[row] = wanted
        return rows

    def release(self, request: int) -> None:
        """Take all blocks from a request.

        Raises:
            RuntimeError: it holds none.
        """
        row = int(self.row[request])
        if row == NONE:
            raise RuntimeError(f"request {request} holds no blocks to release")
        self._free += self.table[row, : self.count[row]].tolist()[::-1]
        self.count[row] = 0
        self.row[request] = NONE
        self._places.append(row)
