"""Compositions of published kernel times: anchors, an independent reading of the tables, and what they promise."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import Sarathi
from queueing.data import build_gpu_tables as build
from queueing.models import gpu_tables
from queueing.models.gpu_tables import Composition, composition
from queueing.models.iteration_time import Load
from queueing.simulator import simulate
from queueing.system import System
from queueing.tabular import read_table
from queueing.workload import Workload

NONE = np.zeros(0, np.int64)
GPUS = gpu_tables.gpus()
needs_package = pytest.mark.skipif(
    build.systems() is None, reason=f"needs aiconfigurator-core {build.VERSION} (extra hardware)"
)
needs_polars = pytest.mark.skipif(
    importlib.util.find_spec("polars") is None, reason="needs polars (extra tables)"
)

TOKENS = (1, 64, 65, 128, 129, 256, 257, 512, 513, 768, 769, 1024, 1025, 2048)
LINEAR_MS = {  # matrix products of Mistral-7B, stated to the digits below
    "a100": (9.76, 10.40, 11.92, 11.67, 16.71, 17.59, 22.97, 31.46, 39.72, 46.47, 57.98, 59.3, 65.4, 117.9),
    "h100": (5.35, 5.77, 5.68, 5.81, 5.98, 6.46, 7.26, 9.64, 10.26, 14.21, 14.25, 18.37, 19.76, 37.1),
    "h200": (3.94, 4.19, 4.29, 4.39, 4.62, 5.74, 6.27, 10.2, 10.2, 14.2, 14.4, 18.5, 19.7, 38.3),
    "l40s": (18.97, 21.6, 21.8, 23.0, 23.4, 25.9, 28.9, 33.7, 43.4, 52.4, 58.9, 63.9, 79.0, 128.5),
    "rtx-pro-6000": (8.98, 10.09, 9.83, 10.53, 12.31, 13.37, 16.53, 21.83, 24.75, 30.83, 33.38, 38.99, 42.86, 74.3),
    "b200": (2.75, 2.87, 3.04, 2.99, 3.22, 3.53, 3.91, 5.36, 5.96, 7.53, 7.94, 9.82, 10.25, 18.2),
}  # fmt: skip
STEP_AT = (16, 64, 128, 192, 256, 512, 768, 1024, 1280, 2048, 4096)
STEPS = {  # median of t(M + 1)/t(M) over 64 shapes
    "a100": (1.05, 1.10, 1.31, 1.01, 1.35, 1.13, 1.17, 1.04, 1.12, 1.09, 1.04),
    "h100": (1.00, 1.01, 1.02, 1.00, 1.09, 1.05, 1.07, 1.07, 1.03, 1.03, 1.01),
    "h200": (1.01, 1.01, 1.03, 0.97, 1.09, 1.06, 1.05, 1.07, 1.00, 1.03, 1.03),
    "l40s": (1.06, 1.02, 1.02, 1.00, 1.10, 1.18, 1.08, 1.17, 1.04, 1.04, 1.02),
    "rtx-pro-6000": (1.03, 1.01, 1.07, 1.00, 1.20, 1.19, 1.13, 1.07, 1.07, 1.06, 1.02),
    "b200": (1.03, 1.10, 1.12, 1.11, 1.16, 1.14, 1.05, 1.05, 1.03, 1.00, 1.00),
}
DECODES_PER_SECOND = {  # contexts of 1,024 tokens; 1, 32, 64, 128 and 256 sequences
    "h100": (170, 4191, 6605, 10656, 14039),
    "a100": (
        95,
        2252,
        3820,
        5605,
        6263,
    ),  # 8,710 if attention at 512 tokens, the longest timed, stood for 1,024
    "l40s": (51, 1120, 1791, 2531, 3411),
}


def decodes(sequences: int, context: int) -> Load:
    return Load(sequences, sequences, sequences * context, NONE, NONE)


@st.composite
def loads(draw: st.DrawFn) -> Load:
    chunks = draw(st.lists(st.tuples(st.integers(1, 4096), st.integers(0, 16384)), max_size=3))
    sequences = draw(st.integers(0 if chunks else 1, 300))
    context = sequences * draw(st.integers(1, 20_000)) + draw(st.integers(0, max(sequences - 1, 0)))
    chunk, history = (np.array([pair[k] for pair in chunks], np.int64) for k in (0, 1))
    return Load(sequences + int(chunk.sum()), sequences, context, chunk, history)


@pytest.mark.parametrize("gpu", GPUS)
def test_matrix_products_are_the_stated_ones(gpu: str) -> None:
    """Within 1 % everywhere; negative control: no GPU's row describes another GPU."""

    def off(row: str) -> float:
        ours = [1e3 * composition(gpu).linear(n) for n in TOKENS]
        return float(np.max(np.abs(np.array(ours) / LINEAR_MS[row] - 1)))

    assert off(gpu) < 0.01
    assert min(off(other) for other in GPUS if other != gpu) > 0.1


