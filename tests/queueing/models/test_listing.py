"""The listed program against generation: never better, equal where the list holds the optimum."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queueing.models.composition import Composition
from queueing.models.demand import Demand, Limits, Stairs
from queueing.models.iteration_time import Roofline, TileLaw
from queueing.models.listing import Batches, Listed, grid

TESTBED = Roofline(0.0234, 0.007, 0.000091, 0.17e-6, 5e-9)


def demand(name: str, rate: float, prompt: int, output: int) -> Demand:
    """A class of equal requests."""
    return Demand(name, rate, prompt, output, prompt * output + output * (output + 1) / 2, prompt**2 / 2)


@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(st.floats(0.1, 5), st.integers(10, 3000), st.integers(5, 900)), min_size=1, max_size=3
    ),
    st.sampled_from([TESTBED, TileLaw(64, 0.006, 1e-5, 0.0, 1e-7)]),
    st.sampled_from([0.0, 5.0]),
)
def test_a_list_is_never_better_than_all_batches(sizes, law, iterations):
    classes = [demand(str(k), *size) for k, size in enumerate(sizes)]
    limits = Limits(256, 40_000, 64, iterations, 2)
    stairs = Stairs.of(law.params(), 256)
    listed = Listed(stairs, classes, limits, grid(stairs, classes, limits, 32, 8)).solve()
    best = Composition(stairs, classes, limits).solve()
    assert listed <= best.theta * (1 + 1e-7)
    kinds = [kind for kind, _ in best.batches]
    split = np.array([[float(dict(kind.decodes).get(k, 0)) for k in range(len(classes))] for kind in kinds])
    seconds = np.array([stairs.seconds[kind.tokens - 1] for kind in kinds])
    found = Batches(np.array([float(kind.prompt) for kind in kinds]), split, seconds)
    assert Listed(stairs, classes, limits, found).solve() == pytest.approx(best.theta, rel=1e-7)


def test_a_list_with_the_optimum_in_it_is_equal():
    """Without memory the optimum stands at a corner of the staircase, which the grid holds."""
    classes = [demand("a", 1.0, 640, 100), demand("b", 0.5, 128, 400)]
    limits = Limits(256, math.inf, 128)
    stairs = Stairs.of(TileLaw(64, 0.006, 1e-5).params(), 256)
    program = Listed(stairs, classes, limits, grid(stairs, classes, limits, 64, 64))
    best = Composition(stairs, classes, limits)
    for rates in ([1.0, 0.5], [0.1, 3.0], [7.0, 0.01]):
        assert program.solve(rates) == pytest.approx(best.solve(rates).theta, rel=1e-7)


def test_bad_lists_are_refused_in_a_sentence():
    classes = [demand("a", 1.0, 640, 100)]
    stairs = Stairs.of(TESTBED.params(), 64)
    with pytest.raises(ValueError, match="list finer"):
        grid(stairs, classes, Limits(64), 128, 8)
    with pytest.raises(ValueError, match="carry no such load"):
        Listed(stairs, classes, Limits(64), grid(stairs, classes, Limits(64), 64, 128)).solve()
