"""Policy iteration on tiny systems against all policies one by one, closed forms, SRPT and Gittins; certificates."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import ChunkOnly, FasterTransformer, Orca, Rad, Sarathi, Vllm
from queueing.models.gittins import gittins_index
from queueing.models.markov import Kind, SlottedSystem, chain
from queueing.models.optimal_policy import Action, Process, Row, State, decision_process, gap, optimal
from queueing.models.stationary import stationary
from queueing.proofs.bellman import BellmanPair

F = Fraction
TILES = tuple(-(-n // 2) for n in range(1, 13))  # two tokens a slot
TWO_OUTPUTS = SlottedSystem((Kind(2, 1, F(1, 6)), Kind(2, 3, F(1, 6))), room=4, slots=TILES)
LIBRARY = {
    "rad": Rad(tile=2, chunk=2, cycle=3),
    "sarathi": Sarathi(token_budget=2),
    "sarathi, two tiles": Sarathi(token_budget=4),
    "vllm": Vllm(max_batched_tokens=4),
    "orca": Orca(),
    "chunk only": ChunkOnly(token_budget=2),
    "faster transformer": FasterTransformer(),
}


def mean_of(process: Process, choice: Callable[[State], Action]) -> Fraction:
    """Exact mean cost per slot of a policy from the empty state, by the stationary law of its own chain."""
    rows: dict[State, dict[State, Fraction]] = {}
    stack: list[State] = [()]
    while stack:
        state = stack.pop()
        if state not in rows:
            rows[state] = dict(process[state][choice(state)].next)
            stack += rows[state]
    law = stationary(_recurrent(rows))
    steps = {state: process[state][choice(state)] for state in law}
    cost = sum((p * steps[state].cost for state, p in law.items()), F(0))
    return cost / sum((p * steps[state].duration for state, p in law.items()), F(0))


def _recurrent(rows: dict[State, dict[State, Fraction]]) -> dict[State, dict[State, Fraction]]:
    """The states reached from a state that everything returns to; exactly one such class, or StopIteration."""
    reach: dict[State, set[State]] = {}
    for start in rows:
        seen, stack = {start}, [start]
        while stack:
            for after in rows[stack.pop()]:
                if after not in seen:
                    seen.add(after)
                    stack.append(after)
        reach[start] = seen
    closed = next(seen for start, seen in reach.items() if all(start in reach[other] for other in seen))
    return {state: row for state, row in rows.items() if state in closed}


tiny = st.builds(
    lambda lengths, p, slots: SlottedSystem((Kind(*lengths[:2], p),), 2, lengths[2], slots),
    st.sampled_from([(1, 1, False), (1, 2, True), (2, 1, True)]),
    st.sampled_from([F(1, 5), F(2, 5)]),
    st.sampled_from([(1,), (1, 1), (1, 2), (2, 2)]),
)


@given(system=tiny)
@settings(max_examples=15)
def test_the_best_of_all_policies_one_by_one(system: SlottedSystem):
    """The exact mean of every stationary policy of a system with room for two: the least is in the enclosure."""
    process = decision_process(system)
    free = [state for state in process if len(process[state]) > 1]
    found: list[Fraction] = []
    for chosen in itertools.product(*(process[state] for state in free)):
        table = dict(zip(free, chosen, strict=True))
        found.append(mean_of(process, lambda s, t=table: t[s] if s in t else next(iter(process[s]))))
    best = optimal(system)
    best.check()
    assert best.lower <= min(found) <= best.upper
    assert max(found) > best.upper or len(set(found)) == 1


@pytest.mark.parametrize("informed", [False, True])
def test_the_policy_found_attains_the_bound(informed: bool):
    best = optimal(TWO_OUTPUTS, informed)
    best.check()
    mean = mean_of(decision_process(TWO_OUTPUTS, informed), lambda state: best.policy[state])  # pyright: ignore
    assert best.lower <= mean <= best.upper
    assert best.upper - best.lower < F(1, 10**10)


@pytest.mark.parametrize("name", LIBRARY)
def test_no_policy_of_the_library_is_better(name: str):
    """Exact means against the optimum that sees no output lengths; none reaches the informed one."""
    blind, informed = optimal(TWO_OUTPUTS), optimal(TWO_OUTPUTS, informed=True)
    found = gap(TWO_OUTPUTS, LIBRARY[name], blind)
    assert found.mean >= blind.lower > informed.upper
    assert 0 <= found.share < F(1, 2)
    assert found.share == found.mean / blind.lower - 1


def test_gaps_are_ordered_as_tiles_say():
    """Half-empty tiles, prompts beside them in a second tile, and a place that waits for others: each costs."""
    best = optimal(TWO_OUTPUTS)
    share = {name: gap(TWO_OUTPUTS, policy, best).share for name, policy in LIBRARY.items()}
    assert share["sarathi"] < F(1, 100)
    assert share["sarathi"] < share["vllm"] < share["orca"]
    assert share["rad"] < share["faster transformer"]


def test_where_a_batch_takes_all_everybody_is_served_at_once():
    """One slot whatever it holds: a request stays for its output's iterations, so that E[N] = Σ p_k·o_k exactly."""
    system = SlottedSystem((Kind(2, 1, F(1, 20)), Kind(1, 3, F(1, 20))), room=4)
    best = optimal(system)
    assert best.lower <= F(1, 20) * (1 + 3) <= best.upper
    assert gap(system, Orca(), best).share < F(1, 10**9)
    assert gap(system, Sarathi(token_budget=1), best).share > F(1, 10)  # control


