"""The policy contract: a scheduler is one function that reads what a server may know and writes a batch.

`plan(p, memory, view, batch)` reads the :class:`~queueing.batch.View`, writes the :class:`~queueing.batch.Batch`, keeps
its own counters in `memory`, and returns nothing.  **The output length is not in the view**: only the serving loop
knows it.  Nor can the future be read, and writing to the view does not compile.  The loop checks every batch on its own
books, and raises :class:`queueing.simulator.PolicyBreach`.  Compiled bodies are not checked for indices beyond an
array, as C's are not: run a new policy with `python=True` first, where such an index raises.

The vocabulary of policy bodies (:mod:`queueing.batch`) can be imported from here, so that one import suffices to write
a policy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from queueing.batch import (
    FIFO,
    NONE,
    SJF,
    SPF,
    STRICT_SPF,
    Batch,
    Order,
    View,
    active,
    admit,
    announced_left,
    blocks_for,
    decodes_and_oldest_prompt,
    fits,
    free_blocks,
    has_slot,
    hold,
    is_decoding,
    is_preempted,
    is_served,
    left,
    next_block,
    next_waiting,
    preempt,
    prompt_if_admitted,
    serve_decodes,
    take_chunk,
    take_decode,
    take_decodes,
    tokens_used,
)
from queueing.compilation import compiled, interpreted, kernel

__all__ = [
    "FIFO",
    "NONE",
    "SJF",
    "SPF",
    "STRICT_SPF",
    "Batch",
    "Facts",
    "HasBody",
    "NoMemory",
    "NodeLoads",
    "Order",
    "Plan",
    "Policy",
    "Router",
    "View",
    "active",
    "admit",
    "announced_left",
    "blocks_for",
    "decodes_and_oldest_prompt",
    "fits",
    "free_blocks",
    "has_slot",
    "hold",
    "is_decoding",
    "is_preempted",
    "is_served",
    "kernel",
    "left",
    "next_block",
    "next_waiting",
    "plan",
    "preempt",
    "prompt_if_admitted",
    "record_of",
    "route",
    "serve_decodes",
    "take_chunk",
    "take_decode",
    "take_decodes",
    "tokens_used",
]

Ints = NDArray[np.int64]


class NoMemory(NamedTuple):
    """Memory of a policy that keeps nothing between batches."""

    nothing: Ints


@dataclass(frozen=True, slots=True)
class Facts:
    """What a policy declares about itself; the contract suite measures each declared fact.

    `non_idling`: never leaves the engine idle while a request that fits is unfinished.
    `fcfs`: admits requests in the order of the waiting queue.
    `stall_free`: while KV blocks are free, every decoding request gets a token in every batch.
    `mixed`: a batch may hold prompt chunks and decodes together.
    `chunked`: a prompt may be split over several batches.
    `source`: where the scheduler is defined.
    """

    non_idling: bool
    fcfs: bool
    stall_free: bool
    mixed: bool
    chunked: bool
    source: str


class Plan:
    """A policy body in its two lives: `compiled` (numba, on first use) and `python` (stepped line by line)."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__
        self._compiled: Any = None

    @property
    def compiled(self) -> Any:
        """The body as a numba function."""
        if self._compiled is None:
            self._compiled = compiled(self.function)
        return self._compiled

    @property
    def python(self) -> Callable[..., Any]:
        """The body as plain Python, helpers included."""
        return interpreted(self.function)


def plan(function: Callable[[Any, Any, View, Batch], None]) -> Plan:
    """Mark `function(p, memory, view, batch)` as the body of the policy class it stands in."""
    return Plan(function)


def route(function: Callable[..., int]) -> Plan:
    """Mark `function(p, i, draws, loads)` as the body of the router class it stands in."""
    return Plan(function)


class HasBody:
    """A frozen dataclass of numbers with exactly one function that runs compiled."""

    __slots__ = ()
    body: ClassVar[Plan]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        plans = [value for name, value in vars(cls).items() if isinstance(value, Plan) and name != "body"]
        if len(plans) > 1:
            raise TypeError(f"{cls.__name__} marks {len(plans)} functions as its body; mark exactly one")
        if plans:
            cls.body = plans[0]

    @property
    def name(self) -> str:
        """The class and every parameter that is not at its default, as it appears in tables and traces."""
        changed = [
            f"{field.name}={value!r}"
            for field in dataclasses.fields(cast("Any", self))
            if (value := getattr(self, field.name)) != field.default
        ]
        return f"{type(self).__name__}({', '.join(changed)})" if changed else type(self).__name__

    def parameters(self) -> np.record:
        """Return the parameters as one numpy record, which compiled code reads by field name."""
        return record_of(self)


class NodeLoads(NamedTuple):
    """What a router may know of each node at an arrival; arrays have one row per node."""

    unfinished: Ints  # requests routed there and not finished
    work: Ints  # outstanding tokens it knows of: prompt tokens left, and announced output tokens left


class Router(HasBody):
    """Base of every router: `route(p, i, draws, loads)` names the node of the i-th request.

    `draws[i]` holds `draws_per_request` uniform numbers, drawn before the run from its seed.
    """

    __slots__ = ()

    @property
    def draws_per_request(self) -> int:
        """Random numbers the router reads per request."""
        return 0


class Policy(HasBody):
    """Base of every scheduler: a frozen dataclass of parameters with one function marked :func:`plan`.

    Inside the body, `p` has the fields of the dataclass: numbers, booleans, tuples of numbers as arrays, or the
    parameters of nested policies.
    """

    __slots__ = ()

    @property
    def facts(self) -> Facts:
        """What the policy, with these parameters, declares about itself."""
        raise NotImplementedError(f"{type(self).__name__} declares no facts; define the property `facts`")

    def init(self, requests: int) -> NamedTuple:
        """Return fresh memory for one node, a NamedTuple of arrays; no request or client id reaches `requests`."""
        del requests
        return NoMemory(np.zeros(1, np.int64))


def record_of(value: Any) -> np.record:
    """Pack the fields of a dataclass of numbers, tuples of numbers, or such dataclasses, into a numpy record."""
    names: list[str] = []
    formats: list[Any] = []
    values: list[Any] = []
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if dataclasses.is_dataclass(item):
            item = record_of(item)
            formats.append(item.dtype)
        elif isinstance(item, tuple) and item:
            array = np.array(item, np.int64 if all(isinstance(x, int) for x in item) else np.float64)
            formats.append((array.dtype, array.shape))
        elif field.type in ("float", float) and isinstance(item, int):
            formats.append(np.float64)  # so that 1 and 1.0 meet the same machine code
        elif isinstance(item, bool | int | float | np.generic):
            formats.append(
                np.bool_ if isinstance(item, bool) else np.int64 if isinstance(item, int) else np.float64
            )
        else:
            raise TypeError(
                f"field {field.name!r} of {type(value).__name__} is {item!r}; policy bodies take numbers"
            )
        names.append(field.name)
        values.append(item)
    if not names:
        names, formats, values = ["_"], [np.int64], [0]
    dtype = np.dtype((np.record, np.dtype({"names": names, "formats": formats}, align=True)))
    packed = np.zeros(1, dtype)
    for name, item in zip(names, values, strict=True):
        packed[name] = item
    return packed.view(np.recarray)[0]
