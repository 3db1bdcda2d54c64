"""Region-based learning: tabular at radius 0, one estimate at infinity, statement (a) where its assumptions hold."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.region_rl import SCALES, TABULAR, RegionRl, Schedule, covering, length_scale, plays_per_centre
from queueing.models.parallelism import distances

GRID = np.array([(a, b) for a in (1, 2, 4, 8, 16) for b in (1, 2, 4, 8)], np.float64)
D = distances(GRID)


class Tabular:
    """Epsilon-greedy learning from sums and counts, written on its own."""

    def __init__(self, n: int, epsilon: float, rng: np.random.Generator) -> None:
        self.rng, self.epsilon = rng, epsilon
        self.order = rng.permutation(n).tolist()
        self.count, self.total = [0.0] * n, [0.0] * n

    def best(self) -> int:
        mean = [t / c if c else 0.0 for t, c in zip(self.total, self.count, strict=True)]
        return max(self.order, key=lambda x: mean[x])

    def suggest(self) -> int:
        if self.rng.random() < self.epsilon:
            return min(self.order, key=lambda x: self.count[x])
        return self.best()

    def observe(self, x: int, reward: float) -> None:
        self.count[x] += 1
        self.total[x] += reward


def played(schedule: Schedule, seed: int, epochs: int = 150) -> list[int]:
    """Choices of a region learner on noisy rewards."""
    learner = RegionRl(D, 1, schedule, np.random.default_rng(seed))
    noise = np.random.default_rng(seed + 1).normal(0, 0.1, (epochs, len(GRID)))
    choices: list[int] = []
    for row in noise:
        x = learner.suggest(0)
        learner.observe(0, x, float(-abs(x - 7) / 10 + row[x]))
        choices.append(x)
    return choices


@given(st.integers(0, 10**6))
def test_radius_zero_is_tabular_exactly(seed: int) -> None:
    tabular = Tabular(len(GRID), TABULAR.epsilon, np.random.default_rng(seed))
    noise = np.random.default_rng(seed + 1).normal(0, 0.1, (150, len(GRID)))
    choices: list[int] = []
    for row in noise:
        x = tabular.suggest()
        tabular.observe(x, float(-abs(x - 7) / 10 + row[x]))
        choices.append(x)
    assert played(TABULAR, seed) == choices
    assert played(Schedule(radius=1.5, decay=1.0), seed) != choices  # negative control


rewards = st.lists(st.tuples(st.integers(0, len(GRID) - 1), st.floats(-1, 1)), min_size=1, max_size=30)


@given(rewards, st.sampled_from([0.0, 0.7, 1.5, math.inf]))
def test_estimates_are_means_of_what_was_seen(seen: list[tuple[int, float]], radius: float) -> None:
    """Q lies within the rewards, the weights are the kernel's, and at infinity there is one estimate for all."""
    learner = RegionRl(D, 2, Schedule(radius, 1.0, 0.0), np.random.default_rng(0))
    for x, r in seen:
        learner.observe(1, x, r)
    found, weight = learner.estimates(1)
    reached = weight > 0
    assert found[reached].min() >= min(r for _, r in seen) - 1e-12
    assert found[reached].max() <= max(r for _, r in seen) + 1e-12
    assert (found[~reached] == 0).all()
    kernel = np.array([[max(0.0, 1 - d / radius) if 0 < radius < math.inf else float(radius > 0 or d == 0)
                        for d in row] for row in D])  # fmt: skip
    assert weight == pytest.approx(sum(kernel[x] for x, _ in seen))
    assert weight.sum() == pytest.approx(sum(kernel[x].sum() for x, _ in seen))
    assert (learner.estimates(0)[1] == 0).all()  # another load bin learns nothing
    if math.isinf(radius):
        assert np.ptp(found) < 1e-12
        assert found[0] == pytest.approx(np.mean([r for _, r in seen]))
    elif radius == 0 and len({x for x, _ in seen}) > 1 and len({r for _, r in seen}) > 1:
        assert (weight == 0).any()


def test_relabelling_the_axes_changes_nothing() -> None:
    turned = distances(GRID[:, ::-1])
    one = RegionRl(D, 1, Schedule(), np.random.default_rng(4))
    two = RegionRl(turned, 1, Schedule(), np.random.default_rng(4))
    other = RegionRl(distances(GRID, np.array([3.0, 1.0])), 1, Schedule(), np.random.default_rng(4))
    for epoch in range(100):
        x = one.suggest(0)
        assert x == two.suggest(0)
        for learner in (one, two, other):
            learner.observe(0, x, math.sin(x + epoch))
        other.suggest(0)
    assert not np.array_equal(other.estimates(0)[0], one.estimates(0)[0])  # control: another length scale


