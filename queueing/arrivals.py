"""Arrival processes: when requests come.

Notation: a_1 <= a_2 <= ... arrival times (s);  N(t) = number of arrivals in [0, t];  rate λ = lim N(t)/t;
X = time between arrivals, cv = sd(X)/E[X].  A process is asked for its first n times and draws them from an explicit
generator in such a way that a longer sample begins with the shorter one and that the rate only scales time: from one
seed, Poisson(2λ) is Poisson(λ) with time halved (common random numbers across rates).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from queueing.markovian_arrivals import MarkovianArrivals

__all__ = [
    "Arrivals",
    "Deterministic",
    "Gamma",
    "MarkovianArrivals",
    "OnOff",
    "Poisson",
    "Ramp",
    "SigmaRho",
    "Superposed",
    "TraceArrivals",
    "burstiness",
]

Floats = NDArray[np.float64]


class Arrivals(Protocol):
    """A point process on [0, inf)."""

    @property
    def rate(self) -> float:
        """Long-run arrivals per second."""
        ...

    def times(self, n: int, rng: np.random.Generator) -> Floats:
        """First n arrival times in s, nondecreasing."""
        ...


@dataclass(frozen=True, slots=True)
class Poisson:
    """Independent exponential times between arrivals: N(t) is Poisson with mean λt.

    Args: rate = λ, requests per second, finite and > 0.
    """

    rate: float

    def __post_init__(self) -> None:
        _positive("the arrival rate", self.rate)

    def times(self, n: int, rng: np.random.Generator) -> Floats:
        """Sums of standard exponentials, over λ."""
        return np.cumsum(rng.standard_exponential(n)) / self.rate


@dataclass(frozen=True, slots=True)
class Gamma:
    """Renewal process with Gamma times between arrivals: shape 1/cv^2, mean 1/λ; cv = 1 is Poisson.

    Not promised: stationarity at 0; time 0 counts as the instant just after an arrival, as in load generators.
    Args: rate = λ > 0, requests per second; cv > 0, coefficient of variation.
    """

    rate: float
    cv: float

    def __post_init__(self) -> None:
        _positive("the arrival rate", self.rate)
        _positive("the coefficient of variation", self.cv)

    def times(self, n: int, rng: np.random.Generator) -> Floats:
        """Sums of standard Gamma variables, scaled to mean 1/λ."""
        return np.cumsum(rng.standard_gamma(self.cv**-2, n)) * self.cv**2 / self.rate


@dataclass(frozen=True, slots=True)
class Deterministic:
    """Evenly spaced: a_k = first + k/λ, k = 0, 1, ...

    Args: rate = λ > 0, requests per second; first >= 0, s.
    """

    rate: float
    first: float = 0.0

    def __post_init__(self) -> None:
        _positive("the arrival rate", self.rate)
        _not_negative("the first arrival", self.first)

    def times(self, n: int, rng: np.random.Generator) -> Floats:
        """The grid; the generator is not used."""
        return self.first + np.arange(n) / self.rate


@dataclass(frozen=True, slots=True)
class OnOff:
    """Another process that runs only during on-times of fixed length: [0, on), then off, and so on.

    The inner process keeps its own clock, which stands still while off: the inner time s becomes
    s + off * floor(s / on).  Random on- and off-times: :meth:`MarkovianArrivals.interrupted_poisson`.
    Args: inner; on > 0 and off >= 0, s.
    """

    inner: Arrivals
    on: float
    off: float

    def __post_init__(self) -> None:
        _positive("the on-time", self.on)
        _not_negative("the off-time", self.off)

    @property
    def rate(self) -> float:
        """Inner rate times the share of time on."""
        return self.inner.rate * self.on / (self.on + self.off)

    def times(self, n: int, rng: np.random.Generator) -> Floats:
        """Inner times with the off-times put in."""
        s = self.inner.times(n, rng)
        return s + self.off * np.floor(s / self.on)


@dataclass(frozen=True, slots=True)
class Ramp:
    """Arrivals whose rate goes linearly from λ0 to λ1 in T seconds and stays at λ1.

    Expected arrivals Λ(t) = λ0 t + (λ1 - λ0) t^2 / (2T) for t <= T, then linear; the times are Λ^{-1} of a renewal
    process of rate 1 with Gamma intervals, which is Poisson for cv = 1.
    Args: start = λ0 >= 0 and end = λ1 > 0, requests per second; duration = T > 0, s; cv > 0, of the intervals.
    """

    start: float
    end: float
    duration: float
    cv: float = 1.0

    def __post_init__(self) -> None:
        _not_negative("the rate at the start", self.start)
        _positive("the rate at the end", self.end)
        _positive("the duration of the ramp", self.duration)
        _positive("the coefficient of variation", self.cv)

    @property
    def rate(self) -> float:
        """Long-run rate, that at the end of the ramp."""
        return self.end

    def expected(self, t: ArrayLike) -> Floats:
        """Λ(t): expected arrivals in [0, t]."""
        t = np.asarray(t, np.float64)
        s = np.minimum(t, self.duration)
        return self.start * s + (self.end - self.start) * s**2 / (2 * self.duration) + self.end * (t - s)

    def times(self, n: int, rng: np.random.Generator) -> Floats:
        """Λ^{-1} of sums of intervals of mean 1."""
        y = (Poisson(1.0) if self.cv == 1 else Gamma(1.0, self.cv)).times(n, rng)
        on_ramp = np.minimum(y, self.duration * (self.start + self.end) / 2)
        slope = (self.end - self.start) / self.duration
        root = np.sqrt(np.maximum(self.start**2 + 2 * slope * on_ramp, 0.0))
        t = np.minimum(2 * on_ramp / (self.start + root), self.duration) + (y - on_ramp) / self.end
        return np.maximum.accumulate(t)  # neighbours may be out of order in the last bit


@dataclass(frozen=True, slots=True)
class Superposed:
    """Several independent processes at once: their arrivals, merged in order of time.

    Args: parts, at least one process.
    Example: a floor of steady traffic with bursts on it
        >>> Superposed((Deterministic(1500.0), Gamma(4900.0, cv=2.0))).rate
        6400.0
    """

    parts: tuple[Arrivals, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts:
            raise ValueError("there is nothing to superpose; give at least one arrival process")

    @property
    def rate(self) -> float:
        """Sum of the rates."""
        return math.fsum(part.rate for part in self.parts)

    def times(self, n: int, rng: np.random.Generator) -> Floats:
        """First n of the merged times; each part draws from a stream of its own."""
        drawn = [
            part.times(n, stream) for part, stream in zip(self.parts, rng.spawn(len(self.parts)), strict=True)
        ]
        return np.sort(np.concatenate(drawn), kind="stable")[:n]


@dataclass(frozen=True, slots=True)
class SigmaRho:
    """Adversary within a (σ, ρ) envelope: each request as early as the envelope allows, a burst and then rate ρ.

    Let A[s, t] be the work of the requests arriving in the closed window [s, t].
    Guarantee: A[s, t] <= σ + ρ (t - s) for all s <= t, exactly, for the floats returned: the token bucket is kept in
        fractions and every time is rounded up.  No sequence with these costs in this order arrives earlier, save for
        that rounding.
    Args: sigma = σ, work > 0; rho = ρ, work per second > 0; costs, work of each request in order, > 0 and <= σ.
        Any unit of work will do: tokens, seconds, requests.
    Errors: ValueError if more times are asked for than there are costs.
    Source: R. L. Cruz, "A calculus for network delay, part I", IEEE Trans. Inf. Theory 37 (1991).
    Example: four requests of 1 token, bursts of 2, then one each 2 s
        >>> SigmaRho(2, 0.5, (1, 1, 1, 1)).times(4, np.random.default_rng()).tolist()
        [0.0, 0.0, 2.0, 4.0]
    """

    sigma: float
    rho: float
    costs: tuple[float, ...]

    def __post_init__(self) -> None:
        _positive("the burst sigma", self.sigma)
        _positive("the rate rho", self.rho)
        object.__setattr__(self, "costs", tuple(self.costs))
        if not self.costs:
            raise ValueError("there are no costs; give the work of each request")
        for row, cost in enumerate(self.costs):
            if not 0 < cost <= self.sigma:
                raise ValueError(f"cost {row} is {cost}; give work > 0 and no more than sigma = {self.sigma}")

    @property
    def rate(self) -> float:
        """Requests per second in the long run: ρ over the mean cost."""
        return self.rho * len(self.costs) / math.fsum(self.costs)

    def times(self, n: int, rng: np.random.Generator) -> Floats:
        """Greedy times for the first n costs; the generator is not used."""
        if n > len(self.costs):
            raise ValueError(
                f"{n} arrivals were asked for and there are {len(self.costs)} costs; give a cost for each"
            )
        sigma, rho = Fraction(self.sigma), Fraction(self.rho)
        level, t = sigma, Fraction(0)  # what the bucket holds just after the last arrival, and when that was
        found: list[float] = []
        for cost in map(Fraction, self.costs[:n]):
            if cost > level:
                later = _rounded_up(t + (cost - level) / rho)
                level = min(sigma, level + rho * (Fraction(later) - t))
                t = Fraction(later)
            level -= cost
            found.append(float(t))
        return np.array(found)


@dataclass(frozen=True, slots=True, eq=False)
class TraceArrivals:
    """Recorded arrival times.

    Args: arrival, s, finite, >= 0, nondecreasing, at least one.
    Errors: ValueError if more are asked for than were recorded; nothing is repeated or made up.
    """

    arrival: Floats

    def __post_init__(self) -> None:
        a = np.array(self.arrival, dtype=np.float64)
        if a.ndim != 1 or len(a) == 0:
            raise ValueError(
                "the recorded arrivals are not a list of times; give at least one, in one dimension"
            )
        bad = ~(np.isfinite(a) & (a >= 0)) | np.concatenate([[False], a[1:] < a[:-1]])
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(f"arrival, row {row}: {a[row]} s; give finite times >= 0 in ascending order")
        a.setflags(write=False)
        object.__setattr__(self, "arrival", a)

    @property
    def rate(self) -> float:
        """(n - 1) over last less first arrival; inf if all arrive at once."""
        duration = float(self.arrival[-1] - self.arrival[0])
        return (len(self.arrival) - 1) / duration if duration > 0 else math.inf

    def times(self, n: int, rng: np.random.Generator) -> Floats:
        """First n recorded times; the generator is not used."""
        if n > len(self.arrival):
            raise ValueError(
                f"{n} arrivals were asked for and {len(self.arrival)} are recorded; ask for fewer"
            )
        return self.arrival[:n].copy()


def burstiness(arrival: ArrayLike, costs: ArrayLike, rho: float) -> Fraction:
    """Least σ for which the arrivals keep within the (σ, ρ) envelope: max over s <= t of A[s, t] - ρ (t - s), exactly.

    Recursion: let W_k be the largest excess over windows ending with arrival k; W_k = c_k + max(0, W_{k-1} - ρ Δ_k).
    Args: arrival, s, nondecreasing; costs, work of each; rho, work per second.
    """
    rate, excess, last, most = Fraction(rho), Fraction(0), None, Fraction(0)
    for t, cost in zip(
        map(Fraction, np.asarray(arrival).tolist()), map(Fraction, np.asarray(costs).tolist()), strict=True
    ):
        idle = Fraction(0) if last is None else rate * (t - last)
        excess, last = cost + max(Fraction(0), excess - idle), t
        most = max(most, excess)
    return most


def _rounded_up(x: Fraction) -> float:
    """Least float >= x."""
    near = float(x)
    return near if Fraction(near) >= x else math.nextafter(near, math.inf)


def _positive(what: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{what} is {value}; give a finite number > 0")


def _not_negative(what: str, value: float) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{what} is {value}; give a finite number >= 0")
