"""Routers where their laws are known: replicas that serve one request at a time, exponential service, Poisson arrivals.

Each of g replicas serves first come, first served, mean service 1 s, load λ < 1.  Mean time in system T, and the share
s_k of replicas with k requests or more:

    UniformRandom  M/M/1 at each (thinning):                    T = 1/(1-λ),  s_k = λ^k
    PowerOfD       g -> inf (Mitzenmacher, IEEE TPDS 12, 2001):  T = Σ_i λ^((d^i-d)/(d-1)),  s_k = λ^((d^k-1)/(d-1))
    RoundRobin     every g-th arrival, Erlang(g, gλ) between:    T = 1/(1-σ),  σ = (1 + (1-σ)/(gλ))^-g  (GI/M/1)
    LeastWork      a request goes where it starts first, M/M/g:  T = 1 + C(g, gλ)/(g(1-λ)),  C Erlang's
    JoinShortestQueue                                           no closed form; T between M/M/g's and PowerOfD's

LeastWork sees the work of a request in chunks; its T is M/M/g's as they shrink.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from policies import JoinShortestQueue, LeastWork, PowerOfD, RoundRobin, Sarathi, UniformRandom
from queueing.arrivals import Poisson
from queueing.models.iteration_time import Affine
from queueing.policy import Router
from queueing.simulator import simulate
from queueing.system import ENDLESS, System
from queueing.trace import Trace
from queueing.workload import Workload

__all__ = ["LEVELS", "LOAD", "ROUTERS", "Queues", "share_with", "time_in_system"]

ROUTERS: dict[str, Router] = {
    "random": UniformRandom(),
    "round robin": RoundRobin(),
    "two choices": PowerOfD(2),
    "shortest queue": JoinShortestQueue(),
    "least work": LeastWork(),
}
LOAD = 0.8
LEVELS = 6  # s_1 to s_6
SERVICE = 1000  # tokens of a mean service of 1 s
CHUNK = 50  # tokens after which LeastWork sees what is done
WARM = 0.4  # of the arrivals that are not counted: 500 mean services at 1,250 requests a replica
SYSTEM = System(Affine(0.0, 1 / SERVICE), ENDLESS, max_length=ENDLESS, name="exponential")


def _random(load: float, replicas: int) -> float:
    return 1 / (1 - load)


def _round_robin(load: float, replicas: int) -> float:
    def balance(sigma: float) -> float:
        return (1 + (1 - sigma) / (replicas * load)) ** -replicas - sigma

    root: Any = brentq(balance, 0.0, 1 - 1e-9)  # σ = 1 is a root too, and not the one meant
    return 1 / (1 - float(root))


def _two_choices(load: float, replicas: int) -> float:
    return sum(load ** (2**i - 2) for i in range(1, 20))


def _central(load: float, replicas: int) -> float:
    offered, blocked = replicas * load, 1.0  # Erlang's B, one server more at a time
    for k in range(1, replicas + 1):
        blocked = offered * blocked / (k + offered * blocked)
    waits = blocked / (1 - load * (1 - blocked))
    return 1 + waits / (replicas * (1 - load))


_TIMES: dict[str, Callable[[float, int], float]] = {
    "random": _random,
    "round robin": _round_robin,
    "two choices": _two_choices,
    "least work": _central,
}


def time_in_system(router: str, load: float, replicas: int) -> float:
    """T in mean services, by the law of the router.

    Raises:
        ValueError: no closed form is known for it, or the load is not in (0, 1).
    """
    if router not in _TIMES:
        raise ValueError(f"there is no closed form for {router!r}; give one of {', '.join(_TIMES)}")
    if not 0 < load < 1:
        raise ValueError(
            f"the load is {load}; give a number between 0 and 1, below which the queues are stable"
        )
    return _TIMES[router](load, replicas)


def share_with(d: int, load: float, k: int) -> float:
    """s_k of PowerOfD(d) as g -> inf; d = 1 is UniformRandom."""
    return load ** (k if d == 1 else (d**k - 1) // (d - 1))


class Queues(NamedTuple):
    """`requests` at a load of LOAD on `replicas` behind a router."""

    router: str
    replicas: int
    requests: int
    seed: int

    def record(self) -> dict[str, Any]:
        """Mean time in system (s), and s_1 to s_LEVELS, of what comes after the warm-up."""
        rng = np.random.default_rng(self.seed)
        arrival = Poisson(LOAD * self.replicas).times(self.requests, rng)
        # the middle of a rounding step, so that the mean is not moved by it
        prompt = np.maximum(1, np.rint(SERVICE * rng.standard_exponential(self.requests))).astype(np.int64)
        one = np.ones(self.requests, np.int64)
        chunk = CHUNK if self.router == "least work" else 2**30
        policy = Sarathi(token_budget=chunk, max_num_seqs=1)
        trace = simulate(
            Workload(arrival, prompt, one, predicted=one), SYSTEM, policy, nodes=self.replicas,
            router=ROUTERS[self.router], seed=self.seed,
        )  # fmt: skip
        counted = slice(int(WARM * self.requests), None)
        stay = (trace.requests["finished"] - trace.requests["arrival"])[counted]
        shares = held(trace, self.replicas, float(arrival[counted][0]), float(arrival[-1]))
        return {**self._asdict(), "time": float(stay.mean()), "shares": shares.tolist()}


def held(trace: Trace, replicas: int, begin: float, end: float) -> NDArray[np.float64]:
    """s_1 to s_LEVELS over [begin, end): shares of the replicas' time with so many requests or more."""
    node = np.tile(trace.requests["node"], 2)
    at = np.concatenate([trace.requests["arrival"], trace.requests["finished"]])
    step = np.repeat([1, -1], len(trace.requests["node"]))
    order = np.lexsort((at, node))
    node, at, step = node[order], at[order], step[order]
    level = np.cumsum(step)  # each replica ends with none, so that the next begins with none
    last = np.append(node[1:] != node[:-1], True)
    until = np.where(last, end, np.append(at[1:], end))
    seconds = np.clip(until, begin, end) - np.clip(at, begin, end)
    spent = np.array([seconds[level >= k].sum() for k in range(1, LEVELS + 1)])
    return spent / (replicas * (end - begin))
