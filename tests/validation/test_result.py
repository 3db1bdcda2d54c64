"""Results as JSON, intervals over seeds, and files that appear whole or not at all."""

import dataclasses
import json
import math
import os

import numpy as np
import pytest

from validation.published import published
from validation.result import Result, Row, over_seeds, write_atomically


def result(**changes):
    row = Row("gain", "percent", None, math.nan, -math.inf, math.inf, "not testable here")
    return Result(
        **{"name": "x", "seconds": 1.0, "seeds": [0], "versions": {"python": "3"}, "rows": [row], **changes}
    )


def test_json_is_one_object_with_null_for_nan_and_a_text_for_infinities():
    read = json.loads(result().to_json())
    assert set(read) >= {"name", "seconds", "seeds", "versions", "rows"}
    (row,) = read["rows"]
    assert set(row) == {"quantity", "unit", "published", "ours", "low", "high", "verdict", "key"}
    assert row["published"] is row["ours"] is None
    assert (row["low"], row["high"]) == ("-inf", "inf")


def test_a_result_reads_back_as_it_was():
    """Text and all, but for nan in a table, which has no name in JSON."""
    written = result(tables={"t": [{"a": 1.5, "b": -math.inf, "c": None, "d": "text"}]}, drawings=["a.svg"])
    read = Result.from_json(written.to_json())
    assert read.to_json() == written.to_json()
    assert read.tables == written.tables
    assert (read.rows[0].low, read.rows[0].high, read.drawings) == (-math.inf, math.inf, ["a.svg"])
    assert math.isnan(read.rows[0].ours)


def test_json_takes_numpy_numbers():
    table = {"t": [{"a": np.float64(0.5), "b": np.int64(3)}]}
    assert json.loads(result(tables=table).to_json())["tables"] == {"t": [{"a": 0.5, "b": 3}]}


def test_one_seed_has_no_interval():
    assert over_seeds([2.0]) == (2.0, -math.inf, math.inf)
    mean, low, high = over_seeds([1.0, 3.0])
    assert low < mean == 2.0 < high


def test_a_file_appears_whole(tmp_path):
    write_atomically(tmp_path / "new" / "a.txt", b"text")
    assert (tmp_path / "new" / "a.txt").read_text() == "text"


def test_an_interrupt_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_atomically(path, b"old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_row_gives_the_published_value_of_its_key():
    """What was published is written down once; a row cannot claim another value, nor a figure nobody published."""
    row = Row("gain", "percent", 26.0, 27.0, 25.0, 29.0, "reproduced", "slai: capacity gain")
    assert published(row.key).value == row.published
    with pytest.raises(ValueError, match="is not the published 26"):
        dataclasses.replace(row, published=27.0)
    with pytest.raises(ValueError, match=r"its unit is 'ms', but .* is in 'percent'"):
        dataclasses.replace(row, unit="ms")
    with pytest.raises(ValueError, match="there is no published figure"):
        dataclasses.replace(row, key="slai: fame")


def test_a_row_judges_a_figure_and_by_a_known_verdict():
    row = Row("gain", "percent", None, 1.0, 0.5, 1.5, "reproduced")
    with pytest.raises(ValueError, match="no verdict is 'proved'"):
        dataclasses.replace(row, verdict="proved")
    for figure in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not testable"):
            dataclasses.replace(row, ours=figure)
        dataclasses.replace(row, ours=figure, verdict="not testable here")  # control
