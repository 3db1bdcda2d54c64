"""Calibrations: coefficients come from the shipped slices, slices from the public tables."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from queueing.data import build_measured_slices as build
from queueing.data import data_folder
from queueing.hardware import HARDWARE, MODELS
from queueing.models.calibrations import (
    attention,
    calibrated,
    calibration,
    chunk_sweep,
    tokenwise,
)
from queueing.models.fitting import Measurements, fit
from queueing.models.iteration_time import Combined, Load, Roofline, Table, TileLaw
from queueing.tabular import read_table

NONE = np.zeros(0, np.int64)
KERNELS = [pair for pair in calibrated() if pair[0] != "mistral-7b"]
needs_tables = pytest.mark.skipif(
    data_folder() is None, reason="needs the public tables: set TANDEM_DATA to the folder that holds them"
)


def ms(law: Roofline | Table, n: int) -> float:
    return 1000.0 * law(Load(n, n, 0, NONE, NONE))


def test_testbed_is_the_refit_of_its_seven_rows() -> None:
    """max(23.4, 7.0 + 0.091 q) ms to the digits stated in the sources, 2.5 % off; the guesses are named as guesses."""
    found = calibration("mistral-7b", "rtx-6000-ada")
    law, residuals = fit(Roofline, chunk_sweep())
    assert isinstance(found.law, Roofline)
    assert (found.law.plateau, found.law.base, found.law.per_token) == (law.plateau, law.base, law.per_token)
    assert round(1e3 * law.plateau, 1) == 23.4
    assert round(1e3 * law.base, 1) == pytest.approx(7.0, abs=0.1)
    assert round(1e3 * law.per_token, 3) == 0.091
    assert residuals.relative_rmse == pytest.approx(0.025, abs=0.001)
    assert (found.law.per_context, found.law.per_pair) == (0.17e-6, 5e-9)
    assert "guess" in found.derived


def test_ragged_last_chunks_are_part_of_the_sums() -> None:
    sweep = chunk_sweep()
    assert sweep.summed(sweep.tokens).tolist() == [2048.0] * 7
    assert sweep.tokens[sweep.run == 3].tolist() == [384.0] * 5 + [128.0]
    assert sweep.tokens[sweep.run == 5].tolist() == [768.0, 768.0, 512.0]


def test_calibrating_on_the_stored_batch_time_is_off() -> None:
    """Negative control: the stored mean batch time averages one single-token decode in.

    At each chunk size (chunks + 1)·batch - TTFT is that decode, 20 to 26 ms, about the plateau; taken for the time of a
    chunk, the stored figure is 25 % short at 1,024 tokens and its fitted slope a quarter too small.
    """
    table = read_table(build.MEASURED / build.CHUNKS[0])
    chunk, ttft, batch = (
        np.array(table.numbers(name)) for name in ("chunk_tokens", "ttft_ms", "mean_batch_ms")
    )
    chunks = np.ceil(2048 / chunk)
    decode = (chunks + 1) * batch - ttft
    assert np.all((decode > 20.0) & (decode < 26.0))
    assert (batch / (ttft / chunks))[-1] == pytest.approx(0.741, abs=0.005)
    right = fit(Roofline, chunk_sweep())[0]
    wrong = fit(Roofline, Measurements(chunk, batch / 1000.0))[0]
    assert wrong.per_token < 0.85 * right.per_token


def test_tiles_fit_the_testbed_worse_than_a_plateau() -> None:
    smooth = fit(Roofline, chunk_sweep())[1].relative_rmse
    for tile in (128, 256):
        assert fit(TileLaw, chunk_sweep(), tile=tile)[1].relative_rmse > 2 * smooth


def test_attention_inside_the_sweep_is_counted_twice() -> None:
    """Known size of the double count: the guess φ adds 10.5 ms to a 2,048-token prompt, 1.4 to 5.2 % of its time."""
    seconds = 5e-9 * 2048**2 / 2
    share = seconds / chunk_sweep().seconds
    assert seconds == pytest.approx(10.5e-3, rel=0.01)
    assert (share.min(), share.max()) == pytest.approx((0.0145, 0.052), rel=0.01)


@pytest.mark.parametrize(("model", "hardware"), KERNELS)
def test_kernel_calibrations_are_refits_of_their_slices(model: str, hardware: str) -> None:
    found, kernel = calibration(model, hardware), attention()
    table, residuals = fit(Table, tokenwise(model, hardware))
    assert isinstance(found.law, Table)
    assert found.law.tokens == table.tokens
    assert found.law.seconds == tuple(s + kernel.decode_fixed for s in table.seconds)
    assert found.residuals == residuals
    assert residuals.relative_rmse < 0.002  # sizes measured twice differ; every other point is met
    combined, off = fit(Combined, tokenwise(model, hardware))
    assert found.combined == dataclasses.replace(
        combined,
        base=combined.base + kernel.decode_fixed,
        per_context=found.law.per_context,
        per_pair=found.law.per_pair,
    )
    assert residuals.mape < off.mape < 0.05


def test_grouped_heads_read_a_quarter_of_the_kv_bytes() -> None:
    of = {pair: calibration(*pair).law for pair in KERNELS}
    assert of["llama-2-7b", "a100"].per_context == attention().per_context
    assert of["llama-3-8b", "a100"].per_context == attention().per_context / 4
    assert of["llama-3-8b", "a100"].per_pair == of["llama-2-7b", "a100"].per_pair
    assert of["llama-2-7b", "h100"].per_context < of["llama-2-7b", "a100"].per_context
    assert of["llama-2-7b", "a40"].per_pair > of["llama-2-7b", "a100"].per_pair


def test_no_kernel_beats_the_data_sheet() -> None:
    """Bytes of weights and KV over bandwidth, and FLOPs over peak, are lower bounds of every law."""
    for pair in calibrated():
        found = calibration(*pair)
        model, hardware, law = found.model, found.hardware, found.law
        layers = model.layers * model.layer_weights * model.dtype_bytes
        assert ms(law, 1) > 1e3 * layers / hardware.bandwidth
        assert ms(law, 4096) > 1e3 * 4096 * model.flops_per_token / hardware.flops
        assert law.per_context > model.kv_bytes_per_token / hardware.bandwidth
        assert law.per_pair > model.flops_per_pair / hardware.flops


def test_steps_on_the_a100_are_kept() -> None:
    """One step past a tile edge costs a third more at 128 and 256 tokens, and 192 tokens take less time than 136."""
    law = calibration("llama-3-8b", "a100").law
    for edge in (128, 256):
        assert ms(law, edge + 8) / ms(law, edge) > 1.3
    assert ms(law, 192) < ms(law, 136)
    smooth = fit(Roofline, tokenwise("llama-3-8b", "a100"))[0]
    assert ms(smooth, 136) / ms(smooth, 128) < 1.1


def test_every_calibration_says_what_it_stands_on() -> None:
    for pair in calibrated():
        found = calibration(*pair)
        assert (found.model, found.hardware) == (MODELS[pair[0]], HARDWARE[pair[1]])
        assert "@" in found.source
        assert found.licence in ("Apache-2.0", "MIT")
        assert found.stack
        assert found.measured
        assert found.derived


def test_unknown_calibration_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match="no calibration is called llama-2-7b/tpu; there are mistral-7b/rtx-6000-ada"
    ):
        calibration("llama-2-7b", "tpu")


# -- against the public tables


@needs_tables
def test_slices_are_what_the_tables_give() -> None:
    for name, lines in build.slices().items():
        assert (build.MEASURED / name).read_text(encoding="utf-8").splitlines() == lines, name


@needs_tables
@pytest.mark.parametrize("name", list(build.TOKENWISE))
def test_totals_sum_the_operators_with_two_residual_additions(name: str) -> None:
    """Row by row over columns named here, apart from the build script; with one addition the sums do not agree."""
    table = build.table_of(*build.TOKENWISE[name])
    layer = np.zeros(len(table.lines))
    for operator in (
        "input_layernorm_ms",
        "attn_pre_proj_ms",
        "attn_rope_ms",
        "attn_post_proj_ms",
        "post_attention_layernorm_ms",
        "mlp_up_proj_ms",
        "mlp_act_ms",
        "mlp_down_proj_ms",
        "add_ms",
    ):
        layer += np.array(table.numbers(operator))
    add, embedding = np.array(table.numbers("add_ms")), np.array(table.numbers("emb_ms"))
    shipped = read_table(build.MEASURED / name)
    total = np.array(shipped.numbers("total_ms"))
    assert shipped.numbers("num_tokens") == table.numbers("num_tokens")
    np.testing.assert_allclose(total, embedding + 32 * (layer + add), atol=6e-4)
    assert not np.allclose(total, embedding + 32 * layer, atol=6e-4)


@needs_tables
def test_published_staircase_is_that_of_the_four_matrix_products() -> None:
    """Llama-3-8B on A100 as quoted, 8.8 to 69.6 ms, is matrix products alone; the iteration takes 6-20 % more."""
    table = build.table_of(*build.TOKENWISE["llama_3_8b_a100.csv"])
    products = sum(
        np.array(table.numbers(name))
        for name in ("attn_pre_proj_ms", "attn_post_proj_ms", "mlp_up_proj_ms", "mlp_down_proj_ms")
    )
    at = {int(n): row for row, n in reversed(list(enumerate(table.numbers("num_tokens"))))}
    law = calibration("llama-3-8b", "a100").law
    quoted = {1: 8.8, 64: 10.4, 128: 12.1, 136: 16.9, 256: 17.7, 264: 24.8, 512: 31.8, 1024: 69.6}
    for n, stated in quoted.items():
        computed = float(32 * products[at[n]])
        assert computed == pytest.approx(stated, abs=0.06), n
        assert 1.06 < ms(law, n) / computed < 1.2, n


@needs_tables
def test_attention_slice_stands_for_its_table() -> None:
    """κ and φ from every 17th row are within 2 % of those from all 10,972; κ alone uses 1.76 TB/s of the 2.04."""
    table = build.table_of(*build.ATTENTION[1:])
    names = ("is_prefill", "batch_size", "prefill_chunk_tokens", "kv_cache_tokens", "attn_ms")
    prefill, batch, chunk, cached, kernel_ms = (np.array(table.numbers(name)) for name in names)
    kernel = attention()
    for kind, x, shipped in (
        (0, batch * (cached + 1), kernel.per_context),
        (1, chunk * (cached + chunk / 2), kernel.per_pair),
    ):
        rows, seconds = prefill == kind, 32 * kernel_ms / 1000.0
        weight = 1.0 / seconds[rows]
        design = np.stack([np.ones(rows.sum()), x[rows]], axis=1)
        _, slope = np.linalg.lstsq(design * weight[:, None], np.ones(rows.sum()))[0]
        assert shipped == pytest.approx(slope, rel=0.02)
    assert MODELS["llama-2-7b"].kv_bytes_per_token / kernel.per_context == pytest.approx(1.76e12, rel=0.01)
