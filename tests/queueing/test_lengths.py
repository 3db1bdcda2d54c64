"""Length laws: closed forms, samples against their law, and the shipped tables against the lists they stand for.

Samples are held against their law by the Dvoretzky-Kiefer-Wolfowitz inequality: for n independent draws
P(sup |F_n - F| > e) <= 2 exp(-2 n e^2), also for discrete laws.
"""

from __future__ import annotations

import json
import math
from importlib import resources
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from queueing.data import build_length_tables, data_folder
from queueing.lengths import (
    ArXiv,
    Empirical,
    Fixed,
    Independent,
    Length,
    LogNormal,
    Moments,
    Quantiles,
    QuantileTable,
    ShareGPT,
    TruncatedExponential,
    UniformTiles,
)
from queueing.marginals import cosine_levels

needs_data = pytest.mark.skipif(
    data_folder() is None, reason="TANDEM_DATA names no folder with the public lists"
)

MARGINALS = [
    Fixed(7),
    UniformTiles(128, 8),
    UniformTiles(1, 5),
    TruncatedExponential(200.0, 512),
    TruncatedExponential(0.01, 3),
    LogNormal(300.0, 0.8, 1, 4000),
    LogNormal(10.0, 2.0, 5, 9),
    Quantiles((0.0, 0.2, 0.7, 1.0), (1, 4, 4, 100)),
]
TABLES = {ShareGPT: "sharegpt_lengths.json", ArXiv: "arxiv_lengths.json"}
ERROR = 1e-6  # probability that a true law is rejected by one test of a sample


def rejected(sample: np.ndarray[Any, Any], mass: np.ndarray[Any, Any]) -> bool:
    """True if the sample is not of this law, with probability of error at most ERROR."""
    within = math.sqrt(math.log(2 / ERROR) / (2 * len(sample)))
    size = max(len(mass), int(sample.max()) + 1)
    empirical = np.cumsum(np.bincount(sample, minlength=size)) / len(sample)
    law = np.cumsum(np.pad(mass, (0, size - len(mass))))
    return bool(np.abs(empirical - law).max() > within)


# -- laws of one length


@pytest.mark.parametrize("law", MARGINALS, ids=repr)
def test_probabilities_and_samples(law: Length) -> None:
    """20,000 draws of each law; error probability at most 1e-6 each.  Negative control: one token more is rejected."""
    mass = law.pmf()
    assert mass[0] == 0
    assert mass.min() >= 0
    assert mass[-1] > 0
    assert math.fsum(mass) == pytest.approx(1, abs=1e-12)
    prompt, output = Independent(law, Fixed(1)).sample(20_000, np.random.default_rng(1))
    assert set(output.tolist()) == {1}
    assert mass[prompt].min() > 0
    assert not rejected(prompt, mass)
    assert rejected(prompt + (1 if mass.max() > 0.01 else 200), mass)


def test_closed_forms() -> None:
    tiles = Independent(UniformTiles(128, 8), Fixed(3)).moments()
    assert tiles.prompt == pytest.approx(128 * 9 / 2, rel=1e-14)
    assert tiles.prompt_square == pytest.approx(128**2 * 9 * 17 / 6, rel=1e-14)
    assert (tiles.output, tiles.output_sd, tiles.correlation) == (3, 0, 0)
    for m, M in ((200.0, 512), (3.0, 4), (1e4, 9)):
        q = math.exp(-1 / m)
        law = Independent(Fixed(1), TruncatedExponential(m, M)).moments()
        assert law.output == pytest.approx((1 - q**M) / (1 - q), rel=1e-10)
        second = sum((2 * n + 1) * q**n for n in range(M))
        assert law.output_square == pytest.approx(second, rel=1e-10)


def test_truncated_exponential_is_what_its_name_says() -> None:
    """min(1 + floor(Exp(200)), 512) itself, 50,000 draws, error probability at most 1e-6; not floor + 2."""
    drawn = np.random.default_rng(3).exponential(200.0, 50_000)
    mass = TruncatedExponential(200.0, 512).pmf()
    assert not rejected(np.minimum(1 + np.floor(drawn), 512).astype(int), mass)
    assert rejected(np.minimum(10 + np.floor(drawn), 512).astype(int), mass)


