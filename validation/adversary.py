"""Adversary: a search for arrival patterns that push a scheduler to its fairness bounds.

| objective | what is pushed, as a share of its bound |
|---|---|
| `gap` | L1: counters of two clients with a waiting request, over U |
| `both` | T1: service of two clients in a window in which both wait, over 2U |
| `anyone` | T3: service of any client beyond one that waits all through the window, over 2U |
| `newcomer` | T4: the same over the wait of a client that had nothing waiting or running before, over 2U |

Statements and U are those of :mod:`queueing.models.vtc`, with its weights; a share above 1 breaks the bound.

A pattern is drawn as up to eight bursts: a pause, a client, a prompt, the room that the request takes, and how many
such requests come at once.  Lengths and pauses come often from few classes, {1, M - 1, L}, because bounds are met
by requests that fill the memory.  Hypothesis draws bursts and climbs towards larger shares (`hypothesis.target`), in
rounds of 300 that start anew, since a climb can get stuck.

Not promised: that what is not found does not exist.  A share is exact, the largest share is not known from a search.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.util import find_spec
from typing import Any, NamedTuple

from queueing.models.vtc import Setting, Vtc
from queueing.policy import Policy
from validation.pattern import OBJECTIVES, Arrival, Objective, Pattern, share_of
from validation.pattern_runs import follower

__all__ = ["Found", "search", "smaller"]

ROUND = 300  # examples; the first half is drawn, the second half climbs
BURSTS = 8
REPORT = 5.0  # s between lines of progress

Measure = Callable[[Pattern], Fraction]


@dataclass(frozen=True)
class Found:
    """The worst pattern of a search: its share of the bound, and what was spent on it."""

    pattern: Pattern
    objective: Objective
    share: Fraction
    examples: int
    seconds: float


class Burst(NamedTuple):
    """`times` requests of a client at once, `pause` steps after the burst before."""

    pause: int
    client: int
    prompt: int
    room: int  # tokens of prompt and reserved outputs
    times: int
    ends: int  # output tokens that come, of those reserved; 0: all
    predicts: bool


class _Enough(BaseException):
    """Ends a search from inside; hypothesis takes exceptions of this kind for nobody's bug."""


