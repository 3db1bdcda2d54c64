"""Calibration: time batches of every kind on the device there is, and fit the laws of iteration time to them.

What is timed is :meth:`gpu.engine.TorchEngine.execute`, so index tensors, sampling and the copying of tokens are in it,
and what is fitted is what the simulator should take a batch to last.  All batches are timed in turn, several rounds of
them, and the median of each is kept, so that what a busy machine does for a while disturbs little.  The mixes are a
grid (chunks alone, decodes alone) and seeded draws of both together; a law is judged on mixes it was not fitted to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpu.engine import TorchEngine
from queueing.models.fitting import Measurements, Residuals, fit, fit_piecewise
from queueing.models.iteration_time import Affine, Combined, IterationTime, Load, Roofline
from queueing.serving import Work
from queueing.tabular import replacing

__all__ = ["Calibrated", "Mix", "calibrate", "fitted", "measure", "mixes", "one_round", "write_table"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Mix:
    """A batch to be timed: `contexts` (tokens in the KV cache) of its decodes, and (tokens, history) of its chunks."""

    contexts: tuple[int, ...]
    chunks: tuple[tuple[int, int], ...]

    @property
    def load(self) -> Load:
        """As the laws of iteration time see it."""
        return Load(
            self.tokens,
            len(self.contexts),
            sum(self.contexts) + len(self.contexts),
            np.array([q for q, _ in self.chunks], np.int64),
            np.array([h for _, h in self.chunks], np.int64),
        )

    @property
    def tokens(self) -> int:
        """Tokens in the batch."""
        return len(self.contexts) + sum(q for q, _ in self.chunks)

    @property
    def pairs(self) -> float:
        """Σ q·(h + q/2) of its chunks."""
        return sum(q * (h + q / 2) for q, h in self.chunks)


def mixes(
    rng: np.random.Generator, drawn: int, *, most_tokens: int, most_context: int, most_decodes: int
) -> list[Mix]:
    """A grid of pure batches, and `drawn` mixed ones.

    The grid has one chunk of 1, 2, 4, … tokens up to `most_tokens` after none and after half of `most_context`, and
    1, 2, 4, … decodes at a small and at the largest context.  Drawn are up to `most_decodes` decodes (uniform contexts)
    with no, one or two chunks (log-uniform lengths, within `most_tokens` together; uniform histories); shuffled.

    Raises:
        ValueError: a limit leaves nothing to time.
    """
    if min(drawn, most_tokens - most_decodes, most_context, most_decodes) < 1:
        raise ValueError(
            f"nothing to time with at most {most_tokens} tokens, {most_decodes} decodes and {most_context} tokens of "
            "context; give at least one each, and more tokens than decodes"
        )
    sizes = [1 << k for k in range(int(math.log2(most_tokens)) + 1)]
    grid = [Mix((), ((q, h),)) for q in sizes for h in (0, most_context // 2)]
    counts = [1 << k for k in range(int(math.log2(most_decodes)) + 1)]
    grid += [Mix((context,) * b, ()) for b in counts for context in (min(16, most_context), most_context - 1)]
    for _ in range(drawn):
        decodes = int(rng.integers(0, most_decodes + 1))
        contexts = tuple(rng.integers(1, most_context, decodes).tolist())
        chunks: list[tuple[int, int]] = []
        room = most_tokens - decodes
        for _ in range(int(rng.integers(0 if decodes else 1, 3))):
            if room >= 1:
                q = int(np.exp(rng.uniform(0.0, math.log(room + 1))))
                chunks.append((q, int(rng.integers(0, most_context))))
                room -= q
        grid.append(Mix(contexts, tuple(chunks)))
    return [grid[k] for k in rng.permutation(len(grid))]


def measure(engine: TorchEngine, mix: Mix) -> float:
    """Seconds of one execution of a batch.

    The requests' histories are taken to be in the KV cache, with whatever stands there: time does not depend on it.

    Raises:
        ValueError: the batch does not fit the engine's KV memory or places.
    """
    sizes = [(1, context) for context in mix.contexts] + list(mix.chunks)
    size = engine.cache.block_size
    blocks = [-(-(history + q) // size) for q, history in sizes]
    if sum(blocks) > engine.tables.free or len(sizes) > len(engine.tables.count):
        raise ValueError(
            f"a batch of {len(sizes)} requests with {sum(blocks)} blocks does not fit an engine with "
            f"{engine.tables.free}; give it more KV memory, or smaller mixes"
        )
    for i, (q, history) in enumerate(sizes):
        engine.add(i, [i % engine.model.config.vocab] * (history + q), 2)
    work = Work(
        engine.clock.now(),
        np.arange(len(sizes), dtype=np.uint32),
        np.array([q for q, _ in sizes], np.int64),
        np.array([history for _, history in sizes], np.int64),
        np.array(blocks, np.int64),
        np.zeros(0, np.uint32),
        mix.load,
        np.ones(len(sizes), np.bool_),
    )
    done = engine.execute(work)
    for i in set(range(len(sizes))) - set(done.ended):
        engine.tables.release(i)
    return done.seconds


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What a device was found to take.

    `mixes` and `seconds` of each; `law`, the best of the laws tried, fitted to the mixes in `fitted`; `residuals` there
    and `held_out` on all others; `tried`, the held-out mean error of every law.
    """

    mixes: Sequence[Mix]
    seconds: Floats
    fitted: NDArray[np.bool_]
    law: IterationTime
    residuals: Residuals
    held_out: Residuals
    tried: dict[str, float]


