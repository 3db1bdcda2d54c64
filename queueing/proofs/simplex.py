"""From a linear program to a certificate: HiGHS proposes a basis, fractions finish.

A basis is a set of as many columns as there are rows; it determines x (basis·x = b) and y (yᵀ·basis = c).  The basis of
a floating-point optimum is nearly always the exact one, and then two exact solves end the matter.  Where it is not, the
simplex method goes on from it in fractions, by Bland's rule, which cannot cycle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import highspy
import numpy as np

from queueing.highs import SilentHighs
from queueing.proofs.rational import Infeasible, Optimum, Program, Unbounded

__all__ = ["certify"]

ZERO = Fraction(0)
Entries = dict[int, Fraction]  # by row or by place, sparse


def certify(program: Program) -> Optimum | Infeasible | Unbounded:
    """Solve `program` and return its certificate: optimum, Farkas ray, or ray along which it grows for ever."""
    exact = _Simplex(program)
    basis = _proposed(program)
    if basis is None or not exact.start(basis):
        feasible = _phase_one(exact)
        if feasible is not None:
            return feasible
    return exact.finish()


def _phase_one(exact: _Simplex) -> Infeasible | None:
    """Find a feasible basis from nothing: drive out one artificial column per row; or show that there is none."""
    exact.artificial_gain = Fraction(-1)
    exact.start([exact.crash(i) for i in range(len(exact.rows))])
    exact.climb()
    value = -sum((v for j, v in zip(exact.basis, exact.x, strict=True) if exact.is_artificial(j)), ZERO)
    if value < 0:
        return Infeasible(exact.program, exact.named_prices())
    exact.artificial_gain = ZERO
    return None


class _Simplex:
    """The simplex method on bases, every number a fraction; the basis is solved anew at every step.

    Columns: 0..n-1 of the program, n+i the slack of row i (rows `<=`), n+m+i the artificial column of row i.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.rows = program.rows
        place = {row.name: i for i, row in enumerate(program.rows)}
        self.columns: list[Entries] = [{place[r]: a for r, a in c.entries.items()} for c in program.columns]
        self.side = [row.side for row in program.rows]
        self.n, self.m = len(self.columns), len(self.rows)
        self.artificial_gain = ZERO
        self.basis: list[int] = []
        self.x: list[Fraction] = []

    def is_artificial(self, j: int) -> bool:
        return j >= self.n + self.m

    def crash(self, i: int) -> int:
        """The column that can hold row `i` alone: its slack if that is not negative."""
        return self.n + i + (0 if self.rows[i].sense == "<=" and self.side[i] >= 0 else self.m)

    def entries(self, j: int) -> Entries:
        if j < self.n:
            return self.columns[j]
        i = (j - self.n) % self.m
        return {i: Fraction(-1 if self.is_artificial(j) and self.side[i] < 0 else 1)}

    def gain(self, j: int) -> Fraction:
        return self.program.columns[j].gain if j < self.n and self.artificial_gain == 0 else (
            self.artificial_gain if self.is_artificial(j) else ZERO
        )  # fmt: skip

    def start(self, basis: list[int]) -> bool:
        """Take up a basis; False if it is singular, or its point is not feasible."""
        self.basis = list(basis)
        solved = _solve([self.entries(j) for j in self.basis], dict(enumerate(self.side)))
        if solved is None:
            return False
        self.x = [solved.get(k, ZERO) for k in range(self.m)]
        good = all(v >= 0 for v in self.x)
        return good and (
            self.artificial_gain != 0
            or not any(v and self.is_artificial(j) for j, v in zip(self.basis, self.x, strict=True))
        )

    def prices(self) -> list[Fraction]:
        """Y of the present basis: yᵀ·basis = gains."""
        transposed: list[Entries] = [{} for _ in range(self.m)]
        for k, j in enumerate(self.basis):
            for i, a in self.entries(j).items():
                transposed[i][k] = a
        solved = _solve(transposed, {k: self.gain(j) for k, j in enumerate(self.basis)})
        assert solved is not None  # a basis that `start` accepted is regular
        return [solved.get(i, ZERO) for i in range(self.m)]

    def named_prices(self) -> dict[str, Fraction]:
        return {row.name: y for row, y in zip(self.rows, self.prices(), strict=True) if y}

    def named_point(self) -> dict[str, Fraction]:
        return {
            self.program.columns[j].name: v
            for j, v in zip(self.basis, self.x, strict=True)
            if j < self.n and v
        }

    def climb(self) -> tuple[int, Entries] | None:
        """Pivot until no column gains; or return a column that can grow for ever, and what it does to the basis."""
        while True:
            y = self.prices()
            inside = set(self.basis)
            entering = next(
                (
                    j
                    for j in range(self.n + self.m)
                    if j not in inside
                    and (j < self.n or self.rows[j - self.n].sense == "<=")
                    and self.gain(j) > sum((a * y[i] for i, a in self.entries(j).items()), ZERO)
                ),
                None,
            )
            if entering is None:
                return None
            step = _solve([self.entries(j) for j in self.basis], dict(self.entries(entering)))
            assert step is not None
            leaving, shortest = None, ZERO
            for k, j in enumerate(self.basis):
                d = step.get(k, ZERO)
                stuck = self.is_artificial(j) and self.artificial_gain == 0 and d != 0  # must stay at zero
                if d > 0 or stuck:
                    ratio = ZERO if stuck else self.x[k] / d
                    if leaving is None or ratio < shortest or (ratio == shortest and j < self.basis[leaving]):
                        leaving, shortest = k, ratio
            if leaving is None:
                return entering, step
            self.start([*self.basis[:leaving], entering, *self.basis[leaving + 1 :]])

    def finish(self) -> Optimum | Unbounded:
        """Climb from the present feasible basis to the end."""
        grows = self.climb()
        if grows is None:
            return Optimum(self.program, self.named_point(), self.named_prices())
        entering, step = grows
        ray = {j: -step[k] for k, j in enumerate(self.basis) if step.get(k)} | {entering: Fraction(1)}
        names = self.program.columns
        return Unbounded(
            self.program, self.named_point(), {names[j].name: v for j, v in ray.items() if j < self.n}
        )


