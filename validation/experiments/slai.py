"""SLAI against Sarathi-Serve: capacity and median time to first token on Mistral-7B, one RTX 6000 Ada.

Published (Bari, Hegde, de Veciana, arXiv 2508.01002, abstract): SLAI raises the largest rate at which the median TTFT
stays below 0.5 s by 26 %, and lowers the median TTFT by 53 % (the load is not stated), against Sarathi-Serve.

Ours: the testbed of the authors' repository under the iteration-time model of :mod:`queueing.models.calibrations`;
ShareGPT lengths, 5 % strict users (TBT 0.1 s) and 95 % relaxed (0.5 s), a budget of 512 tokens, 128 active requests,
Poisson arrivals.  Every policy sees the same requests (common random numbers: a rate only scales their times), and a
figure is the mean over seeds with its Student-t interval.  The first tenth of the requests is cut from latencies as
warm-up; gaps between tokens are those of the whole run.

Two measures and two conventions are reported, because the comparison turns on them.  `prefill_end` is the end of the
batch with the last prompt chunk: what the authors call TTFT.  `ttft` is the first token emitted.  In the authors'
engine that chunk emits no token (`last_chunk_emits` off), so the wait between the two is in no TTFT; in an engine whose
last chunk emits the first token the two coincide.

The coefficients κ (per context token) and π (per prefill pair) of the law are roofline guesses.  Halved and raised by
half they give the sensitivity table; the verdict on the published gain takes the union of those intervals as our range.

Capacity is the rate at which the median crosses 0.5 s, read off the line through (rate, log median) between the grid
rates on either side, seed by seed.  The grid is coarse: one of 0.02 requests/s moves the gains by up to one point,
which is in no interval.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies import FIFO, SPF, STRICT_SPF, Sarathi, Slai, Vllm
from queueing import metrics
from queueing.arrivals import Poisson
from queueing.lengths import ShareGPT
from queueing.models.iteration_time import Roofline
from queueing.models.tiling import compact_lp
from queueing.policy import Policy
from queueing.simulator import simulate, versions
from queueing.system import System
from queueing.workload import SloClass, Workload
from validation.executors import in_order
from validation.experiments.slai_plots import CONVENTIONS, PROMPT_TABLE, write_plots
from validation.published import published
from validation.result import Result, Row, over_seeds
from validation.sweep import Records, gains
from validation.verdicts import judge, judge_limit

__all__ = ["NAME", "run"]

NAME = "slai"
TARGET = 0.5  # s, the median TTFT that defines capacity
RATES = tuple(round(0.2 * k, 1) for k in range(1, 11))  # requests/s
SENSITIVITY_RATES = tuple(round(0.2 * k, 1) for k in range(4, 13))  # cheaper attention crosses later
STRICT, RELAXED = 0.1, 0.5  # s between tokens
WARM_UP = 0.1  # share of the requests
PROMPT_EDGES = (0, 512, 2048, 4096, 6144, 8192)  # tokens
FULL = {"seeds": 10, "requests": 2500, "sensitivity_seeds": 10}
QUICK = {"seeds": 3, "requests": 800, "sensitivity_seeds": 3}

POLICIES: dict[str, Policy] = {
    "vllm": Vllm(),
    "sarathi fcfs": Sarathi(token_budget=512, order=FIFO),
    "sarathi spf": Sarathi(token_budget=512, order=SPF),
    "slai fcfs fixed": Slai(order=FIFO, fixed_offset=True, below_offset=10.0),
    "slai spf fixed": Slai(order=SPF, fixed_offset=True, below_offset=10.0),
    "slai spf dynamic": Slai(order=SPF),
    "slai spf dynamic, strict first": Slai(order=STRICT_SPF),
}
FLAGSHIP = "slai spf dynamic"
BASELINES = ("sarathi fcfs", "sarathi spf")
MEASURES = ("prefill_end", "ttft")


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """All policies at one rate, seed, convention and scaling of the two guessed coefficients."""

    seed: int
    rate: float
    requests: int
    emits: bool
    kappa: float
    pi: float
    policies: tuple[str, ...]


def workload(seed: int, rate: float, requests: int) -> Workload:
    """The testbed's requests: the same for every policy, and for every rate but for the scale of time."""
    return Workload.generate(
        Poisson(rate),
        ShareGPT(),
        requests,
        np.random.default_rng(seed),
        classes=(SloClass(0.05, tbt=STRICT), SloClass(0.95, tbt=RELAXED)),
    )


