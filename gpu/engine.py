"""The engine: a real model executes the batches that a policy plans, under the clock of the machine.

It is an :class:`~queueing.serving.Engine`: :func:`queueing.serving.serve` asks the policy, checks its batch on the
books and hands it over; here its tokens are computed.  One accelerator: tensor parallelism is 1.

**Schedule invariance.**  The j-th token of a request is a function of the weights, its prompt, the seed, its id and j
alone, up to rounding: whatever the chunks, the company in a batch, and the preemptions, a token attends to the same
keys and values, and what it is drawn with is keyed by (seed, request, position).  Rounding can differ with the shape
of a batch, so two texts may part where two tokens are within rounding of each other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gpu.backend import Operations, operations
from gpu.config import ModelConfig
from gpu.graph import DecodeGraphs
from gpu.kv_cache import BlockTables, KVCache
from gpu.loader import Model
from gpu.model import forward
from gpu.step import Step
from queueing.models.iteration_time import Affine, IterationTime
from queueing.policy import Policy
from queueing.serving import Done, SimulatedEngine, Work, serve
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload

__all__ = [
    "CpuClock",
    "Generation",
    "Sampling",
    "TorchEngine",
    "WallClock",
    "engine_system",
    "enough_blocks",
    "generate",
    "offered",
    "single_thread",
    "warm_up",
]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen: the most likely at `temperature` 0, else drawn from softmax(logits/temperature).

    `seed` keys the draws, with request and position.  `stop`: whether the model's end-of-text token ends a text.

    Raises:
        ValueError: the temperature is negative or not finite.
    """

    temperature: float = 0.0
    seed: int = 0
    stop: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature}; give 0 for the most likely token, or more")


class WallClock:
    """Seconds of the machine; time 0 is at `zero` of its monotonic clock, or when the clock is first started."""

    def __init__(self, zero: float | None = None) -> None:
        self._zero = zero

    def start(self, at: float) -> None:
        """Now is `at` (s), unless the clock runs already."""
        if self._zero is None:
            self._zero = time.perf_counter() - at

    def now(self) -> float:
        """Seconds on this clock."""
        assert self._zero is not None, "start the clock first"
        return time.perf_counter() - self._zero

    def sleep_until(self, until: float) -> None:
        """Return at `until` (s), not earlier."""
        while (left := until - self.now()) > 0:
            time.sleep(left)


