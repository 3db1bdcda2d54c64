"""Schedulers and routers, one per file, each a frozen dataclass of parameters with one compiled function.

`names()` and `named("slai", "token_budget=256")` find them by name; a class exported here is found by being here.
"""

from policies.a_min import AMin
from policies.admission import ANNOUNCED_LENGTH, CONTEXT_LIMIT, PEAK, WHOLE_PROMPT, Admission
from policies.batching_switch import BatchingSwitch
from policies.catalogue import named, names, one_shot_named, one_shot_names, router_named, router_names
from policies.chunk_only import ChunkOnly
from policies.counters import Lift, Predictor
from policies.deficit_round_robin import DeficitRoundRobin
from policies.faster_transformer import FasterTransformer
from policies.fcfs import Fcfs
from policies.gittins import Gittins
from policies.hybrid_only import HybridOnly
from policies.mc_sf import McSf
from policies.nested_wait import NestedWait
from policies.orca import Orca
from policies.packing import Packing
from policies.rad import Rad
from policies.routing import JoinShortestQueue, LeastWork, PowerOfD, RoundRobin, UniformRandom
from policies.sarathi import Sarathi, token_budget_for
from policies.slai import Slai
from policies.vllm import Vllm
from policies.vtc import Vtc
from policies.vtc_slai import VtcSlai
from policies.wait import Wait
from queueing.cost import Cost
from queueing.policy import FIFO, SJF, SPF, STRICT_SPF, Order

__all__ = [
    "ANNOUNCED_LENGTH",
    "CONTEXT_LIMIT",
    "FIFO",
    "PEAK",
    "SJF",
    "SPF",
    "STRICT_SPF",
    "WHOLE_PROMPT",
    "AMin",
    "Admission",
    "BatchingSwitch",
    "ChunkOnly",
    "Cost",
    "DeficitRoundRobin",
    "FasterTransformer",
    "Fcfs",
    "Gittins",
    "HybridOnly",
    "JoinShortestQueue",
    "LeastWork",
    "Lift",
    "McSf",
    "NestedWait",
    "Orca",
    "Order",
    "Packing",
    "PowerOfD",
    "Predictor",
    "Rad",
    "RoundRobin",
    "Sarathi",
    "Slai",
    "UniformRandom",
    "Vllm",
    "Vtc",
    "VtcSlai",
    "Wait",
    "named",
    "names",
    "one_shot_named",
    "one_shot_names",
    "router_named",
    "router_names",
    "token_budget_for",
]
