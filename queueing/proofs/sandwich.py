"""The path-wise sandwich: the backlog of batch servers between an ideal fluid server's and that plus a constant.

Notation, all in exact fractions.  Request r arrives at a_r with work x_r: seconds that one engine needs for it at its
best rate.  A[s, t] is the work that arrives in the closed window [s, t].

    W(t)  = work of the requests that arrived by t, less what was served; a batch in progress counts pro rata
    Q*(t) = sup over s <= t of (A[s, t] - g (t - s))^+,   backlog of a fluid server of speed g

A batch may first undo work (a preempted request starts over), by which W jumps up; everything else is continuous or
jumps alike in W and Q*.

Why finitely many instants decide about all t.  Between consecutive instants at which something arrives, starts or
ends, W is linear with a slope in [-g, 0], and Q* falls with slope -g until it is empty, then stays 0.  So W - Q* does
not fall while Q* > 0 and does not rise once Q* = 0: it is concave there.  Its minimum over such an interval is at an
end; **its maximum may be at the instant where Q* becomes empty**, which is neither an arrival nor a start nor an end
and has to be looked at too.  At arrivals both jump by the same, so their difference is continuous.

Source: Lindley's recursion for Q*; the sandwich is our derivation (docs/models/stability.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby
from typing import ClassVar, NamedTuple

from queueing.proofs.certificate import Certificate, Kind, require

__all__ = ["Arrival", "Batch", "Instant", "Sandwich", "backlog", "ideal_backlog", "instants"]

ZERO = Fraction(0)


class Arrival(NamedTuple):
    """A request of `work` seconds arrives at `time` (s)."""

    time: Fraction
    work: Fraction


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch from `start` to `end` (s): work (s) served of each request, and work undone of each at its start."""

    start: Fraction
    end: Fraction
    served: Mapping[int, Fraction]
    undone: Mapping[int, Fraction] = field(default_factory=dict[int, Fraction])

    @property
    def work(self) -> Fraction:
        """Work served (s)."""
        return sum(self.served.values(), ZERO)


class Instant(NamedTuple):
    """Backlogs at one time: `real` W and `ideal` Q* (s)."""

    time: Fraction
    real: Fraction
    ideal: Fraction

    @property
    def excess(self) -> Fraction:
        """W - Q*."""
        return self.real - self.ideal


def ideal_backlog(arrivals: Sequence[Arrival], speed: int, t: Fraction) -> Fraction:
    """Q*(t) by its definition, a maximum over the windows that begin with an arrival; quadratic time."""
    past = [a for a in arrivals if a.time <= t]
    windows = (sum((b.work for b in past if b.time >= a.time), ZERO) - speed * (t - a.time) for a in past)
    return max((ZERO, *windows))


def backlog(arrivals: Sequence[Arrival], batches: Sequence[Batch], t: Fraction) -> Fraction:
    """W(t) by its definition."""
    left = sum((a.work for a in arrivals if a.time <= t), ZERO)
    for batch in batches:
        if batch.start <= t:
            done = min(t, batch.end) - batch.start
            left += sum(batch.undone.values(), ZERO) - batch.work * done / (batch.end - batch.start)
    return left


def instants(
    arrivals: Sequence[Arrival], batches: Sequence[Batch], speed: int, surcharge: Fraction = ZERO
) -> Iterator[Instant]:
    """Every instant at which W - Q* can be extreme, in order of time; see the module's first lines.

    With a surcharge Q* charges every request so much more than its work.  A time at which W - Q* jumps comes twice,
    before and after.
    """
    # what happens at a time: change of the rate of service, work that arrives, work undone
    changes = [(b.end, -b.work / (b.end - b.start), ZERO, ZERO) for b in batches]
    changes += [(a.time, ZERO, a.work, ZERO) for a in arrivals]
    changes += [(b.start, b.work / (b.end - b.start), ZERO, sum(b.undone.values(), ZERO)) for b in batches]
    rate = real = ideal = now = ZERO
    for time, together in groupby(
        sorted(changes, key=lambda change: change[0]), key=lambda change: change[0]
    ):
        empty = now + ideal / speed
        if now < empty < time:
            yield Instant(empty, real - rate * (empty - now), ZERO)
        real -= rate * (time - now)
        ideal = max(ZERO, ideal - speed * (time - now))
        undone = ZERO
        before = Instant(time, real, ideal)
        for _, faster, arrived, lost in together:
            rate += faster
            real += arrived
            ideal += arrived + surcharge if arrived else ZERO
            undone += lost
        if surcharge:
            yield before
        yield Instant(time, real, ideal)
        if undone:
            real += undone
            yield Instant(time, real, ideal)
        now = time


