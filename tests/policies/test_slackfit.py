"""Policies that choose a subnet: tables and choices against brute force, deadlines, the offline optimum."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import (
    DROP_HEAD,
    RUN_FASTEST,
    Clipper,
    Infaas,
    MaxAccuracy,
    MaxBatch,
    Proteus,
    SlackFit,
)
from policies.proteus import placement
from policies.slackfit import buckets
from queueing.models.supernet import SLO, Frontier, ofa_resnet
from queueing.models.zilp import Offline
from queueing.one_shot import OneShotPolicy, OneShotTrace, Pool, Requests, metrics, serve

POLICIES: tuple[OneShotPolicy, ...] = (
    SlackFit(),
    SlackFit(refit=True),
    SlackFit(none_fits=RUN_FASTEST),
    MaxBatch(),
    MaxBatch(refit=True),
    MaxAccuracy(),
    Clipper(0),
    Clipper(1),
    Clipper(1, aimd=True),
    Infaas(),
    Infaas(accuracy=0.75),
    Proteus(plan=(1,)),
)
ids = [policy.name for policy in POLICIES]


@st.composite
def frontiers(draw: st.DrawFn) -> Frontier:
    """Frontiers with P1 and P2, on a coarse grid: latencies in whole seconds."""
    k, b = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    base = sorted(draw(st.lists(st.integers(1, 4), min_size=k, max_size=k)))
    step = sorted(draw(st.lists(st.integers(0, 3), min_size=k, max_size=k)))
    accuracy = sorted(draw(st.lists(st.sampled_from([70, 73, 76, 80]), min_size=k, max_size=k, unique=True)))
    table = np.array(base)[:, None] + np.array(step)[:, None] * np.arange(b)
    return Frontier(np.array(accuracy) / 100, table)


def pool_of(frontier: Frontier, servers: int = 1) -> Pool:
    return Pool(frontier.seconds, servers, frontier.accuracy)


@st.composite
def queues(draw: st.DrawFn, most: int = 7) -> Requests:
    """Requests with one limit, and half a second more, so that "ends before" on the grid is "ends at or before"."""
    n = draw(st.integers(1, most))
    gaps = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    return Requests.within(np.cumsum(gaps), draw(st.integers(2, 12)) + 0.5)


def offline(requests: Requests, frontier: Frontier, servers: int = 1) -> Offline:
    """The same in whole numbers; accuracy in hundredths."""
    return Offline(
        tuple(int(a) for a in requests.arrival),
        tuple(int(d) for d in requests.deadline),
        tuple(tuple(int(x) for x in row) for row in frontier.latency),
        tuple(round(100 * x) for x in frontier.accuracy),
        servers,
    )


def worth(trace: OneShotTrace) -> int:
    met = metrics.attained(trace)
    return round(100 * float(trace.pool.value[trace.config[trace.batch[met]]].sum()))


@given(frontiers(), st.integers(1, 40))
def test_buckets_are_the_brute_force_table(frontier: Frontier, number: int):
    table = buckets(pool_of(frontier), number)
    cells = [
        (float(frontier.latency[k, b - 1]), b, float(frontier.accuracy[k]))
        for k in range(len(frontier))
        for b in range(1, frontier.largest_batch + 1)
    ]
    edges = np.linspace(min(c[0] for c in cells), max(c[0] for c in cells), number + 1)
    expected: list[tuple[int, float]] = []
    for e in range(number):
        inside = [c for c in cells if edges[e] < c[0] <= edges[e + 1] or (e == 0 and c[0] == edges[0])]
        if inside:
            b = max(c[1] for c in inside)
            expected.append((b, max(c[2] for c in inside if c[1] == b)))
    found = [(int(b), float(frontier.accuracy[k])) for k, b in zip(table.subnet, table.batch, strict=True)]
    assert found == expected
    chosen = [frontier.latency[k, b - 1] for k, b in zip(table.subnet, table.batch, strict=True)]
    assert (np.diff(chosen) > 0).all()  # so the last that fits has the largest latency that fits


def first_batch(policy: OneShotPolicy, frontier: Frontier, slack: float) -> tuple[int, int] | None:
    """(subnet, batch) with a full batch waiting and the same slack for all; None if nothing ran."""
    most = frontier.largest_batch
    trace = serve(Requests.within(np.zeros(most), slack), pool_of(frontier), policy)
    return (int(trace.config[0]), int(trace.count[0])) if len(trace.begin) else None


@given(frontiers(), st.integers(0, 16))
@settings(max_examples=60)
def test_each_choice_is_a_brute_force_argmax(frontier: Frontier, whole: int):
    slack = whole + 0.5
    fitting = [
        (k, b)
        for k in range(len(frontier))
        for b in range(1, frontier.largest_batch + 1)
        if frontier.latency[k, b - 1] < slack
    ]
    batch_first = max(fitting, key=lambda c: (c[1], frontier.accuracy[c[0]]), default=None)
    accuracy_first = max(fitting, key=lambda c: (frontier.accuracy[c[0]], c[1]), default=None)
    least = max((c for c in fitting if c[0] == 0), key=lambda c: c[1], default=None)
    assert first_batch(MaxBatch(), frontier, slack) == batch_first
    assert first_batch(MaxAccuracy(), frontier, slack) == accuracy_first
    assert first_batch(Clipper(0), frontier, slack) == least
    best = max((c for c in fitting if c[0] == len(frontier) - 1), key=lambda c: c[1], default=None)
    assert first_batch(Clipper(99), frontier, slack) == best


@given(frontiers(), st.integers(0, 16), st.sampled_from([1, 2, 8, 32]), st.integers(1, 4))
@settings(max_examples=80)
def test_slackfit_runs_the_bucket_of_largest_latency_that_fits(
    frontier: Frontier, whole: int, number: int, waiting: int
):
    """And, refitted, the most accurate subnet that fits those who wait if they are fewer."""
    slack = whole + 0.5
    table = buckets(pool_of(frontier), number)
    held = [
        (float(frontier.latency[k, b - 1]), int(k), int(b))
        for k, b in zip(table.subnet, table.batch, strict=True)
        if frontier.latency[k, b - 1] < slack
    ]
    expected = None
    refitted = None
    if held:
        _, k, b = max(held)
        expected = refitted = (k, min(b, waiting))
        if waiting < b:
            refitted = (
                max(j for j in range(len(frontier)) if frontier.latency[j, waiting - 1] < slack),
                waiting,
            )
    for refit, choice in ((False, expected), (True, refitted)):
        requests = Requests.within(np.zeros(waiting), slack)
        trace = serve(requests, pool_of(frontier), SlackFit(buckets=number, refit=refit))
        found = (int(trace.config[0]), int(trace.count[0])) if len(trace.begin) else None
        assert found == choice


@pytest.mark.parametrize("policy", POLICIES, ids=ids)
def test_what_fits_ends_in_time(policy: OneShotPolicy):
    """With DROP_HEAD nothing that runs is late, and batches are prefixes of the queue; else something may be."""
    if getattr(policy, "none_fits", DROP_HEAD) == RUN_FASTEST or getattr(policy, "aimd", False):
        crowd = serve(Requests.within(np.zeros(40), 0.022), pool_of(ofa_resnet()), policy)
        assert (crowd.finish > crowd.requests.deadline).any()  # control: the law is one of DROP_HEAD
        return

    @given(frontiers(), queues(), st.integers(1, 2), st.lists(st.integers(0, 3), min_size=7, max_size=7))
    @settings(max_examples=50)
    def law(frontier: Frontier, requests: Requests, servers: int, more: list[int]) -> None:
        own = Requests(requests.arrival, requests.deadline + np.array(more[: len(requests)]))
        trace = serve(own, pool_of(frontier, servers), policy)
        assert (trace.served | trace.dropped).all()
        assert metrics.attained(trace)[trace.served].all()
        for b in range(len(trace.begin)):
            members = np.flatnonzero(trace.batch == b)
            waiting = (own.arrival <= trace.begin[b]) & (trace.served & (trace.start > trace.begin[b]))
            last = max((own.deadline[r], r) for r in members)
            assert all((own.deadline[r], r) > last for r in np.flatnonzero(waiting))

    law()


@pytest.mark.parametrize("policy", POLICIES, ids=ids)
def test_no_policy_is_above_the_optimum(policy: OneShotPolicy):
    @given(frontiers(), queues())
    @settings(max_examples=60)
    def law(frontier: Frontier, requests: Requests) -> None:
        best = offline(requests, frontier).by_order().worth
        assert worth(serve(requests, pool_of(frontier), policy)) <= best

    law()


def test_the_bound_is_sharp_and_would_be_broken():
    """Control: with only one query SlackFit is optimal, and one more server lifts it above the optimum of one."""
    frontier = Frontier([0.7, 0.8], [[2.0, 3.0], [4.0, 8.0]])
    one = Requests.within([0.0], 4.5)
    assert worth(serve(one, pool_of(frontier), SlackFit())) == offline(one, frontier).by_order().worth == 80
    two = Requests.within([0.0, 1.0], 4.5)
    assert (
        worth(serve(two, pool_of(frontier, 2), SlackFit())) == 160 > offline(two, frontier).by_order().worth
    )


def test_two_servers_are_bounded_by_the_program():
    @given(frontiers(), queues(most=4), st.sampled_from(POLICIES))
    @settings(max_examples=40)
    def law(frontier: Frontier, requests: Requests, policy: OneShotPolicy) -> None:
        best = offline(requests, frontier, 2).by_program().worth
        assert worth(serve(requests, pool_of(frontier, 2), policy)) <= best

    law()


@pytest.mark.parametrize("policy", POLICIES, ids=ids)
def test_no_policy_is_above_the_fluid_bound(policy: OneShotPolicy):
    """At light, full and double load; control: on twice the servers the bound of these is exceeded."""
    frontier = ofa_resnet()
    for rate in (1500.0, 6400.0, 16_000.0):
        arrival = np.arange(2000) / rate
        requests = Requests.within(arrival, SLO)
        seconds = float(requests.deadline[-1])
        bound = seconds * frontier.fluid_worth(len(arrival) / seconds, SLO, 8)
        trace = serve(requests, pool_of(frontier, 8), policy)
        attained = float(trace.pool.value[trace.config[trace.batch[metrics.attained(trace)]]].sum())
        assert attained <= bound * (1 + 1e-9)
    twice = serve(requests, pool_of(frontier, 16), Infaas())
    assert 0.7382 * metrics.attained(twice).sum() > bound


def test_slackfit_is_near_the_fluid_bound_under_even_load():
    """6400/s evenly for a second: within 2 %, the first and the last limit included; MaxAccuracy is far from it."""
    frontier = ofa_resnet()
    requests = Requests.within(np.arange(6400) / 6400, SLO)
    seconds = float(requests.deadline[-1])
    bound = seconds * frontier.fluid_worth(6400 / seconds, SLO, 8)
    share = []
    for policy in (SlackFit(), MaxAccuracy()):
        trace = serve(requests, pool_of(frontier, 8), policy)
        share.append(
            float(trace.pool.value[trace.config[trace.batch[metrics.attained(trace)]]].sum()) / bound
        )
    assert share[0] > 0.98
    assert share[1] < 0.7


def test_a_longer_limit_or_one_server_more_may_lower_slackfit():
    """Anomalies of SlackFit; the optimum of the same instances does not fall."""

    def both(arrival: list[int], slo: int, frontier: Frontier, servers: int) -> tuple[float, int]:
        requests = Requests.within(np.array(arrival, float), slo + 0.5)
        trace = serve(requests, pool_of(frontier, servers), SlackFit())
        attained = float(trace.pool.value[trace.config[trace.batch[metrics.attained(trace)]]].sum())
        best = dataclasses.replace(
            offline(requests, frontier, servers), worth=tuple(round(1e4 * x) for x in frontier.accuracy)
        )
        return round(1e4 * attained), best.by_program().worth

    two = Frontier([0.7745, 0.7956], [[4.0, 6.0, 8.0, 10.0], [4.0, 7.0, 10.0, 13.0]])
    (short, best_short), (long, best_long) = both([0, 0], 7, two, 1), both([0, 0], 8, two, 1)
    assert long < short
    assert best_long >= best_short
    three = Frontier(
        [0.7752, 0.7942, 0.8], [[1.0, 2.0, 3.0, 4.0], [4.0, 6.0, 8.0, 10.0], [4.0, 7.0, 10.0, 13.0]]
    )
    (one, best_one), (more, best_more) = both([0, 1], 10, three, 1), both([0, 1], 10, three, 2)
    assert more < one
    assert best_more >= best_one


@pytest.mark.parametrize("batch", [4, 8, 16])
def test_myopia_costs_as_much_as_a_batch(batch: int):
    """One query takes the accurate subnet; B that come just after miss: acc_max/((B + 1)·acc_min).  Fine buckets."""
    low, high = 0.70, 0.80
    frontier = Frontier(
        [low, high], [[1.0 + 0.1 * b for b in range(batch)], [10.0 + b for b in range(batch)]]
    )
    requests = Requests.within([0.0, *[0.1] * batch], 10.05)
    trace = serve(requests, pool_of(frontier), SlackFit(buckets=64))
    attained = float(frontier.accuracy[trace.config[trace.batch[metrics.attained(trace)]]].sum())
    best = Offline(
        tuple(int(100 * a) for a in requests.arrival),
        tuple(round(100 * d) for d in requests.deadline),
        tuple(tuple(round(100 * x) for x in row) for row in frontier.latency),
        (70, 80),
    ).by_order()
    assert best.worth == 70 * (batch + 1)
    assert 100 * attained / best.worth == pytest.approx(high / ((batch + 1) * low))


def test_refitting_uses_what_room_is_left():
    """One query with the slack of a full batch: the bucket's subnet, or the most accurate that fits."""
    frontier = ofa_resnet()
    alone = Requests.within([0.0], SLO)
    for cls in (SlackFit, MaxBatch):
        kept, better = (serve(alone, pool_of(frontier), cls(refit=refit)) for refit in (False, True))
        assert metrics.mean_value(better) == frontier.accuracy[-1]
        assert metrics.mean_value(kept) < metrics.mean_value(better)


