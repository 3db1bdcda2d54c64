"""The books of the serving loop: what it knows of requests, nodes and batches, and what it logs.

They are structured arrays, one per kind of thing, so that compiled code passes few arguments.  Compiled,
`table.field[i]` reads the array itself; interpreted, the same words read a NamedTuple of its fields
(:func:`fields_of`).
"""

from __future__ import annotations

import functools
from collections import namedtuple
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Ids = NDArray[np.uint32]  # unsigned, so that compiled code need not ask whether an index counts from the end

FUTURE, WAITING, RUNNING, FINISHED, REJECTED = 0, 1, 2, 3, 4  # Requests.phase
IDLE, BUSY, HOLDING = 0, 1, 2  # Nodes.state
DONE, LOG_FULL, QUEUE_FULL, BREACH, HELD, NOTHING, PLAN = range(7)  # why compiled code returned

MEMBERSHIP, PROGRESS, CHUNK, MEMORY, BUDGET, PLACES, PREEMPTION, RESERVATION, DURATION = range(1, 10)
ROUTING, COUNTING = 10, 11
RULES = (
    "",
    "membership: a batch may only name requests that have arrived at this node and are not finished, each once",
    "progress: an empty batch may not preempt; it must hold until a later time, and not for ever if nothing more comes",
    "tokens: a chunk has at least one token and no more than are left of the prompt; a decode has exactly one",
    "memory: KV blocks asked for must be free",
    "budget: a batch may not exceed the engine's token limit",
    "places: no more requests may hold KV blocks than the engine has places for",
    "preemption: only running requests can be preempted, each once per batch",
    "reservation: only a waiting request reserves, and it reserves at least the tokens it is given",
    "duration: the iteration-time model must give a positive, finite number of seconds",
    "routing: a router names one of the nodes",
    "counts: a batch has no fewer than zero entries and victims, and no more than the engine has places for",
)


SOURCE = np.dtype(  # the workload, as only the loop sees it; one row per request, in order of arrival
    [("arrival", "f8"), ("prompt", "i8"), ("output", "i8"), ("client", "i8"), ("tbt", "f8"), ("predicted", "i8"),
     ("slo_class", "i8")]
)  # fmt: skip
LINE = 64  # bytes of a cache line


def _in_lines(fields: list[tuple[str, str]]) -> np.dtype[Any]:
    """A record of these fields in this order, filled up to whole cache lines."""
    packed = np.dtype(fields)
    names, formats = zip(*fields, strict=True)
    offsets = [packed.fields[name][1] for name in names] if packed.fields else []
    size = -(-packed.itemsize // LINE) * LINE
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})


REQUESTS = _in_lines(  # what the loop knows of each request. With a thousand nodes each line is fetched anew for each
    # batch: what a decode asks is one line, and so tokens and blocks, below 2^31 by Workload and System, have
    # four bytes
    [("last_token", "f8"), ("tbt", "f8"), ("longest_gap", "f8"),
     ("prompt", "i4"), ("prefilled", "i4"), ("decoded", "i4"), ("context", "i4"), ("blocks", "i4"),
     ("predicted", "i4"), ("output", "i4"), ("node", "i4"),
     ("stamp", "u4"),  # last batch that named the request
     ("phase", "i2"), ("slo_class", "u2"),
     # and this is touched a few times in the life of a request
     ("arrival", "f8"), ("recomputed", "i8"), ("client", "i8"),
     ("admitted", "f8"),  # start of the first batch that served it
     ("prefill_end", "f8"),  # end of the batch that first completed its prompt
     ("first_token", "f8"), ("finished", "f8"),
     ("late_gaps", "i4"),  # gaps longer than its tbt
     ("preemptions", "i4")]
)  # fmt: skip
MOST_CLASSES = 1 << 16  # that slo_class tells apart
LAST_STAMP = (1 << 32) - 1  # then stamps begin again, when whoever runs has long been named anew
NODES = _in_lines(
    [("state", "i8"),
     ("clock", "f8"),  # end of the last batch, or the time up to which an idle node has waited
     ("until", "f8"),  # end of the batch in execution, or of the hold
     ("hold", "f8"),  # where a policy writes how long to hold
     ("seconds", "f8"),  # duration of the last batch that ended
     ("planned", "f8"),  # duration of the batch in execution
     ("free", "i8"),  # KV blocks
     ("running", "i8"),  # requests holding KV blocks
     ("head", "i8"), ("tail", "i8"),  # the waiting queue is queue[node, head:tail]
     ("served", "i8"),  # entries of the last batch
     ("iterations", "i8")]
)  # fmt: skip
DESKS = np.dtype(  # [nodes, width]: where each node's batch is written, and what the last one was
    [("tokens", "i8"), ("reserve", "i8"), ("request", "u4"), ("served", "u4"), ("served_tokens", "i4")]
)  # fmt: skip
DESK = DESKS.itemsize
CHUNKS = np.dtype([("tokens", "i8"), ("history", "i8")])  # [nodes, width]: prompt chunks of each batch
ITERATIONS = np.dtype(
    [("start", "f8"), ("seconds", "f8"), ("context", "i8"), ("node", "i4"), ("prefill", "i4"), ("decodes", "i4"),
     ("blocks", "i4"), ("waiting", "i4"), ("running", "i4"), ("entries", "i4")]
)  # fmt: skip
ENTRIES_LOG = np.dtype([("request", "i4"), ("tokens", "i4")])  # tokens given; 0 = preempted


