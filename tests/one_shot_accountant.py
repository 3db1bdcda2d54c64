"""An accountant of one-shot runs: holds a trace against its inputs, in plain Python, sharing no line with the loop."""

from __future__ import annotations

import math
from collections import Counter

from queueing.one_shot import OneShotTrace


class BooksDoNotBalance(AssertionError):
    """The trace says what cannot have happened."""


def require(holds: bool, law: str, *details: object) -> None:
    if not holds:
        raise BooksDoNotBalance(f"{law}: {details}")


def audit(trace: OneShotTrace) -> None:
    """Raise at the first thing in the trace that its requests and its pool do not allow."""
    requests, pool = trace.requests, trace.pool
    members: dict[int, list[int]] = {}
    for r, b in enumerate(trace.batch.tolist()):
        if b >= 0:
            members.setdefault(b, []).append(r)
            require(bool(trace.completed[b]), "a request is served by a batch that was completed", r, b)
            require(trace.begin[b] >= requests.arrival[r], "no request is served before it arrives", r)
            require(not trace.dropped[r], "what was dropped is not served", r)
    held: dict[int, int] = {}
    free: Counter[int] = Counter()
    require(bool((trace.begin[1:] >= trace.begin[:-1]).all()), "batches are in order of begin")
    for b in range(len(trace.begin)):
        s, k, n, c = (int(column[b]) for column in (trace.server, trace.config, trace.count, trace.largest))
        begin, end = float(trace.begin[b]), float(trace.end[b])
        loading = float(pool.switch[k]) if pool.servers and held.get(s, k) != k else 0.0
        due = begin + loading + float(pool.seconds[k, c, n - 1])
        require(float(trace.loading[b]) == loading, "a server loads what it does not hold", b)
        require(math.isfinite(due), "a batch is one that the pool can run", b)
        if trace.completed[b]:
            require(end == due, "a batch takes the time of the table", b, end, due)
            require(n == len(members.get(b, [])), "a batch has as many requests as name it", b)
            require(
                c == max(int(requests.kind[r]) for r in members[b]), "a batch is as large as its largest", b
            )
        else:
            require(b not in members, "a batch that was lost served nobody", b)
            require(end == pool.failures[s] < due, "a batch is lost when its server fails", b)
        if pool.servers is None:
            require(s == 0, "servers paid per use have no number", b)
            continue
        require(begin >= free.get(s, 0.0), "a server executes one batch at a time", b)
        require(begin < pool.failures[s] and end <= pool.failures[s], "a server that failed runs nothing", b)
        held[s], free[s] = k, end
    left = [r for r in range(len(requests)) if trace.batch[r] < 0 and not trace.dropped[r]]
    require(
        not left or bool(pool.servers and max(pool.failures) < math.inf), "all are served or dropped", left
    )
