"""A deep Q-network as a learner of configurations: stable-baselines3's network, replay and gradient steps.

One action per configuration, the load over the largest as the observation.  Loads do not depend on actions, so that an
epoch is an episode of one step, Q(load, x) the expected reward, and the discount, set to 0, stands for nothing.
Exploration is the share `epsilon` of epochs, anywhere; between them it plays what the network values most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from queueing.models.parallelism import Plant
from validation.parallelism_env import parallelism_env

__all__ = ["DqnBaseline"]

BATCH = 32  # rewards per gradient step; none is taken before as many were seen
MEMORY = 10_000  # rewards kept


class DqnBaseline:
    """Deep Q-learning behind the interface of the other learners.

    Args: plant, loads = the environment (:func:`parallelism_env`); rng = exploration, and the seed of the network;
        rate = learning rate; steps = gradient steps per epoch, 0 for a network that never learns; epsilon = share of
        epochs that explore.
    Assumes: one at a time in a process, since stable-baselines3 seeds the generators of numpy and torch for all.
    Errors: ImportError naming the extra where stable-baselines3 is missing; ValueError for shares that are none.
    Source: Mnih et al., Nature 2015, as stable-baselines3 has it (Raffin et al., JMLR 2021).
    """

    def __init__(
        self,
        plant: Plant,
        loads: Sequence[float],
        rng: np.random.Generator,
        *,
        rate: float = 0.01,
        steps: int = 4,
        epsilon: float = 0.5,
    ) -> None:
        if not (rate > 0 and steps >= 0 and 0 <= epsilon <= 1):
            raise ValueError(
                f"rate {rate}, {steps} steps, epsilon {epsilon}; give a rate > 0, a count >= 0 and a share"
            )
        try:
            from gymnasium import spaces, wrappers
            from stable_baselines3 import DQN
            from stable_baselines3.common.logger import Logger
        except ImportError:
            raise ImportError(
                "a deep Q-network needs stable-baselines3: pip install 'tandem-queueing[rl]'"
            ) from None
        count = len(plant.grid)
        env: Any = wrappers.TransformAction(
            parallelism_env(plant, loads), lambda x: np.unravel_index(x, plant.shape), spaces.Discrete(count)
        )
        self.rng, self.count, self.steps, self.epsilon, self.seen = rng, count, steps, epsilon, 0
        self.observations = np.array(loads, np.float32)[:, None] / max(loads)
        seed = int(rng.integers(2**31))
        self.network: Any = DQN(
            "MlpPolicy", env, learning_rate=rate, buffer_size=MEMORY, gamma=0.0, seed=seed, device="cpu"
        )
        self.network.set_logger(Logger(None, []))  # `configure` would make a folder

    def suggest(self, load: int) -> int:
        """Any configuration with probability epsilon, else the one believed best."""
        return int(self.rng.integers(self.count)) if self.rng.random() < self.epsilon else self.best(load)

    def observe(self, load: int, configuration: int, reward: float) -> None:
        """Put a reward into the memory, and take gradient steps on what is drawn from it."""
        at = self.observations[load][None]
        played, brought, ended = np.array([[configuration]]), np.array([reward]), np.array([True])
        self.network.replay_buffer.add(at, at, played, brought, ended, [{}])
        self.seen += 1
        if self.steps and self.seen >= BATCH:
            self.network.train(gradient_steps=self.steps, batch_size=BATCH)

    def best(self, load: int) -> int:
        """Configuration that the network values most."""
        return int(self.network.predict(self.observations[load], deterministic=True)[0])
