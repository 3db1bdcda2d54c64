"""Buffers before functions: what a setting (size, timeout, memory) of each buffer costs, and how long requests stay.

A buffer takes the classes lo..hi, closes at B requests or T s after its first, and calls a function with memory M on
the whole batch at once.  With p_j = P(batch = j), J the batch of a random request and W its wait (laws of
:mod:`queueing.models.buffer`), F the law of its classes, and cost(M, c, j) and τ(M, c, j) of
:mod:`queueing.models.serverless`:

    cost per request     Σ_j p_j Σ_c (F(c)^j - F(c-1)^j)·cost(M, c, j)/E[j]
    calls per request    1/E[j]
    P(latency <= s·u)    Σ_x f_x Σ_j Σ_{c>=x} P(largest = c | x, j)·P(W <= s·u_x - τ(M, c, j), J = j) ,
                         P(largest <= c | x, j) = F(c)^{j-1} for c >= x

with u_x = 1, or the kilobytes of class x where the limit is on seconds per kilobyte (Multi-Buffer Serving).  All that
is assumed is that classes are independent of the arrivals and of each other, and that functions start at once.  Where
instances are capped, a plan is unstable if it keeps more of them busy, on average, than there are (Little's law).

Not promised: more than five digits of P(latency <= s): the law of the wait is read off a grid of 513 points, linearly.
Source: cost model of BATCH (SC 2020) and Multi-Buffer Serving (PVLDB 15(10), 2022); the law of the latency is our
derivation and replaces their approximations of the wait.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from queueing.arrivals import Poisson
from queueing.compilation import loop
from queueing.markovian_arrivals import MarkovianArrivals
from queueing.models.buffer import Buffer
from queueing.models.serverless import KILOBYTES, FunctionTime, Prices, largest_law, padding
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim

__all__ = ["CLAIMS", "BatchSizes", "BufferModel", "Limit", "Outcome", "Plan", "Service", "Setting", "law_of"]

Floats = NDArray[np.float64]
GRID = 513  # points of the law of the wait


class BatchSizes(Protocol):
    """What is needed of the law of a buffer."""

    @property
    def sizes(self) -> Floats:
        """P(batch = j), f8[B]."""
        ...

    @property
    def seen(self) -> Floats:
        """P(the batch of a random request is j), f8[B]."""
        ...

    def joint_wait(self, t: Floats) -> Floats:
        """P(a random request waits <= t and its batch is j), f8[m, B]."""
        ...


Law = Callable[[float, int, float], BatchSizes]  # (share of all requests, size, timeout) -> its law


def law_of(arrivals: Poisson | MarkovianArrivals) -> Law:
    """The law of a buffer that takes each of these arrivals with probability `share`, independently: thinned.

    A thinned MAP is MAP(D0 + (1 - share)·D1, share·D1).
    """

    @cache
    def thinned(share: float) -> Poisson | MarkovianArrivals:
        if isinstance(arrivals, Poisson):
            return Poisson(arrivals.rate * share)
        d0, d1 = np.array(arrivals.d0), np.array(arrivals.d1)
        return MarkovianArrivals((d0 + (1 - share) * d1).tolist(), (share * d1).tolist())

    def law(share: float, size: int, timeout: float) -> Buffer:
        return Buffer(thinned(share), size, timeout)

    return law


@dataclass(frozen=True, slots=True)
class Limit:
    """`quantile` of the latency is at most `seconds`, or that many seconds per kilobyte of the request."""

    seconds: float
    quantile: float = 0.95
    per_kilobyte: bool = True

    def __post_init__(self) -> None:
        if not (0 < self.seconds < math.inf and 0 < self.quantile < 1):
            raise ValueError(
                f"a limit of {self.seconds} s on quantile {self.quantile}; give s > 0 and 0 < q < 1"
            )


class Service:
    """The functions on offer, as tables: seconds and dollars [K, C, B] of memories `memory` [K] MB.

    Args: prices; memory = MB, each on offer; time = law of the seconds; kilobytes = of the classes, finite, > 0,
        rising; largest_batch = B >= 1.
    """

    def __init__(
        self,
        prices: Prices,
        memory: Sequence[int],
        time: FunctionTime | None = None,
        kilobytes: Sequence[float] = KILOBYTES,
        largest_batch: int = 26,
    ) -> None:
        self.memory, self.kilobytes = tuple(memory), np.asarray(kilobytes, np.float64)
        x = self.kilobytes
        if not (
            self.memory
            and x.ndim == 1
            and x.size
            and (np.diff(x, prepend=0.0) > 0).all()
            and x[-1] < math.inf
        ):
            raise ValueError(
                f"{len(self.memory)} memories and sizes {kilobytes}; give one, and rising sizes of finite KB > 0"
            )
        if largest_batch < 1:
            raise ValueError(f"batches of up to {largest_batch}; give at least one request")
        self.seconds = (time or FunctionTime.fitted()).table(self.memory, self.kilobytes, largest_batch)
        self.dollars = prices.table(self.memory, self.seconds)


@dataclass(frozen=True, slots=True)
class Setting:
    """One buffer: it closes at `size` requests or `timeout` s after its first, on memory `memory` (row of Service)."""

    size: int
    timeout: float
    memory: int

    def __post_init__(self) -> None:
        whole = all(isinstance(number, int | np.integer) for number in (self.size, self.memory))
        if not (whole and self.size >= 1 and 0 <= self.timeout < math.inf and self.memory >= 0):
            raise ValueError(
                f"{self} is no buffer; give a whole size >= 1, finite timeout >= 0 and a row of the memories"
            )


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one buffer: USD and calls per request, padding, and P(latency <= limit)."""

    cost: float
    calls: float
    padding: float
    attained: float
    busy: float  # instance-seconds per request


