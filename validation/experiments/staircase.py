"""The staircase of tiles on each GPU, the batches that the theory chooses on it, and what a budget past an edge costs.

Matrix products work on whole tiles, so the time G(n) of an iteration's n tokens rises in steps.  Published: the chunk
of 257 tokens takes 32 % longer than that of 256 (arXiv 2403.02310), and in the profiles of an A100 one tile more costs
40 % at 128 and 256 tokens and 13 % at 512.

*Steps.*  From every table that is shipped: matrix products or all token-wise kernels, of Llama-2-7B, Llama-3-8B and
Mistral-7B.  The matrix products of the profile are held against the figures that were computed from it.  The 32 % are
held against the range of all tables of an A100: the model and the software behind that figure are not known here.

*Choice.*  The best composition of batches (:mod:`queueing.models.capacity`) for ShareGPT-like requests on each GPU.

*Cost of a budget.*  Batches full to the budget B, of requests with S tokens and attention X seconds in the mean, carry

    λ(B) = 1/(S·G(B)/B + X)      requests per second ,

a sawtooth in B.  Sarathi-Serve with endless work is simulated on both sides of each edge
(:mod:`validation.saturation`); the intervals are Student's t over seeds, each with the same requests for every budget.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies import Sarathi
from queueing.lengths import Moments, ShareGPT
from queueing.models import gpu_tables
from queueing.models.calibrations import matrix_products, tokenwise
from queueing.models.capacity import Capacity
from queueing.models.demand import Demand, Limits, Stairs
from queueing.simulator import versions
from queueing.system import System
from validation.executors import in_order
from validation.plots import COLOURS, MARKERS, figure, save
from validation.published import published
from validation.result import Result, Row, Verdict, over_seeds, write_atomically
from validation.saturation import saturate
from validation.verdicts import judge

__all__ = ["BUDGETS", "NAME", "Saturated", "Staircase", "carried", "chosen", "run", "staircases", "step"]

NAME = "staircase"
LARGEST = 1281  # tokens that are drawn
BUDGET = 2048  # tokens that the theory may choose from
PLACES = 256
PROMPT = 7000  # tokens at which prompts are cut, as in the experiment `edge`
BUDGETS = (120, 128, 136, 192, 248, 256, 264, 384, 392, 512, 520, 640, 760, 776)
EDGES = (128, 256, 512)
REQUESTS = {False: 8_000, True: 3_000}  # by quick
SEEDS = {False: 8, True: 3}
SAMPLE = 60_000  # requests whose moments the theory takes
SIZES = (1, 64, 128, 136, 256, 264, 384, 512, 520, 1024, 2048)  # whose times our own calculation states
DIGIT = 0.05  # ms: to which they are stated
ROUNDING = 0.5  # percent: figures of our own calculation stand in whole ones
SLACK = 0.5  # percent of the rate by which full batches at mean contexts may miss the mean of what runs
A100 = "A100"
PROFILE = "A100, Llama-3-8B, matrix products"

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Staircase:
    """Times of a table: `seconds[i]` at `tokens[i]` in an iteration, increasing, and what was timed."""

    name: str
    gpu: str
    tokens: NDArray[np.int64]
    seconds: Floats

    def ends(self, edge: int) -> tuple[int, int]:
        """The last size up to an edge and the first one past it."""
        past = int(np.searchsorted(self.tokens, edge, side="right"))
        return int(self.tokens[past - 1]), int(self.tokens[past])

    def at(self, tokens: int) -> float:
        """Seconds at a size that was timed."""
        return float(self.seconds[np.searchsorted(self.tokens, tokens)])


def staircases() -> list[Staircase]:
    """Every table that is shipped: profiles of single runs, then the compositions of kernel times."""
    names = {"llama-3-8b": "Llama-3-8B", "llama-2-7b": "Llama-2-7B"}
    found = [(PROFILE, A100, *_points(matrix_products()))]
    for model, hardware in (
        ("llama-3-8b", "a100"),
        ("llama-2-7b", "a100"),
        ("llama-2-7b", "h100"),
        ("llama-2-7b", "a40"),
    ):
        name = f"{hardware.upper()}, {names[model]}, token-wise kernels"
        found.append((name, hardware.upper(), *_points(tokenwise(model, hardware))))
    for gpu in gpu_tables.gpus():
        params = gpu_tables.composition(gpu).params
        found.append((f"{gpu.upper()}, Mistral-7B, composed", gpu.upper(), params.tokens, params.linear))
    return [Staircase(name, gpu, tokens.astype(np.int64), seconds) for name, gpu, tokens, seconds in found]


def _points(measured: Any) -> tuple[Floats, Floats]:
    tokens, first = np.unique(measured.tokens, return_index=True)
    return tokens, measured.seconds[first]


def step(stairs: Staircase, edge: int) -> float:
    """Percent by which the first size past an edge takes longer than the last one up to it."""
    below, above = stairs.ends(edge)
    return 100 * (stairs.at(above) / stairs.at(below) - 1)


@cache
def requests() -> Moments:
    """Moments of the requests."""
    prompt, output = ShareGPT(source="table").sample(SAMPLE, np.random.default_rng(0))
    return Moments.of(np.minimum(prompt, PROMPT), output)


def _system() -> System:
    return dataclasses.replace(System.named("llama-3-8b", "a100"), max_running=PLACES)


def carried(budget: int) -> float:
    """λ(B), requests/s, on the A100 of the simulations; nothing for room that memory or places do not give."""
    params: Any = _system().iteration_time.lower()[1]
    of = requests()
    attention = params.kappa * (of.K - of.S + of.prompt) + params.phi * of.A
    tokens = of.S - 1  # the last chunk emits the first output token
    return 1 / (tokens * params.token_time[budget] / budget + attention)


def chosen(gpu: str) -> list[tuple[int, float]]:
    """Tokens of the best batches on a GPU, and the share of time that each takes, longest first."""
    law: Any = gpu_tables.law(gpu)
    where = gpu_tables.hardware(gpu)
    shape = gpu_tables.composition(gpu).model
    limits = Limits(BUDGET, 16 * where.kv_blocks(shape), PLACES)
    capacity = Capacity(Stairs.of(law.lower()[1], BUDGET), [Demand.of(requests(), 1.0, "chat")], limits)
    return _shares(capacity.boundary().solution.batches, law.lower()[1].token_time)


def _shares(batches: Sequence[tuple[Any, float]], seconds: Floats) -> list[tuple[int, float]]:
    spent: dict[int, float] = {}
    for kind, often in batches:
        spent[kind.tokens] = spent.get(kind.tokens, 0.0) + often * float(seconds[kind.tokens])
    total = sum(spent.values())
    return sorted(((n, share / total) for n, share in spent.items()), key=lambda pair: -pair[1])


class Saturated(NamedTuple):
    """Sarathi-Serve with a token budget and endless work."""

    budget: int
    seed: int
    requests: int

    def record(self) -> dict[str, float]:
        """The rate carried, requests/s."""
        rng = np.random.default_rng(self.seed)
        prompt, output = ShareGPT(source="table").sample(self.requests, rng)
        policy = Sarathi(token_budget=self.budget, max_num_seqs=PLACES)
        return {"carried": saturate(_system(), policy, np.minimum(prompt, PROMPT), output).rate}


def run(
    quick: bool = False,
    out: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Run the experiment; write plots and the JSON object into `out` if it is given."""
    began = time.perf_counter()
    tables = staircases()
    picks = {gpu.upper(): chosen(gpu) for gpu in gpu_tables.gpus()}
    seeds = SEEDS[quick]
    jobs = [Saturated(budget, seed, REQUESTS[quick]) for budget in BUDGETS for seed in range(seeds)]
    records = in_order(methodcaller("record"), jobs, workers=workers, progress=progress)
    found = {job.budget: np.zeros(seeds) for job in jobs}
    for k, job in enumerate(jobs):
        found[job.budget][job.seed] = records[k]["carried"]
    saw = [_saw(budget, rates) for budget, rates in found.items()]
    rows = [*_step_rows(tables), *_budget_rows(found)]
    behind = {
        "steps (percent)": [_entry(stairs) for stairs in tables],
        "chosen batches (share of time)": [
            {"GPU": gpu, **{f"{n} tokens": round(share, 4) for n, share in pick}}
            for gpu, pick in picks.items()
        ],
        "rate carried by budget (requests/s)": saw,
    }
    notes = [
        "chosen batches: the best composition for ShareGPT-like requests under the law fitted to each GPU's tables, "
        f"up to {BUDGET} tokens and {PLACES} decodes",
        f"a loss of rate is reproduced if theory lies within {SLACK:g} of its interval",
        "token-wise kernels hold normalisations and activations too, without steps, which dilute those of the products",
    ]
    result = Result(NAME, time.perf_counter() - began, list(range(seeds)), versions(), rows, behind, notes)
    if out is not None:
        plots(tables, picks, saw, out)
        write_atomically(out / f"{NAME}.json", result.to_json().encode())
    return result


