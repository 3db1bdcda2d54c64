"""vLLM under Tandem's policies: the simulator's decisions, and what happens where vLLM does otherwise."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import gpu.adapters.vllm as adapter
from gpu.adapters.ledger import Ledger
from gpu.adapters.vllm import mismatches, policy_of
from policies import AMin, Sarathi, Slai
from policies.catalogue import classes
from queueing.policy import Policy
from queueing.run import PolicyBreach
from queueing.system import System
from queueing.workload import Workload
from tests.gpu.adapters.vllm_double import (
    MAX_LENGTH,
    Blind,
    FakeScheduler,
    Queue,
    Scheduler,
    drive,
    reference,
    renumbered,
    system_of,
)
from tests.strategies import parameters_of, workloads

ALL = list(classes(Policy).values())

few = workloads(min_requests=2, max_requests=8, max_prompt=60, max_output=30, max_gap=0.25).map(renumbered)
nodes = st.builds(
    system_of,
    st.sampled_from([26, 30, 60, 1000]),
    st.just(4),
    max_running=st.sampled_from([8, 3]),
    max_batch_tokens=st.sampled_from([128, 2048]),
    watermark=st.just(0.0),
)


@given(few, nodes, st.sampled_from(ALL).flatmap(parameters_of))
def test_decisions_are_the_simulators(workload: Workload, system: System, policy: Policy) -> None:
    """Step by step, whatever the policy and however tight the memory: order, tokens, victims, holds and times."""
    assume(bool((workload.prompt + workload.output <= MAX_LENGTH).all()))
    trace, wanted = reference(workload, system, policy)
    scheduler = Scheduler(policy, system)
    made = drive(scheduler, workload, lambda k: float(trace.iterations["seconds"][k]))
    assert made == wanted
    assert scheduler.refused == 0
    assert scheduler.free_blocks == system.blocks == scheduler._ledger.free


CROWDED = Workload([0.0, 0.0, 0.0, 0.125, 0.25], [60, 7, 40, 33, 9], [20, 24, 30, 9, 16])


def test_the_caps_of_the_plan_decide() -> None:
    """Control: taking the plan's order and budget, and leaving the tokens to vLLM, is another schedule."""
    policy, system = Slai(token_budget=16), system_of(60, 4)
    trace, wanted = reference(CROWDED, system, policy)
    seconds = trace.iterations["seconds"]
    assert drive(Scheduler(policy, system), CROWDED, lambda k: float(seconds[k])) == wanted
    made = drive(Blind(policy, system), CROWDED, lambda k: float(seconds[min(k, len(seconds) - 1)]))
    assert made.entries != wanted.entries


def test_a_policy_may_hold_and_defer_decodes() -> None:
    """SLAI leaves decodes out of batches that have room for them; WAIT holds until enough prompts are there."""
    trace, wanted = reference(CROWDED, system_of(1000, 4), Slai(token_budget=16))
    scheduler = Scheduler(Slai(token_budget=16), system_of(1000, 4))
    assert drive(scheduler, CROWDED, lambda k: float(trace.iterations["seconds"][k])) == wanted
    assert any(
        int(running) > len(batch)
        for running, batch in zip(trace.iterations["running"], wanted.entries, strict=True)
    )
    waiting = policy_of("policies:Wait")
    trace, wanted = reference(CROWDED, system_of(1000, 4), waiting)
    made = drive(
        Scheduler(waiting, system_of(1000, 4)), CROWDED, lambda k: float(trace.iterations["seconds"][k])
    )
    assert made == wanted
    assert wanted.start[0] > CROWDED.arrival[0]


def test_books_grow_without_a_trace() -> None:
    """Rows doubled from 2 on, in the middle of the run, change no decision of any policy."""
    system = system_of(30, 4, max_running=2)
    for cls in ALL:
        trace, wanted = reference(CROWDED, system, cls())
        scheduler = Scheduler(cls(), system)
        scheduler._ledger = Ledger(cls(), system, rows=2, python=True)
        assert drive(scheduler, CROWDED, lambda k, s=trace.iterations["seconds"]: float(s[k])) == wanted, cls
        assert len(scheduler._ledger.run.workload) == 8


def test_compiled() -> None:
    """The compiled step decides as its twin does."""

    class Compiled(Scheduler):
        tandem_python = False

    trace, wanted = reference(CROWDED, system_of(30, 4), Sarathi(token_budget=16))
    made = drive(
        Compiled(Sarathi(token_budget=16), system_of(30, 4)),
        CROWDED,
        lambda k: float(trace.iterations["seconds"][k]),
    )
    assert made == wanted
    assert any(tokens == 0 for batch in wanted.entries for _, tokens in batch)  # it preempts


