"""Attention of prompt chunks: reference against float64 by the definition, kernel against the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpu.kernels.attention import cost, kernel, reference
from gpu.kernels.attention.cost import AttentionTile
from tests.gpu.kernels.paged import EDGES, TOLERANCE, batch, dense_attention, error, planted

SEEDS = st.integers(0, 2**32 - 1)
SMALL = AttentionTile(rows=16, keys=16)
chunks = st.tuples(st.integers(1, 40), st.integers(0, 40))
windows = st.none() | st.integers(1, 50)


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh outputs hold NaN: what a kernel does not write shows."""
    monkeypatch.setattr(torch, "empty_like", lambda t, **kw: torch.full_like(t, float("nan"), **kw))


@given(
    sequences=st.lists(chunks | st.just((0, 0)), min_size=1, max_size=4),
    group=st.integers(1, 4),
    kv_heads=st.integers(1, 3),
    window=windows,
    spare=st.integers(0, 2),
    half=st.booleans(),
    seed=SEEDS,
)
def test_reference_is_attention_by_its_definition(
    sequences, group, kv_heads, window, spare, half, seed
) -> None:
    dtype = torch.float16 if half else torch.float32
    b = batch(sequences, seed, group=group, kv_heads=kv_heads, window=window, spare=spare, dtype=dtype)
    assert error(reference.attention(*b.chunked()), dense_attention(b)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(
    ("group", "size", "window", "tile"),
    [
        (1, 64, None, AttentionTile()),
        (2, 48, 1, SMALL),
        (3, 64, 7, AttentionTile(rows=64)),
        (4, 48, None, AttentionTile(rows=32, keys=32)),
        (4, 64, 16, SMALL),
        (3, 16, 17, AttentionTile(rows=16)),
        (1, 24, 15, AttentionTile(rows=32)),
    ],
)
@given(seed=SEEDS)
@settings(max_examples=1)
def test_kernel_is_the_reference_at_the_edges(group, size, window, tile, dtype, seed) -> None:
    b = batch(EDGES, seed, group=group, kv_heads=2, size=size, window=window, spare=3, dtype=dtype)
    assert error(kernel.attention(*b.chunked(), tile), reference.attention(*b.chunked())) <= TOLERANCE[dtype]


@given(
    sequences=st.lists(chunks, min_size=1, max_size=4), group=st.integers(1, 4), window=windows, seed=SEEDS
)
@example(sequences=[(40, 0)], group=3, window=5, seed=0)
@settings(max_examples=12)
def test_kernel_is_the_reference_on_any_batch(sequences, group, window, seed) -> None:
    b = batch(sequences, seed, group=group, kv_heads=1, window=window)
    computed = kernel.attention(*b.chunked(), AttentionTile(rows=32, keys=16))
    assert error(computed, reference.attention(*b.chunked())) <= TOLERANCE[torch.float32]


def test_padding_is_zero() -> None:
    b = batch([(3, 4)], 0, spare=2)
    padded = (*b.chunked()[:4], torch.zeros(1, dtype=torch.int32), *b.chunked()[5:])
    for attention in (reference.attention, kernel.attention):
        assert not attention(*b.chunked())[3:].any()
        assert not attention(*padded).any()
    nobody = (b.q, b.keys, b.values, torch.zeros(1, dtype=torch.int32), b.lengths[:0], b.blocks[:0], None)
    assert not reference.attention(*nobody).any()
    assert not kernel.attention(*nobody).any()


CAUGHT: dict[str, tuple[str, str]] = {
    "a token does not see itself": ("tokens[None, :] <= position", "tokens[None, :] < position"),
    "a window one token too long": ("position[:, None] - WINDOW)", "position[:, None] - WINDOW - 1)"),
    "a window one token too short": ("first - WINDOW + 1)", "first - WINDOW + 2)"),
    "what no query sees is read": ("(tokens >= oldest) & ", ""),
    "the rest of a block is read": ("(tokens < newest)", "(tokens < newest + 1)"),
    "queries stand at the beginning": ("position = length - end + query", "position = query - begin"),
    "queries stand one token early": (
        "position = length - end + query",
        "position = length - end + query - 1",
    ),
    "a sequence's tiles begin early": (
        "first = begin + (tile - begin // QUERIES - s)",
        "first = begin + (tile - s)",
    ),
    "another head's keys": ("+ head * HEAD_DIM", "+ 0 * head"),
    "another head's queries": ("KV_HEADS + head) * GROUP", "KV_HEADS + 1 - head) * GROUP"),
    "another sequence's block table": ("s.to(tl.int64) * table_width", "0 * table_width"),
    "blocks of another size": ("tokens // BLOCK_SIZE", "tokens // (2 * BLOCK_SIZE)"),
    "sums do not decay": ("mixed * decay[:, None]", "mixed"),
    "totals do not decay": ("total * decay", "total"),
    "rows that saw nothing": ('tl.where(raised == float("-inf"), 0.0, raised)', "raised"),
    "scores are not scaled": ("HEAD_DIM**-0.5", "1.0"),
    "spare rows are not written": ("tl.where(s == sequences - 1, rows, end)", "end"),
    "the last tile is left out": ("newest, KEYS):", "newest - KEYS, KEYS):"),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # what is broken may well make NaN
@pytest.mark.parametrize(("right", "wrong"), CAUGHT.values(), ids=CAUGHT)
def test_planted_errors_are_caught(right, wrong, tmp_path) -> None:
    assert found(planted(kernel, right, wrong, tmp_path)) > 100 * TOLERANCE[torch.float32]


def test_without_a_planted_error_nothing_is_caught() -> None:
    assert found(kernel) <= TOLERANCE[torch.float32]


def found(module: ModuleType) -> float:
    """Error of a module's kernel on chunks on both sides of a block's edge, with a window, padding and spare rows."""
    b = batch([(1, 16), (5, 12), (12, 0), (0, 0), (9, 30)], 0, group=3, window=18, spare=3)
    computed = module.attention(*b.chunked(), AttentionTile(rows=32, keys=16))
    return error(computed, reference.attention(*b.chunked()))


@given(seed=SEEDS)
@settings(max_examples=3)
def test_wrong_arguments_are_seen(seed) -> None:
    b = batch(EDGES, seed, window=7)
    stated = reference.attention(*b.chunked())
    wide, narrow = replace(b, window=8), replace(b, window=6)
    plain = batch(EDGES, seed)
    for computed, right in (
        (reference.attention(*wide.chunked()), stated),
        (reference.attention(*narrow.chunked()), stated),
        (reference.attention(*plain.swapped().chunked()), dense_attention(plain)),
        (reference.attention(*plain.shortened().chunked()), dense_attention(plain)),
        (kernel.attention(*plain.swapped().chunked()), dense_attention(plain)),
    ):
        assert error(computed, right) > 100 * TOLERANCE[torch.float32]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda b: kernel.attention(b.q[:, :3], *b.chunked()[1:]), "3 query heads share 2 KV heads"),
        (lambda b: kernel.attention(*b.chunked()[:-1], 0), "window of 0 tokens"),
        (lambda b: AttentionTile(rows=48), "rows=48"),
        (lambda b: AttentionTile(keys=8), "keys=8"),
        (lambda b: AttentionTile(stages=0), "stages=0"),
        (lambda b: AttentionTile(rows=16).queries(32), "no query of 32 heads"),
        (lambda b: cost.pairs((1, -1)), "negative count"),
        (lambda b: cost.pairs((1, 1), 0), "window of 0 tokens"),
    ],
)
def test_bad_arguments_are_named(call: Callable, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call(batch([(1, 0)], 0))
