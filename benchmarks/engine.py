"""Anchors of the engine on one GPU: iterations of Mistral-7B with random weights, beside the data sheet's floor.

    python benchmarks/engine.py --json             needs a GPU of 24 GB or more, and the extra `gpu`
    python benchmarks/engine.py --tiny             the same script on a tiny model and the CPU, to see that it runs

A floor is bytes over bandwidth or FLOPs over peak, whichever is longer; the share of the floor is what is judged, since
it does not depend on the card.  The matrix product is also timed beside torch's, and decode attention beside the
bandwidth, on the same card in the same run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

TARGETS = {  # ms on one H100 that are good for a first version, docs/hardware
    "decode 1 x 1024": 7.0,
    "decode 64 x 1024": 12.0,
    "decode 256 x 1024": 22.0,
    "64 decodes at 1024 + 448 prompt tokens": 18.0,
    "prompt of 2048 in one chunk": 55.0,
}


def timed(call: Callable[[], Any], wait: Callable[[], None], repeats: int) -> float:
    """Median seconds of a call, after three that are not counted."""
    seconds: list[float] = []
    for k in range(repeats + 3):
        wait()
        began = time.perf_counter()
        call()
        wait()
        if k >= 3:
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def floor(config: Any, hardware: Any, mix: Any, dtype_bytes: int) -> float:
    """Seconds below which no iteration of this mix can be: weights and KV once from memory, or FLOPs at the peak."""
    shape = config.shape("model", dtype_bytes)
    weights = (config.layers * shape.layer_weights + config.vocab * config.hidden) * dtype_bytes
    kv = shape.kv_bytes_per_token * (mix.load.context + sum(h + q for q, h in mix.chunks))
    flops = shape.flops_per_token * mix.tokens + shape.flops_per_pair * (mix.load.context + mix.pairs)
    flops += 2 * config.vocab * config.hidden * (len(mix.contexts) + len(mix.chunks))
    return max((weights + kv) / hardware.bandwidth, flops / hardware.flops)


def decisions() -> dict[str, float]:
    """Median microseconds from the end of a batch to the next checked plan, at 128 running requests, by policy."""
    from policies import Rad, Sarathi, Slai, Vllm, Vtc
    from queueing.models.iteration_time import Affine
    from queueing.serving import Done, Server, Work
    from queueing.system import System
    from queueing.workload import Workload

    running = 128
    workload = Workload(np.zeros(running), [16] * running, [300] * running, np.arange(running) % 8,
                        predicted=[300] * running)  # fmt: skip
    system = System(Affine(0.01, 0.0), 10_000, max_running=running)
    found: dict[str, float] = {}
    for policy in (Sarathi(), Vllm(), Slai(), Rad(), Vtc()):
        server = Server(workload, system, policy)
        seconds: list[float] = []
        while True:
            began = time.perf_counter()
            work = server.plan()
            took = time.perf_counter() - began
            if work is None:
                break
            if isinstance(work, Work):
                if work.load.decodes > running // 2:
                    seconds.append(took)
                server.commit(Done(0.01))
        found[policy.name] = 1e6 * statistics.median(seconds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--tiny", action="store_true", help="a tiny model on the CPU")
    parser.add_argument("--repeats", type=int, default=20)
    asked = parser.parse_args()
    import torch

    from gpu.backend import operations
    from gpu.calibrate import Mix, measure
    from gpu.config import ModelConfig
    from gpu.engine import TorchEngine, engine_system
    from gpu.loader import random_model
    from queueing.hardware import HARDWARE

    if not asked.tiny and not torch.cuda.is_available():
        sys.exit("there is no GPU here; run with --tiny to see that the script works")
    config = ModelConfig(
        architecture="MistralForCausalLM", layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128,
        intermediate=14336, vocab=32000, norm_epsilon=1e-5, rope_theta=1e6, window=None, tied=False,
        max_length=4096, dtype="bfloat16", eos=(),
    )  # fmt: skip
    device, backend, dtype, scale = "cuda", "triton", torch.bfloat16, 1
    hardware = HARDWARE["h100"]
    name = "tiny"
    if asked.tiny:
        config = dataclasses.replace(config, layers=2, hidden=64, heads=4, kv_heads=1, head_dim=16, intermediate=96,
                                     vocab=100, dtype="float32")  # fmt: skip
        device, backend, dtype, scale = "cpu", "reference", torch.float32, 16
    else:
        name = torch.cuda.get_device_name()
        known = [key for key in HARDWARE if key.replace("-", " ") in name.lower().replace("-", " ")]
        if not known:
            print(f"no data sheet of {name} is known; floors are those of {hardware.name}", file=sys.stderr)
        else:
            hardware = HARDWARE[known[0]]
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    model = random_model(config, 0, dtype=dtype, device=device)
    blocks = 256 * 70 // scale + 300
    engine = TorchEngine(model, engine_system(config, blocks=blocks, max_running=260), 260, backend=backend)
    engine.clock.start(0.0)
    context = 1023 // scale
    mixes = {
        "decode 1 x 1024": Mix((context,), ()),
        "decode 64 x 1024": Mix((context,) * 64, ()),
        "decode 256 x 1024": Mix((context,) * (256 // scale), ()),
        "64 decodes at 1024 + 448 prompt tokens": Mix((context,) * 64, ((448 // scale, 0),)),
        "prompt of 2048 in one chunk": Mix((), ((2048 // scale, 0),)),
    }
    rows: list[dict[str, Any]] = []
    for label, mix in mixes.items():
        seconds = statistics.median(measure(engine, mix) for _ in range(asked.repeats + 3))
        least = floor(config, hardware, mix, dtype.itemsize)
        rows.append(
            {"iteration": label, "ms": 1e3 * seconds, "floor_ms": 1e3 * least, "share_of_floor": least / seconds,
             "target_ms_h100": TARGETS[label]}
        )  # fmt: skip
    ratios: dict[str, float] = {}
    kernels = operations(backend)
    x = torch.randn(1024 // scale, config.hidden, dtype=dtype, device=device)
    weight = model.weights.layers[0].gate_up
    ours = timed(lambda: kernels.matmul(x, weight), wait, asked.repeats)
    ratios["matrix product, 1024 rows: torch's time over ours"] = (
        timed(lambda: torch.nn.functional.linear(x, weight), wait, asked.repeats) / ours
    )
    keys, values = engine.cache.keys[0], engine.cache.values[0]
    size = engine.cache.block_size
    per = -(-(context + 1) // size)
    tables = torch.from_numpy(
        np.random.default_rng(0).permutation(64 * per).reshape(64, per).astype(np.int32)
    ).to(device)
    q = torch.randn(64, config.heads, config.head_dim, dtype=dtype, device=device)
    lengths = torch.full((64,), context + 1, dtype=torch.int32, device=device)
    ours = timed(
        lambda: kernels.decode_attention(q, keys, values, lengths, tables, None), wait, asked.repeats
    )
    moved = 64 * (context + 1) * 2 * config.kv_heads * config.head_dim * dtype.itemsize
    ratios["decode attention, 64 x 1024: share of bandwidth"] = moved / hardware.bandwidth / ours
    plans = decisions()
    result = {
        "decision_us": plans,
        "device": name,
        "floors_of": hardware.name,
        "torch": torch.__version__,
        "rows": rows,
        "ratios": ratios,
    }
    if asked.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{name}; floors of {hardware.name}")
    for row in rows:
        print(
            f"{row['iteration']:42} {row['ms']:8.2f} ms   floor {row['floor_ms']:7.2f} ms   "
            f"{row['share_of_floor']:6.1%}   target on an H100 {row['target_ms_h100']:.0f} ms"
        )
    for policy, microseconds in plans.items():
        print(f"{policy + ': a decision at 128 running':60} {microseconds:.1f} us")
    for label, value in ratios.items():
        print(f"{label:60} {value:.2f}")


if __name__ == "__main__":
    main()
