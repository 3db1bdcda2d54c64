"""A real run of vLLM, request by request, predicted by the simulator with a composed iteration time.

300 ShareGPT requests at about 10 per second on one RTX PRO 6000, Llama-3.1-8B in bf16, vLLM 0.19.0: decodes first, then
prompts in order of arrival up to 2,048 tokens an iteration, at most 128 requests at once, which is :class:`Sarathi`
with that token budget.  Simulated on the measured arrivals and lengths; compared per request are the time to first
token (from arrival) and the mean gap between tokens, (last - first)/(output - 1).

Three iteration times, all of the same published kernel tables (:mod:`queueing.models.gpu_tables`):

 *  the tables alone, and the tables with the floor of the elementwise kernels: nothing is fitted;
 *  one constant c per iteration more, for what the tables leave out (launches, scheduler, sampling, an older software
    stack), taken from the mean gaps of the requests that *ended* in the first 24 s.  It is then judged on the requests
    whose *first* token came later, of which the calibration saw no stamp.

The run has 128 requests running from about 12 s to 50 s, and waits of up to 20 s: time to first token is what all the
iterations before it took, less the arrival, so that an error of 1 % in every iteration is one of about 3 % there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from policies import Sarathi
from queueing.data import Lacking, data_folder
from queueing.models import gpu_tables
from queueing.models.gpu_tables import Composition
from queueing.models.iteration_time import IterationTime
from queueing.simulator import simulate, versions
from queueing.system import System
from queueing.tabular import read_table, replacing
from queueing.workload import Workload
from validation.plots import COLOURS, figure, save
from validation.published import published
from validation.result import Result, Row, Verdict, write_atomically

__all__ = [
    "CUT",
    "LIMIT",
    "NAME",
    "Served",
    "calibrated",
    "compared",
    "measured",
    "predicted",
    "run",
    "server",
    "tables_alone",
    "with_floor",
]

NAME = "vllm-run"
RUN = "measured/vllm_rtxpro6000_llama31_8b/requests.csv"
SHA256 = "21270a7f2dafdb8b12e56235153b37ce2704a2eae6b314a96fc353564040e4ee"
GPU, MODEL = "rtx-pro-6000", "llama-3-8b"
BUDGET, MOST_RUNNING, CONTEXT = 2048, 128, 131_072  # of the run's engine, and of the model
LIMIT = 0.15  # relative error of a median that counts as reproduced
CUT = 24.0  # s: requests that end before it calibrate, requests that start after it judge
CONTROLS = ("h100", "l40s")  # GPUs whose tables must do worse, with a constant of their own
BOOTSTRAPS = 2000
SLOWEST = 0.05  # s per iteration, the largest constant that is tried

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """Requests of a run in order of arrival: lengths (tokens) and times (s), each of shape [requests]."""

    workload: Workload
    first_token: Floats
    last_token: Floats

    @property
    def ttft(self) -> Floats:
        """Time to first token, from arrival."""
        return self.first_token - self.workload.arrival

    @property
    def itl(self) -> Floats:
        """Mean gap between the tokens of a request; every request of this run has many."""
        return (self.last_token - self.first_token) / (self.workload.output - 1)


def measured() -> Served:
    """The run as it was measured.

    Raises:
        Lacking: the folder TANDEM_DATA does not hold it.
        ValueError: it holds another file under its name.
    """
    folder = data_folder()
    if folder is None or not (folder / RUN).is_file():
        raise Lacking(f"set TANDEM_DATA to a folder that holds {RUN} to compare with the run of vLLM")
    found = hashlib.sha256((folder / RUN).read_bytes()).hexdigest()
    if found != SHA256:
        raise ValueError(f"{folder / RUN} has sha256 {found}, expected {SHA256}; get the run again")
    table = read_table(folder / RUN)
    arrival, first, last = (
        np.array(table.numbers(name)) for name in ("arrival_s", "first_token_s", "last_token_s")
    )
    prompt, output = (np.array(table.numbers(name), np.int64) for name in ("input_tokens", "output_tokens"))
    return Served(Workload(arrival, prompt, output), first, last)


def server(law: IterationTime) -> System:
    """The engine of the run: KV memory by the package's sizes of the card, where it does not bind."""
    blocks = gpu_tables.hardware(GPU).kv_blocks(gpu_tables.composition(GPU, MODEL).model)
    return System(law, blocks, max_length=CONTEXT, max_running=MOST_RUNNING, name=f"{MODEL}/{GPU}")


def predicted(workload: Workload, law: IterationTime) -> Served:
    """The same requests, simulated."""
    policy = Sarathi(token_budget=BUDGET, max_num_seqs=MOST_RUNNING)
    requests = simulate(workload, server(law), policy).requests
    return Served(workload, requests["first_token"], requests["last_token"])


def tables_alone(gpu: str = GPU) -> Composition:
    """Iteration time by the kernel tables, nothing added."""
    return gpu_tables.composition(gpu, MODEL)


def with_floor(gpu: str = GPU) -> Composition:
    """The tables, and the floor of elementwise kernels by the data sheet."""
    return tables_alone(gpu).with_overheads(per_token=gpu_tables.elementwise_floor(gpu, MODEL))


def calibrated(run: Served, gpu: str = GPU, until: float = CUT) -> Composition:
    """The tables, the floor, and the constant per iteration that the gaps of the requests ended by `until` (s) ask for.

    The sum of squared relative errors of their mean gaps is least.  No stamp after `until` is read.

    Raises:
        ValueError: no request ended by then.
    """
    ended = run.last_token < until
    if not ended.any():
        raise ValueError(f"no request of the run ended before {until} s; calibrate on a longer part of it")
    base = with_floor(gpu)

    def off(constant: float) -> float:
        law = base.with_overheads(per_iteration=constant, per_token=base.params.per_token)
        return float(np.sum((predicted(run.workload, law).itl[ended] / run.itl[ended] - 1.0) ** 2))

    found: Any = minimize_scalar(off, bounds=(0.0, SLOWEST), method="bounded", options={"xatol": 1e-6})
    return base.with_overheads(per_iteration=float(found.x), per_token=base.params.per_token)


