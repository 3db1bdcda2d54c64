"""Length laws: how many tokens a prompt has and how many are generated for it.

Notation: p, d = prompt and output length of a request.  A law of one length is given by its probabilities (see
:mod:`queueing.marginals`, whose laws are named here too), a law of the pair (p, d) by `sample` and `moments`.
Laws are drawn by inversion, two uniforms per request, so that a longer sample begins with the shorter one and two laws
fed the same stream are coupled monotonically.

What capacity needs of a law (:class:`Moments`), per request:
    S = E[p + d]              tokens through the linear layers
    K = E[p d + d(d+1)/2]     KV tokens read by decodes, when each of the d output tokens takes a decode iteration;
                              K - S when the last prompt chunk emits the first output token
    A = E[p^2 / 2]            attention of the prompt with itself
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from queueing.data import data_folder, local_copy
from queueing.marginals import (
    Fixed,
    Length,
    LogNormal,
    Quantiles,
    TruncatedExponential,
    UniformTiles,
    cosine_levels,
    first_two_moments,
    invert,
    rounded_pmf,
    stratum_levels,
)
from queueing.tabular import read_table

__all__ = [
    "ArXiv",
    "Empirical",
    "Fixed",
    "Independent",
    "Length",
    "Lengths",
    "LogNormal",
    "Moments",
    "QuantileTable",
    "Quantiles",
    "ShareGPT",
    "TruncatedExponential",
    "UniformTiles",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Order = Literal["bootstrap", "shuffled", "in order"]
Source = Literal["auto", "table", "list"]


class Lengths(Protocol):
    """Law of the pair (prompt, output)."""

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Draw n prompts and n outputs, in tokens."""
        ...

    def moments(self) -> Moments:
        """Moments of the law itself, not of a sample."""
        ...


