"""What requests ask of a node on average, and the limits within which a node batches: the data of capacity programs.

Notation: class k arrives at λ_k requests/s; one of its requests asks for P_k prompt tokens, D_k decodes, K_k context
tokens attended to by those decodes and A_k token pairs of prompt attention, in the mean.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from queueing.lengths import Moments
from queueing.models.iteration_time import AdditiveParams

NOISE = 0.05  # of measured tables

__all__ = ["Demand", "Limits", "Stairs", "total"]


@dataclass(frozen=True, slots=True)
class Demand:
    """A class of requests, by what one of them asks for in the mean.

    Args:
        name: of the class.
        rate: λ, requests/s; in a direction of the capacity region only the proportions count.
        prefill: P, prompt tokens.
        decodes: D, iterations in which it decodes.
        context: K, KV tokens its decodes attend to, added up over them.
        pairs: A, token pairs of its prompt attention, p²/2.

    Raises:
        ValueError: a number is negative or not finite, there is no prompt token, or there is context without a decode.
    """

    name: str
    rate: float
    prefill: float
    decodes: float
    context: float
    pairs: float

    def __post_init__(self) -> None:
        for field in ("rate", "prefill", "decodes", "context", "pairs"):
            value = getattr(self, field)
            if not (0 <= value < math.inf):
                raise ValueError(f"{field} of class {self.name!r} must be a finite number >= 0, not {value}")
        if self.prefill <= 0:
            raise ValueError(f"class {self.name!r} asks for no prompt token; give a prefill > 0")
        if (self.context > 0) != (self.decodes > 0):
            raise ValueError(
                f"class {self.name!r} has {self.decodes} decodes and {self.context} tokens of context"
            )

    @classmethod
    def of(
        cls, lengths: Moments, rate: float = 1.0, name: str = "all", *, last_chunk_emits: bool = False
    ) -> Demand:
        """Demand of a length law.

        If the last prompt chunk emits the first token, an output of d tokens takes d - 1 decodes and K is less by S.
        """
        first = 1.0 if last_chunk_emits else 0.0
        decodes = lengths.output - first
        context = lengths.K - first * lengths.S if decodes > 0 else 0.0
        return cls(name, rate, lengths.prompt, max(decodes, 0.0), context, lengths.A)

    @property
    def mean_context(self) -> float:
        """L = K/D, context of a decode in the mean (tokens); 0 without decodes."""
        return self.context / self.decodes if self.decodes > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of batches: token budget B, KV tokens M, decodes in a batch, iterations/s per node wanted, nodes g.

    Raises:
        ValueError: a limit is not positive, or the iterations wanted are negative.
    """

    budget: int
    kv_tokens: float = math.inf
    max_running: int = 2**31 - 1
    min_iterations: float = 0.0
    nodes: int = 1

    def __post_init__(self) -> None:
        for field, unit in (("budget", "tokens"), ("max_running", "requests"), ("nodes", "nodes")):
            value = getattr(self, field)
            if value != int(value) or value < 1:
                raise ValueError(f"{field} must be a whole number of {unit}, at least 1, not {value}")
        if not self.kv_tokens > 0:
            raise ValueError(f"kv_tokens must be positive, not {self.kv_tokens}")
        if not 0 <= self.min_iterations < math.inf:
            raise ValueError(
                f"min_iterations must be a finite number of iterations/s, not {self.min_iterations}"
            )


@dataclass(frozen=True, slots=True)
class Stairs:
    """An additive iteration-time law read as capacity programs need it.

    `seconds[n - 1]` is the time of n = 1..B tokens; `per_context` κ (s per context token), `per_pair` φ (s per token
    pair of prompt attention) and `per_prompt_token` (s).

    Attention in tiles of b tokens, χ·⌈q⌉⌈h + q⌉ a chunk, depends on the chunks.  It is least, and χ(p² + pb)/2 in all,
    for prompts of whole tiles in chunks of one tile: so χ counts as χ a pair and χb/2 a prompt token, and programs stay
    bounds on every scheduler.

    Where a measured table falls a little (by up to 5 % a token), n tokens take as long as the least of n or more do: a
    batch can always be padded.

    Raises:
        ValueError: the table falls by more somewhere, or is not positive.
    """

    seconds: tuple[float, ...]
    per_context: float = 0.0
    per_pair: float = 0.0
    per_prompt_token: float = 0.0

    def __post_init__(self) -> None:
        if not self.seconds or not min(self.seconds) > 0:
            raise ValueError("iteration time must be positive at every number of tokens from 1 to the budget")
        for n, (now, later) in enumerate(itertools.pairwise(self.seconds), start=1):
            if later < now * (1 - NOISE):
                raise ValueError(
                    f"iteration time falls from {now:.6g} s at {n} tokens to {later:.6g} s at {n + 1}; "
                    "smooth the table, or lower the budget below the fall"
                )
        padded = tuple(itertools.accumulate(reversed(self.seconds), min))[::-1]
        object.__setattr__(self, "seconds", padded)

    @classmethod
    def of(cls, params: AdditiveParams, budget: int) -> Stairs:
        """The first `budget` steps of a law."""
        table, last = params.token_time, len(params.token_time) - 1
        seconds = [float(table[n]) for n in range(1, min(budget, last) + 1)]
        for n in range(last + 1, budget + 1):
            tiles = -(-n // params.tile) - -(-last // params.tile)
            seconds.append(float(table[last]) + params.slope * (n - last) + params.step * tiles)
        return cls(tuple(seconds), params.kappa, params.phi + params.chi, params.chi * params.tile / 2)


def total(classes: Sequence[Demand]) -> Demand:
    """All classes as one: rates add up, demands are means weighted by rate.

    Raises:
        ValueError: no class has a positive rate.
    """
    rate = sum(c.rate for c in classes)
    if rate <= 0:
        raise ValueError("give at least one class a rate > 0")
    mean = [
        sum(c.rate * getattr(c, f) for c in classes) / rate
        for f in ("prefill", "decodes", "context", "pairs")
    ]
    return Demand("all", rate, *mean)
