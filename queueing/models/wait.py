"""WAIT: batches of constant composition, at the fluid point where an iteration brings as many requests as it starts.

Notation.  Requests of type j arrive at λ_j per second with l_j prompt tokens and l'_j decodes.  In the stages k = 0 to
l'_j they hold l_j + k tokens, and an iteration moves them on by a stage.  It takes  τ = d0 + d1·(tokens held by its
batch)  seconds; the node holds C tokens.  G_j = (l'_j + 1)(l_j + l'_j/2) is the sum of l_j + k over the stages.

    n_j = λ_j·τ  requests of type j at each stage,   τ* = d0/(1 - d1·Σ λ_j G_j),   memory  τ*·Σ λ_j G_j .

It exists if and only if the load  d1·Σ λ_j G_j  is below 1, and fits if and only if  Σ λ_j G_j <= C/(d0 + d1·C), which
is the stricter condition of both.

WAIT advances type j only when n_j new requests of it wait, and then everything of type j by a stage.  So each stage of
type j holds 0 or n_j requests, memory never exceeds  Σ n_j G_j,  and with n_j > λ_j·τ(n), τ(n) = d0 + d1·Σ n_j G_j, the
wait of each type is that of a stable queue with bulk service: :func:`thresholds` are the least such whole numbers.

Source: arXiv 2504.11320 (published; recalled).  Fixed point, existence, the mean of the path and the thresholds are
our derivation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import sympy

from queueing.models.closed_form import ClosedForm
from queueing.models.memory import held, lifetime_demand
from queueing.proofs.certificate import Certificate, Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity
from queueing.proofs.rational import Infeasible, Optimum, Program, Unbounded
from queueing.proofs.simplex import certify

__all__ = [
    "CLAIMS",
    "FluidPoint",
    "RequestType",
    "derivation",
    "existence",
    "fluid_path",
    "fluid_point",
    "largest_scale",
    "load",
    "thresholds",
]

ZERO = Fraction(0)
Number = Fraction | int


class RequestType(NamedTuple):
    """Requests with `prompt` l >= 1 tokens and `output` l' >= 0 decodes, `rate` λ >= 0 of them per second."""

    prompt: int
    output: int
    rate: Number

    @property
    def demand(self) -> Fraction:
        """λ·G: token-iterations asked for per second."""
        return self.rate * lifetime_demand(self.prompt, self.output).stated


class FluidPoint(NamedTuple):
    """An iteration's `duration` τ (s), its `batch` n_j of each type at every stage, the `memory` held (tokens)."""

    duration: Fraction
    batch: tuple[Fraction, ...]
    memory: Fraction


def load(types: Sequence[RequestType], per_kv: Number) -> Fraction:
    """d1·Σ λ_j G_j: share of time that goes into attention at any fluid point."""
    return per_kv * _demand(types)


def existence(types: Sequence[RequestType], base: Number, per_kv: Number) -> Optimum | Infeasible:
    """The balance of every stage of every type, with the iteration time, solved over x >= 0: the point, or why not.

    A Farkas ray at a load of 1 or more, a point below; either is a certificate in fractions.

    Raises:
        ValueError: a coefficient, length or rate is out of range.
    """
    _checked(types, base, per_kv)
    rows: dict[str, tuple[str, Number]] = {"iteration time": ("=", base)}
    columns: dict[str, tuple[Number, dict[str, Number]]] = {"duration": (1, {"iteration time": 1})}
    for j, t in enumerate(types):
        for k, tokens in enumerate(held(t.prompt, t.output)):
            rows[f"type {j}, stage {k}"] = ("=", 0)
            columns[f"batch {j}, {k}"] = (0, {f"type {j}, stage {k}": 1, "iteration time": -per_kv * tokens})
            before = columns[f"batch {j}, {k - 1}"] if k else columns["duration"]
            before[1][f"type {j}, stage {k}"] = -1 if k else -t.rate
    found = certify(Program.of(rows, columns))
    if isinstance(found, Unbounded):
        raise AssertionError("equations that determine every variable left one free")
    return found


