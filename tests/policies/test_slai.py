"""SLAI, step by step: the last schedulable time, the offset, the order of the five steps, the rule of memory."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import FIFO, SPF, STRICT_SPF, Sarathi, Slai
from queueing.models.iteration_time import TileLaw
from queueing.policy import plan
from queueing.simulator import simulate
from queueing.system import System
from queueing.workload import Workload
from tests.accountant import audit
from tests.laws import LAW, run
from tests.policies.desk import Desk, Req, decode, prompt, waiting
from tests.strategies import workloads

LONG = waiting(5000)  # a prompt that fills every budget, so that decodes may have to wait


def memory_of(policy: Slai, lst: list[float], batches: int = 0, busy: float = 0.0) -> Any:
    """Memory with given last schedulable times."""
    memory = policy.init(len(lst))
    memory.lst[:] = lst
    memory.batches[0], memory.busy[0] = batches, busy
    return memory


# -- step 0: the last schedulable time


@pytest.mark.parametrize(("used", "offset"), [(95, 5.0), (96, 10.0), (97, 10.0)])
def test_lst_formula_and_threshold(used: int, offset: float):
    """LST = e + TBT - Theta bbar, with Theta changing at exactly 96 % of the blocks in use."""
    policy = Slai()
    held = [decode(20, tbt=0.5, blocks=used - 1), decode(10, tbt=math.inf, blocks=1)]
    desk = Desk(held, now=7.0, iteration=4, last_seconds=0.04, served=[0, 1], total_blocks=100)
    memory = memory_of(policy, [0.0, 0.0], batches=3, busy=0.06)
    desk.ask(policy, memory)
    bbar = (0.06 + 0.04) / 4
    assert memory.lst.tolist() == [
        7.0 + 0.5 - offset * bbar,
        7.0 + 0.2 - offset * bbar,
    ]  # 0.2: the default limit


def test_fixed_offset_ignores_memory():
    policy = Slai(fixed_offset=True, below_offset=3.0)
    desk = Desk(
        [decode(20, tbt=1.0, blocks=99)], now=1.0, iteration=1, last_seconds=0.1, served=[0], total_blocks=100
    )
    memory = policy.init(1)
    desk.ask(policy, memory)
    assert memory.lst[0] == 1.0 + 1.0 - 3.0 * 0.1


def test_lst_is_frozen_while_a_decode_waits():
    """Only who was in the last batch gets a new time, whatever the mean does meanwhile."""
    policy = Slai()
    desk = Desk([decode(tbt=0.5), decode(tbt=0.5)], now=2.0, iteration=9, last_seconds=1.0, served=[1])
    memory = memory_of(policy, [1.5, 1.5], batches=8, busy=1.0)
    desk.ask(policy, memory)
    assert memory.lst[0] == 1.5
    assert memory.lst[1] != 1.5


def test_finished_and_unfinished_prompts_get_no_lst():
    policy = Slai()
    gone = Req(prompt=10, prefilled=10, decoded=5, blocks=0)
    desk = Desk([prompt(600, 512), gone], now=2.0, iteration=1, last_seconds=0.1, served=[0, 1])
    memory = policy.init(2)
    desk.ask(policy, memory)
    assert memory.lst.tolist() == [0.0, 0.0]


def test_last_chunk_sets_the_first_lst():
    """A prompt that was just completed gets its first last schedulable time, though it has decoded nothing."""
    policy = Slai()
    desk = Desk([prompt(100, 100, tbt=0.5)], now=2.0, iteration=1, last_seconds=0.1, served=[0])
    memory = policy.init(1)
    desk.ask(policy, memory)
    assert memory.lst[0] == 2.0 + 0.5 - 5.0 * 0.1


SEEN: list[tuple[float, int]] = []  # (busy, batches) after each plan of a Watched
SLAI_BODY = Slai.body.function


@dataclasses.dataclass(frozen=True)
class Watched(Slai):
    @plan
    def watched(p, memory, view, batch):
        SLAI_BODY(p, memory, view, batch)
        SEEN.append((float(memory.busy[0]), int(memory.batches[0])))


def test_bbar_is_the_running_mean_of_all_batches():
    """At every plan, busy is the duration of all batches so far and batches their number, idle time left out."""
    SEEN.clear()
    workload = Workload([0.0, 0.1, 5.0], [40, 30, 20], [9, 5, 7])
    seconds = run(workload, System(LAW, blocks=100, name="ample"), Watched(), python=True).iterations[
        "seconds"
    ]
    assert [batches for _, batches in SEEN] == list(range(len(seconds)))
    np.testing.assert_allclose([busy for busy, _ in SEEN], np.cumsum(np.r_[0.0, seconds])[:-1], rtol=1e-12)


# -- steps 1 to 5


def test_now_equal_to_lst_is_critical():
    """At now = LST the decode goes first; one unit in the last place earlier it waits behind the prompt."""
    policy = Slai(token_budget=1)
    desk = Desk([decode(), LONG], now=3.0)
    assert desk.ask(policy, memory_of(policy, [3.0, 0.0])).entries == [(0, 1)]
    assert desk.ask(policy, memory_of(policy, [np.nextafter(3.0, 4.0), 0.0])).entries == [(1, 1)]


def test_order_of_the_five_steps():
    """Critical decodes by LST, the started prompt, new prompts in order, then the other decodes by LST."""
    policy = Slai(token_budget=100)
    requests = [decode(), decode(), decode(), decode(), prompt(60, 30), waiting(20), waiting(10)]
    lst = [9.0, 1.0, 8.0, 0.5, 0.0, 0.0, 0.0]
    asked = Desk(requests, now=2.0).ask(policy, memory_of(policy, lst))
    assert asked.entries == [(3, 1), (1, 1), (4, 30), (6, 10), (5, 20), (2, 1), (0, 1)]
    assert asked.victims == []


def test_ties_of_lst_go_by_arrival():
    policy = Slai(token_budget=2)
    desk = Desk([decode(), decode(), decode(), LONG], now=2.0)
    assert desk.ask(policy, memory_of(policy, [1.0, 1.0, 1.0, 0.0])).entries == [(0, 1), (1, 1)]
    assert desk.ask(policy, memory_of(policy, [1.0, 1.0, 0.5, 0.0])).entries == [(2, 1), (0, 1)]


def test_prompts_take_what_critical_decodes_leave():
    policy = Slai(token_budget=512)
    desk = Desk([decode(), decode(), decode(), LONG], now=2.0)
    assert desk.ask(policy, memory_of(policy, [1.0, 5.0, 1.5, 0.0])).entries == [(0, 1), (2, 1), (3, 510)]


def test_limits_on_decodes_and_tokens():
    """`limit_total_decodes` counts critical and other decodes together; the budget counts everything."""
    desk = Desk([decode() for _ in range(6)], now=2.0)
    lst = [1.0, 1.0, 1.0, 9.0, 9.0, 9.0]

    def entries(policy: Slai) -> list[tuple[int, int]]:
        return desk.ask(policy, memory_of(policy, lst)).entries

    assert entries(Slai(limit_total_decodes=2)) == [(0, 1), (1, 1)]
    assert entries(Slai(limit_total_decodes=4)) == [(0, 1), (1, 1), (2, 1), (3, 1)]
    assert entries(Slai(token_budget=5)) == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]
    assert len(entries(Slai())) == 6


def test_max_num_seqs_caps_those_who_hold_memory():
    desk = Desk([decode(), prompt(30, 10), waiting(5), waiting(6)])
    asked = desk.ask(Slai(max_num_seqs=3))
    assert [r for r, _ in asked.entries] == [0, 1, 2]
    assert sorted(r for r, _ in desk.ask(Slai()).entries) == [0, 1, 2, 3]


def test_critical_decodes_can_fill_the_budget():
    policy = Slai(token_budget=3)
    desk = Desk([*(decode() for _ in range(5)), prompt(30, 10)], now=2.0)
    assert desk.ask(policy, memory_of(policy, [0.0] * 6)).entries == [(0, 1), (1, 1), (2, 1)]


# -- the rule of memory


def test_victim_is_the_started_prompt_then_the_decode_itself():
    policy = Slai()
    full = [decode(16, blocks=1), decode(16, blocks=1), prompt(30, 10, blocks=2)]
    asked = Desk(full, now=2.0, total_blocks=4).ask(policy, memory_of(policy, [0.0] * 3))
    assert asked.victims == [2]
    assert asked.entries == [
        (0, 1),
        (1, 1),
    ]  # the prompt's two blocks serve both; nothing is left to admit it again
    asked = Desk(full[:2], now=2.0, total_blocks=2).ask(policy, memory_of(policy, [0.0] * 2))
    assert asked.victims == [0]
    assert asked.entries == [(1, 1)]


def test_a_decode_asks_for_a_free_block_even_if_it_needs_none():
    """Fifteen of sixteen tokens in its block: the next token fits, and still the prompt is preempted for it."""
    policy = Slai()
    full = [decode(15, blocks=1), prompt(30, 10, blocks=2)]
    assert Desk(full, now=2.0, total_blocks=3).ask(policy, memory_of(policy, [0.0, 0.0])).victims == [1]
    assert Desk(full, now=2.0, total_blocks=4).ask(policy, memory_of(policy, [0.0, 0.0])).victims == []


def test_a_served_prompt_is_nobodys_victim():
    """In step 5 the started prompt is in the batch already: the decode that finds no block preempts itself."""
    policy = Slai()
    full = [decode(16, blocks=1), prompt(30, 10, blocks=2)]
    asked = Desk(full, now=2.0, total_blocks=3).ask(policy, memory_of(policy, [9.0, 0.0]))
    assert asked.entries == [(1, 20)]
    assert asked.victims == [0]


# -- orders of admission


def test_spf_is_stable_and_looks_at_the_current_length():
    """Shortest first, ties by place in the queue; a preempted request counts what it must recompute."""
    queue = [waiting(30), waiting(10), waiting(20, decoded=15, recomputed=15), waiting(10), waiting(20)]
    asked = Desk(queue, queue=[2, 0, 1, 3, 4]).ask(Slai())
    assert [r for r, _ in asked.entries] == [1, 3, 2, 4, 0]
    assert [r for r, _ in Desk(queue, queue=[2, 0, 1, 3, 4]).ask(Slai(order=FIFO)).entries] == [2, 0, 1, 3, 4]


def test_strict_users_first():
    queue = [
        waiting(30, tbt=0.5),
        waiting(90, tbt=0.1),
        waiting(10, tbt=0.5),
        waiting(40, tbt=0.1),
        waiting(5),
    ]
    assert [r for r, _ in Desk(queue).ask(Slai(order=STRICT_SPF)).entries] == [3, 1, 4, 2, 0]
    assert [r for r, _ in Desk(queue).ask(Slai(order=SPF)).entries] == [4, 2, 0, 3, 1]


def test_head_of_line_blocks():
    """If the shortest does not fit, no other is tried, though under FIFO another would be first."""
    queue = [waiting(90), waiting(40)]
    desk = Desk(queue, total_blocks=3, watermark=1)
    assert desk.ask(Slai()).entries == []  # 40 tokens need 3 blocks, 2 may go
    assert Desk([waiting(20), waiting(40)], total_blocks=4).ask(Slai()).entries == [(0, 20)]


# -- over whole runs


ample = st.builds(
    System,
    st.just(TileLaw(16, 2.0**-6, 2.0**-12)),
    blocks=st.just(4000),
    last_chunk_emits=st.booleans(),
    name=st.just("ample"),
)


@given(
    workload=workloads(min_requests=3, max_requests=10, max_prompt=90, max_gap=0.25),
    system=ample,
    budget=st.sampled_from([4, 16, 64]),
    offset=st.sampled_from([0.0, 1.0, 5.0]),
)
def test_no_deferral_without_prefill_backlog(workload: Workload, system: System, budget: int, offset: float):
    """While nobody waits and no prompt is unfinished, every decode runs, as many as the budget lets; and at most one
    prompt is ever partly prefilled; and no batch exceeds the budget.
    """
    policy = Slai(token_budget=budget, below_offset=offset, time_between_tokens=1.0)
    steps = audit(workload, system, run(workload, system, policy), policy.admission)
    for s in steps:
        assert s.tokens <= budget
        started = [r for r in s.running if r not in s.decoding]
        assert len(started) <= 1
        if not s.queue and not started:
            assert len(s.entries) == min(len(s.decoding), budget)


@given(workload=workloads(min_requests=3, max_requests=10, max_prompt=90, max_gap=0.25), system=ample)
def test_with_every_decode_critical_it_is_sarathi(workload: Workload, system: System):
    """A huge offset makes every decode critical at once: the batches are Sarathi-Serve's."""
    at_once = Slai(token_budget=32, order=FIFO, fixed_offset=True, below_offset=1e6)
    one, two = (run(workload, system, p) for p in (at_once, Sarathi(token_budget=32)))
    for name in one.iterations:
        assert np.array_equal(one.iterations[name], two.iterations[name]), name


