"""Arrival patterns and the search for bad ones: who meets a bound, who breaks it, and the simulator by the model."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import policies
from policies import PEAK, Fcfs, Lift, Packing
from policies import Vtc as VtcPolicy
from queueing.cost import Cost
from queueing.models.vtc import (
    FirstComeFirstServed,
    LeastCounterFirst,
    NoLiftOnEmpty,
    PeakAdmission,
    Request,
    Setting,
    Vtc,
    harmonic,
)
from queueing.policy import Policy
from validation.admission_wave import dearest_request, dearest_wave
from validation.adversary import Burst, pattern_of, search, smaller
from validation.pattern import OBJECTIVES, Arrival, Objective, Pattern, play, share_of
from validation.pattern_runs import follower, service_by_step, simulated
from validation.tight_patterns import (
    SHIPPED,
    debtor,
    drained,
    flood,
    hoard,
    leaves_the_queue,
    load,
    nobody_can_help,
    one_admission,
    outputs_in_turn,
    served_twice,
)

COSTS = [Cost(1, 2), Cost(1, 1), Cost(2, 1), Cost(5, 1)]
SMALL = Setting(2, 20, 10, Cost(1, 2))

# what each class of the model is called among the policies
SAME: list[tuple[type[Vtc], Callable[[Cost], Policy]]] = [
    (Vtc, lambda cost: VtcPolicy(cost=cost)),
    (LeastCounterFirst, lambda cost: VtcPolicy(cost=cost, lift=Lift.NEVER)),
    (NoLiftOnEmpty, lambda cost: VtcPolicy(cost=cost, lift=Lift.ARTIFACT)),
    (FirstComeFirstServed, lambda cost: Fcfs()),
]


@st.composite
def patterns(draw: st.DrawFn, most_clients: int = 3) -> Pattern:
    memory = draw(st.integers(3, 24))
    setting = Setting(
        draw(st.integers(2, most_clients)),
        memory,
        draw(st.integers(1, memory - 1)),
        draw(st.sampled_from(COSTS)),
    )
    bursts = draw(
        st.lists(
            st.builds(
                Burst,
                pause=st.integers(0, 2 * memory),
                client=st.integers(0, setting.clients - 1),
                prompt=st.integers(1, setting.most_input),
                room=st.integers(2, memory),
                times=st.integers(1, 3),
                ends=st.just(0),
                predicts=st.just(False),
            ),
            min_size=1,
            max_size=6,
        )
    )
    return pattern_of(setting, bursts)


# -- patterns that meet the bounds


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_files_are_what_the_code_makes(name: str):
    assert load(name) == SHIPPED[name]()


@pytest.mark.parametrize("cost", COSTS, ids=str)
@pytest.mark.parametrize(
    ("make", "objective", "times"),
    [(one_admission, "gap", 1), (served_twice, "both", 2), (leaves_the_queue, "anyone", 2), (debtor, "newcomer", 2)],
)  # fmt: skip
def test_bounds_are_met(make: Callable[[Setting], Pattern], objective: Objective, times: int, cost: Cost):
    """Exactly `times` the charge of the dearest request: all of the bound if wp >= wq, and 0.9995 of it for (1, 2)."""
    pattern = load(f"{make.__name__}_{cost.input:g}_{cost.output:g}")
    setting = pattern.setting
    outcome = play(pattern)
    worst = outcome.worst
    assert worst[objective].share == Fraction(setting.h(*dearest_request(setting))) / setting.bound
    assert worst[objective].share >= Fraction(1999, 2000)
    assert all(worst[o].share <= 1 for o in OBJECTIVES)
    unit = setting.h(*dearest_request(setting))
    service = np.array(outcome.service)
    apart = service[:, 0] - service[:, 1]
    token = (
        setting.cost.output
    )  # the table has no row between the last token of one and the admission of the other
    assert times * unit - 2 * token <= apart.max() - apart.min() <= times * unit


@pytest.mark.parametrize("weights", [(1, 2), (1, 3), (Fraction(1, 2), 2)], ids=str)
@pytest.mark.parametrize(
    ("make", "objective"),
    [(one_admission, "gap"), (served_twice, "both"), (leaves_the_queue, "anyone"), (debtor, "newcomer")],
)
def test_bounds_with_weights_are_met(
    make: Callable[[Setting], Pattern], objective: Objective, weights: tuple[Any, ...]
):
    assert play(make(Setting(2, 100, 50, Cost(2, 1), weights))).worst[objective].share == 1


def test_a_debtor_waits_for_everybody():
    """T4 in steps: 2(n - 1) requests of the others, one after the other, before the newcomer's first token."""
    setting = Setting(4, 50, 25, Cost(1, 1))
    pattern = debtor(setting)
    end = dearest_request(setting)[1]
    service = play(pattern).service
    waits = next(k for k, row in enumerate(service) if row[0] > setting.h(*dearest_request(setting))) - end
    assert waits == 2 * 3 * end