def test_log_normal_is_a_rounded_conditioned_normal() -> None:
    """By rejection from the normal law, error probability at most 1e-6; another sigma is rejected."""
    x = np.rint(300 * np.exp(0.8 * np.random.default_rng(4).standard_normal(100_000))).astype(int)
    x = x[(x >= 50) & (x <= 900)]
    assert not rejected(x, LogNormal(300.0, 0.8, 50, 900).pmf())
    assert rejected(x, LogNormal(300.0, 0.9, 50, 900).pmf())
    assert LogNormal(1e-3, 1.0, 40, 50).pmf().sum() == pytest.approx(1)  # a far tail keeps its digits


def test_quantiles_keep_their_values() -> None:
    law = Quantiles((0.0, 0.25, 0.5, 1.0), (10, 20, 40, 41))
    below = np.cumsum(law.pmf())
    assert below[20] - law.pmf()[20] / 2 == pytest.approx(0.25, abs=0.01)
    assert below[9] == 0
    assert below[41] == pytest.approx(1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Fixed(0), "is 0"),
        (lambda: Fixed(2.5), "is 2.5"),  # type: ignore[arg-type]
        (lambda: Fixed(True), "is True"),
        (lambda: UniformTiles(128, 0), "is 0"),
        (lambda: UniformTiles(-1, 3), "is -1"),
        (lambda: TruncatedExponential(0.0, 5), "is 0.0"),
        (lambda: TruncatedExponential(math.nan, 5), "is nan"),
        (lambda: LogNormal(-1.0, 1.0, 1, 5), "median -1.0"),
        (lambda: LogNormal(1.0, math.inf, 1, 5), "sigma inf"),
        (lambda: LogNormal(1.0, 1.0, 6, 5), "from 6 to 5"),
        (lambda: LogNormal(1.0, 0.01, 50, 60), "widen the bounds"),
        (lambda: Quantiles((0.0, 1.0), (1, 2, 3)), "2 levels and 3 values"),
        (lambda: Quantiles((0.0, 0.5), (1, 2)), "from 0.0 to 0.5"),
        (lambda: Quantiles((0.0, 0.5, 0.5, 1.0), (1, 2, 3, 4)), "increasing levels"),
        (lambda: Quantiles((0.0, 1.0), (2, 1)), "ascending"),
        (lambda: Quantiles((0.0, 1.0), (0, 1)), "is 0"),
        (lambda: QuantileTable("t", 10, (1, 2, 3), ((1, 2), (1, 2), (1, 2))), "2 steps"),
        (lambda: QuantileTable("t", 10, (1, 2, 3), ((1, 2), (1, 2, 3))), "different numbers"),
        (lambda: QuantileTable("t", 3, (1, 2, 3), ((1, 2), (1, 2))), "leave room"),
        (lambda: Empirical(np.array([1]), np.array([1, 2])), "1 prompts and 2 outputs"),
        (lambda: Empirical(np.array([]), np.array([])), "at least one"),
        (lambda: Empirical(np.array([1, 0]), np.array([1, 1])), "prompt, row 1: 0"),
        (lambda: Empirical(np.array([1.0, 2.0]), np.array([1, 1.5])), "output, row 1: 1.5"),
        (lambda: Empirical(np.array([1]), np.array([1]), "random"), "'random'"),  # type: ignore[arg-type]
        (lambda: ShareGPT("real").law, "'real'"),  # type: ignore[arg-type]
    ],
)
def test_bad_laws_are_named_in_one_sentence(make: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


# -- laws of the pair


@given(
    st.lists(st.tuples(st.integers(1, 10**9), st.integers(1, 10**9)), min_size=1, max_size=20),
)
def test_moments_of_a_list_are_exact(pairs: list[tuple[int, int]]) -> None:
    """Against sums of Python integers, up to the longest lengths a workload may hold."""
    m = Moments.of(*zip(*pairs, strict=True))
    n = len(pairs)
    exact = [sum(p for p, _ in pairs), sum(d for _, d in pairs), sum(p * p for p, _ in pairs),
             sum(d * d for _, d in pairs), sum(p * d for p, d in pairs)]  # fmt: skip
    found = [m.prompt, m.output, m.prompt_square, m.output_square, m.product]
    assert found == [total / n for total in exact]


def test_the_theory_sums() -> None:
    """K counts the tokens each decode attends to, A half the square of the prompt, S all tokens."""
    pairs = [(3, 4), (10, 1), (1, 7)]
    m = Moments.of(*zip(*pairs, strict=True))
    attended, halves, tokens = m.K * 3, m.A * 3, m.S * 3
    assert attended == pytest.approx(sum(p + j for p, d in pairs for j in range(1, d + 1)))
    assert halves == pytest.approx(sum(p * p / 2 for p, _ in pairs))
    assert tokens == pytest.approx(sum(p + d for p, d in pairs))
    emitted_by_chunk = sum(p + j for p, d in pairs for j in range(1, d))
    assert attended - tokens == pytest.approx(emitted_by_chunk)
    assert m.correlation == pytest.approx(np.corrcoef(*zip(*pairs, strict=True))[0, 1])


def test_empirical_orders() -> None:
    """Bootstrap by DKW at 1e-6; shuffled deals have exact frequencies; in order repeats the list."""
    prompt = np.arange(1, 101)
    rng = np.random.default_rng(8)
    pairs = {order: Empirical(prompt, prompt * 2, order) for order in ("bootstrap", "shuffled", "in order")}
    for law in pairs.values():
        p, d = law.sample(250, rng)
        assert len(p) == 250
        assert np.array_equal(d, 2 * p)  # pairs stay together
        assert law.sample(0, rng)[0].size == 0
    p, _ = pairs["in order"].sample(250, rng)
    assert p.tolist() == [*range(1, 101), *range(1, 101), *range(1, 51)]
    p, _ = pairs["shuffled"].sample(300, rng)
    for deal in p.reshape(3, 100):
        assert sorted(deal.tolist()) == prompt.tolist()
    assert p[:100].tolist() != p[100:200].tolist()
    p, _ = pairs["bootstrap"].sample(20_000, rng)
    assert not rejected(p, pairs["bootstrap"].prompt_pmf())
    assert rejected(np.minimum(p + 5, 100), pairs["bootstrap"].prompt_pmf())
    assert sorted(p[:100].tolist()) != prompt.tolist()  # negative control: it is not a shuffle


@st.composite
def tables(draw: st.DrawFn) -> QuantileTable:
    strata, steps, levels = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(2, 4))
    ascending = lambda n, most: st.lists(st.integers(1, most), min_size=n, max_size=n).map(sorted)  # noqa: E731
    prompt = draw(ascending(strata * steps + 1, 12))
    rows = [tuple(draw(ascending(levels, 15))) for _ in range(strata)]
    return QuantileTable("t", prompt[-1] + draw(st.integers(1, 20)), tuple(prompt), tuple(rows))


