"""Tuning buffers before functions: exhaustively over a grid, or by constrained Bayesian optimisation of a library.

Each buffer is tuned alone, since costs add over buffers:

    (B, T, M) = argmin E[cost per request]   s.t.   quantile of the latency <= limit

Bayesian optimisation is optuna's `GPSampler`: a Gaussian process for the cost and one for the constraint, expected
improvement weighted by the odds of feasibility.  It is given log cost and log(quantile/limit), both smooth and finite
everywhere; Multi-Buffer Serving gives its process -1e9 where the limit is broken, which `penalty` does for comparison.
Only settings of the grid are proposed, so the exhaustive grid is the exact yardstick.

Not promised: the optimum.  `tandem experiment mbs` reports how often it is met within 1 %.
Source: problem of Multi-Buffer Serving (PVLDB 15(10), 2022); the constrained form is our choice.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policies.multi_buffer import MultiBuffer
from queueing.models.buffer_plan import BufferModel, Law, Limit, Plan, Service, Setting
from queueing.models.partition import Partition, equal_load, partitions, range_costs

__all__ = ["Grid", "Search", "best_partition", "policy_of", "search", "tune"]

Floats = NDArray[np.float64]
Method = Literal["bayes", "penalty", "random"]
PENALTY = 1e9


@dataclass(frozen=True, slots=True)
class Grid:
    """Settings to choose from: rows of the service's memories, batch sizes, timeouts (s)."""

    memories: tuple[int, ...]
    sizes: tuple[int, ...]
    timeouts: tuple[float, ...]

    def __post_init__(self) -> None:
        if not (self.memories and self.sizes and self.timeouts):
            raise ValueError(f"{self} has no setting; give at least one memory, size and timeout")

    @classmethod
    def of(cls, service: Service, limit: Limit, sizes: int = 10, timeouts: int = 10) -> Grid:
        """All memories, `sizes` batch sizes from 1 to the largest and `timeouts` from 0.01 s to min(limit, 0.5 s).

        Sizes are spaced evenly in their logarithm; timeouts evenly, as in Multi-Buffer Serving.
        """
        most = service.seconds.shape[2]
        b = np.unique(np.geomspace(1, most, sizes).round().astype(int))
        for extra in range(2, most + 1):  # rounding makes small ones coincide
            if len(b) < min(sizes, most):
                b = np.union1d(b, [extra])
        t = np.linspace(0.01, max(0.01, min(limit.seconds, 0.5)), timeouts)
        return cls(tuple(range(len(service.memory))), tuple(b.tolist()), tuple(t.tolist()))

    def __len__(self) -> int:
        return len(self.memories) * len(self.sizes) * len(self.timeouts)

    def settings(self) -> list[Setting]:
        """All of them."""
        return [Setting(b, t, k) for b in self.sizes for t in self.timeouts for k in self.memories]


@dataclass(frozen=True, slots=True)
class Search:
    """The best setting that keeps the limit (None if none was met), and the least such cost after each evaluation."""

    setting: Setting | None
    course: tuple[float, ...]

    @property
    def cost(self) -> float:
        """USD per request; inf if no setting met the limit."""
        return self.course[-1] if self.course else math.inf


def search(
    model: BufferModel,
    grid: Grid,
    evaluations: int,
    seed: int = 0,
    method: Method = "bayes",
    start: int = 12,
    enough: float = 0.0,
) -> Search:
    """Search the grid with at most that many evaluations of cost and quantile.

    Args: `bayes` = constrained Gaussian process; `penalty` = one process, -1e9 as its objective outside the limit;
        `random` = settings without replacement; start = random evaluations before the process takes over; enough = USD
        per request at which to stop.
    Raises:
        ValueError: optuna, or torch for its Gaussian process, is not there.
    """
    if evaluations < 1:
        raise ValueError(f"{evaluations} evaluations find nothing; give at least 1")
    course: list[float] = []
    best: list[Setting] = []

    def evaluate(setting: Setting) -> tuple[float, float]:
        """(cost, log(quantile/limit)); notes the course."""
        cost, over = model.cost(setting), math.log(model.latency(setting) / model.limit.seconds)
        least = course[-1] if course else math.inf
        if over <= 0 and cost < least:
            best[:], least = [setting], cost
        course.append(least)
        return cost, over

    settings = grid.settings()
    order: list[Setting] = [settings[i] for i in np.random.default_rng(seed).permutation(len(settings))]
    if method == "random":
        for setting in order[:evaluations]:
            evaluate(setting)
            if course[-1] <= enough:
                break
    else:
        for _ in _process(grid, seed, method == "penalty", start, order, evaluate):
            if len(course) == evaluations or course[-1] <= enough:
                break
    return Search(best[0] if best else None, tuple(course))