@pytest.mark.parametrize("system", [Vtc, FirstComeFirstServed, LeastCounterFirst, NoLiftOnEmpty])
def test_no_scheduler_helps_who_comes_after_the_memory_is_given_away(system: type[Vtc]):
    pattern = load("nobody_can_help")
    reached = play(pattern, system).worst["both"].share * 2 * pattern.setting.bound
    assert reached == 2 * (pattern.setting.memory - 2)


@given(pattern=patterns())
def test_no_pattern_breaks_vtc(pattern: Pattern):
    assert all(worst.share <= 1 for worst in play(pattern).worst.values())


@given(pattern=patterns())
def test_one_share_is_that_of_the_whole_measurement(pattern: Pattern):
    outcome = play(pattern)
    assert all(share_of(o, pattern) == outcome.worst[o].share for o in OBJECTIVES)
    total = [sum(pattern.setting.h(a.prompt, a.output) for a in pattern.arrivals if a.client == u)
             for u in range(pattern.setting.clients)]  # fmt: skip
    assert list(outcome.service[-1]) == total


# -- who breaks what


@pytest.mark.parametrize("requests", [3, 5, 10])
def test_first_come_first_served_and_hoarded_credit_break_two_u(requests: int):
    setting = Setting(2, 100, 50, Cost(1, 2))
    for make, broken in ((flood, FirstComeFirstServed), (hoard, LeastCounterFirst)):
        pattern = make(setting, requests)
        share = play(pattern, broken).worst["both"].share
        assert share == Fraction(requests, 2) * Fraction(setting.h(1, 99)) / setting.bound > 1
        assert play(pattern).worst["both"].share < Fraction(1, 2)


@pytest.mark.parametrize("times", [50, 200, 800])
def test_no_lift_on_an_empty_queue_is_unbounded(times: int):
    pattern = drained(Setting(2, 100, 50, Cost(1, 2)), times)
    assert play(pattern, NoLiftOnEmpty).worst["gap"].share == Fraction(3 * times, 200)
    assert play(pattern).worst["gap"].share == 0


@pytest.mark.parametrize("k", [5, 10, 20, 50])
def test_peak_admission_grows_like_the_harmonic_numbers(k: int):
    """Missed by at most k·(H_k + 3)/M: R = M - k, outputs are whole, g comes k tokens late and goes k/2 early."""
    pattern = outputs_in_turn(4000, Cost(1, 2), k)
    memory, bound = pattern.setting.memory, pattern.setting.bound
    gap = share_of("gap", pattern, PeakAdmission) * PeakAdmission(pattern.setting).bound / bound
    assert harmonic(k) - k * (harmonic(k) + 3) / memory <= gap <= harmonic(k)
    assert share_of("gap", pattern, PeakAdmission) <= 1
    assert share_of("gap", pattern) <= 1


@pytest.mark.parametrize("cost", COSTS, ids=str)
def test_the_published_constant_is_broken_by_dear_prompts_only(cost: Cost):
    pattern = one_admission(Setting(2, 100, 50, cost))
    gap = share_of("gap", pattern) * pattern.setting.bound
    assert (gap > pattern.setting.published) == (cost.input > cost.output)


# -- the source of the policies, in the simulator


@pytest.mark.parametrize(("system", "policy"), SAME)
@pytest.mark.parametrize("name", ["served_twice_1_2", "debtor_5_1", "flood", "hoard", "drained"])
def test_the_policy_gives_the_same_service_step_by_step(
    name: str, system: type[Vtc], policy: Callable[[Cost], Policy]
):
    pattern = load(name)
    source = policy(pattern.setting.cost)
    expected = np.array(play(pattern, system).service, float)
    assert np.array_equal(service_by_step(simulated(pattern, source), pattern), expected)


@given(pattern=patterns(), which=st.sampled_from(SAME))
def test_the_policy_gives_the_same_service_on_any_pattern(
    pattern: Pattern, which: tuple[type[Vtc], Callable[[Cost], Policy]]
):
    system, policy = which
    source = policy(pattern.setting.cost)
    model, followed = play(pattern, system), play(pattern, follower(pattern, source))
    assert np.array_equal(
        service_by_step(simulated(pattern, source), pattern), np.array(model.service, float)
    )
    assert followed.service == model.service
    windows: tuple[Objective, ...] = (
        "both",
        "anyone",
        "newcomer",
    )  # the counters, and so the gap, are always VTC's
    assert all(followed.worst[o] == model.worst[o] for o in windows)


