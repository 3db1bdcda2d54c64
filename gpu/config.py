"""Configuration of a model: what a checkpoint's `config.json` says of its shape and its mathematics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queueing.hardware import ModelShape

__all__ = ["ARCHITECTURES", "ModelConfig"]

ARCHITECTURES = ("MistralForCausalLM", "LlamaForCausalLM")
SIZES = ("layers", "hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocab", "max_length")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes and constants of a decoder with RMSNorm, rotary positions, grouped-query attention and SwiGLU.

    `architecture`; `layers`; `hidden` width; query `heads` and `kv_heads` of `head_dim`; MLP width `intermediate`;
    `vocab` size; `norm_epsilon`; `rope_theta`, the base of the rotary angles; `window`, tokens that attention looks
    back on, itself included (None: all); `tied`, whether the output head is the embedding; `max_length` (tokens);
    `dtype` of the checkpoint; `eos`, tokens that end a text.

    Raises:
        ValueError: a size is no whole number >= 1, heads are no multiple of kv_heads, or head_dim is odd.
    """

    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    norm_epsilon: float
    rope_theta: float
    window: int | None
    tied: bool
    max_length: int
    dtype: str
    eos: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ValueError(
                f"the architecture {self.architecture} is not known here; there are {', '.join(ARCHITECTURES)}"
            )
        for name in SIZES:
            value: Any = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"a model has {name}={value!r}; give a whole number, at least 1")
        if self.heads % self.kv_heads or self.head_dim % 2:
            raise ValueError(
                f"a model has {self.heads} heads, {self.kv_heads} KV heads and head_dim {self.head_dim}; heads are a "
                "multiple of KV heads, and head_dim is even"
            )
        if self.window is not None and self.window < 1:
            raise ValueError(f"a model has window={self.window}; give at least 1, or None for no window")

    @classmethod
    def from_directory(cls, path: Path | str) -> ModelConfig:
        """Read `config.json` of a checkpoint in the format of Hugging Face.

        Raises:
            ValueError: the file is missing or no JSON, a field is missing, or it asks for what is not built here.
        """
        file = Path(path) / "config.json"
        try:
            read: Any = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as problem:
            raise ValueError(f"{file} cannot be read: {problem}") from None
        except json.JSONDecodeError as problem:
            raise ValueError(f"{file} is no JSON: {problem}") from None
        if not isinstance(read, dict):
            raise ValueError(f"{file} holds no object; it is no configuration of a model")
        try:
            return cls.from_hf(read)
        except ValueError as problem:
            raise ValueError(f"{file}: {problem}") from None

    @classmethod
    def from_hf(cls, read: Mapping[str, Any]) -> ModelConfig:
        """From the fields of a Hugging Face configuration, of transformers 4 or 5.

        Raises:
            ValueError: a field is missing, or asks for what is not built here.
        """

        def field(name: str) -> Any:
            if name not in read:
                raise ValueError(f"the field {name} is missing")
            return read[name]

        architecture = (read.get("architectures") or ["none"])[0]
        if architecture not in ARCHITECTURES:
            raise ValueError(
                f"the architecture {architecture} is not known here; there are {', '.join(ARCHITECTURES)}"
            )
        rope = read.get("rope_parameters") or read.get("rope_scaling") or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            raise ValueError(f"rope_type is {kind!r}, and only 'default' is built here")
        if read.get("hidden_act", "silu") != "silu":
            raise ValueError(f"hidden_act is {read['hidden_act']!r}, and only 'silu' is built here")
        for name in ("attention_bias", "mlp_bias"):
            if read.get(name):
                raise ValueError(f"{name} is true, and biases are not built here")
        theta = rope.get("rope_theta", read.get("rope_theta"))
        if theta is None:
            raise ValueError("the field rope_theta is missing")
        heads, hidden = field("num_attention_heads"), field("hidden_size")
        eos = read.get("eos_token_id")
        return cls(
            architecture=architecture,
            layers=field("num_hidden_layers"),
            hidden=hidden,
            heads=heads,
            kv_heads=read.get("num_key_value_heads") or heads,
            head_dim=read.get("head_dim") or hidden // heads,
            intermediate=field("intermediate_size"),
            vocab=field("vocab_size"),
            norm_epsilon=float(field("rms_norm_eps")),
            rope_theta=float(theta),
            window=read.get("sliding_window"),
            tied=bool(read.get("tie_word_embeddings", False)),
            max_length=field("max_position_embeddings"),
            dtype=str(read.get("dtype") or read.get("torch_dtype") or "float32"),
            eos=() if eos is None else tuple(eos) if isinstance(eos, list) else (eos,),
        )

    def to_hf(self) -> dict[str, Any]:
        """The fields of `config.json` that :meth:`from_hf` reads, with those of transformers 4 and 5."""
        fields: dict[str, Any] = {
            "architectures": [self.architecture],
            "model_type": "mistral" if self.architecture.startswith("Mistral") else "llama",
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.intermediate,
            "vocab_size": self.vocab,
            "rms_norm_eps": self.norm_epsilon,
            "rope_theta": self.rope_theta,
            "rope_parameters": {"rope_theta": self.rope_theta, "rope_type": "default"},
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": self.max_length,
            "hidden_act": "silu",
            "dtype": self.dtype,
            "eos_token_id": list(self.eos),
        }
        return fields | ({"sliding_window": self.window} if self.architecture.startswith("Mistral") else {})

    def shape(self, name: str, dtype_bytes: int = 2) -> ModelShape:
        """The sizes that the theory's models of bytes and FLOPs take."""
        return ModelShape(
            name, self.layers, self.hidden, self.heads, self.kv_heads, self.head_dim, self.intermediate, self.vocab,
            dtype_bytes, self.architecture,
        )  # fmt: skip
