"""The forward pass of a Mistral or Llama model over the paged KV cache, as a function of plain tensors.

Per layer, with residual stream s::

    s += W_o · attention(rope(W_qkv · norm(s)))        s += W_down · swiglu(W_gate_up · norm(s))

Rows of single tokens go to the kernel for decodes, the others to that for chunks; both read the cache that this step
has written.  Only the rows whose logits are wanted pass the last norm and the head.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from gpu.backend import Operations
from gpu.config import ModelConfig
from gpu.kv_cache import KVCache
from gpu.loader import Model
from gpu.step import Step

__all__ = ["forward", "rotations"]


@functools.lru_cache(maxsize=4)
def rotations(config: ModelConfig, device: torch.device) -> Tensor:
    """Cosines and sines of position·θ^(-2i/head_dim), f32 [max_length, head_dim], the cosines in the first half.

    Angles are products of float32 numbers, rounded as in the checkpoints' own implementation: at position 8000 another
    order of operations is 5e-4 off.
    """
    pair = torch.arange(0, config.head_dim, 2, dtype=torch.float32)
    frequency = 1.0 / config.rope_theta ** (pair / config.head_dim)
    angle = torch.arange(config.max_length, dtype=torch.float32)[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1).to(device)


def forward(model: Model, step: Step, cache: KVCache, operations: Operations) -> Tensor:
    """Logits of the sampled rows, f32 [R, vocab]; keys and values of the step's tokens are written into the cache."""
    config, weights, do = model.config, model.weights, operations
    cos_sin = rotations(config, weights.embedding.device)
    d = step.decodes
    whole = d == len(step.lengths)
    starts = step.starts if d == 0 else step.starts[d:] - d
    x, stream = weights.embedding[step.tokens], None
    for i, layer in enumerate(weights.layers):
        keys, values = cache.keys[i], cache.values[i]
        normed, stream = do.rms_norm(x, layer.input_norm, config.norm_epsilon, stream)
        q = do.rope_and_store(do.matmul(normed, layer.qkv), step.positions, cos_sin, keys, values, step.slots)
        parts: list[Tensor] = []
        if d > 0:
            parts.append(
                do.decode_attention(q[:d], keys, values, step.lengths[:d], step.blocks[:d], config.window)
            )
        if not whole:
            parts.append(
                do.attention(q[d:], keys, values, starts, step.lengths[d:], step.blocks[d:], config.window)
            )
        x = do.matmul(parts[0] if len(parts) == 1 else torch.cat(parts), layer.output)
        normed, stream = do.rms_norm(x, layer.post_norm, config.norm_epsilon, stream)
        x = do.matmul(do.swiglu(do.matmul(normed, layer.gate_up)), layer.down)
    assert stream is not None  # there is at least one layer
    normed, _ = do.rms_norm(x[step.sampled], weights.norm, config.norm_epsilon, stream[step.sampled])
    return do.matmul(normed, weights.head).float()
