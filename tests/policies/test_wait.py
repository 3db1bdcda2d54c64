"""WAIT and Nested WAIT: groups move together, memory has its bound, thresholds keep queues short, patience ends it."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import ANNOUNCED_LENGTH, WHOLE_PROMPT, Admission, NestedWait, Wait
from queueing.models.iteration_time import Affine
from queueing.models.wait import RequestType, thresholds
from queueing.system import System
from queueing.workload import Workload
from tests.accountant import audit
from tests.laws import LAW, run, same_tables
from tests.policies.desk import Desk, decode, waiting

two_types = Wait(thresholds=(2, 3), outputs=(10, 100))


def test_a_type_advances_with_a_full_group_only():
    """Two short ones wait, so the short type advances; of the long ones only two, so it does not."""
    short, long = {"predicted": 8}, {"predicted": 50}
    requests = [decode(**short), decode(**long), waiting(5, **short), waiting(6, **long), waiting(7, **short),
                waiting(8, **short), waiting(9, **long)]  # fmt: skip
    assert Desk(requests).ask(two_types).entries == [(0, 1), (2, 5), (4, 7)]


def test_holds_until_the_oldest_has_waited_long_enough():
    requests = [waiting(5, predicted=8, arrival=2.0), waiting(6, predicted=50, arrival=1.5)]
    asked = Desk(requests, now=2.0).ask(two_types)
    assert (asked.entries, asked.holds_until) == ([], 2.5)
    assert Desk(requests, now=2.5).ask(two_types).entries == [(1, 6)]


def test_memory_is_taken_from_the_latest_left_out():
    requests = [
        decode(16, blocks=1, predicted=50),
        decode(16, blocks=1, predicted=8),
        decode(16, blocks=1, predicted=50),
    ]
    asked = Desk([*requests, waiting(3, predicted=8), waiting(3, predicted=8)], total_blocks=3).ask(two_types)
    assert asked.victims == [2]
    assert asked.entries == [(1, 1)]


def stream(n: int, prompt: int, output: int, gap: float) -> Workload:
    return Workload(np.arange(n) * gap, np.full(n, prompt), np.full(n, output), predicted=np.full(n, output))


@pytest.mark.parametrize("admission", [WHOLE_PROMPT, ANNOUNCED_LENGTH], ids=repr)
@pytest.mark.parametrize("n", [1, 3, 5])
def test_every_stage_holds_nobody_or_a_group(n: int, admission: Admission):
    """Equal requests, patience never used up while they come: stages of 0 or n, memory within n·G."""
    prompt, output, last = 7, 4, 60 * n
    workload = stream(last, prompt, output, 2.0**-7)
    system = System(LAW, blocks=4096, block_size=1, last_chunk_emits=False)
    trace = run(workload, system, Wait(thresholds=(n,), outputs=(8,), patience=50.0, admission=admission))
    bound = n * (output + 1) * (prompt + (output / 2 if admission == WHOLE_PROMPT else output))
    assert trace.iterations["blocks"].max() == bound
    decoded: Counter[int] = Counter()
    groups = 0
    for s in audit(workload, system, trace, admission):
        if s.idled > 1:
            break  # the end: nobody comes any more
        for r in s.running:
            decoded[r] += 0
        stages = Counter(decoded[r] for r in s.running)
        assert set(stages.values()) <= {n}, "a stage holds part of a group"
        held = sum((prompt + stage) * m for stage, m in stages.items())
        assert held <= n * (output + 1) * (prompt + output / 2)
        for r in s.decodes:
            decoded[r] += 1
        groups += bool(s.admitted)
    assert groups >= 30


def backlog_after(policy: Wait, types: list[RequestType], seconds: float) -> int:
    """Requests waiting at the end of deterministic arrivals at the types' rates."""
    base, per_kv = Fraction(1), Fraction(1, 300)
    rows = sorted(
        (float(k / t.rate), t.prompt, t.output)
        for t in types
        for k in range(1, int(t.rate * Fraction(seconds)) + 1)
    )
    arrival, prompt, output = (np.array(column) for column in zip(*rows, strict=True))
    workload = Workload(arrival, prompt, output.astype(int), predicted=output.astype(int))
    law = Affine(float(base), 0.0, per_context=float(per_kv))
    system = System(law, blocks=1 << 16, block_size=1, last_chunk_emits=False)
    trace = run(workload, system, policy, horizon=seconds)
    return int(np.isnan(trace.requests["prefill_end"]).sum())


