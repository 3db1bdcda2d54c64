"""A supernet as a profile: how accurate each of its subnets is, and how long each takes for a batch.

Notation.  Subnets φ = 0..K-1; acc(φ) accuracy; l_φ(b) seconds for a batch of b = 1..B.  φ dominates ψ if
acc(φ) >= acc(ψ) and l_φ(b) <= l_ψ(b) for every b, one of them strictly.

    P1  l_φ(b) does not fall in b                  (required)
    P2  l_φ(b) does not fall in acc(φ)             (`by_accuracy`; what is left by `pareto` may still cross)
    P3  l_{least accurate}(b) <= l_{most accurate}(1) for some b >= 2    (`trades`: batch size can be had for accuracy)

Capacity of φ with c servers under a limit s on latency: c·max{b/l_φ(b) : l_φ(b) <= s}, nothing waiting.

Source: SuperServe, NSDI 2025 (arXiv 2312.16733), for P1-P3, SubNetAct and accuracies; formula and calibration are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim

__all__ = ["CLAIMS", "OFA_RESNET", "SLO", "Frontier", "SupernetMemory", "ofa_resnet"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OFA_RESNET = (0.7382, 0.7669, 0.7825, 0.7944, 0.8016)  # ImageNet accuracies that SuperServe's text names
SLO = 0.036  # s, limit on latency of its synthetic study


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class Frontier:
    """Subnets of one supernet with their accuracy and batch times; P1 holds, and nothing else is promised.

    Args (copied, read-only):
        accuracy: [K], shares in [0, 1], any order.
        latency: [K, B], s, > 0 and finite: l_φ(b) in cell [φ, b - 1], nondecreasing along each row (P1).
    Errors: ValueError in one sentence that names subnet, batch and value.
    Example:
        >>> frontier = Frontier([0.74, 0.73, 0.80], [[0.003, 0.005], [0.003, 0.006], [0.006, 0.012]])
        >>> frontier.pareto().accuracy.tolist()
        [0.74, 0.8]
        >>> round(frontier.capacity(0.010, servers=2)[0])
        800
    """

    accuracy: Floats
    latency: Floats

    def __init__(self, accuracy: ArrayLike, latency: ArrayLike) -> None:
        worth, table = np.array(accuracy, np.float64).ravel(), np.array(latency, np.float64)
        if not len(worth):
            raise ValueError("the frontier is empty; give at least one subnet")
        if table.ndim != 2 or len(table) != len(worth) or not table.size:
            raise ValueError(
                f"latency has shape {table.shape} for {len(worth)} subnets; give a row each, a column per batch size"
            )
        if not ((worth >= 0) & (worth <= 1)).all():
            bad = int(np.argmin((worth >= 0) & (worth <= 1)))
            raise ValueError(f"accuracy of subnet {bad} is {worth[bad]:g}; give a share between 0 and 1")
        good = np.isfinite(table) & (table > 0)
        if not good.all():
            row, column = np.argwhere(~good)[0]
            raise ValueError(
                f"subnet {row} takes {table[row, column]:g} s for a batch of {column + 1}; give finite seconds > 0"
            )
        if (np.diff(table) < 0).any():
            row, column = np.argwhere(np.diff(table) < 0)[0]
            raise ValueError(
                f"subnet {row} is faster for a batch of {column + 2} than of {column + 1}; "
                "give latencies that do not fall in the batch, such as their running maximum"
            )
        for name, column in (("accuracy", worth), ("latency", table)):
            column.flags.writeable = False
            object.__setattr__(self, name, column)

    def __len__(self) -> int:
        return len(self.accuracy)

    def __repr__(self) -> str:
        return f"Frontier({len(self)} subnets, batches to {self.largest_batch})"

    @property
    def largest_batch(self) -> int:
        """B."""
        return self.latency.shape[1]

    @property
    def seconds(self) -> Floats:
        """[K, 1, B], the table that :class:`queueing.one_shot.Pool` takes, with `accuracy` as its value."""
        return self.latency[:, None, :]

    @property
    def by_accuracy(self) -> bool:
        """P2: of two subnets the more accurate is at no batch the faster; equally accurate ones may cross."""
        groups = [self.latency[self.accuracy == worth] for worth in np.unique(self.accuracy)]
        return all((high.min(0) >= low.max(0)).all() for low, high in pairwise(groups))

    @property
    def trades(self) -> bool:
        """P3: the least accurate subnet serves two or more in the time in which the most accurate serves one."""
        if self.largest_batch < 2:
            return False
        low, high = int(self.accuracy.argmin()), int(self.accuracy.argmax())
        return bool(self.latency[low, 1] <= self.latency[high, 0])

    def pareto(self) -> Frontier:
        """Without dominated subnets, of equals one, in order of accuracy.

        Nothing that a schedule can attain is lost (Lemma 4.1 of the paper; proof: run φ wherever ψ ran, every batch
        ends no later and is worth no less).
        """
        order = sorted(range(len(self)), key=lambda k: (-self.accuracy[k], *self.latency[k]))
        kept: list[int] = []
        for k in order:  # whatever dominates k, or equals it, comes before it
            if not any((self.latency[j] <= self.latency[k]).all() for j in kept):
                kept.append(k)
        kept.reverse()
        return Frontier(self.accuracy[kept], self.latency[kept])

    def scaled(self, factor: float) -> Frontier:
        """The same on hardware on which every batch takes `factor` times as long."""
        return Frontier(self.accuracy, self.latency * factor)

    def largest_within(self, slo: float) -> Ints:
        """[K], the largest batch of each subnet with l_φ(b) <= slo (s); 0 where not even one request fits.

        Errors: ValueError if no subnet can serve one request within `slo`.
        """
        if not self.latency[:, 0].min() <= slo:
            raise ValueError(
                f"the limit on latency of {slo:g} s is below the {self.latency[:, 0].min():g} s that the fastest "
                "subnet takes for one request; give a longer limit or a faster subnet"
            )
        return (self.latency <= slo).sum(1)

    def capacity(self, slo: float, servers: int) -> Floats:
        """[K], most requests per second of each subnet in batches within `slo` (s), as if nothing ever waited."""
        if servers < 1:
            raise ValueError(f"{servers} servers; give at least one")
        self.largest_within(slo)
        rate = np.arange(1, self.largest_batch + 1) / self.latency
        return servers * np.where(self.latency <= slo, rate, 0.0).max(1)

    def fluid_worth(self, rate: float, slo: float, servers: int) -> float:
        """Accuracy per second that no policy exceeds:  max Σ acc_k y_k  s.t.  Σ y_k/C_k <= 1,  Σ y_k <= rate,  y >= 0.

        C_k = capacity.  Proof: a batch with a request in time takes at most `slo`, hence at least servers/C_k server
        seconds per request; so of N requests with deadlines up to T, Y_k in time under k satisfy Σ Y_k/C_k <= T and
        Σ Y_k <= N, and their worth is at most T·fluid_worth(N/T).  Our derivation.
        Args: rate = requests per second, > 0; slo, s; servers.
        """
        if not 0 < rate < math.inf:
            raise ValueError(f"{rate} requests per second; give a finite number > 0")
        most = self.capacity(slo, servers)
        can = most > 0
        solved = linprog(
            -self.accuracy[can],
            A_ub=np.stack([1 / most[can], np.ones(can.sum())]),
            b_ub=np.array([1.0, rate]),
        )
        return -float(solved.fun)


def ofa_resnet(
    accuracy: Sequence[float] = OFA_RESNET,
    *,
    slo: float = SLO,
    servers: int = 8,
    rates: tuple[float, float] = (8000.0, 2000.0),
    fixed: float = 0.002,
    power: float = 0.95,
    largest_batch: int = 16,
    scale: float = 1.0,
) -> Frontier:
    """A frontier like SuperServe's convolutional one: l_φ(b) = scale·(g0 + F_φ·b^p), calibrated to two capacities.

    The least accurate subnet serves rates[0] per second on all servers in its largest batch, and the most accurate
    rates[1] in the largest batch that meets `slo`: for 2000/s on 8 servers that is 4 ms per request and server, hence
    b = 9 in 36 ms (a batch of 16 would take longer than the limit).  In between F_φ is geometric in accuracy.
    Args: accuracy = rising shares, at least two; slo, s; rates, requests per second at scale 1; fixed = g0, s;
        power = p in (0, 1]; scale > 0 multiplies every time.
    Not promised: any published latency; those of the paper (RTX 2080 Ti) are not tabulated.
    Errors: ValueError if the rates cannot be met with these parameters.
    Source: accuracies and rates from the paper's text; form and calibration are our derivation.
    """
    if len(accuracy) < 2 or not all(a < b for a, b in pairwise(accuracy)):
        raise ValueError(f"the accuracies {tuple(accuracy)} do not rise; give at least two, least first")
    if not (0 < slo < math.inf and all(0 < rate < math.inf for rate in rates)):
        raise ValueError(f"a limit of {slo} s and rates of {rates} per second; give finite numbers > 0")
    if not (0 < power <= 1 and scale > 0 and servers >= 1 and largest_batch >= 1 and fixed >= 0):
        raise ValueError(
            f"power {power}, scale {scale}, {servers} servers, batches to {largest_batch}, fixed {fixed} s; "
            "give 0 < power <= 1, scale > 0, at least one server and one request, fixed >= 0"
        )
    per_server = [rate / servers for rate in rates]
    at = (largest_batch, min(largest_batch, math.floor(slo * per_server[1] + 1e-9)))
    if at[1] < 1:
        raise ValueError(
            f"at {rates[1]:g}/s on {servers} servers one request takes longer than {slo:g} s; raise rate or limit"
        )
    slope = [(b / rate - fixed) / b**power for b, rate in zip(at, per_server, strict=True)]
    if not 0 < slope[0] <= slope[1]:
        raise ValueError(
            f"the rates {rates} and {fixed:g} s per batch leave slopes {slope[0]:g} and {slope[1]:g} s; "
            "give a smaller fixed time, or rates of which the first is larger"
        )
    worth = np.array(accuracy)
    share = (worth - worth[0]) / (worth[-1] - worth[0])
    slopes = slope[0] * (slope[1] / slope[0]) ** share
    sizes = np.arange(1, largest_batch + 1) ** power
    return Frontier(worth, scale * (fixed + slopes[:, None] * sizes))


@dataclass(frozen=True, slots=True)
class SupernetMemory:
    """Bytes of weight-shared subnets against separate models: weights once, normalisation statistics per subnet.

    Args: weights = bytes of the whole supernet without statistics; statistics = bytes of one subnet's statistics.
    Not promised: the published 2.6 against four hand-made ResNets, whose sizes are not in the text.
    Example: statistics 500 times smaller than the weights
        >>> memory = SupernetMemory(weights=500e6, statistics=1e6)
        >>> memory.shared(500) / memory.shared(0)
        2.0
        >>> memory.saving([500e6] * 4, subnets=50)
        3.6363636363636362
    """

    weights: float
    statistics: float

    def __post_init__(self) -> None:
        if not (0 < self.weights < math.inf and 0 <= self.statistics < math.inf):
            raise ValueError(
                f"weights of {self.weights:g} and statistics of {self.statistics:g} bytes; "
                "give weights > 0, statistics >= 0"
            )

    def shared(self, subnets: int) -> float:
        """Bytes of the supernet with the statistics of so many subnets."""
        if subnets < 0:
            raise ValueError(f"{subnets} subnets; give none or more")
        return self.weights + subnets * self.statistics

    def saving(self, models: Sequence[float], subnets: int) -> float:
        """Bytes of separate `models` over those of the supernet with so many subnets."""
        return math.fsum(models) / self.shared(subnets)

    def subnets_for(self, models: Sequence[float]) -> int:
        """Most subnets for which the supernet takes no more than the separate `models`; 0 if it never does."""
        spare = math.fsum(models) - self.weights
        if spare < 0:
            return 0
        if self.statistics == 0:
            raise ValueError("without statistics any number of subnets fits; give statistics > 0")
        return math.floor(spare / self.statistics)


CLAIMS = (
    Claim(
        "supernet-fluid",
        "No policy attains more accuracy per second than the linear program over the capacities of the subnets.",
        "our derivation (proof at Frontier.fluid_worth)",
        Kind.TESTED,
        ("one limit for all; no failures; what is in time counts",),
        where="tests/policies/test_slackfit.py::test_no_policy_is_above_the_fluid_bound",
    ),
    Claim(
        "supernet-pareto",
        "Leaving out dominated subnets changes the value of no optimal schedule.",
        "SuperServe, NSDI 2025, Lemma 4.1 (plain dominance); the form over all batch sizes is our derivation",
        Kind.TESTED,
        ("accuracy and latency known exactly",),
        where="tests/queueing/models/test_zilp.py::test_dominated_subnets_are_worth_nothing",
    ),
    Claim(
        "supernet-calibration",
        "The calibrated frontier serves 8000 and 2000 requests per second with its ends, and grows by P1, P2, P3.",
        "SuperServe, NSDI 2025, for the rates (published); the calibration is our derivation",
        Kind.TESTED,
        ("eight servers, batches within 36 ms",),
        where="tests/queueing/models/test_supernet.py::test_calibration_meets_both_capacities",
    ),
)
