"""Memory of the sawtooth: tokens at a refill and at the peak, their law in fractions, where the stated N fails."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from queueing.models.sawtooth_memory import derivation, memory_safe, overflow, peak_tokens, tokens_at_refill
from queueing.proofs.identity import Identity

prompts = st.floats(0, 1000)
hazards = st.floats(-4, -0.1).map(lambda x: 10**x)
thetas = st.floats(0.01, 0.99)


# --- means in the fluid


@given(prompt=prompts, hazard=hazards, theta=thetas)
def test_tokens_at_a_refill_by_cohorts(prompt, hazard, theta):
    computed, stated = tokens_at_refill(prompt, hazard, theta)
    assert math.isclose(computed, stated, rel_tol=1e-9)
    wrong = prompt - math.log1p(-theta) / theta / hazard  # as if the new ones had decoded a cycle too
    assert not math.isclose(computed, wrong, rel_tol=1e-9)


@given(prompt=prompts, hazard=hazards, theta=thetas)
def test_the_peak_by_search(prompt, hazard, theta):
    computed, stated = peak_tokens(prompt, hazard, theta)
    refill = tokens_at_refill(prompt, hazard, theta).stated
    assert math.isclose(computed, stated, rel_tol=1e-7)
    assert stated >= refill
    assert (stated > refill * (1 + 1e-12)) <= (hazard * refill < 1)
    assert hazard * refill > 1 - 1e-3 or stated > refill


@pytest.mark.parametrize(("theta", "ratio"), [(0.5, 1.06), (0.9, 1.85)])
def test_short_prompts_hold_most_long_after_the_refill(theta, ratio):
    """By 6 % more if half the batch is refilled, by 85 % if nine tenths are; not with long prompts."""
    refill, peak = tokens_at_refill(0, 0.01, theta).stated, peak_tokens(0, 0.01, theta).stated
    assert ratio < peak / refill < ratio + 0.01
    assert peak_tokens(200, 0.01, theta).stated == tokens_at_refill(200, 0.01, theta).stated


# --- the law of tokens


@cache
def ages(active, theta, most):
    """P(sum of `active` geometric ages = 0,..., most), by convolution in fractions."""
    one = [theta * (1 - theta) ** i for i in range(most + 1)]
    law = [Fraction(1)] + [Fraction(0)] * most
    for _ in range(active):
        law = [sum((law[j] * one[i - j] for j in range(i + 1)), Fraction(0)) for i in range(most + 1)]
    return law


@settings(max_examples=40, deadline=None)
@given(
    active=st.integers(1, 5),
    theta=st.sampled_from([Fraction(1, 4), Fraction(1, 2), Fraction(7, 8)]),
    cycles=st.integers(0, 12),
)
def test_overflow_is_the_tail_of_the_sum_of_ages(active, theta, cycles):
    """Memory for the prompts and so many cycles of decodes, and half a one against rounding."""
    cycle = -math.log1p(-float(theta)) / 0.05
    found = overflow(active, active * 10 + (cycles + 0.5) * cycle, 10, 0.05, float(theta))
    assert math.isclose(found, 1 - sum(ages(active, theta, 12)[: cycles + 1]), rel_tol=1e-9)


@given(
    memory=st.floats(3000, 10**5),
    prompt=st.floats(10, 200),
    theta=st.floats(0.2, 0.9),
    miss=st.floats(-6, -0.5).map(lambda x: 10**x),
)
def test_the_computed_number_is_the_most_that_is_safe(memory, prompt, theta, miss):
    hazard = 0.05
    most = memory_safe(memory, prompt, hazard, theta, miss).computed
    assert overflow(most, memory, prompt, hazard, theta) <= miss
    assert overflow(most + 1, memory, prompt, hazard, theta) > miss


# --- where the stated number fails

CASE = {"prompt": 100.0, "hazard": 0.01, "theta": 0.6821555671}  # θ0 at κ = 1


def test_the_stated_number_overflows_nearly_every_other_time():
    """By the exact law, at ε = 1 %: the more memory, the more often; the computed number keeps its promise."""
    found = []
    for memory in (10**4, 10**5, 10**6, 10**7):
        computed, stated = memory_safe(memory, **CASE, miss=0.01)
        assert overflow(computed, memory, **CASE) <= 0.01 < overflow(stated, memory, **CASE)
        found.append(overflow(stated, memory, **CASE))
    assert found == sorted(found)
    assert found[1] > 0.35
    assert found[-1] > 0.45


def test_a_reserve_that_grows_with_the_root_is_near_the_computed_number():
    """N·m + z·√(N·variance) = C, by the normal quantile z of 1 - ε."""
    memory, miss = 10**6, 0.01
    mean = tokens_at_refill(**CASE).stated
    cycle = -math.log1p(-CASE["theta"]) / CASE["hazard"]
    sd = cycle * math.sqrt(1 - CASE["theta"]) / CASE["theta"]
    z = stats.norm.isf(miss)
    root = (-z * sd + math.sqrt((z * sd) ** 2 + 4 * mean * memory)) / (2 * mean)
    computed, stated = memory_safe(memory, **CASE, miss=miss)
    assert abs(computed - root**2) < 5
    assert stated - computed > 100


def test_with_little_memory_it_refuses_requests_that_fit():
    computed, stated = memory_safe(3000, 10.0, 0.01, 0.9, 0.01)
    assert stated < 1 <= computed


def test_in_a_simulated_sawtooth_it_overflows_just_as_well():
    """1000 runs of 40 cycles: outputs end in continuous time, k = θN refilled, a random set of survivors.

    Seed fixed, none picked.  If the true frequency were 25 % at most, that of 1000 independent runs would exceed 30 %
    with probability below exp(-2·1000·0.05²) < 0.7 % (Hoeffding).  The variance of 1000 nearly normal sums has a
    relative error of 4.5 %: 25 % are five and a half of these, 4e-8 on both sides.
    """
    rng = np.random.default_rng(7)
    memory, prompt, p, theta = 10**5, CASE["prompt"], CASE["hazard"], CASE["theta"]
    active = memory_safe(memory, **CASE, miss=0.01).stated
    k = round(theta * active)
    decoded = np.zeros((1000, active))
    for _ in range(40):
        cycle = (rng.exponential(size=(1000, k)) / (p * np.arange(active, active - k, -1))).sum(axis=1)
        leave = np.argpartition(rng.random((1000, active)), k, axis=1)[:, :k]
        decoded += cycle[:, None]
        np.put_along_axis(decoded, leave, 0.0, axis=1)
    tokens = active * prompt + decoded.sum(axis=1)
    assert np.mean(tokens > memory) > 0.3
    log = -math.log1p(-theta)
    independent = active * (log / p) ** 2 * (1 - theta) / theta**2
    factor = (1 - theta + theta**2 / log**2) / (2 - theta)
    assert abs(tokens.var() / (independent * factor) - 1) < 0.25
    assert abs(tokens.var() / independent - 1) > 0.25  # negative control


@given(theta=thetas)
def test_ages_of_the_sawtooth_vary_less_than_independent_ones(theta):
    assert (1 - theta + theta**2 / math.log1p(-theta) ** 2) / (2 - theta) <= 1


# --- algebra and bad input


def test_every_identity_holds_and_a_changed_one_fails():
    for identity in derivation():
        identity.check()
        assert not Identity(identity.name, identity.computed, identity.stated * 2).holds


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: tokens_at_refill(-1, 0.5, 0.5), "μ_L >= 0"),
        (lambda: tokens_at_refill(1, 1.0, 0.5), r"p0 in \(0, 1\)"),
        (lambda: peak_tokens(1, 0.5, 1.0), "θ in"),
        (lambda: overflow(0, 100, 1, 0.5, 0.5), "at least one request"),
        (lambda: memory_safe(100, 1, 0.5, 0.5, 0.0), "ε strictly between 0 and 1"),
        (lambda: memory_safe(100, 0, 0.5, 0.5, 0.1), "prompts of some tokens"),
        (lambda: memory_safe(10, 100, 0.5, 0.5, 0.1), "not safe for one request"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()
