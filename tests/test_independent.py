"""The compiled loop and its policies against an independent simulator: the same batches, at the same times.

30 random workloads for each policy, most of them in memory so tight that requests are preempted again and again, half
of them with `last_chunk_emits`.  All coefficients of the law and all arrivals are dyadic fractions, so that no order of
summation rounds, and times are compared to the bit.

Negative controls: whatever rule of the independent simulator is altered, the comparison notices.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from policies.sarathi import Sarathi
from policies.slai import Slai
from policies.vllm import Vllm
from queueing.models.iteration_time import Affine
from queueing.policy import FIFO, SPF, STRICT_SPF, Order, Policy
from queueing.simulator import simulate
from queueing.system import System
from queueing.workload import Workload
from tests import independent

SEEDS = range(30)
PLACES = 24
LAW = (2.0**-6, 2.0**-13, 2.0**-22, 2.0**-24)  # s; s per token, context token and token pair

Model = type[independent.Node]


def with_rule(model: Model, **rule: Any) -> Model:
    return type(model.__name__, (model,), rule)


def sarathi(budget: int, spf: bool) -> tuple[Policy, Model]:
    policy = Sarathi(budget, order=SPF if spf else FIFO, max_num_seqs=PLACES)
    return policy, with_rule(independent.Sarathi, budget=budget, spf=spf)


def slai(budget: int, order: Order, **parameters: Any) -> tuple[Policy, Model]:
    parameters = {"limit_total_decodes": 12, **parameters}
    policy = Slai(budget, max_num_seqs=PLACES, order=order, **parameters)
    by_length = {"spf": order != FIFO, "strict_first": order == STRICT_SPF}
    return policy, with_rule(independent.Slai, budget=budget, **by_length, **parameters)


CASES: dict[str, tuple[Policy, Model]] = {
    "vllm": (Vllm(1024, max_num_seqs=PLACES), with_rule(independent.Vllm, cap=1024)),
    "sarathi fcfs": sarathi(64, spf=False),
    "sarathi spf": sarathi(64, spf=True),
    "sarathi spf, wide": sarathi(512, spf=True),
    "slai fcfs, fixed": slai(64, FIFO, fixed_offset=True, below_offset=10.0),
    "slai spf, fixed": slai(64, SPF, fixed_offset=True, below_offset=2.0),
    "slai fcfs, dynamic": slai(64, FIFO),
    "slai spf, dynamic": slai(64, SPF),
    "slai spf, dynamic, wide": slai(512, SPF),
    "slai strict first, dynamic": slai(64, STRICT_SPF),
    "slai, offset that often changes": slai(40, SPF, below_offset=2.0, above_offset=12.0, memory_limit=0.75),
}


def problem(seed: int) -> tuple[Workload, System]:
    """20 to 50 requests that can all be finished, in memory for one to four of the largest, or (1 in 7) for all."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 51))
    gap = np.where(
        rng.random(n) < 0.2, 0.0, np.floor(rng.exponential(rng.choice([0.02, 0.1, 0.3]), n) * 1024) / 1024
    )
    prompt = rng.integers(1, rng.choice([40, 300, 600]), n)
    output = np.minimum(rng.geometric(1 / rng.choice([3, 30, 60]), n), 120)
    workload = Workload(np.cumsum(gap), prompt, output, tbt=rng.choice([0.1, 0.25, 0.5, np.inf], n))
    largest = math.ceil(int(np.max(prompt + output)) / independent.BLOCK) + 1
    blocks = 4000 if seed % 7 == 6 else largest + int(rng.integers(0, 3 * largest))
    return workload, System(Affine(*LAW), blocks, max_running=PLACES, last_chunk_emits=seed % 2 == 0)


def theirs(workload: Workload, system: System, policy: Policy) -> tuple[list[Any], Any]:
    """Start, tokens by request in their order, and preempted requests of every batch; and the columns of requests."""
    trace = simulate(workload, system, policy, record_entries=True)
    assert trace.entries is not None
    assert trace.finished.all()
    rows = list(zip(trace.entries["request"].tolist(), trace.entries["tokens"].tolist(), strict=True))
    batches: list[Any] = []
    at = 0
    for start, entries in zip(
        trace.iterations["start"].tolist(), trace.iterations["entries"].tolist(), strict=True
    ):
        batch = rows[at : at + entries]
        at += entries
        batches.append((start, [(r, q) for r, q in batch if q > 0], {r for r, q in batch if q == 0}))
    assert at == len(rows)
    return batches, trace.requests


def ours(workload: Workload, system: System, model: Model) -> tuple[list[Any], Any]:
    node = model(system.blocks, system.max_running, system.last_chunk_emits, LAW)
    columns = (workload.arrival, workload.prompt, workload.output, workload.tbt)
    requests = [
        independent.Request(i, *row) for i, row in enumerate(zip(*(c.tolist() for c in columns), strict=True))
    ]
    batches = [
        (b.start, [(r.name, q) for r, q in b.tokens.items()], {r.name for r in b.preempted})
        for b in node.run(requests)
    ]
    return batches, {
        name: np.array([getattr(r, name) for r in requests]) for name in ("first_token", "finished")
    }


