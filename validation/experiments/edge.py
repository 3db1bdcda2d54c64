"""Where stability ends: the edge that the batch-composition program computes, and the edge that simulated queues show.

For each system the program gives the largest rate that any schedule carries, certified in fractions, and the batches
that carry it.  Sarathi-Serve, its token budget set to the largest batch of that optimum, is the best policy known for
such systems, and RAD for its own.  Held against it, on Poisson arrivals with the same lengths:

* at 0.97 of the edge the backlog of the best policy grows by less than 2 % of the arrivals (0.98 for RAD);
* at 1.03 of it the backlog grows (1.02 for RAD), as the program proves it must under any policy;
* vLLM and FasterTransformer, whose batches are pure and of whole prompts, carry no more than the program allows without
  mixed batches, its budget raised to vLLM's 8192 tokens, and so stay below the edge.  Under the tile law pure batches
  lose nothing: there vLLM, saturated, keeps its one tile of decodes full and carries as much as the program allows.

The simulated edge of a policy is its throughput under saturation: the rate fed, 1.1 of the edge, less the growth of the
backlog, with the interval of the growth test.  Every verdict errs with probability 1e-3 at most (asymptotically).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from policies import FasterTransformer, Rad, Sarathi, Vllm
from queueing import metrics
from queueing.arrivals import Poisson
from queueing.lengths import Moments, ShareGPT
from queueing.models.capacity import Capacity
from queueing.models.demand import Demand, Limits, Stairs
from queueing.models.iteration_time import Roofline
from queueing.policy import Policy
from queueing.simulator import simulate, versions
from queueing.system import System
from queueing.workload import Workload
from validation.executors import in_order
from validation.result import Result, Row, Verdict, write_atomically
from validation.verdicts import judge, judge_limit

__all__ = ["NAME", "SYSTEMS", "Case", "edge_of", "growth", "run"]

NAME = "edge"
ERROR = 1e-3
SMALL = 0.02  # growth, as a share of the arrivals, that counts as none
REQUESTS = {False: 300_000, True: 60_000}  # by quick
SEED = 0
SATURATED = 1.1  # of the edge
ROOFLINE = Roofline(0.0234, 0.007, 9.1e-5, 1.7e-7, 5e-9)  # about the testbed's


@dataclass(frozen=True, slots=True)
class Case:
    """A system, the lengths of its requests (one class per column of `classes`), and how close the edge is tried."""

    system: System
    lengths: Callable[[int, np.random.Generator], tuple[Any, Any, Any]]  # prompts, outputs, class of each
    budget: int
    rad: bool = False

    @property
    def closeness(self) -> float:
        """Distance from the edge on either side, relative."""
        return 0.02 if self.rad else 0.03


def _tiles(n: int, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """RAD's instance: prompts of one to eight tiles, outputs geometric and cut."""
    return 128 * rng.integers(1, 9, n), np.minimum(1 + np.floor(rng.exponential(200, n)), 512).astype(int), 0


def _sharegpt(longest: int) -> Callable[[int, np.random.Generator], tuple[Any, Any, Any]]:
    """Conversations, prompts cut at `longest` tokens."""

    def draw(n: int, rng: np.random.Generator) -> tuple[Any, Any, Any]:
        prompt, output = ShareGPT(source="table").sample(n, rng)
        return np.minimum(prompt, longest), output, 0

    return draw


