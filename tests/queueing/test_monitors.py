"""Monitors: equal to a plain reading of the definitions, never exceeded by VTC, exceeded by others, honest outside."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import PEAK, WHOLE_PROMPT, Cost, Fcfs, Lift, Packing, Predictor, RoundRobin, Vtc
from queueing import metrics as m
from queueing.data import data_folder
from queueing.monitors import (
    ALL,
    AnyClient,
    BothBacklogged,
    ClientOrder,
    CounterGap,
    DispatchLatency,
    Finding,
    KvConservation,
    Run,
    Terms,
    WorkConservation,
    check,
    fairness_monitors,
    window_growth,
)
from queueing.policy import Policy
from queueing.request_log import read_request_log, request_log
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload
from tests.accountant import Step, audit
from tests.laws import LAW, admission_of, run
from tests.strategies import systems, workloads

FOLDER = data_folder()
needs_data = pytest.mark.skipif(FOLDER is None, reason="TANDEM_DATA names no folder with the fairness runs")

WEIGHTS = [(1.0, 1.0, 1.0), (1.0, 4.0, 0.5)]  # of one length: one compilation
COSTS = [Cost(1, 2), Cost(2, 1), Cost(0, 1), Cost(5, 1)]
crowds = workloads(min_requests=6, max_requests=24, max_prompt=30, max_output=20, max_gap=0.1)


def told(workload: Workload) -> Workload:
    """With true announcements, so that reservation never preempts."""
    return dataclasses.replace(workload, predicted=workload.output)


def flood(seed: int, n: int = 120, clients: int = 4) -> Workload:
    """More than the node carries: clients of unequal demand that come and go."""
    rng = np.random.default_rng(seed)
    client = np.minimum(rng.geometric(0.5, n) - 1, clients - 1)
    arrival = np.sort(rng.uniform(0, rng.choice([0.1, 1.0, 4.0]), n))
    return told(Workload(arrival, rng.integers(1, 40, n), rng.integers(1, 30, n), client))


# -- a plain reading of the definitions


class Plain:
    """Worst L1, T1, T3 and T4 of a run by looking at every pair after every event; all numbers are whole or halves."""

    def __init__(self, workload: Workload, trace: Trace, steps: list[Step], terms: Terms) -> None:
        self.names = sorted(set(workload.client[~trace.rejected].tolist()))
        weight = {u: terms.weights[min(u, len(terms.weights) - 1)] for u in self.names}
        h = terms.cost
        by_time: list[tuple[float, int, int, str, Any]] = []
        for s in steps:
            by_time += [(s.start, 2, k, "admit", r) for k, r in enumerate(s.admitted)]
        request, when = m.token_times(trace)
        for e in sorted(set(when.tolist())):
            by_time.append((e, 0, 0, "tokens", request[when == e].tolist()))
        ends = [(s.start, s.start + s.seconds) for s in steps]
        for r in np.flatnonzero(~trace.rejected & (trace.requests["status"] != 0)).tolist():
            a = float(workload.arrival[r])
            by_time.append((a, 1, r, "arrive", r))
            by_time.append((max([a, *(e for s, e in ends if s < a < e)]), 1, r, "seen", r))
        W = dict.fromkeys(self.names, 0.0)
        self.share = W
        self.waiting: dict[int, int] = dict.fromkeys(self.names, 0)
        self.running: dict[int, int] = dict.fromkeys(self.names, 0)
        self.new: set[int] = set()
        self.low: dict[Any, float] = {}
        self.worst = [0.0, 0.0, 0.0]
        self.factor = {
            (f, g): (1 / weight[f] + 1 / weight[g], 1 / weight[g] + 1 / min(weight[f], weight[g]))
            for f, g in itertools.permutations(self.names, 2)
        }
        made = dict.fromkeys(range(len(workload)), 0)
        c = dict.fromkeys(self.names, 0.0)
        known = dict.fromkeys(self.names, 0)
        last: int | None = None
        self.gap = 0.0
        for _, _, _, what, r in sorted(by_time, key=lambda event: event[:3]):
            if what == "tokens":
                for x in r:
                    u = int(workload.client[x])
                    made[x] += 1
                    p = int(workload.prompt[x])
                    price = (h(p, made[x]) - h(p, made[x] - 1)) / weight[u]
                    W[u] += price
                    c[u] += price
                    self.running[u] -= made[x] == workload.output[x]
            else:
                u = int(workload.client[r])
                if what == "arrive":
                    if not self.waiting[u] and not self.running[u]:
                        self.new.add(u)
                    self.waiting[u] += 1
                elif what == "seen":
                    queued = [c[v] for v in self.names if known[v]]
                    if not known[u]:
                        c[u] = max(c[u], min(queued) if queued else c[u] if last is None else c[last])
                    known[u] += 1
                else:
                    self.waiting[u] -= 1
                    self.running[u] += 1
                    known[u] -= 1
                    self.new.discard(u)
                    W[u] += h(int(workload.prompt[r]), 0) / weight[u]
                    c[u] += h(int(workload.prompt[r]), 0) / weight[u]
                    last = u if not known[u] else last
            self.look()
            queued = [(c[v], weight[v]) for v in self.names if known[v]]
            self.gap = max([self.gap, *((x - min(queued)[0]) * f for x, f in queued)])

    def look(self) -> None:
        for f, g in itertools.permutations(self.names, 2):
            ahead = self.share[g] - self.share[f]
            both = self.waiting[f] and self.waiting[g]
            for kind, open_ in enumerate((both, self.waiting[f], f in self.new)):
                if not open_:
                    self.low.pop((kind, f, g), None)
                    continue
                low = self.low[kind, f, g] = min(self.low.get((kind, f, g), ahead), ahead)
                self.worst[kind] = max(self.worst[kind], (ahead - low) / self.factor[f, g][min(kind, 1)])


def compare(workload: Workload, system: System, policy: Policy, terms: Terms, **options: Any) -> None:
    trace = run(workload, system, policy, **options)
    plain = Plain(workload, trace, audit(workload, system, trace, admission_of(policy)), terms)
    gap, *windows = (monitor.read(Run(trace)) for monitor in fairness_monitors(terms))
    unit = Terms(cost=terms.cost, unit=1.0, weights=terms.weights)
    scaled = [monitor.read(Run(trace)) for monitor in fairness_monitors(unit)]
    assert gap.value / scaled[0].bound == pytest.approx(plain.gap, abs=1e-9)
    for found, per_unit, worst in zip(windows, scaled[1:], plain.worst, strict=True):
        assert found.value / per_unit.bound == pytest.approx(worst, abs=1e-9)


policies_ = st.sampled_from(
    [Vtc, Fcfs, lambda **_: Vtc(lift=Lift.NEVER), lambda **k: Vtc(packing=Packing.MIXED, **k)]
)


@given(
    crowds,
    systems(LAW),
    policies_,
    st.sampled_from([*COSTS, Cost(1, 0, 0.5, 0, 0.25, 3)]),
    st.sampled_from(WEIGHTS),
)
def test_values_are_those_of_the_definitions(
    workload: Workload, system: System, make: Any, cost: Cost, weights: Any
) -> None:
    policy = make(cost=cost, weights=weights) if make is not Fcfs else Fcfs(admission=Vtc().admission)
    compare(told(workload), system, policy, Terms(cost=cost, weights=weights))


@given(
    st.integers(0, 2**32 - 1), st.sampled_from([Vtc(), Fcfs(admission=Vtc().admission), Vtc(lift=Lift.NEVER)])
)
def test_values_under_overload(seed: int, policy: Policy) -> None:
    """Where pairs are passed over, none is missed."""
    compare(flood(seed), System(LAW, blocks=150, block_size=1), policy, Terms())


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 2.0))
def test_values_of_a_run_that_the_horizon_cuts(seed: int, horizon: float) -> None:
    system = System(LAW, blocks=150, block_size=1)
    compare(flood(seed), system, Vtc(), Terms(), horizon=horizon)


def test_an_arrival_at_the_very_end_of_a_batch_comes_after_its_tokens() -> None:
    """Client 1 waits from the end of the fifth batch until client 0 is done: what came after is its growth."""
    requests = [8, 8], [48, 48], [0, 1]
    its = run(told(Workload([0.0, 100.0], *requests)), SMALL, Vtc()).iterations
    end = float(its["start"][4] + its["seconds"][4])
    trace = run(told(Workload([0.0, end], *requests)), SMALL, Vtc())
    for monitor in (AnyClient(), DispatchLatency()):
        found = monitor.read(Run(trace))
        assert (found.value, found.since) == (2 * (48 - 5), end)


def test_what_admissions_take_and_commit() -> None:
    """Prompt and outputs of one, outputs of the other that are left: 8 + 2·8 + 2·8 at once, both in 32 tokens."""
    trace = run(one_after_the_other(2, 0), SMALL, Vtc())
    taken = Run(trace).reserved(Cost(1, 2))
    assert (taken.tokens, taken.committed) == (32, 40)
    assert AnyClient(Terms(unit=40)).read(Run(trace)).verdict == "within"
    assert AnyClient(Terms(unit=39)).read(Run(trace)).verdict == "outside"


# -- the theorems hold, and are not empty


@given(
    crowds,
    systems(LAW),
    st.sampled_from(list(Packing)),
    st.sampled_from(COSTS),
    st.sampled_from(WEIGHTS),
)
def test_vtc_is_never_outside_and_never_exceeds(
    workload: Workload, system: System, packing: Packing, cost: Cost, weights: Any
) -> None:
    policy = Vtc(packing=packing, cost=cost, weights=weights, token_budget=16)
    trace = run(told(workload), system, policy)
    fair = fairness_monitors(Terms(cost=cost, weights=weights))
    for found in check(trace, (*fair, WorkConservation(), ClientOrder(), KvConservation())):
        assert found.verdict == "within", (found, found.reason)


@given(st.integers(0, 2**32 - 1), st.sampled_from(COSTS), st.sampled_from(list(Predictor)))
def test_vtc_under_overload(seed: int, cost: Cost, predictor: Predictor) -> None:
    """T1 and T3 also with predictions (2U under equal weights)."""
    trace = run(flood(seed), System(LAW, blocks=150, block_size=1), Vtc(cost=cost, predictor=predictor))
    monitors = fairness_monitors(Terms(cost=cost))
    for found in check(trace, monitors if predictor == Predictor.NONE else monitors[1:]):
        assert found.verdict == "within", (found, found.reason)


def one_after_the_other(first: int, second: int) -> Workload:
    """Client 0 sends `first` equal requests at 0 s, client 1 `second` of them a moment later."""
    client = np.r_[np.zeros(first, int), np.ones(second, int)]
    n = len(client)
    return told(Workload(np.where(client == 0, 0.0, 2.0**-10), np.full(n, 8), np.full(n, 8), client))


SMALL = System(LAW, blocks=64, block_size=1)


def test_fcfs_exceeds_every_bound_of_fair_service() -> None:
    """Client 0's 100 requests are served before the first of client 1, which gets 4 at a time under VTC."""
    workload = one_after_the_other(100, 100)
    for found in check(run(workload, SMALL, Vtc())):
        assert found.verdict == "within", (found, found.reason)
    trace = run(workload, SMALL, Fcfs(admission=Vtc().admission))
    for found in check(trace, fairness_monitors()):
        assert found.verdict == "exceeded"
        assert found.clients == (0, 1)
        assert found.value > 5 * found.bound
    newcomer = DispatchLatency().read(Run(trace))
    admitted = trace.requests["admitted"][100]
    assert newcomer.request == 100
    assert newcomer.since == trace.requests["arrival"][100]
    assert newcomer.since < newcomer.time <= admitted
    assert newcomer.note == f"request 100 waited {admitted - newcomer.since:g} s"


