"""A real weight-shared network: what switching its subnets costs, what sharing saves, and SlackFit on its profile.

A residual network for noisy digits is trained on this processor, all its subnets in one set of weights, and measured:
the time of a switch in place beside that of loading a copy, bytes beside those of separate networks, accuracy with and
without statistics of its own (SubnetNorm), accuracy and CPU seconds of every subnet and batch.  The profile goes to
SlackFit and its rivals under bursts, simulated; then the batches that SlackFit ran are executed on the network, and the
seconds they take are laid beside the profile's.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policies import Clipper, MaxAccuracy, MaxBatch, SlackFit
from queueing.arrivals import Deterministic, Gamma, Superposed
from queueing.models.supernet import Frontier
from queueing.one_shot import OneShotPolicy, OneShotTrace, Pool, Requests, metrics, serve
from queueing.run import versions
from validation.plots import COLOURS, MARKERS, figure, save
from validation.result import Result, Row, Verdict, over_seeds, write_atomically

if TYPE_CHECKING:
    from gpu.supernet_training import Study

__all__ = ["NAME", "executed", "frontier_of", "profile_json", "run", "simulated"]

NAME = "supernet"
SEEDS = range(10)
SERVERS = 4
REQUESTS = {False: 20_000, True: 4_000}  # by quick
LOADS, JUDGED = (0.2, 0.3, 0.45, 0.6, 0.75), 0.45  # of the capacity of the fastest subnet
CV = 8**0.5
EXECUTED = {False: 400, True: 100}  # batches that are run for real

Table = list[dict[str, Any]]


def frontier_of(study: Study) -> tuple[Frontier, list[int]]:
    """The measured frontier without dominated subnets, and the number of each in the study."""
    every = Frontier(study.profile.accuracy, study.profile.latency)
    best = every.pareto()
    number = [
        next(k for k in range(len(every)) if every.accuracy[k] == a and np.array_equal(every.latency[k], row))
        for a, row in zip(best.accuracy, best.latency, strict=True)
    ]
    return best, number


def simulated(frontier: Frontier, load: float, requests: int, seed: int) -> dict[str, OneShotTrace]:
    """Policies on the measured frontier, on the same bursts, at a limit of 1.5 times the slowest batch of 8."""
    slo = 1.5 * float(frontier.latency[:, min(7, frontier.largest_batch - 1)].max())
    rate = load * float(frontier.capacity(slo, SERVERS).max())
    bursts = Superposed((Deterministic(0.25 * rate), Gamma(0.75 * rate, CV)))
    arrivals = Requests.within(bursts.times(requests, np.random.default_rng(seed)), slo)
    pool = Pool(frontier.seconds, SERVERS, frontier.accuracy)
    policies: dict[str, OneShotPolicy] = {
        "SlackFit": SlackFit(),
        "SlackFit, 3 buckets": SlackFit(buckets=3),
        "MaxBatch": MaxBatch(),
        "MaxAccuracy": MaxAccuracy(),
        "Clipper+, smallest": Clipper(0),
        "Clipper+, largest": Clipper(len(frontier) - 1),
    }
    return {name: serve(arrivals, pool, policy) for name, policy in policies.items()}


def executed(study: Study, number: Sequence[int], trace: OneShotTrace, batches: int) -> tuple[float, float]:
    """Run evenly spaced batches of the trace on the network: (error of their sum, median error of one), relative."""
    chosen = np.unique(np.linspace(0, len(trace.begin) - 1, batches).astype(int))
    took = np.array([study.execute(number[int(trace.config[b])], int(trace.count[b])) for b in chosen])
    stated = trace.end[chosen] - trace.begin[chosen]
    return float(stated.sum() / took.sum() - 1), float(np.median(np.abs(stated / took - 1)))


def run(
    quick: bool = False,
    out: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Train, measure, simulate and execute; `out` is the folder of plot and profile, not kept without it.

    Errors: ValueError if torch or scikit-learn is missing.
    """
    del workers  # measured times want a single process
    try:
        from gpu.supernet import Architecture
        from gpu.supernet_training import study as studied

        channels, epochs = ((16, 32), 3) if quick else ((32, 64), 5)
        began = time.perf_counter()
        study = studied(
            Architecture(channels, (3, 3)), epochs=epochs, repeats=5 if quick else 15, progress=progress
        )
    except ImportError as error:
        raise ValueError(f"{error}; pip install 'tandem-queueing[gpu,serverless]'") from None
    frontier, number = frontier_of(study)
    policies: Table = []
    runs: list[dict[str, OneShotTrace]] = []
    for load in LOADS:
        served = [simulated(frontier, load, REQUESTS[quick], seed) for seed in SEEDS]
        runs = served if load == JUDGED else runs
        for name in served[0]:
            met = over_seeds([metrics.attainment(traces[name]) for traces in served])
            worth = over_seeds([metrics.mean_value(traces[name]) for traces in served])
            policies.append(
                {"load": load, "policy": name,
                 "attainment": met[0], "attainment low": met[1], "attainment high": met[2],
                 "accuracy": worth[0], "accuracy low": worth[1], "accuracy high": worth[2]}
            )  # fmt: skip
    total, single = executed(study, number, runs[0]["SlackFit"], EXECUTED[quick])
    subnets: Table = [
        {
            "subnet": f"{subnet.depth[0]} blocks, width {subnet.width:g}",
            "accuracy": study.profile.accuracy[k],
            "with statistics of the largest": study.borrowed[k],
            "ms, batch of 1": 1e3 * study.profile.latency[k][0],
            "ms, batch of 16": 1e3 * study.profile.latency[k][-1],
            "on the frontier": "yes" if k in number else "",
        }
        for k, subnet in enumerate(study.subnets)
    ]
    mean_borrowed = statistics.fmean(study.borrowed[:-1])
    switch, ratio = study.switching, study.shared / study.one
    exact = (-np.inf, np.inf)
    rows = [
        Row("time to switch a subnet in place, median", "s", 1e-3, switch.actuate, switch.actuate, switch.actuate_p99,
            "reproduced" if switch.actuate_p99 < 1e-3 else "differs"),
        Row("time to load a copy instead, over that", "", None, switch.load / switch.actuate, *exact,
            "not testable here"),
        Row(f"bytes of all {len(study.subnets)} subnets over those of the largest alone", "", None, ratio, *exact,
            "not testable here"),
        Row("bytes of separate networks over those of the supernet", "", 2.6, study.separate / study.shared, *exact,
            "not testable here"),
        Row("mean accuracy of subnets with the largest's statistics", "", 0.10, mean_borrowed, min(study.borrowed[:-1]),
            max(study.borrowed[:-1]), "not testable here"),
        *(_ahead(one, other, runs) for one, other in (
            ("SlackFit", "MaxBatch"), ("SlackFit", "MaxAccuracy"), ("SlackFit, 3 buckets", "MaxBatch"))),
        Row("profiled over executed seconds of SlackFit's batches, less 1", "", None, total, *exact,
            "not testable here"),
    ]  # fmt: skip
    notes = (
        f"trained in {study.training:.0f} CPU seconds on one thread; {len(frontier)} of {len(study.subnets)} subnets "
        "are on the frontier; times are CPU seconds of one thread",
        "published: activation below 1 ms and 2.6 times less memory than four hand-made ResNets, on GPUs; about 10 % "
        "accuracy without SubnetNorm, on ImageNet; other networks and data than here",
        f"median relative error of one executed batch {single:.1%}",
    )
    if out is not None:
        write_atomically(out / "profile.json", profile_json(study, number).encode())
        _plot(out, study, number, policies)
    return Result(
        NAME, time.perf_counter() - began, list(SEEDS), versions(), rows,
        {"subnets": subnets, "policies under bursts": policies}, notes,
    )  # fmt: skip


