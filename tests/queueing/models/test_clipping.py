"""Clipping: the wait by a chain, the price of a token by differences, the best clip by trying all."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from queueing.models.clipping import Clipped, derivation
from queueing.proofs.identity import Identity

histograms = st.dictionaries(st.integers(1, 25), st.integers(1, 9), min_size=1, max_size=6)
shares = st.fractions(Fraction(1, 20), Fraction(9, 10), max_denominator=20)
costs = st.fractions(0, 3, max_denominator=4)
worths = st.fractions(0, 40, max_denominator=6)


def loaded(law: dict[int, int], load: Fraction, base: Fraction, each: Fraction = Fraction(1)) -> Clipped:
    """A node whose load without a clip is `load`."""
    service = Clipped(law, Fraction(1), each, base).load(max(law))
    return Clipped(law, load / service, each, base)


@st.composite
def nodes(draw: st.DrawFn, most: Fraction = Fraction(9, 10)) -> Clipped:
    load = draw(st.fractions(Fraction(1, 20), most, max_denominator=20))
    return loaded(draw(histograms), load, draw(costs), draw(st.sampled_from([Fraction(1), Fraction(1, 50)])))


# --- the wait


@settings(max_examples=25)
@given(nodes(), st.integers(1, 25))
def test_the_wait_by_the_chain_of_departures(node: Clipped, clip: int):
    computed, stated = node.waiting(clip)
    assert computed == pytest.approx(stated, rel=1e-7)
    assert node.wait(clip) <= node.wait(clip + 1) <= node.wait(node.longest)


def test_the_mean_alone_does_not_give_the_wait():
    node = loaded({1: 9, 100: 1}, Fraction(1, 2), Fraction(0))
    computed, stated = node.waiting(100)
    as_if_equal = float(node.rate * node.tokens(100) ** 2 / (2 * (1 - node.load(100))))
    assert computed == pytest.approx(stated, rel=1e-7)
    assert computed > 8 * as_if_equal
    assert node.wait(10) < node.wait(100) / 40  # nine in ten are not touched
    assert node.tokens(10) == Fraction(19, 10)
    assert node.complete(10) == Fraction(9, 10)


# --- the price


@given(nodes(), st.integers(1, 24))
def test_the_price_is_what_a_token_adds_and_it_grows(node: Clipped, clip: int):
    assume(clip < node.longest)
    computed, stated = node.price(clip)
    assert computed == stated
    assert stated > node.rate * node.each * (node.each * clip + node.wait(clip)) / (1 - node.load(clip))
    if clip + 1 < node.longest:
        assert node.price(clip + 1).computed > computed


# --- the best clip


@given(nodes(most=Fraction(3, 2)), worths)
def test_the_first_order_condition_finds_the_best_clip_for_tokens(node: Clipped, worth: Fraction):
    assume(node.load(1) < 1)
    computed, stated = node.best_clip(worth)
    assert computed == stated
    values = [node.value(n, worth) for n in range(1, node.longest + 1) if node.load(n) < 1]
    rises = [b > a for a, b in pairwise(values)]
    assert rises == sorted(rises, reverse=True)  # up, then down
    assert node.best_clip(worth + 1).stated >= stated


def test_a_price_at_the_wrong_load_misses_the_best_clip():
    """With 1 - ρ_n in place of 1 - ρ_{n+1} tokens look too cheap."""
    node = loaded(dict.fromkeys(range(1, 21), 1), Fraction(9, 10), Fraction(1))
    missed = 0
    for tenths in range(1, 100):
        worth = Fraction(tenths, 10)
        wrong = next(
            (
                n
                for n in range(1, 20)
                if node.rate * (Fraction(3, 2) + n + node.wait(n)) / (1 - node.load(n)) >= worth
            ),
            20,
        )
        missed += wrong != node.best_clip(worth).computed
    assert missed >= 3


def hazards(shares: list[Fraction]) -> dict[int, int | Fraction]:
    """The law whose share of those longer than n that end at n + 1 is shares[n], and 1 after the last."""
    law: dict[int, int | Fraction] = {}
    left = Fraction(1)
    for n, h in enumerate(shares, start=1):
        law[n], left = left * h, left * (1 - h)
    law[len(shares) + 1] = left
    return law


@given(
    st.lists(st.fractions(Fraction(1, 10), Fraction(9, 10), max_denominator=10), min_size=2, max_size=8),
    shares,
    worths,
)
def test_for_answers_it_is_enough_where_the_hazard_falls(
    falling: list[Fraction], load: Fraction, worth: Fraction
):
    law = hazards(sorted(falling, reverse=True))
    node = Clipped(law, load / Clipped(law, Fraction(1), Fraction(1)).load(max(law)), Fraction(1))
    computed, stated = node.best_clip(worth, of="answer")
    # the last length has hazard 1, a rise: up to there both agree
    if computed < node.longest:
        assert computed == stated
    else:
        assert stated <= computed


def test_for_answers_it_stops_too_early_before_a_second_hump():
    node = loaded({2: 1, 12: 9}, Fraction(1, 2), Fraction(0))
    computed, stated = node.best_clip(Fraction(100), of="answer")
    assert (stated, computed) == (2, 12)  # nobody ends at 3, ..., 11
    assert node.value(12, Fraction(100), of="answer") > node.value(2, Fraction(100), of="answer")
    tokens = node.best_clip(Fraction(100))
    assert tokens.computed == tokens.stated


def test_a_clip_makes_an_overloaded_node_stable():
    node = Clipped({1: 9, 1000: 1}, Fraction(1, 50), Fraction(1))
    assert node.load(1000) > 1 > node.load(400)
    best = node.best_clip(Fraction(10**6)).stated
    assert node.load(best) < 1 <= node.load(best + 1)  # however much a token is worth
    with pytest.raises(ValueError, match="ρ < 1"):
        node.wait(1000)


# --- algebra and bad input


def test_every_identity_holds_and_a_changed_one_fails():
    for identity in derivation():
        identity.check()
        assert not Identity(identity.name, identity.computed, identity.stated + 1).holds


ONE = Fraction(1)
SMALL = Clipped({1: 1, 5: 1}, ONE / 9, ONE)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: Clipped({}, ONE, ONE), "positive weights"),
        (lambda: Clipped({0: 1}, ONE, ONE), "lengths >= 1"),
        (lambda: Clipped({1: -1}, ONE, ONE), "positive weights"),
        (lambda: Clipped({1: 1}, Fraction(0), ONE), "λ > 0"),
        (lambda: Clipped({1: 1}, ONE, ONE, -ONE), "a >= 0"),
        (lambda: SMALL.wait(0), "at least 1 token"),
        (lambda: SMALL.price(5), "below 5"),
        (lambda: SMALL.best_clip(-ONE), "at least 0 seconds"),
        (lambda: Clipped({1: 1}, ONE, ONE).best_clip(ONE), "smaller one"),
        (lambda: loaded({1: 1, 5: 1}, Fraction(9999, 10000), Fraction(0)).waiting(5), "which is exact"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(wrong: Callable[[], object], says: str):
    with pytest.raises(ValueError, match=says):
        wrong()
