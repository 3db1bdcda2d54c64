"""WAIT's fluid point, memory and stability against the policy itself (arXiv 2504.11320).

Published: requests of type j that arrive at λ_j, in iterations of d0 + d1·(tokens held) seconds, have an equilibrium
with n_j = λ_j·τ requests at each stage; a policy that waits for n_j requests of a type loses to the fluid a share of
its throughput that falls like T^(-1/2).  Recalled, with our derivations: docs/models/wait.md.

Held against it, on exactly that law, documents of 200 + 11 tokens and three times as many chats of 40 + 21, at shares
of the largest rates that any policy carries, C/((d0 + d1·C)·Σ λ_j G_j) times theirs:

*Fluid point.*  A node that takes whatever comes has iterations of τ* seconds in the mean.
*Memory.*  With the thresholds of the theory no batch holds more than Σ n_j G_j tokens, and some hold as many.
*Drift.*  With these thresholds the backlog does not grow; with n_j* rounded down it does; beyond the largest rates it
grows under every policy.  Growth tests err with probability 0.001 each.
*Gap.*  One type with λ·τ(n) = n exactly, the fluid's own threshold: its queue is a random walk that is reflected at 0,
so the share of requests not started by T falls like T^(-1/2); one threshold more makes it fall like 1/T.
"""

# The body of the law carries no hints: numba types it by what it is called with.
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies import WHOLE_PROMPT, NestedWait, Sarathi, Wait
from queueing.arrivals import Poisson
from queueing.metrics import growth_test
from queueing.models.iteration_time import Load
from queueing.models.wait import RequestType, fluid_point, largest_scale, thresholds
from queueing.policy import Policy
from queueing.simulator import simulate, versions
from queueing.system import System
from queueing.workload import Workload
from validation.executors import in_order
from validation.plots import COLOURS, MARKERS, figure, save
from validation.published import published
from validation.result import Result, Row, over_seeds, write_atomically
from validation.verdicts import judge, judge_growth, judge_more, judge_share

__all__ = ["BATCHES", "NAME", "Fed", "HeldTokens", "Walk", "run", "slope", "types"]

NAME = "wait"
BASE, PER_HELD, MEMORY = (
    Fraction(1, 100),
    Fraction(1, 2_000_000),
    40_000,
)  # d0 (s), d1 (s per token), C (tokens)
MIX = (RequestType(200, 10, 1), RequestType(40, 20, 3))
OUTPUTS = tuple(t.output + 1 for t in MIX)  # tokens; the prompt emits the first
SHARE, EASY, ABOVE = 0.85, 0.6, 1.05  # of the largest rates
PATIENCE = 1e6  # s, never used up
SMALL = 0.03  # growth, as a share of the arrivals, that counts as none
BATCHES = 10  # threshold of the one type
REQUESTS = {False: 200_000, True: 25_000}  # by quick
WALKS = {False: 60, True: 12}
HORIZONS = {False: (6.25, 12.5, 25, 50, 100), True: (3.125, 6.25, 12.5, 25)}  # s
GAP = "wait: gap to the fluid"

Floats = NDArray[np.float64]


class HeldParams(NamedTuple):
    """Parameters of :class:`HeldTokens`."""

    base: float
    per_held: float


def held_seconds(params, load) -> float:
    """d0 + d1·(tokens held): contexts of the decodes and whole prompts up to their chunk's end."""
    tokens = load.context
    for j in range(load.chunk.size):
        tokens += load.history[j] + load.chunk[j]
    return params.base + params.per_held * tokens


@dataclass(frozen=True, slots=True)
class HeldTokens:
    """WAIT's law of iteration time:  T = d0 + d1·(tokens held by the batch).

    Fields: `base` d0 (s), `per_held` d1 (s per token).
    """

    base: float
    per_held: float

    def lower(self) -> tuple[Any, HeldParams]:
        """The function :func:`held_seconds` and the two numbers."""
        return held_seconds, HeldParams(self.base, self.per_held)

    def __call__(self, load: Load) -> float:
        """Seconds that `load` takes."""
        return float(held_seconds(HeldParams(self.base, self.per_held), load))


LAW = HeldTokens(float(BASE), float(PER_HELD))


def _system(memory: int) -> System:
    return System(LAW, memory, block_size=1, max_length=1024, watermark=0.0, name="held tokens")


def types(share: float) -> list[RequestType]:
    """The two types at a share of the largest rates."""
    scale = largest_scale(MIX, BASE, PER_HELD, MEMORY).stated * Fraction(share).limit_denominator(1000)
    return [t._replace(rate=t.rate * scale) for t in MIX]


def memory_of(n: Sequence[int]) -> int:
    """Σ n_j G_j, tokens."""
    return sum(m * sum(range(t.prompt, t.prompt + t.output + 1)) for m, t in zip(n, MIX, strict=True))