def test_thresholds_of_the_model_keep_queues_short_and_half_of_them_do_not():
    types = [RequestType(4, 3, Fraction(2)), RequestType(2, 12, Fraction(1))]
    n = thresholds(types, Fraction(1), Fraction(1, 300))
    ample = Wait(thresholds=n, outputs=(3, 12), patience=1e6)
    scarce = Wait(thresholds=tuple(max(1, x // 2) for x in n), outputs=(3, 12), patience=1e6)
    assert backlog_after(ample, types, 2000.0) <= 3 * sum(n)
    assert backlog_after(scarce, types, 2000.0) > 500


# -- Nested WAIT

nested = NestedWait(thresholds=(2, 2), boundaries=(5, 100))


def aged(decoded: int, **more: Any):
    return decode(10 + decoded, **more).__class__(prompt=10, prefilled=10, decoded=decoded, **more)


def test_a_segment_waits_for_its_entry():
    """Segment 0 is full and moves; of segment 1 one request is at the entry, one beyond, and neither moves."""
    requests = [aged(5), aged(9), aged(2), waiting(4), waiting(6), waiting(8)]
    assert Desk(requests).ask(nested).entries == [(2, 1), (3, 4), (4, 6)]
    both = [aged(5), aged(9), aged(5), waiting(4), waiting(6)]
    assert [r for r, _ in Desk(both).ask(nested).entries] == [3, 4, 0, 1, 2]


def test_an_empty_segment_before_it_stops_a_full_one():
    """Nested: without new prompts nobody moves, until the patience is over."""
    requests = [aged(5, arrival=0.5), aged(5, arrival=0.75)]
    asked = Desk(requests, now=1.0).ask(nested)
    assert (asked.entries, asked.holds_until) == ([], 1.5)
    assert Desk(requests, now=1.5).ask(nested).entries == [(0, 1), (1, 1)]


@given(n=st.integers(1, 4), seed=st.integers(0, 99))
def test_one_segment_is_one_type(n: int, seed: int):
    rng = np.random.default_rng(seed)
    workload = Workload(np.sort(rng.uniform(0, 1, 12)), rng.integers(1, 30, 12), rng.integers(1, 30, 12))
    system = System(LAW, blocks=400, block_size=4)
    wait = Wait(thresholds=(n,), outputs=(64,), admission=NestedWait().admission)
    one = run(workload, system, NestedWait(thresholds=(n,), boundaries=(64,)))
    assert same_tables(one, run(workload, system, wait)) == ""


def test_a_second_segment_is_another_schedule():
    """Control of the one above: outputs beyond the first boundary wait at it."""
    workload = stream(40, 5, 12, 2.0**-7)
    system = System(LAW, blocks=4000, block_size=1)
    one, two = (
        run(workload, system, NestedWait(thresholds=(2, 5)[:k], boundaries=(6, 64)[:k])) for k in (1, 2)
    )
    assert same_tables(one, two) != ""


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Wait(thresholds=()), r"thresholds of Wait must be integers of at least 1, not \(\)"),
        (lambda: Wait(thresholds=(1, 0)), r"thresholds of Wait must be integers of at least 1, not \(1, 0\)"),
        (lambda: Wait(outputs=(64,)), r"outputs of Wait must be 2 rising integers, not \(64,\)"),
        (
            lambda: NestedWait(boundaries=(64, 64)),
            r"boundaries of NestedWait must be 2 rising integers, not \(64, 64\)",
        ),
        (lambda: Wait(patience=0.0), r"patience of Wait must be positive and finite, not 0.0"),
    ],
)
def test_bad_parameters(make: Any, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        make()
