"""Work-conserving policies carry all that b/t_b allows, policies with pure batches less (arXiv 2504.07347).

A batch of n <= b tokens takes t(n) = c + a·max(0, n - b0) seconds, prompts may be cut anywhere, memory never binds.
Published: every policy whose batches hold min(b, loadable) tokens is stable if λ(m_p + m_d) < b/t(b), and none is above
it; Orca and Sarathi-Serve are of this kind, FasterTransformer and vLLM before chunked prefill are not maximally stable.

Held against it, on Poisson arrivals under the time of a chunk measured on an RTX 6000 Ada (c = 23.4 ms, a = 91 µs,
b0 = 180, which has c >= a·b0), b = 512:

*Drift.*  Growth of the backlog at 0.95 and 1.05 of the edge, by the growth test; its errors have probability 0.001
each.  Orca has the cap b too.  The other two get more than the model gives them, whole prompts beyond b, which only
helps, and still grow at 0.95.

*Rate.*  What each carries with endless work, against its own theory: b/t(b) tokens/s, and with S places and geometric
outputs of hazard h, in requests/s for K ~ Binomial(S, h), P_K tokens of K prompts, n_k ~ Binomial(S, (1 - h)^(k-1)),

    vLLM  S·h/(t(S) + E[t(P_K); K > 0]),        FasterTransformer  S/(t(S·m_p) + Σ_k E[t(n_k)]) .

*Region.*  Two classes, chats and documents: λ_1 m_1 + λ_2 m_2 = b/t(b) with Sarathi-Serve on either side of it.

*Beyond the premises.*  Orca takes whole prompts, so it is work-conserving only where they are short beside b.  And
b/t(b) is the best rate only if c >= a·b0 (our derivation): with t(1) = 1/2 s and t(2) = 3/2 s batches of one token
carry 2 tokens/s, and the work-conserving ones of two 4/3.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binom

from policies import FasterTransformer, Orca, Sarathi, Vllm
from policies.admission import WHOLE_PROMPT
from queueing.arrivals import Poisson
from queueing.metrics import Growth
from queueing.models.fluid import Discipline, Fluid, MixedBudget, PrefillFirst
from queueing.models.iteration_time import Roofline, Table
from queueing.policy import Policy
from queueing.simulator import simulate, versions
from queueing.system import ENDLESS, System
from queueing.trace import Trace
from queueing.workload import Workload
from validation.drift import trajectory
from validation.executors import in_order
from validation.experiments.edge import Case, growth
from validation.experiments.work_conservation_plots import Drifting, drift_plot, write_plots
from validation.published import published
from validation.result import Result, Row, over_seeds, write_atomically
from validation.saturation import saturate
from validation.timeline import timelines
from validation.verdicts import judge_between, judge_growth

__all__ = [
    "BUDGET",
    "CASES",
    "LAW",
    "NAME",
    "POLICIES",
    "Feed",
    "Full",
    "edge",
    "least_full",
    "run",
    "theory",
]

NAME = "work-conservation"
LAW = Roofline(0.0234, 0.007, 9.1e-5)
BUDGET, PLACES, REQUEST_LEVEL = 512, 512, 256  # tokens, places of vLLM, batch of FasterTransformer
PROMPT, OUTPUT = 32, 128  # means; prompts uniform, outputs geometric
SMALL = 0.03  # growth, as a share of the arrivals, that counts as none
BELOW, ABOVE = 0.95, 1.05
LOADS = {False: (0.8, 0.9, BELOW, ABOVE, 1.1, 1.2), True: (BELOW, ABOVE)}  # by quick
REQUESTS = {False: 200_000, True: 60_000}
SATURATED = {False: 40_000, True: 12_000}
SEEDS = {False: 8, True: 4}
SHARES = (
    0.1,
    0.3,
    0.5,
    0.7,
    0.9,
)  # of the tokens that are the chats'; of these, the quick size takes every second
DOCUMENT = (512, 32)  # means

DRIFTING: dict[str, Discipline] = {"Sarathi": MixedBudget(BUDGET, PLACES), "vLLM": PrefillFirst(8192, PLACES)}

Lengths = Callable[[int, np.random.Generator], tuple[Any, Any, Any]]


def _lengths(prompt: int, output: int) -> Lengths:
    def draw(n: int, rng: np.random.Generator) -> tuple[Any, Any, Any]:
        return rng.integers(prompt // 2, 3 * prompt // 2 + 1, n), rng.geometric(1 / output, n), 0

    return draw


def _classes(share: float) -> Lengths:
    """Chats and documents, a `share` of the tokens the chats'."""
    chats = share / (PROMPT + OUTPUT) / (share / (PROMPT + OUTPUT) + (1 - share) / sum(DOCUMENT))

    def draw(n: int, rng: np.random.Generator) -> tuple[Any, Any, Any]:
        which = rng.random(n) < chats
        kinds = [_lengths(*kind)(n, rng) for kind in ((PROMPT, OUTPUT), DOCUMENT)]
        return *(np.where(which, kinds[0][k], kinds[1][k]) for k in range(2)), 0

    return draw


