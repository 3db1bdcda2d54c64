"""Costs of requests: floating-point operations counted token by token, and flaws."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueing.cost import TOKENS, Cost

counts = st.integers(0, 40)


@given(st.integers(1, 10**6), st.integers(1, 5), st.integers(1, 64), counts, counts)
def test_operations_are_those_of_every_token(parameters: int, layers: int, hidden: int, x: int, y: int):
    """Each token multiplies every parameter, and attends to itself and all before, by two products in each layer."""
    counted = sum(2 * parameters + layers * 4 * hidden * n for n in range(1, x + y + 1))
    assert Cost.flops(parameters, layers, hidden)(x, y) == counted
    without_itself = sum(2 * parameters + layers * 4 * hidden * (n - 1) for n in range(1, x + y + 1))
    assert x + y == 0 or Cost.flops(parameters, layers, hidden)(x, y) != without_itself


@given(st.tuples(*[st.floats(0, 9)] * 6).filter(lambda c: any(c[:-1])), counts, counts)
def test_a_cost_never_falls(coefficients: tuple[float, ...], x: int, y: int):
    h = Cost(*coefficients)
    assert h(x + 1, y) >= h(x, y) <= h(x, y + 1)
    assert Cost.parse("/".join(map(str, coefficients))) == h


def test_linear_costs_are_those_of_weighted_tokens():
    assert TOKENS.linear
    assert Cost(5.0, 0.0).linear
    assert not Cost.profiled().linear
    assert not Cost.flops(1e9, 2, 64).linear
    assert not Cost(constant=1.0).linear


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: Cost(1.0, -2.0), "must not fall with tokens: give coefficients of at least 0"),
        (lambda: Cost(math.nan), "must not fall with tokens"),
        (lambda: Cost(0.0, 0.0, constant=1.0), "a cost of nothing but a constant charges no token"),
        (lambda: Cost.parse("1/x"), 'a cost is "profiled" or up to six numbers'),
        (lambda: Cost.flops(-10.0, 1, 1), "must not fall with tokens"),
    ],
)
def test_flaws_are_named(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        wrong()
