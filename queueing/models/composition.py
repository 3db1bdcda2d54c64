"""The batch-composition program: which batches, how often, carry the most load.

A batch holds q prompt tokens and n_k decodes of class k, N = q + Σ n_k in all.  It lasts t(N), a staircase, and the
attention of what it serves.  A request owes its attention in whatever batches it is served: φA_k + ψP_k for the prompt
and κK_k for the decodes.  So with x_b batches of kind b per second on all nodes together,

    max θ   s.t.   prompt:    Σ_b x_b q_b   >= θ Σ_k λ_k P_k
                   decode k:  Σ_b x_b n_bk  >= θ λ_k D_k
                   time:      Σ_b x_b t(N_b) + θ Σ_k λ_k (κK_k + φA_k + ψP_k) <= g
                   tbt:       Σ_b x_b       >= g·r_min

over all batches with  N <= B,  Σ n <= n_max,  Σ L_k n_k <= M  (L_k the mean context of a decode of class k).  Whose
prompt a prompt token belongs to makes no difference, so classes of prompts need no rows of their own.

No scheduler carries more than θ times the load in the mean, whatever it knows: the batches it runs are such a
combination.  What is left out (that Σ L n <= M is meant in the mean, that requests hold memory while they are not
served, that blocks are rounded up) makes θ larger, never smaller.

There are far too many batches to list, so they are generated.  If a prompt token is worth u, a decode v_k, a second w
and a batch s, the best batch of N tokens is full of prompt tokens, but for decodes that are worth more: a knapsack with
two rows, Σ n <= min(N, n_max) and Σ L n <= M, whose value is read off the upper hull of the points (L_k, v_k - u).
Pricing is therefore exact and costs O(B + K log K), and prices that no batch beats prove the optimum over all of them
(:class:`queueing.proofs.composition.BestComposition`).

Source: ours, by the usual averaging argument; for a tile law without attention it gives the capacity of Bari, Hegde and
de Veciana, arXiv 2508.01002, theorem 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray

from queueing.highs import SilentHighs
from queueing.models.demand import Demand, Limits, Stairs
from queueing.proofs.composition import BatchKind, Load, Setting
from queueing.proofs.rational import exact

__all__ = ["Composition", "Solution", "load_of", "setting_of", "upper_hull"]

Floats = NDArray[np.float64]
TOLERANCE = 1e-8  # relative, of floating-point prices; fractions decide afterwards


def setting_of(stairs: Stairs, classes: Sequence[Demand], limits: Limits, *, pure: bool = False) -> Setting:
    """What batches may be; floats are read as the decimals they print as."""
    return Setting(
        names=tuple(c.name for c in classes),
        seconds=tuple(map(exact, stairs.seconds[: limits.budget])),
        context=tuple(exact(c.context) / exact(c.decodes) if c.decodes else None for c in classes),
        kv_tokens=None if math.isinf(limits.kv_tokens) else exact(limits.kv_tokens),
        max_running=limits.max_running,
        min_batches=exact(limits.min_iterations) * limits.nodes,
        nodes=limits.nodes,
        pure=pure,
    )


def load_of(stairs: Stairs, classes: Sequence[Demand], rates: Sequence[float] | None = None) -> Load:
    """What the classes ask for per second at `rates` (requests/s; their own by default)."""
    kappa, phi, psi = map(exact, (stairs.per_context, stairs.per_pair, stairs.per_prompt_token))
    lam = [exact(r) for r in (rates if rates is not None else [c.rate for c in classes])]
    pairs = list(zip(lam, classes, strict=True))
    return Load(
        prompt=sum((r * exact(c.prefill) for r, c in pairs), Fraction(0)),
        decodes=tuple(r * exact(c.decodes) for r, c in pairs),
        attention=sum(
            (
                r * (kappa * exact(c.context) + phi * exact(c.pairs) + psi * exact(c.prefill))
                for r, c in pairs
            ),
            Fraction(0),
        ),
    )


@dataclass(frozen=True, slots=True)
class Solution:
    """Optimum in floats: `theta`; `batches` that run, with batches/s; what a prompt token, a decode by class, a second
    of a node and a batch are worth in θ; rounds of generation and columns generated.
    """

    theta: float
    batches: tuple[tuple[BatchKind, float], ...]
    token: float
    decode: tuple[float, ...]
    second: float
    batch: float
    rounds: int
    columns: int

    def worth(self, need: Floats) -> Floats:
        """What a request/s of each class is worth at these prices; `need` [K, 3]: decodes, prompt tokens, attention."""
        return np.array(self.decode) * need[:, 0] + self.token * need[:, 1] + self.second * need[:, 2]


class Composition:
    """The composition program of one machine and one set of classes, kept warm for many loads.

    Args:
        stairs: iteration time (see :class:`queueing.models.demand.Stairs`).
        classes: demands; their rates are the load, or the direction in which θ is measured.
        limits: of batches, memory and nodes.
        pure: allow only batches of prompt tokens or of decodes, as RAD and vLLM form them.

    `need` [K, 3]: decodes, prompt tokens and attention (s of node time) that a request of each class asks for.

    Raises:
        ValueError: no class, no rate, or more iterations/s are wanted than the shortest batch allows.
    """

    def __init__(
        self, stairs: Stairs, classes: Sequence[Demand], limits: Limits, *, pure: bool = False
    ) -> None:
        if not classes:
            raise ValueError("a composition program needs at least one class")
        if len({c.name for c in classes}) < len(classes):
            raise ValueError("classes need names of their own")
        if limits.min_iterations * stairs.seconds[0] > 1:
            raise ValueError(
                f"{limits.min_iterations:g} iterations/s are out of reach: "
                f"one token alone takes {stairs.seconds[0]:g} s"
            )
        self.stairs, self.classes = stairs, tuple(classes)
        self.setting = setting_of(stairs, classes, limits, pure=pure)
        self._t = np.array(stairs.seconds[: limits.budget])
        self._context = np.array([math.nan if c is None else float(c) for c in self.setting.context])
        self._decoding = np.flatnonzero(~np.isnan(self._context))
        self._memory = limits.kv_tokens
        self._most = np.minimum(np.arange(1, len(self._t) + 1), limits.max_running)
        owed = [load_of(stairs, [c], [1.0]) for c in classes]
        self.need = np.array([[float(o.decodes[0]), float(o.prompt), float(o.attention)] for o in owed])
        self._kinds: dict[BatchKind, int] = {}
        self._solver = self._empty()
        self._add(list(self.first()))

    # --- the master program ----------------------------------------------------------------------------------------

    def _empty(self) -> Any:
        """Rows decode k, prompt, time, tbt; column 0 is θ, columns 1..K are rates of classes, for :meth:`support`."""
        s, k = self.setting, len(self.classes)
        solver = SilentHighs()
        for tolerance in ("primal_feasibility_tolerance", "dual_feasibility_tolerance"):
            solver.setOptionValue(
                tolerance, 1e-10
            )  # the least there is: prices must be better than TOLERANCE
        none, infinity = (np.empty(0, np.int32), np.empty(0)), highspy.kHighsInf
        for _ in range(k + 1):
            solver.addRow(-infinity, 0.0, 0, *none)
        solver.addRow(-infinity, float(s.nodes), 0, *none)
        solver.addRow(float(s.min_batches), infinity, 0, *none)
        solver.addCol(-1.0, 0.0, infinity, k + 2, np.arange(k + 2, dtype=np.int32), np.ones(k + 2))
        for j in range(k):
            rows = np.array([j, k, k + 1], np.int32)
            solver.addCol(0.0, 0.0, 0.0, 3, rows, self.need[j])
        return solver

    def _add(self, kinds: Sequence[BatchKind]) -> int:
        """Add columns; return how many were new."""
        fresh = [kind for kind in dict.fromkeys(kinds) if kind not in self._kinds]
        k = len(self.classes)
        for kind in fresh:
            rows = np.array([j for j, _ in kind.decodes] + [k, k + 1, k + 2], np.int32)
            values = [-float(n) for _, n in kind.decodes]
            values += [-float(kind.prompt), self._t[kind.tokens - 1], 1.0]
            self._kinds[kind] = 1 + k + len(self._kinds)
            self._solver.addCol(0.0, 0.0, highspy.kHighsInf, len(rows), rows, np.array(values))
        return len(fresh)

    def first(self) -> Iterator[BatchKind]:
        """A batch for each need, so that the first master program is feasible."""
        budget = len(self._t)
        yield BatchKind(budget, Fraction(budget), ())
        yield BatchKind(1, Fraction(1), ())
        for k in self._decoding:
            yield self.fill(budget, None, int(k), prompt=False)

    # --- pricing ---------------------------------------------------------------------------------------------------

    def fill(self, tokens: int, left: int | None, right: int | None, *, prompt: bool) -> BatchKind:
        """The batch of `tokens` tokens at an edge of the hull: from class `left` to class `right`, with prompt tokens.

        Without a left neighbour memory or places bind `right` alone; without a right one, places bind `left`.
        """
        s = self.setting
        most = Fraction(min(tokens, s.max_running))
        chosen: list[tuple[int, Fraction]] = []
        if left is not None and right is not None:  # both rows bind
            near, far = s.context[left], s.context[right]
            assert s.kv_tokens is not None  # without memory to bind, the hull has no slanted edge
            assert near is not None
            assert far is not None
            n = (s.kv_tokens - near * most) / (far - near)
            chosen = [(left, most - n), (right, n)]
        elif (only := right if left is None else left) is not None:
            context = s.context[only]
            chosen = [
                (only, most if s.kv_tokens is None or not context else min(most, s.kv_tokens / context))
            ]
        chosen = [(k, n) for k, n in chosen if n > 0]
        room = tokens - sum((n for _, n in chosen), Fraction(0))
        return BatchKind(tokens, room if prompt and not (s.pure and chosen) else Fraction(0), tuple(chosen))

    def _priced(self, u: float, v: Floats, w: float, s: float) -> list[BatchKind]:
        """Batches that are worth more than they cost under these prices."""
        tokens = np.arange(1, len(self._t) + 1)
        base, prompt = (0.0 if self.setting.pure else u), not self.setting.pure and u > 0
        cost = w * self._t - s
        found: list[BatchKind] = []

        def consider(worth: NDArray[np.floating], kind: Callable[[int], BatchKind]) -> None:
            gain = (worth - cost) / (w * self._t)
            n = int(np.argmax(gain))
            if gain[n] > TOLERANCE:
                found.append(kind(n))

        consider(u * tokens, lambda n: BatchKind(n + 1, Fraction(n + 1), ()))
        more = v - base
        hull = upper_hull(self._context, more)
        xs, ys = [0.0, *self._context[hull]], [0.0, *more[hull]]
        at = self._memory / self._most

        def mixed(n: int) -> BatchKind:
            place = int(np.searchsorted(xs, at[n]))
            if place > len(hull):
                return self.fill(n + 1, hull[-1], None, prompt=prompt)
            return self.fill(n + 1, hull[place - 2] if place >= 2 else None, hull[place - 1], prompt=prompt)

        if hull:
            consider(base * tokens + np.interp(at, xs, ys) * self._most, mixed)
        # one batch for each class as well, so that many classes need few rounds
        for k in self._decoding[more[self._decoding] > 0]:
            fits = np.minimum(self._most, self._memory / self._context[k])
            consider(
                base * tokens + more[k] * fits, lambda n, k=int(k): self.fill(n + 1, None, k, prompt=prompt)
            )
        return found

    # --- solving ---------------------------------------------------------------------------------------------------

    def solve(self, rates: Sequence[float] | None = None) -> Solution:
        """Largest θ such that θ times the rates (requests/s by class; those of the classes by default) is carried.

        Raises:
            ValueError: a rate is negative or not finite, or all are zero.
        """
        need = np.array(self.chosen(rates))[:, None] * self.need
        asked = np.array([*need[:, 0], *need[:, 1:].sum(axis=0)])
        unit = float(self._seconds(need).sum()) / self.setting.nodes
        for row, value in enumerate(asked / unit):
            self._solver.changeCoeff(row, 0, value)
        return self._generate(unit)[0]

    def support(self, weights: Sequence[float]) -> tuple[float, tuple[float, ...], Solution]:
        """Largest Σ weights·rates over the rates that are carried, such rates, and the prices that prove it.

        Raises:
            ValueError: a weight is negative or not finite, or all are zero.
        """
        gains = np.array(self.chosen(weights, "weights"))
        unit = self.setting.nodes * float(np.max(gains / self._seconds(self.need)))
        k = len(self.classes)
        self._offer(np.append(0.0, gains / unit), upper=np.append(0.0, np.full(k, highspy.kHighsInf)))
        try:
            solution, rates = self._generate(1 / unit)
        finally:
            self._offer(np.append(1.0, np.zeros(k)), upper=np.append(highspy.kHighsInf, np.zeros(k)))
        return float(gains @ rates), tuple(map(float, rates)), solution

    def _offer(self, gains: Floats, upper: Floats) -> None:
        """Gains and upper bounds of θ and of the rates."""
        for column, (gain, most) in enumerate(zip(gains, upper, strict=True)):
            self._solver.changeColCost(column, -float(gain))
            self._solver.changeColBounds(column, 0.0, float(most))

    def _seconds(self, need: Floats) -> Floats:
        """Node time of each row of needs, in full batches: the unit in which prices are near 1."""
        return need[:, :2].sum(axis=1) * self._t[-1] / len(self._t) + need[:, 2]

    def _generate(self, unit: float) -> tuple[Solution, Floats]:
        """Add batches until none is worth more than its time; the solution, and the rates of the classes."""
        k = len(self.classes)
        rounds = 0
        while True:
            rounds += 1
            self._solver.run()
            status = self._solver.getModelStatus()
            if status != highspy.HighsModelStatus.kOptimal:
                raise RuntimeError(
                    f"HiGHS ended with {status}; check the units of the law (seconds) and of the demands (tokens)"
                )
            found = self._solver.getSolution()
            y = np.maximum(np.append(-np.array(found.row_dual[: k + 2]), found.row_dual[k + 2]), 0.0) / unit
            if not self._add(self._priced(y[k], y[:k], y[k + 1], y[k + 2])):
                break
        x = np.array(found.col_value)
        runs = tuple((kind, float(x[at])) for kind, at in self._kinds.items() if x[at] > 0)
        u, w, s = (float(y[k + i]) for i in range(3))
        solution = Solution(
            float(x[0]) / unit, runs, u, tuple(map(float, y[:k])), w, s, rounds, len(self._kinds)
        )
        return solution, np.maximum(x[1 : 1 + k], 0.0)

    def near_optimal(self, slack: float = 1e-6) -> list[BatchKind]:
        """Batches that lack at most `slack` of being worth their time at the last optimum, and one for each need."""
        lacks = np.array(self._solver.getSolution().col_dual)
        near = [kind for kind, at in self._kinds.items() if lacks[at] < slack * self._t[kind.tokens - 1]]
        return list(dict.fromkeys([*near, *self.first()]))

    def chosen(self, rates: Sequence[float] | None, what: str = "rates") -> list[float]:
        """The rates that are meant: those of the classes by default."""
        chosen = [c.rate for c in self.classes] if rates is None else [float(r) for r in rates]
        if len(chosen) != len(self.classes):
            raise ValueError(f"{len(self.classes)} classes need as many {what}, not {len(chosen)}")
        if not all(0 <= r < math.inf for r in chosen) or not any(chosen):
            raise ValueError(f"{what} must be finite, >= 0 and not all zero, not {chosen}")
        return chosen


def upper_hull(x: Any, y: Any) -> list[int]:
    """Indices of the upper hull of the points (x, y) and the origin, from left to right, up to the greatest y > 0."""
    order = sorted((k for k in range(len(x)) if y[k] > 0), key=lambda k: (x[k], -y[k]))
    hull: list[int] = []
    for k in order:
        if hull and y[k] <= y[hull[-1]]:
            continue
        while hull:
            x0, y0 = (x[hull[-2]], y[hull[-2]]) if len(hull) > 1 else (0, 0)
            x1, y1 = x[hull[-1]], y[hull[-1]]
            if (y1 - y0) * (x[k] - x0) > (y[k] - y0) * (x1 - x0):
                break
            hull.pop()
        hull.append(k)
    return hull
