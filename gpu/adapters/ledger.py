"""The books of a node whose requests live in somebody else's engine, and the policy that is asked on them.

The engine says who arrived, what each request holds and who left; :meth:`Ledger.ask` runs the compiled step of
:mod:`queueing.loop`, so a policy sees here what it sees in the simulator, and its batch is checked by the same rules.

A request that leaves while it waits is shown until the policy admits it, and is gone then: policies that keep queues of
their own need not be told.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from queueing.batch import ENTRIES, VICTIMS
from queueing.books import BREACH, DONE, FINISHED, HELD, IDLE, NEXT, NOTHING, QUEUE_FULL, RUNNING, WAITING
from queueing.compilation import interpreted, loop
from queueing.policy import Policy
from queueing.run import Run
from queueing.serving import open_batch
from queueing.system import System
from queueing.workload import Workload

__all__ = ["Ledger", "Plan"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the policy asks for: `victims` to preempt, then `tokens` for each of `requests`, in its order.

    `admitted` are those of `requests` that held no KV blocks before.
    """

    victims: tuple[int, ...]
    requests: tuple[int, ...]
    tokens: tuple[int, ...]
    admitted: frozenset[int]


class Ledger:
    """Books of one node; requests are numbered from 0 in order of arrival, and clients in order of appearance.

    They grow with the requests served so far, by about 300 bytes each.

    Args:
        policy: the scheduler.
        system: KV memory and limits; its law is not used.
        rows: requests to have room for at first; the room is doubled when they are used up.
        python: run the plain-Python twin of the compiled code.
    """

    def __init__(self, policy: Policy, system: System, *, rows: int = 4096, python: bool = False) -> None:
        self._python = python
        self._policy = policy
        if python:
            self._open_batch: Any = interpreted(open_batch)
            self._body: tuple[Any, ...] = (policy.body.python, policy)
        else:
            self._open_batch = loop(open_batch, policy.body.function)
            self._body = (policy.body.compiled, policy.parameters())
        self._clients: dict[Hashable, int] = {}
        self._gone_waiting: set[int] = set()
        self._rows = 0
        self._use(_blank(policy, system, max(rows, system.max_running), python))
        self.ask(
            0.0
        )  # nobody is there: this compiles now what would else be compiled under the first request

    def _use(self, run: Run) -> None:
        self.run = run
        self._requests: Any = run.tables["requests"]
        self._source: Any = run.tables["source"]
        self._node: Any = run.tables["nodes"][0]
        desks = run.tables["desks"]
        self._desk: dict[str, Any] = {name: desks[name][0] for name in desks.dtype.names}

    def _grow(self) -> None:
        """Double the rows: the first half is what was known, the second half blank."""
        old = self.run
        run = _blank(self._policy, old.system, 2 * len(old.workload), self._python)
        for name in ("source", "requests"):
            run.tables[name][: self._rows] = old.tables[name][: self._rows]
        for name in ("nodes", "members", "desks", "count", "cursor"):
            run.tables[name][...] = old.tables[name]
        run.tables["loads"].unfinished[:] = old.tables["loads"].unfinished
        run.tables["loads"].work[:] = old.tables["loads"].work
        for bigger, smaller in zip(run.memories, old.memories, strict=True):
            bigger[tuple(slice(0, length) for length in smaller.shape)] = smaller
        run.tables["queue"] = old.tables["queue"]
        run.grow_queue()
        self._use(run)

    @property
    def running(self) -> Ints:
        """Requests that hold KV blocks in the books, in order of arrival."""
        return self.run.tables["members"][0, : int(self._node["running"])].astype(np.int64)

    def decoding(self, row: int) -> bool:
        """Whether the whole prompt of a request is in the KV cache."""
        known = self._requests[row]
        return bool(known["phase"] == RUNNING and known["prefilled"] >= known["prompt"])

    @property
    def free(self) -> int:
        """KV blocks that nobody holds or has reserved."""
        return int(self._node["free"])

    def arrive(
        self, at: float, prompt: int, client: Hashable = 0, tbt: float = np.inf, predicted: int | None = None
    ) -> int:
        """Enter a request of `prompt` tokens that came at time `at` (s), and return its number.

        It is shown to the policy when it is asked next.  `tbt` is the limit on the time between tokens (s), `predicted`
        the announced bound on the output (tokens); without one the context limit is assumed.
        """
        row = self._rows
        if row == len(self._source):
            self._grow()
        source = self._source[row]
        source["arrival"] = max(at, float(self._source["arrival"][row - 1])) if row else at
        source["prompt"], source["output"], source["tbt"] = prompt, 1, tbt
        source["client"] = self._clients.setdefault(client, len(self._clients))
        limit = self.run.limits.max_length
        source["predicted"] = limit - prompt if predicted is None else min(predicted, limit)
        self._rows = row + 1
        return row

    def observe(self, rows: Ints, context: Ints, decoded: Ints) -> None:
        """Enter what each of `rows` has in the KV cache and how many output tokens it has been given (tokens)."""
        known, size = self._requests, self.run.limits.block_size
        known["context"][rows] = context
        known["prefilled"][rows] = np.minimum(context, known["prompt"][rows])
        known["decoded"][rows] = np.maximum(decoded, known["decoded"][rows])
        holds = known["blocks"][rows]  # or has reserved; more, where a prefix cache held part of a prompt
        known["blocks"][rows] = np.where(holds > 0, np.maximum(holds, -(-context // size)), 0)
        self._count_free()

    def _count_free(self) -> None:
        held = int(self._requests["blocks"][self.running].sum())
        self._node["free"] = max(self.run.limits.blocks - held, 0)

    def emit(self, rows: Ints, at: float) -> None:
        """Enter that `rows` got a token of output at time `at` (s)."""
        self._requests["last_token"][rows] = at

    def leave(self, row: int) -> None:
        """Enter that a request is finished or has been given up."""
        if row >= int(self.run.cursor[NEXT]) or self._requests["phase"][row] == WAITING:
            self._gone_waiting.add(row)
            return
        if self._requests["phase"][row] != RUNNING:
            return
        node, member = self._node, self.run.tables["members"][0]
        running = int(node["running"])
        kept = member[:running][member[:running] != row]
        member[: len(kept)] = kept
        node["running"] = len(kept)
        self.run.tables["loads"].unfinished[0] -= 1
        self._requests["blocks"][row] = 0
        self._requests["phase"][row] = FINISHED
        self._count_free()

    def end(self, rows: Sequence[int], tokens: Sequence[int], seconds: float) -> None:
        """Enter that a batch which gave `tokens` to `rows` has ended after so many seconds."""
        self._desk["served"][: len(rows)] = rows
        self._desk["served_tokens"][: len(rows)] = tokens
        self._node["served"] = len(rows)
        self._node["seconds"] = seconds
        self._node["iterations"] += 1

    def ask(self, now: float) -> Plan | float | None:
        """The policy's batch at time `now` (s), the time until which it holds, or None if it has nobody to serve.

        Raises:
            PolicyBreach: the policy asked for a batch that breaks a rule.
        """
        while True:
            answer = self._ask(now)
            if not isinstance(answer, Plan):
                return answer
            ghosts = self._gone_waiting.intersection(answer.requests)
            if not ghosts:
                return answer
            self._gone_waiting -= ghosts
            for row in ghosts:
                self.leave(row)
            left = [(r, q) for r, q in zip(answer.requests, answer.tokens, strict=True) if r not in ghosts]
            if left or answer.victims:
                rows, tokens = zip(*left, strict=True) if left else ((), ())
                return Plan(answer.victims, rows, tokens, answer.admitted - ghosts)

    def _ask(self, now: float) -> Plan | float | None:
        run, node = self.run, self._node
        node["clock"], node["state"] = now, IDLE
        delivered = int(run.cursor[NEXT])
        due = np.arange(delivered, self._rows)
        while True:
            code, *_ = self._open_batch(
                *self._body, run.memories, run.books, run.limits, due, delivered, True
            )
            if code == QUEUE_FULL:
                run.grow_queue()
                continue
            break
        if code == BREACH:
            raise run.breach()
        if code == NOTHING:
            return None
        if code == HELD:
            return float(node["until"])
        assert code == DONE, code
        count, desk = run.tables["count"][0], self._desk
        entries, victims = int(count[ENTRIES]), int(count[VICTIMS])
        requests: list[int] = desk["request"][:entries].tolist()
        reserve: list[int] = desk["reserve"][:entries].tolist()
        return Plan(
            tuple(run.tables["victims"][0, :victims].tolist()),
            tuple(requests),
            tuple(desk["tokens"][:entries].tolist()),
            frozenset(r for r, reserved in zip(requests, reserve, strict=True) if reserved),
        )


def _blank(policy: Policy, system: System, rows: int, python: bool) -> Run:
    """Books in which nobody has arrived."""
    nobody = Workload(np.zeros(rows), np.ones(rows, np.int64), np.ones(rows, np.int64))
    return Run(nobody, system, policy, python=python, rows=1)
