"""The congestion map: cycles replayed, the worst loss, the modes of the equilibrium, and the gcd of the lengths."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from queueing.models.congestion import (
    SaturatedNode,
    derivation,
    find_cycle,
    fluid_step,
    gcd_test,
    stability,
    survival_polynomial,
    worst_loss,
)
from queueing.proofs.identity import Identity

nodes = st.builds(
    lambda prompt, length, room: SaturatedNode(prompt + length + room, prompt, length),
    st.integers(0, 6),
    st.integers(1, 6),
    st.integers(0, 200),
)


@st.composite
def starts(draw):
    """A node with a state that fits."""
    node, state = draw(nodes), []
    room = node.memory
    for k in range(1, node.length + 1):
        state.append(draw(st.integers(0, room // (node.prompt + k))))
        room -= state[-1] * (node.prompt + k)
    return node, tuple(state)


laws = st.dictionaries(st.integers(1, 12), st.integers(1, 9), min_size=1, max_size=3)


# --- one length, in whole numbers


def one_by_one(node, state):
    """The map request by request: a list of ages, oldest first."""
    running = deque(k for k in range(node.length, 0, -1) for _ in range(state[k - 1]))
    while running and running[0] == node.length:
        running.popleft()
    running = deque(k + 1 for k in running)
    while sum(node.prompt + k for k in running) > node.memory:
        running.pop()
    while sum(node.prompt + k for k in running) + node.prompt + 1 <= node.memory:
        running.append(1)
    return tuple(running.count(k) for k in range(1, node.length + 1))


@given(start=starts())
def test_a_step_is_that_of_requests_one_by_one(start):
    node, state = start
    assert node.step(state) == one_by_one(node, state)


@given(start=starts(), where=st.integers(0, 5), at=st.integers(0, 5), by=st.sampled_from([-1, 1]))
def test_the_cycle_checks_and_a_changed_number_refutes_it(start, where, at, by):
    node, state = start
    cycle = find_cycle(node, state)
    cycle.check()
    assert len(set(cycle.states)) == len(cycle.states)
    t, k = where % len(cycle.states), at % node.length
    wrong = list(cycle.states[t])
    wrong[k] += by
    states = (*cycle.states[:t], tuple(wrong), *cycle.states[t + 1 :])
    assert not replace(cycle, states=states).holds
    assert not replace(cycle, completed=cycle.completed + by).holds


def test_evicting_the_oldest_or_for_nothing_is_refuted():
    node = SaturatedNode(60, 0, 3)
    cycle = find_cycle(node, (10, 10, 10))
    assert cycle.states == ((10, 10, 10),)
    for state, after in (((30, 0, 10), (1, 28, 1)), ((10, 10, 10), (12, 9, 10)), ((10, 10, 10), (60, 0, 0))):
        assert not replace(cycle, states=(state, after), completed=state[-1] + after[-1]).holds


@given(start=starts())
def test_every_window_completes_its_least_and_no_cycle_beats_the_equilibrium(start):
    node, state = start
    state = node.step(state)  # full from here on
    left = []
    for _ in range(4 * node.length):
        left.append(state[-1])
        state = node.step(state)
    windows = [sum(left[i : i + node.length]) for i in range(3 * node.length)]
    assert min(windows) >= node.least_completed
    cycle = find_cycle(node, state)
    assert Fraction(node.least_completed, node.length) <= cycle.throughput <= node.equilibrium


@given(prompt=st.integers(0, 6), length=st.integers(1, 6), times=st.integers(1, 3))
def test_the_synchronised_cycle_loses_what_is_stated_and_meets_the_least(prompt, length, times):
    node = SaturatedNode(times * math.lcm(*(prompt + k for k in range(1, length + 1))), prompt, length)
    computed, stated = worst_loss(node)
    assert computed == stated < Fraction(1, 2)
    assert find_cycle(node).completed * length == node.least_completed * len(find_cycle(node).states)
    assert (computed == Fraction(length - 1, 2 * length)) == (
        prompt == 0 or length == 1
    )  # without the prompt


def test_rounding_to_whole_requests_moves_the_loss_a_little():
    for memory in (10**4 + 7, 10**6 + 7):
        computed, stated = worst_loss(SaturatedNode(memory, 3, 5))
        assert computed != stated
        assert abs(computed - stated) < Fraction(40, memory)


def test_whole_requests_know_more_than_one_cycle():
    """The fluid map forgets almost every start; the map of whole requests can stop at the equilibrium, or between."""
    node = SaturatedNode(36, 2, 4)
    starts = ((0, 0, 0, 0), (0, 0, 5, 0), (2, 2, 2, 2))
    losses = [1 - find_cycle(node, start).throughput / node.equilibrium for start in starts]
    assert losses == [worst_loss(node).stated, Fraction(1, 8), 0]


# --- the fluid map


@pytest.mark.parametrize(("prompt", "length"), [(0, 2), (0, 3), (1, 4), (3, 5), (2, 6)])
def test_random_fluid_starts_end_in_the_worst_cycle(prompt, length):
    """Ten random starts each; the exceptions are a null set, so the error probability is that of a rare slow start."""
    rng, coefficients = np.random.default_rng(7), [float(prompt + k) for k in range(1, length + 1)]
    node = SaturatedNode(10**6, prompt, length)
    for _ in range(10):
        cohorts = list(rng.random(length))
        total = sum(c * y for c, y in zip(coefficients, cohorts, strict=True))
        cohorts = [y / total for y in cohorts]
        for _ in range(600):
            cohorts = fluid_step(coefficients, 1.0, cohorts)
        done = 0.0
        for _ in range(length):
            done += cohorts[-1]
            cohorts = fluid_step(coefficients, 1.0, cohorts)
        loss = 1 - done / length * sum(coefficients)
        assert loss == pytest.approx(float(worst_loss(node).stated), abs=1e-9)


@given(law=laws, prompt=st.integers(0, 9), deviation=st.lists(st.integers(-9, 0), min_size=12, max_size=12))
def test_the_survival_polynomial_is_the_recursion_of_the_deviations(law, prompt, deviation):
    c = survival_polynomial(law, prompt)
    n = 1 / sum(c)
    memory = Fraction(1)
    away = [n * Fraction(d, 10**4) for d in deviation[: len(c)]]
    # fewer running requests than in equilibrium leave more room, so that nothing is evicted
    after = fluid_step(c, memory, [n + y for y in away])
    moved = [y - n for y in after]
    assert moved[1:] == away[:-1]
    assert sum(k * y for k, y in zip(c, moved, strict=True)) == 0


def throughput(law, prompt, steps=4000):
    """Share of the equilibrium's throughput that the fluid map keeps, from near the equilibrium."""
    c = [float(v) for v in survival_polynomial(law, prompt)]
    total = sum(law.values())
    rng = np.random.default_rng(3)
    cohorts = [(1 + 1e-3 * rng.standard_normal()) / sum(c) for _ in c]
    done = 0.0
    for t in range(2 * steps):
        if t >= steps:
            done += sum(w * cohorts[d - 1] for d, w in law.items()) / total
        cohorts = fluid_step(c, 1.0, cohorts)
    return done / steps * sum(c)


