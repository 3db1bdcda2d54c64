"""Trace: everything that happened in one run, in columns; the only thing that metrics and plots accept.

Three tables, each a mapping of column name to numpy array of equal length:

* `requests`   one row per request, in order of arrival;
* `iterations` one row per executed batch, in order of start per node;
* `entries`    (only if asked for) one row per request served in a batch, in the order of the batch; `tokens` = 0 marks
  a preemption.  `iterations["entries"]` counts the rows that belong to each batch.

Gaps between tokens are kept as a log-linear sketch per SLO class: `gaps[c, j]` counts gaps in bin j, whose width is
1/128 of its power of two, so that a quantile read from it is within 0.4 % of the exact one (`GAP_ERROR`); zero and
sub-microsecond gaps fall into the first bin, gaps past 2^20 s into the last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from queueing.compilation import kernel

__all__ = ["GAP_ERROR", "SKETCH_BINS", "Trace", "gap_bin", "gap_values"]

_PER_OCTAVE = 128
_LOWEST, _HIGHEST = -20, 20  # gaps of 2^-20 s (1 microsecond) to 2^20 s (12 days)
SKETCH_BINS = (_HIGHEST - _LOWEST) * _PER_OCTAVE
GAP_ERROR = 1 / (2 * _PER_OCTAVE)

STATUS = ("future", "waiting", "running", "finished", "rejected")


@kernel
def gap_bin(gap: float) -> int:
    """Bin of a gap of `gap` seconds; exact arithmetic, so that every way of running the loop agrees."""
    if not gap > 0.0:
        return 0
    mantissa, exponent = math.frexp(gap)  # gap = mantissa * 2^exponent, mantissa in [1/2, 1)
    at = (exponent - 1 - _LOWEST) * _PER_OCTAVE + int((2.0 * mantissa - 1.0) * _PER_OCTAVE)
    return min(max(at, 0), SKETCH_BINS - 1)


def gap_values() -> NDArray[np.float64]:
    """Midpoint of each bin of the sketch, in seconds."""
    j = np.arange(SKETCH_BINS)
    low = np.ldexp(1.0 + (j % _PER_OCTAVE) / _PER_OCTAVE, _LOWEST + j // _PER_OCTAVE)
    high = np.ldexp(1.0 + (j % _PER_OCTAVE + 1) / _PER_OCTAVE, _LOWEST + j // _PER_OCTAVE)
    return (low + high) / 2


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One run of one policy on one workload and system.

    `requests` columns: arrival, prompt, output, client, tbt, ttft (limits), node, status (0 future, 1 waiting,
    2 running, 3 finished, 4 rejected), admitted, prefill_end, first_token, last_token, finished (s; nan where it did
    not happen), decoded, preemptions, longest_gap (s), late_gaps (gaps longer than tbt), slo_class.
    `iterations` columns: start, seconds, node, prefill, decodes (tokens), context (KV tokens attended by decodes),
    blocks (KV blocks in use during the batch), waiting, running, entries.
    `gaps`: sketch of the gaps between tokens, [classes, bins]; `class_tbt`: the tbt limit of each class (s).
    `meta`: policy, system, seed, versions and configuration of the run.
    """

    requests: Mapping[str, NDArray[Any]]
    iterations: Mapping[str, NDArray[Any]]
    entries: Mapping[str, NDArray[Any]] | None
    gaps: NDArray[np.int64]
    class_tbt: NDArray[np.float64]
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def finished(self) -> NDArray[np.bool_]:
        """Which requests got their last token."""
        return self.requests["status"] == STATUS.index("finished")

    @property
    def rejected(self) -> NDArray[np.bool_]:
        """Which requests were turned away on arrival, because they could never be finished."""
        return self.requests["status"] == STATUS.index("rejected")

    @property
    def unfinished(self) -> NDArray[np.bool_]:
        """Which requests were neither finished nor rejected when the run ended."""
        return ~(self.finished | self.rejected)

    @property
    def end(self) -> float:
        """End of the last batch (s); 0.0 if there was none."""
        its = self.iterations
        return float(np.max(its["start"] + its["seconds"])) if len(its["start"]) else 0.0

    @property
    def busy_seconds(self) -> float:
        """Time spent executing batches, summed over nodes (s)."""
        return float(np.sum(self.iterations["seconds"]))