def _policy(name: str) -> Policy:
    many = 2**20
    if name == "Sarathi":
        return Sarathi(many, max_num_seqs=many)
    n = thresholds(types(SHARE), BASE, PER_HELD)
    if name == "NestedWait":
        return NestedWait((sum(n), n[1]), (OUTPUTS[0], OUTPUTS[1]), PATIENCE)
    if name == "WAIT, rounded down":
        point = fluid_point(types(SHARE), BASE, PER_HELD).stated
        n = tuple(max(1, math.floor(x)) for x in point.batch)
    return Wait(n, OUTPUTS, PATIENCE, admission=WHOLE_PROMPT)


class Fed(NamedTuple):
    """A policy at a share of the largest rates."""

    policy: str
    share: float
    requests: int

    def record(self) -> dict[str, Any]:
        """Growth as a share of the arrivals, most tokens held, mean and longest duration of an iteration (s)."""
        rng = np.random.default_rng(0)
        rates = np.array([float(t.rate) for t in types(self.share)])
        arrival = np.array(Poisson(float(rates.sum())).times(self.requests, rng))
        which = rng.choice(len(MIX), self.requests, p=rates / rates.sum())
        prompt = np.array([t.prompt for t in MIX])[which]
        output = np.array(OUTPUTS)[which]
        end = float(arrival[-1])
        workload = Workload(arrival, prompt, output, predicted=output)
        trace = simulate(workload, _system(MEMORY), _policy(self.policy), horizon=end)
        found, rate = growth_test(trace, start=0.1 * end), float(rates.sum())
        its = trace.iterations
        seconds = its["seconds"][its["start"] > 0.1 * end]
        return {
            "policy": self.policy,
            "share": self.share,
            "growth": found.rate.value / rate,
            "low": found.rate.low / rate,
            "high": found.rate.high / rate,
            "grows": found.grows,
            "stable": found.grows_less_than(SMALL),
            "most tokens": int(its["blocks"].max()),
            "mean iteration": [float(part.mean()) for part in np.array_split(seconds, 10)],
            "longest iteration": float(its["seconds"].max()),
        }


class Walk(NamedTuple):
    """Chats alone at λ = BATCHES/τ(BATCHES), under WAIT with `threshold`."""

    threshold: int
    seed: int
    horizons: tuple[float, ...]

    def record(self) -> dict[str, Any]:
        """Share of the requests that have not started by each horizon."""
        chat = MIX[1]
        per_stage = sum(range(chat.prompt, chat.prompt + chat.output + 1))
        rate = BATCHES / float(BASE + PER_HELD * BATCHES * per_stage)
        end = max(self.horizons)
        arrival = np.array(Poisson(rate).times(int(1.1 * rate * end) + 100, np.random.default_rng(self.seed)))
        n = len(arrival)
        workload = Workload(
            arrival, np.full(n, chat.prompt), np.full(n, OUTPUTS[1]), predicted=np.full(n, OUTPUTS[1])
        )
        policy = Wait((self.threshold,), OUTPUTS[1:], PATIENCE, admission=WHOLE_PROMPT)
        trace = simulate(workload, _system(2 * BATCHES * per_stage), policy, horizon=end)
        admitted = np.sort(np.nan_to_num(trace.requests["admitted"], nan=np.inf))
        left = [np.searchsorted(arrival, t) - np.searchsorted(admitted, t) for t in self.horizons]
        return {
            "threshold": self.threshold,
            "left": [float(x / (rate * t)) for x, t in zip(left, self.horizons, strict=True)],
        }


