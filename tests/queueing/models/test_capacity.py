"""The capacity region: convex, what is inside is carried, what is outside is named, and polytopes enclose it."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queueing.models.capacity import Capacity
from queueing.models.demand import Demand, Limits, Stairs
from queueing.models.iteration_time import Roofline, TileLaw

TESTBED = Roofline(0.0234, 0.007, 0.000091, 0.17e-6, 5e-9)


def demand(name: str, rate: float, prompt: int, output: int) -> Demand:
    """A class of equal requests."""
    return Demand(name, rate, prompt, output, prompt * output + output * (output + 1) / 2, prompt**2 / 2)


CHAT, DOCUMENT, CODE = (
    demand("chat", 1.0, 500, 400),
    demand("document", 0.2, 6000, 100),
    demand("code", 0.5, 2000, 800),
)


def region(*classes: Demand, budget: int = 512, pure: bool = False, law=TESTBED, **limits) -> Capacity:
    chosen = {"kv_tokens": 100_000, "max_running": 128} | limits
    return Capacity(
        Stairs.of(law.params(), budget), classes or (CHAT, DOCUMENT), Limits(budget, **chosen), pure=pure
    )


RATES = st.tuples(st.floats(0.01, 10), st.floats(0.01, 10))


@settings(max_examples=50)
@given(RATES, RATES, st.floats(0, 1))
def test_the_region_is_convex_and_its_half_spaces_hold(one, other, share):
    capacity = region()
    a, b = (capacity.boundary(r) for r in (one, other))
    between = share * np.array(a.rates) + (1 - share) * np.array(b.rates)
    assert capacity.membership(list(between * (1 - 1e-6))).inside
    for point, at in ((a, b), (b, a)):
        assert np.dot(point.normal, point.rates) == pytest.approx(1, rel=1e-7)
        assert np.dot(point.normal, at.rates) <= 1 + 1e-6
    lower = np.array(a.rates) * [share, 1]
    assert capacity.membership(list(lower * (1 - 1e-6))).inside


def test_just_outside_is_outside():
    capacity = region()
    point = capacity.boundary()
    for factor, inside in ((0.999, True), (1.001, False)):
        rates = [factor * r for r in point.rates]
        assert capacity.membership(rates).inside is inside
        certificate = capacity.certificate(rates)
        certificate.check()
        assert (certificate.theta >= 1) is inside
        assert (certificate.theta * (1 + certificate.gap) < 1) is not inside


@pytest.mark.parametrize(
    ("limits", "clause"),
    [
        ({}, "token budget binds: batches are filled to 512 tokens"),
        ({"kv_tokens": 9_000}, "decode memory binds: "),
        ({"max_running": 4}, "places bind: 4 requests"),
        ({"min_iterations": 40.0}, "time between tokens binds: 40 iterations/s"),
    ],
)
def test_the_reason_names_what_binds(limits, clause):
    """Each limit, made tight, is named and priced; none is where it is loose."""
    capacity = region(CHAT, **limits)
    found = capacity.membership([50.0])
    assert not found.inside
    assert "more than any schedule carries" in found.reason
    assert clause in found.reason
    loose = region(CHAT, max_running=4096, kv_tokens=1e9).membership([50.0]).reason
    assert "token budget binds" in loose
    assert not any(word in loose for word in ("memory", "places", "time between"))


@pytest.mark.parametrize(
    ("field", "step", "price"),
    [("kv_tokens", 1.0, "kv_token"), ("max_running", 1, "place"), ("min_iterations", -1e-3, "tbt")],
)
@pytest.mark.parametrize("tight", [{"kv_tokens": 20_000}, {"max_running": 9}, {"min_iterations": 35.0}])
def test_prices_are_what_a_little_more_brings(field, step, price, tight):
    capacity = region(CHAT, DOCUMENT, **tight)
    before = capacity.boundary()
    more = dataclasses.replace(capacity.limits, **{field: max(0, getattr(capacity.limits, field) + step)})
    after = Capacity(capacity.program.stairs, capacity.program.classes, more).boundary()
    gain = after.solution.theta / before.solution.theta - 1
    if getattr(capacity.limits, field) == 0:
        assert gain == pytest.approx(0, abs=1e-9)
        return
    assert gain / abs(step) == pytest.approx(getattr(before.prices, price), rel=0.15, abs=1e-9)


def test_what_a_millisecond_is_worth():
    before = region(CHAT).boundary()
    faster = Roofline(0.0234 - 1e-6, 0.007 - 1e-6, 0.000091, 0.17e-6, 5e-9)
    after = region(CHAT, law=faster).boundary()
    gain = (after.solution.theta / before.solution.theta - 1) / 1e-3
    assert gain == pytest.approx(before.prices.millisecond, rel=1e-3)


def test_support_is_reached_and_bounds_the_region():
    capacity = region(CHAT, DOCUMENT, CODE)
    rng = np.random.default_rng(0)
    for _ in range(20):
        weights = rng.exponential(size=3)
        value, rates = capacity.support(list(weights))
        assert weights @ rates == pytest.approx(value)
        assert capacity.membership([r * (1 - 1e-6) for r in rates]).inside
        edge = capacity.boundary(list(rng.exponential(size=3)))
        assert weights @ edge.rates <= value * (1 + 1e-6)


@pytest.mark.parametrize("classes", [(CHAT,), (CHAT, DOCUMENT), (CHAT, DOCUMENT, CODE)])
@pytest.mark.parametrize("gap", [0.05, 0.002])
def test_polytopes_enclose_the_region(classes, gap):
    capacity = region(*classes, kv_tokens=30_000, budget=1024)
    found = capacity.polytopes(gap)
    assert found.gap <= gap
    for vertex in found.vertices[found.vertices.sum(axis=1) > 0]:
        assert capacity.membership(list(vertex)).theta > 1 - 1e-6
    rng = np.random.default_rng(1)
    for _ in range(30):
        edge = np.array(capacity.boundary(list(rng.exponential(size=len(classes)))).rates)
        assert (found.normals @ edge <= found.sides * (1 + 1e-6)).all()
        nearest = max(
            (found.vertices @ normal).max() / (edge @ normal) for normal in found.normals if edge @ normal > 0
        )
        assert nearest >= 1 - gap  # no point of the boundary lies far outside every inner facet


def test_a_region_without_memory_is_a_half_space():
    """RAD's model: prompt and decode tokens cost the same, so only the sum of tokens counts."""
    capacity = region(CHAT, DOCUMENT, law=TileLaw(128, 0.004, 5e-6), kv_tokens=math.inf, max_running=4096)
    normal = np.array(capacity.boundary([1.0, 1.0]).normal)
    assert normal / normal[0] == pytest.approx(np.array([900, 6100]) / 900)
    assert capacity.polytopes(0.01).gap == pytest.approx(0, abs=1e-9)


def test_pure_batches_carry_a_smaller_region():
    for direction in ([1.0, 0.0], [0.0, 1.0], [1.0, 0.3]):
        mixed, pure = (region(pure=p).boundary(direction).solution.theta for p in (False, True))
        assert pure < mixed * 0.999


def test_bad_input_ends_in_one_sentence():
    for make, sentence in (
        (lambda: region().polytopes(0.0), "must be in"),
        (
            lambda: region(*(demand(str(k), 1, 9, 9) for k in range(6))).polytopes(0.1),
            "more than five|too many",
        ),
        (lambda: region().support([0.0, 0.0]), "weights must be finite"),
        (lambda: region().membership([1.0]), "as many rates"),
    ):
        with pytest.raises(ValueError, match=sentence):
            make()
    with pytest.raises(RuntimeError, match="allow a larger gap"):
        region(CHAT, DOCUMENT, CODE, kv_tokens=30_000).polytopes(1e-9, most=4)
