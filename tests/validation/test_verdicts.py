"""Verdicts: each claim has ranges that reproduce it, that differ, and that leave it open."""

import math

import pytest

from validation.verdicts import (
    judge,
    judge_at_least,
    judge_between,
    judge_growth,
    judge_limit,
    judge_more,
    judge_share,
)

NO, YES, OPEN = "differs", "reproduced", "not testable here"
INTERVALS = {
    "is": lambda low, high: judge(1.0, low, high),
    "between": lambda low, high: judge_between(0.9, 1.1, low, high),
    "at most": lambda low, high: judge_limit(1.0, low, high),
    "at least": lambda low, high: judge_at_least(1.0, low, high),
    "more": lambda low, high: judge_more(low, high, than=1.0),
}


@pytest.mark.parametrize(
    ("claim", "below", "to", "around", "at", "above"),
    [
        ("is", NO, YES, YES, YES, NO),
        ("between", NO, YES, YES, YES, NO),
        ("at most", YES, YES, OPEN, YES, NO),
        ("at least", NO, OPEN, OPEN, YES, YES),
        ("more", NO, NO, OPEN, NO, YES),
    ],
)
def test_a_claim_of_one(claim, below, to, around, at, above):
    """Of 1: ranges below it, up to it, around it, of it alone, above it."""
    found = [INTERVALS[claim](*ends) for ends in ((0.5, 0.8), (0.5, 1.0), (0.5, 2.0), (1.0, 1.0), (1.5, 2.0))]
    assert found == [below, to, around, at, above]


@pytest.mark.parametrize("claim", INTERVALS)
@pytest.mark.parametrize(
    "ends", [(-math.inf, math.inf), (math.nan, 3.0), (0.0, math.nan), (math.nan, math.nan)]
)
def test_a_range_without_an_end_settles_nothing(claim, ends):
    assert INTERVALS[claim](*ends) == OPEN
    assert INTERVALS[claim](1.5, 2.0) != OPEN  # control


@pytest.mark.parametrize("claim", INTERVALS)
def test_what_never_ends_reproduces_nothing(claim):
    """It is past every limit, though."""
    for never in (math.inf, -math.inf):
        assert INTERVALS[claim](never, never) in (NO, OPEN)
    assert judge_limit(1.0, math.inf, math.inf) == judge_at_least(1.0, -math.inf, -math.inf) == NO
    assert (
        judge_at_least(1.0, 2.0, math.inf) == judge_more(2.0, math.inf) == YES
    )  # control: known on one side


def test_nothing_published_is_not_judged():
    assert judge(None, 0.0, 1.0) == OPEN
    assert judge_share(1.0, math.nan, 0.1) == judge_share(math.nan, 1.0, 0.1) == OPEN


def test_a_share_off():
    assert judge_share(10.0, 10.9, 0.1) == judge_share(10.0, 9.1, 0.1) == YES
    assert judge_share(10.0, 11.1, 0.1) == judge_share(10.0, 8.9, 0.1) == NO


@pytest.mark.parametrize(
    ("grows", "stable", "if_it_grows", "if_it_does_not"),
    [
        (True, False, YES, NO),
        (False, True, NO, YES),
        (False, False, OPEN, OPEN),  # too short a run
        (True, True, OPEN, OPEN),  # growth that is there, and small
    ],
)
def test_growth(grows, stable, if_it_grows, if_it_does_not):
    record = {"grows": grows, "stable": stable}
    assert [judge_growth(record, claim) for claim in (True, False)] == [if_it_grows, if_it_does_not]
