"""Region-based learning of parallelism against tabular and deep Q-learning, random search, hill climbing, a process.

Plants of a CPU (request workers, operators at once, threads) and a GPU (streams, batch, timeout), three loads each; an
epoch serves 100 fresh requests and is worth slo/mean latency.  For each learner: epochs until the configuration that it
believes best is, and for twenty epochs stays, within 0.95 of the brute-force best, that is within 5.3 % of the least
mean latency; median over 20 seeds.  Tabular learning is the region learner with radius 0, on the same draws.  The deep
Q-network, which is slow, has the first five seeds.  A radius from data is held against the fixed one, seed by seed.

The papers' bodies are not public: plants, learner and schedule are ours, and their percentages cannot be held against.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.configuration_search import GpUcb, HillClimbing, RandomSearch
from policies.region_rl import TABULAR, Learner, RegionRl, Schedule, covering
from queueing.models.parallelism import CpuPlant, GpuPlant, Plant, distances, expected_rewards, speed
from queueing.run import versions
from validation.dqn_baseline import DqnBaseline
from validation.plots import COLOURS, figure, save
from validation.published import published
from validation.result import Result, Row, over_seeds

__all__ = ["NAME", "PLANTS", "epochs_to_reach", "learners", "run"]

NAME = "rrl"
PLANTS: Mapping[str, tuple[Plant, tuple[float, ...]]] = {
    "CPU": (CpuPlant(), (10.0, 25.0, 45.0)),
    "GPU": (GpuPlant(), (100.0, 400.0, 800.0)),
}
NEAR, HOLD = 0.95, 20
REQUESTS, FORCE = 100, 40  # per epoch; epochs of the brute force
HORIZON = {"tabular": 2000, "GP-UCB": 100}
OTHERS = 800
FEWER = {"deep Q-network": 5}  # seeds
OURS = "regions, R0 = 2"
FROM_DATA = {  # with a radius from data
    "R0 = 2": Schedule(radius=2.0),
    "R0 = 3": Schedule(radius=3.0),
    "R0 = 3, no decay": Schedule(radius=3.0, decay=1.0),
}
NEEDS = {  # what a learner is made with, and the extra that has it; "length scale" is in the names of three
    "deep Q-network": ("stable_baselines3", "rl"),
    "GP-UCB": ("sklearn", "serverless"),
    "length scale": ("sklearn", "serverless"),
}
RADII = (1.0, 2.0, 3.0)
WANTED = 5.0
KEY = "rrl: epochs over those of prior work"
PER_HOUR = 20  # epochs
SEED = 2000  # the first; schedules, and the network's rates, were chosen on seeds below 200

Floats = NDArray[np.float64]
Table = list[dict[str, Any]]


class Case(NamedTuple):
    """All learners on one plant at one load: how many configurations are near the best, and the epochs of each run."""

    plant: str
    load: float
    share: float
    rows: Table
    epochs: Mapping[str, Sequence[int]]


def learners(plant: Plant, load: float = 1.0) -> dict[str, Callable[[np.random.Generator], Learner]]:
    """The learners by name, each made from a generator; the domain is split where a CPU is oversubscribed."""
    d = distances(plant.grid)
    groups = plant.grid.prod(axis=1) <= plant.cores if isinstance(plant, CpuPlant) else None
    made: dict[str, Callable[[np.random.Generator], Learner]] = {
        "tabular": lambda rng: RegionRl(d, 1, TABULAR, rng),
        "random": lambda rng: RandomSearch(len(d), 1, rng),
        "hill climbing": lambda rng: HillClimbing(d, 1, rng),
        "GP-UCB": lambda rng: GpUcb(plant.grid, 1, rng),
        "deep Q-network": lambda rng: DqnBaseline(plant, (load,), rng),
    }
    for radius in RADII:
        schedule = Schedule(radius=radius)
        made[f"regions, R0 = {radius:g}"] = lambda rng, s=schedule: RegionRl(d, 1, s, rng)
        if groups is not None:
            made[f"regions, R0 = {radius:g}, split"] = lambda rng, s=schedule: RegionRl(d, 1, s, rng, groups)
    for name, schedule in FROM_DATA.items():
        made[f"regions, {name}, length scale"] = lambda rng, s=schedule: RegionRl(
            d, 1, s, rng, points=np.log2(plant.grid)
        )
    return made


def missing() -> dict[str, str]:
    """Learners, or parts of their names, whose library is not installed, and the extra that has it."""
    return {name: extra for name, (module, extra) in NEEDS.items() if find_spec(module) is None}


def epochs_to_reach(
    plant: Plant,
    load: float,
    worth: Floats,
    make: Callable[[np.random.Generator], Learner],
    horizon: int,
    seed: int,
) -> int:
    """First epoch from which the configuration believed best is near the best for `HOLD` epochs; `horizon` if none."""
    mine, its = np.random.default_rng(seed).spawn(2)  # the learner's draws, and the plant's
    learner = make(mine)
    near = worth >= NEAR * worth.max()
    held = 0
    for epoch in range(horizon):
        x = learner.suggest(0)
        arrival = np.cumsum(its.standard_exponential(REQUESTS)) / load
        learner.observe(0, x, speed(plant.latency(x, arrival), plant.slo))
        held = held + 1 if near[learner.best(0)] else 0
        if held == HOLD:
            return epoch + 1 - HOLD
    return horizon


class Fixed:
    """Plays one configuration per load bin, come what may."""

    def __init__(self, chosen: Sequence[int]) -> None:
        self.chosen = tuple(chosen)

    def suggest(self, load: int) -> int:
        """The one of this bin."""
        return self.chosen[load]

    def observe(self, load: int, configuration: int, reward: float) -> None:
        """Learn nothing."""

    def best(self, load: int) -> int:
        """The one of this bin."""
        return self.chosen[load]


def late_over_a_day(plant: Plant, loads: Sequence[float], learner: Learner, seed: int) -> float:
    """Share of requests beyond the limit while the load goes up and down once: 24 hours of `PER_HOUR` epochs."""
    rng = np.random.default_rng(seed)
    late = 0
    for hour in range(24):
        load = min(int((1 - np.cos(2 * np.pi * hour / 24)) / 2 * len(loads)), len(loads) - 1)
        for _ in range(PER_HOUR):
            x = learner.suggest(load)
            latency = plant.latency(x, np.cumsum(rng.standard_exponential(REQUESTS)) / loads[load])
            learner.observe(load, x, speed(latency, plant.slo))
            late += int((latency > plant.slo).sum())
    return late / (24 * PER_HOUR * REQUESTS)


def day(seeds: Sequence[int]) -> Table:
    """Late requests over a day: learners from nothing, one configuration for the day, and the best of every load."""
    rows: Table = []
    for name, (plant, loads) in PLANTS.items():
        d = distances(plant.grid)
        worth = [
            expected_rewards(plant, s, FORCE, REQUESTS, np.random.default_rng(10_000), speed)[0]
            for s in loads
        ]
        best = [int(w.argmax()) for w in worth]
        made: dict[str, Callable[[np.random.Generator], Learner]] = {
            "regions, R0 = 2": lambda rng, d=d: RegionRl(d, 3, Schedule(), rng),
            "tabular": lambda rng, d=d: RegionRl(d, 3, TABULAR, rng),
            "random": lambda rng, d=d: RandomSearch(len(d), 3, rng),
            "best at the middle load, all day": lambda rng, best=best: Fixed([best[1]] * 3),
            "best at every load": lambda rng, best=best: Fixed(best),
        }
        for learner, make in made.items():
            shares = [late_over_a_day(plant, loads, make(np.random.default_rng(s)), s + 1) for s in seeds]
            mean, low, high = over_seeds(shares)
            rows.append({"plant": name, "learner": learner, "late": mean, "late low": low, "late high": high})
    return rows


def _case(task: tuple[str, float, tuple[int, ...], tuple[str, ...] | None]) -> Case:
    name, load, seeds, only = task
    plant, _ = PLANTS[name]
    worth, _ = expected_rewards(plant, load, FORCE, REQUESTS, np.random.default_rng(10_000), speed)
    rows: Table = []
    epochs: dict[str, Sequence[int]] = {}
    for learner, make in learners(plant, load).items():
        if any(part in learner for part in missing()) or (only is not None and learner not in only):
            continue
        horizon = HORIZON.get(learner, OTHERS)
        mine = seeds[: FEWER.get(learner)]
        needed = [epochs_to_reach(plant, load, worth, make, horizon, seed) for seed in mine]
        low, median, high = np.percentile(needed, [25, 50, 75])
        rows.append(
            {"plant": name, "load": load, "learner": learner, "epochs": float(median), "lower quartile": float(low),
             "upper quartile": float(high), "runs": len(mine), "not reached": sum(n == horizon for n in needed),
             "horizon": horizon}
        )  # fmt: skip
        epochs[learner] = needed
    return Case(name, load, float((worth >= NEAR * worth.max()).mean()), rows, epochs)


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # of a worker, before anything of it imports torch


def run(
    quick: bool = False,
    out: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Run all learners; `out` is the folder of the plot. `quick`: five seeds and fewer learners."""
    began = time.perf_counter()
    seeds = tuple(range(SEED, SEED + (5 if quick else 20)))
    only = ("tabular", "random", "hill climbing", OURS) if quick else None
    tasks = [(name, load, seeds, only) for name, (_, loads) in PLANTS.items() for load in loads]
    found: list[Case] = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        for done, case in enumerate(pool.map(_case, tasks)):
            found.append(case)
            if progress is not None:
                progress(done + 1, len(tasks))
    rows = _ratio_rows("tabular", found)
    if not quick:
        rows += _ratio_rows("deep Q-network", found)[-1:]
        rows += [_from_data_row(name, found) for name in FROM_DATA]
    balls: Table = [
        {"plant": name, "configurations": len(plant.grid), "radius": radius,
         "balls that cover": len(covering(distances(plant.grid), radius)),
         "configurations per ball": len(plant.grid) / len(covering(distances(plant.grid), radius))}
        for name, (plant, _) in PLANTS.items() for radius in RADII
    ]  # fmt: skip
    table = [row for case in found for row in case.rows]
    notes = (
        f"epochs until within {NEAR} of the best for {HOLD} epochs; a learner that did not reach it counts its horizon",
        f"wanted: a ratio of {WANTED:g}; the published one is on plants and by a learner that are not public",
    )
    if out is not None:
        _plot(out, found)
    return Result(
        NAME,
        time.perf_counter() - began,
        list(seeds),
        versions(),
        rows,
        {"learners": table, "balls": balls, "a day of changing loads": day(seeds)},
        notes,
    )


