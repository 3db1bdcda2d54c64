"""`tandem serve` and `tandem calibrate`: prompts in, texts and figures out; bad input in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from queueing.models.fitting import Measurements
from queueing.system import System
from queueing.trace_io import load as load_trace
from validation.cli import app
from validation.engine_commands import read_prompts

torch = pytest.importorskip("torch", reason="needs torch, of the extra `gpu`")
runner = CliRunner()

FIELDS = {
    "architecture": "MistralForCausalLM", "layers": 2, "hidden": 32, "heads": 4, "kv_heads": 2, "head_dim": 8,
    "intermediate": 48, "vocab": 61, "norm_epsilon": 1e-5, "rope_theta": 1e4, "window": None, "tied": False,
    "max_length": 256, "dtype": "float32", "eos": (),
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from gpu.config import ModelConfig
    from gpu.loader import random_model, save

    folder = tmp_path_factory.mktemp("models") / "tiny"
    save(random_model(ModelConfig(**FIELDS), 1), folder)  # pyright: ignore[reportArgumentType]
    return folder


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    lines = [
        {"prompt": [1, 2, 3], "output": 4, "arrival": 0.002, "client": 1},
        {"prompt": [9] * 30, "arrival": 0.0},
        {"prompt": [5], "output": 2, "arrival": 0.001, "tbt": 0.5},
    ]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return file


def test_prompts_are_served_and_told_in_their_order(model: Path, prompts: Path, tmp_path: Path) -> None:
    def run(*more: str) -> dict[str, Any]:
        said = runner.invoke(
            app, ["serve", "--model", str(model), "--prompts", str(prompts), "--output", "6", "--json", *more]
        )
        assert said.exit_code == 0, said.output
        return json.loads(said.stdout)

    made = run("--policy", "slai", "--out", str(tmp_path / "trace.json"))
    assert [len(text) for text in made["texts"]] == [4, 6, 2]
    trace = load_trace(tmp_path / "trace.json")
    assert trace.finished.all()
    assert trace.requests["prompt"].tolist() == [30, 1, 3]  # in order of arrival
    assert made["texts"] == run("--policy", "vtc")["texts"]
    assert made["texts"] != run("--temperature", "5")["texts"]  # control
    shown = runner.invoke(app, ["serve", "--model", str(model), "--prompts", str(prompts), "--output", "6"])
    assert "[2]" in shown.output


def test_a_device_is_calibrated_into_a_system(model: Path, tmp_path: Path) -> None:
    said = runner.invoke(
        app,
        ["calibrate", "--model", str(model), "--out", str(tmp_path), "--most-tokens", "32", "--most-context", "64",
         "--most-decodes", "4", "--mixes", "20", "--repeats", "1", "--json"],
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    system = System.from_file(tmp_path / "system.json")
    assert system.name == str(model)
    measured = Measurements.read_csv(tmp_path / "measurements.csv")
    assert len(measured.seconds) == found["batches"]
    assert (measured.seconds > 0).all()
    assert set(found["tried"]) <= {"Affine", "Roofline", "Combined", "Table"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no prompt"),
        ("[1]", 'line 1: give an object with the key "prompt"'),
        ('{"prompt": "a"}\n{"prompt"', "line 2: no JSON"),
        ('{"prompt": "a", "words": 3}', "there is no key 'words'"),
        ('{"prompt": "a", "output": "b"}', "output is 'b'"),
        ('{"prompt": [1, "a"]}', "a text or a list of token ids"),
    ],
)
def test_prompt_files_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_prompts(tmp_path / "p.jsonl")


def test_a_text_a_line(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("one\n\ntwo\n")
    assert [p.prompt for p in read_prompts(tmp_path / "p.txt")] == ["one", "two"]
    (tmp_path / "p.txt").write_text(
        "one\u2028half\x0cthree\r\ntwo\u0085", newline=""
    )  # signs of a text, but for \r\n
    assert [p.prompt for p in read_prompts(tmp_path / "p.txt")] == ["one\u2028half\x0cthree", "two\u0085"]


def test_a_folder_that_cannot_be_is_known_before_the_work(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpu import calibrate

    worked: list[bool] = []
    monkeypatch.setattr(calibrate, "calibrate", lambda *_, **__: worked.append(True))
    (tmp_path / "taken").write_text("a file")
    options = ["--most-tokens", "32", "--most-context", "64", "--most-decodes", "4", "--mixes", "20"]
    said = runner.invoke(
        app, ["calibrate", "--model", str(model), "--out", str(tmp_path / "taken"), *options]
    )
    assert isinstance(said.exception, OSError)  # which the command line says in one sentence
    assert not worked
    runner.invoke(app, ["calibrate", "--model", str(model), "--out", str(tmp_path / "free"), *options])
    assert worked  # control


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "nowhere"], "does not exist"),
        (["--device", "cuda"], "there is no GPU"),
        (["--backend", "metal"], "no backend 'metal'"),
        (["--replicas", "2"], "need a router"),
        (["--output", "300"], "the context holds 256"),
        (["--blocks", "2"], "the KV memory holds"),
        (["--rate", "3"], "give every prompt an arrival, or none"),
        (["--out", "trace.txt"], "txt"),
    ],
)
def test_bad_input_is_one_line(model: Path, prompts: Path, options: list[str], words: str) -> None:
    if torch.cuda.is_available() and "cuda" in options:
        pytest.skip("there is a GPU")
    said = runner.invoke(app, ["serve", "--model", str(model), "--prompts", str(prompts), *options])
    assert said.exit_code != 0
    told = str(said.exception) + said.output
    assert words in told


def test_a_checkpoint_without_a_tokenizer_takes_token_ids(model: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("hello\n")
    said = runner.invoke(app, ["serve", "--model", str(model), "--prompts", str(tmp_path / "p.txt")])
    assert "no tokenizer.json; give prompts as lists of token ids" in str(said.exception) + said.output