def _system(law: Roofline | Table, cap: int = 2**31 - 1) -> System:
    return System(
        law, ENDLESS, max_length=ENDLESS, max_batch_tokens=cap, last_chunk_emits=False, name="affine"
    )


CAPPED, OPEN = _system(LAW, BUDGET), _system(LAW)
SARATHI = Sarathi(token_budget=BUDGET, max_num_seqs=PLACES)
ORCA = Orca(batch_size=PLACES, admission=WHOLE_PROMPT)
POLICIES: dict[str, tuple[Policy, System]] = {
    "Sarathi": (SARATHI, CAPPED),
    "Orca": (ORCA, CAPPED),
    "vLLM": (Vllm(max_num_seqs=PLACES), OPEN),
    "FasterTransformer": (FasterTransformer(REQUEST_LEVEL, admission=WHOLE_PROMPT), OPEN),
}
CONSERVING = ("Sarathi", "Orca")
CHATS = _lengths(PROMPT, OUTPUT)
STEEP = _system(
    Table((1, 2), (0.5, 1.5)), 2
)  # c = 1/2, a = 1, b0 = 1: batches of two are worth less than of one
TINY = 1.6  # tokens/s, between 4/3 and 2
CASES: dict[str, tuple[Policy, Case]] = {
    **{name: (policy, Case(system, CHATS, BUDGET)) for name, (policy, system) in POLICIES.items()},
    **{f"Sarathi, chats {share:g}": (SARATHI, Case(CAPPED, _classes(share), BUDGET)) for share in SHARES},
    "Orca, prompts of 320": (ORCA, Case(CAPPED, _lengths(10 * PROMPT, 10 * OUTPUT), BUDGET)),
    "steep, 2 tokens": (Sarathi(2), Case(STEEP, _lengths(2, 4), 2)),
    "steep, 1 token": (Sarathi(1), Case(STEEP, _lengths(2, 4), 1)),
}


def edge(tokens: float = PROMPT + OUTPUT) -> float:
    """b/(t(b)·m), requests/s of m tokens."""
    return BUDGET / (float(LAW.params().token_time[BUDGET]) * tokens)


def theory(name: str) -> float:
    """Tokens/s that a policy carries with endless work."""
    return (PROMPT + OUTPUT) * _requests_per_second(name)


