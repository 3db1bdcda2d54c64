"""Tandem's policies as the scheduler of vLLM 0.32: `--scheduler-cls gpu.adapters.vllm.PolicyScheduler`.

At each step the policy is asked on Tandem's books (:mod:`gpu.adapters.ledger`); vLLM's own `schedule()` then realises
the batch: victims are preempted before it, the planned requests come first in the queues it walks, the budget of the
step is the plan's sum, and no request gets more tokens than its plan says.  vLLM's KV cache manager stays the owner of
all blocks and may refuse: where it gives a prompt less than its plan, or preempts a request that no plan names, vLLM
itself schedules what runs until those requests are where the policy left them, and only then is the policy asked again.

The policy is named, as 'module:Class', by `additional_config={"tandem_policy": …, "tandem_parameters": {…}}` or by the
environment variables TANDEM_POLICY and TANDEM_PARAMETERS (JSON).  What a request announces comes in the `extra_args` of
its sampling parameters: `tandem_client`, `tandem_tbt` (s), `tandem_predicted` (tokens).  How long an output will be is
never read.

vLLM does not promise this interface from one minor version to the next, so the adapter is held to one, by number and by
the signatures of every method that it overrides or calls (:data:`SIGNATURES`).  In 0.33 `has_request` joins the
interface; the adapter has not been held against it.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import math
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gpu.adapters.ledger import Ledger, Plan
from queueing.models.iteration_time import Affine
from queueing.policy import Policy
from queueing.system import System

if TYPE_CHECKING:
    # Made when asked for, see __getattr__: this module can be imported where vLLM is not.
    PolicyScheduler: type[Any]
    AsyncPolicyScheduler: type[Any]

__all__ = [
    "REQUEST",
    "SIGNATURES",
    "VERSION",
    "AsyncPolicyScheduler",
    "PolicyMixin",
    "PolicyScheduler",
    "mismatches",
    "policy_of",
]

VERSION = "0.32"
SCHEDULERS = {  # ours -> (module of vLLM, its class)
    "PolicyScheduler": ("vllm.v1.core.sched.scheduler", "Scheduler"),
    "AsyncPolicyScheduler": ("vllm.v1.core.sched.async_scheduler", "AsyncScheduler"),
}
SIGNATURES = {  # overridden
    "schedule": ("self", "throttle_prefills"),
    "update_from_output": ("self", "scheduler_output", "model_runner_output"),
    "add_request": ("self", "request"),
    "_reserve_prefill_lookahead": ("self", "request", "num_computed_tokens", "num_new_tokens"),
    "_preempt_request": ("self", "request", "timestamp", "drop_stale_output"),
    "_free_request": ("self", "request", "delay_free_blocks"),
    # called
    "_handle_blocked_waiting_request": ("self", "request"),
}
QUEUE_SIGNATURES = {"prepend_request": ("self", "request"), "remove_request": ("self", "request")}
REQUEST = (  # attributes of a request that are read
    "arrival_time",
    "num_computed_tokens",
    "num_output_placeholders",
    "num_output_tokens",
    "num_prompt_tokens",
    "request_id",
    "resumable",
    "sampling_params",
)
NAP = 1e-3  # s: how soon a held engine notices an arrival

_log = logging.getLogger(__name__)


class _Surface:
    """What of vLLM's scheduler the mix-in touches."""

    if TYPE_CHECKING:
        vllm_config: Any
        scheduler_config: Any
        cache_config: Any
        kv_cache_config: Any
        parallel_config: Any
        connector: Any
        ec_connector: Any
        policy: Any
        is_encoder_decoder: bool
        has_mamba_layers: bool
        num_spec_tokens: int
        num_sampled_tokens_per_step: int
        block_size: int
        max_model_len: int
        max_num_active_reqs: int
        max_num_scheduled_tokens: int
        requests: dict[str, Any]
        running: list[Any]
        waiting: Any
        deferred_waiting: set[Any]
        prev_step_scheduled_req_ids: set[str]

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...
        def schedule(self, throttle_prefills: bool = False) -> Any: ...
        def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any: ...
        def add_request(self, request: Any) -> None: ...
        def _reserve_prefill_lookahead(
            self, request: Any, num_computed_tokens: int, num_new_tokens: int
        ) -> int: ...
        def _preempt_request(
            self, request: Any, timestamp: float, drop_stale_output: bool = False
        ) -> None: ...
        def _free_request(self, request: Any, delay_free_blocks: bool = False) -> Any: ...
        def _handle_blocked_waiting_request(self, request: Any) -> bool: ...


