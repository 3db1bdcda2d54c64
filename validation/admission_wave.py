"""The dearest admission: the largest charge that one admission can commit, as an integer program.

z_xy says whether the admitted request has x input and y output tokens, n_xy how many such requests run beside it with
all their output to come.  With h the cost, M the memory and L the longest prompt,

    max  Σ h(x, y)·z_xy + Σ (h(x, y) - h(x, 0))·n_xy
    s.t. Σ z_xy = 1,   Σ (x + y)·(z_xy + n_xy) <= M,   z binary, n whole, 1 <= x <= L, y >= 1.

Its value U_h is U of :mod:`queueing.models.vtc`; for a linear h that module takes U* = wq·M + max(0, wp - wq)·L, larger
by wq - wp if wp < wq, because a prompt has at least one token.

One request suffices (our derivation; tested).  Be (p, q) admitted beside (x, y), and h convex in y with increments
that rise with x, as every :class:`~queueing.cost.Cost` is.  If x <= p, then h(p, q + y) - h(p, q) >= h(x, y) - h(x, 0);
if x > p, then h(x, q + y) - h(x, q) >= h(x, y) - h(x, 0) and h(x, q) >= h(p, q).  Either way one request of the longer
prompt commits no less, in less memory, so that

    U_h = max over 1 <= x <= L of  h(x, M - x).

By I3 the counter gap of two waiting clients is at most U_h, and a request of that shape meets it
(:func:`validation.tight_patterns.one_admission`): the program is exact for L1.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from queueing.models.vtc import Setting

__all__ = ["Wave", "dearest_request", "dearest_wave"]


class Wave(NamedTuple):
    """A solution: the admitted request (input, output), those beside it, and the charge, computed exactly from them."""

    admitted: tuple[int, int]
    beside: tuple[tuple[int, int], ...]
    charge: int | Fraction


def shapes(setting: Setting) -> list[tuple[int, int]]:
    """All (input, output) that fit."""
    return [(x, y) for x in range(1, setting.most_input + 1) for y in range(1, setting.memory - x + 1)]


def dearest_wave(setting: Setting) -> Wave:
    """Solve the integer program with HiGHS; O(M·L) variables, so for small memories.

    Raises:
        RuntimeError: HiGHS found no optimum.
    """
    all_shapes = shapes(setting)
    size = np.array([x + y for x, y in all_shapes], float)
    price = np.array([float(setting.h(x, y)) for x, y in all_shapes])
    later = np.array([float(setting.h(x, y) - setting.h(x, 0)) for x, y in all_shapes])
    n = len(all_shapes)
    most = np.r_[np.ones(n), setting.memory // size]
    found = milp(
        -np.r_[price, later],
        integrality=np.ones(2 * n),
        bounds=Bounds(0.0, most),
        constraints=[
            LinearConstraint(np.r_[np.ones(n), np.zeros(n)], 1, 1),
            LinearConstraint(np.r_[size, size], -np.inf, setting.memory),
        ],
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None or found.status != 0:
        raise RuntimeError(f"HiGHS found no optimum for {setting}: {found.message}")
    count = np.rint(found.x).astype(int)
    admitted = all_shapes[int(np.argmax(count[:n]))]
    beside = tuple(s for s, times in zip(all_shapes, count[n:].tolist(), strict=True) for _ in range(times))
    h = setting.h
    return Wave(admitted, beside, h(*admitted) + sum(h(x, y) - h(x, 0) for x, y in beside))


def dearest_request(setting: Setting) -> tuple[int, int]:
    """The (input, output) that fills the memory at the largest cost, the shorter prompt among equals."""
    x = max(range(1, setting.most_input + 1), key=lambda x: (setting.h(x, setting.memory - x), -x))
    return x, setting.memory - x
