"""Linear programs in exact fractions: optimum, infeasibility and unboundedness, each with evidence of a few lines.

    max c·x   subject to   A x <= b  (or = b, row by row),   x >= 0.

Whoever claims an optimum shows x and prices y with  A x <= b,  Aᵀy >= c,  y >= 0  and  c·x = b·y:  then for every
feasible x', c·x' <= yᵀA x' <= b·y = c·x.  Whoever claims that nothing is feasible shows a Farkas ray y with  Aᵀy >= 0,
y >= 0  and  b·y < 0:  a feasible x would give 0 <= yᵀA x <= b·y < 0.  (On an equality row the sign of y is free.)

:func:`queueing.proofs.simplex.certify` finds the evidence; nothing here depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal

from queueing.proofs.certificate import Certificate, Kind, require

__all__ = [
    "Column",
    "Infeasible",
    "Optimum",
    "Program",
    "Row",
    "Unbounded",
    "exact",
    "payload",
    "repaired",
    "restore",
]

Vector = Mapping[str, Fraction]  # by name; what is absent is zero
ZERO = Fraction(0)


def exact(x: Fraction | float | str) -> Fraction:
    """The fraction that `x` prints as: 0.0234 is 117/5000.

    Raises:
        ValueError: `x` is not a finite number.
    """
    if isinstance(x, Fraction | int):
        return Fraction(x)
    try:
        return Fraction(x if isinstance(x, str) else repr(float(x)))
    except (ValueError, OverflowError):
        raise ValueError(f"{x!r} is no finite number") from None


@dataclass(frozen=True, slots=True)
class Row:
    """A restriction `name`: the columns' sum is `<=` or `=` to `side`."""

    name: str
    side: Fraction
    sense: Literal["<=", "="] = "<="


@dataclass(frozen=True, slots=True)
class Column:
    """A variable `name` >= 0 with its `gain` in the objective and its coefficient in each row it stands in."""

    name: str
    gain: Fraction
    entries: Mapping[str, Fraction]


@dataclass(frozen=True, slots=True)
class Program:
    """max of the gains, subject to the rows; every number a fraction.

    Raises:
        ValueError: two rows or two columns share a name, or a column stands in a row that is not there.
    """

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        names = {row.name for row in self.rows}
        if len(names) < len(self.rows) or len({c.name for c in self.columns}) < len(self.columns):
            raise ValueError("rows and columns of a program need names of their own")
        for column in self.columns:
            if strange := set(column.entries) - names:
                raise ValueError(f"column {column.name!r} stands in no row called {sorted(strange)}")

    @classmethod
    def of(
        cls, rows: Mapping[str, tuple[str, Any]], columns: Mapping[str, tuple[Any, Mapping[str, Any]]]
    ) -> Program:
        """From numbers of any kind: {row: (sense, side)}, {column: (gain, {row: coefficient})}; zeros are left out."""
        return cls(
            tuple(Row(name, exact(side), "=" if sense == "=" else "<=") for name, (sense, side) in rows.items()),
            tuple(
                Column(name, exact(gain), {row: v for row, a in entries.items() if (v := exact(a)) != 0})
                for name, (gain, entries) in columns.items()
            ),
        )  # fmt: skip

    def loads(self, x: Vector) -> dict[str, Fraction]:
        """What `x` puts on each row."""
        on = dict.fromkeys((row.name for row in self.rows), ZERO)
        for column in self.columns:
            if value := x.get(column.name, ZERO):
                for row, a in column.entries.items():
                    on[row] += a * value
        return on

    def value(self, x: Vector) -> Fraction:
        """Objective at `x`."""
        return sum((column.gain * x.get(column.name, ZERO) for column in self.columns), ZERO)

    def bound(self, y: Vector) -> Fraction:
        """b·y."""
        return sum((row.side * y.get(row.name, ZERO) for row in self.rows), ZERO)


def _require_feasible(program: Program, x: Vector, *, homogeneous: bool = False) -> None:
    require(set(x) <= {c.name for c in program.columns}, "x names a column that is not there")
    for name, value in x.items():
        require(value >= 0, f"x[{name}] = {value} is negative")
    on = program.loads(x)
    for row in program.rows:
        side, load = (ZERO if homogeneous else row.side), on[row.name]
        good = load == side if row.sense == "=" else load <= side
        require(good, f"row {row.name}: {load} is not {row.sense} {side}")


def _require_prices(program: Program, y: Vector, *, homogeneous: bool = False) -> None:
    require(set(y) <= {row.name for row in program.rows}, "y names a row that is not there")
    for row in program.rows:
        require(
            row.sense == "=" or y.get(row.name, ZERO) >= 0, f"y[{row.name}] = {y.get(row.name)} is negative"
        )
    for column in program.columns:
        paid = sum((a * y.get(row, ZERO) for row, a in column.entries.items()), ZERO)
        gain = ZERO if homogeneous else column.gain
        require(paid >= gain, f"column {column.name}: its rows cost {paid}, less than its gain {gain}")


