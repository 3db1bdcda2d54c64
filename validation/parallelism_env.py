"""A plant of parallelism as a gymnasium environment, for learners of other libraries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from queueing.models.parallelism import Plant, reward

__all__ = ["parallelism_env"]


def parallelism_env(
    plant: Plant, loads: Sequence[float], *, requests: int = 100, epochs: int = 200, stay: float = 0.9
) -> Any:
    """Return a gymnasium.Env: an action is one index per axis of the grid, an observation the load over the largest.

    Each step serves `requests` fresh Poisson requests under the action; then the load stays with probability `stay` or
    jumps to any bin.  The load does not depend on actions.  An episode is cut after `epochs` steps, never ended.
    Errors: ImportError naming the extra where gymnasium is missing; ValueError for loads that are no rates.
    """
    try:
        import gymnasium as gym
    except ImportError:
        raise ImportError(
            "the environment needs gymnasium: pip install 'tandem-queueing[serverless]'"
        ) from None
    if not loads or min(loads) <= 0 or requests < 1 or epochs < 1 or not 0 <= stay <= 1:
        raise ValueError(
            f"loads {loads}, {requests} requests, {epochs} epochs, stay {stay}; "
            "give rates > 0, counts of at least 1 and a share"
        )

    class ParallelismEnv(gym.Env[Any, Any]):
        metadata = {"render_modes": []}  # noqa: RUF012

        def __init__(self) -> None:
            self.action_space = gym.spaces.MultiDiscrete(list(plant.shape))
            self.observation_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
            self.bin, self.epoch = 0, 0

        def _seen(self) -> Any:
            return np.array([loads[self.bin] / max(loads)], np.float32)

        def reset(
            self, *, seed: int | None = None, options: dict[str, Any] | None = None
        ) -> tuple[Any, dict[str, Any]]:
            super().reset(seed=seed)
            self.bin, self.epoch = int(self.np_random.integers(len(loads))), 0
            return self._seen(), {}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            x = int(np.ravel_multi_index(tuple(np.asarray(action)), plant.shape))
            arrival = np.cumsum(self.np_random.standard_exponential(requests)) / loads[self.bin]
            latency = plant.latency(x, arrival)
            info = {"load": loads[self.bin], "late": float((latency > plant.slo).mean())}
            if self.np_random.random() > stay:
                self.bin = int(self.np_random.integers(len(loads)))
            self.epoch += 1
            return self._seen(), reward(latency, plant.slo), False, self.epoch >= epochs, info

    return ParallelismEnv()
