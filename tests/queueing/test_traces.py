"""Readers of public traces: every row is a request or is counted, and reduced files are known by their content."""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueing.data import DATASETS, data_folder, local_copy
from queueing.lengths import Empirical
from queueing.traces import (
    Reading,
    fetch,
    read_azure,
    read_burstgpt,
    read_columns,
    read_mooncake,
    read_vidur,
    read_vidur_lengths,
)
from tests.queueing.test_tabular import damaged

needs_data = pytest.mark.skipif(
    data_folder() is None, reason="TANDEM_DATA names no folder with the public traces"
)


def written(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def columns(reading: Reading) -> tuple[list[float], list[int], list[int]]:
    w = reading.workload
    return w.arrival.tolist(), w.prompt.tolist(), w.output.tolist()


def test_azure_raw_and_reduced_are_the_same(tmp_path: Path) -> None:
    raw = written(
        tmp_path,
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 23:59:59.9999999,374,44\n"
        "2023-11-17 00:00:00.0000001,396,109\n"
        "2023-11-17 00:00:05,879,55\n",
    )
    reduced = written(
        tmp_path,
        "arrival_s,prompt_tokens,output_tokens\n0.0000000,374,44\n0.0000002,396,109\n5.0000001,879,55\n",
        "reduced.csv",
    )
    assert (
        columns(read_azure(raw))
        == columns(read_azure(reduced))
        == ([0, 2e-7, 5.0000001], [374, 396, 879], [44, 109, 55])
    )
    zoned = written(
        tmp_path,
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 01:00:00.25+01:00,1,2\n2024-05-10 00:00:00.5+00:00,3,4\n",
        "zoned.csv",
    )
    assert columns(read_azure(zoned))[0] == [0.0, 0.25]
    for bad in ("yesterday", "2023-11-16 23:59:59.12345678", "2023-13-16 00:00:00"):
        path = written(tmp_path, f"TIMESTAMP,ContextTokens,GeneratedTokens\n{bad},1,1\n", "bad.csv")
        with pytest.raises(ValueError, match="line 2, column TIMESTAMP"):
            read_azure(path)


def test_vidur_traces_and_lists_of_lengths(tmp_path: Path) -> None:
    timed = written(tmp_path, "arrived_at,num_prefill_tokens,num_decode_tokens\n7.5,3,4\n9.0,5,6\n")
    assert columns(read_vidur(timed)) == ([0.0, 1.5], [3, 5], [4, 6])
    listed = written(
        tmp_path,
        "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n3,4,7,0.75\n5,6,11,0.83\n",
        "l.csv",
    )
    lengths = read_vidur_lengths(listed)
    assert (lengths.prompt.tolist(), lengths.output.tolist()) == ([3, 5], [4, 6])
    with pytest.raises(ValueError, match="use read_vidur_lengths"):
        read_vidur(listed)
    with pytest.raises(ValueError, match=r"l\.csv: prompt, row 0: 0"):
        read_vidur_lengths(written(tmp_path, "num_prefill_tokens,num_decode_tokens\n0,4\n", "l.csv"))


def test_mooncake(tmp_path: Path) -> None:
    lines = [
        {"timestamp": 27000, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]},
        {"timestamp": 30500, "input_length": 10, "output_length": 1, "hash_ids": []},
    ]
    path = written(tmp_path, "\n".join(map(json.dumps, lines)) + "\n\n", "m.jsonl")
    assert columns(read_mooncake(path)) == ([0.0, 3.5], [6955, 10], [52, 1])
    for text, said in (
        ('{"timestamp": 1}\n', "line 1 lacks 'input_length'"),
        ("[1]\n", "line 1 lacks 'timestamp'"),
        ('{"timestamp": 1, "input_length": 1, "output_length": 1}\nnonsense\n', "line 2 is not JSON"),
        ('{"timestamp": 1, "input_length": 0, "output_length": 1}\n', "line 1, column input_length: 0"),
        ('{"timestamp": null, "input_length": 1, "output_length": 1}\n', "'None' is not a number"),
        ("\n", "is empty"),
    ):
        with pytest.raises(ValueError, match="m.jsonl") as caught:  # noqa: RUF043
            read_mooncake(written(tmp_path, text, "m.jsonl"))
        assert said in str(caught.value)