def _saw(budget: int, rates: Floats) -> dict[str, float]:
    value, low, high = over_seeds(list(rates))
    return {"budget": budget, "theory": carried(budget), "carried": value, "low": low, "high": high}


def _entry(stairs: Staircase) -> dict[str, Any]:
    entry: dict[str, Any] = {"table": stairs.name}
    for edge in (64, *EDGES, 768, 1024):
        below, above = stairs.ends(edge)
        entry[f"past {edge}"] = step(stairs, edge) if below == edge else float("nan")
        entry[f"to {edge}"] = above
    return entry


def _step_rows(tables: Sequence[Staircase]) -> Iterator[Row]:
    profile = next(stairs for stairs in tables if stairs.name == PROFILE)
    for edge in EDGES:
        key = f"staircase: one past {edge} tokens"
        value, claimed = step(profile, edge), published(key).value
        quantity = f"{profile.ends(edge)[1]} tokens over {edge}, {PROFILE} (to whole percents)"
        verdict = judge(claimed, value - ROUNDING, value + ROUNDING)
        yield Row(quantity, "percent", claimed, value, value, value, verdict, key)
    measured = matrix_products()
    for n in SIZES:
        key = f"staircase: time of {n} tokens"
        runs, claimed = 1e3 * measured.seconds[measured.tokens == n], published(key).value
        low, high = float(runs.min()), float(runs.max())
        verdict = judge(claimed, low - DIGIT, high + DIGIT)
        quantity = f"{n} tokens, {PROFILE} (to tenths; range: its timings)"
        yield Row(quantity, "ms", claimed, float(runs.mean()), low, high, verdict, key)
    key = "staircase: 257 over 256 tokens"
    claimed = published(key).value
    here = {stairs.name: step(stairs, 256) for stairs in tables if stairs.gpu == A100}
    at = next(name for name in here if "composed" in name)  # the one that was timed at 257 tokens
    low, high = min(here.values()), max(here.values())
    quantity = (
        "257 tokens over 256, A100, Mistral-7B (range: all tables of an A100, others at 264, the same tile)"
    )
    yield Row(quantity, "percent", claimed, here[at], low, high, judge(claimed, low, high), key)
    for stairs in tables:
        if stairs.gpu != A100:
            value = step(stairs, 256)
            quantity = f"{stairs.ends(256)[1]} tokens over 256, {stairs.name}"
            yield Row(quantity, "percent", None, value, value, value, "not testable here")