# -- radius from data


def drawn_rewards(scale: float, seed: int, noise: float = 0.05) -> np.ndarray:
    """Rewards of all configurations from a Gaussian process of this length scale, with noise."""
    kernels = pytest.importorskip("sklearn.gaussian_process.kernels", reason="of the extra `serverless`")
    rng = np.random.default_rng(seed)
    cover = kernels.Matern(scale, nu=2.5)(np.log2(GRID)) + noise**2 * np.eye(len(GRID))
    return np.linalg.cholesky(cover) @ rng.normal(size=len(GRID))


def test_the_length_scale_is_that_of_the_process_that_made_the_rewards() -> None:
    """Medians of 40 draws lie within a factor 2 of the truth; shuffled rewards (control) have no scale to find."""
    plays = np.ones(len(GRID))
    found = {}
    for truth in (0.5, 1.0, 2.0):
        draws = [drawn_rewards(truth, seed) for seed in range(40)]
        found[truth] = np.median([length_scale(np.log2(GRID), plays, r) for r in draws])
        assert truth / 2 <= found[truth] <= 2 * truth
    assert found[0.5] < found[1.0] < found[2.0]
    order = np.random.default_rng(0).permutation(len(GRID))
    shuffled = [length_scale(np.log2(GRID), plays, drawn_rewards(2.0, seed)[order]) for seed in range(40)]
    assert np.median(shuffled) <= found[0.5]


def test_the_length_scale_asks_neither_for_units_nor_for_the_order_of_axes() -> None:
    plays = np.arange(1.0, len(GRID) + 1)
    rewards = drawn_rewards(1.0, 3)
    found = length_scale(np.log2(GRID), plays, rewards)
    assert found in SCALES
    assert length_scale(np.log2(GRID)[:, ::-1], plays, 7 - 1000 * rewards) == found
    assert length_scale(np.log2(GRID), plays, np.full(len(GRID), 0.3)) in SCALES  # nothing to tell apart


def test_a_radius_from_data_is_fitted_at_doublings_and_decays_between() -> None:
    """R = max(R_min, min(R0, l)·decay^t) when t doubles; smooth rewards keep a larger radius than rugged ones."""
    schedule = Schedule(radius=2.5, decay=0.99, least=0.1)
    radius = {}
    for name, rewards in (("smooth", drawn_rewards(4.0, 1)), ("rugged", drawn_rewards(0.1, 1))):
        learner = RegionRl(D, 1, schedule, np.random.default_rng(2), points=np.log2(GRID))
        fixed = RegionRl(D, 1, schedule, np.random.default_rng(2))
        for epoch in range(1, 130):
            before, x = learner.radius, learner.suggest(0)
            learner.observe(0, x, float(rewards[x]))
            fixed.observe(0, x, float(rewards[x]))
            if epoch < 16:
                assert learner.radius == fixed.radius
            if epoch in (16, 32, 64, 128):
                seen = np.flatnonzero(learner.plays[0])
                scale = length_scale(np.log2(GRID)[seen], learner.plays[0, seen], rewards[seen])
                assert learner.radius == pytest.approx(max(0.1, min(2.5, scale) * 0.99**epoch))
            else:
                assert learner.radius == max(0.1, 0.99 * before)
            assert learner.radius <= fixed.radius + 1e-12
        radius[name] = learner.radius
    assert radius["rugged"] < radius["smooth"]


def test_without_scikit_learn_a_radius_from_data_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.gaussian_process", None)
    with pytest.raises(ImportError, match=r"tandem-queueing\[serverless\]"):
        length_scale(np.log2(GRID), np.ones(len(GRID)), np.zeros(len(GRID)))


def test_groups_teach_each_other_nothing() -> None:
    groups = GRID.prod(axis=1) <= 16
    learner = RegionRl(D, 1, Schedule(math.inf, 1.0, 0.0), np.random.default_rng(0), groups)
    learner.observe(0, int(np.flatnonzero(groups)[0]), 1.0)
    found, weight = learner.estimates(0)
    assert (found[groups] == 1).all()
    assert (weight[~groups] == 0).all()


@given(st.floats(0.1, 4.0))
def test_balls_cover_the_grid(radius: float) -> None:
    centres = covering(D, radius)
    assert (D[centres].min(axis=0) <= radius).all()
    assert len(centres) <= len(GRID)
    if len(centres) > 1:
        assert not (D[centres[:-1]].min(axis=0) <= radius).all()  # control: the last is needed