# -- where vLLM does otherwise


@given(few, nodes, st.sampled_from(ALL).flatmap(parameters_of), st.data())
def test_refusals_aborts_and_delays_leave_the_books_right(
    workload: Workload, system: System, policy: Policy, data: st.DataObject
) -> None:
    """Whatever vLLM refuses, preempts, blocks or loses: nobody is forgotten, and every block comes back."""
    assume(bool((workload.prompt + workload.output <= MAX_LENGTH).all()))
    scheduler = Scheduler(policy, system)
    moods = st.lists(st.sampled_from(["", "", "", "refuse", "abort", "reset"]), max_size=40)
    mood = iter(data.draw(moods))
    blocked = data.draw(st.sets(st.integers(0, len(workload) - 1)))
    following, finished = 0, False
    for _ in range(5000):
        while following < len(workload) and workload.arrival[following] <= scheduler.now:
            request = scheduler.request_of(workload, following)
            request.blocked = following in blocked
            scheduler.add_request(request)
            following += 1
        scheduler.coming = float(workload.arrival[following]) if following < len(workload) else np.inf
        if not scheduler.requests:
            finished = following == len(workload)
            if finished:
                break
            scheduler.now = scheduler.coming
            continue
        what = next(mood, "")
        scheduler.refuse = (lambda r: int(r.request_id) % 2 == 0) if what == "refuse" else (lambda r: False)
        if what == "abort":
            scheduler.abort(next(iter(scheduler.requests)))
        if what == "reset":  # vLLM's reset_prefix_cache
            while scheduler.running:
                scheduler._preempt_request(scheduler.running.pop(), 0.0, drop_stale_output=True)
        if what == "":
            for request in scheduler.requests.values():
                request.blocked = False
        output = scheduler.schedule()
        scheduler.now += 2.0**-6
        scheduler.update_from_output(output, None)
    assert finished
    assert scheduler.free_blocks == system.blocks == scheduler._ledger.free
    assert scheduler._row == {}


def test_the_policy_is_not_asked_before_vllm_has_caught_up() -> None:
    """A refused prompt is retried ahead of all others; control: asked too early, a policy has no answer."""
    two = Workload([0.0, 0.0], [20, 30], [3, 3])

    def refused_once(kind: type[Scheduler]) -> Scheduler:
        scheduler = kind(AMin(), system_of(1000, 4))
        scheduler.add_request(scheduler.request_of(two, 0))
        scheduler.refuse = lambda request: True
        assert scheduler.schedule().num_scheduled_tokens == {}
        scheduler.refuse = lambda request: False
        scheduler.add_request(scheduler.request_of(two, 1))
        return scheduler

    scheduler = refused_once(Scheduler)
    for wanted in ({"0": 20}, {"0": 1, "1": 30}):
        output = scheduler.schedule()
        assert output.num_scheduled_tokens == wanted
        scheduler.update_from_output(output, None)

    class Forgetful(Scheduler):
        def schedule(self, throttle_prefills: bool = False) -> Any:
            self._behind.clear()
            return super().schedule(throttle_prefills)

    scheduler = refused_once(Forgetful)
    assert "0" not in scheduler.schedule().num_scheduled_tokens


def test_a_request_given_up_while_it_waits_takes_nothing() -> None:
    """It is gone when the policy admits it, and the next in the queue is admitted in its place."""
    scheduler = Scheduler(Sarathi(), system_of(1000, 4))
    two = Workload([0.0, 0.0], [20, 30], [3, 3])
    for i in range(2):
        scheduler.add_request(scheduler.request_of(two, i))
    scheduler.abort("0")
    assert scheduler.schedule().num_scheduled_tokens == {"1": 30}
    assert scheduler._ledger.free == 1000 - 8


# -- what is configured and announced


def test_the_policy_is_named_by_configuration_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """additional_config before the environment; parameters by name, members of enumerations by theirs."""

    def made(**config: Any) -> str:
        scheduler = Scheduler(
            None, system_of(1000, 4), vllm_config=types.SimpleNamespace(additional_config=config)
        )
        return scheduler._ledger.run.policy.name

    monkeypatch.delenv("TANDEM_POLICY", raising=False)
    monkeypatch.delenv("TANDEM_PARAMETERS", raising=False)
    with pytest.raises(ValueError, match="no policy is named"):
        made()
    monkeypatch.setenv("TANDEM_POLICY", "policies:Slai")
    monkeypatch.setenv("TANDEM_PARAMETERS", '{"order": "fifo"}')
    assert made() == "Slai(order=FIFO)"
    assert made(tandem_policy="policies:Orca") == "Orca"
    monkeypatch.setenv("TANDEM_PARAMETERS", "{")
    with pytest.raises(ValueError, match="TANDEM_PARAMETERS is not JSON"):
        made()
    monkeypatch.setenv("TANDEM_PARAMETERS", "[1]")
    with pytest.raises(ValueError, match="is a JSON object"):
        made()