SINGLE = (Kind(1, 1, F(1, 10)), Kind(1, 4, F(1, 10)))  # a token per slot, one request at a time


def remaining(row: Row) -> int:
    prefilled, decoded, c = row
    return (0, 3)[c] + 1 - decoded if prefilled else (0, 3)[c] + 1


def first_by(process: Process, key: Callable[[Row], Any]) -> Callable[[State], Action]:
    def choice(state: State) -> Action:
        if not state:
            return ()
        served = min(range(len(state)), key=lambda k: key(state[k]))
        wanted = tuple(int(k == served) for k in range(len(state)))
        return next(
            a
            for a in process[state]
            if sorted(zip(state, a, strict=True)) == sorted(zip(state, wanted, strict=True))
        )

    return choice


def test_one_server_that_knows_sizes_serves_the_least_remaining():
    """SRPT is optimal (Schrage 1968): its mean is in the enclosure; the longest first is above it."""
    system = SlottedSystem(SINGLE, room=6, slots=(1,))
    best, process = optimal(system, informed=True), decision_process(system, informed=True)
    srpt, longest = (
        mean_of(process, first_by(process, remaining)),
        mean_of(process, first_by(process, lambda r: -remaining(r))),
    )
    assert best.lower - F(1, 10**4) <= srpt <= best.upper * F(1001, 1000)  # but for who is lost
    assert longest > best.upper * F(11, 10)


def test_one_server_that_knows_the_law_serves_the_highest_index():
    """Gittins is optimal for M/G/1 (cited): its mean is the least one but for the requests that find no room.

    The control serves the lowest index.
    """
    system = SlottedSystem(SINGLE, room=7, slots=(1,))
    best, process = optimal(system), decision_process(system)

    def index(row: Row) -> Fraction:
        return gittins_index({1: 1, 4: 1}, row[1])

    high, low = (
        mean_of(process, first_by(process, lambda r: -index(r))),
        mean_of(process, first_by(process, index)),
    )
    assert best.lower <= high <= best.upper * F(1001, 1000)
    assert low > best.upper * F(103, 100)


@given(p=st.fractions(F(1, 20), F(1, 3), max_denominator=20), more=st.integers(1, 3))
@settings(max_examples=10)
def test_a_larger_table_never_costs(p: Fraction, more: int):
    kinds = (Kind(2, 1, p), Kind(1, 2, p / 2))
    narrow = optimal(SlottedSystem(kinds, 3, slots=TILES[:2]))
    wide = optimal(SlottedSystem(kinds, 3, slots=TILES[: 2 + more]))
    assert wide.lower <= narrow.upper


