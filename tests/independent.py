"""An independent simulator of one node under Sarathi-Serve, vLLM and SLAI, written from the design before its code.

It shares no line and no data structure with `queueing` or `policies`: lists are kept and searched as the pseudo-code
names them, whatever that costs.  What the pseudo-code leaves open is marked "Choice".  Requests that could never be
finished are not its business: whoever calls it offers none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

BLOCK = 16  # tokens of a KV block


@dataclass(eq=False)
class Request:
    """A request and its progress; it waits with no blocks, is started with some, decodes once `cached == goal`."""

    name: int
    arrival: float
    prompt: int
    output: int
    tbt: float
    goal: int = 0  # tokens to prefill: the prompt, and after a preemption what was generated too
    cached: int = 0  # tokens in the KV cache
    decoded: int = 0
    blocks: int = 0
    first_token: float = math.nan
    finished: float = math.nan
    lst: float = math.nan  # last schedulable time

    def __post_init__(self) -> None:
        self.goal = self.prompt

    @property
    def started(self) -> bool:
        return self.cached < self.goal


@dataclass
class Batch:
    """Tokens by request in the order they were chosen, and who was preempted for them."""

    start: float
    tokens: dict[Request, int] = field(default_factory=dict[Request, int])
    preempted: list[Request] = field(default_factory=list[Request])

    @property
    def used(self) -> int:
        return sum(self.tokens.values())


def blocks_of(tokens: int) -> int:
    return -(-tokens // BLOCK)


def by_arrival(requests: list[Request]) -> list[Request]:
    return sorted(requests, key=lambda r: (r.arrival, r.name))


class Node:
    """Queues, KV memory and clock of one node; a subclass says what a batch is."""

    def __init__(self, blocks: int, places: int, emits: bool, law: tuple[float, float, float, float]) -> None:
        self.total = self.free = blocks
        self.watermark = max(1, blocks // 100)
        self.places, self.emits, self.law = places, emits, law
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        self.durations = 0.0
        self.batches: list[Batch] = []

    # -- what a scheduler is

    def schedule(self, batch: Batch) -> None:
        raise NotImplementedError

    def served(self, batch: Batch, end: float) -> None:
        """Step 0 of SLAI; called when a batch has ended."""

    def queue_order(self) -> list[Request]:
        """Waiting requests in the order in which they are admitted; preempted ones stand at the front of the queue."""
        return list(self.waiting)

    # -- memory

    def fits(self, r: Request) -> bool:
        return self.free - blocks_of(r.goal) >= self.watermark and len(self.running) < self.places

    def admit(self, r: Request) -> None:
        self.waiting.remove(r)
        self.running.append(r)
        r.blocks = blocks_of(r.goal)
        self.free -= r.blocks

    def preempt(self, r: Request, batch: Batch) -> None:
        self.release(r)
        r.goal, r.cached = r.prompt + r.decoded, 0
        self.waiting.insert(0, r)
        batch.preempted.append(r)

    def release(self, r: Request) -> None:
        self.running.remove(r)
        self.free += r.blocks
        r.blocks = 0

    def decode(self, r: Request, batch: Batch) -> None:
        """One token of r: the KV cache grows by it, by a block where it crosses the edge of one."""
        grown = blocks_of(r.cached + 1) - r.blocks
        r.blocks += grown
        self.free -= grown
        batch.tokens[r] = 1

    def chunk(self, r: Request, tokens: int, batch: Batch) -> None:
        batch.tokens[r] = tokens

    def decoding(self) -> list[Request]:
        return by_arrival([r for r in self.running if not r.started])

    def slot(self, r: Request, batch: Batch) -> bool:
        """Preempt until a block is free; False if r itself had to go."""
        while self.free == 0:
            victim = self.victim(r)
            self.preempt(victim, batch)
            if victim is r:
                return False
        return True

    def victim(self, r: Request) -> Request:
        """Choice: requests are visited in order of arrival, and started prompts that arrived before r count as visited.

        So does the code of Sarathi-Serve.  It matters under shortest-prompt-first only.
        """
        return by_arrival(self.running)[-1]

    # -- the clock

    def seconds(self, batch: Batch) -> float:
        base, per_token, per_context, per_pair = self.law
        context = sum(r.cached + 1 for r in batch.tokens if not r.started)
        pairs = sum(q * (r.cached + q / 2) for r, q in batch.tokens.items() if r.started)
        return base + per_token * batch.used + per_context * context + per_pair * pairs

    def run(self, requests: list[Request]) -> list[Batch]:
        """Serve requests, given in order of arrival, to the end."""
        now, coming = 0.0, list(requests)
        while coming or self.waiting or self.running:
            while coming and coming[0].arrival <= now:
                self.waiting.append(coming.pop(0))
            batch = Batch(now)
            self.schedule(batch)
            if not batch.tokens:
                assert not self.running
                now = coming[0].arrival
                continue
            seconds = self.seconds(batch)
            now += seconds
            self.durations += seconds
            self.batches.append(batch)
            for r, q in batch.tokens.items():
                self.execute(r, q, now)
            self.served(batch, now)
        return self.batches

    def execute(self, r: Request, tokens: int, end: float) -> None:
        prefill = r.started
        r.cached += tokens
        if prefill and (r.started or not self.emits):
            return
        r.decoded += 1
        if math.isnan(r.first_token):
            r.first_token = end
        if r.decoded == r.output:
            r.finished = end
            self.release(r)


class Sarathi(Node):
    """Every decode in every batch, and prompt chunks in what the budget leaves; with `spf` the queue is sorted."""

    budget, spf = 512, False

    def queue_order(self) -> list[Request]:
        return sorted(self.waiting, key=lambda r: r.goal) if self.spf else list(self.waiting)

    def schedule(self, batch: Batch) -> None:
        for r in self.decoding():
            if r in self.running and self.slot(r, batch):
                self.decode(r, batch)
        for r in by_arrival([r for r in self.running if r.started]):
            self.part(r, batch)
        for r in self.queue_order():
            if batch.used >= self.budget or not self.fits(r):
                break
            self.admit(r)
            self.part(r, batch)

    def part(self, r: Request, batch: Batch) -> None:
        tokens = min(r.goal - r.cached, max(0, self.budget - batch.used))
        if tokens > 0:
            self.chunk(r, tokens, batch)


class Vllm(Node):
    """Whole prompts while the head of the queue fits, else one token of every decode."""

    cap = 8192

    def schedule(self, batch: Batch) -> None:
        for r in self.queue_order():
            if not self.fits(r) or batch.used + r.goal > self.cap:
                break
            self.admit(r)
            self.chunk(r, r.goal, batch)
        if not batch.tokens:
            for r in self.decoding():
                if r in self.running and self.slot(r, batch):
                    self.decode(r, batch)


class Slai(Sarathi):
    """Decodes as late as their last schedulable time allows, prompts in what that leaves."""

    spf = True
    limit_total_decodes = 128
    time_between_tokens = 0.2
    strict_first, strict_tbt = False, 0.1
    fixed_offset, below_offset, above_offset, memory_limit = False, 5.0, 10.0, 0.96

    def __init__(self, *node: Any) -> None:
        super().__init__(*node)
        self.paused: list[Request] = []
        self.heap: list[Request] = []

    def served(self, batch: Batch, end: float) -> None:
        """Choice: the KV use behind Theta is that after every request of the batch that is done has left."""
        mean = self.durations / len(self.batches)
        for r in batch.tokens:
            if r.started:
                self.paused.append(r)
            elif r in self.running:
                r.lst = end + self.tbt(r) - self.offset() * mean
                self.heap.append(r)

    def tbt(self, r: Request) -> float:
        return r.tbt if math.isfinite(r.tbt) else self.time_between_tokens

    def offset(self) -> float:
        above = (self.total - self.free) / self.total >= self.memory_limit
        return self.above_offset if above and not self.fixed_offset else self.below_offset

    def queue_order(self) -> list[Request]:
        if self.strict_first:
            return sorted(self.waiting, key=lambda r: (0 if r.tbt <= self.strict_tbt else 1, r.goal))
        return super().queue_order()

    def critical(self, r: Request, now: float) -> bool:
        return now >= r.lst

    def decodes(self, batch: Batch, critical: bool) -> None:
        self.heap.sort(key=lambda r: (r.lst, r.arrival, r.name))
        taken = sum(1 for r in batch.tokens if not r.started)
        while self.heap and batch.used < self.budget and taken < self.limit_total_decodes:
            r = self.heap[0]
            if critical and not self.critical(r, batch.start):
                break
            self.heap.pop(0)
            if self.slot(r, batch):
                self.decode(r, batch)
                taken += 1

    def victim(self, r: Request) -> Request:
        return self.paused.pop() if self.paused else r

    def schedule(self, batch: Batch) -> None:
        self.decodes(batch, critical=True)
        while self.paused and batch.used < self.budget:
            self.part(self.paused.pop(0), batch)
        for r in self.queue_order():
            if batch.used >= self.budget or not self.fits(r):
                break
            self.admit(r)
            self.part(r, batch)
        self.decodes(batch, critical=False)