@pytest.mark.parametrize(
    ("path", "parameters", "sentence"),
    [
        ("slai", {}, "is named 'module:Class'"),
        ("policies:Nobody", {}, "there is no policy 'policies:Nobody'"),
        ("no_such_module:Slai", {}, "there is no policy 'no_such_module:Slai'"),
        ("queueing.system:System", {}, "is no policy class"),
        ("policies:Slai", {"budget": 3}, "does not take these parameters"),
        ("policies:Slai", {"order": "lifo"}, "order of Slai is one of"),
        ("policies:Slai", {"token_budget": 0}, "token_budget"),
    ],
)
def test_what_cannot_be_a_policy_is_named(path: str, parameters: dict[str, Any], sentence: str) -> None:
    """One sentence for each mistake."""
    with pytest.raises(ValueError, match=sentence):
        policy_of(path, parameters)


def test_what_a_client_announces_wrongly_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """One request's mistake is logged and stops nobody; what is right is what the policy sees."""
    scheduler = Scheduler(Slai(), system_of(1000, 4))
    wrong = {"tandem_tbt": -1.0, "tandem_client": [], "tandem_predicted": 2.5}
    right = {"tandem_tbt": 0.25, "tandem_client": "a", "tandem_predicted": 7}
    for i, extra in enumerate((wrong, right, None)):
        request = scheduler.request_of(CROWDED, i)
        request.sampling_params = types.SimpleNamespace(extra_args=extra)
        scheduler.add_request(request)
    scheduler.schedule()
    known = scheduler._ledger.run.tables["requests"][:3]
    assert known["tbt"].tolist() == [np.inf, 0.25, np.inf]
    assert known["client"].tolist() == [0, 1, 0]
    assert known["predicted"].tolist() == [MAX_LENGTH - 60, 7, MAX_LENGTH - 40]
    assert len(caplog.records) == 3


@pytest.mark.parametrize(
    ("unlike", "sentence"),
    [
        ({"policy": types.SimpleNamespace(value="priority")}, "at fcfs"),
        ({"num_spec_tokens": 2}, "speculative decoding off"),
        ({"connector": object()}, "without a KV or encoder connector"),
        ({"parallel_config": types.SimpleNamespace(pipeline_parallel_size=2)}, "pipeline_parallel_size=1"),
        ({"has_mamba_layers": True}, "one kind of KV block"),
        ({"is_encoder_decoder": True}, "decoder-only"),
        ({"max_model_len": 4001}, "lower max_model_len"),
    ],
)
def test_an_engine_that_no_policy_can_plan_for_is_refused(unlike: dict[str, Any], sentence: str) -> None:
    """At the start, in one sentence, and not under load."""
    with pytest.raises(ValueError, match=sentence):
        Scheduler(Slai(), system_of(1000, 4), **unlike)


def test_a_policy_that_breaks_a_rule_is_stopped() -> None:
    """The books' checks hold here too: more tokens than the engine takes in a batch."""
    scheduler = Scheduler(Slai(), system_of(1000, 4))
    scheduler._ledger.run.limits = scheduler._ledger.run.limits._replace(max_running=0)
    scheduler.add_request(scheduler.request_of(CROWDED, 0))
    with pytest.raises(PolicyBreach):
        scheduler.schedule()


# -- vLLM itself


def test_signatures_that_differ_are_named() -> None:
    """The double has the parameters of the table; a hook that gained one, or is gone, is told."""
    assert mismatches(FakeScheduler, Queue) == []

    class Changed(FakeScheduler):
        _preempt_request = None

        def schedule(self, throttle_prefills: bool = False, budget: int = 0) -> Any:
            return None

    assert [sentence.split()[0] for sentence in mismatches(Changed, Queue)] == [
        "schedule",
        "_preempt_request",
    ]


def test_without_vllm_or_with_another_the_scheduler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module imports; the class is what cannot be had."""
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ImportError, match="which cannot be imported"):
        _ = adapter.__getattr__("PolicyScheduler")
    other = types.ModuleType("vllm")
    other.__version__ = "0.33.0"
    monkeypatch.setitem(sys.modules, "vllm", other)
    with pytest.raises(ImportError, match=r"written for vLLM 0\.32 and finds 0\.33\.0"):
        _ = adapter.__getattr__("AsyncPolicyScheduler")
    with pytest.raises(AttributeError, match="no attribute 'Scheduler'"):
        _ = adapter.__getattr__("Scheduler")
