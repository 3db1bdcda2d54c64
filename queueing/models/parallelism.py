"""Servers whose parallelism is a choice: request workers and threads on a CPU, streams and batches on a GPU.

A *configuration* x is a point of a grid; one *epoch* serves N fresh Poisson requests under it and yields a reward.  The
load is given from outside and does not depend on x: a contextual bandit.

CPU: x = (ρ, i, o), ρ request workers, i operators at once, o threads in each; c cores.  FCFS with ρ servers, a request
takes, with w the width of the graph of operators, f its serial share, e the serial share inside one, s threads after
which more do not help, η what oversubscription costs, y s of synchronisation::

    τ(x) = t0·(f + (1-f)/min(i, w)·(e + (1-e)/min(o, s)))·(1 + η·max(0, ρ i o/c - 1)) + y·log2(i o)

GPU: x = (h, B, T), a buffer closes at B requests or T s after its first; batches go FCFS to h streams, one of b takes::

    (α + β b)·(1 + η (h - 1))

A closed batch that waits for a stream stays as it is; in the one-shot loop a buffer is emptied only once a server is
idle, and fills until then.

Distance of configurations: the largest difference of log2 of their axes, over the axes' length scales; from 2 to 4
threads is as far as from 8 to 16.

Source: the choices are those of RRL (SC 2019, abstract); plants, rewards and distance are our derivation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numba
import numpy as np
from numpy.typing import NDArray

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim

__all__ = [
    "CLAIMS",
    "CpuPlant",
    "GpuPlant",
    "Plant",
    "distances",
    "expected_rewards",
    "first_come_first_served",
    "reward",
    "speed",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Plant(Protocol):
    """A server with a grid of configurations; every cost is in seconds."""

    @property
    def grid(self) -> Floats:
        """[n, axes], the configurations."""
        ...

    @property
    def slo(self) -> float:
        """Limit on latency, s."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values each axis has; the grid is in the order of their indices, the last axis fastest."""
        ...

    def latency(self, configuration: int, arrival: Floats) -> Floats:
        """Latency (s) of each of the requests that arrive at these times (s, ascending), the server empty at first."""
        ...


def distances(grid: Floats, scales: Floats | None = None) -> Floats:
    """[n, n]: largest difference of log2 of two configurations over the axes' length scales (default 1)."""
    log = np.log2(grid) / (np.ones(grid.shape[1]) if scales is None else np.asarray(scales))
    return np.abs(log[:, None, :] - log[None, :, :]).max(axis=-1)


def reward(latency: Floats, slo: float, weight: float = 1.0) -> float:
    """1 - m/slo where the mean m keeps the limit, else that less weight·(share of requests beyond it); in [-1, 1]."""
    over = float(latency.mean()) / slo
    if over <= 1:
        return 1 - over
    return max(-1.0, 1 - over - weight * float((latency > slo).mean()))


def speed(latency: Floats, slo: float) -> float:
    """slo/m: twice as fast is twice as good, and 0.95 of the best is a mean latency 5 % above the least."""
    return slo / float(latency.mean())