class CpuClock(WallClock):
    """Seconds of processor time of this thread, and waits that take none: as on a machine without other work.

    For an engine whose accelerator is this processor, on one thread, where neighbours would distort the wall clock.
    What neighbours take of caches and memory bandwidth it shows all the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self._skipped = 0.0

    def start(self, at: float) -> None:
        """Now is `at` (s), unless the clock runs already."""
        if self._zero is None:
            self._zero = time.thread_time() - at

    def now(self) -> float:
        """Seconds on this clock."""
        assert self._zero is not None, "start the clock first"
        return time.thread_time() - self._zero + self._skipped

    def sleep_until(self, until: float) -> None:
        """It is `until` at once."""
        self._skipped += max(until - self.now(), 0.0)


class TorchEngine:
    """Executes batches with a model.

    Args:
        model: configuration and weights.
        system: KV memory and limits; the books of the serving loop must be of the same.
        requests: ids run from 0 to this number, exclusive; each is made known by :meth:`add` before it is served.
        sampling: how tokens are chosen.
        backend: "reference" (torch) or "triton".
        clock: the machine's, or another for tests.

    Raises:
        ValueError: the system allows more tokens than the model takes, or lets the last prompt chunk emit no token,
            which no model here does; the device has no room for the KV memory.
    """

    def __init__(
        self,
        model: Model,
        system: System,
        requests: int,
        *,
        sampling: Sampling | None = None,
        backend: str | Operations = "reference",
        clock: WallClock | None = None,
    ) -> None:
        config = model.config
        if not system.last_chunk_emits:
            raise ValueError(
                "the last prompt chunk of a model emits a token; give a system with last_chunk_emits"
            )
        if system.max_length > config.max_length:
            raise ValueError(
                f"the model takes {config.max_length} tokens and the system allows {system.max_length}; allow no more"
            )
        self.model, self.system, self.sampling = model, system, sampling or Sampling()
        self.clock = clock or WallClock()
        self._operations = operations(backend) if isinstance(backend, str) else backend
        weights = model.weights
        self._device = weights.embedding.device
        self.cache = KVCache(
            config.layers, system.blocks, system.block_size, config.kv_heads, config.head_dim,
            dtype=weights.embedding.dtype, device=self._device,
        )  # fmt: skip
        width = min(-(-system.max_length // system.block_size), system.blocks)
        self.tables = BlockTables(system.blocks, min(system.max_running, requests), width, requests)
        self._graphs = (
            DecodeGraphs(model, self.cache, self._operations, width) if self._device.type == "cuda" else None
        )
        self._prompt = np.zeros(requests, np.int64)  # tokens
        self._length = np.zeros(requests, np.int64)  # tokens known of each text
        self._text: dict[int, Ints] = {}
        self._stops = frozenset(config.eos if self.sampling.stop else ())
        self.model_seconds: list[float] = []  # of each batch, spent in the model and the choice of tokens

    def add(self, request: int, prompt: Sequence[int], output: int) -> None:
        """Make a request known: its prompt, and the most tokens it may get.

        Raises:
            ValueError: the prompt is empty, has a token that the vocabulary lacks, or is too long with its output for
                context or KV memory.
        """
        config, system = self.model.config, self.system
        if len(prompt) == 0:
            raise ValueError(f"prompt {request} is empty; give at least one token")
        wrong = next((t for t in prompt if not 0 <= t < config.vocab), None)
        if wrong is not None:
            raise ValueError(
                f"prompt {request} has token {wrong}; the vocabulary has tokens 0 to {config.vocab - 1}"
            )
        room = (system.blocks - system.watermark_blocks) * system.block_size
        for what, holds in (("context", system.max_length), ("KV memory", room)):
            if len(prompt) + output > holds:
                raise ValueError(
                    f"prompt {request} has {len(prompt)} tokens and asks for {output} more; the {what} holds {holds}"
                )
        text = np.zeros(len(prompt) + output, np.int64)
        text[: len(prompt)] = prompt
        self._text[request] = text
        self._prompt[request] = self._length[request] = len(prompt)

    def text(self, request: int) -> list[int]:
        """Tokens generated for a request so far."""
        return self._text[request][self._prompt[request] : self._length[request]].tolist()

    def wait(self, until: float) -> None:
        """Sleep until `until` (s on the node's clock)."""
        self.clock.start(0.0)
        self.clock.sleep_until(until)

    def execute(self, work: Work) -> Done:
        """Compute the batch's tokens."""
        self.clock.start(work.now)
        for victim in work.victims.tolist():
            self.tables.release(victim)
        step, order = self._step(work)
        began = self.clock.now()
        with torch.inference_mode():
            logits = self._logits(step)
            served = work.requests[order][work.emits[order]].astype(np.int64)
            position = self._length[served]
            tokens = self._chosen(logits, served, position)
        if not len(tokens) and self._device.type == "cuda":
            torch.cuda.synchronize(
                self._device
            )  # no token was waited for, and the batch has its time all the same
        self.model_seconds.append(self.clock.now() - began)
        self._length[served] += 1
        ended: list[int] = []
        for r, at, token in zip(served.tolist(), position.tolist(), tokens.tolist(), strict=True):
            text = self._text[r]
            text[at] = token
            if token in self._stops or at + 1 == len(text):
                ended.append(r)
                self.tables.release(r)
        return Done(self.clock.now() - work.now, ended)

    def _logits(self, step: Step) -> torch.Tensor:
        if self._graphs is not None and self._graphs.covers(step):
            return self._graphs.run(step)
        return forward(self.model, step, self.cache, self._operations)

    def _chosen(self, logits: torch.Tensor, requests: Ints, positions: Ints) -> Ints:
        choice = self._operations.sample(
            logits,
            torch.full((len(requests),), self.sampling.temperature, device=self._device),
            self.sampling.seed,
            torch.from_numpy(requests).to(self._device),
            torch.from_numpy(positions).to(self._device),
        )
        return choice.cpu().numpy()

    def _step(self, work: Work) -> tuple[Step, Ints]:
        """Index tensors of a batch, single tokens first; and the order of its entries in them."""
        order = np.argsort(work.tokens != 1, kind="stable")
        requests, given, before = work.requests[order], work.tokens[order], work.context[order]
        rows = self.tables.hold(requests, work.blocks[order])
        singles = int((given == 1).sum())
        starts = np.zeros(len(given) + 1, np.int32)
        np.cumsum(given, out=starts[1:])
        # position of every token: where its request stood, and how far it is into the chunk
        position = np.arange(starts[-1]) + np.repeat(before - starts[:-1], given)
        size = self.cache.block_size
        slot = (
            self.tables.table[np.repeat(rows, given), position // size].astype(np.int64) * size
            + position % size
        )
        tokens = np.empty(starts[-1], np.int64)
        for k, r in enumerate(requests.tolist()):
            tokens[starts[k] : starts[k + 1]] = self._text[r][before[k] : before[k] + given[k]]
        after = before + given
        most = -(-int(after.max()) // size)
        sampled = (starts[1:] - 1)[work.emits[order]].astype(np.int64)
        there = (
            torch.from_numpy(array).to(self._device)
            for array in (
                tokens, position, starts, after.astype(np.int32), slot, self.tables.table[rows, :most], sampled,
            )
        )  # fmt: skip
        return Step(*there, decodes=singles), order


def engine_system(
    config: ModelConfig,
    *,
    blocks: int,
    block_size: int = 16,
    max_running: int = 128,
    max_batch_tokens: int = 2**31 - 1,
    law: IterationTime | None = None,
    name: str = "engine",
) -> System:
    """The system that an engine is: KV memory and limits.

    `law` is what a simulator of it would take a batch to last, if it has been calibrated; without one, a second.
    """
    return System(
        law or Affine(1.0, 0.0),
        blocks,
        block_size,
        config.max_length,
        max_running,
        max_batch_tokens,
        name=name,
    )


def enough_blocks(longest: int, running: int, block_size: int = 16, watermark: float = 0.01) -> int:
    """KV blocks for `running` requests of `longest` tokens (prompt and output), and what admission leaves free."""
    return math.ceil(running * -(-longest // block_size) / (1 - watermark)) + 1


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """Texts as token ids, in the order of the prompts, and the trace of how they were served."""

    tokens: tuple[tuple[int, ...], ...]
    trace: Trace
    model_seconds: NDArray[np.float64]  # of each iteration, spent in the model
    workload: Workload  # as it was served


def offered(
    prompts: Sequence[Sequence[int]], output: int | Sequence[int], workload: Workload | None
) -> Workload:
    """The workload as it is given, or one in which all prompts arrive at once.

    Raises:
        ValueError: a prompt is empty, or the workload is of other prompts.
    """
    for i, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise ValueError(f"prompt {i} is empty; give at least one token")
    lengths = [len(p) for p in prompts]
    if workload is None:
        most = [output] * len(prompts) if isinstance(output, int) else list(output)
        return Workload(np.zeros(len(prompts)), lengths, most)
    if workload.prompt.tolist() != lengths:
        raise ValueError("the workload's prompt lengths are not those of the prompts; give them in its order")
    return workload


def generate(
    model: Model,
    prompts: Sequence[Sequence[int]],
    policy: Policy,
    system: System,
    *,
    output: int | Sequence[int] = 64,
    workload: Workload | None = None,
    sampling: Sampling | None = None,
    backend: str | Operations = "reference",
    clock: WallClock | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Generation:
    """Serve prompts with a model under a policy.

    Args:
        model: configuration and weights.
        prompts: token ids of each.
        policy: the scheduler; what it is in the simulator.
        system: KV memory and limits, :func:`engine_system`.
        output: the most tokens of each text, or of all.
        workload: arrivals, clients and limits; by default all prompts arrive at once from one client.  Its prompt
            lengths must be those of the prompts, and its `output` is used.
        sampling: how tokens are chosen.
        backend: "reference" or "triton".
        clock: the machine's, by default.
        progress: called after each batch with (requests arrived, requests in all).

    Raises:
        ValueError: a prompt does not fit, or the workload is of other prompts.
        PolicyBreach: the policy asked for a batch that breaks a rule.
    """
    workload = offered(prompts, output, workload)
    engine = TorchEngine(model, system, len(prompts), sampling=sampling, backend=backend, clock=clock)
    for i, prompt in enumerate(prompts):
        engine.add(i, prompt, int(workload.output[i]))
    warm_up(policy, system)
    trace = serve(workload, system, policy, engine, progress=progress)
    texts = tuple(tuple(engine.text(i)) for i in range(len(prompts)))
    return Generation(texts, trace, np.array(engine.model_seconds), workload)


def warm_up(policy: Policy, system: System) -> None:
    """Compile the policy and the loop, so that the first batch does not wait for it."""
    serve(Workload([0.0], [1], [2]), system, policy, SimulatedEngine(lambda _: 1.0))


def single_thread() -> None:
    """Have torch compute on one thread: on a shared machine more of them wait for each other and take longer."""
    torch.set_num_threads(1)
