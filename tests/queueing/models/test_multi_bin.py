"""Multi-bin batching: uniform lengths by quadrature, any law by enumeration, and the best cuts by trying all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from queueing.models.multi_bin import (
    best_cuts,
    derivation,
    filling_wait,
    least_bins,
    mean_longest,
    service,
    throughput,
)
from queueing.proofs.identity import Identity

histograms = st.dictionaries(st.integers(1, 12), st.integers(1, 5), min_size=1, max_size=7)
uniforms = st.tuples(st.floats(0, 5), st.floats(0.1, 9)).map(lambda pair: (pair[0], sum(pair)))
batches = st.integers(1, 12)


@given(span=uniforms, bins=st.integers(1, 9), batch=batches)
def test_throughput_of_equal_bins(span: tuple[float, float], bins: int, batch: int):
    computed, stated = throughput(*span, bins, batch)
    assert computed == pytest.approx(stated)
    low, high = span
    wrong = batch / (
        (low + high) / 2 + (high - low) / (2 * bins)
    )  # as if the longest were the end of its bin
    assert computed > wrong
    assert throughput(*span, bins + 1, batch).computed >= computed * (1 - 1e-12)
    assert computed <= batch / ((low + high) / 2) * (1 + 1e-12)


@given(span=uniforms, batch=batches, missing=st.floats(0.02, 0.9))
def test_least_bins(span: tuple[float, float], batch: int, missing: float):
    computed, stated = least_bins(*span, batch, missing)
    assert computed == stated


@given(law=histograms, batch=st.integers(1, 3))
def test_mean_longest_by_enumeration(law: dict[int, int], batch: int):
    total = sum(law.values())
    mean = sum(
        (
            max(x) * Fraction(math.prod(law[i] for i in x), total**batch)
            for x in itertools.product(law, repeat=batch)
        ),
        Fraction(0),
    )
    assert mean_longest(law, batch) == mean
    if batch > 1 and len(law) > 1:
        assert mean_longest(law, batch) > mean_longest(law, 1)


@given(law=histograms, bins=st.integers(1, 4), batch=st.integers(1, 5))
def test_best_cuts_by_trying_all(law: dict[int, int], bins: int, batch: int):
    lengths = sorted(law)
    tried = [
        service(law, (*ends, lengths[-1]), batch)
        for k in range(bins)
        for ends in itertools.combinations(lengths[:-1], k)
    ]
    found = best_cuts(law, bins, batch)
    assert found.seconds == min(tried) == service(law, found.ends, batch)
    assert len(found.ends) <= bins


@given(law=histograms, bins=st.integers(1, 4), batch=st.integers(1, 5))
def test_more_bins_never_cost_and_the_mean_is_the_floor(law: dict[int, int], bins: int, batch: int):
    floor = Fraction(sum(x * w for x, w in law.items()), sum(law.values()) * batch)
    seconds = [best_cuts(law, k, batch).seconds for k in (bins, bins + 1, len(law))]
    assert seconds[0] >= seconds[1] >= floor
    assert seconds[2] == floor  # a bin for each length


def test_equal_probability_is_not_best():
    """Many short and few long: the median cuts off the wrong place, and so does the middle of the range."""
    law = {1: 60, 2: 25, 20: 10, 40: 5}
    best = best_cuts(law, 2, 8)
    assert best.ends == (2, 40)
    assert service(law, (1, 40), 8) > best.seconds * Fraction(3, 2)  # at the median
    assert service(law, (20, 40), 8) > best.seconds * Fraction(3, 2)  # at the middle


def test_equal_bins_are_best_for_uniform_lengths():
    law = dict.fromkeys(range(1, 25), 1)
    assert best_cuts(law, 4, 6).ends == (6, 12, 18, 24)
    assert service(law, (5, 12, 18, 24), 6) > best_cuts(law, 4, 6).seconds


@given(rate=st.floats(0.1, 10), bins=st.integers(1, 9), batch=batches)
def test_bins_cost_waiting(rate: float, bins: int, batch: int):
    computed, stated = filling_wait(rate, bins, batch)
    assert computed == pytest.approx(stated)
    assert batch == 1 or computed != pytest.approx(
        bins * batch / (2 * rate)
    )  # a request does not wait for itself


@pytest.mark.parametrize("identity", derivation(), ids=lambda identity: identity.name)
def test_the_algebra(identity: Identity):
    identity.check()
    assert not Identity(
        identity.name, identity.computed + sympy.Symbol("B", positive=True) / 7, identity.stated
    ).holds


@pytest.mark.parametrize(
    ("ask", "complaint"),
    [
        (lambda: throughput(3.0, 3.0, 1, 2), "give lengths 0 <= l < u"),
        (
            lambda: least_bins(0.0, 3.0, 2, 1.0),
            "give the share ε that may be missing, between 0 and 1, not 1.0",
        ),
        (lambda: mean_longest({0: 1}, 2), "give positive weights of lengths >= 1"),
        (lambda: mean_longest({1: 1}, 0), "a batch has at least one request, not 0"),
        (lambda: service({1: 1, 5: 1}, (1, 4), 2), "must rise to the largest length 5, not"),
        (lambda: best_cuts({1: 1}, 0, 2), "give at least one bin, not 0"),
        (lambda: filling_wait(0.0, 1, 1), "give a rate above 0"),
    ],
)
def test_bad_input(ask: Callable[[], object], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        ask()
