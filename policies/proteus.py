"""Proteus: a mixed-integer program places subnets on servers for each period, batches by slack (ASPLOS 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from policies.parameters import require_choice, require_positive
from policies.subnets import DROP_HEAD, NoneFits, give_up, largest_fitting, profile
from queueing.one_shot import OneShotPolicy, Pool, decide, head_deadline, run, take_first

__all__ = ["Proteus", "Timetable", "placement"]


SPARE = 1e-6  # per second: of equal optima one whose idle servers hold accurate subnets


class Timetable(NamedTuple):
    """The profile, and the subnet of each server in each period."""

    latency: NDArray[np.float64]
    subnet: NDArray[np.int64]  # [periods, servers]


def placement(pool: Pool, rate: float, slo: float) -> tuple[int, ...]:
    """How many servers hold each subnet, for the most accuracy per second that `rate` queries per second allow.

        maximise Σ_k acc_k y_k   s.t.   y_k <= peak_k n_k,   Σ_k y_k <= rate,   Σ_k n_k = servers,   n_k whole, y_k >= 0

    with peak_k = max{b/l_k(b) : l_k(b) <= slo}.  This is the authors' program (x[device, variant] binary, shares of
    each query type) for one type of query and identical devices: only the counts n_k = Σ_device x matter, and served
    rates y_k stand for share × rate, so that no product of variables is left.
    Errors: ValueError if the pool is unlimited, rate is not positive or slo (s) below what the fastest subnet takes for
        one request; RuntimeError if HiGHS fails.
    """
    if pool.servers is None:
        raise ValueError("servers paid per use need no placement; give a pool with a number of servers")
    if not (rate > 0 and slo > 0):
        raise ValueError(f"{rate:g} queries per second within {slo:g} s; give both > 0")
    latency = profile(pool).latency
    if latency.min() > slo:
        raise ValueError(
            f"the limit on latency of {slo:g} s is below the {latency.min():g} s that the fastest subnet takes for one "
            "request; give a longer limit or a faster subnet"
        )
    k = len(latency)
    sizes = np.arange(1, latency.shape[1] + 1)
    peak = np.where(latency <= slo, sizes / latency, 0.0).max(axis=1)
    # variables: n_1 .. n_K, y_1 .. y_K
    carried = np.hstack([-np.diag(peak), np.eye(k)])
    counted = np.concatenate([np.ones(k), np.zeros(k)])
    upper: Any = np.concatenate([np.full(k, pool.servers), np.full(k, np.inf)])
    solved = milp(
        np.concatenate([-SPARE * pool.value, -pool.value]),
        integrality=counted,
        bounds=Bounds(0, upper),
        constraints=[
            LinearConstraint(carried, -np.inf, 0),
            LinearConstraint(1 - counted, -np.inf, rate),
            LinearConstraint(counted, pool.servers, pool.servers),
        ],
        options={"mip_rel_gap": 0.0},
    )
    if not solved.success:
        raise RuntimeError(f"HiGHS found no placement: {solved.message}")
    return tuple(round(n) for n in solved.x[:k])


@dataclass(frozen=True, slots=True)
class Proteus(OneShotPolicy):
    """Each server holds the subnet that the plan of the period gives it; only the batch adapts between plans.

        every `period` seconds: the placement of :func:`placement` for the rate that is forecast
        a server idle: φ = its subnet in this period;  b = largest batch of φ that fits;  first min(b, waiting) queries

    The plan is computed before the run, outside the compiled body, and stands in `plan` as a timetable: a policy sees
    no forecast, so whoever builds it with :meth:`planned` says which rates it may know: for an honest comparison those
    of earlier periods.
    Guarantee:    under DROP_HEAD, with nothing to load and no failures, every query that runs is in time.
    Not promised: anything within a period: shorter bursts are served by what stands there.  Queries go to whatever
                  server is idle, not by the shares of the program; failures change no plan.  A server drops what does
                  not fit its planned subnet, though the one that it holds, or another idle server, could serve it.
    Args:
        period: s, the paper's some 30 s.
        plan: rank of the subnet in order of accuracy, per server, period after period; the last period stays.  A rank
            beyond the pool's subnets is the most accurate; servers beyond those of the plan repeat it.
        servers: how many entries of `plan` make a period.
        none_fits: what to do when no batch fits.
    Source: Proteus, ASPLOS 2024 (UMass-LIDS/Proteus, from the authors' code); the reduction to counts is ours.
    """

    period: float = 30.0
    plan: tuple[int, ...] = (0,)
    servers: int = 1
    none_fits: NoneFits = DROP_HEAD
    by_deadline: ClassVar[bool] = True
    source: ClassVar[str] = "Proteus, ASPLOS 2024 (UMass-LIDS/Proteus)"

    def __post_init__(self) -> None:
        require_positive(self, "period")
        require_choice(self, "none_fits", NoneFits)
        if not (self.plan and all(type(k) is int and 0 <= k < 2**31 for k in self.plan)):
            raise ValueError(f"plan of Proteus must be ranks of subnets, one at least, not {self.plan!r}")
        if type(self.servers) is not int or self.servers < 1 or len(self.plan) % self.servers:
            raise ValueError(
                f"a plan of {len(self.plan)} entries is not whole periods of {self.servers} servers; "
                "give one entry per server and period"
            )

    @classmethod
    def planned(
        cls,
        pool: Pool,
        rates: Sequence[float],
        slo: float,
        period: float = 30.0,
        none_fits: NoneFits = DROP_HEAD,
    ) -> Proteus:
        """Plan for the forecast rate of each period (queries per second) and one limit on latency, `slo` (s).

        A server keeps its subnet from period to period where the counts allow, so that little is loaded.
        """
        rank = np.argsort(profile(pool).best_first[::-1])
        held: list[int] = []
        plan: list[int] = []
        for rate in rates:
            left = list(placement(pool, rate, slo))
            row: list[int | None] = []
            for k in held:
                stays = left[k] > 0
                left[k] -= stays
                row.append(k if stays else None)
            spare = [k for k, n in enumerate(left) for _ in range(n)]
            held = [spare.pop() if k is None else k for k in row] + spare
            plan += [int(rank[k]) for k in held]
        return cls(period, tuple(plan), pool.servers or 1, none_fits)

    def prepare(self, pool: Pool) -> Timetable:
        """Return the timetable in subnets of this pool."""
        latency, best_first, _ = profile(pool)
        ranks = np.minimum(np.array(self.plan).reshape(-1, self.servers), len(best_first) - 1)
        return Timetable(latency, best_first[::-1][ranks])

    @decide
    def proteus(p, memory, view, action):
        """The subnet of the plan, as large a batch as fits."""
        periods, servers = memory.subnet.shape
        period = int(min(view.now / p.period, periods - 1.0))  # a whole number only once it is small
        k = memory.subnet[period, view.server % servers]
        b = largest_fitting(view, memory.latency, k, head_deadline(view) - view.now)
        if b == 0:
            give_up(p.none_fits, view, action, memory.latency, k)
            return
        take_first(view, action, b)
        run(action, k)
