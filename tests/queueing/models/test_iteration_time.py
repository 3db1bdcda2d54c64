"""Laws of iteration time: the normal form is the formula, compiled is interpreted, steps are sharp."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queueing.compilation import compiled, njit
from queueing.models.iteration_time import (
    LAWS,
    TABLE,
    Affine,
    Combined,
    Load,
    Roofline,
    Table,
    TileLaw,
    additive,
)
from tests.strategies import laws, loads

NONE = np.zeros(0, np.int64)
EXAMPLES = settings(max_examples=200, deadline=None)
LAW_BODY = compiled(additive)


@njit
def call(params: Any, load: Any) -> Any:
    return LAW_BODY(params, load)


def decodes(n: int) -> Load:
    """n decodes without context: token_time alone."""
    return Load(n, n, 0, NONE, NONE)


def up(x: int, t: int) -> int:
    """x rounded up to a multiple of t, counted rather than divided: the smallest multiple that reaches x."""
    return t * math.ceil(x / t)


def token_time(law: Any, n: int) -> float:
    """The formula of each class as its docstring says it."""
    match law:
        case Affine():
            return law.base + law.per_token * n
        case Roofline():
            return max(law.plateau, law.base + law.per_token * n)
        case TileLaw():
            return law.tile_time * math.ceil(n / law.tile) + law.per_token * n
        case Combined():
            return law.base + law.per_token * max(n, law.floor) + law.per_tile * math.ceil(n / law.tile)
        case Table():
            points = list(zip(law.tokens, law.seconds, strict=True))
            if n >= points[-1][0]:
                return points[-1][1] * n / points[-1][0]
            if n <= points[0][0]:
                return points[0][1]
            low, high = next((a, b) for a, b in itertools.pairwise(points) if a[0] <= n < b[0])
            return low[1] + (high[1] - low[1]) * (n - low[0]) / (high[0] - low[0])
        case _:
            raise AssertionError(law)


def formula(law: Any, load: Load) -> float:
    """Seconds by the mathematics of the docstrings, with Python's integers and sums."""
    chunks = [(int(q), int(h)) for q, h in zip(load.chunk, load.history, strict=True)]
    seconds = token_time(law, load.tokens) + law.per_context * load.context
    if isinstance(law, TileLaw):
        return seconds + law.per_tiled_pair * sum(up(q, law.tile) * up(h + q, law.tile) for q, h in chunks)
    return seconds + law.per_pair * sum(q * (h + q / 2) for q, h in chunks)


@EXAMPLES
@given(laws(), loads())
def test_normal_form_is_the_formula_also_beyond_the_table(law: Any, load: Load) -> None:
    assert law(load) == pytest.approx(formula(law, load), rel=1e-12)


def test_formula_is_missed_by_a_law_whose_tiles_end_with_the_table() -> None:
    """Negative control of the test above: a staircase continued by its mean slope is caught."""
    law = TileLaw(128, 4e-3, 5e-6)
    smooth = law.lower()[1]._replace(step=0.0, slope=5e-6 + 4e-3 / 128)
    n = TABLE + 1
    assert additive(smooth, decodes(n)) != pytest.approx(formula(law, decodes(n)), rel=1e-3)


@EXAMPLES
@given(laws(), loads())
def test_compiled_is_interpreted_bit_for_bit(law: Any, load: Load) -> None:
    function, params = law.lower()
    assert function is additive
    assert float(call(params, load)) == law(load)