def test_deferral_happens_and_lets_prompts_pass():
    """Control of the two laws above: with long limits and a queue, SLAI starts prompts sooner than Sarathi-Serve."""
    n = 40
    workload = Workload(np.linspace(0, 1, n), np.full(n, 60), np.full(n, 30), tbt=np.full(n, 3.0))
    system = System(LAW, blocks=4000, name="ample")
    slai, sarathi = (
        simulate(workload, system, p) for p in (Slai(token_budget=16, order=FIFO), Sarathi(token_budget=16))
    )
    assert slai.requests["prefill_end"].mean() < 0.9 * sarathi.requests["prefill_end"].mean()
    assert slai.requests["longest_gap"].max() > sarathi.requests["longest_gap"].max()


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"token_budget": 0}, "token_budget of Slai must be an integer of at least 1, not 0"),
        ({"max_num_seqs": 2.5}, "max_num_seqs of Slai must be an integer of at least 1, not 2.5"),
        ({"memory_limit": math.nan}, "memory_limit of Slai must be positive and finite, not nan"),
        ({"below_offset": -1.0}, "below_offset of Slai must be zero or more, not -1.0"),
        ({"order": 7}, "order of Slai must be one of FIFO, SPF, STRICT_SPF, SJF, not 7"),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], complaint: str):
    with pytest.raises(ValueError) as caught:
        Slai(**parameters)
    assert str(caught.value) == complaint
