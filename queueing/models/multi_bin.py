"""Multi-bin batching: requests of like length in one batch, so that the short ones wait less for the longest.

A batch of B requests is done when its longest is.  With lengths uniform on [l, u] (s) and k bins of equal width
w = (u - l)/k, each with batches of its own, the longest of B from a to a + w takes  a + w·B/(B + 1)  in the mean, and

    throughput = B / ( (l + u)/2 + ((B - 1)/(B + 1))·(u - l)/(2k) )        requests per second,

which rises in k to B/E[length].  The share 1 - ε of that is reached from  k >= (1 - ε)(B - 1)(u - l)/(ε(B + 1)(l + u)).

In general, with a share p_i of the requests in bin i, a request takes  Σ p_i·E[longest of B in bin i]/B  seconds of the
server.  For uniform lengths equal bins are best: that sum is  const + Σ w_i²·(B/(B + 1) - 1/2)/(B·(u - l)).  For others
they need not be, nor bins of equal probability; :func:`best_cuts` finds the best for any law on finitely many lengths.

What bins cost is waiting for a batch to fill: k·(B - 1)/(2λ) seconds in the mean with bins of equal probability.

Assumptions: lengths are known, or predicted without error, on arrival; every batch is full (saturation); the time of a
batch is that of its longest.
Source: arXiv 2412.04504 for the throughput (published; recalled).  The least k, the general sum, the optimal cuts and
the wait are our derivation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import sympy

from queueing.models.closed_form import ClosedForm
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity

__all__ = [
    "CLAIMS",
    "Cuts",
    "best_cuts",
    "derivation",
    "filling_wait",
    "least_bins",
    "mean_longest",
    "service",
    "throughput",
]

Law = Mapping[int, Fraction | int]  # weight of each length
ZERO = Fraction(0)


class Cuts(NamedTuple):
    """Bins by their `ends`, the largest length of each; and the server's time per request with them (`seconds`)."""

    ends: tuple[int, ...]
    seconds: Fraction


