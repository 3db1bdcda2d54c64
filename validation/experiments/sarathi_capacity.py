"""Capacity under a limit on the time between tokens: the largest rate that a policy carries on given requests.

A rate is *feasible* if the 99th percentile of the gaps between tokens is at most the limit and the median scheduling
delay, from arrival to the first batch that serves a request, is at most 2 s.  The definition is Sarathi-Serve's (arXiv
2403.02310); the capacity of a list of requests is found by bisection, their times of arrival scaled and nothing else.

Not promised: that feasibility is monotone in the rate.  The bisection ends at a rate below which it was last feasible
and above which it was not; the experiment's curves over rates show whether there are more such places.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import root_scalar

from policies import ChunkOnly, FasterTransformer, HybridOnly, Orca, Sarathi, Vllm
from queueing import metrics
from queueing.arrivals import Poisson
from queueing.lengths import Independent, Lengths, LogNormal, Moments, ShareGPT
from queueing.models.capacity import Capacity
from queueing.models.demand import Demand, Limits, Stairs
from queueing.models.iteration_time import Load, Table
from queueing.policy import Policy
from queueing.simulator import simulate
from queueing.system import System
from queueing.workload import Workload

__all__ = [
    "CASES",
    "DELAY",
    "PLACES",
    "SLO",
    "AtRate",
    "Case",
    "Search",
    "ceiling",
    "policy",
    "requests",
    "stall_capacity",
    "system",
]

SLO = {"strict": 0.1, "relaxed": 0.5}  # s between tokens, 99th percentile: Mistral-7B's in the paper
BUDGET = {"strict": 512, "relaxed": 2048}  # tokens, the paper's choice for these limits
DELAY = 2.0  # s, median scheduling delay
PLACES = 128  # requests that hold KV memory
STEPS = 10  # of bisection: the capacity to 0.2 % of the ceiling
START = 1.6  # times the ceiling: in a short run even more than the edge is feasible


@dataclass(frozen=True, slots=True)
class Case:
    """Lengths of requests, and the longest request there is (tokens)."""

    lengths: Lengths
    longest: int


def _log_normal(median: float, ninetieth: float, most: int) -> LogNormal:
    return LogNormal(
        median, np.log(ninetieth / median) / 1.2815515655446004, 1, most
    )  # the normal law's 0.9-quantile


CASES: dict[str, Case] = {
    "sharegpt": Case(ShareGPT(source="table"), 8192),
    # medians and 90th percentiles of the paper's summarisation trace; together at most 16384 tokens
    "arxiv": Case(Independent(_log_normal(7059, 12985, 15360), _log_normal(208, 371, 1024)), 16384),
}


def policy(name: str, longest: int) -> Policy:
    """Policy by name: "sarathi 512" has a budget of 512 tokens, "vllm 32" 32 places; others have 128."""
    kind, _, number = name.partition(" ")
    size = int(number) if number else PLACES
    made: Mapping[str, Any] = {
        "sarathi": lambda: Sarathi(token_budget=size, max_num_seqs=PLACES),
        "vllm": lambda: Vllm(max_batched_tokens=longest, max_num_seqs=size),
        "orca": Orca,
        "hybrid-only": lambda: HybridOnly(batch_size=PLACES),
        "chunk-only": lambda: ChunkOnly(token_budget=size, max_num_seqs=PLACES),
        "fastertransformer": FasterTransformer,
    }
    return made[kind]()


def system(case: str, kappa: float = 1.0, phi: float = 1.0, engine: float = 0.0) -> System:
    """Llama-3-8B on an A100, its attention coefficients (derived, not measured) scaled by `kappa` and `phi`.

    `engine` (s) is added to every iteration: launches, scheduling and sampling, which kernel times leave out.
    """
    base = System.named("llama-3-8b", "a100")
    law = base.iteration_time
    assert isinstance(law, Table)
    seconds = tuple(s + engine for s in law.seconds)
    attention = {"per_context": kappa * law.per_context, "per_pair": phi * law.per_pair}
    law = dataclasses.replace(law, seconds=seconds, **attention)
    return dataclasses.replace(base, iteration_time=law, max_length=CASES[case].longest)


@functools.cache
def requests(case: str, seed: int, count: int) -> Workload:
    """Poisson arrivals at one request per second, to be scaled; the same for every policy."""
    return Workload.generate(Poisson(1.0), CASES[case].lengths, count, np.random.default_rng(seed))


def ceiling(
    case: str, seed: int, count: int, budget: int, kappa: float = 1.0, phi: float = 1.0, engine: float = 0.0
) -> float:
    """Largest rate that any schedule of batches of at most `budget` tokens carries, on these requests' moments."""
    machine, work = system(case, kappa, phi, engine), requests(case, seed, count)
    _, params = machine.iteration_time.lower()
    demand = Demand.of(
        Moments.of(work.prompt, work.output), 1.0, case, last_chunk_emits=machine.last_chunk_emits
    )
    limits = Limits(budget, machine.kv_tokens, PLACES)
    return float(Capacity(Stairs.of(params, budget), [demand], limits).boundary().solution.theta)