def expected_rewards(
    plant: Plant,
    load: float,
    epochs: int,
    requests: int,
    rng: np.random.Generator,
    worth: Callable[[Floats, float], float] = reward,
) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the reward of every configuration, on the same arrivals for all (brute force)."""
    found = np.empty((epochs, len(plant.grid)))
    for row in found:
        arrival = np.cumsum(rng.standard_exponential(requests)) / load
        row[:] = [worth(plant.latency(x, arrival), plant.slo) for x in range(len(plant.grid))]
    return found.mean(axis=0), found.std(axis=0, ddof=1) if epochs > 1 else np.zeros(len(plant.grid))


@numba.njit(cache=True)
def first_come_first_served(ready: Floats, seconds: Floats, servers: int) -> Floats:
    """End of each job: taken in order by whichever of the servers is free first, not before it is ready; all in s."""
    free = np.zeros(servers)
    end = np.empty(len(ready))
    for j in range(len(ready)):
        s = np.argmin(free)
        free[s] = max(free[s], ready[j]) + seconds[j]
        end[j] = free[s]
    return end


@numba.njit(cache=True)
def _batches(arrival: Floats, size: int, timeout: float) -> tuple[Floats, Ints]:
    """When each batch of a size-or-timeout buffer closes, and the batch of each request."""
    close = np.empty(len(arrival))
    batch = np.empty(len(arrival), np.int64)
    count, first = 0, 0
    while first < len(arrival):
        last = first + 1
        while last < len(arrival) and last < first + size and arrival[last] <= arrival[first] + timeout:
            last += 1
        close[count] = arrival[last - 1] if last - first == size else arrival[first] + timeout
        batch[first:last] = count
        count += 1
        first = last
    return close[:count], batch


def _grid(*axes: tuple[float, ...]) -> Floats:
    return np.array(list(itertools.product(*axes)), np.float64)


def _require(positive: dict[str, float], shares: dict[str, float], more: dict[str, float]) -> None:
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}; give a finite number > 0")
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; give a share between 0 and 1")
    for name, value in more.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value}; give a finite number >= 0")


def _require_axis(axis: tuple[float, ...], *, whole: bool = True) -> None:
    rising = all(0 < x < math.inf for x in axis) and all(x < y for x, y in itertools.pairwise(axis))
    if not axis or not rising or (whole and any(x != math.floor(x) for x in axis)):
        raise ValueError(
            f"an axis of the grid is {axis}; give rising {'whole' if whole else 'finite'} numbers > 0"
        )


@dataclass(frozen=True, slots=True)
class CpuPlant:
    """One host: request workers, operators at once, threads in each.

    Args: cores = c; base = t0, s; serial = f; width = w; operator_serial = e; saturation = s; penalty = η;
        synchronisation = y, s; slo, s; workers, inter, intra = the axes of the grid, whole numbers that rise.

    Errors: ValueError in one sentence that names the value.
    """

    cores: int = 16
    base: float = 0.08
    serial: float = 0.1
    width: int = 4
    operator_serial: float = 0.1
    saturation: int = 8
    penalty: float = 0.6
    synchronisation: float = 0.001
    slo: float = 0.1
    workers: tuple[float, ...] = (1, 2, 3, 4, 6, 8, 12, 16)
    inter: tuple[float, ...] = (1, 2, 3, 4, 6, 8)
    intra: tuple[float, ...] = (1, 2, 3, 4, 6, 8, 12, 16)

    def __post_init__(self) -> None:
        positive = {"the cores": self.cores, "the base time": self.base, "the width": self.width,
                    "the saturation": self.saturation, "the limit on latency": self.slo}  # fmt: skip
        shares = {"the serial share": self.serial, "the serial share of an operator": self.operator_serial}
        _require(positive, shares, {"the penalty": self.penalty, "the synchronisation": self.synchronisation})
        for axis in (self.workers, self.inter, self.intra):
            _require_axis(axis)

    @property
    def grid(self) -> Floats:
        """[n, 3]: ρ, i, o."""
        return _grid(self.workers, self.inter, self.intra)

    @property
    def shape(self) -> tuple[int, ...]:
        """Values per axis."""
        return len(self.workers), len(self.inter), len(self.intra)

    @property
    def seconds(self) -> Floats:
        """[n]: τ(x)."""
        rho, i, o = self.grid.T
        parallel = self.operator_serial + (1 - self.operator_serial) / np.minimum(o, self.saturation)
        work = self.base * (self.serial + (1 - self.serial) / np.minimum(i, self.width) * parallel)
        crowded = 1 + self.penalty * np.maximum(0.0, rho * i * o / self.cores - 1)
        return work * crowded + self.synchronisation * np.log2(i * o)

    def latency(self, configuration: int, arrival: Floats) -> Floats:
        """FCFS with ρ servers of τ(x) s."""
        each = np.full(len(arrival), self.seconds[configuration])
        return first_come_first_served(arrival, each, int(self.grid[configuration, 0])) - arrival


@dataclass(frozen=True, slots=True)
class GpuPlant:
    """One accelerator behind a size-or-timeout buffer: streams, batch size, timeout.

    Args: fixed = α, s; each = β, s; sharing = η; slo, s; streams, sizes, timeouts (s) = the axes of the grid, rising,
        the first two whole numbers.

    Errors: ValueError in one sentence that names the value.
    """

    fixed: float = 0.008
    each: float = 0.0006
    sharing: float = 0.55
    slo: float = 0.05
    streams: tuple[float, ...] = (1, 2, 3, 4, 6, 8)
    sizes: tuple[float, ...] = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
    timeouts: tuple[float, ...] = (0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.016)

    def __post_init__(self) -> None:
        positive = {
            "the fixed time": self.fixed,
            "the time of each": self.each,
            "the limit on latency": self.slo,
        }
        _require(positive, {}, {"sharing": self.sharing})
        _require_axis(self.streams)
        _require_axis(self.sizes)
        _require_axis(self.timeouts, whole=False)

    @property
    def grid(self) -> Floats:
        """[n, 3]: h, B, T."""
        return _grid(self.streams, self.sizes, self.timeouts)

    @property
    def shape(self) -> tuple[int, ...]:
        """Values per axis."""
        return len(self.streams), len(self.sizes), len(self.timeouts)

    def latency(self, configuration: int, arrival: Floats) -> Floats:
        """Buffer, then FCFS with h streams."""
        h, size, timeout = self.grid[configuration]
        close, batch = _batches(arrival, int(size), timeout)
        held = np.bincount(batch)
        seconds = (self.fixed + self.each * held) * (1 + self.sharing * (h - 1))
        return first_come_first_served(close, seconds, int(h))[batch] - arrival


CLAIMS = (
    Claim(
        "parallelism-plants",
        "The CPU plant ends every request when the one-shot loop with ρ servers of τ(x) does.",
        "our derivation",
        Kind.TESTED,
        ("deterministic service",),
        where="tests/queueing/models/test_parallelism.py::test_the_cpu_plant_is_the_one_shot_loop",
    ),
    Claim(
        "parallelism-gpu-plant",
        "The GPU plant ends every request when a size-or-timeout buffer does whose batches, once closed, go FCFS to h "
        "streams.  It is not the one-shot loop, in which a batch that waits for a server goes on filling.",
        "our derivation",
        Kind.TESTED,
        ("deterministic service",),
        where="tests/queueing/models/test_parallelism.py::test_the_gpu_plant_is_a_buffer_before_streams",
    ),
    Claim(
        "region-learning-regret",
        "Playing the centres of balls of radius R that cover the configurations ⌈2σ²/ε²·ln(2N/δ)⌉ times each and "
        "committing to the best mean has regret at most 2LR + 2ε in the winner's ball, with probability 1 - δ.",
        "our derivation, in the spirit of RRL (SC 2019, abstract); proof in policies/region_rl.py",
        Kind.TESTED,
        ("rewards L-Lipschitz in the distance", "σ-sub-Gaussian noise, independent plays"),
        where="tests/policies/test_region_rl.py::test_regret_is_bounded_on_lipschitz_plants",
    ),
)
