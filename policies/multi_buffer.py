"""Multi-buffer batching: one buffer per range of sizes, each closed by its size or its timer (PVLDB 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.parameters import require_thresholds
from queueing.one_shot import OneShotPolicy, Pool, decide, run, take, wait_until
from queueing.policy import record_of

__all__ = ["Buffers", "MultiBuffer"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Buffers(NamedTuple):
    """Per kind its `buffer`; per buffer the parameters, how many wait, and since when the first of them has (s)."""

    buffer: Ints
    size: Ints
    timeout: Floats
    configuration: Ints
    members: Ints
    first: Floats


@dataclass(frozen=True, slots=True)
class _None:
    """No parameters."""

    none: int = 0


@dataclass(frozen=True, slots=True)
class MultiBuffer(OneShotPolicy):
    """Requests wait in the buffer of their size range; a buffer that is full, or whose timer has run out, runs.

    buffer i holds the kinds above cuts[i-1] and up to cuts[i]; the last one, all that are larger
    a server asks:   of the buffers with size_i requests, or whose first came timeout_i ago, the one whose first is
                     earliest: its first size_i requests under configuration_i, padded to their largest
                     none: wait until the first timer

    One buffer is BATCH; size 1 or timeout 0 is a call per request.
    Guarantee:    on unlimited servers no request waits longer than its buffer's timeout, and every request is in
                  exactly one batch, of one buffer (tested).
    Not promised: anything on few servers, where a full buffer waits for one; a limit on latency, which is up to who
                  chooses the parameters (:mod:`policies.buffer_tuner`).
    Args:
        cuts: largest kind of each buffer but the last, rising; () for one buffer.
        sizes: requests at which each buffer closes; no more than its configuration can run of all its kinds.
        timeouts: s, >= 0, after the first request of the buffer.
        configurations: of the pool, per buffer; one that the pool lacks is its last.
        Of the last three, one value counts for all buffers.
    Source: BATCH (SC 2020) for one buffer; Multi-Buffer Serving (PVLDB 15(10), 2022).  There a kind on a boundary is
        shared by two buffers; here it is in the one that has more of it (:func:`queueing.models.partition.equal_load`).
    """

    cuts: tuple[int, ...] = ()
    sizes: tuple[int, ...] = (8,)
    timeouts: tuple[float, ...] = (0.1,)
    configurations: tuple[int, ...] = (0,)
    source: ClassVar[str] = "Multi-Buffer Serving, PVLDB 15(10), 2022; BATCH, SC 2020"

    def __post_init__(self) -> None:
        require_thresholds(self, "sizes")
        if any(c < 0 for c in self.cuts) or any(a >= b for a, b in pairwise(self.cuts)):
            raise ValueError(f"cuts of MultiBuffer must be kinds that rise, not {self.cuts!r}")
        if not self.timeouts or not all(0 <= t < math.inf for t in self.timeouts):
            raise ValueError(f"timeouts of MultiBuffer must be finite seconds >= 0, not {self.timeouts!r}")
        if not self.configurations or min(self.configurations) < 0:
            raise ValueError(
                f"configurations of MultiBuffer must be numbers >= 0, not {self.configurations!r}"
            )
        n = len(self.cuts) + 1
        for name in ("sizes", "timeouts", "configurations"):
            if len(getattr(self, name)) not in (1, n):
                raise ValueError(
                    f"{name} of MultiBuffer has {len(getattr(self, name))} values; give 1 or {n}"
                )

    def parameters(self) -> np.record:
        """Nothing: the lists stand in the memory, whose type is the same for any number of buffers."""
        return record_of(_None())

    def prepare(self, pool: Pool) -> Buffers:
        """Return the parameters as arrays, one row per buffer, and empty buffers.

        Errors: ValueError if a configuration cannot run a single request of a kind in its buffer.
        """
        n = len(self.cuts) + 1
        buffer = np.searchsorted(np.array(self.cuts, np.int64), np.arange(pool.kinds))
        configuration = np.minimum(
            np.resize(np.array(self.configurations, np.int64), n), pool.configurations - 1
        )
        # per kind the batches 1, 2, ... that run before the first that does not
        able = np.logical_and.accumulate(np.isfinite(pool.seconds), axis=2).sum(axis=2)[
            configuration[buffer], np.arange(pool.kinds)
        ]
        if not able.all():
            c = int(np.argmin(able))
            raise ValueError(
                f"configuration {configuration[buffer[c]]} of MultiBuffer cannot run a request of kind {c} on this "
                "pool; name another for its buffer"
            )
        size = np.minimum(np.resize(np.array(self.sizes, np.int64), n), pool.largest_batch)
        np.minimum.at(size, buffer, able)
        return Buffers(
            buffer,
            size,
            np.resize(np.array(self.timeouts, np.float64), n),
            configuration,
            np.zeros(n, np.int64),
            np.zeros(n),
        )

    @decide
    def multi_buffer(p, memory, view, action):
        """Close the buffer of the earliest first request among those that are full or timed out."""
        buffer, size, timeout = memory.buffer, memory.size, memory.timeout
        count, first = memory.members, memory.first
        count[:] = 0
        for r in view.queue:
            i = buffer[view.kind[r]]
            if count[i] == 0:
                first[i] = view.arrival[r]
            count[i] += 1
        chosen = -1
        timer = math.inf
        for i in range(len(count)):
            if count[i] > 0:
                closes = first[i] + timeout[i]
                if count[i] >= size[i] or closes <= view.now:
                    if chosen == -1 or first[i] < first[chosen]:
                        chosen = i
                else:
                    timer = min(timer, closes)
        if chosen == -1:
            wait_until(action, timer)
            return
        left = min(count[chosen], size[chosen])
        for r in view.queue:
            if left > 0 and buffer[view.kind[r]] == chosen:
                take(view, action, r)
                left -= 1
        run(action, memory.configuration[chosen])
