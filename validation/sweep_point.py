"""One point of a sweep: a policy, a load, a system and a seed, and the figures of that run.

The figures are a pure function of the point's own values: the requests are those of `tandem simulate` with the same
options, drawn from `SeedSequence(seed)`, and so is the randomness of the router.  Nothing depends on which other points
there are, on their order, or on where they run.  Policies at one seed, law of lengths and load therefore meet the very
same requests (common random numbers), and another load only scales their times.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import policies
from queueing import metrics
from queueing.simulator import PolicyBreach, simulate
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload
from validation.options import MOST_REQUESTS, lengths_of, policy_of, read_workload, router_of, slo_class
from validation.sources import fingerprint

__all__ = ["Outcome", "Point", "drawn", "made_by", "outcome_of"]


@dataclass(frozen=True, slots=True)
class Point:
    """Options of one run, as `tandem simulate` takes them.

    Args:
        policy: "NAME" or "NAME:key=value,...".
        rate: of the Poisson arrivals (requests/s), > 0.
        system: "MODEL/HARDWARE", or the path of a file.
        seed: of the requests and of the router, >= 0.
        lengths: "sharegpt", "arxiv" or "PROMPT,OUTPUT" (tokens).
        requests: how many are drawn, >= 1.
        nodes: identical nodes, >= 1; more than one need a router.
        router: "NAME" or "NAME:key=value,...".
        classes: a mix of users, each "SHARE:TBT_S" or "SHARE:TBT_S:TTFT_S".

    Raises:
        ValueError: a value is out of range, or a name is not known.
    """

    policy: str
    rate: float
    system: str
    seed: int
    lengths: str = "sharegpt"
    requests: int = 2000
    nodes: int = 1
    router: str | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        policy_of(self.policy)
        lengths_of(self.lengths)
        for text in self.classes:
            slo_class(text)
        if not (self.rate > 0 and math.isfinite(self.rate)):
            raise ValueError(f"the rate of a point is {self.rate}; give a positive number of requests/s")
        for name, least, most in (
            ("seed", 0, 2**63 - 1),
            ("requests", 1, MOST_REQUESTS),
            ("nodes", 1, 2**31),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"{name} of a point is {value}; give a whole number from {least} to {most}")
        if self.router is not None:
            router_of(self.router)
        elif self.nodes > 1:
            raise ValueError(
                f"{self.nodes} nodes need a router; give one of {', '.join(policies.router_names())}"
            )
        object.__setattr__(self, "rate", float(self.rate))

    @property
    def key(self) -> tuple[Any, ...]:
        """What the rows of a table are sorted by."""
        fields = asdict(self)
        return tuple("" if value is None else value for value in fields.values())

    @property
    def digest(self) -> str:
        """Name of the point's file: 64 bits of the digest of its values."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]

    def row(self) -> dict[str, Any]:
        """The values as columns of a table; the mix of users in one text."""
        return {**asdict(self), "classes": " ".join(self.classes)}

    def workload(self) -> Workload:
        """The requests of the point: a function of seed, lengths, requests, classes and rate alone."""
        return read_workload(
            None, "tandem", self.lengths, self.rate, self.requests, self.classes, self.seed, lambda _: None
        )

    def simulated(self, system: System, workload: Workload) -> Trace:
        """The run of `workload` on `system` under the point's policy and router."""
        return simulate(
            workload,
            system,
            policy_of(self.policy),
            nodes=self.nodes,
            router=None if self.router is None else router_of(self.router),
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures of a point, by name, with their units; `seconds` of processor time belong to no table."""

    figures: dict[str, float]
    units: dict[str, str]
    seconds: float


def made_by() -> str:
    """Fingerprint of everything that the figures of a point come through."""
    return fingerprint("queueing", "policies", "validation.options", "validation.sweep_point")


def drawn(lengths: str) -> str:
    """Digest of what a law of lengths draws; a list in the folder TANDEM_DATA stands before the shipped table."""
    requests = lengths_of(lengths).sample(1000, np.random.default_rng(0))
    return hashlib.sha256(repr([np.asarray(each).tolist() for each in requests]).encode()).hexdigest()[:16]


def outcome_of(point: Point, system: System, sources: str, lengths: str) -> Outcome:
    """Simulate one point.

    Args:
        point: what to run.
        system: what `point.system` names; given, because a file may not lie where the run does.
        sources: the fingerprint that the figures are to be made by.
        lengths: digest of what the law of lengths is to draw, see :func:`drawn`.

    Raises:
        ValueError: sources or lengths here are others, or a value does not fit; the point is named.
        PolicyBreach: the policy broke a rule; the point is named.
    """
    if drawn(point.lengths) != lengths:
        raise ValueError(
            f"{point.lengths} draws other lengths in the process that began this sweep than in one that works for it; "
            "give both the same TANDEM_DATA, and run the command again"
        )
    if made_by() != sources:
        raise ValueError(
            "the sources differ between the process that began this sweep and one that works for it; install the "
            "same version everywhere, leave it alone during the run, and run the command again"
        )
    began = time.process_time()
    try:
        figures = metrics.summary(point.simulated(system, point.workload()))
    except (ValueError, PolicyBreach) as problem:
        raise type(problem)(f"{point}: {problem}") from None
    return Outcome(
        {name: float(quantity.value) for name, quantity in figures.items()},
        {name: quantity.unit for name, quantity in figures.items()},
        time.process_time() - began,
    )
