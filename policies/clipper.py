"""Clipper+: one fixed subnet, batches as large as the slack allows, or as AIMD finds (NSDI 2017, as in NSDI 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.parameters import require_choice
from policies.subnets import DROP_HEAD, NoneFits, fits, give_up, largest, largest_fitting, profile
from queueing.one_shot import OneShotPolicy, Pool, decide, head_deadline, run, take_first, waiting

__all__ = ["Clipper", "ClipperMemory"]


class ClipperMemory(NamedTuple):
    """The profile, subnets from the least accurate to the most, and the batch size that AIMD has reached."""

    latency: NDArray[np.float64]
    by_accuracy: NDArray[np.int64]
    limit: NDArray[np.float64]  # [1]


@dataclass(frozen=True, slots=True)
class Clipper(OneShotPolicy):
    """One model for every query; only the batch adapts.

        φ = the subnet of rank `subnet`
        b = largest batch of φ that fits the slack                          # or, with `aimd`, the limit:
            limit += 1 after a batch that fits;  limit := 0.9 limit after one that does not
        run the first min(b, waiting) queries under φ

    SuperServe compares with several Clipper+, one per subnet: `Clipper(0)`, `Clipper(1)`, ...
    Guarantee:    without `aimd`, under DROP_HEAD, with nothing to load and no failures, all that runs is in time.
    Not promised: any attainment beyond the capacity of φ (:meth:`queueing.models.supernet.Frontier.capacity`).  AIMD
                  learns of a miss when the batch starts, from the profile; Clipper does when it ends.  One limit
                  serves all servers.
    Args:
        subnet: rank in order of accuracy, 0 the least; the most accurate if there are not so many.
        none_fits: what to do when not even one query fits; RUN_FASTEST runs φ.
        aimd: additive increase, multiplicative decrease instead of the profile.
    Source: Clipper, NSDI 2017 (AIMD from a secondary source); Clipper+ as SuperServe, NSDI 2025, describes it.
    """

    subnet: int = 0
    none_fits: NoneFits = DROP_HEAD
    aimd: bool = False
    by_deadline: ClassVar[bool] = True
    source: ClassVar[str] = "Clipper, NSDI 2017; Clipper+ of SuperServe, NSDI 2025 (arXiv 2312.16733)"

    def __post_init__(self) -> None:
        if type(self.subnet) is not int or not 0 <= self.subnet < 2**31:
            raise ValueError(
                f"subnet of Clipper must be a rank, 0 for the least accurate, not {self.subnet!r}"
            )
        require_choice(self, "none_fits", NoneFits)

    def prepare(self, pool: Pool) -> ClipperMemory:
        """Return the profile, and a limit of one."""
        latency, best_first, _ = profile(pool)
        return ClipperMemory(latency, best_first[::-1].copy(), np.ones(1))

    @decide
    def clipper(p, memory, view, action):
        """Size the batch by slack, or by what has fitted so far."""
        slack = head_deadline(view) - view.now
        k = memory.by_accuracy[min(p.subnet, len(memory.by_accuracy) - 1)]
        b = largest_fitting(view, memory.latency, k, slack)
        if b == 0:
            if p.aimd:
                memory.limit[0] = max(1.0, 0.9 * memory.limit[0])
            give_up(p.none_fits, view, action, memory.latency, k)
            return
        if p.aimd:
            b = min(int(memory.limit[0]), waiting(view), largest(memory.latency, k))
            if fits(view, memory.latency, k, b, slack):
                memory.limit[0] = min(memory.limit[0] + 1.0, memory.latency.shape[1])
            else:
                memory.limit[0] = max(1.0, 0.9 * memory.limit[0])
        take_first(view, action, b)
        run(action, k)
