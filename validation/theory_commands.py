"""The sub-commands of theory: `tandem tile` and `tandem capacity`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from queueing.models.capacity import Capacity, Point
from queueing.models.demand import Demand, Limits, Stairs
from queueing.models.iteration_time import AdditiveParams
from queueing.system import System
from validation.options import lengths_of

__all__ = ["Budget", "Nodes", "Pure", "TbtOption", "capacity_report", "region_plot", "tile_report"]

BUDGET = 8192  # tokens: the largest batch considered unless --budget says otherwise

Budget = Annotated[int | None, typer.Option(help=f"largest batch considered (tokens); {BUDGET} by default")]
TbtOption = Annotated[
    float | None,
    typer.Option("--tbt", help="mean time between tokens to be kept (s), by enough iterations/s"),
]
Pure = Annotated[
    bool, typer.Option("--pure", help="only batches of prompt tokens or of decodes, as RAD forms them")
]
Nodes = Annotated[int, typer.Option(min=1, help="identical nodes")]


def limits_of(system: System, budget: int | None, tbt: float | None, nodes: int) -> Limits:
    """Limits of a system's batches."""
    if tbt is not None and not tbt > 0:
        raise ValueError(f"--tbt must be a positive number of seconds, not {tbt}")
    largest = min(BUDGET if budget is None else budget, system.max_batch_tokens)
    demanded = 0.0 if tbt is None else 1 / tbt
    return Limits(largest, system.kv_tokens, system.max_running, demanded, nodes)


def stairs_of(system: System, budget: int) -> Stairs:
    """Iteration time of a system up to `budget` tokens."""
    lower: Any = system.iteration_time.lower
    params = lower()[1]
    if not isinstance(params, AdditiveParams):
        raise ValueError(
            f"{system.name} has a law of its own; capacity needs one of queueing.models.iteration_time"
        )
    return Stairs.of(params, budget)


def demand_of(text: str, index: int, system: System) -> Demand:
    """A class from "LENGTHS@RATE" (requests/s)."""
    lengths, at, rate = text.rpartition("@")
    try:
        if not at:
            raise ValueError("no @")
        value = float(rate)
    except ValueError:
        raise ValueError(
            f"class {text!r} is not LENGTHS@RATE, such as sharegpt@1.5 or 6144,128@0.2 (requests/s)"
        ) from None
    name = f"{index + 1}: {lengths}"
    return Demand.of(lengths_of(lengths).moments(), value, name, last_chunk_emits=system.last_chunk_emits)


def batches_of(capacity: Capacity, point: Point) -> list[dict[str, Any]]:
    """The batches of an optimum, most frequent first."""
    seconds = capacity.program.stairs.seconds
    found = [
        {
            "per_second": often,
            "tokens": kind.tokens,
            "prompt_tokens": float(kind.prompt),
            "decodes": float(kind.decoding),
            "linear_seconds": seconds[kind.tokens - 1],
            "tokens_per_second": kind.tokens / seconds[kind.tokens - 1],
            "content": capacity.describe(kind),
        }
        for kind, often in point.solution.batches
    ]
    return sorted(found, key=lambda batch: -batch["per_second"])


def prices_of(point: Point, system: System) -> dict[str, float]:
    """What one more of each limit brings, in percent of the load."""
    prices = point.prices
    return {
        "one node more": 100 * prices.node,
        "one millisecond less per iteration": 100 * prices.millisecond,
        "one KV block more": 100 * prices.kv_token * system.block_size,
        "one place more": 100 * prices.place,
        "one iteration/s less demanded": 100 * prices.tbt,
    }


