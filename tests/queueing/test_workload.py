"""Workload: what construction accepts, what the operations conserve, and that files are whole and lossless."""

from __future__ import annotations

import dataclasses
import math
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueing.arrivals import Deterministic, Gamma, Poisson
from queueing.lengths import Fixed, Independent, ShareGPT, UniformTiles
from queueing.workload import ColumnError, SloClass, Workload
from tests.strategies import workloads

COLUMNS = [field.name for field in dataclasses.fields(Workload)]
MIX = (SloClass(0.05, tbt=0.1), SloClass(0.95, tbt=0.5))
LENGTHS = Independent(UniformTiles(128, 8), Fixed(20))


def good() -> dict[str, list[float] | list[int] | None]:
    return {
        "arrival": [0.0, 1.0, 1.0, 2.5],
        "prompt": [5, 1, 7, 9],
        "output": [1, 2, 3, 4],
        "client": [0, 1, 0, 1],
        "tbt": [0.1, math.inf, 0.5, 0.1],
        "ttft": [1.0, math.inf, 2.0, 1.0],
        "predicted": [4, 4, 4, 4],
    }


# -- construction


def test_good_columns_are_accepted_and_kept() -> None:
    w = Workload.from_columns(**good())
    for name, values in good().items():
        column = getattr(w, name)
        assert column.tolist() == values
        assert column.flags.c_contiguous
        assert not column.flags.writeable


@pytest.mark.parametrize(
    ("column", "row", "value", "shown"),
    [
        ("prompt", 2, -5, "-5"),
        ("prompt", 0, 0, "0"),
        ("prompt", 3, 2.5, "2.5"),
        ("prompt", 1, math.nan, "nan"),
        ("prompt", 1, math.inf, "inf"),
        ("prompt", 1, 10**9 + 1, "1000000001"),
        ("prompt", 1, 2**70, "1.18"),
        ("prompt", 1, None, "None"),
        ("output", 1, "seven", "seven"),
        ("output", 3, 0, "0"),
        ("client", 2, -1, "-1"),
        ("client", 2, 0.5, "0.5"),
        ("predicted", 0, 0, "0"),
        ("arrival", 0, -0.5, "-0.5"),
        ("arrival", 2, math.nan, "nan"),
        ("arrival", 3, math.inf, "inf"),
        ("arrival", 2, 0.5, "0.5"),  # unsorted
        ("tbt", 1, 0.0, "0.0"),
        ("tbt", 1, -0.1, "-0.1"),
        ("ttft", 0, math.nan, "nan"),
    ],
)
def test_a_bad_value_is_named_in_one_sentence(column: str, row: int, value: object, shown: str) -> None:
    """Negative control: the same columns without the bad value are accepted by the test above."""
    columns = good()
    columns[column][row] = value  # type: ignore[index]
    with pytest.raises(ColumnError) as caught:
        Workload.from_columns(**columns)
    said = str(caught.value)
    assert "\n" not in said
    assert "; " in said or "is not a number" in said
    if not isinstance(value, str):  # text makes the whole column text, so its first row is named
        assert (caught.value.column, caught.value.row) == (column, row)
        assert shown in said


def test_bad_shapes_are_named() -> None:
    for name in COLUMNS:
        columns = good()
        columns[name] = columns[name][:2]  # type: ignore[index]
        with pytest.raises(ValueError, match="rows and arrival has"):
            Workload.from_columns(**columns)
    with pytest.raises(ValueError, match="empty"):
        Workload([], [], [])
    with pytest.raises(ValueError, match="one dimension"):
        Workload([0.0, 1.0], [[1, 2], [3, 4]], [1, 1])
    with pytest.raises(ValueError, match="one dimension"):
        Workload([0.0, 1.0], [[1, 2], [3]], [1, 1])
    with pytest.raises(ValueError, match="no column 'promt'"):
        Workload.from_columns(arrival=[0.0], promt=[1], output=[1])
    with pytest.raises(ValueError, match="prompt is missing"):
        Workload.from_columns(arrival=[0.0], output=[1])


def test_whole_floats_are_lengths_and_defaults_mean_no_limit() -> None:
    w = Workload(np.array([0, 3]), [4.0, 5.0], np.array([1, 2], dtype=np.uint8))
    assert (w.prompt.dtype, w.output.dtype, w.arrival.dtype) == (np.int64, np.int64, np.float64)
    assert w.client.tolist() == [0, 0]
    assert w.tbt.tolist() == w.ttft.tolist() == [math.inf, math.inf]
    assert w.predicted is None


