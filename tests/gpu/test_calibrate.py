"""Calibration: a law that made the times is found again, and judged on what it was not fitted to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu.calibrate import Mix, calibrate, fitted, measure, mixes, write_table
from gpu.config import ModelConfig
from gpu.engine import CpuClock, TorchEngine, engine_system
from gpu.loader import random_model
from queueing.models.fitting import Measurements
from queueing.models.iteration_time import Affine, Table

CONFIG = ModelConfig(
    architecture="MistralForCausalLM", layers=1, hidden=16, heads=2, kv_heads=1, head_dim=8, intermediate=16, vocab=61,
    norm_epsilon=1e-5, rope_theta=1e4, window=None, tied=False, max_length=128, dtype="float32", eos=(0, 1, 2),
)  # fmt: skip
LIMITS = {"most_tokens": 64, "most_context": 100, "most_decodes": 8}
AFFINE = Affine(0.01, 0.002, 1e-4, 1e-6)
BENT = Table((1, 2, 4, 8, 16, 32, 64), (0.01, 0.03, 0.04, 0.08, 0.09, 0.1, 0.3), 1e-4, 1e-6)


def engine() -> TorchEngine:
    system = engine_system(CONFIG, blocks=300, block_size=4, max_running=10)
    return TorchEngine(random_model(CONFIG, 1), system, 10, clock=CpuClock())


@given(st.integers(0, 100), st.integers(1, 40))
def test_mixes_keep_their_limits(seed: int, drawn: int) -> None:
    found = mixes(np.random.default_rng(seed), drawn, **LIMITS)
    for mix in found:
        assert 1 <= mix.tokens <= 64
        assert len(mix.contexts) <= 8
        assert all(1 <= c < 100 for c in mix.contexts)
        assert all(0 <= h < 100 and q >= 1 for q, h in mix.chunks)
        load = mix.load
        assert (load.tokens, load.decodes) == (mix.tokens, len(mix.contexts))
        assert load.context == sum(c + 1 for c in mix.contexts)
    assert len(found) > drawn


@pytest.mark.parametrize("law", [AFFINE, BENT], ids=["affine", "bent"])
def test_the_law_behind_the_times_is_found(law: Affine | Table) -> None:
    """Exact times give the law back, to rounding; a straight law does not fit bent times."""
    chosen = mixes(np.random.default_rng(0), 60, **LIMITS)
    found = fitted(chosen, np.array([law(mix.load) for mix in chosen]))
    assert found.held_out.mape < 1e-6
    assert found.residuals.mape < 1e-6
    if law is BENT:
        assert found.tried["Affine"] > 0.1
        assert isinstance(found.law, Table)


def test_noise_is_seen_where_nothing_was_fitted() -> None:
    """Control: times with 20 % of noise leave an error of that order on the other half."""
    rng = np.random.default_rng(1)
    chosen = mixes(rng, 60, **LIMITS)
    noisy = np.array([AFFINE(mix.load) for mix in chosen]) * rng.uniform(0.8, 1.2, len(chosen))
    assert 0.05 < fitted(chosen, noisy).held_out.mape < 0.25


def test_a_device_is_timed_and_written(tmp_path: Path) -> None:
    chosen = mixes(np.random.default_rng(2), 12, **LIMITS)
    timed = engine()
    seen: list[tuple[int, int]] = []
    found = calibrate(timed, chosen, repeats=2, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (2 * len(chosen), 2 * len(chosen))
    assert (found.seconds > 0).all()
    assert timed.tables.free == 300  # nothing is left behind, ends of text or not
    write_table(found, tmp_path / "m.csv")
    read = Measurements.read_csv(tmp_path / "m.csv")
    assert np.allclose(read.seconds, found.seconds, rtol=1e-6)
    assert read.tokens.tolist() == [mix.tokens for mix in chosen]
    assert read.context.tolist() == [mix.load.context for mix in chosen]


def test_what_cannot_be_timed() -> None:
    with pytest.raises(ValueError, match="nothing to time"):
        mixes(np.random.default_rng(0), 5, most_tokens=8, most_context=10, most_decodes=8)
    with pytest.raises(ValueError, match="time at least 24"):
        calibrate(engine(), [Mix((3,), ())] * 5)
    with pytest.raises(ValueError, match="does not fit an engine"):
        measure(engine(), Mix((3,) * 20, ()))
