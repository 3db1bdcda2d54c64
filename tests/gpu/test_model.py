"""The forward pass and the loader against transformers, on checkpoints that transformers wrote."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from gpu.backend import operations
from gpu.config import ModelConfig
from gpu.loader import Model, load, save
from gpu.model import rotations
from tests.gpu.steps import Desk

transformers: Any = pytest.importorskip("transformers", reason="needs transformers, of the extra `oracle`")

SIZES = {
    "vocab_size": 97, "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2, "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5, "initializer_range": 0.3,
}  # fmt: skip
LENGTH = 23
CLOSE = 1e-4


def checkpoint(folder: Path, *, llama: bool = False, shard: str = "5GB", **fields: Any) -> Any:
    """A random model that transformers made and saved; returns it in float32."""
    torch.manual_seed(7)
    kind = (transformers.LlamaConfig, transformers.LlamaForCausalLM) if llama else (
        transformers.MistralConfig, transformers.MistralForCausalLM,
    )  # fmt: skip
    made = kind[1]._from_config(kind[0](**(SIZES | fields)), attn_implementation="eager").eval()
    made.save_pretrained(folder, max_shard_size=shard)
    return made


def stated_logits(made: Any, text: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return made(text).logits


def computed_logits(model: Model, text: list[list[int]]) -> dict[tuple[int, int], torch.Tensor]:
    """Logits by (sequence, place), in chunks and mixes: a sequence in one go, one token by token, others between."""
    desk = Desk(model, len(text), LENGTH)
    got: dict[tuple[int, int], torch.Tensor] = {}
    chunk = [LENGTH, 1, 5, 8]
    while any(desk.length < LENGTH):
        here = {s: text[s][at : at + chunk[s]] for s, at in enumerate(desk.length.tolist()) if at < LENGTH}
        for s, logits in desk.run(here).items():
            got[s, int(desk.length[s]) - 1] = logits
    return got


def difference(made: Any, model: Model) -> float:
    """Largest difference of logits over every place at which a chunk ended."""
    text = torch.randint(0, SIZES["vocab_size"], (4, LENGTH), generator=torch.Generator().manual_seed(1))
    stated = stated_logits(made, text)
    got = computed_logits(model, text.tolist())
    assert len(got) == 1 + LENGTH + 5 + 3
    return max(float((logits - stated[s, at]).abs().max()) for (s, at), logits in got.items())


@pytest.mark.parametrize(
    ("kv_heads", "window", "tied"), list(itertools.product([4, 2, 1], [None, 7], [False, True]))
)
def test_logits_are_those_of_mistral(tmp_path: Path, kv_heads: int, window: int | None, tied: bool) -> None:
    """Grouped-query ratios 1, 2 and 4; windows shorter than the text; head tied to the embedding or not."""
    made = checkpoint(
        tmp_path,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        sliding_window=window,
        tie_word_embeddings=tied,
    )
    assert difference(made, load(tmp_path)) < CLOSE


def test_logits_are_those_of_llama(tmp_path: Path) -> None:
    made = checkpoint(tmp_path, llama=True, num_attention_heads=4, num_key_value_heads=2, rope_theta=5e5)
    assert difference(made, load(tmp_path)) < CLOSE


def test_a_checkpoint_in_several_files(tmp_path: Path) -> None:
    """With a head_dim of its own; and written again by us, in shards, it is read by transformers as what it was."""
    fields = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 24, "sliding_window": None}
    made = checkpoint(tmp_path / "theirs", shard="40KB", **fields)
    assert (tmp_path / "theirs" / "model.safetensors.index.json").exists()
    model = load(tmp_path / "theirs")
    assert difference(made, model) < CLOSE
    save(model, tmp_path / "ours", shard_bytes=50_000)
    again = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", dtype=torch.float32, attn_implementation="eager"
    )
    assert difference(again, load(tmp_path / "ours")) < CLOSE
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


@pytest.mark.parametrize("change", [{"rope_theta": 2e4}, {"norm_epsilon": 1e-2}, {"window": 7}, {}])
def test_another_mathematics_is_another_model(tmp_path: Path, change: dict[str, Any]) -> None:
    """Control: with one constant changed the logits are far off, so the tests above see it."""
    made = checkpoint(tmp_path, num_attention_heads=4, num_key_value_heads=4, sliding_window=None)
    model = load(tmp_path)
    other = Model(dataclasses.replace(model.config, **change), model.weights)
    assert (difference(made, other) > 10 * CLOSE) is bool(change)


@pytest.mark.parametrize("theta", [1e4, 1e5, 1e6])
def test_rotations_are_those_of_transformers_at_every_position(theta: float) -> None:
    """Bit for bit up to 8192 tokens; angles by a division are 5e-4 off there, which short texts do not show."""
    fields = {"num_attention_heads": 2, "head_dim": 64, "max_position_embeddings": 8192, "rope_theta": theta}
    rope = {"rope_type": "default", "rope_theta": theta}
    stated = transformers.LlamaConfig(
        **(SIZES | fields), rope_parameters=rope, architectures=["LlamaForCausalLM"]
    )
    rotary = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(stated)
    cos, sin = (half[0, :, :32] for half in rotary(torch.zeros(1, 1), torch.arange(8192)[None]))
    computed = rotations(ModelConfig.from_hf(stated.to_dict()), torch.device("cpu"))
    assert torch.equal(computed, torch.cat([cos, sin], -1))
    angle = torch.arange(8192.0)[:, None] / theta ** (torch.arange(0, 64, 2) / 64)
    assert (angle.cos() - cos).abs().max() > 1e-4  # control


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_kernels_compute_the_same_model(tmp_path: Path, dtype: torch.dtype) -> None:
    """The Triton kernels in the interpreter, put together: a chunk beside a decode, then two decodes."""
    checkpoint(tmp_path, num_attention_heads=4, num_key_value_heads=2, sliding_window=9, num_hidden_layers=1)
    model = load(tmp_path, dtype="float16" if dtype == torch.float16 else "float32")
    reference, kernels = (
        Desk(model, 2, LENGTH, block_size=16, backend=operations(name)) for name in ("reference", "triton")
    )
    text = torch.randint(0, 97, (2, LENGTH), generator=torch.Generator().manual_seed(2)).tolist()
    steps = [{0: text[0][:12], 1: text[1][:1]}, {0: text[0][12:13], 1: text[1][1:2]}]
    for chunks in steps:
        stated, computed = reference.run(chunks), kernels.run(chunks)
        for s in chunks:
            assert (stated[s] - computed[s]).abs().max() < (1e-4 if dtype == torch.float32 else 0.05)
