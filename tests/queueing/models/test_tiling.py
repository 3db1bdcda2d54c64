"""The compact LP against its closed form, its dual, and the published table of budgets."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueing.lengths import Moments
from queueing.models.iteration_time import Roofline
from queueing.models.tiling import compact_lp

# the testbed of schedulers.md 8.2: Mistral-7B on one RTX 6000 Ada, ShareGPT means
COST = Roofline(plateau=23.4e-3, base=7.0e-3, per_token=0.091e-3, per_context=0.17e-6, per_pair=5e-9)
MEANS = Moments(
    prompt=2340.0, output=438.7, prompt_square=2 * 4.92e6, output_square=439**2 + 266**2, product=1.0488e6
)


def solve(budget, cost=COST, means=MEANS, kv_tokens=235_728, **limits):
    return compact_lp(cost, means, budget=budget, kv_tokens=kv_tokens, max_running=128, **limits)


@pytest.mark.parametrize(
    ("budget", "rate", "binding"),
    [
        (128, 1.36, {"plateau", "budget"}),
        (256, 1.80, {"linear", "budget"}),
        (512, 1.94, {"linear", "budget"}),
        (1024, 1.95, {"linear", "kv"}),
    ],
)
def test_reproduces_the_table_of_budgets(budget, rate, binding):
    optimum = solve(budget)
    assert optimum.rate == pytest.approx(rate, rel=0.01)
    assert set(optimum.binding) == binding
    optimum.certificate.check()
    assert float(optimum.certificate.value) == optimum.rate


costs = st.builds(
    Roofline,
    plateau=st.floats(0, 0.05),
    base=st.floats(1e-4, 0.02),
    per_token=st.floats(1e-6, 1e-3),
    per_context=st.floats(0, 1e-6),
    per_pair=st.floats(0, 1e-8),
)


@given(cost=costs, budget=st.integers(16, 4096))
def test_equals_the_closed_form_where_the_linear_branch_binds(cost, budget):
    means = MEANS
    optimum = solve(budget, cost)
    overhead = max(means.S / budget, means.K / 235_728, means.output / 128)
    attention = cost.per_context * means.K + cost.per_pair * means.A
    linear = 1 / (cost.per_token * means.S + attention + cost.base * overhead)
    plateau_time = attention + cost.plateau * overhead
    plateau = 1 / plateau_time if plateau_time > 0 else math.inf
    assert optimum.rate == pytest.approx(min(linear, plateau), rel=1e-7)


@given(cost=costs, budget=st.integers(16, 4096))
def test_strong_duality(cost, budget):
    """The prices prove the optimum: they are a dual solution of the same value."""
    optimum = solve(budget, cost)
    assert min(optimum.prices.values()) >= 0
    # only the plateau and linear rows have a nonzero right-hand side (1 second per second)
    assert optimum.prices["plateau"] + optimum.prices["linear"] == pytest.approx(optimum.rate, rel=1e-6)


@given(cost=costs, small=st.integers(16, 2048), more=st.integers(0, 2048))
def test_more_budget_never_hurts(cost, small, more):
    assert solve(small + more, cost).rate >= solve(small, cost).rate * (1 - 1e-9)


def test_ignoring_the_kv_row_is_caught():
    """Negative control: without memory the largest budgets would carry more than the table says."""
    assert solve(4096, kv_tokens=1e12).rate > 1.02 * solve(4096).rate


def test_an_iteration_rate_that_cannot_be_met_is_one_clear_sentence():
    with pytest.raises(ValueError, match="no rate satisfies"):
        solve(512, min_iterations=1000.0)
    with pytest.raises(ValueError, match="budget >= 1"):
        solve(0)
    assert math.isfinite(solve(512, min_iterations=5.0).rate)
