"""Exclusive against mixed batches: the threshold of the sawtooth, and which kind is cheaper (arXiv 2606.00516).

Published: with outputs that end with probability p0 in each iteration, exclusive batches are cheapest if the share θ0
of the N active requests completes before prompts are let in, θ0/(1 - θ0) + ln(1 - θ0) = κ = p0·α_p/α_d, k*/N → θ0; and
the sign of Δ(N), what a request costs more in exclusive batches than in mixed ones, says which kind to take.

Held against it, :class:`policies.BatchingSwitch` with endless work under costs of exactly that form: a prefill takes
α_p + β_p·prompts seconds, a decode α_d + β_d·decodes, a mixed iteration α + β'_p·prompts + β'_d·places.  In mixed
batches a prompt counts as the first iteration of its request, so its chunk emits a token; not so in exclusive ones.

*Threshold.*  Seconds per request of the policy for each share k/N, against the exact chain; the cheapest share, by a
curve through the simulated costs, against θ0.
*Kind.*  Seconds per request of both kinds for several N, against the exact chain (exclusive) and against
α/(p0·N) + β'_p + β'_d/p0 (mixed); the N at which they cross, against the exact chain.
"""

# The bodies of the laws carry no hints: numba types them by what they are called with.
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from policies import BatchingSwitch
from queueing.models.exclusive_batching import Exclusive, Mixed, advantage, crossover, sawtooth, threshold
from queueing.models.iteration_time import Load
from queueing.simulator import versions
from queueing.system import ENDLESS, System
from validation.executors import in_order
from validation.plots import COLOURS, MARKERS, figure, save
from validation.result import Result, Row, Verdict, over_seeds, write_atomically
from validation.saturation import saturate
from validation.verdicts import judge

__all__ = [
    "EXCLUSIVE",
    "LAWS",
    "MIXED",
    "NAME",
    "Cost",
    "Costs",
    "Found",
    "Kind",
    "best",
    "kappa",
    "run",
    "theory",
]

NAME = "mixed"
HAZARD = 0.02  # p0
EXCLUSIVE = Exclusive(prefill=0.1, decode=0.02, per_prompt=0.002, per_decode=0.0003)
MIXED = Mixed(base=0.02, per_prompt=0.002, per_decode=0.0004)
ACTIVE = 64  # N at which the threshold is tried
COMPLETE = (4, 8, 12, 16, 20, 22, 24, 28, 32, 40, 48, 56, 62)  # k of them
AROUND = (12, 40)  # k from and to which a curve of the fourth degree is laid through the costs
LARGE = 64  # N from which N·Δ(N) is close to a line
PLACES = (8, 16, 32, 64, 96, 128, 192, 256)
REQUESTS = {False: 30_000, True: 4_000}  # by quick
SEEDS = {False: 8, True: 3}
LEVEL = 0.999  # of intervals on which a verdict about the exact chain rests


class Costs(NamedTuple):
    """Base and slopes of two kinds of batches: `first` and `per_prompt` with prompts, `other` and `per_decode` without.

    Mixed iterations have one base, and pay `per_decode` for a prompt too.
    """

    first: float
    other: float
    per_prompt: float
    per_decode: float


def exclusive_seconds(params, load) -> float:
    """α_p + β_p·prompts of a prefill, α_d + β_d·decodes of a decode."""
    if load.decodes == 0:
        return params.first + params.per_prompt * load.chunk.size
    return params.other + params.per_decode * load.decodes


def mixed_seconds(params, load) -> float:
    """α + β'_p·prompts + β'_d·(prompts and decodes)."""
    return (
        params.first
        + params.per_prompt * load.chunk.size
        + params.per_decode * (load.chunk.size + load.decodes)
    )


@dataclass(frozen=True, slots=True)
class Kind:
    """Law of iteration time of one kind of batch; `mixed` or not, with its `costs` (s)."""

    mixed: bool
    costs: Costs

    def lower(self) -> tuple[Any, Costs]:
        """The function of the kind, and the costs."""
        return (mixed_seconds if self.mixed else exclusive_seconds), self.costs

    def __call__(self, load: Load) -> float:
        """Seconds that `load` takes."""
        function, costs = self.lower()
        return float(function(costs, load))


LAWS = {
    False: Kind(False, Costs(*EXCLUSIVE)),
    True: Kind(True, Costs(MIXED.base, MIXED.base, MIXED.per_prompt, MIXED.per_decode)),
}


