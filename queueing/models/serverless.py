"""Functions paid per use: how long a padded batch runs with so much memory, what the call costs, how sizes are mixed.

Notation.  Requests have size classes c = 0, ..., C-1 of x_c kilobytes, x rising, independent with shares f_c and
F(c) = Σ_{i<=c} f_i.  A batch of b is padded to its largest class and runs on one instance with M MB:

    τ(M, c, b) = (base + each·b)·x_c^exponent·max(1, knee/M)                                             seconds
    cost of a call = rate(M)·⌈τ⌉_g + per_call ,     ⌈τ⌉_g = τ rounded up to the billing unit g            dollars
    P(largest of b <= c) = F(c)^b ,   so   E[h(largest)] = Σ_c h(c)·(F(c)^b - F(c-1)^b)
    padding = E[b·x_largest]/E[Σ x] - 1                                      over batches; 0 iff no batch is mixed

Sources: problem, units and prices of AWS: BATCH (SC 2020) and Multi-Buffer Serving (PVLDB 15(10), 2022).  The law of τ
is ours, fitted to landmarks of the measured table of Multi-Buffer Serving; so are padding and the expectation, which
replaces sampling.  Price lists are public ones, recalled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim

__all__ = [
    "CLAIMS",
    "KILOBYTES",
    "LANDMARKS",
    "PRICES",
    "FunctionTime",
    "Prices",
    "Tier",
    "largest_law",
    "mixes",
    "padding",
]

Floats = NDArray[np.float64]

KILOBYTES: tuple[float, ...] = tuple(np.linspace(11.0, 143.5, 32).tolist())
# MB, KB, requests, seconds; of the last one the memory is not stated, and 38 s fits no slope at 1024 MB
LANDMARKS: tuple[tuple[float, float, int, float], ...] = (
    (1024, 11.0, 1, 1.117), (1024, 11.0, 5, 2.879), (1024, 11.0, 10, 5.263),
    (1792, 11.0, 1, 0.658), (1792, 11.0, 5, 1.677), (1792, 11.0, 10, 3.088),
    (2560, 11.0, 1, 0.616), (2560, 11.0, 5, 1.582), (2560, 11.0, 10, 2.869),
    (3328, 11.0, 1, 0.604), (3328, 11.0, 5, 1.525), (3328, 11.0, 10, 2.768),
    (1024, 143.5, 1, 13.8), (3328, 143.5, 1, 7.1), (3328, 143.5, 10, 38.0),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FunctionTime:
    """Seconds of a batch: (base + each·b)·KB^exponent·max(1, knee/M).

    More memory brings processors in proportion, up to `knee` MB; beyond it nothing.
    Args: base, each = s at 1 KB, >= 0, not both 0; exponent > 0; knee = MB > 0.
    Not promised: the authors' table.  :meth:`fitted` to :data:`LANDMARKS` is off by 7 % at most (tested).
    """

    base: float
    each: float
    exponent: float
    knee: float

    def __post_init__(self) -> None:
        if not (min(self.base, self.each) >= 0 and 0 < self.base + self.each < math.inf):
            raise ValueError(
                f"base {self.base} and each {self.each} s make no time; give both >= 0, not both 0"
            )
        if not (0 < self.exponent < math.inf and 0 < self.knee < math.inf):
            raise ValueError(f"exponent {self.exponent} and knee {self.knee} MB; give finite numbers > 0")

    def __call__(self, memory: ArrayLike, kilobytes: ArrayLike, batch: ArrayLike) -> Floats:
        """Seconds of batches of `batch` requests padded to `kilobytes`, with `memory` MB; arrays broadcast."""
        m, x, b = (np.asarray(column, np.float64) for column in (memory, kilobytes, batch))
        return (self.base + self.each * b) * x**self.exponent * np.maximum(1.0, self.knee / m)

    def table(self, memories: ArrayLike, kilobytes: ArrayLike = KILOBYTES, largest_batch: int = 26) -> Floats:
        """[K, C, B], s, as :class:`queueing.one_shot.Pool` takes it: one configuration per memory (MB)."""
        m, x = np.asarray(memories, np.float64), np.asarray(kilobytes, np.float64)
        return self(m[:, None, None], x[None, :, None], np.arange(1, largest_batch + 1))

    @classmethod
    def fitted(cls, points: Sequence[tuple[float, float, int, float]] = LANDMARKS) -> FunctionTime:
        """Least squares of log seconds over points (MB, KB, requests, seconds)."""
        m, x, b, seconds = np.array(points, np.float64).T
        start = np.log([0.03, 0.03, 1.0, 1800.0])

        def off(p: Floats) -> Floats:
            return np.log(cls(*np.exp(p).tolist())(m, x, b) / seconds)

        return cls(*np.exp(least_squares(off, start).x).tolist())

    def residuals(self, points: Sequence[tuple[float, float, int, float]] = LANDMARKS) -> Floats:
        """Predicted over measured less 1, per point."""
        m, x, b, seconds = np.array(points, np.float64).T
        return self(m, x, b) / seconds - 1.0


@dataclass(frozen=True, slots=True)
class Tier:
    """Prices (USD) of memories above `above` and up to `most` MB: flat `per_second` and `per_gb_second` of 1024 MB."""

    above: float
    most: float
    per_second: float = 0.0
    per_gb_second: float = 0.0

    def __post_init__(self) -> None:
        prices = (self.per_second, self.per_gb_second)
        if not (0 <= self.above < self.most < math.inf and all(0 <= price < math.inf for price in prices)):
            raise ValueError(f"{self} is no tier; give finite 0 <= above < most (MB) and finite prices >= 0")


@dataclass(frozen=True, slots=True)
class Prices:
    """A price list of functions: memory tiers, a fee per call, a billing unit.

    Args:
        tiers: in order of memory, each beginning where the one before ends.
        per_call: USD, finite, >= 0.    granularity: s, finite, > 0; running time is rounded up to it.
        least, step: MB; memories on offer are `least`, `least + step`, ..., up to the last tier.
    Errors: ValueError in one sentence: gaps, overlaps, negative prices, and a memory that is not on offer.
    """

    name: str
    tiers: tuple[Tier, ...]
    per_call: float
    granularity: float
    least: int = 128
    step: int = 1

    def __post_init__(self) -> None:
        if not self.tiers:
            raise ValueError(f"the price list {self.name} has no tier; give at least one")
        for low, high in pairwise(self.tiers):
            if high.above != low.most:
                what = "no price" if high.above > low.most else "two prices"
                between = sorted((low.most, high.above))
                raise ValueError(
                    f"{self.name} has {what} between {between[0]:g} and {between[1]:g} MB; begin each tier where the "
                    "one before ends"
                )
        if not (0 <= self.per_call < math.inf and 0 < self.granularity < math.inf):
            raise ValueError(
                f"{self.name}: {self.per_call} USD per call, billing unit {self.granularity} s; give finite numbers "
                ">= 0 and > 0"
            )
        whole = all(isinstance(mb, int) and mb >= 1 for mb in (self.least, self.step))
        if not (whole and self.tiers[0].above < self.least <= self.tiers[-1].most):
            raise ValueError(
                f"{self.name}: memories from {self.least} MB by {self.step} are outside the tiers; give whole MB >= 1 "
                "and start within them"
            )

    def memories(self, least: float = 0.0, most: float = math.inf, every: int | None = None) -> list[int]:
        """Memories on offer within [least, most] MB; `every` that many MB, from `least` on, where it is given."""
        offered = range(self.least, int(self.tiers[-1].most) + 1, self.step)
        return [m for m in offered if least <= m <= most and (every is None or (m - least) % every == 0)]

    def rate(self, memory: float) -> float:
        """USD per second of an instance with `memory` MB."""
        if not self.least <= memory <= self.tiers[-1].most or (memory - self.least) % self.step:
            raise ValueError(
                f"{self.name} does not offer {memory:g} MB; it has {self.least} to {self.tiers[-1].most:g} MB in steps "
                f"of {self.step}"
            )
        tier = next(tier for tier in self.tiers if memory <= tier.most)
        return tier.per_second + tier.per_gb_second * memory / 1024

    def billed(self, seconds: ArrayLike) -> Floats:
        """⌈seconds⌉_g; a multiple of g that floats miss by 1e-9 of it is not rounded up again."""
        return np.ceil(np.asarray(seconds, np.float64) / self.granularity - 1e-9) * self.granularity

    def cost(self, memory: float, seconds: ArrayLike) -> Floats:
        """USD of calls that run `seconds` with `memory` MB."""
        return self.rate(memory) * self.billed(seconds) + self.per_call

    def table(self, memories: Sequence[float], seconds: Floats) -> Floats:
        """[K, C, B], USD per call, of a table of seconds with one row per memory."""
        return np.stack([self.cost(m, row) for m, row in zip(memories, seconds, strict=True)])


# public price lists, recalled: check before quoting
PRICES: Mapping[str, Prices] = {
    p.name: p
    for p in (
        Prices("aws-x86", (Tier(0, 10240, per_gb_second=1.66667e-5),), 2.0e-7, 1e-3),
        Prices("aws-arm", (Tier(0, 10240, per_gb_second=1.33334e-5),), 2.0e-7, 1e-3),
        Prices("aws-2020", (Tier(0, 3008, per_gb_second=1.66667e-5),), 2.0e-7, 0.1, step=64),
        # the authors' evaluation: 100 ms, and memories beyond the cap of its time
        Prices("aws-100ms", (Tier(0, 10240, per_gb_second=1.66667e-5),), 2.0e-7, 0.1),
        Prices(
            "gcf-gen1",
            tuple(
                Tier(above, most, per_second=10 * per_100ms)
                for above, most, per_100ms in (
                    (0, 128, 2.31e-7), (128, 256, 4.63e-7), (256, 512, 9.25e-7), (512, 1024, 1.65e-6),
                    (1024, 2048, 2.9e-6), (2048, 4096, 5.8e-6), (4096, 8192, 6.8e-6),
                )
            ),
            4.0e-7,
            0.1,
            step=128,
        ),
    )
}  # fmt: skip


def mixes(kilobytes: Sequence[float] = KILOBYTES) -> dict[str, Floats]:
    """Shares of the size classes, f8[C] each, under four laws of ours.

    `original`: log-normal, median 55 KB, spread 0.5 of the logarithm (in place of the authors' histogram);
    `bimodal`: normal humps at 35 KB (1/3) and 120 KB (2/3), 10 KB wide;  `exponential`: in the size above the least,
    with mean a quarter of the range;  `uniform`.
    """
    x = np.asarray(kilobytes, np.float64)
    laws = {
        "original": np.exp(-0.5 * (np.log(x / 55.0) / 0.5) ** 2) / x,
        "bimodal": np.exp(-0.5 * ((x - 35) / 10) ** 2) / 3 + 2 * np.exp(-0.5 * ((x - 120) / 10) ** 2) / 3,
        "exponential": np.exp(-4 * (x - x[0]) / (x[-1] - x[0])),
        "uniform": np.ones(len(x)),
    }
    return {name: f / f.sum() for name, f in laws.items()}


def largest_law(shares: ArrayLike, largest_batch: int) -> Floats:
    """[C, B]:  P(the largest of b = 1..B independent requests is of class c) = F(c)^b - F(c-1)^b."""
    f = np.asarray(shares, np.float64)
    F = np.append(0.0, np.cumsum(f) / f.sum())
    return np.diff(F[:, None] ** np.arange(1, largest_batch + 1), axis=0)


def padding(shares: ArrayLike, kilobytes: ArrayLike, sizes: ArrayLike) -> float:
    """E[b·x_largest]/E[Σ x] - 1 if a batch has b requests with probability sizes[b - 1], whatever their classes."""
    f, x, p = (np.asarray(column, np.float64) for column in (shares, kilobytes, sizes))
    b = np.arange(1, len(p) + 1)
    padded = float((p * b) @ (largest_law(f, len(p)).T @ x))
    return padded / (float(p @ b) * float(f @ x) / float(f.sum())) - 1.0


CLAIMS = (
    Claim(
        name="padded-batch-expectation",
        statement="With independent classes, a batch of b has E[τ | b] = Σ_c τ(c, b)·(F(c)^b - F(c-1)^b).",
        assumptions=("classes independent of each other and of b",),
        source="our derivation; replaces the sampling of Multi-Buffer Serving (PVLDB 15(10), 2022)",
        kind=Kind.TESTED,
        where="tests/queueing/models/test_serverless.py::test_the_largest_of_a_batch_has_its_law",
    ),
    Claim(
        name="finer-billing-never-costs-more",
        statement="Where one billing unit divides the other, a call costs no more under the finer one.",
        source="our derivation: ⌈t/g⌉·g <= ⌈t/(ng)⌉·ng",
        kind=Kind.TESTED,
        where="tests/queueing/models/test_serverless.py::test_finer_billing_never_costs_more",
    ),
)
