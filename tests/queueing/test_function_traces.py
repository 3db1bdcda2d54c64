"""Counts per minute of cloud functions: read, drawn like the published ones, and turned into arrivals."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from queueing.function_traces import DAY, MinuteCounts, daily_law, read_azure_functions, synthetic_functions

tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(st.integers(0, 6), min_size=width, max_size=width), min_size=1, max_size=4)
).filter(lambda rows: any(map(sum, rows)))  # fmt: skip


def counted(times: np.ndarray, function: np.ndarray, shape: tuple[int, ...], minute: float) -> np.ndarray:
    counts = np.zeros(shape, np.int64)
    np.add.at(counts, (function, np.minimum(np.floor(times / minute).astype(int), shape[1] - 1)), 1)
    return counts


@given(tables, st.sampled_from([60.0, 1 / 12, 3.0]))
def test_arrivals_have_the_counts(rows: list[list[int]], minute: float) -> None:
    trace = MinuteCounts(rows)
    times, function = trace.times(np.random.default_rng(1), minute=minute)
    assert (np.diff(times) >= 0).all()
    assert len(times) == trace.total == sum(map(sum, rows))
    assert np.array_equal(counted(times, function, trace.counts.shape, minute), trace.counts)
    late = times + minute  # negative control
    assert trace.counts.shape[1] == 1 or not np.array_equal(
        counted(late, function, trace.counts.shape, minute), trace.counts
    ) or not trace.counts[:, :-1].any()  # fmt: skip


def test_thinning_is_right_on_average() -> None:
    """60,000 calls kept with probability 0.3: sd of the total at most sqrt(60000)/2, six of them: error 1e-8."""
    trace = MinuteCounts(np.random.default_rng(2).poisson(3.0, (20, 1000)))
    less = trace.thinned(0.3 * trace.total, np.random.default_rng(3))
    assert abs(less.total - 0.3 * trace.total) < 3 * math.sqrt(trace.total)
    assert abs(less.total - 0.35 * trace.total) > 3 * math.sqrt(trace.total)
    assert (less.counts <= np.ceil(0.3 * trace.counts)).all()


def test_the_synthetic_day_is_like_the_published_one() -> None:
    """Shares of 4,000 functions within 6 standard deviations of a binomial share (error 1e-8 each).

    Before the cut the law gives the popular functions 99.9 % of the calls (closed form); published 99.6 %.
    """
    mean, sd = daily_law()
    trace = synthetic_functions(4000, np.random.default_rng(4))
    daily = trace.counts.sum(axis=1)
    for most, stated in ((24, 0.45), (1440, 0.81)):
        margin = 6 * math.sqrt(stated * (1 - stated) / 4000)
        assert (
            abs((daily <= most * 1.05).mean() - stated) < margin + 0.02
        )  # counts are Poisson about their means
    sigma, mu = sd * math.log(10), mean * math.log(10)
    assert norm.cdf((sigma**2 + mu - math.log(1440)) / sigma) == pytest.approx(0.996, abs=0.004)
    share = np.sort(daily)[::-1][: int(0.19 * 4000)].sum() / daily.sum()
    assert share > 0.97
    flat = synthetic_functions(4000, np.random.default_rng(4), most=100.0)  # negative control
    top = np.sort(flat.counts.sum(axis=1))[::-1]
    assert top[: int(0.19 * 4000)].sum() / top.sum() < 0.6


def test_day_and_night_and_bursts() -> None:
    """Hourly totals of many like functions swing by 2 to 1; minute counts of a bursty day scatter, a timer's do not."""
    day = synthetic_functions(3000, np.random.default_rng(5), burst=0.0, timers=0.0, most=3000.0)
    hours = day.counts.sum(axis=0).reshape(24, 60).sum(axis=1)
    assert hours.max() / hours.min() == pytest.approx(2.0, rel=0.1)
    assert int(np.argmax(hours)) in (5, 6)
    night = synthetic_functions(3000, np.random.default_rng(5), burst=0.0, timers=0.0, swing=0.0, most=3000.0)
    even = night.counts.sum(axis=0).reshape(24, 60).sum(axis=1)
    assert even.max() / even.min() < 1.1  # negative control

    def spread(**how: float) -> float:
        counts = synthetic_functions(400, np.random.default_rng(6), swing=0.0, **how).counts
        busy = counts[counts.mean(axis=1) > 30]
        return float(np.median(busy.std(axis=1) / busy.mean(axis=1)))

    assert spread(burst=1.0, timers=0.0) == pytest.approx(1.0, abs=0.1)
    assert spread(burst=0.0, timers=0.0) < 0.2
    assert spread(burst=1.0, timers=1.0) < 0.03


def written(path: Path, cell: str) -> Path:
    head = ["HashOwner", "HashApp", "HashFunction", "Trigger", *map(str, range(1, DAY + 1))]
    rows = [["o", "a", f"f{k}", "http", *[str((k + m) % 3) for m in range(DAY)]] for k in range(3)]
    rows[1][4 + 16] = cell
    path.write_text("\n".join(",".join(row) for row in [head, *rows]) + "\n")
    return path


def test_the_published_format_is_read(tmp_path: Path) -> None:
    trace = read_azure_functions(written(tmp_path / "day.csv", "7"))
    assert trace.counts.shape == (3, DAY)
    assert trace.counts[1, 16] == 7
    assert trace.counts[2, :3].tolist() == [2, 0, 1]


@pytest.mark.parametrize("cell", ["-1", "1.5", "many", ""])
def test_a_cell_that_is_no_count_is_named(tmp_path: Path, cell: str) -> None:
    with pytest.raises(ValueError, match="line 3, column 17"):
        read_azure_functions(written(tmp_path / "day.csv", cell))


def test_bad_input_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no column 'HashFunction'"):
        read_azure_functions(tmp_path / "other.csv")
    for counts, said in (
        ([[0, 0]], "ever called"), ([[1, -1]], "-1 calls in minute 1"), ([[0.5]], "0.5 calls"), ([1, 2], "shape"),
        ([[1e30]], r"1e\+30 calls in all"), ([[2.0**52, 2.0**52]], "fewer than 2"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            MinuteCounts(counts)
    assert MinuteCounts([[2.0**52, 1]]).total == 2**52 + 1  # control: large, and exact
    rng = np.random.default_rng()
    for call in (
        lambda: synthetic_functions(0, rng),
        lambda: synthetic_functions(1, rng, swing=1.0),
        lambda: MinuteCounts([[1]]).times(rng, minute=0.0),
        lambda: MinuteCounts([[1]]).thinned(0.0, rng),
    ):
        with pytest.raises(ValueError, match="give"):
            call()
