"""The books' layout: what a decode touches is one cache line, and four bytes are enough for tokens."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from policies import Orca, Rad, Sarathi
from queueing import loop
from queueing.books import LAST_STAMP, LINE, MOST_CLASSES, NODES, REQUESTS, STAMP, widened
from queueing.models.iteration_time import TileLaw
from queueing.run import Run
from queueing.serving import Server, SimulatedEngine, Work
from queueing.simulator import simulate
from queueing.system import System
from queueing.workload import MOST_TOKENS, Workload

LIMIT = (1 << 31) - 1
SYSTEM = System(
    TileLaw(128, 4e-3, 5e-6), blocks=LIMIT, block_size=3, max_length=LIMIT, max_batch_tokens=LIMIT
)


def fields(table: np.dtype) -> dict[str, tuple[int, int]]:
    """(first byte, byte after the last) of each field."""
    return {name: (at, at + kind.itemsize) for name, (kind, at, *_) in table.fields.items()}


def test_what_a_decode_reads_of_a_request_is_one_line() -> None:
    """The fields that granting and ending a decode name in the source of the loop; once-in-a-life fields do not fit."""
    assert REQUESTS.itemsize % LINE == NODES.itemsize % LINE == 0
    named = {
        name
        for part in (loop.allocate, loop.commit)
        for name in re.findall(r"b\.requests\.(\w+)", inspect.getsource(part.py_func))
    }
    once = {"admitted", "prefill_end", "first_token", "finished", "late_gaps"}
    assert once < named
    places = fields(REQUESTS)
    assert all(places[name][1] <= LINE for name in named - once)
    assert all(places[name][0] >= LINE for name in once)
    ends = sorted(places.values())
    assert all(end <= start for (_, end), (start, _) in pairwise(ends))


def test_the_twin_has_the_same_fields_and_wide_integers() -> None:
    assert widened(REQUESTS).names == REQUESTS.names
    assert {widened(REQUESTS)[name].itemsize for name in REQUESTS.names} == {8}


@pytest.mark.parametrize("policy", [Sarathi(token_budget=LIMIT), Orca()])
def test_lengths_up_to_the_limit_of_a_system_overflow_nowhere(policy) -> None:
    """The longest lengths of a workload give what the twin gives in eight bytes; who is too long is rejected."""
    workload = Workload.from_columns(
        arrival=[0.0, 0.0, 1.0, 1.0],
        prompt=[MOST_TOKENS, 5, MOST_TOKENS, 7],
        output=[3, 2, MOST_TOKENS, 2],
        predicted=[3, MOST_TOKENS, MOST_TOKENS, MOST_TOKENS],
    )
    system = replace(SYSTEM, max_length=MOST_TOKENS + 5)
    ran = [simulate(workload, system, policy, record_entries=True, python=python) for python in (False, True)]
    for name, column in ran[0].requests.items():
        np.testing.assert_array_equal(column, ran[1].requests[name])
    assert ran[0].requests["status"].tolist() == [3, 3, 4, 3]
    assert ran[0].requests["prompt"].tolist() == workload.prompt.tolist()
    assert {column.dtype.itemsize for column in ran[0].requests.values()} == {1, 8}


@pytest.mark.parametrize("start", [LAST_STAMP - 3, LAST_STAMP])
def test_stamps_begin_again(start: int) -> None:
    """Past the last stamp the run goes on as any other, and the next stamp is 1: 0 is of requests never named."""
    workload = Workload.from_columns(arrival=[0.0, 0.1], prompt=[300, 200], output=[4, 4])
    server, engine = Server(workload, SYSTEM, Rad()), SimulatedEngine(SYSTEM.iteration_time)
    server.run.cursor[STAMP] = start
    while (work := server.plan()) is not None:
        if isinstance(work, Work):
            server.commit(engine.execute(work))
    usual, found = simulate(workload, SYSTEM, Rad()), server.trace()
    assert 0 < server.run.cursor[STAMP] < 100
    np.testing.assert_array_equal(found.requests["finished"], usual.requests["finished"])


def test_more_classes_than_have_a_number_are_refused() -> None:
    n = MOST_CLASSES + 1
    limits = 1.0 + np.arange(n)
    workload = Workload(np.arange(n, dtype=float), np.ones(n, np.int64), np.ones(n, np.int64), tbt=limits)
    with pytest.raises(ValueError, match="group them into at most 65536"):
        Run(workload, SYSTEM, Rad())