def test_another_policy_is_told_apart():
    """Control: the comparison notices the wrong scheduler."""
    for name, policy in (("flood", Fcfs()), ("hoard", VtcPolicy(lift=Lift.NEVER))):
        pattern = load(name)
        expected = np.array(play(pattern).service, float)
        assert not np.array_equal(service_by_step(simulated(pattern, policy), pattern), expected)


def test_charges_of_predicted_tokens_agree_with_the_policy():
    """Requests charged for what is reserved on admission, some of which end early: refunds included."""
    arrivals = [Arrival(k % 7, k % 3, 1 + k % 5, 1 + (3 * k) % 7, 7 + k % 4) for k in range(20)]
    pattern = Pattern(Setting(3, 30, 10, Cost(1, 2)), tuple(sorted(arrivals)))
    policy = VtcPolicy(predictor=policies.Predictor.ANNOUNCED)
    expected = np.array(play(pattern).service, float)
    assert np.array_equal(service_by_step(simulated(pattern, policy), pattern), expected)
    without = np.array(play(dataclasses.replace(pattern, arrivals=tuple(
        a._replace(predicted=0) for a in pattern.arrivals))).service, float)  # fmt: skip
    assert not np.array_equal(without, expected)  # control: the predictions matter here


def test_policies_that_do_not_step_are_refused():
    pattern = Pattern(SMALL, (Arrival(0, 0, 1, 9), Arrival(2, 1, 2, 5)))
    with pytest.raises(ValueError, match="prefills and decodes in batches of their own"):
        follower(pattern, VtcPolicy(packing=Packing.MIXED))
    with pytest.raises(ValueError, match="prefills and decodes in batches of their own"):
        follower(load("outputs_in_turn"), VtcPolicy(admission=PEAK))  # preempts, as its page says it may


# -- the search


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("objective", ["gap", "both"])
def test_search_from_scratch_reaches_nine_tenths(objective: Objective, seed: int):
    """Within a minute; the climb is the same on every machine, so that a slower one can only run out of time."""
    for cost in (Cost(1, 2), Cost(2, 1)):
        setting = Setting(2, 20, 10, cost)
        found = search(objective, setting, enough=0.9, seconds=60, seed=seed)
        assert found.share >= 0.9
        assert found.share == play(found.pattern).worst[objective].share <= 1
        assert found.pattern.setting == setting


def test_search_reaches_the_source_of_a_policy():
    found = search("both", SMALL, policy=VtcPolicy(), enough=0.9)
    assert 0.9 <= found.share <= 1
    broken = search("both", SMALL, policy=Fcfs(), enough=1.01)
    assert broken.share > 1


@pytest.mark.parametrize(
    ("system", "objective"),
    [(FirstComeFirstServed, "both"), (LeastCounterFirst, "gap"), (LeastCounterFirst, "both"), (NoLiftOnEmpty, "gap")],
)  # fmt: skip
def test_search_breaks_what_lacks_a_rule(system: type[Vtc], objective: Objective):
    found = search(objective, SMALL, system, enough=1.01)
    assert found.share > 1
    assert share_of(objective, found.pattern) <= 1


