"""A real weight-shared network: what switching its subnets costs, what sharing saves, and SlackFit on its profile.

Residual networks for noisy digits are trained on this processor, from several seeds, all subnets of one in one set of
weights, and measured: the time of a switch in place beside that of loading a copy, bytes beside those of separate
networks, accuracy with and without statistics of its own (SubnetNorm), accuracy and CPU seconds of every subnet and
batch.  The profile goes to SlackFit and its rivals under bursts, simulated; then the batches that SlackFit ran are
executed on the network, and the seconds they take are laid beside the profile's.

A frontier is chosen, and policies decide, by accuracy on validation digits; what is reported is that on test digits.
A seed makes its own split of the digits, noise, first weights and order of training, so that intervals over seeds hold
all of it; where there is one network only, as in the quick run, policies have intervals over its arrivals instead.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policies import Clipper, MaxAccuracy, MaxBatch, SlackFit
from queueing.arrivals import Deterministic, Gamma, Superposed
from queueing.data import Lacking
from queueing.models.supernet import Frontier
from queueing.one_shot import OneShotPolicy, OneShotTrace, Pool, Requests, metrics, serve
from queueing.run import versions
from validation.plots import COLOURS, MARKERS, figure, save
from validation.published import published
from validation.result import Result, Row, Verdict, over_seeds, write_atomically
from validation.verdicts import judge_limit, judge_more

if TYPE_CHECKING:
    from gpu.supernet_training import Study

__all__ = ["NAME", "executed", "frontier_of", "profile_json", "run", "simulated", "tested_accuracy"]

NAME = "supernet"
TRAININGS = {False: 5, True: 1}  # by quick
SEEDS = range(10)  # of arrivals, shared out among the networks
SERVERS = 4
REQUESTS = {False: 20_000, True: 4_000}
LOADS, JUDGED = (0.2, 0.3, 0.45, 0.6, 0.75), 0.45  # of the capacity of the fastest subnet
CV = 8**0.5
EXECUTED = {False: 200, True: 100}  # batches that are run for real, per network

Table = list[dict[str, Any]]
Runs = list[list[dict[str, OneShotTrace]]]  # per network and arrivals, the policies


def frontier_of(study: Study) -> tuple[Frontier, list[int]]:
    """Subnets that no other dominates on the validation digits, and the number of each in the study."""
    return _undominated(study, study.profile.accuracy)


def _undominated(study: Study, accuracy: Sequence[float]) -> tuple[Frontier, list[int]]:
    every = Frontier(accuracy, study.profile.latency)
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


def tested_accuracy(study: Study, number: Sequence[int], trace: OneShotTrace) -> float:
    """Mean test accuracy over the requests in time, of subnets that were chosen by their validation accuracy."""
    judged = Pool(trace.pool.seconds, SERVERS, np.array(study.tested)[list(number)])
    return metrics.mean_value(replace(trace, pool=judged))


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
    began = time.perf_counter()
    studies = _studies(quick, progress)
    chosen = [frontier_of(study) for study in studies]
    shares = np.array_split(np.array(SEEDS), len(studies))
    policies: Table = []
    runs: Runs = []
    for load in LOADS:
        served = [
            [simulated(frontier, load, REQUESTS[quick], int(seed)) for seed in seeds]
            for (frontier, _), seeds in zip(chosen, shares, strict=True)
        ]
        runs = served if load == JUDGED else runs
        for name in served[0][0]:
            met = _over([[metrics.attainment(traces[name]) for traces in of_net] for of_net in served])
            worth = _over(
                [
                    [tested_accuracy(study, number, traces[name]) for traces in of_net]
                    for study, (_, number), of_net in zip(studies, chosen, served, strict=True)
                ]
            )
            policies.append(
                {"load": load, "policy": name,
                 "attainment": met[0], "attainment low": met[1], "attainment high": met[2],
                 "accuracy": worth[0], "accuracy low": worth[1], "accuracy high": worth[2]}
            )  # fmt: skip
    ran = [
        executed(study, number, of_net[0]["SlackFit"], EXECUTED[quick])
        for study, (_, number), of_net in zip(studies, chosen, runs, strict=True)
    ]
    profiled = Row(
        "profiled over executed seconds of SlackFit's batches, less 1", "", None,
        *over_seeds([total for total, _ in ran]), "not testable here",
    )  # fmt: skip
    ahead = [
        _ahead(one, other, runs)
        for one, other in (
            ("SlackFit", "MaxBatch"), ("SlackFit", "MaxAccuracy"), ("SlackFit, 3 buckets", "MaxBatch")
        )
    ]  # fmt: skip
    seconds = [study.training for study in studies]
    notes = (
        f"networks: {len(studies)}, trained in at most {max(seconds):.0f} CPU seconds each, on one thread; subnets on "
        f"their frontiers: {', '.join(str(len(number)) for _, number in chosen)} of {len(studies[0].subnets)}; times "
        "are CPU seconds of one thread",
        "frontiers are chosen on validation digits; accuracies are of test digits",
        "published: activation below 1 ms and 2.6 times less memory than four hand-made ResNets, on GPUs; about 10 % "
        "accuracy without SubnetNorm, on ImageNet; other networks and data than here",
        f"median relative error of one executed batch {statistics.fmean(single for _, single in ran):.1%}",
    )
    if out is not None:
        write_atomically(out / "profile.json", profile_json(studies[0], chosen[0][1]).encode())
        _plot(out, studies, [number for _, number in chosen], policies)
    return Result(
        NAME, time.perf_counter() - began, list(SEEDS), versions(),
        [*_network_rows(studies), *_choice_rows(studies, chosen), *ahead, profiled],
        {"subnets": _subnets(studies, chosen), "policies under bursts": policies}, notes,
    )  # fmt: skip


def _studies(quick: bool, progress: Callable[[int, int], None] | None) -> list[Study]:
    try:
        from gpu.supernet import Architecture
        from gpu.supernet_training import study as studied

        channels, epochs = ((16, 32), 3) if quick else ((32, 64), 4)
        return [
            studied(
                Architecture(channels, (3, 3)), epochs=epochs, repeats=5 if quick else 15, seed=seed,
                progress=progress and partial(_part, progress, seed, TRAININGS[quick]),
            )
            for seed in range(TRAININGS[quick])
        ]  # fmt: skip
    except ImportError as error:
        raise Lacking(f"{error}; pip install 'tandem-queueing[gpu,serverless]'") from None


def _part(progress: Callable[[int, int], None], which: int, parts: int, done: int, total: int) -> None:
    progress(which * total + done, parts * total)


def _over(values: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """(mean, low, high) over networks of means over their arrivals; of a single network, over its arrivals."""
    return over_seeds([statistics.fmean(of_net) for of_net in values] if len(values) > 1 else values[0])


def _network_rows(studies: Sequence[Study]) -> list[Row]:
    """Switching, bytes, and accuracy without statistics of their own."""
    switches = [study.switching for study in studies]
    slowest = max(switch.actuate_p99 for switch in switches)
    first, exact = studies[0], (-math.inf, math.inf)  # bytes are those of the architecture
    switch, separate, borrowed = (
        published(f"supernet: {name}")
        for name in (
            "time to switch",
            "memory of separate networks",
            "accuracy without statistics of its own",
        )
    )
    open_: Verdict = "not testable here"
    return [
        Row("time to switch a subnet in place, mean of medians; from the least to the largest 99th percentile", "s",
            switch.value, statistics.fmean(s.actuate for s in switches), min(s.actuate for s in switches), slowest,
            judge_limit(switch.value or 0.0, slowest, slowest), switch.key),
        Row("time to load a copy instead, over that", "", None, *over_seeds([s.load / s.actuate for s in switches]),
            open_),
        Row(f"bytes of all {len(first.subnets)} subnets over those of the largest alone", "", None,
            first.shared / first.one, *exact, open_),
        Row("bytes of separate networks over those of the supernet", "ratio", separate.value,
            first.separate / first.shared, *exact, open_, separate.key),
        Row("mean accuracy of subnets with the largest's statistics", "1", borrowed.value,
            *over_seeds([statistics.fmean(study.borrowed[:-1]) for study in studies]), open_, borrowed.key),
    ]  # fmt: skip


def _choice_rows(studies: Sequence[Study], chosen: Sequence[tuple[Frontier, list[int]]]) -> list[Row]:
    """What choosing on one split and judging on another shows."""
    ends: list[tuple[float, float]] = []
    optimism: list[float] = []
    kept: list[float] = []
    for study, (frontier, number) in zip(studies, chosen, strict=True):
        tested = np.array(study.tested)
        ends.append((tested[number[0]], tested[number[-1]]))
        optimism.append(float(frontier.accuracy.mean() - tested[number].mean() - _gap(study)))
        again = _undominated(study, study.tested)[1]
        kept.append(len(set(number) & set(again)) / len(number))
    figures = {
        "test accuracy of the least accurate subnet of the frontier": [low for low, _ in ends],
        "test accuracy of the most accurate subnet of the frontier": [high for _, high in ends],
        "what choosing adds: validation less test accuracy of the frontier, less that of all subnets": optimism,
        "share of the frontier that the test digits would have chosen too": kept,
    }
    return [Row(name, "", None, *over_seeds(x), "not testable here") for name, x in figures.items()]


def _gap(study: Study) -> float:
    """How much easier the validation digits are than the test digits, for all subnets alike."""
    return statistics.fmean(study.profile.accuracy) - statistics.fmean(study.tested)


def _subnets(studies: Sequence[Study], chosen: Sequence[tuple[Frontier, list[int]]]) -> Table:
    table: Table = []
    for k, subnet in enumerate(studies[0].subnets):
        tested = over_seeds([study.tested[k] for study in studies])
        latency = np.mean([study.profile.latency[k] for study in studies], axis=0)
        table.append(
            {
                "subnet": f"{subnet.depth[0]} blocks, width {subnet.width:g}",
                "test accuracy": tested[0], "test accuracy low": tested[1], "test accuracy high": tested[2],
                "validation accuracy": statistics.fmean(study.profile.accuracy[k] for study in studies),
                "with statistics of the largest": statistics.fmean(study.borrowed[k] for study in studies),
                "ms, batch of 1": 1e3 * float(latency[0]), "ms, batch of 16": 1e3 * float(latency[-1]),
                "frontiers it is on": sum(k in number for _, number in chosen),
            }
        )  # fmt: skip
    return table


def _ahead(one: str, other: str, runs: Runs) -> Row:
    """Attainment of one policy less another's on the same arrivals; published is that the first is ahead."""
    ours, low, high = _over(
        [[metrics.attainment(t[one]) - metrics.attainment(t[other]) for t in of_net] for of_net in runs]
    )
    quantity = f"attainment of {one} less that of {other}, load {JUDGED}"
    return Row(quantity, "1", 0.0, ours, low, high, judge_more(low, high), "supernet: SlackFit ahead")


