"""Schedulers and routers, one per file, each a frozen dataclass of parameters with one compiled function.

`names()` and `named("slai", "token_budget=256")` find them by name; a class exported here is found by being here.
"""

from policies.a_min import AMin
from policies.admission import ANNOUNCED_LENGTH, CONTEXT_LIMIT, PEAK, WHOLE_PROMPT, Admission
from policies.batching_switch import BatchingSwitch
from policies.catalogue import named, names, one_shot_named, one_shot_names, router_named, router_names
from policies.chunk_only import ChunkOnly
from policies.clipper import Clipper
from policies.counters import Lift, Predictor
from policies.deficit_round_robin import DeficitRoundRobin
from policies.faster_transformer import FasterTransformer
from policies.fcfs import Fcfs
from policies.gittins import Gittins
from policies.hybrid_only import HybridOnly
from policies.infaas import Infaas
from policies.max_accuracy import MaxAccuracy
from policies.max_batch import MaxBatch
from policies.mc_sf import McSf
from policies.multi_buffer import MultiBuffer
from policies.nested_wait import NestedWait
from policies.orca import Orca
from policies.packing import Packing
from policies.proteus import Proteus
from policies.rad import Rad
from policies.routing import JoinShortestQueue, LeastWork, PowerOfD, RoundRobin, UniformRandom
from policies.sarathi import Sarathi, token_budget_for
from policies.slackfit import SlackFit
from policies.slai import Slai
from policies.subnets import DROP_HEAD, RUN_FASTEST, NoneFits
from policies.vllm import Vllm
from policies.vtc import Vtc
from policies.vtc_slai import VtcSlai
from policies.wait import Wait
from queueing.cost import Cost
from queueing.policy import FIFO, SJF, SPF, STRICT_SPF, Order

__all__ = [
    "ANNOUNCED_LENGTH",
    "CONTEXT_LIMIT",
    "DROP_HEAD",
    "FIFO",
    "PEAK",
    "RUN_FASTEST",
    "SJF",
    "SPF",
    "STRICT_SPF",
    "WHOLE_PROMPT",
    "AMin",
    "Admission",
    "BatchingSwitch",
    "ChunkOnly",
    "Clipper",
    "Cost",
    "DeficitRoundRobin",
    "FasterTransformer",
    "Fcfs",
    "Gittins",
    "HybridOnly",
    "Infaas",
    "JoinShortestQueue",
    "LeastWork",
    "Lift",
    "MaxAccuracy",
    "MaxBatch",
    "McSf",
    "MultiBuffer",
    "NestedWait",
    "NoneFits",
    "Orca",
    "Order",
    "Packing",
    "PowerOfD",
    "Predictor",
    "Proteus",
    "Rad",
    "RoundRobin",
    "Sarathi",
    "SlackFit",
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
