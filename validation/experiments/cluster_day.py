"""A day on a thousand replicas: how much a router is worth, beside the laws that are known of routers.

Arrivals are Poisson with the sinusoidal rate of Eick, Massey and Whitt (Management Science 39, 1993),

    λ(t) = g·C·(ρ - a·cos(2π(t/T - 1/6))),   ρ = 0.6, a = 0.35,

C the requests/s that a replica carries with endless work: a trough of 0.25 of it at 4 o'clock, a peak of 0.95 at 16.
Replicas are one A100 each (Llama-3-8B) under Sarathi-Serve, lengths those of ShareGPT; all routers meet the same
requests, which announce their outputs (only LeastWork looks).  Nothing was published for this: levels are reported,
and held against laws where there are some.

*Time is scaled.*  A day of a thousand replicas has 1.7·10^8 requests; here T = 1,000 s, so that an hour is 42 s, and a
request stays 12 s.  What that leaves out is measured on a day of 86,400 s on four replicas: by thinning, each replica
behind the random router then sees what it would see among a thousand.

*Laws.*  (1) Exponential service, one request at a time (:mod:`validation.experiments.cluster_queues`).  (2) Tokens sent
to a replica over n requests of mean m and variance c²m²: their coefficient of variation over replicas is √(g(1+c²)/n)
behind the random router, √(g/n)·c behind round robin, whatever the arrivals and the batches.  (3) Order of mean TTFT:
random >= two choices >= shortest queue, a theorem under the premises of (1) alone.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies import Sarathi
from queueing import metrics
from queueing.lengths import ShareGPT
from queueing.simulator import simulate, versions
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload
from validation.executors import in_order
from validation.experiments.cluster_plots import write_plots
from validation.experiments.cluster_queues import LOAD, ROUTERS, Queues, share_with, time_in_system
from validation.result import Result, Row, Verdict, over_seeds, write_atomically
from validation.verdicts import judge, judge_at_least

__all__ = ["CAPACITY", "DAY", "NAME", "Day", "expected", "load", "offered", "run", "unevenness"]

NAME = "cluster-day"
CAPACITY, LONGEST = (
    3.3,
    7000,
)  # requests/s of a replica with endless work; tokens of a prompt, so that all fit
MEAN, SWING, TROUGH = 0.6, 0.35, 4 / 24
DAY, COMPRESSED = 86_400.0, 1_000.0  # s
TTFT, TBT = 1.0, 0.1  # limits, s
REPLICAS = {False: 1000, True: 10}  # by quick
OWN_PACE = {False: 4, True: 0}  # replicas of the day of 86,400 s
FEW = 5  # replicas where queues still form behind LeastWork
REQUESTS = {False: 1_000_000, True: 30_000}  # of the laws
SEEDS = {False: 3, True: 3}
LAW_SEEDS = {False: 6, True: 5}
LEVEL = 0.99  # of intervals on which a verdict about a law rests
FIGURES = {
    "mean TTFT": "s",
    "median TTFT": "s",
    "p99 TTFT": "s",
    "p99 TBT": "s",
    "within both limits": "percent",
    "tokens, cv": "percent",
    "queue at the peak, cv": "percent",
    "queue at the peak, longest over mean": "1",
}


def load(of_day: Any) -> Any:
    """λ(t)/(g·C) at t = `of_day`·T."""
    return MEAN - SWING * np.cos(2 * math.pi * (of_day - TROUGH))


@functools.lru_cache(maxsize=1)
def offered(replicas: int, seconds: float, seed: int) -> Workload:
    """The day's requests: as many as are expected, which are then independent with density λ(t)."""
    rng = np.random.default_rng(seed)
    n = round(MEAN * CAPACITY * replicas * seconds)
    of_day = np.linspace(0, 1, 100_001)
    passed = MEAN * of_day - SWING * (
        np.sin(2 * math.pi * (of_day - TROUGH)) + math.sin(2 * math.pi * TROUGH)
    ) / (2 * math.pi)
    arrival = seconds * np.interp(np.sort(rng.random(n)), passed / MEAN, of_day)
    prompt, output = ShareGPT(source="table").sample(n, rng)
    limits = {"ttft": np.full(n, TTFT), "tbt": np.full(n, TBT)}
    return Workload(arrival, np.minimum(prompt, LONGEST), output, predicted=output, **limits)


