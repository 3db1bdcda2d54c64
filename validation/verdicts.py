"""Verdicts: what the range [low, high] of a figure says of a claim, one function for each kind of claim.

The range is an interval of confidence, or what the experiment says it is; that of one seed is the whole line.  What it
leaves open is `not testable here`, and so is everything about a range of which nothing is known, or an end is nan.  A
figure that is infinite reproduces nothing: it is of a run that failed, or of a division by nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from validation.result import Verdict

__all__ = [
    "judge",
    "judge_at_least",
    "judge_between",
    "judge_growth",
    "judge_limit",
    "judge_more",
    "judge_share",
]

OPEN: Verdict = "not testable here"


def judge(published: float | None, low: float, high: float) -> Verdict:
    """The figure is `published`: reproduced if that lies in the range, else it differs."""
    return OPEN if published is None else judge_between(published, published, low, high)


def judge_between(least: float, most: float, low: float, high: float) -> Verdict:
    """The figure lies in [least, most]: reproduced if the range meets it, else it differs."""
    if not _finite(least, most, low, high):
        return OPEN
    return "reproduced" if low <= most and high >= least else "differs"


def judge_limit(limit: float, low: float, high: float) -> Verdict:
    """The figure is `limit` at most: reproduced if the whole range is, differs if none of it is."""
    if any(map(math.isnan, (limit, low, high))) or high == -math.inf:
        return OPEN
    return "reproduced" if high <= limit else "differs" if low > limit else OPEN


def judge_at_least(least: float, low: float, high: float) -> Verdict:
    """The figure is `least` at least, or "up to `least`" and so reached by the best case: as :func:`judge_limit`."""
    return judge_limit(-least, -high, -low)


def judge_more(low: float, high: float, than: float = 0.0) -> Verdict:
    """The figure is more than `than`; the claim of a sign, or that one is ahead.  A tie is not ahead, and differs."""
    if any(map(math.isnan, (than, low, high))) or low == math.inf:
        return OPEN
    return "reproduced" if low > than else "differs" if high <= than else OPEN


def judge_share(published: float, ours: float, limit: float) -> Verdict:
    """Our figure is within the share `limit` of the published one."""
    if not _finite(published, ours) or published == 0:
        return OPEN
    return "reproduced" if abs(ours / published - 1) <= limit else "differs"


def judge_growth(record: Mapping[str, object], grows: bool) -> Verdict:
    """The backlog grows, or does not.

    Args:
        record: of a run; `grows` that growth was shown, `stable` that it was shown to be below what counts as none.
        grows: the claim.
    """
    shown, small = bool(record["grows"]), bool(record["stable"])
    if shown == small:  # nothing was shown, or growth that is there but small
        return OPEN
    return "reproduced" if shown == grows else "differs"


def _finite(*figures: float) -> bool:
    return all(math.isfinite(figure) for figure in figures)
