"""MaxAccuracy: the most accurate subnet that fits first, then the largest batch for it (SuperServe's rival)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from policies.parameters import require_choice
from policies.subnets import DROP_HEAD, NoneFits, Profile, fits, give_up, largest_fitting, profile
from queueing.one_shot import OneShotPolicy, Pool, decide, head_deadline, run, take_first

__all__ = ["MaxAccuracy"]


@dataclass(frozen=True, slots=True)
class MaxAccuracy(OneShotPolicy):
    """Accuracy first: of all (φ, b) that fit the slack, the lexicographically largest (accuracy, b).

        φ = most accurate that fits with one query;  b = its largest batch that fits
        run the first min(b, waiting) queries under φ

    Guarantee:    the pair is the brute-force argmax (tested); under DROP_HEAD, with nothing to load and no failures,
                  every query that runs is in time.
    Not promised: attainment: little slack still means large subnets in small batches, so a burst is not drained.  Where
                  subnets are loaded, a server drops what only another idle server could serve; not what its own could.
    Args: none_fits.
    Source: SuperServe, NSDI 2025 (arXiv 2312.16733), section 4 (MaxAcc), where it is a policy to compare with.
    """

    none_fits: NoneFits = DROP_HEAD
    by_deadline: ClassVar[bool] = True
    source: ClassVar[str] = "SuperServe, NSDI 2025 (arXiv 2312.16733), section 4"

    def __post_init__(self) -> None:
        require_choice(self, "none_fits", NoneFits)

    def prepare(self, pool: Pool) -> Profile:
        """Return the profile of the pool."""
        return profile(pool)

    @decide
    def max_accuracy(p, memory, view, action):
        """Accuracy first, then the batch."""
        slack = head_deadline(view) - view.now
        for k in memory.best_first:
            if fits(view, memory.latency, k, 1, slack):
                take_first(view, action, largest_fitting(view, memory.latency, k, slack))
                run(action, k)
                return
        give_up(p.none_fits, view, action, memory.latency, memory.fastest)
