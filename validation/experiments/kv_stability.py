"""The rate that KV memory carries, μ = M/(b·E[g]), against queues that grow and queues that do not.

Published (arXiv 2605.04595): with M tokens of KV memory, b the mean time of an iteration and g the token-iterations
that a request asks for in its life, a node is overloaded if λ > μ, and its queue is positive recurrent under
work-conserving batching if λ < μ(1 - δ), δ about the largest request over M; under vLLM on an A100 the condition errs
by less than 10 %.

*Two sides.*  Requests of 16 to 64 + 200 to 600 tokens, M = 24,000, iterations of 20 ms whatever they hold: growth of
the backlog at 0.95 of μ(1 - δ) and at 1.05 of μ, by the growth test, each verdict wrong with probability 0.001.
Sarathi-Serve, which admits while a prompt fits and evicts; admission by the peak to come; a node that swaps, for which
both sides are proved here (docs/models/memory.md).  Two that are not work-conserving in memory are held against their
own theory: vLLM before chunked prefill, whose decodes hold memory and stand still while prompts are served, and
reservation of the announced length, which carries M/(b·E[(s + d)·d]), d output tokens.

*How much is carried.*  The rate with endless work over μ, b as measured in that very run, on three laws of iteration
time.

*Evictions.*  Of equal requests that start in step, a node that generates lost tokens anew completes little more than
half of μ (arXiv 2606.15555; docs/models/congestion.md).  Engines prefill them at once instead, and so does this one.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies import ANNOUNCED_LENGTH, PEAK, Sarathi, Vllm
from queueing.arrivals import Poisson
from queueing.metrics import Growth, growth_of, growth_test
from queueing.models.iteration_time import Affine, Roofline
from queueing.models.memory import lifetime_demand
from queueing.policy import Policy
from queueing.simulator import simulate, versions
from queueing.system import System
from queueing.workload import Workload
from validation.executors import in_order
from validation.plots import COLOURS, MARKERS, figure, save
from validation.published import published
from validation.result import Result, Row, Verdict, over_seeds, write_atomically
from validation.saturation import saturate
from validation.verdicts import judge, judge_growth, judge_limit

__all__ = ["NAME", "POLICIES", "SYSTEMS", "Fed", "Full", "demand", "mu", "run", "swapping"]

NAME = "kv-stability"
MEMORY = 24_000  # tokens
LONGEST = 664  # tokens of the largest request
WASTING = ("vLLM", "reservation")  # memory, while requests wait
SLACK = 1.0  # percent of μ: what blocks that fit nobody, and lengths in the middle of a run, may add to a closed form
SMALL = {False: 0.02, True: 0.04}  # growth, as a share of the arrivals, that counts as none, by quick
LIMIT = "kv-stability: error"
MANY = 4096  # tokens in a batch and requests that run, more than memory holds
POLICIES: dict[str, Policy] = {
    "Sarathi": Sarathi(MANY, max_num_seqs=MANY),
    "vLLM": Vllm(max_num_seqs=MANY),
    "reservation": Sarathi(MANY, max_num_seqs=MANY, admission=ANNOUNCED_LENGTH),
    "peak": Sarathi(MANY, max_num_seqs=MANY, admission=PEAK),
}
SYSTEMS = {
    "20 ms": System(Affine(0.02, 0.0), MEMORY, block_size=1, max_length=1024, watermark=0.0, name="20 ms"),
    "roofline": System(
        Roofline(0.0234, 0.007, 9.1e-5, 1.7e-7, 5e-9), MEMORY, block_size=1, max_length=1024, name="roofline"
    ),
    "A100 table": dataclasses.replace(System.named("llama-3-8b", "a100"), blocks=4000, max_running=MANY),
}
EQUALLY = "equal requests"
COHORT = System(Affine(1.0, 0.0), 401, block_size=1, max_length=64, watermark=0.0, name=EQUALLY)
EQUAL = (1, 20)  # prompt, output: 19 decodes; one block of 401 stays free
LOADS = {False: (0.7, 0.8, 0.9, 0.95, 1.05, 1.1, 1.2), True: (0.95, 1.05)}  # of μ; those below 1 of μ(1 - δ)
REQUESTS = {False: 60_000, True: 10_000}  # by quick
SATURATED = {False: 8_000, True: 2_000}
SEEDS = {False: 5, True: 3}

Ints = NDArray[np.int64]


def lengths(n: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Short questions, long answers."""
    return rng.integers(16, 65, n), rng.integers(200, 601, n)