def test_columns_are_copies() -> None:
    arrival = np.array([0.0, 1.0])
    w = Workload(arrival, [1, 1], [1, 1])
    arrival[0] = 99.0
    assert w.arrival[0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        w.prompt[0] = 3


# -- operations


@given(workloads(max_requests=6), workloads(max_requests=6))
def test_merge_conserves_requests_and_keeps_ties_in_order(one: Workload, two: Workload) -> None:
    one, two = (dataclasses.replace(w, predicted=None) for w in (one, two))
    both = Workload.merge(one, two)
    pooled = sorted(
        (a, which, k) for which, w in enumerate((one, two)) for k, a in enumerate(w.arrival.tolist())
    )
    for row, (_, which, k) in enumerate(pooled):
        source = (one, two)[which]
        assert all(getattr(both, name)[row] == getattr(source, name)[k] for name in COLUMNS[:-1])
    assert len(both) == len(one) + len(two)


@given(workloads(min_requests=2), st.data())
def test_cutting_and_merging_is_the_identity(w: Workload, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(w) - 1))
    assert Workload.merge(w[:k], w[k:]) == w
    assert w.head(k) == w[:k] == w[np.arange(len(w)) < k]
    assert w.head(len(w) + 5) == w
    assert w.head(k) != w  # negative control of ==


def test_merge_refuses_to_lose_predictions() -> None:
    w = Workload([0.0], [1], [1])
    with pytest.raises(ValueError, match="predicted"):
        Workload.merge(w, dataclasses.replace(w, predicted=[1]))
    with pytest.raises(ValueError, match="nothing to merge"):
        Workload.merge()


@given(workloads(), st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_scaling_and_shifting_move_arrivals_alone(w: Workload, factor: float) -> None:
    """Factors are powers of two, and times are no less than 2^-20, so that equality of floats is exact."""
    faster = w.scaled(factor)
    assert np.array_equal(faster.arrival * factor, w.arrival)
    assert faster.scaled(1 / factor) == w
    later = w.shift(1.0)
    assert np.array_equal(later.arrival, w.arrival + 1.0)
    for name in COLUMNS[1:]:
        assert np.array_equal(getattr(faster, name), getattr(w, name)) or w.predicted is None
        assert np.array_equal(getattr(later, name), getattr(w, name)) or w.predicted is None


def test_operations_name_what_they_cannot_do() -> None:
    w = Workload([0.0, 1.0], [1, 1], [1, 1])
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="factor > 0"):
            w.scaled(bad)
    with pytest.raises(ValueError, match="arrival, row 0"):
        w.shift(-0.5)
    with pytest.raises(ValueError, match="first 0"):
        w.head(0)
    with pytest.raises(ValueError, match="empty"):
        w[5:]
    with pytest.raises(ColumnError, match="sort the requests"):
        w[::-1]
    with pytest.raises(TypeError, match="read a column"):
        w[0]  # type: ignore[index]


@given(workloads())
def test_slo_class_numbers_the_limits_in_ascending_order(w: Workload) -> None:
    for i in range(len(w)):
        for j in range(len(w)):
            assert (w.tbt[i] < w.tbt[j]) == (w.slo_class[i] < w.slo_class[j])
    assert set(w.slo_class.tolist()) == set(range(len(set(w.tbt.tolist()))))


@given(workloads())
def test_equality_pickling_and_summary(w: Workload) -> None:
    again = pickle.loads(pickle.dumps(w))
    assert again == w
    assert not again.prompt.flags.writeable
    assert w != w.shift(1.0)
    assert w != "a workload"
    s = w.summary()
    assert s.requests == len(w)
    moments = s.moments
    assert moments.prompt + moments.output == pytest.approx(float((w.prompt + w.output).mean()), rel=1e-12)
    reads = sum(p + j for p, d in zip(w.prompt, w.output, strict=True) for j in range(1, d + 1))
    attended, squares = moments.K, moments.A
    assert attended == pytest.approx(reads / len(w), rel=1e-12)
    assert squares == pytest.approx(float((w.prompt**2).mean()) / 2, rel=1e-12)
    assert (s.rate is None) == (s.duration == 0)
    assert (s.longest_prompt, s.clients) == (max(w.prompt), len(set(w.client.tolist())))


# -- generation


def test_common_random_numbers_across_rates_and_mixes() -> None:
    """One seed: the arrival process does not touch lengths and classes; the rate only scales time."""

    def make(rate: float, seed: int = 5, classes: tuple[SloClass, ...] = MIX) -> Workload:
        return Workload.generate(
            Poisson(rate), ShareGPT("table"), 500, np.random.default_rng(seed), classes=classes
        )

    slow, fast = make(0.5), make(2.0)
    assert fast == slow.scaled(4.0)
    assert np.array_equal(make(1.0, classes=()).prompt, slow.prompt)
    assert make(1.0, classes=()).arrival[-1] == make(1.0).arrival[-1]
    bursty = Workload.generate(Gamma(1.0, 3.0), ShareGPT("table"), 500, np.random.default_rng(5), classes=MIX)
    assert np.array_equal(bursty.output, slow.output)
    assert np.array_equal(bursty.tbt, slow.tbt)
    assert not np.array_equal(make(0.5, seed=6).prompt, slow.prompt)  # negative control


