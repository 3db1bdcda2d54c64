"""The law by phase: its sum, its compiled twin, scaling, and bad coefficients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from policies import Sarathi
from queueing.models.iteration_time import Load
from queueing.models.phase_time import PhaseTime
from queueing.simulator import simulate
from queueing.system import System
from queueing.workload import Workload
from tests.laws import same_tables
from tests.strategies import loads

LAW = PhaseTime(base=0.0163, per_decode=0.000245, per_context=2.0e-6, per_prompt_token=0.00022, start=0.001)


@given(load=loads())
def test_the_parts_add_up(load: Load):
    """Decodes alone and prompts alone, one after the other; the start is paid only where there are prompts."""
    prompts = load.tokens - load.decodes
    alone = Load(load.decodes, load.decodes, load.context, load.chunk[:0], load.history[:0])
    rest = Load(prompts, 0, 0, load.chunk, load.history)
    parts = (LAW(alone) if load.decodes else 0.0) + (LAW(rest) if prompts else 0.0)
    assert LAW(load) == pytest.approx(parts)
    if load.decodes:
        assert LAW(alone) == pytest.approx(0.0163 + 0.000245 * load.decodes + 2.0e-6 * load.context)
    if prompts:
        assert LAW(rest) == pytest.approx(0.001 + 0.00022 * prompts)
    assert LAW.scaled(3.0)(load) == pytest.approx(3 * LAW(load))


def test_compiled_is_interpreted():
    rng = np.random.default_rng(2)
    workload = Workload(np.sort(rng.uniform(0, 2, 20)), rng.integers(1, 90, 20), rng.integers(1, 20, 20))
    system = System(LAW, blocks=200, name="phases")
    one, two = (
        simulate(workload, system, Sarathi(64), record_entries=True, python=python)
        for python in (False, True)
    )
    assert same_tables(one, two) == ""


@pytest.mark.parametrize(
    ("coefficients", "complaint"),
    [
        ((-1.0, 0.0, 0.0, 1.0), "must be at least 0 and finite"),
        ((0.0, 0.0, 1.0, 1.0), "a decode and a prompt token must take time"),
        ((1.0, 0.0, 0.0, float("inf")), "must be at least 0 and finite"),
    ],
)
def test_bad_coefficients(coefficients: tuple[float, float, float, float], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        PhaseTime(*coefficients)
