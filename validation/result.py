"""What an experiment returns: rows that set a published figure beside ours, with an interval and a verdict.

Verdicts.  `reproduced`: the published figure lies in our range, or our range keeps within a published limit, or comes
up to what was published as "up to" (:mod:`validation.verdicts`);
`differs`: it does not; `not testable here`: nothing was published for the quantity, or not the conditions that would
let it be tested, or the seeds do not settle it.  The range is the interval [low, high] of the row, widened by a
sensitivity range where the inputs themselves are uncertain (the experiment says how, and a note gives the range).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from queueing.metrics import seed_interval
from queueing.tabular import replacing
from validation.published import published

__all__ = ["Result", "Row", "Verdict", "over_seeds", "plain", "write_atomically"]

Verdict = Literal["reproduced", "differs", "not testable here"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity: what was published (None if nothing was), what we find, and its 95 % interval.

    `key` names the figure of :mod:`validation.published` that the row answers; several rows may answer one.

    Raises:
        ValueError: there is no such verdict, or it judges a figure that is not finite; the registry has no such
            figure, or another value or unit for it; of a sign the unit is free.
    """

    quantity: str
    unit: str
    published: float | None
    ours: float
    low: float
    high: float
    verdict: Verdict
    key: str | None = None

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(
                f"{self.quantity}: no verdict is {self.verdict!r}; give one of {', '.join(VERDICTS)}"
            )
        if self.verdict != "not testable here" and not math.isfinite(self.ours):
            raise ValueError(
                f"{self.quantity}: {self.ours} is {self.verdict}; a figure that is none is not testable"
            )
        if self.key is None:
            return
        figure = published(self.key)
        if figure.value not in (None, self.published):
            raise ValueError(
                f"{self.quantity}: {self.published} is not the published {figure.value} of {self.key!r}; "
                "take the value from the registry"
            )
        if figure.unit not in ("sign", self.unit):
            raise ValueError(
                f"{self.quantity}: its unit is {self.unit!r}, but {self.key!r} is in {figure.unit!r}; "
                "give the row in the unit of the registry"
            )


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one experiment; `tables` hold everything behind the rows.

    `versions`: of what made it, and where :func:`validation.report.make` did, all that it depends on; `quick`: at the
    smaller size; `drawings`: the names of its figures, SVG files of its folder.
    """

    name: str
    seconds: float
    seeds: Sequence[int]
    versions: Mapping[str, str]
    rows: Sequence[Row]
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict[str, Any])
    notes: Sequence[str] = ()
    quick: bool = False
    drawings: Sequence[str] = ()

    def to_json(self) -> str:
        """Return one JSON object; nan becomes null, and an infinity the text "inf" or "-inf"."""
        return json.dumps(plain(asdict(self)), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Result:
        """The result that `to_json` wrote: as it was, but for nan in a table, which stays null.

        Raises:
            ValueError, TypeError, KeyError: the text is something else.
        """
        found: dict[str, Any] = _unspelled(json.loads(text))
        for row in found["rows"]:
            row |= {name: math.nan for name in ("ours", "low", "high") if row[name] is None}
        found["rows"] = [Row(**row) for row in found["rows"]]
        return cls(**found)


def plain(value: Any) -> Any:
    """The value as JSON has it: nan becomes None, and an infinity its text."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else repr(value)
    return value


def _unspelled(value: Any) -> Any:
    """What `plain` made of the value, with its infinities."""
    if isinstance(value, dict):
        return {key: _unspelled(each) for key, each in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_unspelled(each) for each in cast("list[Any]", value)]
    return float(value) if value in ("inf", "-inf") else value


def over_seeds(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high) of one value per seed with its Student-t interval; a single value has none."""
    if len(values) < 2:
        return (float(np.mean(values)) if values else math.nan), -math.inf, math.inf
    interval = seed_interval(values, level)
    return interval.value, interval.low, interval.high


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole or not at all, whatever interrupts the writing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.flush()
        file.buffer.write(content)