def search(
    objective: Objective,
    setting: Setting,
    system_class: type[Vtc] = Vtc,
    *,
    policy: Policy | None = None,
    examples: int = 100_000,
    seconds: float = 60.0,
    enough: float = 1.0,
    seed: int = 0,
    predictions: bool = False,
    progress: bool = False,
) -> Found:
    """Search arrival patterns from scratch for the largest share of a bound.

    The result depends on nothing but the arguments as long as `examples` or `enough` ends the search, not `seconds`.

    Args:
        objective: what to push.
        setting: the clients and the memory.
        system_class: scheduler, the reference VTC or a class made from it.
        policy: a policy of the simulator in its place; its source runs on every pattern (slower).
        examples: most patterns to play.
        seconds: most time to spend.
        enough: share at which to stop.
        seed: of the search.
        predictions: also let requests be charged for predicted tokens on admission, and end before them.
        progress: a line on standard error every five seconds.

    Raises:
        ValueError: a number is out of range.
        ModuleNotFoundError: hypothesis is not installed (it comes with the extra `test`).

    Example:
        >>> found = search("gap", Setting(clients=2, memory=8), enough=0.8, seconds=600)
        >>> found.share >= 0.8, len(found.pattern.arrivals) > 0
        (True, True)
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"there is no objective {objective!r}; give one of {', '.join(OBJECTIVES)}")
    if setting.clients < 2:
        raise ValueError("one client has nobody to be compared with; give a setting of 2 clients or more")
    if examples < 1 or not seconds > 0:
        raise ValueError(f"{examples} examples in {seconds} s are none; give at least 1 and a time above 0")
    if policy is not None and system_class is not Vtc:
        raise ValueError("both a policy and a class of the model are given; give one of them")

    def measure(pattern: Pattern) -> Fraction:
        return share_of(objective, pattern, system_class if policy is None else follower(pattern, policy))

    if find_spec("hypothesis") is None:
        raise ModuleNotFoundError(
            "a search needs hypothesis; install it, or tandem-queueing with the extra test"
        )
    started = reported = time.monotonic()
    best: tuple[Fraction, Pattern] | None = None
    played = 0

    def look(pattern: Pattern) -> float:
        """Share of one more pattern; the end of the search, once there is reason for it."""
        nonlocal best, played, reported
        now = time.monotonic()
        if best is not None and (played >= examples or now - started >= seconds):
            raise _Enough
        share = measure(pattern)
        played += 1
        if best is None or share > best[0]:
            best = share, pattern
        if progress and now - reported >= REPORT:
            reported = now
            print(f"{objective}: {float(best[0]):.4f} of the bound after {played} patterns", file=sys.stderr)
        if best[0] >= enough:
            raise _Enough
        return float(share)

    number = 0
    try:
        while True:
            _climb(setting, predictions, look, seed + 1_000_003 * number)
            number += 1
    except _Enough:
        assert best is not None
    return Found(best[1], objective, best[0], played, time.monotonic() - started)


def _climb(setting: Setting, predictions: bool, look: Callable[[Pattern], float], seed: int) -> None:
    """One round: patterns drawn, then patterns near the best of them."""
    from hypothesis import HealthCheck, Phase, given, settings, target  # only whoever searches needs it
    from hypothesis import seed as seeded

    @seeded(seed)
    @settings(
        max_examples=ROUND,
        database=None,
        deadline=None,
        derandomize=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.nested_given],
        phases=[Phase.generate, Phase.target],
    )
    @given(_bursts(setting, predictions))
    def attempt(bursts: list[Burst]) -> None:
        target(look(pattern_of(setting, bursts)))

    attempt()


def _bursts(setting: Setting, predictions: bool) -> Any:
    from hypothesis import strategies as st

    memory, longest = setting.memory, setting.most_input
    burst = st.builds(
        Burst,
        pause=st.one_of(
            st.just(0), st.sampled_from([1, memory - longest, memory - 1]), st.integers(0, memory)
        ),
        client=st.integers(0, setting.clients - 1),
        prompt=st.one_of(st.sampled_from([1, longest]), st.integers(1, longest)),
        room=st.one_of(st.just(memory), st.just(2), st.integers(2, memory)),
        times=st.integers(1, 3),
        ends=st.one_of(st.just(0), st.integers(1, memory)) if predictions else st.just(0),
        predicts=st.booleans() if predictions else st.just(False),
    )
    return st.lists(burst, min_size=1, max_size=BURSTS)


def pattern_of(setting: Setting, bursts: list[Burst]) -> Pattern:
    """The arrivals of some bursts, as large as fits."""
    step, arrivals = 0, list[Arrival]()
    for b in bursts:
        step += b.pause
        reserved = min(max(b.room - b.prompt, 1), setting.memory - b.prompt)
        predicted = reserved if b.predicts else 0
        output = min(b.ends, reserved) if b.predicts and b.ends else reserved
        arrivals += [Arrival(step, b.client, b.prompt, output, predicted)] * b.times
    return Pattern(setting, tuple(arrivals))


def smaller(found: Found, system_class: type[Vtc] = Vtc) -> Found:
    """The pattern without the arrivals that its share does not need, taken away one by one from the last on."""
    pattern = found.pattern
    for i in reversed(range(len(pattern.arrivals))):
        rest = (*pattern.arrivals[:i], *pattern.arrivals[i + 1 :])
        if rest:
            shorter = replace(pattern, arrivals=rest)
            if share_of(found.objective, shorter, system_class) >= found.share:
                pattern = shorter
    return replace(found, pattern=pattern)
