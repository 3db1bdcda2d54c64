"""Weights: read from safetensors or GGUF, drawn at random, or written.

Names and shapes are checked against the configuration before anything is kept: what is missing, unexpected or misshapen
is named.  Query, key and value projections are stacked into one matrix, gate and up projections into another, so that a
layer has four products.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpu.config import DTYPES, ModelConfig

__all__ = ["LayerWeights", "Model", "Weights", "config_of", "load", "local_path", "random_model", "save"]

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# of a repository on the hub, which may hold the same weights a second time under other names
DOWNLOADED = ["config.json", "tokenizer.json", "model*.safetensors", INDEX]
SHOWN = 3  # names shown of a longer list


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """Matrices [out, in] and norms of one layer.

    `qkv` [(heads + 2·kv_heads)·head_dim, hidden]; `output` [hidden, heads·head_dim]; `gate_up` [2·intermediate,
    hidden], the gate first; `down` [hidden, intermediate]; `input_norm` and `post_norm` [hidden].
    """

    input_norm: Tensor
    qkv: Tensor
    output: Tensor
    post_norm: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True, slots=True)
class Weights:
    """`embedding` [vocab, hidden], the layers, the last `norm` [hidden], and the output `head` [vocab, hidden]."""

    embedding: Tensor
    layers: tuple[LayerWeights, ...]
    norm: Tensor
    head: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Configuration and weights."""

    config: ModelConfig
    weights: Weights


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a checkpoint, as Hugging Face names them."""
    q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    layer = {
        "input_layernorm": (config.hidden,),
        "self_attn.q_proj": (q, config.hidden),
        "self_attn.k_proj": (kv, config.hidden),
        "self_attn.v_proj": (kv, config.hidden),
        "self_attn.o_proj": (config.hidden, q),
        "post_attention_layernorm": (config.hidden,),
        "mlp.gate_proj": (config.intermediate, config.hidden),
        "mlp.up_proj": (config.intermediate, config.hidden),
        "mlp.down_proj": (config.hidden, config.intermediate),
    }
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab, config.hidden)}
    for i in range(config.layers):
        found |= {f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()}
    found["model.norm.weight"] = (config.hidden,)
    if not config.tied:
        found["lm_head.weight"] = (config.vocab, config.hidden)
    return found


def assembled(config: ModelConfig, tensor: Callable[[str], Tensor]) -> Model:
    """A model from its tensors by name."""

    def layer(i: int) -> LayerWeights:
        def of(name: str) -> Tensor:
            return tensor(f"model.layers.{i}.{name}.weight")

        attention = [of(f"self_attn.{x}_proj") for x in "qkv"]
        return LayerWeights(
            of("input_layernorm"),
            torch.cat(attention),
            of("self_attn.o_proj"),
            of("post_attention_layernorm"),
            torch.cat([of("mlp.gate_proj"), of("mlp.up_proj")]),
            of("mlp.down_proj"),
        )

    embedding = tensor("model.embed_tokens.weight")
    head = embedding if config.tied else tensor("lm_head.weight")
    layers = tuple(layer(i) for i in range(config.layers))
    return Model(config, Weights(embedding, layers, tensor("model.norm.weight"), head))


def taken_apart(model: Model) -> Iterator[tuple[str, Tensor]]:
    """Tensors by name, as a checkpoint has them."""
    config, weights = model.config, model.weights
    kv = config.kv_heads * config.head_dim
    yield "model.embed_tokens.weight", weights.embedding
    for i, layer in enumerate(weights.layers):
        q, k, v = layer.qkv.split([config.heads * config.head_dim, kv, kv])
        gate, up = layer.gate_up.chunk(2)
        named = {
            "input_layernorm": layer.input_norm, "self_attn.q_proj": q, "self_attn.k_proj": k, "self_attn.v_proj": v,
            "self_attn.o_proj": layer.output, "post_attention_layernorm": layer.post_norm, "mlp.gate_proj": gate,
            "mlp.up_proj": up, "mlp.down_proj": layer.down,
        }  # fmt: skip
        for name, tensor in named.items():
            yield f"model.layers.{i}.{name}.weight", tensor
    yield "model.norm.weight", weights.norm
    if not config.tied:
        yield "lm_head.weight", weights.head


def config_of(path: Path | str) -> ModelConfig:
    """Configuration of a checkpoint: a directory, or a GGUF file.

    Raises:
        ValueError: it cannot be read.
    """
    place = local_path(path)
    if place.suffix == ".gguf":
        from gpu.gguf_loader import GgufFile

        return GgufFile(place).config
    return ModelConfig.from_directory(place)


def load(path: Path | str, *, dtype: str | None = None, device: str = "cpu") -> Model:
    """Read a model: a directory with `config.json` and safetensors (one file or several with an index), or a GGUF file.

    Args:
        path: directory, `.gguf` file, or the id of a model on the Hugging Face hub, which is downloaded.
        dtype: "float32", "float16" or "bfloat16"; the checkpoint's own by default.
        device: "cpu" or "cuda".

    Raises:
        ValueError: the checkpoint cannot be read, a tensor is missing, unexpected, misshapen or of whole numbers, or
            the device is not there.
    """
    place = local_path(path)
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}; choose one of {', '.join(DTYPES)}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"there is no GPU for device {device!r}; use device 'cpu'")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, NotImplementedError) as problem:
        raise ValueError(
            f"device {device!r} cannot be used ({_first_line(problem)}); use 'cpu' or 'cuda'"
        ) from None
    if place.suffix == ".gguf":
        from gpu.gguf_loader import GgufFile

        file = GgufFile(place)
        return _kept(file.config, file.tensors(), str(place), dtype, device)
    config = ModelConfig.from_directory(place)
    return _kept(config, _safetensors(place), str(place), dtype, device)


def _kept(
    config: ModelConfig,
    tensors: Mapping[str, Callable[[], Tensor]],
    where: str,
    dtype: str | None,
    device: str,
) -> Model:
    stated = shapes(config)
    given = {name for name in tensors if not name.endswith("rotary_emb.inv_freq")}
    if config.tied:
        given -= {"lm_head.weight"}
    for what, names in (
        ("lacks", sorted(set(stated) - given)),
        ("has unexpected", sorted(given - set(stated))),
    ):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise ValueError(
                f"{where} {what} tensors {', '.join(names[:SHOWN])}{more}; they are not those of its configuration"
            )
    kind: torch.dtype = getattr(torch, dtype or config.dtype)

    def tensor(name: str) -> Tensor:
        found = tensors[name]()
        if tuple(found.shape) != stated[name]:
            raise ValueError(
                f"{where}: {name} has shape {list(found.shape)}, and its configuration asks for {list(stated[name])}"
            )
        if not found.is_floating_point():
            raise ValueError(f"{where}: {name} is of {found.dtype}; weights are floating-point numbers here")
        return found.to(device=device, dtype=kind)

    return assembled(config, tensor)


def local_path(path: Path | str) -> Path:
    """Where a checkpoint lies: the path itself, or for the id of a model on the Hugging Face hub, where it is kept.

    Raises:
        ValueError: there is nothing at the path, and it is no id, or cannot be downloaded.
    """
    place = Path(path)
    if place.exists():
        return place
    looks_like_id = str(path).count("/") == 1 and not str(path).startswith((".", "/", "~"))
    if looks_like_id and place.suffix != ".gguf":
        try:
            from huggingface_hub import snapshot_download

            return Path(snapshot_download(str(path), allow_patterns=DOWNLOADED))
        except ModuleNotFoundError:
            raise ValueError(
                f"{path} is no directory; to download it by this name, install huggingface_hub"
            ) from None
        except Exception as problem:  # noqa: BLE001  # whatever the network does
            raise ValueError(
                f"{path} is no directory, and cannot be downloaded: {_first_line(problem)}"
            ) from None
    raise ValueError(
        f"{path} does not exist; give a directory with config.json and safetensors, or a .gguf file"
    )


def _first_line(problem: Exception) -> str:
    return next(iter(str(problem).splitlines()), type(problem).__name__)


def _safetensors(place: Path) -> dict[str, Callable[[], Tensor]]:
    """Every tensor of a directory by name, read when it is asked for."""
    from safetensors import SafetensorError, safe_open

    index = place / INDEX
    files = [place / SINGLE]
    if index.exists():
        try:
            listed: Any = json.loads(index.read_text(encoding="utf-8"))
            files = [place / name for name in sorted(set(listed["weight_map"].values()))]
        except (ValueError, KeyError, AttributeError, TypeError):
            raise ValueError(f"{index} is no index of safetensors: it needs an object weight_map") from None
    found: dict[str, Callable[[], Tensor]] = {}
    for file in files:
        if not file.exists():
            needed = f", which {INDEX} names" if index.exists() else ""
            raise ValueError(f"{file} is missing{needed}; copy the whole checkpoint")
        try:
            opened: Any = safe_open(file, framework="pt")
            found |= {name: (lambda f=opened, n=name: f.get_tensor(n)) for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as problem:
            raise ValueError(f"{file} is damaged or cut short ({problem}); copy it again") from None
    return found


def random_model(
    config: ModelConfig,
    seed: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    scale: float = 2.4,
) -> Model:
    """A model for tests and for timing: normal weights of deviation `scale`/√in, and 1 for embeddings; norms are 1."""
    draw = torch.Generator().manual_seed(seed)

    def tensor(name: str) -> Tensor:
        shape = shapes(config)[name]
        if len(shape) == 1:
            return torch.ones(shape, dtype=dtype, device=device)
        spread = 1.0 if "embed" in name else scale / shape[1] ** 0.5
        return (spread * torch.randn(shape, generator=draw)).to(device=device, dtype=dtype)

    return assembled(config, tensor)


def save(model: Model, directory: Path | str, *, shard_bytes: int | None = None) -> None:
    """Write a model as config.json and safetensors, whole or not at all.

    Args:
        model: the model.
        directory: must not exist.
        shard_bytes: begin a new file when this many bytes are in one; all in one file by default.

    Raises:
        ValueError: the directory exists.
    """
    from safetensors.torch import save_file

    target = Path(directory)
    # weights may have been converted when they were read
    config = replace(model.config, dtype=str(model.weights.embedding.dtype).removeprefix("torch."))
    if target.exists():
        raise ValueError(f"{target} exists; give a new directory")
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in taken_apart(model):
        size = tensor.numel() * tensor.element_size()
        if shard_bytes is not None and shards[-1] and filled + size > shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor.contiguous().cpu()
        filled += size
    target.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        (place / "config.json").write_text(json.dumps(config.to_hf(), indent=1))
        if len(shards) == 1:
            save_file(shards[0], place / SINGLE)
        else:
            names = [f"model-{k + 1:05}-of-{len(shards):05}.safetensors" for k in range(len(shards))]
            for name, shard in zip(names, shards, strict=True):
                save_file(shard, place / name)
            where = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
            total = sum(t.numel() * t.element_size() for shard in shards for t in shard.values())
            (place / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": where}))
        place.chmod(0o755)
        place.rename(target)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