def system(emits: bool = False, kappa: float = 1.0, pi: float = 1.0) -> System:
    """The testbed, with the two coefficients that are roofline guesses scaled by `kappa` and `pi`."""
    base = System.named("mistral-7b", "rtx-6000-ada")
    law = base.iteration_time
    assert isinstance(law, Roofline)
    law = dataclasses.replace(law, per_context=kappa * law.per_context, per_pair=pi * law.per_pair)
    return dataclasses.replace(base, iteration_time=law, max_running=128, last_chunk_emits=emits)


def run_task(task: Task) -> list[dict[str, Any]]:
    """Simulate every policy of `task`; one record of figures per policy."""
    requests = workload(task.seed, task.rate, task.requests)
    machine = system(task.emits, task.kappa, task.pi)
    counted = np.arange(task.requests) >= WARM_UP * task.requests
    bucket = np.digitize(requests.prompt, PROMPT_EDGES[1:-1])
    records: list[dict[str, Any]] = []
    for name in task.policies:
        trace = simulate(requests, machine, POLICIES[name])
        record: dict[str, Any] = {
            "policy": name,
            "rate": task.rate,
            "seed": task.seed,
            "emits": task.emits,
            "kappa": task.kappa,
            "pi": task.pi,
            "unfinished": int(np.sum(trace.unfinished)),
            "preemptions": int(np.sum(trace.requests["preemptions"])),
        }
        for measure in MEASURES:
            seconds: NDArray[np.float64] = getattr(metrics, measure)(trace)
            record[f"median {measure}"] = float(np.median(seconds[counted]))
            record[f"p99 {measure}"] = float(np.quantile(seconds[counted], 0.99))
            for k in range(len(PROMPT_EDGES) - 1):
                chosen = seconds[counted & (bucket == k)]
                record[f"p99 {measure} bucket {k}"] = (
                    float(np.quantile(chosen, 0.99)) if len(chosen) else math.nan
                )
        record["p99 tbt strict"] = metrics.tbt_quantile(trace, 0.99, tbt_class=STRICT)
        record["p99 tbt relaxed"] = metrics.tbt_quantile(trace, 0.99, tbt_class=RELAXED)
        records.append(record)
    return records


def tasks_of(size: Mapping[str, int]) -> list[Task]:
    """The grid of the main table, then the sensitivity grid around the crossings."""
    main = [
        Task(seed, rate, size["requests"], emits, 1.0, 1.0, tuple(POLICIES))
        for rate in RATES
        for seed in range(size["seeds"])
        for emits in CONVENTIONS.values()
    ]
    around = [
        Task(seed, rate, size["requests"], False, kappa, pi, (*BASELINES, FLAGSHIP))
        for kappa, pi in ((0.5, 1.0), (1.5, 1.0), (1.0, 0.5), (1.0, 1.5))
        for rate in SENSITIVITY_RATES
        for seed in range(size["sensitivity_seeds"])
    ]
    return main + around


