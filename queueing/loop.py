"""The serving loop under a virtual clock: arrivals, queues, KV blocks, batches, and the books that check them.

One iteration on a node whose clock stands at t:  the policy plans a batch from what it may know at t; the loop checks
the batch against its own books and raises :class:`PolicyBreach` if a rule is broken; the iteration-time model says how
long it takes; at its end e the tokens are credited, finished requests leave, and the clock stands at e.  Arrivals at
exactly e are seen by the plan at e.  A request is served by the node it was routed to and by no other.

Conventions
  * A decode at context c (tokens in the KV cache) writes one more token and attends to c + 1.
  * `last_chunk_emits`: the last prompt chunk emits the first output token (as engines do), so d output tokens take
    d - 1 decode iterations; without it (the convention of the SLAI authors' engine) they take d.
  * A preempted request loses its KV blocks, goes to the front of the queue, and recomputes its prompt together with
    what it had generated; when that is done it goes on where it stopped.
  * A request that can never be finished (prompt + output beyond the context limit or the KV memory less the
    watermark) is rejected on arrival and counted.

The whole loop is one compiled function that takes the policy and the law as arguments; `interpreted=True` runs the
same lines as plain Python (the twin), which is the oracle of the compiled one and the place to set a breakpoint.
"""

# Compiled functions carry no hints: numba types them by what they are called with.
# pyright: basic, reportMissingParameterType=false, reportUnknownParameterType=false

from __future__ import annotations

import math
from typing import Any

from numba.extending import overload

from queueing.agenda import TOP, due, following, schedule
from queueing.batch import ENTRIES, FREE, OVERFLOW, VICTIMS, Batch, View
from queueing.books import (
    BREACH,
    BUDGET,
    BUSY,
    CHUNK,
    COUNTING,
    DESK,
    DONE,
    DURATION,
    FINISHED,
    HAVE,
    HELD,
    HOLDING,
    HOLDS,
    HOLDS_AT_ONCE,
    IDLE,
    ITERATION,
    LAST_STAMP,
    LINE,
    LOG_FULL,
    MEMBERSHIP,
    MEMORY,
    NEED,
    NEXT,
    NOBODY,
    NODE,
    PLACES,
    PLAN,
    PREEMPTION,
    PROGRESS,
    QUEUE_FULL,
    REJECTED,
    REQUEST,
    RESERVATION,
    ROUTING,
    ROW_ENTRIES,
    ROWS,
    RULE,
    RUNNING,
    STAMP,
    WAITING,
)
from queueing.compilation import kernel
from queueing.models.iteration_time import Load
from queueing.prefetch import fetch
from queueing.trace import gap_bin


@kernel
def breach(b, rule, node, iteration, request, have, need):
    """Note which rule was broken where; the loop stops."""
    b.cursor[RULE] = rule
    b.cursor[NODE] = node
    b.cursor[ITERATION] = iteration
    b.cursor[REQUEST] = request
    b.cursor[HAVE] = have
    b.cursor[NEED] = need
    return BREACH


@kernel
def deliver(i, k, b, limits):
    """Request `i` arrives at node `k`: shown to the policy and queued, or rejected if it can never be finished."""
    b.requests.node[i] = k
    b.requests.arrival[i] = b.source.arrival[i]
    longest = b.source.prompt[i] + b.source.output[i]
    blocks = (longest + limits.block_size - 1) // limits.block_size
    if longest > limits.max_length or blocks > limits.blocks - limits.watermark:
        b.requests.phase[i] = REJECTED
        return
    b.requests.prompt[i] = b.source.prompt[i]
    b.requests.client[i] = b.source.client[i]
    b.requests.tbt[i] = b.source.tbt[i]
    b.requests.predicted[i] = b.source.predicted[i]
    b.requests.output[i] = b.source.output[i]
    b.requests.slo_class[i] = b.source.slo_class[i]
    b.requests.phase[i] = WAITING
    b.queue[k, b.nodes.tail[k]] = i
    b.nodes.tail[k] += 1
    b.loads.unfinished[k] += 1
    b.loads.work[k] += b.source.prompt[i] + b.source.predicted[i]
    if b.nodes.state[k] != BUSY:  # an arrival ends a hold
        b.nodes.state[k] = IDLE
        b.nodes.clock[k] = max(b.nodes.clock[k], b.source.arrival[i])