def test_without_a_lift_credit_is_hoarded() -> None:
    """Client 1 is behind when it comes, under LCF: it alone is served until it is not, and client 0 waits."""
    n, alone = 300, 100
    client = np.r_[np.zeros(alone, int), np.tile([0, 1], (n - alone) // 2)]
    serving = run(one_after_the_other(alone, 1), SMALL, Vtc())
    late = float(serving.requests["finished"][alone - 1])
    workload = told(
        Workload(np.r_[np.zeros(alone), np.full(n - alone, late)], np.full(n, 8), np.full(n, 8), client)
    )
    both, anyone = BothBacklogged(), AnyClient()
    for monitor in (both, anyone):
        assert monitor.read(Run(run(workload, SMALL, Vtc()))).verdict == "within"
        found = monitor.read(Run(run(workload, SMALL, Vtc(lift=Lift.NEVER))))
        assert found.verdict == "exceeded"
        assert found.clients == (1, 0)


def test_the_published_constant_is_too_small_for_dear_prompts() -> None:
    """wp = 2, wq = 1, M = 100, L = 50: the gap is U* = 150 and not max(wp·L, wq·M) = 100."""
    workload = told(Workload(np.zeros(3), [50, 50, 50], [50, 50, 50], [0, 1, 0]))
    trace = run(workload, System(LAW, blocks=101, block_size=1), Vtc(cost=Cost(2, 1)))
    found = CounterGap(Terms(Cost(2, 1), memory=100)).read(Run(trace))
    assert (found.value, found.bound, found.clients, found.verdict) == (150, 150, (0, 1), "within")


def test_twice_the_unit_is_met() -> None:
    """Requests that fill the memory, wp = wq: the difference of T1 and T3 is 2U* to a token each way."""
    memory, n = 100, 6
    client = np.array([0, 1, 1, 1, 0, 0])
    workload = told(Workload(np.zeros(n), np.full(n, 1), np.full(n, memory - 1), client))
    trace = run(workload, System(LAW, blocks=memory + 1, block_size=1), Vtc(cost=Cost(1, 1)))
    for monitor in (BothBacklogged, AnyClient):
        found = monitor(Terms(Cost(1, 1), memory=memory)).read(Run(trace))
        assert 0.9 < found.share <= 1


# -- outside


def reasons(trace: Trace, terms: Terms | None = None) -> set[str]:
    found = check(trace, fairness_monitors(terms or Terms()))
    assert {f.verdict for f in found} == {"outside"}
    return {f.reason for f in found}


def test_a_log_of_requests_is_outside_everything() -> None:
    log = request_log([0.0, 1.0], [10, 10], [5, 5], [0, 1], [0.5, 0.5], [1.0, 2.0])
    for found in check(log):
        assert found.verdict == "outside"
        assert math.isnan(found.value) or found.monitor == "KvConservation"
    assert reasons(log) == {"token events: this trace has no entries: run simulate(..., record_entries=True)"}


def overcommitted(**parameters: Any) -> Trace:
    """Outputs R, R/2, ..., R/5 of client 0 fit together by their peak; the big request of client 1 waits."""
    output = [60, 30, 20, 15, 12, 60, 10]
    workload = told(Workload(np.zeros(7), np.full(7, 4), output, [0, 0, 0, 0, 0, 1, 0]))
    trace = run(workload, System(LAW, blocks=100, block_size=1), Vtc(admission=PEAK, **parameters))
    assert not trace.requests["preemptions"].any()
    return trace


def test_traces_outside_the_theorems_say_why() -> None:
    workload, few = flood(1), System(LAW, blocks=150, block_size=1)
    assert reasons(run(workload, few, Vtc(), nodes=2, router=RoundRobin())) == {
        "one node: 2 nodes; read a trace of each"
    }
    trace = run(workload, few, Vtc(admission=WHOLE_PROMPT))
    assert reasons(trace) == {f"no preemption: {trace.requests['preemptions'].sum()} preemptions"}
    (reason,) = reasons(overcommitted())
    assert reason.startswith("outputs reserved: running requests take up to")
    trace = run(workload, few, Vtc())
    (reason,) = reasons(trace, Terms(cost=Cost.profiled()))
    assert "linear cost" in reason
    assert "give unit=" in reason
    longest = int(workload.prompt.max())
    assert reasons(trace, Terms(longest=longest - 1)) == {
        f"prompts of at most L tokens: {longest} of {longest - 1}"
    }
    (reason,) = reasons(trace, Terms(unit=1.0))
    assert reason.startswith("no admission commits more than U")
    nameless = dataclasses.replace(trace, meta={})
    assert reasons(nameless) == {"M is known: this trace does not name its KV memory; give memory=..."}
    its = trace.iterations
    hurried = dataclasses.replace(
        trace, iterations={**its, "start": its["start"] - np.arange(len(its["start"]))}
    )
    (reason,) = reasons(hurried)
    assert reason.startswith("times in order: ")


def test_a_given_unit_stands_for_other_costs_and_rules_of_admission() -> None:
    """Of a trace of any rule of admission, what its admissions commit is a unit; VTC keeps to it under h too."""
    h = Cost.profiled()
    for trace in (run(flood(2), System(LAW, blocks=150, block_size=1), Vtc(cost=h)), overcommitted(cost=h)):
        least = Run(trace).reserved(h).committed
        for found in check(trace, fairness_monitors(Terms(h, unit=least))):
            assert found.verdict == "within", (found, found.reason)


def test_too_many_clients_to_compare_all() -> None:
    trace = run(flood(3), System(LAW, blocks=150, block_size=1), Vtc())
    few = AnyClient(most_clients=3).read(Run(trace))
    assert few.verdict == "outside"
    assert few.reason == "all pairs of clients: 3 of 4 clients were compared; raise most_clients"
    assert few.value <= AnyClient().read(Run(trace)).value


@given(crowds, systems(LAW), st.permutations([0, 1, 2]))
def test_names_of_clients_do_not_matter(workload: Workload, system: System, names: list[int]) -> None:
    trace = run(told(workload), system, Fcfs(admission=Vtc().admission))
    renamed = dataclasses.replace(
        trace, requests={**trace.requests, "client": 7 * np.array(names)[trace.requests["client"]]}
    )
    for one, two in zip(check(trace), check(renamed), strict=True):
        assert (one.value, one.bound, one.verdict) == (two.value, two.bound, two.verdict)


# -- laws of any run, broken one at a time


def damaged(table: str, column: str, change: Any) -> tuple[Trace, Trace]:
    trace = run(flood(4), System(LAW, blocks=150, block_size=1), Vtc())
    new = getattr(trace, table)[column].copy()
    change(new, trace)
    return trace, dataclasses.replace(trace, **{table: {**getattr(trace, table), column: new}})


def verdicts(monitor: Any, pair: tuple[Trace, Trace]) -> tuple[Finding, str]:
    before, after = (monitor.read(Run(trace)) for trace in pair)
    return after, f"{before.verdict}, {after.verdict}"


def test_an_idle_node_is_noticed() -> None:
    def late(start: Any, trace: Trace) -> None:
        start[len(start) // 2 :] += 0.25

    after, seen = verdicts(WorkConservation(), damaged("iterations", "start", late))
    assert seen == "within, exceeded"
    assert after.value == pytest.approx(0.25)
    assert after.request >= 0
    assert WorkConservation(slack=0.3).read(Run(damaged("iterations", "start", late)[1])).verdict == "within"


def test_a_batch_without_tokens_is_noticed() -> None:
    def empty(decodes: Any, trace: Trace) -> None:
        decodes[np.flatnonzero(trace.iterations["prefill"] == 0)[0]] = 0

    assert verdicts(WorkConservation(), damaged("iterations", "decodes", empty))[1] == "within, exceeded"


def test_a_run_that_stops_with_work_left_is_noticed() -> None:
    trace = run(flood(4), System(LAW, blocks=150, block_size=1), Vtc())
    its, q = trace.iterations, trace.requests
    fewer = int(its["entries"][-3:].sum())
    finished = np.where(q["finished"] < its["start"][-3], q["finished"], np.nan)
    cut = dataclasses.replace(
        trace,
        iterations={name: column[:-3] for name, column in its.items()},
        entries={name: column[:-fewer] for name, column in (trace.entries or {}).items()},
        requests={**q, "finished": finished},
    )
    assert WorkConservation().read(Run(cut)).verdict == "exceeded"


def test_overtaking_within_a_client_is_noticed() -> None:
    def swap(admitted: Any, trace: Trace) -> None:
        mine = np.flatnonzero(trace.requests["client"] == 0)
        a, b = mine[0], mine[-1]
        admitted[a], admitted[b] = admitted[b], admitted[b - 1] if b - 1 in mine else admitted[b]
        admitted[a] += 1.0

    pair = damaged("requests", "admitted", swap)
    after, seen = verdicts(ClientOrder(), pair)
    assert seen == "within, exceeded"
    q = pair[1].requests
    mine = np.flatnonzero(q["client"] == 0)
    ahead = [
        q["arrival"][r] - q["arrival"][s]
        for s, r in itertools.combinations(mine, 2)
        if q["admitted"][r] < q["admitted"][s]
    ]
    assert after.value == max(ahead)


def test_memory_that_does_not_exist_is_noticed() -> None:
    def more(blocks: Any, trace: Trace) -> None:
        blocks[5] = 151

    def fewer(blocks: Any, trace: Trace) -> None:
        blocks[5] = 1

    after, seen = verdicts(KvConservation(), damaged("iterations", "blocks", more))
    assert (seen, after.value, after.bound) == ("within, exceeded", 151, 150)
    pair = damaged("iterations", "blocks", fewer)
    after, seen = verdicts(KvConservation(), pair)
    assert seen == "within, exceeded"
    assert after.value > after.bound == 1


@given(
    crowds,
    systems(LAW),
    st.sampled_from([(Vtc().admission, "prompt + output"), (WHOLE_PROMPT, "tokens held")]),
)
def test_blocks_follow_the_rule_of_admission(workload: Workload, system: System, rule: Any) -> None:
    admission, what = rule
    trace = run(told(workload), system, Fcfs(admission=admission))
    found = KvConservation().read(Run(trace))
    assert found.verdict == "within"
    if trace.requests["preemptions"].sum() == 0 and len(trace.iterations["start"]):
        both = "tokens held" if found.value == 0 else what
        assert both in found.note or "tokens held" in found.note


# -- logs


def test_window_growth_by_hand() -> None:
    """Client 0 is served from 1 to 3 s while both wait: (8 + 2·6)/2U; the rest ends after the last arrival."""
    log = request_log(
        [0, 0, 0, 0, 3],
        [8, 8, 8, 8, 8],
        [6, 6, 6, 6, 6],
        [0, 0, 1, 0, 1],
        [1, 9, 9, 9, 9],
        [3, 12, 12, 12, 12],
    )
    found = window_growth(log, Terms(memory=100))
    assert (found.value, found.bound, found.clients) == (20, 400, (0, 1))
    assert (found.since, found.time) == (0, 3)
    assert found.verdict == "outside"
    assert found.reason.startswith("token events: smeared")
    half = window_growth(log, Terms(memory=100, weights=(2.0, 1.0)))
    assert (half.value, half.bound) == (10, 200 * 1.5)


@needs_data
@pytest.mark.parametrize(
    ("name", "below", "above"),
    [
        *((name, 0.5, 0.0) for name in ("vtc_overload", "vtc_pred_50_overload", "vtc_overload_multi",
                                        "vtc_on_off_less", "vtc_dist_shift")),
        *((name, math.inf, 1.0) for name in ("fcfs_overload", "fcfs_on_off_less", "lcf_dist_shift")),
    ],
)  # fmt: skip
def test_published_runs(name: str, below: float, above: float) -> None:
    """The acceptance criterion: at most half the bound under VTC, above it under FCFS and LCF."""
    assert FOLDER is not None
    found = window_growth(read_request_log(FOLDER / "fairness" / f"{name}.csv"), Terms(memory=10_000))
    assert above < found.share <= below


# -- bad input


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Terms(weights=(1.0, 0.0)), "weights must be positive and finite"),
        (lambda: Terms(weights=()), "weights must be positive and finite"),
        (lambda: Terms(memory=0), "memory must be positive and finite, not 0"),
        (lambda: Terms(unit=math.nan), "unit must be positive and finite"),
        (lambda: window_growth(request_log([0], [1], [1], [0], [1], [1]), step=0.0), "step must be positive"),
    ],
)
def test_bad_parameters(make: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()


def test_a_trace_that_contradicts_itself() -> None:
    trace = run(flood(5), SMALL, Vtc())
    entries = trace.entries or {}
    request = entries["request"].copy()
    request[len(request) // 2] = len(trace.requests["arrival"])
    with pytest.raises(ValueError, match="names a request beyond its 120"):
        check(dataclasses.replace(trace, entries={**entries, "request": request}))
    at = 1 + int(np.flatnonzero(np.diff(entries["request"]))[0])
    request = entries["request"].copy()
    request[at] = request[at - 1]
    with pytest.raises(ValueError, match="output tokens, but its entries give"):
        check(dataclasses.replace(trace, entries={**entries, "request": request}))
    with pytest.raises(ValueError, match="count other entries"):
        check(dataclasses.replace(trace, entries={name: column[:-1] for name, column in entries.items()}))


def test_nothing_happened() -> None:
    """The only request was rejected."""
    for found in check(run(Workload([0.0], [10**6], [1], [0]), SMALL, Vtc()), ALL):
        assert (found.verdict, found.value) == ("within", 0)
