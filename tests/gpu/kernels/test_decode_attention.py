"""Decode attention: reference against float64 by the definition, split kernel against the reference, costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu.kernels.decode_attention import cost, kernel, reference
from gpu.kernels.decode_attention.cost import SplitTile
from queueing.hardware import HARDWARE, MODELS, ModelShape
from queueing.models.iteration_time import Affine, Load
from tests.gpu.kernels.paged import TOLERANCE, Batch, batch, dense_attention, error, planted

SEEDS = st.integers(0, 2**32 - 1)
EDGES = [1, 15, 16, 17, 31, 33, 48, 80, 0]
windows = st.none() | st.integers(1, 50)
lengths = st.lists(st.integers(1, 80), min_size=1, max_size=4)


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh outputs and parts hold NaN: what a kernel does not write shows."""
    monkeypatch.setattr(torch, "empty_like", lambda t, **kw: torch.full_like(t, float("nan"), **kw))
    monkeypatch.setattr(torch, "empty", lambda *size, **kw: torch.full(size, float("nan"), **kw))


def decodes(lengths: list[int], seed: int, **options) -> Batch:
    """One query per sequence; one of length 0 has a query too, and is padding."""
    b = batch([(1, length - 1) if length else (0, 0) for length in lengths], seed, **options)
    rows = torch.zeros(len(lengths), *b.q.shape[1:], dtype=b.q.dtype)
    rows[b.lengths > 0] = b.q
    return replace(b, q=rows, starts=torch.arange(len(lengths) + 1, dtype=torch.int32))


def by_definition(b: Batch) -> torch.Tensor:
    """Attention of the rows that are no padding, 0 elsewhere."""
    kept = (b.lengths > 0).nonzero().flatten().tolist()
    some = replace(
        b,
        q=b.q[kept],
        starts=torch.arange(len(kept) + 1),
        plain_keys=[b.plain_keys[s] for s in kept],
        plain_values=[b.plain_values[s] for s in kept],
    )
    out = torch.zeros(len(b.lengths), b.q.shape[1] * b.q.shape[2], dtype=torch.float64)
    out[kept] = dense_attention(some)
    return out