@kernel
def make_room(k, b, room_ahead):
    """Ensure space before and behind the waiting queue of node `k`; False if its buffer is too small."""
    capacity = b.queue.shape[1]
    head, tail = b.nodes.head[k], b.nodes.tail[k]
    if head >= room_ahead and tail < capacity:
        return True
    length = tail - head
    if 2 * (length + room_ahead + 1) > capacity:
        return False
    start = room_ahead + (capacity - length - room_ahead) // 4
    row = b.queue[k]
    if start > head:
        for j in range(length - 1, -1, -1):
            row[start + j] = row[head + j]
    else:
        for j in range(length):
            row[start + j] = row[head + j]
    b.nodes.head[k], b.nodes.tail[k] = start, start + length
    return True


@kernel
def leave_queue(k, r, b):
    """Remove `r` from the waiting queue of node `k`, shifting the shorter side."""
    row = b.queue[k]
    head, tail = b.nodes.head[k], b.nodes.tail[k]
    place = head
    while row[place] != r:
        place += 1
    if place - head <= tail - 1 - place:
        for j in range(place, head, -1):
            row[j] = row[j - 1]
        b.nodes.head[k] = head + 1
    else:
        for j in range(place, tail - 1):
            row[j] = row[j + 1]
        b.nodes.tail[k] = tail - 1


@kernel
def join_members(k, r, b):
    """Insert `r` among the running requests of node `k`, kept in ascending order."""
    row = b.members[k]
    j = b.nodes.running[k]
    while j > 0 and row[j - 1] > r:
        row[j] = row[j - 1]
        j -= 1
    row[j] = r
    b.nodes.running[k] += 1


@kernel
def drop_members(k, b):
    """Remove requests that no longer run from the members of node `k`, keeping the order."""
    row = b.members[k]
    kept = 0
    for j in range(b.nodes.running[k]):
        r = row[j]
        row[kept] = r
        if b.requests.phase[r] == RUNNING:
            kept += 1
    b.nodes.running[k] = kept


@kernel
def evict(k, batch, b):
    """Carry out the preemptions of a batch; DONE or BREACH."""
    victims = batch.count[VICTIMS]
    for v in range(victims):
        r = batch.victim[v]
        if r >= b.requests.phase.size or b.requests.phase[r] != RUNNING or b.requests.node[r] != k:
            return breach(b, PREEMPTION, k, b.nodes.iterations[k], r, 0, 0)
        b.nodes.free[k] += b.requests.blocks[r]
        b.loads.work[k] += b.requests.prefilled[r] + b.requests.decoded[r] - b.requests.recomputed[r]
        b.requests.prompt[r] += b.requests.decoded[r] - b.requests.recomputed[r]
        b.requests.recomputed[r] = b.requests.decoded[r]
        b.requests.prefilled[r] = 0
        b.requests.context[r] = 0
        b.requests.blocks[r] = 0
        b.requests.phase[r] = WAITING
        b.requests.preemptions[r] += 1
        b.nodes.head[k] -= 1
        b.queue[k, b.nodes.head[k]] = r
    if victims > 0:
        drop_members(k, b)
    return DONE


