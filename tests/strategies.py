"""Every hypothesis generator of the tests, by the module whose values it makes."""

from __future__ import annotations

import dataclasses
import math
from enum import IntEnum
from typing import Any, cast, get_args, get_origin, get_type_hints

import numpy as np
from hypothesis import strategies as st

from queueing.models.iteration_time import Affine, Combined, IterationTime, Load, Roofline, Table, TileLaw
from queueing.one_shot import Pool, Requests
from queueing.policy import Policy, Router
from queueing.system import System
from queueing.trace import SKETCH_BINS, Trace
from queueing.trace_io import COLUMNS
from queueing.workload import Workload

# -- queueing.workload


def workloads(
    *,
    min_requests: int = 1,
    max_requests: int = 8,
    max_prompt: int = 64,
    max_output: int = 16,
    clients: int = 3,
    max_gap: float = 2.0,
) -> st.SearchStrategy[Workload]:
    """Small valid workloads: ties and bursts of arrivals, one-token prompts and outputs, mixed limits, predictions.

    Shrinks towards few requests of one token that arrive together at 0, without limits and predictions.
    """
    gap = st.just(0.0) | st.floats(2.0**-20, max_gap)
    tokens = st.tuples(st.integers(1, max_prompt), st.integers(1, max_output), st.integers(1, max_output))
    limits = st.tuples(st.sampled_from([np.inf, 0.5, 0.1]), st.sampled_from([np.inf, 1.0]))
    request = st.tuples(gap, tokens, st.integers(0, clients - 1), limits)
    requests = st.lists(request, min_size=min_requests, max_size=max_requests)
    return st.builds(_workload, requests, st.booleans())


def _workload(
    requests: list[tuple[float, tuple[int, int, int], int, tuple[float, float]]], announced: bool
) -> Workload:
    gaps, tokens, client, limits = zip(*requests, strict=True)
    prompt, output, predicted = zip(*tokens, strict=True)
    tbt, ttft = zip(*limits, strict=True)
    return Workload(np.cumsum(gaps), prompt, output, client, tbt, ttft, predicted if announced else None)


# -- queueing.metrics


def latencies() -> st.SearchStrategy[list[float]]:
    """Latencies (s) of a few requests, some of them censored (inf)."""
    return st.lists(st.floats(0, 100) | st.just(np.inf), min_size=1, max_size=40)


def probabilities() -> st.SearchStrategy[float]:
    """Numbers between 0 and 1, both included."""
    return st.floats(0, 1)


# -- queueing.trace_io


def columns(kind: str, rows: int) -> st.SearchStrategy[np.ndarray]:
    """A column of any values of a dtype: for floats also nan, infinities, subnormals and -0."""
    dtype = np.dtype(kind)
    if dtype.kind == "f":
        cells = st.floats(allow_nan=True, allow_infinity=True, width=64)
    else:
        cells = st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    return st.lists(cells, min_size=rows, max_size=rows).map(lambda values: np.array(values, dtype=dtype))