class Grid:
    """A stand-in for a generator: a fine grid of the unit square instead of random points."""

    side = 400

    def random(self, _: tuple[int, int]) -> np.ndarray[Any, Any]:
        points = (np.arange(self.side) + 0.5) / self.side
        return np.array(np.meshgrid(points, points, indexing="ij")).reshape(2, -1).T


@given(tables())
def test_table_moments_are_those_of_its_samples(table: QuantileTable) -> None:
    """Moments and probabilities, summed in closed form, against sampling on a grid of 400 x 400 points.

    The average of f over the grid differs from its integral by at most half its variation along each axis over 400, and
    along the axis of strata each stratum adds at most two passes of f's range.
    """
    p, d = table.sample(Grid.side**2, Grid())  # type: ignore[arg-type]
    assert (p + d).max() <= table.limit
    assert min(p.min(), d.min()) >= 1
    found, stated = Moments.of(p, d), table.moments()
    most_p, most_d = table.prompt_values[-1], max(row[-1] for row in table.output_values)
    ranges = {"prompt": most_p, "output": most_d, "prompt_square": most_p**2, "output_square": most_d**2}
    for name, width in {**ranges, "product": most_p * most_d}.items():
        within = (len(table.output_values) + 1) * width / Grid.side
        assert getattr(found, name) == pytest.approx(getattr(stated, name), abs=within)
    assert stated.prompt == pytest.approx(table.prompt_pmf() @ np.arange(len(table.prompt_pmf())), rel=1e-12)
    assert stated.output == pytest.approx(table.output_pmf() @ np.arange(len(table.output_pmf())), rel=1e-12)
    assert table.output_pmf().sum() == pytest.approx(1, abs=1e-12)


