"""OneShotTrace: what happened to each request and in each batch of a run of one-shot serving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from queueing.one_shot.pool import Pool
from queueing.one_shot.requests import Requests

__all__ = ["OneShotTrace"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class OneShotTrace:
    """One run: its inputs, one row per request (n), one row per batch (m).

    Per request:  `batch`, the one that served it, -1 if none;  `dropped`.  Neither served nor dropped: unfinished,
        because every server failed.
    Per batch, in order of begin:  `begin`, `end` (s; end includes `loading`, s, before it);  `server` (0 if servers are
        unlimited);  `config`;  `count` of requests;  `largest`, kind of the largest;  `completed`, False if its server
        failed, at `end`, and its requests went back to the queue.
    """

    requests: Requests
    pool: Pool
    policy: str
    versions: Mapping[str, str]
    batch: Ints
    dropped: Flags
    begin: Floats
    end: Floats
    server: Ints
    config: Ints
    count: Ints
    largest: Ints
    loading: Floats
    completed: Flags

    def __repr__(self) -> str:
        return f"OneShotTrace({self.policy}: {len(self.batch)} requests in {len(self.begin)} batches)"

    @property
    def served(self) -> Flags:
        """Which requests were served."""
        return self.batch >= 0

    @property
    def start(self) -> Floats:
        """When each request's batch began, s; nan if it was not served."""
        return self._of_batch(self.begin)

    @property
    def finish(self) -> Floats:
        """When each request's batch ended, s; nan if it was not served."""
        return self._of_batch(self.end)

    def _of_batch(self, column: Floats) -> Floats:
        out = np.full(len(self.batch), np.nan)
        out[self.served] = column[self.batch[self.served]]
        return out
