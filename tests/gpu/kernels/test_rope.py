"""Rotary embedding with KV write: reference against complex numbers, kernel against the reference, costs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu.kernels.rope import cost, kernel, reference
from queueing.hardware import HARDWARE, MODELS
from tests.gpu.kernels.paged import TOLERANCE, error, planted

SEEDS = st.integers(0, 2**32 - 1)
BLOCKS, BLOCK, LONGEST = 4, 16, 64


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh outputs hold NaN: what a kernel does not write shows."""
    monkeypatch.setattr(torch, "empty", lambda *size, **kw: torch.full(size, float("nan"), **kw))


class Tokens(NamedTuple):
    """Arguments of `rope_and_store`, save the cache."""

    qkv: torch.Tensor
    positions: torch.Tensor
    cos_sin: torch.Tensor
    slots: torch.Tensor


def tokens(count: int, seed: int, *, group: int, kv_heads: int, size: int, dtype=torch.float32) -> Tokens:
    """Tokens at any positions, one in four of them padding, the others at slots of their own."""
    rng = np.random.default_rng(seed)
    qkv = torch.from_numpy(rng.standard_normal((count, (group + 2) * kv_heads * size))).to(dtype)
    slots = rng.permutation(BLOCKS * BLOCK)[:count]
    slots[rng.random(count) < 0.25] = -1
    positions = torch.from_numpy(rng.integers(0, LONGEST, count))
    return Tokens(qkv, positions, angles(size).float(), torch.from_numpy(slots))


def angles(size: int) -> torch.Tensor:
    turn = torch.arange(LONGEST, dtype=torch.float64)[:, None] * 1e4 ** (-torch.arange(0, size, 2) / size)
    return torch.cat((turn.cos(), turn.sin()), dim=1)


def run(rope_and_store, t: Tokens, kv_heads: int, size: int):
    """Queries, keys and values; cache entries that nobody wrote are NaN."""
    keys = torch.full((BLOCKS, BLOCK, kv_heads, size), float("nan"), dtype=t.qkv.dtype)
    values = keys.clone()
    q = rope_and_store(t.qkv, t.positions, t.cos_sin, keys, values, t.slots)
    return q, keys, values


