"""One-shot serving: requests in batches on servers that choose a configuration; policies, loop, trace and figures."""

from queueing.one_shot import metrics
from queueing.one_shot.contract import (
    Action,
    OneShotPolicy,
    View,
    decide,
    drop,
    head_deadline,
    run,
    take,
    take_first,
    wait_until,
    waiting,
)
from queueing.one_shot.pool import Pool
from queueing.one_shot.requests import Requests
from queueing.one_shot.simulator import serve
from queueing.one_shot.trace import OneShotTrace
from queueing.policy import NoMemory, kernel

__all__ = [
    "Action",
    "NoMemory",
    "OneShotPolicy",
    "OneShotTrace",
    "Pool",
    "Requests",
    "View",
    "decide",
    "drop",
    "head_deadline",
    "kernel",
    "metrics",
    "run",
    "serve",
    "take",
    "take_first",
    "wait_until",
    "waiting",
]
