"""The VTC authors' server in the simulator, beside what they measured on it; what the experiments `vtc-…` share.

The engine is S-LoRA on one A10G with Llama-2-7B shapes and 10,000 tokens of KV memory.  By the authors' profile a
batch of decodes takes 16.30 ms + 0.245 ms a request + 2.018 us a token in memory, and prompts take 0.2199 ms a token;
all times K, which is tuned on the run `vtc_overload_multi` and on nothing else, to its total time: 1.092.  Figures are
medians over K from 1.06 to 1.10, with the range: admission comes in waves, and a single run jumps.

What the authors measured stands in the registry (:mod:`validation.published`), to the digits that are quoted.  Requests
of synthetic runs are generated; those of the real ones come with the authors' files, found through TANDEM_DATA, as do
the measured curves of the plots.  A figure agrees if it is within the acceptance limits that were set beforehand:
total time 6 %, mean time to first token 20 % or 0.5 s, Avg Diff 30 % or 15 units, rejections 2.

Source: Ying1123/VTC-artifact (Apache-2.0), one run each.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from policies import Fcfs, Lift, Predictor, Vtc
from queueing import metrics
from queueing.client_patterns import client_pattern
from queueing.data import Lacking, data_folder
from queueing.models.cost_profile import STATED_STEP
from queueing.policy import Policy
from queueing.rate_limit import accepted_within, with_rejected
from queueing.request_log import read_request_log
from queueing.simulator import simulate, versions
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload
from validation import published as registry
from validation.plots import COLOURS, figure, save
from validation.result import Result, Row, Verdict
from validation.verdicts import judge_more
from validation.vtc_figures import Amount, amounts

__all__ = ["FACTORS", "RUNS", "Run", "agrees", "experiment", "figures", "measured", "server", "simulated"]

POOL = 10_000  # tokens
FACTORS = (1.06, 1.07, 1.08, 1.09, 1.10)
SHOWN = 1.09  # K of the plots

FCFS = Fcfs(artifact=True)
VTC = Vtc.as_artifact()
LCF = Vtc.as_artifact(lcf=True)
ORACLE = Vtc.as_artifact(predictor=Predictor.ANNOUNCED)
NOISY = Vtc(lift=Lift.ARTIFACT, predictor=Predictor.NOISY, artifact=True)


@dataclass(frozen=True, slots=True)
class Run:
    """One file of the authors: the scheduler, the pattern of clients (None: the real requests) and how long it lasts.

    `limit`: requests per minute, where they are limited; `bimodal`: Avg Diff jumps between two values and is not held
    to its limit.
    """

    policy: Policy
    pattern: str | None = None
    duration: float | None = None
    limit: int | None = None
    bimodal: bool = False


RUNS: Mapping[str, Run] = {
    "fcfs_real": Run(FCFS),
    "lcf_real": Run(LCF),
    "vtc_real": Run(VTC),
    "vtc_oracle_real": Run(ORACLE),
    "lshare_rpm5_real": Run(FCFS, limit=5),
    "lshare_rpm20_real": Run(FCFS, limit=20),
    "fcfs_overload": Run(FCFS, "overload"),
    "vtc_overload": Run(VTC, "overload", 360.0),
    "vtc_pred_50_overload": Run(NOISY, "overload", 360.0),
    "vtc_overload_multi": Run(VTC, "overload_multi"),
    "vtc_proportional": Run(VTC, "proportional"),
    "fcfs_on_off_less": Run(FCFS, "on_off_less"),
    "vtc_on_off_less": Run(VTC, "on_off_less"),
    "vtc_dist_shift": Run(VTC, "dist_shift", bimodal=True),
    "lcf_dist_shift": Run(LCF, "dist_shift"),
}


class Figures(NamedTuple):
    """Total time (s), mean time to first token (s), Avg Diff (cost/s), rejected requests."""

    total: float
    first_token: float
    difference: float
    rejected: int


def figures(trace: Trace) -> Figures:
    """The four figures of a run or a log, rejected requests left out of all but the last."""
    return Figures(
        float(np.nanmax(trace.requests["finished"])),
        float(np.nanmean(metrics.ttft(trace))),
        metrics.authors_difference(trace).average,
        int(trace.rejected.sum()),
    )


def server(factor: float) -> System:
    """The authors' server, `factor` K times as slow as its profile says."""
    return System(
        STATED_STEP.scaled(factor),
        blocks=POOL,
        block_size=1,
        max_length=POOL,
        max_running=1000,
        watermark=0.0,
        name=f"S-LoRA on an A10G, K = {factor:g}",
    )


def measured(name: str) -> Trace | None:
    """What the authors measured, or None if their files are not there."""
    folder = data_folder()
    path = None if folder is None else folder / "fairness" / f"{name}.csv"
    return read_request_log(path) if path is not None and path.is_file() else None


def requests_of(name: str) -> Workload:
    """The requests of a run, outputs announced: the server's memory rule knows them.

    Raises:
        Lacking: a real run, and the authors' files are not there.
    """
    run = RUNS[name]
    if run.pattern is not None:
        drawn = client_pattern(run.pattern, duration=run.duration)
    else:
        log = measured(name)
        if log is None:
            raise Lacking(
                f"set TANDEM_DATA to a folder that holds fairness/{name}.csv: its requests are real ones"
            )
        q = log.requests
        drawn = Workload(q["arrival"], q["prompt"], q["output"], q["client"])
    return Workload(drawn.arrival, drawn.prompt, drawn.output, drawn.client, predicted=drawn.output)