def demand(prompt: Ints, output: Ints) -> float:
    """E[g], token-iterations; the prompt goes whole and its chunk emits the first output token."""
    pairs, often = np.unique(np.stack([prompt, output - 1]), axis=1, return_counts=True)
    asked = [float(lifetime_demand(int(s), int(o)).stated) for s, o in pairs.T]
    return float(np.average(asked, weights=often))


def mu(system: System, iteration: float, prompt: Ints, output: Ints) -> float:
    """M/(b·E[g]), requests/s."""
    return system.kv_tokens / (iteration * demand(prompt, output))


def swapping(memory: int, prompt: int, decodes: int, arrivals: Sequence[int]) -> NDArray[np.float64]:
    """Requests present at the end of each iteration of a :class:`~queueing.models.memory.SwapNode`, empty at first.

    The oldest advance until the next does not fit; what is left out keeps its tokens.  All requests are equal.
    """
    ages: list[int] = []
    present = np.empty(len(arrivals))
    for t, came in enumerate(arrivals):
        used = ended = served = 0
        for age in ages:
            used += prompt + age
            if used > memory:
                break
            served += 1
            ended += age == decodes
        if ended:
            ages[:served] = [age + 1 for age in ages[:served] if age < decodes]
        else:
            ages[:served] = [age + 1 for age in ages[:served]]
        ages += [0] * came
        present[t] = len(ages)
    return present


class Fed(NamedTuple):
    """A policy fed at `load` times μ (for "swapping" in requests per iteration)."""

    policy: str
    load: float
    requests: int
    small: float

    def record(self) -> dict[str, Any]:
        """Growth of the backlog as a share of the arrivals, and the verdicts of the growth test."""
        found, rate = _swaps(self) if self.policy == "swapping" else _fed(self)
        shares = (found.rate.value / rate, found.rate.low / rate, found.rate.high / rate)
        record: dict[str, Any] = {"policy": self.policy, "load": self.load, "rate": rate}
        record |= dict(zip(("growth", "low", "high"), shares, strict=True))
        return record | {"grows": found.grows, "stable": found.grows_less_than(self.small)}


def _fed(job: Fed) -> tuple[Growth, float]:
    rng = np.random.default_rng(0)
    prompt, output = lengths(job.requests, rng)
    system = SYSTEMS["20 ms"]
    rate = job.load * mu(system, 0.02, prompt, output)
    arrival = np.array(Poisson(rate).times(job.requests, rng))
    end = float(arrival[-1])
    trace = simulate(
        Workload(arrival, prompt, output, predicted=output), system, POLICIES[job.policy], horizon=end
    )
    return growth_test(trace, start=0.1 * end), rate


def _swaps(job: Fed) -> tuple[Growth, float]:
    """Prompts of one token and 19 decodes, as many iterations as bring that many requests."""
    rate = job.load * swap_mu()
    arrivals = np.random.default_rng(0).poisson(rate, int(job.requests / rate))
    level = swapping(100, EQUAL[0], EQUAL[1] - 1, arrivals.tolist())
    picked = level[np.linspace(0.1 * len(level), len(level) - 1, 21).astype(int)]
    return growth_of(picked, 0.9 * len(level) / 20, rate), rate


def swap_mu() -> float:
    """μ of the swapping node, requests per iteration."""
    return 100 / float(lifetime_demand(EQUAL[0], EQUAL[1] - 1).stated)


