"""Every rule of the serving loop, broken by a policy made for it: the breach names rule, request and iteration."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from policies.admission import admit_whole_prompts
from queueing.models.iteration_time import TileLaw
from queueing.policy import (
    Policy,
    Router,
    admit,
    hold,
    kernel,
    plan,
    preempt,
    route,
    serve_decodes,
    take_chunk,
)
from queueing.simulator import PolicyBreach, simulate
from queueing.system import System
from queueing.workload import Workload

LAW = TileLaw(16, 2.0**-6, 2.0**-12)


def broken(body: Callable[..., Any]) -> Any:
    """A policy with `body` as its plan."""
    return dataclasses.dataclass(frozen=True)(type("Broken", (Policy,), {"body_of_plan": plan(body)}))()


@kernel
def _behave(view, batch):
    serve_decodes(view, batch, 999, 1)
    admit_whole_prompts(0, view, batch, 9999, 64)


@kernel
def _entry(batch, r, tokens, reserve):
    e = batch.count[0]
    batch.request[e], batch.tokens[e], batch.reserve[e] = r, tokens, reserve
    batch.count[0] = e + 1


def _behaves(p, memory, view, batch):
    _behave(view, batch)


def _future_request(p, memory, view, batch):
    _behave(view, batch)
    if view.iteration == 2:
        _entry(batch, 5, 1, 1)


def _finished_request(p, memory, view, batch):
    _behave(view, batch)
    if view.iteration == 2:
        _entry(batch, 2, 1, 0)


def _same_request_twice(p, memory, view, batch):
    _behave(view, batch)
    if view.iteration == 2:
        _entry(batch, view.running[0], 1, 0)


def _unknown_request(p, memory, view, batch):
    _behave(view, batch)
    if view.iteration == 2:
        _entry(batch, 77, 1, 0)


def _does_nothing(p, memory, view, batch):
    if view.iteration != 2:
        _behave(view, batch)


def _holds_for_ever(p, memory, view, batch):
    if view.iteration != 2:
        _behave(view, batch)
    else:
        hold(batch, np.inf)


def _holds_until_the_past(p, memory, view, batch):
    if view.iteration != 2:
        _behave(view, batch)
    else:
        hold(batch, view.now)


def _preempts_for_nobody(p, memory, view, batch):
    if view.iteration != 2:
        _behave(view, batch)
    else:
        preempt(view, batch, view.running[1])


def _chunk_too_long(p, memory, view, batch):
    if view.iteration == 0:
        _entry(batch, 0, 21, 21)


def _empty_chunk(p, memory, view, batch):
    if view.iteration == 0:
        _entry(batch, 0, 0, 20)


def _two_tokens_at_once(p, memory, view, batch):
    _behave(view, batch)
    if view.iteration == 2:
        batch.tokens[1] = 2


def _more_memory_than_there_is(p, memory, view, batch):
    if view.iteration == 0:
        _entry(batch, 0, 20, 100_000)


def _more_tokens_than_the_engine_takes(p, memory, view, batch):
    if view.iteration == 0:
        for r in view.waiting:
            take_chunk(view, batch, r, 20)


def _one_request_too_many(p, memory, view, batch):
    for k in range(4):
        admit(view, batch, view.waiting[k], 1, 1)


def _more_requests_than_places(p, memory, view, batch):
    for r in view.waiting:
        admit(view, batch, r, 1, 1)


def _preempts_the_waiting(p, memory, view, batch):
    if view.iteration == 0:
        batch.victim[0] = view.waiting[1]
        batch.count[1] = 1
    _behave(view, batch)


def _preempts_twice(p, memory, view, batch):
    if view.iteration == 2:
        preempt(view, batch, view.running[1])
        preempt(view, batch, view.running[1])
    else:
        _behave(view, batch)


def _reserves_twice(p, memory, view, batch):
    _behave(view, batch)
    if view.iteration == 2:
        batch.reserve[1] = 30


def _reserves_too_little(p, memory, view, batch):
    if view.iteration == 0:
        _entry(batch, 0, 20, 19)


def _fewer_than_no_entries(p, memory, view, batch):
    _behave(view, batch)
    if view.iteration == 2:
        batch.count[0] = -1


def _fewer_than_no_victims(p, memory, view, batch):
    _behave(view, batch)
    if view.iteration == 2:
        batch.count[1] = -1


def _more_entries_than_it_wrote(p, memory, view, batch):
    _behave(view, batch)
    if view.iteration == 2:
        batch.count[0] = 1 << 40


def _reserves_without_bound(p, memory, view, batch):
    if view.iteration == 0:
        _entry(batch, 0, 20, (1 << 63) - 1)


BREACHES: list[tuple[Callable[..., Any], str, str, int]] = [
    (_future_request, "membership", "request 5", 2),
    (_finished_request, "membership", "request 2", 2),
    (_same_request_twice, "membership", "request 0", 2),
    (_unknown_request, "membership", "request 77", 2),
    (_does_nothing, "progress", "the batch", 2),
    (_holds_for_ever, "progress", "the batch", 2),
    (_holds_until_the_past, "progress", "the batch", 2),
    (_preempts_for_nobody, "progress", "request 1", 2),
    (_chunk_too_long, "tokens", "request 0", 0),
    (_empty_chunk, "tokens", "request 0", 0),
    (_two_tokens_at_once, "tokens", "request 1", 2),
    (_more_memory_than_there_is, "memory", "request 0", 0),
    (_more_tokens_than_the_engine_takes, "budget", "the batch", 0),
    (_one_request_too_many, "places", "request 3", 0),
    (_more_requests_than_places, "places", "the batch", 0),
    (_preempts_the_waiting, "preemption", "request 1", 0),
    (_preempts_twice, "preemption", "request 1", 2),
    (_reserves_twice, "reservation", "request 1", 2),
    (_reserves_too_little, "reservation", "request 0", 0),
    (_fewer_than_no_entries, "counts", "the batch", 2),
    (_fewer_than_no_victims, "counts", "the batch", 2),
    (_more_entries_than_it_wrote, "counts", "the batch", 2),
    (_reserves_without_bound, "memory", "request 0", 0),
]


def breach_cases(body: Callable[..., Any]) -> tuple[Workload, System]:
    """Five requests at once, the third with one token of output; a sixth only where the future is at stake."""
    late = body is _future_request
    output = [9, 9, 1, 9, 9] + [9] * late
    workload = Workload([0.0] * 5 + [100.0] * late, [20] * (5 + late), output)
    places = 3 if body in (_one_request_too_many, _more_requests_than_places) else 16
    most = 99 if body is _more_tokens_than_the_engine_takes else 2**31 - 1
    return workload, System(LAW, blocks=100, max_running=places, max_batch_tokens=most, name="small")


@pytest.mark.parametrize(
    ("body", "rule", "who", "iteration"), BREACHES, ids=[b[0].__name__[1:] for b in BREACHES]
)
def test_breach_names_rule_request_and_iteration(
    body: Callable[..., Any], rule: str, who: str, iteration: int
):
    policy = broken(body)
    workload, system = breach_cases(body)
    with pytest.raises(PolicyBreach) as caught:
        simulate(workload, system, policy, python=True)
    sentence = str(caught.value)
    assert sentence.startswith(policy.name)
    assert f" in iteration {iteration} of node 0 " in sentence
    assert re.search(rf"{who}\b.*: {rule}:", sentence), sentence
    assert "\n" not in sentence


def test_behaving_breaks_nothing():
    """Control of the table of breaches: the same policy without its offence serves everything."""
    workload, system = breach_cases(_behaves)
    trace = simulate(workload, system, broken(_behaves), python=True)
    assert trace.finished.all()


@pytest.mark.parametrize("body", [_chunk_too_long, _reserves_without_bound])
def test_compiled_loop_breaches_as_its_twin(body: Callable[..., Any]):
    workload, system = breach_cases(body)
    policy = broken(body)
    sentences: list[str] = []
    for python in (True, False):
        with pytest.raises(PolicyBreach) as caught:
            simulate(workload, system, policy, python=python)
        sentences.append(str(caught.value))
    assert sentences[0] == sentences[1]


@pytest.mark.parametrize("prompts", [[20, 5000], [20, 50]])
def test_nobody_may_wait_for_an_arrival_that_never_comes(prompts: list[int]):
    """Held until the next arrival, which is the last one, and is turned away or held in its turn."""

    def holds(p, memory, view, batch):
        hold(batch, np.inf)

    system = System(LAW, blocks=100, max_running=16, name="small")
    with pytest.raises(PolicyBreach, match=": progress:"):
        simulate(Workload([0.0, 1.0], prompts, [9, 9]), system, broken(holds), python=True)


def test_a_policy_that_holds_and_holds_can_be_interrupted():
    """Ctrl-C reaches Python, because the loop looks in after some thousand holds."""
    calls: list[int] = []

    def progress(arrived: int, all_of_them: int) -> None:
        calls.append(arrived)
        raise KeyboardInterrupt

    def dawdles(p, memory, view, batch):
        hold(batch, view.now + 1e-9)

    system = System(LAW, blocks=100, max_running=16, name="small")
    with pytest.raises(KeyboardInterrupt):
        simulate(Workload([0.0], [20], [9]), system, broken(dawdles), progress=progress)
    assert calls == [1]


@pytest.mark.parametrize("place", [2, -1, -3, 1 << 32])
def test_a_router_names_a_node(place: int):
    def astray(p, i, draws, loads):
        return place

    router = dataclasses.dataclass(frozen=True)(type("Astray", (Router,), {"way": route(astray)}))()
    workload, system = breach_cases(_behaves)
    with pytest.raises(PolicyBreach, match=r"Astray broke a rule .*request 0\b.*: routing:"):
        simulate(workload, system, broken(_behaves), nodes=2, router=router, python=True)


class Odd:
    """An iteration-time law that gives a number of seconds no batch can take."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def lower(self) -> Any:
        return odd_seconds, (self.seconds,)

    def __call__(self, load: Any) -> float:
        return self.seconds


def odd_seconds(params, load):
    return params[0]


@pytest.mark.parametrize("seconds", [0.0, -1.0, np.nan, np.inf])
def test_impossible_duration_is_a_breach(seconds: float):
    system = System(Odd(seconds), blocks=100, name="odd")
    with pytest.raises(PolicyBreach, match=r"in iteration 0 .*the batch.*: duration:"):
        simulate(Workload([0.0], [20], [9]), system, broken(_behaves), python=True)
    fine = dataclasses.replace(system, iteration_time=Odd(1.0))
    assert simulate(Workload([0.0], [20], [9]), fine, broken(_behaves), python=True).finished.all()


def test_policies_mark_exactly_one_function():
    def body(p, memory, view, batch):
        pass

    with pytest.raises(TypeError, match="marks 2 functions"):
        type("Twofold", (Policy,), {"one": plan(body), "two": plan(body)})
    assert type("Single", (Policy,), {"one": plan(body)}).body.function is body
    assert type("Road", (Router,), {"one": route(body)}).body.function is body