@kernel
def allocate(k, now, batch, b, limits):
    """Check a batch against the books and allocate its KV blocks; fill the load of its iteration.

    Returns (code, tokens, decodes, context, chunks).
    """
    entries = batch.count[ENTRIES]
    stamp = b.cursor[STAMP] % LAST_STAMP + 1
    b.cursor[STAMP] = stamp
    iteration = b.nodes.iterations[k]
    tokens, decodes, context, chunks = 0, 0, 0, 0
    free = b.nodes.free[k]
    for e in range(entries):
        r = batch.request[e]
        q = batch.tokens[e]
        if r >= b.requests.phase.size or b.requests.node[r] != k or b.requests.stamp[r] == stamp:
            return breach(b, MEMBERSHIP, k, iteration, r, 0, 0), 0, 0, 0, 0
        phase = b.requests.phase[r]
        b.requests.stamp[r] = stamp
        held = b.requests.context[r] + q
        if phase == RUNNING:
            if batch.reserve[e] != 0:
                return breach(b, RESERVATION, k, iteration, r, 0, batch.reserve[e]), 0, 0, 0, 0
        elif phase == WAITING:
            if batch.reserve[e] < q:
                return breach(b, RESERVATION, k, iteration, r, batch.reserve[e], q), 0, 0, 0, 0
            if b.nodes.running[k] >= limits.max_running:
                return breach(b, PLACES, k, iteration, r, limits.max_running, 1), 0, 0, 0, 0
            held = batch.reserve[e]
            leave_queue(k, r, b)
            join_members(k, r, b)
            b.requests.phase[r] = RUNNING
            if math.isnan(b.requests.admitted[r]):
                b.requests.admitted[r] = now
        else:
            return breach(b, MEMBERSHIP, k, iteration, r, 0, 0), 0, 0, 0, 0
        left = b.requests.prompt[r] - b.requests.prefilled[r]
        if left > 0:
            if q < 1 or q > left:
                return breach(b, CHUNK, k, iteration, r, left, q), 0, 0, 0, 0
            b.chunks.tokens[k, chunks] = q
            b.chunks.history[k, chunks] = b.requests.prefilled[r]
            chunks += 1
        else:
            if q != 1:
                return breach(b, CHUNK, k, iteration, r, 1, q), 0, 0, 0, 0
            decodes += 1
            context += b.requests.context[r] + 1
        tokens += q
        short = held - b.requests.blocks[r] * limits.block_size
        if short > 0:
            need = (short - 1) // limits.block_size + 1  # cannot overflow
            if need > free:
                return breach(b, MEMORY, k, iteration, r, free, need), 0, 0, 0, 0
            free -= need
            b.requests.blocks[r] += need
    b.nodes.free[k] = free
    if tokens > limits.max_tokens:
        return breach(b, BUDGET, k, iteration, NOBODY, limits.max_tokens, tokens), 0, 0, 0, 0
    return DONE, tokens, decodes, context, chunks


@kernel
def commit(k, batch, b, limits):
    """The batch of node `k` ends: credit tokens, note times, release the requests that are done."""
    end = b.nodes.until[k]
    entries = batch.count[ENTRIES]
    gone = False
    known_gap, known_bin = -1.0, 0
    work = 0
    for e in range(entries):
        r = batch.request[e]
        q = batch.tokens[e]
        b.desks.served[k, e] = r
        b.desks.served_tokens[k, e] = q
        b.requests.context[r] += q
        if b.requests.prefilled[r] < b.requests.prompt[r]:
            work += q
            b.requests.prefilled[r] += q
            if b.requests.prefilled[r] < b.requests.prompt[r]:
                continue
            if math.isnan(b.requests.prefill_end[r]):
                b.requests.prefill_end[r] = end
            if not limits.last_chunk_emits:
                continue
        if b.requests.decoded[r] == 0:
            b.requests.first_token[r] = end
        else:
            gap = end - b.requests.last_token[r]
            if gap != known_gap:  # most decodes of a batch share the end of the last one
                known_gap = gap
                known_bin = gap_bin(gap)
            b.gaps[b.requests.slo_class[r], known_bin] += 1
            if gap > b.requests.longest_gap[r]:
                b.requests.longest_gap[r] = gap
            if gap > b.requests.tbt[r]:
                b.requests.late_gaps[r] += 1
        if b.requests.decoded[r] < b.requests.predicted[r]:
            work += 1
        b.requests.decoded[r] += 1
        b.requests.last_token[r] = end
        if b.requests.decoded[r] == b.requests.output[r]:
            b.requests.finished[r] = end
            b.requests.phase[r] = FINISHED
            b.nodes.free[k] += b.requests.blocks[r]
            b.requests.blocks[r] = 0
            b.loads.unfinished[k] -= 1
            work += max(b.requests.predicted[r] - b.requests.decoded[r], 0)
            gone = True
    if gone:
        drop_members(k, b)
    b.loads.work[k] -= work
    b.nodes.served[k] = entries
    b.nodes.clock[k] = end
    b.nodes.seconds[k] = b.nodes.planned[k]
    b.nodes.iterations[k] += 1
    b.nodes.state[k] = IDLE


