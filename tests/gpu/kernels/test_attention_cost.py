"""Cost of attention of prompt chunks: counts by definition, terms of the law of iteration time, the design's floors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu.kernels.attention import cost, kernel
from gpu.kernels.attention.cost import AttentionTile
from queueing.hardware import HARDWARE, MODELS, ModelShape
from queueing.models.iteration_time import Affine, Load
from tests.gpu.kernels.paged import batch

chunks = st.tuples(st.integers(1, 40), st.integers(0, 40))
windows = st.none() | st.integers(1, 50)


def shape(group: int, kv_heads: int, size: int = 16) -> ModelShape:
    return ModelShape("tiny", 2, 64, group * kv_heads, kv_heads, size, 64, 64)


@given(chunk=chunks, window=windows)
def test_pairs_are_what_attention_sees(chunk, window) -> None:
    new, cached = chunk
    seen = [
        (p, j)
        for p in range(cached, cached + new)
        for j in range(cached + new)
        if j <= p and (window is None or j > p - window)
    ]
    assert cost.pairs(chunk, window) == len(seen)
    model = shape(2, 1)
    # bytes: queries and outputs of every row, key and value of every token that some row sees
    tokens = len({j for _, j in seen})
    assert cost.bytes_moved(model, [chunk], window) == 2 * 2 * 16 * (2 * new + tokens)


@given(chunk=chunks)
def test_costs_are_the_terms_of_the_iteration_time(chunk) -> None:
    new, cached = chunk
    model, h100 = MODELS["mistral-7b"], HARDWARE["h100"]
    load = Load(0, 0, 0, np.array([new]), np.array([cached]))
    law = Affine(1.0, 0.0, per_pair=model.flops_per_pair / h100.flops)
    computed = model.layers * cost.flops(model, [chunk]) / h100.flops
    half_diagonal = new / 2 * model.flops_per_pair / h100.flops
    assert computed == pytest.approx(law(load) - 1.0 + half_diagonal, rel=1e-9, abs=1e-15)
    assert model.layers * cost.flops(model, [chunk]) == model.flops_per_pair * cost.pairs(chunk)
    further = cost.bytes_moved(model, [(new, cached + 1)]) - cost.bytes_moved(model, [chunk])
    assert model.layers * further == model.kv_bytes_per_token


def test_floor_of_the_design_at_mistral_on_h100() -> None:
    model, h100 = MODELS["mistral-7b"], HARDWARE["h100"]
    chunk = (448, 0)
    compute = 32 * cost.flops(model, [chunk]) / h100.flops
    assert compute == pytest.approx(0.05e-3, rel=0.1)  # "448 new: 0.05 ms"
    assert 32 * cost.floor(model, [chunk], h100) > compute  # so short a chunk moves longer than it computes
    long = (2048, 0)
    assert 32 * cost.floor(model, [long], h100) == pytest.approx(1.1e-3, rel=0.05)  # "prefill 2048: 1.1 ms"


@given(
    sequences=st.lists(chunks | st.just((0, 0)), min_size=1, max_size=3),
    group=st.integers(1, 4),
    window=windows,
)
@settings(max_examples=8)
def test_programs_and_tile_steps_are_the_kernels(sequences, group, window) -> None:
    grids, steps = [], []
    tile = AttentionTile(rows=16, keys=16)
    right = kernel.attention_kernel, kernel.absorb

    class Launch:
        def __getitem__(self, grid):
            grids.append(grid)
            return right[0][grid]

    def counted(*args):
        steps.append(1)
        return right[1](*args)

    b = batch(sequences, 0, group=group, kv_heads=2, window=window)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "attention_kernel", Launch())
        patch.setattr(kernel, "absorb", counted)
        kernel.attention(*b.chunked(), tile)
    model = shape(group, 2)
    assert grids[0][0] * grids[0][1] == cost.programs(model, sequences, tile)
    assert len(steps) == cost.tile_steps(model, sequences, tile, window)
