"""The integer program of one batch: which tokens of which requests to take now.

Notation: prompt r has a_r tokens left, each worth u_r; decode i is worth v_i.  The batch takes q_r prompt tokens and
decodes y_i in {0, 1}; with  N = Σ q + Σ y  it lasts

    T = t(N) + Σ φ_r q_r + Σ κ_i y_i       (attention of a prompt token and of a decode, s)

and the best batch has the largest worth per second,

    max  (Σ u_r q_r + Σ v_i y_i) / T     s.t.  1 <= N <= B,  Σ y <= n_max,  q_r <= a_r,  all integers.

With queue lengths for worths this is ratio MaxWeight: at every boundary the batch that drains the most weighted work
per second.  Dinkelbach's method turns the ratio into differences  worth - μ·T:  for given μ and N tokens are taken
greedily by worth less μ times their attention, which is optimal because every token takes one place; so each μ costs
O(n log n + B), and μ rises to the optimum in finitely many steps.

Source: Dinkelbach, Management Science 13(7), 1967 (recalled); the rest is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from queueing.models.demand import Stairs

__all__ = ["Choice", "DecodeOffer", "PromptOffer", "best_batch"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PromptOffer:
    """A prompt with `left` tokens to do, `worth` each, `attention` seconds each."""

    left: int
    worth: float
    attention: float = 0.0


@dataclass(frozen=True, slots=True)
class DecodeOffer:
    """A decode that may run: its `worth` and its `attention` (s)."""

    worth: float
    attention: float = 0.0


@dataclass(frozen=True, slots=True)
class Choice:
    """The best batch: prompt tokens by prompt, decodes taken, its worth, its time (s), and worth per second."""

    prompt: tuple[int, ...]
    decodes: tuple[bool, ...]
    worth: float
    seconds: float

    @property
    def rate(self) -> float:
        """Worth per second."""
        return self.worth / self.seconds


def best_batch(
    stairs: Stairs,
    prompts: Sequence[PromptOffer],
    decodes: Sequence[DecodeOffer],
    max_decodes: int | None = None,
) -> Choice:
    """Return the batch of the largest worth per second; ties go to smaller batches.

    Args:
        stairs: iteration time up to the token budget; attention is that of the offers.
        prompts: unfinished prompts, started or not.
        decodes: requests that may decode.
        max_decodes: most decodes in the batch; all of them by default.

    Raises:
        ValueError: nothing is on offer, or a number is negative.
    """
    most = len(decodes) if max_decodes is None else max_decodes
    if not prompts and (not decodes or most == 0):
        raise ValueError("nothing is on offer; give a prompt or a decode that may run")
    if most < 0 or any(p.left < 1 or p.worth < 0 or p.attention < 0 for p in prompts):
        raise ValueError(
            "prompts on offer need at least one token left, and worth, attention and max_decodes >= 0"
        )
    if any(d.worth < 0 or d.attention < 0 for d in decodes):
        raise ValueError("decodes on offer need worth and attention >= 0")
    rate = 0.0
    best = _best_difference(stairs, prompts, decodes, most, rate)
    while best.rate > rate * (1 + 1e-12):
        rate = best.rate
        best = max(
            best, _best_difference(stairs, prompts, decodes, most, rate), key=lambda choice: choice.rate
        )
    return best


def _best_difference(
    stairs: Stairs, prompts: Sequence[PromptOffer], decodes: Sequence[DecodeOffer], most: int, rate: float
) -> Choice:
    """The batch of the largest worth - rate·time: for each N, the N dearest tokens, at most `most` of them decodes."""
    budget = len(stairs.seconds)
    order = sorted(range(len(decodes)), key=lambda i: rate * decodes[i].attention - decodes[i].worth)[:most]
    taken = [(decodes[i].worth - rate * decodes[i].attention, 1, i) for i in order]
    taken += [
        (p.worth - rate * p.attention, 0, r)
        for r, p in enumerate(prompts)
        for _ in range(min(p.left, budget))
    ]
    taken.sort(key=lambda item: -item[0])
    taken = taken[:budget]
    gain = np.cumsum([value for value, _, _ in taken]) - rate * np.array(stairs.seconds[: len(taken)])
    size = int(np.argmax(gain)) + 1
    prompt, decoded = [0] * len(prompts), [False] * len(decodes)
    for _, is_decode, index in taken[:size]:
        if is_decode:
            decoded[index] = True
        else:
            prompt[index] += 1
    worth = sum(q * p.worth for q, p in zip(prompt, prompts, strict=True))
    worth += sum(d.worth for d, on in zip(decodes, decoded, strict=True) if on)
    seconds = stairs.seconds[size - 1] + sum(q * p.attention for q, p in zip(prompt, prompts, strict=True))
    seconds += sum(d.attention for d, on in zip(decodes, decoded, strict=True) if on)
    return Choice(tuple(prompt), tuple(decoded), worth, seconds)
