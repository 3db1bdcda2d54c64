"""Synthetic clients of the VTC experiments: each sends at its own rate, evenly spaced, from a phase drawn at random.

A pattern is a sequence of stages.  Within a stage of D seconds that begins at b, client u with rate λ_u draws, in the
order of the clients,

    ⌊λ_u D⌋ prompt lengths, as many output lengths, and a phase U in [0, 1);

its j-th request arrives at b + U/λ_u + j/λ_u, j = 1, 2, ...  Requests are then sorted stably by arrival.  With `on_off`
the first client sends in every other interval of that length only: the rest is drawn, and dropped.

Everything is drawn from a legacy `numpy.random.RandomState`, because that is the generator of the published runs: with
seed 42 the patterns named in `PATTERNS` are those runs, request by request and bit by bit.

Source: Sheng et al., OSDI 2024, and the trace generator of Ying1123/VTC-artifact (Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from queueing.workload import Workload

__all__ = ["PATTERNS", "Stage", "client_pattern", "draw"]

AUTHORS_SEED = 42


@dataclass(frozen=True, slots=True)
class Stage:
    """Clients that send at fixed rates for a while.

    Args:
        rates: requests per second of clients 0, 1, ...; each > 0.
        duration: D, s.
        start: b, s.
        on_off: length (s) of the alternating intervals of client 0, counted from time 0: it sends in the first, third,
            ... of them; None: it always sends.
        prompts, outputs: lengths are drawn evenly from low, ..., high - 1 tokens (high excluded).

    Raises:
        ValueError: a rate, length or time is out of range.
    """

    rates: tuple[float, ...]
    duration: float
    start: float = 0.0
    on_off: float | None = None
    prompts: tuple[int, int] = (256, 257)
    outputs: tuple[int, int] = (256, 257)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", tuple(float(rate) for rate in self.rates))
        if not self.rates or not all(0 < rate < math.inf for rate in self.rates):
            raise ValueError(f"the clients send at rates {self.rates}; give each a finite rate > 0")
        if not (0 < self.duration < math.inf and 0 <= self.start < math.inf):
            raise ValueError(
                f"a stage lasts {self.duration} s from {self.start} s; give a duration > 0 and a start >= 0"
            )
        if self.on_off is not None and not 0 < self.on_off < math.inf:
            raise ValueError(f"client 0 is on and off for {self.on_off} s; give seconds > 0, or None")
        for name in ("prompts", "outputs"):
            low, high = getattr(self, name)
            if not 1 <= low < high:
                raise ValueError(
                    f"{name} are drawn from {low} to below {high} tokens; give 1 <= low < high, high excluded"
                )


def draw(stages: Sequence[Stage], rng: np.random.RandomState) -> Workload:
    """The requests of these stages, drawn one stage after the other from `rng`, in order of arrival.

    Raises:
        ValueError: nobody sends anything.
    """
    drawn: list[tuple[NDArray[Any], ...]] = []
    for stage in stages:
        for client, rate in enumerate(stage.rates):
            requests = int(rate * stage.duration)
            prompt = rng.randint(*stage.prompts, requests)
            output = rng.randint(*stage.outputs, requests)
            first = stage.start + rng.rand() / rate
            # summed one by one, as the published generator does: multiples of 1/rate differ in the last bits
            arrival = np.cumsum(np.r_[first, np.full(requests, 1 / rate)])[1:]
            sent = np.ones(requests, np.bool_)
            if stage.on_off is not None and client == 0:
                sent = (arrival // stage.on_off) % 2 == 0
            drawn.append((arrival[sent], prompt[sent], output[sent], np.full(int(sent.sum()), client)))
    if not sum(len(part[0]) for part in drawn):
        raise ValueError("no client sends a request; give at least one stage, longer or with higher rates")
    arrival, prompt, output, client = (np.concatenate(column) for column in zip(*drawn, strict=True))
    order = np.argsort(arrival, kind="stable")
    return Workload(arrival[order], prompt[order], output[order], client[order])


PATTERNS = MappingProxyType(
    {
        "overload": (Stage((1.5, 3.0), 600.0),),
        "overload_multi": (Stage((0.4,) * 3 + (0.6,) * 5, 360.0),),
        "proportional": (Stage((0.25, 0.5, 1.5), 600.0),),
        "on_off_less": (Stage((0.5, 2.0), 600.0, on_off=60.0),),
        "dist_shift": (
            Stage((0.5, 2.0), 300.0, on_off=60.0),
            Stage((1.0, 1.0), 300.0, start=300.0),
            Stage((0.5, 1.5), 300.0, start=600.0),
        ),
    }
)


def client_pattern(
    name: str, *, duration: float | None = None, rng: np.random.RandomState | None = None
) -> Workload:
    """A workload of the published experiments by name; all requests have 256 prompt and 256 output tokens.

    Args:
        name: a key of `PATTERNS`.
        duration: s, for patterns of one stage; None: the published one.  The published VTC runs on "overload" last
            360 s, the FCFS run 600 s.
        rng: None: a fresh generator with the published seed, 42.

    Raises:
        ValueError: no pattern has that name, or several stages were given one duration.

    Example:
        >>> client_pattern("proportional")
        Workload(1350 requests, 1.15466 to 601.901 s)
    """
    if name not in PATTERNS:
        raise ValueError(f"no pattern of clients is called {name!r}; there are {', '.join(PATTERNS)}")
    stages = PATTERNS[name]
    if duration is not None:
        if len(stages) > 1:
            raise ValueError(
                f"the pattern {name} has {len(stages)} stages; draw(stages, rng) with their own durations"
            )
        stages = (replace(stages[0], duration=duration),)
    return draw(stages, np.random.RandomState(AUTHORS_SEED) if rng is None else rng)
