"""Latency of each request: pure functions of a :class:`~queueing.trace.Trace`.

Notation, for request i:  a_i arrival, s_i start of the first batch that served it, u_i end of the batch that completed
its prompt, f_i emission of its first and l_i of its last output token, d_i output tokens; all times in seconds.

    queueing_time = s_i - a_i      prefill_end = u_i - a_i      ttft = f_i - a_i
    e2e = l_i - a_i                tpot = (l_i - f_i) / (d_i - 1)

Each function returns one number per request, in the order of `trace.requests`, so that numpy masks select:
`ttft(trace)[of_class(trace, 0.1)]`.  Two values stand for what was not seen:

* nan: the quantity is not defined; the request was rejected, never arrived before the horizon, or has d_i = 1 (tpot);
  or it is not known, in the trace of a log (:mod:`queueing.request_log`);
* inf: the request arrived, but the event had not happened when the run ended (*censored*).

All that is known of a censored latency is that it exceeds (end of the run - a_i).  :func:`quantile` counts it as
infinite, so a quantile that falls into the censored mass is inf, never a number that is too small;
:func:`quantile_bounds` brackets the quantile of the latencies that a longer run would have seen.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from queueing.trace import STATUS, Trace

__all__ = [
    "counted",
    "e2e",
    "mean",
    "observed_until",
    "prefill_end",
    "quantile",
    "quantile_bounds",
    "queueing_time",
    "slai_ttft",
    "tpot",
    "ttft",
]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def counted(trace: Trace) -> Mask:
    """Which requests metrics count: those that arrived and were not rejected."""
    return (trace.requests["status"] != STATUS.index("future")) & ~trace.rejected


def observed_until(trace: Trace) -> float:
    """End of the observation (s): the horizon where it cut the run short, else the end of the last batch.

    A log has no batches; its observation ends with its last token.
    """
    horizon = float(trace.meta.get("horizon", math.inf))
    if math.isfinite(horizon) and bool(np.any(trace.unfinished)):
        return horizon
    if len(trace.iterations["start"]) == 0 and bool(np.any(trace.finished)):
        return float(np.nanmax(trace.requests["finished"]))
    return trace.end


def _since_arrival(trace: Trace, event: str) -> Floats:
    latency = trace.requests[event] - trace.requests["arrival"]
    if event not in trace.meta.get("unknown", ()):
        latency[np.isnan(latency)] = np.inf
    latency[~counted(trace)] = np.nan
    return latency


def ttft(trace: Trace) -> Floats:
    """Time to first token: first output token emitted - arrival (s)."""
    return _since_arrival(trace, "first_token")


def prefill_end(trace: Trace) -> Floats:
    """End of the batch that first completed the prompt - arrival (s); equals `ttft` if the last chunk emits."""
    return _since_arrival(trace, "prefill_end")


def slai_ttft(trace: Trace) -> Floats:
    """What the SLAI authors' code calls TTFT (`prefill_e2e_time`): :func:`prefill_end` under their name (s).

    Their engine emits no token with the last chunk (`last_chunk_emits=False`), so the wait from there to the first
    token is in no metric of theirs.
    """
    return prefill_end(trace)


def e2e(trace: Trace) -> Floats:
    """End-to-end latency: last output token - arrival (s)."""
    return _since_arrival(trace, "finished")


def queueing_time(trace: Trace) -> Floats:
    """Start of the first batch that served the request - arrival (s); waits after a preemption are not in it."""
    return _since_arrival(trace, "admitted")


def tpot(trace: Trace) -> Floats:
    """Time per output token: (last - first token) / (output - 1) (s); nan for outputs of one token."""
    q = trace.requests
    several = q["output"] > 1
    pace = (q["finished"] - q["first_token"]) / np.where(several, q["output"] - 1, 1)
    pace[np.isnan(pace)] = np.inf
    pace[~(counted(trace) & several)] = np.nan
    return pace


def _known(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=float)
    return array[~np.isnan(array)]


def mean(values: ArrayLike) -> float:
    """Mean over the requests that have a value; inf if any is censored, nan if there is none."""
    known = _known(values)
    return float(np.mean(known)) if len(known) else math.nan


def quantile(values: ArrayLike, q: float) -> float:
    """The least observed value that at least a share `q` of the values do not exceed.

    nan entries are left out and inf entries (censored) are kept: the result is inf if it falls among them, and an upper
    bound of the quantile that a longer run would have given.  It is nan if there is no value.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile lies between 0 and 1, not at {q}; pass 0.99 for the 99th percentile")
    known = _known(values)
    return float(np.quantile(known, q, method="inverted_cdf")) if len(known) else math.nan


def quantile_bounds(trace: Trace, values: Floats, q: float, where: Mask | None = None) -> tuple[float, float]:
    """Least and greatest value that the `q`-quantile of a latency since arrival can have, given what is censored.

    Each censored latency lies between (end of the run - arrival) and infinity; the bounds put all of them at one end.
    They coincide exactly when no censored request matters for this quantile.

    Args:
        trace: the run.
        values: latencies since arrival, one per request of `trace` (not `tpot`, whose lower bound is another).
        q: between 0 and 1.
        where: requests to count, all by default.
    """
    if len(values) != len(trace.requests["arrival"]):
        raise ValueError(
            f"{len(values)} values for {len(trace.requests['arrival'])} requests; select with where= instead"
        )
    least = np.where(np.isinf(values), observed_until(trace) - trace.requests["arrival"], values)
    chosen = slice(None) if where is None else where
    return quantile(least[chosen], q), quantile(values[chosen], q)
