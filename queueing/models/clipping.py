"""Clipping outputs: the longest tokens of a few are paid for by the waiting of all.

Notation.  Requests come at λ per second (Poisson) and are served one at a time, in order.  Outputs S are cut off at n
tokens; a service takes h(s) = a + b·min(s, n) seconds, with moments m1, m2, and ρ_n = λ·m1 < 1.

    E[W_n] = λ·m2/(2(1 - ρ_n))            seconds of waiting (Pollaczek, Khinchine)
    c_n = λ·b·(h(n) + b/2 + E[W_n])/(1 - ρ_{n+1})      seconds of waiting that the token n + 1 costs

The price c_n is what the mean wait grows by, per token more that a clip of n + 1 instead of n lets be served.  It grows
with n, whatever the lengths.  Hence, if a token is worth v seconds,  v·E[min(S, n)] - E[W_n]  rises up to the first n
with c_n >= v and falls from there on: **the first-order condition is enough, and the best clip is that n.**

If instead v is what a complete answer is worth, v·P(S <= n) - E[W_n], a token is paid by the hazard
P(S = n + 1 | S > n), and the condition is c_n >= v·hazard.  It is enough if the hazard never rises, and may stop too
early otherwise.

Assumptions: lengths independent of each other and of arrivals; the clip changes nothing but the length.
Source: arXiv 2407.05347 for E[W_n] and the choice against a utility (published; recalled).  The price, its growth and
both conditions are our derivation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import sympy
from scipy import stats

from queueing.models.closed_form import ClosedForm
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity

__all__ = ["CLAIMS", "Clipped", "Worth", "derivation"]

ZERO = Fraction(0)
Worth = Literal["token", "answer"]
LARGEST = 4000  # states of the chain


@dataclass(frozen=True)
class Clipped:
    """Requests at `rate` λ per second; `lengths` weighs output lengths; s tokens take `base` + `each`·s seconds.

    Exact, in fractions.

    Raises:
        ValueError: a weight is negative or none positive, a length is below 1, λ or b is not positive or a negative.

    Example:
        >>> chat = Clipped({10: 8, 100: 1, 1000: 1}, rate=Fraction(1, 4), each=Fraction(1, 100))
        >>> [round(float(chat.wait(n)), 2) for n in (10, 100, 1000)]
        [0.0, 0.03, 1.79]
        >>> chat.best_clip(worth=Fraction(1, 100)).stated
        332
    """

    lengths: Mapping[int, Fraction | int]
    rate: Fraction
    each: Fraction
    base: Fraction = ZERO

    def __post_init__(self) -> None:
        weights = {s: Fraction(w) for s, w in sorted(self.lengths.items()) if w}
        if not weights or min(weights.values()) < 0 or min(weights) < 1:
            raise ValueError(f"give positive weights of lengths >= 1, not {dict(self.lengths)}")
        for name in ("rate", "each", "base"):
            object.__setattr__(self, name, Fraction(getattr(self, name)))
        if min(self.rate, self.each) <= 0 or self.base < 0:
            raise ValueError(f"give λ > 0, b > 0 and a >= 0, not {self.rate}, {self.each}, {self.base}")
        total = sum(weights.values(), ZERO)
        object.__setattr__(self, "lengths", {s: w / total for s, w in weights.items()})

    @property
    def longest(self) -> int:
        """The clip from which nothing is cut off."""
        return max(self.lengths)

    def tokens(self, clip: int) -> Fraction:
        """E[min(S, n)], tokens served per request."""
        return sum((Fraction(p) * min(s, clip) for s, p in self.lengths.items()), ZERO)

    def complete(self, clip: int) -> Fraction:
        """P(S <= n), share of answers that are not cut off."""
        return sum((Fraction(p) for s, p in self.lengths.items() if s <= clip), ZERO)

    def load(self, clip: int) -> Fraction:
        """ρ_n."""
        return self.rate * (self.base + self.each * self.tokens(clip))

    def wait(self, clip: int) -> Fraction:
        """E[W_n], seconds.

        Raises:
            ValueError: the clip is below 1, or ρ_n >= 1.
        """
        if clip < 1 or self.load(clip) >= 1:
            raise ValueError(
                f"give a clip of at least 1 token with ρ < 1, not {clip}, ρ = {float(self.load(clip)):.4g}"
            )
        square = sum((p * self._seconds(min(s, clip)) ** 2 for s, p in self.lengths.items()), ZERO)
        return self.rate * square / (2 * (1 - self.load(clip)))

    def waiting(self, clip: int) -> ClosedForm[float]:
        """E[W_n] in floats.  Computed: the chain of requests left behind by each departure, then Little.

        X' = max(X, 1) - 1 + arrivals in a service;  E[W] = E[X]/λ - E[h].  The chain is cut off at K, doubled until the
        mean has settled to 1e-9.

        Raises:
            ValueError: as for :meth:`wait`, or more than 4000 states are needed.
        """
        stated = float(self.wait(clip))
        service = float(self.load(clip) / self.rate)
        size = math.ceil(16 / (1 - float(self.load(clip)))) + 16
        before = math.nan  # unlike everything
        while size <= LARGEST:
            held = self._departures(clip, size) / float(self.rate) - service
            if abs(held - before) <= 1e-9 * (service + before):
                return ClosedForm(held, stated)
            size, before = 2 * size, held
        raise ValueError(
            f"ρ = {float(self.load(clip)):.4g} needs more than {LARGEST} states; use wait, which is exact"
        )

    def price(self, clip: int) -> ClosedForm[Fraction]:
        """c_n = λ·b·(h(n) + b/2 + E[W_n])/(1 - ρ_{n+1}), seconds of waiting per token more that is served.

        Computed: (E[W_{n+1}] - E[W_n])/(E[min(S, n+1)] - E[min(S, n)]).

        Raises:
            ValueError: ρ_{n+1} >= 1, or nothing is longer than n, so that no token is gained.
        """
        more = self.tokens(clip + 1) - self.tokens(clip)
        if not more:
            raise ValueError(f"no output is longer than {clip}; give a clip below {self.longest}")
        computed = (self.wait(clip + 1) - self.wait(clip)) / more
        return ClosedForm(computed, self._price(clip))

    def value(self, clip: int, worth: Fraction, of: Worth = "token") -> Fraction:
        """v·E[min(S, n)] - E[W_n], or v·P(S <= n) - E[W_n] if `of` is "answer"; seconds."""
        return worth * (self.tokens(clip) if of == "token" else self.complete(clip)) - self.wait(clip)

    def best_clip(self, worth: Fraction, of: Worth = "token") -> ClosedForm[int]:
        """The least n at which the first-order condition holds, c_n >= v times 1 or the hazard.

        Computed: the best of all clips with ρ_n < 1, the least of equals; for tokens always the same, for answers not.

        Raises:
            ValueError: v is negative, or ρ >= 1 even at one token.
        """
        if worth < 0:
            raise ValueError(f"the worth v is {worth}; give at least 0 seconds")
        stable = [n for n in range(1, self.longest + 1) if self.load(n) < 1]
        if not stable:
            raise ValueError("λ is too large even for answers of one token; give a smaller one")
        computed = max(stable, key=lambda n: (self.value(n, worth, of), -n))
        for n in stable[:-1]:
            if self._price(n) >= (worth if of == "token" else worth * self._hazard(n)):
                return ClosedForm(computed, n)
        return ClosedForm(computed, stable[-1])

    def _price(self, clip: int) -> Fraction:
        middle = self._seconds(clip) + self.each / 2
        return self.rate * self.each * (middle + self.wait(clip)) / (1 - self.load(clip + 1))

    def _hazard(self, clip: int) -> Fraction:
        return self.lengths.get(clip + 1, ZERO) / (1 - self.complete(clip))

    def _seconds(self, tokens: int) -> Fraction:
        return self.base + self.each * tokens

    def _departures(self, clip: int, size: int) -> float:
        """Mean number left behind by a departure, where a request that would be the `size`-th is lost."""
        coming = np.zeros(size)
        for s, p in self.lengths.items():
            coming += float(p) * stats.poisson.pmf(
                np.arange(size), float(self.rate * self._seconds(min(s, clip)))
            )
        rows = np.zeros((size, size))
        for x in range(size):
            left = max(x, 1) - 1
            rows[x, left:] = coming[: size - left]
            rows[x, -1] += max(0.0, 1 - rows[x].sum())
        system = rows.T - np.eye(size)
        system[-1] = 1.0
        return float(np.linalg.solve(system, np.eye(size)[-1]) @ np.arange(size))


def derivation() -> tuple[Identity, ...]:
    """The price of a token, that it grows, and both first-order conditions, in symbols; G = P(S > n)."""
    lam, a, b, n, G, m1, m2, v, p = sympy.symbols("lambda a b n G m_1 m_2 v p", positive=True)
    after1 = m1 + b * G
    after2 = m2 + ((a + b * (n + 1)) ** 2 - (a + b * n) ** 2) * G

    def wait(first: sympy.Expr, second: sympy.Expr) -> sympy.Expr:
        return lam * second / (2 * (1 - lam * first))

    rise = wait(after1, after2) - wait(m1, m2)
    price = lam * b * (a + b * n + b / 2 + wait(m1, m2)) / (1 - lam * after1)
    later, g = after1 + b * sympy.Symbol("G'", positive=True), sympy.Symbol("G'", positive=True)
    following = lam * b * (a + b * (n + 1) + b / 2 + wait(after1, after2)) / (1 - lam * later)
    growth = lam * b * (b + rise + lam * b * g * (a + b * n + b / 2 + wait(m1, m2)) / (1 - lam * after1))
    k = sympy.Symbol("k", integer=True, positive=True)
    continuous = sympy.diff(lam * n**2 / (2 * (1 - lam * n)), n)  # everybody is cut off
    return (
        Identity("price of a token", rise / G, price),
        Identity(
            "it grows: all terms are positive below load 1", following - price, growth / (1 - lam * later)
        ),
        Identity("gain of a token", v * G - rise, G * (v - price)),
        Identity("gain of an answer", v * p - rise, G * (v * p / G - price)),
        Identity("rise of E[min(S, n)²]", sympy.summation(2 * k - 1, (k, 1, n)), n**2),
        Identity(
            "continuous price", continuous, lam * (n + lam * n**2 / (2 * (1 - lam * n))) / (1 - lam * n)
        ),
    )


def _price_with(own: int, following: int) -> tuple[Identity, ...]:
    """The price of token n + 1 with `own` halves of its own service, at the load of a clip of n + `following`."""
    lam, a, b, n, G, m1, m2 = sympy.symbols("lambda a b n G m_1 m_2", positive=True)
    after1 = m1 + b * G
    after2 = m2 + ((a + b * (n + 1)) ** 2 - (a + b * n) ** 2) * G
    wait = lam * m2 / (2 * (1 - lam * m1))
    rise = lam * after2 / (2 * (1 - lam * after1)) - wait
    price = lam * b * (a + b * n + own * b / 2 + wait) / (1 - lam * (m1 + following * b * G))
    return (Identity("price of a token", rise / G, price),)


CLAIMS = (
    Claim(
        name="clipping-price",
        statement="A clip of n + 1 tokens instead of n costs the mean wait c_n = λb(h(n) + b/2 + E[W_n])/(1 - ρ_{n+1}) "
        "per token more that is served, and c_n grows with n; so the first n with c_n >= v is the best clip for "
        "a token worth v.",
        assumptions=(
            "Poisson arrivals, one request at a time in order, ρ < 1",
            "E[W_n] = λ·m2/(2(1 - ρ_n)) (Pollaczek and Khinchine, cited)",
            "the clip changes nothing but the length",
        ),
        source="our derivation; arXiv 2407.05347 for E[W_n] and the choice against a utility (published; recalled)",
        kind=Kind.IDENTITY,
        evidence=derivation,
        controls={
            "the load before the token is added": lambda: _price_with(1, 0),
            "a token is served at once": lambda: _price_with(0, 1),
        },
        where="docs/models/clipping.md",
    ),
)
