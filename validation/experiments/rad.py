"""RAD on its tile model: the bound that nobody passes, cycles of N prompts, ragged prompts, and budgets off the tile.

Published (arXiv 2508.01002, from a secondary source): T(n) = τ⌈n/b⌉ + δn, and no scheduler carries λ·dbar > g, dbar =
E[(v_p + v_d)·w], w = τ/b + δ; RAD is positive recurrent whenever λ·dbar < g.  On the instance b = 128, τ = 4 ms,
δ = 5 µs, v_p = 128·U{1..8}, v_d = min(1 + ⌊Exp(200)⌋, 512) a simulator of others completed 1987 of 2013 and 2971 of
3000 requests in 100 s at 20 and 30 requests/s.  How close to the bound RAD is stable, and what others carry, is in the
experiment `edge`; here, with endless work where no load is named:

*Two sides.*  Growth of the backlog at 0.9 and 1.1 of the bound; each verdict errs with probability 0.001.
*Cycles.*  1/(dbar + E[w_N]/N) requests/s, E[w_N] = τ(E[max of N outputs] - N·E[v_d]/b) for N <= b, and at most V =
512·τ(1 - 1/b) for every N (docs/models/stability.md; our derivation).
*Ragged prompts.*  Uniform in 1..1024 tokens, RAD pays whole tiles for their ends: 1/(τ·E⌈v_p/b⌉ + δ·E[v_p] + w·E[v_d]).
Sarathi-Serve, whose batches mix, fills them.
*Budgets.*  Sarathi-Serve with budget B carries B/T(B) tokens/s, the staircase of the tiles.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies import Rad, Sarathi
from queueing.arrivals import Poisson
from queueing.metrics import growth_test
from queueing.models.iteration_time import TileLaw
from queueing.policy import Policy
from queueing.simulator import simulate, versions
from queueing.system import ENDLESS, System
from queueing.workload import Workload
from validation.executors import in_order
from validation.plots import COLOURS, MARKERS, figure, save
from validation.published import published
from validation.result import Result, Row, over_seeds, write_atomically
from validation.saturation import saturate
from validation.verdicts import judge, judge_between, judge_growth, judge_limit

__all__ = [
    "CYCLES",
    "NAME",
    "Carries",
    "Fed",
    "Timed",
    "bound",
    "cycle_rates",
    "ragged_rate",
    "run",
    "staircase",
]

NAME = "rad"
TILE, TAU, DELTA, LONGEST = 128, 4e-3, 5e-6, 512
PRICE = TAU / TILE + DELTA  # w, s per token
SYSTEM = System(
    TileLaw(TILE, TAU, DELTA),
    ENDLESS,
    max_length=ENDLESS,
    max_running=2**20,
    last_chunk_emits=False,
    name="tiles",
)
CYCLES = (32, 64, 128, 512, 2048, math.inf)
BUDGETS = (64, 96, 120, 128, 129, 160, 192, 240, 256, 257, 320, 384)
BELOW, ABOVE = 0.9, 1.1
SMALL = 0.03  # growth, as a share of the arrivals, that counts as none
SECONDS = 100.0  # of the runs of others
OTHERS = (20, 30)  # requests/s
REQUESTS = {False: 200_000, True: 40_000}  # by quick
SATURATED = {False: 20_000, True: 8_000}
SEEDS = {False: 8, True: 3}
ROUNDING = 0.5  # requests/s: to which the bound is quoted
SLACK = 0.005  # of a rate in requests/s: outputs in the middle of a run that end with it

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def lengths(n: int, rng: np.random.Generator, ragged: bool = False) -> tuple[Ints, Ints]:
    """Prompts and outputs of the instance; ragged, prompts uniform in 1..1024."""
    prompt = rng.integers(1, 1025, n) if ragged else TILE * rng.integers(1, 9, n)
    return prompt, np.minimum(1 + np.floor(rng.exponential(200, n)), LONGEST).astype(int)


def survival() -> Floats:
    """P(v_d >= k), k = 1..512."""
    return np.exp(-np.arange(LONGEST) / 200)


def mean_tokens(ragged: bool = False) -> float:
    """E[v_p + v_d]."""
    return (512.5 if ragged else 4.5 * TILE) + float(survival().sum())


def bound() -> float:
    """1/dbar, requests/s."""
    return 1 / (PRICE * mean_tokens())


def cycle_rates(cycle: float) -> tuple[float, float]:
    """Least and largest rate of cycles of N prompts that the theory leaves, requests/s; equal for N <= b."""
    if math.isinf(cycle):
        return bound(), bound()
    if cycle <= TILE:
        longest = float((1 - (1 - survival()) ** cycle).sum())
        waste = TAU * (longest - cycle * float(survival().sum()) / TILE)
        rate = 1 / (1 / bound() + waste / cycle)
        return rate, rate
    most = LONGEST * TAU * (1 - 1 / TILE)
    return 1 / (1 / bound() + most / cycle), bound()


def ragged_rate() -> float:
    """Requests/s of RAD with ragged prompts."""
    tiles = 4.5  # E⌈v_p/b⌉, v_p uniform in 1..8b
    return 1 / (TAU * tiles + DELTA * 512.5 + PRICE * float(survival().sum()))


def staircase(budget: int) -> float:
    """B/T(B), tokens/s."""
    return budget / (TAU * -(-budget // TILE) + DELTA * budget)


class Carries(NamedTuple):
    """A policy with endless work."""

    policy: Policy
    ragged: bool
    seed: int
    requests: int

    def record(self) -> dict[str, Any]:
        """Tokens per second."""
        prompt, output = lengths(self.requests, np.random.default_rng(self.seed), self.ragged)
        return {
            "name": self.policy.name,
            "ragged": self.ragged,
            "tokens": saturate(SYSTEM, self.policy, prompt, output).tokens,
        }


class Fed(NamedTuple):
    """RAD at a share of the bound."""

    load: float
    requests: int

    def record(self) -> dict[str, Any]:
        """Growth of the backlog as a share of the arrivals, and the share of batches that are full or all-decode."""
        rng = np.random.default_rng(0)
        rate = self.load * bound()
        prompt, output = lengths(self.requests, rng)
        arrival = np.array(Poisson(rate).times(self.requests, rng))
        end = float(arrival[-1])
        trace = simulate(Workload(arrival, prompt, output), SYSTEM, Rad(), horizon=end)
        found = growth_test(trace, start=0.1 * end)
        its = trace.iterations
        allowed = (its["prefill"] == 0) | ((its["prefill"] == TILE) & (its["decodes"] == 0))
        served = float((its["prefill"] + its["decodes"]).sum())
        return {
            "load": self.load,
            "growth": found.rate.value / rate,
            "low": found.rate.low / rate,
            "high": found.rate.high / rate,
            "grows": found.grows,
            "stable": found.grows_less_than(SMALL),
            "allowed": float(allowed.mean()),
            "price": served * PRICE / float(its["seconds"].sum()),
        }


class Timed(NamedTuple):
    """The run of others: 100 s from empty."""

    rate: float
    seed: int

    def record(self) -> dict[str, Any]:
        """Percent of the requests that are done when the time is over."""
        rng = np.random.default_rng(self.seed)
        arrival = np.array(Poisson(self.rate).times(int(2 * self.rate * SECONDS), rng))
        arrival = arrival[arrival < SECONDS]
        trace = simulate(Workload(arrival, *lengths(len(arrival), rng)), SYSTEM, Rad(), horizon=SECONDS)
        return {"rate": self.rate, "done": 100 * float(trace.finished.mean())}


def _jobs(quick: bool) -> list[Carries | Fed | Timed]:
    count, seeds = SATURATED[quick], range(SEEDS[quick])
    jobs: list[Carries | Fed | Timed] = [Fed(load, REQUESTS[quick]) for load in (BELOW, ABOVE)]
    jobs += [Timed(rate, seed) for rate in OTHERS for seed in range(5 * SEEDS[quick])]
    jobs += [Carries(Rad(cycle=cycle), False, seed, count) for cycle in CYCLES for seed in seeds]
    jobs += [Carries(policy, True, seed, count) for policy in (Rad(), _sarathi(TILE)) for seed in seeds]
    return jobs + [Carries(_sarathi(budget), False, 0, count // 2) for budget in BUDGETS]


def _sarathi(budget: int) -> Sarathi:
    return Sarathi(budget, max_num_seqs=4096)


def run(
    quick: bool = False,
    out: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Run the experiment; write plots and the JSON object into `out` if it is given."""
    began = time.perf_counter()
    jobs = _jobs(quick)
    done = in_order(methodcaller("record"), jobs, workers=workers, progress=progress)

    def tokens(policy: Policy, ragged: bool = False) -> list[float]:
        return [r["tokens"] for r in done if r.get("name") == policy.name and r["ragged"] == ragged]

    fed = [r for r in done if "growth" in r]
    cycles: list[dict[str, Any]] = []
    for cycle in CYCLES:
        value, low, high = over_seeds([x / mean_tokens() for x in tokens(Rad(cycle=cycle))])
        least, most = cycle_rates(cycle)
        cycles.append({"N": cycle, "least": least, "most": most, "carried": value, "low": low, "high": high})
    budgets = [{"B": b, "theory": staircase(b), "carried": tokens(_sarathi(b))[0]} for b in BUDGETS]
    rows = [*_growth_rows(fed), *_timed_rows(done), *_cycle_rows(cycles), *_ragged_rows(tokens)]
    rows += [_budget_row(budgets), _bound_row()]
    notes = [
        f"bound {bound():.3f} requests/s, {1 / PRICE:,.0f} tokens/s; a backlog below {SMALL:.0%} of the arrivals "
        "counts as none",
        f"rates in requests/s are tokens/s over {mean_tokens():.2f} tokens a request",
    ]
    tables = {"growth": fed, "cycles of N prompts (requests/s)": cycles, "budgets (tokens/s)": budgets}
    seeds = list(range(SEEDS[quick]))
    result = Result(NAME, time.perf_counter() - began, seeds, versions(), rows, tables, notes)
    if out is not None:
        plots(cycles, budgets, out)
        write_atomically(out / f"{NAME}.json", result.to_json().encode())
    return result


