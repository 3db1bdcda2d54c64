"""Gate and route: the program behind it, and its optimum on an instance.

Class i of requests arrives at n·λ_i on n engines of B places and has P_i prompt tokens and D_i output tokens.  A share
x_i of the engines prefills class i in chunks of C tokens; y_m,i decodes run beside a prompt, and y_s,i on engines
without one, in iterations of τ_mix and τ_solo seconds.  A completion pays r_i.

    max Σ r_i (μ_m,i y_m,i + μ_s,i y_s,i)      μ_p = C/(P·τ_mix),   μ_m = 1/(D·τ_mix),   μ_s = 1/(D·τ_solo)
    μ_p,i x_i <= λ_i ,      μ_m,i y_m,i + μ_s,i y_s,i <= μ_p,i x_i ,
    Σ x_i <= 1 ,      Σ y_m,i <= (B - 1)·Σ x_i ,      Σ y_s,i <= B·(1 - Σ x_i) .

The policy gates admissions at x* and routes decodes; that it attains n times the optimum as n grows is cited.

Source: Lin, Ding, Han and Zhang, arXiv 2602.02987 (published; recalled); instance and evidence are our calculation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from queueing.proofs.certificate import Certificate, Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity
from queueing.proofs.rational import Optimum, Program

__all__ = ["CLAIMS", "program"]

F = Fraction
RATES, PROMPTS, OUTPUTS, PAY = (F(3, 2), F(1, 2)), (4, 1), (1, 6), (5, 13)
PLACES, MIXED, SOLO = 8, F(3, 2), F(1)  # B; τ_mix and τ_solo (s); C = 1
SHARES = {"x 1": F(1, 4), "x 2": F(3, 4), "mixed 1": F(1, 16), "mixed 2": F(9, 2)}
PRICES = {"gate 2": F(47, 4), "decode 1": F(5), "decode 2": F(13), "engines": F(5, 6)}


def program(places: int = PLACES) -> Program:
    """The program of the instance; `places`, B."""
    rows: dict[str, tuple[str, F | int]] = {"engines": ("<=", 1), "mixed": ("<=", 0), "solo": ("<=", places)}
    columns: dict[str, tuple[F | int, Mapping[str, F | int]]] = {}
    for i, (rate, prompt, output, pay) in enumerate(zip(RATES, PROMPTS, OUTPUTS, PAY, strict=True), start=1):
        rows |= {f"gate {i}": ("<=", rate), f"decode {i}": ("<=", 0)}
        prefilled, mixed, solo = 1 / (prompt * MIXED), 1 / (output * MIXED), 1 / (output * SOLO)
        shared = {"engines": 1, "mixed": 1 - places, "solo": places}
        columns[f"x {i}"] = (0, {**shared, f"gate {i}": prefilled, f"decode {i}": -prefilled})
        columns[f"mixed {i}"] = (pay * mixed, {"mixed": 1, f"decode {i}": mixed})
        columns[f"solo {i}"] = (pay * solo, {"solo": 1, f"decode {i}": solo})
    return Program.of(rows, columns)


def _optimum() -> list[Certificate]:
    found = Optimum(program(), SHARES, PRICES)
    return [found, Identity("pay per second and engine", found.value, F(161, 24))]


def _altered() -> list[Certificate]:
    """Five places; a price lowered; all engines to the class that pays more per request."""
    found = Optimum(program(), SHARES, PRICES)
    return [
        replace(found, program=program(5)),
        replace(found, y={**PRICES, "decode 1": F(49, 10)}),
        replace(found, x={"x 2": F(3, 4), "mixed 2": F(9, 2)}),
    ]


CLAIMS = (
    Claim(
        name="gate-and-route-instance",
        statement="Of λ = (3/2, 1/2), P = (4, 1), D = (1, 6), pay (5, 13), B = 8, τ_mix = 3/2, τ_solo = 1 the "
        "optimum is 161/24: a quarter of the engines prefills the first class, three quarters the second, and all "
        "decode beside a prompt.",
        assumptions=("the program as stated in the module",),
        source="arXiv 2602.02987 for the program (published; recalled); the instance is our calculation",
        kind=Kind.RATIONAL,
        evidence=_optimum,
        controls={"a price, places and shares altered": _altered},
        where="docs/claims.md",
    ),
)