def test_table_moments_by_hand() -> None:
    """Half the prompts are 1 with output 2; half are 1, 2, 3 (1/4, 1/2, 1/4) with output 5, but at most 7 - p."""
    m = QuantileTable("t", 7, (1, 1, 3), ((2, 2), (5, 5))).moments()
    assert (m.prompt, m.output, m.product) == (1.5, 3.375, 5.625)
    assert m.output_square == 0.5 * 4 + 0.5 * (0.75 * 25 + 0.25 * 16)
    assert m.product != m.prompt * m.output  # negative control: independence would give another figure


# -- the shipped tables


def shipped(law: type[ShareGPT] | type[ArXiv]) -> tuple[QuantileTable, dict[str, Any]]:
    table = law("table").law
    assert isinstance(table, QuantileTable)
    text = (resources.files("queueing.data") / TABLES[law]).read_text()
    assert len(text) < 20_000
    return table, json.loads(text)["summary"]


def error_of(table: Moments, listed: Moments) -> dict[str, float]:
    names = ("prompt", "output", "prompt_sd", "output_sd", "S", "K", "A")
    return {name: abs(getattr(table, name) / getattr(listed, name) - 1) for name in names}


def listed_moments(summary: dict[str, Any]) -> Moments:
    return Moments(*(summary[f"E[{name}]"] for name in ("p", "d", "p^2", "d^2", "pd")))


@pytest.mark.parametrize("law", TABLES)
def test_tables_keep_the_moments_of_the_lists(law: type[ShareGPT] | type[ArXiv]) -> None:
    """Means, standard deviations, S, K, A within 0.3 %, correlation within 0.002 of the list's.

    Negative control: the same quantiles without their dependence miss K of the arXiv list by more than 10 %, and the
    correlation of either list by more than 0.002.
    """
    table, summary = shipped(law)
    listed, stated = listed_moments(summary), table.moments()
    assert max(error_of(stated, listed).values()) < 0.003
    assert abs(stated.correlation - listed.correlation) < 0.002
    apart = Moments(
        stated.prompt,
        stated.output,
        stated.prompt_square,
        stated.output_square,
        stated.prompt * stated.output,
    )
    assert abs(apart.correlation - listed.correlation) > 0.002
    if law is ArXiv:
        assert error_of(apart, listed)["K"] > 0.10


@pytest.mark.parametrize("law", TABLES)
def test_tables_keep_the_percentiles_of_the_lists(law: type[ShareGPT] | type[ArXiv]) -> None:
    """p25 to p99 of either length within 1 % or one token.  Negative control: a law scaled by 1.02 is not."""
    table, summary = shipped(law)
    for which, mass in (("prompt", table.prompt_pmf()), ("output", table.output_pmf())):
        found = np.searchsorted(np.cumsum(mass), np.array(summary["percentiles"]) / 100)
        listed = np.array(summary[which])
        close = np.abs(found - listed) <= np.maximum(1, 0.01 * listed)
        assert close.all(), (which, found, listed)
        assert (np.abs(1.02 * found - listed) > np.maximum(1, 0.01 * listed)).any()