def _process(
    grid: Grid,
    seed: int,
    penalty: bool,
    start: int,
    order: Sequence[Setting],
    evaluate: Callable[[Setting], tuple[float, float]],
) -> Generator[None]:
    """Evaluate one setting after another, as the process proposes; where it repeats itself, another at random.

    With B = 1 the timeout changes nothing: the process is told so, and no evaluation is spent on it.
    """
    optuna = _optuna()

    def constraints(trial: Any) -> tuple[float]:
        return (trial.user_attrs["over"],)

    with warnings.catch_warnings():  # of what may change in later versions of it
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.GPSampler(
            seed=seed,
            n_startup_trials=start,
            deterministic_objective=True,
            constraints_func=None if penalty else constraints,
        )
    study = optuna.create_study(sampler=sampler)
    told: set[Setting] = set()
    known: dict[Setting, tuple[float, float]] = {}
    others = iter(order)
    while len(told) < len(order):
        trial = study.ask()
        b = grid.sizes[trial.suggest_int("size", 0, len(grid.sizes) - 1)]
        t = grid.timeouts[trial.suggest_int("timeout", 0, len(grid.timeouts) - 1)]
        k = grid.memories[trial.suggest_int("memory", 0, len(grid.memories) - 1)]
        setting = Setting(b, t, k)
        if setting in told:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(_indices(grid, next(s for s in others if s not in told)))
            continue
        told.add(setting)
        same = Setting(1, 0.0, k) if b == 1 else setting
        fresh = same not in known
        if fresh:
            known[same] = evaluate(setting)
        cost, over = known[same]
        trial.set_user_attr("over", over)
        study.tell(trial, (cost if over <= 0 else PENALTY) if penalty else math.log(cost))
        if fresh:
            yield


def _indices(grid: Grid, setting: Setting) -> dict[str, int]:
    return {
        "size": grid.sizes.index(setting.size),
        "timeout": grid.timeouts.index(setting.timeout),
        "memory": grid.memories.index(setting.memory),
    }


def _optuna() -> Any:
    try:
        import optuna  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            "Bayesian optimisation needs optuna, and torch for its Gaussian process: "
            "pip install 'tandem-queueing[serverless,gpu]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def tune(
    law: Law,
    shares: ArrayLike,
    service: Service,
    limit: Limit,
    grid: Grid,
    buffers: Sequence[int] = (1, 2, 4, 8, 16),
    evaluations: int | None = None,
    seed: int = 0,
) -> dict[int, Plan]:
    """The tuned plan of each number of equal-load buffers; the least `cost` among them is what to run.

    Load is share times size.  A number that cannot keep the limit is left out.
    Args: law = of a buffer, by its share of the requests; evaluations = of Bayesian optimisation per buffer, None for
        the exhaustive grid.
    Raises:
        ValueError: no number of buffers keeps the limit.
    """
    f = np.asarray(shares, np.float64)
    settings, plans, wrong = grid.settings(), dict[int, Plan](), None
    for n in buffers:
        models = _models(law, f, service, limit, equal_load(f * service.kilobytes, n))
        try:
            plans[n] = Plan.of(
                models, [_tuned(m, grid, settings, evaluations, seed + i) for i, m in enumerate(models)]
            )
        except ValueError as error:
            wrong = error
    if not plans:
        raise wrong or ValueError("no number of buffers was given; give at least one")
    return plans


def _models(law: Law, f: Floats, service: Service, limit: Limit, last: Sequence[int]) -> list[BufferModel]:
    first = [0, *(h + 1 for h in last[:-1])]
    return [BufferModel(law, f, service, limit, lo, hi) for lo, hi in zip(first, last, strict=True)]


def _tuned(
    m: BufferModel, grid: Grid, settings: list[Setting], evaluations: int | None, seed: int
) -> Setting:
    if evaluations is None:
        return m.best(settings)[0]
    found = search(m, grid, evaluations, seed)
    if found.setting is None:
        raise ValueError(
            f"{evaluations} evaluations met no setting that keeps {m.limit.quantile:.0%} of latencies within "
            f"{m.limit.seconds:g}: raise the limit or the evaluations"
        )
    return found.setting


def best_partition(
    law: Law, shares: ArrayLike, service: Service, limit: Limit, grid: Grid, most: int
) -> tuple[list[Partition], Floats]:
    """The cheapest cut points for at most 1..`most` buffers, each range tuned over the grid; and all costs [K, K + 1].

    K(K+1)/2 exhaustive searches; each some tenths of a second with 2,400 settings.
    """
    f = np.asarray(shares, np.float64)
    settings = grid.settings()

    def cost(lo: int, hi: int) -> float:
        m = BufferModel(law, f, service, limit, lo, hi)
        return m.share * m.best(settings)[1]

    table = range_costs(len(f), cost)
    return partitions(table, most), table


def policy_of(plan: Plan) -> MultiBuffer:
    """The policy that carries a plan out, on the pool `Pool(service.seconds, servers=None)`."""
    return MultiBuffer(
        plan.last[:-1],
        tuple(s.size for s in plan.settings),
        tuple(s.timeout for s in plan.settings),
        tuple(s.memory for s in plan.settings),
    )