def _budget_row(budgets: Sequence[Mapping[str, Any]]) -> Row:
    off = float(np.max([abs(e["carried"] / e["theory"] - 1) for e in budgets]))  # nan if one of them is
    text = f"largest deviation from B/T(B) over {len(budgets)} budgets of Sarathi-Serve (theory: none)"
    return Row(text, "percent", None, 100 * off, 100 * off, 100 * off, judge_limit(1e-6, off, off))


def _bound_row() -> Row:
    key = f"{NAME}: bound of the tile instance"
    claimed, value = published(key).value, bound()
    verdict = judge(claimed, value - ROUNDING, value + ROUNDING)
    text = "bound of the tile instance (to whole requests/s)"
    return Row(text, "requests/s", claimed, value, value, value, verdict, key)


def _growth_rows(fed: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    for r in fed:
        grows = r["load"] > 1
        key = f"{NAME}: converse" if grows else f"{NAME}: throughput-optimal"
        text = f"growth at {r['load']:g} of the bound (theory: {'grows' if grows else 'does not grow'})"
        value, low, high = (100 * r[name] for name in ("growth", "low", "high"))
        yield Row(text, "percent of the arrivals", None, value, low, high, judge_growth(r, grows), key)
    full = 100 * float(np.min([r["allowed"] for r in fed]))
    text = "batches that are one full chunk or decodes alone (theory: all)"
    yield Row(text, "percent", None, full, full, full, judge(100, full, full))
    used = 100 * float(np.max([r["price"] for r in fed]))
    text = "tokens served times w over busy time (theory: at most 100)"
    yield Row(text, "percent", None, used, used, used, judge_limit(100 + 1e-9, used, used))


def _timed_rows(done: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    for rate in OTHERS:
        values = [r["done"] for r in done if r.get("rate") == rate]
        value, low, high = over_seeds(values)
        key = f"{NAME}: done in 100 s at {rate} requests/s"
        claimed = published(key).value
        # theirs is one run, so it may lie where single runs of ours do
        verdict = judge(claimed, float(np.min(values)), float(np.max(values)))
        text = f"requests done in {SECONDS:g} s at {rate} requests/s (verdict: range of single runs)"
        yield Row(text, "percent", claimed, value, low, high, verdict, key)


def _cycle_rows(cycles: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    for e in cycles:
        least, most = (1 - SLACK) * e["least"], (1 + SLACK) * e["most"]
        verdict = judge_between(least, most, e["low"], e["high"])
        said = f"{e['most']:.2f}" if e["least"] == e["most"] else f"{e['least']:.2f} to {e['most']:.2f}"
        text = f"rate with cycles of {e['N']:g} prompts (theory: {said})"
        yield Row(text, "requests/s", None, e["carried"], e["low"], e["high"], verdict)


def _ragged_rows(tokens: Callable[[Policy, bool], list[float]]) -> Iterator[Row]:
    for policy, theory in ((Rad(), ragged_rate()), (_sarathi(TILE), 1 / (PRICE * mean_tokens(True)))):
        value, low, high = over_seeds([x / mean_tokens(True) for x in tokens(policy, True)])
        verdict = judge(theory, (1 - SLACK) * low, (1 + SLACK) * high)
        text = f"rate with ragged prompts, {type(policy).__name__} (theory: {theory:.2f})"
        yield Row(text, "requests/s", None, value, low, high, verdict)


def plots(cycles: Sequence[Mapping[str, Any]], budgets: Sequence[Mapping[str, Any]], out: Path) -> list[Path]:
    """Draw the rate by cycle and the rate by budget: theory as lines, simulation on them."""
    with figure(columns=2) as (drawing, axes):
        left, right = axes[0]
        n = np.unique(np.geomspace(16, 4096, 200).astype(int))
        lines = np.array([cycle_rates(int(k)) for k in n])
        left.plot(n, lines[:, 0], color="black", linewidth=1, label="theory: N ≤ b exactly, beyond at least")
        left.axhline(bound(), color="grey", linestyle=":", label="bound")
        here = [e for e in cycles if math.isfinite(e["N"])]
        value = np.array([e["carried"] for e in here])
        errors = [value - [e["low"] for e in here], [e["high"] for e in here] - value]
        left.errorbar([e["N"] for e in here], value, yerr=errors, fmt=MARKERS[0], color=COLOURS[5], markersize=4,
                      capsize=2, label="RAD, endless work")  # fmt: skip
        left.set(title="Cycles of N prompts", xlabel="N", ylabel="rate (requests/s)", xscale="log")
        left.legend(fontsize=7)
        line = np.arange(32, max(BUDGETS) + 1)
        right.plot(
            line, [staircase(int(b)) for b in line], color="black", linewidth=1, label="theory: B/T(B)"
        )
        carried = [e["carried"] for e in budgets]
        right.plot([e["B"] for e in budgets], carried, MARKERS[1], color=COLOURS[4], markersize=4,
                   label="Sarathi-Serve, endless work")  # fmt: skip
        right.axhline(1 / PRICE, color="grey", linestyle=":", label="bound, RAD")
        right.set(title="Budgets on and off the tile", xlabel="token budget B", ylabel="tokens/s")
        right.legend(fontsize=7)
        theory = {"N": n.tolist(), "least": lines[:, 0].tolist(), "bound": bound()}
        return save(drawing, out / "cycles", {"theory": theory, "cycles": cycles, "budgets": budgets})