@given(
    lengths=st.lists(st.integers(0, 80), min_size=1, max_size=5),
    group=st.integers(1, 4),
    kv_heads=st.integers(1, 3),
    window=windows,
    half=st.booleans(),
    seed=SEEDS,
)
def test_reference_is_attention_by_its_definition(lengths, group, kv_heads, window, half, seed) -> None:
    dtype = torch.float16 if half else torch.float32
    b = decodes(lengths, seed, group=group, kv_heads=kv_heads, window=window, dtype=dtype)
    assert error(reference.decode_attention(*b.decoded()), by_definition(b)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(
    ("group", "size", "window", "tile"),
    [
        (1, 64, None, SplitTile()),
        (2, 48, 1, SplitTile(2, keys=16)),
        (3, 64, 17, SplitTile(4, keys=16)),
        (4, 48, None, SplitTile(8, keys=32)),
        (4, 64, 16, SplitTile(1, keys=32)),
        (3, 64, None, None),
    ],
)
@given(seed=SEEDS)
@settings(max_examples=1)
def test_kernel_is_the_reference_at_the_edges(group, size, window, tile, dtype, seed) -> None:
    # the default tile splits a small batch into many segments: fewer sequences keep the interpreter short
    b = decodes(
        EDGES if tile else [1, 80], seed, group=group, kv_heads=1, size=size, window=window, dtype=dtype
    )
    stated = reference.decode_attention(*b.decoded())
    assert error(kernel.decode_attention(*b.decoded(), tile), stated) <= TOLERANCE[dtype]


@given(lengths=lengths, group=st.integers(1, 4), window=windows, seed=SEEDS)
@settings(max_examples=6)
def test_number_of_segments_changes_nothing(lengths, group, window, seed) -> None:
    b = decodes(lengths, seed, group=group, kv_heads=1, window=window)
    stated = reference.decode_attention(*b.decoded())
    for segments in (1, 2, 4, 8):
        computed = kernel.decode_attention(*b.decoded(), SplitTile(segments, keys=16))
        assert error(computed, stated) <= TOLERANCE[torch.float32]


def test_padding_is_zero_and_an_empty_batch_is_empty() -> None:
    b = decodes([0, 5, 0], 0)
    for decode_attention in (reference.decode_attention, kernel.decode_attention):
        out = decode_attention(*b.decoded())
        assert not out[[0, 2]].any()
        assert out[1].all()
        none = (b.q[:0], b.keys, b.values, b.lengths[:0], b.blocks[:0], None)
        assert decode_attention(*none).shape == (0, 4 * 16)


CAUGHT: dict[str, tuple[str, str]] = {
    "a window one token too long": ("tl.maximum(0, length - WINDOW)", "tl.maximum(0, length - WINDOW - 1)"),
    "a window one token too short": ("tl.maximum(0, length - WINDOW)", "tl.maximum(0, length - WINDOW + 1)"),
    "tokens before the window": ("(tokens >= oldest) & ", ""),
    "the rest of a block": ("(tokens < end)", "(tokens < end + 1)"),
    "the newest token is not seen": (
        "tl.minimum(begin + share, length)",
        "tl.minimum(begin + share, length - 1)",
    ),
    "segments begin at the first token": ("origin + segment * share", "segment * share"),
    "a tile too few per segment": (
        "tl.cdiv(tl.cdiv(length - origin, KEYS), SEGMENTS)",
        "(tl.cdiv(length - origin, KEYS) // SEGMENTS)",
    ),
    "another sequence's block table": ("blocks + s * table_width", "blocks + 0 * s"),
    "another head's queries": (
        "(s * KV_HEADS + head) * GROUP",
        "(s * KV_HEADS + KV_HEADS - 1 - head) * GROUP",
    ),
    "parts of empty segments are joined": ("mask=filled[:, None] & inside[None, :]", "mask=inside[None, :]"),
    "parts are not weighed": ("share[:, None] * mixed", "mixed"),
    "totals are not weighed": ("share * total", "total"),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # what is broken may well make NaN
@pytest.mark.parametrize(("right", "wrong"), CAUGHT.values(), ids=CAUGHT)
def test_planted_errors_are_caught(right, wrong, tmp_path) -> None:
    assert found(planted(kernel, right, wrong, tmp_path)) > 100 * TOLERANCE[torch.float32]


def test_without_a_planted_error_nothing_is_caught() -> None:
    assert found(kernel) <= TOLERANCE[torch.float32]


def found(module: ModuleType) -> float:
    """Error of a module's kernels on short and long contexts, some of whose segments are empty, with a window."""
    b = decodes([1, 17, 70, 33], 0, group=3, window=40)
    computed = module.decode_attention(*b.decoded(), SplitTile(2, keys=16))
    return error(computed, reference.decode_attention(*b.decoded()))


@given(seed=SEEDS)
@settings(max_examples=3)
def test_wrong_arguments_are_seen(seed) -> None:
    b = decodes([17, 33, 80], seed, window=7)
    plain = decodes([17, 33, 80], seed)
    for wrong, right in (
        (replace(b, window=8), b),
        (replace(b, window=6), b),
        (plain.swapped(), plain),
        (plain.shortened(), plain),
    ):
        computed = reference.decode_attention(*wrong.decoded())
        assert error(computed, by_definition(right)) > 100 * TOLERANCE[torch.float32]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda b: kernel.decode_attention(b.q[:, :3], *b.decoded()[1:]), "3 query heads share 2 KV heads"),
        (lambda b: kernel.decode_attention(*b.decoded()[:-1], 0), "window of 0 tokens"),
        (lambda b: SplitTile(segments=3), "segments=3"),
        (lambda b: SplitTile(keys=8), "keys=8"),
        (lambda b: SplitTile(stages=0), "stages=0"),
        (lambda b: SplitTile.filling(0, 1, 1), "0 processors"),
        (lambda b: cost.flops(tiny(1, 1), [-1]), "context of -1 tokens"),
        (lambda b: cost.flops(tiny(1, 1), [1], 0), "window of 0 tokens"),
    ],
)
def test_bad_arguments_are_named(call: Callable, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call(decodes([1], 0))


def tiny(group: int, kv_heads: int) -> ModelShape:
    return ModelShape("tiny", 2, 64, group * kv_heads, kv_heads, 16, 64, 64)


@given(contexts=lengths)
def test_costs_are_the_terms_of_the_iteration_time(contexts) -> None:
    model, h100, tile = MODELS["mistral-7b"], HARDWARE["h100"], SplitTile()
    nothing = np.zeros(0, np.int64)
    law = Affine(1.0, 0.0, per_context=model.kv_bytes_per_token / h100.bandwidth)
    stated = law(Load(0, len(contexts), sum(contexts), nothing, nothing)) - 1.0
    # what is over is the queries, the outputs and the parts, of which the law knows nothing
    over = cost.bytes_moved(model, [0] * len(contexts), tile) / h100.bandwidth
    computed = model.layers * (cost.floor(model, contexts, tile, h100) - over)
    assert computed == pytest.approx(stated, rel=1e-9)
    assert model.layers * cost.flops(model, contexts) == model.flops_per_pair * sum(contexts)


def test_floor_of_the_design_at_mistral_on_h100() -> None:
    model, h100 = MODELS["mistral-7b"], HARDWARE["h100"]
    tile = SplitTile.filling(132, 64, 8)
    longer = cost.floor(model, [1025], tile, h100) - cost.floor(model, [1024], tile, h100)
    assert longer == pytest.approx(1.22e-9, rel=0.005)  # "1.22 ns per context token"
    assert 32 * cost.floor(model, [1024] * 64, tile, h100) == pytest.approx(
        2.56e-3, rel=0.02
    )  # "64x1k: 2.56"


@given(processors=st.integers(1, 300), sequences=st.integers(1, 300), kv_heads=st.integers(1, 32))
def test_the_split_fills_the_processors_and_no_more(processors, sequences, kv_heads) -> None:
    tile = SplitTile.filling(processors, sequences, kv_heads)
    launched = cost.programs(tiny(1, kv_heads), sequences, tile)
    assert launched >= 2 * processors or tile.segments == 32
    assert launched < 4 * processors or tile.segments == 1


@given(lengths=lengths, window=windows)
@settings(max_examples=6)
def test_programs_and_tile_steps_are_the_kernels(lengths, window) -> None:
    grids, steps = [], []
    tile = SplitTile(2, keys=16)
    right = kernel.split_kernel, kernel.absorb

    class Launch:
        def __getitem__(self, grid):
            grids.append(grid)
            return right[0][grid]

    def counted(*args):
        steps.append(1)
        return right[1](*args)

    b = decodes(lengths, 0, kv_heads=2, window=window)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "split_kernel", Launch())
        patch.setattr(kernel, "absorb", counted)
        kernel.decode_attention(*b.decoded(), tile)
    assert np.prod(grids[0]) == cost.programs(tiny(2, 2), len(lengths), tile)
    assert len(steps) == cost.tile_steps(tiny(2, 2), lengths, tile, window)
