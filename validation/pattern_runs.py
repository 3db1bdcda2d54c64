"""Arrival patterns in the simulator, where the source of a policy runs: step by step as on the exact system.

A prompt batch takes 2^-30 s and a decode batch 1 s, blocks hold one token, and no last chunk emits a token; so what
arrives at second k comes after the decodes of step k - 1 and before the admissions of step k, as long as fewer than
2^30 prompt batches follow each other without a pause.  All times are exact in floating point up to 2^22 steps.

Assumptions: the policy serves prompts, or decodes, in a batch (PURE packing) and reserves what was announced.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from queueing.metrics import clients, service_by_tokens
from queueing.models.iteration_time import Load
from queueing.models.vtc import Request, Setting, Vtc
from queueing.policy import Policy
from queueing.simulator import simulate
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload
from validation.pattern import Pattern, Scheduler

__all__ = ["StepTime", "follower", "service_by_step", "simulated", "system", "workload"]

PROMPT = 2.0**-30  # s


class _Nothing(NamedTuple):
    unused: float = 0.0


def _step_time(params, load) -> float:  # pyright: ignore  # numba types it
    return 1.0 if load.decodes > 0 else PROMPT


@dataclass(frozen=True, slots=True)
class StepTime:
    """Law of iteration time: 1 s if the batch decodes, 2^-30 s if it only prefills."""

    def lower(self) -> tuple[Callable[..., float], _Nothing]:
        """The function and its parameters."""
        return _step_time, _Nothing()

    def __call__(self, load: Load) -> float:
        """Seconds that `load` takes."""
        return _step_time(None, load)


class _WholeMemory(System):
    """No block is kept free, so that a request may fill the memory: with whole reservations nothing grows."""

    __slots__ = ()

    @property
    def watermark_blocks(self) -> int:
        """None."""
        return 0


def system(pattern: Pattern) -> System:
    """The simulator's node for a pattern: M blocks of one token, and steps as above."""
    memory = pattern.setting.memory
    return _WholeMemory(StepTime(), blocks=memory, block_size=1, max_length=memory, max_running=memory,
                        last_chunk_emits=False, name="steps")  # fmt: skip


def workload(pattern: Pattern) -> Workload:
    """The pattern's requests, arriving at second `step`, announced with what is reserved for them."""
    step, client, prompt, output, _ = zip(*pattern.arrivals, strict=True)
    reserved = [a.reserved for a in pattern.arrivals]
    return Workload(np.array(step, np.float64), prompt, output, client, predicted=reserved)


def simulated(pattern: Pattern, policy: Policy, *, python: bool = False) -> Trace:
    """Run the source of a policy on a pattern; `python` runs it uncompiled."""
    return simulate(workload(pattern), system(pattern), policy, record_entries=True, python=python)


def service_by_step(trace: Trace, pattern: Pattern) -> NDArray[np.float64]:
    """W as in :attr:`validation.pattern.Outcome.service`, of a simulated pattern, by the token events of its trace.

    A prompt is charged at the start of its batch and a token at the end of its own, so that the window up to the end of
    a decode batch has the admissions of that step and not its tokens.
    """
    its = trace.iterations
    decodes = its["decodes"] > 0
    start, end = its["start"][decodes], (its["start"] + its["seconds"])[decodes]
    step = np.floor(start).astype(np.int64)  # a decode starts in the second of its step
    until = np.zeros(step[-1] + 2)
    until[step] = end
    until[-1] = np.nextafter(trace.end, np.inf)
    until = np.maximum.accumulate(until)
    table = service_by_tokens(trace, 0.0, until, pattern.setting.cost)
    everyone = np.zeros((len(until), pattern.setting.clients))
    everyone[:, clients(trace)] = table
    return everyone


class _Follower(Vtc):
    """The exact system with the admissions of a run: `waves` of them, one before each step in which something runs."""

    def __init__(self, setting: Setting, waves: list[list[int]], name: str) -> None:
        super().__init__(setting)
        self._waves = [deque(wave) for wave in waves]
        self._step = 0
        self._name = name

    def next_client(self) -> int | None:
        """Whose request the run admitted next in this step."""
        wave = self._waves[self._step]
        if not wave:
            return None
        number = wave.popleft()
        u = next((u for u in self.queued if self.queue[u][0].number == number), None)
        if u is None:
            raise ValueError(f"{self._name} serves request {number} before an earlier one of its client, or before it "
                             "is there; give a policy that serves each client in order")  # fmt: skip
        return u

    def fits(self, request: Request) -> bool:
        """What the run admitted fits by the run's own rule."""
        return True

    def decode(self, which: Iterable[int] | None = None) -> None:
        """The end of a step."""
        super().decode(which)
        self._step += 1


def follower(pattern: Pattern, policy: Policy) -> Scheduler:
    """The exact system under the admissions that the source of `policy` makes on the pattern in the simulator.

    So :func:`validation.pattern.play` measures a policy with the code that measures the model.  The counters, and with
    them the gap, are those that VTC would keep under these admissions, whatever the policy keeps.

    Raises:
        ValueError: a batch is neither of whole prompts nor one token for everybody who runs, or a client's requests are
            served out of order.
    """
    trace = simulated(pattern, policy)
    assert trace.entries is not None
    prompt, waves, at = trace.requests["prompt"], [list[int]()], 0
    its = trace.iterations
    for k, size in enumerate(its["entries"].tolist()):
        requests = trace.entries["request"][at : at + size]
        tokens = trace.entries["tokens"][at : at + size]
        at += size
        if its["decodes"][k] == 0 and np.array_equal(tokens, prompt[requests]):
            waves[-1] += requests.tolist()
        elif its["prefill"][k] == 0 and its["decodes"][k] == its["running"][k] == size:
            waves.append([])
        else:
            raise ValueError(f"batch {k} of {policy.name} is neither whole prompts nor a token for each running "
                             "request; give a policy that prefills and decodes in batches of their own")  # fmt: skip
    return lambda setting: _Follower(setting, waves, policy.name)
