"""The agenda gives the nodes in order of their next events, however these move; the router's argmin likewise."""

import math
import types
from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from policies.routing import least
from queueing import agenda
from queueing.books import BUSY, CURSOR, HOLDING, IDLE, NOBODY, SCHEDULED, Agenda, fields_of
from queueing.books import NODES as STATE
from queueing.compilation import interpreted

NODES = 9
TIMES = st.integers(0, 6).map(float) | st.just(math.inf)
MOVES = st.lists(
    st.tuples(st.integers(0, NODES - 1), st.sampled_from([IDLE, BUSY, HOLDING]), st.booleans(), TIMES),
    max_size=40,
)


def blank():
    return SimpleNamespace(
        agenda=Agenda(np.zeros(agenda.TOP + NODES), np.zeros(agenda.TOP + NODES, np.int32)),
        cursor=np.zeros(CURSOR, np.int64),
        places=np.zeros(NODES, np.int32),
        nodes=fields_of(np.zeros(NODES, STATE)),
        loads=SimpleNamespace(unfinished=np.zeros(NODES, np.int64)),
    )


def follow(moves, schedule=agenda.schedule):
    """Books after these moves, and the time of each node that has an event."""
    b, times = blank(), {}
    for k, state, work, time in moves:
        b.nodes.state[k], b.loads.unfinished[k] = state, int(work or state != IDLE)
        b.nodes.clock[k] = b.nodes.until[k] = time
        schedule(k, b)
        if state != IDLE:
            times[k] = time
        elif work:
            times[k] = math.nextafter(time, math.inf)
        else:
            times.pop(k, None)
    return b, times


def drained(b):
    """(time, node) in the order in which the agenda gives them up."""
    given_up = []
    while b.cursor[SCHEDULED] > 0:
        k = int(b.agenda.node[agenda.TOP])
        given_up.append((float(b.agenda.time[agenda.TOP]), k))
        b.nodes.state[k], b.loads.unfinished[k] = IDLE, 0
        agenda.schedule(k, b)
    return given_up


@given(MOVES)
def test_the_agenda_is_sorted_and_complete(moves):
    b, times = follow(moves)
    if times:
        first = min(times.values())
        assert agenda.due(b, first)
        assert not agenda.due(b, math.nextafter(first, -math.inf))
    second = agenda.following(b)
    assert (second == NOBODY) == (len(times) < 2)
    assert second == NOBODY or times[second] == sorted(times.values())[1]
    found = drained(b)
    assert sorted(found) == sorted((time, k) for k, time in times.items())
    assert [time for time, _ in found] == sorted(times.values())
    assert not agenda.due(b, math.inf)


def test_a_heap_that_never_looks_down_is_not_sorted():
    """Control: a node whose event moves to later stays on top of children that nobody looks at."""
    twin = interpreted(agenda.schedule)
    blind = interpreted(agenda.place)
    blind = types.FunctionType(blind.__code__, {**blind.__globals__, "first_child": lambda j, end, b: end})
    blind = types.FunctionType(twin.__code__, {**twin.__globals__, "place": blind})
    moves = [(0, BUSY, True, 1.0), (1, BUSY, True, 2.0), (0, BUSY, True, 3.0)]
    for schedule, top in ((blind, 0), (agenda.schedule, 1)):
        b, times = follow(moves, schedule)
        assert b.agenda.node[agenda.TOP] == top
        assert min(times, key=times.__getitem__) == 1


def test_at_its_clock_an_idle_node_waits_for_arrivals():
    """A node that became idle at t plans only after the arrivals at t; one that is busy until t ends its batch at t."""
    for state, at_once in ((IDLE, False), (BUSY, True), (HOLDING, True)):
        b, _ = follow([(3, state, True, 5.0)])
        assert agenda.due(b, 5.0) == at_once
        assert agenda.due(b, math.nextafter(5.0, math.inf))


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=20))
def test_least_is_the_first_of_the_smallest(values):
    assert least(np.array(values)) == values.index(min(values))


def test_every_node_is_on_the_agenda_once():
    b, times = follow([(k, BUSY, True, float(NODES - k)) for k in range(NODES)] * 2)
    assert b.cursor[SCHEDULED] == len(times) == NODES
    assert sorted(b.agenda.node[agenda.TOP :].tolist()) == list(range(NODES))