class BufferModel:
    """The buffer of classes lo..hi (inclusive) under any setting.

    Args: law = (share of all requests, size, timeout) -> law of that buffer; shares = f of all classes, [C].
    """

    def __init__(
        self,
        law: Law,
        shares: ArrayLike,
        service: Service,
        limit: Limit,
        lo: int = 0,
        hi: int | None = None,
    ) -> None:
        f = np.asarray(shares, np.float64) / np.sum(shares)
        hi = len(f) - 1 if hi is None else hi
        if f.shape != service.kilobytes.shape or not (f >= 0).all():
            raise ValueError(f"{f.size} shares for {len(service.kilobytes)} classes; give one >= 0 for each")
        if not (0 <= lo <= hi < len(f) and f[lo : hi + 1].sum() > 0):
            raise ValueError(
                f"no request is of classes {lo} to {hi}; give a buffer some of the {len(f)} classes"
            )
        self.share = float(f[lo : hi + 1].sum())
        self.lo, self.hi, self.service, self.limit = lo, hi, service, limit
        self._f = f[lo : hi + 1] / self.share
        self._kilobytes = service.kilobytes[lo : hi + 1]
        self.mean_kilobytes = float(self._f @ self._kilobytes)
        self._law = law
        self._laws: dict[tuple[int, float], tuple[BatchSizes, Floats]] = {}
        self._joint: dict[tuple[int, float], tuple[Floats, Floats]] = {}

    @cached_property
    def _below(self) -> Floats:
        """[C + 1, B]: F(c - 1)^{j - 1}, row c."""
        most = self.service.seconds.shape[2]
        F = np.append(0.0, np.cumsum(self._f)).clip(0.0, 1.0)
        return F[:, None] ** np.arange(most)

    @cached_property
    def _cost(self) -> Floats:
        """[K, B]: expected dollars of a batch of j."""
        return self._expected(self.service.dollars)

    def _expected(self, table: Floats) -> Floats:
        law = largest_law(self._f, table.shape[2])
        return np.einsum("kcb,cb->kb", table[:, self.lo : self.hi + 1], law)

    def sizes(self, setting: Setting) -> Floats:
        """P(batch = j), [B]; kept, since memories share it."""
        self._require(setting)
        return self._kept(setting)[1]

    def _require(self, setting: Setting) -> None:
        memories, _, most = self.service.seconds.shape
        if setting.memory >= memories or setting.size > most:
            raise ValueError(
                f"{setting} is beyond the service; give a memory of 0 to {memories - 1} and a size of at most {most}"
            )

    def _kept(self, setting: Setting) -> tuple[BatchSizes, Floats]:
        key = (setting.size, setting.timeout)
        if key not in self._laws:
            law = self._law(self.share, *key)
            self._laws[key] = law, law.sizes
        return self._laws[key]

    def _waits(self, setting: Setting) -> tuple[Floats, Floats]:
        """(seen [B], joint law of the wait on the grid [513, B])."""
        key = (setting.size, setting.timeout)
        if key not in self._joint:
            law = self._kept(setting)[0]
            t = np.linspace(0.0, setting.timeout, GRID)
            t[-1] = np.nextafter(
                setting.timeout, 0.0
            )  # who came first in a batch that times out waits exactly T
            self._joint[key] = law.seen, np.ascontiguousarray(law.joint_wait(t))
        return self._joint[key]

    def cost(self, setting: Setting) -> float:
        """USD per request."""
        sizes = self.sizes(setting)
        return float(sizes @ self._cost[setting.memory, : len(sizes)]) / float(
            sizes @ np.arange(1, len(sizes) + 1)
        )

    def attained(self, setting: Setting, seconds: float | None = None) -> float:
        """P(latency <= seconds), or seconds per kilobyte as the limit says; by default those of the limit."""
        self._require(setting)
        seen, waits = self._waits(setting)
        s = self.limit.seconds if seconds is None else seconds
        until = s * (self._kilobytes if self.limit.per_kilobyte else np.ones(len(self._f)))
        tau = self.service.seconds[setting.memory, self.lo : self.hi + 1, : len(seen)]
        return float(
            loop(within)(until, tau, self._f, self._below[:, : len(seen)], seen, waits, setting.timeout)
        )

    def latency(self, setting: Setting, quantile: float | None = None) -> float:
        """The quantile of the latency, in the unit of the limit, to 1e-6 of it."""
        self._require(setting)
        q = self.limit.quantile if quantile is None else quantile
        unit = self._kilobytes if self.limit.per_kilobyte else np.ones(len(self._f))
        low, high = 0.0, float((setting.timeout + self.service.seconds[setting.memory].max()) / unit.min())
        while high - low > 1e-6 * high:
            middle = (low + high) / 2
            low, high = (low, middle) if self.attained(setting, middle) >= q else (middle, high)
        return high

    def outcome(self, setting: Setting) -> Outcome:
        """All figures of a setting."""
        sizes = self.sizes(setting)
        mean = float(sizes @ np.arange(1, len(sizes) + 1))
        over = padding(self._f, self._kilobytes, sizes)
        busy = float(sizes @ self._expected(self.service.seconds)[setting.memory, : len(sizes)]) / mean
        return Outcome(self.cost(setting), 1 / mean, over, self.attained(setting), busy)

    def best(self, settings: Sequence[Setting]) -> tuple[Setting, float]:
        """The cheapest of these settings that keeps the limit, and its USD per request: exhaustive.

        Costs are cheap and latencies are not, so settings are tried in order of cost until one keeps the limit.
        Raises:
            ValueError: none keeps it.
        """
        costs = np.array([self.cost(setting) for setting in settings])
        for i in np.argsort(costs, kind="stable"):
            if self.attained(settings[i]) >= self.limit.quantile:
                return settings[i], float(costs[i])
        unit = " per KB" if self.limit.per_kilobyte else ""
        fastest = min(self.latency(setting) for setting in settings[:: max(1, len(settings) // 50)])
        raise ValueError(
            f"no setting keeps {self.limit.quantile:.0%} of latencies of classes {self.lo} to {self.hi} within "
            f"{self.limit.seconds:g} s{unit}, about {fastest:.3g} is the least: raise the limit or add memory"
        )


def within(until, tau, f, below, seen, waits, timeout):  # pyright: ignore[reportMissingParameterType, reportUnknownParameterType]
    """P(W + τ(largest, J) <= until[own class]); sums of the module docstring."""
    last = waits.shape[0] - 1
    total = 0.0
    for x in range(len(f)):
        if f[x] == 0.0:
            continue
        for j in range(len(seen)):
            inside = 0.0
            for c in range(x, len(f)):
                slack = until[x] - tau[c, j]
                if slack < 0.0:
                    continue
                odds = below[c + 1, j] if c == x else below[c + 1, j] - below[c, j]
                if slack >= timeout:
                    inside += odds * seen[j]
                else:
                    place = slack / timeout * last
                    i = min(int(place), last - 1)
                    inside += odds * (waits[i, j] + (place - i) * (waits[i + 1, j] - waits[i, j]))
            total += f[x] * inside
    return total


@dataclass(frozen=True, slots=True)
class Plan:
    """Buffers by size range: `last` class of each (rising, the last one C-1), their settings, outcomes and shares.

    `cost`, `calls` are per request, `padding` is per request of its size, over all buffers.
    """

    last: tuple[int, ...]
    settings: tuple[Setting, ...]
    outcomes: tuple[Outcome, ...]
    share: tuple[float, ...]
    load: tuple[float, ...]  # kilobytes per request of all, per buffer

    @classmethod
    def of(cls, models: Sequence[BufferModel], settings: Sequence[Setting]) -> Plan:
        """Put buffers with their settings together."""
        return cls(
            tuple(m.hi for m in models),
            tuple(settings),
            tuple(m.outcome(s) for m, s in zip(models, settings, strict=True)),
            tuple(m.share for m in models),
            tuple(m.share * m.mean_kilobytes for m in models),
        )

    def _mean(self, values: Sequence[float], weights: Sequence[float]) -> float:
        return float(np.average(values, weights=weights))

    @property
    def cost(self) -> float:
        """USD per request."""
        return self._mean([o.cost for o in self.outcomes], self.share)

    @property
    def calls(self) -> float:
        """Calls per request."""
        return self._mean([o.calls for o in self.outcomes], self.share)

    @property
    def padding(self) -> float:
        """Padded over own kilobytes, less 1."""
        return self._mean([o.padding for o in self.outcomes], self.load)

    @property
    def attained(self) -> float:
        """P(latency <= limit) of a random request."""
        return self._mean([o.attained for o in self.outcomes], self.share)

    def require_stable(self, rate: float, instances: int) -> None:
        """Raise ValueError if `rate` requests/s keep as many `instances` busy as there are, or more."""
        if not (0 <= rate < math.inf and instances >= 0):
            raise ValueError(
                f"{rate} requests/s on {instances} instances; give a finite rate and a number, both >= 0"
            )
        busy = rate * self._mean([o.busy for o in self.outcomes], self.share)
        if busy >= instances:
            raise ValueError(
                f"the buffers are unstable: {rate:g} requests/s keep {busy:.4g} instances busy and there are "
                f"{instances}; allow more instances or lower the rate"
            )


CLAIMS = (
    Claim(
        name="buffer-plan",
        statement="Cost, calls and padding per request of a plan of buffers, and the law of the latency, are the sums "
        "over batch size, largest class and wait stated here.",
        assumptions=(
            "classes independent of the arrivals and of each other",
            "functions start at once, as many as are asked for",
        ),
        source="our derivation on the cost model of BATCH (SC 2020) and Multi-Buffer Serving (PVLDB 15(10), 2022)",
        kind=Kind.TESTED,
        where="tests/queueing/models/test_buffer_plan.py::test_a_plan_is_what_event_simulation_finds",
    ),
    Claim(
        name="buffers-interior-optimum",
        statement="Under the fitted time and 40 Poisson requests/s the tuned cost falls with the number of equal-load "
        "buffers to a least value strictly between 1 and 16, and rises after it.",
        assumptions=("the mixes and limits of the experiment mbs; no proof for others",),
        source="our calculation",
        kind=Kind.MEASURED,
        where="validation/experiments/mbs.py",
    ),
)
