"""Linear programs in fractions: what is returned checks, agrees with another solver, and breaks when it is altered."""

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from queueing.proofs.certificate import Kind, Refuted
from queueing.proofs.rational import (
    Infeasible,
    Optimum,
    Program,
    Unbounded,
    exact,
    payload,
    repaired,
    restore,
)
from queueing.proofs.simplex import certify

SMALL = st.integers(-3, 3)


@st.composite
def programs(draw):
    """Small integer programs: degenerate, infeasible and unbounded ones included, some rows equalities."""
    n, m = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rows = {f"r{i}": (draw(st.sampled_from(["<=", "<=", "="])), draw(SMALL)) for i in range(m)}
    columns = {f"x{j}": (draw(SMALL), {f"r{i}": draw(SMALL) for i in range(m)}) for j in range(n)}
    return Program.of(rows, columns)


def by_scipy(program: Program):
    """Status and value by floats."""
    rows = {row.name: i for i, row in enumerate(program.rows)}
    matrix = np.zeros((len(rows), len(program.columns)))
    for j, column in enumerate(program.columns):
        for row, a in column.entries.items():
            matrix[rows[row], j] = a
    side = np.array([float(row.side) for row in program.rows])
    equal = np.array([row.sense == "=" for row in program.rows])
    found = linprog(
        [-float(c.gain) for c in program.columns], matrix[~equal], side[~equal], matrix[equal], side[equal]
    )
    return found.status, -found.fun if found.status == 0 else None


@given(programs())
def test_every_answer_checks_and_agrees_with_another_solver(program):
    certificate = certify(program)
    certificate.check()
    status, value = by_scipy(program)
    if isinstance(certificate, Optimum):
        assert status == 0
        assert abs(certificate.value - exact(value)) < 1e-7
    else:
        assert status in ((2,) if isinstance(certificate, Infeasible) else (3, 4))
    assert certificate.kind is Kind.RATIONAL
    again = restore(json.loads(json.dumps(payload(certificate))))
    assert again == certificate


def blending() -> Program:
    """The diet-like program of a textbook: two priced rows."""
    return Program.of(
        {"time": ("<=", 40), "steel": ("<=", "33.5"), "spare": ("<=", 1000)},
        {"a": (3, {"time": 2, "steel": 1, "spare": 1}), "b": ("5.25", {"time": 3, "steel": 3})},
    )


def flipped(number: str) -> list[str]:
    """Every text that differs from `number` in one digit, and is a number."""
    found = []
    for i, digit in enumerate(number):
        if digit.isdigit():
            other = str((int(digit) + 1) % 10)
            text = number[:i] + other + number[i + 1 :]
            if not text.endswith("/0"):
                found.append(text)
    return found


@pytest.mark.parametrize("vector", ["x", "y"])
def test_one_flipped_digit_refutes(vector):
    text = payload(certify(blending()))
    assert restore(text).holds
    flips = 0
    for name, number in text[vector].items():
        for other in flipped(number):
            altered = json.loads(json.dumps(text))
            altered[vector][name] = other
            assert not restore(altered).holds
            flips += 1
    assert flips >= 4


def test_one_flipped_digit_of_a_ray_refutes():
    program = Program.of({"most": ("<=", 7), "least": ("<=", -8)}, {"x": (1, {"most": 1, "least": -1})})
    text = payload(certify(program))
    assert text["certificate"] == "infeasible"
    for name, number in text["y"].items():
        altered = json.loads(json.dumps(text))
        altered["y"][name] = str(Fraction(number) * 2)
        assert not restore(altered).holds
    with pytest.raises(Refuted, match="least"):
        Infeasible(program, {"most": Fraction(2), "least": Fraction(1)} | {"least": Fraction(-1)}).check()


def test_an_unbounded_program_shows_its_ray():
    certificate = certify(Program.of({"gap": ("<=", 1)}, {"x": (1, {"gap": 1}), "y": (0, {"gap": -1})}))
    assert isinstance(certificate, Unbounded)
    certificate.check()
    assert not Unbounded(certificate.program, certificate.x, {"x": Fraction(1)}).holds


def test_a_degenerate_program_where_the_rule_of_pivots_matters():
    """Beale's example, on which the textbook rule cycles."""
    program = Program.of(
        {"a": ("<=", 0), "b": ("<=", 0), "c": ("<=", 1)},
        {
            "x": ("0.75", {"a": "0.25", "b": "0.5"}),
            "y": (-150, {"a": -60, "b": -90}),
            "z": ("0.02", {"a": "-0.04", "b": "-0.02", "c": 1}),
            "w": (-6, {"a": 9, "b": 3}),
        },
    )
    certificate = certify(program)
    assert isinstance(certificate, Optimum)
    assert certificate.value == Fraction(1, 20)
    certificate.check()


def test_numbers_mean_what_they_print():
    assert exact(0.0234) == Fraction(117, 5000)
    assert exact("1e-3") == Fraction(1, 1000)
    with pytest.raises(ValueError, match="no finite number"):
        exact(float("nan"))
    with pytest.raises(ValueError, match="no finite number"):
        exact(float("inf"))


def test_a_rounded_point_is_repaired():
    program = blending()
    optimum = certify(program)
    rounded = {name: float(v) + 1e-9 for name, v in optimum.x.items()}
    point = repaired(program, rounded)
    assert all(v <= row.side for row, v in zip(program.rows, program.loads(point).values(), strict=True))
    assert optimum.value - program.value(point) < Fraction(1, 10**7)
    with pytest.raises(Refuted, match="equality"):
        repaired(Program.of({"r": ("=", 1)}, {"x": (1, {"r": 3})}), {"x": 0.333})


def test_bad_programs_and_texts_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="stands in no row"):
        Program.of({"r": ("<=", 1)}, {"x": (1, {"s": 1})})
    with pytest.raises(ValueError, match="no certificate"):
        restore({"certificate": "optimum"})
