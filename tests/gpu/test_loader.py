"""Checkpoints: what is read is what was written; what is wrong is named in one sentence."""

from __future__ import annotations

import dataclasses
import json
import sys
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpu.backend import operations
from gpu.config import ModelConfig
from gpu.gguf_loader import halves
from gpu.loader import Model, load, random_model, save, taken_apart

CONFIG = ModelConfig(
    architecture="MistralForCausalLM", layers=2, hidden=32, heads=4, kv_heads=2, head_dim=8, intermediate=48, vocab=61,
    norm_epsilon=1e-5, rope_theta=1e4, window=9, tied=False, max_length=128, dtype="float32", eos=(2, 5),
)  # fmt: skip
NORM = "model.layers.1.input_layernorm.weight"


def equal(a: Model, b: Model) -> bool:
    x, y = dict(taken_apart(a)), dict(taken_apart(b))
    return a.config == b.config and x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)


@pytest.mark.parametrize("shard", [None, 1, 10_000])
@pytest.mark.parametrize("tied", [False, True])
def test_what_is_written_is_read(tmp_path: Path, shard: int | None, tied: bool) -> None:
    model = random_model(dataclasses.replace(CONFIG, tied=tied), 1)
    save(model, tmp_path / "m", shard_bytes=shard)
    assert equal(load(tmp_path / "m"), model)
    assert not equal(load(tmp_path / "m"), random_model(model.config, 2))  # control
    assert (tmp_path / "m" / "model.safetensors.index.json").exists() is (shard is not None)
    with pytest.raises(ValueError, match="exists; give a new directory"):
        save(model, tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]  # nothing half-written beside it


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_dtype_asked_for(tmp_path: Path, dtype: str) -> None:
    model = random_model(CONFIG, 1)
    save(model, tmp_path / "m")
    read = load(tmp_path / "m", dtype=dtype).weights.layers[0].qkv
    assert read.dtype == getattr(torch, dtype)
    assert torch.equal(read, model.weights.layers[0].qkv.to(read.dtype))
    save(load(tmp_path / "m", dtype=dtype), tmp_path / "again")
    again = load(tmp_path / "again")
    assert (again.config.dtype, again.weights.norm.dtype) == (dtype, read.dtype)


def test_rows_of_interleaved_pairs_become_halves() -> None:
    """What the converter of such files does, undone: interleave by definition, row by row, and back."""
    weight = torch.arange(2 * 6 * 3.0).view(12, 3)  # two heads of six rows
    order = [h * 6 + half * 3 + i for h in range(2) for i in range(3) for half in range(2)]
    assert torch.equal(halves(weight[order], 2), weight)
    assert not torch.equal(halves(weight, 2), weight)


def broken(folder: Path, change: str) -> None:
    """A checkpoint with one thing wrong."""
    save(random_model(CONFIG, 1), folder, shard_bytes=20_000 if "shard" in change else None)
    config, file = folder / "config.json", folder / "model.safetensors"
    if change in CONFIGS:
        read = json.loads(config.read_text())
        config.write_text(json.dumps(CONFIGS[change](read)))
    elif change == "shard missing":
        next(folder.glob("*-00001-*.safetensors")).unlink()
    elif change == "shard other":
        index = folder / "model.safetensors.index.json"
        read = json.loads(index.read_text())
        read["weight_map"] = dict.fromkeys(read["weight_map"], min(read["weight_map"].values()))
        index.write_text(json.dumps(read))
    elif change == "shard bytes":
        (folder / "model.safetensors.index.json").write_bytes(bytes([255, 254]))
    elif change == "shard index":
        (folder / "model.safetensors.index.json").write_text("[]")
    elif change == "no config":
        config.unlink()
    elif change == "no JSON":
        config.write_text("{")
    elif change == "cut short":
        file.write_bytes(file.read_bytes()[:-1000])
    elif change == "no weights":
        file.unlink()
    else:
        tensors = load_file(file)
        if change == "missing":
            del tensors[NORM]
        elif change == "unexpected":
            tensors["model.layers.2.mlp.up_proj.weight"] = torch.zeros(1)
        elif change == "shape":
            tensors[NORM] = torch.ones(31)
        elif change == "dtype":
            tensors[NORM] = torch.ones(32, dtype=torch.int64)
        save_file(tensors, file)