def profile_json(study: Study, number: Sequence[int]) -> str:
    """Return a frontier as a JSON object: per subnet depth, width, both accuracies and seconds per batch.

    `accuracy` is what it was chosen by, on validation digits; `test_accuracy` what to expect of it.
    """
    chosen = [
        {"depth": study.subnets[k].depth, "width": study.subnets[k].width, "accuracy": study.profile.accuracy[k],
         "test_accuracy": study.tested[k], "latency_s": study.profile.latency[k]}
        for k in number
    ]  # fmt: skip
    return json.dumps({"subnets": chosen}, indent=1)


def _plot(out: Path, studies: Sequence[Study], numbers: Sequence[Sequence[int]], policies: Table) -> None:
    try:
        with figure(columns=2) as (drawing, axes):
            left, right = axes[0]
            latency = 1e3 * np.mean([study.profile.latency for study in studies], axis=0)
            worth = np.array([study.tested for study in studies])
            often = np.array([sum(k in number for number in numbers) for k in range(worth.shape[1])])
            for i, b in enumerate((1, 4, 16)):
                x, y = latency[:, b - 1], worth.mean(0)
                left.vlines(x, worth.min(0), worth.max(0), color=COLOURS[i], linewidth=0.6)
                left.scatter(
                    x, y, 4 + 20 * often / len(studies), COLOURS[i], MARKERS[i], label=f"batch of {b}"
                )
            left.set(
                xlabel="CPU time of a batch, ms",
                ylabel="test accuracy, range over networks",
                title="Subnets (large: on all frontiers)",
            )
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
