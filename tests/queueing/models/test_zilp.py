"""The offline optimum: program, dynamic program and enumeration agree; what may change it and what may not."""

from __future__ import annotations

import dataclasses
import doctest
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueing.models import zilp
from queueing.models.zilp import Execution, Offline


@st.composite
def instances(draw: st.DrawFn, most: int = 5, servers: int = 1, subnets: int = 3) -> Offline:
    """Queries with one limit, subnets in any order and of any use."""
    n = draw(st.integers(1, most))
    gaps = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    arrival = [sum(gaps[: i + 1]) for i in range(n)]
    slo, k, b = draw(st.integers(2, 9)), draw(st.integers(1, subnets)), draw(st.integers(1, 3))
    steps = draw(st.lists(st.lists(st.integers(0, 3), min_size=b, max_size=b), min_size=k, max_size=k))
    latency = tuple(tuple(1 + sum(row[: i + 1]) for i in range(b)) for row in steps)
    worth = tuple(draw(st.lists(st.sampled_from([0, 70, 75, 80, 300]), min_size=k, max_size=k)))
    return Offline(tuple(arrival), tuple(a + slo for a in arrival), latency, worth, servers)


def enumerated(o: Offline, waiting: frozenset[int], free: int = 0) -> int:
    """Best worth of any sequence of any batches on one server, each as early as it may."""
    best = 0
    for many in range(1, min(len(o.latency[0]), len(waiting)) + 1):
        for batch in combinations(sorted(waiting), many):
            start = max(free, max(o.arrival[i] for i in batch))
            for row, worth in zip(o.latency, o.worth, strict=True):
                end = start + row[many - 1]
                if end <= min(o.deadline[i] for i in batch):
                    best = max(best, many * worth + enumerated(o, waiting - set(batch), end))
    return best


@given(instances())
def test_dynamic_program_is_the_zero_one_program(o: Offline):
    ordered, programmed = o.by_order(), o.by_program()
    assert ordered.worth == programmed.worth
    assert o.value(ordered.schedule) == ordered.worth
    for batch in ordered.schedule:
        assert list(batch.queries) == list(range(batch.queries[0], batch.queries[-1] + 1))


@given(instances(most=4))
def test_dynamic_program_is_enumeration(o: Offline):
    assert o.by_order().worth == enumerated(o, frozenset(range(len(o.arrival))))


def test_earliest_arrival_would_be_above_the_optimum():
    """Control: with a(S) as the paper's text has it, two queries are served together before the second is there."""
    o = Offline((0, 3), (4, 7), ((3, 3),), (70,))
    assert o.by_program().worth == o.by_order().worth == 140  # one after the other
    alone = Offline((0, 3), (4, 5), ((3, 3),), (70,))
    assert alone.by_program().worth == alone.by_order().worth == 70
    with pytest.raises(ValueError, match="before it arrives"):
        alone.value([Execution((0, 1), 0, 1)])


def test_the_dynamic_program_says_where_its_argument_ends():
    """Several servers, or deadlines that fall: there consecutive batches in order may be worth less."""
    with pytest.raises(ValueError, match="by_program"):
        Offline((0,), (5,), ((2,),), (70,), servers=2).by_order()
    falling = Offline((0, 1), (9, 4), ((3, 9),), (70,))
    with pytest.raises(ValueError, match="earlier deadline"):
        falling.by_order()
    assert falling.by_program().worth == 140  # the later query first


def test_consecutive_batches_do_not_suffice_on_two_servers():
    """The exchange needs that what starts earlier ends earlier; on one server the same queries lose nothing."""
    o = Offline(tuple(range(7)), tuple(range(3, 10)), ((1, 1), (3, 9)), (70, 80), servers=2)
    assert o.by_program().worth == 540
    assert o.by_program(consecutive=True).worth == 530
    one = dataclasses.replace(o, servers=1)
    assert one.by_program().worth == one.by_program(consecutive=True).worth == one.by_order().worth


@given(instances(most=4, servers=2))
def test_more_is_never_less(o: Offline):
    """One server more, a longer limit, one subnet more: the optimum does not fall; the relaxation is above it."""
    best = o.by_program()
    assert o.value(best.schedule) == best.worth <= o.relaxation() + 1e-6
    assert dataclasses.replace(o, servers=1).by_program().worth <= best.worth
    assert dataclasses.replace(o, servers=3).by_program().worth >= best.worth
    assert dataclasses.replace(o, deadline=tuple(d + 1 for d in o.deadline)).by_program().worth >= best.worth
    one = dataclasses.replace(o, latency=o.latency[:1], worth=o.worth[:1])
    assert one.by_program().worth <= best.worth


