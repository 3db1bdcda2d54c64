"""The optimal scheduler of a tiny slotted system, by policy iteration, with a certificate; and the gap of any other.

The system is that of :mod:`queueing.models.markov`.  Between two batches the state is what is in the system, (prompt
tokens prefilled, tokens decoded, class) of each request; an action is a batch, any number of prompt tokens or one
decode per request, as far as the table of durations allows, or a slot of doing nothing.  The cost is the number of
requests in the system, slot by slot.  As far as nobody is lost, the policy of least mean number has the least mean
response time (Little's law); where many are lost it need not, since it may idle and turn others away.

Who knows what.  `informed`: a request's output length is known from its arrival; else only its prompt is, and its
output ends with the hazard that the kinds of that prompt give it.  The second optimum is what schedulers can be held
against that see no output length.

Howard iteration in floats finds the policy; what is claimed is the enclosure of :mod:`queueing.proofs.bellman`.

Assumptions: those of the chain; classes are known by their prompt.
Source: Howard 1960 and Jewell 1963 for policy iteration (recalled); the process is our derivation.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import MatrixRankWarning, spsolve

from queueing.models.markov import Kind, SlottedSystem, mean_in_system
from queueing.policy import Policy
from queueing.proofs import certificate
from queueing.proofs.bellman import BellmanPair, Step
from queueing.proofs.claim import Claim

__all__ = ["CLAIMS", "Gap", "decision_process", "gap", "optimal"]

Row = tuple[int, int, int]  # prefilled, decoded, class
State = tuple[Row, ...]  # sorted
Action = tuple[int, ...]  # tokens of each row
Process = dict[State, dict[Action, Step]]
ZERO, ONE = Fraction(0), Fraction(1)
GRAIN = 1 << 40  # values are rounded to 1/GRAIN
LARGEST = 1e9  # relative values beyond this come from a system of equations that is close to singular
SWEEPS = 200_000


class Gap(NamedTuple):
    """A policy's `mean` number in the system, and how far above the least one that is, as a share of it, at most."""

    mean: Fraction
    share: Fraction


@dataclass(frozen=True, slots=True)
class _Class:
    """Requests that look alike: their prompt, and the hazard of ending with token 1, 2, ..."""

    prompt: int
    hazard: tuple[Fraction, ...]


def optimal(system: SlottedSystem, informed: bool = False, most: int = 5000) -> BellmanPair:
    """The least mean number in the system over all schedulers, enclosed; and a scheduler that attains the upper bound.

    Where policy iteration meets a policy with several recurrent classes, whose values it cannot solve for, values are
    iterated instead.

    Args: system; informed, whether schedulers know output lengths; most, states beyond which it is refused.

    Raises:
        ValueError: more than `most` states are reached, or there is no enclosure narrower than 1e-6: with an arrival in
            every slot the least cost can depend on the state at the start.
    """
    process = decision_process(system, informed, most)
    states = list(process)
    number = {state: i for i, state in enumerate(states)}
    pairs = [(state, action, step) for state, steps in process.items() for action, step in steps.items()]
    first = np.cumsum([0, *(len(process[state]) for state in states)])[:-1]
    cost = np.array([float(step.cost) for _, _, step in pairs])
    slots = np.array([float(step.duration) for _, _, step in pairs])
    entries = [
        (i, number[after], float(p)) for i, (_, _, step) in enumerate(pairs) for after, p in step.next.items()
    ]
    i, j, p = (np.array(column) for column in zip(*entries, strict=True))
    law: Any = sparse.csr_array((p, (i, j)), shape=(len(pairs), len(states)))
    owner = np.repeat(np.arange(len(states)), np.diff([*first, len(pairs)]))

    chosen = np.array(
        [
            max(range(a, b), key=lambda k: sum(pairs[k][1]))
            for a, b in itertools.pairwise([*first, len(pairs)])
        ]
    )
    while True:
        rate, h = _value(law[chosen], cost[chosen], slots[chosen])
        if not np.isfinite(h).all() or np.abs(h).max() > LARGEST:
            h, chosen = _iterated(law, cost, slots, first)
            break
        ahead = cost - rate * slots + law @ h - h[owner]
        least = np.minimum.reduceat(ahead, first)
        better = least < ahead[chosen] - 1e-10
        if not better.any():
            break
        best = np.full(len(states), len(pairs))
        np.minimum.at(best, owner[ahead <= least[owner]], np.flatnonzero(ahead <= least[owner]))
        chosen = np.where(better, best, chosen)
    values = {state: Fraction(round(h[k] * GRAIN), GRAIN) for k, state in enumerate(states)}
    policy = {state: pairs[chosen[k]][1] for k, state in enumerate(states)}
    bounds = [(_ahead(step, values) - values[state]) / step.duration for state, _, step in pairs]
    lower, upper = min(bounds), max(bounds[k] for k in chosen)
    if upper - lower > Fraction(1, 10**6):
        raise ValueError(
            "the least cost depends on the state at the start, or rounding hides it: let nobody arrive now and then, "
            "or give less room or fewer kinds"
        )
    return BellmanPair(process, values, policy, lower, upper)