class Full(NamedTuple):
    """A policy with endless work."""

    system: str
    policy: str
    seed: int
    requests: int

    def record(self) -> dict[str, Any]:
        """The rate carried over μ."""
        rng = np.random.default_rng(self.seed)
        prompt, output = lengths(self.requests, rng)
        if self.system == EQUALLY:  # as many as their random number says, so that seeds differ
            many = self.requests + int(rng.integers(200))
            prompt, output = np.full(many, EQUAL[0]), np.full(many, EQUAL[1])
        system = COHORT if self.system == EQUALLY else SYSTEMS[self.system]
        found = saturate(system, POLICIES[self.policy], prompt, output, announced=True)
        share = found.rate / mu(system, found.iteration, prompt, output)
        return {"system": self.system, "policy": self.policy, "carried": share}


def largest() -> float:
    """δ of the requests of :func:`lengths`."""
    return (LONGEST - 1) / MEMORY


def _jobs(quick: bool) -> list[Fed | Full]:
    count, delta = REQUESTS[quick], largest()
    jobs: list[Fed | Full] = [
        Fed(name, load if load > 1 else load * (1 - delta), count, SMALL[quick])
        for name in POLICIES
        for load in LOADS[quick]
    ]
    swap_delta = (sum(EQUAL) - 2) / 100
    jobs += [Fed("swapping", load, count, SMALL[quick]) for load in (0.95 * (1 - swap_delta), 1.05)]
    cases = [(system, name) for system in list(SYSTEMS)[:: 2 if quick else 1] for name in POLICIES] + [
        (EQUALLY, "Sarathi")
    ]
    return jobs + [Full(*case, seed, SATURATED[quick]) for case in cases for seed in range(SEEDS[quick])]


