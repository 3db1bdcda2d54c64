"""Decode graphs without a GPU: a batch in a larger one gives the same logits, and the padding writes nothing."""

from __future__ import annotations

import pytest
import torch

from gpu.backend import operations
from gpu.config import ModelConfig
from gpu.graph import SIZES, DecodeGraphs, empty_decodes, fill
from gpu.kv_cache import KVCache
from gpu.loader import random_model
from gpu.model import forward
from gpu.step import Step

CONFIG = ModelConfig(
    architecture="MistralForCausalLM", layers=1, hidden=32, heads=4, kv_heads=2, head_dim=16, intermediate=48, vocab=61,
    norm_epsilon=1e-5, rope_theta=1e4, window=None, tied=False, max_length=128, dtype="float32", eos=(),
)  # fmt: skip
MODEL = random_model(CONFIG, 1)
BLOCKS, SIZE, WIDTH = 20, 16, 5
CLOSE = 1e-4  # products of other shapes round otherwise


def cache() -> KVCache:
    made = KVCache(CONFIG.layers, BLOCKS, SIZE, CONFIG.kv_heads, CONFIG.head_dim)
    draw = torch.Generator().manual_seed(0)
    made.keys.copy_(torch.randn(made.keys.shape, generator=draw))
    made.values.copy_(torch.randn(made.values.shape, generator=draw))
    return made


def decodes(lengths: list[int]) -> Step:
    """One token each after these many, in blocks of their own."""
    n = len(lengths)
    before = torch.tensor(lengths)
    table = torch.arange(n * 2, dtype=torch.int32).view(n, 2)
    slots = table[torch.arange(n), before // SIZE].long() * SIZE + before % SIZE
    return Step(
        tokens=torch.arange(n) + 3,
        positions=before,
        starts=torch.arange(n + 1, dtype=torch.int32),
        lengths=(before + 1).int(),
        slots=slots,
        blocks=table,
        sampled=torch.arange(n),
        decodes=n,
    )


@pytest.mark.parametrize(
    ("lengths", "backend"),
    [([0], "reference"), ([15, 16], "reference"), ([31, 4, 17], "reference"), ([15, 16], "triton")],
)
def test_padding_changes_nothing(lengths: list[int], backend: str) -> None:
    """After a larger batch stood in the same static step, too: nothing of it is left behind."""
    do = operations(backend)
    step, static = decodes(lengths), empty_decodes(4, WIDTH)
    fill(static, decodes([20, 9, 30, 2]))
    fill(static, step)
    alone, padded = cache(), cache()
    stated = forward(MODEL, step, alone, do)
    computed = forward(MODEL, static, padded, do)[: len(lengths)]
    assert (stated - computed).abs().max() < CLOSE
    assert (alone.keys - padded.keys).abs().max() < CLOSE
    assert torch.isfinite(forward(MODEL, static, padded, do)).all()
    fill(static, decodes([20, 9, 30, 2]))  # control: with the larger batch in it, more is written
    forward(MODEL, static, padded, do)
    assert (alone.keys - padded.keys).abs().max() > 0.1


def test_sizes_cover_what_they_say() -> None:
    assert SIZES[:4] == (1, 2, 4, 8)
    assert SIZES[-1] == 256
    assert list(SIZES) == sorted(set(SIZES))


def test_graphs_need_a_gpu() -> None:
    with pytest.raises(ValueError, match="need a model on a GPU, and this one is on cpu"):
        DecodeGraphs(MODEL, cache(), operations("reference"), WIDTH)
