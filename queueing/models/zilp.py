"""The offline optimum of serving with subnets: a zero-one program, and a dynamic program for one server.

Notation.  Query i arrives at a_i and is worth something until d_i; a batch S under subnet φ runs l_φ(|S|) without
interruption on one of c servers.  It may start at t if t >= a(S) = max_{i∈S} a_i and t + l_φ(|S|) <= d(S), the least
d_i of S, and is then worth acc(φ)·|S|.  Who is in no batch is dropped.  Whole numbers throughout, so optima are exact.

ZILP.  I(φ, S, t) ∈ {0, 1};  maximise Σ acc(φ)·|S|·I  such that each query is in at most one batch, and at most c
batches run at any time.  Servers need no index: intervals of which no c + 1 overlap can be coloured by c servers.  The
paper writes a(S) for the *earliest* arrival, which would start batches whose members are not there; here it is the
latest.

DP (one server, deadlines in order of arrival, e.g. one limit for all).  Order the queries by arrival.  Some optimal
schedule has batches of consecutive queries, in order:
  1. Let S start before S', i ∈ S', j ∈ S, i before j.  Exchange them: S starts at or after a_j >= a_i and ends before
     S' does, hence by d_i;  S' starts after S does, hence after a_j, and ends by d_i <= d_j.  Sizes, times and worth
     stay.  Each exchange lowers the inversions, so in the end the served queries are served in order.
  2. Let g, dropped, lie between the first query f and the last j of a batch.  Serve g for f: a_g <= a_j and d_g >= d_f,
     so the batch still may run, and the others are as before.  Sums of indices rise, so this ends, without gaps.
  3. In a given order of batches each starts as soon as it may; so (free, worth) per prefix carries all that matters,
     and of two labels one that is free no earlier and worth no more may go; free before the next arrival is free then.
With two servers step 1 fails: a batch that starts earlier may end later.  Seven queries at 0, 1, ..., 6 with a limit
of 3, a subnet worth 70 that takes 1 for one or two, and one worth 80 that takes 3 for one: the optimum is 540, with 2
and 4 in a batch while 3 runs; batches of consecutive queries reach 530.

Source: SuperServe, NSDI 2025 (arXiv 2312.16733), section 4, for the program; NP-hardness is its claim.  The latest
arrival, the program without server indices, the dynamic program and its proof are our derivation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, TypeAlias

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from scipy.sparse import csc_array

from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim

__all__ = ["CLAIMS", "Execution", "Offline", "Optimum"]

# worth; first query, size, subnet and start of the last batch; the label before it
_Label: TypeAlias = "tuple[int, tuple[int, int, int, int] | None, _Label | None]"

MOST_QUERIES = 10
MOST_COLUMNS = 60_000


@dataclass(frozen=True, slots=True)
class Execution:
    """One batch of a schedule: the queries, the subnet, the start."""

    queries: tuple[int, ...]
    subnet: int
    start: int


@dataclass(frozen=True, slots=True)
class Optimum:
    """Worth of an optimal schedule, and the schedule."""

    worth: int
    schedule: tuple[Execution, ...]


@dataclass(frozen=True, slots=True)
class Offline:
    """An instance: all arrivals known beforehand, whole numbers throughout.

    Args:
        arrival, deadline: per query, ticks; arrivals in order, each deadline after its arrival.
        latency: [K][B], ticks >= 1, nondecreasing in the batch: l_φ(b).
        worth: [K], whole numbers >= 0, of a query served in time by each subnet, such as accuracy in 1/10000.
        servers: c.
    Errors: ValueError in one sentence.
    Example: one query alone, or two together by the fast subnet
        >>> Offline((0, 1), (4, 5), ((2, 3), (4, 8)), (70, 80)).by_order()
        Optimum(worth=140, schedule=(Execution(queries=(0, 1), subnet=0, start=1),))
    """

    arrival: tuple[int, ...]
    deadline: tuple[int, ...]
    latency: tuple[tuple[int, ...], ...]
    worth: tuple[int, ...]
    servers: int = 1

    def __post_init__(self) -> None:
        cells = [*self.arrival, *self.deadline, *self.worth, *(x for row in self.latency for x in row)]
        if not all(type(x) is int and x >= 0 for x in cells):
            bad = next(x for x in cells if not (type(x) is int and x >= 0))
            raise ValueError(f"an instance holds {bad!r}; give whole numbers >= 0")
        if not 1 <= len(self.arrival) == len(self.deadline):
            raise ValueError(
                f"{len(self.arrival)} arrivals and {len(self.deadline)} deadlines; give one of each per query"
            )
        if any(a > b for a, b in pairwise(self.arrival)):
            raise ValueError(f"the arrivals {self.arrival} are not in order; sort the queries")
        late = [i for i, (a, d) in enumerate(zip(self.arrival, self.deadline, strict=True)) if a >= d]
        if late:
            raise ValueError(f"query {late[0]} has its deadline at its arrival or before; give a later one")
        if not 1 <= len(self.latency) == len(self.worth) or len({len(row) for row in self.latency}) != 1:
            raise ValueError(
                f"{len(self.latency)} rows of latency for {len(self.worth)} subnets; give one each, of equal length"
            )
        if not all(row and row[0] >= 1 and all(a <= b for a, b in pairwise(row)) for row in self.latency):
            raise ValueError("latencies must be at least 1 and must not fall in the batch")
        if self.servers < 1:
            raise ValueError(f"{self.servers} servers; give at least one")

    def value(self, schedule: Sequence[Execution]) -> int:
        """Worth of a schedule, after checking it against every rule, by the definitions alone.

        Errors: ValueError naming the rule that is broken.
        """
        seen: set[int] = set()
        edges: list[tuple[int, int]] = []
        total = 0
        for batch in schedule:
            many = len(batch.queries)
            if not 1 <= many <= len(self.latency[0]):
                raise ValueError(f"a batch has {many} queries; it may have 1 to {len(self.latency[0])}")
            if seen & set(batch.queries) or len(set(batch.queries)) < many:
                raise ValueError(f"a query of {batch.queries} is served twice")
            seen |= set(batch.queries)
            end = batch.start + self.latency[batch.subnet][many - 1]
            for i in batch.queries:
                if batch.start < self.arrival[i]:
                    raise ValueError(f"query {i} is served at {batch.start}, before it arrives")
                if end > self.deadline[i]:
                    raise ValueError(f"query {i} ends at {end}, after its deadline")
                total += self.worth[batch.subnet]
            edges += [(batch.start, 1), (end, -1)]
        running = 0
        for _, step in sorted(edges):  # at one instant ends come before starts
            running += step
            if running > self.servers:
                raise ValueError(f"more than {self.servers} batches run at once")
        return total

    def by_program(self, *, consecutive: bool = False) -> Optimum:
        """Solve ZILP with HiGHS; the worth is counted in whole numbers from the schedule it returns.

        Args: consecutive = only batches of consecutive queries, which on two servers may be worth less.
        Errors: ValueError if the instance is too large; RuntimeError if HiGHS proves no optimum.
        """
        columns = self._columns()
        if consecutive:
            columns = [c for c in columns if c.queries[-1] - c.queries[0] < len(c.queries)]
        if not columns:
            return Optimum(0, ())
        solved = self._solve(columns, integral=True)
        schedule = [column for column, x in zip(columns, solved.x, strict=True) if x > 0.5]
        schedule.sort(key=lambda batch: (batch.start, batch.queries))
        return Optimum(self.value(schedule), tuple(schedule))

    def relaxation(self) -> float:
        """Optimum of ZILP with I in [0, 1], an upper bound of every schedule; within the tolerance of HiGHS, 1e-7."""
        columns = self._columns()
        return -float(self._solve(columns, integral=False).fun) if columns else 0.0

    def by_order(self) -> Optimum:
        """Solve the dynamic program: one server, deadlines in the order of arrivals; any number of queries.

        Errors: ValueError if there are more servers or a deadline falls.
        """
        if self.servers != 1:
            raise ValueError(
                f"{self.servers} servers; consecutive batches are optimal for one, use by_program"
            )
        if any(a > b for a, b in pairwise(self.deadline)):
            raise ValueError("a later query has an earlier deadline; use by_program")
        n = len(self.arrival)
        # per prefix of decided queries: server free at -> (worth, last batch, label before it)
        labels: list[dict[int, _Label]] = [{} for _ in range(n + 1)]
        labels[0][0] = (0, None, None)
        for i in range(n):
            for free, label in _undominated(labels[i], self.arrival[i]):
                _keep(labels[i + 1], free, label)
                for b in range(1, min(len(self.latency[0]), n - i) + 1):
                    start = max(free, self.arrival[i + b - 1])
                    for k, row in enumerate(self.latency):
                        end = start + row[b - 1]
                        if end <= self.deadline[i]:
                            step = (i, b, k, start)
                            _keep(labels[i + b], end, (label[0] + b * self.worth[k], step, label))
        best: _Label | None = max(labels[n].values(), key=lambda label: label[0])
        worth = best[0]
        schedule: list[Execution] = []
        while best is not None:
            if best[1] is not None:
                i, b, k, start = best[1]
                schedule.append(Execution(tuple(range(i, i + b)), k, start))
            best = best[2]
        return Optimum(worth, tuple(reversed(schedule)))

    def _columns(self) -> list[Execution]:
        n = len(self.arrival)
        if n > MOST_QUERIES:
            raise ValueError(
                f"{n} queries; the program takes at most {MOST_QUERIES}, since it lists their subsets"
            )
        columns: list[Execution] = []
        for queries in _subsets(n, len(self.latency[0])):
            latest, due = self.arrival[queries[-1]], min(self.deadline[i] for i in queries)
            for k, row in enumerate(self.latency):
                columns += [Execution(queries, k, t) for t in range(latest, due - row[len(queries) - 1] + 1)]
            if len(columns) > MOST_COLUMNS:
                raise ValueError(
                    f"more than {MOST_COLUMNS} batches are possible; give fewer queries or a coarser tick"
                )
        return columns

    def _solve(self, columns: Sequence[Execution], *, integral: bool) -> OptimizeResult:
        n, first = len(self.arrival), min(self.arrival)
        rows: list[int] = []
        which: list[int] = []
        gain = np.zeros(len(columns))
        for j, batch in enumerate(columns):
            length = self.latency[batch.subnet][len(batch.queries) - 1]
            busy = range(n + batch.start - first, n + batch.start - first + length)
            rows += [*batch.queries, *busy]
            which += [j] * (len(batch.queries) + length)
            gain[j] = len(batch.queries) * self.worth[batch.subnet]
        height = max(rows) + 1
        matrix = csc_array((np.ones(len(rows)), (rows, which)), shape=(height, len(columns)))
        most: Any = np.where(np.arange(height) < n, 1, self.servers)
        solved = milp(
            -gain,
            integrality=np.full(len(columns), int(integral)),
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(matrix, -np.inf, most),
            options={"mip_rel_gap": 0.0},
        )
        if not solved.success:
            raise RuntimeError(f"HiGHS proved no optimum: {solved.message}")
        return solved


def _subsets(n: int, most: int) -> Iterator[tuple[int, ...]]:
    for many in range(1, min(n, most) + 1):
        yield from combinations(range(n), many)


def _keep(labels: dict[int, _Label], free: int, label: _Label) -> None:
    if free not in labels or labels[free][0] < label[0]:
        labels[free] = label


def _undominated(labels: dict[int, _Label], arrival: int) -> list[tuple[int, _Label]]:
    """Labels of which no other is free as early and worth as much; before the next arrival all are free alike."""
    kept: list[tuple[int, _Label]] = []
    for free in sorted(labels):
        if kept and labels[free][0] <= kept[-1][1][0]:
            continue
        if kept and free <= arrival:
            kept.pop()
        kept.append((free, labels[free]))
    return kept


CLAIMS = (
    Claim(
        "zilp-by-order",
        "With one server and deadlines in the order of arrivals some optimal schedule serves runs of consecutive "
        "queries in order, so that a dynamic program over prefixes finds the optimum of ZILP.",
        "our derivation (exchange argument in the module); the program is SuperServe's, NSDI 2025",
        Kind.TESTED,
        ("queries of equal worth",),
        where="tests/queueing/models/test_zilp.py::test_dynamic_program_is_the_zero_one_program",
    ),
    Claim(
        "zilp-bounds-policies",
        "No policy attains more than the offline optimum.",
        "our derivation",
        Kind.TESTED,
        where="tests/policies/test_slackfit.py::test_no_policy_is_above_the_optimum",
    ),
)
