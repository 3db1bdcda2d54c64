"""Theory against hardware: this CPU as the accelerator, a real model and real text, five schedulers, simulated and run.

SmolLM2-135M in float32 on one thread serves prompts cut from the documentation of Python's standard library, with
Poisson arrivals.  Batches of every kind are timed, a law is fitted to one half of them and judged on the other.  Each
policy serves the same requests for real, and in the simulator under that law; TTFT and gaps between tokens of both are
laid side by side, and each real run is replayed, decision by decision.  A machine that others use drifts by a tenth or
two within minutes; so batches are timed before and after each run, and its law is fitted to these two rounds.

Verdicts compare the simulator's figure (ours) with the measured one (published) at the limits the project set itself:
15 % for medians, 25 % for the 99th percentiles, 12 % for the mean error of iteration times.  The interval is what the
simulator gives when the law is stretched and shrunk by its held-out mean error.  Seconds are those of processor time
(:class:`gpu.engine.CpuClock`), so that other work on the machine disturbs little, and waits cost nothing.
"""

from __future__ import annotations

import ast
import dataclasses
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from policies import Rad, Sarathi, Slai, Vllm, Vtc
from queueing import metrics
from queueing.arrivals import Poisson
from queueing.models.iteration_time import IterationTime, Load
from queueing.monitors import check, fairness_monitors
from queueing.policy import Policy
from queueing.refinement import lifecycle
from queueing.serving import ReplayEngine, SimulatedEngine, serve
from queueing.simulator import versions
from queueing.trace import Trace
from queueing.workload import Workload
from validation.result import Result, Row, write_atomically
from validation.verdicts import judge_limit, judge_share

NAME = "cpu-engine"
SEED = 20260101
REQUESTS = {False: 60, True: 16}
MIXES = {False: 80, True: 30}
LOAD = 0.7  # of the token rate that the calibrated law allows
PLACES, MOST_TOKENS, MOST_CONTEXT = 16, 128, 320
PROMPT, OUTPUT = (16, 220), (8, 48)  # tokens, drawn uniformly in the logarithm
POLICIES: tuple[Policy, ...] = (
    Sarathi(token_budget=64), Vllm(), Slai(), Rad(tile=32), Vtc(),
)  # fmt: skip
MEDIAN, TAIL, ITERATION = 0.15, 0.25, 0.12


def prose() -> list[str]:
    """Texts that every Python brings: docstrings of the standard library's modules, in order of their names."""
    found: list[str] = []
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = ast.get_docstring(ast.parse(file.read_bytes()))
        if text and len(text) > 400:
            found.append(text)
    return found


def prompts_of(encode: Callable[[str], list[int]], lengths: Sequence[int]) -> list[list[int]]:
    """Prompts of these lengths (tokens), cut one after the other from one long text."""
    tokens = [token for text in prose() for token in encode(text)]
    cut: list[list[int]] = []
    at = 0
    for n in lengths:
        if at + n > len(tokens):
            at = 0
        cut.append(tokens[at : at + n])
        at += n
    return cut


def log_uniform(rng: np.random.Generator, limits: tuple[int, int], n: int) -> Any:
    """Whole numbers, uniform in the logarithm."""
    low, high = (float(np.log(limit)) for limit in limits)
    return np.exp(rng.uniform(low, high, n)).astype(np.int64)


@dataclasses.dataclass(frozen=True, slots=True)
class Stretched:
    """A law whose every time is multiplied by a factor."""

    law: IterationTime
    factor: float

    def __call__(self, load: Any) -> float:
        """Seconds of an iteration."""
        return self.factor * self.law(load)


def figures(trace: Trace) -> dict[str, float]:
    """Median and 99th percentile of TTFT and of the gaps between tokens (s)."""
    ttft = metrics.ttft(trace)
    return {
        "median TTFT": float(np.median(ttft)),
        "p99 TTFT": float(np.percentile(ttft, 99)),
        "median TBT": float(metrics.tbt_quantile(trace, 0.5)),
        "p99 TBT": float(metrics.tbt_quantile(trace, 0.99)),
    }


