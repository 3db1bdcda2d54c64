"""Configurations: those of transformers 4 and 5 are read alike; what is not built is refused in one sentence."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu.config import ModelConfig
from queueing.hardware import MODELS

GIVEN: dict[str, Any] = {
    "architectures": ["MistralForCausalLM"], "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 32000, "rms_norm_eps": 1e-5, "rope_theta": 1e6,
    "sliding_window": None, "tie_word_embeddings": False, "max_position_embeddings": 32768, "torch_dtype": "bfloat16",
    "eos_token_id": 2, "hidden_act": "silu",
}  # fmt: skip
READ = ModelConfig(
    architecture="MistralForCausalLM", layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128, intermediate=14336,
    vocab=32000, norm_epsilon=1e-5, rope_theta=1e6, window=None, tied=False, max_length=32768, dtype="bfloat16",
    eos=(2,),
)  # fmt: skip
LLAMA = {"architectures": ["LlamaForCausalLM"]}


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in GIVEN.items() if name not in names}


@pytest.mark.parametrize(
    ("given", "change"),
    [
        (GIVEN, {}),
        (GIVEN | {"head_dim": None, "rope_scaling": None, "attention_bias": False}, {}),
        (without("rope_theta") | {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, {}),
        (
            GIVEN | {"rope_parameters": {"rope_theta": 1e4}},
            {"rope_theta": 1e4},
        ),  # of two, that of transformers 5
        (without("torch_dtype") | {"dtype": "bfloat16"}, {}),
        (without("torch_dtype"), {"dtype": "float32"}),
        (GIVEN | {"sliding_window": 4096}, {"window": 4096}),
        (GIVEN | {"head_dim": 96}, {"head_dim": 96}),
        (GIVEN | {"eos_token_id": [2, 7]}, {"eos": (2, 7)}),
        (GIVEN | {"eos_token_id": None}, {"eos": ()}),
        (without("eos_token_id"), {"eos": ()}),
        (GIVEN | {"tie_word_embeddings": True}, {"tied": True}),
        (without("num_key_value_heads"), {"kv_heads": 32}),
        (without("sliding_window") | LLAMA, {"architecture": "LlamaForCausalLM"}),
        (
            GIVEN | LLAMA | {"sliding_window": 9},
            {"architecture": "LlamaForCausalLM"},
        ),  # transformers reads none there
        (without("rope_theta") | LLAMA, {"architecture": "LlamaForCausalLM", "rope_theta": 1e4}),
    ],
)
def test_fields_are_read(tmp_path: Path, given: dict[str, Any], change: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(given))
    assert ModelConfig.from_directory(tmp_path) == dataclasses.replace(READ, **change)


@given(
    kv_heads=st.integers(1, 9), group=st.integers(1, 9), half=st.integers(1, 64), tied=st.booleans(),
    window=st.none() | st.integers(1, 9000), eos=st.lists(st.integers(0, 98), max_size=3), theta=st.floats(1, 1e7),
    llama=st.booleans(), dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
)  # fmt: skip
def test_what_is_written_is_read(
    kv_heads: int, group: int, half: int, tied: bool, window: int | None, eos: list[int], theta: float, llama: bool,
    dtype: str,
) -> None:  # fmt: skip
    config = ModelConfig(
        "LlamaForCausalLM" if llama else "MistralForCausalLM", 2, 64, kv_heads * group, kv_heads, 2 * half, 80, 99,
        1e-6, theta, None if llama else window, tied, 64, dtype, tuple(eos),
    )  # fmt: skip
    assert ModelConfig.from_hf(json.loads(json.dumps(config.to_hf()))) == config


def test_the_shape_that_the_theory_takes() -> None:
    stated, computed = MODELS["mistral-7b"], READ.shape("mistral-7b")
    assert dataclasses.replace(computed, source=stated.source) == stated


REQUIRED = [
    "architectures", "num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size",
    "rms_norm_eps", "rope_theta", "sliding_window", "max_position_embeddings",
]  # fmt: skip


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_field_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(without(name)))
    with pytest.raises(ValueError, match=f"config.json: the field {name} is missing"):
        ModelConfig.from_directory(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architectures": ["Qwen2ForCausalLM"]}, "architecture Qwen2ForCausalLM is not known"),
        ({"architectures": []}, "the architecture .* is not known"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling has rope_type 'linear'"),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}},
            "rope_parameters has rope_type 'llama3'",
        ),
        ({"rope_scaling": {"type": "yarn"}, "rope_parameters": {"rope_theta": 1e4}}, "rope_type 'yarn'"),
        ({"rope_parameters": [1]}, r"rope_parameters is \[1\]; give an object"),
        ({"rope_theta": "big"}, "rope_theta is 'big'; give a number"),
        ({"rope_theta": 0}, "rope_theta=0.0; give a finite number above 0"),
        ({"rms_norm_eps": float("nan")}, "norm_epsilon=nan"),
        ({"rms_norm_eps": True}, "rms_norm_eps is True; give a number"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"attention_bias": True}, "attention_bias is true"),
        ({"mlp_bias": True}, "mlp_bias is true"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config is given"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0; give a whole number"),
        ({"hidden_size": "4096"}, "hidden_size is '4096'; give a whole number"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True"),
        ({"num_key_value_heads": 5}, "32 heads, 5 KV heads"),
        ({"hidden_size": 4100}, "hidden_size 4100 is no multiple of num_attention_heads 32"),
        ({"head_dim": 127}, "head_dim is even"),
        ({"sliding_window": 2.5}, "sliding_window is 2.5; give a whole number"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false'; give true or false"),
        ({"torch_dtype": "int8"}, "dtype 'int8'; choose one of float32, float16, bfloat16"),
        ({"eos_token_id": ["</s>"]}, r"eos=\('</s>',\); give token ids below vocab=32000"),
        ({"eos_token_id": 32000}, r"eos=\(32000,\)"),
    ],
)
def test_what_is_not_built_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(GIVEN | change))
    with pytest.raises(ValueError, match=words) as said:
        ModelConfig.from_directory(tmp_path)
    assert str(said.value).startswith(f"{tmp_path / 'config.json'}: ")
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": "GPT2LMHeadModel"}, "is not known here"),
        ({"architecture": "LlamaForCausalLM", "window": 9}, "only MistralForCausalLM has one"),
        ({"window": 0}, "window=0; give a whole number"),
        ({"layers": 0}, "layers=0; give a whole number"),
        ({"rope_theta": float("inf")}, "rope_theta=inf"),
        ({"eos": (-1,)}, r"eos=\(-1,\)"),
    ],
)
def test_values_are_checked_when_they_are_made(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(READ, **change)
