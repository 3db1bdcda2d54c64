"""What a node carries when work never runs out: all requests wait at time 0, and the middle of the run is looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from queueing.policy import Policy
from queueing.simulator import simulate
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload

__all__ = ["Carried", "saturate"]

BEGIN, END = 0.2, 0.8  # of the completions; before, the node fills, and at the end it drains


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """A saturated run between `begin` and `end` (s): `rate` completions/s, `tokens`/s, `iteration` mean s of one."""

    rate: float
    tokens: float
    iteration: float
    begin: float
    end: float
    trace: Trace


def saturate(
    system: System, policy: Policy, prompt: ArrayLike, output: ArrayLike, *, announced: bool = False
) -> Carried:
    """Serve requests that all wait at time 0, and measure from the first fifth of the completions to the last.

    The rate is that of a backlogged node if requests are served about in the order of the table, so that their lengths
    in the middle are those of all.

    Args: prompt, output, lengths in tokens; enough of them that the first and the last fifth are many times what runs
    at once; announced, whether the policy knows each output.

    Raises:
        ValueError: a request was rejected or left unfinished, so that nothing can be said of the rest.
    """
    p, d = np.asarray(prompt, np.int64), np.asarray(output, np.int64)
    trace = simulate(Workload(np.zeros(len(p)), p, d, predicted=d if announced else None), system, policy)
    if not trace.finished.all():
        lost = int((~trace.finished).sum())
        raise ValueError(
            f"{lost} of {len(p)} requests did not finish; give more memory or a longer context limit"
        )
    done = np.sort(trace.requests["finished"])
    first, last = int(BEGIN * len(p)), int(END * len(p)) - 1
    begin, end = float(done[first]), float(done[last])
    start = trace.iterations["start"]
    inside = (start >= begin) & (start < end)
    spent = trace.iterations["seconds"][inside]
    served = trace.iterations["prefill"] + trace.iterations["decodes"]
    tokens = float(served[inside].sum() / spent.sum())
    return Carried((last - first) / (end - begin), tokens, float(spent.mean()), begin, end, trace)