def fluid_point(types: Sequence[RequestType], base: Number, per_kv: Number) -> ClosedForm[FluidPoint]:
    """The fluid point:  τ* = d0/(1 - load),  n_j = λ_j·τ*,  memory τ*·Σ λ_j G_j.

    For one type,  n* = λ·d0/(1 - λ·d1·(l' + 1)(l + l'/2)).
    Computed: from the equations of :func:`existence`.

    Args: base, d0 > 0 (s); per_kv, d1 >= 0 (s per token held).  Fractions or whole numbers.

    Raises:
        ValueError: the load is 1 or more, where there is none; or as for :func:`existence`.

    Example:
        >>> fluid_point([RequestType(2, 2, Fraction(1, 4))], base=1, per_kv=Fraction(1, 9)).stated.duration
        Fraction(4, 3)
    """
    found, rho = existence(types, base, per_kv), load(types, per_kv)
    if isinstance(found, Infeasible) or rho >= 1:
        raise ValueError(f"the load is {float(rho):.6g} and batches grow without end; keep it below 1")
    tau = base / (1 - rho)
    stated = FluidPoint(tau, tuple(t.rate * tau for t in types), tau * _demand(types))
    batch = tuple(found.x.get(f"batch {j}, {t.output}", ZERO) for j, t in enumerate(types))
    stages = [
        (f"batch {j}, {k}", h) for j, t in enumerate(types) for k, h in enumerate(held(t.prompt, t.output))
    ]
    memory = sum((found.x.get(name, ZERO) * tokens for name, tokens in stages), ZERO)
    return ClosedForm(FluidPoint(found.x["duration"], batch, memory), stated)


def largest_scale(
    types: Sequence[RequestType], base: Number, per_kv: Number, memory: int
) -> ClosedForm[Fraction]:
    """Factor by which all rates can grow until no policy carries them:  C/((d0 + d1·C)·Σ λ_j G_j).

    That is the rate of :func:`queueing.models.memory.memory_capacity` at the iteration time of a full memory; the fluid
    point attains it.  Computed: by a linear program over iterations per second of any composition, since the time of
    an iteration is affine in what its batch holds.

    Raises:
        ValueError: nothing arrives, C is below 1, or as for :func:`existence`.
    """
    _checked(types, base, per_kv)
    demand = [sum((t.rate * tokens for tokens in held(t.prompt, t.output)), ZERO) for t in types]
    if sum(demand) == 0 or memory < 1:
        raise ValueError(
            f"give a rate above 0 and memory of at least a token, not {memory} tokens for {list(types)}"
        )
    program = Program.of(
        {"time": ("<=", 1), "memory": ("<=", 0)},
        {
            "iterations": (0, {"time": base, "memory": -memory}),
            "scale": (1, {"time": per_kv * sum(demand), "memory": sum(demand)}),
        },
    )
    found = certify(program)
    if not isinstance(found, Optimum):
        raise AssertionError("a program with a bounded feasible set has an optimum")
    return ClosedForm(found.value, memory / ((base + per_kv * memory) * _demand(types)))


def fluid_path(types: Sequence[RequestType], base: Number, per_kv: Number, iterations: int) -> list[Fraction]:
    """Durations (s) of the first iterations of a node that takes all, empty at first, in the fluid.

        τ_t = d0 + d1·Σ_j Σ_k (l_j + k)·λ_j·τ_(t-1-k)

    What arrives in an iteration starts in the next.  The path rises; it tends to τ* if the load is below 1 and grows
    without bound otherwise.  If arrivals in an iteration are λ_j times its duration in the mean, as Poisson arrivals
    are, this is exactly the mean of the duration of iteration t, because all is linear.

    Assumptions: memory never binds; an empty iteration takes d0 too.

    Raises:
        ValueError: as for :func:`existence`.
    """
    _checked(types, base, per_kv)
    longest = max((t.output for t in types), default=0) + 1
    weight = [ZERO] * longest  # of τ_(t-1-k)
    for t in types:
        for k, tokens in enumerate(held(t.prompt, t.output)):
            weight[k] += per_kv * t.rate * tokens
    path: list[Fraction] = []
    for _ in range(iterations):
        path.append(base + sum((w * tau for w, tau in zip(weight, reversed(path), strict=False)), ZERO))
    return path


def thresholds(types: Sequence[RequestType], base: Number, per_kv: Number) -> tuple[int, ...]:
    """Least whole numbers with  n_j > λ_j·τ(n) = λ_j·(d0 + d1·Σ n_i G_i);  0 for a type that does not arrive.

    For one type ⌊n*⌋ + 1.  For several, rounding each n_j* up can be too little, because the batch that is rounded up
    takes longer.  They exist whenever the load is below 1; what they hold, Σ n_j G_j tokens, must fit.

    Raises:
        ValueError: as for :func:`fluid_point`.
    """
    point = fluid_point(types, base, per_kv).stated
    per_stage = [lifetime_demand(t.prompt, t.output).stated for t in types]
    n = [math.floor(x) + 1 if x else 0 for x in point.batch]  # none below can do
    while True:
        tau = base + per_kv * sum((m * g for m, g in zip(n, per_stage, strict=True)), ZERO)
        after = [math.floor(t.rate * tau) + 1 if t.rate else 0 for t in types]
        if after == n:
            return tuple(n)
        n = after


