"""Arrival patterns that meet fairness bounds, or break them where an assumption is missing.  `patterns/` has files.

Clients are f = 0, of the least weight, and g = 1, or more, of whole multiples of that weight.  The *dearest* request
fills the memory at the largest cost U_h (:mod:`validation.admission_wave`); for a linear cost U_h is U* if wp >= wq,
and wq - wp less otherwise.  Among equal counters the client goes first whose next request came first, so that the order
of arrival decides ties.

| pattern | scheduler | what happens |
|---|---|---|
| `one_admission` | VTC | L1: the gap reaches U_h |
| `served_twice` | VTC | T1: services of two backlogged clients grow apart by 2·U_h |
| `leaves_the_queue` | VTC | T3: the same against a client that is not backlogged to the end |
| `debtor` | VTC | T4: a client in debt returns, and waits until every other got 2·U_h |
| `nobody_can_help` | any work-conserving one without preemption | T2: wq·(M - 2) |
| `flood` | FCFS | grows with the flood |
| `hoard` | LCF, no lift | grows with the time away |
| `drained` | no lift on an empty queue | the gap grows with the time alone |
| `outputs_in_turn` | admission by the peak of memory | the gap is nearly U*·H_k |

Sources: the bounds and T2, Sheng et al., OSDI 2024 (recalled); the patterns are our derivation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from queueing.cost import Cost
from queueing.models.vtc import Setting
from validation.admission_wave import dearest_request
from validation.pattern import Arrival, Pattern

__all__ = [
    "SHIPPED",
    "debtor",
    "drained",
    "flood",
    "hoard",
    "leaves_the_queue",
    "load",
    "nobody_can_help",
    "one_admission",
    "outputs_in_turn",
    "served_twice",
    "write",
]

F, G = 0, 1


def _dearest(setting: Setting, *who: tuple[int, int]) -> tuple[Arrival, ...]:
    """Dearest requests at these (step, client)."""
    x, y = dearest_request(setting)
    return tuple(Arrival(step, client, x, y) for step, client in who)


def one_admission(setting: Setting) -> Pattern:
    """L1 met: f is admitted and fills the memory; g, at the same counter before, waits until f is charged U_h."""
    return Pattern(setting, _dearest(setting, (0, F), (0, F), (0, G)),
                   "L1: while f's first request is served g waits, and the counters part by all that one admission "
                   "commits")  # fmt: skip


def _turns(setting: Setting, g: int) -> int:
    """Requests of g that are served while f, one ahead, waits: until g is ahead, ties included; 2 if weights are 1."""
    return int(setting.weight(g) / setting.weight(F)) + 1


def served_twice(setting: Setting) -> Pattern:
    """T1 met: f is served once; then the window opens, and g is served until it is ahead, the tie included."""
    return Pattern(setting, _dearest(setting, (0, F), *[(0, G)] * (_turns(setting, G) + 1), (0, F)),
                   "T1: from the end of f's first request to the end of g's second, both always waiting, g gets twice "
                   "what one admission commits")  # fmt: skip


def leaves_the_queue(setting: Setting) -> Pattern:
    """T3 met: as `served_twice`, but g's last request in the window leaves its queue empty."""
    return Pattern(setting, _dearest(setting, (0, F), *[(0, G)] * _turns(setting, G), (0, F)),
                   "T3: g gets twice what one admission commits while f waits, and has nothing waiting itself at the "
                   "end")  # fmt: skip


def debtor(setting: Setting) -> Pattern:
    """T4 met: f was served, had nothing waiting or running, and returns; all others, at counter 0, go first twice."""
    end = dearest_request(setting)[1]
    others = [(0, g) for g in range(1, setting.clients) for _ in range(_turns(setting, g))]
    return Pattern(setting, _dearest(setting, (0, F), *others, (end, F)),
                   "T4: f returns with nothing waiting or running, but its counter is above those of all "
                   "others, who are served twice each before it")  # fmt: skip