class Day(NamedTuple):
    """A day of `seconds` on `replicas` behind a router."""

    router: str
    replicas: int
    seconds: float
    seed: int

    def record(self) -> dict[str, Any]:
        """The figures of FIGURES (but shares as such), the expected cv of tokens, and p99 TTFT and load by hour."""
        workload = offered(self.replicas, self.seconds, self.seed)
        system = System.named("llama-3-8b", "a100")
        trace = simulate(
            workload, system, Sarathi(), nodes=self.replicas, router=ROUTERS[self.router], seed=self.seed
        )
        return {**self._asdict(), "requests": len(workload), **self._figures(trace)}

    def _figures(self, trace: Trace) -> dict[str, Any]:
        q, waited = trace.requests, metrics.ttft(trace)
        tokens = q["prompt"] + q["output"]
        peak = (TROUGH + 0.5) * self.seconds
        here = (q["arrival"] <= peak) & (q["finished"] > peak)
        queue = np.bincount(q["node"][here], minlength=self.replicas)
        hours = np.searchsorted(q["arrival"], self.seconds * np.arange(25) / 24)
        by_hour = [metrics.quantile(waited[a:b], 0.99) for a, b in itertools.pairwise(hours)]
        return {
            "mean TTFT": metrics.mean(waited),
            "median TTFT": metrics.quantile(waited, 0.5),
            "p99 TTFT": metrics.quantile(waited, 0.99),
            "p99 TBT": metrics.tbt_quantile(trace, 0.99),
            "within both limits": metrics.slo_attainment(trace),
            "tokens, cv": unevenness(np.bincount(q["node"], tokens, self.replicas)),
            "queue at the peak, cv": unevenness(queue),
            "queue at the peak, longest over mean": float(queue.max() / queue.mean()),
            "expected cv": expected(self.router, tokens, self.replicas),
            "p99 TTFT by hour": by_hour,
            "load by hour": (np.diff(hours) * 24 / (CAPACITY * self.replicas * self.seconds)).tolist(),
        }


def unevenness(values: NDArray[Any]) -> float:
    """Coefficient of variation over replicas."""
    return float(np.std(values) / np.mean(values))


def expected(router: str, tokens: NDArray[Any], replicas: int) -> float:
    """Law (2): coefficient of variation of tokens sent to a replica; nan for a router that looks at the replicas."""
    square = float(np.var(tokens) / np.mean(tokens) ** 2)
    by = {"random": 1 + square, "round robin": square}
    return math.sqrt(replicas / len(tokens) * by[router]) if router in by else math.nan


def _jobs(quick: bool) -> list[Day | Queues]:
    sizes = [(REPLICAS[quick], COMPRESSED)] + [(OWN_PACE[quick], DAY)] * (OWN_PACE[quick] > 0)
    jobs: list[Day | Queues] = [
        Day(router, *size, seed) for size in sizes for seed in range(SEEDS[quick]) for router in ROUTERS
    ]
    cases = [(router, REPLICAS[quick]) for router in ("random", "round robin", "two choices")]
    cases += [(router, FEW) for router in ("two choices", "shortest queue", "least work")]
    return jobs + [
        Queues(*case, REQUESTS[quick], seed)
        for case in dict.fromkeys(cases)
        for seed in range(LAW_SEEDS[quick])
    ]


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
    days = [record for record in done if "seconds" in record]
    queues = [record for record in done if "time" in record]
    compressed = [record for record in days if record["seconds"] == COMPRESSED]
    slow = [record for record in days if record["seconds"] == DAY]
    rows = [*_level_rows(compressed), *_order_rows(compressed), *_token_rows(compressed)]
    rows += [*_level_rows(slow, ("mean TTFT", "p99 TTFT", "within both limits")), *_order_rows(slow)]
    rows += _law_rows(queues)
    notes = [
        f"a day of {COMPRESSED:g} s, at {MEAN:g} of {CAPACITY:g} requests/s a replica in the mean and {MEAN + SWING:g} "
        f"at the peak; limits {TTFT:g} s (TTFT) and {TBT:g} s (TBT)",
        "intervals are Student's t over seeds, of differences and ratios seed by seed, since routers meet the same "
        f"requests; verdicts about laws take {LEVEL:.0%}",
    ]
    if not slow:
        notes.append("the day of 86,400 s is part of the full size only")
    seeds = list(range(max(SEEDS[quick], LAW_SEEDS[quick])))
    tables = {"days": _flat(days), "one request at a time": queues}
    result = Result(NAME, time.perf_counter() - began, seeds, versions(), rows, tables, notes)
    if out is not None:
        write_plots(compressed, queues, out)
        write_atomically(out / f"{NAME}.json", result.to_json().encode())
    return result


