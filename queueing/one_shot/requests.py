"""Requests that are served once: when they come, until when they are worth serving, and how large they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Requests"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class Requests:
    """One-shot requests in order of arrival, as read-only columns of equal length n >= 1, checked at construction.

    Args (each 1-D, length n; copied):
        arrival: s, finite, >= 0, nondecreasing.    deadline: absolute, s, > arrival; default inf (none).
        kind: 0, 1, ..., the size class; a larger kind is a larger request; default all 0.
    Errors: ValueError in one sentence naming column, row and value.
    Example:
        >>> r = Requests([0.0, 0.5], deadline=[1.0, 1.5])
        >>> len(r), r.kind.tolist()
        (2, [0, 0])
    """

    arrival: Floats
    deadline: Floats
    kind: Ints

    def __init__(
        self, arrival: ArrayLike, deadline: ArrayLike | None = None, kind: ArrayLike | None = None
    ) -> None:
        a = np.array(arrival, np.float64).ravel()
        n = len(a)
        if n == 0:
            raise ValueError("there are no requests: give at least one arrival")
        d = np.full(n, np.inf) if deadline is None else np.array(deadline, np.float64).ravel()
        k = np.zeros(n) if kind is None else np.array(kind, np.float64).ravel()
        for name, column in (("deadline", d), ("kind", k)):
            if len(column) != n:
                raise ValueError(
                    f"{name} has {len(column)} rows and arrival has {n}; give one value per request"
                )
        _check("arrival", a, np.isfinite(a) & (a >= 0), "give finite seconds >= 0")
        _check("arrival", a, np.diff(a, prepend=0.0) >= 0, "give arrivals in order of time")
        _check("deadline", d, d > a, "give an absolute time after the arrival, inf for none")
        _check("kind", k, (k >= 0) & (k == np.floor(k)) & (k < 2**31), "give a whole number >= 0")
        for name, column in (("arrival", a), ("deadline", d), ("kind", k.astype(np.int64))):
            column.flags.writeable = False
            object.__setattr__(self, name, column)

    def __len__(self) -> int:
        return len(self.arrival)

    def __repr__(self) -> str:
        return f"Requests({len(self)} in {self.arrival[-1]:g} s)"

    @classmethod
    def within(cls, arrival: ArrayLike, slo: float, kind: ArrayLike | None = None) -> Requests:
        """Requests that all want to be finished `slo` seconds after they arrive."""
        if not slo > 0:
            raise ValueError(f"the limit on latency is {slo}; give seconds > 0")
        a = np.array(arrival, np.float64).ravel()
        return cls(a, a + slo, kind)


def _check(name: str, column: Floats, good: NDArray[np.bool_], advice: str) -> None:
    if not good.all():
        row = int(np.argmin(good))
        raise ValueError(f"{name}, row {row}: {column[row]:g} cannot be; {advice}")
