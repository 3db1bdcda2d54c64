"""Stationary laws: balanced, unique, equal to closed forms, and refuted when altered."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueing.models.stationary import certified_law, stationary
from queueing.proofs.certificate import Kind, Refuted
from queueing.proofs.exact_chain import StationaryLaw


@st.composite
def chains(draw):
    """Irreducible chains of up to six states, in fractions: a cycle through all, and whatever else."""
    n = draw(st.integers(1, 6))
    rows = {}
    for i in range(n):
        weights = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
        weights[(i + 1) % n] += 1
        rows[i] = {j: Fraction(w, sum(weights)) for j, w in enumerate(weights)}
    return rows


@given(chains())
def test_elimination_finds_the_law_and_floats_agree(rows):
    certificate = certified_law(rows)
    certificate.check()
    assert certificate.kind is Kind.EXACT_CHAIN
    floats = stationary({s: {t: float(p) for t, p in row.items()} for s, row in rows.items()})
    matrix = np.array([[float(rows[i].get(j, 0)) for j in rows] for i in rows])
    by_eigenvector = np.linalg.lstsq(
        np.vstack([matrix.T - np.eye(len(rows)), np.ones(len(rows))]),
        np.append(np.zeros(len(rows)), 1),
        rcond=None,
    )[0]
    for k, state in enumerate(rows):
        assert floats[state] == pytest.approx(float(certificate.law[state]), rel=1e-12)
        assert by_eigenvector[k] == pytest.approx(floats[state], abs=1e-9)


@given(chains(), st.integers(0, 5), st.integers(0, 5))
def test_an_altered_law_is_refuted(rows, a, b):
    certificate = certified_law(rows)
    n = len(rows)
    shift = min(certificate.law[a % n], Fraction(1, 1000))
    law = dict(certificate.law)
    law[a % n] -= shift
    law[b % n] += shift
    altered = dataclasses.replace(certificate, law=law)
    assert altered.holds is (a % n == b % n)


def test_zeros_among_the_probabilities_change_no_numbers():
    """A zero listed first once made floats of fractions, which the certificate refuted."""
    half, one, zero = Fraction(1, 2), Fraction(1), Fraction(0)
    rows = {0: {0: zero, 1: one, 2: zero}, 1: {0: zero, 1: half, 2: half}, 2: {0: half, 1: half, 2: zero}}
    certificate = certified_law(rows)
    certificate.check()
    assert all(isinstance(p, Fraction) for p in certificate.law.values())


def test_a_birth_and_death_chain_has_the_geometric_law():
    up, down, n = Fraction(1, 5), Fraction(3, 10), 12
    rows = {
        k: {k + 1: up if k < n else Fraction(0), k - 1: down if k else Fraction(0)}
        | {k: 1 - (up if k < n else 0) - (down if k else 0)}
        for k in range(n + 1)
    }
    rows = {k: {t: p for t, p in row.items() if p} for k, row in rows.items()}
    certificate = certified_law(rows)
    certificate.check()
    rho = up / down
    assert all(certificate.law[k] == rho**k * (1 - rho) / (1 - rho ** (n + 1)) for k in rows)
    assert certificate.mean({k: Fraction(k) for k in rows}) == sum(k * certificate.law[k] for k in rows)


def test_two_closed_classes_have_no_unique_law():
    """Control of uniqueness: the law of one class is balanced, and is refuted all the same."""
    one = Fraction(1)
    rows = {"a": {"a": one}, "b": {"b": one}}
    with pytest.raises(Refuted, match="never reach"):
        StationaryLaw(rows, {"a": one}).check()
    StationaryLaw(rows | {"b": {"a": one}}, {"a": one}).check()  # transient states are fine
    with pytest.raises(ValueError, match="not irreducible"):
        stationary(rows)


def test_bad_chains_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="at least one state"):
        stationary({})
    with pytest.raises(ValueError, match="no row"):
        stationary({"a": {"b": 1.0}})
    with pytest.raises(Refuted, match="do not add up"):
        StationaryLaw({"a": {"a": Fraction(1, 2)}}, {"a": Fraction(1)}).check()
