"""The composition program: all batches listed, the compact program, certificates, and what refutes them."""

import dataclasses
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from queueing.lengths import Moments
from queueing.models.composition import Composition
from queueing.models.composition_proof import prove
from queueing.models.demand import Demand, Limits, Stairs, total
from queueing.models.iteration_time import Affine, Roofline, Table, TileLaw
from queueing.models.tiling import compact_lp
from queueing.proofs.certificate import Refuted
from queueing.proofs.composition import BatchKind

TESTBED = Roofline(0.0234, 0.007, 0.000091, 0.17e-6, 5e-9)
SHAREGPT = Moments(2340.0, 438.7, 9.84e6, 263_213.69, 1_049_173.8)


def of(*pairs: tuple[float, int, int]) -> list[Demand]:
    """Classes of (rate, prompt, output), all decodes."""
    return [
        Demand(f"{p}+{d} at {i}", rate, p, d, p * d + d * (d + 1) / 2, p * p / 2)
        for i, (rate, p, d) in enumerate(pairs)
    ]


def by_listing(stairs: Stairs, classes: list[Demand], limits: Limits, pure: bool) -> float:
    """θ of the program over every batch whose decodes number whole or stand at a corner of memory, by scipy."""
    columns = [np.zeros(len(classes) + 3)]
    owed = sum(
        c.rate
        * (stairs.per_context * c.context + stairs.per_pair * c.pairs + stairs.per_prompt_token * c.prefill)
        for c in classes
    )
    wanted = [*(c.rate * c.decodes for c in classes), sum(c.rate * c.prefill for c in classes)]
    columns[0][:] = [*wanted, owed, 0.0]

    def column(tokens, prompt, decodes):
        entries = np.zeros(len(classes) + 3)
        for k, n in decodes:
            entries[k] -= n
        entries[-3], entries[-2], entries[-1] = -prompt, stairs.seconds[tokens - 1], -1.0
        columns.append(entries)

    context = [c.mean_context for c in classes]
    for tokens in range(1, len(stairs.seconds) + 1):
        column(tokens, tokens, ())
        most = min(tokens, limits.max_running)
        mixes = [((k, min(most, limits.kv_tokens / context[k])),) for k, c in enumerate(classes) if c.decodes]
        for (i, a), (j, b) in itertools.permutations(enumerate(context), 2):
            if a * most < limits.kv_tokens < b * most:
                n = (limits.kv_tokens - a * most) / (b - a)
                mixes.append(((i, most - n), (j, n)))
        for mix in mixes:
            column(tokens, 0 if pure else tokens - sum(n for _, n in mix), mix)
    matrix = np.array(columns).T
    side = np.zeros(len(classes) + 3)
    side[-2], side[-1] = limits.nodes, -limits.min_iterations * limits.nodes
    found = linprog(-np.eye(len(columns))[0], matrix, side)
    assert found.status == 0
    return -found.fun


@st.composite
def cases(draw):
    """A small machine: staircase, classes, limits."""
    budget = draw(st.integers(1, 12))
    steps = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=budget, max_size=budget))
    seconds = tuple(0.5 + float(x) for x in np.cumsum(steps))
    stairs = Stairs(seconds, draw(st.sampled_from([0.0, 0.01])), draw(st.sampled_from([0.0, 0.02])))
    sizes = st.tuples(st.sampled_from([0.0, 0.1, 1.0]), st.integers(1, 20), st.integers(1, 20))
    classes = of((0.5, 3, 2), *draw(st.lists(sizes, max_size=3)))
    limits = Limits(
        budget,
        kv_tokens=draw(st.sampled_from([math.inf, 60.0, 25.0, 7.0])),
        max_running=draw(st.integers(1, 12)),
        min_iterations=draw(st.sampled_from([0.0, 0.1, 0.5])) / max(1.0, seconds[0]),
        nodes=draw(st.integers(1, 3)),
    )
    return stairs, classes, limits, draw(st.booleans())