def gap(system: SlottedSystem, policy: Policy, best: BellmanPair) -> Gap:
    """How far a policy's exact mean number in the system is above the least one.

    A policy that reads announced lengths, which are true here, is to be held against the `informed` optimum; against
    the other it can come out below.

    Args: system; policy, of the library or anybody's, if it has a chain; best, from :func:`optimal` on that system.

    Raises:
        ValueError: `best` is of another system, nobody ever arrives, or as for :func:`queueing.models.markov.chain`.
    """
    if best.lower <= 0:
        raise ValueError(
            "nobody arrives in this system, so there is no gap; give an arrival a probability above 0"
        )
    if not any(best.process == decision_process(system, informed, most=10**6) for informed in (False, True)):
        raise ValueError("the optimum is of another system; call optimal on this one")
    mean = mean_in_system(system, policy)
    return Gap(mean, mean / best.lower - 1)


def decision_process(system: SlottedSystem, informed: bool = False, most: int = 5000) -> Process:
    """States reached from the empty system under any actions, with what every action costs and where it leads.

    Raises:
        ValueError: more than `most` states are reached.
    """
    classes, member = _classes(system, informed)
    process: Process = {}
    stack: list[State] = [()]
    while stack:
        state = stack.pop()
        if state in process:
            continue
        if len(process) == most:
            raise ValueError(f"more than {most} states are reached; give less room or fewer kinds")
        steps: dict[Action, Step] = {}
        for action in _actions(system, classes, state):
            duration = system.duration(sum(action))
            reached: dict[State, Fraction] = {}
            cost = ZERO
            for after, p in _outcomes(system, classes, state, action):
                arrivals, cost = system.arrivals(len(state), len(after), duration)
                for arrived, q in arrivals.items():
                    to = tuple(sorted((*after, *((0, 0, member[k]) for k in arrived))))
                    reached[to] = reached.get(to, ZERO) + p * q
            steps[action] = Step(cost, Fraction(duration), reached)
            stack += reached
        process[state] = steps
    return process


def _classes(system: SlottedSystem, informed: bool) -> tuple[list[_Class], list[int]]:
    """The classes, and the class of each kind."""
    labels = [k if informed else kind.prompt for k, kind in enumerate(system.kinds)]
    known = sorted(set(labels))
    classes: list[_Class] = []
    for label in known:
        kinds = [
            kind for kind, own in zip(system.kinds, labels, strict=True) if own == label and kind.probability
        ]
        hazard: list[Fraction] = []
        for age in range(1, max((kind.output for kind in kinds), default=1) + 1):
            alive = sum((kind.probability for kind in kinds if kind.output >= age), ZERO)
            ending = sum((kind.probability for kind in kinds if kind.output == age), ZERO)
            hazard.append(ending / alive if alive else ONE)
        prompt = next(kind.prompt for kind, own in zip(system.kinds, labels, strict=True) if own == label)
        classes.append(_Class(prompt, tuple(hazard)))
    return classes, [known.index(label) for label in labels]


def _actions(system: SlottedSystem, classes: list[_Class], state: State) -> Iterator[Action]:
    """Batches within the table, one of those that differ only in which of several equal rows is served; or none."""
    budget = len(system.slots) if system.slots else math.inf
    most = [max(classes[c].prompt - prefilled, 1) for prefilled, _, c in state]
    for action in itertools.product(*(range(m + 1) for m in most)):
        in_order = all(state[k] != state[k + 1] or action[k] >= action[k + 1] for k in range(len(state) - 1))
        served = sum(action)
        if in_order and served <= budget and (served > 0 or len(state) < system.room):
            yield action


