"""MaxBatch: the largest batch that fits first, then the most accurate subnet for it (SuperServe's rival)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from policies.parameters import require_choice
from policies.subnets import DROP_HEAD, NoneFits, Profile, fits, give_up, largest_fitting, profile
from queueing.one_shot import OneShotPolicy, Pool, decide, head_deadline, run, take_first, waiting

__all__ = ["MaxBatch"]


@dataclass(frozen=True, slots=True)
class MaxBatch(OneShotPolicy):
    """Throughput first: of all (b, φ) that fit the slack, the lexicographically largest (b, accuracy).

        b = largest batch of the fastest subnet that fits;  φ = most accurate that fits with b
        run the first min(b, waiting) queries under φ

    Under P1 and P2 these are two binary searches (the paper's O(log b + log φ)); here two scans, which need neither.
    Guarantee:    the pair is the brute-force argmax wherever the fastest subnet for one request is so for every batch
                  and nothing is to be loaded (tested); under DROP_HEAD, with nothing to load and no failures, every
                  query that runs is in time.
    Not promised: where subnets are loaded, a server that holds another than the fastest drops what its own, or another
                  idle server, could serve;
                  accuracy at low load: unless `refit`, one query that waits alone takes the subnet that a full batch
                  would leave room for.
    Args: none_fits; refit = at most as many as wait count as the batch, before φ is chosen.
    Source: SuperServe, NSDI 2025 (arXiv 2312.16733), section 4, where it is a policy to compare with.
    """

    none_fits: NoneFits = DROP_HEAD
    refit: bool = False
    by_deadline: ClassVar[bool] = True
    source: ClassVar[str] = "SuperServe, NSDI 2025 (arXiv 2312.16733), section 4"

    def __post_init__(self) -> None:
        require_choice(self, "none_fits", NoneFits)

    def prepare(self, pool: Pool) -> Profile:
        """Return the profile of the pool."""
        return profile(pool)

    @decide
    def max_batch(p, memory, view, action):
        """Batch first, then accuracy."""
        slack = head_deadline(view) - view.now
        b = largest_fitting(view, memory.latency, memory.fastest, slack)
        if b == 0:
            give_up(p.none_fits, view, action, memory.latency, memory.fastest)
            return
        if p.refit:
            b = min(b, waiting(view))
        take_first(view, action, b)
        for k in memory.best_first:
            if fits(view, memory.latency, k, b, slack):
                run(action, k)
                break
