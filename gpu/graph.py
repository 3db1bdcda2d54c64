"""CUDA graphs of decode-only batches: one launch in place of some nine per layer.

At a few hundred launches of 5 to 10 µs each, launching takes a third to two thirds of what a small decode batch takes
at the limit of memory bandwidth.  A graph replays fixed tensors, so a batch is copied into one of the next larger size;
the rows that fill it up have slot -1 and length 0, which operations neither write nor read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import torch
from torch import Tensor

from gpu.backend import Operations
from gpu.kv_cache import KVCache
from gpu.loader import Model
from gpu.model import forward, rotations
from gpu.step import Step

__all__ = ["SIZES", "DecodeGraphs", "empty_decodes", "fill"]

SIZES = (1, 2, 4, *range(8, 257, 8))
WARM_UP = 3  # runs before a capture, so that compilation and workspaces are behind


def empty_decodes(size: int, most_blocks: int, device: torch.device | str = "cpu") -> Step:
    """A step of `size` padding rows with block tables of `most_blocks`; every row is sampled."""
    rows = torch.arange(size, device=device)
    return Step(
        tokens=torch.zeros(size, dtype=torch.int64, device=device),
        positions=torch.zeros(size, dtype=torch.int64, device=device),
        starts=torch.arange(size + 1, dtype=torch.int32, device=device),
        lengths=torch.zeros(size, dtype=torch.int32, device=device),
        slots=torch.full((size,), -1, dtype=torch.int64, device=device),
        blocks=torch.zeros((size, most_blocks), dtype=torch.int32, device=device),
        sampled=rows,
        decodes=size,
    )


def fill(static: Step, step: Step) -> None:
    """Copy a decode-only step into the first rows of a larger one, and make padding of the rest."""
    n = len(step.tokens)
    static.tokens[:n], static.positions[:n] = step.tokens, step.positions
    static.lengths.zero_()
    static.slots.fill_(-1)
    static.lengths[:n], static.slots[:n] = step.lengths, step.slots
    static.blocks[:n, : step.blocks.shape[1]] = step.blocks


class DecodeGraphs:
    """Decode-only batches of a model on a GPU, captured for each size in `sizes` on first use.

    Args:
        model: configuration and weights, on a CUDA device.
        cache: the KV cache; graphs hold on to it.
        operations: the table of operations.
        most_blocks: blocks of the longest request.
        sizes: batch sizes to be captured, ascending.

    Raises:
        ValueError: the model is not on a CUDA device.
    """

    def __init__(
        self,
        model: Model,
        cache: KVCache,
        operations: Operations,
        most_blocks: int,
        sizes: Sequence[int] = SIZES,
    ) -> None:
        self._device = model.weights.embedding.device
        if self._device.type != "cuda":
            raise ValueError(f"CUDA graphs need a model on a GPU, and this one is on {self._device}")
        self._rotations = rotations(
            model.config, self._device
        )  # what is captured reads it: it must not be freed
        self._model, self._cache, self._operations = model, cache, operations
        self._most_blocks, self._sizes = most_blocks, tuple(sizes)
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Step, Tensor]] = {}

    def covers(self, step: Step) -> bool:
        """Whether the step is one of decodes alone, all of them sampled, and not larger than the largest graph."""
        n = len(step.tokens)
        return step.decodes == n == len(step.sampled) and n <= self._sizes[-1]

    def run(self, step: Step) -> Tensor:
        """Logits [R, vocab] of a step that is covered; valid until the next run."""
        n = len(step.tokens)
        size = self._sizes[bisect_left(self._sizes, n)]
        if size not in self._graphs:
            self._graphs[size] = self._captured(size)
        graph, static, logits = self._graphs[size]
        fill(static, step)
        graph.replay()
        return logits[:n]

    def _captured(self, size: int) -> tuple[torch.cuda.CUDAGraph, Step, Tensor]:
        static = empty_decodes(size, self._most_blocks, self._device)
        with torch.cuda.device(self._device):  # streams and captures are of the current device
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    forward(self._model, static, self._cache, self._operations)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                logits = forward(self._model, static, self._cache, self._operations)
        return graph, static, logits
