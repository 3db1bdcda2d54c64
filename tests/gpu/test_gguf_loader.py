"""GGUF files: written by the package's own writer, in the order of rows that such files have, and read back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpu.config import ModelConfig
from gpu.gguf_loader import halves
from gpu.loader import Model, load, random_model, taken_apart
from tests.gpu.steps import Desk

gguf: Any = pytest.importorskip("gguf")

CONFIG = ModelConfig(
    architecture="LlamaForCausalLM", layers=2, hidden=64, heads=4, kv_heads=2, head_dim=16, intermediate=96, vocab=61,
    norm_epsilon=1e-5, rope_theta=2e4, window=None, tied=False, max_length=128, dtype="float32", eos=(2,),
)  # fmt: skip
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
HEADER: dict[str, Any] = {
    "llama.block_count": 2, "llama.embedding_length": 64, "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2, "llama.feed_forward_length": 96, "llama.context_length": 128,
    "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 2e4, "tokenizer.ggml.eos_token_id": 2,
}  # fmt: skip


def stored_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in NAMES:
        return f"{NAMES[stem]}.weight"
    _, _, layer, kind = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[kind]}.weight"


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows by definition: pair i of a head, its first row and then its second."""
    size = len(weight) // heads
    order = [
        h * size + half * (size // 2) + i for h in range(heads) for i in range(size // 2) for half in (0, 1)
    ]
    return weight[order]


def tensors_of(model: Model) -> dict[str, np.ndarray[Any, Any]]:
    found: dict[str, np.ndarray[Any, Any]] = {}
    for name, tensor in taken_apart(model):
        heads = {"q_proj": model.config.heads, "k_proj": model.config.kv_heads}.get(name.split(".")[-2])
        found[stored_name(name)] = (
            (tensor if heads is None else interleaved(tensor, heads)).contiguous().numpy()
        )
    return found


def write(
    file: Path,
    tensors: Mapping[str, np.ndarray[Any, Any]],
    header: Mapping[str, Any] = HEADER,
    *,
    architecture: str = "llama",
    quantised: Any = None,
) -> Path:
    writer = gguf.GGUFWriter(file, architecture)
    for name, value in header.items():
        if isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, list):
            writer.add_array(name, value)
        else:
            (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(name, value)
    for name, values in tensors.items():
        if quantised is not None and values.ndim == 2:
            writer.add_tensor(name, gguf.quantize(values, quantised), raw_dtype=quantised)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def logits(model: Model) -> torch.Tensor:
    return Desk(model, 1, 12).run({0: [5, 60, 0, 17, 17, 3, 44, 2, 9, 31, 8, 1]})[0]


@pytest.mark.parametrize("tied", [False, True])
def test_what_is_written_is_read(tmp_path: Path, tied: bool) -> None:
    config = dataclasses.replace(CONFIG, tied=tied)
    model = random_model(config, 1)
    read = load(write(tmp_path / "m.gguf", tensors_of(model)))
    assert dataclasses.replace(read.config, norm_epsilon=1e-5) == config
    assert read.config.norm_epsilon == pytest.approx(1e-5)  # stored in float32
    stated = dict(taken_apart(model))
    assert all(torch.equal(tensor, stated[name]) for name, tensor in taken_apart(read))
    half = load(tmp_path / "m.gguf", dtype="float16")
    assert half.weights.layers[1].down.dtype == torch.float16


def test_rows_that_are_not_put_back_give_another_model(tmp_path: Path) -> None:
    """Control: the order of query and key rows is no relabelling; without it the logits are far off."""
    model = random_model(CONFIG, 1)
    read = load(write(tmp_path / "right.gguf", tensors_of(model)))
    plain = {stored_name(name): tensor.contiguous().numpy() for name, tensor in taken_apart(model)}
    wrong = load(write(tmp_path / "wrong.gguf", plain))
    stated = logits(model)
    assert (logits(read) - stated).abs().max() < 1e-5
    assert (logits(wrong) - stated).abs().max() > 0.1
    assert torch.equal(halves(interleaved(model.weights.embedding[:60], 3), 3), model.weights.embedding[:60])


def test_quantised_weights_are_read_as_the_package_means_them(tmp_path: Path) -> None:
    model = random_model(CONFIG, 1)
    kind = gguf.GGMLQuantizationType.Q8_0
    read = load(write(tmp_path / "m.gguf", tensors_of(model), quantised=kind))
    for (name, computed), (_, stated) in zip(taken_apart(read), taken_apart(model), strict=True):
        # 8 bits: half a step of the largest weight of a block
        assert (computed - stated).abs().max() <= stated.abs().max() / 127, name
    assert not torch.equal(read.weights.head, model.weights.head)


@pytest.mark.parametrize(
    "name", [name for name in HEADER if name.split(".")[-1] not in ("head_count_kv", "freq_base")]
)
def test_a_missing_field_is_named(tmp_path: Path, name: str) -> None:
    header = {key: value for key, value in HEADER.items() if key != name}
    with pytest.raises(ValueError, match=f"lacks the field {name}"):
        load(write(tmp_path / "m.gguf", tensors_of(random_model(CONFIG, 1)), header))


def test_fields_with_a_default(tmp_path: Path) -> None:
    """Without them there are as many KV heads as heads, and the base is 10⁴."""
    config = dataclasses.replace(CONFIG, kv_heads=4, rope_theta=1e4)
    header = {k: v for k, v in HEADER.items() if k.split(".")[-1] not in ("head_count_kv", "freq_base")}
    read = load(write(tmp_path / "m.gguf", tensors_of(random_model(config, 1)), header)).config
    assert (read.kv_heads, read.rope_theta) == (4, 1e4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"llama.rope.scaling.type": "linear"}, "llama.rope.scaling.type 'linear', and only 'none'"),
        ({"llama.rope.dimension_count": 8}, "dimension_count is 8, and only whole heads of 16"),
        ({"llama.attention.head_count": 0}, "head_count is 0; it should be a whole number"),
        ({"llama.attention.head_count_kv": [2, 4]}, r"head_count_kv is \[2, 4\]"),
        ({"llama.attention.head_count_kv": 3}, "4 heads, 3 KV heads"),
        ({"llama.rope.freq_base": -1.0}, "rope_theta=-1.0"),
        ({"tokenizer.ggml.eos_token_id": 61}, r"eos=\(61,\)"),
        (
            {"llama.feed_forward_length": 95},
            r"gate_proj.weight has shape \[96, 64\], and its configuration asks",
        ),
        ({"llama.block_count": 3}, "lacks tensors model.layers.2.input_layernorm.weight"),
        ({"llama.block_count": 1}, "has unexpected tensors model.layers.1.input_layernorm.weight"),
    ],
)
def test_headers_that_are_not_read(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    file = write(tmp_path / "m.gguf", tensors_of(random_model(CONFIG, 1)), HEADER | change)
    with pytest.raises(ValueError, match=words) as said:
        load(file)
    assert str(file) in str(said.value)
    assert "\n" not in str(said.value)


def test_files_that_are_not_read(tmp_path: Path) -> None:
    tensors = tensors_of(random_model(CONFIG, 1))
    with pytest.raises(ValueError, match="has the architecture 'qwen2'; only 'llama'"):
        load(write(tmp_path / "other.gguf", tensors, architecture="qwen2"))
    with pytest.raises(ValueError, match=r"lacks the tensor token_embd.weight"):
        load(write(tmp_path / "bare.gguf", {k: v for k, v in tensors.items() if k != "token_embd.weight"}))
    with pytest.raises(ValueError, match=r"has unexpected tensors rope_freqs.weight"):
        load(write(tmp_path / "scaled.gguf", tensors | {"rope_freqs.weight": np.ones(8, np.float32)}))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.05, 0.5, 0.99])
def test_a_file_cut_short(tmp_path: Path, share: float) -> None:
    whole = write(tmp_path / "m.gguf", tensors_of(random_model(CONFIG, 1))).read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"cut\.gguf is no GGUF file, or cut short") as said:
        load(tmp_path / "cut.gguf")
    assert "\n" not in str(said.value)
