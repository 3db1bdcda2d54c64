"""Hardware and model shapes: the sizes and peaks that data sheets and model cards state.

Arithmetic from them is a bound or an estimate, never a measurement; measured times are in
:mod:`queueing.models.calibrations`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["HARDWARE", "MODELS", "Hardware", "ModelShape"]


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a decoder-only transformer with gated MLPs and grouped-query attention.

    `layers`; `hidden` width; query `heads` and `kv_heads` of `head_dim`; MLP width `intermediate`; `vocab` size;
    `dtype_bytes` per weight and per KV entry; `source` of the numbers.  Norm weights are left out (below 0.01 % here).

    Raises:
        ValueError: a size is no whole number >= 1, or `heads` is no multiple of `kv_heads`.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    dtype_bytes: int = 2
    source: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            value: Any = getattr(self, field.name)
            if field.name in ("name", "source"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"model {self.name} has {field.name}={value!r}; give a whole number, at least 1"
                )
        if self.heads % self.kv_heads:
            raise ValueError(
                f"model {self.name} shares {self.kv_heads} KV heads among {self.heads} heads; give a divisor"
            )

    @property
    def layer_weights(self) -> int:
        """Weights of one layer: Q and O, K and V, and the three matrices of the MLP."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return attention + 3 * self.hidden * self.intermediate

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of KV cache per token: K and V of every layer."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype_bytes

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights, with embedding and output head apart."""
        return (self.layers * self.layer_weights + 2 * self.vocab * self.hidden) * self.dtype_bytes

    @property
    def flops_per_token(self) -> int:
        """FLOPs of the layers' matrix products per token (2 per weight), without attention and output head."""
        return 2 * self.layers * self.layer_weights

    @property
    def flops_per_pair(self) -> int:
        """FLOPs of attention per token pair: 2 for the score and 2 for the value, per head dimension and layer."""
        return 4 * self.layers * self.heads * self.head_dim


@dataclass(frozen=True, slots=True)
class Hardware:
    """One accelerator by its data sheet: `memory` (bytes), `bandwidth` (bytes/s), dense 16-bit `flops` (FLOP/s).

    Peaks are not reached: a time computed from them is a lower bound.

    Raises:
        ValueError: a number is not finite and positive.
    """

    name: str
    memory: int
    bandwidth: float
    flops: float
    source: str = ""

    def __post_init__(self) -> None:
        for quantity in ("memory", "bandwidth", "flops"):
            value: float = getattr(self, quantity)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(
                    f"hardware {self.name} has {quantity}={value!r}; give a finite number above 0"
                )

    def kv_blocks(self, model: ModelShape, *, block_size: int = 16, utilisation: float = 0.9) -> int:
        """KV blocks that fit: (utilisation·memory - weights)/(block_size·KV bytes per token), rounded down.

        An estimate from above: activations, workspace and the driver take memory too (3 % of the blocks on the one
        testbed whose number of blocks is published).

        Raises:
            ValueError: the weights leave no room for one block.
        """
        room = utilisation * self.memory - model.weight_bytes
        blocks = int(room // (block_size * model.kv_bytes_per_token))
        if blocks < 1:
            raise ValueError(
                f"{model.name} needs {model.weight_bytes} bytes of weights and {self.name} offers "
                f"{utilisation * self.memory:.0f}; take larger hardware"
            )
        return blocks


_MISTRAL = ModelShape(
    "mistral-7b", 32, 4096, 32, 8, 128, 14336, 32000, source="mistralai/Mistral-7B-Instruct-v0.2"
)
_LLAMA_3 = ModelShape("llama-3-8b", 32, 4096, 32, 8, 128, 14336, 128256, source="meta-llama/Meta-Llama-3-8B")
_LLAMA_2 = ModelShape("llama-2-7b", 32, 4096, 32, 32, 128, 11008, 32000, source="meta-llama/Llama-2-7b-hf")

MODELS = {model.name: model for model in (_MISTRAL, _LLAMA_3, _LLAMA_2)}

GIB = 1 << 30
HARDWARE = {
    hardware.name: hardware
    for hardware in (
        Hardware("rtx-6000-ada", 48 * GIB, 960e9, 364.2e12, "NVIDIA RTX 6000 Ada data sheet"),
        Hardware("a100", 80 * GIB, 2039e9, 312e12, "NVIDIA A100 80 GB SXM data sheet"),
        Hardware("a800", 80 * GIB, 2039e9, 312e12, "NVIDIA A800 80 GB data sheet: an A100 with slower links"),
        Hardware("h100", 80 * GIB, 3350e9, 989.4e12, "NVIDIA H100 80 GB SXM data sheet"),
        Hardware("a40", 48 * GIB, 696e9, 149.7e12, "NVIDIA A40 data sheet"),
        Hardware("l40s", 48 * GIB, 864e9, 362.05e12, "NVIDIA L40S data sheet"),
    )
}
