"""Region-based learning: one measurement teaches a ball of configurations (our derivation of RRL's idea).

Notation: s load bin; x, y configurations; d(x, y) distance; R radius; k(s, x) plays of x at load s, r̄ their mean::

    h_R(x, y) = max(0, 1 - d(x, y)/R)            R = 0: 1 if d = 0;  R = inf: 1
    n(s, y) = Σ_x h_R(x, y) k(s, x)              Q(s, y) = Σ_x h_R(x, y) k(s, x) r̄(s, x)/n(s, y), the prior where n = 0
    each epoch: s = bin(load);  b = argmax Q(s, .)
        x = least played in the ball of b (ties: largest Q) with probability 1 - eps, else the one of least n
        play x, observe r;  R = max(R_min, R·decay)

R = 0 is tabular learning, R = inf one estimate for all.  With R fixed this is the update n += h, Q += h/n·(r - Q) over
the ball; kept as sums, a smaller radius forgets what lies beyond it, and early plays do not blur a late estimate.

The radius from data (`points`): whenever the epochs t have doubled, l = :func:`length_scale` of the rewards seen, and::

    R = max(R_min, min(R0, l)·decay^t)

Statement (a).  Rewards L-Lipschitz in d, noise σ-sub-Gaussian, N balls of radius R that cover the configurations.  Play
each centre m = ceil(2σ²/ε²·ln(2N/δ)) times and commit to the centre of best mean: with probability 1 - δ its regret is
at most L R + 2ε, and that of any configuration in its ball at most 2 L R + 2ε.

Proof.  P(|mean - μ| > ε) <= 2 exp(-m ε²/2σ²) <= δ/N for one centre, so with probability 1 - δ for none.  Let x* be
best, c0 the centre of a ball around it, c the winner:  μ(x*) <= μ(c0) + L R <= mean(c0) + ε + L R <= mean(c) + ε + L R
<= μ(c) + 2ε + L R, and μ(c) <= μ(y) + L R in c's ball.  It needs L for the whole ball: where a reward jumps inside one
(a cliff), only a split of the domain (`groups`) helps, within which balls stay.

Statement (b), cited: radius T^{-1/(k+2)} in k dimensions gives regret O(T^{(k+1)/(k+2)}) up to logarithms (Kleinberg,
Slivkins and Upfal, "Multi-armed bandits in metric spaces", STOC 2008, recalled).

Source: RRL, SC 2019, and its follow-up, IEEE IoT-J 2020: abstracts only; the formulation is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "TABULAR",
    "Learner",
    "RegionRl",
    "Schedule",
    "covering",
    "kernel_weights",
    "length_scale",
    "plays_per_centre",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FIRST_FIT = 16  # epochs
SCALES = tuple(2.0 ** (k / 2) for k in range(-2, 6))  # length scales tried, in the distance's unit
NOISES = (0.05, 0.1, 0.2, 0.4)  # standard deviations tried, over the spread of the rewards


class Learner(Protocol):
    """Whatever chooses configurations by their number and learns from rewards."""

    def suggest(self, load: int) -> int:
        """Configuration to play in this epoch, at this load bin."""
        ...

    def observe(self, load: int, configuration: int, reward: float) -> None:
        """What it brought."""
        ...

    def best(self, load: int) -> int:
        """Configuration believed best at this load bin."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a region learner explores and shrinks.

    Args: radius = R at first, >= 0, inf for one shared estimate; decay in (0, 1] per epoch; least = R_min >= 0;
        epsilon = share of epochs that explore, in [0, 1]; prior = Q before anything was seen.
    """

    radius: float = 2.0
    decay: float = 0.97
    least: float = 0.6
    epsilon: float = 0.3
    prior: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.least <= self.radius and 0 < self.decay <= 1):
            raise ValueError(
                f"radius {self.radius}, decay {self.decay}, least {self.least}; give 0 <= least <= radius and a decay "
                "in (0, 1]"
            )
        if not (0 <= self.epsilon <= 1 and math.isfinite(self.prior)):
            raise ValueError(f"epsilon {self.epsilon}, prior {self.prior}; give a share and a finite number")


TABULAR = Schedule(radius=0.0, decay=1.0, least=0.0)


class RegionRl:
    """Learner that spreads what one configuration brought over a ball around it.

    Args: distance = [n, n], symmetric, zero on the diagonal; loads = number of load bins; schedule; rng = when to
        explore, and the order by which ties are broken; groups = [n], configurations of different groups teach each
        other nothing (domain split); points = [n, axes], where the configurations lie (log2 of the grid): given, the
        radius follows the length scale of the rewards at the load played most, one radius for all loads.

    Guarantee (tested): Q within the rewards seen, where anything was; radius 0 is tabular learning bit by bit.
    Not promised: the best configuration while the radius is above 0; statement (a) for this schedule.
    """

    def __init__(
        self,
        distance: ArrayLike,
        loads: int,
        schedule: Schedule,
        rng: np.random.Generator,
        groups: ArrayLike | None = None,
        points: ArrayLike | None = None,
    ) -> None:
        d = np.array(distance, np.float64)
        if d.ndim != 2 or d.shape[0] != d.shape[1] or not d.size or np.diag(d).any() or (d < 0).any():
            raise ValueError(
                f"distances of shape {d.shape}; give a square matrix >= 0 with zeros on its diagonal"
            )
        if loads < 1:
            raise ValueError(f"{loads} load bins; give at least one")
        if groups is not None:
            kind = np.asarray(groups)
            if kind.shape != (len(d),):
                raise ValueError(f"groups of shape {kind.shape} for {len(d)} configurations; give one each")
            d = np.where(kind[:, None] == kind[None, :], d, np.inf)
        self.points = None if points is None else np.asarray(points, np.float64)
        if self.points is not None and (self.points.shape[:-1] != (len(d),) or np.isnan(self.points).any()):
            raise ValueError(
                f"points of shape {self.points.shape} for {len(d)} configurations; give one row of numbers each"
            )
        self.distance, self.schedule, self.rng = d, schedule, rng
        self.order = rng.permutation(len(d))  # of ties, so that no corner of the grid comes first
        self.plays, self.sums = np.zeros((2, loads, len(d)))
        self.radius = max(schedule.radius, schedule.least)
        self._kernel = kernel_weights(d, self.radius)

    def estimates(self, load: int) -> tuple[Floats, Floats]:
        """Q(s, .) and n(s, .)."""
        weight = self._kernel @ self.plays[load]
        found = np.full(len(weight), self.schedule.prior)
        np.divide(self._kernel @ self.sums[load], weight, out=found, where=weight > 0)
        return found, weight

    def suggest(self, load: int) -> int:
        """Explore the configuration of least weight with probability epsilon, else probe the ball of the best."""
        found, weight = self.estimates(load)
        if self.rng.random() < self.schedule.epsilon:
            return int(self.order[np.argmin(weight[self.order])])
        ball = self.order[self.distance[self.best(load)][self.order] <= self.radius]
        plays = self.plays[load, ball]
        fresh = ball[plays == plays.min()]
        return int(fresh[np.argmax(found[fresh])])

    def observe(self, load: int, configuration: int, reward: float) -> None:
        """Note what a play brought, and shrink the radius; a reward that is no finite number is refused."""
        if not math.isfinite(reward):
            raise ValueError(f"configuration {configuration} was worth {reward}; give a finite reward")
        self.plays[load, configuration] += 1
        self.sums[load, configuration] += reward
        radius = max(self.schedule.least, self._from_data() or self.radius * self.schedule.decay)
        if radius != self.radius:
            self.radius, self._kernel = radius, kernel_weights(self.distance, radius)

    def _from_data(self) -> float | None:
        """The length scale's radius, at the epochs at which it is fitted anew."""
        epochs = int(self.plays.sum())
        if self.points is None or epochs < FIRST_FIT or epochs & (epochs - 1):
            return None
        load = int(self.plays.sum(axis=1).argmax())
        played = np.flatnonzero(self.plays[load])
        plays = self.plays[load, played]
        scale = length_scale(self.points[played], plays, self.sums[load, played] / plays)
        return min(self.schedule.radius, scale) * self.schedule.decay**epochs

    def best(self, load: int) -> int:
        """Configuration of largest Q."""
        found = self.estimates(load)[0]
        return int(self.order[np.argmax(found[self.order])])