def nobody_can_help(memory: int, cost: Cost) -> Pattern:
    """T2: f, alone, is admitted with all the memory; g comes a step later and gets nothing until f is through."""
    whole = Arrival(0, F, 1, memory - 1)
    return Pattern(Setting(2, memory, None, cost), (whole, whole, Arrival(1, G, 1, 1)),
                   "T2: whoever serves f, which is alone, cannot serve g, which comes a step later, before f's request "
                   "ends")  # fmt: skip


def flood(setting: Setting, requests: int) -> Pattern:
    """FCFS: f sends many requests, then g two."""
    return Pattern(setting, _dearest(setting, *[(0, F)] * (requests + 1), (0, G), (0, G)),
                   f"FCFS serves {requests} requests of f while g waits behind them")  # fmt: skip


def hoard(setting: Setting, requests: int) -> Pattern:
    """LCF: g, new, is served while f, served alone so far, waits until g has got as much."""
    later = requests * dearest_request(setting)[1]  # when the last but one of f has ended
    return Pattern(setting, _dearest(setting, *[(0, F)] * (requests + 1), *[(later, G)] * (requests + 1)),
                   f"LCF: f is served {requests} times, alone; then g comes without a lift and is served {requests} "
                   "times while f waits")  # fmt: skip


def drained(setting: Setting, times: int) -> Pattern:
    """No lift on an empty queue: g is served alone, its queue empty each time; then f comes first, and g again."""
    alone = [Arrival(k, G, 1, 1) for k in range(times)]
    return Pattern(setting, (*alone, Arrival(times, F, 1, 1), Arrival(times, G, 1, 1)),
                   f"g is served alone {times} times, and its queue empties; f comes when nobody waits, so that a lift "
                   "to the least counter in the queue does nothing")  # fmt: skip


def outputs_in_turn(memory: int, cost: Cost, k: int) -> Pattern:
    """Peak admission: outputs R, R/2, ..., R/k of f fit at once, as they end in turn; g waits for the whole memory."""
    longest = memory - k
    outputs = [Arrival(0, F, 1, longest // j) for j in range(1, k + 1)]
    whole = (Arrival(0, F, 1, memory - 1), Arrival(1, G, 1, memory - 1))
    return Pattern(Setting(2, memory, None, cost), (*outputs, *whole),
                   f"peak admission takes {k} requests of f that end in turn, with outputs of nearly H_{k} times the "
                   "memory in all, while g waits for all of it")  # fmt: skip


def _by_cost(name: str, make: Callable[[Setting], Pattern]) -> dict[str, Callable[[], Pattern]]:
    """A pattern for four costs, with 1000 tokens of memory and prompts of at most 500."""

    def of(wp: int, wq: int) -> Callable[[], Pattern]:
        return lambda: make(Setting(2, 1000, 500, Cost(wp, wq)))

    return {f"{name}_{wp}_{wq}": of(wp, wq) for wp, wq in ((1, 2), (1, 1), (2, 1), (5, 1))}


SHIPPED: Mapping[str, Callable[[], Pattern]] = {
    **_by_cost("one_admission", one_admission),
    **_by_cost("served_twice", served_twice),
    **_by_cost("leaves_the_queue", leaves_the_queue),
    **_by_cost("debtor", debtor),
    "nobody_can_help": lambda: nobody_can_help(1000, Cost(1, 2)),
    "flood": lambda: flood(Setting(2, 100, 50, Cost(1, 2)), 5),
    "hoard": lambda: hoard(Setting(2, 100, 50, Cost(1, 2)), 5),
    "drained": lambda: drained(Setting(2, 100, 50, Cost(1, 2)), 50),
    "outputs_in_turn": lambda: outputs_in_turn(1000, Cost(1, 2), 10),
}


def _file(name: str) -> Path:
    return Path(__file__).with_name("patterns") / f"{name}.json"


def load(name: str) -> Pattern:
    """A shipped pattern.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in SHIPPED:
        raise ValueError(f"no pattern is called {name!r}; there are {', '.join(SHIPPED)}")
    return Pattern.from_file(_file(name))


def write() -> None:
    """Write the files of all shipped patterns anew."""
    for name, make in SHIPPED.items():
        make().to_file(_file(name))