def _budget_rows(found: Mapping[int, Floats]) -> Iterator[Row]:
    """Per edge, the share of its rate that Sarathi-Serve loses one size past it: theory and simulation, by seed."""
    for edge in EDGES:
        theory = 100 * (1 - carried(edge + 8) / carried(edge))
        value, low, high = over_seeds(list(100 * (1 - found[edge + 8] / found[edge])))
        verdict: Verdict = judge(theory, low - SLACK, high + SLACK)
        quantity = (
            f"rate lost by a budget of {edge + 8} instead of {edge} tokens, A100 (theory: {theory:.1f})"
        )
        yield Row(quantity, "percent", None, value, low, high, verdict)


def plots(
    tables: Sequence[Staircase],
    picks: Mapping[str, Sequence[tuple[int, float]]],
    saw: Sequence[Mapping[str, float]],
    out: Path,
) -> list[Path]:
    """Draw the staircases with the chosen batches on them, and the rate carried by budget."""
    written: list[Path] = []
    gpus = list(dict.fromkeys(stairs.gpu for stairs in tables))
    with figure(columns=4, rows=2, width=3.4, height=2.8) as (drawing, axes):
        for ax, gpu in zip(axes.flat, gpus, strict=False):
            for k, stairs in enumerate(stairs for stairs in tables if stairs.gpu == gpu):
                kept = stairs.tokens <= LARGEST
                what = stairs.name.removeprefix(f"{gpu}, ")
                ax.plot(stairs.tokens[kept], 1e3 * stairs.seconds[kept], color=COLOURS[k + 1], marker=MARKERS[k],
                        markersize=2, linewidth=0.8, label=what)  # fmt: skip
            if gpu in picks:
                stairs = next(stairs for stairs in tables if stairs.gpu == gpu and "composed" in stairs.name)
                for n, share in picks[gpu]:
                    if n <= LARGEST and share > 0.01:
                        ax.axvline(n, color="grey", linestyle=":", linewidth=0.8)
                        ax.plot([n], [1e3 * float(np.interp(n, stairs.tokens, stairs.seconds))], "*", color="black",
                                markersize=9, label=f"chosen: {n} tokens, {share:.0%} of the time")  # fmt: skip
            ax.set(title=gpu, xlabel="tokens in the iteration", ylabel="ms", ylim=(0, None))
            ax.legend(fontsize=5)
        for ax in axes.flat[len(gpus) :]:
            ax.set_visible(False)
        data = {s.name: {"tokens": s.tokens.tolist(), "seconds": s.seconds.tolist()} for s in tables}
        written += save(drawing, out / "steps", {"tables": data, "chosen": picks})
    with figure(width=5.5) as (drawing, axes):
        ax = axes[0][0]
        line = np.arange(64, max(BUDGETS) + 1)
        ax.plot(
            line, [carried(int(b)) for b in line], color="black", linewidth=1, label="theory, full batches"
        )
        values = np.array([record["carried"] for record in saw])
        errors = [values - [r["low"] for r in saw], np.array([r["high"] for r in saw]) - values]
        ax.errorbar([r["budget"] for r in saw], values, yerr=errors, fmt=MARKERS[0], markersize=4, capsize=2,
                    color=COLOURS[5], label="Sarathi-Serve, saturated")  # fmt: skip
        ax.set(title="Llama-3-8B on A100", xlabel="token budget", ylabel="rate carried (requests/s)")
        ax.legend(fontsize=7)
        theory = {"budget": line.tolist(), "rate": [carried(int(b)) for b in line]}
        written += save(drawing, out / "budgets", {"theory": theory, "simulated": saw})
    return written