def _ahead(one: str, other: str, runs: Sequence[dict[str, OneShotTrace]]) -> Row:
    """Attainment of one policy less another's on the same arrivals; published is that the first is ahead."""
    ours, low, high = over_seeds([metrics.attainment(t[one]) - metrics.attainment(t[other]) for t in runs])
    verdict: Verdict = "reproduced" if low >= 0 else "differs" if high < 0 else "not testable here"
    return Row(f"attainment of {one} less that of {other}, load {JUDGED}", "", 0.0, ours, low, high, verdict)


def profile_json(study: Study, number: Sequence[int]) -> str:
    """Return the measured frontier as a JSON object: depth, width, accuracy and seconds per batch of each subnet."""
    chosen = [
        {"depth": study.subnets[k].depth, "width": study.subnets[k].width, "accuracy": study.profile.accuracy[k],
         "latency_s": study.profile.latency[k]}
        for k in number
    ]  # fmt: skip
    return json.dumps({"subnets": chosen}, indent=1)


def _plot(out: Path, study: Study, number: Sequence[int], policies: Table) -> None:
    try:
        with figure(columns=2) as (drawing, axes):
            left, right = axes[0]
            latency = 1e3 * np.array(study.profile.latency)
            worth = np.array(study.profile.accuracy)
            for i, b in enumerate((1, 4, 16)):
                left.plot(
                    latency[number, b - 1], worth[number], color=COLOURS[i], label=f"frontier, batch of {b}"
                )
                left.plot(latency[:, b - 1], worth, MARKERS[i], color=COLOURS[i], markersize=3)
            left.set(xlabel="CPU time of a batch, ms", ylabel="accuracy", title="Measured subnets")
            left.legend()
            for i, row in enumerate(row for row in policies if row["load"] == JUDGED):
                right.errorbar(
                    row["attainment"], row["accuracy"], fmt=MARKERS[i], color=COLOURS[i], label=row["policy"],
                    xerr=row["attainment high"] - row["attainment"], yerr=row["accuracy high"] - row["accuracy"],
                )  # fmt: skip
            right.set(
                xlabel="SLO attainment",
                ylabel="accuracy of those in time",
                title=f"Under bursts, load {JUDGED}",
            )
            right.legend()
            save(drawing, out / "supernet")
    except ValueError:  # without matplotlib there are the tables
        return