@given(cases())
def test_generation_finds_the_optimum_over_all_batches_and_proves_it(case):
    stairs, classes, limits, pure = case
    program = Composition(stairs, classes, limits, pure=pure)
    listed = by_listing(stairs, classes, limits, pure)
    assert program.solve().theta == pytest.approx(listed, rel=1e-6)
    certificate = prove(program)
    certificate.check()
    assert float(certificate.theta) == pytest.approx(listed, rel=1e-6)
    assert certificate.gap < Fraction(1, 10**8)


@pytest.mark.parametrize("budget", [256, 512, 1024, 4096])
def test_one_class_on_a_smooth_law_is_the_compact_program(budget):
    limits = Limits(budget, 235_728, 128)
    compact = compact_lp(TESTBED, SHAREGPT, budget=budget, kv_tokens=235_728, max_running=128)
    program = Composition(Stairs.of(TESTBED.params(), budget), [Demand.of(SHAREGPT)], limits)
    assert program.solve().theta == pytest.approx(compact.rate, rel=1e-6)


@pytest.mark.parametrize(
    ("law", "gain"),
    [(TileLaw(128, 0.012, 2e-5), 1.01), (Table((64, 128, 129, 512), (0.02, 0.021, 0.03, 0.06)), 1.0)],
)
def test_mixing_batches_beats_the_best_mean_batch_on_a_staircase(law, gain):
    """The compact program under a roofline above the staircase is a restriction; equal where it touches what counts."""
    stairs, n, slope = Stairs.of(law.params(), 512), np.arange(1, 513), 6e-5
    above = Roofline(stairs.seconds[0], max(np.array(stairs.seconds) - slope * n), slope)
    assert all(np.maximum(above.plateau, above.base + slope * n) >= np.array(stairs.seconds) - 1e-12)
    compact = compact_lp(above, SHAREGPT, budget=512, kv_tokens=235_728, max_running=128)
    program = Composition(stairs, [Demand.of(SHAREGPT)], Limits(512, 235_728, 128))
    assert program.solve().theta >= gain * compact.rate * (1 - 1e-9)


def test_the_tile_law_has_the_capacity_of_rad():
    """g/(tokens·w), with w = 4640 µs per 128 tokens: full tiles, whoever fills them (RAD's theorem 1)."""
    classes = of((3.0, 512, 40), (1.0, 128, 300))
    stairs = Stairs.of(TileLaw(128, 0.004, 5e-6).params(), 512)
    tokens = sum(c.rate * (c.prefill + c.decodes) for c in classes)
    for pure in (False, True):
        found = prove(Composition(stairs, classes, Limits(512, nodes=2), pure=pure))
        found.check()
        assert found.theta == 2 / (Fraction(4640, 128) / 10**6 * Fraction(tokens))


def test_pure_batches_carry_less_where_small_batches_are_dear():
    mixed, pure = (
        Composition(
            Stairs.of(TESTBED.params(), 512), [Demand.of(SHAREGPT)], Limits(512, 235_728, 128), pure=p
        )
        .solve()
        .theta
        for p in (False, True)
    )
    assert pure < 0.9 * mixed


def test_classes_scale_and_split():
    """Twice the rates halve θ; a class split in two is the same load; more nodes carry proportionally more."""
    classes = of((1.0, 300, 20), (2.0, 40, 90))
    stairs = Stairs.of(TESTBED.params(), 300)
    program = Composition(stairs, classes, Limits(300, 20_000, 64))
    theta = program.solve().theta
    assert program.solve([2.0, 4.0]).theta == pytest.approx(theta / 2, rel=1e-7)
    split = of((0.25, 300, 20), (0.75, 300, 20), (2.0, 40, 90))
    assert Composition(stairs, split, Limits(300, 20_000, 64)).solve().theta == pytest.approx(theta, rel=1e-7)
    five = Composition(stairs, classes, Limits(300, 20_000, 64, nodes=5))
    assert five.solve().theta == pytest.approx(5 * theta, rel=1e-7)


def refuted(certificate) -> str:
    with pytest.raises(Refuted) as found:
        certificate.check()
    return str(found.value)


