"""Does the backlog grow?  A test of stability with a stated error probability.

Let B(t) be the number of requests that have arrived and not finished, sampled at t_0 < ... < t_m, equally spaced; D_j
its increments.  With load above capacity B is a random walk with drift g > 0 requests/s and, over intervals long
compared with a request's stay, the D_j are nearly independent and normal, so

    g in  mean(D)/h -+ t sd(D)/(h sqrt m),      h = t_1 - t_0,

at the confidence of Student's t.  Below capacity B is stationary: the D_j telescope, their sum stays bounded while the
interval's length falls like 1/m h, and it covers 0 more often than it says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from queueing.metrics.intervals import Interval
from queueing.metrics.latency import Floats, counted
from queueing.trace import Trace

__all__ = ["Growth", "backlog", "growth_of", "growth_test"]


@dataclass(frozen=True, slots=True)
class Growth:
    """Growth rate of a backlog with its confidence interval, and the rate at which it is fed.

    `error` bounds, asymptotically in the length of the observation, each of two probabilities: that `grows` holds for a
    system below its capacity, and that `grows_less_than(share)` holds for one whose backlog takes up at least that
    share of what arrives.  Exactly at capacity `grows` holds up to a quarter more often (computed, 5 to 100
    increments).
    """

    rate: Interval  # requests/s (or whatever the backlog is counted in, per second)
    arrival_rate: float
    error: float

    @property
    def grows(self) -> bool:
        """Whether growth is shown, with error probability at most `error`."""
        return self.rate.low > 0

    def grows_less_than(self, share: float) -> bool:
        """Whether it is shown that the backlog takes up less than `share` of the arrivals, with the same error."""
        return self.rate.high < share * self.arrival_rate


def backlog(trace: Trace, times: Floats) -> Floats:
    """Requests that have arrived by each of `times` (s) and not finished by it; rejected ones never count."""
    q = trace.requests
    here = counted(trace)
    finished = np.sort(q["finished"][here & trace.finished])
    arrived = np.searchsorted(np.sort(q["arrival"][here]), times, side="right")
    return (arrived - np.searchsorted(finished, times, side="right")).astype(float)


def growth_of(level: Floats, seconds: float, arrival_rate: float, error: float = 1e-3) -> Growth:
    """Growth of a backlog given by its `level` at m + 1 instants, `seconds` apart.

    The interval is two-sided at confidence 1 - `error`; on a walk without drift its lower end alone errs half as often,
    which leaves most of the room that a system exactly at capacity needs: its reflected walk ends above its beginning.
    """
    if len(level) < 6:
        raise ValueError(
            f"a growth test needs at least 6 samples of the backlog, not {len(level)}; observe for longer"
        )
    if not 0 < error < 1:
        raise ValueError(
            f"an error probability lies between 0 and 1, not at {error}; pass 0.001 for one in a thousand"
        )
    steps = np.diff(level) / seconds
    m = len(steps)
    reach = float(stats.t.ppf(1 - error / 2, m - 1)) * float(np.std(steps, ddof=1)) / math.sqrt(m)
    value = float(np.mean(steps))
    return Growth(Interval(value, value - reach, value + reach, f"{m} increments"), arrival_rate, error)


def growth_test(
    trace: Trace, start: float = 0.0, end: float | None = None, samples: int = 20, error: float = 1e-3
) -> Growth:
    """Growth rate of the number of unfinished requests between `start` and `end`, with its confidence interval.

    Args:
        trace: the run; it should be cut by a horizon, or `end` given, so that draining is not observed.
        start: beginning of the observation (s), the warm-up cut.
        end: its end (s); by default the horizon or the last arrival, whichever is earlier.
        samples: number m of increments; each should last much longer than a request.
        error: probability of a wrong verdict, as :class:`Growth` states it.
    """
    arrival = trace.requests["arrival"][counted(trace)]
    if len(arrival) == 0:
        raise ValueError("no request arrived, so there is no growth to test; run a longer workload")
    last = min(float(arrival[-1]), float(trace.meta.get("horizon", math.inf))) if end is None else end
    if not last > start:
        raise ValueError(
            f"the observation ends at {last} s, before its start at {start} s; choose an earlier start"
        )
    times = np.linspace(start, last, samples + 1)
    fed = np.count_nonzero((arrival >= start) & (arrival < last)) / (last - start)
    return growth_of(backlog(trace, times), (last - start) / samples, float(fed), error)
