"""Routers: which of g identical nodes serves an arriving request, decided once, on arrival.

Notation: g nodes; `draws[i]` the uniform random numbers of request i, drawn before the run from its seed;
`loads.unfinished[k]` requests at node k, `loads.work[k]` tokens that node k is known to owe: prompt tokens not yet
computed, and announced output tokens not yet generated.  Ties go to the node of the lowest number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.parameters import require_counts
from queueing.policy import Router, kernel, route

__all__ = ["JoinShortestQueue", "LeastWork", "PowerOfD", "RoundRobin", "UniformRandom"]


@kernel
def least(values: NDArray[np.int64]) -> int:
    """Index of the smallest value, the first of equals."""
    smallest = values[0]
    for value in values:  # without a branch, so that it is computed many values at a time
        smallest = min(smallest, value)
    best = 0
    while values[best] != smallest:
        best += 1
    return best


@dataclass(frozen=True, slots=True)
class UniformRandom(Router):
    """State-blind router: each request goes to a node drawn uniformly, independently of everything else.

    Mathematics:  node = floor(g U), U uniform on [0, 1).
    Assumptions:  identical nodes.
    Guarantee:    Poisson arrivals at rate lam become g independent Poisson streams of rate lam / g (thinning), so that
                  a policy stable at one node is stable at g; it is the planner of RAD's theorem 2 (cited).
    Not promised: short delays: it looks at no queue.
    Source: Bari, Hegde, de Veciana, arXiv 2508.01002, algorithm 1.

    Example:
        >>> UniformRandom().draws_per_request
        1
    """

    @property
    def draws_per_request(self) -> int:
        """One random number per request."""
        return 1

    @route
    def uniform_random(p, i, draws, loads):
        """A node drawn uniformly."""
        return int(draws[i, 0] * len(loads.unfinished))


@dataclass(frozen=True, slots=True)
class RoundRobin(Router):
    """State-blind router: the i-th request goes to node i mod g.

    Assumptions:  identical nodes.
    Guarantee:    after any number of arrivals the nodes have been sent numbers of requests that differ by at most one
                  (tested); it is how the SLAI authors' repository splits a trace over replicas.
    Not promised: balanced work: long requests may meet at one node.
    Source: folklore.

    Example:
        >>> RoundRobin().draws_per_request
        0
    """

    @route
    def round_robin(p, i, draws, loads):
        """The nodes in turn."""
        return i % len(loads.unfinished)


@dataclass(frozen=True, slots=True)
class JoinShortestQueue(Router):
    """Router to the node with the fewest unfinished requests.

    Mathematics:  node = argmin_k unfinished_k.
    Assumptions:  identical nodes; the counts are known at once.
    Guarantee:    least delay, in the sense of most departures by any time, for Poisson arrivals and exponential service
                  (cited: Winston, 1977), which is not the case here.
    Not promised: least delay: requests differ in length, and the count does not see it.
    Source: Winston, "Optimality of the shortest line discipline", Journal of Applied Probability 14 (1977).

    Example:
        >>> JoinShortestQueue().name
        'JoinShortestQueue'
    """

    @route
    def join_shortest_queue(p, i, draws, loads):
        """The node with the fewest requests."""
        return least(loads.unfinished)


@dataclass(frozen=True, slots=True)
class LeastWork(Router):
    """Router to the node with the least outstanding work, in tokens.

    Mathematics:  node = argmin_k work_k.
    Assumptions:  identical nodes; `predicted` announces output lengths.  Where nothing was announced, the context limit
                  stands for the output, and long and short prompts count alike: prefer JoinShortestQueue.
    Guarantee:    none.
    Not promised: that a token of a prompt and one of an output cost the same time, as the sum supposes.
    Source: folklore ("least work left" where work is known exactly).

    Example:
        >>> LeastWork().name
        'LeastWork'
    """

    @route
    def least_work(p, i, draws, loads):
        """The node that owes the fewest tokens."""
        return least(loads.work)


@dataclass(frozen=True, slots=True)
class PowerOfD(Router):
    """Router to the shortest queue among d nodes drawn uniformly, with replacement.

    Mathematics:  k_1 .. k_d independent and uniform;  node = argmin_j unfinished_{k_j}, the first drawn of equals.
    Assumptions:  identical nodes.
    Guarantee:    for exponential service and g -> inf, the share of queues of length >= n falls doubly exponentially
                  in n for d >= 2, where for d = 1 it falls geometrically (cited).
    Not promised: that result for batch service, as here.
    Args:
        d: nodes drawn per request; 1 is UniformRandom.
    Source: Vvedenskaya, Dobrushin, Karpelevich, Probl. Inf. Transm. 32 (1996); Mitzenmacher, IEEE TPDS 12 (2001).

    Example:
        >>> PowerOfD(d=3).draws_per_request
        3
    """

    d: int = 2

    def __post_init__(self) -> None:
        require_counts(self, "d")

    @property
    def draws_per_request(self) -> int:
        """One random number per node drawn."""
        return self.d

    @route
    def power_of_d(p, i, draws, loads):
        """The shortest of d queues drawn uniformly."""
        g = len(loads.unfinished)
        best = int(draws[i, 0] * g)
        for j in range(1, p.d):
            k = int(draws[i, j] * g)
            if loads.unfinished[k] < loads.unfinished[best]:
                best = k
        return best