def _solve(columns: list[Entries], side: Mapping[int, Fraction]) -> Entries | None:
    """X with sum of columns[k]·x[k] = side, by sparse elimination; None if the columns are dependent."""
    rows: dict[int, Entries] = {}
    for k, column in enumerate(columns):
        for i, a in column.items():
            if a:
                rows.setdefault(i, {})[k] = a
    right = {i: v for i, v in side.items() if v}
    if len(rows) < len(columns):
        return None
    done: list[tuple[int, Entries, Fraction]] = []
    where: dict[int, set[int]] = {}  # place -> rows it stands in
    for i, row in rows.items():
        for k in row:
            where.setdefault(k, set()).add(i)
    while rows:
        i = min(rows, key=lambda r: len(rows[r]))  # the shortest row fills in least
        row = rows.pop(i)
        if not row:
            return None
        for k in row:
            where[k].discard(i)
        k = min(row, key=lambda c: len(where[c]))
        pivot, value = row.pop(k), right.pop(i, ZERO)
        row = {c: a / pivot for c, a in row.items()}
        value /= pivot
        for r in where.pop(k):
            other = rows[r]
            factor = other.pop(k)
            for c, a in row.items():
                left = other.get(c, ZERO) - factor * a
                if left:
                    other[c] = left
                    where[c].add(r)
                elif c in other:
                    del other[c]
                    where[c].discard(r)
            if value:
                right[r] = right.get(r, ZERO) - factor * value
        done.append((k, row, value))
    x: Entries = {}
    for k, row, value in reversed(done):
        total = value - sum((a * x[c] for c, a in row.items() if c in x), ZERO)
        if total:
            x[k] = total
    return x


def _proposed(program: Program) -> list[int] | None:
    """The basis at which HiGHS ends, or None if it found no optimum."""
    n, m = len(program.columns), len(program.rows)
    if n == 0 or m == 0:
        return None
    place = {row.name: i for i, row in enumerate(program.rows)}
    # units differ by many orders: every row is divided by its largest coefficient before floats see it
    largest = [ZERO] * m
    for column in program.columns:
        for name, a in column.entries.items():
            largest[place[name]] = max(largest[place[name]], abs(a))
    scale = [1 / a if a else Fraction(1) for a in largest]
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = n, m
    lp.col_cost_ = np.array([-float(c.gain) for c in program.columns])
    lp.col_lower_, lp.col_upper_ = np.zeros(n), np.full(n, highspy.kHighsInf)
    side = np.array([_rounded(row.side * s) for row, s in zip(program.rows, scale, strict=True)])
    lp.row_upper_ = side
    lp.row_lower_ = np.where([row.sense == "=" for row in program.rows], side, -highspy.kHighsInf)
    starts, index, value = [0], [], []
    for column in program.columns:
        for name, a in column.entries.items():
            index.append(place[name])
            value.append(float(a * scale[place[name]]))
        starts.append(len(index))
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = (
        np.array(starts, np.int32),
        np.array(index, np.int32),
        np.array(value),
    )
    solver = SilentHighs()
    solver.passModel(lp)
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    found = solver.getBasis()
    basic = highspy.HighsBasisStatus.kBasic
    basis = [j for j, status in enumerate(found.col_status) if status == basic]
    basis += [
        n + i + (0 if program.rows[i].sense == "<=" else m)
        for i, status in enumerate(found.row_status)
        if status == basic
    ]
    return basis if len(basis) == m else None


def _rounded(x: Fraction) -> float:
    """The nearest float, infinite where there is none."""
    try:
        return float(x)
    except OverflowError:
        return math.inf if x > 0 else -math.inf
