"""Iteration time: how long the accelerator takes for one batch.

Notation, all of one iteration:  n tokens (chunks and decodes together);  L_i the context that decode i attends to, its
new token included;  a prefill chunk is q new tokens of a prompt after h cached ones and has q·(h + q/2) token pairs;
⌈x⌉_t is x rounded up to a multiple of t.  Seconds throughout, so a coefficient is seconds per what it multiplies.

Every law here is a special case of one additive normal form,

    T = token_time(n) + κ·Σ L_i + φ·Σ q·(h + q/2) + χ·Σ ⌈q⌉_t·⌈h + q⌉_t ,

and lowers to one function, :func:`additive`, so that the simulator compiles once for all of them.  What the form
assumes: kernels run one after another, and attention of decodes and chunks adds up.  It does not know how contexts are
spread over a batch; measured mixed attention calls can differ from the sum of their parts by a fifth.

| law | token_time(n) |
|---|---|
| :class:`Affine` | c₀ + δn |
| :class:`Roofline` | max(a, c₀ + δn) |
| :class:`TileLaw` | τ⌈n/b⌉ + δn |
| :class:`Combined` | c₀ + δ·max(n, n₀) + τ⌈n/b⌉ |
| :class:`Table` | through measured points |
"""

# The body of the law carries no hints: numba types it by what it is called with.
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AdditiveParams",
    "Affine",
    "Combined",
    "IterationTime",
    "Load",
    "Roofline",
    "Table",
    "TileLaw",
    "additive",
]

TABLE = 16_384  # tokens up to which token_time is looked up; the formulae go on exactly beyond
LONGEST_TABLE = 1 << 20

Lowered = tuple[Callable[..., float], "AdditiveParams"]


class Load(NamedTuple):
    """What one iteration asks of the accelerator, all in tokens.

    `tokens` n in the iteration, of which `decodes` are decodes; `context` Σ L_i over the decodes; `chunk[j]` new prompt
    tokens of the j-th prefill chunk and `history[j]` tokens of that prompt already in the KV cache.
    """

    tokens: int
    decodes: int
    context: int
    chunk: NDArray[np.int64]
    history: NDArray[np.int64]


class AdditiveParams(NamedTuple):
    """Parameters of the additive normal form (see the module's first lines).

    `token_time[n]` (s) up to its last index N; beyond, `slope` (s) a token and `step` (s) a started tile of `tile`
    tokens are added to token_time[N].  `kappa` (s per context token), `phi` (s per token pair), `chi` (s per pair of
    tokens in full tiles).
    """

    token_time: NDArray[np.float64]
    slope: float
    kappa: float
    phi: float
    chi: float
    tile: int
    step: float


class IterationTime(Protocol):
    """Law of iteration time: called with a :class:`Load` it returns seconds.

    `lower()` gives a module-level function that numba can compile and its parameters, such that `function(params,
    load)` is what the call returns, bit for bit.
    """

    def lower(self) -> tuple[Any, Any]:
        """Function of (params, load) and the params."""
        ...

    def __call__(self, load: Load) -> float:
        """Seconds that `load` takes."""
        ...


