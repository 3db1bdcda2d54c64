"""Replicas: the same texts as one engine, one trace of all, and nothing lost with a replica that dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import struct
import types
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import pytest
import torch

from gpu.config import ModelConfig
from gpu.engine import Sampling, engine_system, generate
from gpu.loader import Model, random_model
from gpu.replicas import Crash, _Front, merged, serve_replicas  # pyright: ignore[reportPrivateUsage]
from policies import JoinShortestQueue, RoundRobin, Vllm
from queueing.models.iteration_time import Affine
from queueing.refinement import lifecycle
from queueing.simulator import simulate
from queueing.system import System
from queueing.workload import Workload
from tests.laws import differing

CONFIG = ModelConfig(
    architecture="MistralForCausalLM", layers=2, hidden=64, heads=4, kv_heads=2, head_dim=16, intermediate=96, vocab=61,
    norm_epsilon=1e-5, rope_theta=1e4, window=None, tied=False, max_length=256, dtype="float32", eos=(),
)  # fmt: skip
MAKE = partial(random_model, CONFIG, seed=3, dtype=torch.float32)
SYSTEM = engine_system(CONFIG, blocks=200, block_size=4, max_running=8)
rng = np.random.default_rng(0)
PROMPTS = [rng.integers(0, CONFIG.vocab, n).tolist() for n in rng.integers(2, 20, 12)]
OFFERED = Workload(
    np.linspace(0, 0.3, 12), [len(p) for p in PROMPTS], [30, 30, 30, 30, 60, 60, 60, 60, 150, 150, 150, 150]
)


def no_model(config: ModelConfig) -> Model:
    """A model that cannot be loaded."""
    raise OSError(f"no weights of {config.architecture}")


def test_texts_and_trace_of_two_replicas() -> None:
    made = serve_replicas(
        MAKE,
        PROMPTS,
        Vllm(),
        SYSTEM,
        replicas=2,
        router=RoundRobin(),
        workload=OFFERED,
        sampling=Sampling(1.0),
    )
    assert (
        made.tokens
        == generate(MAKE(), PROMPTS, Vllm(), SYSTEM, workload=OFFERED, sampling=Sampling(1.0)).tokens
    )
    trace = made.trace
    assert trace.finished.all()
    assert trace.requests["node"].tolist() == [0, 1] * 6
    assert trace.iterations["entries"].sum() == len(trace.entries["request"])  # pyright: ignore[reportOptionalSubscript]
    assert lifecycle(trace).ok


def test_a_killed_replica_loses_no_request() -> None:
    """One of two is killed in the middle: its requests end elsewhere, with the texts they would have had."""
    pids: list[int] = []
    killed = False

    def kill(done: int, _: int) -> None:
        nonlocal killed
        if done >= 4 and not killed:
            killed = True
            os.kill(pids[1], signal.SIGKILL)

    made = serve_replicas(
        MAKE, PROMPTS, Vllm(), SYSTEM, replicas=2, router=JoinShortestQueue(), workload=OFFERED,
        progress=kill, started=pids.extend,
    )  # fmt: skip
    assert killed
    assert made.trace.meta["crashed"] == (1,)
    assert made.trace.finished.all()
    assert (made.trace.requests["node"] == 1).any()  # what it had finished stays told
    assert np.isfinite(made.trace.requests["finished"]).all()
    assert made.tokens == generate(MAKE(), PROMPTS, Vllm(), SYSTEM, workload=OFFERED).tokens


def test_when_all_die_it_is_said_why() -> None:
    with pytest.raises(Crash, match="no weights of MistralForCausalLM"):
        serve_replicas(
            partial(no_model, CONFIG),
            PROMPTS,
            Vllm(),
            SYSTEM,
            replicas=2,
            router=RoundRobin(),
            workload=OFFERED,
        )


@pytest.mark.parametrize("said", [b"", struct.pack("!i", 100) + b"half", struct.pack("!i", 4) + b"what"])
def test_a_replica_that_dies_while_it_speaks_is_lost(said: bytes) -> None:
    """Nothing, half a message, or none that can be read: a death, and not an error of whoever listens."""
    reader, writer = multiprocessing.Pipe(duplex=False)
    os.write(writer.fileno(), said)
    writer.close()
    lost: list[int] = []
    front = types.SimpleNamespace(pipes={3: reader}, lose=lambda k, now: lost.append(k))
    _Front.hear(cast("Any", front), 3, 0.0)
    assert lost == [3]


def test_what_no_replica_can_serve_is_refused() -> None:
    with pytest.raises(ValueError, match="the context holds 256"):
        serve_replicas(MAKE, [[1] * 250], Vllm(), SYSTEM, replicas=1, router=RoundRobin(), output=10)
    with pytest.raises(ValueError, match="at least 1"):
        serve_replicas(MAKE, PROMPTS, Vllm(), SYSTEM, replicas=0, router=RoundRobin())


def test_merged_traces_are_the_trace_of_all() -> None:
    """The simulator's run on two nodes, taken apart and put together, is the same."""
    law = Affine(0.01, 0.001)
    workload = Workload(np.arange(8) / 64, [5, 9] * 4, [7, 3] * 4)
    whole = simulate(
        workload, System(law, 100), Vllm(), nodes=2, router=RoundRobin(), record_entries=True, python=True
    )
    assert whole.entries is not None

    def only(node: int) -> Any:
        its = whole.iterations["node"] == node
        rows = np.repeat(its, whole.iterations["entries"])
        mine = whole.requests["node"] == node
        gaps = simulate(
            Workload(*(getattr(workload, c)[mine] for c in ("arrival", "prompt", "output"))), System(law, 100), Vllm(),
            python=True,
        ).gaps  # fmt: skip
        columns = {name: column[its] for name, column in whole.iterations.items()}
        return type(whole)(
            whole.requests,
            columns,
            {k: v[rows] for k, v in (whole.entries or {}).items()},
            gaps,
            whole.class_tbt,
        )

    owner = whole.requests["node"].astype(np.int64)
    parts = {0: only(0), 1: only(1)}
    order = np.argsort(whole.iterations["start"], kind="stable")
    assert (np.diff(whole.iterations["start"][order]) >= 0).all()
    again = merged(workload, parts, owner, {}, {})
    found: Sequence[str] = differing(whole, again)
    assert set(found) <= {"node", *whole.iterations, *whole.entries}
    for column, values in whole.requests.items():
        assert np.array_equal(values, again.requests[column], equal_nan=values.dtype.kind == "f")
    assert sorted(
        map(tuple, np.stack([again.iterations[c] for c in ("start", "node", "entries")]).T.tolist())
    ) == sorted(map(tuple, np.stack([whole.iterations[c] for c in ("start", "node", "entries")]).T.tolist()))
    assert np.array_equal(again.gaps, whole.gaps)
    with pytest.raises(ValueError, match="nothing to merge"):
        merged(workload, {}, owner, {}, {})
