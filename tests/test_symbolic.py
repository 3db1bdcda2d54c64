"""Kernels and the VTC model under symbolic execution: a solver chooses the inputs, so that needles are found.

Symbolic execution finishes on arithmetic of a few lines, and on short histories; whole policies are explored by
enumeration (validation.falsify).  It proves nothing here: paths are cut after a number of examples.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from queueing.batch import blocks_for
from queueing.compilation import interpreted
from queueing.cost import Cost
from queueing.models.vtc import LeastCounterFirst, Setting, Vtc, violated

pytest.importorskip("hypothesis_crosshair_provider", reason="needs hypothesis-crosshair")

symbolic = settings(
    backend="crosshair",
    max_examples=15,
    deadline=None,
    database=None,
    derandomize=False,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
blocks: Any = interpreted(blocks_for)


@symbolic
@given(st.integers(0, 10**6), st.integers(1, 512))
def test_blocks_hold_the_tokens_and_no_more(tokens: int, size: int) -> None:
    n = blocks(SimpleNamespace(block_size=size), tokens)
    assert n * size >= tokens
    assert n == 0 or (n - 1) * size < tokens


def test_a_needle_is_found() -> None:
    """Control: one wrong value in a million."""

    @symbolic
    @given(st.integers(0, 10**6))
    def needle(tokens: int) -> None:
        assert blocks(SimpleNamespace(block_size=7), tokens) * 7 != 7 * 123_456 or tokens % 7 != 3

    with pytest.raises(AssertionError):
        needle()


lengths = st.tuples(st.integers(1, 4), st.integers(1, 4))


def history(
    kind: type[Vtc], first: tuple[int, int], second: tuple[int, int], third: tuple[int, int]
) -> list[str]:
    """Client 0 is served alone; then 1 comes with two requests and 0 returns: what is violated on the way."""
    system, found = kind(Setting(2, 8, longest=4, cost=Cost(1, 2))), list[str]()
    system.arrive(0, *first)
    while system.queued or system.running:
        system.admit()
        system.decode()
        found += violated(system)
    for u, (prompt, output) in ((1, second), (1, third), (0, first)):
        system.arrive(u, prompt, output)
        found += violated(system)
    while system.queued or system.running:
        while system.admit():
            found += violated(system)
        system.decode()
        found += violated(system)
    return found


@symbolic
@given(lengths, lengths, lengths)
def test_short_histories_keep_the_invariants(
    first: tuple[int, int], second: tuple[int, int], third: tuple[int, int]
) -> None:
    assert history(Vtc, first, second, third) == []


def test_a_missing_lift_is_found() -> None:
    @symbolic
    @given(lengths, lengths, lengths)
    def without(first: tuple[int, int], second: tuple[int, int], third: tuple[int, int]) -> None:
        assert history(LeastCounterFirst, first, second, third) == []

    with pytest.raises(AssertionError):
        without()
