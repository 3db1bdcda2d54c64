"""MC-SF: shortest announced output first, as many as memory will carry to their ends (Jaillet et al., 2502.07115)."""

from __future__ import annotations

from dataclasses import dataclass

from policies.admission import PEAK, start
from queueing.policy import (
    NONE,
    SJF,
    Facts,
    Policy,
    next_waiting,
    plan,
    prompt_if_admitted,
    serve_decodes,
    tokens_used,
)

__all__ = ["McSf"]


@dataclass(frozen=True, slots=True)
class McSf(Policy):
    """Memory-constrained shortest first: who runs goes on; of those who wait, the shortest whose peak memory fits.

    Algorithm, with o_r the announced output tokens of r still to come, M the KV memory:
        one token for every request of D
        for r in W, by o_r:
            P := most tokens ever held by D, what this batch admits, and r, if each gets a token in every iteration
            if P > M:  stop
            admit r, prefill its whole prompt
    The peak is looked for at the announced ends alone: between two of them memory only rises.

    Assumptions:  outputs as announced; the engine takes each prompt whole.
    Guarantee:    if outputs are no longer than announced, nothing is ever preempted (tested).  For prompts of one
                  length, all there at the beginning and rounds of one unit, the sum of completion times is within a
                  constant factor of the best; for arbitrary arrivals no deterministic policy has one (cited:
                  arXiv 2502.07115, recalled).
    Not promised: anything where announcements are too short; a bound on anybody's wait: long outputs can starve.
    Args:
        none: there is nothing to set.
    Source: Jaillet et al., arXiv 2502.07115, algorithm MC-SF (recalled); stopping at the first that does not fit, and
    the order by what is left for a request that was preempted, are our reading.

    Example:
        >>> McSf().facts.fcfs
        False
    """

    @property
    def facts(self) -> Facts:
        """Mixed batches of decodes and whole prompts, out of order."""
        return Facts(
            non_idling=True, fcfs=False, stall_free=True, mixed=True, chunked=False, source="arXiv 2502.07115"
        )

    @plan
    def mc_sf(p, memory, view, batch):
        """Decodes, and the shortest outputs beside them while their peak fits."""
        serve_decodes(view, batch, view.max_tokens, 0)
        while True:
            r = next_waiting(view, batch, SJF, 0.0)
            if r == NONE or tokens_used(batch) + prompt_if_admitted(view, r) > view.max_tokens:
                break
            if start(PEAK, view, batch, r, prompt_if_admitted(view, r)) == 0:
                break