def test_what_is_no_mooncake_trace_is_refused_by_name(tmp_path: Path) -> None:
    """Damaged files, wrong encodings and absurd JSON end in one sentence that names the file."""
    for content, name in (
        ('{"timestamp": 0}'.encode("utf-16"), "m.jsonl"),
        (b'{"timestamp": ' + b"9" * 5000 + b"}\n", "m.jsonl"),
        (b"[" * 200_000 + b"\n", "m.jsonl"),
        (b"plain text", "m.jsonl.gz"),
        (gzip.compress(b"{}\n" * 1000)[:30], "m.jsonl.gz"),
        (damaged(b"".join(b'{"timestamp": %d}\n' % (k * k) for k in range(3000))), "m.jsonl.gz"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=name) as caught:
            read_mooncake(path)
        assert "\n" not in str(caught.value)


def test_times_that_are_none_are_refused(tmp_path: Path) -> None:
    header = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    for cell in ("hello", "2023-11-16 18:15:46.", "2023-11-16 18:15:46.12345678"):
        with pytest.raises(ValueError, match="line 2, column TIMESTAMP"):
            read_azure(written(tmp_path, f"{header}{cell},1,1\n"))
    early = written(tmp_path, f"{header}0001-01-01 00:00:00+05:00,1,1\n0001-01-01 00:00:00,1,1\n")
    assert read_azure(early).workload.arrival.tolist() == [0.0, 5 * 3600.0]
    far = written(tmp_path, "arrival_s,prompt_tokens,output_tokens\n-1e308,1,1\n1e308,1,1\n")
    with pytest.raises(ValueError, match="line 3, column arrival: inf"):
        read_columns(far)


def test_burstgpt_counts_failures(tmp_path: Path) -> None:
    head = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    path = written(
        tmp_path,
        head + "5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,0,1087,Conversation log\n"
        "118,GPT-4,417,276,693,Conversation log\n",
    )
    reading = read_burstgpt(path, client="Model")
    assert columns(reading) == ([0.0, 113.0], [472, 417], [18, 276])
    assert reading.left_out == {"no response tokens": 1}
    assert reading.rows == 3
    assert reading.workload.client.tolist() == [0, 1]
    assert read_burstgpt(path).workload.client.tolist() == [0, 0]
    with pytest.raises(ValueError, match="line 2, column Request tokens: 0"):
        read_burstgpt(written(tmp_path, head + "5,ChatGPT,0,18,18,log\n"))
    with pytest.raises(ValueError, match="all 1 rows are left out"):
        read_burstgpt(written(tmp_path, head + "5,ChatGPT,1,0,18,log\n"))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9), st.integers(0, 4)), min_size=1, max_size=12))
def test_every_row_is_served_or_counted(rows: list[tuple[int, int, int]]) -> None:
    """rows = requests + left out, in any order of the file; sorting is stable."""
    with tempfile.TemporaryDirectory() as folder:
        text = "Timestamp,Request tokens,Response tokens\n" + "".join(f"{t},{p},{d}\n" for t, p, d in rows)
        path = written(Path(folder), text)
        served = [row for row in rows if row[2] > 0]
        if not served:
            with pytest.raises(ValueError, match="nothing remains"):
                read_burstgpt(path)
            return
        reading = read_burstgpt(path)
    assert len(reading.workload) + sum(reading.left_out.values()) == reading.rows == len(rows)
    ordered = sorted(served, key=lambda row: row[0])
    first = ordered[0][0]
    assert list(zip(*columns(reading), strict=True)) == [(t - first, p, d) for t, p, d in ordered]
    assert (reading.out_of_order > 0) == (
        ordered != served or [r[0] for r in served] != sorted(r[0] for r in served)
    )