def in_the_plane(t: Tokens, kv_heads: int, size: int):
    """The same by complex multiplication: (x₁ + i·x₂)·exp(i·angle), entry by entry into a dictionary of slots."""
    x = t.qkv.double().unflatten(1, (-1, size)).numpy()
    table = t.cos_sin[t.positions].double().numpy()
    turn = table[:, None, : size // 2] + 1j * table[:, None, size // 2 :]
    turned = (x[..., : size // 2] + 1j * x[..., size // 2 :]) * turn
    turned = np.concatenate((turned.real, turned.imag), axis=-1)
    heads = x.shape[1] - 2 * kv_heads
    cache = np.full((2, BLOCKS * BLOCK, kv_heads, size), np.nan)
    for i, slot in enumerate(t.slots.tolist()):
        if slot >= 0:
            cache[0, slot], cache[1, slot] = turned[i, heads : heads + kv_heads], x[i, heads + kv_heads :]
    shape = BLOCKS, BLOCK, kv_heads, size
    return tuple(
        torch.from_numpy(y) for y in (turned[:, :heads], cache[0].reshape(shape), cache[1].reshape(shape))
    )


def difference(computed, stated) -> float:
    """Largest difference of queries, keys and values; infinite if other cache entries were written."""
    if any(not torch.equal(c.isnan(), s.isnan()) for c, s in zip(computed, stated, strict=True)):
        return np.inf
    return max(error(c.nan_to_num(), s.nan_to_num()) for c, s in zip(computed, stated, strict=True))


shapes = {"group": st.integers(1, 5), "kv_heads": st.integers(1, 3), "size": st.sampled_from([2, 16, 48, 64])}


@given(count=st.integers(0, 30), half=st.booleans(), seed=SEEDS, **shapes)
def test_reference_turns_the_plane(count, group, kv_heads, size, half, seed) -> None:
    dtype = torch.float16 if half else torch.float32
    t = tokens(count, seed, group=group, kv_heads=kv_heads, size=size, dtype=dtype)
    computed, stated = run(reference.rope_and_store, t, kv_heads, size), in_the_plane(t, kv_heads, size)
    assert difference(computed, stated) <= TOLERANCE[dtype]
    assert torch.equal(
        computed[2].nan_to_num(), stated[2].nan_to_num().to(dtype)
    )  # values are moved, no more


@given(seed=SEEDS, distance=st.integers(0, LONGEST // 2), first=st.integers(0, LONGEST // 2 - 1), where=SEEDS)
def test_scores_know_the_distance_alone(seed, distance, first, where) -> None:
    t = tokens(1, seed, group=1, kv_heads=1, size=16)
    scores = []
    for position in (first, where % (LONGEST // 2)):
        at = t._replace(slots=torch.tensor([0]))
        _, keys, _ = run(reference.rope_and_store, at._replace(positions=torch.tensor([position])), 1, 16)
        q, _, _ = run(
            reference.rope_and_store, at._replace(positions=torch.tensor([position + distance])), 1, 16
        )
        scores.append(float(q.flatten() @ keys[0, 0].flatten()))
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@given(count=st.integers(0, 12), seed=SEEDS, **shapes)
@settings(max_examples=8)
def test_kernel_is_the_reference(count, group, kv_heads, size, dtype, seed) -> None:
    t = tokens(count, seed, group=group, kv_heads=kv_heads, size=size, dtype=dtype)
    stated = run(reference.rope_and_store, t, kv_heads, size)
    assert difference(run(kernel.rope_and_store, t, kv_heads, size), stated) <= TOLERANCE[dtype]


CAUGHT = {
    "the other direction": ("left = first * cos - second * sin", "left = first * cos + second * sin"),
    "half a turn": ("second * cos + first * sin", "second * cos - first * sin"),
    "another position": ("tl.load(positions + t)", "(tl.load(positions + t) + 1)"),
    "queries of another head": ("h * GROUP + row", "h + row"),
    "keys of another head": ("row, HEADS + h)", "row, HEADS)"),
    "padding is written": ("(row == GROUP)[:, None] & (slot >= 0)", "(row == GROUP)[:, None]"),
    "values of padding are written": ("(entry < HEAD_DIM) & (slot >= 0)", "entry < HEAD_DIM"),
    "values are keys": ("HEADS + KV_HEADS + h) * HEAD_DIM + entry", "HEADS + h) * HEAD_DIM + entry"),
    "another slot": ("(slot * KV_HEADS + h)", "(slot + h)"),
    "interleaved pairs": ("target + HALF, right.to(q", "target + 1, right.to(q"),
}


@pytest.mark.parametrize(("right", "wrong"), CAUGHT.values(), ids=CAUGHT)
def test_planted_errors_are_caught(right, wrong, tmp_path) -> None:
    broken = planted(kernel, right, wrong, tmp_path).rope_and_store
    assert difference(embedded(broken), embedded(reference.rope_and_store)) > 100 * TOLERANCE[torch.float32]


def test_without_a_planted_error_nothing_is_caught() -> None:
    computed, stated = embedded(kernel.rope_and_store), embedded(reference.rope_and_store)
    assert difference(computed, stated) <= TOLERANCE[torch.float32]


def embedded(rope_and_store):
    """Queries, and keys and values within larger memory, where a write at slot -1 shows."""
    t = tokens(8, 0, group=3, kv_heads=2, size=16)
    t.slots[1] = -1
    around = torch.full((2, BLOCKS + 2, BLOCK, 2, 16), float("nan"))
    q = rope_and_store(t.qkv, t.positions, t.cos_sin, around[0, 1:-1], around[1, 1:-1], t.slots)
    return q, around[0], around[1]


@pytest.mark.parametrize(
    ("width", "size", "named"), [(15, 5, "of 5 entries"), (60, 16, "of 60"), (32, 16, "of 32")]
)
def test_bad_shapes_are_named(width, size, named) -> None:
    keys = torch.zeros(1, BLOCK, 1, size)
    at = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match=named):
        kernel.rope_and_store(torch.zeros(1, width), at, torch.zeros(1, size), keys, keys.clone(), at)


def test_floor_of_the_design_at_mistral_on_h100() -> None:
    model, h100 = MODELS["mistral-7b"], HARDWARE["h100"]
    assert cost.bytes_moved(model, 1) == pytest.approx(24e3, rel=0.03)  # "about 24 KB/tok"
    assert cost.floor(model, 1, h100) == pytest.approx(7.3e-9, rel=0.01)
    assert 32 * cost.floor(model, 64, h100) == pytest.approx(0.015e-3, rel=0.01)
    assert 32 * cost.floor(model, 512, h100) == pytest.approx(0.12e-3, rel=0.01)
    assert cost.flops(model, 1) / h100.flops < cost.floor(model, 1, h100) / 100  # bytes decide
    assert cost.programs(model, 64) == 512
