"""What a monitor is and what it hands back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from queueing.cost import Cost
from queueing.monitoring.books import arrived, in_order
from queueing.monitoring.charges import Reserved, reserved
from queueing.monitoring.events import RunEvents, run_events
from queueing.trace import Trace

__all__ = ["ROUNDING", "Assumption", "Finding", "Monitor", "Run"]

ROUNDING = 1e-9  # relative, of sums of charges


@dataclass(frozen=True, slots=True)
class Assumption:
    """What a theorem supposes, whether this trace meets it (None: it does not say), and what was found."""

    name: str
    holds: bool | None
    found: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What a monitor found: the worst `value` beside its `bound`, in units of `measure`.

    It grew from `since` to `time` (s); `clients` are (ahead, behind), `request` is the one that waited; nan, () and -1
    where there is nothing to name.
    """

    monitor: str
    value: float
    bound: float
    measure: str
    time: float
    since: float
    clients: tuple[int, ...]
    request: int
    assumptions: tuple[Assumption, ...]
    note: str = ""

    @property
    def verdict(self) -> str:
        """ "within", "exceeded" or "outside"."""
        if any(not a.holds for a in self.assumptions):
            return "outside"
        return "within" if self.value <= self.bound * (1 + ROUNDING) else "exceeded"

    @property
    def reason(self) -> str:
        """Which assumption puts the trace outside; "" if none does."""
        return next((f"{a.name}: {a.found}" for a in self.assumptions if not a.holds), "")

    @property
    def share(self) -> float:
        """value/bound; nan if the bound is 0 or not known."""
        return self.value / self.bound if self.bound > 0 else math.nan


class Run:
    """A trace being read, with the events that monitors share."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._reserved: dict[Cost, Reserved] = {}

    @cached_property
    def nodes(self) -> int:
        """Nodes that served or hold a request."""
        return len(
            np.unique(np.r_[self.trace.iterations["node"], self.trace.requests["node"][arrived(self.trace)]])
        )

    @cached_property
    def events(self) -> RunEvents | None:
        """The events, if there are entries, of one node."""
        if self.trace.entries is None or self.nodes > 1:
            return None
        node = self.trace.requests["node"][arrived(self.trace)]
        return run_events(self.trace, int(node[0]) if len(node) else 0)

    @cached_property
    def times(self) -> Assumption:
        """Whether times are those of a run."""
        met = in_order(self.trace)
        return Assumption("times in order", met, "they are" if met else
                          "batches overlap, or a request is served before it arrives")  # fmt: skip

    @cached_property
    def batches(self) -> Assumption:
        """Whether there are batches, or nothing to serve."""
        met = len(self.trace.iterations["start"]) > 0 or not arrived(self.trace).any()
        return Assumption(
            "batches", met, "recorded" if met else "this trace has none; a log of requests cannot tell"
        )

    def reserved(self, cost: Cost) -> Reserved:
        """What running requests reserve and commit; nothing without events."""
        if self.events is None:
            return Reserved(0, math.nan, 0.0)
        if cost not in self._reserved:
            self._reserved[cost] = reserved(self.events, cost)
        return self._reserved[cost]


class Monitor(Protocol):
    """A bound that reads a run."""

    def read(self, run: Run) -> Finding:
        """What was found."""
        ...