@pytest.mark.parametrize("gpu", GPUS)
def test_steps_over_many_shapes_are_the_stated_ones(gpu: str) -> None:
    """To one unit of the last stated digit."""
    found = gpu_tables.median_steps(gpu)
    assert np.allclose([found[m] for m in STEP_AT], STEPS[gpu], atol=0.0101)


@pytest.mark.parametrize("gpu", DECODES_PER_SECOND)
def test_decode_throughput_is_the_stated_one(gpu: str) -> None:
    rates = [b / composition(gpu)(decodes(b, 1024)) for b in (1, 32, 64, 128, 256)]
    assert np.allclose(rates, DECODES_PER_SECOND[gpu], rtol=0.01)


def test_mixed_batch_and_whole_prompt_of_an_h100() -> None:
    """64 decodes at 1,024 and 448 prompt tokens: 14.2 ms; a prompt of 2,048 tokens: 37.1 + 2.8 ms."""
    on = composition("h100")
    mixed = Load(512, 64, 64 * 1024, np.array([448]), np.array([0]))
    assert 1e3 * on(mixed) == pytest.approx(14.2, rel=0.01)
    assert 1e3 * on.prefill_attention(2048) == pytest.approx(2.8, rel=0.03)


once = functools.cache(read_table)


def independent(on: Composition, load: Load) -> float:
    """The composition from its slices by numpy alone, sizes inside the tables."""
    folder = build.SLICES
    table = once(folder / f"{on.gpu}_gemm.csv")
    ms = np.mean([table.numbers(name) for name in table.columns if name.endswith("_ms")], axis=0)
    shapes = list(zip(table.numbers("out_features"), table.numbers("in_features"), strict=True))
    at = np.array(table.numbers("tokens"))

    def product(n: int, k: int, tokens: float) -> float:
        rows = [i for i, shape in enumerate(shapes) if shape == (n, k)]
        return float(np.interp(tokens, at[rows], ms[rows]))

    def wide(n: int, tokens: float) -> float:
        low, high = product(16384, 4096, tokens), product(51200, 4096, tokens)
        return low + (high - low) * (n - 16384) / (51200 - 16384)

    total = 32 * (
        product(6144, 4096, load.tokens)
        + product(4096, 4096, load.tokens)
        + wide(28672, load.tokens)
        + (product(4096, 12288, load.tokens) + product(4096, 16384, load.tokens)) / 2
    )
    total += on.model.vocab / 32000 * wide(32000, load.decodes + load.chunk.size)
    prefill = once(folder / f"{on.gpu}_prefill_attention.csv")
    alone = [i for i, s in enumerate(prefill.numbers("sequences")) if s == 1]
    lengths, times = (np.array(prefill.numbers(name))[alone] for name in ("prompt_tokens", "ms"))
    rising = np.maximum.accumulate(times)
    for chunk, history in zip(load.chunk, load.history, strict=True):
        total += 32 * np.interp(history + chunk, lengths, rising)
        total -= 32 * np.interp(history, lengths, rising) if history else 0
    if load.decodes:
        decode = once(folder / f"{on.gpu}_decode_attention.csv")
        rows = list(zip(*(decode.numbers(name) for name in decode.columns), strict=True))
        bandwidth = gpu_tables.hardware(on.gpu).bandwidth
        sequences = sorted({row[0] for row in rows})
        curve = []
        for s in sequences:
            timed = [(n, max(t, 1e3 * s * n * 4096 / bandwidth)) for size, n, t in rows if size == s]
            timed.append((100 * timed[-1][0], 100 * timed[-1][1]))  # in proportion beyond the longest
            x, y = zip(*timed, strict=True)
            curve.append(np.interp(load.context / load.decodes, x, y))
        total += 32 * np.interp(load.decodes, sequences, curve)
    return total / 1e3


