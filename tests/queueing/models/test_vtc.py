"""VTC's invariants and bounds after every event of random histories; and what fails without each of its rules."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from queueing.cost import Cost
from queueing.models.vtc import (
    ChunkedCharge,
    FirstComeFirstServed,
    LeastCounterFirst,
    NoLiftOnEmpty,
    PeakAdmission,
    Request,
    Setting,
    Vtc,
    Windows,
    harmonic,
    violated,
)

EXAMPLES = settings().max_examples
ENOUGH, FEWER = (
    settings(max_examples=k * EXAMPLES, stateful_step_count=30) for k in (5, 1)
)  # 500 and 100 in ci

LINEAR = [(1, 1), (1, 2), (0, 1), (1, 4), (2, 1), (5, 1)]
WEIGHTS = [(1,), (1, Fraction(1, 2), 3, Fraction(2, 3)), (Fraction(1, 4), 2)]


def tokens_or_more() -> st.SearchStrategy[Cost]:
    """Weighted tokens, and a cost with squares and products."""
    linear = st.sampled_from([Cost(*pair) for pair in LINEAR])
    return st.one_of(linear, st.just(Cost(1, 0.5, 0.25, 0.0, 0.5, 2.0)))


class Histories(RuleBasedStateMachine):
    """Requests come, are admitted and decoded in any order; invariants hold in every state, bounds in every window.

    Lengths are often the shortest, the longest, or all that the memory leaves: without these the bounds are far away.
    """

    kind: type[Vtc] = Vtc
    predictions = ("none", "true", "below")
    weights: Sequence[tuple[Any, ...]] = WEIGHTS
    linear = False

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        memory = data.draw(st.integers(8, 64))
        longest = data.draw(st.sampled_from([1, memory // 2, memory - 1]))
        cost = data.draw(st.sampled_from([Cost(*p) for p in LINEAR]) if self.linear else tokens_or_more())
        clients, weights = data.draw(st.integers(2, 5)), data.draw(st.sampled_from(self.weights))
        self.setting = Setting(clients, memory, longest, cost, weights)
        self.system = self.kind(self.setting)
        self.windows = Windows(self.system)
        self.prediction = data.draw(st.sampled_from(self.predictions))
        self.waiting: list[deque[int]] = [deque() for _ in range(clients)]
        self.earned: list[Any] = [0] * clients  # service, from a ledger of our own
        self.lifts: list[Any] = [0] * clients
        self.highest: list[Any] = [0] * clients

    @rule(data=st.data(), u=st.integers(0, 4), copies=st.sampled_from([1, 1, 1, 2, 6]))
    def arrive(self, data: st.DataObject, u: int, copies: int) -> None:
        u, system, memory = u % self.setting.clients, self.system, self.setting.memory
        most = self.setting.most_input
        prompt = data.draw(st.one_of(st.sampled_from([1, most]), st.integers(1, most)))
        reserved = data.draw(
            st.one_of(st.sampled_from([1, memory - prompt]), st.integers(1, memory - prompt))
        )
        output = data.draw(st.one_of(st.just(reserved), st.integers(1, reserved)))
        match self.prediction:
            case "none":
                predicted = Fraction(0)
            case "true":
                predicted = Fraction(output)
            case "below":
                predicted = data.draw(st.fractions(0, output, max_denominator=4))
            case _:
                predicted = data.draw(st.fractions(0, reserved, max_denominator=4))
        for _ in range(copies):
            before, newly = system.counter[u], u not in system.queued
            others = [system.counter[i] for i in system.queued]
            self.waiting[u].append(system.arrived)
            system.arrive(u, prompt, output, reserved, predicted)
            self.lifts[u] += system.counter[u] - before
            if newly and others and self.kind is Vtc:
                assert system.counter[u] >= min(others)
            self.windows.look()

    def admit_one(self) -> Request | None:
        admitted = self.system.admit()
        if admitted is None:
            assert self.system.running or not self.system.queued, "idle while a request waits"
            return None
        u = admitted.client
        assert self.waiting[u].popleft() == admitted.number, "out of order within a client"
        if self.kind is not ChunkedCharge:
            self.earned[u] += self.setting.h(admitted.prompt, 0)
        self.windows.look()
        return admitted

    @rule()
    def admit(self) -> None:
        self.admit_one()

    @rule()
    def admit_all(self) -> None:
        while self.admit_one():
            assert not violated(self.system)

    def produce(self, which: list[int]) -> None:
        for k in which:
            running = self.system.running[k]
            x, j, u = running.request.prompt, running.decoded, running.request.client
            self.earned[u] += self.setting.h(x, j + 1) - self.setting.h(x, j)
        self.system.decode(which)
        self.windows.look()

    def ready(self) -> list[int]:
        return [k for k, r in enumerate(self.system.running) if r.prefilled == r.request.prompt]

    @rule(steps=st.sampled_from([1, 2, 5, 60]))
    def decode(self, steps: int) -> None:
        for _ in range(steps):
            self.produce(self.ready())

    @rule(chosen=st.sets(st.integers(0, 9)))
    def decode_some(self, chosen: set[int]) -> None:
        self.produce([k for k in self.ready() if k in chosen])

    @precondition(lambda self: self.kind is ChunkedCharge and self.system.running)
    @rule(place=st.integers(0, 9), tokens=st.sampled_from([1, 3, 64]))
    def prefill(self, place: int, tokens: int) -> None:
        place %= len(self.system.running)
        assert isinstance(self.system, ChunkedCharge)
        running = self.system.running[place]
        before = running.prefilled
        self.system.prefill(place, tokens)
        h = self.setting.h
        self.earned[running.request.client] += h(running.prefilled, 0) - h(before, 0)
        self.windows.look()

    @invariant()
    def invariants_and_bounds(self) -> None:
        assert not violated(self.system)
        assert self.windows.both <= 1, "T1"
        assert self.windows.anyone <= 1, "T3"
        assert self.windows.newcomer <= 1, "T4"

    @invariant()
    def charges_are_what_was_processed(self) -> None:
        """c_u = lifts + W_u/f_u + p_u, with p_u = 0 once nothing of the client runs: refunds are exact."""
        system = self.system
        for u in range(self.setting.clients):
            assert system.service[u] == self.earned[u]
            charged = system.counter[u] - self.lifts[u]
            assert charged == Fraction(system.service[u]) / self.setting.weight(u) + system.prepaid[u]
            assert system.prepaid[u] == 0 or system.held[u] > 0
            assert system.counter[u] >= self.highest[u] or system.given_back > 0
            self.highest[u] = system.counter[u]


class Refunds(Histories):
    """Predictions above the output: charges are still exact.

    I2 fails, since counters fall; with equal weights T1 and T3 hold all the same (queueing.proofs.vtc_refunds).
    """

    predictions = ("above",)
    weights = ((1,),)

    @invariant()
    def invariants_and_bounds(self) -> None:
        assert set(violated(self.system)) <= {"I2"}
        assert self.windows.both <= 1, "T1"
        assert self.windows.anyone <= 1, "T3"

    @rule()
    def admit_all(self) -> None:
        while self.admit_one():
            pass


class Chunks(Histories):
    """Prompts charged chunk by chunk, with the constant max(wp, wq)·M."""

    kind = ChunkedCharge
    linear = True
    predictions = ("none",)


@pytest.mark.parametrize(("machine", "examples"), [(Histories, ENOUGH), (Refunds, FEWER), (Chunks, FEWER)])
def test_every_history_keeps_invariants_and_bounds(machine: type[Histories], examples: settings) -> None:
    run_state_machine_as_test(machine, settings=examples)


# -- what each rule is for: without it some history breaks a statement


class LiftToMost(Vtc):
    """Lift to the greatest counter of Q."""

    def lift(self, u: int) -> Any:
        return max((self.counter[i] for i in self.queued), default=super().lift(u))


class NotTheLeast(Vtc):
    """Admit the client with the greatest counter."""

    def next_client(self) -> int | None:
        return max(self.queued, key=lambda u: self.counter[u], default=None)


class PromptsOnly(Vtc):
    """Reserve no output."""

    def fits(self, request: Request) -> bool:
        return sum(r.request.prompt + r.decoded for r in self.running) + request.prompt <= self.setting.memory


class LastNotKept(Vtc):
    """Remember the first client that ever left Q, not the last."""

    def admit(self) -> Request | None:
        first = self.last
        request = super().admit()
        self.last = self.last if first is None else first
        return request


class LiftMayLower(Vtc):
    """c_u := x, even if x is below c_u."""

    def arrive(self, client: int, *args: Any, **others: Any) -> None:
        returns, x = not self.queue[client], self.lift(client)
        super().arrive(client, *args, **others)
        if returns:
            self.counter[client] = x


MUTANTS = [
    LiftToMost,
    NotTheLeast,
    PromptsOnly,
    LastNotKept,
    NoLiftOnEmpty,
    LeastCounterFirst,
    FirstComeFirstServed,
]


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_rule_is_needed(mutant: type[Vtc]) -> None:
    """Each mutant violates an invariant in some history."""

    class Mutant(Histories):
        kind = mutant

    quick = settings(max_examples=500, stateful_step_count=30, phases=[Phase.generate], report_multiple_bugs=False,
                     derandomize=True, database=None)  # fmt: skip
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Mutant, settings=quick)


# -- histories of an engine: admit until refused, then decode

Arrivals = list[tuple[int, int, int, int]]  # (step, client, prompt, output), in order of step


def serve(system: Vtc, arrivals: Arrivals, tokens: int = 1) -> tuple[Windows, list[list[Any]]]:
    """Run to the end, `tokens` decodes in a step; the windows, and the service after every step."""
    windows, coming, step = Windows(system), deque(arrivals), 0
    rows: list[list[Any]] = []
    while coming or system.queued or system.running:
        while coming and coming[0][0] <= step:
            _, u, prompt, output = coming.popleft()
            system.arrive(u, prompt, output)
            windows.look()
        while system.admit():
            windows.look()
        for _ in range(tokens):
            system.decode()
            windows.look()
        rows.append(list(system.service))
        step += 1
    return windows, rows


@st.composite
def runs(draw: st.DrawFn, clients: int = 3) -> tuple[Setting, Arrivals]:
    """A setting and arrivals with many requests of the extreme lengths."""
    memory = draw(st.integers(8, 30))
    cost = Cost(*draw(st.sampled_from(LINEAR)))
    sizes = st.integers(1, memory - 1).flatmap(
        lambda p: st.tuples(st.just(p), st.one_of(st.just(memory - p), st.integers(1, memory - p)))
    )
    requests = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, clients - 1), sizes), max_size=14))
    arrivals = sorted(((k, u, p, q) for k, u, (p, q) in requests), key=lambda a: a[0])
    return Setting(clients, memory, cost=cost), arrivals


@given(runs(), st.integers(2, 4))
def test_gaps_scale_with_the_lengths(run: tuple[Setting, Arrivals], s: int) -> None:
    """Lengths and memory times s, s tokens a step: service times s, at every step."""
    setting, arrivals = run
    _, once = serve(Vtc(setting), arrivals)
    longer = Setting(setting.clients, s * setting.memory, s * setting.most_input, setting.cost)
    _, scaled = serve(Vtc(longer), [(k, u, s * p, s * q) for k, u, p, q in arrivals], tokens=s)
    assert scaled == [[s * w for w in row] for row in once]


@given(runs(), st.permutations(range(3)))
def test_names_do_not_matter(run: tuple[Setting, Arrivals], name: list[int]) -> None:
    setting, arrivals = run
    _, rows = serve(Vtc(setting), arrivals)
    _, renamed = serve(Vtc(setting), [(k, name[u], p, q) for k, u, p, q in arrivals])
    assert [[row[name[u]] for u in range(3)] for row in renamed] == rows


@given(runs(clients=1))
def test_one_client_is_first_come_first_served(run: tuple[Setting, Arrivals]) -> None:
    setting, arrivals = run
    assert serve(Vtc(setting), arrivals)[1] == serve(FirstComeFirstServed(setting), arrivals)[1]


@given(runs())
def test_least_counter_first_if_nobody_returns(run: tuple[Setting, Arrivals]) -> None:
    """Without a lift the counters are VTC's as long as everybody is there from the start and stays in Q."""
    setting, arrivals = run
    together = [(0, u, p, q) for _, u, p, q in arrivals]
    assert serve(Vtc(setting), together)[1] == serve(LeastCounterFirst(setting), together)[1]