@kernel
def look(k, b, limits):
    """What the policy of node `k` sees now."""
    return View(
        b.nodes.clock[k],
        b.nodes.iterations[k],
        b.nodes.seconds[k],
        b.shown_queue[k, b.nodes.head[k] : b.nodes.tail[k]],
        b.shown_members[k, : b.nodes.running[k]],
        b.shown_desks.served[k, : b.nodes.served[k]],
        b.shown_desks.served_tokens[k, : b.nodes.served[k]],
        b.shown.arrival,
        b.shown.prompt,
        b.shown.prefilled,
        b.shown.decoded,
        b.shown.recomputed,
        b.shown.client,
        b.shown.tbt,
        b.shown.predicted,
        b.shown.last_token,
        b.shown.blocks,
        b.shown.context,
        b.nodes.free[k],
        limits.blocks,
        limits.block_size,
        limits.watermark,
        limits.max_length,
        limits.max_running,
        limits.max_tokens,
    )


@kernel
def desk(k, b):
    """The batch on the desk of node `k`."""
    d = b.desks
    return Batch(d.request[k], d.tokens[k], d.reserve[k], b.victims[k], b.count[k], b.nodes.hold[k : k + 1])


@kernel
def record(k, now, seconds, tokens, decodes, context, batch, b, limits):
    """Write one row of the iteration log, and its entries if they are wanted."""
    row = b.cursor[ROWS]
    b.log.start[row] = now
    b.log.seconds[row] = seconds
    b.log.node[row] = k
    b.log.prefill[row] = tokens - decodes
    b.log.decodes[row] = decodes
    b.log.context[row] = context
    b.log.blocks[row] = limits.blocks - b.nodes.free[k]
    b.log.waiting[row] = b.nodes.tail[k] - b.nodes.head[k]
    b.log.running[row] = b.nodes.running[k]
    b.cursor[ROWS] = row + 1
    if limits.record_entries:
        first = b.cursor[ROW_ENTRIES]
        at = first
        for v in range(batch.count[VICTIMS]):
            b.entries.request[at] = batch.victim[v]
            b.entries.tokens[at] = 0
            at += 1
        for e in range(batch.count[ENTRIES]):
            b.entries.request[at] = batch.request[e]
            b.entries.tokens[at] = batch.tokens[e]
            at += 1
        b.log.entries[row] = at - first
        b.cursor[ROW_ENTRIES] = at


@kernel
def ready(k, b, limits):
    """Clear the desk of idle node `k` for a plan; or what stops the loop."""
    width = b.desks.request.shape[1]
    if b.cursor[ROWS] == b.log.start.size:
        return LOG_FULL
    if limits.record_entries and b.cursor[ROW_ENTRIES] + 2 * width > b.entries.request.size:
        return LOG_FULL
    if not make_room(k, b, b.nodes.running[k]):
        return QUEUE_FULL
    b.count[k, :] = 0
    b.count[k, FREE] = b.nodes.free[k]
    b.nodes.hold[k] = math.nan
    return PLAN


@kernel
def granted(k, more, b, limits):
    """Check what the policy put on the desk of idle node `k`, and give it its KV blocks.

    Returns (code, tokens, decodes, context, chunks): DONE with a batch to execute, HELD where the policy holds, or what
    stops the loop.
    """
    now = b.nodes.clock[k]
    width = b.desks.request.shape[1]
    batch = desk(k, b)
    entries = batch.count[ENTRIES]
    if not (0 <= entries <= width and 0 <= batch.count[VICTIMS] <= width):
        return breach(b, COUNTING, k, b.nodes.iterations[k], NOBODY, width, entries), 0, 0, 0, 0
    if batch.count[OVERFLOW] != 0:
        return breach(b, PLACES, k, b.nodes.iterations[k], NOBODY, width, width + 1), 0, 0, 0, 0
    code = evict(k, batch, b)
    if code != DONE:
        return code, 0, 0, 0, 0
    if entries == 0:
        if batch.count[VICTIMS] > 0:
            return breach(b, PROGRESS, k, b.nodes.iterations[k], batch.victim[0], 0, 0), 0, 0, 0, 0
        resume = batch.until[0]
        if not resume > now or (math.isinf(resume) and not more):
            return breach(b, PROGRESS, k, b.nodes.iterations[k], NOBODY, 0, 0), 0, 0, 0, 0
        b.nodes.until[k] = resume
        b.nodes.state[k] = HOLDING
        return HELD, 0, 0, 0, 0
    return allocate(k, now, batch, b, limits)


