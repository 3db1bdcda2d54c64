"""Bounds of fair service, multiples of U, as monitors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from queueing.cost import TOKENS, Cost
from queueing.monitoring.books import arrived
from queueing.monitoring.charges import Worst
from queueing.monitoring.counters import counter_gap
from queueing.monitoring.events import RunEvents
from queueing.monitoring.findings import ROUNDING, Assumption, Finding, Monitor, Run
from queueing.monitoring.windows import BACKLOGGED, BOTH, NEWCOMER, service_growth
from queueing.trace import Trace

__all__ = [
    "PLAIN",
    "AnyClient",
    "BothBacklogged",
    "CounterGap",
    "DispatchLatency",
    "Terms",
    "fairness_monitors",
    "terms_met",
]


@dataclass(frozen=True, slots=True)
class Terms:
    """What the bounds of fair service are stated in.

    Args:
        cost: h.
        weights: f, the share of each client by its id, the last for all further ones.
        memory: M (tokens); by default the KV memory that the trace names.
        longest: L (tokens); by default that of the longest prompt in the trace.
        unit: U, in place of U*.

    Raises:
        ValueError: a number is not above 0.
    """

    cost: Cost = TOKENS
    weights: tuple[float, ...] = (1.0,)
    memory: int | None = None
    longest: int | None = None
    unit: float | None = None

    def __post_init__(self) -> None:
        if not self.weights or any(not 0 < f < math.inf for f in self.weights):
            raise ValueError(
                f"weights must be positive and finite, not {self.weights!r}; give one for each client"
            )
        for name in ("memory", "longest", "unit"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(
                    f"{name} must be positive and finite, not {value!r}; leave it out if it is not known"
                )


PLAIN = Terms()  # the authors' costs, equal weights, the memory of the trace


@dataclass(frozen=True)
class _Fair:
    """A bound that is a multiple of U.

    Args:
        terms: costs, weights and memory.
        most_clients: of more, only those with most requests are compared pair by pair, and the verdict is *outside*.
    """

    terms: Terms = PLAIN
    most_clients: int = 1000

    def read(self, run: Run) -> Finding:
        """What was found."""
        assumptions, unit = terms_met(run, self.terms)
        worst = Worst(math.nan, math.nan, math.nan, math.nan, -1, -1, -1)
        names: NDArray[np.int64] = np.zeros(0, np.int64)
        note = ""
        if run.events is not None:
            names = run.events.clients
            weights = np.array(self.terms.weights)[np.clip(names, 0, len(self.terms.weights) - 1)]
            watched, left_out = self._watched(run.events)
            if left_out is not None:
                assumptions.append(left_out)
            worst = self._worst(run.events, weights, watched)
            note = self._note(run.trace, worst)
        factor = worst.factor if math.isfinite(worst.factor) else self._factor()
        clients = tuple(int(names[u]) for u in (worst.ahead, worst.behind) if u >= 0)
        return Finding(
            type(self).__name__, worst.value, unit * factor, "service", worst.time, worst.since, clients,
            worst.request, tuple(assumptions), note,
        )  # fmt: skip

    def _watched(self, events: RunEvents) -> tuple[NDArray[np.bool_], Assumption | None]:
        n = len(events.clients)
        watched = np.ones(n, np.bool_)
        if n <= self.most_clients:
            return watched, None
        watched[np.argsort(-np.bincount(events.client), kind="stable")[self.most_clients :]] = False
        found = f"{self.most_clients} of {n} clients were compared; raise most_clients"
        return watched, Assumption("all pairs of clients", None, found)

    def _worst(self, events: RunEvents, weights: NDArray[np.float64], watched: NDArray[np.bool_]) -> Worst:
        raise NotImplementedError

    def _factor(self) -> float:
        """Of the bound, where nothing grew: that of the least weight."""
        return 2 / min(self.terms.weights)

    def _note(self, trace: Trace, worst: Worst) -> str:
        return ""


class CounterGap(_Fair):
    """L1: the counters of two queued clients differ by at most U, and U/f_f if that of f is ahead.

    Counters are made from the trace by VTC's rule, without predictions.  If VTC made the run they are its own.  If not,
    they are those that VTC would have kept.
    """

    def _watched(self, events: RunEvents) -> tuple[NDArray[np.bool_], Assumption | None]:
        return np.ones(len(events.clients), np.bool_), None

    def _worst(self, events: RunEvents, weights: NDArray[np.float64], watched: NDArray[np.bool_]) -> Worst:
        return counter_gap(events, self.terms.cost, weights)

    def _factor(self) -> float:
        return 1 / min(self.terms.weights)


class BothBacklogged(_Fair):
    """T1: while two clients both have a request waiting, their service stays within 2U."""

    def _worst(self, events: RunEvents, weights: NDArray[np.float64], watched: NDArray[np.bool_]) -> Worst:
        return service_growth(events, self.terms.cost, weights, BOTH, watched)


class AnyClient(_Fair):
    """T3: while a client has a request waiting, nobody gets more than 2U beyond it."""

    def _worst(self, events: RunEvents, weights: NDArray[np.float64], watched: NDArray[np.bool_]) -> Worst:
        return service_growth(events, self.terms.cost, weights, BACKLOGGED, watched)


class DispatchLatency(_Fair):
    """T4: while the request of a client that had nothing waiting or running waits, any other gets at most 2U."""

    def _worst(self, events: RunEvents, weights: NDArray[np.float64], watched: NDArray[np.bool_]) -> Worst:
        return service_growth(events, self.terms.cost, weights, NEWCOMER, watched)

    def _note(self, trace: Trace, worst: Worst) -> str:
        if worst.request < 0:
            return "no newcomer waited while another was served"
        waited = trace.requests["admitted"][worst.request] - trace.requests["arrival"][worst.request]
        return (
            f"request {worst.request} waited {waited:g} s"
            if waited >= 0
            else f"request {worst.request} still waits"
        )


def terms_met(run: Run, terms: Terms) -> tuple[list[Assumption], float]:
    """The assumptions of the bounds of fair service with what the trace says of each, and U, nan if not known."""
    trace, cost, events = run.trace, terms.cost, run.events
    preempted = int(trace.requests["preemptions"].sum())
    chunked = events.flaws.chunked if events is not None else 0
    taken = run.reserved(cost)
    met: list[Assumption] = []

    def suppose(name: str, holds: bool | None, found: str, otherwise: str = "") -> None:
        met.append(Assumption(name, holds, found if holds or not otherwise else otherwise))

    suppose("one node", run.nodes <= 1, "one", f"{run.nodes} nodes; read a trace of each")
    suppose("token events", trace.entries is not None, "recorded",
            "this trace has no entries: run simulate(..., record_entries=True)")  # fmt: skip
    met.append(run.times)
    suppose("no preemption", preempted == 0, f"{preempted} preemptions")
    suppose("prompts charged on admission", True, f"W charges them so; {chunked} were computed in chunks")
    if terms.unit is not None:
        enough = taken.committed <= terms.unit * (1 + ROUNDING) if events is not None else None
        suppose("no admission commits more than U", enough, f"{taken.committed:g}, and U is {terms.unit:g}")
        return met, terms.unit
    memory = _memory(trace, terms)
    prompt = int(trace.requests["prompt"][arrived(trace)].max(initial=0))
    longest = prompt if terms.longest is None else terms.longest
    reserved = taken.tokens <= memory if memory and events is not None else None
    suppose("linear cost", cost.linear, "h(x, y) = wp·x + wq·y",
            f"it is {cost}; give unit=..., what an admission commits at most (here {taken.committed:g})")  # fmt: skip
    suppose(
        "M is known",
        memory > 0,
        f"{memory} tokens",
        "this trace does not name its KV memory; give memory=...",
    )
    suppose("outputs reserved", reserved, f"running requests take up to {taken.tokens} of {memory} tokens")
    suppose("prompts of at most L tokens", prompt <= longest, f"{prompt} of {longest}")
    if not cost.linear or not memory:
        return met, math.nan
    most = memory if chunked else longest
    return met, cost.output * memory + max(0.0, cost.input - cost.output) * most


def _memory(trace: Trace, terms: Terms) -> int:
    """M (tokens), 0 if it is not known."""
    if terms.memory is not None:
        return terms.memory
    return int(trace.meta.get("blocks", 0)) * int(trace.meta.get("block_size", 0))


def fairness_monitors(terms: Terms = PLAIN) -> tuple[Monitor, ...]:
    """The four bounds of fair service in these terms."""
    return (CounterGap(terms), BothBacklogged(terms), AnyClient(terms), DispatchLatency(terms))
