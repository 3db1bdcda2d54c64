"""The contract of one-shot policies, over every one that the package exports: held to it by being exported.

Laws: the books balance (an accountant that shares no line with the loop); compiled equals interpreted, bit by bit; the
same input gives the same trace; nothing of the future is read; a queue by deadline is served from its head where the
policy says that its batches are prefixes.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given

from policies import MultiBuffer
from policies.catalogue import classes
from queueing.one_shot import OneShotPolicy, OneShotTrace, Pool, Requests, serve
from tests.one_shot_accountant import audit
from tests.strategies import one_shot_runs, parameters_of

POLICIES = classes(OneShotPolicy)
COLUMNS = [
    f.name
    for f in dataclasses.fields(OneShotTrace)
    if f.name not in ("requests", "pool", "policy", "versions")
]

every_policy = pytest.mark.parametrize("cls", POLICIES.values(), ids=list(POLICIES))


def differs(a: OneShotTrace, b: OneShotTrace, batches: int | None = None) -> list[str]:
    per_batch = ("begin", "end", "server", "config", "count", "largest", "loading", "completed")
    names = COLUMNS if batches is None else per_batch
    return [
        name for name in names if not np.array_equal(getattr(a, name)[:batches], getattr(b, name)[:batches])
    ]


def accepts(policy: OneShotPolicy, pool: Pool) -> bool:
    """Only MultiBuffer, whose configurations are named beforehand, may refuse a pool that can run single requests."""
    try:
        policy.prepare(pool)
    except ValueError:
        if isinstance(policy, MultiBuffer):
            return False
        raise
    return True


@every_policy
def test_every_policy_has_a_source(cls: type[OneShotPolicy]) -> None:
    assert cls.source
    assert not OneShotPolicy.source  # control


@every_policy
def test_the_books_balance_and_the_twin_agrees(cls: type[OneShotPolicy]) -> None:
    seen: Counter[str] = Counter()

    @given(parameters_of(cls), one_shot_runs(impossible=True))
    def law(policy: OneShotPolicy, case: tuple[Requests, Pool]) -> None:
        assume(accepts(policy, case[1]))
        trace = serve(*case, policy, python=True)
        audit(trace)
        assert differs(trace, serve(*case, policy)) == []
        seen["runs"] += 1
        seen["impossible"] += bool(np.isinf(case[1].seconds).any())

    law()
    if seen["runs"] >= 100:
        assert seen["impossible"] >= 0.1 * seen["runs"], seen


@every_policy
def test_nothing_of_the_future_is_read(cls: type[OneShotPolicy]) -> None:
    """Runs on all requests but the last and on all are the same until the last one arrives."""

    @given(parameters_of(cls), one_shot_runs(min_requests=2, impossible=True))
    def law(policy: OneShotPolicy, case: tuple[Requests, Pool]) -> None:
        requests, pool = case
        assume(accepts(policy, pool))
        last = requests.arrival[-1]
        first = Requests(requests.arrival[:-1], requests.deadline[:-1], requests.kind[:-1])
        short, whole = serve(first, pool, policy), serve(requests, pool, policy)
        before = int((whole.begin < last).sum())
        assert before == int((short.begin < last).sum())
        assert differs(short, whole, before) == []

    law()