def derivation() -> tuple[Identity, ...]:
    """The algebra of every statement above, in symbols."""
    lam, d0, d1, n, tau, C, D = sympy.symbols("lambda d0 d1 n tau C D", positive=True)
    prompt, output, k = sympy.symbols("l l' k", positive=True)
    stages = sympy.summation(prompt + k, (k, 0, output))
    G = (output + 1) * (prompt + output / 2)
    single = sympy.solve(sympy.Eq(n, lam * (d0 + d1 * n * G)), n)[0]
    several = sympy.solve(sympy.Eq(tau, d0 + d1 * tau * D), tau)[0]  # D = Σ λ_j G_j
    full = sympy.solve(sympy.Eq(several * D, C), D)[0]
    return (
        Identity("tokens over the stages of a type", stages, G),
        Identity("one type", single, lam * d0 / (1 - lam * d1 * G)),
        Identity("several types", several, d0 / (1 - d1 * D)),
        Identity("demand at which the fluid point fills memory", full, C / (d0 + d1 * C)),
        Identity("it leaves the load below 1", 1 - d1 * full, d0 / (d0 + d1 * C)),
    )


def _demand(types: Sequence[RequestType]) -> Fraction:
    return sum((t.demand for t in types), ZERO)


def _checked(types: Sequence[RequestType], base: Number, per_kv: Number) -> None:
    if base <= 0 or per_kv < 0:
        raise ValueError(f"an iteration takes time; give d0 > 0 and d1 >= 0, not {base} and {per_kv}")
    if not types or any(t.rate < 0 for t in types):
        raise ValueError(f"give at least one type, and rates >= 0, not {list(types)}")


def _misprints() -> tuple[Identity, ...]:
    """Requests that leave with their last decode still to come, and memory filled without the time that it takes."""
    lam, d0, d1, n, C, D, prompt, output, k = sympy.symbols("lambda d0 d1 n C D l l' k", positive=True)
    stages = sympy.summation(prompt + k, (k, 0, output))
    short = output * (prompt + output / 2)
    single = sympy.solve(sympy.Eq(n, lam * (d0 + d1 * n * stages)), n)[0]
    full = sympy.solve(sympy.Eq(d0 / (1 - d1 * D) * D, C), D)[0]
    return (
        Identity("tokens over l' stages", stages, short),
        Identity("one type, l' stages", single, lam * d0 / (1 - lam * d1 * short)),
        Identity("memory at the base time", full, C / d0),
    )


TYPES = (RequestType(2, 2, Fraction(1, 4)), RequestType(1, 3, Fraction(1, 5)))  # G = 9 and 10, Σ λG = 17/4


def _instances() -> tuple[Optimum, Infeasible]:
    """A fluid point at the load 17/18, and a Farkas ray at 17/16."""
    point, ray = existence(TYPES, 1, Fraction(2, 9)), existence(TYPES, 1, Fraction(1, 4))
    assert isinstance(point, Optimum)
    assert isinstance(ray, Infeasible)
    return point, ray


def _points() -> list[Certificate]:
    point, ray = _instances()
    return [point, Identity("τ*", point.value, 18), ray]


def _exchanged() -> list[Certificate]:
    """The point for the larger load, and the ray for the smaller one."""
    point, ray = _instances()
    return [replace(point, program=ray.program), replace(ray, program=point.program)]


PAGE = "docs/models/wait.md"
SOURCE = "arXiv 2504.11320 (published; recalled)"

CLAIMS = (
    Claim(
        name="wait-fluid-point",
        statement="WAIT's fluid point is τ* = d0/(1 - d1·Σ λ_j G_j), n_j = λ_j·τ*, G = (l' + 1)(l + l'/2); it fills "
        "memory C at Σ λ_j G_j = C/(d0 + d1·C), where the load is still below 1.",
        assumptions=("an iteration takes d0 + d1·(tokens held)", "arrivals at constant rates, in the fluid"),
        source=f"{SOURCE}; fixed point and existence are our derivation",
        kind=Kind.IDENTITY,
        evidence=derivation,
        controls={"a stage too few, memory filled in no time": _misprints},
        where=PAGE,
    ),
    Claim(
        name="wait-fluid-point-exists",
        statement="With types (l, l', λ) = (2, 2, 1/4) and (1, 3, 1/5) and d0 = 1 the fluid point at d1 = 2/9, load "
        "17/18, has τ* = 18, and at d1 = 1/4, load 17/16, there is none.",
        assumptions=("as for wait-fluid-point",),
        source="our calculation",
        kind=Kind.RATIONAL,
        evidence=_points,
        controls={"point and ray exchanged": _exchanged},
        where=PAGE,
    ),
)
