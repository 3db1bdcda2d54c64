"""The count of zeros in a disc: against zeros that are known, and against forged evidence."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from queueing.proofs.certificate import Kind, Refuted
from queueing.proofs.jury import count_zeros

fractions = st.fractions(-3, 3, max_denominator=6)
pairs = st.tuples(fractions, fractions)  # real and imaginary part of a conjugate pair


def product(real, conjugate, lead=Fraction(1)):
    """Coefficients of the polynomial with these zeros, highest power first."""
    found = [lead]
    for factor in [[1, -x] for x in real] + [[1, -2 * x, x * x + y * y] for x, y in conjugate]:
        grown = [Fraction(0)] * (len(found) + len(factor) - 1)
        for i, a in enumerate(found):
            for j, b in enumerate(factor):
                grown[i + j] += a * b
        found = grown
    return found


zeros = st.tuples(st.lists(fractions, max_size=4), st.lists(pairs, max_size=3))


@given(zeros=zeros, lead=fractions.filter(bool), radius=st.fractions(Fraction(1, 5), 4, max_denominator=7))
def test_counts_the_zeros_it_was_given(zeros, lead, radius):
    squares = [x * x for x in zeros[0]] + [x * x + y * y for x, y in zeros[1] for _ in range(2)]
    try:
        found = count_zeros(product(*zeros, lead), radius)
    except ValueError:
        assume(False)  # a zero on the circle, or a reflection of modulus 1 on the way
    found.check()
    assert found.inside == sum(s < radius**2 for s in squares)
    assert found.outside == sum(s > radius**2 for s in squares)
    assert found.kind is Kind.RATIONAL


@given(zeros=zeros)
def test_says_no_more_than_it_can_where_a_zero_lies_on_the_circle(zeros):
    for real, conjugate in (([1], []), ([-1], []), ([], [(Fraction(3, 5), Fraction(4, 5))])):
        with pytest.raises(ValueError, match="take another radius"):
            count_zeros(product(zeros[0] + real, zeros[1] + conjugate))


@given(coefficients=st.lists(st.integers(-9, 9), min_size=2, max_size=9))
def test_agrees_with_floating_point_zeros(coefficients):
    assume(coefficients[0] != 0)
    moduli = np.abs(np.roots(coefficients))
    assume(not np.any(np.abs(moduli - 1) < 1e-2))
    try:
        found = count_zeros(coefficients)
    except ValueError:
        assume(False)
    assert found.inside == np.count_nonzero(moduli < 1)


@given(
    coefficients=st.lists(fractions, min_size=1, max_size=6),
    where=st.integers(0, 5),
    by=fractions.filter(bool),
)
def test_one_changed_number_refutes_it(coefficients, where, by):
    growing = [Fraction(30), *coefficients]
    found = count_zeros(growing)  # 30 outweighs five coefficients of at most 3: stable
    assert found.stable
    at = where % len(coefficients)
    reflections, powers = list(found.reflections), list(found.coefficients)
    reflections[at] += by
    powers[at + 1] += by
    for forged in (
        replace(found, reflections=tuple(reflections)),
        replace(found, reflections=found.reflections[1:]),
        replace(found, coefficients=tuple(powers)),
    ):
        assert not forged.holds
    assert replace(found, radius=Fraction(2)).holds == (not any(coefficients))


def test_a_reflection_of_modulus_one_is_no_evidence():
    found = count_zeros((2, 1))
    with pytest.raises(Refuted, match="decides nothing"):
        replace(found, coefficients=(Fraction(1), Fraction(1)), reflections=(Fraction(1),)).check()
    with pytest.raises(Refuted, match="not positive"):
        replace(found, radius=Fraction(0)).check()
    with pytest.raises(Refuted, match="is 0"):
        replace(found, coefficients=(Fraction(0), Fraction(1))).check()


@pytest.mark.parametrize("wrong", [((), 1), ((0, 1), 1), ((1, 2), 0)])
def test_bad_input_is_refused(wrong):
    with pytest.raises(ValueError, match="the first not 0"):
        count_zeros(*wrong)
