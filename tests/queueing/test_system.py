"""Systems: named, read and written whole; limits and keys that may not stand are refused in one sentence."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queueing.hardware import HARDWARE, MODELS, Hardware
from queueing.models.iteration_time import Affine, Load, Table, TileLaw
from queueing.system import System
from tests.strategies import laws, systems

LAW = TileLaw(128, 4e-3, 5e-6)
NONE = np.zeros(0, np.int64)


@pytest.mark.parametrize("name", System.names())
def test_every_name_gives_its_system(name: str) -> None:
    system = System.named(*name.split("/"))
    assert system.name == name
    assert system.iteration_time(Load(1, 1, 1, NONE, NONE)) > 0
    assert system.kv_tokens == system.blocks * 16 >= system.max_length


def test_testbed_is_as_published() -> None:
    system = System.named("mistral-7b", "rtx-6000-ada")
    assert system == System.mistral_7b_rtx_6000_ada()
    assert (system.blocks, system.kv_tokens, system.max_running) == (14_733, 235_728, 128)
    assert (system.max_length, system.watermark_blocks) == (8192, 147)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError) as refused:
        System.named("mistral-7b", "abacus")
    assert "no system is called mistral-7b/abacus" in str(refused.value)
    assert all(name in str(refused.value) for name in System.names())


def test_memory_of_the_data_sheet_is_an_estimate_from_above() -> None:
    """On the one testbed whose blocks are published, data sheet minus weights gives 2 to 5 % more."""
    estimate = HARDWARE["rtx-6000-ada"].kv_blocks(MODELS["mistral-7b"])
    assert 1.02 < estimate / System.named("mistral-7b", "rtx-6000-ada").blocks < 1.05


def test_shapes_have_the_published_sizes() -> None:
    """Parameters 7.24, 8.03 and 6.74 billion; KV 128 KiB a token, 512 KiB without grouped heads."""
    billions = {name: round(model.weight_bytes / 2e9, 2) for name, model in MODELS.items()}
    assert billions == {"mistral-7b": 7.24, "llama-3-8b": 8.03, "llama-2-7b": 6.74}
    kv = {name: model.kv_bytes_per_token // 1024 for name, model in MODELS.items()}
    assert kv == {"mistral-7b": 128, "llama-3-8b": 128, "llama-2-7b": 512}
    mistral = MODELS["mistral-7b"]
    head = 2 * 2 * mistral.vocab * mistral.hidden
    assert mistral.flops_per_token == mistral.weight_bytes - head  # 2 FLOPs and 2 bytes a weight
    assert MODELS["llama-3-8b"].flops_per_token == mistral.flops_per_token


def test_tile_model_never_meets_its_memory() -> None:
    system = System.rad_tile_model()
    assert system.iteration_time == LAW
    assert system.kv_tokens >= 1 << 34


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_is_written_is_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    system = data.draw(laws().flatmap(systems))
    path = tmp_path_factory.getbasetemp() / "system.json"
    system.to_file(path)
    assert System.from_file(path) == system
    other = dataclasses.replace(system, blocks=system.blocks + 1)
    assert System.from_file(path) != other


@pytest.mark.parametrize("name", System.names())
def test_named_systems_survive_a_file(name: str, tmp_path: Path) -> None:
    system = System.named(*name.split("/"))
    system.to_file(tmp_path / "s.json")
    assert System.from_file(tmp_path / "s.json") == system


@pytest.mark.parametrize(
    "law",
    [
        TileLaw(np.int64(128), 4e-3, 5e-6),  # pyright: ignore[reportArgumentType]
        Affine(np.float32(1e-3), 1e-4),  # pyright: ignore[reportArgumentType]
        Table(tuple(np.array([1, 128])), tuple(np.array([1e-3, 2e-3]))),
    ],
)
def test_numbers_of_numpy_survive_a_file(law: Any, tmp_path: Path) -> None:
    System(law, 10).to_file(tmp_path / "s.json")
    assert System.from_file(tmp_path / "s.json").iteration_time == law


def test_toml_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        'blocks = 100\nname = "mine"\n[iteration_time]\nlaw = "Affine"\nbase = 0.01\nper_token = 1e-4\n'
    )
    assert System.from_file(path) == System(Affine(0.01, 1e-4), 100, name="mine")


def test_interrupted_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.json"
    System(LAW, 10).to_file(path)

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "dump", interrupted)
    with pytest.raises(KeyboardInterrupt):
        System(LAW, 20).to_file(path)
    monkeypatch.undo()
    assert System.from_file(path).blocks == 10
    assert [p.name for p in tmp_path.iterdir()] == ["s.json"]


@pytest.mark.parametrize("limit", ["blocks", "block_size", "max_length", "max_running", "max_batch_tokens"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "1", 2**62])
def test_limits_are_whole_and_positive(limit: str, value: Any) -> None:
    fields: dict[str, Any] = {"blocks": 1, limit: value}
    with pytest.raises(ValueError, match=rf"{limit}={value!r}; give a whole number"):
        System(LAW, **fields)
    assert getattr(System(LAW, **(fields | {limit: 1})), limit) == 1


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan"), "0", True])
def test_watermark_is_a_share(value: Any) -> None:
    with pytest.raises(ValueError, match="watermark"):
        System(LAW, 10, watermark=value)
    assert System(LAW, 10, watermark=0.0).watermark_blocks == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "table of keys"),
        ("{}", "needs the key 'iteration_time'"),
        ('{"iteration_time": {"law": "Affine", "base": 1, "per_token": 0}}', "needs the key 'blocks'"),
        ('{"iteration_time": {}, "blocks": 1}', "key law, one of Affine"),
        ('{"iteration_time": {"law": []}, "blocks": 1}', "key law, one of Affine"),
        ('{"iteration_time": {"law": "Magic"}, "blocks": 1}', "key law, one of Affine"),
        ('{"iteration_time": {"law": "Affine", "base": 1}, "blocks": 1}', "Affine needs the key 'per_token'"),
        (
            '{"iteration_time": {"law": "Affine", "base": 1, "per_token": 0, "x": 1}, "blocks": 1}',
            "no key 'x'",
        ),
        ('{"iteration_time": {"law": "Affine", "base": -1, "per_token": 0}, "blocks": 1}', "base=-1"),
        (
            '{"iteration_time": {"law": "Affine", "base": 1, "per_token": 0}, "blocks": 1, "gpu": 1}',
            "no key 'gpu'",
        ),
        ('{"iteration_time": {"law": "Affine", "base": 1, "per_token": 0}, "blocks": 0}', "blocks=0"),
    ],
)
def test_bad_files_are_refused_in_one_sentence_that_names_the_file(
    text: str, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(ValueError) as refused:
        System.from_file(path)
    message = str(refused.value)
    assert says in message
    assert str(path) in message
    assert "\n" not in message


def test_law_of_ones_own_works_but_is_not_written(tmp_path: Path) -> None:
    class Mine:
        def lower(self) -> Any:
            return LAW.lower()

        def __call__(self, load: Load) -> float:
            return LAW(load)

    system = System(Mine(), 10)
    with pytest.raises(ValueError, match="only the laws"):
        system.to_file(tmp_path / "s.json")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="needs a law"):
        System(3.0, 10)  # pyright: ignore[reportArgumentType]


def test_shapes_and_hardware_refuse_what_they_cannot_be() -> None:
    shape = MODELS["mistral-7b"]
    with pytest.raises(ValueError, match="layers=0"):
        dataclasses.replace(shape, layers=0)
    with pytest.raises(ValueError, match="divisor"):
        dataclasses.replace(shape, kv_heads=7)
    with pytest.raises(ValueError, match="memory=0"):
        Hardware("x", 0, 1.0, 1.0)
    with pytest.raises(ValueError, match="take larger hardware"):
        Hardware("x", 1 << 30, 1.0, 1.0).kv_blocks(shape)