def stall_capacity(case: str, seed: int, count: int, limit: float, engine: float = 0.0) -> float:
    """Rate (requests/s) at which one in a hundred of vLLM's gaps holds a prompt that breaks the `limit` (s).

    A decoding request meets a prompt too long for the limit λ·P(τ(p) + T > limit) times a second and gets a token every
    T/(1 - λ·E τ(p)) s, where τ(p) is the time of a prompt alone and T that of the decodes, as many as Little's law
    says:

        λ·P(τ(p) + T > limit)·T/(1 - λ·E τ(p)) = 0.01 .

    Assumptions: prompts come one to a batch, so a limit that single prompts seldom break is out of reach; the number of
    decodes and their context are at their means.
    """
    work, law = requests(case, seed, count), system(case, engine=engine).iteration_time
    none = np.zeros(0, np.int64)
    prompt = np.array([law(Load(int(p), 0, 0, np.array([p]), np.zeros(1, np.int64))) for p in work.prompt])
    output = float(work.output.mean())
    context = float((work.output * (work.prompt + work.output / 2)).mean()) / output

    def excess(rate: float) -> float:
        free = 1 - rate * float(prompt.mean())
        step = law(Load(1, 1, round(context), none, none))
        for _ in range(50):  # decodes and the time of a step determine each other
            decodes = rate * output * step / free
            step = law(Load(max(round(decodes), 1), round(decodes), round(decodes * context), none, none))
        return rate * float(np.mean(prompt + step > limit)) * step / free - 0.01

    return float(root_scalar(excess, bracket=(1e-6, 0.99 / float(prompt.mean())), xtol=1e-4).root)


@dataclass(frozen=True, slots=True)
class AtRate:
    """One run of a policy at `rate` requests/s."""

    case: str
    policy: str
    rate: float
    seed: int
    count: int
    kappa: float = 1.0
    phi: float = 1.0
    engine: float = 0.0

    def record(self) -> dict[str, Any]:
        """Median TTFT, 99th percentile of the time between tokens and median scheduling delay (s)."""
        work = requests(self.case, self.seed, self.count)
        arrivals = dataclasses.replace(work, arrival=work.arrival / self.rate)
        chosen = policy(self.policy, CASES[self.case].longest)
        trace = simulate(arrivals, system(self.case, self.kappa, self.phi, self.engine), chosen)
        return {
            **dataclasses.asdict(self),
            "ttft50": float(np.median(metrics.ttft(trace))),
            "tbt99": metrics.tbt_quantile(trace, 0.99),
            "delay50": float(np.median(metrics.queueing_time(trace))),
        }


@dataclass(frozen=True, slots=True)
class Search:
    """The capacity of a policy under the limit called `slo`."""

    case: str
    slo: str
    policy: str
    seed: int
    count: int
    kappa: float = 1.0
    phi: float = 1.0
    engine: float = 0.0

    def feasible(self, rate: float) -> bool:
        """Whether both limits are kept at `rate` requests/s."""
        scales = (self.kappa, self.phi, self.engine)
        run = AtRate(self.case, self.policy, rate, self.seed, self.count, *scales).record()
        return run["tbt99"] <= SLO[self.slo] and run["delay50"] <= DELAY

    def record(self) -> dict[str, Any]:
        """`capacity` (requests/s) and `tops`, whether even the highest rate tried was feasible."""
        scales = (self.kappa, self.phi, self.engine)
        low, high = 0.0, START * ceiling(self.case, self.seed, self.count, BUDGET["relaxed"], *scales)
        tops = self.feasible(high)
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.feasible(middle) else (low, middle)
        return {**dataclasses.asdict(self), "capacity": low, "tops": tops}
