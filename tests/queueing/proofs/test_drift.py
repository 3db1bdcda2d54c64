"""Lyapunov functions: found by linear programs, checked by multipliers, absent where the system is unstable."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse import lil_array
from scipy.sparse.linalg import spsolve

from queueing.proofs.certificate import Kind, Refuted
from queueing.proofs.drift import (
    Event,
    FluidDrift,
    FluidModel,
    FluidPath,
    Leg,
    Rule,
    Walk,
    WalkDrift,
    Wall,
    dot,
)
from queueing.proofs.lyapunov import fluid_drift, linear_walk_drift, walk_drift

ZERO, ONE = Fraction(0), Fraction(1)


def flipped(number: Fraction) -> list[Fraction]:
    """Every fraction that differs from `number` in one digit, and in value."""
    text, found = str(number), []
    for i, digit in enumerate(text):
        if digit.isdigit():
            other = text[:i] + str((int(digit) + 1) % 10) + text[i + 1 :]
            if not other.endswith("/0") and Fraction(other) != number:
                found.append(Fraction(other))
    return found


# -- models


def engine(rate: Fraction, decodes: Fraction) -> FluidModel:
    """One engine that never idles: prompt tokens x at `rate`, each followed by so many decode tokens y."""
    return FluidModel(
        {"x": rate, "y": ZERO},
        {"prefill": {"x": -ONE, "y": decodes}, "decode": {"y": -ONE}},
        (Rule("engine", {"prefill": ONE, "decode": ONE}, ONE, "=", frozenset("xy")),),
    )


def crossed(prompt: Fraction, decode: Fraction, decode_first: bool = True) -> FluidModel:
    """Two engines, each prefilling one class and decoding the other's, at rate 1 each: Rybko and Stolyar's network.

    Buffers: 1 (engine a) -> 2 (engine b), 3 (engine b) -> 4 (engine a); seconds a request: `prompt` and `decode`.
    """
    effects = {
        "prefill a": {"1": -ONE, "2": ONE},
        "decode b": {"2": -ONE},
        "prefill b": {"3": -ONE, "4": ONE},
        "decode a": {"4": -ONE},
    }
    rules: list[Rule] = []
    for e, waiting, coming in (("a", "1", "4"), ("b", "3", "2")):
        load = {f"prefill {e}": prompt, f"decode {e}": decode}
        rules.append(Rule(f"engine {e}", load, ONE))
        rules.append(Rule(f"{e} does not idle", load, ONE, "=", frozenset((waiting, coming))))
        if decode_first:
            rules.append(Rule(f"{e} decodes first", {f"decode {e}": decode}, ONE, "=", frozenset(coming)))
    return FluidModel({"1": ONE, "2": ZERO, "3": ONE, "4": ZERO}, effects, tuple(rules))


ENGINES = (frozenset("14"), frozenset("23"))


def tandem(rate: int, first: int, second: int) -> Walk:
    """A prefill engine p feeds a decode engine d; Poisson arrivals, exponential service, uniformised."""
    total = rate + first + second
    come = Event(Fraction(rate, total), {"p": 1})
    prefill, decode = (
        Event(Fraction(first, total), {"p": -1, "d": 1}),
        Event(Fraction(second, total), {"d": -1}),
    )

    def idle(event: Event) -> Event:
        return Event(event.probability, {})

    return Walk(
        ("p", "d"),
        (Wall({"p": 1}, 1), Wall({"d": 1}, 1)),
        {
            "++": (come, prefill, decode),
            "+-": (come, prefill, idle(decode)),
            "-+": (come, idle(prefill), decode),
            "--": (come, idle(prefill), idle(decode)),
        },
    )


def arc(count: int) -> list[dict[str, Fraction]]:
    """Slopes on a quarter of a circle around (1, 0), at rational points: a V without sharp kinks."""
    t = [Fraction(k, count - 1) for k in range(count)]
    return [{"p": 1 + (1 - s * s) / (1 + s * s), "d": 2 * s / (1 + s * s)} for s in t]


# -- fluid models


@given(st.fractions(0, 1, max_denominator=12), st.fractions(0, 6, max_denominator=6))
def test_the_engine_is_stable_exactly_below_load_one(rate, decodes):
    """Largest ε of a linear V with coefficients at most 1: (1 - ρ)/(1 + r), by the program and by hand."""
    load = rate * (1 + decodes)
    found, optimum = fluid_drift(engine(rate, decodes))
    optimum.check()
    assert optimum.value == max(ZERO, (1 - load) / (1 + decodes))
    if load < 1:
        assert found is not None
        found.check()
        assert found.kind is Kind.RATIONAL
        assert found.epsilon == optimum.value
    else:
        assert found is None


def test_the_falling_v_falls_by_another_solver():
    """Every region again, by floating-point programs over the activities: c·dx/dt <= -ε where the piece falls."""
    for model, groups in (
        (engine(Fraction(1, 5), Fraction(3)), None),
        (crossed(Fraction(1, 10), Fraction(9, 20)), ENGINES),
    ):
        found, _ = fluid_drift(model, groups)
        assert found is not None
        worst = -np.inf
        activities = list(model.effects)
        for nonempty, i in found.falling:
            rows = model.rows(nonempty)
            lines = {s: [(c, r) for c, r in rows if r.sense == s] for s in ("<=", "=")}
            gain = model.gain(found.pieces[i])
            table = {
                s: [[float(c.get(j, 0)) for j in activities] for c, _ in lines[s]] or None for s in lines
            }
            sides = {s: [float(r.side) for _, r in lines[s]] or None for s in lines}
            answer: Any = linprog(
                [-float(gain[j]) for j in activities],
                table["<="],
                sides["<="],
                table["="],
                sides["="],
                method="highs",
            )
            if answer.status == 0:
                worst = max(worst, -answer.fun + float(dot(model.inflow, found.pieces[i])))
            else:
                assert answer.status == 2  # nothing satisfies these rows
        assert worst == pytest.approx(-float(found.epsilon), abs=1e-9)


@pytest.mark.parametrize(
    ("decode", "stable"), [(Fraction(45, 100), True), (Fraction(1, 2), False), (Fraction(3, 5), False)]
)
def test_crossed_engines_that_decode_first(decode, stable):
    """Each engine has a load below 0.7, and yet: stable exactly if the two decodes together are less than 1."""
    for groups in (None, ENGINES):
        found, optimum = fluid_drift(crossed(Fraction(1, 10), decode), groups)
        optimum.check()
        assert (found is not None) == stable == (optimum.value > 0)
        if found is not None:
            found.check()


def test_two_pieces_where_one_is_not_enough():
    """Any order of service that does not idle: a linear V does not exist, a piece per engine does."""
    model = crossed(Fraction(1, 10), Fraction(12, 25), decode_first=False)
    alone, optimum = fluid_drift(model)
    assert alone is None
    assert optimum.value == 0
    optimum.check()
    both, _ = fluid_drift(model, ENGINES)
    assert both is not None
    both.check()
    assert both.value({"1": ONE, "2": ONE, "3": ONE, "4": ONE}) == 3
    assert both.covered
    # the cover matters: a piece that is too large where its engine is empty
    larger = ({**both.pieces[0], "2": ONE}, both.pieces[1])
    with pytest.raises(Refuted, match=r"larger than its cover|charged"):
        dataclasses.replace(both, pieces=larger).check()
    with pytest.raises(Refuted, match="neither falls nor is covered"):
        dataclasses.replace(both, covered={}).check()


def cycle(decode: Fraction) -> FluidPath:
    """The run of the crossed engines from one unit in buffer 1: first the prompts, then the decodes they leave."""
    prompt = Fraction(1, 10)
    model = crossed(prompt, decode)
    filling = 1 / (1 / prompt - 1)  # buffer 1 empties
    left = filling * (1 / prompt - 1 / decode)
    draining = left / (1 / decode - 1)  # then buffer 2
    growth = filling + draining  # meanwhile buffer 3 filled
    legs: list[Leg] = []
    for scale, one, other in ((ONE, "a", "b"), (growth, "b", "a")):
        legs.append(Leg(scale * filling, {f"prefill {one}": 1 / prompt, f"decode {other}": 1 / decode}))
        legs.append(Leg(scale * draining, {f"prefill {one}": ONE, f"decode {other}": 1 / decode}))
    return FluidPath(model, {"1": ONE}, tuple(legs), growth**2)


def test_crossed_engines_diverge_along_an_exact_path():
    path = cycle(Fraction(3, 5))
    path.check()
    assert path.growth == Fraction(9, 4)
    assert [corner["3"] for corner in path.corners()][:3] == [0, Fraction(1, 9), Fraction(3, 2)]
    with pytest.raises(Refuted, match="not above 1"):
        cycle(Fraction(9, 20)).check()  # control: with lighter decodes the same run shrinks
    for i, leg in enumerate(path.legs):
        for seconds in flipped(leg.seconds):
            legs = (*path.legs[:i], leg._replace(seconds=seconds), *path.legs[i + 1 :])
            assert not dataclasses.replace(path, legs=legs).holds
        for name, rate in leg.activities.items():
            for other in flipped(rate):
                altered = leg._replace(activities={**leg.activities, name: other})
                assert not dataclasses.replace(
                    path, legs=(*path.legs[:i], altered, *path.legs[i + 1 :])
                ).holds
    assert not dataclasses.replace(path, start={"1": 2 * ONE, "3": ONE}).holds
    assert not dataclasses.replace(path, start={}).holds


def test_one_flipped_digit_refutes():
    """ε: every flip.  Coefficients of V: every flip.  Multipliers: whatever still passes proves the same ε anew."""
    found, _ = fluid_drift(crossed(Fraction(1, 10), Fraction(12, 25), decode_first=False), ENGINES)
    assert found is not None
    found.check()
    for epsilon in flipped(found.epsilon):
        assert not dataclasses.replace(found, epsilon=epsilon).holds
    for i, piece in enumerate(found.pieces):
        for k, value in piece.items():
            for other in flipped(value):
                pieces = [dict(p) for p in found.pieces]
                pieces[i][k] = other
                assert not dataclasses.replace(found, pieces=tuple(pieces)).holds
    tried = refuted = 0
    for name, prices in found.falling.items():
        for r, y in enumerate(prices):
            for other in flipped(y) if y else ():
                altered = {**found.falling, name: (*prices[:r], other, *prices[r + 1 :])}
                refuted += not dataclasses.replace(found, falling=altered).holds
                tried += 1
    assert refuted > 0.7 * tried > 20


@given(
    st.lists(st.fractions(0, 1, max_denominator=4), min_size=4, max_size=4),
    st.fractions(Fraction(1, 9), 1, max_denominator=9),
)
def test_no_v_is_accepted_for_an_unstable_network(coefficients, epsilon):
    """Whatever V, with the best multipliers of the stable neighbour: the checker refuses."""
    stable, _ = fluid_drift(crossed(Fraction(1, 10), Fraction(9, 20)))
    assert stable is not None
    unstable = crossed(Fraction(1, 10), Fraction(3, 5))
    piece = dict(zip("1234", coefficients, strict=True))
    assert not FluidDrift(unstable, (piece,), epsilon, stable.falling).holds
    assert not FluidDrift(unstable, stable.pieces, stable.epsilon, stable.falling).holds


# -- random walks


def test_a_linear_v_for_an_ample_decode_engine():
    walk = tandem(1, 4, 3)
    found = walk_drift(walk, 1)
    assert found is not None
    found.check()
    assert found.kind is Kind.RATIONAL
    best = linear_walk_drift(walk, 1)
    best.check()
    assert best.value == found.epsilon > 0
    for epsilon in flipped(found.epsilon):
        assert dataclasses.replace(found, epsilon=epsilon).holds == (epsilon < found.epsilon)


def test_a_curved_v_where_no_linear_one_exists():
    """Rates 22, 39, 39: an empty decode engine lets a linear V rise.  Eight pieces do, two of the same shape do not."""
    walk = tandem(22, 39, 39)
    best = linear_walk_drift(walk, 1)
    best.check()
    assert best.value == 0
    assert walk_drift(walk, 1) is None
    found = walk_drift(walk, 20, arc(8), Fraction(1, 20))
    assert found is not None
    found.check()
    assert walk_drift(walk, 20, arc(2), Fraction(1, 20)) is None
    # a larger rate is refuted, and so is any altered piece or set, or a missing region
    assert not dataclasses.replace(found, epsilon=Fraction(1, 10)).holds
    assert not dataclasses.replace(found, outside=2).holds
    assert not dataclasses.replace(
        found, prices={k: v for k, v in found.prices.items() if k[0] != "--"}
    ).holds
    for i in (0, 7):
        pieces = [dict(p) for p in found.pieces]
        pieces[i]["p"] += 1
        assert not dataclasses.replace(found, pieces=tuple(pieces)).holds
    assert not dataclasses.replace(found, walk=dataclasses.replace(walk, events={})).holds
    assert "1/20" in found.claim


def test_the_mean_time_to_the_set_is_within_v_over_epsilon():
    """The walk cut off at 90 a coordinate (arrivals beyond are turned away), solved in floats."""
    walk = tandem(22, 39, 39)
    found = walk_drift(walk, 20, arc(8), Fraction(1, 20))
    assert found is not None
    size = 90
    table, ones = lil_array((size * size, size * size)), np.zeros(size * size)
    for p in range(size):
        for d in range(size):
            here = p * size + d
            table[here, here] += 1.0
            if p + d < found.outside:
                continue
            ones[here] = 1.0
            sides = ("+" if p >= 1 else "-") + ("+" if d >= 1 else "-")
            for probability, jump in walk.events[sides]:
                to = (min(p + jump.get("p", 0), size - 1), min(d + jump.get("d", 0), size - 1))
                table[here, to[0] * size + to[1]] -= float(probability)
    mean = spsolve(table.tocsr(), ones).reshape(size, size)
    shares = []
    for p, d in ((20, 0), (0, 20), (15, 15), (30, 0), (25, 5)):
        bound = float(found.value({"p": p, "d": d}) / found.epsilon)
        shares.append(mean[p, d] / bound)
    assert 0 < max(shares) <= 1


def test_an_overloaded_walk_has_no_v():
    walk = tandem(40, 39, 50)
    assert walk_drift(walk, 1) is None
    assert walk_drift(walk, 20, arc(8), Fraction(1, 1000)) is None


# -- what is refused


def test_bad_claims_are_refuted_in_a_sentence():
    model = engine(Fraction(1, 5), Fraction(1))
    found, _ = fluid_drift(model)
    assert found is not None
    for altered, sentence in (
        (dataclasses.replace(found, pieces=()), "no piece"),
        (dataclasses.replace(found, epsilon=ZERO), "not positive"),
        (dataclasses.replace(found, pieces=({"x": -ONE},)), "may be negative"),
        (dataclasses.replace(found, falling=dict.fromkeys(found.falling, ())), "0 multipliers for"),
        (dataclasses.replace(found, falling={}), "neither falls nor is covered"),
    ):
        with pytest.raises(Refuted, match=sentence):
            altered.check()
    with pytest.raises(ValueError, match="put it into a group"):
        fluid_drift(model, (frozenset("x"),))
    with pytest.raises(ValueError, match="together, or neither"):
        walk_drift(tandem(1, 2, 2), 1, arc(2))
    assert isinstance(found, FluidDrift)
    assert "falls at rate" in found.claim
    walk = walk_drift(tandem(1, 4, 3), 1)
    assert isinstance(walk, WalkDrift)
    crooked = {**walk.walk.events, "++": (Event(Fraction(1, 2), {}),)}
    with pytest.raises(Refuted, match="add up to 1/2"):
        dataclasses.replace(walk, walk=dataclasses.replace(walk.walk, events=crooked)).check()
