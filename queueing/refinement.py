"""Refinement: every event of a run is a transition that a formal system allows, from a state that keeps its invariants.

A trace with entries (of the simulator, an engine, or somebody else's log) is replayed event by event in whole numbers.
What a policy remembers is not looked at: only who was given how many tokens in which batch.

| system | an event is refused if |
|---|---|
| `lifecycle`, of every policy | a request is served before it arrives, after its end, twice in a batch, beyond its prompt or its output; a decode gets more than a token; KV blocks are not what the requests need, or more than there are; a figure of the trace is not what its events make it |
| `vtc` | the admitted client has not the least counter of Q, or not its first request; memory would not hold what is reserved; I0 to I5 of :mod:`queueing.models.vtc` fail afterwards |
| `full_tiles`, of RAD | a batch with prompt tokens is no multiple of b; more than b requests decode |
| `stall_free`, of Sarathi-Serve | a request that decodes gets no token; a batch has more than the budget and than its decodes |

Arrivals count from the first batch that starts at or after them: earlier no scheduler of batches can know of them.

Source: our derivation; the systems are those of the theorems named there.
"""  # noqa: E501 (a row of a table)

# pyright: reportMissingParameterType=false, reportUnknownParameterType=false
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from queueing.cost import TOKENS, Cost
from queueing.trace import Trace

__all__ = ["Refinement", "full_tiles", "lifecycle", "stall_free", "vtc"]

Ints, Floats = NDArray[np.int64], NDArray[np.float64]

compiled: Any = numba.njit(cache=True)  # its hints do not know the options

# what an entry is; a chunk that completes its prompt is a LAST, and emits a token where the system says so
PREEMPT, CHUNK, LAST, TOKEN = 0, 1, 2, 3

LIFECYCLE = (
    "",
    "a batch starts before the one before it has ended, or does not last",
    "the batch serves a request that has not arrived, or is another node's",
    "the batch serves a request that has ended or was rejected",
    "the batch serves a request twice",
    "the batch preempts a request that is not running, or after it has served one",
    "the chunk is longer than what is left of the prompt",
    "a decode is given more than one token",
    "KV blocks are more than there are",
    "the batch's KV blocks are fewer than its requests fill",
    "the batch's tokens or their context are not those of its entries",
    "a time of the request is not that of its events",
    "the request has not the tokens, the preemptions or the end that its events give",
)
VTC = (
    "",
    "the admitted client has not the least counter of those that wait",
    "the admitted request is not the first of its client",
    "the memory does not hold what is reserved",
    "I2: a waiting client's counter is below the floor",
    "I3: a counter with all that is committed is more than U above the floor",
    "I5: a counter with all that is committed, and what another is ahead by, is more than U above the floor",
    "a request is preempted, which the theorem excludes",
)
FULL_TILES = (
    "",
    "a batch with prompt tokens is not a multiple of the tile",
    "more than a tile of requests decode",
)
STALL_FREE = (
    "",
    "a request that decodes gets no token",
    "the batch has more than the budget and than its decodes",
)


@dataclass(frozen=True, slots=True)
class Refinement:
    """Whether a run refines a formal system.

    `events`: how many were replayed; if one was refused, `batch`, `time` (s) and `request` say where and `reason` why.
    """

    system: str
    events: int
    ok: bool
    reason: str = ""
    batch: int | None = None
    time: float | None = None
    request: int | None = None

    def __str__(self) -> str:
        if self.ok:
            return f"{self.events} events are transitions of {self.system}"
        who = "" if self.request is None else f", request {self.request}"
        return f"batch {self.batch} at {self.time:.6g} s{who}: {self.reason}"


class _Run(NamedTuple):
    """A trace as compiled code reads it."""

    arrival: Floats
    prompt: Ints
    output: Ints
    client: Ints
    home: Ints
    rejected: NDArray[np.bool_]
    decoded: Ints
    admitted: Floats
    first_token: Floats
    finished: Floats
    prefill_end: Floats
    last_token: Floats
    longest_gap: Floats
    preemptions: Ints
    ended: NDArray[np.bool_]
    start: Floats
    end: Floats
    node: Ints
    prefill: Ints
    decodes: Ints
    context: Ints
    used: Ints
    sizes: Ints
    request: Ints
    tokens: Ints
    horizon: float
    emits: bool
    blocks: int
    block_size: int


