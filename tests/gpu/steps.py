"""Steps by hand: sequences laid out in shuffled blocks, and run in chunks and mixes through the forward pass."""

from __future__ import annotations

import numpy as np
import torch

from gpu.backend import Operations, operations
from gpu.kv_cache import KVCache
from gpu.loader import Model
from gpu.model import forward
from gpu.step import Step


class Desk:
    """A KV cache with a shuffled block table for each of several sequences; serves any chunks of them."""

    def __init__(
        self,
        model: Model,
        sequences: int,
        longest: int,
        *,
        block_size: int = 4,
        backend: Operations | None = None,
    ) -> None:
        config = model.config
        width = -(-longest // block_size)
        self.model, self.size = model, block_size
        self.operations = backend or operations("reference")
        self.cache = KVCache(
            config.layers, sequences * width, block_size, config.kv_heads, config.head_dim,
            dtype=model.weights.embedding.dtype,
        )  # fmt: skip
        self.table = np.random.default_rng(0).permutation(sequences * width).reshape(sequences, width)
        self.length = np.zeros(sequences, np.int64)

    def run(self, chunks: dict[int, list[int]]) -> dict[int, torch.Tensor]:
        """Logits after the last token of each sequence's chunk; single tokens go first, as decodes."""
        who = sorted(chunks, key=lambda s: len(chunks[s]) != 1)
        position = np.concatenate([self.length[s] + np.arange(len(chunks[s])) for s in who])
        owner = np.repeat(who, [len(chunks[s]) for s in who])
        for s in who:
            self.length[s] += len(chunks[s])
        starts = np.cumsum([0] + [len(chunks[s]) for s in who])
        step = Step(
            tokens=torch.tensor([token for s in who for token in chunks[s]]),
            positions=torch.from_numpy(position),
            starts=torch.from_numpy(starts.astype(np.int32)),
            lengths=torch.from_numpy(self.length[who].astype(np.int32)),
            slots=torch.from_numpy(
                self.table[owner, position // self.size] * self.size + position % self.size
            ),
            blocks=torch.from_numpy(self.table[who].astype(np.int32)),
            sampled=torch.from_numpy(starts[1:] - 1),
            decodes=sum(len(chunks[s]) == 1 for s in who),
        )
        with torch.inference_mode():
            logits = forward(self.model, step, self.cache, self.operations)
        return dict(zip(who, logits, strict=True))
