"""Other ways to find a configuration, to compare the region learner with: random, hill climbing, a Gaussian process."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["GpUcb", "HillClimbing", "RandomSearch"]

Floats = NDArray[np.float64]


class RandomSearch:
    """Play configurations in random order, each as often as the others; believe the best mean."""

    def __init__(self, configurations: int, loads: int, rng: np.random.Generator) -> None:
        if configurations < 1 or loads < 1:
            raise ValueError(
                f"{configurations} configurations and {loads} load bins; give at least one of each"
            )
        self.rng = rng
        self.plays, self.sums = np.zeros((2, loads, configurations))

    def suggest(self, load: int) -> int:
        """One of those played least."""
        least = np.flatnonzero(self.plays[load] == self.plays[load].min())
        return int(self.rng.choice(least))

    def observe(self, load: int, configuration: int, reward: float) -> None:
        """Note a reward."""
        self.plays[load, configuration] += 1
        self.sums[load, configuration] += reward

    def best(self, load: int) -> int:
        """Largest mean among those played; the first if none was."""
        plays = self.plays[load]
        mean = np.divide(self.sums[load], plays, out=np.full(len(plays), -np.inf), where=plays > 0)
        return int(np.argmax(mean))


class HillClimbing:
    """Play a random neighbour of the present configuration and move there if it brought more than the present's mean.

    Neighbours are those at distance at most `step`.  It stops at local optima, and noise moves it.
    """

    def __init__(self, distance: ArrayLike, loads: int, rng: np.random.Generator, step: float = 1.0) -> None:
        self.distance = np.asarray(distance, np.float64)
        if loads < 1 or not step > 0:
            raise ValueError(f"{loads} load bins and a step of {step}; give at least one and a distance > 0")
        self.rng, self.step = rng, step
        self.at = rng.integers(len(self.distance), size=loads)
        self.plays, self.sums = np.zeros((2, loads, len(self.distance)))

    def suggest(self, load: int) -> int:
        """The present configuration if it was never played, else a neighbour."""
        at = int(self.at[load])
        if not self.plays[load, at]:
            return at
        near = np.flatnonzero((self.distance[at] <= self.step) & (self.distance[at] > 0))
        return int(self.rng.choice(near)) if len(near) else at

    def observe(self, load: int, configuration: int, reward: float) -> None:
        """Note a reward, and move if it is better."""
        at = int(self.at[load])
        self.plays[load, configuration] += 1
        self.sums[load, configuration] += reward
        mean = self.sums[load] / np.maximum(self.plays[load], 1)
        if self.plays[load, at] and mean[configuration] > mean[at]:
            self.at[load] = configuration

    def best(self, load: int) -> int:
        """Where it stands."""
        return int(self.at[load])


class GpUcb:
    """Play the largest mean plus `width` standard deviations of a Gaussian process over log2 of the grid.

    Matern kernel of smoothness 5/2 and length `scale`, scikit-learn's; rewards are centred and scaled by what was seen.
    Args: grid = [n, axes]; noise = standard deviation of a reward over that of all rewards.
    Source: Srinivas et al., ICML 2010; the follow-up of RRL (IEEE IoT-J 2020, abstract) adapts regions by such means.
    """

    def __init__(
        self,
        grid: ArrayLike,
        loads: int,
        rng: np.random.Generator,
        *,
        scale: float = 1.0,
        noise: float = 0.1,
        width: float = 2.0,
    ) -> None:
        try:
            from sklearn.gaussian_process import GaussianProcessRegressor
            from sklearn.gaussian_process.kernels import Matern
        except ImportError:
            raise ImportError("GpUcb needs scikit-learn: pip install 'tandem-queueing[serverless]'") from None
        self.points = np.log2(np.asarray(grid, np.float64))
        self.rng, self.width = rng, width
        self.seen: list[tuple[list[int], list[float]]] = [([], []) for _ in range(loads)]
        regressor: Any = GaussianProcessRegressor  # its hints refuse the optimizer None
        self.process = regressor(Matern(scale, nu=2.5), alpha=noise**2, optimizer=None)

    def _posterior(self, load: int) -> tuple[Floats, Floats]:
        played, rewards = self.seen[load]
        values = np.array(rewards)
        spread = values.std() or 1.0
        self.process.fit(self.points[played], (values - values.mean()) / spread)
        return self.process.predict(self.points, return_std=True)

    def suggest(self, load: int) -> int:
        """The upper confidence bound's maximiser; at first one at random."""
        if not self.seen[load][0]:
            return int(self.rng.integers(len(self.points)))
        mean, deviation = self._posterior(load)
        return int(np.argmax(mean + self.width * deviation))

    def observe(self, load: int, configuration: int, reward: float) -> None:
        """Note a reward."""
        self.seen[load][0].append(configuration)
        self.seen[load][1].append(reward)

    def best(self, load: int) -> int:
        """Largest posterior mean."""
        return int(np.argmax(self._posterior(load)[0])) if self.seen[load][0] else 0