def test_a_digit_changed_is_refuted():
    best = optimal(SlottedSystem((Kind(2, 2, F(1, 4)),), 3, slots=TILES[:4]))
    best.check()
    small = F(1, 10**6)
    broken: list[BellmanPair] = [
        dataclasses.replace(best, lower=best.lower + small, upper=best.upper + small),
        dataclasses.replace(best, upper=best.lower - small),
    ]
    for state, value in best.values.items():
        broken += [
            dataclasses.replace(best, values={**best.values, state: value + change})
            for change in (F(1, 1000), -F(1, 1000))
        ]
    for state, steps in best.process.items():
        action = best.policy[state]
        cheaper = {**steps, action: steps[action]._replace(cost=steps[action].cost - F(1, 1000))}
        broken.append(dataclasses.replace(best, process={**best.process, state: cheaper}))
    assert [pair for pair in broken if pair.holds] == []
    lost = {**best.process, (): {(): next(iter(best.process[()].values()))._replace(next={(): F(1, 2)})}}
    assert not dataclasses.replace(best, process=lost).holds


@pytest.mark.parametrize(
    "system",
    [
        SlottedSystem((Kind(2, 4, F(1, 2)),), 2, False, (5, 5, 5)),
        SlottedSystem((Kind(1, 1, F(9, 10)),), 2, slots=(2, 2)),
    ],
    ids=["slow batches", "idling pays"],
)
def test_where_policies_have_several_recurrent_classes(system: SlottedSystem):
    """Policy iteration meets singular equations on the first; the enclosure is as narrow, and no policy below it."""
    best = optimal(system)
    best.check()
    assert best.upper - best.lower < F(1, 10**6)
    assert gap(system, Sarathi(token_budget=1), best).share >= 0


def test_no_one_least_cost_where_the_start_is_never_forgotten():
    """An arrival in every slot and one token served in each: who starts with two requests has two for ever."""
    with pytest.raises(ValueError, match="depends on the state at the start"):
        optimal(SlottedSystem((Kind(1, 1, F(1)),), 2, slots=(1,)))


def test_the_least_number_is_not_the_least_response_time_where_many_are_lost():
    """Counterexample to Little's law with losses: the optimum idles, serves fewer, and those more slowly, than Orca."""
    system = SlottedSystem((Kind(1, 1, F(9, 10)),), 2, slots=(2, 2))
    best = optimal(system)
    assert any(not any(action) for state, action in best.policy.items() if state)
    assert gap(system, Orca(), best).share > F(1, 50)


def test_numbers_that_are_no_fractions_prove_nothing():
    best = optimal(SlottedSystem((Kind(1, 1, F(1, 4)),), 2))
    floats = dataclasses.replace(best, values=dict.fromkeys(best.values, 1e17))
    assert not floats.holds
    assert not dataclasses.replace(best, process={}, values={}, policy={}).holds
    assert not dataclasses.replace(best, values={}).holds
    with pytest.raises(ValueError, match="must be fractions"):
        SlottedSystem((Kind(1, 1, 0.3),), 2)  # pyright: ignore[reportArgumentType]


def test_a_gap_is_to_the_optimum_of_the_same_system():
    best = optimal(TWO_OUTPUTS)
    with pytest.raises(ValueError, match="of another system"):
        gap(dataclasses.replace(TWO_OUTPUTS, room=3), Sarathi(token_budget=2), best)
    nobody = SlottedSystem((Kind(1, 1, F(0)),), 2)
    with pytest.raises(ValueError, match="nobody arrives"):
        gap(nobody, Orca(), optimal(nobody))


def test_bad_input_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="more than 3 states are reached; give less room or fewer kinds"):
        optimal(TWO_OUTPUTS, most=3)
    with pytest.raises(ValueError, match=r"a batch has \d tokens where 2 are allowed"):
        chain(dataclasses.replace(TWO_OUTPUTS, slots=TILES[:2]), Sarathi(token_budget=4))
    with pytest.raises(ValueError, match="at least one slot"):
        SlottedSystem(SINGLE, 3, slots=(1, 0))
