"""Checks of policy parameters at construction: one clear sentence with the offending value."""

from __future__ import annotations

import math
from enum import IntEnum
from itertools import pairwise
from typing import Any

__all__ = [
    "require_choice",
    "require_counts",
    "require_positive",
    "require_rising",
    "require_thresholds",
    "require_weights",
]

MOST = 2**31  # counts fit into the arrays of compiled code with room to add


def require_counts(policy: Any, *names: str) -> None:
    """Raise ValueError unless each named field of `policy` is an integer of at least one."""
    for name in names:
        value = getattr(policy, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(
                f"{name} of {type(policy).__name__} must be an integer of at least 1, not {value!r}"
            )
        if value >= MOST:
            raise ValueError(f"{name} of {type(policy).__name__} must be below 2^31, not {value}")


def require_positive(policy: Any, *names: str) -> None:
    """Raise ValueError unless each named field of `policy` is a positive, finite number."""
    for name in names:
        value = getattr(policy, name)
        if not 0 < value < math.inf:
            raise ValueError(f"{name} of {type(policy).__name__} must be positive and finite, not {value!r}")


def require_choice(policy: Any, name: str, choices: type[IntEnum]) -> None:
    """Raise ValueError unless the named field of `policy` is a member of the enumeration `choices`."""
    value = getattr(policy, name)
    if not isinstance(value, choices):
        known = ", ".join(member.name for member in choices)
        raise ValueError(f"{name} of {type(policy).__name__} must be one of {known}, not {value!r}")


def require_thresholds(policy: Any, name: str) -> None:
    """Raise ValueError unless the named field of `policy` is a tuple, not empty, of integers of at least one."""
    values = getattr(policy, name)
    if not (isinstance(values, tuple) and values and all(type(x) is int and x >= 1 for x in values)):
        raise ValueError(f"{name} of {type(policy).__name__} must be integers of at least 1, not {values!r}")
    if max(values) >= MOST:
        raise ValueError(f"{name} of {type(policy).__name__} must be below 2^31, not {values!r}")


def require_rising(policy: Any, name: str, number: int) -> None:
    """Raise ValueError unless the named field of `policy` is a tuple of `number` integers of at least one that rise."""
    require_thresholds(policy, name)
    values = getattr(policy, name)
    if len(values) != number or any(a >= b for a, b in pairwise(values)):
        raise ValueError(
            f"{name} of {type(policy).__name__} must be {number} rising integers, not {values!r}"
        )


def require_weights(policy: Any, name: str) -> None:
    """Raise ValueError unless the named field of `policy` is a tuple, not empty, of positive, finite numbers."""
    values = getattr(policy, name)
    if not (isinstance(values, tuple) and values and all(0 < x < math.inf for x in values)):
        raise ValueError(f"{name} of {type(policy).__name__} must be positive and finite, not {values!r}")