def _requests_per_second(name: str) -> float:
    seconds, h = LAW.params().token_time, 1 / OUTPUT
    if name in CONSERVING:
        return edge()
    if name == "vLLM":
        one, law, prefill = np.zeros(3 * PROMPT // 2 + 1), np.ones(1), 0.0
        one[PROMPT // 2 :] = 1 / (PROMPT + 1)
        for k in range(1, 40):  # more than 40 of 512 hardly ever end at once
            law = np.convolve(law, one)  # of the tokens of k prompts
            prefill += float(binom.pmf(k, PLACES, h)) * float(law @ seconds[: len(law)])
        return PLACES * h / (float(seconds[PLACES]) + prefill)
    n = np.arange(1, REQUEST_LEVEL + 1)
    decodes = 0.0
    for k in range(40 * OUTPUT):  # beyond, one in 10^17 is left
        decodes += float(binom.pmf(n, REQUEST_LEVEL, (1 - h) ** k) @ seconds[n])
    return REQUEST_LEVEL / (float(seconds[REQUEST_LEVEL * PROMPT]) + decodes)


class Feed(NamedTuple):
    """A case fed at `load` times its `edge` (requests/s)."""

    case: str
    edge: float
    load: float
    requests: int

    def record(self) -> dict[str, Any]:
        """Growth of the backlog as a share of the arrivals, and the verdicts of the growth test."""
        policy, case = CASES[self.case]
        rate = self.edge * self.load
        found: Growth = growth(case, policy, rate, self.requests)
        shares = (found.rate.value / rate, found.rate.low / rate, found.rate.high / rate)
        record: dict[str, Any] = {"case": self.case, "load": self.load, "rate": rate}
        record |= dict(zip(("growth", "low", "high"), shares, strict=True))
        return record | {"grows": found.grows, "stable": found.grows_less_than(SMALL)}


class Full(NamedTuple):
    """A policy with endless work."""

    name: str
    seed: int
    requests: int

    def record(self) -> dict[str, Any]:
        """The rate carried (tokens/s)."""
        policy, system = POLICIES[self.name]
        prompt, output, _ = CHATS(self.requests, np.random.default_rng(self.seed))
        return {"case": self.name, "carried": saturate(system, policy, prompt, output).tokens}


def drifting(name: str) -> Drifting:
    """The drift at 0.95 of the edge under a policy, and its run from 1,000 prompts that wait at time 0."""
    fluid = Fluid(
        BELOW * edge(), PROMPT, (1 / OUTPUT,), lambda x: max(LAW.plateau, LAW.base + LAW.per_token * x)
    )
    rng = np.random.default_rng(0)
    arrival = np.concatenate([np.zeros(1000), Poisson(fluid.rate).times(12_000, rng)])
    prompt, output, _ = CHATS(len(arrival), rng)
    policy, system = POLICIES[name]
    times = np.linspace(0, 0.9 * float(arrival[-1]), 800)
    run = trajectory(simulate(Workload(arrival, prompt, output), system, policy), times)
    return Drifting(fluid, DRIFTING[name], *run)


def side_by_side(name: str) -> Trace:
    """Eight requests under a policy, small enough to be drawn batch by batch."""
    workload = Workload(0.03 * np.arange(8), [300, 40, 200, 40, 400, 60, 150, 80], [6, 8, 4, 9, 5, 7, 6, 4])
    policy, system = POLICIES[name]
    return simulate(workload, system, policy, record_entries=True)


def _jobs(quick: bool) -> list[Feed | Full]:
    count = REQUESTS[quick]
    jobs: list[Feed | Full] = [Feed(name, edge(), load, count) for name in POLICIES for load in LOADS[quick]]
    for share in SHARES[:: 2 if quick else 1]:
        tokens = 1 / (share / (PROMPT + OUTPUT) + (1 - share) / sum(DOCUMENT))
        jobs += [Feed(f"Sarathi, chats {share:g}", edge(tokens), load, count) for load in (BELOW, ABOVE)]
    jobs.append(Feed("Orca, prompts of 320", edge(10 * (PROMPT + OUTPUT)), BELOW, count // 10))
    jobs += [Feed(f"steep, {name}", TINY / 6, 1.0, count // 10) for name in ("1 token", "2 tokens")]
    jobs += [Full(name, seed, SATURATED[quick]) for name in POLICIES for seed in range(SEEDS[quick])]
    return jobs


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
    fed = [record for record in done if "growth" in record]
    full = []
    for name in POLICIES:
        value, low, high = over_seeds([r["carried"] for r in done if "carried" in r and r["case"] == name])
        full.append({"policy": name, "theory": theory(name), "carried": value, "low": low, "high": high})
    rows = [*_drift_rows(fed), *_rate_rows(full), *_other_rows(fed)]
    notes = [
        f"edge b/(t(b)·m) = {edge():.4g} requests/s; a backlog that takes up less than {SMALL:.0%} of the arrivals "
        "counts as none; verdicts of the growth test err with probability 0.001 each (asymptotically)",
        "intervals of rates are Student's t over seeds",
    ]
    tables = {"growth (share of the arrivals)": fed, "rate with endless work (tokens/s)": full}
    seeds = list(range(SEEDS[quick]))
    result = Result(NAME, time.perf_counter() - began, seeds, versions(), rows, tables, notes)
    if out is not None:
        edges = {"edge": edge(1), **{name: theory(name) for name in POLICIES}}
        write_plots(fed, full, edges, out)
        drift_plot({name: drifting(name) for name in DRIFTING}, out)
        timelines({name: side_by_side(name) for name in DRIFTING}, out / "batches")
        write_atomically(out / f"{NAME}.json", result.to_json().encode())
    return result


def _growth_row(record: Mapping[str, Any], text: str, grows: bool, key: str | None = None) -> Row:
    claimed = None if key is None else published(key).value
    value, low, high = (100 * record[name] for name in ("growth", "low", "high"))
    return Row(text, "percent of the arrivals", claimed, value, low, high, judge_growth(record, grows), key)


def _drift_rows(fed: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    by = {(record["case"], record["load"]): record for record in fed}
    for name in POLICIES:
        for load in (BELOW, ABOVE):
            grows = load > 1 or name not in CONSERVING
            key = f"{NAME}: stable below the edge" if load < 1 else f"{NAME}: unstable above the edge"
            if load < 1 and name not in CONSERVING:
                key = f"{NAME}: {name}"
            claim = "grows" if grows else "does not grow"
            yield _growth_row(
                by[name, load], f"growth at {load:g} of b/(t(b)·m), {name} (theory: {claim})", grows, key
            )
    for share in SHARES:
        for load in (BELOW, ABOVE):
            if (f"Sarathi, chats {share:g}", load) not in by:
                continue
            key = f"{NAME}: stable below the edge" if load < 1 else f"{NAME}: unstable above the edge"
            text = f"growth at {load:g} of the edge of two classes, {share:.0%} of the tokens chats, Sarathi"
            yield _growth_row(by[f"Sarathi, chats {share:g}", load], text, load > 1, key)


def least_full() -> float:
    """Tokens/s of batches that lack a prompt that did not fit: at least (b - p)/t(b - p) for the longest prompt p."""
    n = BUDGET - 3 * PROMPT // 2
    return n / float(LAW.params().token_time[n])


def _rate_rows(full: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    for e in full:
        least = least_full() if e["policy"] == "Orca" else e["theory"]
        verdict = judge_between(least * (1 - 1e-9), e["theory"] * (1 + 1e-9), e["low"], e["high"])
        said = f"{e['theory']:,.0f}" if least == e["theory"] else f"{least:,.0f} to {e['theory']:,.0f}"
        quantity = f"rate with endless work, {e['policy']} (theory: {said})"
        yield Row(quantity, "tokens/s", None, e["carried"], e["low"], e["high"], verdict)


def _other_rows(fed: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """Beyond the premises."""
    by = {record["case"]: record for record in fed}
    long, two, one = (by[name] for name in ("Orca, prompts of 320", "steep, 2 tokens", "steep, 1 token"))
    yield _growth_row(
        long, f"growth at {BELOW:g}, Orca, prompts of 320 tokens under the cap (theory: grows)", True
    )
    text = f"growth at {TINY} tokens/s, t(1) = 0.5 s, t(2) = 1.5 s, batches of"
    yield _growth_row(two, f"{text} 2, work-conserving (theory: grows)", True)
    yield _growth_row(one, f"{text} 1 (theory: does not grow)", False)
