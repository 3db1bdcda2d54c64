"""GGUF files of the Llama architecture, read through the package `gguf`.

Such files store the rows of the query and key projections in the order of interleaved rotary pairs; they are put back
into that of halves, which the model uses.  Quantised tensors are dequantised.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpu.config import ModelConfig

__all__ = ["GgufFile", "halves"]

LAYER = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
OUTER = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}


def halves(weight: Tensor, heads: int) -> Tensor:
    """Rows of a projection from interleaved pairs (x₀ y₀ x₁ y₁ …) of each head to halves (x₀ x₁ … y₀ y₁ …)."""
    out, into = weight.shape
    return weight.view(heads, out // heads // 2, 2, into).transpose(1, 2).reshape(out, into)


class GgufFile:
    """A GGUF file: its `config`, its tensors, and what else its header says.

    Raises:
        ValueError: the file cannot be read, is of another architecture, or lacks a field.
    """

    def __init__(self, path: Path) -> None:
        try:
            import gguf
        except ModuleNotFoundError:
            raise ValueError(f"{path} needs the package gguf; install the extra `gpu`") from None
        self.path = path
        self._gguf: Any = gguf
        try:
            self._reader: Any = gguf.GGUFReader(path)
        except (ValueError, OSError, IndexError, KeyError) as problem:
            raise ValueError(f"{path} is no GGUF file, or cut short: {problem}") from None
        architecture = self.field("general.architecture", "none")
        if architecture != "llama":
            raise ValueError(f"{path} has the architecture {architecture!r}; only 'llama' is read here")
        scaling = self.field("llama.rope.scaling.type", "none")
        if scaling != "none":
            raise ValueError(f"{path} has llama.rope.scaling.type {scaling!r}, and only 'none' is built here")
        self._stored: dict[str, Any] = {tensor.name: tensor for tensor in self._reader.tensors}
        self.config = self._config()

    def _config(self) -> ModelConfig:
        heads, hidden = self._size("llama.attention.head_count"), self._size("llama.embedding_length")
        head_dim = self._size("llama.attention.key_length", hidden // heads)
        turned = self._size("llama.rope.dimension_count", head_dim)
        if turned != head_dim:
            raise ValueError(
                f"{self.path}: llama.rope.dimension_count is {turned}, and only whole heads of {head_dim} rotate here"
            )
        if "token_embd.weight" not in self._stored:
            raise ValueError(f"{self.path} lacks the tensor token_embd.weight; it is no complete model")
        fields = dict[str, Any](
            architecture="LlamaForCausalLM",
            layers=self._size("llama.block_count"),
            hidden=hidden,
            heads=heads,
            kv_heads=self._size("llama.attention.head_count_kv", heads),
            head_dim=head_dim,
            intermediate=self._size("llama.feed_forward_length"),
            vocab=int(self._stored["token_embd.weight"].shape[-1]),
            norm_epsilon=self.field("llama.attention.layer_norm_rms_epsilon"),
            rope_theta=self.field("llama.rope.freq_base", 10_000.0),
            window=None,
            tied="output.weight" not in self._stored,
            max_length=self._size("llama.context_length"),
            dtype="float32",
            eos=(self.field("tokenizer.ggml.eos_token_id"),),
        )
        try:
            return ModelConfig(**fields)
        except ValueError as problem:
            raise ValueError(f"{self.path}: {problem}") from None

    def _size(self, name: str, default: int | None = None) -> int:
        found = self.field(name, default)
        if not isinstance(found, int) or found < 1:
            raise ValueError(
                f"{self.path}: the field {name} is {found!r}; it should be a whole number, at least 1"
            )
        return found

    def field(self, name: str, default: Any = None) -> Any:
        """A field of the header.

        Raises:
            ValueError: it is not there, and there is no default.
        """
        found = self._reader.get_field(name)
        if found is not None:
            return found.contents()
        if default is None:
            raise ValueError(f"{self.path} lacks the field {name}; it is no complete model")
        return default

    def tensors(self) -> dict[str, Callable[[], Tensor]]:
        """Every tensor by the name a checkpoint of Hugging Face gives it, read when it is asked for."""
        return {self._name(name): (lambda t=tensor: self._read(t)) for name, tensor in self._stored.items()}

    def _name(self, name: str) -> str:
        stem = name.removesuffix(".weight")
        parts = stem.split(".")
        if parts[0] == "blk" and len(parts) == 3 and parts[2] in LAYER:
            return f"model.layers.{parts[1]}.{LAYER[parts[2]]}.weight"
        return f"{OUTER[stem]}.weight" if stem in OUTER else name

    def _read(self, tensor: Any) -> Tensor:
        values = self._gguf.dequantize(tensor.data, tensor.tensor_type)
        read = torch.from_numpy(np.array(values, np.float32))
        kind = tensor.name.removesuffix(".weight").rpartition(".")[2]
        heads = {"attn_q": self.config.heads, "attn_k": self.config.kv_heads}.get(kind)
        return read if heads is None else halves(read, heads)