def _ratio_rows(whose: str, found: Sequence[Case]) -> list[Row]:
    """A learner's epochs over the region learner's: a row per case, and their median with least and largest."""
    if whose in missing():
        return [_absent(f"{whose} epochs over region epochs", whose)]
    rows: list[Row] = []
    for case in found:
        by_name = {row["learner"]: row for row in case.rows}
        what = f"{case.plant} at {case.load:g}/s ({case.share:.1%} near the best)"
        rows.append(_ratio_row(f"{whose} epochs over region epochs, {what}", by_name[whose], by_name[OURS]))
    ratios = [row.ours for row in rows]
    what = f"{whose} epochs over region epochs, median of the cases"
    median = float(np.median(ratios))
    least, largest = min(ratios), max(ratios)
    return [
        *rows,
        Row(what, "ratio", published(KEY).value, median, least, largest, "not testable here", KEY),
    ]


def _ratio_row(quantity: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Row:
    ratio = theirs["epochs"] / max(ours["epochs"], 1)
    low = theirs["lower quartile"] / max(ours["upper quartile"], 1)
    high = theirs["upper quartile"] / max(ours["lower quartile"], 1)
    return Row(quantity, "ratio", published(KEY).value, ratio, low, high, "not testable here", KEY)


def _from_data_row(name: str, found: Sequence[Case]) -> Row:
    """A fixed radius against one from data: geometric mean over the cases of the ratio of epochs, seed by seed."""
    quantity = f"epochs of a fixed radius over those of a radius from data, {name}"
    if "length scale" in missing():
        return _absent(quantity, "length scale")
    fixed = np.array([case.epochs[f"regions, R0 = {FROM_DATA[name].radius:g}"] for case in found], np.float64)
    ours = np.array([case.epochs[f"regions, {name}, length scale"] for case in found], np.float64)
    by_seed = np.log(np.maximum(fixed, 1) / np.maximum(ours, 1)).mean(axis=0)
    ratio, low, high = np.exp(over_seeds(list(by_seed)))
    return Row(quantity, "ratio", None, float(ratio), float(low), float(high), "not testable here")


def _absent(quantity: str, learner: str) -> Row:
    said = f"{quantity}: not testable here: install tandem-queueing[{missing()[learner]}]"
    return Row(said, "ratio", None, math.nan, math.nan, math.nan, "not testable here")


def _plot(out: Path, found: Sequence[Case]) -> None:
    with figure(columns=1, width=8.0) as (drawing, axes):
        ax = axes[0][0]
        names = list(dict.fromkeys(row["learner"] for case in found for row in case.rows))
        for k, name in enumerate(names):
            at = [(i, row) for i, case in enumerate(found) for row in case.rows if row["learner"] == name]
            x = [i + 0.08 * (k - len(names) / 2) for i, _ in at]
            low, y, high = (
                np.array([row[key] for _, row in at])
                for key in ("lower quartile", "epochs", "upper quartile")
            )
            ax.errorbar(
                x, np.maximum(y, 1), yerr=[y - low, high - y], fmt="o", markersize=4, color=COLOURS[k % len(COLOURS)],
                label=name,
            )  # fmt: skip
        ax.set_xticks(range(len(found)), [f"{name}, {load:g}/s" for name, load, *_ in found])
        ax.set(yscale="log", ylabel="epochs", title="Epochs until near the best: median and quartiles")
        ax.legend(fontsize="small", ncols=2)
        save(drawing, out / "rrl")
