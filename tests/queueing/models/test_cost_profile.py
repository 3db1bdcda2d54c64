"""The cost profile of the VTC authors: planted laws are found again, and every stated digit is in the file."""

from __future__ import annotations

import json
from dataclasses import asdict, astuple
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueing.cost import Cost
from queueing.data import data_folder
from queueing.models.cost_profile import (
    CostProfile,
    cost_digits,
    fit_phase_time,
    fit_request_cost,
    phase_digits,
    read_cost_profile,
    step_error,
)
from queueing.models.phase_time import PhaseTime

needs_data = pytest.mark.skipif(
    data_folder() is None, reason="TANDEM_DATA names no folder with the cost profile"
)

SIZES = [(x, y) for x in (8, 64, 256, 512) for y in (1, 64, 128, 256)]
BATCHES = [1111, 138, 73, 37, 153, 78, 52, 31, 38, 31, 26, 19, 19, 17, 15, 13]


def profile_of(seconds: np.ndarray | None = None, law: PhaseTime | None = None) -> CostProfile:
    """A profile whose requests cost `seconds` each, or whose batches obey the law."""
    x, y = np.array(SIZES, float).T
    b = np.array(BATCHES, float)
    if law is None:
        assert seconds is not None
        return CostProfile(x, y, b, seconds / 4, 3 * seconds / 4)
    step = law.base + law.per_decode * b + law.per_context * b * (x + y / 2)
    return CostProfile(x, y, b, law.per_prompt_token * x, step * y / b)


coefficient = st.floats(1e-4, 1.0)


@given(st.tuples(*[coefficient] * 5))
def test_a_planted_cost_is_found_again(coefficients: tuple[float, ...]) -> None:
    a, b, c, d, e = coefficients
    planted = Cost(a, b, product=c, output_square=d, constant=e)
    x, y = np.array(SIZES, float).T
    found = fit_request_cost(profile_of(planted(x, y) / 1e3))
    np.testing.assert_allclose(astuple(found), astuple(planted), rtol=1e-6, atol=1e-9)
    assert planted(3, 0) == pytest.approx(planted.input * 3 + planted.constant)


@given(coefficient, coefficient, coefficient, coefficient)
def test_a_planted_law_is_found_again(base: float, decode: float, context: float, prompt: float) -> None:
    planted = PhaseTime(base, decode / 100, context / 1e4, per_prompt_token=prompt / 100)
    profile = profile_of(law=planted)
    found = fit_phase_time(profile)
    for name in ("base", "per_decode", "per_context", "per_prompt_token"):
        assert getattr(found, name) == pytest.approx(getattr(planted, name), rel=1e-6, abs=1e-12)
    assert step_error(profile, found) < 1e-9
    assert step_error(profile, planted.scaled(1.1)) == pytest.approx(0.1)


def normal_equations(terms: list[list[Fraction]], values: list[Fraction]) -> list[float]:
    """Least squares in fractions, by elimination."""
    n = len(terms[0])
    rows = [
        [sum((t[i] * t[j] for t in terms), Fraction()) for j in range(n)]
        + [sum((t[i] * v for t, v in zip(terms, values, strict=True)), Fraction())]
        for i in range(n)
    ]
    for i in range(n):  # positive definite, so no pivoting
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for k in range(n):
            if k != i:
                rows[k] = [a - rows[k][i] * b for a, b in zip(rows[k], rows[i], strict=True)]
    return [float(row[n]) for row in rows]