class Cost(NamedTuple):
    """Endless work at `places`, in mixed batches, or in exclusive ones that refill when `complete` are."""

    mixed: bool
    places: int
    complete: int
    seed: int
    requests: int

    def record(self) -> dict[str, Any]:
        """Seconds per request: those per token, times the tokens of a request in the mean (renewal-reward)."""
        system = System(
            LAWS[self.mixed], ENDLESS, max_length=ENDLESS, last_chunk_emits=self.mixed, name="costs"
        )
        output = np.random.default_rng(self.seed).geometric(HAZARD, self.requests)
        policy = BatchingSwitch(
            theta=self.complete / self.places, crossover=0, mixed_first=not self.mixed, places=self.places
        )
        found = saturate(system, policy, np.ones(self.requests, int), output)
        served = 1 / HAZARD + (
            0 if self.mixed else 1
        )  # the prompt of one token, and a decode for every other token
        return {**self._asdict(), "seconds": served / found.tokens}


def theory(mixed: bool, places: int, complete: int = 0) -> float:
    """Seconds per request: of mixed batches, or by the exact chain of exclusive ones."""
    if mixed:
        return MIXED.base / (HAZARD * places) + MIXED.per_prompt + MIXED.per_decode / HAZARD
    return float(sawtooth(places, HAZARD).seconds(EXCLUSIVE, HAZARD)[complete - 1])


def best(places: int) -> int:
    """The cheapest k by the exact chain."""
    return 1 + int(np.argmin(sawtooth(places, HAZARD).seconds(EXCLUSIVE, HAZARD)))


def _jobs(quick: bool) -> list[Cost]:
    seeds, requests = range(SEEDS[quick]), REQUESTS[quick]
    cases = [(False, ACTIVE, k) for k in COMPLETE]
    cases += [(False, n, best(n)) for n in PLACES] + [(True, n, n) for n in PLACES]
    return [Cost(*case, seed, requests) for case in dict.fromkeys(cases) for seed in seeds]


class Found(NamedTuple):
    """Seconds per request, one for each seed."""

    by: Mapping[tuple[bool, int, int], list[float]]

    def sawtooth(self, k: int) -> list[float]:
        """Exclusive batches of the first part."""
        return self.by[False, ACTIVE, k]

    def difference(self, n: int) -> list[float]:
        """Δ(N): exclusive less mixed."""
        pairs = zip(self.by[False, n, best(n)], self.by[True, n, n], strict=True)
        return [exclusive - mixed for exclusive, mixed in pairs]