# -- statement (a)


@st.composite
def lipschitz(draw: st.DrawFn) -> tuple[np.ndarray, float]:
    """Rewards on the grid that are L-Lipschitz in d: least of some cones and of the envelope of others."""
    L = draw(st.floats(0.05, 1.0))
    heights = st.lists(st.tuples(st.integers(0, len(GRID) - 1), st.floats(-1, 1)), min_size=1, max_size=4)
    up = [a - L * D[c] for c, a in draw(heights)]
    down = [a + L * D[c] for c, a in draw(heights)]
    return np.minimum(np.max(up, axis=0), np.min(down, axis=0)), L


def committed(
    mean: np.ndarray, radius: float, noise: float, accuracy: float, failure: float, seed: int, groups=None
) -> tuple[int, np.ndarray]:
    """Play each centre m times and commit: the winner, and its ball."""
    d = D if groups is None else np.where(groups[:, None] == groups[None, :], D, np.inf)
    centres = covering(d, radius)
    m = plays_per_centre(noise, accuracy, len(centres), failure)
    sums = np.random.default_rng(seed).normal(mean[centres], noise / math.sqrt(m))
    winner = int(centres[np.argmax(sums)])
    return winner, d[winner] <= radius


@given(lipschitz(), st.floats(0.5, 3.0), st.integers(0, 10**6))
def test_regret_is_bounded_on_lipschitz_plants(
    plant: tuple[np.ndarray, float], radius: float, seed: int
) -> None:
    """Statement (a) with δ = 1e-7: over the examples of a run the error probability is below 1e-3."""
    mean, L = plant
    accuracy = 0.05
    winner, ball = committed(mean, radius, 0.2, accuracy, 1e-7, seed)
    assert mean.max() - mean[winner] <= L * radius + 2 * accuracy + 1e-12
    assert mean.max() - mean[ball].min() <= 2 * L * radius + 2 * accuracy + 1e-12


def test_a_cliff_breaks_the_bound_and_a_split_of_the_domain_mends_it() -> None:
    """Rewards that rise gently up to 16 threads and fall by one beyond: balls across the edge hide the best."""
    threads = GRID.prod(axis=1)
    L, radius, accuracy = 0.05, 1.0, 0.02
    mean = L * np.log2(threads) - (threads > 16)
    inside = threads <= 16
    assert (
        np.abs(mean[inside][:, None] - mean[inside][None, :]) <= 2 * L * D[np.ix_(inside, inside)] + 1e-12
    ).all()
    worst = {}
    for name, groups in (("across", None), ("split", inside)):
        gaps = []
        for seed in range(20):
            _, ball = committed(mean, radius, 0.1, accuracy, 1e-6, seed, groups)
            gaps.append(mean.max() - mean[ball].min())
        worst[name] = max(gaps)
    bound = 2 * (2 * L) * radius + 2 * accuracy
    assert worst["split"] <= bound
    assert worst["across"] > bound


def test_plays_are_those_of_the_statement() -> None:
    """m = ⌈2σ²/ε²·ln(2N/δ)⌉, and the union bound it comes from, with nothing to spare."""
    m = plays_per_centre(0.3, 0.1, 12, 0.01)
    assert m == math.ceil(18 * math.log(2400))
    assert 12 * 2 * math.exp(-m * 0.1**2 / (2 * 0.3**2)) <= 0.01
    assert 12 * 2 * math.exp(-(m - 1) * 0.1**2 / (2 * 0.3**2)) > 0.01


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Schedule(radius=-1.0), "radius -1.0"),
        (lambda: Schedule(decay=0.0), "decay 0.0"),
        (lambda: Schedule(epsilon=2.0), "epsilon 2.0"),
        (lambda: RegionRl(np.ones((2, 2)), 1, TABULAR, np.random.default_rng()), "zeros on its diagonal"),
        (lambda: RegionRl(D, 0, TABULAR, np.random.default_rng()), "0 load bins"),
        (lambda: RegionRl(D, 1, TABULAR, np.random.default_rng(), np.zeros(3)), r"groups of shape \(3,\)"),
        (
            lambda: RegionRl(D, 1, TABULAR, np.random.default_rng(), points=GRID[:3]),
            r"points of shape \(3, 2\)",
        ),
        (lambda: RegionRl(D, 1, TABULAR, np.random.default_rng()).observe(0, 0, math.nan), "worth nan"),
        (lambda: plays_per_centre(0.0, 0.1, 1, 0.1), "noise 0.0"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(make, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
