"""Pool: the servers that execute batches of one-shot requests, and how long each batch takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Pool"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class Pool:
    """Identical servers with a table of batch times: one batch at a time each, never interrupted but by a failure.

    A batch of b requests, the largest of kind c, under configuration k takes `seconds[k, c, b - 1]`, and `switch[k]`
    before it if the server holds another configuration.  Smaller requests of the batch are padded to the largest.
    Args:
        seconds: [K, C, B], s, > 0; inf where the batch cannot run (too large for the memory of k).
        servers: how many; None for as many as are asked for, paid per use.
        value: [K], finite, worth of a request served in time under k, such as accuracy; default 1.
        switch: [K], finite, s to load k on a server that holds another configuration; default 0.  A fresh server holds
            none, and loads its first for nothing.
        failures: [servers], time at which each fails for good (s); default inf.  What it was executing is lost and
            waits again.
    Errors: ValueError in one sentence.
    Example:
        >>> pool = Pool(np.array([[[0.010, 0.016]]]), servers=2)
        >>> pool.configurations, pool.kinds, pool.largest_batch
        (1, 1, 2)
    """

    seconds: Floats
    servers: int | None
    value: Floats
    switch: Floats
    failures: Floats

    def __init__(
        self,
        seconds: ArrayLike,
        servers: int | None = 1,
        value: ArrayLike | None = None,
        switch: ArrayLike | None = None,
        failures: ArrayLike | None = None,
    ) -> None:
        table = np.array(seconds, np.float64)
        if table.ndim != 3 or 0 in table.shape:
            raise ValueError(
                f"the table of batch times has shape {table.shape}; give [configurations, kinds, sizes], each >= 1"
            )
        if not (table > 0).all():
            raise ValueError(
                f"a batch time is {table[~(table > 0)][0]:g} s; give seconds > 0, inf for impossible"
            )
        if servers is not None and not (isinstance(servers, int | np.integer) and servers >= 1):
            raise ValueError(
                f"{servers} servers; give a whole number of at least one, or None for as many as are asked for"
            )
        columns = {
            "value": _column("value", value, len(table), 1.0),
            "switch": _column("switch", switch, len(table), 0.0),
            "failures": _column("failures", failures, servers or 0, np.inf, most=np.inf),
        }
        if servers is None and columns["switch"].any():
            raise ValueError(
                "servers paid per use hold nothing to switch from; give no switch times with servers=None"
            )
        for name, column in {"seconds": table, **columns}.items():
            column.flags.writeable = False
            object.__setattr__(self, name, column)
        object.__setattr__(self, "servers", servers)

    def __repr__(self) -> str:
        many = "any number of" if self.servers is None else self.servers
        return f"Pool({self.configurations} configurations, {self.kinds} kinds, {many} servers)"

    @property
    def configurations(self) -> int:
        """K."""
        return self.seconds.shape[0]

    @property
    def kinds(self) -> int:
        """C."""
        return self.seconds.shape[1]

    @property
    def largest_batch(self) -> int:
        """B."""
        return self.seconds.shape[2]


def _column(
    name: str, values: ArrayLike | None, rows: int, default: float, most: float = np.finfo(np.float64).max
) -> Floats:
    column = np.full(rows, default) if values is None else np.array(values, np.float64).ravel()
    if len(column) != rows:
        raise ValueError(f"{name} has {len(column)} values; give {rows}")
    good = (column >= 0) & (column <= most)
    if not good.all():
        what = "numbers >= 0, inf for never" if most == np.inf else "finite numbers >= 0"
        raise ValueError(f"{name} holds {column[~good][0]:g}; give {what}")
    return column
