"""Divergence: a run that repeats itself and gains work each time, though less work arrives than could be served.

A server goes through the same batches again and again, T_1, ..., T_m seconds with work x_1, ..., x_m, while work
arrives at rate ρ.  With fluid arrivals its backlog is a piecewise-linear path, of slope ρ - x_i/T_i in the i-th batch,
and

    W(t + P) = W(t) + ε·P,    P = Σ T_i,    ε = ρ - Σ x_i / P.

ε > 0 and ρ < g: the path diverges inside the capacity region, where W(t) <= Q*(t) + K would keep it bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, NamedTuple

from queueing.proofs.certificate import Certificate, Kind, require

__all__ = ["Divergence", "Stretch"]

ZERO = Fraction(0)


class Stretch(NamedTuple):
    """A batch of `seconds` that serves `work` (s)."""

    seconds: Fraction
    work: Fraction


@dataclass(frozen=True, slots=True)
class Divergence(Certificate):
    """The backlog grows without bound at `load` ρ < g if the batches of `period` repeat themselves.

    Args:
        load: ρ, work arriving per second.
        period: the batches, in order.
        growth: ε, work gained per second.
        engines: g.
        needs: backlog W (s) of the state from which the policy goes through the period, whatever else waits.

    The arithmetic is checked here.  That a policy repeats the period is the premise, which
    :mod:`queueing.models.instability` argues and the tests hold against the policy itself.
    """

    kind: ClassVar[Kind] = Kind.RATIONAL
    load: Fraction
    period: tuple[Stretch, ...]
    growth: Fraction
    engines: int = 1
    needs: Fraction = ZERO

    @property
    def seconds(self) -> Fraction:
        """Length P of the period (s)."""
        return sum((s.seconds for s in self.period), ZERO)

    @property
    def claim(self) -> str:
        """Load and growth."""
        return (
            f"at load {self.load} < {self.engines} a server that repeats {len(self.period)} batches of "
            f"{self.seconds} s falls behind by {self.growth} s of work per second, from W = {self.needs} s on"
        )

    def path(self, start: Fraction, periods: int) -> list[tuple[Fraction, Fraction]]:
        """Breakpoints (t, W) of the fluid path from W(0) = `start`, over so many periods."""
        now, backlog = ZERO, start
        points = [(now, backlog)]
        for seconds, work in self.period * periods:
            now, backlog = now + seconds, backlog + self.load * seconds - work
            points.append((now, backlog))
        return points

    def check(self) -> None:
        """Load inside the region, batches possible, and more work after each period than before.

        Raises:
            Refuted: one of these fails.
        """
        require(
            self.engines >= 1 and 0 <= self.load < self.engines,
            f"the load {self.load} is not inside the region",
        )
        require(len(self.period) > 0, "the period holds no batch")
        for seconds, work in self.period:
            require(seconds > 0, f"a batch lasts {seconds} s")
            require(
                0 <= work <= self.engines * seconds,
                f"{work} s of work in {seconds} s is no batch of {self.engines} engines",
            )
        end, backlog = self.path(self.needs, 1)[-1]
        gained = (backlog - self.needs) / end
        require(gained == self.growth, f"the backlog gains {gained} per second, not {self.growth}")
        require(gained > 0, f"the backlog gains {gained} per second, so that it does not grow")