def simulated(name: str, factor: float) -> Trace:
    """The run in the simulator, with K = `factor`."""
    run, offered = RUNS[name], requests_of(name)
    if run.limit is None:
        return simulate(offered, server(factor), run.policy)
    accepted = accepted_within(offered, run.limit)
    return with_rejected(simulate(offered[accepted], server(factor), run.policy), offered, accepted)


def agrees(quantity: str, theirs: float, ours: float) -> bool:
    """Whether a figure is within the limit for its quantity."""
    off = abs(ours - theirs)
    return {
        "total": off <= 0.06 * theirs,
        "first_token": off <= max(0.2 * theirs, 0.5),
        "difference": off <= max(0.3 * theirs, 15.0),
        "rejected": off <= 2,
    }[quantity]


UNITS = {"total": "s", "first_token": "s", "difference": "cost/s", "rejected": "requests"}
WORDS = {
    "total": "total time",
    "first_token": "mean time to first token",
    "difference": "Avg Diff",
    "rejected": "rejected",
}


def rows_of(
    title: str, name: str, ours: Sequence[Figures], more: Sequence[Mapping[str, Amount]]
) -> Iterator[Row]:
    """Measured beside simulated: a row per judged figure, then one per figure that the registry has besides."""
    judged = {f"{title}: {name}, {WORDS[quantity]}": quantity for quantity in UNITS}
    for key, entry in registry.figures().items():
        if not key.startswith(f"{title}: {name}, "):
            continue
        assert entry.value is not None
        which, quantity = key.partition(": ")[2], judged.get(key)
        verdict: Verdict = "not testable here"
        if quantity is None:
            known = [amounts_of[which.partition(", ")[2]] for amounts_of in more]
            unit, values = known[0].unit, [each.value for each in known]
        else:
            unit, values = UNITS[quantity], [float(getattr(each, quantity)) for each in ours]
        middle = float(np.median(values))
        if quantity is not None and not (quantity == "difference" and RUNS[name].bimodal):
            verdict = "reproduced" if agrees(quantity, entry.value, middle) else "differs"
        yield Row(which, unit, entry.value, middle, min(values), max(values), verdict, key)


def order_rows(title: str, order: Sequence[str], ours: Mapping[str, Sequence[Figures]]) -> Iterator[Row]:
    """That Avg Diff falls from each run to the next, at every K."""
    key = f"{title}: order of Avg Diff"
    for high, low in pairwise(order):
        theirs = [registry.published(f"{title}: {name}, Avg Diff").value or math.nan for name in (high, low)]
        gaps = [a.difference - b.difference for a, b in zip(ours[high], ours[low], strict=True)]
        least, most = float(np.min(gaps)), float(np.max(gaps))
        quantity = f"Avg Diff of {high} less that of {low}"
        yield Row(quantity, "cost/s", theirs[0] - theirs[1], float(np.median(gaps)), least, most,
                  judge_more(least, most), key)  # fmt: skip


def experiment(
    title: str,
    names: Sequence[str],
    order: Sequence[str],
    quick: bool,
    out: Path | None,
    progress: Callable[[int, int], None],
) -> Result:
    """Run the files `names`; `order` of them must have falling Avg Diff; write the plots into `out` if it is given."""
    began = time.perf_counter()
    factors = (SHOWN,) if quick else FACTORS
    ours: dict[str, list[Figures]] = {}
    rows: list[Row] = []
    for k, name in enumerate(names):
        ours[name], more = [], []
        for j, factor in enumerate(factors):
            trace = simulated(name, factor)
            ours[name].append(figures(trace))
            more.append(amounts(trace))
            progress(k * len(factors) + j + 1, len(names) * len(factors))
        rows += rows_of(title, name, ours[name], more)
    rows += order_rows(title, order, ours)
    table: list[Mapping[str, Any]] = [
        {"run": name, "K": factor, **each._asdict()}
        for name in names
        for factor, each in zip(factors, ours[name], strict=True)
    ]
    notes = [
        "ranges are over K, not confidence intervals; each measured figure is of one run",
        "judged are total time, mean time to first token, Avg Diff and rejections, for which limits were set "
        "beforehand; all other figures are shown",
    ]
    result = Result(title, time.perf_counter() - began, [], versions(), rows, {"runs": table}, notes)
    if out is not None:
        plots(title, names, {name: measured(name) for name in names}, out)
    return result


def plots(title: str, names: Sequence[str], logs: Mapping[str, Trace | None], out: Path) -> None:
    """Accumulated difference of service, and response times of the clients that send most, measured and simulated."""
    at = np.arange(30.0, 600.0, 15.0)
    with figure(columns=len(names), rows=2, width=3.6, height=2.8) as (drawing, axes):
        for column, name in enumerate(names):
            ours, log = simulated(name, SHOWN), logs[name]
            top, bottom = axes[0][column], axes[1][column]
            top.plot(at, metrics.accumulated_gap(ours, at), color=COLOURS[1], label="simulated")
            if log is not None:
                top.plot(at, metrics.accumulated_gap(log, at), color=COLOURS[0], label="measured")
            top.set(title=name, ylabel="accumulated difference (cost)" if column == 0 else "")
            top.legend()
            ids, sent = np.unique(ours.requests["client"], return_counts=True)
            for k, client in enumerate(ids[np.argsort(-sent)][:3]):
                where = np.searchsorted(ids, client)
                for trace, style in ((ours, "--"), (log, "-")):
                    if trace is not None:
                        seconds = metrics.response_time(trace, at, at + 60.0)[:, where]
                        bottom.plot(
                            at,
                            seconds,
                            style,
                            color=COLOURS[k + 1],
                            label=f"client {client}" if style == "--" else None,
                        )
            bottom.set(xlabel="time (s)", ylabel="response time (s)" if column == 0 else "")
            bottom.legend()
        save(drawing, out / title)
