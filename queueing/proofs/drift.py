"""Lyapunov functions: V >= 0 that falls, in a fluid model or a random walk, proved region by region with multipliers.

V(x) = max_i c_i·x with c_i >= 0, on states x >= 0.  One inequality carries every proof here:

    (*)  f·v <= s  for all v >= 0 with A v <= b (or = b, row by row)

holds if some y, y_r >= 0 on the rows `<=`, has Aᵀy >= f and b·y <= s; or, nothing satisfying the rows, Aᵀy >= 0 and
b·y < 0.  Farkas' lemma says that such a y exists whenever (*) holds.

* **Fluid model** (:class:`FluidModel`).  dx/dt = λ + Σ_j u_j e_j with activities u >= 0 under rules, some in force only
  while certain buffers are not empty.  If dV/dt <= -ε whenever x != 0, then x(t) = 0 from t = V(x(0))/ε on.
* **Random walk** on whole numbers (:class:`Walk`).  Its jumps depend on the side of finitely many walls.  If
  E[V' - V] <= -ε outside {Σ z < B}, that set is reached within V(z)/ε steps in the mean.

All regions are enumerated by the checker, so none can be left out.  Nothing here finds a V:
:mod:`queueing.proofs.lyapunov` does, and nothing here depends on it.

Sources: Dai, Ann. Appl. Probab. 5 (1995): a stable fluid model makes the network positive Harris recurrent (cited);
piecewise-linear V by linear programs: Down and Meyn (1997), Dai and Weiss (1996) (recalled).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations, product
from typing import ClassVar, NamedTuple

from queueing.proofs.certificate import Certificate, Kind, require
from queueing.proofs.rational import Row

__all__ = ["Event", "FluidDrift", "FluidModel", "FluidPath", "Leg", "Rule", "Walk", "WalkDrift", "Wall"]

ZERO = Fraction(0)
Vector = Mapping[str, Fraction]  # by name; what is absent is zero
Rows = list[tuple[Vector, Row]]  # a row's coefficients, and its sense and side


def dot(a: Vector, b: Vector) -> Fraction:
    """Σ a_k b_k."""
    return sum((value * b[name] for name, value in a.items() if name in b), ZERO)


def _bound(what: str, gain: Vector, rows: Rows, prices: tuple[Fraction, ...]) -> Fraction | None:
    """Require that the multipliers bound f·v and return the bound; None if they show that no v satisfies the rows."""
    require(len(prices) == len(rows), f"{what}: {len(prices)} multipliers for {len(rows)} rows")
    paid: dict[str, Fraction] = dict.fromkeys(gain, ZERO)
    bound = ZERO
    for (coefficients, row), y in zip(rows, prices, strict=True):
        require(row.sense == "=" or y >= 0, f"{what}: the multiplier of {row.name} is {y}")
        bound += row.side * y
        for name, a in coefficients.items():
            paid[name] = paid.get(name, ZERO) + a * y
    if bound < 0 and all(value >= 0 for value in paid.values()):
        return None
    for name, value in paid.items():
        require(
            value >= gain.get(name, ZERO),
            f"{what}: {name} gains {gain.get(name, ZERO)} and is charged {value}",
        )
    return bound


def _require_nonnegative(pieces: tuple[Vector, ...], epsilon: Fraction) -> None:
    require(len(pieces) > 0, "V has no piece")
    require(epsilon > 0, f"V falls by {epsilon}, which is not positive")
    for i, piece in enumerate(pieces):
        for name, value in piece.items():
            require(
                value >= 0, f"piece {i} of V has the coefficient {value} of {name}, so that V may be negative"
            )


# -- fluid models


@dataclass(frozen=True, slots=True)
class Rule:
    """Σ a_j u_j `<=` or `=` `side`, in force while any buffer of `when` is not empty; always if `when` names none."""

    name: str
    activities: Vector
    side: Fraction
    sense: str = "<="
    when: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FluidModel:
    """Buffers fed at rates `inflow`, and activities whose unit rate changes the buffers by `effects`, under `rules`.

    An empty buffer stays empty while it is (its derivative is 0 wherever there is one), which is a rule of every model.
    """

    inflow: Vector
    effects: Mapping[str, Vector]
    rules: tuple[Rule, ...]

    def patterns(self) -> Iterable[frozenset[str]]:
        """Every set of buffers that may be the nonempty ones, save none."""
        names = sorted(self.inflow)
        return (frozenset(s) for size in range(1, len(names) + 1) for s in combinations(names, size))

    def rows(self, nonempty: frozenset[str]) -> Rows:
        """What restricts the activities while exactly these buffers are not empty."""
        found: Rows = [
            (rule.activities, Row(rule.name, rule.side, "=" if rule.sense == "=" else "<="))
            for rule in self.rules
            if not rule.when or rule.when & nonempty
        ]
        for k in sorted(set(self.inflow) - nonempty):
            still = {j: effect[k] for j, effect in self.effects.items() if effect.get(k)}
            found.append((still, Row(f"{k} stays empty", -self.inflow[k], "=")))
        return found

    def gain(self, piece: Vector) -> dict[str, Fraction]:
        """Growth of c·x per unit of each activity."""
        return {j: dot(effect, piece) for j, effect in self.effects.items()}


@dataclass(frozen=True, slots=True)
class FluidDrift(Certificate):
    """V = max_i `pieces[i]`·x falls at rate `epsilon` at least, whenever the fluid model is not empty.

    `epsilon` is exactly the least rate that the multipliers prove.

    For each set of nonempty buffers: `falling[set, i]` are multipliers for c_i·dx/dt <= -ε, for some pieces i; each
    other piece j has `covered[set, j]`, weights of a mean of those that is at least c_j on the set.  So one of the
    falling pieces is V there, and where V(x(t)) has a derivative it is that of any piece that equals V.
    """

    kind: ClassVar[Kind] = Kind.RATIONAL
    model: FluidModel
    pieces: tuple[Vector, ...]
    epsilon: Fraction
    falling: Mapping[tuple[frozenset[str], int], tuple[Fraction, ...]]
    covered: Mapping[tuple[frozenset[str], int], Mapping[int, Fraction]] = field(
        default_factory=dict[tuple[frozenset[str], int], Mapping[int, Fraction]]
    )

    @property
    def claim(self) -> str:
        """V and its rate."""
        return f"V falls at rate {self.epsilon}; {len(self.pieces)} pieces, so the fluid is gone at V(x)/{self.epsilon}"

    def value(self, x: Vector) -> Fraction:
        """V(x)."""
        return max(dot(piece, x) for piece in self.pieces)

    def check(self) -> None:
        """Every set of nonempty buffers, every piece.

        Raises:
            Refuted: V may be negative, or a multiplier or weight does not prove what it should.
        """
        _require_nonnegative(self.pieces, self.epsilon)
        least: Fraction | None = None
        for nonempty in self.model.patterns():
            where = "{" + ", ".join(sorted(nonempty)) + "}"
            for i, piece in enumerate(self.pieces):
                if (nonempty, i) in self.falling:
                    rows, gain = self.model.rows(nonempty), self.model.gain(piece)
                    bound = _bound(f"{where}, piece {i}", gain, rows, self.falling[nonempty, i])
                    if bound is not None:
                        rate = -bound - dot(self.model.inflow, piece)
                        least = rate if least is None else min(least, rate)
                else:
                    weights = self.covered.get((nonempty, i), {})
                    good = all(v >= 0 and (nonempty, j) in self.falling for j, v in weights.items())
                    require(
                        good and sum(weights.values()) == 1,
                        f"{where}: piece {i} neither falls nor is covered",
                    )
                    for k in nonempty:
                        mean = sum((v * self.pieces[j].get(k, ZERO) for j, v in weights.items()), ZERO)
                        small = mean >= piece.get(k, ZERO)
                        require(small, f"{where}: piece {i} is larger than its cover in {k}")
        require(
            least == self.epsilon, f"the multipliers prove that V falls at rate {least}, not {self.epsilon}"
        )


class Leg(NamedTuple):
    """For `seconds` the activities run at these rates."""

    seconds: Fraction
    activities: Vector


@dataclass(frozen=True, slots=True)
class FluidPath(Certificate):
    """A path of the fluid model from `start` that ends in `growth` > 1 times its start, and so diverges if repeated."""

    kind: ClassVar[Kind] = Kind.RATIONAL
    model: FluidModel
    start: Vector
    legs: tuple[Leg, ...]
    growth: Fraction

    @property
    def claim(self) -> str:
        """Growth and duration."""
        return f"a path multiplies its start by {self.growth} in {sum(leg.seconds for leg in self.legs)} s"

    def corners(self) -> list[dict[str, Fraction]]:
        """States at the beginning, between the legs, and at the end."""
        state = {k: self.start.get(k, ZERO) for k in self.model.inflow}
        found = [state]
        for seconds, activities in self.legs:
            slope = {
                k: rate + sum((u * self.model.effects[j].get(k, ZERO) for j, u in activities.items()), ZERO)
                for k, rate in self.model.inflow.items()
            }
            state = {k: value + slope[k] * seconds for k, value in state.items()}
            found.append(state)
        return found

    def check(self) -> None:
        """Every leg obeys the rules inside, nothing gets negative, and the end is `growth` times the start.

        Raises:
            Refuted: one of these fails.
        """
        require(self.growth > 1, f"the path grows by {self.growth}, which is not above 1")
        require(any(v > 0 for v in self.start.values()), "the path starts with nothing")
        corners = self.corners()
        for n, (leg, before, after) in enumerate(zip(self.legs, corners, corners[1:], strict=False)):
            require(leg.seconds > 0, f"leg {n} lasts {leg.seconds} s")
            require(all(u >= 0 for u in leg.activities.values()), f"leg {n} has a negative activity")
            require(
                all(v >= 0 for v in (*before.values(), *after.values())), f"leg {n} leaves a buffer negative"
            )
            # linear and nonnegative: positive inside unless zero at both ends
            nonempty = frozenset(k for k in before if before[k] > 0 or after[k] > 0)
            for coefficients, row in self.model.rows(nonempty):
                load = dot(coefficients, leg.activities)
                require(
                    load == row.side if row.sense == "=" else load <= row.side, f"leg {n} breaks: {row.name}"
                )
        for k, value in corners[-1].items():
            require(value == self.growth * self.start.get(k, ZERO), f"the path ends with {value} of {k}")


# -- random walks


class Wall(NamedTuple):
    """Side "+" of it: `normal`·z >= `level`; side "-": `normal`·z <= `level` - 1.  Whole numbers."""

    normal: Mapping[str, int]
    level: int


class Event(NamedTuple):
    """With `probability` the walk jumps by `jump`."""

    probability: Fraction
    jump: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Walk:
    """A random walk on z >= 0, whole numbers; `events[sides]` its jumps, sides a text of "+" and "-", one per wall.

    Premise: no jump leaves the nonnegative numbers.
    """

    coordinates: tuple[str, ...]
    walls: tuple[Wall, ...]
    events: Mapping[str, tuple[Event, ...]]

    def regions(self) -> Iterable[str]:
        """Every combination of sides of the walls, whether or not a point lies there."""
        return map("".join, product("+-", repeat=len(self.walls)))

    def rows(self, sides: str, outside: int) -> Rows:
        """The region on these sides of the walls, where Σ z >= `outside`."""
        found: Rows = [({z: Fraction(-1) for z in self.coordinates}, Row("outside", Fraction(-outside)))]
        for n, (wall, side) in enumerate(zip(self.walls, sides, strict=True)):
            sign, level = (-1, -wall.level) if side == "+" else (1, wall.level - 1)
            found.append(
                ({z: Fraction(sign * a) for z, a in wall.normal.items()}, Row(f"wall {n}", Fraction(level)))
            )
        return found


@dataclass(frozen=True, slots=True)
class WalkDrift(Certificate):
    """Outside {Σ z < `outside`} the walk has E[V' - V] <= -`epsilon`, V = max_i `pieces[i]`·z.

    Where piece i is V, the piece j is behind by c_i·z - c_j·z >= -m_ij, which `prices[sides, i, j]` prove; so that

        E[V' - V] <= Σ_e p_e·max_j (m_ij + c_j·jump_e).

    Pieces far behind drop out; at a kink two neighbours count with their larger step, which is why V needs many pieces
    with small differences where a single step matters.
    """

    kind: ClassVar[Kind] = Kind.RATIONAL
    walk: Walk
    pieces: tuple[Vector, ...]
    epsilon: Fraction
    outside: int
    prices: Mapping[tuple[str, int, int], tuple[Fraction, ...]]

    @property
    def claim(self) -> str:
        """Rate and set."""
        return f"V falls by {self.epsilon} a step in the mean unless the coordinates sum up to less than {self.outside}"

    def value(self, z: Mapping[str, int]) -> Fraction:
        """V(z); the set is reached within V(z)/ε steps in the mean."""
        return max(sum((a * z[name] for name, a in piece.items()), ZERO) for piece in self.pieces)

    def comparison(self, sides: str, i: int, j: int) -> tuple[Vector, Rows]:
        """Lead c_j - c_i of piece j, and the rows of the region in which piece i is V."""

        def lead(k: int) -> dict[str, Fraction]:
            return {
                z: self.pieces[k].get(z, ZERO) - self.pieces[i].get(z, ZERO) for z in self.walk.coordinates
            }

        rows = self.walk.rows(sides, self.outside)
        rows += [(lead(k), Row(f"piece {k} is behind {i}", ZERO)) for k in range(len(self.pieces)) if k != i]
        return lead(j), rows

    def check(self) -> None:
        """Every side of the walls, every piece.

        Raises:
            Refuted: V may be negative, a law of jumps is none, or V is not proved to fall somewhere.
        """
        _require_nonnegative(self.pieces, self.epsilon)
        for sides in self.walk.regions():
            events = self.walk.events.get(sides, ())
            total = sum((e.probability for e in events), ZERO)
            lawful = total == 1 and all(e.probability >= 0 for e in events)
            require(lawful, f"on the sides {sides} the probabilities of the jumps add up to {total}")
            for i in range(len(self.pieces)):
                behind: dict[int, Fraction] = {}
                for j in range(len(self.pieces)):
                    require(
                        (sides, i, j) in self.prices, f"{sides}: no multipliers for the pieces {i} and {j}"
                    )
                    bound = _bound(
                        f"{sides}: {j} behind {i}", *self.comparison(sides, i, j), self.prices[sides, i, j]
                    )
                    if bound is None:
                        break  # piece i is V nowhere on these sides
                    behind[j] = bound
                else:
                    change = sum(
                        (
                            e.probability * max(m + self._step(j, e) for j, m in behind.items())
                            for e in events
                        ),
                        ZERO,
                    )
                    require(
                        change <= -self.epsilon,
                        f"{sides}, piece {i}: V changes by {change}, not by -{self.epsilon}",
                    )

    def _step(self, j: int, event: Event) -> Fraction:
        return sum((self.pieces[j].get(z, ZERO) * step for z, step in event.jump.items()), ZERO)
