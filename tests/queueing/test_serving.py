"""Serving with an engine: the simulator's run, number for number, and replays that notice any other decision."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import Rad, RoundRobin, Sarathi, Slai, Vtc
from policies.catalogue import classes
from queueing.models.iteration_time import Affine
from queueing.policy import Policy
from queueing.serving import Done, ReplayEngine, Server, SimulatedEngine, Wait, Work, serve
from queueing.simulator import simulate
from queueing.system import System
from queueing.workload import Workload
from tests.laws import differing
from tests.strategies import parameters_of, systems, workloads

LAW = Affine(base=0.01, per_token=0.001, per_context=1e-5)
ALL = list(classes(Policy).values())
few = workloads(min_requests=2, max_requests=8, max_prompt=40, max_output=30, max_gap=0.25)
RUN = (
    Workload([0.0, 0.0, 0.1, 0.35], [30, 12, 50, 9], [6, 14, 3, 8]),
    System(LAW, blocks=12, block_size=8, max_running=3),
)


@given(few, systems(LAW), st.sampled_from(ALL).flatmap(parameters_of))
def test_an_engine_that_takes_the_laws_time_gives_the_simulators_run(
    workload: Workload, system: System, policy: Policy
) -> None:
    """Bit for bit, whatever the policy: holds, preemptions, rejections and ties of arrivals and ends included."""
    simulated = simulate(workload, system, policy, record_entries=True, python=True)
    served = serve(workload, system, policy, SimulatedEngine(LAW), python=True)
    assert differing(simulated, served) == []


@pytest.mark.parametrize(
    "policy", [Sarathi(token_budget=16), Slai(), Vtc(), Rad(tile=8)], ids=lambda p: p.name
)
def test_compiled_and_replayed(policy: Policy) -> None:
    """The compiled loop serves as its twin does; its trace, replayed step by step, leads to the same decisions."""
    workload, system = RUN
    served = serve(workload, system, policy, SimulatedEngine(LAW))
    assert differing(simulate(workload, system, policy, record_entries=True), served) == []
    assert differing(served, serve(workload, system, policy, ReplayEngine(served))) == []


@given(st.data())
def test_a_replay_notices_one_altered_decision(data: st.DataObject) -> None:
    """Control: another request, another number of tokens, another start of one batch."""
    workload, system = RUN
    trace = serve(workload, system, Sarathi(token_budget=16), SimulatedEngine(LAW), python=True)
    assert trace.entries is not None
    table = data.draw(st.sampled_from(["request", "tokens", "start"]))
    rows = trace.iterations if table == "start" else trace.entries
    altered = rows[table].copy()
    altered[data.draw(st.integers(0, len(altered) - 1))] += 1
    changed = {**rows, table: altered}
    trace = (
        dataclasses.replace(trace, iterations=changed)
        if table == "start"
        else dataclasses.replace(trace, entries=changed)
    )
    with pytest.raises(ValueError, match="is another one than recorded"):
        serve(workload, system, Sarathi(token_budget=16), ReplayEngine(trace), python=True)


def test_a_replay_of_another_policy_is_refused() -> None:
    workload, system = RUN
    trace = serve(workload, system, Sarathi(token_budget=16), SimulatedEngine(LAW), python=True)
    with pytest.raises(ValueError, match="is another one than recorded"):
        serve(workload, system, Rad(tile=8), ReplayEngine(trace), python=True)


class Short(SimulatedEngine):
    """Ends the text of request 1 with its fifth token."""

    given = 0

    def execute(self, work: Work) -> Done:
        """Count the tokens of request 1."""
        Short.given += int((work.requests[work.emits] == 1).sum())
        ended = [1] if Short.given == 5 and 1 in work.requests[work.emits] else []
        return Done(self.seconds(work.load), ended)


def test_the_books_learn_the_end_of_a_text_when_it_comes() -> None:
    """The run is the one in which the request had that length from the start: no plan knew it earlier."""
    workload, system = RUN
    Short.given = 0
    trace = serve(workload, system, Sarathi(token_budget=16), Short(LAW), python=True)
    output = workload.output.copy()
    output[1] = 5
    known = simulate(
        dataclasses.replace(workload, output=output), system, Sarathi(token_budget=16),
        record_entries=True, python=True,
    )  # fmt: skip
    assert differing(known, trace) == []
    assert trace.requests["output"][1] == 5


@given(few, systems(LAW), st.sampled_from(ALL).flatmap(parameters_of))
def test_nodes_that_are_handed_their_requests_serve_as_nodes_of_the_simulator(
    workload: Workload, system: System, policy: Policy
) -> None:
    """Requests dealt out in turn, each handed to its node on arrival: every node's batches are the simulator's."""
    simulated = simulate(
        workload, system, policy, nodes=2, router=RoundRobin(), record_entries=True, python=True
    )
    assert simulated.entries is not None
    owner = np.repeat(simulated.iterations["node"], simulated.iterations["entries"])
    for node in (0, 1):
        server = Server(workload, system, policy, python=True, submitted=True)
        mine = [(float(workload.arrival[i]), i) for i in range(node, len(workload), 2)]
        while True:
            if not mine:
                server.close()
            work = server.plan()
            if work is None:
                break
            until = work.until if isinstance(work, Wait) else work.now + LAW(work.load)
            if isinstance(work, Wait) and mine:
                until = min(until, mine[0][0])
            while mine and mine[0][0] <= until:
                at, i = mine.pop(0)
                server.submit(i, at)
            if isinstance(work, Work):
                server.commit(Done(LAW(work.load)))
        trace = server.trace()
        assert trace.entries is not None
        for column in ("request", "tokens"):
            stated = simulated.entries[column][owner == node]
            assert trace.entries[column].tolist() == stated.tolist()
        for column in ("start", "seconds"):
            stated = simulated.iterations[column][simulated.iterations["node"] == node]
            assert trace.iterations[column].tolist() == stated.tolist()


def test_handing_over_in_order_and_only_where_asked_for() -> None:
    workload, system = RUN
    with pytest.raises(ValueError, match="submitted=True"):
        Server(workload, system, Rad(tile=8), python=True).submit(0, 0.0)
    server = Server(workload, system, Rad(tile=8), python=True, submitted=True)
    server.submit(2, 1.0)
    with pytest.raises(ValueError, match="hand over in order"):
        server.submit(3, 0.5)
    assert server.unfinished == 1


def test_plan_and_commit_take_turns() -> None:
    workload, system = RUN
    server = Server(workload, system, Rad(tile=8), python=True)
    with pytest.raises(RuntimeError, match="plan one first"):
        server.commit(Done(1.0))
    assert isinstance(server.plan(), Work)
    with pytest.raises(RuntimeError, match="commit the batch"):
        server.plan()
    for seconds in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="positive, finite"):
            server.commit(Done(seconds))


def test_nothing_to_do_is_a_wait_for_the_next_arrival() -> None:
    server = Server(Workload([2.5], [3], [1]), RUN[1], Rad(tile=8), python=True)
    waited = server.plan()
    assert isinstance(waited, Wait)
    assert waited.until == 2.5
    assert isinstance(server.plan(), Work)
    assert server.clock == 2.5


def test_traces_that_cannot_be_replayed() -> None:
    workload, system = RUN
    trace = serve(workload, system, Rad(tile=8), SimulatedEngine(LAW), record_entries=False, python=True)
    with pytest.raises(ValueError, match="record_entries=True"):
        ReplayEngine(trace)
    whole = serve(workload, system, Rad(tile=8), SimulatedEngine(LAW), python=True)
    cut = dataclasses.replace(whole, iterations={k: v[:-1] for k, v in whole.iterations.items()})
    with pytest.raises(ValueError, match="ends after"):
        serve(workload, system, Rad(tile=8), ReplayEngine(cut), python=True)
