"""Iteration-time laws calibrated on measurements, with what they stand on: software, source, and what is a guess.

No coefficient is typed in: each is fitted, on first use, to the slices in `queueing/data/measured`.  Two kinds:

 *  One machine measured whole (Mistral-7B on RTX 6000 Ada).  The time to prefill a prompt of 2,048 tokens alone, for
    seven chunk sizes, is the sum of its chunks' times; :class:`Roofline` is fitted to the sums, ragged last chunks
    included.  The mean batch time stored beside it averages one decode in and must not be used.
 *  Sums of kernels (the others).  Token-wise kernels give a :class:`Table` in n; attention kernels, measured apart on
    an A800, give κ and φ.  GPU time alone: no launch gaps, no scheduler, no sampling, no output head.  So these laws
    are lower estimates of an engine's iteration, and their steps are those of the matrix library that was measured.

Attention fits, one layer, relative error:  decode kernel c + κ'·Σ L_i, prefill kernel c' + φ'·q·(h + q/2);  κ = 32κ',
φ = 32φ', and 32c is added to every iteration, since nearly every iteration decodes; 32c' of a chunk is left out.
Transfers:  κ goes with KV bytes per token over bandwidth, φ with FLOPs per pair over peak FLOP/s.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from queueing.hardware import HARDWARE, MODELS, Hardware, ModelShape
from queueing.models.fitting import Measurements, Residuals, fit
from queueing.models.iteration_time import Combined, Roofline, Table
from queueing.tabular import Table as Columns
from queueing.tabular import read_table

__all__ = [
    "Attention",
    "Calibration",
    "attention",
    "calibrated",
    "calibration",
    "chunk_sweep",
    "matrix_products",
    "tokenwise",
]

Floats = NDArray[np.float64]

PROMPT = 2048  # tokens of every prompt in the chunk sweep
PER_CONTEXT_ADA = (
    0.17e-6  # s per context token, a guess: 128 KiB of KV at 80 % of the data sheet's 960e9 bytes/s
)
PER_PAIR_ADA = 5e-9  # s per token pair, a guess of the same kind: about 105 TFLOP/s

_TOKENWISE = {
    ("llama-3-8b", "a100"): "llama_3_8b_a100.csv",
    ("llama-2-7b", "a100"): "llama_2_7b_a100.csv",
    ("llama-2-7b", "h100"): "llama_2_7b_h100.csv",
    ("llama-2-7b", "a40"): "llama_2_7b_a40.csv",
}
_CHUNKS = ("mistral-7b", "rtx-6000-ada")


@dataclass(frozen=True, slots=True)
class Calibration:
    """A law of iteration time and what it stands on.

    `law` for use; `residuals` of its fit to the token-wise times (or to the chunk sweep); `combined`, a law of six
    numbers fitted to the same times, and `combined_residuals`; `stack` the software that was timed; `source` repository
    and commit; `licence` of the measurements; `measured` and `derived` say which numbers are which.
    """

    model: ModelShape
    hardware: Hardware
    law: Roofline | Table
    residuals: Residuals
    combined: Combined
    combined_residuals: Residuals
    stack: str
    source: str
    licence: str
    measured: str
    derived: str


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention of Llama-2-7b on an A800, all 32 layers: κ `per_context`, φ `per_pair` (s), and the fixed costs (s).

    `decode_fixed` and `prefill_fixed` are paid once per iteration with a decode or a chunk; `decode_residuals` and
    `prefill_residuals` say how far the two lines are from the slice.
    """

    per_context: float
    per_pair: float
    decode_fixed: float
    prefill_fixed: float
    decode_residuals: Residuals
    prefill_residuals: Residuals


def calibrated() -> tuple[tuple[str, str], ...]:
    """Pairs (model, hardware) for which there is a calibration."""
    return (_CHUNKS, *_TOKENWISE)


@functools.cache
def calibration(model: str, hardware: str) -> Calibration:
    """Calibration of a model on hardware, by their names in :mod:`queueing.hardware`.

    Raises:
        ValueError: there is none of that name; the sentence lists those there are.
    """
    if (model, hardware) == _CHUNKS:
        return _chunked()
    if (model, hardware) in _TOKENWISE:
        return _kernels(model, hardware)
    raise ValueError(
        f"no calibration is called {model}/{hardware}; there are {', '.join('/'.join(pair) for pair in calibrated())}"
    )


def chunk_sweep() -> Measurements:
    """Chunks of each prompt of the sweep on the RTX 6000 Ada, timed together as one time to first token.

    Seven runs; `tokens` holds ⌈2048/q⌉ chunks each, the last one what is left.  Attention between the chunks of a
    prompt is inside the times and not told apart.
    """
    table = _slice("mistral_7b_chunks_rtx_6000_ada.csv")
    tokens: list[float] = []
    run: list[int] = []
    for row, chunk in enumerate(table.numbers("chunk_tokens")):
        pieces = [min(chunk, PROMPT - start) for start in range(0, PROMPT, int(chunk))]
        tokens += pieces
        run += [row] * len(pieces)
    seconds = np.array(table.numbers("ttft_ms")) / 1000.0
    return Measurements(np.array(tokens), seconds, run=np.array(run))


