"""Arrival patterns: who sends what before which step of an engine, and how unfair a scheduler is to them.

An *engine step* admits requests until one is refused, then decodes one token for each running request.  A pattern is
played on the exact system of :mod:`queueing.models.vtc` here, and in the simulator by :mod:`validation.pattern_runs`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from queueing.cost import Cost
from queueing.models.vtc import Setting, Vtc, Windows, exact
from queueing.tabular import replacing

__all__ = [
    "OBJECTIVES",
    "Arrival",
    "Objective",
    "Outcome",
    "Pattern",
    "Scheduler",
    "Worst",
    "events",
    "gap",
    "play",
    "share_of",
]

Number = int | Fraction
Scheduler = Callable[[Setting], Vtc]  # a class of queueing.models.vtc, or what makes a system in another way
Objective = Literal["gap", "both", "anyone", "newcomer"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
LAST_STEP = 1 << 22  # up to which the simulator's times are exact


class Arrival(NamedTuple):
    """A request that comes before engine step `step`; max(output, predicted) output tokens are reserved for it."""

    step: int
    client: int
    prompt: int
    output: int
    predicted: int = 0

    @property
    def reserved(self) -> int:
        """Output tokens reserved on admission."""
        return max(self.output, self.predicted)


@dataclass(frozen=True)
class Pattern:
    """Requests in order of arrival, and the system they are sent to.

    Args:
        setting: clients, memory, longest prompt, cost and weights.
        arrivals: the requests; those of one step come in this order.
        about: what the pattern shows.

    Raises:
        ValueError: a request could never be served, comes before an earlier one, or there is none.

    Example:
        >>> Pattern(Setting(clients=2, memory=10), (Arrival(0, 0, 1, 9), Arrival(0, 1, 1, 9))).steps
        1
    """

    setting: Setting
    arrivals: tuple[Arrival, ...]
    about: str = ""

    def __post_init__(self) -> None:
        setting = self.setting
        if not self.arrivals:
            raise ValueError("the pattern is empty; give at least one arrival")
        before = 0
        for i, a in enumerate(self.arrivals):
            if any(isinstance(x, bool) or not isinstance(x, int) for x in a):
                raise ValueError(f"arrival {i} is {tuple(a)}; give whole numbers")
            if a.step > LAST_STEP:
                raise ValueError(f"arrival {i} comes before step {a.step}; give steps of at most {LAST_STEP}")
            if a.step < before:
                raise ValueError(
                    f"arrival {i} comes before step {a.step}, after one at {before}; sort by step"
                )
            if not 0 <= a.client < setting.clients:
                raise ValueError(
                    f"arrival {i} is of client {a.client}; the {setting.clients} clients are numbered from 0"
                )
            if not (1 <= a.prompt <= setting.most_input and a.output >= 1 and a.predicted >= 0):
                raise ValueError(f"arrival {i} has {a.prompt} + {a.output} tokens, {a.predicted} predicted; give a "
                                 f"prompt of 1 to {setting.most_input} and at least 1 output")  # fmt: skip
            if a.prompt + a.reserved > setting.memory:
                raise ValueError(
                    f"arrival {i} needs {a.prompt + a.reserved} tokens; the memory holds {setting.memory}"
                )
            before = a.step

    @property
    def steps(self) -> int:
        """Steps before the last of which the last request comes."""
        return self.arrivals[-1].step + 1

    def to_file(self, path: str | os.PathLike[str]) -> None:
        """Write the pattern as JSON; :meth:`from_file` reads an equal one."""
        setting = self.setting
        cost = list(astuple(setting.cost))
        while cost[-1] == 0:
            cost.pop()
        weights = [str(f) for f in setting.weights]
        head = {"about": self.about, "clients": setting.clients, "memory": setting.memory,
                "longest": setting.longest, "cost": cost, "weights": weights}  # fmt: skip
        lines = [f'"{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in head.items()]
        rows = ",\n  ".join(json.dumps(a if a.predicted else a[:4]) for a in self.arrivals)
        with replacing(path) as file:
            file.write("{\n " + ",\n ".join([*lines, f'"arrivals": [\n  {rows}\n ]']) + "\n}\n")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Pattern:
        """Read a pattern that :meth:`to_file` wrote.

        Raises:
            ValueError: the file is no such document; in one sentence.
        """
        try:
            read: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as problem:
            raise ValueError(f"{path} is not JSON in UTF-8: {problem}") from None
        keys = {"about", "clients", "memory", "longest", "cost", "weights", "arrivals"}
        if not isinstance(read, dict) or set(read) != keys:
            raise ValueError(f"{path} is no pattern; give a table with the keys {', '.join(sorted(keys))}")
        try:
            setting = Setting(read["clients"], read["memory"], read["longest"], Cost(*read["cost"]),
                              tuple(exact(Fraction(f)) for f in read["weights"]))  # fmt: skip
            return cls(setting, tuple(Arrival(*row) for row in read["arrivals"]), read["about"])
        except (TypeError, ValueError) as problem:
            raise ValueError(f"{path}: {problem}") from None


class Event(NamedTuple):
    """Something happened in step `step`; `decoded`: one token for each running request, the end of the step."""

    step: int
    decoded: bool


def events(pattern: Pattern, system: Vtc) -> Iterator[Event]:
    """Play the pattern to the end, and pause after every event.

    Raises:
        ValueError: the scheduler admits nothing though nothing runs.
    """
    arrivals, at, step = pattern.arrivals, 0, 0
    while at < len(arrivals) or system.running or system.queued:
        if not system.running and not system.queued:
            step = max(step, arrivals[at].step)
        while at < len(arrivals) and arrivals[at].step <= step:
            a = arrivals[at]
            system.arrive(a.client, a.prompt, a.output, a.reserved, a.predicted)
            at += 1
            yield Event(step, False)
        while system.admit() is not None:
            yield Event(step, False)
        if not system.running:
            raise ValueError(f"{type(system).__name__} admits nothing in step {step} though nothing runs; give a "
                             "scheduler that serves what waits")  # fmt: skip
        system.decode()
        yield Event(step, True)
        step += 1


def gap(system: Vtc) -> Number:
    """What L1 bounds by U in this state: most of (e_f - e_g - p_g)·f_f over f and g with a waiting request."""
    queued = system.queued
    if len(queued) < 2:
        return 0
    weight, counter, prepaid = system.setting.weight, system.counter, system.prepaid
    least, second = sorted(queued, key=lambda u: counter[u])[:2]
    return max(
        (counter[f] - prepaid[f] - counter[second if f == least else least]) * weight(f) for f in queued
    )


class Worst(NamedTuple):
    """A largest share of a bound, and the first step by the end of which it was reached."""

    share: Fraction
    step: int


@dataclass(frozen=True)
class Outcome:
    """What a pattern did to a scheduler.

    `worst`: of each objective the largest share of its bound; 1 is met, more is broken.  `service`: [steps + 1,
    clients], W (not divided by weights) after the admissions of each step and before its tokens, and at the end; steps
    in which nothing runs are as the one before.  `bound`: U.
    """

    worst: dict[Objective, Worst]
    service: tuple[tuple[Number, ...], ...]
    bound: Number


def share_of(objective: Objective, pattern: Pattern, system_class: Scheduler = Vtc) -> Fraction:
    """The worst share of one objective, as in :func:`play`, without the rest."""
    system = system_class(pattern.setting)
    if objective == "gap":
        return Fraction(max(gap(system) for _ in events(pattern, system))) / system.bound
    windows = Windows(system)
    for _ in events(pattern, system):
        windows.look()
    return Fraction(getattr(windows, objective))


def play(pattern: Pattern, system_class: Scheduler = Vtc) -> Outcome:
    """Play a pattern to the end on the exact system, and measure it.

    Raises:
        ValueError: the scheduler does not serve what waits.
    """
    system = system_class(pattern.setting)
    windows, bound = Windows(system), system.bound
    worst: dict[Objective, Worst] = dict.fromkeys(OBJECTIVES, Worst(Fraction(0), 0))
    service: list[tuple[Number, ...]] = []
    nothing = now = tuple(system.service)

    def note(objective: Objective, share: Fraction, step: int) -> None:
        if share > worst[objective].share:
            worst[objective] = Worst(share, step)

    for step, decoded in events(pattern, system):
        windows.look()
        note("gap", Fraction(gap(system)) / bound, step)
        if decoded:
            service.extend([service[-1] if service else nothing] * (step - len(service)))
            service.append(now)
            note("both", windows.both, step)
            note("anyone", windows.anyone, step)
            note("newcomer", windows.newcomer, step)
        now = tuple(system.service)
    return Outcome(worst, (*service, now), bound)