def test_columns_named_by_the_caller(tmp_path: Path) -> None:
    path = written(tmp_path, "when,who,in,out,note\n1000,b,3,4,x\n1500,a,5,6,\n1500,b,7,8,y\n")
    reading = read_columns(
        path, arrival="when", prompt="in", output="out", client="who", seconds_per_unit=0.001
    )
    assert columns(reading) == ([0.0, 0.5, 0.5], [3, 5, 7], [4, 6, 8])
    assert reading.workload.client.tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="no column 'arrival_s'; its columns are when, who"):
        read_columns(path)
    with pytest.raises(ValueError, match="line 2, column who"):
        read_columns(path, arrival="who", prompt="in", output="out")
    with pytest.raises(ValueError, match="0.0 s; give"):  # noqa: RUF043
        read_columns(path, seconds_per_unit=0.0)
    endless = written(tmp_path, "arrival_s,prompt_tokens,output_tokens\n0,1,1\ninf,1,1\n", "inf.csv")
    with pytest.raises(ValueError, match="line 3: the arrival time is not finite"):
        read_columns(endless)
    late = written(tmp_path, "arrival_s,prompt_tokens,output_tokens\n9,1,1\n0,2,-1\n", "late.csv")
    with pytest.raises(ValueError, match=r"line 3, column output_tokens: -1"):
        read_columns(late)  # the line of the file, though the rows were sorted


# -- public files by name


def test_unknown_names_and_missing_pooch_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TANDEM_DATA", raising=False)
    with pytest.raises(ValueError, match="there are sharegpt_8k, arxiv_summarization"):
        fetch("sharegpt")
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ModuleNotFoundError, match=r"tandem-queueing\[traces\].*or set TANDEM_DATA"):
        fetch("sharegpt_8k")


def pooch_that_finds(raw: Path) -> types.SimpleNamespace:
    """A pooch whose every download is this file: no network in tests."""
    asked: list[str] = []

    def retrieve(url: str, **_: Any) -> str:
        asked.append(url)
        return str(raw)

    return types.SimpleNamespace(retrieve=retrieve, os_cache=lambda name: Path(name), asked=asked)


def test_a_download_that_is_another_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TANDEM_DATA", raising=False)
    raw = written(tmp_path, "num_prefill_tokens,num_decode_tokens\n1,2\n", "sharegpt_8k.raw.csv")
    fake = pooch_that_finds(raw)
    monkeypatch.setitem(sys.modules, "pooch", fake)
    with pytest.raises(ValueError, match="not the data set sharegpt_8k: its sha256"):
        fetch("sharegpt_8k")
    assert fake.asked == [DATASETS["sharegpt_8k"].url]


@needs_data
@pytest.mark.parametrize("name", DATASETS)
def test_local_copies_are_the_data_sets(name: str) -> None:
    assert fetch(name) == local_copy(name)
    path = local_copy(name)
    rows = read_azure(path).rows if name.startswith("azure") else len(Empirical.read_csv(path).prompt)
    assert rows == DATASETS[name].rows


@needs_data
def test_azure_traces_and_their_raw_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The reduced file, put back into the published form, reads as the same workload and reduces to the same bytes."""
    reduced = local_copy("azure_2023_code")
    reading = read_azure(reduced)
    assert (reading.left_out, reading.out_of_order) == ({}, 0)
    day = np.datetime64("2023-11-16T18:17:03.979960000", "ns")
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for row in reduced.read_text().splitlines()[1:]:
        since, prompt, output = row.split(",")
        stamp = str(day + np.timedelta64(int(since.replace(".", "")) * 100, "ns"))
        lines.append(f"{stamp[:-2].replace('T', ' ')},{prompt},{output}")
    raw = written(tmp_path, "\n".join(lines) + "\n", "azure_2023_code.raw.csv")
    assert read_azure(raw).workload == reading.workload
    monkeypatch.delenv("TANDEM_DATA")
    monkeypatch.setitem(sys.modules, "pooch", pooch_that_finds(raw))
    assert fetch("azure_2023_code").read_bytes() == reduced.read_bytes()


@needs_data
def test_list_of_lengths_in_its_published_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reduced = local_copy("arxiv_summarization")
    rows = [row.split(",") for row in reduced.read_text().splitlines()[1:]]
    text = "\n".join(
        ["num_prefill_tokens,num_decode_tokens,num_total_tokens"] + [f"{p}.0,{d},0" for p, d in rows]
    )
    raw = written(tmp_path, text + "\n", "arxiv_summarization.raw.csv")
    monkeypatch.delenv("TANDEM_DATA")
    monkeypatch.setitem(sys.modules, "pooch", pooch_that_finds(raw))
    assert fetch("arxiv_summarization").read_bytes() == reduced.read_bytes()