def run(
    quick: bool = False,
    out: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Run the experiment; write plots and the JSON object into `out` if it is given."""
    began = time.perf_counter()
    jobs = _jobs(quick)
    done = in_order(methodcaller("record"), jobs, workers=workers, progress=progress)
    fed = [record for record in done if "growth" in record]
    full: list[dict[str, Any]] = []
    for system in (*SYSTEMS, EQUALLY):
        for name in POLICIES if system in SYSTEMS else ("Sarathi",):
            shares = [r["carried"] for r in done if r.get("system") == system and r["policy"] == name]
            if not shares:
                continue
            value, low, high = over_seeds(shares)
            full.append({"system": system, "policy": name, "carried": value, "low": low, "high": high})
    rows = [*_growth_rows(fed), *_share_rows(full)]
    notes = [
        f"δ = {largest():.4f}; a backlog of less than {SMALL[quick]:.0%} of the arrivals counts as none; verdicts of "
        "the growth test err with probability 0.001 each (asymptotically)",
        "shares of μ take the mean iteration of the same run; the published 10 % are of vLLM, in a version not known "
        "here: since chunked prefill its batches are those of Sarathi",
        f"reservation is reproduced if theory lies within {SLACK:g} of its interval",
    ]
    tables = {"growth (share of the arrivals)": fed, "rate with endless work (share of μ)": full}
    seeds = list(range(SEEDS[quick]))
    result = Result(NAME, time.perf_counter() - began, seeds, versions(), rows, tables, notes)
    if out is not None:
        plots(fed, full, out)
        write_atomically(out / f"{NAME}.json", result.to_json().encode())
    return result


def _growth_rows(fed: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    for r in fed:
        below = 0.95 * (1 - ((sum(EQUAL) - 2) / 100 if r["policy"] == "swapping" else largest()))
        over = r["load"] == 1.05
        if not over and abs(r["load"] - below) > 1e-9:
            continue
        conserving = r["policy"] not in WASTING
        grows = over or not conserving
        key = f"{NAME}: overloaded above μ" if over else f"{NAME}: recurrent below μ(1 - δ)"
        where = "1.05 of μ" if over else "0.95 of μ(1 - δ)"
        text = f"growth at {where}, {r['policy']} (theory: {'grows' if grows else 'does not grow'})"
        value, low, high = (100 * r[name] for name in ("growth", "low", "high"))
        known = key if over or conserving else None
        yield Row(text, "percent of the arrivals", None, value, low, high, judge_growth(r, grows), known)


def reserved() -> float:
    """Share of μ that reservation of prompt and output carries: E[g]/E[(s + d)·d]."""
    prompt, output = lengths(60_000, np.random.default_rng(0))
    return demand(prompt, output) / float(np.mean((prompt + output) * output))


def _share_rows(full: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    limit = published(LIMIT).value
    assert limit is not None
    for e in full:
        short, low, high = 100 * (1 - e["carried"]), 100 * (1 - e["high"]), 100 * (1 - e["low"])
        quantity = f"rate with endless work short of μ, {e['system']}, {e['policy']}"
        claimed, key = None, None
        verdict: Verdict = "not testable here"
        if e["system"] == "A100 table" and e["policy"] in ("Sarathi", "vLLM"):
            claimed, key = limit, LIMIT
            verdict = judge_limit(
                limit, max(low, -high), max(high, -low)
            )  # the condition may err to either side
            quantity += " (at most, either way)"
        elif e["policy"] == "reservation":
            theory = 100 * (1 - reserved())
            verdict = judge(theory, low - SLACK, high + SLACK)
            quantity += f" (theory: {theory:.1f})"
        elif e["system"] == EQUALLY:
            key = f"{NAME}: loss of equal requests in step"
            claimed = published(key).value
            quantity += " (published: up to, if lost tokens are generated anew)"
        yield Row(quantity, "percent", claimed, short, low, high, verdict, key)


def plots(fed: Sequence[Mapping[str, Any]], full: Sequence[Mapping[str, Any]], out: Path) -> list[Path]:
    """Draw growth by load against the edge μ, and the shares of μ that are carried."""
    with figure(columns=2) as (drawing, axes):
        left, right = axes[0]
        loads = np.linspace(0.65, 1.25, 100)
        left.plot(
            loads,
            100 * np.maximum(0, 1 - 1 / loads),
            color="black",
            linewidth=1,
            label="theory: all of μ carried",
        )
        for k, name in enumerate(POLICIES):
            here = [r for r in fed if r["policy"] == name]
            value = np.array([100 * r["growth"] for r in here])
            errors = [value - [100 * r["low"] for r in here], [100 * r["high"] for r in here] - value]
            left.errorbar([r["load"] for r in here], value, yerr=errors, fmt=MARKERS[k], color=COLOURS[k + 3],
                          markersize=4, capsize=2, label=name)  # fmt: skip
        left.axvspan(1 - largest(), 1, color="grey", alpha=0.3, label="μ(1 − δ) to μ")
        left.set(title="Iterations of 20 ms", xlabel="load, in μ", ylabel="growth (percent of the arrivals)")
        left.legend(fontsize=7)
        for k, system in enumerate(SYSTEMS):
            here = [e for e in full if e["system"] == system]
            at = np.arange(len(here)) + 0.15 * (k - 1)
            value = np.array([e["carried"] for e in here])
            errors = [value - [e["low"] for e in here], [e["high"] for e in here] - value]
            if not here:
                continue
            right.errorbar(at, value, yerr=errors, fmt=MARKERS[k], color=COLOURS[k + 4], markersize=4, capsize=3,
                           label=system)  # fmt: skip
        right.axhline(1, color="black", linewidth=1)
        right.axhline(0.9, color="grey", linestyle="--", linewidth=0.8, label="published: within 10 %")
        right.set_xticks(range(len(POLICIES)), labels=list(POLICIES))
        right.set(title="Endless work", ylabel="rate carried over μ", ylim=(0, 1.05))
        right.legend(fontsize=7)
        return save(drawing, out / "memory", {"growth": fed, "carried": full})
