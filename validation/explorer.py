"""Tables of the interactive page docs/explorer.md: region, optimal batches and latencies over a grid of settings.

A setting is a law of iteration time, a token budget B and KV memory M; two classes of requests of fixed lengths arrive.
At a setting and a share of the second class among the requests,

*  the corners of the capacity region are those of :meth:`queueing.models.capacity.Capacity.polytopes`, of a polygon
   inside the region and at most `GAP` from it;
*  the point where loads of that mix leave the capacity region, with the optimal batches there and what binds, is that
   of :meth:`queueing.models.capacity.Capacity.boundary`: an upper bound on every scheduler, in the mean over time;
*  mean time to first token and mean time in system are those of Sarathi with budget B in the simulator, one run of
   `requests` Poisson arrivals into an empty node at each load.  All settings see the same requests, faster or slower.

The page computes nothing but scale: at one mix θ is inversely proportional to the load.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policies.sarathi import Sarathi
from queueing.arrivals import Poisson
from queueing.lengths import Moments
from queueing.metrics.latency import e2e, ttft
from queueing.models.capacity import Capacity, Point
from queueing.models.demand import Demand, Limits, Stairs
from queueing.models.iteration_time import IterationTime, TileLaw
from queueing.simulator import simulate
from queueing.system import System
from queueing.workload import Workload
from validation.result import write_atomically
from validation.sources import fingerprint

__all__ = ["CLASSES", "FULL", "Class", "Grid", "Machine", "latencies", "region", "table", "write"]

PLACES = 128  # requests that hold KV memory at once
BLOCK = 16  # tokens
SEED = 8
GAP = 1e-3  # relative
DIGITS = 6  # significant, of every number in the table
MACHINES = {
    "rad": "RAD's tile law",
    "mistral-7b/rtx-6000-ada": "Mistral-7B on an RTX 6000 Ada, roofline",
    "llama-3-8b/a100": "Llama-3-8B on an A100, measured table",
}


@dataclass(frozen=True, slots=True)
class Class:
    """Requests of `prompt` tokens for which `output` tokens are generated."""

    name: str
    prompt: int
    output: int

    @property
    def demand(self) -> Demand:
        """What one of them asks for; the last chunk of its prompt emits its first token."""
        lengths = Moments.of([self.prompt], [self.output])
        return Demand.of(lengths, name=self.name, last_chunk_emits=True)


CLASSES = (Class("chat", 500, 250), Class("documents", 3000, 100))


@dataclass(frozen=True, slots=True)
class Machine:
    """A law of iteration time by its key, and by the tile b (tokens) if the law has one to choose.

    "rad" is RAD's tile law with the time of a full tile in proportion to b, so that a token in a full tile costs the
    same for every b; other keys are names of :class:`queueing.system.System`.
    """

    key: str
    tile: int | None = None

    @property
    def law(self) -> IterationTime:
        """Seconds of a batch."""
        if self.tile is None:
            return System.named(*self.key.split("/")).iteration_time
        return TileLaw(self.tile, 4e-3 * self.tile / 128, 5e-6)


@dataclass(frozen=True, slots=True)
class Grid:
    """What the table covers: machines, budgets B (tokens), KV memory M (tokens), shares of the second class, loads in
    shares of the region's edge at which is simulated, and requests in a run.
    """

    machines: tuple[str, ...] = tuple(MACHINES)
    tiles: tuple[int, ...] = (64, 128, 256)
    budgets: tuple[int, ...] = (64, 128, 192, 256, 512, 1024, 2048)
    kv_tokens: tuple[int, ...] = (8192, 16384, 32768, 65536, 131072)
    shares: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    loads: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 0.9)
    requests: int = 300

    def tiles_of(self, key: str) -> tuple[int | None, ...]:
        """Tiles to choose from; None where the law has none."""
        return self.tiles if key == "rad" else (None,)


FULL = Grid()


def region(machine: Machine, budget: int, kv_tokens: int) -> Capacity:
    """The capacity region of a setting."""
    stairs = Stairs.of(machine.law.lower()[1], budget)
    return Capacity(stairs, [each.demand for each in CLASSES], Limits(budget, kv_tokens, PLACES))


def latencies(
    machine: Machine, budget: int, kv_tokens: int, rate: float, share: float, requests: int
) -> tuple[float, float]:
    """Mean time to first token and mean time in system (s) under Sarathi at `rate` requests/s, `share` of them of the
    second class.

    Raises:
        ValueError: a request fits no memory of that size.
    """
    rng = np.random.default_rng(SEED)
    arrival = Poisson(1.0).times(requests, rng) / rate
    second = (rng.random(requests) < share).astype(int)
    prompt, output = (
        np.array([getattr(c, field) for c in CLASSES])[second] for field in ("prompt", "output")
    )
    system = System(machine.law, kv_tokens // BLOCK, block_size=BLOCK, max_running=PLACES)
    trace = simulate(Workload(arrival, prompt, output), system, Sarathi(budget, max_num_seqs=PLACES))
    if not trace.finished.all():
        raise ValueError(f"{kv_tokens} tokens of KV memory are too few for some request; give more")
    return float(ttft(trace).mean()), float(e2e(trace).mean())


def rounded(value: float) -> float:
    """`value` to the digits that the table keeps."""
    return float(f"{value:.{DIGITS}g}")


def table(
    grid: Grid = FULL, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """The table of a grid, ready for JSON.

    `settings` are in the order machine, tile, budget, KV memory, the last one fastest.  Each has the `corners` of the
    region (requests/s by class) from one axis to the other, and lists by share: `edge`, requests/s of both classes
    together; `batches`, each batches/s, tokens, prompt tokens and decodes by class; `binds`, positions in `sentences`;
    `ttft` and `e2e` (time in system), s, by load.
    """
    sentences: dict[str, int] = {}
    wanted = [
        (Machine(key, tile), budget, kv)
        for key in grid.machines
        for tile, budget, kv in itertools.product(grid.tiles_of(key), grid.budgets, grid.kv_tokens)
    ]
    settings: list[dict[str, Any]] = []
    for setting in wanted:
        capacity = region(*setting)
        points = [capacity.boundary([1 - share, share]) for share in grid.shares]
        timed = [
            [latencies(*setting, load * sum(p.rates), share, grid.requests) for load in grid.loads]
            for p, share in zip(points, grid.shares, strict=True)
        ]
        settings.append({
            "corners": corners_of(capacity),
            "edge": [rounded(sum(p.rates)) for p in points],
            "batches": [batches_of(p) for p in points],
            "binds": [[sentences.setdefault(clause, len(sentences)) for clause in p.binds] for p in points],
            "ttft": [[rounded(first) for first, _ in row] for row in timed],
            "e2e": [[rounded(whole) for _, whole in row] for row in timed],
        })  # fmt: skip
        progress(len(settings), len(wanted))
    return {
        "machines": [{"name": MACHINES[key], "tiles": grid.tiles_of(key)} for key in grid.machines],
        "classes": [{"name": c.name, "prompt": c.prompt, "output": c.output} for c in CLASSES],
        "budgets": grid.budgets,
        "kv_tokens": grid.kv_tokens,
        "shares": grid.shares,
        "loads": grid.loads,
        "requests": grid.requests,
        "settings": settings,
        "sentences": list(sentences),
    }


def corners_of(capacity: Capacity) -> list[list[float]]:
    """Corners of the region but the origin, from the axis of the second class to that of the first."""
    corners = [[rounded(x), rounded(y)] for x, y in capacity.polytopes(GAP).vertices if max(x, y) > 0]
    return sorted(corners, key=lambda corner: (corner[0], -corner[1]))


def batches_of(point: Point) -> list[list[float]]:
    """Optimal batches at a point of the boundary, the most frequent first."""
    order = sorted(point.solution.batches, key=lambda pair: -pair[1])
    decodes = [dict(kind.decodes) for kind, _ in order]
    return [
        [rounded(often), kind.tokens, rounded(float(kind.prompt))]
        + [rounded(float(found.get(k, 0))) for k in range(len(CLASSES))]
        for (kind, often), found in zip(order, decodes, strict=True)
    ]


def write(path: Path, grid: Grid = FULL) -> None:
    """Write the table of a grid as an element for a page, unless it is there from the same sources."""
    made_by = fingerprint("queueing", "policies", "validation.explorer")
    covers = hashlib.sha256(repr(grid).encode()).hexdigest()[:16]
    opening = f'<script type="application/json" id="explorer-table" data-made-by="{made_by} {covers}">'
    if path.exists() and path.read_text(encoding="utf-8").startswith(opening):
        return
    text = json.dumps(table(grid), separators=(",", ":"))
    write_atomically(path, f"{opening}{text}</script>\n".encode())