@given(st.integers(1, 300), st.integers(1, 3 * TABLE), st.booleans())
def test_staircase_is_exact_at_tile_edges(tile: int, k: int, combined: bool) -> None:
    """From n = k·b to k·b + 1 the time rises by one tile and one token, also beyond the table."""
    law = Combined(1e-3, 5e-6, 4e-3, tile=tile) if combined else TileLaw(tile, 4e-3, 5e-6)
    k = max(1, k // tile)
    edge, after, next_ = (law(decodes(k * tile + i)) for i in range(3))
    rounding = 1e-12 * next_  # differences of sums that are rounded to double precision
    assert after - edge == pytest.approx(4e-3 + 5e-6, abs=rounding)
    step = 5e-6 if tile > 1 else 4e-3 + 5e-6
    assert next_ - after == pytest.approx(step, abs=rounding)


@EXAMPLES
@given(laws().filter(lambda law: not isinstance(law, Table)), st.integers(1, 3 * TABLE), st.integers(0, 400))
def test_laws_are_monotone_in_tokens(law: Any, n: int, more: int) -> None:
    assert law(decodes(n + more)) >= law(decodes(n)) * (1 - 1e-14)


def test_table_is_as_little_monotone_as_its_points() -> None:
    """Negative control: on an A100, 192 tokens are measured faster than 136."""
    law = Table((136, 192), (16.9e-3, 15.6e-3))
    assert law(decodes(192)) < law(decodes(136))


@given(laws(), loads(), loads())
def test_attention_adds_up(law: Any, load: Load, other: Load) -> None:
    """Two chunks and contexts in one iteration cost what they cost apart, less one token_time of n tokens each."""
    both = Load(
        load.tokens,
        load.decodes,
        load.context + other.context,
        np.concatenate([load.chunk, other.chunk]),
        np.concatenate([load.history, other.history]),
    )
    bare = law(load._replace(context=0, chunk=NONE, history=NONE))
    alone = law(load) + law(other._replace(tokens=load.tokens)) - bare
    assert law(both) == pytest.approx(alone, rel=1e-9)


def test_table_passes_through_its_points_and_keeps_steps_sharp() -> None:
    law = Table((1, 128, 129, 256), (9e-3, 12e-3, 17e-3, 18e-3))
    assert [law(decodes(n)) for n in law.tokens] == list(law.seconds)
    assert law(decodes(129)) - law(decodes(128)) == pytest.approx(5e-3)
    assert law(decodes(512)) == pytest.approx(36e-3)
    smooth = Table((1, 256), (9e-3, 18e-3))
    assert smooth(decodes(129)) - smooth(decodes(128)) < 1e-4


@given(st.integers(2, 200), st.lists(st.floats(1e-3, 1e-1), min_size=1, max_size=6), st.floats(0.0, 1e-4))
def test_table_of_tiles_is_constant_plus_slope(tile: int, constants: list[float], slope: float) -> None:
    law = Table.of_tiles(tile, constants, slope)
    for n in range(1, tile * len(constants) + 1):
        assert law(decodes(n)) == pytest.approx(constants[-(-n // tile) - 1] + slope * n, rel=1e-12)


@given(loads(max_tokens=2000))
def test_laws_contain_one_another(load: Load) -> None:
    """A Roofline is a Combined whose floor is the knee; without plateau it is Affine; tiles of one token are Affine."""
    roofline = Roofline(23.4e-3, 7e-3, 0.091e-3, 0.17e-6, 5e-9)
    combined = Combined(7e-3, 0.091e-3, 0.0, 0.17e-6, 5e-9, floor=roofline.knee)
    assert roofline(load) == pytest.approx(combined(load), rel=1e-12)
    assert Roofline(0.0, 7e-3, 1e-4, 1e-7, 1e-9)(load) == Affine(7e-3, 1e-4, 1e-7, 1e-9)(load)
    tiles, affine = Combined(7e-3, 1e-4, 1e-4, tile=1), Affine(7e-3, 2e-4)
    assert tiles(load) == pytest.approx(affine(load), rel=1e-12)


def test_lowering_is_done_once_and_cannot_be_written_to() -> None:
    params = TileLaw(128, 4e-3, 5e-6).lower()[1]
    assert TileLaw(128, 4e-3, 5e-6).lower()[1] is params
    with pytest.raises(ValueError, match="read-only"):
        params.token_time[0] = 1.0


def test_knee_beyond_the_table_is_kept() -> None:
    law = Roofline(1.0, 0.0, 1e-5)
    assert law.knee == pytest.approx(100_000)
    assert law(decodes(99_999)) == 1.0
    assert law(decodes(100_100)) == pytest.approx(1.001)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Affine(-1e-3, 1e-4), "base=-0.001"),
        (lambda: Affine(1e-3, math.nan), "per_token=nan"),
        (lambda: Affine(0.0, 0.0), "takes 0.0 s for one token"),
        (lambda: Affine("1", 1e-4), "base='1'"),  # pyright: ignore[reportArgumentType]
        (lambda: Affine(10**400, 1e-4), "give a finite number"),
        (lambda: Affine(np.complex128(1.0), 1e-4), "give a finite number"),
        (lambda: Roofline(1.0, 0.0, 1e-9), "knee"),
        (lambda: Roofline(math.inf, 0.0, 1e-9), "plateau=inf"),
        (lambda: TileLaw(0, 1e-3, 0.0), "tile=0"),
        (lambda: TileLaw(1.5, 1e-3, 0.0), "tile=1.5"),  # pyright: ignore[reportArgumentType]
        (lambda: TileLaw(128, 0.0, 0.0), "one token"),
        (lambda: Combined(1e-3, 0.0, 0.0, floor=1e9), "floor"),
        (lambda: Combined(1e-3, 0.0, 0.0, floor=-1.0), "floor=-1.0"),
        (lambda: Table((), ()), "at least one point"),
        (lambda: Table((1, 2), (1e-3,)), "one time per point"),
        (lambda: Table((2, 1), (1e-3, 1e-3)), "1 tokens after 2"),
        (lambda: Table((0,), (1e-3,)), "0 tokens"),
        (lambda: Table((1,), (0.0,)), "0.0 s at 1 tokens"),
        (lambda: Table((1,), (1e-3,), -1.0), "per_context=-1.0"),
        (lambda: Table(3, (1e-3,)), "list of tokens"),  # pyright: ignore[reportArgumentType]
        (lambda: Table.of_tiles(0, [1e-3], 0.0), "whole tile"),
    ],
)
def test_bad_coefficients_are_refused_in_one_sentence(make: Any, says: str) -> None:
    with pytest.raises(ValueError) as refused:
        make()
    message = str(refused.value)
    assert says in message
    assert "\n" not in message


def test_every_law_is_listed_under_its_name() -> None:
    assert {law.__name__ for law in (Affine, Roofline, TileLaw, Combined, Table)} == set(LAWS)
