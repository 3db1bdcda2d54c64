"""Workloads in files: the pieces one after another, and one set of rules whether a file is read whole or by pieces."""

from __future__ import annotations

import csv
import gzip
import random
import re
from pathlib import Path

import numpy as np
import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueing.workload import Workload
from queueing.workload_files import read_pieces, store, stored

HEADER = "arrival_s,prompt_tokens,output_tokens\n"
ROWS = (1, 2, 3, 1000)  # of a piece


def offered(n, seed=0, start=0.0):
    rng = np.random.default_rng(seed)
    return Workload(start + np.cumsum(rng.exponential(0.05, n)), rng.integers(1, 300, n), rng.integers(1, 40, n),
                    tbt=rng.choice([0.1, 0.5, np.inf], n))  # fmt: skip


# --- storing


def test_a_stored_workload_is_the_pieces_one_after_another(tmp_path):
    whole = offered(1000)
    kept = store((whole[k : k + 300] for k in range(0, 1000, 300)), tmp_path / "w")
    assert kept == whole == stored(tmp_path / "w")
    assert isinstance(kept.arrival, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        kept.prompt[0] = 1
    with pytest.raises(ValueError, match="name a new folder"):
        store([whole], tmp_path / "w")


def interrupted():
    yield offered(5)
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("pieces", "kind", "said"),
    [
        ([], ValueError, "give at least one piece"),
        ([offered(5), offered(5)], ValueError, "before the end of the one before it"),
        ([offered(5), Workload([99.0], [1], [1], predicted=[2])], ValueError, "give all of them or none"),
        (interrupted(), KeyboardInterrupt, None),
    ],
)
def test_pieces_that_are_no_workload_leave_nothing(tmp_path, pieces, kind, said):
    with pytest.raises(kind, match=said):
        store(pieces, tmp_path / "new" / "w")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.write_bytes(b""), "is damaged"),
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), "is damaged"),
        (lambda file: np.save(file, np.arange(1, 5)), "unequal lengths"),
        (lambda file: file.unlink(), "is no stored workload: prompt.npy is missing"),
    ],
)
def test_a_stored_workload_that_is_not_whole_is_refused(tmp_path, damage, said):
    store([offered(5)], tmp_path / "w")
    assert stored(tmp_path / "w") == offered(5)  # control
    damage(tmp_path / "w" / "prompt.npy")
    with pytest.raises(ValueError, match=said):
        stored(tmp_path / "w")


# --- reading by pieces


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_pieces_of_a_file_are_the_file(tmp_path, form):
    whole, path = offered(100), tmp_path / f"w.{form}"
    whole.write_csv(tmp_path / "w.csv")
    if form == "parquet":
        polars.read_csv(tmp_path / "w.csv", infer_schema_length=None).write_parquet(path)
    pieces = list(read_pieces(path, rows=33))
    assert [len(piece) for piece in pieces] == [33, 33, 33, 1]
    assert Workload.merge(*pieces) == whole


def whole(path):
    return Workload.read_csv(path)


def by_pieces(rows):
    return lambda path: Workload.merge(*read_pieces(path, rows))


def looser(path):
    """The rules of numpy and of a header taken as it comes."""
    with path.open(newline="") as file:
        header, *cells = csv.reader(file)
    fields = {"arrival_s": "arrival", "prompt_tokens": "prompt", "output_tokens": "output"}
    return Workload(
        **{fields[name]: x for name, x in zip(header, np.array(cells, np.float64).T, strict=True)}
    )


def outcome(read, path):
    """The workload, or the sentence that refuses it."""
    try:
        return read(path)
    except ValueError as error:
        return str(error)


