"""A double of vLLM's scheduler, a virtual clock, and the engine loop that drives either the double or vLLM itself.

`FakeScheduler` is the part of vLLM's scheduler that the mix-in touches, written from its description: it walks the
running requests, then the waiting queue, asks the hook how many tokens each may get, and preempts the last running one
where no KV block is free.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpu.adapters.vllm import PolicyMixin
from queueing.policy import Policy
from queueing.serving import SimulatedEngine, serve
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload
from tests.laws import LAW

MAX_LENGTH = 96


class Queue(deque[Any]):
    """vLLM's waiting queue under fcfs."""

    def prepend_request(self, request: Request) -> None:
        self.appendleft(request)

    def remove_request(self, request: Request) -> None:
        self.remove(request)


@dataclass(eq=False)
class Request:
    """What the mix-in and the walk below read of a request; `output` is known to the model alone."""

    request_id: str
    arrival_time: float
    num_prompt_tokens: int
    output: int
    sampling_params: Any
    num_computed_tokens: int = 0
    num_output_tokens: int = 0
    num_output_placeholders: int = 0
    resumable: bool = False
    blocked: bool = False

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_output_tokens


@dataclass
class Output:
    """The step as vLLM hands it to the model."""

    num_scheduled_tokens: dict[str, int]


class FakeScheduler:
    """The walk of vLLM's schedule(), on a KV memory of so many blocks."""

    def __init__(self, system: System, **unlike: Any) -> None:
        self.vllm_config = types.SimpleNamespace(additional_config={})
        self.scheduler_config = types.SimpleNamespace(
            enable_chunked_prefill=True,
            long_prefill_token_threshold=0,
            watermark=system.watermark,
            max_num_batched_tokens=system.max_batch_tokens,
        )
        self.cache_config = types.SimpleNamespace(num_gpu_blocks=system.blocks + 1)
        self.kv_cache_config = types.SimpleNamespace(kv_cache_groups=["attention"])
        self.parallel_config = types.SimpleNamespace(pipeline_parallel_size=1)
        self.policy = types.SimpleNamespace(value="fcfs")
        self.connector = self.ec_connector = None
        self.is_encoder_decoder = self.has_mamba_layers = False
        self.num_spec_tokens, self.num_sampled_tokens_per_step = 0, 1
        self.block_size, self.max_model_len = system.block_size, system.max_length
        self.max_num_active_reqs = system.max_running
        self.max_num_scheduled_tokens = system.max_batch_tokens
        self.requests: dict[str, Request] = {}
        self.running: list[Request] = []
        self.waiting = Queue()
        self.deferred_waiting: set[Request] = set()
        self.prev_step_scheduled_req_ids: set[str] = set()
        self.held: dict[str, int] = {}
        self.free_blocks = system.blocks
        self.refuse: Callable[[Request], bool] = lambda request: False
        self.refused = self.budget = 0
        self._preempted: list[str] = []
        for name, value in unlike.items():
            setattr(self, name, value)

    def add_request(self, request: Request) -> None:
        self.requests[request.request_id] = request
        self.waiting.append(request)
        if request.blocked:
            self.deferred_waiting.add(request)

    def _handle_blocked_waiting_request(self, request: Request) -> bool:
        return not request.blocked

    def _reserve_prefill_lookahead(
        self, request: Request, num_computed_tokens: int, num_new_tokens: int
    ) -> int:
        return num_new_tokens

    def _allocate(self, request: Request, tokens: int) -> bool:
        need = -(-(request.num_computed_tokens + tokens) // self.block_size)
        more = max(need - self.held.get(request.request_id, 0), 0)
        if more > self.free_blocks or self.refuse(request):
            self.refused += 1
            return False
        self.free_blocks -= more
        self.held[request.request_id] = self.held.get(request.request_id, 0) + more
        return True

    def _preempt_request(self, request: Request, timestamp: float, drop_stale_output: bool = False) -> None:
        self.free_blocks += self.held.pop(request.request_id, 0)
        request.num_computed_tokens = 0
        self._preempted.append(request.request_id)
        self.waiting.prepend_request(request)

    def _free_request(self, request: Request, delay_free_blocks: bool = False) -> None:
        self.free_blocks += self.held.pop(request.request_id, 0)
        del self.requests[request.request_id]

    def abort(self, request_id: str) -> None:
        request = self.requests[request_id]
        (self.running if request in self.running else self.waiting).remove(request)
        self.deferred_waiting.discard(request)
        self._free_request(request)

    def schedule(self, throttle_prefills: bool = False) -> Output:
        budget = self.budget = self.max_num_scheduled_tokens
        given: dict[str, int] = {}
        before, k = len(self._preempted), 0
        while k < len(self.running) and budget > 0:
            request = self.running[k]
            wanted = min(request.num_tokens - request.num_computed_tokens, budget)
            tokens = self._reserve_prefill_lookahead(request, request.num_computed_tokens, wanted)
            if tokens == 0:
                k += 1
                continue
            allowed = self._allocate(request, tokens)
            while not allowed:
                victim = self.running.pop()
                self._preempt_request(victim, 0.0)
                if victim is request:
                    break
                allowed = self._allocate(request, tokens)
            if not allowed:
                break
            given[request.request_id] = tokens
            budget -= tokens
            k += 1
        for request in [r for r in self.waiting if not r.blocked] if len(self._preempted) == before else []:
            if budget == 0 or len(self.running) >= self.max_num_active_reqs:
                break
            tokens = self._reserve_prefill_lookahead(request, 0, min(request.num_tokens, budget))
            if tokens == 0 or not self._allocate(request, tokens):
                break
            self.waiting.remove(request)
            self.deferred_waiting.discard(request)
            self.running.append(request)
            given[request.request_id] = tokens
            budget -= tokens
        assert sum(given.values()) <= self.max_num_scheduled_tokens
        for request_id, tokens in given.items():
            self.requests[request_id].num_computed_tokens += tokens
        self._preempted.clear()
        return Output(given)

    def update_from_output(self, scheduler_output: Output, model_runner_output: Any) -> None:
        for request_id in scheduler_output.num_scheduled_tokens:
            request = self.requests[request_id]
            if request.num_computed_tokens == request.num_tokens:
                request.num_output_tokens += 1
                if request.num_output_tokens == request.output:
                    self.running.remove(request)
                    self._free_request(request)


class Virtual:
    """A virtual clock under the mix-in, and the preemptions of a step in order; `coming`: the next arrival (s)."""

    tandem_python = True

    def __init__(self, policy: Policy | None, /, *args: Any, **kwargs: Any) -> None:
        self.tandem_policy = policy
        self.now, self.coming = 0.0, np.inf
        self.preempted: list[str] = []
        super().__init__(*args, **kwargs)

    def _tandem_now(self) -> float:
        return self.now

    def _tandem_rest(self, until: float) -> None:
        self.now = max(self.now, min(until, self.coming))

    def _preempt_request(self, request: Any, timestamp: float, drop_stale_output: bool = False) -> None:
        self.preempted.append(request.request_id)
        super()._preempt_request(request, timestamp, drop_stale_output)


class Scheduler(Virtual, PolicyMixin, FakeScheduler):
    """vLLM's fake under a policy and a virtual clock."""

    def request_of(self, workload: Workload, i: int) -> Request:
        return Request(
            str(i),
            float(workload.arrival[i]),
            int(workload.prompt[i]),
            int(workload.output[i]),
            types.SimpleNamespace(extra_args=announced(workload, i)),
        )

    def answer(self, output: Any) -> Any:
        """What the model returns for a step."""
        return None


class Blind(Scheduler):
    """Control: the plan's order and budget are taken, its tokens per request are not."""

    def _reserve_prefill_lookahead(self, request: Any, num_computed_tokens: int, num_new_tokens: int) -> int:
        return num_new_tokens


def system_of(blocks: int, block_size: int, **limits: Any) -> System:
    return System(LAW, blocks=blocks, block_size=block_size, max_length=MAX_LENGTH, **limits)


def announced(workload: Workload, i: int) -> dict[str, Any]:
    extra: dict[str, Any] = {"tandem_client": int(workload.client[i]), "tandem_tbt": float(workload.tbt[i])}
    if workload.predicted is not None:
        extra["tandem_predicted"] = int(workload.predicted[i])
    return extra


@dataclass
class Log:
    """Decisions of a run: per batch its start (s) and, in order, (request, tokens), victims first with 0 tokens.

    `in_order`: vLLM itself served them in that order, and had no tokens to give beyond.
    """

    start: list[float] = field(default_factory=list)
    entries: list[list[tuple[int, int]]] = field(default_factory=list)
    in_order: bool = True


def expected(trace: Trace) -> Log:
    assert trace.entries is not None
    pairs = list(zip(trace.entries["request"].tolist(), trace.entries["tokens"].tolist(), strict=True))
    ends = np.cumsum(trace.iterations["entries"]).tolist()
    starts = [0, *ends[:-1]]
    return Log(trace.iterations["start"].tolist(), [pairs[a:b] for a, b in zip(starts, ends, strict=True)])


def drive(
    scheduler: Scheduler, workload: Workload, seconds: Callable[[int], float], steps: int = 10_000
) -> Log:
    """Serve a workload as vLLM's engine loop does, batch k taking `seconds(k)`."""
    log, following, n = Log(), 0, len(workload)
    for _ in range(steps):
        while following < n and workload.arrival[following] <= scheduler.now:
            scheduler.add_request(scheduler.request_of(workload, following))
            following += 1
        scheduler.coming = float(workload.arrival[following]) if following < n else np.inf
        if not scheduler.requests:
            if following == n:
                return log
            scheduler.now = scheduler.coming
            continue
        start, scheduler.preempted = scheduler.now, []
        ran = {request.request_id for request in scheduler.running}
        output = scheduler.schedule()
        given = output.num_scheduled_tokens
        if given:
            batch = scheduler._in_flight[-1]  # in the order of the plan
            planned = [str(row) for row in batch[1]]
            ran -= set(scheduler.preempted)
            # vLLM serves what runs first, and both lists in the order of the plan
            log.in_order &= list(given) == sorted(planned, key=lambda name: name not in ran)
            log.in_order &= getattr(scheduler, "budget", sum(batch[2])) == sum(batch[2])
            log.start.append(start)
            log.entries.append(
                [(int(r), 0) for r in scheduler.preempted] + list(zip(batch[1], batch[2], strict=True))
            )
            scheduler.now = start + seconds(len(log.start) - 1)
        scheduler.update_from_output(output, scheduler.answer(output))
    raise AssertionError(f"not done after {steps} steps")


def renumbered(workload: Workload) -> Workload:
    """Clients in order of appearance, and times that add up without rounding."""
    _, first, client = np.unique(workload.client, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    arrival = np.round(workload.arrival * 2**20) / 2**20
    columns = (
        workload.prompt,
        workload.output,
        rank[client],
        workload.tbt,
        workload.ttft,
        workload.predicted,
    )
    return Workload(arrival, *columns)


def reference(workload: Workload, system: System, policy: Policy) -> tuple[Trace, Log]:
    trace = serve(workload, system, policy, SimulatedEngine(LAW), python=True)
    return trace, expected(trace)
