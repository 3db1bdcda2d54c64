"""Finding Lyapunov functions by linear programs, exactly; :mod:`queueing.proofs.drift` checks them.

For a fluid model the coefficients c_i of V = max_i c_i·x, the multipliers of every region and the rate ε are the
variables of one linear program (the multipliers are what makes it linear): maximise ε subject to c <= 1.  It is solved
with HiGHS and finished in fractions (:func:`queueing.proofs.simplex.certify`), so the answer needs no rounding, and an
optimum of 0 is a proof that no V of the kind exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from queueing.proofs.drift import FluidDrift, FluidModel, Rows, Vector, Walk, WalkDrift
from queueing.proofs.rational import Column, Infeasible, Optimum, Program, Row, Unbounded
from queueing.proofs.simplex import certify

__all__ = ["fluid_drift", "linear_walk_drift", "walk_drift"]

ZERO, ONE = Fraction(0), Fraction(1)


def fluid_drift(
    model: FluidModel, groups: Sequence[frozenset[str]] | None = None
) -> tuple[FluidDrift | None, Optimum]:
    """V with the largest rate, one piece per group of buffers; None if no such V falls, with the proof either way.

    Piece i has to fall while a buffer of group i is not empty, and elsewhere to stay below the mean of those that do.
    Groups are stations, say; without them V is linear, a single piece.

    Args:
        model: the fluid model.
        groups: sets of buffers that together name all of them.

    Returns:
        The certificate, and the optimum of the program: ε, and its dual as the proof that no V of the kind has more.

    Raises:
        ValueError: a buffer is in no group.

    Example: one engine, prompts x and decodes y in work, load 1/2, non-idling
        >>> from queueing.proofs.drift import Rule
        >>> half, busy = Fraction(1, 2), frozenset({"x", "y"})
        >>> model = FluidModel(
        ...     {"x": half, "y": ZERO},
        ...     {"prefill": {"x": -ONE, "y": ONE}, "decode": {"y": -ONE}},
        ...     (Rule("engine", {"prefill": ONE, "decode": ONE}, ONE, "=", busy),),
        ... )
        >>> found, optimum = fluid_drift(model)
        >>> found is None, optimum.value  # each token of prompt brings one of decode: the load is 1
        (True, Fraction(0, 1))
    """
    pieces = tuple(groups) if groups is not None else (frozenset(model.inflow),)
    if missing := set(model.inflow) - frozenset[str]().union(*pieces):
        raise ValueError(f"no piece has to fall while {sorted(missing)[0]} is not empty; put it into a group")
    columns: dict[str, dict[str, Fraction]] = {"epsilon": {}}
    rows: dict[str, Row] = {}
    for i in range(len(pieces)):
        for k in model.inflow:
            rows[f"most {i} {k}"] = Row(f"most {i} {k}", ONE)
            columns[f"c {i} {k}"] = {f"most {i} {k}": ONE}
    for n, nonempty in enumerate(model.patterns()):
        good = [i for i, group in enumerate(pieces) if group & nonempty]
        for i in range(len(pieces)):
            if i in good:
                _fall(model, model.rows(nonempty), f"{n} {i}", i, rows, columns)
                continue
            for k in nonempty:  # c_ik <= mean of c_jk over the falling pieces j
                name = f"cover {n} {i} {k}"
                rows[name] = Row(name, ZERO)
                columns[f"c {i} {k}"][name] = ONE
                for j in good:
                    columns[f"c {j} {k}"][name] = Fraction(-1, len(good))
    gains = {"epsilon": ONE}
    program = Program(
        tuple(rows.values()), tuple(Column(c, gains.get(c, ZERO), e) for c, e in columns.items())
    )
    optimum = certify(program)
    assert isinstance(optimum, Optimum)  # zero is feasible, and every coefficient bounded
    if optimum.value == 0:
        return None, optimum
    x = optimum.x
    found = tuple({k: x.get(f"c {i} {k}", ZERO) for k in model.inflow} for i in range(len(pieces)))
    falling: dict[tuple[frozenset[str], int], tuple[Fraction, ...]] = {}
    covered: dict[tuple[frozenset[str], int], dict[int, Fraction]] = {}
    for n, nonempty in enumerate(model.patterns()):
        good = [i for i, group in enumerate(pieces) if group & nonempty]
        size = len(model.rows(nonempty))
        for i in range(len(pieces)):
            if i in good:
                falling[nonempty, i] = tuple(
                    x.get(f"y {n} {i} {r}", ZERO) - x.get(f"-y {n} {i} {r}", ZERO) for r in range(size)
                )
            else:
                covered[nonempty, i] = dict.fromkeys(good, Fraction(1, len(good)))
    return FluidDrift(model, found, optimum.value, falling, covered), optimum


def _fall(
    model: FluidModel,
    known: Rows,
    tag: str,
    i: int,
    rows: dict[str, Row],
    columns: dict[str, dict[str, Fraction]],
) -> None:
    """Rows of  Aᵀy >= gain  and  b·y <= -ε - c·λ  for one region and piece."""
    total = f"fall {tag}"
    rows[total] = Row(total, ZERO)
    columns["epsilon"][total] = ONE
    for k, rate in model.inflow.items():
        if rate:
            columns[f"c {i} {k}"][total] = rate
    for j, effect in model.effects.items():
        name = f"pay {tag} {j}"
        rows[name] = Row(name, ZERO)
        for k, change in effect.items():
            if change:
                columns[f"c {i} {k}"][name] = change
    for r, (coefficients, row) in enumerate(known):
        entries = {f"pay {tag} {j}": -a for j, a in coefficients.items() if a}
        if row.side:
            entries[total] = row.side
        columns[f"y {tag} {r}"] = entries
        if row.sense == "=":
            columns[f"-y {tag} {r}"] = {name: -a for name, a in entries.items()}


def walk_drift(
    walk: Walk, outside: int, pieces: Sequence[Vector] | None = None, epsilon: Fraction | None = None
) -> WalkDrift | None:
    """Multipliers that prove that V falls on a walk; None if it does not.

    Args:
        walk: the walk.
        outside: V has to fall where Σ z >= `outside`.
        pieces: V; without them the linear V with the largest ε and coefficients at most 1, and None if that ε is 0.
        epsilon: the rate to be proved; only with `pieces`.

    Raises:
        ValueError: pieces without a rate, or the other way round.
    """
    if (pieces is None) != (epsilon is None):
        raise ValueError("give pieces and epsilon together, or neither for the best linear V")
    if pieces is None or epsilon is None:
        best = linear_walk_drift(walk, outside)
        if best.value == 0:
            return None
        pieces, epsilon = ({z: best.x.get(z, ZERO) for z in walk.coordinates},), best.value
    claim = WalkDrift(walk, tuple(pieces), epsilon, outside, {})
    prices: dict[tuple[str, int, int], tuple[Fraction, ...]] = {}
    for sides in walk.regions():
        for i in range(len(claim.pieces)):
            for j in range(len(claim.pieces)):
                answer = _most(*claim.comparison(sides, i, j))
                if isinstance(answer, Unbounded):
                    raise AssertionError("a piece leads without bound where it is behind")
                prices[sides, i, j] = tuple(
                    answer.y.get(str(n), ZERO) for n in range(len(answer.program.rows))
                )
    found = replace(claim, prices=prices)
    return found if found.holds else None


def linear_walk_drift(walk: Walk, outside: int) -> Optimum:
    """Largest ε with  c·E[jump] <= -ε  on every region that is not empty, 0 <= c <= 1; an optimum of 0: no linear V."""
    rows = [Row(f"most {z}", ONE) for z in walk.coordinates]
    columns = {z: {f"most {z}": ONE} for z in walk.coordinates} | {"epsilon": dict[str, Fraction]()}
    for sides in walk.regions():
        if isinstance(_most({}, walk.rows(sides, outside)), Infeasible):
            continue
        rows.append(Row(sides, ZERO))
        columns["epsilon"][sides] = ONE
        for z in walk.coordinates:
            mean = sum((e.probability * e.jump.get(z, 0) for e in walk.events.get(sides, ())), ZERO)
            if mean:
                columns[z][sides] = mean
    gains = {"epsilon": ONE}
    optimum = certify(
        Program(tuple(rows), tuple(Column(c, gains.get(c, ZERO), e) for c, e in columns.items()))
    )
    assert isinstance(optimum, Optimum)  # zero is feasible, and every coefficient bounded
    return optimum


def _most(gain: Vector, rows: Rows) -> Optimum | Infeasible | Unbounded:
    """Largest gain·v under the rows, which are called by their number."""
    named = tuple(replace(row, name=str(n)) for n, (_, row) in enumerate(rows))
    names = sorted({name for coefficients, _ in rows for name in coefficients} | set(gain))
    columns = tuple(
        Column(v, gain.get(v, ZERO), {str(n): a for n, (c, _) in enumerate(rows) if (a := c.get(v, ZERO))})
        for v in names
    )
    return certify(Program(named, columns))
