"""Foster's criterion for work-conserving batches, split into five steps with explicit constants.

Notation.  A request has at most L tokens, of which at least one can be loaded at any time; a batch holds at most b;
work conservation: it holds min(b, loadable).  W is the number of tokens unserved at the start of a batch, A the tokens
that arrive during a full batch, λ·m·t(b) in the mean (λ requests per second of m tokens each).

    P1  W > (b - 1)·L  implies a full batch                                  (pigeonhole)
    P2  on a full batch  E[W' - W] = E[A] - b = -ε                           (drift)
    P3  {W <= (b - 1)·L} holds finitely many states                          (tokens are whole numbers)
    P4  so W reaches that set within  (W₀ - (b - 1)(L - 1))/ε  batches in the mean
    P5  conversely, no batch beats the best rate, so W grows if λ·m exceeds it

P4: W_k + ε·k is a supermartingale until the set is reached, and at that batch W is still at least (b - 1)·L + 1 - b.
Positive recurrence then is Foster's theorem (cited: Meyn and Tweedie, Markov Chains and Stochastic Stability, ch. 11;
recalled).  For RAD the same steps hold in seconds, with (b - 1)·ω for the set of P1 and 1 - ρ per second for ε.

Assumptions: bounded lengths; arrivals during different batches independent, of one law; memory never binds.
Not promised: anything for unbounded lengths, for which arXiv 2504.07347 uses fluid limits of K-FCFS (cited); P1 for
batches of prompts only or decodes only (its counterexample stands in the tests).
Source: arXiv 2504.07347 for the statement on the whole class; the split and its constants are our derivation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

import sympy

from queueing.models.closed_form import ClosedForm
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity
from queueing.proofs.rational import exact

__all__ = [
    "CLAIMS",
    "converse_growth",
    "derivation",
    "drift",
    "hitting_batches",
    "hitting_seconds",
    "short_batch_work",
]

ZERO = Fraction(0)
Arriving = Mapping[int, Fraction]  # probability of each number of tokens


def short_batch_work(b: int, longest: int) -> ClosedForm[Fraction]:
    """P1: most tokens W that can be there while a work-conserving batch has fewer than b:  (b - 1)·L.

    Computed: a request offers l of its r tokens, 1 <= l <= r <= L; the largest sum of r with the sum of l at most
    b - 1, by dynamic programming.

    Raises:
        ValueError: b or L is below 1.
    """
    _positive(b, longest)
    most = [0] * b  # most[k]: largest W with k tokens loadable
    for k in range(1, b):
        most[k] = max(most[k - offered] + longest for offered in range(1, min(k, longest) + 1))
    return ClosedForm(Fraction(max(most)), Fraction((b - 1) * longest))


def drift(b: int, arriving: Arriving) -> Fraction:
    """P2: ε = b - E[A], tokens by which W falls on a full batch in the mean.

    Raises:
        ValueError: the probabilities do not add up to exactly 1.
    """
    if sum(arriving.values()) != 1 or min(arriving.values()) < 0 or min(arriving) < 0:
        raise ValueError("the tokens that arrive need probabilities that add up to exactly 1; give fractions")
    return b - sum((a * p for a, p in arriving.items()), ZERO)


def hitting_batches(start: int, b: int, longest: int, arriving: Arriving, cap: int) -> ClosedForm[Fraction]:
    """P4: mean number of batches until W <= (b - 1)·L, and its bound  (W₀ - (b - 1)(L - 1))/ε.

    Computed: exactly, by elimination in fractions, for the system that turns away what would raise W above `cap`; it
    increases with `cap` towards the mean of the system itself.  So computed <= stated, with equality in the limit where
    W falls by at most one (b = 1).

    Args: start, W₀ tokens; arriving, law of A; cap, tokens, at least W₀.

    Raises:
        ValueError: ε <= 0, where the mean is infinite; or a cap below W₀.
    """
    _positive(b, longest)
    epsilon, low = drift(b, arriving), (b - 1) * longest
    if epsilon <= 0:
        raise ValueError(f"W does not fall on a full batch (by {float(epsilon)} tokens); lower the arrivals")
    if not low < start <= cap:
        raise ValueError(f"start above {low} tokens and at most at the cap of {cap}, not at {start}")
    stated = (start - (b - 1) * (longest - 1)) / epsilon

    def after(w: int) -> dict[int, Fraction]:
        law: dict[int, Fraction] = {}
        for a, p in arriving.items():
            to = w - b + (a if w - b + a <= cap else 0)
            law[to] = law.get(to, ZERO) + p
        return law

    return ClosedForm(_mean_steps(range(low + 1, cap + 1), after)[start], stated)


def _mean_steps(inside: range, after: Callable[[int], Mapping[int, Fraction]]) -> dict[int, Fraction]:
    """Mean number of steps of a Markov chain until it leaves `inside`, from each state: h = 1 + P h, eliminated."""
    rows: dict[int, tuple[dict[int, Fraction], Fraction]] = {}
    for state in inside:  # h(state) = constant + sum of weights of larger states
        row, constant = {to: p for to, p in after(state).items() if to in inside}, Fraction(1)
        while (known := min((to for to in row if to in rows), default=None)) is not None:
            weight = row.pop(known)
            constant += weight * rows[known][1]
            for to, p in rows[known][0].items():
                row[to] = row.get(to, ZERO) + weight * p
        stays = 1 - row.pop(state, ZERO)
        rows[state] = ({to: p / stays for to, p in row.items()}, constant / stays)
    mean: dict[int, Fraction] = {}
    for state in reversed(inside):
        row, constant = rows[state]
        mean[state] = constant + sum((p * mean[to] for to, p in row.items()), ZERO)
    return mean


def hitting_seconds(
    start: Fraction, low: Fraction, load: Fraction, longest_batch: Fraction = ZERO
) -> Fraction:
    """P4 in seconds: mean time until W <= `low` while all batches are full, at most (W₀ - (low - T)^+)/(1 - ρ).

    For RAD on one engine, low = (b - 1)·ω and T = `longest_batch` its full batch (s), below which W cannot jump.

    Raises:
        ValueError: ρ >= 1.
    """
    if not 0 <= load < 1:
        raise ValueError(f"the load is {float(load)}; the mean is finite below 1")
    return (start - max(ZERO, low - longest_batch)) / (1 - load)


def converse_growth(
    rate: Fraction | float, mean: Fraction | float, price: Fraction, engines: int = 1
) -> Fraction:
    """P5: tokens per second by which W grows at least, in the mean, under any policy:  λ·m - g/w  (if positive).

    w = min t(n)/n is the least price of a token (:attr:`~queueing.models.replay.ExactLaw.price`), so g engines serve at
    most g/w tokens per second.  It equals b/t(b) if t(n)/n is least at the largest batch: for c + a·(n - b₀)^+ and
    b > b₀ exactly if c >= a·b₀.

    Raises:
        ValueError: the price is not positive.
    """
    if price <= 0:
        raise ValueError(f"a token costs {price} s; give a price above 0")
    return exact(rate) * exact(mean) - engines / price


def derivation() -> tuple[Identity, ...]:
    """The algebra of P2, P4 and P5, in symbols."""
    lam, m, b, t, start, L, c, a, n, b0 = sympy.symbols("lambda m b t W0 L c a n b0", positive=True)
    epsilon = b - lam * t * m
    capacity = sympy.solve(sympy.Eq(epsilon, 0), lam)[0]
    least = (b - 1) * L + 1 - b  # W after the batch that reaches the set, at least
    slope = sympy.diff(n / (c + a * (n - b0)), n)
    return (
        Identity("P2: no drift at the capacity of the class", capacity, b / (t * m)),
        Identity("P4: what is left of W when the set is reached", start - least, start - (b - 1) * (L - 1)),
        Identity("P5: sign of the slope of n/t(n)", slope * (c + a * (n - b0)) ** 2, c - a * b0),
    )


def _positive(b: int, longest: int) -> None:
    if b < 1 or longest < 1:
        raise ValueError(f"batches and requests hold at least one token; give b, L >= 1, not {b}, {longest}")


def _misprints() -> tuple[Identity, ...]:
    """The set reached without a jump into it, and every law of iteration time taken for one of best largest batch."""
    b, start, L, c, a, n, b0 = sympy.symbols("b W0 L c a n b0", positive=True)
    slope = sympy.diff(n / (c + a * (n - b0)), n)
    return (
        Identity("P4: W falls as far as to the set", start - ((b - 1) * L + 1 - b), start - (b - 1) * L),
        Identity("P5: n/t(n) rises whatever b0", slope * (c + a * (n - b0)) ** 2, c),
    )


CLAIMS = (
    Claim(
        name="foster-split",
        statement="W falls by b - λ·m·t(b) tokens on a full batch in the mean, which is positive below λ = "
        "b/(m·t(b)); the set {W <= (b - 1)L} is reached within (W0 - (b - 1)(L - 1))/ε batches in the mean; n/t(n) "
        "rises if and only if c >= a·b0.",
        assumptions=(
            "P1 (a larger W means a full batch) and P4's induction: proved in the kernel",
            "bounded lengths",
        ),
        source="arXiv 2504.07347 for the class (published; recalled); the split and its constants are our derivation",
        kind=Kind.IDENTITY,
        evidence=derivation,
        controls={"no jump into the set, any b0": _misprints},
        where="docs/models/stability.md",
    ),
)
