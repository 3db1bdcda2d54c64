"""Configuration of a model: what a checkpoint's `config.json` says of its shape and its mathematics."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queueing.hardware import ModelShape

__all__ = ["ARCHITECTURES", "DTYPES", "ModelConfig"]

ARCHITECTURES = ("MistralForCausalLM", "LlamaForCausalLM")
DTYPES = ("float32", "float16", "bfloat16")
FIRST_THETA = 10_000.0  # of Llama checkpoints from before the field was
SIZES = ("layers", "hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocab", "max_length")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes and constants of a decoder with RMSNorm, rotary positions, grouped-query attention and SwiGLU.

    `architecture`; `layers`; `hidden` width; query `heads` and `kv_heads` of `head_dim`; MLP width `intermediate`;
    `vocab` size; `norm_epsilon`; `rope_theta`, the base of the rotary angles; `window`, tokens that attention looks
    back on, itself included (None: all); `tied`, whether the output head is the embedding; `max_length` (tokens);
    `dtype` of the checkpoint; `eos`, tokens that end a text.

    Raises:
        ValueError: a size or the window is no whole number >= 1, heads are no multiple of kv_heads, head_dim is odd,
            a constant is not finite and positive, a Llama has a window, or the dtype is not known.
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
            if not _whole(value):
                raise ValueError(f"a model has {name}={value!r}; give a whole number, at least 1")
        if self.heads % self.kv_heads or self.head_dim % 2:
            raise ValueError(
                f"a model has {self.heads} heads, {self.kv_heads} KV heads and head_dim {self.head_dim}; heads are a "
                "multiple of KV heads, and head_dim is even"
            )
        for name in ("norm_epsilon", "rope_theta"):
            constant: float = getattr(self, name)
            if not (math.isfinite(constant) and constant > 0):
                raise ValueError(f"a model has {name}={constant!r}; give a finite number above 0")
        if self.window is not None and not _whole(self.window):
            raise ValueError(f"a model has window={self.window!r}; give a whole number, at least 1, or None")
        if self.window is not None and self.architecture == "LlamaForCausalLM":
            raise ValueError(f"a LlamaForCausalLM has window={self.window}; only MistralForCausalLM has one")
        if self.dtype not in DTYPES:
            raise ValueError(f"a model has dtype {self.dtype!r}; choose one of {', '.join(DTYPES)}")
        if not all(isinstance(t, int) and 0 <= t < self.vocab for t in self.eos):
            raise ValueError(f"a model has eos={self.eos}; give token ids below vocab={self.vocab}")

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
            ValueError: a field is missing, is of another kind than it should be, or asks for what is not built here.
        """

        def field(name: str) -> Any:
            if read.get(name) is None:
                raise ValueError(f"the field {name} is missing")
            return read[name]

        def size(name: str) -> int:
            if not _whole(field(name)):
                raise ValueError(f"the field {name} is {read[name]!r}; give a whole number, at least 1")
            return read[name]

        def number(name: str, value: Any) -> float:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"the field {name} is {value!r}; give a number")
            return float(value)

        named = field("architectures")
        architecture = named[0] if isinstance(named, list) and named else named
        if architecture not in ARCHITECTURES:
            raise ValueError(
                f"the architecture {architecture} is not known here; there are {', '.join(ARCHITECTURES)}"
            )
        rope: dict[str, Any] = {"rope_theta": read.get("rope_theta")}
        for name in ("rope_scaling", "rope_parameters"):  # of transformers 4 and 5
            given = read.get(name) or {}
            if not isinstance(given, dict):
                raise ValueError(f"the field {name} is {given!r}; give an object")
            kind = given.get("rope_type", given.get("type", "default"))
            if kind != "default":
                raise ValueError(f"{name} has rope_type {kind!r}, and only 'default' is built here")
            rope |= given
        if read.get("hidden_act", "silu") != "silu":
            raise ValueError(f"hidden_act is {read['hidden_act']!r}, and only 'silu' is built here")
        for name in ("attention_bias", "mlp_bias"):
            if read.get(name):
                raise ValueError(f"{name} is true, and biases are not built here")
        if read.get("quantization_config"):
            raise ValueError(
                "quantization_config is given, and of quantised weights only GGUF files are read here"
            )
        if read.get("partial_rotary_factor") not in (None, 1):
            raise ValueError(
                f"partial_rotary_factor is {read['partial_rotary_factor']!r}, and only whole heads rotate here"
            )
        llama = architecture == "LlamaForCausalLM"
        theta = rope["rope_theta"]
        if theta is None and not llama:
            raise ValueError("the field rope_theta is missing")
        if "sliding_window" not in read and not llama:
            raise ValueError(
                "the field sliding_window is missing; give a number of tokens, or null for no window"
            )
        tied = read.get("tie_word_embeddings", False)
        if not isinstance(tied, bool):
            raise ValueError(f"the field tie_word_embeddings is {tied!r}; give true or false")
        heads, hidden = size("num_attention_heads"), size("hidden_size")
        if read.get("head_dim") is None and hidden % heads:
            raise ValueError(
                f"the field head_dim is missing, and hidden_size {hidden} is no multiple of num_attention_heads {heads}"
            )
        eos = read.get("eos_token_id")
        return cls(
            architecture=architecture,
            layers=size("num_hidden_layers"),
            hidden=hidden,
            heads=heads,
            kv_heads=heads if read.get("num_key_value_heads") is None else size("num_key_value_heads"),
            head_dim=hidden // heads if read.get("head_dim") is None else size("head_dim"),
            intermediate=size("intermediate_size"),
            vocab=size("vocab_size"),
            norm_epsilon=number("rms_norm_eps", field("rms_norm_eps")),
            rope_theta=FIRST_THETA if theta is None else number("rope_theta", theta),
            window=None if llama or read["sliding_window"] is None else size("sliding_window"),
            tied=tied,
            max_length=size("max_position_embeddings"),
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


def _whole(value: Any) -> bool:
    """Whether a value is a whole number, at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
