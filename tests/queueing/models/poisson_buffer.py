"""The buffer of Poisson arrivals by hand: a second reading of its law, which models and tuner are tested with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class PoissonBuffer:
    """Extras of a batch that times out are uniform on its window, and so are all but the first and the last of a batch
    that fills, up to when the last came.
    """

    rate: float
    size: int
    timeout: float

    @property
    def sizes(self):
        p = stats.poisson.pmf(np.arange(self.size), self.rate * self.timeout)
        p[-1] = 1 - p[:-1].sum()
        return p

    @property
    def seen(self):
        j = np.arange(1, self.size + 1)
        return self.sizes * j / (self.sizes @ j)

    def joint_wait(self, t):
        b, T, p = self.size, self.timeout, self.sizes
        j = np.arange(1, b + 1)
        out = p * ((j - 1) * np.clip(t[:, None] / T, 0, 1) + (t[:, None] >= T))
        if b == 1:
            return np.ones((len(t), 1))
        filled = stats.gamma(b - 1, scale=1 / self.rate)
        a = np.minimum(t, T)
        out[:, -1] = filled.cdf(T) + filled.cdf(a)
        if b > 2:  # E[1/S; a < S <= T] is an Erlang law of one stage less
            rest = stats.gamma(b - 2, scale=1 / self.rate)
            out[:, -1] += (b - 2) * (filled.cdf(a) + a * self.rate / (b - 2) * (rest.cdf(T) - rest.cdf(a)))
        return out / (p @ j)
