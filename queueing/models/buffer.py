"""The law of one buffer: how large its batches are and how long requests wait, exactly, for Markovian arrivals.

A buffer opens with a request, and closes when it holds B or T s after it opened.  Arrivals are a MAP(D0, D1)::

    P_j(t), j = 0, 1, ...   matrices of P(j arrivals in t, phase after | phase before);  P = Σ_n Poisson(n; qt) K_n,j by
                            uniformisation, K_{n+1,j} = K_n,j (I + D0/q) + K_n,j-1 D1/q, q = max_i |D0_ii|
    F_k(t)                  P(the k-th arrival comes by t, phase just after it);  F_0 = I,  F_{k+1} = (F_k - P_k) A,
                            A = (-D0)^{-1} D1 the phase from one arrival to the next, a stochastic matrix
    G_n(t) = 1 - Σ_{l<n} P_l(t) 1     P(at least n arrivals in t | phase before)

Size.  With phase α when the buffer opens:  P(batch = j) = α P_{j-1}(T) 1 for j < B, α F_{B-1}(T) 1 for j = B.

Phase.  The buffer closes in phase α S, S = Σ_{j<B-1} P_j(T) + F_{B-1}(T), and the next request opens the next one:

    α = α S A,   the stationary law of the embedded chain.

Wait, of a random request (each batch weighs as many as it holds), u = max(T - t, 0), t <= T:
    closed by the timer with j < B:   Σ_i α P_i(u) (j-1-i) P_{j-1-i}(t) 1 + [t = T] α P_{j-1}(T) 1   wait <= t
    closed by the last of B:          Σ_k α (F_k(u) G_{B-1-k}(t) + Σ_{i<k} P_i(u) G_{B-1-i}(t)),  k = 0..B-1 the request

both over E[batch].  The recursion of F follows from P_k' = P_k D0 + P_{k-1} D1, integrated.

Source: buffer of BATCH (SC 2020) and Multi-Buffer Serving (PVLDB 15(10), 2022), whose starting phases are the
heuristics here; the exact phase and the law of the wait are our derivation.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import poisson

from queueing.arrivals import Poisson
from queueing.markovian_arrivals import MarkovianArrivals
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim

__all__ = ["CLAIMS", "Buffer", "Phase"]

Floats = NDArray[np.float64]
Phase = Literal["exact", "mbs", "batch"]

MOST = 1 << 26  # cells of the table of steps: half a gigabyte


@dataclass(frozen=True, slots=True)
class Buffer:
    """One buffer in front of a server that takes the whole batch at once; all figures are stationary.

    Args:
        arrivals: a MAP, or Poisson.
        size: B >= 1, requests at which the buffer closes.
        timeout: T >= 0, s after the first request at which it closes; at 0 every request is a batch.
        phase: law of the phase when the buffer opens, "exact" or a heuristic of the authors' code: with l the arrival
        rate of a phase, "mbs" is in proportion to π l/min(B, l T + 1), and "batch" takes the diagonal of D1 only for l
        and the mean count floored.

    Errors: ValueError in one sentence; also if T is so long that the table of steps would not fit in memory.
    Not promised: figures beyond the 1e-12 or so that sums of Poisson weights lose.

    Example: at most two in half a second of two requests a second: alone with probability exp(-1)
        >>> buffer = Buffer(Poisson(2.0), size=2, timeout=0.5)
        >>> buffer.sizes.round(4).tolist(), round(buffer.calls, 4)
        ([0.3679, 0.6321], 1.2254)
    """

    arrivals: MarkovianArrivals | Poisson
    size: int
    timeout: float
    phase: Phase = "exact"

    def __post_init__(self) -> None:
        if not (type(self.size) is int and self.size >= 1 and 0 <= self.timeout < math.inf):
            raise ValueError(
                f"a buffer of {self.size!r} requests and {self.timeout!r} s; give a size >= 1 and a finite timeout >= 0"
            )
        if self.phase not in get_args(Phase):
            raise ValueError(f"there is no phase {self.phase!r}; give one of {', '.join(get_args(Phase))}")
        if (
            self.phase == "batch"
            and not (_stationary(self.arrivals) * np.diag(_matrices(self.arrivals)[1])).any()
        ):
            raise ValueError(
                "phase 'batch' weighs phases by the diagonal of D1, which is 0 here; give phase 'exact' or 'mbs'"
            )

    @property
    def opening(self) -> Floats:
        """α, the law of the phase when the buffer opens."""
        d0, d1 = _matrices(self.arrivals)
        if self.phase == "exact":
            counts, passed = self._until(self.timeout)
            closing = counts[: self.size - 1].sum(axis=0) + passed[self.size - 1]
            chain = closing @ np.linalg.solve(-d0, d1)
            equations = np.vstack([chain.T - np.eye(len(chain)), np.ones(len(chain))])
            alpha = np.linalg.lstsq(equations, np.append(np.zeros(len(chain)), 1.0), rcond=None)[0].clip(0.0)
            return alpha / alpha.sum()
        rates = d1.sum(axis=1) if self.phase == "mbs" else np.diag(d1)
        held = np.minimum(self.size, rates * self.timeout + 1)
        weight = _stationary(self.arrivals) * rates / (held if self.phase == "mbs" else np.floor(held))
        return weight / weight.sum()

    @property
    def sizes(self) -> Floats:
        """P(batch = j), j = 1..B."""
        counts, passed = self._until(self.timeout)
        alpha = self.opening
        timed = (alpha @ counts).sum(axis=-1)[: self.size - 1]
        return np.append(timed, (alpha @ passed[self.size - 1]).sum())

    @property
    def mean(self) -> float:
        """E[batch]."""
        return float(self.sizes @ np.arange(1, self.size + 1))

    @property
    def calls(self) -> float:
        """Batches per second, λ/E[batch]."""
        return self.arrivals.rate / self.mean

    @property
    def seen(self) -> Floats:
        """P(the batch of a random request has j), j = 1..B: j P(batch = j)/E[batch]."""
        return self.sizes * np.arange(1, self.size + 1) / self.mean

    def joint_wait(self, t: ArrayLike) -> Floats:
        """P(a random request waits <= t and its batch has j), [times, B]; t in s, from arrival to closing."""
        times = np.atleast_1d(np.asarray(t, np.float64))
        B = self.size
        within = np.clip(times, 0.0, self.timeout)
        after, _ = _counts(self.arrivals, B, within)
        before, passed = _counts(self.arrivals, B, self.timeout - within)
        alpha = self.opening
        some = after.sum(axis=-1)  # [times, l, phase]: exactly l more
        least = 1 - np.cumsum(some, axis=1) + some  # [times, n, phase]: n more at least, G_n
        early = alpha @ before  # [times, i, phase]: i extra requests by u
        weighed = np.einsum("tis,tls->til", early, some * np.arange(B)[:, None])
        counted = np.zeros((len(times), B))
        for j in range(1, B):
            counted[:, j - 1] = weighed[:, np.arange(j), j - 1 - np.arange(j)].sum(axis=1)
        to_come = least[:, ::-1]  # as many as are missing after i, or after the k-th, to fill the buffer
        own = np.einsum("tks,tks->t", alpha @ passed, to_come)
        later = np.einsum("tis,tis->ti", early, to_come) @ np.arange(B - 1, -1, -1)
        counted[:, B - 1] = own + later
        counted[times >= self.timeout] = self.sizes * np.arange(1, B + 1)
        counted[times < 0] = 0.0
        return counted / self.mean

    def wait_quantile(self, q: float) -> float:
        """Least t (s) by which a share q of the requests has left the buffer, to 1e-9 of the timeout."""
        if not 0 <= q <= 1:
            raise ValueError(f"a quantile of {q}; give a share between 0 and 1")
        low, high = 0.0, self.timeout
        if self.joint_wait(0.0).sum() >= q:
            return 0.0
        while high - low > 1e-9 * self.timeout:
            middle = (low + high) / 2
            low, high = (low, middle) if self.joint_wait(middle).sum() >= q else (middle, high)
        return high

    def _until(self, t: float) -> tuple[Floats, Floats]:
        counts, passed = _counts(self.arrivals, self.size, np.array([t]))
        return counts[0], passed[0]


def _matrices(arrivals: MarkovianArrivals | Poisson) -> tuple[Floats, Floats]:
    if isinstance(arrivals, Poisson):
        return np.array([[-arrivals.rate]]), np.array([[arrivals.rate]])
    return np.array(arrivals.d0), np.array(arrivals.d1)


def _stationary(arrivals: MarkovianArrivals | Poisson) -> Floats:
    return np.ones(1) if isinstance(arrivals, Poisson) else arrivals.stationary


@functools.lru_cache(maxsize=16)
def _steps(arrivals: MarkovianArrivals | Poisson, depth: int, steps: int) -> Floats:
    """K_{n,j}, [steps, depth, phases, phases]."""
    d0, d1 = _matrices(arrivals)
    q = np.abs(np.diag(d0)).max()
    silent, arrival = np.eye(len(d0)) + d0 / q, d1 / q
    table = np.zeros((steps, depth, *d0.shape))
    table[0, 0] = np.eye(len(d0))
    for n in range(1, steps):
        table[n] = table[n - 1] @ silent
        table[n, 1:] += table[n - 1, :-1] @ arrival
    return table


def _counts(arrivals: MarkovianArrivals | Poisson, size: int, times: Floats) -> tuple[Floats, Floats]:
    """P_j and F_j, j = 0..size - 1, at each time; [times, size, phases, phases]."""
    d0, d1 = _matrices(arrivals)
    q = float(np.abs(np.diag(d0)).max())
    most = q * float(times.max(initial=0.0))
    # powers of two, so that a search over sizes and timeouts meets the same few tables
    steps = 1 << math.ceil(math.log2(most + 9 * math.sqrt(most) + 40))
    depth = 1 << math.ceil(math.log2(max(size, 2)))
    if steps * depth * d0.size > MOST:
        raise ValueError(
            f"a buffer of {size} requests that is open for {most:.3g} transitions of its arrivals is too large; "
            "give a shorter timeout, a smaller size or fewer phases"
        )
    weights = poisson.pmf(np.arange(steps), q * times[:, None])
    counts = np.tensordot(weights, _steps(arrivals, depth, steps)[:, :size], axes=1)
    passed = np.empty_like(counts)
    passed[:, 0] = np.eye(len(d0))
    next_phase = np.linalg.solve(-d0, d1)
    for k in range(1, size):
        passed[:, k] = np.maximum((passed[:, k - 1] - counts[:, k - 1]) @ next_phase, 0.0)
    return counts, passed


CLAIMS = (
    Claim(
        "buffer-law",
        "The batch of a size-or-timeout buffer has the law given by the stationary phase of its openings, and the wait "
        "of a random request the law given by conditioning on it.",
        "our derivation; the buffer is that of BATCH, SC 2020, and Multi-Buffer Serving, PVLDB 15(10), 2022",
        Kind.TESTED,
        ("Markovian arrivals, stationary",),
        where="tests/queueing/models/test_buffer.py::test_the_law_is_that_of_simulated_buffers",
    ),
)