def slope(left: Floats, horizons: Sequence[float]) -> tuple[float, float, float]:
    """Exponent of the mean share of requests left, [walks, horizons], with its 95 % interval by resampling walks."""
    rng, x = np.random.default_rng(0), np.log(horizons)

    def fitted(rows: Floats) -> float:
        return float(np.polyfit(x, np.log(rows.mean(axis=0)), 1)[0])

    drawn = [fitted(left[rng.integers(len(left), size=len(left))]) for _ in range(1000)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return fitted(left), float(low), float(high)


def run(
    quick: bool = False,
    out: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Run the experiment; write plots and the JSON object into `out` if it is given."""
    began = time.perf_counter()
    cases = [("WAIT", SHARE), ("WAIT, rounded down", SHARE), ("Sarathi", EASY)]
    cases += [(name, ABOVE) for name in ("WAIT", "NestedWait", "Sarathi")]
    jobs: list[Fed | Walk] = [Fed(name, share, REQUESTS[quick]) for name, share in cases]
    jobs += [Walk(n, seed, HORIZONS[quick]) for n in (BATCHES, BATCHES + 1) for seed in range(WALKS[quick])]
    done = in_order(methodcaller("record"), jobs, workers=workers, progress=progress)
    fed = [r for r in done if "policy" in r]
    walks = {
        n: np.array([r["left"] for r in done if r.get("threshold") == n]) for n in (BATCHES, BATCHES + 1)
    }
    rows = [*_point_rows(fed), *_growth_rows(fed), *_gap_rows(walks, HORIZONS[quick])]
    gaps = [
        {
            "threshold": n,
            **{f"{t:g} s": float(x) for t, x in zip(HORIZONS[quick], left.mean(axis=0), strict=True)},
        }
        for n, left in walks.items()
    ]
    n = thresholds(types(SHARE), BASE, PER_HELD)
    notes = [
        f"thresholds at {SHARE:g} of the largest rates: {n}, fluid "
        f"{tuple(round(float(x), 2) for x in fluid_point(types(SHARE), BASE, PER_HELD).stated.batch)}",
        f"a backlog that takes up less than {SMALL:.0%} of the arrivals counts as none",
    ]
    seeds = list(range(WALKS[quick]))
    tables = {"runs": fed, "requests not started (share of the arrivals)": gaps}
    result = Result(NAME, time.perf_counter() - began, seeds, versions(), rows, tables, notes)
    if out is not None:
        plots(walks, HORIZONS[quick], out)
        write_atomically(out / f"{NAME}.json", result.to_json().encode())
    return result


def _point_rows(fed: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    by = {(r["policy"], r["share"]): r for r in fed}
    tau = float(fluid_point(types(EASY), BASE, PER_HELD).stated.duration)
    value, low, high = (1e3 * x for x in over_seeds(by["Sarathi", EASY]["mean iteration"]))
    verdict = judge(1e3 * tau, low, high)
    quantity = f"mean iteration of a node that takes all, {EASY:g} of the largest rates (fluid point: {1e3 * tau:.3f})"
    yield Row(quantity, "ms", None, value, low, high, verdict, "wait: equilibrium")
    most = memory_of(thresholds(types(SHARE), BASE, PER_HELD))
    for what, bound, found, unit in (
        ("most tokens held", most, by["WAIT", SHARE]["most tokens"], "tokens"),
        (
            "longest iteration",
            1e3 * (LAW.base + LAW.per_held * most),
            1e3 * by["WAIT", SHARE]["longest iteration"],
            "ms",
        ),
    ):
        quantity = f"{what} under WAIT (theory: {bound:.6g}, and it is reached)"
        yield Row(quantity, unit, None, found, found, found, judge_share(bound, found, 1e-9))


def _growth_rows(fed: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    for r in fed:
        if r["share"] == EASY:
            continue
        grows = r["share"] > 1 or r["policy"] != "WAIT"
        text = f"growth at {r['share']:g} of the largest rates, {r['policy']}"
        text += f" (theory: {'grows' if grows else 'does not grow'})"
        value, low, high = (100 * r[name] for name in ("growth", "low", "high"))
        key = None if grows else "wait: stable at its thresholds"
        yield Row(text, "percent of the arrivals", None, value, low, high, judge_growth(r, grows), key)


def _gap_rows(walks: Mapping[int, Floats], horizons: Sequence[float]) -> Iterator[Row]:
    claimed = published(GAP).value
    assert claimed is not None
    value, low, high = slope(walks[BATCHES], horizons)
    verdict = judge(claimed, low, high)
    text = "exponent in T of the share of requests not started, threshold n = λτ(n)"
    yield Row(text, "1", claimed, value, low, high, verdict, GAP)
    value, low, high = slope(walks[BATCHES + 1], horizons)
    verdict = judge_more(-high, -low, -claimed)
    text = f"the same, one threshold more (theory: below {claimed:g})"
    yield Row(text, "1", None, value, low, high, verdict)


def plots(walks: Mapping[int, Floats], horizons: Sequence[float], out: Path) -> list[Path]:
    """Draw the share of requests not started by T, with lines of the two exponents."""
    with figure() as (drawing, axes):
        ax = axes[0][0]
        t = np.array(horizons)
        data: dict[str, Any] = {"seconds": list(horizons)}
        for k, (n, left) in enumerate(walks.items()):
            mean, spread = left.mean(axis=0), 1.96 * left.std(axis=0, ddof=1) / math.sqrt(len(left))
            exponent = (-0.5, -1.0)[k]
            ax.plot(
                t,
                mean[0] * (t / t[0]) ** exponent,
                color=COLOURS[k + 4],
                linewidth=1,
                label=f"theory: T^{exponent:g}",
            )
            ax.errorbar(t, mean, yerr=spread, fmt=MARKERS[k], color=COLOURS[k + 4], markersize=4, capsize=2,
                        label=f"threshold {n}")  # fmt: skip
            data[f"threshold {n}"] = {"mean": mean.tolist(), "half width": spread.tolist()}
        ax.set(title=f"WAIT at λτ({BATCHES}) = {BATCHES}", xlabel="T (s)", xscale="log", yscale="log",
               ylabel="share of requests not started")  # fmt: skip
        ax.legend(fontsize=7)
        return save(drawing, out / "gap", data)