def _flat(days: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in record.items() if "by hour" not in name} for record in days]


def _of(records: Sequence[Mapping[str, Any]], router: str, name: str) -> list[float]:
    return [record[name] for record in records if record["router"] == router]


def _where(days: Sequence[Mapping[str, Any]]) -> str:
    return f"{days[0]['replicas']} replicas, day of {days[0]['seconds']:,.0f} s"


def _level_rows(days: Sequence[Mapping[str, Any]], figures: Sequence[str] = tuple(FIGURES)) -> Iterator[Row]:
    for name in figures if days else ():
        for router in ROUTERS:
            scale = 100 if FIGURES[name] == "percent" else 1
            found = over_seeds([scale * value for value in _of(days, router, name)])
            yield Row(f"{name}, {router} ({_where(days)})", FIGURES[name], None, *found, "not testable here")


def _order_rows(days: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    pairs = {("random", "two choices"): True, ("two choices", "shortest queue"): True,
             ("shortest queue", "round robin"): False, ("shortest queue", "least work"): False}  # fmt: skip
    for (more, less), stated in pairs.items() if days else ():
        both = zip(_of(days, more, "mean TTFT"), _of(days, less, "mean TTFT"), strict=True)
        value, low, high = over_seeds([1e3 * (a - b) for a, b in both])
        verdict: Verdict = judge_at_least(0.0, low, high) if stated else "not testable here"
        text = f"mean TTFT, {more} less {less}{' (theory: at least 0)' if stated else ''} ({_where(days)})"
        yield Row(text, "ms", None, value, low, high, verdict)


def _token_rows(days: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    by = {router: _of(days, router, "expected cv") for router in ("random", "round robin")}
    for router, other in (("random", "round robin"), ("round robin", "random")):
        ratios = [a / b for a, b in zip(_of(days, router, "tokens, cv"), by[router], strict=True)]
        rival = float(np.mean(by[other]) / np.mean(by[router]))
        yield _judged(f"cv of tokens over its law, {router}", "1", 1.0, rival, ratios)


def _judged(
    text: str, unit: str, theory: float, rival: float, values: Sequence[float], slack: float = 0.0
) -> Row:
    """A row about a law that holds within `slack`; an interval that holds a `rival` of it too settles nothing."""
    _, low, high = over_seeds(values, LEVEL)
    open_to_both = low - slack <= rival <= high + slack
    verdict: Verdict = "not testable here" if open_to_both else judge(theory, low - slack, high + slack)
    return Row(f"{text} (theory: {theory:.4g}, not {rival:.4g})", unit, None, *over_seeds(values), verdict)


def _law_rows(queues: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    by: dict[tuple[str, int], list[float]] = {}
    thirds: dict[tuple[str, int], list[float]] = {}
    for record in queues:
        by.setdefault((record["router"], record["replicas"]), []).append(record["time"])
        thirds.setdefault((record["router"], record["replicas"]), []).append(record["shares"][2])
    most = max(replicas for _, replicas in by)
    near = 5 / most  # the mean field errs by the order of 1/g
    cases = {"random": ("round robin", most, 0.0), "round robin": ("random", most, 0.0),
             "two choices": ("round robin", most, near), "least work": ("two choices", FEW, 0.02)}  # fmt: skip
    for router, (other, replicas, slack) in cases.items():
        theory, rival = (time_in_system(name, LOAD, replicas) for name in (router, other))
        text = f"mean time in system, {router}, {_exponential(replicas)}"
        yield _judged(text, "services", theory, rival, by[router, replicas], slack)
    for d, router, slack in ((1, "random", 0.0), (2, "two choices", near)):
        theory, rival = share_with(d, LOAD, 3), share_with(3 - d, LOAD, 3)
        text = f"share of replicas with 3 requests or more, {router}, {_exponential(most)}"
        yield _judged(text, "1", theory, rival, thirds[router, most], slack)
    for more, less in (("two choices", "shortest queue"), ("shortest queue", "least work")):
        both = zip(by[more, FEW], by[less, FEW], strict=True)
        value, low, high = over_seeds([a - b for a, b in both])
        text = f"mean time in system, {more} less {less}, {_exponential(FEW)} (theory: at least 0)"
        yield Row(text, "services", None, value, low, high, judge_at_least(0.0, low, high))


def _exponential(replicas: int) -> str:
    return f"{replicas} replicas at {LOAD:g}, exponential service"
