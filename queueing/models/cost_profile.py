"""What the VTC authors' cost profile of one GPU says: a request's cost h(x, y) in milliseconds, and the law of a batch.

The profile has one entry per size of request: b equal requests of x prompt and y output tokens, as many as fit the
memory, were prefilled together and decoded together; the entry holds b and the two wall times, *both divided by b*.
Write P and D for these times per request.  Two fits by ordinary least squares:

    cost of a request   h(x, y) = a·x + b·y + c·x·y + d·y² + e    to  P + D, over all entries;
    step of a batch     base + δ·b + κ·b·(x + y/2)                to  b·D/y, over entries with y > 1,

where b·(x + y/2) is the mean number of tokens in memory while the batch decodes; and prefill takes P/x a token, the
mean over the entries with y = 1.

Assumptions: requests of a batch are equal and run from start to end together; the step is affine in its mean context.
Where it fails: a fit in ms, not in shares, is loose for short requests (h(8, 1) = 2.96 ms was measured as 2.17 ms);
P/x is 0.24 ms a token for 8 tokens and 0.213 ms from 128 on, because a prefill has a start.

Source: `cost_profile.json` of Ying1123/VTC-artifact (Apache-2.0): A10G, shapes of Llama-2-7B; the digits of h are in
Sheng et al., OSDI 2024; those of the step are our derivation.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from queueing.cost import Cost
from queueing.data import Lacking, data_folder
from queueing.models.closed_form import ClosedForm
from queueing.models.phase_time import PhaseTime
from queueing.tabular import UNREADABLE, open_text

__all__ = [
    "STATED_STEP",
    "CostProfile",
    "cost_digits",
    "fit_phase_time",
    "fit_request_cost",
    "phase_digits",
    "read_cost_profile",
    "step_error",
]

Floats = NDArray[np.float64]
PLACE = "fairness/cost_profile.json"


STATED_STEP = PhaseTime(base=16.30e-3, per_decode=0.245e-3, per_context=2.018e-6, per_prompt_token=0.2199e-3)


@dataclass(frozen=True, slots=True)
class CostProfile:
    """Entries in columns: x `prompt` and y `output` tokens, b `batch` requests, `prefill` and `decode` s per request.

    Raises:
        ValueError: a column has another length, or a value is not finite and > 0.
    """

    prompt: Floats
    output: Floats
    batch: Floats
    prefill: Floats
    decode: Floats

    def __post_init__(self) -> None:
        rows = np.size(self.prompt)
        for name in ("prompt", "output", "batch", "prefill", "decode"):
            column = np.array(getattr(self, name), dtype=np.float64)
            if column.shape != (rows,) or not (np.isfinite(column) & (column > 0)).all():
                raise ValueError(f"the column {name} of a cost profile has {column.size} values; "
                                 f"give {rows} finite numbers > 0")  # fmt: skip
            column.setflags(write=False)
            object.__setattr__(self, name, column)

    @property
    def step(self) -> Floats:
        """Mean seconds of one decode step of the whole batch, b·D/y; for y = 1 there is none to time."""
        return self.batch * self.decode / self.output

    @property
    def context(self) -> Floats:
        """Mean tokens in memory while the batch decodes, b·(x + y/2)."""
        return self.batch * (self.prompt + self.output / 2)


def read_cost_profile(path: str | os.PathLike[str] | None = None) -> CostProfile:
    """Read `{prompt: {output: [batch, prefill_s, decode_s]}}`.

    Args:
        path: the file; None: fairness/cost_profile.json in the folder TANDEM_DATA.

    Raises:
        ValueError: there is no such folder, or the file has another form.
    """
    if path is None:
        folder = data_folder()
        if folder is None:
            raise Lacking(
                f"set TANDEM_DATA to a folder that holds {PLACE}, or give the path of a cost profile"
            )
        path = folder / PLACE
    where = Path(path)
    try:
        with open_text(where) as file:
            record: dict[str, dict[str, Any]] = json.loads(file.read())
        rows = [
            (float(x), float(y), *map(float, entry)) for x, row in record.items() for y, entry in row.items()
        ]
        columns = np.array(rows, dtype=np.float64).reshape(-1, 5).T if rows else np.zeros((5, 0))
        if not rows or any(len(row) != 5 for row in rows):
            raise ValueError
    except (*UNREADABLE, ValueError, TypeError, AttributeError, RecursionError):
        raise ValueError(
            f"{where} is not a cost profile; give JSON of {{prompt: {{output: [batch, prefill_s, decode_s]}}}}"
        ) from None
    return CostProfile(*columns)


def fit_request_cost(profile: CostProfile) -> Cost:
    """Cost of a request by ordinary least squares on P + D (ms) over all entries.

    Raises:
        ValueError: the sizes in the profile do not determine five coefficients, or the fitted cost falls.
    """
    x, y = profile.prompt, profile.output
    terms = np.column_stack([x, y, x * y, y * y, np.ones_like(x)])
    a, b, c, d, e = _least_squares(terms, 1e3 * (profile.prefill + profile.decode))
    return Cost(a, b, product=c, output_square=d, constant=e)


def fit_phase_time(profile: CostProfile) -> PhaseTime:
    """Law of decode steps and prefills (s) as in the module; prefills have no start.

    Raises:
        ValueError: the profile has too few entries, or they give a negative coefficient.
    """
    steps, single = profile.output > 1, profile.output == 1
    if not single.any():
        raise ValueError("no entry has one output token; give some, prefills are fitted to them")
    terms = np.column_stack([np.ones_like(profile.batch), profile.batch, profile.context])
    base, per_decode, per_context = _least_squares(terms[steps], profile.step[steps])
    per_token = float(np.mean(profile.prefill[single] / profile.prompt[single]))
    return PhaseTime(base=base, per_decode=per_decode, per_context=per_context, per_prompt_token=per_token)


def _least_squares(terms: Floats, values: Floats) -> list[float]:
    size = np.sqrt(np.sum(terms**2, axis=0))  # columns of one length, so that the rank is that of the sizes
    found, _, rank, _ = np.linalg.lstsq(terms / np.where(size > 0, size, 1), values, rcond=None)
    if rank < terms.shape[1]:
        raise ValueError(
            f"{len(values)} entries determine {rank} of {terms.shape[1]} coefficients; give more sizes of requests"
        )
    return [float(x) for x in found / size]


def step_error(profile: CostProfile, law: PhaseTime) -> float:
    """Largest relative error of the law on a decode step of the profile, over entries with y > 1."""
    steps = profile.output > 1
    if not steps.any():
        return math.nan
    predicted = law.base + law.per_decode * profile.batch + law.per_context * profile.context
    return float(np.max(np.abs(predicted[steps] / profile.step[steps] - 1)))


def cost_digits(profile: CostProfile) -> ClosedForm[Cost]:
    """The fitted h beside the digits that the authors print."""
    return ClosedForm(computed=fit_request_cost(profile), stated=Cost.profiled())


def phase_digits(profile: CostProfile) -> ClosedForm[PhaseTime]:
    """The fitted law beside 16.30 ms + 0.245 ms a request + 2.018 us a token of context; 0.2199 ms a prompt token."""
    return ClosedForm(computed=fit_phase_time(profile), stated=STATED_STEP)
