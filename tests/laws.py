"""The laws of the contract as functions of a run: their tests and their negative controls check the same thing."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import policies
from policies.admission import Admission
from queueing.models.iteration_time import TileLaw
from queueing.policy import Policy
from queueing.simulator import simulate
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload
from tests.accountant import Step, audit

TILE, TILE_TIME, TOKEN_TIME = 16, 2.0**-6, 2.0**-12
LAW = TileLaw(TILE, TILE_TIME, TOKEN_TIME)
HORIZON = 2.0**10  # s, beyond the work of any generated workload, so that what livelocks fails to drain

OUTPUTS: dict[str, Any] = {}  # of the run under way: what one negative control knows and no policy should


def run(workload: Workload, system: System, policy: Policy, **options: Any) -> Trace:
    """One router by default, also for one node, because each router is compiled into a loop of its own."""
    OUTPUTS["of this run"] = workload.output
    defaults = {"record_entries": True, "horizon": HORIZON, "router": policies.RoundRobin()}
    return simulate(workload, system, policy, **{**defaults, **options})


def admission_of(policy: Policy) -> Admission | None:
    if getattr(policy, "artifact", False):
        return Admission.PEAK  # its own rule, which gives blocks for the prompt alone, as PEAK does
    return getattr(policy, "admission", None)


def same_tables(one: Trace, two: Trace, *, but: tuple[str, ...] = ()) -> str:
    """Name the first column in which two traces differ in any bit, or return the empty string."""
    for table in ("requests", "iterations", "entries"):
        a, b = getattr(one, table), getattr(two, table)
        for name in a:
            if name not in but:
                x, y = a[name], b[name]
                if x.dtype != y.dtype or not np.array_equal(x, y, equal_nan=x.dtype.kind == "f"):
                    return f"{table}.{name}"
    return "" if np.array_equal(one.gaps, two.gaps) else "gaps"


def lies(policy: Policy, system: System, steps: list[Step]) -> list[str]:
    """Which declared facts the steps of a run contradict."""
    facts = policy.facts
    wrong: list[str] = []
    for s in steps:
        if facts.non_idling and s.idled > 0:
            wrong.append("non_idling")
        passed_over = [r for r in s.queue if r in s.admitted or r not in s.victims]
        if facts.fcfs and s.admitted != passed_over[: len(s.admitted)]:
            wrong.append("fcfs")
        if facts.stall_free and len(s.decoding) <= system.max_batch_tokens:
            if any(r not in s.victims and (r, 1) not in s.entries for r in s.decoding):
                wrong.append("stall_free")
            if s.victims and s.free >= len(s.decoding):
                wrong.append("stall_free")  # a block for each, and still somebody was preempted
        if not facts.mixed and s.chunks and s.decodes:
            wrong.append("mixed")
        if not facts.chunked and any(q != s.left[r] for r, q in s.chunks.items()):
            wrong.append("chunked")
    return sorted(set(wrong))


def work_beyond_time(steps: list[Step]) -> bool:
    """Whether, at a node and some batch's end, minimal work served exceeds busy time, or busy time the time elapsed."""
    for node in {s.node for s in steps}:
        tokens, busy = 0, 0.0
        for s in (s for s in steps if s.node == node):
            tokens += s.tokens
            busy += s.seconds
            minimal = tokens * (TILE_TIME / TILE + TOKEN_TIME)
            if minimal > busy * (1 + 1e-12) or busy > (s.start + s.seconds) * (1 + 1e-12):
                return True
    return False


def other_future(
    workload: Workload, system: System, decoded: Any, cut: float, rng: np.random.Generator
) -> Workload:
    """The same until `cut` (s), and something else after: new arrivals, lengths and outputs, all still admissible."""
    n = len(workload)
    arrival, prompt, output = workload.arrival.copy(), workload.prompt.copy(), workload.output.copy()
    later = arrival > cut
    arrival[later] = np.sort(cut + 2.0**-20 + rng.exponential(0.2, later.sum()))
    prompt[later] = rng.integers(1, 90, later.sum())
    room = min((system.blocks - system.watermark_blocks) * system.block_size, system.max_length)
    for i in range(n):
        if later[i]:
            output[i] = rng.integers(1, 24)
        elif prompt[i] + output[i] <= room and decoded[i] < output[i]:
            output[i] = rng.integers(decoded[i] + 1, room - prompt[i] + 1)
    return Workload(arrival, prompt, output, workload.client, workload.tbt, workload.ttft, workload.predicted)