@kernel
def launch(k, seconds, tokens, decodes, context, b, limits):
    """The batch on the desk of node `k` takes so many seconds from now: log it, and keep the node busy."""
    if not (seconds > 0.0 and seconds < math.inf):
        return breach(b, DURATION, k, b.nodes.iterations[k], NOBODY, 0, tokens)
    now = b.nodes.clock[k]
    record(k, now, seconds, tokens, decodes, context, desk(k, b), b, limits)
    b.nodes.planned[k] = seconds
    b.nodes.until[k] = now + seconds
    b.nodes.state[k] = BUSY
    return DONE


@kernel
def settle(k, until, more, b, limits):
    """Finish what node `k` ends by time `until`; PLAN if it may then start a batch before that, DONE if it may not."""
    if b.nodes.state[k] != IDLE:
        if b.nodes.state[k] == HOLDING and math.isinf(b.nodes.until[k]) and not more:
            return breach(b, PROGRESS, k, b.nodes.iterations[k], NOBODY, 0, 0)
        if b.nodes.until[k] > until:
            return DONE
        if b.nodes.state[k] == BUSY:
            commit(k, desk(k, b), b, limits)
        else:
            b.nodes.clock[k] = b.nodes.until[k]
            b.nodes.state[k] = IDLE
    if b.nodes.clock[k] >= until or b.loads.unfinished[k] == 0:
        return DONE
    return ready(k, b, limits)


def serve(plan, p, memories, law, law_p, router, router_p, draws, b, limits):
    """Serve the workload from where the cursor stands until it is done, a buffer is full, or a rule is broken."""
    requests = b.source.arrival.size
    count = b.count.shape[0]
    k = NOBODY
    while b.cursor[NEXT] <= requests:
        i = b.cursor[NEXT]
        more = i < requests
        until = limits.horizon
        if more:
            until = min(b.source.arrival[i], limits.horizon)
        while True:
            if k != NOBODY:  # served, or sent a request
                schedule(k, b)
            if not due(b, until):
                break
            k = b.agenda.node[TOP]
            memory = memory_of(memories, k)
            ahead = following(b)
            if ahead != NOBODY:  # of a thousand nodes, its books are in none of the processor's caches
                for line in range(2):
                    fetch(b.nodes, ahead, line)
                    fetch(b.count, ahead, line)
                    fetch(b.members, ahead, line)
                for line in range(DESK * b.nodes.running[ahead] // LINE + 1):
                    fetch(b.desks, ahead, line)
            while True:
                code = settle(k, until, more, b, limits)
                if code == DONE:
                    break
                if code != PLAN:
                    return code
                if ahead != NOBODY:
                    for j in range(b.nodes.running[ahead]):
                        fetch(b.requests, b.members[ahead, j], 0)
                plan(p, memory, look(k, b, limits), desk(k, b))
                code, tokens, decodes, context, chunks = granted(k, more, b, limits)
                if code == HELD:
                    b.cursor[HOLDS] += 1
                    if b.cursor[HOLDS] % HOLDS_AT_ONCE == 0:
                        return LOG_FULL
                    continue
                if code != DONE:
                    return code
                chunk, history = b.chunks.tokens[k, :chunks], b.chunks.history[k, :chunks]
                seconds = law(law_p, Load(tokens, decodes, context, chunk, history))
                code = launch(k, seconds, tokens, decodes, context, b, limits)
                if code != DONE:
                    return code
        if not more or b.source.arrival[i] >= limits.horizon:
            return DONE
        k = 0
        if count > 1:
            k = router(router_p, i, draws, b.shown_loads)
            if not 0 <= k < count:
                return breach(b, ROUTING, 0, 0, i, count - 1, k)
        if not make_room(k, b, 0):
            return QUEUE_FULL
        deliver(i, k, b, limits)
        b.cursor[NEXT] = i + 1
    return DONE


def memory_of(memories: Any, k: int) -> Any:
    """Row `k` of every array of `memories`, as the same NamedTuple."""
    return type(memories)(*(array[k] for array in memories))


@overload(memory_of)
def _memory_of(memories, k):  # pyright: ignore  # numba: one line of code per field
    cls = memories.instance_class
    rows = ", ".join(f"memories[{j}][k]" for j in range(len(cls._fields)))
    scope: dict[str, Any] = {"cls": cls}
    exec(f"def row(memories, k):\n    return cls({rows})", scope)
    return scope["row"]
