"""The sub-commands of the engine: `tandem serve` and `tandem calibrate`; torch is imported only when one is run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from queueing.arrivals import Poisson
from queueing.policy import Policy, Router
from queueing.trace import Trace
from queueing.workload import Workload

__all__ = ["Calibrating", "Prompt", "Serving", "calibrate", "read_prompts", "serve"]

FIELDS = {"prompt": (str, list), "output": int, "arrival": (int, float), "client": int, "tbt": (int, float)}


@dataclass(frozen=True, slots=True)
class Prompt:
    """One line of a prompts file: a text or its token ids, and what its sender asks for."""

    prompt: str | list[int]
    output: int | None = None
    arrival: float | None = None
    client: int = 0
    tbt: float = math.inf


def read_prompts(path: Path) -> list[Prompt]:
    """Read prompts: a text per line, or in a file that ends in .jsonl an object per line.

    An object has the key `prompt`, a text or a list of token ids, and may have `output` (most tokens), `arrival` (s),
    `client` (a number) and `tbt` (s).

    Raises:
        ValueError: the file cannot be read or holds no prompt, or the line that is named has another form.
    """
    try:
        lines = path.read_text(encoding="utf-8").split(
            "\n"
        )  # and at no other sign, which may stand in a text
    except (OSError, UnicodeDecodeError) as problem:
        raise ValueError(f"{path} cannot be read as text: {problem}") from None
    found: list[Prompt] = []
    for number, line in enumerate((line.removesuffix("\r") for line in lines), 1):
        if line.strip():
            found.append(_prompt(line, f"{path}, line {number}") if path.suffix == ".jsonl" else Prompt(line))
    if not found:
        raise ValueError(f"{path} holds no prompt; write one per line")
    return found


def _prompt(line: str, where: str) -> Prompt:
    try:
        read: Any = json.loads(line)
    except json.JSONDecodeError as problem:
        raise ValueError(f"{where}: no JSON ({problem.msg})") from None
    if not isinstance(read, dict) or "prompt" not in read:
        raise ValueError(f'{where}: give an object with the key "prompt"')
    for key, value in read.items():
        if key not in FIELDS:
            raise ValueError(f"{where}: there is no key {key!r}; the keys are {', '.join(FIELDS)}")
        if isinstance(value, bool) or not isinstance(value, FIELDS[key]):
            raise ValueError(f"{where}: {key} is {value!r}")
    ids: Any = read["prompt"]
    if isinstance(ids, list) and not all(isinstance(t, int) and not isinstance(t, bool) for t in ids):
        raise ValueError(f"{where}: a prompt is a text or a list of token ids")
    return Prompt(**read)


@dataclass(frozen=True, slots=True)
class Serving:
    """What `tandem serve` was asked for."""

    model: str
    prompts: Path
    policy: Policy
    output: int
    rate: float | None
    seed: int
    temperature: float
    blocks: int | None
    max_running: int
    replicas: int
    router: Router | None
    backend: str
    device: str
    dtype: str | None
    ignore_end: bool


@dataclass(frozen=True, slots=True)
class Calibrating:
    """What `tandem calibrate` was asked for."""

    model: str
    out: Path
    most_tokens: int
    most_context: int
    most_decodes: int
    mixes: int
    repeats: int
    seed: int
    backend: str
    device: str
    dtype: str | None


@contextmanager
def extra() -> Generator[None]:
    """Say in one sentence what to install if torch, or what else the engine needs, is missing."""
    try:
        yield
    except ModuleNotFoundError as missing:
        raise ValueError(
            f"the engine needs {missing.name}; install the extra: pip install 'tandem-queueing[gpu]'"
        ) from None


def serve(asked: Serving, tick: Callable[[int, int], None]) -> tuple[Trace, list[Any]]:
    """Serve the prompts of a file; returns the trace, and the texts in the file's order, as token ids if it had none.

    Raises:
        ValueError: torch is not installed, the model or the prompts cannot be read, or a prompt does not fit.
    """
    read = read_prompts(asked.prompts)
    if asked.replicas > 1 and asked.router is None:
        raise ValueError(f"{asked.replicas} replicas need a router; give --router, for example round-robin")
    with extra():
        from gpu import engine, loader, replicas, tokenizer
    spoken = any(isinstance(p.prompt, str) for p in read)
    with extra():
        words = tokenizer.Tokenizer.of(asked.model) if spoken else None
    ids = [
        p.prompt if isinstance(p.prompt, list) else words.encode(p.prompt)  # pyright: ignore[reportOptionalMemberAccess]
        for p in read
    ]
    order, workload = _workload(asked, read, ids)
    prompts = [ids[i] for i in order]
    sampling = engine.Sampling(asked.temperature, asked.seed, not asked.ignore_end)
    make = partial(loader.load, asked.model, dtype=asked.dtype, device=asked.device)
    config = loader.config_of(asked.model)
    longest = int((workload.prompt + workload.output).max())
    blocks = asked.blocks or engine.enough_blocks(longest, min(asked.max_running, len(read)))
    system = engine.engine_system(config, blocks=blocks, max_running=asked.max_running, name=asked.model)
    if asked.router is not None:
        done = replicas.serve_replicas(
            make, prompts, asked.policy, system, replicas=asked.replicas, router=asked.router, workload=workload,
            sampling=sampling, backend=asked.backend, seed=asked.seed, progress=tick,
        )  # fmt: skip
    else:
        done = engine.generate(
            make(), prompts, asked.policy, system, workload=workload, sampling=sampling, backend=asked.backend,
            progress=tick,
        )  # fmt: skip
    texts: list[Any] = [None] * len(read)
    for place, i in enumerate(order):
        got = list(done.tokens[place])
        texts[i] = got if words is None else words.decode(got)
    return done.trace, texts


def calibrate(asked: Calibrating, tick: Callable[[int, int], None]) -> dict[str, Any]:
    """Time batches, fit the laws, write `measurements.csv` and `system.json` into a folder; returns the figures.

    Raises:
        ValueError: torch is not installed, the model cannot be read, or the mixes do not fit it.
    """
    with extra():
        from gpu import calibrate as calibration
        from gpu import engine, loader
    model = loader.load(asked.model, dtype=asked.dtype, device=asked.device)
    longest = asked.most_context + asked.most_tokens + 2
    if longest > model.config.max_length:
        raise ValueError(
            f"the model takes {model.config.max_length} tokens, and {asked.most_context} of context with "
            f"{asked.most_tokens} in a batch are more; give smaller ones"
        )
    places = asked.most_decodes + 2
    blocks = engine.enough_blocks(longest, places)
    system = engine.engine_system(model.config, blocks=blocks, max_running=places, name=asked.model)
    chosen = calibration.mixes(
        np.random.default_rng(asked.seed), asked.mixes, most_tokens=asked.most_tokens,
        most_context=asked.most_context, most_decodes=asked.most_decodes,
    )  # fmt: skip
    asked.out.mkdir(parents=True, exist_ok=True)  # a folder that cannot be written is known before the work
    timed = engine.TorchEngine(model, system, places, backend=asked.backend)
    found = calibration.calibrate(timed, chosen, repeats=asked.repeats, progress=tick)
    calibration.write_table(found, asked.out / "measurements.csv")
    replace(system, iteration_time=found.law).to_file(asked.out / "system.json")
    return {
        "law": repr(found.law),
        "batches": len(found.mixes),
        "held-out mean error": found.held_out.mape,
        "held-out 95th percentile": found.held_out.p95,
        "error where fitted": found.residuals.mape,
        "measurements": str(asked.out / "measurements.csv"),
        "system": str(asked.out / "system.json"),
        "tried": found.tried,
    }


def _workload(
    asked: Serving, read: Sequence[Prompt], ids: Sequence[Sequence[int]]
) -> tuple[list[int], Workload]:
    """Requests in order of arrival: as the file says, or Poisson at the rate asked for, or all at once."""
    given = [p.arrival for p in read]
    if any(a is not None for a in given) and (asked.rate is not None or any(a is None for a in given)):
        raise ValueError("give every prompt an arrival, or none and a --rate")
    if asked.rate is not None:
        arrival = Poisson(asked.rate).times(len(read), np.random.default_rng(asked.seed))
    else:
        arrival = np.array([0.0 if a is None else a for a in given])
    order = np.argsort(arrival, kind="stable").tolist()
    return order, Workload(
        arrival[order],
        [len(ids[i]) for i in order],
        [asked.output if read[i].output is None else read[i].output for i in order],
        [read[i].client for i in order],
        [read[i].tbt for i in order],
    )