def test_loading_uses_up_slack():
    """A server that holds the small subnet stays with it where loading another would be too late."""
    frontier = Frontier([0.7, 0.8], [[1.0, 2.0], [3.0, 6.0]])
    requests = Requests([0.0, 5.0], [1.5, 9.5])
    fast = serve(requests, Pool(frontier.seconds, 1, frontier.accuracy), SlackFit())
    slow = serve(requests, Pool(frontier.seconds, 1, frontier.accuracy, switch=[2.0, 2.0]), SlackFit())
    assert fast.config.tolist() == [0, 1]
    assert slow.config.tolist() == [0, 0]


LOADED = np.array([[[1.0, 2.0, 3.0]], [[3.0, 6.0, 9.0]]])
ALONE = Requests([0.0, 20.0], [15.0, 23.5])
PAIR = Requests([0.0, 0.1, 20.0], [15.0, 2.6, 22.5])


@pytest.mark.parametrize(
    ("policy", "own", "others"),
    [
        (SlackFit(), True, True),
        (MaxBatch(), True, True),
        (MaxAccuracy(), False, True),
        (Infaas(), False, False),
        (Clipper(0), False, False),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_loading_makes_a_server_drop_what_could_be_served(policy: OneShotPolicy, own: bool, others: bool):
    """`own`: 3.5 s of slack for the 3 s of the held subnet;  `others`: 2.5 s for the 2 s that an idle server holds.

    Control: none is dropped where nothing takes time to load.
    """
    for requests, servers, dropped in ((ALONE, 1, own), (PAIR, 2, others)):
        free, loaded = (
            serve(requests, Pool(LOADED, servers, [0.7, 0.8], switch=[s, s]), policy) for s in (0.0, 4.0)
        )
        assert not free.dropped.any()
        assert loaded.dropped.tolist() == [False] * (len(requests) - 1) + [dropped]
        if not (own or others):  # one subnet everywhere
            assert free.end.tolist() == loaded.end.tolist()


def test_a_server_of_proteus_serves_with_its_planned_subnet_or_not_at_all():
    """Neither with the one that it holds nor by leaving it to others; controls: one plan for all time and servers."""
    change, split = Proteus(period=10.0, plan=(1, 0)), Proteus(plan=(1, 0), servers=2)
    slow, free = (Pool(LOADED, 1, [0.7, 0.8], switch=[s, s]) for s in (4.0, 0.0))
    assert serve(ALONE, slow, change).dropped.tolist() == [False, True]
    assert serve(PAIR, Pool(LOADED, 2, [0.7, 0.8]), split).dropped.tolist() == [False, False, True]
    assert not serve(ALONE, free, change).dropped.any()
    assert not serve(ALONE, slow, Proteus(plan=(1,))).dropped.any()
    assert not serve(PAIR, Pool(LOADED, 2, [0.7, 0.8]), Proteus()).dropped.any()


@given(frontiers(), st.integers(0, 15), st.integers(0, 15), st.integers(0, 12))
@settings(max_examples=60)
def test_max_accuracy_never_drops_what_its_own_subnet_could_serve(
    frontier: Frontier, before: int, slack: int, switch: int
):
    """Control: MaxBatch, in one instance above, does."""
    pool = Pool(frontier.seconds, 1, frontier.accuracy, switch=[switch] * len(frontier))
    trace = serve(Requests([0.0, 50.0], [before + 0.5, 50.5 + slack]), pool, MaxAccuracy())
    if not trace.dropped[0]:
        fits = frontier.latency[trace.config[0], 0] < slack + 0.5
        assert not (fits and trace.dropped[1])


def test_infaas_takes_the_cheapest_that_is_accurate_enough():
    frontier = ofa_resnet()
    alone = Requests.within([0.0], SLO)
    for floor, k in ((0.0, 0), (0.7669, 1), (0.80, 4), (0.99, 4)):
        assert serve(alone, pool_of(frontier), Infaas(accuracy=floor)).config.tolist() == [k]


def test_additive_increase_multiplicative_decrease():
    """Limit 1, 2, 3, ... while batches fit; a batch that does not fit runs late and lowers it by a tenth."""
    frontier = Frontier([0.7], [[float(b) for b in range(1, 7)]])
    steady = Requests(np.zeros(21), np.full(21, 1000.0))
    trace = serve(steady, pool_of(frontier), Clipper(0, aimd=True))
    assert trace.count.tolist() == [1, 2, 3, 4, 5, 6]
    arrival = [*[0.0] * 6, *[7.0] * 4, *[12.0] * 7]
    deadline = [*[100.0] * 6, *[9.5] * 4, *[100.0] * 7]
    late = serve(Requests(arrival, deadline), pool_of(frontier), Clipper(0, aimd=True))
    assert late.count.tolist() == [1, 2, 3, 4, 3, 4]  # 4 run though only 2 fit: the limit of 4 falls to 3.6
    assert np.flatnonzero(~metrics.attained(late)).tolist() == [6, 7, 8, 9]


@given(frontiers(), st.floats(0.05, 20.0), st.floats(0.5, 12.0), st.integers(1, 4))
@settings(max_examples=40)
def test_placement_is_the_best_of_all_counts(frontier: Frontier, rate: float, slo: float, servers: int):
    pool = pool_of(frontier, servers)
    sizes = np.arange(1, frontier.largest_batch + 1)
    if slo < frontier.latency.min():
        with pytest.raises(ValueError, match="fastest subnet"):
            placement(pool, rate, slo)
        return
    peak = np.where(frontier.latency <= slo, sizes / frontier.latency, 0.0).max(1)

    def served(counts: tuple[int, ...]) -> float:
        """Most accuracy per second: fill the most accurate servers first, for the rate is all that they share."""
        left, total = rate, 0.0
        for k in reversed(range(len(counts))):
            y = min(left, peak[k] * counts[k])
            left, total = left - y, total + y * float(frontier.accuracy[k])
        return total

    def splits(n: int, k: int) -> list[tuple[int, ...]]:
        return [(n,)] if k == 1 else [(i, *rest) for i in range(n + 1) for rest in splits(n - i, k - 1)]

    found = placement(pool, rate, slo)
    assert sum(found) == servers
    assert served(found) == pytest.approx(max(map(served, splits(servers, len(frontier)))), abs=1e-6)


def test_proteus_follows_its_plan():
    frontier = ofa_resnet()
    pool = pool_of(frontier, 8)
    policy = Proteus.planned(pool, (1000.0, 7500.0, 1000.0), SLO, period=1.0)
    plan = np.array(policy.plan).reshape(-1, 8)
    assert (plan[0] == 4).all()  # the most accurate carries 2000 per second
    assert plan[1].mean() < 1
    arrival = np.repeat(np.arange(30) / 10, 8)
    trace = serve(Requests.within(arrival, SLO), pool, policy)
    period = np.minimum(trace.begin.astype(int), 2)
    assert (frontier.accuracy[trace.config] == frontier.accuracy[plan[period, trace.server]]).all()
    still = Proteus(plan=(0, 4), servers=2)
    assert set(serve(Requests.within(np.zeros(400), SLO), pool, still).config.tolist()) <= {0, 4}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SlackFit(buckets=0), "buckets"),
        (lambda: SlackFit(none_fits=7), "none_fits"),  # pyright: ignore[reportArgumentType]
        (lambda: Clipper(-1), "subnet"),
        (lambda: Infaas(accuracy=75.0), "accuracy"),
        (lambda: Proteus(plan=()), "plan"),
        (lambda: Proteus(plan=(1, 2, 3), servers=2), "whole periods"),
        (lambda: Proteus(period=0.0), "period"),
        (lambda: placement(pool_of(ofa_resnet()), 0.0, SLO), "both > 0"),
        (lambda: placement(pool_of(ofa_resnet()), np.nan, SLO), "both > 0"),
        (lambda: placement(Pool(ofa_resnet().seconds, None), 1.0, SLO), "number of servers"),
        (lambda: placement(pool_of(ofa_resnet()), 1.0, 0.002), "of 0.002 s is below the 0.003"),
        (lambda: Proteus.planned(pool_of(ofa_resnet()), (1.0,), 0.002), "the fastest subnet takes"),
    ],
)
def test_bad_parameters_are_one_sentence(make: Any, message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_policy_is_a_value():
    for policy in POLICIES:
        assert dataclasses.replace(policy) == policy


@pytest.mark.parametrize(
    "policy",
    [
        SlackFit(none_fits=RUN_FASTEST),
        MaxBatch(none_fits=RUN_FASTEST),
        Clipper(0, aimd=True),
        Infaas(),
        MaxAccuracy(),
    ],
)
def test_a_batch_that_cannot_run_is_never_asked_for(policy):
    """A pool may say of a batch that it cannot run; SlackFit asked for it nevertheless when nothing fitted."""
    pool = Pool([[[0.01, np.inf]]])
    for limit in (1.0, 0.001):
        trace = serve(Requests.within([0.0, 0.0, 0.0], limit), pool, policy)
        assert np.isfinite(trace.end).all()
        assert (trace.served | trace.dropped).all()
    with pytest.raises(ValueError, match="give it finite seconds"):
        serve(Requests.within([0.0], 1.0), Pool([[[np.inf, np.inf]]]), policy)


def test_a_period_of_next_to_nothing_is_the_last_one():
    """1 s over 1e-20 s is no 64-bit whole number; the compiled policy read outside its plan."""
    pool = Pool([[[0.01, 0.02]], [[0.02, 0.03]]], value=[0.7, 0.8])
    trace = serve(Requests.within([1.0, 2.0, 3.0], 1.0), pool, Proteus(period=1e-20, plan=(0, 1)))
    assert trace.config.tolist() == [1, 1, 1]