# -- where the bounds end: exact figures of scripted histories


def saturated(setting: Setting, prompt: int) -> Windows:
    """Requests that fill the memory, all there at once: 0 is served once, then 1 twice, as ties go to the earlier."""
    full = (prompt, setting.memory - prompt)
    return serve(Vtc(setting), [(0, u, *full) for u in (0, 1, 1, 1, 0, 0)])[0]


@pytest.mark.parametrize(("wp", "wq"), [(1, 1), (2, 1), (5, 1)])
def test_two_u_is_attained_where_prompts_cost_no_less(wp: int, wq: int) -> None:
    """W_g - W_f = 2U*, exactly; the published constant max(wp·L, wq·M) is broken where wp > wq."""
    setting = Setting(2, 100, longest=50, cost=Cost(wp, wq))
    windows = saturated(setting, 50)
    assert windows.both == windows.anyone == 1
    assert (setting.published < setting.bound) == (wp > wq)


def test_two_u_is_nearly_attained_where_outputs_cost_more() -> None:
    """2(wp + wq(M - 1)) of 2·wq·M; with M growing the share goes to 1."""
    shares = [saturated(Setting(2, memory, cost=Cost(1, 2)), 1).both for memory in (10, 100, 1000)]
    assert shares == [Fraction(1 + 2 * (memory - 1), 2 * memory) for memory in (10, 100, 1000)]
    assert shares[-1] > Fraction(1990, 2000)