def compared(ours: Floats, theirs: Floats) -> tuple[float, float, float]:
    """Median of ours over median of theirs, with its 95 % interval by resampling requests in pairs."""
    rng = np.random.default_rng(0)
    picked = rng.integers(ours.size, size=(BOOTSTRAPS, ours.size))
    ratios = np.median(ours[picked], axis=1) / np.median(theirs[picked], axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(np.median(ours) / np.median(theirs)), float(low), float(high)


def run(
    quick: bool = False,
    out: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Run the experiment in this process; write plots, a table of requests and the JSON object into `out`."""
    del quick, workers
    began = time.perf_counter()
    real = measured()
    laws = {
        "tables alone": tables_alone(),
        "with elementwise floor": with_floor(),
        "and one constant": calibrated(real),
    }
    everyone, later = np.ones(real.ttft.size, np.bool_), real.first_token >= CUT
    rows: list[Row] = []
    table: list[dict[str, Any]] = []
    ours: dict[str, Served] = {}
    for name, law in laws.items():
        ours[name] = predicted(real.workload, law)
        judged = {"all": everyone} if law.params.per_iteration == 0 else {"unseen": later, "all": everyone}
        for which, picked in judged.items():
            for quantity in ("ttft", "itl"):
                a, b = (getattr(side, quantity)[picked] for side in (ours[name], real))
                rows.append(_row(quantity, name, f"{which} {picked.sum()} requests", a, b))
                table.append(_entry(name, which, quantity, a, b))
        progress(len(ours), len(laws) + len(CONTROLS))
    for k, gpu in enumerate(CONTROLS):
        other = predicted(real.workload, calibrated(real, gpu))
        for quantity in ("ttft", "itl"):
            a, b = (getattr(side, quantity)[later] for side in (other, real))
            table.append(_entry(f"control: tables of {gpu}, one constant", "unseen", quantity, a, b))
        progress(len(ours) + k + 1, len(laws) + len(CONTROLS))
    constant = laws["and one constant"].params
    ended = int(np.sum(real.last_token < CUT))
    notes = [
        f"elementwise floor {1e6 * constant.per_token:.2f} us a token; constant "
        f"{1e3 * constant.per_iteration:.2f} ms an iteration, from the {ended} requests that ended before {CUT:g} s",
        "unseen: requests whose first token came later; intervals resample requests, which are not independent",
    ]
    result = Result(NAME, time.perf_counter() - began, [0], versions(), rows, {"per request": table}, notes)
    if out is not None:
        _write(real, ours, out)
        write_atomically(out / f"{NAME}.json", result.to_json().encode())
    return result


def _entry(name: str, which: str, quantity: str, ours: Floats, theirs: Floats) -> dict[str, Any]:
    """Medians, and errors request by request."""
    off = 100 * np.abs(ours / theirs - 1.0)
    return {
        "iteration time": name,
        "requests": which,
        "quantity": quantity,
        "measured median, s": float(np.median(theirs)),
        "predicted": float(np.median(ours)),
        "error per request, median %": float(np.median(off)),
        "p90 %": float(np.quantile(off, 0.9)),
    }


def _row(quantity: str, law: str, which: str, ours: Floats, theirs: Floats) -> Row:
    """Verdict by the whole interval of the ratio of medians."""
    ratio, low, high = compared(ours, theirs)
    key = f"{NAME}: median {quantity}, {which}"
    median = published(key).value
    assert median is not None
    verdict: Verdict = "not testable here"
    if low >= 1 - LIMIT and high <= 1 + LIMIT:
        verdict = "reproduced"
    elif high < 1 - LIMIT or low > 1 + LIMIT:
        verdict = "differs"
    name = f"median {quantity}, {law}, {which} (limit {LIMIT:.0%})"
    return Row(name, "s", median, ratio * median, low * median, high * median, verdict, key)


def _write(real: Served, ours: dict[str, Served], out: Path) -> None:
    """A CSV file of every request, and the figures."""
    columns: dict[str, Any] = {
        "arrival_s": real.workload.arrival,
        "prompt_tokens": real.workload.prompt,
        "output_tokens": real.workload.output,
    }
    for name, side in {"measured": real, **ours}.items():
        columns |= {f"ttft_s {name}": side.ttft, f"itl_s {name}": side.itl}
    with replacing(out / "requests.csv") as file:
        file.write(",".join(columns) + "\n")
        for values in zip(*columns.values(), strict=True):
            file.write(",".join(f"{value:.6g}" for value in values) + "\n")
    with figure(columns=2) as (drawing, axes):
        for ax, quantity, title in zip(
            axes[0], ("ttft", "itl"), ("Time to first token", "Mean gap between tokens"), strict=True
        ):
            ax.plot(real.workload.arrival, getattr(real, quantity), ".", color="grey", label="measured")
            for k, (name, side) in enumerate(ours.items()):
                ax.plot(
                    real.workload.arrival, getattr(side, quantity), "-", color=COLOURS[k + 1], linewidth=1, label=name
                )  # fmt: skip
            ax.set(title=title, xlabel="arrival (s)", ylabel=f"{quantity} (s)", ylim=(0, None))
        axes[0][0].legend(fontsize=7)
        save(drawing, out / "requests")
