"""What the options of the command line name: workloads, length laws, systems, policies and routers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import policies
from queueing import traces
from queueing.arrivals import Poisson
from queueing.lengths import ArXiv, Fixed, Independent, Lengths, ShareGPT
from queueing.policy import Policy, Router
from queueing.system import System
from queueing.workload import SloClass, Workload

__all__ = [
    "FORMATS",
    "LENGTHS",
    "lengths_of",
    "policy_of",
    "read_workload",
    "router_of",
    "slo_class",
    "system_of",
]

FORMATS: dict[str, Callable[[Path], traces.Reading | Workload]] = {
    "tandem": Workload.read_csv,
    "azure": traces.read_azure,
    "vidur": traces.read_vidur,
    "mooncake": traces.read_mooncake,
    "burstgpt": traces.read_burstgpt,
}
MOST_REQUESTS = 100_000_000
LENGTHS: dict[str, Callable[[], Lengths]] = {"sharegpt": ShareGPT, "arxiv": ArXiv}


def read_workload(
    trace: Path | None,
    form: str,
    lengths: str,
    rate: float | None,
    requests: int | None,
    classes: Sequence[str],
    seed: int,
    warn: Callable[[str], None],
) -> Workload:
    """The requests that the options describe; `warn` is told which rows of a file were left out."""
    if requests is not None and requests > MOST_REQUESTS:
        raise ValueError(f"--requests {requests} is more than memory holds; give at most {MOST_REQUESTS}")
    rng = np.random.default_rng(seed)
    mix = [slo_class(text) for text in classes]
    if trace is None:
        return Workload.generate(
            Poisson(1.0 if rate is None else rate),
            lengths_of(lengths),
            2000 if requests is None else requests,
            rng,
            classes=mix,
        )
    if form not in FORMATS:
        raise ValueError(f"there is no trace format {form!r}; known: {', '.join(FORMATS)}")
    reading = FORMATS[form](trace)
    if isinstance(reading, Workload):
        workload = reading
    else:
        workload = reading.workload
        for reason, rows in reading.left_out.items():
            warn(f"{trace}: {rows} of {reading.rows} rows left out: {reason}")
    if requests is not None:
        workload = workload.head(requests)
    if rate is not None:
        own = workload.summary().rate
        if own is None:
            raise ValueError(
                f"{trace}: all requests arrive at once, so they cannot be replayed at {rate} requests/s"
            )
        workload = workload.scaled(rate / own)
    if mix:
        drawn = Workload.generate(Poisson(1.0), lengths_of("1,1"), len(workload), rng, classes=mix)
        workload = dataclasses.replace(workload, tbt=drawn.tbt, ttft=drawn.ttft)
    return workload


def lengths_of(text: str) -> Lengths:
    """A law of lengths by name, or fixed lengths "PROMPT,OUTPUT"."""
    if text in LENGTHS:
        return LENGTHS[text]()
    prompt, comma, output = text.partition(",")
    if comma and prompt.strip().isdigit() and output.strip().isdigit():
        return Independent(Fixed(int(prompt)), Fixed(int(output)))
    raise ValueError(
        f"lengths {text!r} are not known: use {', '.join(LENGTHS)}, or PROMPT,OUTPUT such as 512,128"
    )


def slo_class(text: str) -> SloClass:
    """A class of users from "SHARE:TBT_S" or "SHARE:TBT_S:TTFT_S"."""
    parts = text.split(":")
    try:
        if len(parts) not in (2, 3):
            raise ValueError(f"{len(parts)} parts")
        return SloClass(*(float(part) for part in parts))
    except ValueError as error:
        raise ValueError(f"class {text!r} is not SHARE:TBT_S or SHARE:TBT_S:TTFT_S ({error})") from None


def system_of(text: str) -> System:
    """A system by "MODEL/HARDWARE", or read from a file."""
    if Path(text).suffix in (".json", ".toml"):
        return System.from_file(Path(text))
    model, _, hardware = text.partition("/")
    return System.named(model, hardware)


def policy_of(text: str) -> Policy:
    """A policy from "NAME" or "NAME:key=value,key=value"."""
    name, _, settings = text.partition(":")
    return policies.named(name, *(part for part in settings.split(",") if part))


def router_of(text: str) -> Router:
    """A router from "NAME" or "NAME:key=value,key=value"."""
    name, _, settings = text.partition(":")
    return policies.router_named(name, *(part for part in settings.split(",") if part))