def run(
    quick: bool = False,
    out: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Run the experiment; write plots and the JSON object into `out` if it is given."""
    began = time.perf_counter()
    jobs = _jobs(quick)
    records = in_order(methodcaller("record"), jobs, workers=workers, progress=progress)
    by: dict[tuple[bool, int, int], list[float]] = {}
    for k, job in enumerate(jobs):
        by.setdefault((job.mixed, job.places, job.complete), []).append(records[k]["seconds"])
    found = Found(by)
    rows = [*_threshold_rows(found), *_kind_rows(found)]
    tables = {
        "exclusive batches by share complete (s per request)": [
            {"k": k, "chain": theory(False, ACTIVE, k), **_interval(found.sawtooth(k))} for k in COMPLETE
        ],
        "exclusive less mixed (s per request)": [
            {"N": n, "k": best(n), **_stated(n), **_interval(found.difference(n))} for n in PLACES
        ],
    }
    notes = [
        f"κ = {kappa():g}, θ0 = {threshold(kappa()).stated:.4f}; verdicts about the exact chain take intervals of "
        f"{LEVEL:.1%} in place of the 95 % shown",
    ]
    seeds = list(range(SEEDS[quick]))
    result = Result(NAME, time.perf_counter() - began, seeds, versions(), rows, tables, notes)
    if out is not None:
        plots(tables, out)
        write_atomically(out / f"{NAME}.json", result.to_json().encode())
    return result


def kappa() -> float:
    """κ = p0·α_p/α_d."""
    return HAZARD * EXCLUSIVE.prefill / EXCLUSIVE.decode


def _interval(values: Sequence[float]) -> dict[str, float]:
    return dict(zip(("simulated", "low", "high"), over_seeds(values), strict=True))


def _stated(places: int) -> dict[str, float]:
    form = advantage(places, HAZARD, EXCLUSIVE, MIXED)
    return {"chain": form.computed, "X/N + Y": form.stated}


def _chain_row(text: str, exact: float, values: Sequence[float]) -> Row:
    value, low, high = over_seeds(values)
    verdict = judge(exact, *over_seeds(values, LEVEL)[1:])
    return Row(
        f"{text} (exact chain: {1e3 * exact:.4g})", "ms", None, 1e3 * value, 1e3 * low, 1e3 * high, verdict
    )


def _threshold_rows(found: Found) -> Iterator[Row]:
    middle = [k for k in COMPLETE if AROUND[0] <= k <= AROUND[1]]
    vertices: list[float] = []
    fine = np.linspace(*AROUND, 2000)
    for seed in range(len(found.sawtooth(COMPLETE[0]))):
        curve = np.polyfit(middle, [found.sawtooth(k)[seed] for k in middle], 4)
        vertices.append(float(fine[np.argmin(np.polyval(curve, fine))] / ACTIVE))
    value, low, high = over_seeds(vertices)
    root = threshold(kappa()).stated
    verdict = judge(root, low - 1 / ACTIVE, high + 1 / ACTIVE)  # k*/N is within 1/N of the root
    text = f"cheapest share complete, {ACTIVE} active (theory: {root:.4f} within 1/{ACTIVE})"
    yield Row(text, "share", None, value, low, high, verdict, f"{NAME}: threshold")
    for k in (COMPLETE[0], best(ACTIVE), COMPLETE[-1]):
        values = found.by[False, ACTIVE, k]
        yield _chain_row(
            f"time per request, exclusive, {k} of {ACTIVE} complete", theory(False, ACTIVE, k), values
        )


def _kind_rows(found: Found) -> Iterator[Row]:
    key = f"{NAME}: sign of the difference"
    for n in PLACES:
        value, low, high = over_seeds(found.difference(n))
        stated = _stated(n)["X/N + Y"]
        verdict: Verdict = "not testable here"  # unless the interval excludes 0
        if low > 0 or high < 0:
            verdict = "reproduced" if (low > 0) == (stated > 0) else "differs"
        text = f"time per request, exclusive less mixed, {n} places (theory, X/N + Y: {1e3 * stated:.3g})"
        yield Row(text, "ms", None, 1e3 * value, 1e3 * low, 1e3 * high, verdict, key)
    for n in (PLACES[0], PLACES[-1]):
        yield _chain_row(f"time per request, mixed, {n} places", theory(True, n), found.by[True, n, n])
        yield _chain_row(f"exclusive less mixed, {n} places", _stated(n)["chain"], found.difference(n))
    exact = crossover(EXCLUSIVE, MIXED, HAZARD)
    large = [n for n in PLACES if n >= LARGE]
    roots: list[float] = []
    for seed in range(len(found.difference(PLACES[0]))):
        slope, level = np.polyfit(large, [n * found.difference(n)[seed] for n in large], 1)
        roots.append(float(-level / slope))
    value, low, high = over_seeds(roots)
    _, least, most = over_seeds(roots, LEVEL)
    verdict = judge(exact.computed, least - 1, most)  # the last whole number before the crossing
    text = f"places at which the kinds cross (exact chain: {exact.computed:g}, -X/Y: {exact.stated:.1f})"
    yield Row(text, "requests", None, value, low, high, verdict)


def plots(tables: Mapping[str, Sequence[Mapping[str, Any]]], out: Path) -> list[Path]:
    """Draw both tables: theory as a line, simulation with its interval."""
    threshold_table, kinds = tables.values()
    with figure(columns=2) as (drawing, axes):
        for ax, table, name, lines in (
            (axes[0][0], threshold_table, "k", ("chain",)),
            (axes[0][1], kinds, "N", ("chain", "X/N + Y")),
        ):
            x = [e[name] for e in table]
            value = np.array([1e3 * e["simulated"] for e in table])
            errors = [value - [1e3 * e["low"] for e in table], [1e3 * e["high"] for e in table] - value]
            for k, line in enumerate(lines):
                ax.plot(x, [1e3 * e[line] for e in table], color=COLOURS[k], linestyle=("-", "--")[k], linewidth=1,
                        label={"chain": "exact chain"}.get(line, line))  # fmt: skip
            ax.errorbar(x, value, yerr=errors, fmt=MARKERS[0], color=COLOURS[5], markersize=4, capsize=2,
                        label="simulated")  # fmt: skip
        axes[0][0].axvline(ACTIVE * threshold(kappa()).stated, color="grey", linestyle=":", label="θ0·N")
        axes[0][0].set(title=f"Exclusive batches, {ACTIVE} active", xlabel="k complete before a refill",
                       ylabel="time per request (ms)")  # fmt: skip
        axes[0][1].axhline(0, color="grey", linestyle=":")
        axes[0][1].set(
            title="Exclusive less mixed", xlabel="places N", ylabel="Δ (ms per request)", xscale="log"
        )
        for ax in axes[0]:
            ax.legend(fontsize=7)
        return save(drawing, out / "kinds", dict(tables))
