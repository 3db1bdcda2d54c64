"""The loop of one-shot serving: its books balance, its twin agrees, its queues are those of the textbooks."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueing.arrivals import Poisson
from queueing.one_shot import (
    OneShotPolicy,
    OneShotTrace,
    Pool,
    Requests,
    decide,
    drop,
    metrics,
    run,
    serve,
    take,
    take_first,
    wait_until,
    waiting,
)
from queueing.simulator import PolicyBreach
from tests.one_shot_accountant import BooksDoNotBalance, audit
from tests.strategies import one_shot_runs


@dataclass(frozen=True, slots=True)
class Greedy(OneShotPolicy):
    """As many as may go, first come first served, always configuration 0."""

    most: int = 1

    @decide
    def greedy(p, memory, view, action):
        take_first(view, action, p.most)


@dataclass(frozen=True, slots=True)
class Patient(OneShotPolicy):
    """By deadline; late ones are dropped; waits for a pair up to `delay`; configurations in turn; every other place."""

    delay: float = 0.25
    by_deadline = True

    @decide
    def patient(p, memory, view, action):
        for r in view.queue:
            if view.deadline[r] < view.now:
                drop(view, action, r)
        n = 0
        for i in range(waiting(view) - 1, -1, -2):
            r = view.queue[i]
            if view.deadline[r] >= view.now and n < view.seconds.shape[2]:
                take(view, action, r)
                n += 1
        run(action, view.arrived % view.seconds.shape[0])
        if n < 2:
            first = math.inf
            for r in view.queue:
                first = min(first, view.arrival[r])
            if view.now < first + p.delay:
                action.counts[0] = 0
                wait_until(action, first + p.delay)


POLICIES = [Greedy(1), Greedy(2), Patient(), Patient(0.0)]
same = [
    f.name
    for f in dataclasses.fields(OneShotTrace)
    if f.name not in ("requests", "pool", "policy", "versions")
]


def differs(a: OneShotTrace, b: OneShotTrace) -> list[str]:
    return [name for name in same if not np.array_equal(getattr(a, name), getattr(b, name))]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.name)
@given(one_shot_runs())
def test_the_books_balance_and_the_twin_agrees(policy: OneShotPolicy, case: tuple[Requests, Pool]) -> None:
    requests, pool = case
    if policy == Greedy(2) and pool.largest_batch < 2:
        policy = Greedy(1)
    trace = serve(requests, pool, policy)
    audit(trace)
    assert differs(trace, serve(requests, pool, policy, python=True)) == []
    assert differs(trace, serve(requests, pool, policy)) == []


@given(one_shot_runs(min_requests=2), st.integers(0, 10**6))
def test_nothing_of_the_future_is_read(case: tuple[Requests, Pool], which: int) -> None:
    """Runs on the first m requests and on all are the same until the (m+1)-th arrives."""
    requests, pool = case
    m = 1 + which % (len(requests) - 1)
    first = Requests(requests.arrival[:m], requests.deadline[:m], requests.kind[:m])
    for policy in (Greedy(1), Patient()):
        short, whole = serve(first, pool, policy), serve(requests, pool, policy)
        before = int((whole.begin < requests.arrival[m]).sum())
        assert before == int((short.begin < requests.arrival[m]).sum())
        for name in ("begin", "end", "server", "config", "count"):
            assert np.array_equal(getattr(short, name)[:before], getattr(whole, name)[:before])


def test_the_accountant_sees_a_trace_that_was_altered() -> None:
    """Negative controls: every column of a trace, altered in one place, is caught."""
    requests = Requests.within([0.0, 0.1, 0.2, 0.3, 1.5], 1.0, kind=[0, 1, 0, 0, 1])
    pool = Pool(np.array([[[0.5, 0.6], [0.7, 0.8]]] * 2), servers=2, failures=[0.55, np.inf])
    trace = serve(requests, pool, Greedy(2))
    audit(trace)
    assert not trace.completed.all()
    for name, row, value in (
        ("batch", 0, 2), ("batch", 4, -1), ("dropped", 1, True), ("begin", 1, 0.05), ("end", 1, 0.9), ("server", 1, 0),
        ("config", 1, 1), ("count", 1, 2), ("largest", 1, 0), ("loading", 1, 0.1), ("completed", 2, True),
    ):  # fmt: skip
        column = getattr(trace, name).copy()
        if name == "config":
            bad = dataclasses.replace(
                trace, pool=Pool(pool.seconds * [[[1.0]], [[2.0]]], 2, failures=pool.failures)
            )
        else:
            bad = trace
        column[row] = value
        with pytest.raises(BooksDoNotBalance):
            audit(dataclasses.replace(bad, **{name: column}))


# -- the textbooks' queues


def interval(latency: np.ndarray[Any, Any], groups: int = 20) -> tuple[float, float]:
    """Mean and its standard error, by batch means."""
    means = latency[: len(latency) // groups * groups].reshape(groups, -1).mean(axis=1)
    return float(means.mean()), float(means.std(ddof=1) / math.sqrt(groups))


@pytest.mark.parametrize(("rate", "rare"), [(0.5, 0.0), (0.8, 0.0), (0.6, 0.1)])
def test_one_server_is_the_queue_of_pollaczek_and_khinchine(rate: float, rare: float) -> None:
    """E[W] = λ E[S²]/(2(1-ρ)), S = 1 or, with probability `rare`, 3; and Little's law holds exactly.

    400,000 requests, 20 batch means, six standard errors (Student's t, 19 degrees: error 1e-5 each).  Control: a rate
    10 % higher is told apart.
    """
    rng = np.random.default_rng(11)
    n = 400_000
    requests = Requests(Poisson(rate).times(n, rng), kind=(rng.random(n) < rare).astype(int))
    trace = serve(requests, Pool(np.array([[[1.0], [3.0]]])), Greedy(1))
    wait, error = interval(trace.start - requests.arrival)

    def stated(rate: float) -> float:
        first, second = 1 + 2 * rare, 1 + 8 * rare
        return rate * second / (2 * (1 - rate * first))

    assert abs(wait - stated(rate)) < 6 * error
    assert abs(wait - stated(1.1 * rate)) > 6 * error
    events = np.sort(np.concatenate([requests.arrival, trace.finish]))
    inside = np.cumsum(np.where(np.isin(events, trace.finish), -1, 1))[:-1] @ np.diff(events)
    assert inside == pytest.approx(metrics.latency(trace).sum(), rel=1e-9)


def test_many_servers_are_as_good_as_none_waiting() -> None:
    """Paid per use, nobody waits; and c servers of a saturated pool carry c times what one carries."""
    requests = Requests(Poisson(100.0).times(2000, np.random.default_rng(3)))
    free = serve(requests, Pool(np.array([[[1.0]]]), servers=None), Greedy(1))
    assert (metrics.latency(free) == 1.0 + requests.arrival - requests.arrival).all() or np.allclose(
        metrics.latency(free), 1.0
    )
    ends = [serve(requests, Pool(np.array([[[1.0]]]), servers=c), Greedy(1)).end.max() for c in (1, 4)]
    assert ends[0] / ends[1] == pytest.approx(4.0, rel=0.02)
    with pytest.raises(ValueError, match="paid per use"):
        metrics.utilisation(free)


def test_figures_of_a_run() -> None:
    requests = Requests([0.0, 0.0, 0.0, 5.0], deadline=[1.0, 1.5, 0.5, 6.0])
    pool = Pool(np.array([[[1.0, 1.25]], [[2.0, 2.0]]]), value=[0.7, 0.9], switch=[0.0, 0.5])
    trace = serve(requests, pool, Greedy(2))
    assert metrics.latency(trace).tolist() == [1.25, 1.25, 2.25, 1.0]
    assert metrics.attained(trace).tolist() == [False, True, False, True]
    assert metrics.attainment(trace) == 0.5
    assert metrics.mean_value(trace) == pytest.approx(0.7)
    assert metrics.calls_per_request(trace) == 0.75
    assert metrics.mean_batch(trace) == pytest.approx(4 / 3)
    assert metrics.utilisation(trace) == pytest.approx(3.25 / 6.0)


# -- every rule broken once


def broken(body: Callable[..., Any]) -> Any:
    return dataclasses.dataclass(frozen=True)(
        type("Broken", (OneShotPolicy,), {"body_of_plan": decide(body)})
    )()


def _twice(p, memory, view, action):
    take(view, action, view.queue[0])
    take(view, action, view.queue[0])


def _future(p, memory, view, action):
    take(view, action, view.arrived)


def _negative(p, memory, view, action):
    take(view, action, -1)


def _taken_and_dropped(p, memory, view, action):
    take_first(view, action, 1)
    drop(view, action, view.queue[0])


def _too_many(p, memory, view, action):
    for _ in range(4):
        take(view, action, view.queue[0])


def _no_such_configuration(p, memory, view, action):
    take_first(view, action, 1)
    run(action, 2)


def _impossible(p, memory, view, action):
    take_first(view, action, 1)
    run(action, 1)


def _the_past(p, memory, view, action):
    wait_until(action, view.now)


def _idle(p, memory, view, action):
    pass


RULES = [
    (_twice, "names a request that does not wait"),
    (_future, "names a request that does not wait"),
    (_negative, "names a request that does not wait"),
    (_taken_and_dropped, "names a request that does not wait"),
    (_too_many, "more requests than the largest"),
    (_no_such_configuration, "not one of the pool's"),
    (_impossible, "cannot run such a batch"),
    (_the_past, "not in the future"),
    (_idle, "neither runs, drops nor waits"),
]


# compiled, only the first and the last: a compilation takes a second, and the twins are compared above
@pytest.mark.parametrize(
    ("body", "rule", "python"),
    [(*rule, True) for rule in RULES] + [(*rule, False) for rule in (RULES[0], RULES[-1])],
)
def test_every_rule_is_checked(body: Callable[..., Any], rule: str, python: bool) -> None:
    pool = Pool(np.array([[[1.0, 1.0]], [[np.inf, 1.0]]]))
    with pytest.raises(PolicyBreach, match=re.escape(rule)) as found:
        serve(Requests([0.5, 9.0]), pool, broken(body), python=python)
    assert "Broken, at " in str(found.value)


# -- failures and bad input


def test_what_a_failed_server_executed_waits_again() -> None:
    requests = Requests([0.0, 0.0, 0.1])
    pool = Pool(np.array([[[1.0, 1.0]]]), servers=2, failures=[0.5, np.inf])
    trace = serve(requests, pool, Greedy(1))
    audit(trace)
    assert trace.finish.tolist() == [2.0, 1.0, 3.0]  # the lost request is older than the one that waits
    gone = serve(requests, Pool(pool.seconds, servers=2, failures=[0.5, 0.7]), Greedy(1))
    audit(gone)
    assert not gone.served.any()
    assert not gone.dropped.any()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Requests([]), "no requests"),
        (lambda: Requests([1.0, 0.5]), "arrival, row 1: 0.5"),
        (lambda: Requests([-1.0]), "arrival, row 0: -1"),
        (lambda: Requests([1.0], deadline=[1.0]), "deadline, row 0: 1"),
        (lambda: Requests([1.0], kind=[0.5]), "kind, row 0: 0.5"),
        (lambda: Requests([1.0, 2.0], kind=[0]), "kind has 1 rows"),
        (lambda: Requests.within([1.0], 0.0), "limit on latency is 0"),
        (lambda: Pool([[1.0]]), "has shape (1, 1)"),
        (lambda: Pool([[[0.0]]]), "a batch time is 0 s"),
        (lambda: Pool([[[math.nan]]]), "a batch time is nan s"),
        (lambda: Pool([[[1.0]]], servers=0), "0 servers"),
        (lambda: Pool([[[1.0]]], value=[1.0, 2.0]), "value has 2 values; give 1"),
        (lambda: Pool([[[1.0]]], servers=1.5), "1.5 servers"),  # type: ignore[arg-type]
        (lambda: Pool([[[1.0]]], switch=[-1.0]), "switch holds -1"),
        (lambda: Pool([[[1.0]]], switch=[math.inf]), "switch holds inf; give finite"),
        (lambda: Pool([[[1.0]]], value=[math.inf]), "value holds inf; give finite"),
        (lambda: Pool([[[1.0]]], failures=[math.nan]), "failures holds nan"),
        (lambda: Pool([[[1.0]]], servers=None, switch=[1.0]), "paid per use hold nothing"),
        (lambda: serve(Requests([0.0], kind=[3]), Pool([[[1.0]]]), Greedy()), "of kind 3"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        make()
