"""Drift of prompts that wait and requests that decode: the field of the fluid model, and the paths of runs.

With P prompt tokens waiting and D requests decoding a batch of q prompt tokens and x decodes takes T = T(q + x), and

    dP/dt = λp - q/T,      dD/dt = (q/p - h·x)/T ,

p tokens a prompt, λ requests/s, outputs geometric of hazard h (:mod:`queueing.models.fluid`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from queueing.models.fluid import Discipline, Fluid
from queueing.trace import Trace

__all__ = ["field", "trajectory"]

Floats = NDArray[np.float64]


def field(
    fluid: Fluid, discipline: Discipline, prompts: ArrayLike, decoding: ArrayLike
) -> tuple[Floats, Floats]:
    """(dP/dt, dD/dt) in tokens/s and requests/s at each pair of P `prompts` (tokens) and D `decoding` (requests).

    Raises:
        ValueError: outputs are not geometric.
    """
    P, D = np.broadcast_arrays(np.asarray(prompts, float), np.asarray(decoding, float))
    h = fluid.end
    dP, dD = np.empty(P.shape), np.empty(P.shape)
    for at in np.ndindex(P.shape):
        q, x = discipline.batch(fluid, float(P[at]), float(D[at]), True)
        seconds = fluid.seconds(q + x)
        dP[at] = fluid.rate * fluid.prompt - q / seconds
        dD[at] = (q / fluid.prompt - h * x) / seconds
    return dP, dD


def trajectory(trace: Trace, times: ArrayLike) -> tuple[Floats, Floats]:
    """P (tokens) and D (requests) of a run at `times` (s); a prompt that is partly prefilled counts whole."""
    q, at = trace.requests, np.asarray(times, float)

    def until(column: str, weight: NDArray[np.int64]) -> Floats:
        when = np.nan_to_num(q[column], nan=np.inf)
        order = np.argsort(when)
        sums = np.concatenate([[0], np.cumsum(weight[order])])
        return sums[np.searchsorted(when[order], at, side="right")].astype(float)

    prompt, one = q["prompt"], np.ones(len(q["prompt"]), np.int64)
    return until("arrival", prompt) - until("prefill_end", prompt), until("prefill_end", one) - until(
        "finished", one
    )