def _outcomes(
    system: SlottedSystem, classes: list[_Class], state: State, action: Action
) -> Iterator[tuple[State, Fraction]]:
    """Who is left after a batch, with the probability of it."""
    each: list[list[tuple[Row | None, Fraction]]] = []
    for (prefilled, decoded, c), tokens in zip(state, action, strict=True):
        prompt = classes[c].prompt
        token = tokens > 0 and (
            prefilled == prompt or (prefilled + tokens == prompt and system.last_chunk_emits)
        )
        row = (min(prefilled + tokens, prompt), decoded + token, c)
        ending = classes[c].hazard[decoded] if token else ZERO
        each.append([(after, p) for after, p in ((None, ending), (row, 1 - ending)) if p])
    for outcome in itertools.product(*each):
        yield (
            tuple(row for row, _ in outcome if row is not None),
            math.prod((p for _, p in outcome), start=ONE),
        )


def _value(law: Any, cost: Any, slots: Any) -> tuple[float, Any]:
    """Cost per slot of a policy, and its relative values h, 0 in the first state:  h = c - g·τ + P·h."""
    n = len(cost)
    left: Any = sparse.csr_array(sparse.eye_array(n) - law)
    system: Any = sparse.hstack([left[:, 1:], sparse.csr_array(slots[:, None])], format="csc")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MatrixRankWarning)  # the caller looks at the values
        solved: Any = spsolve(system, cost)
    return float(solved[-1]), np.concatenate(([0.0], solved[:-1]))


def _iterated(law: Any, cost: Any, slots: Any, first: Any) -> tuple[Any, Any]:
    """Relative values by value iteration in continuous time (Schweitzer's transformation), and the best actions."""
    pace = 0.5 * slots.min() / slots  # below 1, so that the iteration has no period
    owner = np.repeat(np.arange(len(first)), np.diff([*first, len(cost)]))
    h = np.zeros(len(first))
    for _ in range(SWEEPS):
        each = pace * (cost + law @ h) + (1 - pace) * h[owner]
        after = np.minimum.reduceat(each, first)
        change = after - h
        h = after - after[0]
        if np.ptp(change) < 1e-13 * max(1.0, np.abs(h).max()):
            break
    each = pace * (cost + law @ h) + (1 - pace) * h[owner]
    least = np.minimum.reduceat(each, first)
    best = np.full(len(first), len(cost))
    np.minimum.at(best, owner[each <= least[owner]], np.flatnonzero(each <= least[owner]))
    return h, best


def _ahead(step: Step, values: dict[State, Fraction]) -> Fraction:
    """Cost of a step, and the value of where it leads."""
    return step.cost + sum((p * values[after] for after, p in step.next.items()), ZERO)


def _small() -> tuple[BellmanPair, BellmanPair]:
    """Prompts of 2, outputs of 1 or 3; room for 4; two tokens a slot: who sees no lengths, and who does."""
    kinds = (Kind(2, 1, Fraction(1, 6)), Kind(2, 3, Fraction(1, 6)))
    system = SlottedSystem(kinds, room=4, slots=tuple(-(-n // 2) for n in range(1, 13)))
    return optimal(system), optimal(system, informed=True)


def _enclosures() -> list[BellmanPair]:
    """Both pairs, with the bounds that the statement gives."""
    bounds = (("0.826159", "0.826160"), ("0.817078", "0.817079"))
    return [
        replace(best, lower=Fraction(low), upper=Fraction(high))
        for best, (low, high) in zip(_small(), bounds, strict=True)
    ]


def _altered() -> list[BellmanPair]:
    """A thousandth more at least, a value moved, and the claim that who sees no lengths does as well as who does."""
    blind, informed = _small()
    more = Fraction(1, 1000)
    state = next(iter(blind.values))
    return [
        replace(blind, lower=blind.lower + more, upper=blind.upper + more),
        replace(blind, values={**blind.values, state: blind.values[state] + more}),
        replace(blind, upper=informed.upper, lower=informed.lower),
    ]


CLAIMS = (
    Claim(
        name="optimal-policy-instance",
        statement="With prompts of 2 and outputs of 1 or 3 tokens, each arriving with 1/6 a slot, room for 4 and "
        "two tokens a slot, the least mean number in the system is between 0.826159 and 0.826160 over all "
        "schedulers, and between 0.817078 and 0.817079 over those that know output lengths.",
        assumptions=("slotted time, ample memory; who finds no room is lost",),
        source="Howard 1960 and Jewell 1963 (published; recalled); the instance is our calculation",
        kind=certificate.Kind.RATIONAL,
        evidence=_enclosures,
        controls={"a bound, a value and knowledge altered": _altered},
        where="docs/models/optimal_policy.md",
    ),
)
