"""INFaaS as SuperServe compares with it: the cheapest subnet that is accurate enough, batches by slack (ATC 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from policies.parameters import require_choice
from policies.subnets import DROP_HEAD, NoneFits, Profile, give_up, largest_fitting, profile
from queueing.one_shot import OneShotPolicy, Pool, decide, head_deadline, run, take_first

__all__ = ["Infaas"]


@dataclass(frozen=True, slots=True)
class Infaas(OneShotPolicy):
    """The cheapest subnet of at least the accuracy that is asked for; the batch adapts to the slack.

        φ = of the subnets with acc >= `accuracy` the fastest for one request;  the most accurate if there is none
        b = largest batch of φ that fits the slack;  run the first min(b, waiting) queries

    Without a threshold φ is the least accurate of a frontier, if that is the fastest for one request (P2).  All servers
    run φ, so that nothing is ever loaded and no loading time changes a run.
    Guarantee:    under DROP_HEAD, with nothing to load and no failures, every query that runs is in time.
    Not promised: the attainment of the best fixed subnet (one that is slower for one request may be faster for many);
                  INFaaS's scaling of instances and choice of hardware, which are not modelled.
    Args: accuracy = threshold, a share in [0, 1]; none_fits.
    Source: INFaaS, ATC 2021; as in SuperServe, NSDI 2025, where INFaaS's authors confirm the reading.
    """

    accuracy: float = 0.0
    none_fits: NoneFits = DROP_HEAD
    by_deadline: ClassVar[bool] = True
    source: ClassVar[str] = "INFaaS, ATC 2021, as compared in SuperServe, NSDI 2025 (arXiv 2312.16733)"

    def __post_init__(self) -> None:
        if not 0 <= self.accuracy <= 1:
            raise ValueError(f"accuracy of Infaas must be a share between 0 and 1, not {self.accuracy!r}")
        require_choice(self, "none_fits", NoneFits)

    def prepare(self, pool: Pool) -> Profile:
        """Return the profile of the pool."""
        return profile(pool)

    @decide
    def infaas(p, memory, view, action):
        """The cheapest that is accurate enough."""
        cheapest = memory.best_first[0]
        for k in memory.best_first:
            if view.value[k] >= p.accuracy and memory.latency[k, 0] < memory.latency[cheapest, 0]:
                cheapest = k
        b = largest_fitting(view, memory.latency, cheapest, head_deadline(view) - view.now)
        if b == 0:
            give_up(p.none_fits, view, action, memory.latency, cheapest)
            return
        take_first(view, action, b)
        run(action, cheapest)
