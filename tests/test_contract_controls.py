"""Negative controls of the contract: a broken policy or a falsified trace, which the check of each law must catch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import policies
from policies.admission import Admission, admit_whole_prompts
from queueing.policy import (
    FIFO,
    SPF,
    Facts,
    Policy,
    hold,
    kernel,
    left,
    next_waiting,
    plan,
    serve_decodes,
    take_chunk,
    take_decode,
)
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload
from tests.accountant import BooksDoNotBalance, audit
from tests.laws import (
    LAW,
    OUTPUTS,
    busy_hour,
    crowded,
    lies,
    reads_the_future,
    run,
    same_tables,
    scales,
    work_beyond_time,
)


def falsified(trace: Trace, table: str, column: str, row: int, by: Any) -> Trace:
    columns = {name: values.copy() for name, values in getattr(trace, table).items()}
    columns[column][row] += by
    return dataclasses.replace(trace, **{table: columns})


@pytest.mark.parametrize(
    ("table", "column", "row", "by"),
    [
        ("entries", "tokens", 0, 1),
        ("entries", "tokens", -1, -1),
        ("entries", "request", 0, 3),
        ("iterations", "start", 4, -(2.0**-8)),
        ("iterations", "seconds", 2, 2.0**-40),
        ("iterations", "blocks", 3, 1),
        ("iterations", "waiting", 3, -1),
        ("iterations", "running", 3, 1),
        ("iterations", "context", -1, 1),
        ("iterations", "decodes", -1, 1),
        ("requests", "decoded", 2, -1),
        ("requests", "finished", 2, 2.0**-40),
        ("requests", "first_token", 2, 2.0**-40),
        ("requests", "longest_gap", 2, 2.0**-40),
        ("requests", "preemptions", 2, 1),
        ("requests", "status", 5, -1),
    ],
)
def test_accountant_catches_falsified_traces(table: str, column: str, row: int, by: Any):
    """Control of the books: one figure off, anywhere, and they do not balance."""
    workload, system = crowded()
    trace = run(workload, system, policies.Sarathi())
    audit(workload, system, trace, Admission.WHOLE_PROMPT)
    with pytest.raises(BooksDoNotBalance):
        audit(workload, system, falsified(trace, table, column, row, by), Admission.WHOLE_PROMPT)


@pytest.mark.parametrize(
    ("table", "column"), [("requests", "finished"), ("iterations", "seconds"), ("entries", "tokens")]
)
def test_same_tables_catches_one_bit(table: str, column: str):
    """Control: one unit in the last place is a difference."""
    workload, system = crowded()
    trace = run(workload, system, policies.Sarathi())
    columns = {name: values.copy() for name, values in getattr(trace, table).items()}
    values = columns[column]
    values[3] = np.nextafter(values[3], np.inf) if values.dtype.kind == "f" else values[3] + 1
    assert same_tables(trace, dataclasses.replace(trace, **{table: columns})) == f"{table}.{column}"


@dataclasses.dataclass(frozen=True)
class Oracle(Policy):
    """Serves the decodes whose output is even: it knows the output lengths from outside the view."""

    @plan
    def oracle(p, memory, view, batch):
        admit_whole_prompts(0, view, batch, 10_000, 64)
        for r in view.running:
            if OUTPUTS["of this run"][r] % 2 == 0 or batch.count[0] == 0:
                take_decode(view, batch, r)


def test_oracle_is_caught():
    """Control: a policy that knows the output lengths from elsewhere is seen to read the future."""
    workload = Workload(np.zeros(6), np.full(6, 4), np.arange(10, 16))
    system = System(LAW, blocks=200, name="ample")
    assert any(
        reads_the_future(workload, system, Oracle(), share, 0, python=True) for share in (0.2, 0.4, 0.6)
    )


BOASTS = Facts(non_idling=True, fcfs=True, stall_free=True, mixed=False, chunked=False, source="nowhere")


class Liar(Policy):
    @property
    def facts(self) -> Facts:
        return BOASTS


def made(name: str, body: Callable[..., Any], base: type[Any] = Liar) -> Any:
    """A policy with `body` as its plan."""
    return dataclasses.dataclass(frozen=True)(type(name, (base,), {"body_of_plan": plan(body)}))()


def _holds(p, memory, view, batch):
    if view.iteration == 5 and view.now < 2.0:
        hold(batch, 2.0)
    else:
        serve_decodes(view, batch, 999, 1)
        if batch.count[0] == 0:
            admit_whole_prompts(0, view, batch, 9999, 64)


def _skips_the_queue(p, memory, view, batch):
    r = next_waiting(view, batch, SPF, 0.0)
    if r >= 0:
        take_chunk(view, batch, r, 9999)
    else:
        serve_decodes(view, batch, 999, 1)


def _stalls(p, memory, view, batch):
    serve_decodes(view, batch, 1, 1)
    if batch.count[0] == 0:
        admit_whole_prompts(0, view, batch, 9999, 64)


def _mixes(p, memory, view, batch):
    serve_decodes(view, batch, 999, 1)
    admit_whole_prompts(0, view, batch, 9999, 64)


def _chunks(p, memory, view, batch):
    for r in view.running:
        if left(view, r) > 0:
            take_chunk(view, batch, r, 100)
            return
    serve_decodes(view, batch, 999, 1)
    if batch.count[0] == 0:
        take_chunk(view, batch, next_waiting(view, batch, FIFO, 0.0), 100)


@pytest.mark.parametrize(
    ("body", "lie"),
    [
        (_holds, "non_idling"),
        (_skips_the_queue, "fcfs"),
        (_stalls, "stall_free"),
        (_mixes, "mixed"),
        (_chunks, "chunked"),
    ],
)
def test_lies_are_caught(body: Callable[..., Any], lie: str):
    """Control: a policy that declares each fact without keeping it is found out."""
    policy = made("Liar", body)
    system, steps = busy_hour(policy, python=True)
    assert lie in lies(policy, system, steps)


def _likes_client_1(p, memory, view, batch):
    for r in view.waiting:
        if view.client[r] == 1:
            take_chunk(view, batch, r, 9999)
    if batch.count[0] == 0:
        _mixes_body(view, batch)


@kernel
def _mixes_body(view, batch):
    serve_decodes(view, batch, 999, 1)
    admit_whole_prompts(0, view, batch, 9999, 64)


def test_bias_between_clients_is_caught():
    """Control of the renaming: a policy with a favourite is not symmetric."""
    workload = Workload(np.zeros(4), np.full(4, 20), np.full(4, 5), client=[0, 0, 1, 2])
    renamed = Workload(np.zeros(4), np.full(4, 20), np.full(4, 5), client=[1, 1, 0, 2])
    system = System(LAW, blocks=100, name="ample")
    policy = made("Biased", _likes_client_1)
    one, two = (run(w, system, policy, python=True) for w in (workload, renamed))
    assert same_tables(one, two, but=("client",)) != ""


def test_hidden_unit_of_time_is_caught():
    """Control of the scaling: a policy with a time of its own, which `slowed` does not know, does not scale."""
    workload = Workload(np.zeros(8), np.full(8, 20), np.full(8, 20))
    assert not scales(workload, System(LAW, blocks=200, name="ample"), made("Holds", _holds), python=True)


def test_converse_catches_impossible_speed():
    """Control: a full-tile trace whose batches are one part in a thousand too short serves more than its time holds."""
    workload, system = Workload([0.0], [160], [1]), System(LAW, blocks=100, name="ample")
    steps = audit(
        workload, system, run(workload, system, policies.Rad(tile=16, chunk=16)), Admission.WHOLE_PROMPT
    )
    assert not work_beyond_time(steps)
    assert work_beyond_time([dataclasses.replace(s, seconds=0.999 * s.seconds) for s in steps])
