"""A tiny random model in vLLM on this CPU: `run_vllm.py DIRECTORY SCHEDULER POLICY` writes what came of it as JSON.

A process of its own, because vLLM looks through every module that is loaded.  SCHEDULER is a class of
:mod:`gpu.adapters.vllm`, or "Scheduler" for vLLM's own.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any

import numpy as np


def main(directory: str, name: str, policy: str) -> dict[str, Any]:
    """Serve 16 prompts in a KV memory that does not hold all of them."""
    vllm: Any = importlib.import_module("vllm")
    draw = np.random.default_rng(0)
    prompts = [{"prompt_token_ids": draw.integers(3, 512, n).tolist()} for n in draw.integers(5, 300, 16)]
    params = [
        vllm.SamplingParams(
            temperature=0,
            max_tokens=int(m),
            ignore_eos=True,
            detokenize=False,
            extra_args={"tandem_client": k % 3},
        )
        for k, m in enumerate(draw.integers(40, 120, 16))
    ]
    own = {} if not name.endswith("PolicyScheduler") else {"scheduler_cls": f"gpu.adapters.vllm.{name}"}
    model = vllm.LLM(
        model=directory,
        load_format="dummy",
        dtype="float32",
        skip_tokenizer_init=True,
        enforce_eager=True,
        max_model_len=512,
        max_num_seqs=8,
        max_num_batched_tokens=512,
        enable_prefix_caching=False,
        num_gpu_blocks_override=13,
        seed=0,
        async_scheduling=False,
        additional_config={"tandem_policy": policy, "tandem_parameters": {"token_budget": 64}} if own else {},
        **own,
    )
    start = time.perf_counter()
    outputs = model.generate(prompts, params, use_tqdm=False)
    seconds = time.perf_counter() - start
    scheduler = model.llm_engine.engine_core.engine_core.scheduler
    made = {
        "text": [list(output.outputs[0].token_ids) for output in outputs],
        "scheduler": type(scheduler).__name__,
        "seconds": seconds,
    }
    if own:
        ledger = scheduler._ledger
        made["policy"] = ledger.run.policy.name
        made["batches"] = int(ledger.run.tables["nodes"]["iterations"][0])
        made["preemptions"] = int(ledger.run.tables["requests"]["preemptions"].sum())
    return made


if __name__ == "__main__":
    made = json.dumps(main(*sys.argv[1:]))
    sys.stdout.write(f"\nMADE {made}\n")
