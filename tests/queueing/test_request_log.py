"""Logs of other people's runs: every number kept, every flaw named, and nothing claimed that a log does not know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueing import metrics as m
from queueing.data import data_folder
from queueing.request_log import read_request_log, read_responses, request_log
from queueing.tabular import read_table
from queueing.trace import Trace
from queueing.trace_io import load, save

FOLDER = data_folder()
needs_data = pytest.mark.skipif(FOLDER is None, reason="TANDEM_DATA names no folder with the fairness runs")

HEADER = "client,prompt_tokens,output_tokens,arrival_s,first_token_latency_s,request_latency_s"
GOOD = [HEADER, "3,10,4,0.0,1.5,2.5", "0,7,1,0.5,-1,-1", "3,8,2,0.5,0.25,0.25"]


def written(folder: Path, *lines: str, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def same(a: Trace, b: Trace) -> bool:
    return all(np.array_equal(a.requests[c], b.requests[c], equal_nan=True) for c in a.requests)


def test_a_log_by_hand(tmp_path: Path) -> None:
    trace = read_request_log(written(tmp_path, *GOOD))
    q = trace.requests
    assert q["client"].tolist() == [3, 0, 3]
    assert q["decoded"].tolist() == [4, 0, 2]
    assert trace.rejected.tolist() == [False, True, False]
    assert trace.finished.tolist() == [True, False, True]
    np.testing.assert_array_equal(m.ttft(trace), [1.5, np.nan, 0.25])
    np.testing.assert_array_equal(m.e2e(trace), [2.5, np.nan, 0.25])
    np.testing.assert_array_equal(m.tpot(trace), [1 / 3, np.nan, 0.0])
    assert np.isnan(m.queueing_time(trace)).all()  # not known, and not infinite either
    assert m.observed_until(trace) == 2.5
    assert m.token_throughput(trace) == 6 / 2.5
    with pytest.raises(ValueError, match="no entries"):
        m.tbt(trace)


def test_a_log_is_saved_and_loaded(tmp_path: Path) -> None:
    trace = read_request_log(written(tmp_path, *GOOD))
    for name in ("trace.json", "trace.csv"):
        save(trace, tmp_path / name)
        again = load(tmp_path / name)
        assert same(trace, again)
        assert again.meta == trace.meta
        assert np.isnan(m.queueing_time(again)).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,10,4,0.0,1.5", "5 cells under a header of 6"),
        ("1,-10,4,0.7,1.5,2.0", "line 5, column prompt_tokens: -10.0 is not a number of tokens"),
        ("1,10,0,0.7,1.5,2.0", "line 5, column output_tokens: 0.0 is not a number of tokens"),
        ("-1,10,4,0.7,1.5,2.0", "line 5, column client: -1.0 is not a client number"),
        (",10,4,0.7,1.5,2.0", "line 5, column client: '' is not a number"),
        ("7,10,4,0.7,1.5,2.0", "line 5, column client: 7 is an unknown client; the clients are 0, 3"),
        ("3,10,4,0.4,1.5,2.0", "line 5, column arrival_s: 0.4 s comes after 0.5 s; sort"),
        ("3,10,4,0.7,2.5,2.0", "line 5, column request_latency_s: 2.0 is before the first token"),
        ("3,10,4,0.7,-0.5,2.0", "line 5, column first_token_latency_s: -0.5 is no latency; give seconds >= 0, or -1"),
        ("3,10,4,0.7,1.5,inf", "line 5, column request_latency_s: inf is no latency"),
        ("3,10,4,0.7,-1,2.0", "first_token_latency_s: -1.0 is rejected in one latency only"),
    ],
)  # fmt: skip
def test_flaws_are_named_with_their_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_request_log(written(tmp_path, *GOOD, line), clients={0, 3})


def test_missing_columns_and_duplicate_ids(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"lacks the columns client, arrival_s; a request log has client, prompt"
    ):
        read_request_log(
            written(
                tmp_path, "prompt_tokens,output_tokens,first_token_latency_s,request_latency_s", "1,1,1,1"
            )
        )
    rows = [f"{name},{line}" for name, line in zip(("request", "a", "b", "a"), GOOD, strict=True)]
    with pytest.raises(ValueError, match="line 4, column request: a was the id of line 2"):
        read_request_log(written(tmp_path, *rows))
    distinct = written(tmp_path, *rows[:3], rows[3].replace("a,", "c,", 1))
    assert same(read_request_log(distinct), read_request_log(written(tmp_path, *GOOD, name="plain.csv")))
    with pytest.raises(ValueError, match="request_latency has 1 rows and arrival has 2"):
        request_log([0.0, 1.0], [1, 1], [1, 1], [0, 0], [0.0, 0.0], [0.0])


def responses_of(trace: Trace) -> list[dict[str, Any]]:
    q = trace.requests
    first = np.where(trace.rejected, -1.0, q["first_token"] - q["arrival"])
    whole = np.where(trace.rejected, -1.0, q["finished"] - q["arrival"])
    names = ("prompt_len", "output_len", "req_time", "first_token_latency", "request_latency")
    columns = [
        q["prompt"].tolist(),
        q["output"].tolist(),
        q["arrival"].tolist(),
        first.tolist(),
        whole.tolist(),
    ]
    return [
        {"adapter_dir": f"dummy-lora-7b-rank-8-{u}", **dict(zip(names, row, strict=True))}
        for u, *row in zip(q["client"].tolist(), *columns, strict=True)
    ]


def artifact(folder: Path, responses: Any) -> Path:
    record = {"config": {"alpha": 1, "on_off": -1}, "result": {"num_abort": 0, "responses": responses}}
    return written(folder, json.dumps(record), name="all_results.jsonl")


requests = st.lists(
    st.tuples(
        st.floats(0, 2),
        st.integers(1, 9),
        st.integers(1, 9),
        st.integers(0, 12),
        st.floats(0, 4),
        st.floats(0, 4),
    ),
    min_size=1,
    max_size=6,
)


@given(requests, st.data())
def test_both_forms_hold_the_same_run(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("log")
    gaps, prompt, output, client, first, rest = (np.array(column) for column in zip(*rows, strict=True))
    rejected = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    arrival = np.cumsum(gaps)
    first, whole = np.where(rejected, -1.0, first), np.where(rejected, -1.0, first + rest)
    trace = request_log(arrival, prompt, output, client, first, whole)
    columns = [c.tolist() for c in (client, prompt, output, arrival, first, whole)]
    lines = [",".join(map(repr, row)) for row in zip(*columns, strict=True)]
    assert same(read_request_log(written(folder, HEADER, *lines)), trace)
    responses = responses_of(trace)
    for response, ttft, latency in zip(responses, first.tolist(), whole.tolist(), strict=True):
        response.update(first_token_latency=ttft, request_latency=latency)
    read = read_responses(artifact(folder, responses))
    assert same(read, trace)
    assert read.meta["config"] == {"alpha": 1, "on_off": -1}
    assert np.array_equal(trace.rejected, rejected)


def test_flaws_of_the_artifacts_form(tmp_path: Path) -> None:
    good = responses_of(read_request_log(written(tmp_path, *GOOD)))
    for change, message in (
        ({"adapter_dir": "base"}, "'base' does not end in a number of its own"),
        ({"adapter_dir": "other-3"}, "'other-3' does not end in a number of its own"),
        ({"req_time": 0.1}, "line 3, column req_time: 0.1 s comes after 0.5 s"),
        ({"prompt_len": None}, "line 3, column prompt_len: 'None' is not a number"),
    ):
        with pytest.raises(ValueError, match=message):
            read_responses(artifact(tmp_path, [*good[:2], {**good[2], **change}]))
    short = {name: value for name, value in good[2].items() if name != "output_len"}
    with pytest.raises(ValueError, match="response 3 lacks 'output_len'; a response has adapter_dir"):
        read_responses(artifact(tmp_path, [*good[:2], short]))
    for nothing in ([], "none", None):
        with pytest.raises(ValueError, match=r"has no result\.responses"):
            read_responses(artifact(tmp_path, nothing))
    with pytest.raises(ValueError, match="not one line of JSON"):
        read_responses(written(tmp_path, "{}", "{}"))


@needs_data
def test_the_published_runs_are_read_whole() -> None:
    assert FOLDER is not None
    files = sorted((FOLDER / "fairness").glob("*.csv"))
    assert len(files) == 15
    for path in files:
        trace = read_request_log(path)
        aborted = np.array(read_table(path).numbers("request_latency_s")) == -1
        assert np.array_equal(trace.rejected, aborted)
        assert np.array_equal(trace.finished, ~aborted)