CONFIGS: dict[str, Any] = {
    "architecture": lambda c: {**c, "architectures": ["GPT2LMHeadModel"]},
    "field": lambda c: {k: v for k, v in c.items() if k != "num_hidden_layers"},
    "rope": lambda c: {**c, "rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}},
    "activation": lambda c: {**c, "hidden_act": "gelu"},
    "bias": lambda c: {**c, "attention_bias": True},
    "heads": lambda c: {**c, "num_key_value_heads": 3},
    "size": lambda c: {**c, "vocab_size": 0},
    "list": lambda c: [c],
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("architecture", "GPT2LMHeadModel is not known here; there are MistralForCausalLM"),
        ("field", "config.json: the field num_hidden_layers is missing"),
        ("rope", "rope_parameters has rope_type 'llama3'"),
        ("activation", "hidden_act is 'gelu'"),
        ("bias", "attention_bias is true"),
        ("heads", "4 heads, 3 KV heads"),
        ("size", "the field vocab_size is 0"),
        ("list", "holds no object"),
        ("no config", "config.json cannot be read"),
        ("no JSON", "is no JSON"),
        ("cut short", "damaged or cut short"),
        ("no weights", "model.safetensors is missing; copy the whole checkpoint"),
        ("shard missing", "is missing, which model.safetensors.index.json names"),
        ("shard index", "needs an object weight_map"),
        ("shard bytes", "needs an object weight_map"),
        ("shard other", r"lacks tensors lm_head.weight, .* and \d+ more"),
        ("missing", f"lacks tensors {NORM}"),
        ("unexpected", "has unexpected tensors model.layers.2.mlp.up_proj.weight"),
        ("shape", r"input_layernorm.weight has shape \[31\], and its configuration asks for \[32\]"),
        ("dtype", "is of torch.int64"),
    ],
)
def test_broken_checkpoints_are_named(tmp_path: Path, change: str, words: str) -> None:
    broken(tmp_path / "m", change)
    with pytest.raises(ValueError, match=words) as said:
        load(tmp_path / "m")
    assert "\n" not in str(said.value)


def test_places_and_devices_that_are_not_there(tmp_path: Path) -> None:
    save(random_model(CONFIG, 1), tmp_path / "m")
    with pytest.raises(ValueError, match="does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="dtype is 'int8'"):
        load(tmp_path / "m", dtype="int8")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="there is no GPU"):
            load(tmp_path / "m", device="cuda")
    with pytest.raises(ValueError, match="device 'abacus' cannot be used"):
        load(tmp_path / "m", device="abacus")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ValueError, match="no GGUF file, or cut short"):
        load(tmp_path / "bad.gguf")


def test_names_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what looks like `org/name` and is no path is downloaded, and only the files that are read."""
    save(random_model(CONFIG, 1), tmp_path / "m")
    asked: list[str] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append(name)
        assert not any(fnmatch("consolidated.safetensors", pattern) for pattern in allow_patterns)
        assert all(
            any(fnmatch(file, pattern) for pattern in allow_patterns)
            for file in ("config.json", "model-00001-of-00002.safetensors", "tokenizer.json")
        )
        return str(tmp_path / "m")

    def refuse(name: str, allow_patterns: list[str]) -> str:
        raise ConnectionError

    hub: Any = ModuleType("huggingface_hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    hub.snapshot_download = download
    assert equal(load("org/name"), load(tmp_path / "m"))
    assert asked == ["org/name"]
    for path in ("a/b/c", "/no/where", "./org/name", "name", "models/file.gguf"):
        with pytest.raises(ValueError, match="does not exist; give a directory"):
            load(path)
    assert asked == ["org/name"]
    hub.snapshot_download = refuse
    with pytest.raises(ValueError, match="cannot be downloaded: ConnectionError"):
        load("org/name")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as if it were not installed
    with pytest.raises(ValueError, match="install huggingface_hub"):
        load("org/name")


@pytest.mark.parametrize("shard", [None, 10_000])
def test_a_checkpoint_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: int | None
) -> None:
    """A disk that fills up in the last file leaves nothing behind."""
    written: list[Path] = []

    def full(tensors: dict[str, torch.Tensor], file: Path) -> None:
        written.append(file)
        assert not (tmp_path / "m").exists()  # nobody reads a checkpoint that is being written
        save_file(tensors, file)
        if "lm_head.weight" in tensors:
            raise OSError("no space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="no space left"):
        save(random_model(CONFIG, 1), tmp_path / "m", shard_bytes=shard)
    assert len(written) >= 1 + (shard is not None)
    assert list(tmp_path.iterdir()) == []


def test_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="choose one of reference, triton"):
        operations("cuda")
    if not torch.cuda.is_available():
        monkeypatch.setenv("TRITON_INTERPRET", "0")
        with pytest.raises(ValueError, match="use the backend 'reference'"):
            operations("triton")