def _run_of(trace: Trace) -> _Run:
    if trace.entries is None:
        raise ValueError("this trace has no entries; run simulate(..., record_entries=True)")
    q, its, meta = trace.requests, trace.iterations, trace.meta
    missing = [name for name in ("blocks", "block_size") if name not in meta]
    if missing:
        raise ValueError(f"the trace does not say its {missing[0]}; give meta the KV blocks and their size")

    def ints(column: Any) -> Ints:
        return np.ascontiguousarray(column, dtype=np.int64)

    def floats(column: Any) -> Floats:
        return np.ascontiguousarray(column, dtype=np.float64)

    return _Run(
        floats(q["arrival"]), ints(q["prompt"]), ints(q["output"]), ints(q["client"]), ints(q["node"]),
        np.ascontiguousarray(trace.rejected), ints(q["decoded"]), floats(q["admitted"]), floats(q["first_token"]),
        floats(q["finished"]), floats(q["prefill_end"]), floats(q["last_token"]), floats(q["longest_gap"]),
        ints(q["preemptions"]), np.ascontiguousarray(trace.finished), floats(its["start"]),
        floats(its["start"] + its["seconds"]), ints(its["node"]),
        ints(its["prefill"]), ints(its["decodes"]), ints(its["context"]), ints(its["blocks"]), ints(its["entries"]),
        ints(trace.entries["request"]), ints(trace.entries["tokens"]), float(meta.get("horizon", math.inf)),
        bool(meta.get("last_chunk_emits", True)), int(meta["blocks"]), int(meta["block_size"]),
    )  # fmt: skip


@compiled
def same(a: float, b: float) -> bool:
    """Equal, or both nan."""
    return a == b or (np.isnan(a) and np.isnan(b))


@compiled
def replay_lifecycle(run: _Run, kind, fault) -> int:
    """Fill `kind` [entries]; return the rule that is broken, with (batch, request) in `fault`, or 0."""
    n = len(run.arrival)
    nodes = 1
    for k in range(len(run.node)):
        nodes = max(nodes, run.node[k] + 1)
    target = run.prompt.copy()  # tokens to prefill before it decodes
    given = np.zeros(n, np.int64)  # of them
    emitted = np.zeros(n, np.int64)
    held = np.zeros(n, np.int64)  # KV blocks
    last_batch = np.full(n, -1, np.int64)
    first_token = np.full(n, np.nan)
    admitted = np.full(n, np.nan)
    finished = np.full(n, np.nan)
    prefill_end = np.full(n, np.nan)
    last_token = np.full(n, np.nan)
    longest_gap = np.zeros(n)
    preempted = np.zeros(n, np.int64)
    used = np.zeros(nodes, np.int64)
    free_at = np.full(nodes, -np.inf)
    at = 0
    for k in range(len(run.start)):
        fault[0], fault[1] = k, -1
        node, start, end = run.node[k], run.start[k], run.end[k]
        if not (start >= free_at[node] and end > start):  # nan is neither
            return 1
        free_at[node] = end
        cut = end > run.horizon  # a batch that the horizon cuts credits nothing
        prefill, decodes, context = 0, 0, 0
        for e in range(at, at + run.sizes[k]):
            r, tokens = run.request[e], run.tokens[e]
            fault[1] = r
            if run.home[r] != node or not run.arrival[r] <= start:
                return 2
            if run.rejected[r] or emitted[r] >= run.output[r]:
                return 3
            if tokens == 0:
                if held[r] == 0 or prefill + decodes > 0:
                    return 5
                preempted[r] += 1
                used[node] -= held[r]
                held[r], given[r] = 0, 0
                target[r] = run.prompt[r] + emitted[r]
                kind[e] = PREEMPT
                continue
            if last_batch[r] == k:
                return 4
            last_batch[r] = k
            if held[r] == 0 and np.isnan(admitted[r]):
                admitted[r] = start
            if given[r] < target[r]:
                if tokens > target[r] - given[r]:
                    return 6
                kind[e] = LAST if tokens == target[r] - given[r] else CHUNK
                prefill += tokens
            else:
                if tokens != 1:
                    return 7
                kind[e] = TOKEN
                decodes += 1
                context += given[r] + 1
            given[r] += tokens
            need = (given[r] + run.block_size - 1) // run.block_size
            used[node] += max(need - held[r], 0)
            held[r] = max(need, held[r])
        fault[1] = -1
        if run.used[k] > run.blocks:
            return 8
        if used[node] > run.used[k]:  # more may be reserved
            return 9
        if prefill != run.prefill[k] or decodes != run.decodes[k] or context != run.context[k]:
            return 10
        for e in range(at, at + run.sizes[k]):
            r = run.request[e]
            if not cut and kind[e] == LAST and np.isnan(prefill_end[r]):
                prefill_end[r] = end
            if cut or not (kind[e] == TOKEN or (kind[e] == LAST and run.emits)):
                continue
            emitted[r] += 1
            if np.isnan(first_token[r]):
                first_token[r] = end
            else:
                longest_gap[r] = max(longest_gap[r], end - last_token[r])
            last_token[r] = end
            if emitted[r] == run.output[r]:
                finished[r] = end
                used[node] -= held[r]
                held[r] = 0
        at += run.sizes[k]
    for r in range(n):
        fault[1] = r
        if emitted[r] != run.decoded[r] or preempted[r] != run.preemptions[r]:
            return 12
        if run.ended[r] == np.isnan(finished[r]):
            return 12
        if not (same(prefill_end[r], run.prefill_end[r]) and same(last_token[r], run.last_token[r])):
            return 11
        if longest_gap[r] != run.longest_gap[r]:
            return 11
        if not (same(admitted[r], run.admitted[r]) and same(first_token[r], run.first_token[r])):
            return 11
        if not same(finished[r], run.finished[r]):
            return 11
    return 0


