"""Static batching: the longest of a batch, seconds by enumeration, rates that grow and rates that fall."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queueing.models.multi_bin import mean_longest
from queueing.models.static_batching import (
    BatchCosts,
    best_batch,
    derivation,
    longest_bound,
    longest_geometric,
    longest_uniform,
    rate,
    rate_limit,
    seconds,
)
from queueing.proofs.identity import Identity

histograms = st.dictionaries(st.integers(1, 9), st.integers(1, 5), min_size=1, max_size=4)
cost = st.fractions(0, 3, max_denominator=8)
costs = st.builds(BatchCosts, cost, cost, cost, st.fractions(Fraction(1, 8), 2, max_denominator=8))
batches = st.integers(1, 8)
TAIL, TOKENS = {1: 9, 100: 1}, BatchCosts(Fraction(1), Fraction(0), Fraction(1, 20), Fraction(1, 20))


# --- the longest


@given(most=st.integers(1, 40), batch=st.integers(1, 20))
def test_the_longest_of_uniform_lengths(most: int, batch: int):
    computed, stated = longest_uniform(most, batch)
    assert computed == stated == mean_longest(dict.fromkeys(range(1, most + 1), 1), batch)
    if most > 1:
        assert stated != Fraction(most * batch, batch + 1)  # that of a continuous law
    assert abs(stated - Fraction(most * batch, batch + 1) - Fraction(1, 2)) <= Fraction(batch, 2 * most)


@given(stop=st.fractions(Fraction(1, 10), 1, max_denominator=10), batch=st.integers(1, 12))
def test_the_longest_of_geometric_lengths(stop: Fraction, batch: int):
    computed, stated = longest_geometric(stop, batch)
    assert computed == stated
    q = float(1 - stop)
    tail = sum(1 - (1 - q**t) ** batch for t in range(600))
    assert float(stated) == pytest.approx(tail, rel=1e-9)
    memoryless_in_continuous_time = sum(1 / j for j in range(1, batch + 1)) / float(stop)
    assert batch == 1 or stop == 1 or float(stated) < memoryless_in_continuous_time


@given(law=histograms, batch=batches)
def test_mean_and_deviation_bound_the_longest(law: dict[int, int], batch: int):
    computed, stated = longest_bound(law, batch)
    assert computed <= stated + 1e-12


def test_the_bound_is_attained_for_some_law_and_a_lower_one_is_violated():
    """Lengths N·u^{B-1} at evenly spaced u; at B = 2 they are uniform."""
    for batch in (2, 3, 5):
        law: dict[int, int] = {}
        for i in range(4000):
            length = 1 + round(2000 * ((i + 0.5) / 4000) ** (batch - 1))
            law[length] = law.get(length, 0) + 1
        computed, stated = longest_bound(law, batch)
        assert stated * (1 - 1e-3) < computed <= stated
        mean = sum(s * w for s, w in law.items()) / 4000
        assert computed > mean + 0.98 * (stated - mean)


# --- seconds


@settings(max_examples=40)
@given(law=histograms, batch=st.integers(1, 4), price=costs, elastic=st.booleans())
def test_seconds_by_enumeration_of_batches(law: dict[int, int], batch: int, price: BatchCosts, elastic: bool):
    total, mean = sum(law.values()), Fraction(0)
    for drawn in itertools.product(law, repeat=batch):
        steps = [sum(s > t for s in drawn) if elastic else batch for t in range(max(drawn))]
        took = price.prefill + price.per_prompt * batch + sum(price.step + price.per_token * r for r in steps)
        mean += took * Fraction(math.prod(law[s] for s in drawn), total**batch)
    computed, stated = seconds(law, batch, price, elastic)
    assert computed == stated == mean
    if batch > 1 and len(law) > 1 and not elastic:
        per_step = price.step + price.per_token * batch
        as_if_mean = price.prefill + price.per_prompt * batch + per_step * mean_longest(law, 1)
        assert stated > as_if_mean


@given(law=histograms, batch=batches, price=costs)
def test_dropping_out_saves_padding_alone(law: dict[int, int], batch: int, price: BatchCosts):
    saved = seconds(law, batch, price).stated - seconds(law, batch, price, elastic=True).stated
    assert saved == price.per_token * batch * (mean_longest(law, batch) - mean_longest(law, 1))
    assert rate(law, batch, price) <= rate(law, batch, price, elastic=True)


# --- rates


@given(law=histograms, batch=batches, price=costs)
def test_elastic_rates_grow_to_their_limit(law: dict[int, int], batch: int, price: BatchCosts):
    now, more = rate(law, batch, price, elastic=True), rate(law, batch + 1, price, elastic=True)
    limit = rate_limit(law, price, elastic=True)
    assert now <= more <= limit
    assert best_batch(law, price, batch, elastic=True) == batch or price.prefill == price.step == 0
    many = 10**4
    paid_once = price.prefill + price.step * max(law)
    assert 1 / rate(law, many, price, elastic=True) - 1 / limit <= paid_once / many


def test_padded_rates_have_a_best_batch_and_rise_once_more_at_the_end():
    rates = [rate(TAIL, b, TOKENS) for b in range(1, 200)]
    limit = rate_limit(TAIL, TOKENS)
    assert best_batch(TAIL, TOKENS, 199) == 2
    assert rates[1] > Fraction(5, 2) * limit
    assert min(rates) < limit  # from below: the cost of a batch is still shared
    turns = [b for b in range(2, 199) if (rates[b - 1] - rates[b - 2]) * (rates[b] - rates[b - 1]) < 0]
    assert turns == [2, 52]


def test_all_that_waits_is_too_much_where_two_at_a_time_are_not():
    """Next batches are larger in the mean than any large one, by the exact drift; dropping out or a clip mends it."""
    arrivals = Fraction(2, 5)
    assert rate_limit(TAIL, TOKENS) < arrivals < rate(TAIL, 2, TOKENS)
    following = {b: arrivals * seconds(TAIL, b, TOKENS).stated for b in (8, 16, 32, 64)}
    assert all(mean > Fraction(5, 4) * b for b, mean in following.items())
    assert arrivals < rate_limit(TAIL, TOKENS, elastic=True)
    assert all(arrivals * seconds(TAIL, b, TOKENS, elastic=True).stated < b for b in (8, 16, 32, 64))
    clipped = {1: 9, 40: 1}
    assert arrivals < rate_limit(clipped, TOKENS)


@given(law=histograms, price=costs, share=st.fractions(Fraction(1, 10), Fraction(9, 10), max_denominator=10))
def test_below_the_limit_large_batches_are_followed_by_smaller_ones(
    law: dict[int, int], price: BatchCosts, share: Fraction
):
    for elastic in (False, True):
        arrivals = share * rate_limit(law, price, elastic)
        once = price.prefill + price.step * max(law)
        large = math.ceil(arrivals * once / (1 - share)) + 1
        took = large / rate(law, large, price, elastic)
        assert arrivals * took < large


# --- algebra and bad input


def test_every_identity_holds_and_a_changed_one_fails():
    for identity in derivation():
        identity.check()
        assert not Identity(identity.name, identity.computed, identity.stated + 1).holds


NONE = BatchCosts(*[Fraction(0)] * 4)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: longest_uniform(0, 1), "at least 1"),
        (lambda: longest_geometric(Fraction(0), 2), r"in \(0, 1\]"),
        (lambda: longest_geometric(Fraction(1, 2), 0), "at least 1"),
        (lambda: longest_bound({}, 2), "positive weights"),
        (lambda: seconds({1: 1}, 0, TOKENS), "at least one request"),
        (lambda: seconds({1: 1}, 1, NONE), "not all 0"),
        (lambda: rate({1: 1}, 1, NONE), "not all 0"),
        (lambda: rate_limit({1: 1}, NONE._replace(step=Fraction(1))), "per prompt or per token"),
        (lambda: best_batch({1: 1}, TOKENS, 0), "at least 1"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(wrong: Callable[[], object], says: str):
    with pytest.raises(ValueError, match=says):
        wrong()
