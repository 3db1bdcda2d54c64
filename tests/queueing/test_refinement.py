"""Refinement: runs of policies that claim a theorem are runs of its system; others, and altered logs, are refused."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from policies import (
    ANNOUNCED_LENGTH,
    WHOLE_PROMPT,
    Fcfs,
    Lift,
    Packing,
    Predictor,
    Rad,
    Sarathi,
    Slai,
    Vllm,
    Vtc,
    VtcSlai,
)
from queueing.cost import Cost
from queueing.models.iteration_time import Affine
from queueing.models.vtc import Setting, violated
from queueing.models.vtc import Vtc as System_
from queueing.policy import Policy
from queueing.refinement import (
    LAST,
    TOKEN,
    full_tiles,
    lifecycle,
    replay_lifecycle,
    replayed,
    stall_free,
    vtc,
)
from queueing.request_log import request_log
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload
from tests.laws import LAW, run
from tests.strategies import systems, workloads

crowds = workloads(min_requests=4, max_requests=12, max_prompt=30, max_output=20, max_gap=0.15)
TIGHT = System(Affine(0.1, 0.001), blocks=50, block_size=1)


def told(workload: Workload) -> Workload:
    return dataclasses.replace(workload, predicted=workload.output)


def flood() -> Workload:
    """Client 0 sends ten requests of 25 tokens, then 1 sends ten of 13; two or three fit at a time."""
    return told(Workload(np.zeros(20), [5] * 20, [20] * 10 + [8] * 10, [0] * 10 + [1] * 10))


FAIR: list[Policy] = [
    Vtc(),
    Vtc(packing=Packing.MIXED),
    Vtc(weights=(1.0, 0.5, 3.0)),
    Vtc(cost=Cost(5.0, 1.0)),
    VtcSlai(),
]


@pytest.mark.parametrize("policy", FAIR, ids=lambda policy: policy.name)
@given(crowds, systems(LAW))
def test_policies_of_vtc_refine_its_system(policy: Policy, workload: Workload, system: System) -> None:
    """Also over SLAI's batches: the system lets decodes wait, so VTC's bounds hold there too."""
    trace = run(told(workload), system, policy)
    found = vtc(trace, getattr(policy, "cost", Cost(1, 2)), getattr(policy, "weights", (1,)))
    assert found.ok, str(found)
    assert found.events == len(trace.entries["request"]) + len(workload)  # type: ignore[index]


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (Fcfs(), "has not the least counter"),
        (Vtc(cost=Cost(0.0, 1.0), packing=Packing.MIXED), "has not the least counter"),
        (Vtc(predictor=Predictor.ANNOUNCED), "has not the least counter"),
        (Vtc(weights=(1.0, 3.0, 3.0)), "has not the least counter"),
        (Vtc(admission=WHOLE_PROMPT), "does not hold what is reserved"),
    ],
    ids=lambda value: value.name if isinstance(value, Policy) else "",
)
def test_other_policies_are_refused(policy: Policy, reason: str) -> None:
    """Another order, cost, weight, charge, or memory than VTC(1, 2) has."""
    assert vtc(run(flood(), TIGHT, Vtc())).ok
    found = vtc(run(flood(), TIGHT, policy))
    assert not found.ok
    assert reason in found.reason
    assert "at" in str(found)


def test_a_missing_lift_is_refused() -> None:
    """Client 1 returns after client 0 was served alone, with a credit that VTC would have taken."""
    alone = Workload(
        np.r_[np.arange(10) * 20.0, np.full(8, 300.0)], [10] * 18, [10] * 18, [0] * 10 + [1, 0] * 4
    )
    assert vtc(run(told(alone), TIGHT, Vtc())).ok
    assert not vtc(run(told(alone), TIGHT, Vtc(lift=Lift.NEVER))).ok


# -- the compiled replay against the formal system itself


@given(crowds, st.sampled_from([Vtc(), Vtc(packing=Packing.MIXED), Fcfs()]))
def test_the_replay_is_that_of_the_model(workload: Workload, policy: Policy) -> None:
    """Drive queueing.models.vtc with the events of a run: the same verdict, and invariants hold up to it."""
    trace = run(told(workload), TIGHT, policy)
    events, kind, lived = replayed(trace)
    assert lived.ok
    ids, client = np.unique(workload.client, return_inverse=True)
    longest = int(events.prompt.max())
    assume(not trace.rejected.any())
    system = System_(Setting(len(ids), 50, longest))
    coming, at, refused = 0, 0, False
    place: dict[int, int] = {}  # request -> its number in the formal system
    for k in range(len(events.start)):
        while coming < len(workload) and workload.arrival[coming] <= events.start[k]:
            place[coming] = system.arrived
            system.arrive(int(client[coming]), int(workload.prompt[coming]), int(workload.output[coming]))
            coming += 1
        entries = range(at, at + int(events.sizes[k]))
        for e in entries:
            r, u = int(events.request[e]), int(client[events.request[e]])
            if trace.requests["admitted"][r] == events.start[k] and not any(
                q.request.number == place[r] for q in system.running
            ):
                refused = refused or system.counter[u] > min(system.counter[i] for i in system.queued)
                if refused:
                    break
                system.next_client = lambda u=u: u  # ties are the scheduler's
                admitted = system.admit()
                assert admitted is not None
                assert admitted.number == place[r]
                assert violated(system) == []
        if refused:
            break
        emitting = {place[int(events.request[e])] for e in entries if kind[e] in (LAST, TOKEN)}
        system.decode([j for j, q in enumerate(system.running) if q.request.number in emitting])
        assert violated(system) == []
        at += int(events.sizes[k])
    assert vtc(trace).ok == (not refused)


@given(crowds, systems(LAW), st.sampled_from([Vtc(), Sarathi(), Vllm()]))
def test_compiled_and_interpreted_replays_agree(workload: Workload, system: System, policy: Policy) -> None:
    events, kind, found = replayed(run(workload, system, policy))
    twin, fault = np.zeros_like(kind), np.zeros(2, np.int64)
    assert (replay_lifecycle.py_func(events, twin, fault) == 0) == found.ok
    assert twin.tolist() == kind.tolist()
    assert found.ok, str(found)


# -- one altered event


def altered(trace: Trace, table: str, column: str, row: int, value: Any) -> Trace:
    changed = np.array(getattr(trace, table)[column])
    changed[row] = value
    return dataclasses.replace(trace, **{table: {**getattr(trace, table), column: changed}})


@given(st.data(), crowds, st.sampled_from([Vtc(), Sarathi(), Rad(tile=16)]))
def test_one_altered_event_is_refused(data: st.DataObject, workload: Workload, policy: Policy) -> None:
    """A token more or fewer, given to somebody else, an arrival after the admission, a preemption, a time, a figure."""
    trace = run(told(workload), TIGHT, policy)
    entries, its, requests = trace.entries, trace.iterations, trace.requests
    assert entries is not None
    assume(len(entries["request"]) > 0)
    assert lifecycle(trace).ok
    e = data.draw(st.integers(0, len(entries["request"]) - 1))
    k, r = data.draw(st.integers(0, len(its["start"]) - 1)), int(entries["request"][e])
    times = ["first_token", "finished", "prefill_end", "last_token", "longest_gap"]
    counts = ["decodes", "prefill", "context"]
    what = data.draw(
        st.sampled_from(
            [
                "tokens",
                "request",
                "arrival",
                "start",
                "preemptions",
                "status",
                "lost",
                "preempted",
                *times,
                *counts,
            ]
        )
    )
    match what:
        case "lost":  # a time that is none
            table, column, row = data.draw(
                st.sampled_from(
                    [("requests", "arrival", r), ("iterations", "start", k), ("iterations", "seconds", k)]
                )
            )
            wrong = altered(trace, table, column, row, np.nan)
        case "preempted":  # after its own last token in the same batch
            k = int(np.searchsorted(np.cumsum(its["entries"]), e, "right"))
            more = {
                "request": np.insert(entries["request"], e + 1, r),
                "tokens": np.insert(entries["tokens"], e + 1, 0),
            }
            wrong = dataclasses.replace(
                altered(trace, "iterations", "entries", k, its["entries"][k] + 1), entries=more
            )
        case "preemptions":
            wrong = altered(trace, "requests", what, r, requests[what][r] + 1)
        case "status":
            wrong = altered(trace, "requests", what, r, 2)
        case "tokens":
            wrong = altered(
                trace, "entries", "tokens", e, entries["tokens"][e] + data.draw(st.sampled_from([-1, 1, 5]))
            )
        case "request":
            other = data.draw(st.integers(0, len(workload) - 1).filter(lambda q: q != r))
            wrong = altered(trace, "entries", "request", e, other)
        case "arrival":
            wrong = altered(trace, "requests", "arrival", r, np.nextafter(requests["admitted"][r], np.inf))
        case _ if what in times:
            wrong = altered(trace, "requests", what, r, np.nextafter(requests[what][r], np.inf))
        case _ if what in counts:
            wrong = altered(trace, "iterations", what, k, its[what][k] + 1)
        case _:
            assume(len(its["start"]) > 1)
            k = max(k, 1)
            wrong = altered(trace, "iterations", "start", k, np.nextafter(its["start"][k - 1], np.inf))
    found = lifecycle(wrong)
    assert not found.ok
    assert found.batch is not None
    assert not vtc(wrong).ok


# -- RAD and Sarathi-Serve


@given(crowds)
def test_rad_fills_its_tiles_and_sarathi_never_stalls(workload: Workload) -> None:
    system = System(LAW, blocks=200, block_size=16, max_running=64)
    aligned = dataclasses.replace(workload, prompt=16 * (workload.prompt // 8 + 1))
    assert full_tiles(run(aligned, system, Rad(tile=16)), 16).ok
    trace = run(workload, system, Sarathi(token_budget=20))
    assert stall_free(trace, 20).ok
    largest = int((trace.iterations["prefill"] + trace.iterations["decodes"]).max())
    prompts = trace.iterations["prefill"] > 0
    if (
        prompts.any()
        and int((trace.iterations["prefill"] + trace.iterations["decodes"])[prompts].max()) == largest > 1
    ):
        assert not stall_free(trace, largest - 1).ok


def test_others_stall_or_leave_tiles_unfilled() -> None:
    system = System(LAW, blocks=200, block_size=16, max_running=64)
    stream = Workload(np.arange(12) * 0.05, [24] * 12, [20] * 12)
    assert stall_free(run(stream, system, Sarathi(token_budget=20)), 20).ok
    for policy in (Vllm(), Rad(tile=16), Slai(token_budget=20)):
        tbt = dataclasses.replace(stream, tbt=np.full(12, 5.0))
        assert "gets no token" in stall_free(run(tbt, system, policy), 200).reason
    assert "not a multiple" in full_tiles(run(stream, system, Rad(tile=16)), 16).reason  # 24 is not
    assert "not a multiple" in full_tiles(run(stream, system, Vllm()), 16).reason
    many = Workload(np.zeros(12), [16] * 12, [20] * 12)
    assert "more than a tile" in full_tiles(run(many, system, Vllm()), 4).reason


def test_flaws_are_named() -> None:
    trace = run(flood(), TIGHT, Vtc())
    log = request_log([0.0], [1], [1], [0], [1.0], [1.0])
    bare = dataclasses.replace(trace, meta={})
    for wrong, sentence in (
        (lambda: lifecycle(log), "has no entries"),
        (lambda: lifecycle(bare), "does not say its blocks"),
        (lambda: vtc(trace, Cost.profiled()), "needs a linear cost"),
        (lambda: vtc(trace, weights=(0,)), "must be above 0"),
        (lambda: vtc(trace, weights=(Fraction(1, 10**17), Fraction(1, 3**30))), "do not fit 64 bits"),
        (lambda: full_tiles(trace, 0), "give at least 1"),
        (lambda: stall_free(trace, 0), "give at least 1"),
        (
            lambda: lifecycle(altered(trace, "entries", "request", 0, 99)),
            "a request that the trace does not have",
        ),
        (lambda: lifecycle(altered(trace, "iterations", "entries", 0, 99)), "record the run again"),
    ):
        with pytest.raises(ValueError, match=sentence):
            wrong()
    two = run(flood(), TIGHT, Vtc(), nodes=2)
    with pytest.raises(ValueError, match="trace of one node"):
        vtc(two)
    assert ANNOUNCED_LENGTH is Vtc().admission