@dataclass(frozen=True, slots=True)
class Sandwich(Certificate):
    """On this run  Q*(t) <= W(t) <= Q*_u(t) + `constant`  at all t up to its last event.

    Args:
        arrivals: requests, by number.
        batches: what the engines did; at most `engines` batches overlap.
        engines: g, the speed of the ideal server.
        constant: K (s); None claims the left inequality alone.
        surcharge: u (s); Q*_u charges every request so much more than its work, and Q*_0 = Q*.

    The check first holds the log against conservation and causality: a request is served only after its arrival, never
    more than it asked for, and only served work is undone.  Source of K: :mod:`queueing.models.stability`.
    """

    kind: ClassVar[Kind] = Kind.RATIONAL
    arrivals: tuple[Arrival, ...]
    batches: tuple[Batch, ...]
    engines: int = 1
    constant: Fraction | None = None
    surcharge: Fraction = ZERO

    @property
    def claim(self) -> str:
        """Which inequalities hold, and on how long a run."""
        ideal = "Q*" if not self.surcharge else f"Q* (with {self.surcharge} more per request)"
        right = "" if self.constant is None else f" <= {ideal} + {self.constant}"
        return f"Q* <= W{right} on a run of {len(self.arrivals)} requests in {len(self.batches)} batches"

    def extremes(self) -> tuple[Instant, Instant]:
        """The instants of least and of largest excess W - Q*."""
        found = list(instants(self.arrivals, self.batches, self.engines, self.surcharge)) or [
            Instant(ZERO, ZERO, ZERO)
        ]
        return min(found, key=lambda i: i.excess), max(found, key=lambda i: i.excess)

    def check(self) -> None:
        """Compare W and Q* at every instant that matters.

        Raises:
            Refuted: the log is not one of `engines` engines that serve what arrived, or an inequality fails.
        """
        self._require_consistent()
        for time, real, ideal in instants(self.arrivals, self.batches, self.engines):
            require(real >= ideal, f"W = {real} is below Q* = {ideal} at t = {time}")
        if self.constant is not None:
            for time, real, ideal in instants(self.arrivals, self.batches, self.engines, self.surcharge):
                excess = real - ideal
                require(excess <= self.constant, f"W - Q* = {excess} exceeds {self.constant} at t = {time}")

    def _require_consistent(self) -> None:
        done = [ZERO] * len(self.arrivals)
        at_work: list[Fraction] = []  # ends of the batches in progress
        order = sorted(range(len(self.batches)), key=lambda k: self.batches[k].start)
        ends = sorted(order, key=lambda k: self.batches[k].end)
        credited = 0
        for k in order:
            batch = self.batches[k]
            require(batch.start < batch.end, f"a batch from {batch.start} to {batch.end} takes no time")
            while credited < len(ends) and self.batches[ends[credited]].end <= batch.start:
                for r, work in self.batches[ends[credited]].served.items():
                    done[r] += work
                    require(
                        done[r] <= self.arrivals[r].work, f"request {r} was served more than it asked for"
                    )
                credited += 1
            at_work = [end for end in at_work if end > batch.start] + [batch.end]
            require(len(at_work) <= self.engines, f"{len(at_work)} batches overlap at {batch.start}")
            for r, work in batch.undone.items():
                require(0 <= work <= done[r], f"request {r} lost {work} of {done[r]}")
                done[r] -= work
            for r, work in batch.served.items():
                require(self.arrivals[r].time <= batch.start, f"request {r} was served before it came")
                require(work >= 0, f"request {r} was served {work}")
        for k in ends[credited:]:
            for r, work in self.batches[k].served.items():
                done[r] += work
                require(done[r] <= self.arrivals[r].work, f"request {r} was served more than it asked for")
