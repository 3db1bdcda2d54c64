"""Where the tables of a run lie: in memory, or in files of a folder, mapped into memory.

The loop goes through its tables once, in order of arrival, and comes back only to requests that are in the system.  So
with tables in files the system's pages in memory are those of the requests that are being served, and a trace may be
larger than the memory: what was written long ago lies on disk.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from queueing.books import LINE

__all__ = ["AT_ONCE", "Files", "Memory", "Rows", "Storage", "pieces"]

AT_ONCE = 1 << 20  # rows that are copied at a time


def pieces(n: int) -> Iterator[slice]:
    """The rows 0..n-1 in slices of at most AT_ONCE."""
    return (slice(k, min(k + AT_ONCE, n)) for k in range(0, n, AT_ONCE))


class Rows(Protocol):
    """A column that rows are appended to."""

    def append(self, values: NDArray[Any], share: float) -> None:
        """Append values, with which this `share` of the run is done."""
        ...

    def all(self) -> NDArray[Any]:
        """Every row so far."""
        ...


class Storage(Protocol):
    """Where tables lie."""

    def zeros(self, n: int, dtype: DTypeLike) -> NDArray[Any]:
        """A table of n rows that lives as long as the array, and begins where a cache line does."""
        ...

    def rows(self, name: str, dtype: DTypeLike) -> Rows:
        """An empty column of the trace."""
        ...

    def column(self, name: str, values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
        """A column of the trace with these values, contiguous and not to be written."""
        ...


class Memory:
    """Tables in memory."""

    def zeros(self, n: int, dtype: DTypeLike) -> NDArray[Any]:
        """A table of n rows that begins where a cache line does."""
        kind = np.dtype(dtype)
        raw = np.zeros(n * kind.itemsize + LINE, np.uint8)
        first = -raw.ctypes.data % LINE
        return raw[first : first + n * kind.itemsize].view(kind)

    def rows(self, name: str, dtype: DTypeLike) -> Rows:
        """An empty column."""
        return _Grown(dtype)

    def column(self, name: str, values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
        """The values themselves, or a contiguous copy."""
        return np.ascontiguousarray(values, dtype)


class _Grown:
    """A column that grows as a whole; memory past the last row is reserved but never touched."""

    def __init__(self, dtype: DTypeLike) -> None:
        self._values = np.empty(1 << 16, dtype)
        self._rows = 0

    def append(self, values: NDArray[Any], share: float) -> None:
        rows = self._rows + len(values)
        if rows > len(self._values):
            room = rows * min(max(1.1 / share, 2), 16)  # enough for the rest, so that rows are rarely moved
            grown = np.empty(int(room), self._values.dtype)
            grown[: self._rows] = self._values[: self._rows]
            self._values = grown
        self._values[self._rows : rows] = values
        self._rows = rows

    def all(self) -> NDArray[Any]:
        return self._values[: self._rows]


class Files:
    """Tables in files of `folder`, which is made, or empty.

    Columns of the trace are files NAME.npy, which stay; working tables are files without a name, which vanish with the
    process, whatever ends it.  As a context manager it takes all away again, the folder included, if its block fails.

    Raises:
        ValueError: the folder holds something, or is a file.
        OSError: it cannot be made or written, or its disk is full.
    """

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not (folder.is_dir() and next(folder.iterdir(), None) is None):
            raise ValueError(f"{folder} is not an empty folder; name a new one for the tables of the run")
        self._made = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._columns: list[Path] = []

    def __enter__(self) -> Files:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        for path in self._columns:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # a folder that holds something else stays, and so do those above it
            for folder in self._made:
                folder.rmdir()

    def zeros(self, n: int, dtype: DTypeLike) -> NDArray[Any]:
        """A mapped table of n rows, in a file whose name is taken away at once."""
        path, size = self._folder / "table.part", max(n, 1) * np.dtype(dtype).itemsize
        try:
            with _room(path, size), path.open("w+b") as file:
                _allocate(file, size)
                return np.memmap(file, dtype, "r+", shape=(max(n, 1),))[:n]
        finally:
            path.unlink(missing_ok=True)

    def rows(self, name: str, dtype: DTypeLike) -> Rows:
        """An empty column in the file NAME.npy."""
        self._columns.append(self._folder / f"{name}.npy")
        return _Appended(self._columns[-1], dtype)

    def column(self, name: str, values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
        """A copy of the values in the file NAME.npy, mapped."""
        kept = self.rows(name, dtype)
        for piece in pieces(len(values)):
            kept.append(values[piece].astype(dtype), math.nan)
        return kept.all()


@contextmanager
def _room(path: Path, size: int) -> Generator[None]:
    """Say in a sentence that the disk is full, where a file grows by `size` bytes."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(path.parent).free
        raise OSError(
            f"the disk of {path.parent} is full: {size / 1e6:.3g} MB more are needed and {free / 1e6:.3g} MB are free; "
            "make room, or name a folder on another disk"
        ) from None


def _allocate(file: IO[bytes], size: int) -> None:
    """Take `size` bytes of the disk now: a write to a mapped page finds a full disk too late, and ends the process."""
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except (AttributeError, OSError) as error:  # not every system and file system can
        if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        if shutil.disk_usage(file.fileno()).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
        file.truncate(size)


class _Appended:
    """A column in a .npy file; its header is written again when the number of rows is known."""

    def __init__(self, path: Path, dtype: DTypeLike) -> None:
        self._path, self._dtype, self._rows = path, np.dtype(dtype), 0
        with path.open("xb") as file:
            self._head(file)

    def _head(self, file: Any) -> None:
        description = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": description, "fortran_order": False, "shape": (self._rows,)}
        np.lib.format.write_array_header_1_0(file, header)  # leaves room for a longer first dimension

    def append(self, values: NDArray[Any], share: float) -> None:
        with _room(self._path, values.nbytes), self._path.open("ab") as file:
            file.write(np.ascontiguousarray(values).data)
        self._rows += len(values)

    def all(self) -> NDArray[Any]:
        with self._path.open("r+b") as file:
            self._head(file)
        return np.load(self._path, mmap_mode="r")
