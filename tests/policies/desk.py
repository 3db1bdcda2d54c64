"""A hand-made batch boundary: lay out requests, ask a policy interpreted, read what it asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from queueing.batch import COUNTS, ENTRIES, FREE, VICTIMS, Batch, View
from queueing.policy import Policy


@dataclass
class Req:
    """One request as the policy may see it; `blocks` as many as its prompt and context need, unless given."""

    prompt: int = 10
    prefilled: int = 0
    decoded: int = 0
    arrival: float = 0.0
    recomputed: int = 0
    tbt: float = math.inf
    predicted: int = 100
    waiting: bool = False
    blocks: int | None = None
    client: int = 0


def decode(context: int = 20, **more: Any) -> Req:
    """A decoding request with `context` tokens in the KV cache, its first token decoded."""
    return Req(prompt=context, prefilled=context, decoded=1, **more)


def prompt(length: int, done: int, **more: Any) -> Req:
    """A started prompt, `done` of its `length` tokens in the KV cache."""
    return Req(prompt=length, prefilled=done, **more)


def waiting(length: int, **more: Any) -> Req:
    """A request in the queue."""
    return Req(prompt=length, waiting=True, **more)


@dataclass
class Asked:
    """What the policy put into the batch."""

    entries: list[tuple[int, int]]  # (request, tokens)
    victims: list[int]
    reserve: dict[int, int]  # tokens reserved, of each admitted request
    holds_until: float


@dataclass
class Desk:
    """A node at a batch boundary.  Ids are places in `requests`; the queue is in that order unless given."""

    requests: list[Req]
    now: float = 0.0
    iteration: int = 0
    last_seconds: float = 0.0
    served: list[int] = field(default_factory=list)
    queue: list[int] | None = None
    total_blocks: int = 1000
    block_size: int = 16
    watermark: int = 1
    max_length: int = 8192
    max_running: int = 100
    max_tokens: int = 2**31 - 1

    def held(self, r: Req) -> int:
        """KV blocks of a request."""
        if r.waiting:
            return 0
        context = max(r.prompt, r.prefilled + r.decoded - r.recomputed)
        return r.blocks if r.blocks is not None else -(-context // self.block_size)

    def view(self) -> View:
        """What the policy is shown."""
        rs = self.requests
        queue = [k for k, r in enumerate(rs) if r.waiting] if self.queue is None else self.queue
        running = [k for k, r in enumerate(rs) if not r.waiting]

        def column(values: list[Any], kind: str = "i8") -> Any:
            array = np.array(values, kind)
            array.flags.writeable = False
            return array

        held = [self.held(r) for r in rs]
        context = [0 if r.waiting else r.prefilled + max(r.decoded - r.recomputed - 1, 0) for r in rs]
        return View(
            now=self.now,
            iteration=self.iteration,
            last_seconds=self.last_seconds,
            waiting=column(queue, "u4"),
            running=column(running, "u4"),
            served=column(self.served, "u4"),
            served_tokens=column([1] * len(self.served)),
            arrival=column([r.arrival for r in rs], "f8"),
            prompt=column([r.prompt for r in rs]),
            prefilled=column([r.prefilled for r in rs]),
            decoded=column([r.decoded for r in rs]),
            recomputed=column([r.recomputed for r in rs]),
            client=column([r.client for r in rs]),
            tbt=column([r.tbt for r in rs], "f8"),
            predicted=column([r.predicted for r in rs]),
            last_token=column([math.nan] * len(rs), "f8"),
            blocks=column(held),
            context=column(context),
            free_blocks=self.total_blocks - sum(held),
            total_blocks=self.total_blocks,
            block_size=self.block_size,
            watermark=self.watermark,
            max_length=self.max_length,
            max_running=self.max_running,
            max_tokens=self.max_tokens,
        )

    def batch(self) -> Batch:
        """An empty batch, whose ledger starts with the free blocks."""
        width = self.max_running + 1
        count = np.zeros(COUNTS, np.int64)
        count[FREE] = self.view().free_blocks
        ids, tokens = np.zeros(width, np.uint32), np.zeros(width, np.int64)
        return Batch(ids, tokens, tokens.copy(), ids.copy(), count, np.full(1, math.nan))

    def ask(self, policy: Policy, memory: Any = None) -> Asked:
        """Run the policy's body, interpreted, on fresh memory unless given; return what it asked for."""
        memory = policy.init(len(self.requests)) if memory is None else memory
        batch = self.batch()
        policy.body.python(policy, memory, self.view(), batch)
        entries, victims = int(batch.count[ENTRIES]), int(batch.count[VICTIMS])
        ids = batch.request[:entries].tolist()
        reserve = batch.reserve[:entries].tolist()
        return Asked(
            entries=list(zip(ids, batch.tokens[:entries].tolist(), strict=True)),
            victims=batch.victim[:victims].tolist(),
            reserve={r: tokens for r, tokens in zip(ids, reserve, strict=True) if tokens},
            holds_until=float(batch.until[0]),
        )
