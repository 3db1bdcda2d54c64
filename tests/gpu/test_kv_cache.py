"""Block tables: every block is free or in exactly one row, whatever is held and released."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from gpu.kv_cache import BlockTables, KVCache

BLOCKS, ROWS, WIDTH, REQUESTS = 12, 4, 6, 40


def leaks(tables: BlockTables) -> list[str]:
    """What breaks the invariant."""
    held = [int(b) for row, n in zip(tables.table, tables.count, strict=True) for b in row[:n]]
    free = tables._free
    found = [f"block {b} is twice in use" for b in set(held) if held.count(b) > 1]
    found += [f"block {b} is in use and free" for b in set(held) & set(free)]
    found += [f"block {b} is lost" for b in set(range(BLOCKS)) - set(held) - set(free)]
    return found


class Blocks(RuleBasedStateMachine):
    """Requests grow as they like, within what is free, and go in any order."""

    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.tables = BlockTables(BLOCKS, ROWS, WIDTH, REQUESTS)
        self.held: dict[int, list[int]] = {}
        self.next = 0

    @rule(target=running, blocks=st.integers(1, WIDTH))
    def admit(self, blocks: int):
        if len(self.held) == ROWS or blocks > self.tables.free:
            return multiple()
        r, self.next = self.next, self.next + 1
        self._hold(r, blocks)
        return r if r < REQUESTS - 1 else multiple()

    @rule(r=running, blocks=st.integers(1, WIDTH))
    def grow(self, r: int, blocks: int) -> None:
        if blocks - len(self.held[r]) <= self.tables.free:
            self._hold(r, blocks)

    @rule(r=consumes(running))
    def release(self, r: int) -> None:
        self.tables.release(r)
        del self.held[r]

    def _hold(self, r: int, blocks: int) -> None:
        (row,) = self.tables.hold(np.array([r], np.uint32), np.array([blocks]))
        now = self.tables.table[row, : self.tables.count[row]].tolist()
        before = self.held.get(r, [])
        assert now[: len(before)] == before  # what it had it keeps, in place
        assert len(now) == max(blocks, len(before))
        self.held[r] = now

    @invariant()
    def nothing_leaks(self) -> None:
        assert leaks(self.tables) == []
        assert self.tables.free == BLOCKS - sum(map(len, self.held.values()))


Blocks.TestCase.settings = settings(stateful_step_count=40, deadline=None)
test_blocks = Blocks.TestCase


def test_leaks_are_seen() -> None:
    """Control: a block given twice, a block lost."""
    tables = BlockTables(BLOCKS, ROWS, WIDTH, REQUESTS)
    tables.hold(np.array([0, 1], np.uint32), np.array([2, 2]))
    tables.table[1, 0] = tables.table[0, 0]
    assert len(leaks(tables)) == 2


def test_more_than_there_is() -> None:
    tables = BlockTables(2, 1, WIDTH, REQUESTS)
    with pytest.raises(RuntimeError, match="2 are free"):
        tables.hold(np.array([7], np.uint32), np.array([3]))
    with pytest.raises(RuntimeError, match="no place"):
        tables.hold(np.array([8], np.uint32), np.array([1]))
    with pytest.raises(RuntimeError, match="holds no blocks"):
        tables.release(9)


def test_a_cache_beyond_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="ask for fewer"):
        KVCache(32, 1 << 40, 16, 8, 128)