@needs_data
def test_every_stated_digit_of_the_cost() -> None:
    """All digits of h from the 23 entries; and in fractions, the same coefficients to 1e-10."""
    profile = read_cost_profile()
    assert len(profile.prompt) == 23
    computed, stated = cost_digits(profile)
    assert tuple(round(c, 8) for c in astuple(computed)) == astuple(stated)
    columns = (profile.prompt, profile.output, profile.prefill, profile.decode)
    entries = [tuple(map(Fraction, row)) for row in zip(*(c.tolist() for c in columns), strict=True)]
    exact = normal_equations(
        [[x, y, x * y, y * y, Fraction(1)] for x, y, _, _ in entries],
        [1000 * (p + d) for *_, p, d in entries],
    )
    found = [x for name, x in asdict(computed).items() if name != "input_square"]
    np.testing.assert_allclose(found, exact, rtol=1e-10)
    without_one = CostProfile(*(c[1:] for c in (*columns[:2], profile.batch, *columns[2:])))
    assert tuple(round(c, 8) for c in astuple(fit_request_cost(without_one))) != astuple(stated)
    half = CostProfile(*columns[:2], profile.batch, profile.prefill / 2, profile.decode)
    assert abs(fit_request_cost(half).input - stated.input) > 0.05
    with pytest.raises(ValueError, match="must not fall"):  # decodes alone are cheaper with longer prompts
        fit_request_cost(CostProfile(*columns[:2], profile.batch, profile.decode / 2, profile.decode / 2))
    assert float(computed(8, 1)) == pytest.approx(2.96, abs=0.005)  # loose for short requests
    assert 1e3 * (profile.prefill + profile.decode)[0] == pytest.approx(2.17, abs=0.005)


@needs_data
def test_every_stated_digit_of_the_law() -> None:
    """16 steps within 10 %, 7 prefills; other readings of the file give other digits."""
    profile = read_cost_profile()
    assert np.count_nonzero(profile.output > 1) == 16
    assert np.count_nonzero(profile.output == 1) == 7
    computed, stated = phase_digits(profile)
    for name, digits in (("base", 5), ("per_decode", 6), ("per_context", 9), ("per_prompt_token", 7)):
        assert round(getattr(computed, name), digits) == pytest.approx(getattr(stated, name), rel=1e-12)
    assert step_error(profile, computed) == pytest.approx(0.0975, abs=1e-4)
    assert step_error(profile, stated) < 0.1
    x, y, b = profile.prompt, profile.output, profile.batch
    # steps counted without the first token, which the prefill gives
    fewer = CostProfile(
        x, y, b, profile.prefill, profile.decode * np.where(y > 1, y / np.maximum(y - 1, 1), 1)
    )
    assert fit_phase_time(fewer).base == pytest.approx(15.29e-3, abs=5e-6)
    assert round(float(np.mean(1e3 * profile.prefill / x)), 4) == 0.2374  # over all 23 entries
    long_prompts = 1e3 * (profile.prefill / x)[(y == 1) & (x >= 128)]
    assert np.all(np.abs(long_prompts - 0.214) < 0.001)


def test_flaws_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "profile.json"
    record = {"8": {"1": [2, 0.001, 0.002]}, "16": {"4": [1, 0.5, 0.25]}}
    path.write_text(json.dumps(record))
    assert read_cost_profile(path).decode.tolist() == [0.002, 0.25]
    for text in (
        "",
        "[]",
        "{}",
        '{"8": 1}',
        '{"8": {"1": [1, 2]}}',
        '{"8": {"1": 3}}',
        '{"8": {"a": [1, 2, 3]}}',
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match="is not a cost profile; give JSON of"):
            read_cost_profile(path)
    path.write_text('{"8": {"1": [1, -0.5, 1]}}')
    with pytest.raises(
        ValueError, match="column prefill of a cost profile has 1 values; give 1 finite numbers > 0"
    ):
        read_cost_profile(path)
    with pytest.raises(ValueError, match="the column batch of a cost profile has 2 values; give 1"):
        CostProfile(*(np.ones(n) for n in (1, 1, 2, 1, 1)))
    same = CostProfile(*(np.full(6, value) for value in (8.0, 2.0, 4.0, 0.1, 0.1)))
    with pytest.raises(ValueError, match="6 entries determine 1 of 5 coefficients"):
        fit_request_cost(same)
    with pytest.raises(ValueError, match="no entry has one output token"):
        fit_phase_time(same)
    monkeypatch.delenv("TANDEM_DATA", raising=False)
    with pytest.raises(
        ValueError, match=r"set TANDEM_DATA to a folder that holds fairness/cost_profile\.json"
    ):
        read_cost_profile()
