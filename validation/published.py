"""Every published figure that the project knows of: what was claimed, by whom, and which experiment tests it.

The registry is `published.csv`, one line per figure.  `value` is empty where only a sign, an order or a shape was
published; `certainty` says how the figure is known (`stated` in the paper, `authors' code`, `authors' data`,
`secondary source`, `our calculation` from the authors' files); a figure has either the experiment that tests it, or the
reason why none does.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

__all__ = ["Certainty", "Figure", "figures", "keys_of", "published"]

Certainty = Literal["stated", "authors' code", "authors' data", "secondary source", "our calculation"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One published figure, in `unit`; None where only a sign, an order or a shape was published."""

    key: str
    claim: str
    value: float | None
    unit: str
    source: str
    certainty: Certainty
    experiment: str | None
    reason: str | None

    def __post_init__(self) -> None:
        if self.certainty not in get_args(Certainty):
            raise ValueError(f"{self.key}: certainty is one of {get_args(Certainty)}, not {self.certainty!r}")
        if (self.experiment is None) == (self.reason is None):
            raise ValueError(
                f"{self.key}: name the experiment that tests it or the reason why none does, one of them"
            )


@cache
def figures() -> Mapping[str, Figure]:
    """All figures by key, in the order of the registry."""
    found: dict[str, Figure] = {}
    lines = (files("validation") / "published.csv").read_text(encoding="utf-8").splitlines()
    for line in csv.DictReader(lines):
        text: dict[str, Any] = {name: value or None for name, value in line.items()}
        text |= {"value": float(line["value"]) if line["value"] else None, "unit": line["unit"]}
        if line["key"] in found:
            raise ValueError(f"published.csv has {line['key']!r} twice; give each figure a key of its own")
        found[line["key"]] = Figure(**text)
    return found


def published(key: str) -> Figure:
    """The figure of this key.

    Raises:
        ValueError: there is none.
    """
    try:
        return figures()[key]
    except KeyError:
        raise ValueError(f"there is no published figure {key!r}; enter it into published.csv") from None


def keys_of(experiment: str) -> set[str]:
    """Keys of the figures that an experiment says it tests."""
    return {key for key, figure in figures().items() if figure.experiment == experiment}