class Agenda(NamedTuple):
    """The next events of the nodes, [nodes and a little more], by their places in a heap."""

    time: NDArray[np.float64]
    node: NDArray[np.int32]


class Books(NamedTuple):
    """Everything the loop reads and writes; `shown_*` are read-only aliases for the view."""

    source: Any  # SOURCE [n]
    requests: Any  # REQUESTS [n]
    shown: Any
    nodes: Any  # NODES [nodes]
    loads: Any  # NodeLoads [nodes], what routers see
    shown_loads: Any
    agenda: Any  # Agenda
    places: NDArray[np.int32]  # [nodes], of each in the agenda, 0 without an event; apart, to stay in caches
    queue: Ids  # [nodes, capacity]
    shown_queue: Ids
    members: Ids  # [nodes, width], requests holding KV blocks, ascending
    shown_members: Ids
    desks: Any  # DESKS [nodes, width]
    shown_desks: Any
    chunks: Any  # CHUNKS [nodes, width]
    victims: Ids  # [nodes, width]
    count: Ints  # [nodes, COUNTS]  # pyright: ignore[reportIncompatibleMethodOverride]
    log: Any  # ITERATIONS [rows]
    entries: Any  # ENTRIES_LOG [rows]
    gaps: Ints  # [classes, bins] sketch of gaps between tokens
    cursor: Ints


class Limits(NamedTuple):
    """The system's limits, and when to stop."""

    blocks: int
    block_size: int
    watermark: int
    max_length: int
    max_running: int
    max_tokens: int
    last_chunk_emits: bool
    record_entries: bool
    horizon: float


# cells of the cursor: where the loop stands, and what went wrong
NEXT, ROWS, ROW_ENTRIES, STAMP, RULE, REQUEST, HAVE, NEED, NODE, ITERATION, HOLDS, SCHEDULED = range(12)
CURSOR = 12
HOLDS_AT_ONCE = 1 << 16  # then the loop looks in on Python, so that Ctrl-C ends a policy that holds and holds
NOBODY = -1  # a rule about the whole batch was broken


def fields_of(table: Any) -> Any:
    """The fields of a structured array as a NamedTuple of arrays over the same memory; anything else as it is."""
    if isinstance(table, tuple) or table.dtype.names is None:
        return table
    return _row_type(table.dtype.names)(*(table[name] for name in table.dtype.names))


def widened(table: np.dtype[Any]) -> np.dtype[Any]:
    """The same fields with every integer in eight bytes: for the twin, whose numpy scalars do not widen in sums."""
    return np.dtype([(name, "i8" if table[name].kind in "iu" else table[name]) for name in table.names or ()])


@functools.cache
def _row_type(names: tuple[str, ...]) -> Any:
    return namedtuple("Fields", names)  # pyright: ignore[reportUntypedNamedTuple]