@dataclass(frozen=True, slots=True)
class Optimum(Certificate):
    """`x` is optimal for `program`, because the prices `y` bound every feasible point by the same value."""

    kind: ClassVar[Kind] = Kind.RATIONAL
    program: Program
    x: Vector
    y: Vector

    @property
    def value(self) -> Fraction:
        """The optimal value."""
        return self.program.value(self.x)

    @property
    def claim(self) -> str:
        """The value, and what binds."""
        binding = ", ".join(name for name, price in self.y.items() if price)
        return f"the maximum is {self.value} (about {float(self.value):.6g}); priced rows: {binding}"

    def check(self) -> None:
        """Feasible, dual feasible, and both values equal."""
        _require_feasible(self.program, self.x)
        _require_prices(self.program, self.y)
        value, bound = self.program.value(self.x), self.program.bound(self.y)
        require(value == bound, f"x is worth {value}, the prices allow {bound}")


@dataclass(frozen=True, slots=True)
class Infeasible(Certificate):
    """Nothing satisfies the rows of `program`: the Farkas ray `y` adds them up to a contradiction."""

    kind: ClassVar[Kind] = Kind.RATIONAL
    program: Program
    y: Vector

    @property
    def claim(self) -> str:
        """The rows that contradict each other."""
        rows = ", ".join(f"{price} x {name}" for name, price in self.y.items() if price)
        return f"no x >= 0 satisfies the rows: {rows} adds up to 0 <= {self.program.bound(self.y)}"

    def check(self) -> None:
        """The ray prices every column at least at 0 and the sides below 0."""
        _require_prices(self.program, self.y, homogeneous=True)
        bound = self.program.bound(self.y)
        require(bound < 0, f"the sides add up to {bound}, which is not negative")


@dataclass(frozen=True, slots=True)
class Unbounded(Certificate):
    """`program` has no maximum: from the feasible `x` one can go along `ray` for ever, and gain."""

    kind: ClassVar[Kind] = Kind.RATIONAL
    program: Program
    x: Vector
    ray: Vector

    @property
    def claim(self) -> str:
        """The columns that grow."""
        return (
            f"there is no maximum: {', '.join(name for name, v in self.ray.items() if v)} can grow for ever"
        )

    def check(self) -> None:
        """Feasible, and the ray uses no row up and gains."""
        _require_feasible(self.program, self.x)
        _require_feasible(self.program, self.ray, homogeneous=True)
        gain = self.program.value(self.ray)
        require(gain > 0, f"the ray gains {gain}")


# --- as text -------------------------------------------------------------------------------------------------------

_NAMES: dict[str, type[Optimum | Infeasible | Unbounded]] = {
    "optimum": Optimum,
    "infeasible": Infeasible,
    "unbounded": Unbounded,
}


def payload(certificate: Optimum | Infeasible | Unbounded) -> dict[str, Any]:
    """The whole certificate as JSON-able text, every number as "numerator/denominator"; :func:`restore` reads it."""
    program = certificate.program
    vectors = {name: getattr(certificate, name) for name in ("x", "y", "ray") if hasattr(certificate, name)}
    return {
        "certificate": next(name for name, cls in _NAMES.items() if isinstance(certificate, cls)),
        "kind": certificate.kind.value,
        "rows": {row.name: [row.sense, str(row.side)] for row in program.rows},
        "columns": {
            c.name: [str(c.gain), {r: str(a) for r, a in c.entries.items()}] for c in program.columns
        },
        **{name: {k: str(v) for k, v in vector.items() if v} for name, vector in vectors.items()},
    }


def restore(text: Mapping[str, Any]) -> Optimum | Infeasible | Unbounded:
    """The certificate that :func:`payload` wrote down; it is not checked here.

    Raises:
        ValueError: it is no such text.
    """
    try:
        program = Program.of(text["rows"], text["columns"])
        vectors = {n: {k: exact(v) for k, v in text[n].items()} for n in ("x", "y", "ray") if n in text}
        return _NAMES[text["certificate"]](program, **vectors)
    except (KeyError, TypeError, AttributeError) as trouble:
        raise ValueError(f"this is no certificate of a linear program: {trouble!r}") from None


def repaired(program: Program, x: Mapping[str, float]) -> dict[str, Fraction]:
    """Turn a rounded point into an exactly feasible one, by shrinking it towards zero as little as its rows ask.

    Raises:
        Refuted: zero itself breaks a row, or an equality is not kept, so that shrinking cannot help.
    """
    point = {name: max(exact(value), ZERO) for name, value in x.items()}
    shrink = Fraction(1)
    for row, load in zip(program.rows, program.loads(point).values(), strict=True):
        require(row.side >= 0, f"row {row.name} asks for {row.side}; shrinking cannot help")
        if row.sense == "=":
            require(
                load == row.side == 0,
                f"row {row.name} is an equality to {row.side}; shrinking cannot keep it",
            )
        elif load > row.side:
            shrink = min(shrink, row.side / load)
    return {name: value * shrink for name, value in point.items()}
