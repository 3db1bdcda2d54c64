"""Rules of admission: what is reserved, when a request fits, and what the peak ahead is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies import ANNOUNCED_LENGTH, CONTEXT_LIMIT, PEAK, WHOLE_PROMPT, Admission, HybridOnly, Sarathi
from policies.admission import peak_blocks, reservation
from queueing.compilation import interpreted
from queueing.system import System
from queueing.workload import Workload
from tests.laws import LAW, run
from tests.policies.desk import Desk, Req, decode, waiting
from tests.strategies import systems, workloads

crowds = workloads(min_requests=3, max_requests=10, max_prompt=40, max_output=40, max_gap=0.25)
every_rule = pytest.mark.parametrize("rule", list(Admission), ids=repr)


@pytest.mark.parametrize(
    ("rule", "tokens"),
    [(WHOLE_PROMPT, 50), (CONTEXT_LIMIT, 300), (ANNOUNCED_LENGTH, 90), (PEAK, 50)],
    ids=str,
)
def test_reservation(rule: Admission, tokens: int):
    """A request preempted after 10 of 50 announced tokens: 50 to prefill, 40 still announced."""
    desk = Desk([waiting(50, decoded=10, recomputed=10, predicted=50)], max_length=300)
    assert desk.ask(Sarathi(admission=rule)).reserve == {0: tokens}


@every_rule
def test_reservation_within_memory_and_never_below_the_prompt(rule: Admission):
    view = Desk(
        [waiting(50, predicted=1000), waiting(50, decoded=30, recomputed=30, predicted=2)], total_blocks=8
    ).view()
    assert interpreted(reservation)(rule, view, 0) in (50, 8 * 16)
    assert interpreted(reservation)(rule, view, 1) >= 50


def test_watermark_only_where_memory_grows():
    """Four blocks free: WHOLE_PROMPT leaves the watermark, full reservations may take everything."""
    desk = Desk([waiting(64, predicted=0)], total_blocks=4, watermark=1, max_length=64)
    admitted = {rule: bool(desk.ask(Sarathi(admission=rule)).entries) for rule in Admission}
    assert admitted == {WHOLE_PROMPT: False, CONTEXT_LIMIT: True, ANNOUNCED_LENGTH: True, PEAK: True}


def peak_by_hand(requests: list[tuple[int, int]], block_size: int) -> int:
    """Most blocks over all iterations ahead, step by step: `requests` are (tokens held, tokens to come)."""
    ahead = range(max(left for _, left in requests) + 1)
    return max(sum(-(-(held + s) // block_size) for held, left in requests if s <= left) for s in ahead)


@given(
    requests=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=6),
    block_size=st.sampled_from([1, 4, 16]),
)
def test_peak_looks_at_the_right_moments(requests: list[tuple[int, int]], block_size: int):
    """Looking only where requests end finds the peak of the whole future, blocks rounded up for each.

    The last request is the candidate, one of whose iterations goes to its prompt.
    """
    *running, (held, left) = requests
    rows = [Req(prompt=h, prefilled=h, decoded=0, predicted=more) for h, more in running]
    desk = Desk([*rows, waiting(held + 1, predicted=left - 1)], block_size=block_size, total_blocks=10_000)
    assert interpreted(peak_blocks)(desk.view(), desk.batch(), len(rows), 1.0) == peak_by_hand(
        requests, block_size
    )


def test_peak_refuses_what_the_prompt_alone_would_pass():
    """Two requests that will outgrow the memory together are not admitted together; alone, or in turn, they are."""
    queue = [waiting(16, predicted=47), waiting(16, predicted=47)]
    asked = {
        rule: Desk(queue, total_blocks=7).ask(Sarathi(admission=rule)).entries
        for rule in (WHOLE_PROMPT, PEAK)
    }
    assert asked == {WHOLE_PROMPT: [(0, 16), (1, 16)], PEAK: [(0, 16)]}
    assert len(Desk(queue, total_blocks=9).ask(Sarathi(admission=PEAK)).entries) == 2
    lone = Desk([waiting(16, predicted=10_000)], total_blocks=4)
    assert lone.ask(Sarathi(admission=PEAK)).entries == [(0, 16)]
    beside = Desk([decode(16, predicted=1), waiting(16, predicted=10_000)], total_blocks=9)
    assert beside.ask(Sarathi(admission=PEAK)).entries == [(0, 1)]


def preemptions(workload: Workload, system: System, rule: Admission, announced: bool = True) -> int:
    """Preemptions of whole-prompt batches under `rule`, with the true outputs announced, or one token each."""
    predicted = workload.output if announced else np.ones_like(workload.output)
    told = Workload(workload.arrival, workload.prompt, workload.output, predicted=predicted)
    return int(run(told, system, HybridOnly(admission=rule)).requests["preemptions"].sum())


@pytest.mark.parametrize("rule", [CONTEXT_LIMIT, ANNOUNCED_LENGTH, PEAK], ids=repr)
def test_true_announcements_prevent_preemption(rule: Admission):
    """With the output announced, neither full reservation nor the peak ahead preempts (whole prompts, all in step)."""

    latecomer = Workload(
        [0.0625, 0.109375, 0.140625], [5, 2, 1], [9, 5, 3]
    )  # lags by the iteration of its prompt
    tight = System(LAW, blocks=23, block_size=1, max_length=100, last_chunk_emits=False, name="tight")

    @example(workload=latecomer, system=tight)
    @given(workload=crowds, system=systems(LAW))
    def check(workload: Workload, system: System):
        assert preemptions(workload, system, rule) == 0

    check()


def test_preemption_without_them():
    """Control: admission by prompts alone preempts on the same machine, and so does a false announcement."""
    workload = Workload(np.zeros(6), np.full(6, 10), np.full(6, 40))
    system = System(LAW, blocks=40, block_size=4, max_length=100, name="crowded")
    assert preemptions(workload, system, WHOLE_PROMPT) > 0
    assert preemptions(workload, system, ANNOUNCED_LENGTH) == 0
    assert preemptions(workload, system, ANNOUNCED_LENGTH, announced=False) > 0