@given(loads(), st.sampled_from(GPUS), st.sampled_from(gpu_tables.MODELS_COMPOSED))
def test_an_independent_reading_of_the_slices_agrees(load: Load, gpu: str, model: str) -> None:
    if load.chunk.size:
        load = load._replace(history=np.minimum(load.history, 16384 - load.chunk))
    on = composition(gpu, model)
    assert on(load) == pytest.approx(independent(on, load), rel=1e-9)
    assert on.iteration_seconds(load) == on(load)


@given(loads(), st.sampled_from(GPUS))
def test_more_work_takes_no_less_but_for_the_products(load: Load, gpu: str) -> None:
    """Times rise in contexts and in overheads; the products alone may fall, as their measurements do."""
    on = composition(gpu)
    slower = on.with_overheads(per_iteration=1e-3, per_token=1e-6)
    assert slower(load) == pytest.approx(on(load) + 1e-3 + 1e-6 * load.tokens, rel=1e-12)
    cached = load._replace(history=2 * load.history)
    least = on.linear(load.tokens) + on.head(load.decodes + load.chunk.size)
    assert on(load) >= least - 1e-12
    assert on(cached) >= least - 1e-12


def test_products_do_fall_somewhere() -> None:
    """Control of the sentence above: a cost that must not fall would refuse the measurements."""
    assert min(min(composition(gpu).staircase().values()) for gpu in GPUS) < 1


def test_compiled_and_stepped_runs_agree_bit_for_bit() -> None:
    workload = Workload(
        np.array([0.0, 0.01, 0.02, 0.05]), np.array([900, 40, 2500, 7]), np.array([5, 9, 3, 6])
    )
    on = composition("rtx-pro-6000", "llama-3-8b").with_overheads(per_iteration=1e-3, per_token=3e-6)
    system = System(on, 2000, max_length=4096)
    runs = [simulate(workload, system, Sarathi(token_budget=512), python=python) for python in (False, True)]
    for name, column in runs[0].requests.items():
        assert np.array_equal(column, runs[1].requests[name], equal_nan=column.dtype.kind == "f"), name
    assert runs[0].iterations["seconds"].sum() > 0


@pytest.mark.parametrize("gpu", GPUS)
def test_memory_is_never_faster_than_the_data_sheet(gpu: str) -> None:
    on, peak = composition(gpu), gpu_tables.hardware(gpu)
    contexts = np.array([64, 256, 1024, 4096])
    for sequences in (1, 8, 16, 32, 64, 128, 256):
        for context in contexts:
            moved = sequences * context * on.model.kv_bytes_per_token
            assert on.decode_attention(sequences, context) >= moved / peak.bandwidth * (1 - 1e-12)


def test_without_the_correction_it_would_be() -> None:
    """Control: the L40S reads 16 contexts of 1,024 tokens at more than twice its memory's speed, from its cache."""
    table = read_table(build.SLICES / "l40s_decode_attention.csv")
    rows = zip(*(table.numbers(name) for name in table.columns), strict=True)
    ms = next(t for s, n, t in rows if (s, n) == (16, 1024))
    assert 16 * 1024 * 4096 / (ms / 1e3) > 2 * gpu_tables.hardware("l40s").bandwidth


