"""The node of scale n for the fluid model: its workload, its system, and its run on the scale of the fluid."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from queueing.models.iteration_time import Affine
from queueing.policy import Policy
from queueing.simulator import simulate
from queueing.system import ENDLESS, System
from queueing.workload import Workload

BASE, PER_TOKEN = 1.0, 0.02  # s, s a token


def seconds(tokens: float) -> float:
    """T of the fluid."""
    return BASE + PER_TOKEN * tokens


class Offered(NamedTuple):
    """`rate` (1/s) until `horizon` (s), `waiting` at time 0; outputs of `hazard`, or all `fixed` to 1/hazard."""

    rate: float
    horizon: float
    waiting: float = 0.0
    prompt: int = 20
    hazard: float = 0.1
    fixed: bool = False


class Run(NamedTuple):
    """At each `start` (s): `prompts` (m tokens) and `decoding` (requests), both divided by n."""

    start: NDArray[np.float64]
    prompts: NDArray[np.float64]
    decoding: NDArray[np.float64]


def van_der_corput(count: int) -> NDArray[np.float64]:
    """The first points of the sequence in base 2: evenly spread in (0, 1) in whatever block."""
    left, value, place = np.arange(1, count + 1), np.zeros(count), 0.5
    while left.any():
        value += place * (left & 1)
        left, place = left >> 1, place / 2
    return value


def workload(offered: Offered, n: int, m: int = 1, seed: int | None = None) -> Workload:
    """Scale n, lengths m times longer: without a seed nothing is random, gaps are equal and outputs evenly spread."""
    first, later = int(n * offered.waiting), int(n * offered.rate * offered.horizon)
    rng = np.random.default_rng(seed)
    if seed is None:
        arrivals, u = (np.arange(later) + 0.5) / (n * offered.rate), van_der_corput(first + later)
    else:
        arrivals, u = (
            np.cumsum(rng.exponential(1 / (n * offered.rate), later)),
            rng.random(first + later),
        )
    geometric = 1 + np.floor(np.log1p(-u) / np.log1p(-offered.hazard / m))
    output = np.full(len(u), round(m / offered.hazard)) if offered.fixed else geometric
    return Workload(np.concatenate([np.zeros(first), arrivals]), np.full(len(u), m * offered.prompt), output)


def run(offered: Offered, policy: Policy, n: int, m: int = 1, seed: int | None = None) -> Run:
    """The policy on that workload, T(x/n)/m seconds an iteration."""
    node = System(
        Affine(BASE / m, PER_TOKEN / n / m),
        ENDLESS,
        block_size=1,
        max_length=ENDLESS,
        max_running=ENDLESS,
        last_chunk_emits=False,
    )
    work = workload(offered, n, m, seed)
    trace = simulate(work, node, policy, horizon=offered.horizon)
    start, prefill = trace.iterations["start"], trace.iterations["prefill"]
    arrived = m * offered.prompt * np.searchsorted(work.arrival, start, side="right")
    joined = np.searchsorted(np.sort(trace.requests["prefill_end"]), start, side="right")
    ended = np.searchsorted(np.sort(trace.requests["finished"]), start, side="right")
    return Run(start, (arrived - np.cumsum(prefill) + prefill) / n / m, (joined - ended) / n)


def distance(one: Run, other: tuple[NDArray[np.float64], ...], prompt: float) -> float:
    """Largest difference, over the iterations, of prompts in requests, decodes, and starts in seconds."""
    k = min(len(one.start), len(other[0]))
    gaps = (
        one.start[:k] - other[0][:k],
        (one.prompts[:k] - other[1][:k]) / prompt,
        one.decoding[:k] - other[2][:k],
    )
    return max(float(np.abs(gap).max()) for gap in gaps)