def _refinement(system: str, run: _Run, rule: int, rules: Sequence[str], fault: Ints) -> Refinement:
    arrived = int(np.count_nonzero(run.home >= 0))
    events = arrived + len(run.request)
    if rule == 0:
        return Refinement(system, events, True)
    batch, request = int(fault[0]), int(fault[1])
    time = float(run.start[batch]) if 0 <= batch < len(run.start) else math.nan
    return Refinement(system, events, False, rules[rule], batch, time, None if request < 0 else request)


def replayed(trace: Trace) -> tuple[_Run, NDArray[np.int8], Refinement]:
    run = _run_of(trace)
    if int(run.sizes.sum()) != len(run.request):
        raise ValueError(
            f"the batches count {int(run.sizes.sum())} entries and there are {len(run.request)}; record the run again"
        )
    if len(run.request) and not 0 <= int(run.request.min()) <= int(run.request.max()) < len(run.arrival):
        raise ValueError("an entry names a request that the trace does not have; record the run again")
    kind, fault = np.zeros(len(run.request), np.int8), np.zeros(2, np.int64)
    rule = int(replay_lifecycle(run, kind, fault))
    return run, kind, _refinement("lifecycle", run, rule, LIFECYCLE, fault)


def lifecycle(trace: Trace) -> Refinement:
    """Whether the run is one of requests that arrive, are prefilled in chunks, decode token by token, and end.

    Raises:
        ValueError: the trace has no entries, or does not say its KV memory.
    """
    return replayed(trace)[2]


class _Prices(NamedTuple):
    """Charges in whole numbers: everything of client u is multiplied by one number and divided by its weight."""

    prompt: Ints  # [clients] of a prompt token
    output: Ints  # [clients] of an output token
    bound: Ints  # [clients] U/f_u
    weight: Ints  # [clients] f_u times a common denominator
    memory: int  # M (tokens)


