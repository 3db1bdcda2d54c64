"""Serve one-shot requests with a policy on a pool of servers under a virtual clock."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from queueing.compilation import interpreted, loop
from queueing.one_shot.contract import Action, OneShotPolicy
from queueing.one_shot.loop import BATCHES, CULPRIT, GIVEN_UP, RULE, RULES, Books, serve_one_shot
from queueing.one_shot.pool import Pool
from queueing.one_shot.requests import Requests
from queueing.one_shot.trace import OneShotTrace
from queueing.run import PolicyBreach, versions

__all__ = ["serve"]


def serve(requests: Requests, pool: Pool, policy: OneShotPolicy, *, python: bool = False) -> OneShotTrace:
    """Serve `requests` on `pool` under `policy` and return the :class:`~queueing.one_shot.trace.OneShotTrace`.

    A run is a pure function of its arguments.
    Args: python = run the plain-Python twin of the compiled loop: slow, steppable, the same result.
    Raises:
        PolicyBreach: the policy asked for what breaks a rule.
        ValueError: a kind of request is not in the table of the pool.
    """
    worst = int(requests.kind.max())
    if worst >= pool.kinds:
        raise ValueError(
            f"a request is of kind {worst} and the pool has times for {pool.kinds} kinds; give it a larger table"
        )
    books = _books(requests, pool, policy.by_deadline)
    action = Action(
        np.zeros(pool.largest_batch, np.int64),
        np.zeros(len(requests), np.int64),
        np.zeros(3, np.int64),
        np.zeros(1),
    )
    memory = policy.prepare(pool)
    if python:
        fine = interpreted(serve_one_shot)(policy.body.python, policy, memory, books, action)
    else:
        go = loop(serve_one_shot, policy.body.function)
        fine = go(policy.body.compiled, policy.parameters(), memory, books, action)
    if not fine:
        raise PolicyBreach(_breach(policy, books))
    return _trace(requests, pool, policy, books)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    alias = array.view()
    alias.flags.writeable = False
    return alias


def _books(requests: Requests, pool: Pool, by_deadline: bool) -> Books:
    n = len(requests)
    servers = pool.servers or 1
    most = n + (pool.servers or 0) * pool.largest_batch  # a failure sends at most one batch back to the queue
    failures = pool.failures if pool.servers else np.full(1, np.inf)
    seen_arrival, seen_deadline = np.full(n, np.inf), np.full(n, np.inf)
    seen_kind, queue = np.full(n, -1), np.zeros(most + 1, np.int64)
    return Books(
        arrival=requests.arrival,
        deadline=requests.deadline,
        kind=requests.kind,
        order=requests.deadline if by_deadline else requests.arrival,
        failures=failures,
        seconds=pool.seconds,
        value=pool.value,
        switch=pool.switch,
        limited=pool.servers is not None,
        seen_arrival=seen_arrival,
        seen_deadline=seen_deadline,
        seen_kind=seen_kind,
        queue=queue,
        view_arrival=_read_only(seen_arrival),
        view_deadline=_read_only(seen_deadline),
        view_kind=_read_only(seen_kind),
        view_queue=_read_only(queue),
        state=np.zeros(n, np.int64),
        batch=np.full(n, -1),
        begin=np.zeros(most),
        end=np.zeros(most),
        server=np.zeros(most, np.int64),
        config=np.zeros(most, np.int64),
        count=np.zeros(most, np.int64),
        largest=np.zeros(most, np.int64),
        loading=np.zeros(most),
        completed=np.zeros(most, np.bool_),
        held=np.full(servers, -1),
        running=np.full(servers, -1),
        dead=np.zeros(servers, np.bool_),
        cursor=np.zeros(6, np.int64),
        clock=np.array([0.0, np.inf]),
    )


def _breach(policy: OneShotPolicy, books: Books) -> str:
    culprit = int(books.cursor[CULPRIT])
    which = f", request {culprit}" if culprit >= 0 else ""
    return f"{policy.name}, at {books.clock[0]:.9g} s{which}: {RULES[books.cursor[RULE]]}"


def _trace(requests: Requests, pool: Pool, policy: OneShotPolicy, books: Books) -> OneShotTrace:
    m = int(books.cursor[BATCHES])
    return OneShotTrace(
        requests=requests,
        pool=pool,
        policy=policy.name,
        versions=versions(),
        batch=books.batch,
        dropped=books.state == GIVEN_UP,
        begin=books.begin[:m].copy(),
        end=books.end[:m].copy(),
        server=books.server[:m].copy(),
        config=books.config[:m].copy(),
        count=books.count[:m].copy(),
        largest=books.largest[:m].copy(),
        loading=books.loading[:m].copy(),
        completed=books.completed[:m].copy(),
    )