def tokenwise(model: str, hardware: str) -> Measurements:
    """Iterations of a shipped slice without attention: tokens and seconds (kernels alone)."""
    table = _slice(_TOKENWISE[model, hardware])
    return Measurements(np.array(table.numbers("num_tokens")), np.array(table.numbers("total_ms")) / 1000.0)


def matrix_products() -> Measurements:
    """Matrix products alone of Llama-3-8B on an A100, all layers, up to 2,048 tokens: tokens and seconds."""
    table = _slice("llama_3_8b_a100_products.csv")
    return Measurements(
        np.array(table.numbers("num_tokens")), np.array(table.numbers("products_ms")) / 1000.0
    )


@functools.cache
def attention() -> Attention:
    """Lines through the shipped slice of attention kernels."""
    table = _slice("llama_2_7b_attention_a800.csv")
    names = ("is_prefill", "batch_size", "prefill_chunk_tokens", "kv_cache_tokens", "attn_ms")
    prefill, batch, chunk, cached, ms = (np.array(table.numbers(name)) for name in names)
    layers = MODELS["llama-2-7b"].layers
    seconds = layers * ms / 1000.0
    decodes, chunks = prefill == 0, prefill == 1
    decode_fixed, per_context, decode_off = _line((batch * (cached + 1))[decodes], seconds[decodes])
    prefill_fixed, per_pair, prefill_off = _line((chunk * (cached + chunk / 2))[chunks], seconds[chunks])
    return Attention(per_context, per_pair, decode_fixed, prefill_fixed, decode_off, prefill_off)


def _line(x: Floats, seconds: Floats) -> tuple[float, float, Residuals]:
    """Constant and slope >= 0 of the line through (x, seconds) with the least relative error."""
    design = np.stack([np.ones_like(x), x], axis=1)
    (constant, slope), _ = nnls(design / seconds[:, None], np.ones(x.size))
    return float(constant), float(slope), Residuals.of(design @ np.array([constant, slope]), seconds)


def _chunked() -> Calibration:
    model, hardware = MODELS[_CHUNKS[0]], HARDWARE[_CHUNKS[1]]
    roofline, residuals = fit(Roofline, chunk_sweep())
    guesses = {"per_context": PER_CONTEXT_ADA, "per_pair": PER_PAIR_ADA}
    combined = Combined(roofline.base, roofline.per_token, 0.0, floor=roofline.knee)
    return Calibration(
        model,
        hardware,
        dataclasses.replace(roofline, **guesses),
        residuals,
        dataclasses.replace(combined, **guesses),
        residuals,
        stack="Sarathi-Serve engine as forked for SLAI, fp16, CUDA 12.1, one GPU, no tensor parallelism",
        source="agrimUT/SLAI@5098a7aba05e3edbcfa3a509d6cc9cd248fc4380 scripts/plot1_results.csv",
        licence="Apache-2.0",
        measured="plateau, base and per_token, from seven medians of the time to first token; the plateau rests on the "
        "chunks of 64 and 128 tokens; attention inside a prompt of 2,048 tokens is part of these times",
        derived="per_context and per_pair are guesses from the data sheet (KV bytes at 770 GB/s; 5e-9 s a pair), and "
        "attention inside the first 2,048 tokens of a prompt is therefore counted a second time; vary both",
    )


def _kernels(model_name: str, hardware_name: str) -> Calibration:
    model, hardware = MODELS[model_name], HARDWARE[hardware_name]
    base, on = MODELS["llama-2-7b"], HARDWARE["a800"]
    kernel = attention()
    bytes_moved = model.kv_bytes_per_token / base.kv_bytes_per_token
    terms = {
        "per_context": kernel.per_context * bytes_moved * (on.bandwidth / hardware.bandwidth),
        "per_pair": kernel.per_pair
        * (model.flops_per_pair / base.flops_per_pair)
        * (on.flops / hardware.flops),
    }
    fixed = kernel.decode_fixed
    measurements = tokenwise(model_name, hardware_name)
    table, residuals = fit(Table, measurements)
    combined, combined_residuals = fit(Combined, measurements)
    return Calibration(
        model,
        hardware,
        dataclasses.replace(table, seconds=tuple(s + fixed for s in table.seconds), **terms),
        residuals,
        dataclasses.replace(combined, base=combined.base + fixed, **terms),
        combined_residuals,
        stack="Sarathi-Serve kernels timed by Vidur, fp16, one GPU, GPU time alone; attention: FlashInfer on A800",
        source="microsoft/vidur@7d47513363ec447a741ac5e47241580b47724fbf; "
        "NetX-lab/Frontier@a4b22df8211864bf229258ecdfbe680f048f2d77 (attention)",
        licence="MIT",
        measured="token-wise kernels per size n, 32 layers and the embedding, with two residual additions a layer",
        derived="attention of Llama-2-7b on an A800, per_context scaled by KV bytes per token over bandwidth "
        f"({bytes_moved:g} x {on.bandwidth / hardware.bandwidth:.3g}) and per_pair by FLOPs over peak "
        f"({on.flops / hardware.flops:.3g}); its fixed cost of {1e3 * fixed:.2f} ms is part of every iteration",
    )


@functools.cache
def _slice(name: str) -> Columns:
    folder = resources.files("queueing.data") / "measured"
    with resources.as_file(folder / name) as path:
        return read_table(path)