ACCEPTED = {
    "plain": HEADER + "0,5,5\n1,6,7\n2,8,9\n",
    "blank lines": HEADER + "0,5,5\n\n\n1,6,7\n\n2,8,9\n\n",
    "a byte-order mark and blanks": "\ufeffarrival_s , prompt_tokens, output_tokens\r\n 0, 5 ,5\r\n1,6,7\r\n2,8,9",
    "exponents and quotes": HEADER + '0,"5",5\n1e0,6,7\n+2.0,0.8e1,9\n',
}
REFUSED = {
    "a column twice": ("arrival_s,prompt_tokens,output_tokens,output_tokens\n0,5,5,6\n", "'output_tokens' twice"),
    "a number with a rule": (HEADER + "0,5,5\n1,1_0,5\n", "line 3, column prompt_tokens: '1_0' is not a number"),
    "a word": (HEADER + "0,5,5\n1,5,many\n", "line 3, column output_tokens: 'many' is not a number"),
    "nothing": (HEADER + "0,5,5\n\n1,,5\n", "line 4, column prompt_tokens: '' is not a number"),
    "a cell too few": (HEADER + "0,5,5\n1,5\n", "line 3: 2 cells under a header of 3"),
    "a cell too many": (HEADER + "0,5,5\n1,5,5,5\n", "line 3: 4 cells under a header of 3"),
    "rows all too short": (HEADER + "0,5\n1,5\n", "line 2: 2 cells under a header of 3"),
    "blanks in a line": (HEADER + "0,5,5\n  \n1,5,5\n", "line 3: 1 cells under a header of 3"),
    "an unknown column": ("arrival_s,prompt_tokens,colour\n0,5,5\n", "unknown column 'colour'"),
    "no outputs": ("arrival_s,prompt_tokens\n0,5\n", "no column 'output_tokens'"),
    "no rows": (HEADER, "is empty"),
    "no header": ("", "is empty"),
    "no tokens": (HEADER + "0,5,5\n1,0,5\n", "line 3, column prompt_tokens: 0.0 is not a number of tokens"),
    "time that runs back": (HEADER + "0,5,5\n3,5,5\n2,5,5\n", "line 4, column arrival_s: 2.0 s comes after 3.0 s"),
    "an open quote": (HEADER + '0,5,5\n1,"5,5\n', "is not a CSV file in UTF-8"),
    "no text": (HEADER + "0,5,5\n1,\0,5\n", "is not a"),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_accepted_whole_is_accepted_by_pieces(tmp_path, name):
    path = tmp_path / "w.csv"
    path.write_text(ACCEPTED[name], newline="")
    expected = Workload([0, 1, 2], [5, 6, 8], [5, 7, 9])
    assert [outcome(read, path) for read in (whole, *map(by_pieces, ROWS))] == [expected] * 5


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_whole_is_refused_by_pieces_in_the_same_sentence(tmp_path, name):
    path, (text, said) = tmp_path / "w.csv", REFUSED[name]
    path.write_text(text)
    (sentence,) = {outcome(read, path) for read in (whole, *map(by_pieces, ROWS))}
    assert said in sentence
    assert str(path) in sentence


def test_looser_rules_would_be_noticed(tmp_path):
    """Control: a reader that takes numbers as Python writes them and the last of two columns of one name."""
    path = tmp_path / "w.csv"
    for name in ("a column twice", "a number with a rule"):
        path.write_text(REFUSED[name][0])
        assert isinstance(looser(path), Workload)


CELLS = ["1_0", "nan", "inf", "-1", "0", "1e3", "1e10", "2.5", " 7 ", "", "x", "0x10", '"3', "१"]


@given(st.randoms(use_true_random=False), st.integers(1, 7), st.integers(1, 8))
def test_any_one_change_of_a_file_is_judged_alike(
    tmp_path_factory, random_: random.Random, n: int, rows: int
):
    """A cell put in, taken out, doubled or replaced, a line blank or cut: the same workload or the same sentence."""
    table = [HEADER.strip().split(","), *([str(k), "5", "6"] for k in range(n))]
    line = random_.choice(table)
    at = random_.randrange(3)
    match random_.randrange(5):
        case 0:
            line[at] = random_.choice(CELLS)
        case 1:
            del line[at]
        case 2:
            line.insert(at, line[at])
        case 3:
            line.clear()
        case _:
            line[at] = random_.choice(table[0])
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text("".join(",".join(cells) + "\n" for cells in table))
    here, there = outcome(whole, path), outcome(by_pieces(rows), path)
    assert type(here) is type(there)
    assert here == there


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"arrival_s": [0.0, 2.0, 1.0]}, "row 2, column arrival_s: 1.0 s comes after 2.0 s"),
        ({"prompt_tokens": [1, None, 1]}, "row 1, column prompt_tokens: nan is not a number of tokens"),
        ({"prompt_tokens": ["1", "2", "3"]}, "column prompt_tokens: '1' is not a number"),
        ({"prompt_tokens": [[1], [2], [3]]}, "prompt"),
        ({"colour": [1, 2, 3]}, "unknown column 'colour'"),
        ({"arrival_s": [], "prompt_tokens": [], "output_tokens": []}, "is empty"),
    ],
)
@pytest.mark.parametrize("rows", [2, 1000])
def test_a_parquet_file_is_held_to_the_same_rules(tmp_path, changed, said, rows):
    path = tmp_path / "w.parquet"
    table = {"arrival_s": [0.0, 1.0, 2.0], "prompt_tokens": [1, 2, 3], "output_tokens": [1, 1, 1]}
    polars.DataFrame(table).write_parquet(path)
    assert len(Workload.merge(*read_pieces(path, rows))) == 3  # control
    polars.DataFrame(table | changed).write_parquet(path)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        list(read_pieces(path, rows))
    assert str(path) in str(caught.value)


# --- damaged files


def damaged_files(tmp_path: Path) -> dict[str, bytes]:
    """Files of requests cut off or overwritten at every tenth of their length."""
    table = offered(2000)
    table.write_csv(tmp_path / "w.csv")
    polars.read_csv(tmp_path / "w.csv", infer_schema_length=None).write_parquet(tmp_path / "w.parquet")
    packed = gzip.compress((tmp_path / "w.csv").read_bytes())
    columns = (tmp_path / "w.parquet").read_bytes()
    found = {f"cut {k}.csv.gz": packed[: len(packed) * k // 10] for k in range(1, 10)}
    found |= {f"cut {k}.parquet": columns[: len(columns) * k // 10] for k in range(10)}
    found |= {
        f"wrong {k}.csv.gz": packed[: (at := len(packed) * k // 10)] + b"#" * 40 + packed[at + 40 :]
        for k in range(1, 10)
    }
    return found | {"text.csv.gz": b"plain text", "text.parquet": b"plain text"}


def test_a_damaged_file_is_named_in_one_sentence_and_leaves_nothing(tmp_path):
    for name, content in damaged_files(tmp_path).items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
            store(read_pieces(path, rows=500), tmp_path / "stored")
        assert "\n" not in str(caught.value)
        path.unlink()
        assert {each.name for each in tmp_path.iterdir()} == {"w.csv", "w.parquet"}
    assert len(store(read_pieces(tmp_path / "w.parquet", rows=500), tmp_path / "stored")) == 2000  # control


def test_a_panic_in_polars_is_a_damaged_file(tmp_path, monkeypatch):
    """What its Rust raises for some footers is no Exception."""

    def panic(*_, **__):
        raise polars.exceptions.PanicException("called `Option::unwrap()`")

    monkeypatch.setattr(polars, "scan_parquet", panic)
    assert not issubclass(polars.exceptions.PanicException, Exception)
    with pytest.raises(ValueError, match=r"w\.parquet is not a whole Parquet file: called"):
        list(read_pieces(tmp_path / "w.parquet"))