@pytest.mark.parametrize(("memory", "longest", "gap", "published"), [(100, 50, 150, 100), (10, 5, 15, 10)])
def test_prompts_that_cost_more_break_the_published_gap(
    memory: int, longest: int, gap: int, published: int
) -> None:
    """f and g queue (L, M - L), f is admitted and decoded: the counters differ by U* > U."""
    setting = Setting(2, memory, longest, Cost(2, 1))
    system = Vtc(setting)
    for u in (0, 0, 1):
        system.arrive(u, longest, memory - longest)
    while system.admit() or system.counter[0] < gap:
        system.decode()
        if not system.running:
            break
    assert system.counter[0] - system.counter[1] == gap == setting.bound > setting.published == published
    assert not violated(system)


@pytest.mark.parametrize("k", [5, 10, 20, 50])
def test_peak_admission_grows_like_the_harmonic_numbers(k: int) -> None:
    """Outputs R, R/2, ..., R/k of one client fit by their peak, and generate R·H_k while the other waits."""
    memory = 20_000
    most = memory - k  # k prompts of one token
    outputs = [most // i for i in range(1, k + 1)]
    system = PeakAdmission(Setting(2, memory, cost=Cost(1, 2), longest=1))
    for output in outputs:
        system.arrive(0, 1, output)
        assert system.admit()
    system.arrive(1, 1, memory - 1)  # fits when nothing else runs
    system.arrive(0, 1, 1)
    before = system.service[0]
    while not system.admit():
        assert sum(r.request.prompt + r.decoded for r in system.running) <= memory
        system.decode()
    growth = system.service[0] - before
    assert float(Fraction(growth) / system.setting.bound) == pytest.approx(float(harmonic(k)), rel=0.01)
    assert (
        system.counter[0] - (system.counter[1] - 1) == growth
    )  # both in Q until this prompt of one token was charged
    assert system.setting.bound < growth <= system.bound
    reserving = Vtc(system.setting)
    for output in outputs:
        reserving.arrive(0, 1, output)
    assert reserving.admit()
    assert not reserving.admit()


def alone_then_two(kind: type[Vtc], turns: int) -> Vtc:
    """Client 0 is served alone `turns` times, Q draining each time; then client 1 comes while Q is empty, then 0."""
    system = kind(Setting(2, 100, cost=Cost(1, 2)))
    for _ in range(turns):
        system.arrive(0, 1, 1)
        system.admit()
        system.decode()
    for u in (1, 0):
        for _ in range(2 * turns):
            system.arrive(u, 1, 1)
    return system


@pytest.mark.parametrize(("turns", "share"), [(50, Fraction(3, 4)), (200, 3), (800, 12)])
def test_without_a_lift_on_the_empty_queue_the_gap_is_unbounded(turns: int, share: Fraction) -> None:
    system = alone_then_two(NoLiftOnEmpty, turns)
    assert Fraction(system.counter[0] - system.counter[1]) == share * system.setting.bound
    assert ("L1" in violated(system)) == (share > 1)
    windows = Windows(system)
    while system.queued:
        while system.admit():
            windows.look()
        system.decode()
        windows.look()
    assert windows.both >= (share - 2) / 2  # the hoarded credit is spent while both wait
    assert not violated(alone_then_two(Vtc, turns))


def flood(kind: type[Vtc]) -> Windows:
    """Client 0 floods, and 1 has two requests behind it; or, without a lift, spends what it hoarded while away."""
    setting = Setting(2, 10, cost=Cost(1, 1))
    alone: Arrivals = [(k, 0, 1, 9) for k in range(0, 120, 10)]
    return serve(kind(setting), [*alone, *[(120, 1, 1, 9)] * 9, *[(120, 0, 1, 9)] * 9])[0]


def first_come_flood(kind: type[Vtc]) -> Windows:
    setting = Setting(2, 10, cost=Cost(1, 1))
    return serve(kind(setting), [*[(0, 0, 1, 9)] * 9, *[(0, 1, 1, 9)] * 9])[0]


def test_first_come_first_served_and_least_counter_first_break_the_bounds() -> None:
    assert first_come_flood(FirstComeFirstServed).both > 3
    assert first_come_flood(Vtc).both <= 1
    assert flood(LeastCounterFirst).both > 3
    assert flood(Vtc).both <= 1


def test_a_lift_that_lowers_is_caught_by_the_bound_against_anybody_only() -> None:
    """0 waits with small requests; 1, whenever it is done, returns with one that fills memory, its debt forgotten."""
    setting = Setting(2, 10, cost=Cost(1, 1))

    def returning(kind: type[Vtc]) -> Windows:
        system = kind(setting)
        for _ in range(200):
            system.arrive(0, 1, 1)
        windows = Windows(system)
        for _ in range(100):
            if not system.queue[1] and not system.held[1]:
                system.arrive(1, 1, 9)
            while system.admit():
                windows.look()
            system.decode()
            windows.look()
        assert system.queue[0]
        return windows

    assert returning(Vtc).anyone <= 1
    assert returning(LiftMayLower).both <= 1
    assert returning(LiftMayLower).anyone > 3


def test_weights_below_one_need_the_weighted_constant() -> None:
    """With f = 1/4 the difference of W/f passes 2U, and stays within U/f_f + U/f_g."""
    setting = Setting(2, 100, longest=50, cost=Cost(1, 1), weights=(Fraction(1, 4),))
    windows = saturated(setting, 50)
    assert windows.both == 1  # of 8U


def test_the_bound_of_a_cost_is_the_dearest_admission() -> None:
    """One request that fills the memory against all multisets of requests in 8 tokens; linear costs: their formula."""

    def dearest(setting: Setting) -> Any:
        h, most = setting.h, setting.most_input
        shapes = [(x, y) for x in range(1, most + 1) for y in range(1, setting.memory - x + 1)]

        def beside(room: int, start: int) -> Any:
            return max(
                (h(x, y) - h(x, 0) + beside(room - x - y, k) for k, (x, y) in enumerate(shapes)
                 if k >= start and x + y <= room), default=0,
            )  # fmt: skip

        return max(h(x, y) + beside(setting.memory - x - y, 0) for x, y in shapes)

    for cost in (Cost(1, 2, 0.5), Cost(1, 0, 0, 0, 1.0, 3.0), Cost(0.5, 0.25, 0.125, 0.5, 0.0, 1.0)):
        for longest in (2, 7):
            setting = Setting(2, 8, longest, cost)
            assert setting.bound == dearest(setting)
    for pair in LINEAR:
        setting = Setting(2, 8, 5, Cost(*pair))
        assert dearest(setting) <= setting.bound <= dearest(setting) + pair[1]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: Setting(0, 10), "too few; give 1 and 2"),
        (lambda: Setting(2, 10, longest=10), "give between 1 and 9, one less than the memory"),
        (lambda: Setting(2, 10, weights=(1, 0)), "must be above 0; give one for each client"),
        (lambda: Vtc(Setting(2, 10)).arrive(2, 1, 1), "there is no client 2"),
        (lambda: Vtc(Setting(2, 10)).arrive(0, 0, 1), "give a prompt of at most 9"),
        (lambda: Vtc(Setting(2, 10)).arrive(0, 1, 3, 2), "outputs within the reserved ones"),
        (lambda: Vtc(Setting(2, 10)).arrive(0, 5, 6), "at most 10 fit"),
        (lambda: Vtc(Setting(2, 10)).arrive(0, 1, 2, predicted=3), "no more can be predicted than reserved"),
    ],
)
def test_flaws_are_named(wrong: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        wrong()