def additive(params, load) -> float:
    """Seconds of `load` by the additive normal form; Python and compiled code agree bit for bit.

    Assumes `load.tokens` >= 0.  The rounding-up of chunks costs nothing where χ is zero.
    """
    n = load.tokens
    last = params.token_time.size - 1
    if n <= last:
        seconds = params.token_time[n]
    else:
        seconds = params.token_time[last] + params.slope * (n - last)
        if params.step != 0.0:
            t = params.tile
            seconds += params.step * ((n + t - 1) // t - (last + t - 1) // t)
    pairs = 0.0
    for j in range(load.chunk.size):
        pairs += load.chunk[j] * (load.history[j] + load.chunk[j] / 2)
    seconds += params.kappa * load.context + params.phi * pairs
    if params.chi != 0.0:
        t = params.tile
        tiled = 0.0
        for j in range(load.chunk.size):
            q = load.chunk[j]
            tiled += ((q + t - 1) // t * t) * ((load.history[j] + q + t - 1) // t * t)
        seconds += params.chi * tiled
    return seconds


class _Additive:
    """What laws of the additive normal form share: lowering once per law, and the call."""

    __slots__ = ()

    def params(self) -> AdditiveParams:
        """Parameters of the additive normal form, computed anew."""
        raise NotImplementedError

    def lower(self) -> Lowered:
        """The function :func:`additive` and this law's parameters."""
        return additive, _lowered(self)

    def __call__(self, load: Load) -> float:
        """Seconds that `load` takes."""
        return float(additive(_lowered(self), load))


@functools.lru_cache(maxsize=256)
def _lowered(law: _Additive) -> AdditiveParams:
    params = law.params()
    params.token_time.setflags(write=False)
    return params


@dataclass(frozen=True, slots=True)
class Affine(_Additive):
    """Iteration time affine in everything:  T = c₀ + δn + κ·Σ L_i + φ·Σ q·(h + q/2).

    Fields: `base` c₀ (s), `per_token` δ (s), `per_context` κ (s per context token), `per_pair` φ (s per token pair).
    What it misses: the plateau of small batches, and steps at tile edges; without κ it is off by about 40 % at long
    contexts (Llama-2-7b on A100, batches up to 512 tokens).

    Raises:
        ValueError: a coefficient is negative or not finite, or one token takes no time.
    """

    base: float
    per_token: float
    per_context: float = 0.0
    per_pair: float = 0.0

    def __post_init__(self) -> None:
        _check(self, lambda: self.base + self.per_token)

    def params(self) -> AdditiveParams:
        """Parameters of the additive normal form, computed anew."""
        table = self.base + self.per_token * np.arange(TABLE + 1, dtype=np.float64)
        return AdditiveParams(table, self.per_token, self.per_context, self.per_pair, 0.0, 1, 0.0)


@dataclass(frozen=True, slots=True)
class Roofline(_Additive):
    """Iteration time with a plateau:  T = max(a, c₀ + δn) + κ·Σ L_i + φ·Σ q·(h + q/2).

    Up to the knee (a - c₀)/δ the weights are read and tokens are free; beyond it arithmetic is paid by the token.
    Fields: `plateau` a (s), `base` c₀ (s), `per_token` δ (s), `per_context` κ (s per context token), `per_pair` φ
    (s per token pair).  What it misses: steps at tile edges.

    Raises:
        ValueError: a coefficient is negative or not finite, one token takes no time, or the knee lies beyond 2²⁰
            tokens.

    Source: the roofline of Williams, Waterman and Patterson, CACM 52(4), 2009, with a fixed cost.
    """

    plateau: float
    base: float
    per_token: float
    per_context: float = 0.0
    per_pair: float = 0.0

    def __post_init__(self) -> None:
        _check(self, lambda: max(self.plateau, self.base + self.per_token))
        if self.knee > LONGEST_TABLE:
            raise ValueError(
                f"Roofline has its knee at {self.knee:.4g} tokens; give a per_token of 0 if the plateau never ends, "
                f"or coefficients with the knee below {LONGEST_TABLE}"
            )

    @property
    def knee(self) -> float:
        """Tokens up to which the plateau holds: (a - c₀)/δ, at least 0; 0 too if δ is 0."""
        return max(0.0, (self.plateau - self.base) / self.per_token) if self.per_token > 0 else 0.0

    def params(self) -> AdditiveParams:
        """Parameters of the additive normal form, computed anew."""
        n = np.arange(max(TABLE, math.ceil(self.knee)) + 1)
        table = np.maximum(self.plateau, self.base + self.per_token * n)
        return AdditiveParams(table, self.per_token, self.per_context, self.per_pair, 0.0, 1, 0.0)


@dataclass(frozen=True, slots=True)
class TileLaw(_Additive):
    """Iteration time of kernels on fixed tiles:  T = τ⌈n/b⌉ + δn + χ·Σ ⌈q⌉_b·⌈h + q⌉_b + κ·Σ L_i.

    A partly filled tile costs a full one, and there is no other fixed cost: any n <= b takes the linear layers equally
    long.  Fields: `tile` b (tokens), `tile_time` τ (s), `per_token` δ (s), `per_tiled_pair` χ (s per pair of tokens in
    full tiles, chunk attention), `per_context` κ (s per context token, decode attention).  What it misses: measured
    steps follow waves of tiles over the processors, and are a clean staircase on few machines.

    Raises:
        ValueError: `tile` is no whole number >= 1, a coefficient is negative or not finite, or one token takes no time.

    Source: Bari, Hegde and de Veciana, "Optimal Scheduling Algorithms for LLM Inference: Theory and Practice",
    arXiv 2508.01002, eq. (7); the form of the attention terms is ours.
    """

    tile: int
    tile_time: float
    per_token: float
    per_tiled_pair: float = 0.0
    per_context: float = 0.0

    def __post_init__(self) -> None:
        _check(self, lambda: self.tile_time + self.per_token)

    def params(self) -> AdditiveParams:
        """Parameters of the additive normal form, computed anew."""
        n = np.arange(TABLE + 1)
        table = self.tile_time * -(-n // self.tile) + self.per_token * n
        return AdditiveParams(
            table, self.per_token, self.per_context, 0.0, self.per_tiled_pair, self.tile, self.tile_time
        )


@dataclass(frozen=True, slots=True)
class Combined(_Additive):
    """Iteration time with fixed cost, floor and tiles:  T = c₀ + δ·max(n, n₀) + τ⌈n/b⌉ + κ·Σ L_i + φ·Σ q·(h + q/2).

    Fields: `base` c₀ (s), `per_token` δ (s), `per_tile` τ (s), `per_context` κ (s per context token), `per_pair` φ (s
    per token pair), `floor` n₀ (tokens), `tile` b (tokens).  Contains :class:`Affine` (τ = n₀ = 0) and every
    :class:`Roofline` with a >= c₀ (τ = 0, n₀ the knee).

    Raises:
        ValueError: `tile` is no whole number >= 1, `floor` exceeds 2²⁰ tokens, a coefficient is negative or not finite,
            or one token takes no time.
    """

    base: float
    per_token: float
    per_tile: float
    per_context: float = 0.0
    per_pair: float = 0.0
    floor: float = 0.0
    tile: int = 128

    def __post_init__(self) -> None:
        _check(self, lambda: self.base + self.per_token * max(1.0, self.floor) + self.per_tile)
        if self.floor > LONGEST_TABLE:
            raise ValueError(f"Combined has floor={self.floor} tokens; give at most {LONGEST_TABLE}")

    def params(self) -> AdditiveParams:
        """Parameters of the additive normal form, computed anew."""
        n = np.arange(max(TABLE, math.ceil(self.floor)) + 1)
        table = self.base + self.per_token * np.maximum(n, self.floor) + self.per_tile * -(-n // self.tile)
        return AdditiveParams(
            table, self.per_token, self.per_context, self.per_pair, 0.0, self.tile, self.per_tile
        )


@dataclass(frozen=True, slots=True)
class Table(_Additive):
    """Iteration time read off measured points:  token_time piecewise linear in n, plus κ·Σ L_i + φ·Σ q·(h + q/2).

    Fields: `tokens` (strictly increasing, >= 1) and `seconds` (> 0) of the points; `per_context` κ (s per context
    token) and `per_pair` φ (s per token pair).  Points at M and M + 1 make a step as sharp as it was measured.
    Below the first point the time is the first point's; beyond the last, (N, T_N), every further token costs T_N/N, the
    mean price there, so that the time is T_N·n/N.  Monotone only if the points are.

    Raises:
        ValueError: points are missing, out of order, not positive or beyond 2²⁰ tokens, or a coefficient is negative or
            not finite.
    """

    tokens: tuple[int, ...]
    seconds: tuple[float, ...]
    per_context: float = 0.0
    per_pair: float = 0.0

    def __post_init__(self) -> None:
        # lists come from JSON; tuples keep the law hashable
        object.__setattr__(self, "tokens", _tuple("tokens", self.tokens))
        object.__setattr__(self, "seconds", _tuple("seconds", self.seconds))
        if len(self.tokens) != len(self.seconds) or not self.tokens:
            raise ValueError(
                f"Table needs one time per point and at least one point, not {len(self.tokens)} tokens and "
                f"{len(self.seconds)} seconds"
            )
        before = 0
        for n, seconds in zip(self.tokens, self.seconds, strict=True):
            if not _whole(n) or not before < n <= LONGEST_TABLE:
                raise ValueError(
                    f"Table has a point at {n!r} tokens after {before}; give whole numbers, increasing, from 1 to "
                    f"{LONGEST_TABLE}"
                )
            if not _finite(seconds) or seconds <= 0:
                raise ValueError(f"Table takes {seconds!r} s at {n} tokens; give a finite time above 0")
            before = n
        _check(self, lambda: self.seconds[0])

    @classmethod
    def of_tiles(
        cls,
        tile: int,
        tile_seconds: Sequence[float],
        per_token: float,
        per_context: float = 0.0,
        per_pair: float = 0.0,
    ) -> Table:
        """One constant per tile and a common slope:  token_time(n) = tile_seconds[⌈n/b⌉ - 1] + δn.

        Exact up to the last tile; beyond, as every table.
        """
        tile = _plain(tile)
        if not _whole(tile) or tile < 1:
            raise ValueError(f"Table needs a whole tile of at least 1 token, not {tile!r}")
        points = {
            n: constant + per_token * n
            for k, constant in enumerate(tile_seconds)
            for n in (k * tile + 1, (k + 1) * tile)
        }
        return cls(tuple(points), tuple(points.values()), per_context, per_pair)

    def params(self) -> AdditiveParams:
        """Parameters of the additive normal form, computed anew."""
        table = np.interp(np.arange(self.tokens[-1] + 1), self.tokens, self.seconds)
        slope = self.seconds[-1] / self.tokens[-1]
        return AdditiveParams(table, slope, self.per_context, self.per_pair, 0.0, 1, 0.0)


LAWS: Mapping[str, type[_Additive]] = {
    law.__name__: law for law in (Affine, Roofline, TileLaw, Combined, Table)
}


def _finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """Scalars of numpy as Python's, which files can hold."""
    return value.item() if isinstance(value, np.generic) else value


def _tuple(name: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if not isinstance(values, list | tuple):
        raise ValueError(f"Table needs a list of {name}, not {values!r}")
    return tuple(map(_plain, values))


def _check(law: Any, one_token: Callable[[], float]) -> None:
    """Refuse coefficients that are no nonnegative numbers, tiles that are no whole number, and a law of no time."""
    name = type(law).__name__
    for field in fields(law):
        value = _plain(getattr(law, field.name))
        if isinstance(value, tuple):
            continue
        object.__setattr__(law, field.name, value)
        if field.name == "tile":
            if not _whole(value) or value < 1:
                raise ValueError(f"{name} has tile={value!r}; give a whole number of tokens, at least 1")
        elif not _finite(value) or value < 0:
            raise ValueError(f"{name} has {field.name}={value!r}; give a finite number, at least 0")
    if not one_token() > 0:
        raise ValueError(
            f"{name} takes {one_token()} s for one token; give at least one coefficient that makes it positive"
        )
