"""Iteration time: how long the accelerator takes for one batch.

Notation: n tokens in the iteration, of which some are decodes; ΣL context tokens attended by the decodes, the new ones
included; a prefill chunk of q new tokens after h cached ones has q·(h + q/2) token pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Load(NamedTuple):
    """What one iteration asks of the accelerator."""

    tokens: int
    decodes: int
    context: int
    chunk: NDArray[np.int64]
    history: NDArray[np.int64]


class AdditiveParams(NamedTuple):
    """Parameters of the additive normal form."""

    token_time: NDArray[np.float64]
    slope: float
    kappa: float
    phi: float
    chi: float
    tile: int


class IterationTime(Protocol):
    """A law of iteration time."""

    def lower(self) -> tuple[Any, Any]: ...
    def __call__(self, load: Load) -> float: ...


def additive(params, load):  # noqa
    n = load.tokens
    last = params.token_time.size - 1
    if n <= last:
        seconds = params.token_time[n]
    else:
        seconds = params.token_time[last] + params.slope * (n - last)
    seconds += params.kappa * load.context
    for j in range(len(load.chunk)):
        q = load.chunk[j]
        h = load.history[j]
        seconds += params.phi * q * (h + q / 2)
        if params.chi != 0.0:
            t = params.tile
            seconds += params.chi * ((q + t - 1) // t * t) * ((h + q + t - 1) // t * t)
    return seconds


@dataclass(frozen=True, slots=True)
class Roofline:
    """max(plateau, base + per_token·n) + per_context·ΣL + per_pair·pairs, in seconds."""

    plateau: float
    base: float
    per_token: float
    per_context: float = 0.0
    per_pair: float = 0.0

    def lower(self) -> tuple[Any, AdditiveParams]:
        n = np.arange(16385)
        table = np.maximum(self.plateau, self.base + self.per_token * n)
        return additive, AdditiveParams(table, self.per_token, self.per_context, self.per_pair, 0.0, 1)

    def __call__(self, load: Load) -> float:
        function, params = self.lower()
        return float(function(params, load))


@dataclass(frozen=True, slots=True)
class TileLaw:
    """tile_time·ceil(n/tile) + per_token·n."""

    tile: int
    tile_time: float
    per_token: float

    def lower(self) -> tuple[Any, AdditiveParams]:
        n = np.arange(16385)
        table = self.tile_time * -(-n // self.tile) + self.per_token * n
        return additive, AdditiveParams(table, self.per_token, 0.0, 0.0, 0.0, 1)

    def __call__(self, load: Load) -> float:
        function, params = self.lower()
        return float(function(params, load))
