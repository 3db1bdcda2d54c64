"""Iteration times composed from published kernel times, held against published measurements of engines: nothing fitted.

*  42 serving points of Llama-3.1-8B on one H100 (time per output token), by :func:`queueing.models.gpu_tables.tpot`.
   Other readings are set beside it and must do worse: no KV term, decode iterations alone, prompts that ride on the
   decodes' weight read, and the tables of other GPUs.
*  Chunked prefills of Mistral-7B on an RTX 6000 Ada, by the tables of the L40S, which has the same die: the time to
   first token of a prompt of 2,048 tokens over its number of chunks.
*  For every GPU: its staircase, the law that the simulator and the theory take, and what is lost by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from queueing.models import gpu_tables
from queueing.models.calibrations import chunk_sweep
from queueing.models.gpu_tables import Composition, ServingPoint
from queueing.models.iteration_time import Load
from queueing.simulator import versions
from validation.plots import COLOURS, MARKERS, figure, save
from validation.published import published
from validation.result import Result, Row, Verdict, write_atomically
from validation.verdicts import judge_limit, judge_share

__all__ = ["LIMIT", "NAME", "READINGS", "ada", "errors", "machine", "mape", "readings", "run", "sweep_rows"]

NAME = "gpu-tables"
LIMIT = 0.05  # mean relative error of the time per output token that counts as reproduced
STEPPED = 1.15  # a law with tiles is worth its steps where one of them is as large
MODEL = "llama-3-8b"  # the geometry and vocabulary of Llama-3.1-8B
BOOTSTRAPS = 2000
PROMPT = 2048  # tokens, of the chunk sweep
DECODE = "time of one decode"  # that a median and a mean of other batches imply

Floats = NDArray[np.float64]
Reading = Callable[[Composition, ServingPoint], float]


def machine(gpu: str) -> Composition:
    """Composition of the served model on a GPU."""
    return gpu_tables.composition(gpu, MODEL)


def _decode(on: Composition, point: ServingPoint) -> float:
    """Decode iterations alone."""
    return gpu_tables.tpot(on, point) - gpu_tables.prompts_share(on, point)


def _without_kv(on: Composition, point: ServingPoint) -> float:
    """No decode attention, as in a law of tokens alone."""
    context = point.prompt + point.output / 2
    return gpu_tables.tpot(on, point) - on.decode_attention(point.concurrency, context)


def _riding(on: Composition, point: ServingPoint) -> float:
    """Prompts ride on the decodes' weight read and pay only what is beyond it."""
    ridden = (point.concurrency - 1) * on.linear(point.concurrency) / point.output
    return gpu_tables.tpot(on, point) - ridden


READINGS: Mapping[str, tuple[str, Reading]] = {
    "as stated": ("h100", gpu_tables.tpot),
    "no KV term": ("h100", _without_kv),
    "decodes alone": ("h100", _decode),
    "prompts ride free on the weight read": ("h100", _riding),
    "tables of the H200": ("h200", gpu_tables.tpot),
    "tables of the A100": ("a100", gpu_tables.tpot),
}


def errors(on: Composition, reading: Reading = gpu_tables.tpot) -> Floats:
    """Predicted over measured less 1, per serving point."""
    points = gpu_tables.serving_points()
    return np.array([reading(on, point) / point.tpot - 1.0 for point in points])


