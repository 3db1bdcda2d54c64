"""View and Batch: what a scheduler may know, what it may ask for, and the words in which policy bodies say it.

Notation, for a request r:  `arrival` a_r (s), `prompt` tokens still to be known to the model before it can decode
(after a preemption this includes what had been generated), `prefilled` tokens of it already in the KV cache, `decoded`
output tokens generated so far, `context` tokens in the KV cache, `blocks` KV blocks held.  A request is *waiting*
(holds no KV block) or *running* (holds some); a running request is *decoding* once `prefilled == prompt`.

The arrays of the view are read-only.  Rows of requests that have not arrived are blank (`arrival` = inf, `prompt` = 0).

The functions below are the vocabulary of policy bodies.  They keep a ledger in `batch` (tokens used, KV blocks free),
and each refuses rather than overdraws, so that a body reads like the paper's pseudo-code.  The loop does not trust
them: it checks every batch again, on its own books.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from queueing.compilation import kernel

__all__ = [
    "FIFO",
    "NONE",
    "SJF",
    "SPF",
    "STRICT_SPF",
    "Batch",
    "Order",
    "View",
    "active",
    "admit",
    "announced_left",
    "blocks_for",
    "decodes_and_oldest_prompt",
    "fits",
    "free_blocks",
    "has_slot",
    "hold",
    "is_decoding",
    "is_preempted",
    "is_served",
    "left",
    "next_block",
    "next_waiting",
    "preempt",
    "prompt_if_admitted",
    "serve_decodes",
    "take_chunk",
    "take_decode",
    "take_decodes",
    "tokens_used",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Ids = NDArray[np.uint32]  # unsigned, so that compiled code need not ask whether an index counts from the end

NONE = -1  # "no request" inside compiled policy bodies; never crosses into Python


class Order(IntEnum):
    """The order in which waiting requests are admitted."""

    FIFO = 0  # the queue as it stands: preempted requests first, then by arrival
    FCFS = 0  # its name among schedulers
    SPF = 1  # shortest prompt first, ties as in FIFO
    STRICT_SPF = 2  # requests with a strict limit on the time between tokens first, then as in SPF
    SJF = 3  # shortest announced output still to come first, ties as in FIFO

    def __repr__(self) -> str:
        return self.name


FIFO, SPF, STRICT_SPF, SJF = Order.FIFO, Order.SPF, Order.STRICT_SPF, Order.SJF

# cells of Batch.count
ENTRIES, VICTIMS, TOKENS, FREE, ADMITTED = 0, 1, 2, 3, 4
LAST_RANK, LAST_LENGTH, LAST_PLACE = 5, 6, 7  # sort key of the last admission of this batch
NEXT_RANK, NEXT_LENGTH, NEXT_PLACE = 8, 9, 10  # sort key of the candidate
OVERFLOW = 11  # set when a batch names more requests than the engine can hold
COUNTS = 12


class View(NamedTuple):
    """What a scheduler may know at a batch boundary.  All arrays are read-only.

    `waiting`, `running` and `served` hold request ids; ids are given in order of arrival, so comparing ids compares
    (arrival, id).  The columns `arrival … context` are indexed by id.
    """

    now: float  # s
    iteration: int  # batches executed so far on this node
    last_seconds: float  # duration of the last batch (s); 0.0 before the first
    waiting: Ids  # preempted requests first, then in order of arrival
    running: Ids  # requests holding KV blocks, in order of arrival
    served: Ids  # requests of the last batch, finished ones included
    served_tokens: Ints  # tokens each of them got
    arrival: Floats  # s
    prompt: Ints  # tokens; after a preemption the generated tokens are part of it
    prefilled: Ints  # tokens
    decoded: Ints  # output tokens generated so far
    recomputed: Ints  # how many of them are part of `prompt` since a preemption
    client: Ints
    tbt: Floats  # limit on the time between tokens (s), inf if none was asked for
    predicted: (
        Ints  # announced bound on the output length (tokens); the context limit where none was announced
    )
    last_token: Floats  # time of the last output token (s), nan before the first
    blocks: Ints  # KV blocks held
    context: Ints  # tokens in the KV cache
    free_blocks: int
    total_blocks: int
    block_size: int  # tokens per KV block
    watermark: int  # blocks that admission should leave free
    max_length: int  # context limit of the model (tokens)
    max_running: int  # most requests that may hold KV blocks
    max_tokens: int  # most tokens the engine takes in one batch


class Batch(NamedTuple):
    """What a scheduler asks for: tokens per request, requests to preempt, or a time to wait until."""

    request: Ids  # id of each entry
    tokens: Ints  # tokens it gets: a prompt chunk, or one decode token
    reserve: Ints  # on admission: tokens for which KV blocks are allocated at once; 0 otherwise
    victim: Ids  # requests to preempt; they lose their KV blocks before the entries are allocated
    # ledger: entries, victims, tokens, free blocks, admissions, and where the admission order stands
    count: Ints  # pyright: ignore[reportIncompatibleMethodOverride]
    until: Floats  # [1] with no entries: do nothing before this time (s) or the next arrival; nan if not set


@kernel
def is_decoding(view: View, r: int) -> bool:
    """Whether the whole prompt of `r` is in the KV cache."""
    return view.blocks[r] > 0 and view.prefilled[r] >= view.prompt[r]


@kernel
def left(view: View, r: int) -> int:
    """Prompt tokens of `r` still to be computed."""
    return view.prompt[r] - view.prefilled[r]


@kernel
def blocks_for(view: View, tokens: int) -> int:
    """KV blocks that hold `tokens` tokens."""
    return (tokens + view.block_size - 1) // view.block_size


@kernel
def blocks_missing(view: View, r: int, tokens: int) -> int:
    """KV blocks that `r` must be given so that it holds `tokens` tokens."""
    short = tokens - view.blocks[r] * view.block_size
    return blocks_for(view, short) if short > 0 else 0


@kernel
def tokens_used(batch: Batch) -> int:
    """Tokens in the batch so far."""
    return batch.count[TOKENS]


@kernel
def free_blocks(batch: Batch) -> int:
    """KV blocks still free after everything the batch has taken and preempted so far."""
    return batch.count[FREE]


@kernel
def is_preempted(batch: Batch, r: int) -> bool:
    """Whether this batch preempts `r`."""
    for k in range(batch.count[VICTIMS]):
        if batch.victim[k] == r:
            return True
    return False


@kernel
def is_served(batch: Batch, r: int) -> bool:
    """Whether this batch gives tokens to `r`."""
    for k in range(batch.count[ENTRIES]):
        if batch.request[k] == r:
            return True
    return False


@kernel
def hold(batch: Batch, until: float) -> None:
    """Do nothing before time `until` (s) or the next arrival, whichever comes first."""
    batch.until[0] = until


@kernel
def prompt_if_admitted(view: View, r: int) -> int:
    """Tokens that `r` must prefill if it is admitted in this batch; for a running `r`, if it is preempted first."""
    if view.blocks[r] > 0:
        return view.prompt[r] + view.decoded[r] - view.recomputed[r]
    return view.prompt[r]


@kernel
def announced_left(view: View, r: int) -> int:
    """Announced output tokens of `r` still to come; none if it outlived its announcement."""
    return max(view.predicted[r] - view.decoded[r], 0)


@kernel
def active(view: View, batch: Batch) -> int:
    """Requests that will hold KV blocks once the batch, as it stands, is carried out."""
    return len(view.running) - batch.count[VICTIMS] + batch.count[ADMITTED]


@kernel
def fits(view: View, batch: Batch, r: int, reserve: int) -> bool:
    """Whether blocks for `reserve` tokens of the waiting request `r` leave the watermark free, and a place is free."""
    left_free = batch.count[FREE] - blocks_for(view, reserve)
    return left_free >= view.watermark and active(view, batch) < view.max_running


@kernel
def next_waiting(view: View, batch: Batch, order: int, strict_tbt: float) -> int:
    """The request to admit next, or NONE: the least not yet admitted in this batch under `order`.

    FIFO takes the queue as it stands, requests preempted by this very batch first.  SPF sorts it stably by prompt
    length.  STRICT_SPF puts requests with `tbt <= strict_tbt` before all others, then sorts by length.  SJF sorts it
    stably by what is still to come of the announced output.
    """
    victims: int = batch.count[VICTIMS]
    queue = victims + len(view.waiting)
    if order == FIFO:
        k: int = batch.count[ADMITTED]
        if k >= queue:
            return NONE
        return batch.victim[victims - 1 - k] if k < victims else view.waiting[k - victims]
    best = NONE
    best_rank, best_length, best_place = 2, 0, 0
    last_rank, last_length, last_place = (
        batch.count[LAST_RANK],
        batch.count[LAST_LENGTH],
        batch.count[LAST_PLACE],
    )
    for k in range(queue):
        r = batch.victim[victims - 1 - k] if k < victims else view.waiting[k - victims]
        rank = 1 if order == STRICT_SPF and view.tbt[r] > strict_tbt else 0
        length = 1 + announced_left(view, r) if order == SJF else prompt_if_admitted(view, r)
        if rank < last_rank or (rank == last_rank and length < last_length):
            continue  # admitted earlier in this batch: admissions go up in this order
        if rank == last_rank and length == last_length and k <= last_place:
            continue
        if rank < best_rank or (rank == best_rank and length < best_length):
            best, best_rank, best_length, best_place = r, rank, length, k
    batch.count[NEXT_RANK], batch.count[NEXT_LENGTH], batch.count[NEXT_PLACE] = (
        best_rank,
        best_length,
        best_place,
    )
    return best


@kernel
def _add(batch: Batch, r: int, tokens: int, reserve: int, blocks: int) -> None:
    k = batch.count[ENTRIES]
    if k == len(batch.request):
        batch.count[OVERFLOW] = 1
        return
    batch.request[k] = r
    batch.tokens[k] = tokens
    batch.reserve[k] = reserve
    batch.count[ENTRIES] = k + 1
    batch.count[TOKENS] += tokens
    batch.count[FREE] -= blocks


@kernel
def next_block(view: View, r: int) -> int:
    """KV blocks that the decoding request `r` must be given for its next token: 0 or 1."""
    return blocks_missing(view, r, view.context[r] + 1)


@kernel
def take_decode(view: View, batch: Batch, r: int) -> bool:
    """Give the decoding request `r` its one token; False, and nothing done, if its KV block is not there."""
    need = next_block(view, r)
    if need > batch.count[FREE]:
        return False
    _add(batch, r, 1, 0, need)
    return True


@kernel
def has_slot(view: View, batch: Batch, r: int, spare: int) -> bool:
    """Whether the KV block for one more token of `r` is free, and `spare` blocks at least in any case."""
    return batch.count[FREE] >= max(spare, next_block(view, r))


@kernel
def admit(view: View, batch: Batch, r: int, tokens: int, reserve: int) -> int:
    """Admit the waiting request `r` with KV blocks for `reserve` tokens; give it up to `tokens`; return how many."""
    q = min(tokens, prompt_if_admitted(view, r), reserve)
    if q <= 0:
        return 0
    _add(batch, r, q, reserve, blocks_for(view, reserve))
    batch.count[ADMITTED] += 1
    batch.count[LAST_RANK] = batch.count[NEXT_RANK]
    batch.count[LAST_LENGTH] = batch.count[NEXT_LENGTH]
    batch.count[LAST_PLACE] = batch.count[NEXT_PLACE]
    return q


@kernel
def take_chunk(view: View, batch: Batch, r: int, tokens: int) -> int:
    """Give the prompt of `r` up to `tokens` more tokens; return how many it got, 0 if it may not start.

    A waiting request is admitted with KV blocks for its whole prompt, or not at all.
    """
    if view.blocks[r] == 0:
        length = prompt_if_admitted(view, r)
        return admit(view, batch, r, tokens, length) if fits(view, batch, r, length) else 0
    room = view.blocks[r] * view.block_size + batch.count[FREE] * view.block_size - view.context[r]
    q = min(tokens, left(view, r), room)
    if q <= 0:
        return 0
    _add(batch, r, q, 0, blocks_missing(view, r, view.context[r] + q))
    return q


@kernel
def preempt(view: View, batch: Batch, r: int) -> None:
    """Take all KV blocks from the running request `r`; it goes to the front of the queue and will be recomputed."""
    k = batch.count[VICTIMS]
    if k == len(batch.victim):
        batch.count[OVERFLOW] = 1
        return
    batch.victim[k] = r
    batch.count[VICTIMS] = k + 1
    batch.count[FREE] += view.blocks[r]


@kernel
def serve_decodes(view: View, batch: Batch, limit: int, spare: int) -> None:
    """Give every decoding request one token, at most `limit` of them, in order of arrival.

    Each needs its KV block, and `spare` free blocks at least, first: while they are not there, the latest-arrived
    running request not yet visited is preempted, and if there is none, the request itself.
    """
    last = len(view.running)
    k = 0
    taken = 0
    while k < last and taken < limit:
        r = view.running[k]
        k += 1
        if not is_decoding(view, r):
            continue
        while last > k and not has_slot(view, batch, r, spare):
            last -= 1
            preempt(view, batch, view.running[last])
        if has_slot(view, batch, r, spare):
            take_decode(view, batch, r)
            taken += 1
        else:
            preempt(view, batch, r)


@kernel
def take_decodes(view: View, batch: Batch, limit: int) -> None:
    """Give every decoding request one token, each asking for a free KV block first even where it needs none.

    This is the rule of vLLM and Sarathi-Serve, :func:`serve_decodes` with one spare block.
    """
    serve_decodes(view, batch, limit, 1)


@kernel
def decodes_and_oldest_prompt(view: View) -> tuple[int, int]:
    """Number of decoding requests, and the oldest request with prompt tokens left (NONE if there is none)."""
    decoding = 0
    oldest = NONE
    for r in view.running:
        if is_decoding(view, r):
            decoding += 1
        elif oldest == NONE:
            oldest = r
    if oldest == NONE and len(view.waiting) > 0:
        oldest = view.waiting[0]
    return decoding, oldest