def kernel_weights(distance: Floats, radius: float) -> Floats:
    """max(0, 1 - d/R); at R = 0 one where d = 0, at R = inf one where d is finite."""
    if radius == 0:
        return (distance == 0).astype(np.float64)
    if math.isinf(radius):
        return np.isfinite(distance).astype(np.float64)
    return np.maximum(0.0, 1.0 - distance / radius)


def length_scale(points: Floats, plays: Floats, means: Floats) -> float:
    """Length scale under which a Gaussian process makes the mean rewards likeliest, among `SCALES`.

    Matern kernel of smoothness 5/2, rewards centred and scaled by their spread, noise variance s²/plays with the
    likeliest s of `NOISES`; scikit-learn's process.  A list of candidates instead of an optimiser: no local optima,
    and the same answer in whatever order the axes come.
    Args: points = [n, axes]; plays = [n], >= 1; means = [n], of the rewards.
    Errors: ImportError naming the extra where scikit-learn is missing.
    """
    try:
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import Matern
    except ImportError:
        raise ImportError(
            "a radius from data needs scikit-learn: pip install 'tandem-queueing[serverless]'"
        ) from None
    values = (means - means.mean()) / (means.std() or 1.0)
    regressor: Any = GaussianProcessRegressor  # its hints refuse the optimizer None and a noise per point
    likelihood: dict[float, float] = {}
    for noise in NOISES:
        process = regressor(Matern(1.0, nu=2.5), alpha=noise**2 / plays, optimizer=None).fit(points, values)
        for scale in SCALES:
            now = process.log_marginal_likelihood(np.log([scale]))
            likelihood[float(scale)] = max(now, likelihood.get(float(scale), -math.inf))
    return max(likelihood, key=lambda scale: likelihood[scale])


def covering(distance: ArrayLike, radius: float) -> Ints:
    """Centres of balls {y: d(c, y) <= radius} that cover all configurations: greedily, what adds most first."""
    d = np.asarray(distance, np.float64)
    left = np.ones(len(d), np.bool_)
    near = d <= radius
    centres: list[int] = []
    while left.any():
        c = int(np.argmax((near & left).sum(axis=1)))
        centres.append(c)
        left &= ~near[c]
    return np.array(centres)


def plays_per_centre(noise: float, accuracy: float, centres: int, failure: float) -> int:
    """Plays m of each centre in statement (a): σ = `noise`, ε = `accuracy`, N = `centres`, δ = `failure`."""
    if not (noise > 0 and accuracy > 0 and centres >= 1 and 0 < failure < 1):
        raise ValueError(
            f"noise {noise}, accuracy {accuracy}, {centres} centres, failure {failure}; "
            "give numbers > 0 and a probability"
        )
    return math.ceil(2 * noise**2 / accuracy**2 * math.log(2 * centres / failure))