def calibrate(
    engine: TorchEngine,
    chosen: Sequence[Mix],
    *,
    repeats: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> Calibrated:
    """Time every mix, fit the laws to one half of them, and keep the law that is closest on that half.

    Every second mix is fitted.  The law is chosen without looking at the other half, on which `held_out` judges it.

    Raises:
        ValueError: there are too few mixes for a law, or one does not fit the engine.
    """
    if len(chosen) < 24:
        raise ValueError(f"{len(chosen)} mixes do not tell a law from another; time at least 24")
    total = repeats * len(chosen)
    rounds: list[Floats] = []
    for k in range(repeats):
        before = k * len(chosen)
        tick = None if progress is None else lambda done, _, before=before: progress(before + done, total)
        rounds.append(one_round(engine, chosen, tick))
    return fitted(chosen, np.median(rounds, axis=0))


def one_round(
    engine: TorchEngine, chosen: Sequence[Mix], progress: Callable[[int, int], None] | None = None
) -> Floats:
    """Seconds of every mix, each executed once, after one execution that is not counted."""
    engine.clock.start(0.0)
    measure(engine, max(chosen, key=lambda mix: mix.tokens))  # workspaces and compilation are not to be timed
    seconds = np.zeros(len(chosen))
    for i, mix in enumerate(chosen):
        seconds[i] = measure(engine, mix)
        if progress is not None:
            progress(i + 1, len(chosen))
    return seconds


def fitted(chosen: Sequence[Mix], seconds: Floats) -> Calibrated:
    """Fit the laws to every second mix, and judge them on the others.

    Raises:
        ValueError: the mixes tell no law's coefficients apart.
    """
    half = np.arange(len(chosen)) % 2 == 0
    table = _table(chosen, seconds, half)
    fits: dict[str, Callable[[], tuple[IterationTime, Residuals]]] = {
        "Affine": partial(fit, Affine, table),
        "Roofline": partial(fit, Roofline, table),
        "Combined": partial(fit, Combined, table),
        "Table": partial(fit_piecewise, table, _knots(table)),
    }
    best: tuple[IterationTime, Residuals] | None = None
    tried: dict[str, float] = {}
    for name, of in fits.items():
        try:
            law, residuals = of()
        except ValueError:
            continue  # these batches cannot tell its coefficients apart: no batch fills a second tile, say
        tried[name] = Residuals.of(_predicted(law, chosen, ~half), seconds[~half]).mape
        if best is None or residuals.relative_rmse < best[1].relative_rmse:
            best = law, residuals
    if best is None:
        raise ValueError("no law can be fitted to these batches; time more of them, and more different ones")
    held_out = Residuals.of(_predicted(best[0], chosen, ~half), seconds[~half])
    return Calibrated(chosen, seconds, half, *best, held_out, tried)


def _knots(table: Measurements) -> list[int]:
    """Powers of two from below the smallest to above the largest batch."""
    low = int(np.floor(np.log2(table.tokens.min())))
    high = int(np.ceil(np.log2(table.tokens.max())))
    return [1 << k for k in range(low, high + 1)]


def _predicted(law: IterationTime, chosen: Sequence[Mix], rows: NDArray[np.bool_]) -> Floats:
    return np.array([law(mix.load) for mix, row in zip(chosen, rows, strict=True) if row])


def _table(chosen: Sequence[Mix], seconds: Floats, rows: NDArray[np.bool_]) -> Measurements:
    kept = [mix for mix, row in zip(chosen, rows, strict=True) if row]
    return Measurements(
        np.array([mix.tokens for mix in kept], np.float64),
        seconds[rows],
        np.array([len(mix.contexts) for mix in kept], np.float64),
        np.array([mix.load.context for mix in kept], np.float64),
        np.array([mix.pairs for mix in kept]),
    )


def write_table(found: Calibrated, path: Path) -> None:
    """Write the measurements as CSV, whole or not at all, for :meth:`queueing.models.fitting.Measurements.read_csv`."""
    with replacing(path) as file:
        file.write("tokens,decodes,context,pairs,seconds,fitted\n")
        for mix, seconds, used in zip(found.mixes, found.seconds, found.fitted, strict=True):
            file.write(
                f"{mix.tokens},{len(mix.contexts)},{mix.load.context},{mix.pairs},{seconds:.9g},{int(used)}\n"
            )
