"""Sarathi-Serve: every decode in every batch, prompts in what the budget leaves, and the budget from a target."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import FIFO, SPF, HybridOnly, Sarathi, token_budget_for
from queueing.models.iteration_time import Load, TileLaw
from queueing.system import System
from queueing.workload import Workload
from tests.accountant import audit
from tests.laws import LAW, run, same_tables
from tests.policies.desk import Desk, decode, prompt, waiting
from tests.strategies import systems, workloads

crowds = workloads(min_requests=3, max_requests=10, max_prompt=40, max_output=40, max_gap=0.25)


def test_decodes_then_started_then_new():
    requests = [decode(), prompt(60, 30), waiting(50), decode(), waiting(200), waiting(3)]
    asked = Desk(requests).ask(Sarathi(token_budget=100))
    assert asked.entries == [(0, 1), (3, 1), (1, 30), (2, 50), (4, 18)]
    assert asked.reserve == {2: 50, 4: 200}  # KV blocks of the whole prompt, of which a chunk is computed


def test_decodes_are_not_counted_out_of_the_batch():
    """More decodes than the budget all run, and nothing else does."""
    asked = Desk([*(decode() for _ in range(5)), waiting(10)]).ask(Sarathi(token_budget=3))
    assert asked.entries == [(k, 1) for k in range(5)]


def test_victim_is_the_latest_not_yet_visited_then_itself():
    full = [decode(16, blocks=1), prompt(30, 10, blocks=2), decode(16, blocks=1), decode(16, blocks=1)]
    asked = Desk(full, total_blocks=5).ask(Sarathi())
    assert asked.victims == [3, 2]  # 0 takes a block from 3; 2 then finds none, and nobody unvisited after it
    assert asked.entries == [(0, 1), (1, 20)]


def test_victims_may_come_back_at_once_if_they_fit():
    full = [decode(16, blocks=1), prompt(90, 10, blocks=6)]
    asked = Desk(full, total_blocks=7, watermark=1).ask(Sarathi(token_budget=8))
    assert asked.victims == [1]
    assert asked.entries == [(0, 1)]  # six blocks are free but one less the watermark is not six
    roomy = Desk([decode(16, blocks=1), prompt(60, 10, blocks=6)], total_blocks=7, watermark=1)
    assert roomy.ask(Sarathi(token_budget=8)).entries == [(0, 1), (1, 7)]


def test_spf_ties_are_stable():
    queue = [waiting(30), waiting(10), waiting(30), waiting(10)]
    assert [r for r, _ in Desk(queue).ask(Sarathi(order=SPF)).entries] == [1, 3, 0, 2]
    assert [r for r, _ in Desk(queue).ask(Sarathi(order=FIFO)).entries] == [0, 1, 2, 3]


@given(workload=crowds, system=systems(LAW), budget=st.sampled_from([1, 4, 16, 64]))
def test_batches_stay_within_the_budget(workload: Workload, system: System, budget: int):
    """Tokens <= B + max(0, decodes - B), and admissions are in order of the queue."""
    policy = Sarathi(token_budget=budget)
    for s in audit(workload, system, run(workload, system, policy), policy.admission):
        assert s.tokens <= budget + max(0, len(s.decodes) - budget)
        assert s.admitted == s.queue[: len(s.admitted)]


@given(workload=crowds, system=systems(LAW))
def test_unbounded_budget_is_hybrid_only(workload: Workload, system: System):
    one, two = (run(workload, system, p) for p in (Sarathi(token_budget=10**6), HybridOnly()))
    assert same_tables(one, two) == ""


def test_bounded_budget_is_not_hybrid_only():
    """Control: a budget that binds makes other batches."""
    workload, system = Workload([0.0] * 4, [90] * 4, [5] * 4), System(LAW, blocks=400, name="ample")
    assert (
        same_tables(run(workload, system, Sarathi(token_budget=64)), run(workload, system, HybridOnly()))
        != ""
    )


@given(workload=crowds, budget=st.sampled_from([8, 32]), emits=st.booleans())
def test_gaps_are_single_batches(workload: Workload, budget: int, emits: bool):
    """Without preemption every gap between tokens is one batch, of at most max(B, decodes) tokens."""
    system = System(LAW, blocks=4000, last_chunk_emits=emits, name="ample")
    trace = run(workload, system, Sarathi(token_budget=budget))
    longest = LAW(load(max(budget, int(trace.iterations["decodes"].max()))))
    assert trace.requests["longest_gap"].max() <= longest * (1 + 1e-12)


def load(tokens: int) -> Load:
    none = np.zeros(0, np.int64)
    return Load(tokens, tokens, 0, none, none)


# -- the budget from a target


@pytest.mark.parametrize("tbt", [0.02, 0.05, 0.1, 0.33])
@pytest.mark.parametrize(("decodes", "context", "history"), [(0, 0, 0), (20, 1000, 0), (20, 1000, 4000)])
def test_budget_is_the_largest_that_meets_the_target(tbt: float, decodes: int, context: int, history: int):
    law = TileLaw(64, 4e-3, 5e-5, per_tiled_pair=1e-8, per_context=1e-8)
    options: dict[str, Any] = {"decodes": decodes, "decode_context": context, "history": history}

    def seconds(n: int) -> float:
        chunk, cached = np.array([n - decodes]), np.array([history])
        return law(Load(n, decodes, decodes * context, chunk, cached))

    budget = token_budget_for(tbt, law, tile=64, **options)
    assert budget % 64 == 0
    assert seconds(budget) <= tbt < seconds(budget + 64)
    assert Sarathi(token_budget=budget).token_budget == budget


def test_budget_out_of_reach():
    with pytest.raises(
        ValueError, match=r"^no token budget from 64 to 16384 keeps a batch within 0.001 s; allow more"
    ):
        token_budget_for(0.001, TileLaw(64, 4e-3, 5e-5), tile=64)
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="tbt must be positive, not"):
            token_budget_for(bad, LAW)
    with pytest.raises(ValueError, match="tile must be at least 1"):
        token_budget_for(1.0, LAW, tile=0)


def test_budget_below_one():
    with pytest.raises(
        ValueError, match=r"^token_budget of Sarathi must be an integer of at least 1, not 0$"
    ):
        Sarathi(token_budget=0)