def test_coprime_lengths_keep_the_throughput_and_others_lose_some():
    assert stability({2: 1, 3: 1}, 10).stable
    assert throughput({2: 1, 3: 1}, 10) == pytest.approx(1, abs=1e-9)
    assert not stability({2: 1, 4: 1}, 10).stable
    assert throughput({2: 1, 4: 1}, 10) < 0.97
    assert not stability({2: 1, 3: 1}, 0).stable  # coprime, but the prompt does not dominate
    assert throughput({2: 1, 3: 1}, 0) < 0.97


# --- modes


@given(prompt=st.integers(0, 30), length=st.integers(1, 12))
def test_one_length_repels_in_every_direction(prompt, length):
    modes = stability({length: 1}, prompt)
    modes.check()
    assert (modes.inside, modes.outside) == (0, length - 1)
    slowest = Fraction(prompt + length, prompt + length - 1) if length > 1 else Fraction(1)
    if length > 2:  # Eneström-Kakeya: no zero below the least ratio of neighbours
        assert stability({length: 1}, prompt, slowest - Fraction(1, 10**6)).inside == 0


@given(law=laws)
def test_the_zeros_on_the_circle_are_those_of_the_gcd(law):
    found = gcd_test(law)
    found.identity.check()
    found.rest.check()
    assert found.rest.stable
    assert found.stable == (math.gcd(*law) == 1)
    c = [float(v) for v in survival_polynomial(law, None)]
    moduli = np.abs(np.roots(c))
    assert np.count_nonzero(moduli > 1 - 1e-7) == found.divisor - 1 == len(c) - 1 - found.rest.inside
    assert not Identity("changed", found.identity.computed + 1, found.identity.stated).holds