def test_search_is_repeatable_and_counts():
    tiny = Setting(2, 6, 5, Cost(1, 2))
    one, two = (search("gap", tiny, examples=320, seconds=math.inf, enough=math.inf) for _ in range(2))
    assert one.pattern == two.pattern
    assert one.examples == 320
    longer = search("gap", tiny, examples=400, seconds=math.inf, enough=math.inf)
    assert longer.share >= one.share


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("validation.adversary.REPORT", 0.0)
    search("gap", SMALL, examples=3, progress=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("gap: ")


def test_smaller_takes_away_what_is_not_needed():
    found = search("gap", SMALL, examples=100, seconds=math.inf, enough=math.inf)
    padded = dataclasses.replace(
        found, pattern=dataclasses.replace(found.pattern, arrivals=(
            *found.pattern.arrivals, Arrival(found.pattern.steps + 500, 0, 1, 1)))
    )  # fmt: skip
    less = smaller(padded)
    assert len(less.pattern.arrivals) < len(padded.pattern.arrivals)
    assert share_of("gap", less.pattern) >= found.share


# -- the integer program


def by_hand(setting: Setting) -> Fraction:
    """The dearest admission by trying all batches."""
    h, shapes = setting.h, []
    for x in range(1, setting.most_input + 1):
        shapes += [(x, y) for y in range(1, setting.memory - x + 1)]

    def beside(room: int, least: int) -> Fraction:
        best = Fraction(0)
        for k in range(least, len(shapes)):
            x, y = shapes[k]
            if x + y <= room:
                best = max(best, Fraction(h(x, y) - h(x, 0)) + beside(room - x - y, k))
        return best

    return max(Fraction(h(x, y)) + beside(setting.memory - x - y, 0) for x, y in shapes)


OTHER_COSTS = [
    Cost(0, 1),
    Cost(1, 0.5, 0.25, 0, 0.5, 2),
    Cost(1, 0, 0, 1),
    Cost.profiled(),
    Cost(1, 2, 0, 0, 0, 7),
]


@pytest.mark.parametrize("cost", [*COSTS, *OTHER_COSTS], ids=str)
@pytest.mark.parametrize("memory", [3, 5, 8])
def test_the_integer_program_is_the_maximum_and_one_request(memory: int, cost: Cost):
    for longest in range(1, memory):
        setting = Setting(2, memory, longest, cost)
        wave = dearest_wave(setting)
        assert wave.charge == by_hand(setting) == setting.h(*dearest_request(setting))
        slack = max(Fraction(cost.output) - Fraction(cost.input), Fraction(0)) if cost.linear else 0
        assert setting.bound == wave.charge + slack


@pytest.mark.parametrize("cost", [*COSTS, Cost(1, 0.5, 0.25, 0, 0.5, 2)], ids=str)
def test_no_pattern_of_a_tiny_system_passes_the_integer_program(cost: Cost):
    """All patterns of three requests in three steps for L1, of five in one step for T1: the worst is the program's."""
    setting = Setting(2, 3, 2, cost)
    unit = dearest_wave(setting).charge
    kinds = [(u, x, y) for u in (0, 1) for x, y in ((1, 1), (1, 2), (2, 1))]
    worst = Fraction(0)
    for requests in itertools.product(kinds, repeat=3):
        for steps in ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 2), (0, 0, 2), (0, 2, 2)):
            arrivals = tuple(Arrival(k, *r) for k, r in zip(steps, requests, strict=True))
            worst = max(worst, share_of("gap", Pattern(setting, arrivals)))
    assert worst * setting.bound == unit
    if cost == COSTS[0]:
        both = max(
            share_of("both", Pattern(setting, tuple(Arrival(0, *r) for r in ((0, 1, 2), *rest))))
            for rest in itertools.product(kinds, repeat=4)
        )
        assert both * setting.bound == unit


# -- files and bad input


@given(pattern=patterns())
def test_files_bring_back_the_pattern(pattern: Pattern, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("patterns") / "pattern.json"
    weighted = dataclasses.replace(
        pattern, setting=dataclasses.replace(pattern.setting, weights=(1, Fraction(2, 3)))
    )
    weighted.to_file(path)
    assert Pattern.from_file(path) == weighted


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"memory": 1}, "too few"),
        ({"cost": [-1, 2]}, "a cost must not fall"),
        ({"weights": ["0"]}, "must be above 0"),
        ({"weights": ["x"]}, "Fraction"),
        ({"arrivals": []}, "the pattern is empty"),
        ({"arrivals": [[0, 0, 1]]}, "missing 1 required"),
        ({"arrivals": [[0, 0, 1, 1.5]]}, "give whole numbers"),
        ({"arrivals": [[0, 5, 1, 1]]}, "the 2 clients are numbered from 0"),
        ({"arrivals": [[0, 0, 0, 1]]}, "give a prompt of 1 to"),
        ({"arrivals": [[0, 0, 1, 1000]]}, "needs 1001 tokens; the memory holds 1000"),
        ({"arrivals": [[3, 0, 1, 1], [2, 0, 1, 1]]}, "sort by step"),
        ({"arrivals": [[1 << 40, 0, 1, 1]]}, "give steps of at most"),
        ({"arrival": []}, "give a table with the keys"),
    ],
)
def test_bad_files(change: dict[str, Any], complaint: str, tmp_path: Path):
    path = tmp_path / "pattern.json"
    load("one_admission_1_2").to_file(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=complaint) as problem:
        Pattern.from_file(path)
    assert str(path) in str(problem.value)


def test_what_is_no_json_is_named(tmp_path: Path):
    path = tmp_path / "pattern.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        Pattern.from_file(path)


class Refuses(Vtc):
    def fits(self, request: Request) -> bool:
        return False


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: search("best", SMALL), "there is no objective 'best'; give one of gap, both"),  # pyright: ignore
        (lambda: search("gap", Setting(1, 10)), "one client has nobody to be compared with"),
        (lambda: search("gap", SMALL, examples=0), "give at least 1"),
        (lambda: search("gap", SMALL, seconds=math.nan), "a time above 0"),
        (lambda: search("gap", SMALL, Refuses, policy=Fcfs()), "give one of them"),
        (lambda: search("gap", SMALL, Refuses), "Refuses admits nothing in step"),
        (lambda: load("nothing"), "no pattern is called 'nothing'; there are one_admission_1_2"),
        (lambda: play(nobody_can_help(10, Cost(1, 2)), Refuses), "scheduler that serves what waits"),
    ],
)
def test_bad_input(make: Callable[[], Any], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        make()
