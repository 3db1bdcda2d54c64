"""What single batches say about Sarathi-Serve: cost of chunks, of prompts beside decodes, and of pipelines.

Chunks.  A prompt of P tokens in chunks of q takes the sum of its chunks' times, each with the attention to what is
cached; its overhead is that sum over the time in one piece, less one.  The law of the A100 is a sum of kernels: it
charges the fixed cost of every iteration and the arithmetic of attention, and leaves out that a chunk reads the KV
cache again.  Beside it stand the times that SLAI's authors measured on Yi-34B for whole prompts, where a chunk of q
tokens after h takes the measured time of q tokens and φ·q·h, φ from the fit  a + b·P + φ·P²/2  to the same times.

Pipelines.  A model in two halves on two GPUs: each stage takes half an iteration, each GPU holds half of every KV entry
and so twice the tokens, and two schedulers take turns, each with half of the requests and as many KV tokens as one GPU
holds for the whole model.  In a saturated queue no decision depends on the clock, so that the two sequences of batches
can be simulated one by one and run through :mod:`queueing.models.pipeline` in turn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from queueing.models.iteration_time import Load
from queueing.models.pipeline import lone_prompt_bubble, timetable, two_stage_bubble
from queueing.simulator import simulate
from validation.experiments.sarathi_capacity import CASES, policy, requests, system

__all__ = [
    "CHUNKS",
    "DECODES",
    "PROMPTS",
    "YI_PREFILL",
    "Saturated",
    "batch",
    "chunk_overhead",
    "falcon_bubble",
    "hybrid_ratio",
    "prompt_bubble",
    "yi_overhead",
    "yi_pair",
]

Law = Callable[[Load], float]
Floats = NDArray[np.float64]

CHUNKS = (512, 1024, 2048)  # tokens
PROMPTS = (2048, 4096, 8192, 16384)  # tokens
DECODES = (1, 16, 32, 64, 128)  # in one batch

# s to prefill one prompt of Yi-34B on two A100s: early commits of agrimUT/SLAI, without the first run (256 tokens)
YI_PREFILL = {
    128: 0.0481,
    512: 0.1056,
    1024: 0.2143,
    2048: 0.3660,
    4096: 0.7576,
    8192: 1.863,
    16384: 4.408,
}

FALCON_WEIGHTS = 180e9
FALCON_GPUS = 4  # of each of two stages


def batch(law: Law, decodes: int, context: int, chunk: int = 0, history: int = 0) -> float:
    """Seconds of `decodes` decodes at `context` tokens each, and of one chunk after `history` cached tokens."""
    some = 1 if chunk else 0
    load = Load(decodes + chunk, decodes, decodes * context, np.full(some, chunk), np.full(some, history))
    return law(load)


def _pieces(prompt: int, chunk: int) -> list[tuple[int, int]]:
    """(tokens, tokens before them) of the chunks of a prompt."""
    return [(min(chunk, prompt - begun), begun) for begun in range(0, prompt, chunk)]


def chunk_overhead(law: Law, prompt: int, chunk: int) -> float:
    """Percent that chunks add to the time of a prompt alone."""
    whole = batch(law, 0, 0, prompt)
    return 100 * (sum(batch(law, 0, 0, q, h) for q, h in _pieces(prompt, chunk)) / whole - 1)


def yi_pair() -> float:
    """φ of Yi-34B (s per token pair): least relative squares of a + b·P + φ·P²/2, coefficients >= 0."""
    p, seconds = np.array(list(YI_PREFILL), float), np.array(list(YI_PREFILL.values()))
    design = np.stack([np.ones_like(p), p, p * p / 2], axis=1) / seconds[:, None]
    return float(nnls(design, np.ones_like(p))[0][2])


def yi_overhead(prompt: int, chunk: int, pair: float) -> float:
    """Percent that chunks add to the measured time of a whole prompt; `chunk` divides `prompt`."""
    parts = sum(YI_PREFILL[q] + pair * q * h for q, h in _pieces(prompt, chunk))
    return 100 * (parts / YI_PREFILL[prompt] - 1)


def hybrid_ratio(law: Law, prompt: int, decodes: int, context: int) -> float:
    """How much longer decodes take beside a whole prompt than alone."""
    return batch(law, decodes, context, prompt) / batch(law, decodes, context)


def prompt_bubble(law: Law, prompt: int, decodes: int, context: int, chunk: int | None = None) -> float:
    """Bubble of the second of two stages (s) when a prompt passes among batches of decodes, in chunks or whole.

    Each chunk goes with the decodes that are there anyway, less as many tokens.
    """
    alone = batch(law, decodes, context) / 2
    if chunk is None:
        return lone_prompt_bubble(batch(law, decodes, context, prompt) / 2, alone, 2).computed
    pieces = _pieces(prompt, chunk - decodes)
    times = [batch(law, decodes, context, q, h) / 2 for q, h in pieces]
    return two_stage_bubble([alone] * 4 + times + [alone] * 4).computed


def falcon_bubble(prompt: int, decodes_seconds: float, flops: float) -> float:
    """Bubble (s) of a prompt of Falcon-180B on two stages of four GPUs, by its matrix products at `flops` a GPU."""
    return FALCON_WEIGHTS * prompt / (FALCON_GPUS * flops) - decodes_seconds


@dataclass(frozen=True, slots=True)
class Saturated:
    """A two-stage pipeline whose queue never empties, under a policy."""

    case: str
    policy: str
    seed: int
    count: int

    def seconds(self, stream: int) -> Floats:
        """Stage times (s) of one of the two schedulers' batches, filling and draining cut off."""
        work = requests(self.case, 2 * self.seed + stream, self.count)
        waiting = dataclasses.replace(work, arrival=np.zeros(self.count))
        trace = simulate(waiting, system(self.case), policy(self.policy, CASES[self.case].longest))
        last = np.nanmax(trace.requests["admitted"])  # from here on the queue is empty
        its = trace.iterations
        kept = (its["start"] > 0.1 * last) & (its["start"] < last)
        return np.asarray(its["seconds"][kept], np.float64) / 2

    def record(self) -> dict[str, Any]:
        """Share of the pipeline's time that is bubbles, computed and by the closed form of two stages."""
        streams = [self.seconds(k) for k in range(2)]
        n = min(map(len, streams))
        times: Floats = np.stack([s[:n] for s in streams], axis=1).ravel()  # in turn
        made = timetable(np.repeat(times[:, None], 2, axis=1))
        return {
            **dataclasses.asdict(self),
            "bubbles": 100 * made.bubble_share,
            "stated": 100 * _stated(times),
        }


def _stated(times: Sequence[float] | Floats) -> float:
    """Bubble share by the rises and falls of the batch times."""
    change = np.diff(times)
    idle = np.maximum(change, 0).sum() + np.maximum(-change[:-1], 0).sum()
    return float(idle / (idle + 2 * np.sum(times)))
