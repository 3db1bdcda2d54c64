"""Iteration times composed from published kernel times: no engine was timed as a whole, and nothing is fitted.

The package aiconfigurator-core (NVIDIA) holds measured times of single kernels on many GPUs; the slices of it in
`queueing/data/measured/gpu_tables` suffice for a transformer of the geometry of Mistral-7B and Llama-3.1-8B.  One
iteration of n tokens, of which S are decodes with contexts of L tokens on average, and chunks of q new tokens after h
cached ones, takes

    T = G(n) + H(R) + D(S, L) + Σ (C(h + q) - C(h)) + ε·n + c ,

    G(n) = 32·(qkv + output + gate_up + down)   the layers' matrix products
    H(R)                                        the output head; R = S + chunks, one row for each sequence in the batch
    D(S, L), C(q)                               32 times one layer's decode and prefill attention
    ε, c                                        overheads per token and per iteration, zero unless somebody sets them

*Interpolation.*  qkv (4096 → 6144) and output (4096 → 4096) were timed as they are; gate_up (4096 → 28672) lies on
the line between 16384 and 51200 outputs, down (14336 → 4096) midway between 12288 and 16384 inputs, the head of 32000
on the line of gate_up, and a larger vocabulary costs in proportion.  Times are means over the software stacks,
piecewise linear in n, in L and then in S; beyond the last point the last piece goes on.

*Left out.*  Elementwise kernels (:func:`elementwise_floor` bounds them from below), launches, the scheduler, sampling.
A chunk after cached tokens was not timed: C(h + q) - C(h) stands for it.  Decodes and chunks in one attention call can
cost more than their sum.

*Corrected.*  Where one layer's KV tokens fit into the GPU's cache (96 MB on an L40S), repeated timing found them there,
up to twice as fast as memory is; between other layers they would be gone.  So D is at least KV bytes over bandwidth.
"""

# The body of the law carries no hints: numba types it by what it is called with.
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from queueing.compilation import kernel
from queueing.hardware import MODELS, Hardware, ModelShape
from queueing.models.fitting import Measurements, Residuals, fit
from queueing.models.iteration_time import Load, Roofline, Table
from queueing.tabular import Table as Columns
from queueing.tabular import read_table

__all__ = [
    "MODELS_COMPOSED",
    "Composition",
    "CompositionParams",
    "ServingPoint",
    "composed",
    "composition",
    "elementwise_floor",
    "gpus",
    "hardware",
    "law",
    "median_steps",
    "prompts_share",
    "serving_points",
    "tpot",
]

Floats = NDArray[np.float64]

MODELS_COMPOSED = ("mistral-7b", "llama-3-8b")  # one geometry, two vocabularies
HEAD = 32_000  # outputs of the head that is interpolated
LARGEST = 4353  # tokens up to which the tables are dense
ELEMENTWISE = 174_000  # bytes per token and layer: see elementwise_floor


class CompositionParams(NamedTuple):
    """Times (s) at the measured sizes; each axis increases.

    `linear[i]` G and `head[i]` H at `tokens[i]`; `decode[i, j]` D at `sequences[i]` and `contexts[j]`; `prefill[i]` C
    at `prompts[i]`; overheads `per_iteration` c (s) and `per_token` ε (s).
    """

    tokens: Floats
    linear: Floats
    head: Floats
    sequences: Floats
    contexts: Floats
    decode: Floats
    prompts: Floats
    prefill: Floats
    per_iteration: float
    per_token: float


@kernel
def through(x: float, xs, ys) -> float:
    """Piecewise-linear function through (xs, ys) at x: constant before the first point, the last piece goes on."""
    if x <= xs[0]:
        return ys[0]
    low, high = 0, xs.size - 1
    while high - low > 1:
        middle = (low + high) // 2
        if xs[middle] <= x:
            low = middle
        else:
            high = middle
    return ys[low] + (ys[high] - ys[low]) * (x - xs[low]) / (xs[high] - xs[low])