def mape(off: Floats) -> tuple[float, float, float]:
    """Mean relative error with its 95 % interval, by resampling the points."""
    rng = np.random.default_rng(0)
    means = np.abs(rng.choice(off, (BOOTSTRAPS, off.size))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(np.abs(off).mean()), float(low), float(high)


def readings() -> list[dict[str, Any]]:
    """Errors of each reading of the serving points."""
    table: list[dict[str, Any]] = []
    cases: dict[str, tuple[Composition, Reading]] = {
        name: (machine(gpu), reading) for name, (gpu, reading) in READINGS.items()
    }
    floor = gpu_tables.elementwise_floor("h100", MODEL)
    cases["with the floor of elementwise kernels"] = (
        machine("h100").with_overheads(per_token=floor),
        gpu_tables.tpot,
    )
    for name, (on, reading) in cases.items():
        off = errors(on, reading)
        mean, low, high = mape(off)
        table.append(
            {
                "reading": name,
                "MAPE %": 100 * mean,
                "MAPE % low": 100 * low,
                "MAPE % high": 100 * high,
                "measured/predicted, median": float(np.median(1 / (1 + off))),
                "least": float(np.min(1 / (1 + off))),
                "most": float(np.max(1 / (1 + off))),
            }
        )
    return table


def ada() -> list[dict[str, float]]:
    """A prompt of 2,048 tokens in chunks, then a decode (ms): L40S tables, and measured on an RTX 6000 Ada.

    What was stored as the mean time of a batch is over the chunks and one decode; the decode is what it implies.
    """
    on, sweep = gpu_tables.composition("l40s"), chunk_sweep()
    none = np.array([], np.int64)
    decode = 1e3 * on(Load(1, 1, PROMPT, none, none))
    table: list[dict[str, float]] = []
    for row, seconds in enumerate(sweep.seconds):
        chunks = sweep.tokens[sweep.run == row].astype(np.int64)
        history = np.cumsum(chunks) - chunks
        loads = [
            Load(int(q), 0, 0, np.array([q]), np.array([h])) for q, h in zip(chunks, history, strict=True)
        ]
        predicted = 1e3 * float(np.mean([on(load) for load in loads]))
        measured = 1e3 * float(seconds) / chunks.size
        table.append(
            {
                "chunk": float(chunks[0]),
                "predicted ms": predicted,
                "measured ms": measured,
                "measured/predicted": measured / predicted,
                "time to first token, predicted ms": chunks.size * predicted,
                "mean batch, predicted ms": (chunks.size * predicted + decode) / (chunks.size + 1),
                "decode, predicted ms": decode,
            }
        )
    return table


def sweep_rows(curve: Sequence[Mapping[str, float]]) -> Iterator[Row]:
    """The measured sweep beside the tables of the GPU with the same die; decodes are shown, not judged."""
    for words, column in (
        ("time to first token", "time to first token, predicted ms"),
        ("mean time of a batch", "mean batch, predicted ms"),
        (DECODE, "decode, predicted ms"),
    ):
        for point in curve:
            key = f"{NAME}: {words}, chunks of {point['chunk']:.0f}"
            theirs, ours = published(key).value, point[column]
            assert theirs is not None
            verdict: Verdict = "not testable here"
            if words != DECODE:
                verdict = judge_share(ours, theirs, LIMIT)
            quantity = (
                f"{words}, chunks of {point['chunk']:.0f}, L40S tables for RTX 6000 Ada (limit {LIMIT:.0%})"
            )
            yield Row(quantity, "ms", theirs, ours, ours, ours, verdict, key)


def profile(gpu: str) -> dict[str, Any]:
    """Figures of one GPU: Mistral-7B."""
    on = gpu_tables.composition(gpu)
    table, residuals = on.fitted()
    at, step = on.largest_step()
    tiles = on.smooth_or_tiled()
    best = min(tiles, key=lambda tile: tiles[tile].mape)
    return {
        "GPU": gpu,
        "1 token, ms": 1e3 * on.linear(1),
        "2048 tokens, ms": 1e3 * on.linear(2048),
        "largest step": step,
        "at": at,
        "steps": "tiles" if step >= STEPPED else "smooth",
        "smooth law, MAPE %": 100 * tiles[1].mape,
        "best tile": best,
        "its law, MAPE %": 100 * tiles[best].mape,
        "table law, MAPE %": 100 * residuals.mape,
        "p95 %": 100 * residuals.p95,
        "ns a context token": 1e9 * table.per_context,
        "ns a pair": 1e9 * table.per_pair,
        "corners": " ".join(map(str, on.corners(2048))),
    }


def run(
    quick: bool = False,
    out: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Run the experiment in this process, a second; write plots and the JSON object into `out` if it is given."""
    del quick, workers
    began = time.perf_counter()
    read, curve = readings(), ada()
    profiles: list[dict[str, Any]] = []
    for gpu in gpu_tables.gpus():
        profiles.append(profile(gpu))
        progress(len(profiles), len(gpu_tables.gpus()))
    stairs = [
        {
            "GPU": gpu,
            **{str(m): gpu_tables.composition(gpu).staircase()[m] for m in (16, 64, 128, 256, 512, 768, 1024, 2048)},
        }
        for gpu in gpu_tables.gpus()
    ]  # fmt: skip
    stated = read[0]
    mean, low, high = (stated[key] / 100 for key in ("MAPE %", "MAPE % low", "MAPE % high"))
    verdict = judge_limit(LIMIT, low, high)
    quantity = f"time per output token, Llama-3.1-8B on H100, mean relative error (limit {LIMIT:.0%})"
    rows = [Row(quantity, "1", 0.0, mean, low, high, verdict)]
    rows += sweep_rows(curve)
    notes = [
        "nothing is fitted to the serving points; the interval resamples the points",
        "the decodes that the chunk sweep implies differ by a quarter among themselves: shown, not judged",
        f"steps: a GPU is smooth if no G(M + 1)/G(M) up to 1,024 tokens reaches {STEPPED}",
    ]
    tables = {"serving points": read, "RTX 6000 Ada": curve, "GPUs": profiles, "G(M + 1)/G(M)": stairs}
    result = Result(NAME, time.perf_counter() - began, [0], versions(), rows, tables, notes)
    if out is not None:
        plots(curve, out)
        write_atomically(out / f"{NAME}.json", result.to_json().encode())
    return result


def plots(curve: Sequence[Mapping[str, float]], out: Path) -> list[Path]:
    """Draw the staircase of each GPU, the serving points, and the Ada curve."""
    written: list[Path] = []
    with figure(columns=3, rows=2) as (drawing, axes):
        for k, (ax, gpu) in enumerate(zip(axes.flat, gpu_tables.gpus(), strict=True)):
            on = gpu_tables.composition(gpu)
            kept = on.params.tokens <= 1281
            tokens, ms = on.params.tokens[kept], 1e3 * on.params.linear[kept]
            ax.plot(tokens, ms, color=COLOURS[k], marker=".", markersize=3, linewidth=0.9)
            corners = [n for n in on.corners(1281) if n >= 16]
            ax.plot(
                corners, [1e3 * on.linear(n) for n in corners], "k--", linewidth=0.8, label="lower envelope"
            )
            ax.set(title=gpu, xlabel="tokens in the iteration", ylabel="matrix products (ms)", ylim=(0, None))
        axes[0][0].legend(fontsize=7)
        written += save(drawing, out / "staircase")
    with figure(columns=2) as (drawing, axes):
        points, on = gpu_tables.serving_points(), machine("h100")
        for k, prompt in enumerate(sorted({point.prompt for point in points})):
            some = [point for point in points if point.prompt == prompt]
            predicted = [1e3 * gpu_tables.tpot(on, point) for point in some]
            axes[0][0].plot(
                predicted, [1e3 * point.tpot for point in some], MARKERS[k], color=COLOURS[k], markersize=4,
                label=f"prompts of {prompt}",
            )  # fmt: skip
        span = (5, 80)
        axes[0][0].plot(span, span, "k-", linewidth=0.8)
        axes[0][0].set(
            title="Llama-3.1-8B on H100", xscale="log", yscale="log", xlabel="predicted TPOT (ms)",
            ylabel="measured TPOT (ms)",
        )  # fmt: skip
        axes[0][0].legend(fontsize=7)
        chunks = [point["chunk"] for point in curve]
        axes[0][1].plot(chunks, [p["predicted ms"] for p in curve], color=COLOURS[0], label="L40S tables")
        axes[0][1].plot(chunks, [p["measured ms"] for p in curve], "s", color=COLOURS[1], label="measured")
        axes[0][1].set(
            title="Mistral-7B on RTX 6000 Ada",
            xlabel="chunk (tokens)",
            ylabel="time of a chunk (ms)",
            ylim=(0, None),
        )
        axes[0][1].legend(fontsize=7)
        written += save(drawing, out / "engines")
    return written