@given(instances())
def test_dominated_subnets_are_worth_nothing(o: Offline):
    def dominated(k: int) -> bool:
        return any(
            j != k
            and o.worth[j] >= o.worth[k]
            and all(a <= b for a, b in zip(o.latency[j], o.latency[k], strict=True))
            and (j < k or (o.worth[j], o.latency[j]) != (o.worth[k], o.latency[k]))
            for j in range(len(o.worth))
        )

    kept = [k for k in range(len(o.worth)) if not dominated(k)]
    pareto = dataclasses.replace(
        o, latency=tuple(o.latency[k] for k in kept), worth=tuple(o.worth[k] for k in kept)
    )
    assert pareto.by_order().worth == o.by_order().worth


def test_a_subnet_that_nothing_dominates_may_be_worth_something():
    """Control: removing one of the frontier lowers the optimum, on either end."""
    o = Offline((0, 1), (4, 5), ((2, 3), (4, 8)), (70, 80))
    fast, slow = (dataclasses.replace(o, latency=(o.latency[k],), worth=(o.worth[k],)) for k in (0, 1))
    assert (o.by_order().worth, fast.by_order().worth, slow.by_order().worth) == (140, 140, 80)
    alone = dataclasses.replace(o, arrival=(0,), deadline=(4,))
    assert (
        alone.by_order().worth == 80 > dataclasses.replace(fast, arrival=(0,), deadline=(4,)).by_order().worth
    )


@given(instances(subnets=1, most=6))
def test_one_subnet_serves_as_many_as_it_can(o: Offline):
    """|Phi| = 1: the optimum is the worth of the subnet times a whole number, and all are served if each could be."""
    best = o.by_order()
    assert best.worth == o.worth[0] * sum(len(batch.queries) for batch in best.schedule)
    apart = all(b - a >= o.latency[0][0] for a, b in pairwise(o.arrival))
    if apart and o.deadline[0] - o.arrival[0] >= o.latency[0][0]:
        assert best.worth == o.worth[0] * len(o.arrival)


@pytest.mark.parametrize(
    ("schedule", "rule"),
    [
        ([Execution((0, 0), 0, 1)], "twice"),
        ([Execution((0,), 0, 1), Execution((0,), 0, 3)], "twice"),
        ([Execution((1,), 0, 0)], "before it arrives"),
        ([Execution((0,), 0, 4)], "after its deadline"),
        ([Execution((0,), 0, 1), Execution((1,), 0, 2)], "at once"),
        ([Execution((), 0, 1)], "1 to 2"),
    ],
)
def test_every_rule_of_a_schedule_is_checked(schedule: list[Execution], rule: str):
    o = Offline((0, 1), (5, 6), ((2, 3),), (70,))
    assert o.value([Execution((0,), 0, 0), Execution((1,), 0, 2)]) == 140
    with pytest.raises(ValueError, match=rule):
        o.value(schedule)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"arrival": (0.5, 1)}, "whole numbers"),
        ({"arrival": (2, 1)}, "not in order"),
        ({"arrival": (0,)}, "1 arrivals and 2 deadlines"),
        ({"deadline": (0, 6)}, "query 0"),
        ({"worth": (1, 2)}, "1 rows of latency for 2"),
        ({"latency": ((3, 2),)}, "fall"),
        ({"servers": 0}, "0 servers"),
    ],
)
def test_bad_instances_are_one_sentence(fields, message):
    good = {"arrival": (0, 1), "deadline": (5, 6), "latency": ((2, 3),), "worth": (70,)}
    with pytest.raises(ValueError, match=message):
        Offline(**{**good, **fields})


def test_the_program_is_guarded():
    many = Offline(tuple(range(11)), tuple(range(5, 16)), ((2, 3),), (70,))
    with pytest.raises(ValueError, match="at most 10"):
        many.by_program()
    long = Offline((0,), (10**5,), ((2,),), (70,))
    with pytest.raises(ValueError, match="coarser tick"):
        long.by_program()
    nothing = Offline((0,), (1,), ((2,),), (70,))
    assert nothing.by_program() == nothing.by_order()
    assert nothing.relaxation() == 0.0


def test_example():
    assert doctest.testmod(zilp).failed == 0
    assert doctest.testmod(zilp).attempted > 0
