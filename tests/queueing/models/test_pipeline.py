"""Pipelines: closed forms against the recursion, the recursion against its constraints, and controls."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from queueing.models.pipeline import (
    CLAIMS,
    lone_prompt_bubble,
    timetable,
    two_stage_bubble,
    uniform_makespan,
    unlimited_makespan,
)
from queueing.proofs.claim import checked

seconds = st.integers(1, 9)  # whole numbers: floats hold them exactly, so equal means equal
stages = st.integers(1, 5)
batches = st.lists(seconds, min_size=1, max_size=25)


@given(table=st.integers(1, 4).flatmap(lambda s: st.lists(st.lists(seconds, min_size=s, max_size=s), min_size=1)),
       in_flight=st.integers(1, 5))  # fmt: skip
def test_every_start_waits_for_exactly_what_it_must(table, in_flight):
    times = np.array(table, float)
    made = timetable(times, in_flight)
    assert np.array_equal(made.end, made.start + times)
    for k, s in np.ndindex(times.shape):
        before = [0.0]
        before += [made.end[k, s - 1]] if s else []
        before += [made.end[k - 1, s]] if k else []
        before += [made.end[k - in_flight, -1]] if s == 0 and k >= in_flight else []
        assert made.start[k, s] == max(before)
    assert (made.bubbles >= 0).all()
    assert 0 <= made.bubble_share < 1


@given(times=st.lists(seconds, min_size=1, max_size=5), count=st.integers(1, 25), in_flight=st.integers(1, 7))
def test_uniform_batches_end_when_the_formula_says(times, count, in_flight):
    computed, stated = uniform_makespan(times, count, in_flight)
    assert computed == stated
    if in_flight >= len(times):
        assert stated == sum(times) + (count - 1) * max(times)


@given(time=seconds, count=st.integers(2, 25), many=st.integers(2, 5))
def test_uniform_batches_leave_no_bubble_unless_too_few_are_in_flight(time, count, many):
    table = np.full((count, many), time)
    assert not timetable(table).bubbles.any()
    starved = timetable(table, in_flight=many - 1)  # negative control
    assert starved.bubbles.any() == (count > many - 1)


@given(times=batches, many=stages)
def test_the_longest_batch_is_passed_once_per_stage(times, many):
    computed, stated = unlimited_makespan(times, many)
    assert computed == stated
    assert (
        timetable(np.repeat(np.array(times)[:, None], many, axis=1)).makespan >= stated
    )  # a limit only delays


@given(times=batches)
def test_bubbles_of_two_stages_are_the_rises(times):
    computed, stated = two_stage_bubble(times)
    assert computed == stated
    falls = sum(max(0, now - after) for now, after in pairwise(times[:-1]))
    assert timetable(np.repeat(np.array(times)[:, None], 2, axis=1)).bubbles[0] == falls
    free = timetable(np.repeat(np.array(times)[:, None], 2, axis=1), in_flight=len(times)).bubbles[1]
    assert (
        free == max(times) - times[0] <= computed
    )  # negative control: without the limit the first stage runs ahead


@given(prompt=seconds, decode=seconds, many=stages)
def test_a_lone_prompt_idles_every_stage(prompt, decode, many):
    assume(prompt >= decode)
    computed, stated = lone_prompt_bubble(prompt, decode, many)
    assert computed == stated
    one_side = np.full((2 * many + 1, many), decode, float)
    one_side[-1] = prompt  # negative control: nothing comes after, so the first stage waits for nobody
    assert (timetable(one_side).bubbles[0] == stated) == (stated == 0)


def test_bad_input_is_named():
    for wrong in ([1.0, 2.0], [[]], [[1.0, 0.0]], [[np.inf]]):
        with pytest.raises(ValueError, match="seconds > 0"):
            timetable(wrong)
    with pytest.raises(ValueError, match="at least 1"):
        timetable([[1.0]], in_flight=0)
    with pytest.raises(ValueError, match="P >= D"):
        lone_prompt_bubble(1.0, 2.0, 2)


def test_the_proved_claim_holds_and_its_control_fails():
    (proved,) = (claim for claim in CLAIMS if claim.evidence is not None)
    verdict = checked(proved)
    assert verdict.ok
    assert all(verdict.controls.values())