@pytest.mark.parametrize("gpu", GPUS)
def test_corners_are_the_lower_envelope(gpu: str) -> None:
    """Convex, below every measured point, and touching where it claims; control: steps lie above it."""
    on = composition(gpu)
    corners = on.corners()
    times = [on.linear(n) for n in corners]
    slopes = np.diff(times) / np.diff(corners)
    assert np.all(np.diff(slopes) > 0)
    kept = on.params.tokens <= corners[-1]
    envelope = np.interp(on.params.tokens[kept], corners, times)
    assert np.all(envelope <= on.params.linear[kept] * (1 + 1e-12))
    at, step = on.largest_step()
    assert on.linear(at + 1) > 1.05 * np.interp(at + 1, corners, times)
    assert step == pytest.approx(on.linear(at + 1) / on.linear(at))


def test_tiles_show_on_three_gpus_and_not_on_the_others() -> None:
    """Largest step up to 1,024 tokens; smooth means within 4.1 % on average by max(a, c + δn)."""
    steps = {gpu: composition(gpu).largest_step() for gpu in GPUS}
    assert {gpu for gpu, (_, step) in steps.items() if step >= 1.15} == {"a100", "l40s", "rtx-pro-6000"}
    assert steps["a100"] == (128, pytest.approx(1.43, abs=0.005))
    for gpu in ("h100", "h200", "b200"):
        fits = composition(gpu).smooth_or_tiled()
        assert fits[1].mape < 0.041
        assert min(fit.mape for fit in fits.values()) > 0.9 * fits[1].mape  # a tile buys next to nothing
    assert (
        composition("a100").smooth_or_tiled()[128].mape < 0.85 * composition("a100").smooth_or_tiled()[1].mape
    )


def elsewhere() -> list[Load]:
    """Loads to which no table was fitted."""
    found: list[Load] = []
    for n in (20, 100, 140, 300, 700, 1500, 3000):
        for b in {0, n // 3, min(n, 200)}:
            for mean, cached in ((512, 512), (2048, 2048)):
                b = min(b, 256)
                chunk = np.array([n - b] if n > b else [], np.int64)
                found.append(Load(n, b, b * mean, chunk, np.full(chunk.size, cached, np.int64)))
    return found


@pytest.mark.parametrize("gpu", GPUS)
def test_the_table_law_is_close_on_other_loads(gpu: str) -> None:
    """Fitted within 3 %, within 5 % elsewhere; control: without the context term it is 15 % off, and more."""
    on = composition(gpu)
    law, residuals = on.fitted()
    assert law == gpu_tables.law(gpu)
    assert residuals.mape < 0.03
    assert on.residuals(law, elsewhere()).mape < 0.05
    tokens_alone = dataclasses.replace(law, per_context=0.0)
    assert on.residuals(tokens_alone, elsewhere()).mape > 0.15


def test_serving_points_are_those_of_one_gpu() -> None:
    points = gpu_tables.serving_points()
    assert len(points) == 42
    assert {point.concurrency for point in points} == {8, 16, 32, 64, 128}
    assert all(0.007 < point.tpot < 0.07 < point.ttft for point in points)


def test_what_has_no_tables_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="no GPU with tables is called 'h800'; there are a100, h100"):
        composition("h800")
    with pytest.raises(ValueError, match="no tables compose 'llama-2-7b'; there are mistral-7b, llama-3-8b"):
        composition("h100", "llama-2-7b")
    for wrong in (-1e-9, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="an overhead is a finite number of seconds"):
            composition("h100").with_overheads(per_iteration=wrong)


@needs_package
@needs_polars
def test_slices_are_those_of_the_package() -> None:
    made = build.slices()
    assert set(made) == {path.name for path in build.SLICES.iterdir()}
    for name, lines in made.items():
        assert (build.SLICES / name).read_text(encoding="utf-8") == "\n".join(lines) + "\n", name


def test_without_the_package_the_script_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "systems", lambda: None)
    with pytest.raises(ValueError, match=r"install aiconfigurator-core 0\.12\.0"):
        build.slices()