@pytest.mark.parametrize("lengths", [LENGTHS, ShareGPT("table")])
def test_a_longer_workload_begins_with_the_shorter(lengths: Independent | ShareGPT) -> None:
    short, long = (
        Workload.generate(Poisson(1.0), lengths, n, np.random.default_rng(1), classes=MIX) for n in (100, 250)
    )
    assert long[:100] == short
    assert long[100:200].shift(-float(long.arrival[100])) != short.shift(-float(short.arrival[0]))


def test_one_generator_gives_fresh_workloads() -> None:
    rng = np.random.default_rng(0)
    one, two = (Workload.generate(Poisson(1.0), LENGTHS, 50, rng) for _ in range(2))
    assert one != two


def test_class_shares() -> None:
    """The strict share of n = 20,000 requests is within 0.014 of 0.05 (Hoeffding: error probability < 1e-3)."""
    n, within = 20_000, 0.014
    assert 2 * math.exp(-2 * n * within**2) < 1e-3
    rng = np.random.default_rng(2024)
    w = Workload.generate(Deterministic(1.0), LENGTHS, n, rng, classes=MIX, client=3)
    assert set(w.tbt.tolist()) == {0.1, 0.5}
    assert abs(float((w.tbt == 0.1).mean()) - 0.05) < within
    assert abs(float((w.tbt == 0.1).mean()) - 0.08) > within  # negative control: another share is told apart
    assert set(w.client.tolist()) == {3}


def test_generation_names_bad_input() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="at least 1"):
        Workload.generate(Poisson(1.0), LENGTHS, 0, rng)
    with pytest.raises(ValueError, match=r"add up to 0\.5"):
        Workload.generate(Poisson(1.0), LENGTHS, 3, rng, classes=(SloClass(0.5),))
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="share of a class"):
            SloClass(bad)
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="tbt limit"):
            SloClass(1.0, tbt=bad)


# -- files


@given(workloads())
def test_csv_is_lossless(w: Workload) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.csv"
        w.write_csv(path)
        assert Workload.read_csv(path) == w
        assert os.listdir(folder) == ["w.csv"]
        first = path.read_text().splitlines()
        assert first[0].startswith("arrival_s,prompt_tokens,output_tokens,client,tbt_s,ttft_s")
        cells = first[-1].split(",")
        cells[1] = str(int(cells[1]) + 1)
        path.write_text("\n".join([*first[:-1], ",".join(cells)]) + "\n")
        assert Workload.read_csv(path) != w  # negative control: a changed digit shows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arrival_s,prompt_tokens,output_tokens,tokens\n0,1,1,1\n", "unknown column 'tokens'"),
        ("arrival_s,prompt_tokens\n0,1\n", "no column 'output_tokens'"),
        ("arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,2\n", "line 3: 2 cells"),
        ("arrival_s,prompt_tokens,output_tokens\n0,1,1\n\n1,-2,1\n", "line 4, column prompt_tokens: -2.0"),
        ("arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,2.5,1\n", "line 3, column prompt_tokens: 2.5"),
        (
            "arrival_s,prompt_tokens,output_tokens\n2,1,1\n1,2,1\n",
            "line 3, column arrival_s: 1.0 s comes after",
        ),
        ("arrival_s,prompt_tokens,output_tokens\n0,nan,1\n", "line 2, column prompt_tokens: 'nan' is not"),
        ("arrival_s,prompt_tokens,output_tokens\n0,1_0,1\n", "'1_0' is not a number"),
        ("arrival_s,prompt_tokens,output_tokens\n0,,1\n", "'' is not a number"),
        ("arrival_s,arrival_s,output_tokens\n0,0,1\n", "'arrival_s' twice"),
        ("arrival_s,prompt_tokens,output_tokens\n", "is empty"),
        ("", "is empty"),
        ('arrival_s,prompt_tokens,output_tokens\n0,"1,1\n', "not a CSV file"),
    ],
)
def test_a_bad_file_is_named_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"bad\.csv") as caught:
        Workload.read_csv(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.csv"
    old, new = Workload([0.0], [1], [1]), Workload([0.0, 1.0], [1, 2], [3, 4])
    old.write_csv(path)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            new.write_csv(path)
    assert os.listdir(tmp_path) == ["w.csv"]
    assert Workload.read_csv(path) == old
    new.write_csv(path)  # negative control: uninterrupted, the file changes
    assert Workload.read_csv(path) == new