def metas() -> st.SearchStrategy[dict[str, object]]:
    """Meta data as a trace may carry it: nested, with infinities."""
    plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)

    def nested(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
        return st.lists(inner, max_size=3) | st.dictionaries(names(), inner, max_size=3)

    return st.dictionaries(names(), st.recursive(plain, nested), max_size=4)


def names() -> st.SearchStrategy[str]:
    """Keys of meta data."""
    return st.text(max_size=8).filter(lambda key: key != "float")


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Any columns of the right types, not a possible run: what is saved need not make sense to be kept."""

    def table(name: str) -> dict[str, np.ndarray]:
        rows = draw(st.integers(0, 3))
        return {column: draw(columns(kind, rows)) for column, kind in COLUMNS[name].items()}

    limits = draw(columns("f8", draw(st.integers(0, 2))))
    gaps = np.zeros((len(limits), SKETCH_BINS), np.int64)
    for row in gaps:
        row[draw(st.lists(st.integers(0, SKETCH_BINS - 1), max_size=3))] = draw(st.integers(1, 2**62))
    entries = table("entries") if draw(st.booleans()) else None
    return Trace(table("requests"), table("iterations"), entries, gaps, limits, draw(metas()))


# -- queueing.system and policies: a serving problem small enough that memory runs short


def systems(law: IterationTime, *, most_places: int = 8) -> st.SearchStrategy[System]:
    """Nodes with room for a few requests, so that growth preempts and long requests are rejected."""
    memory = st.tuples(st.sampled_from([1, 4, 16]), st.integers(32, 160)).map(lambda m: (m[0], m[1] // m[0]))
    return st.builds(
        _system,
        st.just(law),
        memory,
        max_length=st.sampled_from([100, 1000]),
        max_running=st.sampled_from([most_places, 3, 1]),
        last_chunk_emits=st.sampled_from([True, False]),
    )


def _system(law: IterationTime, memory: tuple[int, int], **limits: Any) -> System:
    return System(law, blocks=memory[1], block_size=memory[0], name="small", **limits)


def parameters_of(cls: type[Policy] | type[Router]) -> st.SearchStrategy[Any]:
    """Policies or routers of one class at defaults and away from them, as far as their constructor allows."""
    hints = get_type_hints(cls)
    fields = {f.name: _around(hints[f.name], f.default) for f in dataclasses.fields(cast("Any", cls))}
    return st.just(cls()) | st.fixed_dictionaries({}, optional=fields).map(lambda p: _built(cls, p)).filter(
        bool
    )


def _around(kind: type[Any], default: Any) -> st.SearchStrategy[Any]:
    if get_origin(kind) is tuple:
        whole = st.sampled_from([(1,), (3,), (2, 5), (8, 32)])
        return whole if get_args(kind)[0] is int else st.sampled_from([(0.5,), (1.0,), (2.0,)])
    if issubclass(kind, Policy):
        return parameters_of(kind) | st.just(default)
    if dataclasses.is_dataclass(kind):
        return st.just(default) | st.builds(kind, st.sampled_from([1.0, 4.0]), st.sampled_from([0.5, 2.0]))
    if issubclass(kind, IntEnum):
        return st.sampled_from(list(kind))
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.sampled_from([1, 2, 8, 32, 128])
    if np.isinf(default):
        return st.sampled_from([1.0, 2.0, 3.0])
    return st.sampled_from([default / 4, default / 2, default * 2])


def _built(cls: type[Any], parameters: dict[str, Any]) -> Any:
    try:
        return cls(**parameters)
    except ValueError:
        return None


# -- queueing.models.iteration_time


def laws() -> st.SearchStrategy[Any]:
    """Laws of iteration time of every class: any tile, knees, floors, ragged tables, zeros."""
    cost = st.just(0.0) | st.floats(1e-9, 1e-2)
    some = st.floats(1e-6, 1e-1)
    tile = st.integers(1, 300)
    points = st.dictionaries(st.integers(1, 3000), some, min_size=1, max_size=12).map(
        lambda p: sorted(p.items())
    )
    return st.one_of(
        st.builds(Affine, some, cost, cost, cost),
        st.builds(Roofline, some, cost, st.just(0.0) | st.floats(1e-5, 1e-2), cost, cost),
        st.builds(TileLaw, tile, some, cost, cost, cost),
        st.builds(Combined, some, cost, cost, cost, cost, st.floats(0.0, 30_000.0), tile),
        st.builds(
            lambda p, kappa, phi: Table(tuple(n for n, _ in p), tuple(s for _, s in p), kappa, phi),
            points,
            cost,
            cost,
        ),
    )


@st.composite
def loads(draw: st.DrawFn, *, max_tokens: int = 40_000) -> Load:
    """Loads of up to a few chunks and decodes with any history; sizes reach beyond every table."""
    chunk = draw(st.lists(st.integers(1, max_tokens), max_size=3))
    history = draw(st.lists(st.integers(0, 10_000), min_size=len(chunk), max_size=len(chunk)))
    decodes = draw(st.integers(0 if chunk else 1, 300))
    context = draw(st.integers(decodes, decodes * 8192)) if decodes else 0
    return Load(
        sum(chunk) + decodes, decodes, context, np.array(chunk, np.int64), np.array(history, np.int64)
    )


# -- queueing.models.stability


PACES = (0.0, 0.5, 1.0, 1.0, 1.25, 4.0)  # gaps between arrivals in units of the last request's work


def pressing_workloads(
    *,
    tile: int,
    decodes: int,
    seconds_per_token: float = 2.0**-8,
    least: int = 1,
    most: int = 14,
    paces: tuple[float, ...] = PACES,
) -> st.SearchStrategy[Workload]:
    """Streams at and beyond capacity: prompts of whole tiles, bursts, and gaps near the work of what came last.

    Arrival times are multiples of 2^-12 s.  Shrinks towards few short requests that come together.
    """
    request = st.tuples(st.integers(1, 3), st.integers(1, decodes), st.sampled_from(paces), st.integers(0, 3))
    return st.lists(request, min_size=least, max_size=most).map(
        lambda requests: _pressing(requests, tile, seconds_per_token)
    )


def _pressing(requests: list[tuple[int, int, float, int]], tile: int, seconds: float) -> Workload:
    prompt = [tile * p for p, _, _, _ in requests]
    output = [d for _, d, _, _ in requests]
    gaps = [
        (round(pace * (p + d) * seconds * 2**12) + jitter) / 2**12 if pace else 0.0
        for p, d, (_, _, pace, jitter) in zip(prompt, output, requests, strict=True)
    ]
    return Workload(np.cumsum([0.0, *gaps[:-1]]), prompt, output)


@st.composite
def one_shot_runs(
    draw: st.DrawFn, *, min_requests: int = 1, max_requests: int = 12, impossible: bool = False
) -> tuple[Requests, Pool]:
    """One-shot requests and a pool for them, on a coarse grid of times so that events coincide.

    With `impossible`, some batches cannot run; one configuration runs single requests of all kinds.
    """
    n = draw(st.integers(min_requests, max_requests))
    quarter = st.integers(0, 12).map(lambda q: q / 4)
    gaps = draw(st.lists(quarter | st.just(0.0), min_size=n, max_size=n))
    arrival = np.cumsum(gaps)
    limits = draw(
        st.lists(st.integers(1, 20).map(lambda q: q / 4) | st.just(math.inf), min_size=n, max_size=n)
    )
    kinds, configurations, largest = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    kind = draw(st.lists(st.integers(0, kinds - 1), min_size=n, max_size=n))
    cells = configurations * kinds * largest
    seconds = np.array(draw(st.lists(st.integers(1, 10), min_size=cells, max_size=cells))) / 4
    seconds = seconds.reshape(configurations, kinds, largest)
    if impossible:
        bits = st.integers(0, 2**cells - 1)
        unable = (draw(bits) & draw(bits)) >> np.arange(cells).reshape(seconds.shape) & 1 == 1  # a quarter
        unable[draw(st.integers(0, configurations - 1)), :, 0] = False
        seconds[unable] = math.inf
    servers = draw(st.integers(1, 3) | st.none())
    switch = draw(st.lists(quarter, min_size=configurations, max_size=configurations)) if servers else None
    failures = (
        draw(st.lists(quarter | st.just(math.inf), min_size=servers, max_size=servers)) if servers else None
    )
    pool = Pool(seconds, servers, switch=switch, failures=failures)
    return Requests(arrival, arrival + np.array(limits), kind), pool
