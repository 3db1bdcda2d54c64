"""Rows of the experiment `slackfit`: the figures of the paper by key, and SlackFit beside subnets that stay fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from queueing.one_shot import OneShotTrace, metrics
from validation.published import published
from validation.result import Row, Verdict, over_seeds
from validation.verdicts import judge_at_least, judge_more

__all__ = [
    "Beside",
    "PerSeed",
    "Triple",
    "against_fixed",
    "attained_and_accurate",
    "over",
    "row_of",
    "stated",
]

Triple = tuple[float, float, float]  # a mean and its interval
PerSeed = dict[str, list[float]]  # by policy


def stated(key: str) -> float:
    """What the paper says."""
    value = published(f"slackfit: {key}").value
    assert value is not None
    return value


def row_of(quantity: str, key: str | None, triple: Triple, at_least: float | None = None) -> Row:
    """A row; judged where there is a lower limit, to be exceeded where a sign is all that was published."""
    figure = None if key is None else published(f"slackfit: {key}")
    verdict: Verdict = "not testable here"
    if at_least is not None:
        sign = figure is not None and figure.value is None
        verdict = judge_more(*triple[1:], than=at_least) if sign else judge_at_least(at_least, *triple[1:])
    value, unit = (None, "1") if figure is None else (figure.value, figure.unit)
    if figure is not None and value is None:
        value, unit = at_least, "1"
    return Row(quantity, unit, value, *triple, verdict, figure and figure.key)


def over(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Paired difference over seeds."""
    return over_seeds([x - y for x, y in zip(a, b, strict=True)])


class Beside(NamedTuple):
    """SlackFit less the most accurate fixed subnet that attains as much, and over the cheapest more accurate one."""

    rival: str
    gain: Triple
    finer: str
    ratio: Triple


def attained_and_accurate(runs: Mapping[str, Sequence[OneShotTrace]]) -> tuple[PerSeed, PerSeed]:
    """Attainment and mean accuracy of every run."""
    met = {name: [metrics.attainment(run) for run in some] for name, some in runs.items()}
    return met, {name: [metrics.mean_value(run) for run in some] for name, some in runs.items()}


def against_fixed(met: PerSeed, worth: PerSeed) -> Beside:
    """SlackFit beside the fixed subnets, on the same arrivals."""
    fixed = [name for name in met if name.startswith("Clipper+")]
    ours = float(np.mean(met["SlackFit"]))
    as_good = [name for name in fixed if np.mean(met[name]) >= min(ours, 0.999)] or fixed[:1]
    rival = as_good[-1]
    finer = next(name for name in fixed if np.mean(worth[name]) >= np.mean(worth["SlackFit"]))
    ratio = over_seeds([a / b for a, b in zip(met["SlackFit"], met[finer], strict=True)])
    return Beside(rival, over(worth["SlackFit"], worth[rival]), finer, ratio)
