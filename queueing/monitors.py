"""Monitors: bounds of theorems as objects that read a trace once and say what they found.

Any :class:`~queueing.trace.Trace` will do: simulated, of an engine, or a log.  A :class:`Finding` has the worst value
that was met and where, the bound, and the assumptions of the theorem with what the trace says of each.  Its verdict
is *within* or *exceeded*, or *outside* if an assumption is not met or cannot be checked: then the bound promises
nothing for this trace, and `reason` says why.

==================  =====================================================================================  ============
monitor             value                                                                                  bound
==================  =====================================================================================  ============
CounterGap          c_f - c_g, clients f and g in Q: counters by VTC's rule                                U/f_f
BothBacklogged      growth of abs(W_f/f_f - W_g/f_g) while f and g wait (T1)                               U/f_f + U/f_g
AnyClient           growth of W_g/f_g - W_f/f_f while f waits, for any g (T3)                              U/f_g + U/m
DispatchLatency     the same while f, with nothing in the system before, waits for its admission (T4)      U/f_g + U/m
WorkConservation    s that a node stood idle, or ran an empty batch, with a request there                  0
ClientOrder         s between the arrivals of two requests of a client admitted the other way round        0
KvConservation      KV blocks in use                                                                       all blocks
==================  =====================================================================================  ============

W is service by token events at the cost h (:mod:`queueing.metrics.client_service`), f_u the weight of u, m the lesser
of f_f and f_g; a client waits from the arrival of a request to its admission.  For h(x, y) = wp·x + wq·y, M tokens of
memory and prompts of at most L tokens, U = U* = wq·M + max(0, wp - wq)·L.  Where prompts are computed in chunks and
wp > wq, max(wp, wq)·M is taken, which holds whether a scheduler charges them on admission or chunk by chunk, with W as
it is.  For any other h, or any other rule of admission, U is the most that an admission commits and has to be given;
the trace tells whether it commits more.

Times: see :mod:`queueing.run_events`.  A scheduler learns of arrivals between batches, and counters are lifted then;
clients wait, and windows begin, when requests arrive.  The bounds hold for these windows too: what the batch in
progress adds is covered by what was committed to it (proof in docs/monitors.md).

Source: Sheng et al., OSDI 2024, arXiv 2401.00588 (recalled, with other constants); the constants here, the weighted
forms and the proof are our derivation: queueing.models.vtc.

Example:
    >>> from queueing.request_log import request_log
    >>> log = request_log([0.0], [10], [5], [0], [0.5], [1.0])
    >>> AnyClient().read(Run(log)).verdict
    'outside'
    >>> AnyClient().read(Run(log)).reason
    'token events: this trace has no entries: run simulate(..., record_entries=True)'
"""

from __future__ import annotations

from collections.abc import Iterable

from queueing.monitoring.fair import (
    AnyClient,
    BothBacklogged,
    CounterGap,
    DispatchLatency,
    Terms,
    fairness_monitors,
)
from queueing.monitoring.findings import Assumption, Finding, Monitor, Run
from queueing.monitoring.laws import ClientOrder, KvConservation, WorkConservation
from queueing.monitoring.logs import window_growth
from queueing.trace import Trace

__all__ = [
    "ALL",
    "AnyClient",
    "Assumption",
    "BothBacklogged",
    "ClientOrder",
    "CounterGap",
    "DispatchLatency",
    "Finding",
    "KvConservation",
    "Monitor",
    "Run",
    "Terms",
    "WorkConservation",
    "check",
    "fairness_monitors",
    "window_growth",
]


ALL: tuple[Monitor, ...] = (*fairness_monitors(), WorkConservation(), ClientOrder(), KvConservation())


def check(trace: Trace, monitors: Iterable[Monitor] = ALL) -> list[Finding]:
    """What each monitor finds in a trace.

    Raises:
        ValueError: the trace contradicts itself.
    """
    run = Run(trace)
    return [monitor.read(run) for monitor in monitors]