def reads_the_future(
    workload: Workload, system: System, policy: Policy, share: float, other: int, **options: Any
) -> bool:
    """Whether another future after some batch's start changes any batch up to it."""
    trace = run(workload, system, policy, **options)
    starts = np.sort(trace.iterations["start"])
    if len(starts) == 0:
        return False
    cut = float(starts[int(share * (len(starts) - 1))])
    decoded = (
        run(workload, system, policy, **{**options, "horizon": cut}).requests["decoded"]
        if cut > 0
        else 0 * workload.output
    )
    changed = other_future(workload, system, decoded, cut, np.random.default_rng(other))
    until = np.nextafter(cut, np.inf)
    one = run(workload, system, policy, **{**options, "horizon": until})
    two = run(changed, system, policy, **{**options, "horizon": until})
    same = all(np.array_equal(one.iterations[c], two.iterations[c]) for c in one.iterations)
    assert one.entries is not None
    assert two.entries is not None
    return not (same and all(np.array_equal(one.entries[c], two.entries[c]) for c in one.entries))


TIMES = ("time_between_tokens", "strict_tbt", "patience")  # parameters of policies that are times (s)


def slower(policy: Policy) -> Policy:
    """Its times doubled, those of nested policies too."""
    fields = {f.name: getattr(policy, f.name) for f in dataclasses.fields(policy)}  # pyright: ignore
    times = {name: 2 * value for name, value in fields.items() if name in TIMES}
    nested = {name: slower(value) for name, value in fields.items() if isinstance(value, Policy)}
    return dataclasses.replace(policy, **times, **nested)  # pyright: ignore


def slowed(workload: Workload, system: System, policy: Policy) -> tuple[Workload, System, Policy]:
    """Everything twice as slow.  Doubling is exact in floating point, so the trace must double exactly."""
    law = TileLaw(TILE, 2 * TILE_TIME, 2 * TOKEN_TIME)
    w = Workload(
        2 * workload.arrival, workload.prompt, workload.output, workload.client, 2 * workload.tbt, 2 * workload.ttft,
        workload.predicted,
    )  # fmt: skip
    return w, dataclasses.replace(system, iteration_time=law), slower(policy)


def scales(workload: Workload, system: System, policy: Policy, python: bool = False) -> bool:
    trace = run(workload, system, policy, python=python)
    slow = run(*slowed(workload, system, policy), python=python, horizon=2 * HORIZON)
    assert trace.entries is not None
    assert slow.entries is not None
    if len(trace.iterations["start"]) != len(slow.iterations["start"]):
        return False
    return (
        all(np.array_equal(trace.entries[c], slow.entries[c]) for c in trace.entries)
        and np.array_equal(2 * trace.iterations["start"], slow.iterations["start"])
        and np.array_equal(2 * trace.requests["finished"], slow.requests["finished"], equal_nan=True)
    )


def busy_hour(policy: Policy, python: bool = False) -> tuple[System, list[Step]]:
    """Steps of a run with long prompts, many decodes, a few of them long, and ample memory."""
    rng = np.random.default_rng(0)
    arrival, prompt, output = (
        np.sort(rng.uniform(0, 4, 40)),
        rng.integers(600, 1500, 40),
        rng.integers(30, 60, 40),
    )
    output[::5] += 150
    workload = Workload(arrival, prompt, output, tbt=np.full(40, 5.0), predicted=output)
    system = System(TileLaw(128, TILE_TIME, TOKEN_TIME), blocks=1 << 20, max_length=4096, name="ample")
    trace = run(workload, system, policy, python=python)
    return system, audit(workload, system, trace, admission_of(policy))


def crowded() -> tuple[Workload, System]:
    """Twelve requests at once that outgrow the memory and their announcements, and one that can never be served."""
    prompt, output = np.full(13, 20), np.full(13, 40)
    prompt[5] = 10_000
    return Workload(np.linspace(0.0, 1e-3, 13), prompt, output, predicted=np.full(13, 5)), System(
        LAW, blocks=40, block_size=4, max_length=1000, max_running=8, name="crowded"
    )


def differing(a: Trace, b: Trace) -> list[str]:
    """Columns in which two traces differ in any bit."""
    found = [] if np.array_equal(a.gaps, b.gaps) else ["gaps"]
    for table in ("requests", "iterations", "entries"):
        x, y = getattr(a, table), getattr(b, table)
        if (x is None) != (y is None):
            found.append(table)
        elif x is not None:
            nan = {c: x[c].dtype.kind == "f" for c in x}
            found += [c for c in x if not np.array_equal(x[c], y[c], equal_nan=nan[c])]
    return found
