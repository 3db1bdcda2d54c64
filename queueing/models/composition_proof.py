"""From the floating-point optimum of the composition program to its proof in fractions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from queueing.models.composition import Composition, Solution, load_of, upper_hull
from queueing.models.demand import Demand, Limits, Stairs
from queueing.models.iteration_time import TileLaw
from queueing.proofs.certificate import Certificate, Kind
from queueing.proofs.claim import Claim
from queueing.proofs.composition import BatchKind, BestComposition, Knapsack, Load, Setting
from queueing.proofs.identity import Identity
from queueing.proofs.rational import Optimum, Program, exact
from queueing.proofs.simplex import certify

__all__ = ["CLAIMS", "prove"]

EXACT_ROUNDS, EXACT_CLASSES = 8, 12  # beyond, rounded answers are repaired instead
# of a prompt token, of decodes, of a second, of a batch
Prices = tuple[Fraction, tuple[Fraction, ...], Fraction, Fraction]


def prove(program: Composition, rates: Sequence[float] | None = None) -> BestComposition:
    """Solve, and return the optimum in fractions with its proof over all batches.

    The generated program is solved in fractions, and batches that exact pricing still finds are added until none
    is left.  With many classes, or where the exact prices wander among equally good ones, the rounded batches and
    prices are repaired instead, and a `gap` (below 1e-8, relative) is left between bound and batches.
    """
    solution = program.solve(rates)
    load = load_of(program.stairs, program.classes, program.chosen(rates))
    s, zero = program.setting, Fraction(0)
    kinds = program.near_optimal()
    for _ in range(EXACT_ROUNDS if len(program.classes) <= EXACT_CLASSES else 0):
        optimum = certify(_master(s, load, kinds))
        assert isinstance(optimum, Optimum)  # the first batches serve every need, and time bounds θ
        y = {row.name: optimum.y.get(row.name, zero) for row in optimum.program.rows}
        prices = (y["prompt"], tuple(y[f"decode {name}"] for name in s.names), y["time"], y["tbt"])
        knapsacks, better, _ = _exactly_priced(program, *prices)
        if better is None:
            runs = [(kind, optimum.x.get(f"batch {i}", zero)) for i, kind in enumerate(kinds)]
            return BestComposition(
                s, load, optimum.value, tuple((k, x) for k, x in runs if x), *prices, knapsacks
            )
        kinds.append(better)
    theta, batches = _repaired_batches(s, solution, load)
    prices, knapsacks = _repaired_prices(program, solution, load)
    gap = (prices[2] * s.nodes - prices[3] * s.min_batches) / theta - 1
    return BestComposition(s, load, theta, batches, *prices, knapsacks, gap)


def _repaired_batches(
    s: Setting, found: Solution, load: Load
) -> tuple[Fraction, tuple[tuple[BatchKind, Fraction], ...]]:
    """Rounded frequencies made exactly right: θ is what they carry, all scaled to the time there is."""
    runs = [(kind, exact(often)) for kind, often in found.batches]
    prompt = sum((x * kind.prompt for kind, x in runs), Fraction(0))
    decodes = [Fraction(0)] * len(s.names)
    for kind, x in runs:
        for k, n in kind.decodes:
            decodes[k] += x * n
    theta = min(
        got / asked
        for got, asked in zip([prompt, *decodes], [load.prompt, *load.decodes], strict=True)
        if asked
    )
    spent = sum((x * s.seconds[kind.tokens - 1] for kind, x in runs), theta * load.attention)
    lacking = s.min_batches * spent - s.nodes * sum((x for _, x in runs), Fraction(0))
    if lacking > 0:  # idle batches, as short as there are, make up for the iterations that rounding lost
        idle = lacking / (s.nodes - s.min_batches * s.seconds[0])
        runs.append((BatchKind(1, Fraction(1), ()), idle))
        spent += idle * s.seconds[0]
    return theta * s.nodes / spent, tuple((kind, x * s.nodes / spent) for kind, x in runs)


def _repaired_prices(
    program: Composition, found: Solution, load: Load
) -> tuple[Prices, tuple[Knapsack, ...]]:
    """Rounded prices made exactly right: time dearer until no batch beats it, then all scaled to a load worth 1."""
    u, s = exact(found.token), exact(found.batch)
    v = tuple(map(exact, found.decode))
    knapsacks, _, w = _exactly_priced(program, u, v, exact(found.second), s)
    worth = u * load.prompt + sum((a * d for a, d in zip(v, load.decodes, strict=True)), w * load.attention)
    scaled = tuple(Knapsack(dual.places / worth, dual.memory / worth) for dual in knapsacks)
    return (u / worth, tuple(a / worth for a in v), w / worth, s / worth), scaled


def _exactly_priced(
    program: Composition, u: Fraction, v: Sequence[Fraction], w: Fraction, s: Fraction
) -> tuple[tuple[Knapsack, ...], BatchKind | None, Fraction]:
    """Knapsack bounds, one for each edge of the hull; the batch that beats its time by most, if one does; and the
    least price of a second at which none does.
    """
    setting = program.setting
    base = Fraction(0) if setting.pure else u
    bound = setting.kv_tokens is not None
    worth = [Fraction(-1) if c is None else a - base for a, c in zip(v, setting.context, strict=True)]
    context = [c if c is not None and bound else Fraction(0) for c in setting.context]
    hull = upper_hull(context, worth)
    top = max(worth[hull[-1]], Fraction(0)) if hull else Fraction(0)
    edges: list[tuple[Knapsack, int | None, int | None]] = [
        (Knapsack(top, Fraction(0)), hull[-1] if hull else None, None)
    ]
    x0 = y0 = Fraction(0)
    for left, k in zip([None, *hull], hull, strict=False):
        if context[k] > x0:
            slope = (worth[k] - y0) / (context[k] - x0)
            edges.append((Knapsack(y0 - slope * x0, slope), left, k))
        x0, y0 = context[k], worth[k]
    prompt = not setting.pure and u > 0
    memory = setting.kv_tokens or Fraction(0)
    dearest, better = w, None
    for tokens, seconds in enumerate(setting.seconds, start=1):
        most = min(tokens, setting.max_running)
        values = [(dual.places * most + dual.memory * memory, left, right) for dual, left, right in edges]
        value, left, right = min(values, key=lambda found: found[0])
        for gain, make in (
            (base * tokens + value, lambda n, a=left, b=right: program.fill(n, a, b, prompt=prompt)),
            (u * tokens, lambda n: BatchKind(n, Fraction(n), ())),
        ):
            worth = (gain + s) / seconds
            if worth > dearest:
                dearest, better = worth, make(tokens)
    return tuple(dual for dual, _, _ in edges), better, dearest


def _master(s: Setting, load: Load, kinds: Sequence[BatchKind]) -> Program:
    """The master program over the given batches, in fractions."""
    rows: dict[str, tuple[str, Any]] = {f"decode {name}": ("<=", 0) for name in s.names}
    rows |= {"prompt": ("<=", 0), "time": ("<=", s.nodes), "tbt": ("<=", -s.min_batches)}
    asked = {f"decode {name}": d for name, d in zip(s.names, load.decodes, strict=True)}
    columns: dict[str, tuple[Any, dict[str, Any]]] = {
        "theta": (1, {**asked, "prompt": load.prompt, "time": load.attention})
    }
    for i, kind in enumerate(kinds):
        given = {f"decode {s.names[k]}": -n for k, n in kind.decodes}
        time = s.seconds[kind.tokens - 1]
        columns[f"batch {i}"] = (0, {**given, "prompt": -kind.prompt, "time": time, "tbt": -1})
    return Program.of(rows, columns)


TILES = Stairs.of(TileLaw(128, 0.004, 5e-6).params(), 512)


def _of_tiles(pure: bool = False) -> BestComposition:
    """Two classes on two nodes, 2084 tokens a second at the rates that are meant."""
    sizes = ((3.0, 512, 40), (1.0, 128, 300))  # requests/s, prompt and decode tokens
    classes = [Demand(f"{p}+{d}", r, p, d, p * d + d * (d + 1) / 2, p * p / 2) for r, p, d in sizes]
    return prove(Composition(TILES, classes, Limits(512, nodes=2), pure=pure))


def _capacity_of_rad() -> list[Certificate]:
    """θ = g/(w·tokens), w = 4640/128 µs, for mixed and for pure batches."""
    found: list[Certificate] = []
    for pure in (False, True):
        best = _of_tiles(pure)
        found += [
            best,
            Identity("capacity of full tiles", best.theta, Fraction(2 * 128 * 10**6, 4640 * 2084)),
        ]
    return found


def _altered() -> list[Certificate]:
    """More than is carried; every second a hundredth shorter; decodes worth twice as much; a batch of a token more."""
    best = _of_tiles()
    faster = replace(best.setting, seconds=tuple(t * Fraction(99, 100) for t in best.setting.seconds))
    (batch, often), *others = best.batches
    fuller = (batch._replace(prompt=batch.prompt + 1), often)
    return [
        replace(best, theta=best.theta * Fraction(1001, 1000)),
        replace(best, setting=faster),
        replace(best, decode=tuple(2 * v for v in best.decode)),
        replace(best, batches=(fuller, *others)),
    ]


CLAIMS = (
    Claim(
        name="composition-tile-capacity",
        statement="Under the tile law (128 tokens, 4 ms a tile, 5 µs a token) two nodes carry 400000/15109 times "
        "the load of 3 requests/s of 512 + 40 tokens and 1 of 128 + 300, and no schedule of batches of up to 512 "
        "tokens carries more: the capacity g/(w·tokens) of RAD, with mixed batches and with pure ones.",
        assumptions=("no attention, ample memory", "in the mean over time"),
        source="arXiv 2508.01002, theorem 1 (published; recalled); the certificate over all batches is our "
        "derivation",
        kind=Kind.RATIONAL,
        evidence=_capacity_of_rad,
        controls={"θ, times, a price and a batch altered": _altered},
        where="docs/models/composition.md",
    ),
)
