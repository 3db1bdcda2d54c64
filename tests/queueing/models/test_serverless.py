"""Functions paid per use: the fitted time, price lists, the law of the largest, padding."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import least_squares

from queueing.models.serverless import (
    KILOBYTES,
    LANDMARKS,
    PRICES,
    FunctionTime,
    Prices,
    Tier,
    largest_law,
    mixes,
    padding,
)

shares = st.lists(st.floats(0.05, 1.0), min_size=1, max_size=4).map(np.array)


def test_the_fitted_time_meets_the_landmarks() -> None:
    """Within 7 % at every landmark; control: a fixed cost that does not grow with the size misses one by over 30 %."""
    assert np.abs(FunctionTime.fitted().residuals()).max() < 0.07
    m, x, b, seconds = np.array(LANDMARKS).T

    def fixed(p):
        return np.log(
            (np.exp(p[0]) + np.exp(p[1]) * x ** np.exp(p[2]) * b) * np.maximum(1, np.exp(p[3]) / m) / seconds
        )

    starts = [np.log([c, e, a, 1800.0]) for c in (0.03, 0.3) for e in (0.01, 0.03) for a in (0.8, 1.0)]
    best = min((least_squares(fixed, start) for start in starts), key=lambda found: found.cost)
    assert np.abs(np.exp(best.fun) - 1).max() > 0.3


def test_a_fit_recovers_what_made_the_points() -> None:
    true = FunctionTime(0.02, 0.05, 0.8, 1500.0)
    points = [(m, x, b, float(true(m, x, b))) for m, x, b, _ in LANDMARKS]
    assert FunctionTime.fitted(points).residuals(points) == pytest.approx(0, abs=1e-6)
    points[0] = (*points[0][:3], 2 * points[0][3])  # control
    assert np.abs(FunctionTime.fitted(points).residuals(points)).max() > 0.1


def test_the_table_rises_in_size_and_batch_and_falls_in_memory() -> None:
    table = FunctionTime.fitted().table([1024, 1792, 3328], KILOBYTES, 5)
    assert table.shape == (3, 32, 5)
    assert (np.diff(table, axis=1) > 0).all()
    assert (np.diff(table, axis=2) > 0).all()
    assert (np.diff(table, axis=0) <= 0).all()


@given(shares, st.integers(1, 4))
def test_the_largest_of_a_batch_has_its_law(f: np.ndarray, b: int) -> None:
    """Against the sum over every batch of b; control: as if the classes of a batch were the same."""
    f = f / f.sum()
    exact = np.zeros(len(f))
    for batch in itertools.product(range(len(f)), repeat=b):
        exact[max(batch)] += np.prod(f[list(batch)])
    assert largest_law(f, 4)[:, b - 1] == pytest.approx(exact, abs=1e-12)
    if b > 1 and len(f) > 1:
        assert np.abs(f - exact).max() > 1e-4


@given(shares, st.lists(st.floats(0.05, 1.0), min_size=1, max_size=5))
def test_padding_is_nothing_only_where_batches_are_of_one_class(f: np.ndarray, p: list[float]) -> None:
    x = np.arange(1.0, len(f) + 1)
    sizes = np.array(p) / sum(p)
    over = padding(f, x, sizes)
    assert over >= -1e-12
    assert (over > 1e-9) == (len(f) > 1 and len(p) > 1)


@given(st.floats(1e-4, 30.0), st.sampled_from([1e-3, 1e-2]), st.integers(2, 100))
def test_finer_billing_never_costs_more(seconds: float, fine: float, times: int) -> None:
    tiers = (Tier(0, 4096, per_gb_second=1e-5),)
    finer, coarser = (
        float(Prices("p", tiers, 0.0, unit).cost(1024, seconds)) for unit in (fine, times * fine)
    )
    assert finer <= coarser * (1 + 1e-9)
    assert seconds * 1e-5 <= finer * (1 + 1e-6) <= (seconds + fine) * 1e-5 * (1 + 2e-6)
    # control: rounding to the nearest unit is cheaper than the time that was used, and not monotone
    assert round(0.14 / 0.1) * 0.1 < float(Prices("p", tiers, 0.0, 0.1).billed(0.14))


def test_whole_units_are_not_rounded_up_again() -> None:
    assert PRICES["aws-100ms"].billed([0.3, 0.1 * 7, 0.30001]) == pytest.approx([0.3, 0.7, 0.4])


def test_published_prices() -> None:
    """A GB for a second of AWS, by hand; the flat tiers charge what is rounded up to."""
    assert float(PRICES["aws-x86"].cost(1024, 1.0)) == pytest.approx(1.66667e-5 + 2e-7)
    assert float(PRICES["aws-arm"].cost(2048, 0.5)) == pytest.approx(1.33334e-5 + 2e-7)
    assert float(PRICES["aws-2020"].cost(1024, 0.01)) == pytest.approx(1.66667e-6 + 2e-7)
    assert PRICES["gcf-gen1"].rate(384) == PRICES["gcf-gen1"].rate(512) < PRICES["gcf-gen1"].rate(640)
    assert len(PRICES["aws-x86"].memories(1024, 6912, 256)) == 24


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Prices("p", (Tier(0, 512, 1), Tier(1024, 2048, 1)), 0, 0.1),
            "no price between 512 and 1024",
        ),
        (
            lambda: Prices("p", (Tier(0, 512, 1), Tier(256, 2048, 1)), 0, 0.1),
            "two prices between 256 and 512",
        ),
        (lambda: Prices("p", (), 0, 0.1), "no tier"),
        (lambda: Prices("p", (Tier(512, 0, 1),), 0, 0.1), "is no tier"),
        (lambda: Tier(0, 512, math.nan), "is no tier"),
        (lambda: Tier(0, 512, per_gb_second=math.inf), "is no tier"),
        (lambda: Tier(0, math.inf, 1), "is no tier"),
        (lambda: Tier(math.nan, 512, 1), "is no tier"),
        (lambda: Tier(0, 512, -1), "is no tier"),
        (lambda: Prices("p", (Tier(0, 512, 1),), 0, 0.0), "billing unit"),
        (lambda: Prices("p", (Tier(0, 512, 1),), 0, math.nan), "billing unit nan"),
        (lambda: Prices("p", (Tier(0, 512, 1),), 0, math.inf), "billing unit inf"),
        (lambda: Prices("p", (Tier(0, 512, 1),), math.inf, 0.1), "inf USD per call"),
        (lambda: Prices("p", (Tier(0, 512, 1),), math.nan, 0.1), "nan USD per call"),
        (lambda: Prices("p", (Tier(0, 512, 1),), 0, 0.1, step=math.nan), "by nan are outside"),  # type: ignore[arg-type]
        (lambda: Prices("p", (Tier(256, 512, 1),), 0, 0.1, least=128), "outside the tiers"),
        (lambda: PRICES["gcf-gen1"].rate(200), "does not offer 200 MB"),
        (lambda: PRICES["aws-2020"].rate(6912), "does not offer 6912 MB"),
        (lambda: FunctionTime(0, 0, 1, 1), "make no time"),
        (lambda: FunctionTime(1, 0, 0, 1), "exponent"),
    ],
)
def test_bad_input_is_one_sentence(build, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build()
    assert "\n" not in str(error.value)


def test_mixes_are_laws() -> None:
    for f in mixes().values():
        assert f.sum() == pytest.approx(1)
        assert (f > 0).all()
    peaks = {name: int((np.diff(np.sign(np.diff(f))) < 0).sum()) for name, f in mixes().items()}
    assert peaks == {"original": 1, "bimodal": 2, "exponential": 0, "uniform": 0}
