"""Tables of text: what is read, what is refused, and that a file is whole or absent."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from queueing.tabular import read_table, replacing


def test_gzip_byte_order_mark_and_blank_lines_change_nothing(tmp_path: Path) -> None:
    plain, packed = tmp_path / "t.csv", tmp_path / "t.csv.gz"
    plain.write_text("a,b\n1,x\n2,y\n")
    packed.write_bytes(gzip.compress("\ufeffa, b\r\n1,x\r\n\r\n2,y\r\n".encode()))
    one, two = read_table(plain), read_table(packed)
    assert one.columns == two.columns == {"a": ["1", "2"], "b": ["x", "y"]}
    assert (one.lines, two.lines) == ([2, 3], [2, 4])
    assert one.numbers("a") == [1.0, 2.0]
    with pytest.raises(ValueError, match="line 2, column b: 'x' is not a number"):
        one.numbers("b")
    with pytest.raises(ValueError, match="no column 'c'; its columns are a, b"):
        one.texts("c")


def damaged(content: bytes) -> bytes:
    """Compressed content with some bytes in its middle changed."""
    packed = bytearray(gzip.compress(content))
    for at in range(100, 160):
        packed[at] ^= 0x5A
    return bytes(packed)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(ValueError, match="not a CSV file in UTF-8"):
        read_table(path)
    path = tmp_path / "t.csv.gz"
    path.write_bytes(b"plain text")
    with pytest.raises(ValueError, match="not a CSV file"):
        read_table(path)
    path.write_bytes(gzip.compress(b"a,b\n1,2\n" * 99)[:-12])
    with pytest.raises(ValueError, match="not a CSV file"):
        read_table(path)
    path.write_bytes(damaged(b"".join(b"%d,%d\n" % (k, k * k) for k in range(3000))))
    with pytest.raises(ValueError, match="not a CSV file"):
        read_table(path)
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "absent.csv")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"

    def half_written(error: type[BaseException]) -> None:
        with replacing(path) as file:
            file.write("half")
            raise error

    for error in (KeyboardInterrupt, RuntimeError):
        with pytest.raises(error):
            half_written(error)
        assert os.listdir(tmp_path) == []
    with replacing(path) as file:
        file.write("whole")
    assert path.read_text() == "whole"
    assert os.listdir(tmp_path) == ["out.txt"]


def test_a_target_that_is_no_file_is_written_and_stays() -> None:
    with replacing(os.devnull) as file:
        file.write("gone")
    assert not Path(os.devnull).is_file()
    assert Path(os.devnull).exists()