@pytest.mark.parametrize("law", TABLES)
def test_samples_of_tables_are_of_their_law(law: type[ShareGPT] | type[ArXiv]) -> None:
    """50,000 draws: both lengths by DKW at 1e-6 each; E[pd] within 6 standard errors (normal error 2e-9)."""
    table, _ = shipped(law)
    p, d = law("table").sample(50_000, np.random.default_rng(11))
    assert not rejected(p, table.prompt_pmf())
    assert not rejected(d, table.output_pmf())
    assert rejected(d + 20, table.output_pmf())
    product = p * d
    z = (product.mean() - law("table").moments().product) / (product.std() / math.sqrt(len(p)))
    assert abs(z) < 6
    assert (p + d).max() <= table.limit


def test_a_gaussian_copula_cannot_carry_the_arxiv_list() -> None:
    """Why strata: with the list's rank correlation (-0.114) a Gaussian copula misses K by 5 % or more."""
    table, summary = shipped(ArXiv)
    u, v = np.random.default_rng(12).random((2, 400_000))
    r = 2 * math.sin(math.pi * -0.114 / 6)
    x = ndtri(u)
    y = r * x + math.sqrt(1 - r * r) * ndtri(v)
    marginals = (table.prompt_pmf(), x), (table.output_pmf(), y)
    p, d = (np.searchsorted(np.cumsum(mass), np.clip(ndtri_inverse(z), 0, 1 - 1e-9)) for mass, z in marginals)
    assert error_of(Moments.of(p, d), listed_moments(summary))["K"] > 0.05


def ndtri_inverse(z: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Uniforms of the same ranks (the normal distribution function, by ranking)."""
    ranks = np.empty(len(z))
    ranks[np.argsort(z)] = (np.arange(len(z)) + 0.5) / len(z)
    return ranks


def test_without_a_folder_auto_is_the_table_and_list_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TANDEM_DATA", raising=False)
    assert isinstance(ShareGPT().law, QuantileTable)
    with pytest.raises(ValueError, match="set TANDEM_DATA"):
        ShareGPT("list").sample(1, np.random.default_rng(0))


def test_a_wrong_folder_or_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("TANDEM_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"lacks traces/sharegpt_8k\.csv"):
        ShareGPT().moments()
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "sharegpt_8k.csv").write_text("prompt_tokens,output_tokens\n1,1\n")
    with pytest.raises(ValueError, match="sha256"):
        ShareGPT().moments()
    assert isinstance(ShareGPT("table").law, QuantileTable)  # negative control: the table needs no folder


@needs_data
@pytest.mark.parametrize("law", TABLES)
def test_tables_against_the_lists_themselves(law: type[ShareGPT] | type[ArXiv]) -> None:
    """Moments as above; the distribution functions differ by less than 0.003 anywhere."""
    table, summary = shipped(law)
    listed = law().law
    assert isinstance(listed, Empirical)
    assert len(listed.prompt) == summary["requests"]
    assert listed.moments() == listed_moments(summary)
    assert max(error_of(table.moments(), listed.moments()).values()) < 0.003
    for name in ("prompt_pmf", "output_pmf"):
        mine, theirs = getattr(table, name)(), getattr(listed, name)()
        size = max(len(mine), len(theirs))
        gap = np.cumsum(np.pad(mine, (0, size - len(mine)))) - np.cumsum(
            np.pad(theirs, (0, size - len(theirs)))
        )
        assert np.abs(gap).max() < 0.003
    p, _ = law(order="in order").sample(3, np.random.default_rng(0))
    assert p.tolist() == listed.prompt[:3].tolist()


@needs_data
def test_shipped_tables_equal_a_rebuild() -> None:
    for file, (name, limit, source) in build_length_tables.TABLES.items():
        rebuilt = build_length_tables.text(build_length_tables.length_table(name, limit, source))
        text = (resources.files("queueing.data") / file).read_text()
        assert rebuilt == text
        assert rebuilt.replace('"prompt_values": [1', '"prompt_values": [2') != text  # negative control


def test_cosine_levels_run_from_0_to_1_and_are_symmetric() -> None:
    for n in (2, 3, 33):
        levels = cosine_levels(n)
        assert len(levels) == n
        assert np.allclose(np.array(levels) + np.array(levels[::-1]), 1)
        assert list(levels) == sorted(set(levels))