@compiled
def replay_vtc(run: _Run, kind, client, prices: _Prices, fault) -> int:
    """Replay arrivals, admissions and tokens; return the rule of VTC that is broken, or 0."""
    n, clients = len(run.arrival), len(prices.prompt)
    counter = np.zeros(clients, np.int64)
    committed = np.zeros(clients, np.int64)  # R_u
    waits = np.zeros(clients, np.int64)  # requests of the client in Q
    head = np.full(clients, -1, np.int64)
    tail = np.full(clients, -1, np.int64)
    behind = np.full(n, -1, np.int64)
    known = np.zeros(n, np.bool_)  # admitted before
    emitted = np.zeros(n, np.int64)
    last, floor, held = -1, 0, 0
    coming, at = 0, 0
    for k in range(len(run.start)):
        fault[0] = k
        while coming < n and run.arrival[coming] <= run.start[k]:
            r = coming
            coming += 1
            if run.rejected[r]:
                continue
            u = client[r]
            if waits[u] == 0:
                x, found = 0, False
                for i in range(clients):
                    if waits[i] > 0 and (not found or counter[i] < x):
                        x, found = counter[i], True
                if not found and last >= 0:
                    x, found = counter[last], True
                if found:
                    counter[u] = max(counter[u], x)
                    floor = max(floor, x)
                head[u] = r
            else:
                behind[tail[u]] = r
            tail[u] = r
            waits[u] += 1
            fault[1] = r
            broken = broken_invariant(u, counter, committed, waits, floor, prices)
            if broken > 0:
                return broken
        for e in range(at, at + run.sizes[k]):
            r = run.request[e]
            fault[1] = r
            if kind[e] == PREEMPT:
                return 7
            if known[r]:
                continue
            known[r] = True
            u = client[r]
            for i in range(clients):
                if waits[i] > 0 and counter[i] < counter[u]:
                    return 1
            if head[u] != r:
                return 2
            if held + run.prompt[r] + run.output[r] > prices.memory:
                return 3
            head[u] = behind[r]
            waits[u] -= 1
            if waits[u] == 0:
                last = u
            held += run.prompt[r] + run.output[r]
            floor = max(floor, counter[u])
            counter[u] += prices.prompt[u] * run.prompt[r]
            committed[u] += prices.output[u] * run.output[r]
            broken = broken_invariant(u, counter, committed, waits, floor, prices)
            if broken > 0:
                return broken
        if run.end[k] <= run.horizon:
            for e in range(at, at + run.sizes[k]):
                r = run.request[e]
                if kind[e] == TOKEN or (kind[e] == LAST and run.emits):
                    u = client[r]
                    emitted[r] += 1
                    counter[u] += prices.output[u]
                    committed[u] -= prices.output[u]
                    if emitted[r] == run.output[r]:
                        held -= run.prompt[r] + run.output[r]
        at += run.sizes[k]
    return 0


@compiled
def broken_invariant(u, counter, committed, waits, floor, prices: _Prices) -> int:
    """Rule broken by client `u` after an event of its own, or by the floor that the event raised; or 0.

    A higher floor only helps I3 and I5 of others, and decoding leaves both as they are.
    """
    room = floor + prices.bound[u] - counter[u] - committed[u]
    if room < 0:
        return 5
    for g in range(len(counter)):
        if waits[g] > 0 and floor > counter[g]:
            return 4
        if g == u:
            continue
        ahead = min(committed[g], max(0, floor - counter[g]))
        if min(prices.weight[u], prices.weight[g]) * ahead > prices.weight[u] * room:
            return 6
        ahead = min(committed[u], max(0, floor - counter[u]))
        left = floor + prices.bound[g] - counter[g] - committed[g]
        if min(prices.weight[u], prices.weight[g]) * ahead > prices.weight[g] * left:
            return 6
    return 0


