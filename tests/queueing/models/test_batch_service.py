"""Batch service: chain against series, bounds on both sides, where they are sharp, and a path simulated directly."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queueing.models.batch_service import BatchService, derivation
from queueing.proofs.identity import Identity

NEAR = 1e-8  # the chain leaves out at most 1e-9 of E[B²]


@st.composite
def nodes(draw, most=0.9):
    """Loads up to `most` and λτ0 up to 6, in seconds of any scale."""
    rho, x = draw(st.floats(0.0, most)), draw(st.floats(0.0, 6.0))
    scale = draw(st.floats(1e-3, 10.0))
    if rho + x < 1e-3:
        x = 1e-3
    return BatchService(1 / scale, rho * scale, x * scale)


@settings(max_examples=60)
@given(nodes())
def test_the_series_and_the_formula_agree_with_the_chain(node):
    for pair in (node.idle(), node.mean_batch(), node.mean_sojourn()):
        assert pair.computed == pytest.approx(pair.stated, rel=NEAR)


@settings(max_examples=60)
@given(nodes())
def test_bounds_hold_on_both_sides_and_one_is_sharper(node):
    computed, stated = node.bound()
    low, high = node.enclosure()
    slack = 1 + NEAR
    assert computed <= stated * slack
    assert low <= computed * slack
    assert computed <= high * slack
    assert high <= stated * slack


@given(nodes(most=0.99))
def test_which_bound_is_the_smaller(node):
    one_alone = node.rate * (node.each + node.base)
    if node.base > 0 and abs(one_alone - 1) > 1e-6:
        assert (node.low_load_bound < node.high_load_bound * (1 - 1e-13)) == (one_alone < 1) or math.isclose(
            node.low_load_bound, node.high_load_bound
        )


def test_the_quoted_instance_and_three_lowered_bounds_that_are_violated():
    node = BatchService(0.8, 1.0, 2.0)
    computed, stated = node.bound()
    assert (round(computed, 5), round(stated, 5)) == (18.88189, 18.88889)
    rho = node.load
    lowered = 1.49 * node.base / (1 - rho) + node.each / 2 * (rho + 2) / (1 - rho**2)  # 1.49, not 3/2
    assert computed > lowered
    assert computed > 1.5 * node.base / (1 - rho) + node.each / 2 * (rho + 1.9) / (1 - rho**2)
    slow = BatchService(0.05, 1.0, 2.0)
    computed, stated = slow.bound()
    x, rho = 0.1, 0.05
    without = (slow.each + slow.base) / (2 * (1 - rho)) * (1 + 2 * x + (1 - 2 * x) / (1 + rho))
    assert without < computed <= stated


@given(rate=st.floats(0.01, 0.95))
def test_no_fixed_cost_makes_the_bound_exact(rate):
    computed, stated = BatchService(rate, 1.0, 0.0).bound()
    assert computed == pytest.approx(stated, rel=NEAR)


def test_limits_of_light_and_heavy_traffic():
    light = [BatchService(rate, 1.0, 2.0) for rate in (0.02, 0.01, 0.005)]
    gaps = [node.low_load_bound - node.sojourn_at(node.idle_share) for node in light]
    assert all(after < before / 7 for before, after in pairwise(gaps))  # of third order
    assert light[-1].mean_sojourn().stated == pytest.approx(3.0, rel=0.03)
    heavy = [BatchService(1 - 2.0**-k, 1.0, 0.5) for k in (2, 4, 6, 8, 10)]
    gaps = [node.high_load_bound - node.sojourn_at(node.idle_share) for node in heavy]
    assert all(0 <= after < before for before, after in pairwise(gaps))
    assert gaps[-1] < 1e-3
    scaled = (1 - heavy[-1].load) * heavy[-1].sojourn_at(heavy[-1].idle_share)
    assert scaled == pytest.approx(1.5 * (0.5 + 1.0 / 2), rel=1e-3)


@settings(max_examples=30)
@given(nodes(most=0.8), st.floats(1.001, 1.1))
def test_batches_grow_with_the_rate(node, more):
    busier = BatchService(node.rate * more, node.each, node.base)
    assert busier.mean_batch().stated >= node.mean_batch().stated * (1 - 1e-12)


def test_the_bound_on_lost_mass_covers_what_a_small_chain_loses():
    node = BatchService(0.8, 1.0, 2.0)
    exact = node.law(1e-11)
    sizes = []
    for error in (1e3, 1e-2, 1e-6):
        small = node.law(error)
        sizes.append(len(small.probability))
        assert small.lost <= error
        assert -1e-12 <= small.idle - exact.idle <= small.lost + 1e-12
        assert -1e-9 <= exact.moment(2) - small.moment(2) <= small.lost + 1e-9
    assert sizes[0] < sizes[1] < sizes[2] < len(exact.probability)
    coarse = node.law(1e3)
    assert exact.moment(2) - coarse.moment(2) > coarse.lost / 100 > 1e-4  # something was lost


def simulated(node, requests, seed):
    """Sum of sojourns and number of requests in each busy period, request by request."""
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / node.rate, requests))
    sojourns = np.concatenate([[0.0], np.cumsum(arrivals)])
    cycles, first, free = [], 0, 0.0
    while first < requests:
        start = max(free, arrivals[first])
        if start > free or not cycles:
            cycles.append([0.0, 0])
        last = int(np.searchsorted(arrivals, start, side="right"))
        free = start + node.each * (last - first) + node.base
        cycles[-1][0] += (last - first) * free - (sojourns[last] - sojourns[first])
        cycles[-1][1] += last - first
        first = last
    return np.array(cycles[:-1])  # the last busy period may be cut


@pytest.mark.parametrize("numbers", [(0.2, 1.0, 2.0), (0.5, 1.0, 1.0)])
def test_simulation_request_by_request(numbers):
    """Busy periods are independent; at 6 standard errors the check errs with probability about 2e-9 each."""
    node = BatchService(*numbers)
    total, count = simulated(node, 200_000, seed=1).T
    ratio = total.sum() / count.sum()
    error = math.sqrt(len(total)) * np.std(total - ratio * count, ddof=1) / count.sum()
    stated = node.mean_sojourn().stated
    assert abs(ratio - stated) < 6 * error
    assert error < 0.01 * stated
    assert abs(ratio - node.high_load_bound) > 6 * error  # the other bound is not the mean


def test_a_limit_on_the_batch_breaks_the_bound_and_none_may_be_slower_than_one_by_one():
    """One at a time is M/D/1."""

    def one_by_one(node):
        service = node.each + node.base
        return service + node.rate * service**2 / (2 * (1 - node.rate * service))

    fixed = BatchService(0.3, 0.1, 3.0)
    assert one_by_one(fixed) > 2 * fixed.bound().stated
    linear = BatchService(0.5, 1.0, 0.0)
    assert (
        one_by_one(linear) < linear.bound().computed
    )  # α·n for all of a batch is worse than α for each in turn


def test_every_identity_holds_and_a_changed_one_fails():
    for identity in derivation():
        identity.check()
        assert not Identity(identity.name, identity.computed, identity.stated + 1).holds


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ((0.0, 1.0, 1.0), "λ > 0"),
        ((0.5, -1.0, 1.0), ">= 0"),
        ((0.5, 0.0, 0.0), "not both 0"),
        ((1.0, 1.0, 1.0), "stable below 1"),
        ((math.nan, 1.0, 1.0), "λ > 0"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(numbers, says):
    with pytest.raises(ValueError, match=says):
        BatchService(*numbers)


def test_a_load_too_near_1_is_refused_by_the_chain_alone():
    node = BatchService(0.9999, 1.0, 5.0)
    assert node.sojourn_at(0.0) == pytest.approx(node.high_load_bound)
    with pytest.raises(ValueError, match="which need none"):
        node.law()