def run(
    quick: bool = False,
    out: Path | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Run the experiment; write the JSON object into `out` if it is given."""
    del workers  # one thread is the accelerator
    import gpu.calibrate as calibration
    from gpu.engine import (
        CpuClock,
        Sampling,
        TorchEngine,
        engine_system,
        enough_blocks,
        generate,
        single_thread,
    )
    from gpu.loader import load
    from gpu.smollm2 import smollm2
    from gpu.tokenizer import Tokenizer

    began = time.perf_counter()
    rng = np.random.default_rng(SEED)
    single_thread()
    path = smollm2()
    model = load(path, dtype="float32")
    longest = MOST_CONTEXT + MOST_TOKENS + 2
    system = engine_system(
        model.config,
        blocks=enough_blocks(longest, PLACES + 2),
        max_running=PLACES + 2,
        name="SmolLM2-135M on this CPU",
    )
    chosen = calibration.mixes(
        rng, MIXES[quick], most_tokens=MOST_TOKENS, most_context=MOST_CONTEXT, most_decodes=PLACES
    )
    n = REQUESTS[quick]
    total = (len(POLICIES) + 1) * len(chosen) + len(POLICIES) * n
    done = 0
    bench = TorchEngine(model, system, PLACES + 2, clock=CpuClock())

    def timed() -> Any:
        nonlocal done
        seconds = calibration.one_round(bench, chosen, lambda i, _: progress(done + i, total))
        done += len(chosen)
        return seconds

    rounds = [timed()]
    prompt, output = log_uniform(rng, PROMPT, n), log_uniform(rng, OUTPUT, n)
    prompts = prompts_of(Tokenizer.of(path).encode, prompt.tolist())
    work = time_per_request(calibration.fitted(chosen, rounds[0]).law, prompt, output)
    workload = Workload(
        Poisson(LOAD / work).times(n, rng), prompt, output, rng.integers(0, 3, n), tbt=np.full(n, 0.5),
        predicted=np.full(n, OUTPUT[1]),
    )  # fmt: skip
    system = dataclasses.replace(system, max_running=PLACES)
    runs: list[Any] = []
    for policy in POLICIES:
        made = generate(
            model, prompts, policy, system, workload=workload, sampling=Sampling(stop=False), clock=CpuClock(),
            progress=lambda i, _, done=done: progress(done + i, total),
        )  # fmt: skip
        done += n
        serve(made.workload, system, policy, ReplayEngine(made.trace))  # raises where a decision differs
        assert lifecycle(made.trace).ok
        runs.append(made)
        rounds.append(timed())
    found = calibration.fitted(chosen, np.median(rounds, axis=0))
    rows = [iteration_row(found)]
    tables: dict[str, list[dict[str, Any]]] = {"runs": [], "fairness": []}
    measured: dict[str, dict[str, float]] = {}
    simulated: dict[str, dict[str, float]] = {}
    notes = [f"law of all rounds: {found.law}; held-out mean error of each law: {found.tried}"]
    for k, (policy, made) in enumerate(zip(POLICIES, runs, strict=True)):
        beside = calibration.fitted(
            chosen, np.mean(rounds[k : k + 2], axis=0)
        )  # timed before and after this run
        error = beside.held_out.mape
        predicted = {
            factor: serve(workload, system, policy, SimulatedEngine(Stretched(beside.law, factor)))
            for factor in (1 - error, 1.0, 1 + error)
        }
        sides = {factor: figures(trace) for factor, trace in predicted.items()}
        measured[policy.name], simulated[policy.name] = figures(made.trace), sides[1.0]
        if isinstance(policy, Vtc):
            tables["fairness"] = fairness(made.trace, predicted[1.0])
        for name, value in measured[policy.name].items():
            limit = MEDIAN if name.startswith("median") else TAIL
            ours, ends = sides[1.0][name], [side[name] for side in sides.values()]
            verdict = judge_share(value, ours, limit)
            rows.append(Row(f"{name}, {policy.name}", "s", value, ours, min(ends), max(ends), verdict))
        seconds = made.trace.iterations["seconds"]
        tables["runs"].append(
            {
                "policy": policy.name,
                "batches": len(seconds),
                "engine beside the model (share)": 1 - float(made.model_seconds.sum() / seconds.sum()),
                "decisions met again in the replay": len(seconds),
                "held-out error of the law": error,
                **{f"measured {name}": value for name, value in measured[policy.name].items()},
                **{f"simulated {name}": value for name, value in simulated[policy.name].items()},
            }
        )
    for name in ("median TTFT", "p99 TBT"):
        orders = [ranked(side, name) for side in (measured, simulated)]
        notes.append(f"policies by {name}: measured {', '.join(orders[0])}; simulated {', '.join(orders[1])}")
    result = Result(NAME, time.perf_counter() - began, [SEED], versions(), rows, tables, notes)
    if out is not None:
        write_atomically(out / f"{NAME}.json", result.to_json().encode())
        calibration.write_table(found, out / f"{NAME}-measurements.csv")
    return result


def fairness(real: Trace, simulated: Trace) -> list[dict[str, Any]]:
    """What the fairness monitors find in the real trace, beside the simulated one, and the bounds of the theorems."""
    pairs = zip(check(real, fairness_monitors()), check(simulated, fairness_monitors()), strict=True)
    return [
        {
            "monitor": a.monitor,
            "measured": a.value,
            "simulated": b.value,
            "bound": a.bound,
            "verdict": a.verdict,
        }
        for a, b in pairs
    ]


def ranked(side: dict[str, dict[str, float]], name: str) -> list[str]:
    """Policies from the least to the largest figure."""
    return sorted(side, key=lambda policy: side[policy][name])


def iteration_row(found: Any) -> Row:
    """Mean error of the law on the mixes it was not fitted to."""
    error = found.held_out.mape
    verdict = judge_limit(ITERATION, error, error)
    return Row(
        "mean error of iteration times, held out (limit)", "1", ITERATION, error, error, error, verdict
    )


def time_per_request(law: IterationTime, prompt: Any, output: Any) -> float:
    """Engine time that a request takes if batches are as full as they may be (s): an estimate that sets the load."""

    def seconds(decodes: int, chunk: int) -> float:
        chunks = np.array([chunk] if chunk else [], np.int64)
        return law(Load(decodes + chunk, decodes, 128 * decodes, chunks, np.zeros(len(chunks), np.int64)))

    return float(np.mean(prompt) * seconds(0, 64) / 64 + np.mean(output) * seconds(8, 0) / 8)