def _two_classes(n: int, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """Four chats, about 256 tokens in and 512 out, to one document, 6144 in and 128 out."""
    document = (rng.random(n) < 0.2).astype(int)
    spread = rng.integers(-64, 65, n)
    return np.where(document, 6144, 256) + spread, np.where(document, 128, 512) - spread, document


def _short(n: int, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """Short questions, long answers."""
    return rng.integers(16, 65, n), rng.integers(200, 601, n), 0


SYSTEMS: dict[str, Case] = {
    "tile law": Case(
        # places for one full tile of decodes, and a context that holds every request, for the baselines' sake
        dataclasses.replace(System.rad_tile_model(), max_running=128, max_length=2048),
        _tiles,
        128,
        rad=True,
    ),
    "roofline": Case(System.mistral_7b_rtx_6000_ada(), _sharegpt(8192), 512),
    "A100 table": Case(System.named("llama-3-8b", "a100"), _sharegpt(7000), 2048),
    "H100 table": Case(System.named("llama-2-7b", "h100"), _sharegpt(3000), 2048),
    "two classes": Case(System.mistral_7b_rtx_6000_ada(), _two_classes, 512),
    "KV-bound": Case(
        System(
            Roofline(0.0234, 0.007, 9.1e-5, 1.7e-7, 5e-9),
            24_000,
            block_size=1,
            max_length=1024,
            name="small memory",
        ),
        _short,
        512,
    ),
}


def _workload(case: Case, requests: int, seed: int) -> tuple[Workload, Any]:
    """Requests at one per second, to be scaled, and the class of each."""
    rng = np.random.default_rng(seed)
    prompt, output, which = case.lengths(requests, rng)
    arrival = np.array(Poisson(1.0).times(requests, rng))
    return Workload(arrival, prompt, output), np.broadcast_to(which, requests)


def edge_of(case: Case, requests: int, seed: int = SEED, *, pure: bool = False) -> tuple[Capacity, int]:
    """The region of a case on its very requests, rates in shares of the classes, and the largest batch at the edge."""
    workload, which = _workload(case, requests, seed)
    system = case.system
    classes = [
        Demand.of(
            Moments.of(workload.prompt[which == k], workload.output[which == k]),
            float(np.mean(which == k)),
            str(k),
            last_chunk_emits=system.last_chunk_emits,
        )
        for k in np.unique(which)
    ]
    _, params = system.iteration_time.lower()
    budget = Vllm().max_batched_tokens if pure else case.budget
    limits = Limits(budget, system.kv_tokens, system.max_running)
    capacity = Capacity(Stairs.of(params, budget), classes, limits, pure=pure)
    largest = max(kind.tokens for kind, _ in capacity.program.solve().batches)
    return capacity, largest


def growth(case: Case, policy: Policy, rate: float, requests: int, seed: int = SEED) -> metrics.Growth:
    """Growth of the backlog under a policy at `rate` requests/s, after a warm-up of a tenth."""
    unit, _ = _workload(case, requests, seed)
    workload = Workload(unit.arrival / rate, unit.prompt, unit.output)
    end = float(workload.arrival[-1])
    trace = simulate(workload, case.system, policy, horizon=end)
    return metrics.growth_test(trace, start=0.1 * end, error=ERROR)


class Task(NamedTuple):
    """One run: a policy on a system at `factor` times its edge (requests/s)."""

    system: str
    policy: Policy
    edge: float
    factor: float
    requests: int


def _one(task: Task) -> metrics.Growth:
    return growth(SYSTEMS[task.system], task.policy, task.edge * task.factor, task.requests)


def run(
    quick: bool = False,
    out: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Run the experiment; write the JSON object into `out` if it is given."""
    began = time.perf_counter()
    requests = REQUESTS[quick]
    tasks: list[Task] = []
    pure: dict[str, float] = {}
    notes: list[str] = []
    for name, case in SYSTEMS.items():
        capacity, largest = edge_of(case, requests)
        certificate = capacity.certificate()
        certificate.check()
        edge = float(certificate.theta)
        pure[name] = edge_of(case, requests, pure=True)[0].boundary().solution.theta
        notes.append(f"{name}: {certificate.claim}; {'; '.join(capacity.boundary().binds)}")
        best: Policy = Rad() if case.rad else Sarathi(token_budget=largest)
        near = case.closeness
        tasks += [Task(name, best, edge, factor, requests) for factor in (1 - near, 1 + near, SATURATED)]
        tasks += [Task(name, policy, edge, SATURATED, requests) for policy in (Vllm(), FasterTransformer())]
    found = in_order(_one, tasks, workers=workers, progress=progress)
    table = [_entry(task, test) for task, test in zip(tasks, found, strict=True)]
    rows = list(_rows(tasks, found, pure))
    result = Result(NAME, time.perf_counter() - began, [SEED], versions(), rows, {"growth": table}, notes)
    if out is not None:
        write_atomically(out / f"{NAME}.json", result.to_json().encode())
    return result


def _entry(task: Task, test: metrics.Growth) -> Mapping[str, Any]:
    rate = task.edge * task.factor
    return {
        "system": task.system,
        "policy": task.policy.name,
        "load": task.factor,
        "rate": rate,
        "growth": test.rate.value / rate,
        "low": test.rate.low / rate,
        "high": test.rate.high / rate,
        "grows": test.grows,
        "grows less than 2 %": test.grows_less_than(SMALL),
    }


def _rows(tasks: list[Task], found: list[metrics.Growth], pure: Mapping[str, float]) -> Iterator[Row]:
    """Per system and policy, the edge that theory states (as `published`) and the simulated one."""
    tests: dict[tuple[str, str], dict[float, metrics.Growth]] = {}
    for task, test in zip(tasks, found, strict=True):
        tests.setdefault((task.system, task.policy.name), {})[task.factor] = test
    edges = {task.system: task.edge for task in tasks}
    for (name, policy), loads in tests.items():
        edge, saturated = edges[name], loads[SATURATED].rate
        fed = SATURATED * edge
        value, low, high = fed - saturated.value, fed - saturated.high, fed - saturated.low
        verdict: Verdict = "not testable here"  # unless the runs settle it
        if len(loads) == 3:
            below, above = min(loads), sorted(loads)[1]
            # above, no policy keeps a backlog from taking up what the edge does not carry
            if loads[below].grows or loads[above].grows_less_than(1 - 1 / above):
                verdict = "differs"
            elif loads[below].grows_less_than(SMALL) and loads[above].grows:
                verdict = "reproduced"
            quantity = f"edge, {name}, {policy} (theory: within {above - 1:.0%} on either side)"
            yield Row(quantity, "requests/s", edge, value, low, high, verdict)
        else:
            reaches = SYSTEMS[name].rad and policy == Vllm().name  # its one tile of decodes is always full
            verdict = (judge if reaches else judge_limit)(pure[name], low, high)
            quantity = f"edge, {name}, {policy} (theory: {'as much' if reaches else 'at most'})"
            yield Row(quantity, "requests/s", pure[name], value, low, high, verdict)
