"""SlackFit: the slack of the most urgent query picks a bucket of latencies, the bucket subnet and batch (NSDI 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.parameters import require_choice, require_counts
from policies.subnets import DROP_HEAD, NoneFits, fits, give_up, profile
from queueing.one_shot import OneShotPolicy, Pool, decide, head_deadline, run, take_first, waiting

__all__ = ["Buckets", "SlackFit", "buckets"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Buckets(NamedTuple):
    """The offline table: per bucket that is not empty, in order of latency, a subnet and a batch; and the profile."""

    subnet: Ints
    batch: Ints
    latency: Floats  # [K, B], s
    best_first: Ints
    fastest: int


def buckets(pool: Pool, number: int) -> Buckets:
    """Divide the latencies of `pool` into `number` buckets of equal width and pick one batch and subnet of each.

    Edges are evenly spaced from the least latency of one request to the largest latency of the largest batch.  Of the
    (φ, b) with l_φ(b) in (previous edge, edge] the bucket holds one with the most requests; ties: the more accurate,
    then the faster.  The first bucket includes the least latency.
    """
    latency, best_first, fastest = profile(pool)
    finite = latency[np.isfinite(latency)]
    edges = np.linspace(finite.min(), finite.max(), number + 1)
    place = np.clip(np.searchsorted(edges, latency, side="left") - 1, 0, number - 1)
    chosen: dict[int, tuple[int, float, float, int]] = {}
    for k, b in np.argwhere(np.isfinite(latency)):
        key = (int(b) + 1, float(pool.value[k]), -float(latency[k, b]), -int(k))
        chosen[int(place[k, b])] = max(key, chosen.get(int(place[k, b]), key))
    table = [chosen[e] for e in sorted(chosen)]
    subnet, batch = np.array([-key[3] for key in table]), np.array([key[0] for key in table])
    return Buckets(subnet, batch, latency, best_first, fastest)


@dataclass(frozen=True, slots=True)
class SlackFit(OneShotPolicy):
    """Accuracy by slack: little slack, small subnets in large batches; much slack, large subnets.

    Offline: buckets of latency, each with the (φ, b) of most requests in it (:func:`buckets`).
    Online, a server idle and queries waiting, earliest deadline first:
        slack = least deadline - now
        of the buckets with l < slack the last:  the first min(b, waiting) queries under φ
        none: `none_fits`

    Guarantee:    under DROP_HEAD, with nothing to load and no failures, every query that runs is in time (tested:
                  l < slack, and all of the batch have later deadlines).
    Not promised: any ratio to the optimum (:mod:`queueing.models.zilp`).  It is myopic: one query alone takes a large
                  subnet, and those that come just after find no server.  A longer limit or one server more can
                  lower what it attains.  Where subnets are loaded, a server drops what fits none of its buckets, though
                  the subnet that it holds, or another idle server, could serve it.
    Args:
        buckets: number of buckets; the paper gives none, 8 is ours: with more, batches are smaller and attainment
            falls under bursts (docs/experiments/slackfit.md).
        none_fits: what to do when no bucket fits; the paper does not say.
        refit: where fewer wait than the bucket's b, run them under the most accurate subnet that fits; the paper does
            not say, and the default runs the bucket's subnet.
    Source: SuperServe, NSDI 2025 (arXiv 2312.16733), section 4 and appendix: buckets by the appendix, (previous edge,
        edge]; l is the latency of the bucket's own batch, with loading if the server holds another subnet (ours).
    """

    buckets: int = 8
    none_fits: NoneFits = DROP_HEAD
    refit: bool = False
    by_deadline: ClassVar[bool] = True
    source: ClassVar[str] = "SuperServe, NSDI 2025 (arXiv 2312.16733), section 4"

    def __post_init__(self) -> None:
        require_counts(self, "buckets")
        require_choice(self, "none_fits", NoneFits)

    def prepare(self, pool: Pool) -> Buckets:
        """Return the table of buckets for this pool."""
        return buckets(pool, self.buckets)

    @decide
    def slack_fit(p, memory, view, action):
        """Run the last bucket whose latency is below the slack."""
        slack = head_deadline(view) - view.now
        latency = memory.latency
        e = len(memory.batch) - 1
        while e >= 0 and not fits(view, latency, memory.subnet[e], memory.batch[e], slack):
            e -= 1
        if e < 0:
            give_up(p.none_fits, view, action, latency, memory.fastest)
            return
        k, b = memory.subnet[e], min(memory.batch[e], waiting(view))
        if p.refit and b < memory.batch[e]:
            for better in memory.best_first[::-1]:
                if view.value[better] > view.value[k] and fits(view, latency, better, b, slack):
                    k = better
        take_first(view, action, b)
        run(action, k)
