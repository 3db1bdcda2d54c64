"""WAIT: the fluid point by elimination and by its path, no point at a load of one, whole thresholds, the invariant."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise, product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from queueing.models.memory import memory_capacity
from queueing.models.wait import (
    RequestType,
    derivation,
    existence,
    fluid_path,
    fluid_point,
    largest_scale,
    load,
    thresholds,
)
from queueing.proofs.identity import Identity
from queueing.proofs.rational import Infeasible, Optimum

rates = st.fractions(Fraction(1, 20), 3, max_denominator=20)
request_types = st.lists(
    st.builds(RequestType, st.integers(1, 6), st.integers(0, 4), rates), min_size=1, max_size=3
)
bases = st.fractions(Fraction(1, 10), 5, max_denominator=10)
loads = st.fractions(Fraction(1, 50), Fraction(19, 20), max_denominator=50)


def at_load(types, rho):
    """The d1 that gives this load."""
    return rho / load(types, 1)


# --- the fluid point


@given(types=request_types, base=bases, rho=loads)
def test_the_fluid_point_solves_every_balance_equation(types, base, rho):
    per_kv = at_load(types, rho)
    computed, stated = fluid_point(types, base, per_kv)
    assert computed == stated
    assert stated.duration == base + per_kv * stated.memory
    wrong = base / (
        1 - per_kv * sum(t.rate * (t.output + 1) * (t.prompt + t.output) for t in types)
    )  # no half
    assert (wrong == stated.duration) == all(t.output == 0 for t in types)


@given(prompt=st.integers(1, 9), output=st.integers(0, 9), rate=rates, base=bases, rho=loads)
def test_one_type_in_the_form_of_the_source(prompt, output, rate, base, rho):
    only = [RequestType(prompt, output, rate)]
    d1 = at_load(only, rho)
    n = rate * base / (1 - rate * d1 * (output + 1) * (prompt + Fraction(output, 2)))
    assert fluid_point(only, base, d1).computed.batch == (n,)


@given(types=request_types, base=bases, rho=st.fractions(Fraction(1, 50), 3, max_denominator=50))
def test_a_point_exists_exactly_below_a_load_of_one(types, base, rho):
    found = existence(types, base, at_load(types, rho))
    found.check()
    assert isinstance(found, Optimum if rho < 1 else Infeasible)
    if rho >= 1:
        with pytest.raises(ValueError, match="below 1"):
            fluid_point(types, base, at_load(types, rho))


# --- the path


@given(types=request_types, base=bases, rho=st.fractions(Fraction(1, 50), Fraction(4, 5), max_denominator=50))
def test_the_path_rises_to_the_point(types, base, rho):
    """The gap falls by the load at least in as many iterations as a request has stages."""
    per_kv = at_load(types, rho)
    tau, stages = fluid_point(types, base, per_kv).stated.duration, max(t.output for t in types) + 1
    path = fluid_path(types, base, per_kv, 6 * stages + 1)
    assert all(a <= b <= tau for a, b in pairwise(path))
    for before, after in zip(path, path[stages:], strict=False):
        assert tau - after <= rho * (tau - before)


@given(types=request_types, base=bases, rho=st.fractions(1, 3, max_denominator=50))
def test_at_a_load_of_one_or_more_the_path_passes_every_level(types, base, rho):
    """By d0 at least in as many iterations as a request has stages."""
    stages = max(t.output for t in types) + 1
    path = fluid_path(types, base, at_load(types, rho), 6 * stages + 1)
    for before, after in zip(path, path[stages:], strict=False):
        assert after >= before + base


@settings(max_examples=25)
@given(
    prompt=st.integers(1, 2),
    output=st.integers(0, 1),
    base=st.integers(1, 2),
    p=st.fractions(Fraction(1, 10), 1, max_denominator=10),
)
def test_the_path_is_the_exact_mean_of_a_random_node(prompt, output, base, p):
    """One arrival a second with probability p, whole seconds; every history of four iterations, in fractions."""
    law: dict[tuple[int, ...], Fraction] = {(0,) * (output + 1): Fraction(1)}  # populations of the stages
    means = []
    for _ in range(4):
        mean, after = Fraction(0), {}
        for state, q in law.items():
            tau = base + sum((prompt + k) * n for k, n in enumerate(state))
            mean += q * tau
            for new in range(tau + 1):
                chance = math.comb(tau, new) * p**new * (1 - p) ** (tau - new)
                to = (new, *state[:-1])
                after[to] = after.get(to, Fraction(0)) + q * chance
        means.append(mean)
        law = after if len(means) < 4 else {}
        if len(law) > 2000:
            break
    assert means == fluid_path([RequestType(prompt, output, p)], base, 1, len(means))


# --- memory


@given(
    types=request_types, base=bases, per_kv=st.fractions(0, 2, max_denominator=20), memory=st.integers(1, 500)
)
def test_the_largest_rates_fill_memory(types, base, per_kv, memory):
    computed, stated = largest_scale(types, base, per_kv, memory)
    assert computed == stated
    grown = [t._replace(rate=t.rate * stated) for t in types]
    assert fluid_point(grown, base, per_kv).stated.memory == memory
    assert load(grown, per_kv) == 1 - base / (base + per_kv * memory) < 1  # memory binds first
    more = [t._replace(rate=t.rate * stated * Fraction(21, 20)) for t in types]
    assert load(more, per_kv) >= 1 or fluid_point(more, base, per_kv).stated.memory > memory


@given(
    types=request_types, base=bases, per_kv=st.fractions(0, 2, max_denominator=20), spare=st.integers(0, 500)
)
def test_it_is_the_capacity_of_memory_at_the_iteration_time_of_a_full_one(types, base, per_kv, spare):
    memory = spare + max(t.prompt + t.output for t in types)
    law: dict[tuple[int, int], Fraction] = {}
    for t in types:
        law[t.prompt, t.output] = law.get((t.prompt, t.output), Fraction(0)) + t.rate
    full = memory_capacity(law, memory, base + per_kv * memory).stated
    assert full == largest_scale(types, base, per_kv, memory).stated * sum(t.rate for t in types)


# --- thresholds


def suffices(n, types, base, per_kv):
    tau = base + per_kv * sum(
        m * sum(t.prompt + k for k in range(t.output + 1)) for m, t in zip(n, types, strict=True)
    )
    return all(m > t.rate * tau for m, t in zip(n, types, strict=True))


@given(
    types=st.lists(
        st.builds(RequestType, st.integers(1, 3), st.integers(0, 2), rates), min_size=1, max_size=2
    ),
    base=bases,
    rho=st.fractions(Fraction(1, 50), Fraction(4, 5), max_denominator=50),
)
def test_thresholds_are_the_least_that_suffice(types, base, rho):
    per_kv = at_load(types, rho)
    least = thresholds(types, base, per_kv)
    assert suffices(least, types, base, per_kv)
    assume(math.prod(least) < 2000)
    for n in product(*(range(m + 1) for m in least)):
        assert n == least or not suffices(n, types, base, per_kv)
    if len(types) == 1:
        assert least == (math.floor(fluid_point(types, base, per_kv).stated.batch[0]) + 1,)


def test_rounding_each_batch_up_is_too_little_for_two_types():
    types, base, per_kv = [RequestType(1, 0, 1), RequestType(6, 0, Fraction(1, 20))], 1, Fraction(2, 5)
    batch = fluid_point(types, base, per_kv).stated.batch
    rounded = tuple(math.floor(n) + 1 for n in batch)
    assert not suffices(rounded, types, base, per_kv)
    assert thresholds(types, base, per_kv) > rounded


def test_whole_thresholds_can_need_many_times_the_memory_of_the_fluid_point():
    types = [RequestType(200, 100, 2), RequestType(1000, 50, Fraction(1, 2))]
    base, per_kv = Fraction(1, 100), Fraction(1, 10**6)
    point, n = fluid_point(types, base, per_kv).stated, thresholds(types, base, per_kv)
    assert max(point.batch) < 1
    assert n == (1, 1)
    whole = sum(m * sum(t.prompt + k for k in range(t.output + 1)) for m, t in zip(n, types, strict=True))
    assert whole > 90 * point.memory


# --- the policy


def wait(types, n, arriving):
    """Queue lengths and tokens held after each iteration of WAIT, `arriving[t][j]` new requests in iteration t."""
    queue, stages = [0] * len(types), [[0] * (t.output + 1) for t in types]
    for new in arriving:
        for j in range(len(types)):
            if queue[j] >= n[j]:
                queue[j] -= n[j]
                stages[j] = [n[j], *stages[j][:-1]]
            queue[j] += new[j]
        tokens = sum(
            (t.prompt + k) * m for t, row in zip(types, stages, strict=True) for k, m in enumerate(row)
        )
        yield list(queue), [list(row) for row in stages], tokens


@given(types=request_types, data=st.data())
def test_each_stage_holds_none_or_all_and_memory_never_exceeds_its_sum(types, data):
    n = data.draw(st.tuples(*(st.integers(1, 4) for _ in types)))
    arriving = data.draw(st.lists(st.tuples(*(st.integers(0, 9) for _ in types)), max_size=40))
    most = sum(m * sum(t.prompt + k for k in range(t.output + 1)) for m, t in zip(n, types, strict=True))
    for _, stages, tokens in wait(types, n, arriving):
        assert all(count in (0, m) for m, row in zip(n, stages, strict=True) for count in row)
        assert tokens <= most


def steadily(types, n, base, per_kv, iterations):
    """Queues under WAIT with arrivals at exactly λ and iterations that all take τ(n)."""
    most = sum(m * sum(t.prompt + k for k in range(t.output + 1)) for m, t in zip(n, types, strict=True))
    tau = base + per_kv * most
    arrived = [[math.floor(t.rate * tau * i) for t in types] for i in range(iterations + 1)]
    arriving = [[b - a for a, b in zip(x, y, strict=True)] for x, y in pairwise(arrived)]
    return [queue for queue, _, _ in wait(types, n, arriving)]


@given(types=request_types, base=bases, rho=loads)
def test_with_steady_arrivals_the_thresholds_keep_queues_below_two_batches(types, base, rho):
    per_kv = at_load(types, rho)
    n = thresholds(types, base, per_kv)
    assert all(
        q < 2 * m for queue in steadily(types, n, base, per_kv, 200) for q, m in zip(queue, n, strict=True)
    )


@given(prompt=st.integers(1, 6), output=st.integers(0, 4), rate=st.integers(2, 9), base=bases, rho=loads)
def test_a_threshold_below_the_fluid_point_lets_the_queue_grow(prompt, output, rate, base, rho):
    types = [RequestType(prompt, output, rate / base)]
    per_kv = at_load(types, rho)
    point = fluid_point(types, base, per_kv).stated.batch[0]
    few = math.ceil(point) - 1
    queues = steadily(types, [few], base, per_kv, 200)
    tau = base + per_kv * few * sum(prompt + k for k in range(output + 1))
    growth = rate / base * tau - few
    assert growth > 0
    assert queues[-1][0] - queues[99][0] >= 100 * growth - 1 - few


def test_without_new_arrivals_the_last_requests_never_complete():
    types = [RequestType(1, 2, Fraction(1))]
    *_, (_, stages, _) = wait(types, [2], [[2], [1], *[[0]] * 100])
    assert stages == [[2, 0, 0]]


# --- algebra and bad input


def test_every_identity_holds_and_a_changed_one_fails():
    for identity in derivation():
        identity.check()
        assert not Identity(identity.name, identity.computed, identity.stated * 2).holds


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: fluid_point([], 1, 1), "at least one type"),
        (lambda: fluid_point([RequestType(1, 1, -1)], 1, 1), "rates >= 0"),
        (lambda: fluid_point([RequestType(1, 1, 1)], 0, 1), "d0 > 0"),
        (lambda: fluid_path([RequestType(1, 1, 1)], 1, -1, 5), "d1 >= 0"),
        (lambda: existence([RequestType(0, 1, 1)], 1, 1), "s >= 1"),
        (lambda: thresholds([RequestType(1, 1, 1)], 1, 1), "below 1"),
        (lambda: largest_scale([RequestType(1, 1, 0)], 1, 1, 5), "rate above 0"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()