def difference(policy: Policy, model: Model, seed: int) -> str:
    """Say where the two simulators first part, or return the empty string."""
    workload, system = problem(seed)
    batches, requests = theirs(workload, system, policy)
    expected, times = ours(workload, system, model)
    for i, (one, other) in enumerate(zip(batches, expected, strict=False)):
        if one != other:
            return f"seed {seed}, batch {i}: {one} instead of {other}"
    if len(batches) != len(expected):
        return f"seed {seed}: {len(batches)} batches instead of {len(expected)}"
    for name, column in times.items():
        if not np.array_equal(requests[name], column):
            return f"seed {seed}: {name} of request {np.flatnonzero(requests[name] != column)[0]}"
    return ""


@pytest.mark.parametrize("case", CASES)
def test_batches_and_times_are_those_of_the_independent_simulator(case: str):
    policy, model = CASES[case]
    assert [d for d in (difference(policy, model, seed) for seed in SEEDS) if d] == []


@pytest.mark.parametrize("case", CASES)
def test_memory_is_tight(case: str):
    """Most of the workloads preempt, or the comparison would not reach the rules of memory."""
    preempted = [simulate(*problem(seed), CASES[case][0]).requests["preemptions"].sum() for seed in SEEDS]
    assert np.count_nonzero(preempted) >= 12
    assert np.sum(preempted) >= 150


# --- negative controls: the independent simulator with one rule altered ----------------------------------------------


def forgets_what_was_generated(node: Any, r: Any, batch: Any) -> None:
    independent.Node.preempt(node, r, batch)
    r.goal = r.prompt


def goes_to_the_back(node: Any, r: Any, batch: Any) -> None:
    independent.Node.preempt(node, r, batch)
    node.waiting.append(node.waiting.pop(0))


def asks_only_at_an_edge(node: Any, r: Any, batch: Any) -> bool:
    return r.cached % independent.BLOCK != 0 or independent.Node.slot(node, r, batch)


def next_in_order(node: Any, r: Any) -> Any:
    running = independent.by_arrival(node.running)
    return running[running.index(r) :][:2][-1]


def also_prompts_before_it(node: Any, r: Any) -> Any:
    others = [v for v in node.running if v.started or (v.arrival, v.name) > (r.arrival, r.name)]
    return independent.by_arrival(others or [r])[-1]


def ignores_the_watermark(node: Any, r: Any) -> bool:
    return node.free >= independent.blocks_of(r.goal) and len(node.running) < node.places


def latest_first_among_equals(node: Any) -> list[Any]:
    return sorted(node.waiting, key=lambda r: (r.goal, -node.waiting.index(r)))


def thaws(node: Any, batch: Any, end: float) -> None:
    independent.Slai.served(node, batch, end)
    for r in node.heap:
        r.lst = end + node.tbt(r) - node.offset() * node.durations / len(node.batches)


def last_batch_only(node: Any, batch: Any, end: float) -> None:
    durations, node.durations = node.durations, (end - batch.start) * len(node.batches)
    independent.Slai.served(node, batch, end)
    node.durations = durations


def offset_above_the_limit(node: Any) -> float:
    above = (node.total - node.free) / node.total > node.memory_limit
    return node.above_offset if above else node.below_offset


def another_decode(node: Any, r: Any) -> Any:
    return (node.paused or node.heap or [r]).pop()


ALTERED: dict[str, tuple[str, dict[str, Callable[..., Any]]]] = {
    "a recomputed prompt is the prompt alone": ("vllm", {"preempt": forgets_what_was_generated}),
    "preempted requests wait behind the others": ("vllm", {"preempt": goes_to_the_back}),
    "no watermark": ("vllm", {"fits": ignores_the_watermark}),
    "a decode asks for a block only where it needs one": ("sarathi fcfs", {"slot": asks_only_at_an_edge}),
    "the next in order is preempted, not the last": ("sarathi fcfs", {"victim": next_in_order}),
    "prompts started before can be victims": ("sarathi spf", {"victim": also_prompts_before_it}),
    "the sort by length is not stable": ("sarathi spf", {"queue_order": latest_first_among_equals}),
    "a last schedulable time is set anew while its request waits": ("slai spf, dynamic", {"served": thaws}),
    "the mean forgets": ("slai spf, dynamic", {"served": last_batch_only}),
    "the offset changes beyond the limit only": (
        "slai, offset that often changes",
        {"offset": offset_above_the_limit},
    ),
    "another decode is preempted, not this one": ("slai fcfs, dynamic", {"victim": another_decode}),
    "strict users are not first": ("slai strict first, dynamic", {"strict_first": False}),
}


@pytest.mark.parametrize("rule", ALTERED)
def test_an_altered_rule_is_noticed(rule: str):
    case, altered = ALTERED[rule]
    policy, model = CASES[case]
    assert any(difference(policy, with_rule(model, **altered), seed) for seed in SEEDS)


def test_the_convention_of_the_first_token_is_noticed():
    policy, model = CASES["sarathi fcfs"]
    workload, system = problem(0)
    other = dataclasses.replace(system, last_chunk_emits=not system.last_chunk_emits)
    assert theirs(workload, system, policy)[0] != ours(workload, other, model)[0]
