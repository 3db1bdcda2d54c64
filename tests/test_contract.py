"""The contract of policies, over every policy the package exports: a new one is held to it by being exported.

Laws: the books balance (conservation of tokens and requests, causality, KV memory, monotone clock: the accountant
replays every trace on books of its own); everything drains; nothing of the future is read; same input, same trace;
compiled equals interpreted, bit by bit; clients are names; time has no unit; what a policy declares is what it does;
no scheduler serves more than the minimal work that fits in the time.  The laws are the functions of `tests/laws.py`,
and each has its negative controls in `tests/test_contract_controls.py`.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import policies
from policies.admission import Admission
from policies.catalogue import classes
from queueing.policy import Policy, Router
from queueing.refinement import lifecycle
from queueing.system import System
from queueing.workload import Workload
from tests.accountant import audit
from tests.laws import (
    LAW,
    admission_of,
    busy_hour,
    crowded,
    lies,
    reads_the_future,
    run,
    same_tables,
    scales,
    work_beyond_time,
)
from tests.strategies import parameters_of, systems, workloads
from tests.thorough import thorough

POLICIES = classes(Policy)
ROUTERS = classes(Router)

every_policy = pytest.mark.parametrize("cls", POLICIES.values(), ids=list(POLICIES))
small_workloads = workloads(min_requests=3, max_requests=10, max_prompt=40, max_output=40, max_gap=0.25)
busy_workloads = workloads(min_requests=8, max_requests=12, max_prompt=40, max_output=40, max_gap=0.1)
small_systems = systems(LAW)


@every_policy
def test_docstring_is_in_house_form(cls: type[Policy]):
    text = cls.__doc__ or ""
    for heading in ("Assumptions:", "Guarantee:", "Not promised:", "Source:", "Example:"):
        assert heading in text, f"{cls.__name__} does not say: {heading}"
    for field in dataclasses.fields(cls):  # pyright: ignore[reportArgumentType]
        assert re.search(rf"\b{field.name}\b.*:", text), f"{cls.__name__} does not explain {field.name}"


# -- the books balance, everything drains, declared facts hold, and nobody serves more than time holds


@every_policy
def test_every_run_keeps_the_laws(cls: type[Policy]):
    """Conservation, causality, KV memory, clock, engines that take few tokens at once; nothing left when arrivals stop;
    declared facts; the converse.

    Where at least a hundred cases are generated (the profile of continuous integration, whose cases are fixed), they
    must reach preemption, rejection, both conventions and several nodes, or the test fails.
    """
    seen = dict.fromkeys(["cases", "preemption", "rejection", "emits", "nodes", "narrow"], 0)

    @thorough
    @given(
        workload=busy_workloads,
        system=small_systems,
        policy=parameters_of(cls),
        nodes=st.sampled_from([1, 1, 2, 3]),
        most=st.sampled_from([0, 0, 1, 3, 16]),
    )
    def check(workload: Workload, system: System, policy: Policy, nodes: int, most: int):
        if most:  # whole prompts need the longest of them, chunks fit into anything; memory is not to hide it
            most = most if policy.facts.chunked else 100
            system = dataclasses.replace(
                system, max_batch_tokens=most, max_length=100, blocks=4 * system.blocks
            )
        trace = run(workload, system, policy, nodes=nodes)
        steps = audit(workload, system, trace, admission_of(policy))
        assert not trace.unfinished.any(), f"{trace.unfinished.sum()} requests never end"
        assert lies(policy, system, steps) == []
        assert lifecycle(trace).ok
        assert not work_beyond_time(steps)
        marks = {
            "cases": True,
            "preemption": trace.requests["preemptions"].any(),
            "rejection": trace.rejected.any(),
            "emits": system.last_chunk_emits,
            "nodes": nodes > 1,
            "narrow": most > 0,
        }
        for mark, reached in marks.items():
            seen[mark] += bool(reached)
            if reached and mark != "cases":
                event(mark)

    check()
    if seen["cases"] >= 100:
        share = {mark: count / seen["cases"] for mark, count in seen.items()}
        grows = admission_of(cls()) == Admission.WHOLE_PROMPT  # the other rules seldom preempt, if ever
        assert share["preemption"] >= (0.05 if grows else 0), share
        assert min(share["rejection"], share["nodes"], share["narrow"]) >= 0.05, share
        assert 0.1 <= share["emits"] <= 0.9, share


@every_policy
@pytest.mark.parametrize("emits", [True, False])
@pytest.mark.parametrize("nodes", [1, 2])
def test_books_balance_under_preemption(cls: type[Policy], emits: bool, nodes: int):
    workload, system = crowded()
    fields = {field.name for field in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]
    policy = cls(admission=Admission.WHOLE_PROMPT) if "admission" in fields else cls()  # pyright: ignore
    system = dataclasses.replace(system, last_chunk_emits=emits)
    trace = run(workload, system, policy, nodes=nodes)
    audit(workload, system, trace, admission_of(policy))
    assert trace.requests["preemptions"].sum() > 0
    assert trace.rejected.sum() == 1
    assert not trace.unfinished.any()


# -- purity, the twin, the future, and metamorphic laws


@every_policy
def test_relatives_of_a_run(cls: type[Policy]):
    """What must not change a run, and what must change it in a known way.

    Compiled twice, and by the plain-Python twin: the same tables, bit by bit.  Another future, arrivals and outputs:
    the same batches up to then.  Clients renamed: nothing but the column of their names.  All times doubled, limits
    and parameters included: the same batches at twice the time.
    """

    @thorough
    @given(
        workload=small_workloads,
        system=small_systems,
        policy=parameters_of(cls),
        nodes=st.integers(1, 2),
        share=st.floats(0, 1),
        seed=st.integers(0, 2**32),
        names=st.permutations(range(3)),
    )
    def check(
        workload: Workload,
        system: System,
        policy: Policy,
        nodes: int,
        share: float,
        seed: int,
        names: list[int],
    ):
        first = run(workload, system, policy, nodes=nodes)
        assert same_tables(first, run(workload, system, policy, nodes=nodes)) == "", "another run"
        twin = run(workload, system, policy, nodes=nodes, python=True)
        assert same_tables(first, twin) == "", "compiled and interpreted"
        assert not reads_the_future(workload, system, policy, share, seed, nodes=nodes)
        renamed = dataclasses.replace(workload, client=np.array(names)[workload.client])
        assert same_tables(first, run(renamed, system, policy, nodes=nodes), but=("client",)) == "", "names"
        assert scales(workload, system, policy), "time has a unit"

    check()


# -- what a policy declares is what it does


@every_policy
def test_facts_are_not_modest(cls: type[Policy]):
    """Mixed or chunked batches are declared if and only if there are some, stall-free only if nobody stalls."""
    _, steps = busy_hour(cls())
    facts = cls().facts
    assert facts.mixed == any(s.chunks and s.decodes for s in steps)
    assert facts.chunked == any(q < s.left[r] for s in steps for r, q in s.chunks.items())
    assert facts.stall_free == all((r, 1) in s.entries for s in steps for r in s.decoding)


# -- routing


@pytest.mark.parametrize("cls", ROUTERS.values(), ids=list(ROUTERS))
def test_routers_keep_the_contract(cls: type[Router]):
    """Under every router the books of every node balance, the twin routes alike, and no future is read."""
    policy = policies.Sarathi(token_budget=32)

    @thorough
    @given(
        workload=small_workloads,
        system=small_systems,
        router=parameters_of(cls),
        nodes=st.integers(2, 4),
        share=st.floats(0, 1),
        seed=st.integers(0, 2**32),
    )
    def check(workload: Workload, system: System, router: Router, nodes: int, share: float, seed: int):
        options: dict[str, Any] = {"nodes": nodes, "router": router, "seed": seed}
        trace = run(workload, system, policy, **options)
        audit(workload, system, trace, Admission.WHOLE_PROMPT)
        assert same_tables(trace, run(workload, system, policy, python=True, **options)) == ""
        assert not reads_the_future(workload, system, policy, share, seed, **options)

    check()
