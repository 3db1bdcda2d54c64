"""Tile: counts against enumeration, waves against a machine that works them off, the ceil law against waves."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueing.models.iteration_time import Load, TileLaw
from queueing.tile import Tile

SIDES = st.sampled_from([16, 32, 64, 128, 256])
TILES = st.builds(Tile, SIDES, SIDES, SIDES, st.integers(1, 8), st.integers(1, 16))
COUNTS = st.integers(1, 2000)
NONE = np.zeros(0, np.int64)
ROOM = {"processors": st.integers(1, 132), "occupancy": st.integers(1, 4)}


def corners_of(staircase, most: int) -> tuple[int, ...]:
    """Places n at which staircase(n + 1) > staircase(n), up to the first that is at least `most`, one by one."""
    found: list[int] = []
    n = 0
    while not found or found[-1] < most:
        n += 1
        if staircase(n + 1) > staircase(n):
            found.append(n)
    return tuple(found)


@given(tile=TILES, rows=COUNTS, columns=COUNTS, reduction=COUNTS)
def test_tiles_cover_the_output_once(tile, rows, columns, reduction) -> None:
    begins = [(i, j) for i in range(0, rows, tile.m) for j in range(0, columns, tile.n)]
    steps = len(range(0, reduction, tile.k))
    assert tile.tiles(rows, columns) == len(begins) * tile.split
    assert tile.padded_flops(rows, columns, reduction) == 2 * len(begins) * tile.m * tile.n * steps * tile.k
    assert tile.padded_flops(rows, columns, reduction) >= 2 * rows * columns * reduction


@given(tile=TILES, rows=COUNTS, columns=COUNTS, **ROOM)
def test_waves_are_the_rounds_of_a_machine(tile, rows, columns, processors, occupancy) -> None:
    left, rounds = tile.tiles(rows, columns), 0
    while left > 0:
        left -= processors * occupancy
        rounds += 1
    assert tile.waves(rows, columns, processors, occupancy) == rounds


@given(tile=TILES, columns=COUNTS, most=st.integers(1, 600), **ROOM)
def test_corners_are_where_one_token_takes_another_wave(tile, columns, most, processors, occupancy) -> None:
    processors = min(processors, 8)  # so that steps are short and enumeration is too
    room = processors, min(occupancy, 2)
    stated = corners_of(lambda n: tile.waves(n, columns, *room), most)
    assert tile.corners(columns, *room, most=most) == stated


@given(tile=TILES, columns=COUNTS, **ROOM)
def test_the_ceil_law_is_that_of_the_waves(tile, columns, processors, occupancy) -> None:
    room = processors, occupancy
    b, first = tile.law_tile(columns, *room), tile.waves(1, columns, *room)
    period = tile.m * processors * occupancy  # in tokens: then the staircase repeats
    corners = (0, *tile.corners(columns, *room, most=2 * period))
    steps = {
        (
            after - before,
            tile.waves(after, columns, *room) - (tile.waves(before, columns, *room) if before else 0),
        )
        for before, after in pairwise(corners)
    }
    assert (steps == {(b, first)}) == (b is not None)
    if b is not None:
        law = TileLaw(b, tile_time=first, per_token=0.0)
        for n in (1, b - 1, b, b + 1, 3 * b, 3 * b + 1):
            assert tile.waves(n, columns, *room) == law(Load(n, 0, 0, NONE, NONE))


def test_a_law_with_another_tile_is_not_that_of_the_waves() -> None:
    tile = Tile(128, 128, 64)
    assert tile.law_tile(4096, 32) == 128
    law = TileLaw(64, tile_time=1.0, per_token=0.0)
    assert tile.waves(65, 4096, 32) == 1 != law(Load(65, 0, 0, NONE, NONE))
    assert tile.law_tile(4096, 132) is None  # an H100: 132 processors, 32 programs a row


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"m": 24}, "m=24"),
        ({"n": 8}, "n=8"),
        ({"k": 0}, "k=0"),
        ({"m": 64.0}, "m=64.0"),
        ({"split": 0}, "split=0"),
        ({"group": True}, "group=True"),
    ],
)
def test_bad_tiles_are_named(wrong, named) -> None:
    with pytest.raises(ValueError, match=named):
        Tile(**{"m": 64, "n": 64, "k": 64} | wrong)


def test_bad_products_are_named() -> None:
    tile = Tile(64, 64, 64)
    with pytest.raises(ValueError, match="rows=0"):
        tile.tiles(0, 64)
    with pytest.raises(ValueError, match="occupancy=0"):
        tile.waves(1, 64, 132, 0)
    with pytest.raises(ValueError, match="most=-1"):
        tile.corners(64, 132, most=-1)
