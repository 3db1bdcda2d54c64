"""Pipeline parallelism: micro-batches through S stages in tandem, and the bubbles that unequal batches leave.

Notation.  Batch k takes T(k, s) seconds at stage s, k = 1..K, s = 1..S; it starts there at B(k, s) and ends at C(k, s).
Stages take batches in order, one at a time, and at most W batches are in flight (in the engine W = S, since the
requests of batch k are needed again in batch k + S).  A max-plus recursion:

    B(k, s) = max(C(k, s-1), C(k-1, s)),   B(k, 1) = max(C(k-1, 1), C(k-W, S)),   C(k, s) = B(k, s) + T(k, s).

*Bubble* of a stage: the time it idles between the start of its first batch and the end of its last.  An end is the
weight of the heaviest path that goes one stage on, one batch on, or from (k, S) to (k+W, 1); read off the paths:

| batches | closed form |
|---|---|
| all alike, T(k, s) = t_s | makespan Σt + (K-1)·m + ⌊(K-1)/W⌋·max(0, Σt - W·m), m = max t |
| equal stages, T(k, s) = T_k, no limit in flight | makespan ΣT + (S-1)·max T |
| equal stages, S = W = 2 | bubble of the second stage Σ max(0, T_{k+1} - T_k) |
| equal stages, W = S, one batch of P among batches of D <= P | bubble of each stage (S-1)·(P - D) |

Source: the recursion is that of tandem queues with blocking (recalled: Baccelli et al., Synchronization and Linearity,
1992), the second line the flow shop with equal machines (recalled); bubbles in closed form are our derivation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import sympy
from numpy.typing import ArrayLike, NDArray

from queueing.models.closed_form import ClosedForm
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity

__all__ = [
    "CLAIMS",
    "Timetable",
    "derivation",
    "lone_prompt_bubble",
    "timetable",
    "two_stage_bubble",
    "uniform_makespan",
    "unlimited_makespan",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Timetable:
    """When each batch starts and ends at each stage: `start` and `end` [K, S], s, the first start being 0."""

    start: Floats
    end: Floats

    @property
    def makespan(self) -> float:
        """End of the last batch at the last stage (s)."""
        return float(self.end[-1, -1])

    @property
    def bubbles(self) -> Floats:
        """[S]: time that each stage idles between its first start and its last end (s)."""
        return self.end[-1] - self.start[0] - (self.end - self.start).sum(axis=0)

    @property
    def bubble_share(self) -> float:
        """Share of the time between first start and last end, summed over stages, that is bubbles; in [0, 1)."""
        return float(self.bubbles.sum() / (self.end[-1] - self.start[0]).sum())


def timetable(seconds: ArrayLike, in_flight: int | None = None) -> Timetable:
    """Run batches through the pipeline as early as the recursion allows.

    Args:
        seconds: T(k, s), [K, S].
        in_flight: W, most batches between the start of their first stage and the end of their last; S if not given.

    Assumptions: every batch is ready when its place is free (a saturated queue); handing a batch on takes no time.

    Raises:
        ValueError: the times are no table of positive numbers, or `in_flight` is below 1.

    Example:
        >>> timetable([[1, 1], [5, 5], [1, 1], [1, 1]]).bubbles.tolist()  # one long batch, two stages
        [4.0, 4.0]
    """
    times = np.asarray(seconds, np.float64)
    if times.ndim != 2 or times.size == 0 or not (np.isfinite(times) & (times > 0)).all():
        raise ValueError(
            f"batches of shape {times.shape}; give seconds > 0, one row a batch, one column a stage"
        )
    stages = times.shape[1]
    most = stages if in_flight is None else in_flight
    if most < 1:
        raise ValueError(f"{most} batches in flight; give at least 1")
    rows: list[list[float]] = times.tolist()
    start, end = np.empty_like(times), np.empty_like(times)
    before = [0.0] * stages  # ends of the batch before
    for k, row in enumerate(rows):
        at = float(end[k - most, -1]) if k >= most else 0.0
        for s, t in enumerate(row):
            start[k, s] = max(at, before[s])
            before[s] = at = float(start[k, s]) + t
        end[k] = before
    return Timetable(start, end)


def uniform_makespan(
    stages: Sequence[float], batches: int, in_flight: int | None = None
) -> ClosedForm[float]:
    """Makespan (s) of K batches that are all alike:  Σt + (K-1)·m + ⌊(K-1)/W⌋·max(0, Σt - W·m),  m the longest stage.

    With W >= S the last term vanishes: the longest stage never waits, once the pipeline is filled.
    Computed: by the recursion.
    """
    most = len(stages) if in_flight is None else in_flight
    computed = timetable(np.tile(stages, (batches, 1)), most).makespan
    total, longest = sum(stages), max(stages)
    turns = (batches - 1) // most
    return ClosedForm(computed, total + (batches - 1) * longest + turns * max(0.0, total - most * longest))


def unlimited_makespan(batches: Sequence[float], stages: int) -> ClosedForm[float]:
    """Makespan (s) of batches that take T_k at each of S stages, as many in flight as like:  ΣT + (S-1)·max T.

    With a limit it is no shorter.  Computed: by the recursion.
    """
    computed = timetable(_equal(batches, stages), len(batches)).makespan
    return ClosedForm(computed, sum(batches) + (stages - 1) * max(batches))


def two_stage_bubble(batches: Sequence[float]) -> ClosedForm[float]:
    """Bubble of the second of two equal stages, two batches in flight (s):  Σ over k of max(0, T_{k+1} - T_k).

    Batch k+1 starts at the first stage when batch k starts at the second (both wait for the same two ends), so that
    the pipeline goes in steps of max(T_k, T_{k+1}).  The first stage has Σ max(0, T_k - T_{k+1}) over k < K - 1: it
    waits after each fall; its last batch is followed by none.
    Computed: by the recursion.
    """
    rises = sum(max(0.0, after - now) for now, after in pairwise(batches))
    return ClosedForm(float(timetable(_equal(batches, 2)).bubbles[1]), rises)


def lone_prompt_bubble(prompt: float, decode: float, stages: int) -> ClosedForm[float]:
    """Bubble of each of S equal stages (s) from one batch of P s among batches of D <= P:  (S-1)·(P - D).

    Computed: at the stage furthest from that, by the recursion with 2S batches of D on either side.

    Raises:
        ValueError: P < D.
    """
    if prompt < decode:
        raise ValueError(
            f"a prompt of {prompt} s among batches of {decode} s is no longer than they; give P >= D"
        )
    around = [decode] * (2 * stages)
    bubbles = timetable(_equal([*around, prompt, *around], stages)).bubbles
    stated = (stages - 1) * (prompt - decode)
    return ClosedForm(float(bubbles[np.argmax(np.abs(bubbles - stated))]), stated)


def derivation() -> tuple[Identity, ...]:
    """Uniform batches, by induction: C(k, s) = (k + s - 1)·T makes all three ends that a start waits for equal."""
    return _uniform()


def _uniform(fewer: int = 0) -> tuple[Identity, ...]:
    """The three ends that a start waits for, with S - `fewer` batches in flight."""
    k, s, stages, t = sympy.symbols("k s S T", positive=True)

    def end(batch: sympy.Expr, stage: sympy.Expr) -> sympy.Expr:
        return (batch + stage - 1) * t

    begins = end(k, s) - t
    return (
        Identity("the stage before ends when the stage starts", end(k, s - 1), begins),
        Identity("the batch before ends when the batch starts", end(k - 1, s), begins),
        Identity("one batch leaves as one may enter", end(k - (stages - fewer), stages), begins.subs(s, 1)),
    )


def _one_too_few() -> tuple[Identity, ...]:
    """S - 1 batches in flight: the one that leaves ends T too late."""
    return (_uniform(fewer=1)[2],)


def _equal(batches: Sequence[float], stages: int) -> Floats:
    return np.repeat(np.asarray(batches, np.float64)[:, None], stages, axis=1)


CLAIMS = (
    Claim(
        name="pipeline-uniform",
        statement="Uniform batches leave no bubble in a pipeline of S equal stages with S batches in flight: batch k "
        "ends at stage s at (k + s - 1)·T.",
        assumptions=("a saturated queue", "every batch takes T at every stage", "handing on takes no time"),
        source="our derivation",
        kind=Kind.IDENTITY,
        evidence=derivation,
        controls={"one batch in flight too few": _one_too_few},
        where="docs/models/pipeline.md",
    ),
    Claim(
        name="pipeline-bubbles",
        statement="In two equal stages with two batches in flight the bubbles are the rises of the batch times, and "
        "one batch of P among batches of D leaves (S-1)·(P - D) at each of S stages.",
        assumptions=("a saturated queue", "equal stages", "handing on takes no time"),
        source="our derivation",
        kind=Kind.TESTED,
        where="tests/queueing/models/test_pipeline.py::test_bubbles_of_two_stages_are_the_rises, "
        "tests/queueing/models/test_pipeline.py::test_a_lone_prompt_idles_every_stage",
    ),
)
