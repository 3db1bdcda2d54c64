"""Gittins: first who ends most probably per iteration spent, by a law of outputs learned from those that ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.admission import WHOLE_PROMPT, Admission, spare_blocks, start
from policies.parameters import require_choice, require_counts
from queueing.policy import (
    NONE,
    Batch,
    Facts,
    Policy,
    View,
    active,
    has_slot,
    is_decoding,
    kernel,
    left,
    plan,
    preempt,
    prompt_if_admitted,
    take_chunk,
    take_decode,
    tokens_used,
)

__all__ = ["Gittins", "GittinsMemory", "gittins_index"]

BINS = 64
TAKEN = -1.0  # index of a request that this batch has dealt with


class GittinsMemory(NamedTuple):
    """What was seen of outputs so far, and the index of every request at this boundary."""

    ended: NDArray[np.int64]  # [BINS] outputs that ended in a bin of ages
    tokens: NDArray[np.int64]  # [BINS] output tokens decoded in it, by all
    gittins: NDArray[np.float64]  # [requests] the index, or TAKEN
    finish: NDArray[np.float64]  # [BINS] chance that an output ends by the end of a bin, from age 0
    spend: NDArray[np.float64]  # [BINS] mean tokens until then


@dataclass(frozen=True, slots=True)
class Gittins(Policy):
    """Highest index first: the chance that a request ends within some number of iterations, per iteration, at its best.

    Notation: a tokens decoded, p prompt tokens left, h(k) the hazard of ending with token k, S(k) the chance to reach
    it, both learned: h is the share of the tokens in a bin of `width` ages that were the last of their output.
    Algorithm, at each batch boundary:
        G(r) := max over b of  P(a < X <= b | X > a) / (p/B + E[min(X, b) - a | X > a])     for every request r
        by falling G, while B is not used up:
            decoding r:  its token;  without memory the running request of least G is preempted
            other r:     a chunk of its prompt;  of those who wait, none after the first that does not fit

    Assumptions:  output lengths are alike whoever asks; an iteration is as long as any other.
    Guarantee:    the index serves one job at a time in an M/G/1 queue with the least mean response time among all
                  policies that do not know sizes (cited: Gittins 1989; Scully et al. 2018).
    Not promised: that optimum here, where batches serve many at once; a bound on anybody's wait: the long can starve.
    Args:
        token_budget: B, most tokens in a batch.
        max_num_seqs: most requests that may hold KV blocks.
        width: ages that share one estimate of the hazard (tokens); those beyond 64 widths share the last.
        admission: rule by which KV memory is promised to a new prompt.
    Source: the index, docs/models/gittins.md; its use in an LLM server, arXiv 2503.07545 (survey).  Learning the law
    from who ended, counting prompts by the iterations they fill, and batches by index are our derivation.

    Example:
        >>> Gittins(token_budget=256).facts.stall_free
        False
    """

    token_budget: int = 512
    max_num_seqs: int = 128
    width: int = 16
    admission: Admission = WHOLE_PROMPT

    def __post_init__(self) -> None:
        require_counts(self, "token_budget", "max_num_seqs", "width")
        require_choice(self, "admission", Admission)

    @property
    def facts(self) -> Facts:
        """Chunks and decodes by their index alone."""
        return Facts(
            non_idling=True,
            fcfs=False,
            stall_free=False,
            mixed=True,
            chunked=True,
            source="Gittins 1989; arXiv 2503.07545",
        )

    def init(self, requests: int) -> GittinsMemory:
        """Return fresh memory: nothing has ended yet."""
        counts, sums = np.zeros(BINS, np.int64), np.zeros(BINS)
        return GittinsMemory(counts, counts.copy(), np.zeros(requests), sums, sums.copy())

    @plan
    def gittins(p, memory, view, batch):
        """Learn from the last batch, rank everybody, and fill the batch from the top."""
        budget = min(p.token_budget, view.max_tokens)
        learn(p, memory, view)
        rank(p, memory, view)
        full = False
        while tokens_used(batch) < budget:
            r = take_best(memory, view, full or active(view, batch) >= p.max_num_seqs)
            if r == NONE:
                break
            if is_decoding(view, r):
                decode_or_preempt(memory, view, batch, r, spare_blocks(p.admission))
            elif view.blocks[r] > 0:
                take_chunk(view, batch, r, budget - tokens_used(batch))
            elif start(p.admission, view, batch, r, budget - tokens_used(batch)) == 0:
                full = True


@kernel
def learn(p, memory: GittinsMemory, view: View) -> None:
    """Count the output tokens of the last batch, and which of them were the last of their output."""
    for r in view.served:
        ended = view.blocks[r] == 0
        if view.decoded[r] > view.recomputed[r] and (ended or is_decoding(view, r)):
            k = min((view.decoded[r] - 1) // p.width, BINS - 1)
            memory.tokens[k] += 1
            memory.ended[k] += 1 if ended else 0


@kernel
def gittins_index(memory: GittinsMemory, width: int, age: int, prompt: float) -> float:
    """G of a request with `age` tokens decoded and `prompt` iterations of its prompt left; b at the ends of bins."""
    alive, ended, spent, highest = 1.0, 0.0, prompt, 0.0
    k = min(age // width, BINS - 1)
    ages = float(width - age % width)  # a float: powers of whole numbers round otherwise when compiled
    while k < BINS and memory.tokens[k] > 0:
        hazard = memory.ended[k] / memory.tokens[k]
        going = (1 - hazard) ** ages
        ended += alive * (1 - going)
        spent += alive * ((1 - going) / hazard if hazard > 0 else ages)
        alive *= going
        highest = max(highest, ended / spent)
        k += 1
        ages = float(width)
    return highest


@kernel
def tabulate(memory: GittinsMemory, width: int) -> int:
    """Sums over the bins from age 0, the same for everybody who has decoded nothing; return how many bins are known."""
    alive, ended, spent = 1.0, 0.0, 0.0
    k = 0
    while k < BINS and memory.tokens[k] > 0:
        hazard = memory.ended[k] / memory.tokens[k]
        going = (1 - hazard) ** float(width)
        ended += alive * (1 - going)
        spent += alive * ((1 - going) / hazard if hazard > 0 else float(width))
        alive *= going
        memory.finish[k] = ended
        memory.spend[k] = spent
        k += 1
    return k


@kernel
def fresh_index(memory: GittinsMemory, bins: int, prompt: float) -> float:
    """G of a request that has decoded nothing."""
    highest = 0.0
    for k in range(bins):
        highest = max(highest, memory.finish[k] / (prompt + memory.spend[k]))
    return highest


@kernel
def rank(p, memory: GittinsMemory, view: View) -> None:
    """The index of everybody, prompts counted by the iterations that they fill."""
    for i in range(len(view.running)):
        r: int = view.running[i]
        memory.gittins[r] = gittins_index(memory, p.width, view.decoded[r], left(view, r) / p.token_budget)
    bins = tabulate(memory, p.width)
    for i in range(len(view.waiting)):
        r = view.waiting[i]
        prompt = prompt_if_admitted(view, r) / p.token_budget
        if view.decoded[r] > 0:
            memory.gittins[r] = gittins_index(memory, p.width, view.decoded[r], prompt)
        else:
            memory.gittins[r] = fresh_index(memory, bins, prompt)


@kernel
def take_best(memory: GittinsMemory, view: View, only_running: bool) -> int:
    """The request of highest index, the earliest of equals, not taken before in this batch; NONE if there is none."""
    found, highest = NONE, TAKEN
    for r in view.running:
        if memory.gittins[r] > highest:
            found, highest = r, memory.gittins[r]
    if not only_running:
        for r in view.waiting:
            if memory.gittins[r] > highest:
                found, highest = r, memory.gittins[r]
    if found != NONE:
        memory.gittins[found] = TAKEN
    return found


@kernel
def decode_or_preempt(memory: GittinsMemory, view: View, batch: Batch, r: int, spare: int) -> None:
    """Give `r` its token; without memory preempt the running request of least index not taken yet, or else `r`."""
    while not has_slot(view, batch, r, spare):
        victim, least = r, np.inf
        for q in view.running:
            if TAKEN < memory.gittins[q] <= least:
                victim, least = q, memory.gittins[q]
        preempt(view, batch, victim)
        memory.gittins[victim] = TAKEN
        if victim == r:
            return
    take_decode(view, batch, r)