def tile_report(
    system: System, lengths: str, budget: int | None, tbt: float | None, nodes: int, pure: bool
) -> dict[str, Any]:
    """The throughput-optimal batches for one class of requests, certified."""
    limits = limits_of(system, budget, tbt, nodes)
    stairs = stairs_of(system, limits.budget)
    demand = Demand.of(lengths_of(lengths).moments(), 1.0, lengths, last_chunk_emits=system.last_chunk_emits)
    capacity = Capacity(stairs, [demand], limits, pure=pure)
    point = capacity.boundary()
    certificate = capacity.certificate()
    certificate.check()
    batches = batches_of(capacity, point)
    best = max(batch["tokens"] for batch in batches)
    prompt = sum(batch["per_second"] * batch["prompt_tokens"] for batch in batches)
    decodes = sum(batch["per_second"] * batch["decodes"] for batch in batches)
    after = next(
        (n for n in range(best, len(stairs.seconds)) if stairs.seconds[n] > stairs.seconds[best - 1]), None
    )
    return {
        "system": system.name,
        "lengths": lengths,
        "rate": float(certificate.theta),
        "token_budget": best,
        "prefill_share": prompt / (prompt + decodes),
        "tokens_per_second": prompt + decodes,
        "iterations_per_second": sum(batch["per_second"] for batch in batches),
        "batches": batches,
        "staircase": {
            "tokens": best,
            "seconds": stairs.seconds[best - 1],
            "next_step_at_tokens": None if after is None else after + 1,
            "next_step_seconds": None if after is None else stairs.seconds[after],
        },
        "binds": list(point.binds),
        "prices_percent": prices_of(point, system),
        "certificate": {"kind": str(certificate.kind), "claim": certificate.claim, "theta": str(certificate.theta),
                        "gap": float(certificate.gap), "checked": True},
    }  # fmt: skip


def capacity_report(
    system: System, classes: Sequence[str], budget: int | None, tbt: float | None, nodes: int, pure: bool
) -> tuple[dict[str, Any], Capacity]:
    """Whether a load is carried, why or why not, and the half-space that bounds it."""
    if not classes:
        raise ValueError("give the load as --class LENGTHS@RATE, once for each class")
    limits = limits_of(system, budget, tbt, nodes)
    demands = [demand_of(text, k, system) for k, text in enumerate(classes)]
    capacity = Capacity(stairs_of(system, limits.budget), demands, limits, pure=pure)
    found = capacity.membership()
    certificate = capacity.certificate()
    certificate.check()
    names = [demand.name for demand in demands]
    report = {
        "system": system.name,
        "inside": found.inside,
        "theta": float(certificate.theta),
        "reason": found.reason,
        "edge": dict(zip(names, found.point.rates, strict=True)),
        "half_space": dict(zip(names, found.point.normal, strict=True)),
        "batches": batches_of(capacity, found.point),
        "binds": list(found.point.binds),
        "prices_percent": prices_of(found.point, system),
        "certificate": {"kind": str(certificate.kind), "claim": certificate.claim, "theta": str(certificate.theta),
                        "gap": float(certificate.gap), "checked": True},
    }  # fmt: skip
    return report, capacity


def region_plot(capacity: Capacity, path: Path) -> None:
    """Draw the region of two classes, mixed and pure batches, with the load that was asked about."""
    classes = capacity.program.classes
    if len(classes) != 2:
        raise ValueError(f"a region of {len(classes)} classes has no picture in the plane; give two")
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError("plots need matplotlib: pip install 'tandem-queueing[plots]'") from None
    figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
    pure = Capacity(capacity.program.stairs, classes, capacity.limits, pure=True)
    for region, style, label in ((capacity, "-", "mixed batches"), (pure, "--", "pure batches")):
        edge = [region.boundary([np.cos(a), np.sin(a)]).rates for a in np.linspace(0, np.pi / 2, 181)]
        axes.plot(*np.array(edge).T, style, label=label)
    axes.plot([classes[0].rate], [classes[1].rate], "o", color="black", label="load")
    axes.set(
        xlabel=f"{classes[0].name} (requests/s)", ylabel=f"{classes[1].name} (requests/s)", xlim=0, ylim=0
    )
    axes.legend()
    figure.savefig(path)
    plt.close(figure)