@given(law=laws)
def test_for_large_prompts_the_gcd_decides(law):
    g, prompt = math.gcd(*law), 10**5
    at_one = stability(law, prompt)
    at_one.check()
    assert at_one.stable == (g == 1)
    assert at_one.outside == g - 1
    # the modes that leave the circle do so by the factor 1 + 1/s, in first order
    assert stability(law, prompt, 1 + Fraction(9, 10 * prompt)).outside == g - 1
    assert stability(law, prompt, 1 + Fraction(11, 10 * prompt)).stable


@given(law=laws, prompt=st.integers(0, 60))
def test_the_count_of_growing_modes_is_that_of_the_float_zeros(law, prompt):
    moduli = np.abs(np.roots([float(v) for v in survival_polynomial(law, prompt)]))
    assume(not np.any(np.abs(moduli - 1) < 1e-6))
    try:
        modes = stability(law, prompt)
    except ValueError:
        assume(False)
    assert modes.outside == np.count_nonzero(moduli > 1)


@given(share=st.fractions(Fraction(1, 40), Fraction(39, 40), max_denominator=40), prompt=st.integers(0, 50))
def test_the_lengths_two_and_three_by_hand(share, prompt):
    """Jury's conditions of (s + 1)·z² + (s + 2)·z + (s + 3)·p are  1/(s + 3) < p < (s + 1)/(s + 3)."""
    law = {2: 1 - share, 3: share}
    if share in (Fraction(1, prompt + 3), Fraction(prompt + 1, prompt + 3)):
        with pytest.raises(ValueError, match="another radius"):
            stability(law, prompt)
    else:
        assert stability(law, prompt).stable == (
            Fraction(1, prompt + 3) < share < Fraction(prompt + 1, prompt + 3)
        )


# --- algebra and bad input


def test_every_identity_holds_and_a_changed_one_fails():
    for identity in derivation():
        identity.check()
        assert not Identity(identity.name, identity.computed, 2 * identity.stated).holds
    names = [identity.name for identity in derivation()]
    assert all(a != b for a, b in pairwise(sorted(names)))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: SaturatedNode(5, 3, 3), "room for s"),
        (lambda: find_cycle(SaturatedNode(60, 0, 3), (1, 2)), "give 3 counts"),
        (lambda: find_cycle(SaturatedNode(60, 0, 3), (0, 0, 21)), "fit into 60"),
        (lambda: survival_polynomial({}, 1), "positive weights"),
        (lambda: survival_polynomial({0: 1}, 1), "lengths >= 1"),
        (lambda: survival_polynomial({2: 1}, -1), "s >= 0"),
        (lambda: gcd_test({2: -1}), "positive weights"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()