def vtc(
    trace: Trace,
    cost: Cost = TOKENS,
    weights: Sequence[float | Fraction] = (1,),
    memory: int | None = None,
) -> Refinement:
    """Whether the run is one of VTC's transition system, and keeps its invariants after every event.

    Assumptions that are guards here: outputs are reserved whole, and nothing is preempted.  Of predictions nothing is
    known to a trace, and a run that charged them is refused.

    Args:
        trace: of one node, with entries.
        cost: a linear h.
        weights: of the clients by id, the last for all further ones.
        memory: M (tokens), the trace's KV memory by default.

    Raises:
        ValueError: the cost is not linear, the trace has no entries or more nodes, or the numbers do not fit 64 bits.
    """
    if not cost.linear:
        raise ValueError("the refinement of VTC needs a linear cost, wp·x + wq·y; give Cost(wp, wq)")
    if not weights or any(f <= 0 for f in weights):
        raise ValueError(f"weights {tuple(weights)} must be above 0; give one for each client")
    run, kind, lived = replayed(trace)
    if not lived.ok:
        return lived
    if len(run.node) and int(run.node.max()) > 0:
        raise ValueError("counters are kept by each node; give the trace of one node")
    ids, client = np.unique(run.client, return_inverse=True)
    share = [Fraction(weights[min(int(u), len(weights) - 1)]) for u in ids]
    wp, wq = Fraction(cost.input), Fraction(cost.output)
    scale = math.lcm(1, *(part.denominator for f in share for part in (wp / f, wq / f)))
    denominator = math.lcm(1, *(f.denominator for f in share))
    size = run.blocks * run.block_size if memory is None else memory
    longest = int(run.prompt.max(initial=0))
    most = (wq * size + max(Fraction(0), wp - wq) * longest) * scale
    everything = (
        scale * max((wp + wq) / f for f in share) * int((run.prompt + run.output).sum()) if share else 0
    )
    if everything + most / min(share, default=Fraction(1)) > 2**61:
        raise ValueError(
            "the counters do not fit 64 bits; give the cost and the weights as numbers of fewer digits"
        )
    prices = _Prices(
        np.array([int(scale * wp / f) for f in share], np.int64),
        np.array([int(scale * wq / f) for f in share], np.int64),
        np.array([math.floor(most / f) for f in share], np.int64),
        np.array([int(f * denominator) for f in share], np.int64),
        size,
    )
    fault = np.full(2, -1, np.int64)
    rule = int(replay_vtc(run, kind, client.astype(np.int64), prices, fault))
    return _refinement("vtc", run, rule, VTC, fault)


def full_tiles(trace: Trace, tile: int) -> Refinement:
    """Whether every batch is a multiple of the tile or holds decodes alone, and at most a tile of requests decode.

    The batches of RAD without cycles, on prompts that are multiples of the tile.

    Args:
        trace: with entries.
        tile: b (tokens).
    """
    if tile < 1:
        raise ValueError(f"a tile of {tile} tokens; give at least 1")
    run, _, lived = replayed(trace)
    if not lived.ok:
        return lived
    uneven = (run.prefill > 0) & ((run.prefill + run.decodes) % tile > 0)
    crowded = run.decodes > tile
    fault, rule = np.full(2, -1, np.int64), 0
    if uneven.any() or crowded.any():
        fault[0] = int(np.argmax(uneven | crowded))
        rule = 1 if uneven[fault[0]] else 2
    return _refinement("full_tiles", run, rule, FULL_TILES, fault)


@compiled
def replay_stall_free(run: _Run, kind, budget: int, fault) -> int:
    """Return the rule of stall-free batches that is broken, or 0."""
    n = len(run.arrival)
    nodes = 1
    for k in range(len(run.node)):
        nodes = max(nodes, run.node[k] + 1)
    decoding = np.zeros(n, np.bool_)
    emitted = np.zeros(n, np.int64)
    ready = np.zeros(nodes, np.int64)  # requests that decode
    at = 0
    for k in range(len(run.start)):
        fault[0] = k
        node = run.node[k]
        served = 0
        for e in range(at, at + run.sizes[k]):
            r = run.request[e]
            if kind[e] == PREEMPT and decoding[r]:
                decoding[r] = False
                ready[node] -= 1
            elif kind[e] == TOKEN:
                served += 1
        if served < ready[node]:
            return 1
        if run.prefill[k] + run.decodes[k] > max(budget, run.decodes[k]):
            return 2
        if run.end[k] <= run.horizon:
            for e in range(at, at + run.sizes[k]):
                r = run.request[e]
                if kind[e] == TOKEN or (kind[e] == LAST and run.emits):
                    emitted[r] += 1
                if kind[e] == LAST:
                    decoding[r] = True
                    ready[node] += 1
                if decoding[r] and emitted[r] == run.output[r]:
                    decoding[r] = False
                    ready[node] -= 1
        at += run.sizes[k]
    return 0


def stall_free(trace: Trace, budget: int) -> Refinement:
    """Whether every batch gives a token to every request that decodes, and holds no prompt beyond the budget.

    Args:
        trace: with entries.
        budget: most tokens in a batch unless its decodes alone are more.
    """
    if budget < 1:
        raise ValueError(f"a budget of {budget} tokens; give at least 1")
    run, kind, lived = replayed(trace)
    if not lived.ok:
        return lived
    fault = np.full(2, -1, np.int64)
    rule = int(replay_stall_free(run, kind, budget, fault))
    return _refinement("stall_free", run, rule, STALL_FREE, fault)
