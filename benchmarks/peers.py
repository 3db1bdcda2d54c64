"""RAD's tile model as a program for pyserq, an independent simulator of serving systems (serQ, Apache-2.0, in Rust).

b = 128 tokens a tile, 4000 microseconds a tile and 5 a token; prompts 128 U{1..8}, outputs min(1 + floor(Exp(200)),
512).  RAD with N = inf: prefill while fewer than 128 requests decode and a prompt is unfinished, else decode.  pyserq
counts in microseconds and wants its declarations inside `fn main() { }`.
"""

import json
from typing import Any, NamedTuple

import numpy as np

from queueing.workload import Workload

DECODE_MODE = "running.decoding >= 128 || running.decoding == running.count ? decoding : !decoding"
DEPLOYMENT = f"""
fn main() {{
  device gpu {{ }}
  engine E on gpu {{
    tokens cap 128;
    scheduler {{
      advance running only ({DECODE_MODE}) each at most (128);
      admit waiting only ({DECODE_MODE}) while (running.preempted == 0) each at most (128);
    }}
    worker {{ forward (4000 * ceil(batch.tokens / 128) + 5 * batch.tokens); }}
  }}
  server (prompt, output) {{ E (prompt, output); }}
}}
"""


def offered(rate: float) -> str:
    """The workload at `rate` requests per second, which also reports the lengths it draws."""
    return f"""
workload {{
  arrive poisson({rate * 1e-6:.12f});
  init {{
    set prompt = 128 * floor(~uniform(1, 9)); set output = min(floor(~exp(200)) + 1, 512);
    observe prompts = prompt; observe outputs = output;
  }}
  send (prompt, output);
}}
"""


def rad_instance(n: int, rate: float, rng: np.random.Generator) -> Workload:
    """`n` requests of the same law, drawn here."""
    return Workload(
        np.cumsum(rng.exponential(1 / rate, n)),
        128 * rng.integers(1, 9, n),
        np.minimum(1 + np.floor(rng.exponential(200, n)), 512).astype(int),
    )


class Peer(NamedTuple):
    """What pyserq found, and the requests it drew."""

    workload: Workload
    horizon: float  # s
    iterations: int
    mean_decode_batch: float  # over batches of decodes
    prefill_share: float  # share of the time in batches of prompts
    finished: int
    ttft: float  # mean over requests that got a first token (s)
    e2e: float  # mean over finished requests (s)
    tbt: float  # mean gap (s)


def program(rate: float, horizon: float, seed: int) -> Any:
    """The compiled pyserq program for `horizon` seconds at `rate` requests per second."""
    import pyserq  # optional: extra `peers`

    return pyserq.compile(source=DEPLOYMENT, workload_source=offered(rate), seed=seed, horizon=horizon * 1e6)


def pyserq_only(compiled: Any) -> Any:
    """Run a compiled program and look at nothing."""
    import pyserq

    return pyserq.run(compiled)


def run_pyserq(compiled: Any, horizon: float) -> Peer:
    """Run a compiled program and read its report in seconds."""
    import pyserq

    report = pyserq.run(compiled)
    prompts, outputs = report.observe("prompts"), report.observe("outputs")
    workload = Workload(
        np.array(prompts.times) * 1e-6,
        np.array(prompts.samples).astype(int),
        np.array(outputs.samples).astype(int),
    )
    found = json.loads(report.json())
    stage, client = found["stages"][0], found["client"]
    return Peer(
        workload, horizon, stage["iterations"], stage["mean_decode_batch"], stage["prefill_only"],
        client["response"]["count"], client["ttft"]["mean"] * 1e-6, client["response"]["mean"] * 1e-6,
        stage["mean_itl"] * 1e-6,
    )  # fmt: skip