def simulate_all(
    tasks: Sequence[Task], workers: int, progress: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    """Run the tasks on `workers` processes; the result does not depend on how many."""
    for name in POLICIES:  # compile once, before the workers look for the machine code on disk
        simulate(workload(0, 1.0, 1), system(), POLICIES[name])
    done = in_order(run_task, tasks, workers=workers, progress=progress)
    return [record for records in done for record in records]


def capacity_table(main: Records) -> list[dict[str, Any]]:
    """Capacity and gains of every policy, by both measures and both conventions."""
    table: list[dict[str, Any]] = []
    for convention, emits in CONVENTIONS.items():
        for measure in MEASURES:
            base = {
                name: main.where(policy=name, emits=emits).crossing(f"median {measure}", TARGET)
                for name in POLICIES
            }
            for name in POLICIES:
                mean, low, high = over_seeds(
                    [c for c in base[name].values() if math.isfinite(c)] or [math.nan]
                )
                entry = {"convention": convention, "measure": measure, "policy": name}
                entry |= {"capacity": mean, "capacity low": low, "capacity high": high}
                for baseline in BASELINES:
                    gain, below, above = over_seeds(gains(base[name], base[baseline]))
                    entry |= {f"gain over {baseline}": gain}
                    entry |= {f"gain over {baseline} low": below, f"gain over {baseline} high": above}
                table.append(entry)
    return table


def rate_table(main: Records) -> list[dict[str, Any]]:
    """Medians, 99th percentiles and time between tokens of every policy at every rate, in both conventions."""
    quantities = [f"{q} {m}" for q in ("median", "p99") for m in MEASURES] + [
        "p99 tbt strict",
        "p99 tbt relaxed",
    ]
    table: list[dict[str, Any]] = []
    for convention, emits in CONVENTIONS.items():
        for name in POLICIES:
            for rate in RATES:
                here = main.where(policy=name, emits=emits, rate=rate)
                entry: dict[str, Any] = {"convention": convention, "policy": name, "rate": rate}
                for quantity in quantities:
                    entry[quantity], entry[f"{quantity} low"], entry[f"{quantity} high"] = here.mean(quantity)
                entry["preemptions"] = here.mean("preemptions")[0]
                table.append(entry)
    return table


def prompt_table(main: Records) -> list[dict[str, Any]]:
    """99th percentile of `prefill_end` by prompt length near and past the edge: what shortest-prompt-first does."""
    table: list[dict[str, Any]] = []
    for rate in (1.4, 1.6, 1.8):
        for name in POLICIES:
            here = main.where(policy=name, emits=False, rate=rate)
            entry: dict[str, Any] = {"rate": rate, "policy": name}
            for k, (low, high) in enumerate(pairwise(PROMPT_EDGES)):
                values = [r[f"p99 prefill_end bucket {k}"] for r in here.records]
                entry[f"{low}..{high - 1}"] = float(np.nanmean(values))
            table.append(entry)
    return table


def sensitivity_table(records: Records) -> list[dict[str, Any]]:
    """Gains of the flagship when each guessed coefficient is halved and raised by half."""
    table: list[dict[str, Any]] = []
    for kappa, pi in ((1.0, 1.0), (0.5, 1.0), (1.5, 1.0), (1.0, 0.5), (1.0, 1.5)):
        here = records.where(kappa=kappa, pi=pi, emits=False)
        entry: dict[str, Any] = {"kappa": kappa, "pi": pi}
        for measure in MEASURES:
            for baseline in BASELINES:
                ours = here.where(policy=FLAGSHIP).crossing(f"median {measure}", TARGET)
                theirs = here.where(policy=baseline).crossing(f"median {measure}", TARGET)
                key = f"{measure}, over {baseline}"
                entry[key], entry[f"{key} low"], entry[f"{key} high"] = over_seeds(
                    gains(ours, theirs) or [math.nan]
                )
        table.append(entry)
    return table


def ceiling() -> float:
    """Most load any schedule of mixed batches can carry here (requests/s), from the compact LP."""
    machine = system()
    law = machine.iteration_time
    assert isinstance(law, Roofline)
    optimum = compact_lp(
        law,
        ShareGPT().moments(),
        budget=512,
        kv_tokens=machine.kv_tokens,
        max_running=machine.max_running,
    )
    return optimum.rate


def reach_of(sensitivity: Sequence[Mapping[str, Any]], measure: str, baseline: str) -> tuple[float, float]:
    """Union of the intervals of a gain over all scalings of the guessed coefficients, the unscaled ones included."""
    name = f"{measure}, over {baseline}"
    return min(e[f"{name} low"] for e in sensitivity), max(e[f"{name} high"] for e in sensitivity)


def notes_of(main: Records, sensitivity: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the rows do not say by themselves."""
    low, high = reach_of(sensitivity, MEASURES[0], BASELINES[0])
    yield (
        f"the verdict on the capacity gain asks whether the published figure lies in [{low:.1f}, {high:.1f}] percent, "
        "the union of the intervals with kappa and pi as they are, halved and raised by half; a row's own interval is "
        "over seeds alone"
    )
    for name in POLICIES:
        for measure in MEASURES:
            capacities = main.where(policy=name, emits=False).crossing(f"median {measure}", TARGET)
            lost = sum(math.isnan(c) for c in capacities.values())
            if lost:
                yield (
                    f"{name}: the median {measure} crosses {TARGET} s at no rate in {lost} of {len(capacities)} seeds, "
                    "which are in neither its capacity nor its gains"
                )


def rows_of(
    main: Records, capacity: Sequence[Mapping[str, Any]], sensitivity: Sequence[Mapping[str, Any]]
) -> Iterator[Row]:
    """The rows of the report."""
    for convention in CONVENTIONS:
        authors = convention == "decode emits first"
        for measure in MEASURES:
            if not authors and measure == "prefill_end":
                continue  # the last chunk emits the first token: the two measures coincide
            for baseline in BASELINES:
                (entry,) = (
                    e
                    for e in capacity
                    if (e["convention"], e["measure"], e["policy"]) == (convention, measure, FLAGSHIP)
                )
                gain, low, high = (entry[f"gain over {baseline}{end}"] for end in ("", " low", " high"))
                headline = authors and measure == "prefill_end" and baseline == "sarathi fcfs"
                key = "slai: capacity gain" if headline else None
                claimed = None if key is None else published(key).value
                verdict = judge(claimed, *reach_of(sensitivity, measure, baseline))
                suffix = "" if authors else ", last chunk emits"
                quantity = f"capacity gain, {measure}, over {baseline}{suffix}"
                yield Row(quantity, "percent", claimed, gain, low, high, verdict, key)
    for rate in (1.4, 1.6):
        for measure in MEASURES:
            base = main.where(policy="sarathi fcfs", emits=False, rate=rate).values(f"median {measure}")
            ours = main.where(policy=FLAGSHIP, emits=False, rate=rate).values(f"median {measure}")
            change, low, high = over_seeds([100 * (ours[s] / base[s] - 1) for s in base])
            key = "slai: median TTFT" if measure == "prefill_end" else None
            claimed = None if key is None else published(key).value
            # the abstract does not state the load, so a figure at one load neither confirms nor refutes it
            quantity = f"median {measure} at {rate} req/s, against sarathi fcfs"
            yield Row(quantity, "percent", claimed, change, low, high, "not testable here", key)
    for name in POLICIES:
        (entry,) = (
            e
            for e in capacity
            if (e["convention"], e["measure"], e["policy"]) == ("decode emits first", "prefill_end", name)
        )
        low, high = entry["capacity low"], entry["capacity high"]
        yield Row(
            f"capacity, prefill_end, {name}",
            "requests/s",
            None,
            entry["capacity"],
            low,
            high,
            "not testable here",
        )
    flagship = main.where(policy=FLAGSHIP, emits=False)
    own = flagship.crossing(f"median {MEASURES[0]}", TARGET)
    for which in ("strict", "relaxed"):
        quantity, key = f"p99 tbt {which}", f"slai: p99 TBT, {which} users"
        limit = published(key).value
        assert limit is not None
        at_own = over_seeds(flagship.at(quantity, own))
        for where, (mean, low, high) in {
            "1.4 req/s": flagship.where(rate=1.4).mean(quantity),
            "its capacity": at_own,
        }.items():
            name = f"{quantity} at {where} (published: at most)"
            yield Row(name, "s", limit, mean, low, high, judge_limit(limit, low, high), key)
    most = ceiling()
    yield Row(
        "ceiling of any mixed schedule, budget 512", "requests/s", None, most, most, most, "not testable here"
    )


def run(
    quick: bool = False,
    out: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Run the experiment; write plots and the JSON object into `out` if it is given."""
    began = time.perf_counter()
    size = QUICK if quick else FULL
    records = Records(simulate_all(tasks_of(size), workers, progress))
    main = records.where(kappa=1.0, pi=1.0)
    capacity, sensitivity = capacity_table(main), sensitivity_table(records)
    by_rate = rate_table(main)
    tables = {
        "capacity at a median of 0.5 s (requests/s, percent)": capacity,
        **{
            f"{convention} (s)": [e for e in by_rate if e["convention"] == convention]
            for convention in CONVENTIONS
        },
        PROMPT_TABLE: prompt_table(main),
        "gain in percent if kappa and pi are scaled": sensitivity,
    }
    rows = list(rows_of(main, capacity, sensitivity))
    notes = list(notes_of(main, sensitivity))
    seconds, seeds = time.perf_counter() - began, list(range(size["seeds"]))
    result = Result(NAME, seconds, seeds, versions(), rows, tables, notes)
    if out is not None:
        write_plots(result, out)
    return result