@dataclass(frozen=True, slots=True)
class Moments:
    """First and second moments of (p, d), in tokens and tokens squared.

    Args: prompt = E[p], output = E[d], prompt_square = E[p^2], output_square = E[d^2], product = E[p d].
    """

    prompt: float
    output: float
    prompt_square: float
    output_square: float
    product: float

    @classmethod
    def of(cls, prompt: ArrayLike, output: ArrayLike) -> Moments:
        """Moments of a list of requests, each the float nearest to the exact average."""
        p, d = np.asarray(prompt, np.int64), np.asarray(output, np.int64)
        # ten products of lengths near 10^9 overflow 64 bits, so long ones are added as Python integers
        if len(p) * int(max(p.max(), d.max())) ** 2 >= 2**63:
            p, d = p.astype(object), d.astype(object)
        sums = (p.sum(), d.sum(), (p * p).sum(), (d * d).sum(), (p * d).sum())
        return cls(*(int(total) / len(p) for total in sums))

    @property
    def S(self) -> float:  # noqa: N802  # the name of the theory
        """E[p + d]: tokens per request."""
        return self.prompt + self.output

    @property
    def K(self) -> float:  # noqa: N802
        """E[p d + d(d+1)/2]: KV tokens that the d decodes of a request attend to."""
        return self.product + (self.output_square + self.output) / 2

    @property
    def A(self) -> float:  # noqa: N802
        """E[p^2/2]: attention of the prompt with itself."""
        return self.prompt_square / 2

    @property
    def prompt_sd(self) -> float:
        """Standard deviation of the prompt length."""
        return math.sqrt(max(0.0, self.prompt_square - self.prompt**2))

    @property
    def output_sd(self) -> float:
        """Standard deviation of the output length."""
        return math.sqrt(max(0.0, self.output_square - self.output**2))

    @property
    def correlation(self) -> float:
        """Correlation of p and d; 0 if one of them is constant."""
        spread = self.prompt_sd * self.output_sd
        return (self.product - self.prompt * self.output) / spread if spread > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Independent:
    """Prompt and output drawn independently, each from its own law."""

    prompt: Length
    output: Length

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Draw n prompts and n outputs by inversion of two uniforms per request."""
        u = rng.random((n, 2))
        return invert(self.prompt.pmf(), u[:, 0]), invert(self.output.pmf(), u[:, 1])

    def moments(self) -> Moments:
        """E[p d] = E[p] E[d]; the rest from the two laws, exact up to rounding."""
        p1, p2 = first_two_moments(self.prompt.pmf())
        d1, d2 = first_two_moments(self.output.pmf())
        return Moments(p1, d1, p2, d2, p1 * d1)

    def prompt_pmf(self) -> Floats:
        """Probabilities of prompt lengths, by number of tokens."""
        return self.prompt.pmf()

    def output_pmf(self) -> Floats:
        """Probabilities of output lengths, by number of tokens."""
        return self.output.pmf()


@dataclass(frozen=True, slots=True, eq=False)
class Empirical:
    """The lengths of a list of requests, in pairs.

    Args:
        prompt, output: tokens >= 1, equally many, at least one pair.
        order: "bootstrap" draws pairs with replacement (i.i.d.); "shuffled" deals the list out in random order, and
            again in another when it is used up (exact frequencies, not independent); "in order" repeats it as it is.
    """

    prompt: Ints
    output: Ints
    order: Order = "shuffled"

    def __post_init__(self) -> None:
        if self.order not in ("bootstrap", "shuffled", "in order"):
            raise ValueError(
                f"the order {self.order!r} is unknown; give 'bootstrap', 'shuffled' or 'in order'"
            )
        for name in ("prompt", "output"):
            given = np.array(getattr(self, name))
            if given.ndim != 1 or len(given) == 0 or given.dtype.kind not in "iuf":
                raise ValueError(
                    f"the {name} lengths are not a list of numbers; give at least one, in one dimension"
                )
            allowed = (given >= 1) & (given == np.floor(given)) & (given <= 10**9)
            if not allowed.all():
                row = int(np.argmin(allowed))
                raise ValueError(
                    f"{name}, row {row}: {given[row]} is not a number of tokens; give whole numbers from 1"
                )
            column = given.astype(np.int64)
            column.setflags(write=False)
            object.__setattr__(self, name, column)
        if len(self.prompt) != len(self.output):
            raise ValueError(f"{len(self.prompt)} prompts and {len(self.output)} outputs; give equally many")

    @classmethod
    def read_csv(cls, path: str | Path, order: Order = "shuffled") -> Empirical:
        """Read the columns prompt_tokens and output_tokens of a CSV file; other columns are not looked at."""
        table = read_table(path)
        columns = [np.array(table.numbers(name)) for name in ("prompt_tokens", "output_tokens")]
        try:
            return cls(columns[0], columns[1], order)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Take n pairs from the list, in the order asked for."""
        size = len(self.prompt)
        if self.order == "bootstrap":
            rows = rng.integers(0, size, n)
        elif self.order == "shuffled":
            deals = -(-n // size)
            rows = np.concatenate([rng.permutation(size) for _ in range(deals)] or [np.empty(0, np.int64)])[
                :n
            ]
        else:
            rows = np.arange(n) % size
        return self.prompt[rows], self.output[rows]

    def moments(self) -> Moments:
        """Averages over the list."""
        return Moments.of(self.prompt, self.output)

    def prompt_pmf(self) -> Floats:
        """Frequencies of prompt lengths, by number of tokens."""
        return np.bincount(self.prompt) / len(self.prompt)

    def output_pmf(self) -> Floats:
        """Frequencies of output lengths, by number of tokens."""
        return np.bincount(self.output) / len(self.output)


@dataclass(frozen=True, slots=True)
class QuantileTable:
    """Joint law of (p, d) by strata of the prompt: p from its quantiles, then d from the quantiles of its stratum.

    With U, V independent uniforms:  p = round(Q_p(U));  g = the stratum that holds U;
    d = min(round(Q_{d|g}(V)), limit - p).  Q_p and Q_{d|g} are piecewise linear.  Strata lie at cosine-spaced ranks,
    finer towards both ends, where long prompts leave little room for output and short ones go with long outputs.
    Why not a copula: in the arXiv list short prompts go with very long outputs while elsewhere there is hardly any
    dependence (Pearson -0.46, Spearman -0.11), which no Gaussian copula reproduces.
    Args:
        name: what the table describes.    limit: tokens, bound on p + d.
        prompt_values: quantiles of p, G*J + 1 of them: J equal steps of rank within each of the G strata.
        output_values: G rows of quantiles of d at `cosine_levels` (p within the stratum), nondecreasing.
    Not promised: dependence of d on p inside a stratum; dependence between requests.
    """

    name: str
    limit: int
    prompt_values: tuple[int, ...]
    output_values: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        strata, knots = len(self.output_values), len(self.prompt_values) - 1
        if strata < 1 or knots < strata or knots % strata:
            raise ValueError(
                f"{knots} steps of prompt quantiles for {strata} strata; give each stratum equally many"
            )
        if len({len(row) for row in self.output_values}) != 1:
            raise ValueError("the strata have different numbers of output quantiles; give each equally many")
        if self.prompt_values[-1] >= self.limit:
            raise ValueError(
                f"prompts reach {self.prompt_values[-1]} of {self.limit} tokens; leave room for one output token"
            )
        Quantiles(self.prompt_levels, self.prompt_values)
        for row in self.output_values:
            Quantiles(cosine_levels(len(row)), row)

    @property
    def strata(self) -> tuple[float, ...]:
        """Ranks at which strata begin and end, G + 1 of them from 0 to 1."""
        return cosine_levels(len(self.output_values) + 1)

    @property
    def prompt_levels(self) -> tuple[float, ...]:
        """Ranks of `prompt_values`."""
        return stratum_levels(self.strata, (len(self.prompt_values) - 1) // len(self.output_values))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Draw n pairs by inversion of two uniforms per request."""
        u, v = rng.random((n, 2)).T
        prompt = np.rint(np.interp(u, self.prompt_levels, self.prompt_values)).astype(np.int64)
        stratum = np.searchsorted(self.strata, u, side="right") - 1
        levels, values = np.array(cosine_levels(len(self.output_values[0]))), np.array(self.output_values)
        k = np.searchsorted(levels, v, side="right") - 1
        part = (v - levels[k]) / (levels[k + 1] - levels[k])
        output = np.rint(values[stratum, k] * (1 - part) + values[stratum, k + 1] * part).astype(np.int64)
        return prompt, np.minimum(output, self.limit - prompt)

    def moments(self) -> Moments:
        """Moments of the law, summed over all pairs of lengths; exact up to rounding."""
        total = np.zeros(5)
        for weight, p, p_mass, d, d_mass in self._by_stratum():
            capped = np.minimum(d, self.limit - p[:, None])  # [prompts, outputs]
            mean = capped @ d_mass
            total += weight * np.array(
                [p_mass @ p, p_mass @ mean, p_mass @ p**2, p_mass @ (capped**2 @ d_mass), p_mass @ (p * mean)]
            )
        return Moments(*total.tolist())

    def prompt_pmf(self) -> Floats:
        """Probabilities of prompt lengths, by number of tokens."""
        return rounded_pmf(np.array(self.prompt_levels), np.array(self.prompt_values))

    def output_pmf(self) -> Floats:
        """Probabilities of output lengths, by number of tokens."""
        mass = np.zeros(max(row[-1] for row in self.output_values) + 1)
        for weight, p, p_mass, d, d_mass in self._by_stratum():
            capped = np.minimum(d, self.limit - p[:, None])
            mass += weight * np.bincount(capped.ravel(), np.outer(p_mass, d_mass).ravel(), len(mass))
        return mass

    def _by_stratum(self) -> list[tuple[float, Ints, Floats, Ints, Floats]]:
        """Weight of each stratum with the lengths that occur in it and their probabilities given the stratum."""
        edges, values, J = (
            self.strata,
            self.prompt_values,
            (len(self.prompt_values) - 1) // len(self.output_values),
        )
        found: list[tuple[float, Ints, Floats, Ints, Floats]] = []
        for g, row in enumerate(self.output_values):
            p_mass = rounded_pmf(np.linspace(0, 1, J + 1), np.array(values[g * J : (g + 1) * J + 1]))
            d_mass = rounded_pmf(np.array(cosine_levels(len(row))), np.array(row))
            p, d = np.flatnonzero(p_mass), np.flatnonzero(d_mass)
            found.append((edges[g + 1] - edges[g], p, p_mass[p], d, d_mass[d]))
        return found


# -- public lists of lengths


@dataclass(frozen=True, slots=True)
class ShareGPT:
    """Lengths of ShareGPT conversations under the Llama-2 tokenizer, p + d <= 8192.

    30,731 requests: E[p] = 2340, E[d] = 439, correlation 0.04.  Source: agrimUT/SLAI (Apache-2.0), the list behind
    arXiv 2508.01002.
    Args:
        source: "table", the shipped quantile table; "list", the real list in the folder TANDEM_DATA; "auto", the list
            if TANDEM_DATA is set and the table if not.
        order: how the list is dealt out, see :class:`Empirical`; the table is always i.i.d.
    Errors: ValueError if the list is asked for and is not there, or is another file.
    """

    source: Source = "auto"
    order: Order = "shuffled"

    @property
    def law(self) -> QuantileTable | Empirical:
        """The law itself, table or list."""
        return _public("sharegpt_8k", "sharegpt_lengths.json", self.source, self.order)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Draw n pairs from table or list."""
        return self.law.sample(n, rng)

    def moments(self) -> Moments:
        """Moments of table or list."""
        return self.law.moments()


@dataclass(frozen=True, slots=True)
class ArXiv:
    """Lengths of arXiv articles and their summaries under the Llama-2 tokenizer, p + d <= 4096.

    28,257 requests: E[p] = 2588, E[d] = 291 with a heavy tail (median 167, 99th percentile 3271), correlation -0.46.
    Source: microsoft/vidur (MIT), MLSys 2024.  Args and errors as for :class:`ShareGPT`.
    """

    source: Source = "auto"
    order: Order = "shuffled"

    @property
    def law(self) -> QuantileTable | Empirical:
        """The law itself, table or list."""
        return _public("arxiv_summarization", "arxiv_lengths.json", self.source, self.order)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Draw n pairs from table or list."""
        return self.law.sample(n, rng)

    def moments(self) -> Moments:
        """Moments of table or list."""
        return self.law.moments()


def _public(dataset: str, table: str, source: Source, order: Order) -> QuantileTable | Empirical:
    if source not in ("auto", "table", "list"):
        raise ValueError(f"the source {source!r} is unknown; give 'auto', 'table' or 'list'")
    if source == "table" or (source == "auto" and data_folder() is None):
        return _shipped(table)
    return _listed(local_copy(dataset), order)


@functools.cache
def _shipped(table: str) -> QuantileTable:
    found: dict[str, Any] = json.loads((resources.files("queueing.data") / table).read_text(encoding="utf-8"))
    rows = tuple(tuple(row) for row in found["output_values"])
    return QuantileTable(found["name"], found["limit"], tuple(found["prompt_values"]), rows)


@functools.cache
def _listed(path: Path, order: Order) -> Empirical:
    return Empirical.read_csv(path, order)
