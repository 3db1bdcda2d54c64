"""Schedulers and routers, one per file, each a frozen dataclass of parameters with one compiled function."""

from policies.admission import ANNOUNCED_LENGTH, CONTEXT_LIMIT, PEAK, WHOLE_PROMPT, Admission
from policies.rad import Rad
from policies.sarathi import Sarathi, token_budget_for
from policies.slai import Slai
from policies.vllm import Vllm
from queueing.policy import FIFO, SPF, STRICT_SPF, Order

__all__ = [
    "ANNOUNCED_LENGTH",
    "CONTEXT_LIMIT",
    "FIFO",
    "PEAK",
    "SPF",
    "STRICT_SPF",
    "WHOLE_PROMPT",
    "Admission",
    "Order",
    "Rad",
    "Sarathi",
    "Slai",
    "Vllm",
    "token_budget_for",
]
