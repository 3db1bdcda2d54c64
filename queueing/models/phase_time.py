"""Iteration time of an engine that runs prefill and decode by kernels of their own.

    T = [decodes] · (base + δ·decodes + κ·context)  +  [prompt tokens] · (start + π·prompt tokens)        seconds

with each bracket 1 if the batch has any.  S-LoRA, on which VTC's authors measured, never mixes the two; where a batch
holds both, one part runs after the other.

Source: form as in the VTC authors' cost profile (docs/models/phase_time.md); coefficients are the user's.
"""

# pyright: reportMissingParameterType=false, reportUnknownParameterType=false
from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from queueing.models.iteration_time import Load

__all__ = ["PhaseTime"]


class PhaseParams(NamedTuple):
    """Coefficients as compiled code reads them (s)."""

    base: float
    per_decode: float
    per_context: float
    start: float
    per_prompt_token: float


def phases(params, load) -> float:
    """Seconds of `load`, one part after the other; Python and compiled code agree bit for bit."""
    seconds = 0.0
    if load.decodes > 0:
        seconds += params.base + params.per_decode * load.decodes + params.per_context * load.context
    if load.tokens > load.decodes:
        seconds += params.start + params.per_prompt_token * (load.tokens - load.decodes)
    return seconds


@dataclass(frozen=True, slots=True)
class PhaseTime:
    """Law of an engine with separate kernels; all in seconds, per batch, decode, context token and prompt token.

    What it misses: attention of prompt tokens among themselves, which is quadratic, and any overlap of the two parts.

    Raises:
        ValueError: a coefficient is negative or not finite, or a token takes no time.

    Example:
        >>> law = PhaseTime(base=0.0163, per_decode=0.000245, per_context=2.018e-6, per_prompt_token=0.00022)
        >>> round(law.scaled(2.0).base, 4)
        0.0326
    """

    base: float
    per_decode: float
    per_context: float
    per_prompt_token: float
    start: float = 0.0

    def __post_init__(self) -> None:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if any(not 0 <= value < math.inf for value in values.values()):
            raise ValueError(f"coefficients of PhaseTime must be at least 0 and finite, not {values}")
        if self.base + self.per_decode <= 0 or self.start + self.per_prompt_token <= 0:
            raise ValueError(
                "a decode and a prompt token must take time; give a coefficient above 0 for each"
            )

    def scaled(self, factor: float) -> PhaseTime:
        """The law of an engine that takes `factor` times as long."""
        return PhaseTime(*(factor * getattr(self, field.name) for field in fields(self)))

    def lower(self) -> tuple[Any, Any]:
        """The function :func:`phases` and this law's parameters."""
        return phases, PhaseParams(
            self.base, self.per_decode, self.per_context, self.start, self.per_prompt_token
        )

    def __call__(self, load: Load) -> float:
        """Seconds that `load` takes."""
        function, params = self.lower()
        return float(function(params, load))