def test_what_refutes_a_certificate():
    classes = of((1.0, 30, 20), (2.0, 40, 9))
    good = prove(Composition(Stairs.of(TESTBED.params(), 64), classes, Limits(64, 300, 16)))
    good.check()
    change = dataclasses.replace
    assert "too few" in refuted(change(good, theta=good.theta * Fraction(1001, 1000)))
    assert "claim" in refuted(change(good, theta=good.theta * Fraction(999, 1000)))
    faster = change(good.setting, seconds=tuple(t * Fraction(99, 100) for t in good.setting.seconds))
    assert "may be worth" in refuted(change(good, setting=faster))
    assert "worth" in refuted(change(good, decode=tuple(v * 2 for v in good.decode)))
    assert "less than 1" in refuted(change(good, decode=tuple(v / 2 for v in good.decode)))
    rogue = BatchKind(64, Fraction(64), ((0, Fraction(1)),))
    assert "more than its 64 tokens" in refuted(change(good, batches=((rogue, Fraction(1)),)))
    hog = BatchKind(64, Fraction(40), ((0, Fraction(12)),))
    assert "KV memory" in refuted(change(good, batches=((hog, Fraction(1)),)))
    small = change(good.setting, kv_tokens=Fraction(299))
    assert refuted(change(good, setting=small))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda s: Composition(s, [], Limits(8)), "at least one class"),
        (lambda s: Composition(s, of((1, 2, 3)), Limits(8, min_iterations=1e3)), "out of reach"),
        (lambda s: Composition(s, of((1, 2, 3)), Limits(8)).solve([0.0]), "not all zero"),
        (lambda s: Composition(s, of((1, 2, 3)), Limits(8)).solve([-1.0]), "finite"),
        (lambda s: Composition(s, of((1, 2, 3)), Limits(8)).solve([1.0, 2.0]), "as many rates"),
        (lambda s: Limits(0), "budget must be a whole number"),
        (lambda s: Limits(8, kv_tokens=-1), "kv_tokens must be positive"),
        (lambda s: Demand("x", 1.0, 0, 3, 5, 0), "no prompt token"),
        (lambda s: Demand("x", math.nan, 1, 3, 5, 0), "finite number"),
        (lambda s: Demand("x", 1.0, 1, 0, 5, 0), "tokens of context"),
        (lambda s: Stairs((1.0, 0.5)), "iteration time falls"),
        (lambda s: total([]), "at least one class"),
    ],
)
def test_bad_input_ends_in_one_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence) as found:
        make(Stairs.of(Affine(0.01, 1e-4).params(), 8))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("iterations", [0.0, 30.0])
def test_many_classes_are_repaired_to_a_proof_with_next_to_no_gap(iterations):
    """Forty classes: rounded batches and prices, made exactly right; the control claims a smaller gap."""
    classes = of(*((1.0 + k % 3, 20 + 37 * k, 5 + 11 * (40 - k)) for k in range(40)))
    program = Composition(Stairs.of(TESTBED.params(), 256), classes, Limits(256, 20_000, 64, iterations))
    found = prove(program)
    found.check()
    assert 0 < found.gap < Fraction(1, 10**8)
    assert float(found.theta) == pytest.approx(program.solve().theta, rel=1e-8)
    assert "claim" in refuted(dataclasses.replace(found, gap=found.gap / 2))


@settings(max_examples=30)
@given(cases(), st.floats(0.1, 10))
def test_a_warm_program_answers_like_a_fresh_one(case, factor):
    stairs, classes, limits, pure = case
    warm = Composition(stairs, classes, limits, pure=pure)
    warm.solve()
    rates = [c.rate * factor if i else 0.3 for i, c in enumerate(classes)]
    fresh = Composition(
        stairs,
        [dataclasses.replace(c, rate=r) for c, r in zip(classes, rates, strict=True)],
        limits,
        pure=pure,
    )
    assert warm.solve(rates).theta == pytest.approx(fresh.solve().theta, rel=1e-7)