def throughput(shortest: float, longest: float, bins: int, batch: int) -> ClosedForm[float]:
    """Requests per second with k equal bins of uniform lengths.

    Computed: the mean longest of a batch in each bin by Gaussian quadrature, exact for its polynomial.

    Args: shortest, longest, 0 <= l < u (s); bins, k; batch, B.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> round(throughput(1.0, 3.0, bins=1, batch=4).stated, 6)
        1.538462
    """
    _checked(shortest, longest, bins, batch)
    nodes, weights = np.polynomial.legendre.leggauss(batch // 2 + 1)
    x = (nodes + 1) / 2  # place in the bin
    width = (longest - shortest) / bins
    starts = shortest + width * np.arange(bins)
    times = [(weights / 2 * batch * x ** (batch - 1)) @ (a + width * x) for a in starts]
    stated = (shortest + longest) / 2 + (batch - 1) / (batch + 1) * (longest - shortest) / (2 * bins)
    return ClosedForm(batch / float(np.mean(times)), batch / stated)


def least_bins(shortest: float, longest: float, batch: int, missing: float) -> ClosedForm[int]:
    """Fewest equal bins with a throughput of at least 1 - ε of B/E[length], for uniform lengths.

    Computed: by trying one after the other.

    Args: as for :func:`throughput`; missing, ε in (0, 1).

    Raises:
        ValueError: an argument is out of range.
    """
    _checked(shortest, longest, 1, batch)
    if not 0 < missing < 1:
        raise ValueError(f"give the share ε that may be missing, between 0 and 1, not {missing}")
    most = batch / ((shortest + longest) / 2)
    bins = 1
    while throughput(shortest, longest, bins, batch).computed < (1 - missing) * most * (1 - 1e-12):
        bins += 1
    stated = (
        (1 - missing) * (batch - 1) * (longest - shortest) / (missing * (batch + 1) * (shortest + longest))
    )
    return ClosedForm(bins, max(1, math.ceil(stated - 1e-9)))


def mean_longest(law: Law, batch: int) -> Fraction:
    """E[longest of B independent lengths] = Σ_t P(longest > t), exactly.

    Raises:
        ValueError: no weight is positive, one is negative, a length or the batch is below 1.
    """
    weights = _law(law)
    if batch < 1:
        raise ValueError(f"a batch has at least one request, not {batch}")
    total = sum(weights.values(), ZERO)
    below, mean, before = ZERO, ZERO, 0
    for length, w in sorted(weights.items()):
        mean += (length - before) * (1 - (below / total) ** batch)
        below, before = below + w, length
    return mean


def service(law: Law, ends: Sequence[int], batch: int) -> Fraction:
    """The server's seconds per request with bins that end at `ends`:  Σ p_i·E[longest of B in bin i]/B.

    Raises:
        ValueError: the ends do not rise to the largest length, or as for :func:`mean_longest`.
    """
    weights = _law(law)
    if not ends or any(a >= b for a, b in pairwise(ends)) or ends[-1] < max(weights):
        raise ValueError(
            f"the ends of bins must rise to the largest length {max(weights)}, not {tuple(ends)}"
        )
    total, taken = sum(weights.values(), ZERO), ZERO
    for low, high in pairwise((min(weights) - 1, *ends)):
        inside = {x: w for x, w in weights.items() if low < x <= high}
        if inside:
            taken += sum(inside.values(), ZERO) / total * mean_longest(inside, batch)
    return taken / batch


def best_cuts(law: Law, bins: int, batch: int) -> Cuts:
    """The bins that take the server least time per request, by dynamic programming over their ends, exactly.

    Raises:
        ValueError: fewer than one bin, or as for :func:`mean_longest`.

    Example:
        >>> best_cuts({1: 8, 9: 1, 10: 1}, bins=2, batch=4).ends
        (1, 10)
    """
    weights = _law(law)
    if bins < 1:
        raise ValueError(f"give at least one bin, not {bins}")
    lengths = sorted(weights)
    total = sum(weights.values(), ZERO)

    @cache
    def one(i: int, j: int) -> Fraction:
        """Seconds of a batch of the lengths i to j - 1, times their share."""
        inside = {x: weights[x] for x in lengths[i:j]}
        return sum(inside.values(), ZERO) / total * mean_longest(inside, batch)

    @cache
    def least(j: int, k: int) -> tuple[Fraction, tuple[int, ...]]:
        """The first j lengths in k bins at most."""
        if j == 0:
            return ZERO, ()
        if k == 1:
            return one(0, j), (lengths[j - 1],)
        tried = ((*least(i, k - 1), i) for i in range(j))
        seconds, ends = min(
            ((s + one(i, j), (*e, lengths[j - 1])) for s, e, i in tried), key=lambda found: found[0]
        )
        return seconds, ends

    seconds, ends = least(len(lengths), bins)
    return Cuts(ends, seconds / batch)


def filling_wait(rate: float, bins: int, batch: int) -> ClosedForm[float]:
    """Mean time a request waits for its batch to fill (s), with bins of equal probability:  k·(B - 1)/(2λ).

    Computed: the j-th of a batch waits for B - j more arrivals in its bin.

    Raises:
        ValueError: the rate is not positive, or bins or batch are below 1.
    """
    if not rate > 0 or min(bins, batch) < 1:
        raise ValueError(f"give a rate above 0, a bin and a request at least, not {rate}, {bins} and {batch}")
    waits = [(batch - j) * bins / rate for j in range(1, batch + 1)]
    return ClosedForm(sum(waits) / batch, bins * (batch - 1) / (2 * rate))


def derivation() -> tuple[Identity, ...]:
    """The longest of a bin, the mean over bins, the least k, and why equal bins are best, in symbols."""
    l, u, k, B, w, a, x, eps = sympy.symbols("l u k B w a x epsilon", positive=True)  # noqa: E741
    i = sympy.Symbol("i", integer=True, positive=True)
    longest = a + w * sympy.integrate(B * x**B, (x, 0, 1))
    width = (u - l) / k
    time = sympy.summation((l + (i - 1) * width + width * B / (B + 1)) / k, (i, 1, k))
    stated = (l + u) / 2 + (B - 1) / (B + 1) * (u - l) / (2 * k)
    least = (1 - eps) * (B - 1) * (u - l) / (eps * (B + 1) * (l + u))
    w1, w2, w3 = sympy.symbols("w1:4", positive=True)
    parts = (
        w1 * (l + w1 * B / (B + 1)) + w2 * (l + w1 + w2 * B / (B + 1)) + w3 * (l + w1 + w2 + w3 * B / (B + 1))
    )
    whole = w1 + w2 + w3
    squares = w1**2 + w2**2 + w3**2
    return (
        Identity("longest of a bin", longest, a + w * B / (B + 1)),
        Identity("mean over bins", time, stated),
        Identity("the share 1 - ε is reached at this k", (l + u) / 2 / stated.subs(k, least), 1 - eps),
        Identity(
            "three bins of any widths: the sum of squares decides",
            parts,
            l * whole + whole**2 / 2 + squares * (B / (B + 1) - sympy.Rational(1, 2)),
        ),
    )


def _law(law: Law) -> dict[int, Fraction]:
    weights = {x: Fraction(w) for x, w in law.items() if w}
    if not weights or min(weights.values()) < 0 or min(weights) < 1:
        raise ValueError(f"give positive weights of lengths >= 1, not {dict(law)}")
    return weights


def _checked(shortest: float, longest: float, bins: int, batch: int) -> None:
    if not 0 <= shortest < longest < math.inf or min(bins, batch) < 1:
        raise ValueError(
            f"give lengths 0 <= l < u, a bin and a request at least; not {shortest}, {longest}, {bins}, {batch}"
        )


def _whole_bins() -> tuple[Identity, ...]:
    """What a request loses to its bin taken for the bin's width, not for half of it."""
    l, u, k, B = sympy.symbols("l u k B", positive=True)  # noqa: E741
    i = sympy.Symbol("i", integer=True, positive=True)
    width = (u - l) / k
    time = sympy.summation((l + (i - 1) * width + width * B / (B + 1)) / k, (i, 1, k))
    return (Identity("mean over bins", time, (l + u) / 2 + (B - 1) / (B + 1) * (u - l) / k),)


CLAIMS = (
    Claim(
        name="multi-bin-throughput",
        statement="k bins of equal width serve B/((l + u)/2 + ((B - 1)/(B + 1))·(u - l)/(2k)) requests per second, a "
        "share 1 - ε of the limit from k = (1 - ε)(B - 1)(u - l)/(ε(B + 1)(l + u)) on; of three bins, equal widths are "
        "best.",
        assumptions=(
            "lengths uniform on [l, u], known on arrival",
            "every batch is full and lasts as its longest",
        ),
        source="arXiv 2412.04504 for the throughput (published; recalled); least k and widths are our derivation",
        kind=Kind.IDENTITY,
        evidence=derivation,
        controls={"the width of a bin, not half of it": _whole_bins},
        where="docs/models/multi_bin.md",
    ),
)