@kernel
def decode_attention(params, decodes, context) -> float:
    """D(S, L) for S = `decodes` >= 1 sequences that attend `context` tokens in all."""
    mean = context / decodes
    i = 0
    while i < params.sequences.size - 2 and params.sequences[i + 1] <= decodes:
        i += 1
    low = through(mean, params.contexts, params.decode[i])
    high = through(mean, params.contexts, params.decode[i + 1])
    step = params.sequences[i + 1] - params.sequences[i]
    return low + (high - low) * (decodes - params.sequences[i]) / step


def composed(params, load) -> float:
    """Seconds of `load` by the composition; Python and compiled code agree bit for bit.

    Assumes `load.tokens` >= 1.
    """
    rows = load.decodes + load.chunk.size
    seconds = through(load.tokens, params.tokens, params.linear) + through(rows, params.tokens, params.head)
    if load.decodes > 0:
        seconds += decode_attention(params, load.decodes, load.context)
    for j in range(load.chunk.size):
        cached = load.history[j]
        seconds += through(cached + load.chunk[j], params.prompts, params.prefill)
        if cached > 0:
            seconds -= through(cached, params.prompts, params.prefill)
    return seconds + params.per_token * load.tokens + params.per_iteration


@dataclass(frozen=True, slots=True, eq=False)
class Composition:
    """A law of iteration time composed of kernel times of one GPU (see the module's first lines).

    `gpu` and `model` by name; `gemm_stacks` and `attention_stack` the software that was timed; `params` the tables.
    """

    gpu: str
    model: ModelShape
    gemm_stacks: tuple[str, ...]
    attention_stack: str
    params: CompositionParams

    def lower(self) -> tuple[Any, CompositionParams]:
        """The function :func:`composed` and the tables."""
        return composed, self.params

    def __call__(self, load: Load) -> float:
        """Seconds that `load` takes."""
        return float(composed(self.params, load))

    def iteration_seconds(self, load: Load) -> float:
        """Seconds that `load` takes."""
        return self(load)

    def linear(self, tokens: float) -> float:
        """G(n), seconds."""
        return float(through(tokens, self.params.tokens, self.params.linear))

    def head(self, rows: float) -> float:
        """H(R), seconds."""
        return float(through(rows, self.params.tokens, self.params.head))

    def decode_attention(self, sequences: int, context: float) -> float:
        """D(S, L) at S sequences of L tokens on average, seconds; 0 without sequences."""
        return float(decode_attention(self.params, sequences, sequences * context)) if sequences else 0.0

    def prefill_attention(self, tokens: float) -> float:
        """C(q) of a prompt of q tokens, seconds; 0 without tokens."""
        return float(through(tokens, self.params.prompts, self.params.prefill)) if tokens else 0.0

    def with_overheads(self, *, per_iteration: float = 0.0, per_token: float = 0.0) -> Composition:
        """The same tables with other overheads: c (s per iteration) and ε (s per token).

        Raises:
            ValueError: an overhead is negative or not finite.
        """
        for seconds in (per_iteration, per_token):
            if not (math.isfinite(seconds) and seconds >= 0):
                raise ValueError(f"an overhead is a finite number of seconds, at least 0, not {seconds!r}")
        changed = self.params._replace(per_iteration=float(per_iteration), per_token=float(per_token))
        return dataclasses.replace(self, params=changed)

    def staircase(self) -> dict[int, float]:
        """G(M + 1)/G(M) at every M that was timed with its successor; 1 is no step."""
        times = {int(n): s for n, s in zip(self.params.tokens, self.params.linear, strict=True)}
        return {n: float(times[n + 1] / times[n]) for n in times if n + 1 in times}

    def corners(self, largest: int = LARGEST) -> tuple[int, ...]:
        """Token counts at the corners of the lower convex envelope of G, up to `largest` tokens.

        At any other count an iteration is no cheaper than a mixture of two corners: they are the token budgets worth
        trying.
        """
        hull: list[tuple[float, float]] = []
        for point in zip(self.params.tokens, self.params.linear, strict=True):
            if point[0] > largest:
                break
            while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], point):
                hull.pop()
            hull.append(point)
        return tuple(int(n) for n, _ in hull)

    def largest_step(self, largest: int = 1024) -> tuple[int, float]:
        """The M up to `largest` tokens at which G(M + 1)/G(M) is largest, and that ratio."""
        ratio, tokens = max((ratio, m) for m, ratio in self.staircase().items() if m <= largest)
        return tokens, ratio

    def smooth_or_tiled(self, largest: int = LARGEST) -> dict[int, Residuals]:
        """How well max(a, c₀ + δ·⌈n⌉_b) follows G up to `largest` tokens, by tile b; 1 is no tile.

        Every law has the same three coefficients, fitted by relative error.
        """
        kept = self.params.tokens <= largest
        tokens, seconds = self.params.tokens[kept], self.params.linear[kept]
        return {
            tile: fit(Roofline, Measurements(tile * np.ceil(tokens / tile), seconds))[1]
            for tile in (1, 64, 128, 256)
        }

    def fitted(self) -> tuple[Table, Residuals]:
        """Table in tokens, κ and φ with the least relative error on :meth:`loads`, and its residuals.

        Simulators read it faster, and the theory takes it: the composition has no coefficient per context token.
        """
        loads = list(self.loads())
        return fit(Table, _measurements(loads, [self(load) for load in loads]))

    def law(self) -> Table:
        """The table of :meth:`fitted`."""
        return self.fitted()[0]

    def loads(self) -> Iterator[Load]:
        """Batches to which the table is fitted, at every timed size n up to 4,353 tokens.

        Decodes: none, a quarter, a half or all of n, and at most 256; contexts of 256, 1024 and 3072 tokens; the other
        tokens one chunk, after no, 1024 or 4096 cached tokens.
        """
        for n in (int(n) for n in self.params.tokens if n <= LARGEST):
            for decodes in sorted({min(n * part // 4, 256) for part in (0, 1, 2, 4)}):
                for context, cached in itertools.product(
                    (256, 1024, 3072) if decodes else (0,), (0, 1024, 4096) if n > decodes else (0,)
                ):
                    chunk = np.array([n - decodes] if n > decodes else [], np.int64)
                    yield Load(n, decodes, decodes * context, chunk, np.full(chunk.size, cached, np.int64))

    def residuals(self, law: Table, loads: list[Load]) -> Residuals:
        """How far another law is from the composition on given loads."""
        return Residuals.of(np.array([law(load) for load in loads]), np.array([self(load) for load in loads]))


class ServingPoint(NamedTuple):
    """One measured serving point: `concurrency` requests of equal lengths (tokens) in turn, and mean times (s)."""

    prompt: int
    output: int
    concurrency: int
    ttft: float
    tpot: float


def gpus() -> tuple[str, ...]:
    """Names of the GPUs that have tables."""
    return tuple(_slice("gpus.csv").texts("gpu"))


def hardware(gpu: str) -> Hardware:
    """Memory, bandwidth and peak of a GPU as the package states them.

    Raises:
        ValueError: it has no tables.
    """
    row = _row(gpu)
    table = _slice("gpus.csv")
    memory, bandwidth, flops = (
        table.numbers(name)[row] for name in ("memory_bytes", "bandwidth_bytes_per_s", "bf16_flops_per_s")
    )
    return Hardware(gpu, int(memory), bandwidth, flops, "aiconfigurator-core 0.12.0")


@functools.cache
def composition(gpu: str, model: str = "mistral-7b") -> Composition:
    """Composition of a model on a GPU, by name, without overheads.

    Raises:
        ValueError: the GPU has no tables, or the model another geometry; the sentence lists those there are.
    """
    row = _row(gpu)
    if model not in MODELS_COMPOSED:
        raise ValueError(f"no tables compose {model!r}; there are {', '.join(MODELS_COMPOSED)}")
    shape = MODELS[model]
    table = _slice("gpus.csv")
    tokens, products = _products(_slice(f"{gpu}_gemm.csv"))
    gate_up, head = (_between(products, 4096, n, 16384, 51200) for n in (2 * shape.intermediate, HEAD))
    down = _between_inputs(products, shape.intermediate)
    layer = products[6144, 4096] + products[4096, 4096] + gate_up + down
    sequences, contexts, decode = _grid(_slice(f"{gpu}_decode_attention.csv"))
    moved = shape.kv_bytes_per_token / shape.layers * np.outer(sequences, contexts)
    decode = np.maximum(decode, moved / hardware(gpu).bandwidth)
    prompts, prefill = _alone(_slice(f"{gpu}_prefill_attention.csv"))
    params = CompositionParams(
        tokens, shape.layers * layer, shape.vocab / HEAD * head, sequences, contexts, shape.layers * decode,
        prompts, shape.layers * prefill, 0.0, 0.0,
    )  # fmt: skip
    for array in params[:8]:
        array.setflags(write=False)
    stacks = tuple(table.texts("gemm_stacks")[row].split())
    return Composition(gpu, shape, stacks, table.texts("attention_stack")[row], params)


def law(gpu: str, model: str = "mistral-7b") -> Table:
    """Table of iteration times fitted to the composition of a model on a GPU."""
    return composition(gpu, model).law()


def elementwise_floor(gpu: str, model: str = "mistral-7b") -> float:
    """Seconds per token that the elementwise kernels of all layers take at least: their bytes over the bandwidth.

    174 kB per token and layer in 16 bits for hidden 4096, intermediate 14336 and 32 + 8 heads of 128: two
    normalisations with residual (32 kB each), rotary embedding with the KV write (24 kB), and the gated activation
    (86 kB).
    """
    return composition(gpu, model).model.layers * ELEMENTWISE / hardware(gpu).bandwidth


def median_steps(gpu: str) -> dict[int, float]:
    """Median of t(M + 1)/t(M) over 64 products with both sides in 4096 ... 16384, by M; one stack of the GPU."""
    _row(gpu)
    table = _slice("steps.csv")
    rows = zip(table.texts("gpu"), table.numbers("tokens"), table.numbers("median_ratio"), strict=True)
    return {int(tokens): ratio for name, tokens, ratio in rows if name == gpu}


def serving_points() -> tuple[ServingPoint, ...]:
    """Measured points of Llama-3.1-8B on one H100: TensorRT-LLM 1.0.0rc3, precision not stated by the source."""
    table = _slice("llama_3_1_8b_h100_serving.csv")
    sizes = [table.numbers(name) for name in ("prompt_tokens", "output_tokens", "concurrency")]
    times = [table.numbers(name) for name in ("ttft_ms", "tpot_ms")]
    return tuple(
        ServingPoint(int(i), int(o), int(c), ttft / 1e3, tpot / 1e3)
        for i, o, c, ttft, tpot in zip(*sizes, *times, strict=True)
    )


def tpot(machine: Composition, point: ServingPoint) -> float:
    """Time per output token of a closed loop of c requests, isl tokens in and osl out (s).

        TPOT = t_dec(c, isl + osl/2) + (c - 1)·t_prefill(isl)/osl ,

    a decode iteration at half the output, and the other requests' prompts, one for each osl tokens of mine, each of
    which stops the decodes for the time of its prefill.
    """
    none = np.zeros(0, np.int64)
    context = round(point.concurrency * (point.prompt + point.output / 2))
    decode = machine(Load(point.concurrency, point.concurrency, context, none, none))
    return decode + prompts_share(machine, point)


def prompts_share(machine: Composition, point: ServingPoint) -> float:
    """The part of :func:`tpot` that the other requests' prompts take (s), each prefilled alone and without a head."""
    prefill = machine.linear(point.prompt) + machine.prefill_attention(point.prompt)
    prefill += machine.params.per_token * point.prompt + machine.params.per_iteration
    return (point.concurrency - 1) * prefill / point.output


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])


def _products(table: Columns) -> tuple[Floats, dict[tuple[int, int], Floats]]:
    """Sizes (tokens), and seconds by shape (outputs, inputs), averaged over the stacks."""
    stacks = [np.array(table.numbers(name)) for name in table.columns if name.endswith("_ms")]
    seconds = np.mean(stacks, axis=0) / 1e3
    outputs, inputs, tokens = (
        np.array(table.numbers(name)) for name in ("out_features", "in_features", "tokens")
    )
    found: dict[tuple[int, int], dict[float, float]] = {}
    for n, k, m, s in zip(outputs, inputs, tokens, seconds, strict=True):
        found.setdefault((int(n), int(k)), {})[float(m)] = float(s)
    sizes = sorted(set.intersection(*(set(times) for times in found.values())))
    return np.array(sizes), {
        shape: np.array([times[size] for size in sizes]) for shape, times in found.items()
    }


def _between(products: dict[tuple[int, int], Floats], k: int, n: int, low: int, high: int) -> Floats:
    """Product with n outputs, on the line between two that were timed."""
    share = (n - low) / (high - low)
    return (1 - share) * products[low, k] + share * products[high, k]


def _between_inputs(products: dict[tuple[int, int], Floats], k: int) -> Floats:
    share = (k - 12288) / (16384 - 12288)
    return (1 - share) * products[4096, 12288] + share * products[4096, 16384]


def _grid(table: Columns) -> tuple[Floats, Floats, Floats]:
    """Sequences, contexts and seconds [sequences, contexts] of one layer's decode attention.

    Contexts that did not fit beside many sequences cost in proportion to the longest that did.
    """
    columns = (table.numbers(name) for name in ("sequences", "context_tokens", "ms"))
    times = {(s, n): ms / 1e3 for s, n, ms in zip(*columns, strict=True)}
    sequences, contexts = (np.array(sorted({key[axis] for key in times})) for axis in (0, 1))
    decode = np.empty((sequences.size, contexts.size))
    for i, s in enumerate(sequences):
        longest = max(n for size, n in times if size == s)
        for j, n in enumerate(contexts):
            decode[i, j] = times[s, n] if (s, n) in times else times[s, longest] * n / longest
    return sequences, contexts, decode


def _alone(table: Columns) -> tuple[Floats, Floats]:
    """Prompt lengths and seconds of one layer's attention of one prompt; where noise makes it fall, it stays."""
    columns = (table.numbers(name) for name in ("sequences", "prompt_tokens", "ms"))
    times = {n: ms / 1e3 for s, n, ms in zip(*columns, strict=True) if s == 1}
    return np.array(sorted(times)), np.maximum.accumulate([times[n] for n in sorted(times)])


def _measurements(loads: list[Load], seconds: list[float]) -> Measurements:
    return Measurements(
        tokens=np.array([load.tokens for load in loads], np.float64),
        seconds=np.array(seconds),
        decodes=np.array([load.decodes for load in loads], np.float64),
        context=np.array([load.context for load in loads], np.float64),
        pairs=np.array([float(np.sum(load.chunk * (load.history + load.chunk / 2))) for load in loads]),
    )


def _row(gpu: str) -> int:
    if gpu not in gpus():
        raise ValueError(f"no GPU with tables is called {gpu!r}; there are {', '.join(gpus())}")
    return gpus().index(gpu)


@functools.cache
def _slice(name: str) -> Columns:
    folder = resources.files("queueing.data") / "measured" / "gpu_tables"
    with resources.as_file(folder / name) as path:
        return read_table(path)
