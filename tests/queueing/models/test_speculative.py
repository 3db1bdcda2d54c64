"""Speculative decoding: the formulae against chains, recursions and search, and the limits that are not in the rate."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from queueing.models.speculative import (
    Cost,
    Speculation,
    Stage,
    blow_up,
    break_even,
    derivation,
    latency,
    poisson_latency,
    rounds,
    speedup_limit,
    tokens_per_round,
)
from queueing.proofs.identity import Identity

acceptances = st.fractions(0, 1, max_denominator=12)
costs = st.builds(Cost, st.floats(0.01, 10), st.floats(1e-4, 1))
loads = st.floats(0.01, 0.95)

PLAIN = Speculation(400, 0.0, 0, Stage(0.010, 1e-4)).cost
DRAFTED = Speculation(400, 0.8, 4, Stage(0.011, 5e-4), Stage(0.001, 1e-5)).cost


# --- rounds


@given(accept=acceptances, drafted=st.integers(0, 6))
def test_tokens_per_round_by_every_pattern_of_verdicts(accept, drafted):
    computed, stated = tokens_per_round(accept, drafted)
    by_pattern = Fraction(0)
    for verdicts in product((True, False), repeat=drafted):
        accepted = next((j for j, good in enumerate(verdicts) if not good), drafted)
        by_pattern += (accepted + 1) * math.prod(
            (accept if good else 1 - accept for good in verdicts), start=Fraction(1)
        )
    assert computed == stated == by_pattern
    regardless_of_order = 1 + drafted * accept
    assert (stated == regardless_of_order) == (drafted <= 1 or accept in (0, 1))


@given(output=st.integers(1, 40), accept=acceptances, drafted=st.integers(0, 5))
def test_the_number_of_rounds_is_underestimated_by_at_most_the_overshoot(output, accept, drafted):
    computed, stated = rounds(output, accept, drafted)
    assert stated <= computed <= stated + drafted / tokens_per_round(accept, drafted).stated
    assert (computed == stated) == (drafted * accept == 0 or (accept == 1 and output % (drafted + 1) == 0))


@given(accept=st.floats(0, 1), drafted=st.integers(0, 6), batch=st.floats(1, 500))
def test_the_constants_add_up_the_stages(accept, drafted, batch):
    verify, draft, prefill = Stage(0.01, 3e-4), Stage(0.001, 2e-5), Stage(0.2, 1e-3)
    cost = Speculation(100, accept, drafted, verify, draft, prefill).cost
    n = 100 / float(tokens_per_round(accept, drafted).computed)

    def seconds(stage):
        return stage.base + stage.slope * batch

    assert cost.in_batch(batch) == pytest.approx(
        seconds(prefill) + n * (seconds(verify) + drafted * seconds(draft)), rel=1e-9
    )


# --- latency


@given(cost=costs, load=loads)
def test_latency_is_the_limit_of_the_iteration(cost, load):
    rate = load / cost.per_request
    computed, stated = latency(rate, cost)
    assert computed == pytest.approx(stated, rel=1e-9)
    assert stated == pytest.approx(cost.in_batch(rate * stated), rel=1e-9)
    once = cost.in_batch(rate * cost.fixed)  # the batch of requests that take C1 only
    assert computed > once * (1 + 1e-5)


@given(cost=st.builds(Cost, st.floats(0.01, 10), st.floats(0.01, 1)), load=loads)
def test_with_poisson_arrivals_a_request_also_waits_for_itself(cost, load):
    rate = load / cost.per_request
    computed, stated = poisson_latency(rate, cost)
    assert computed == pytest.approx(stated, rel=1e-8)
    assert stated / latency(rate, cost).stated == pytest.approx(1 + cost.per_request / cost.fixed, rel=1e-9)


@pytest.mark.parametrize("cost", [Cost(1.0, 0.5), Cost(0.2, 1.0)])
def test_poisson_latency_is_the_same_for_work_in_two_stages(cost):
    """Erlang-2 work instead of exponential: the stationary law of (requests in stage 1, in stage 2), cut off at 50."""
    rate, most = 0.4 / cost.per_request, 50
    states = [(i, j) for i in range(most + 1) for j in range(most + 1 - i)]
    index = {state: n for n, state in enumerate(states)}
    generator = np.zeros((len(states), len(states)))
    for (i, j), n in index.items():
        pace = 2 / (cost.fixed + cost.per_request * (i + j)) if i + j else 0.0
        for to, speed in (((i + 1, j), rate), ((i - 1, j + 1), i * pace), ((i, j - 1), j * pace)):
            if to in index and speed:
                generator[n, index[to]] += speed
                generator[n, n] -= speed
    generator[:, -1] = 1
    law = np.linalg.solve(generator.T, np.eye(len(states))[-1])
    mean = sum(p * (i + j) for (i, j), p in zip(states, law, strict=True))
    assert mean / rate == pytest.approx(poisson_latency(rate, cost).stated, rel=1e-6)


def test_requests_of_a_single_round_take_longer_than_both_formulae():
    """The batch is closed when it starts, so who arrives waits for its end; mean by the chain of batch sizes."""
    cost, rate, most = Cost(1.0, 0.5), 1.0, 400
    sizes = np.arange(1, most + 1)
    arrivals = stats.poisson.pmf(np.arange(most + 1), (rate * cost.in_batch(sizes))[:, None])
    step = arrivals[:, 1:].copy()
    step[:, 0] += arrivals[:, 0]  # nobody came: the next batch is the next arrival alone
    law = np.linalg.solve([*(step - np.eye(most)).T[:-1].tolist(), [1.0] * most], np.eye(most)[-1])
    n = np.arange(most + 1)
    next_batch = arrivals @ (n * cost.in_batch(n)) + arrivals[:, 0] * cost.in_batch(1)
    waiting = rate * cost.in_batch(sizes) ** 2 / 2
    mean = law @ (waiting + next_batch) / (law @ (arrivals @ n + arrivals[:, 0]))
    assert mean > 1.2 * poisson_latency(rate, cost).stated > latency(rate, cost).stated


@given(cost=costs)
def test_latency_blows_up_at_one_over_the_cost_per_request(cost):
    computed, stated = blow_up(cost)
    assert computed == pytest.approx(stated, rel=1e-12)
    assert latency(stated * (1 - 1e-6), cost).computed > 1e5 * cost.fixed
    with pytest.raises(ValueError, match="grows without bound"):
        latency(stated * (1 + 1e-9), cost)


# --- two ways of decoding


@given(plain=costs, drafted=costs, batch=st.floats(1, 1e9))
def test_the_speedup_of_a_growing_batch_is_the_ratio_of_slopes(plain, drafted, batch):
    computed, stated = speedup_limit(plain, drafted, batch)
    cross = abs(plain.fixed * drafted.per_request - drafted.fixed * plain.per_request)
    off = cross / (drafted.per_request * drafted.in_batch(batch))
    assert abs(computed - stated) == pytest.approx(off, rel=1e-6, abs=1e-9 * stated)


@given(plain=costs, drafted=costs)
def test_in_the_rate_there_is_no_such_limit(plain, drafted):
    edge = min(blow_up(plain).stated, blow_up(drafted).stated)
    assume(abs(plain.per_request / drafted.per_request - 1) > 0.01)
    near, nearer = (
        latency(edge * (1 - gap), plain).stated / latency(edge * (1 - gap), drafted).stated
        for gap in (1e-6, 1e-8)
    )
    if drafted.per_request > plain.per_request:
        assert nearer < near / 50
    else:
        assert nearer > near * 50


def test_equal_slopes_keep_the_speedup_of_an_empty_system():
    for rate in (0.1, 5.0, 9.9):
        ratio = latency(rate, Cost(3.0, 0.1)).stated / latency(rate, Cost(2.0, 0.1)).stated
        assert ratio == pytest.approx(1.5)


@given(plain=costs, drafted=costs)
def test_break_even_parts_the_rates_where_one_is_faster(plain, drafted):
    gain, loss = plain.fixed - drafted.fixed, drafted.per_request - plain.per_request
    assume(abs(gain) > 0.01 * plain.fixed and abs(loss) > 0.01 * plain.per_request)
    if gain * loss <= 0:
        with pytest.raises(ValueError, match="no rate is even"):
            break_even(plain, drafted)
        return
    computed, stated = break_even(plain, drafted)
    assert computed == pytest.approx(stated, rel=1e-7)
    edge = min(blow_up(plain).stated, blow_up(drafted).stated)
    assert 0 < stated < edge
    before, after = stated / 2, (stated + edge) / 2
    faster = [latency(rate, drafted).stated < latency(rate, plain).stated for rate in (before, after)]
    assert faster == [gain > 0, gain < 0]


def test_drafting_helps_when_idle_and_hurts_under_load():
    even = break_even(PLAIN, DRAFTED).stated
    assert latency(even / 10, DRAFTED).stated < latency(even / 10, PLAIN).stated / 2
    assert blow_up(DRAFTED).stated < blow_up(PLAIN).stated
    assert speedup_limit(PLAIN, DRAFTED, 1e9).computed < 1


# --- algebra and bad input


def test_every_identity_holds_and_a_changed_one_fails():
    for identity in derivation():
        identity.check()
        assert not Identity(identity.name, identity.computed, identity.stated * 2).holds
    little, shared = derivation()[:2]
    assert not Identity("the two means are not one", little.computed, shared.computed).holds


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: Cost(0.0, 1.0), "C1 > 0"),
        (lambda: Cost(1.0, -1.0), "C2 >= 0"),
        (lambda: Speculation(0, 0.5, 1, Stage(1, 1)), "m >= 1"),
        (lambda: tokens_per_round(1.5, 2), r"α in \[0, 1\]"),
        (lambda: rounds(3, Fraction(1, 2), -1), "k >= 0"),
        (lambda: latency(0.0, Cost(1, 1)), "above 0"),
        (lambda: poisson_latency(2.0, Cost(1, 1)), "stay below 1"),
        (lambda: blow_up(Cost(1, 0)), "no rate is too high"),
        (lambda: speedup_limit(Cost(1, 1), Cost(1, 0), 5), "without limit"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()