class PolicyMixin(_Surface):
    """Put before vLLM's Scheduler or AsyncScheduler, it lets a Tandem policy decide every step.

    Under AsyncScheduler a step is planned before the tokens of the one before are known: the policy then sees the
    tokens in flight as given, and the times of the last batch that has ended.

    Raises:
        ValueError: at construction, where vLLM is set up for what no Tandem policy can plan; in one sentence.
        PolicyBreach: the policy asked for a batch that breaks a rule of the serving loop.
    """

    tandem_policy: ClassVar[Policy | None] = None  # a subclass may set it; then nothing else is consulted
    tandem_python: ClassVar[bool] = False  # run the plain-Python twin of the compiled step

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for broken, sentence in self._tandem_obstacles():
            if broken:
                raise ValueError(sentence)
        system = self._tandem_system()
        policy = self.tandem_policy
        if policy is None:
            policy = _configured_policy(self.vllm_config.additional_config)
        self._ledger = Ledger(policy, system, python=self.tandem_python)
        self._row: dict[str, int] = {}
        self._by_row: dict[int, Any] = {}
        self._caps: dict[str, int] | None = (
            None  # tokens that each request may get in the step being scheduled
        )
        self._behind: dict[str, int] = {}  # tokens to compute until a request is where the policy left it
        self._evicting = False  # vLLM preempts now because the plan says so
        self._until = -math.inf  # the policy holds until then (s)
        self._in_flight: deque[tuple[float, tuple[int, ...], tuple[int, ...]]] = deque()
        self._ended = 0.0  # when the last batch ended (s)

    def _tandem_obstacles(self) -> list[tuple[bool, str]]:
        config = self.scheduler_config
        groups = len(self.kv_cache_config.kv_cache_groups)
        return [
            (
                self.policy.value != "fcfs",
                "Tandem orders the requests; leave vLLM's scheduling policy at fcfs",
            ),
            (not config.enable_chunked_prefill, "Tandem plans chunks of prompts; enable chunked prefill"),
            (
                config.long_prefill_token_threshold > 0,
                "Tandem plans the length of chunks; leave long_prefill_token_threshold at 0",
            ),
            (
                self.num_spec_tokens > 0,
                "a decode has one token under Tandem; switch speculative decoding off",
            ),
            (
                self.connector is not None or self.ec_connector is not None,
                "Tandem's books know no KV memory but this engine's; run vLLM without a KV or encoder connector",
            ),
            (
                self.parallel_config.pipeline_parallel_size > 1,
                "Tandem plans one batch at a time; run vLLM with pipeline_parallel_size=1",
            ),
            (
                groups != 1 or self.has_mamba_layers,
                f"Tandem's books know one kind of KV block and this model has {groups} or keeps Mamba state; "
                "serve a model whose layers all attend alike",
            ),
            (
                self.is_encoder_decoder or self.num_sampled_tokens_per_step != 1,
                "Tandem's policies plan for decoder-only models that generate text; serve one of those",
            ),
        ]

    def _tandem_system(self) -> System:
        blocks = int(self.cache_config.num_gpu_blocks) - 1  # vLLM keeps one as the null block
        system = System(
            Affine(base=1.0, per_token=0.0),
            blocks,
            block_size=self.block_size,
            max_length=self.max_model_len,
            max_running=self.max_num_active_reqs,
            max_batch_tokens=self.max_num_scheduled_tokens,
            watermark=self.scheduler_config.watermark,
            name="vLLM",
        )
        longest = -(-self.max_model_len // self.block_size) + system.watermark_blocks
        if longest > blocks:
            raise ValueError(
                f"a request of max_model_len={self.max_model_len} needs {longest} KV blocks with those that admission "
                f"leaves free, and there are {blocks}; lower max_model_len or give the KV cache more memory"
            )
        return system

    def _tandem_now(self) -> float:
        """The clock of the books (s): the one by which vLLM notes arrivals."""
        return time.time()

    def _tandem_rest(self, until: float) -> None:
        """Let time pass while the policy holds, and return before an arrival has waited long."""
        time.sleep(min(max(until - self._tandem_now(), 0.0), NAP))

    # -- who is there

    def add_request(self, request: Any) -> None:
        """Queue a request; it is shown to the policy at the next step, or once vLLM could start it."""
        if request.resumable:
            _log.warning("request %s streams its input; Tandem serves what it holds now", request.request_id)
            request.resumable = False
        super().add_request(request)
        if request not in self.deferred_waiting:
            self._enter(request)

    def _enter(self, request: Any) -> None:
        announced = _announced(request)
        row = self._ledger.arrive(
            min(request.arrival_time, self._tandem_now()), request.num_prompt_tokens, **announced
        )
        self._row[request.request_id] = row
        self._by_row[row] = request
        self._until = -math.inf

    def _free_request(self, request: Any, delay_free_blocks: bool = False) -> Any:
        row = self._row.pop(request.request_id, None)
        if row is not None:
            del self._by_row[row]
            self._behind.pop(request.request_id, None)
            self._observe([(row, request)])
            self._ledger.leave(row)
            self._until = -math.inf
        return super()._free_request(request, delay_free_blocks)

    def _preempt_request(self, request: Any, timestamp: float, drop_stale_output: bool = False) -> None:
        if not self._evicting and request.request_id in self._row:
            reached = max(request.num_computed_tokens, self._behind.get(request.request_id, 0))
            self._behind[request.request_id] = reached
        super()._preempt_request(request, timestamp, drop_stale_output)

    def _observe(self, known: list[tuple[int, Any]]) -> None:
        if known:
            rows, context, decoded = zip(
                *(
                    (row, r.num_computed_tokens, r.num_output_tokens + r.num_output_placeholders)
                    for row, r in known
                ),
                strict=True,
            )
            self._ledger.observe(np.array(rows), np.array(context), np.array(decoded))

    # -- one step

    def schedule(self, throttle_prefills: bool = False) -> Any:
        """Ask the policy, and let vLLM schedule its batch and nothing else."""
        now = self._tandem_now()
        for request in list(self.deferred_waiting):
            if request.request_id not in self._row and self._handle_blocked_waiting_request(request):
                self._enter(request)
        self._observe([(row, self._by_row[row]) for row in self._ledger.running.tolist()])
        prompts: dict[str, int] = {}
        budget = self.max_num_scheduled_tokens
        if self._behind:
            self._caps = self._recover()
        else:
            plan = self._plan(now)
            self._caps = {} if plan is None else self._prepare(plan)
            prompts = {
                name: self._computed(name) + tokens
                for name, tokens in self._caps.items()
                if not self._ledger.decoding(self._row[name])
            }
            self.max_num_scheduled_tokens = sum(self._caps.values())
        order = list(self._caps)
        try:
            output = super().schedule(throttle_prefills)
        finally:
            self._caps, self.max_num_scheduled_tokens = None, budget
        self._behind = {n: q for n, q in (self._behind | prompts).items() if self._computed(n) < q}
        given: Mapping[str, int] = output.num_scheduled_tokens
        if given:
            served = [name for name in order if name in given]
            rows = tuple(self._row[name] for name in served)
            self._in_flight.append((now, rows, tuple(given[name] for name in served)))
        return output

    def _computed(self, name: str) -> int:
        return int(self._by_row[self._row[name]].num_computed_tokens)

    def _plan(self, now: float) -> Plan | None:
        if now < self._until:
            self._tandem_rest(self._until)
            return None
        answer = self._ledger.ask(now)
        if answer is None or isinstance(answer, Plan):
            return answer
        self._until = answer
        self._tandem_rest(answer)
        return None

    def _prepare(self, plan: Plan) -> dict[str, int]:
        """Preempt the plan's victims and put its requests first where vLLM looks; return the tokens of each."""
        self._evicting = True
        for row in plan.victims:
            victim = self._by_row[row]
            self.running.remove(victim)
            self._preempt_request(victim, time.monotonic())
            # as when vLLM resumes a request in the step that preempted it
            self.prev_step_scheduled_req_ids.discard(victim.request_id)
        self._evicting = False
        self._put_first(plan.requests)
        return {self._by_row[row].request_id: q for row, q in zip(plan.requests, plan.tokens, strict=True)}

    def _recover(self) -> dict[str, int]:
        """Let vLLM go on with what runs and resume who is behind; return the most tokens that each may get."""
        rows = sorted({self._row[r.request_id] for r in self.running} | {self._row[n] for n in self._behind})
        self._put_first(rows)
        return {self._by_row[row].request_id: self.max_num_scheduled_tokens for row in rows}

    def _put_first(self, rows: Sequence[int]) -> None:
        """Order what runs by `rows`, then by arrival, and move those of `rows` that wait to the front of the queue."""
        place = {row: k for k, row in enumerate(rows)}
        last = len(place)

        def order(request: Any) -> tuple[int, int]:
            row = self._row[request.request_id]
            return place.get(row, last), row

        self.running = sorted(self.running, key=order)
        here = {request.request_id for request in self.running}
        for row in reversed(rows):
            request = self._by_row[row]
            if request.request_id not in here:
                self.waiting.remove_request(request)
                self.waiting.prepend_request(request)

    def _reserve_prefill_lookahead(self, request: Any, num_computed_tokens: int, num_new_tokens: int) -> int:
        allowed = super()._reserve_prefill_lookahead(request, num_computed_tokens, num_new_tokens)
        return allowed if self._caps is None else min(allowed, self._caps.get(request.request_id, 0))

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        """Let vLLM credit the tokens of a step, and enter what it gave to whom, and when."""
        before: list[tuple[int, Any, int]] = []
        batch = None
        if scheduler_output.num_scheduled_tokens:
            batch = self._in_flight.popleft()
            before = [
                (row, request, request.num_output_tokens)
                for row in batch[1]
                if (request := self._by_row.get(row)) is not None
            ]
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        if batch is not None:
            planned, rows, tokens = batch
            now = self._tandem_now()
            self._ledger.emit(np.array([r for r, q, n in before if q.num_output_tokens > n], np.int64), now)
            self._ledger.end(rows, tokens, max(now - max(planned, self._ended), 1e-9))
            self._ended = now
            self._until = -math.inf  # a step planned ahead may have held; things are different now
        return outputs


# -- what is configured and announced


def policy_of(path: str, parameters: Mapping[str, Any] | None = None) -> Policy:
    """The policy called 'module:Class', with parameters by name; members of an enumeration are given by theirs.

    Raises:
        ValueError: there is no such policy, or it does not take the parameters; in one sentence.

    Example:
        >>> policy_of("policies:Slai", {"token_budget": 256, "order": "FIFO"}).name
        'Slai(token_budget=256, order=FIFO)'
    """
    module, colon, name = path.partition(":")
    if not colon:
        raise ValueError(f"a policy is named 'module:Class', such as 'policies:Slai', not {path!r}")
    try:
        cls: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as problem:
        raise ValueError(f"there is no policy {path!r}: {problem}") from None
    if not (isinstance(cls, type) and issubclass(cls, Policy)):
        raise ValueError(f"{path} is no policy class; name a subclass of queueing.policy.Policy")
    settings = dict(parameters or {})
    defaults = {field.name: field.default for field in getattr(cls, "__dataclass_fields__", {}).values()}
    for key, value in settings.items():
        kind = type(defaults.get(key))
        if issubclass(kind, Enum) and isinstance(value, str):
            if value.upper() not in kind.__members__:
                raise ValueError(f"{key} of {name} is one of {', '.join(kind.__members__)}, not {value!r}")
            settings[key] = kind[value.upper()]
        elif isinstance(value, list):
            settings[key] = tuple(value)
    try:
        return cls(**settings)
    except TypeError as problem:
        raise ValueError(f"{path} does not take these parameters: {problem}") from None


def _configured_policy(additional: Any) -> Policy:
    config: Mapping[str, Any] = additional if isinstance(additional, Mapping) else {}
    if "tandem_policy" in config:
        return policy_of(config["tandem_policy"], config.get("tandem_parameters"))
    if "TANDEM_POLICY" not in os.environ:
        raise ValueError(
            'no policy is named; give additional_config={"tandem_policy": "policies:Slai"} or set TANDEM_POLICY'
        )
    text = os.environ.get("TANDEM_PARAMETERS", "{}")
    try:
        parameters = json.loads(text)
    except json.JSONDecodeError as problem:
        raise ValueError(f"TANDEM_PARAMETERS is not JSON: {problem}") from None
    if not isinstance(parameters, dict):
        raise ValueError(f"TANDEM_PARAMETERS is a JSON object of parameters by name, not {text}")
    return policy_of(os.environ["TANDEM_POLICY"], parameters)


def _announced(request: Any) -> dict[str, Any]:
    """Client, limit and prediction of a request; what cannot be used is logged and left out."""
    given = getattr(request.sampling_params, "extra_args", None) or {}
    found: dict[str, Any] = {}
    for name, usable in _USABLE.items():
        value = given.get(f"tandem_{name}")
        if value is None:
            continue
        if usable(value):
            found[name] = value
        else:
            _log.warning("request %s has tandem_%s=%r; it is ignored", request.request_id, name, value)
    return found


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_USABLE = {
    "client": lambda value: isinstance(value, str | int),
    "tbt": lambda value: _number(value) and value > 0,
    "predicted": lambda value: _number(value) and isinstance(value, int) and 1 <= value <= 10**9,
}


# -- vLLM itself


def mismatches(scheduler: type[Any], queue: type[Any] | None = None) -> list[str]:
    """Methods whose parameters are not those of the version that the adapter is written for, in words."""
    found: list[str] = []
    for cls, table in ((scheduler, SIGNATURES), (queue, QUEUE_SIGNATURES)):
        for name, expected in table.items() if cls is not None else ():
            method = getattr(cls, name, None)
            actual = None if method is None else tuple(inspect.signature(method).parameters)
            if actual != expected:
                found.append(f"{name} takes {actual}, not {expected}" if actual else f"{name} is gone")
    return found


def _scheduler(name: str) -> type[Any]:
    try:
        vllm: Any = importlib.import_module("vllm")
    except ImportError as problem:
        raise ImportError(
            f"{name} schedules for vLLM {VERSION}, which cannot be imported ({problem}); install it"
        ) from None
    installed = str(getattr(vllm, "__version__", "of unknown version"))
    if installed.split(".")[:2] != VERSION.split("."):
        raise ImportError(f"{name} is written for vLLM {VERSION} and finds {installed}; install {VERSION}.*")
    module, base_name = SCHEDULERS[name]
    base = getattr(importlib.import_module(module), base_name)
    queue: Any = importlib.import_module("vllm.v1.core.sched.request_queue")
    if wrong := mismatches(base, queue.FCFSRequestQueue):
        raise ImportError(f"{name} does not fit vLLM {installed}: {'; '.join(wrong)}")
    return type(name, (PolicyMixin, base), {"__module__": __name__, "__doc__": PolicyMixin.__doc__})


def __getattr__(name: str) -> Any:
    if name not in SCHEDULERS:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    globals()[name] = made = _scheduler(name)
    return made
