"""The best single batch: every batch listed, a MILP, and what it tends to."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from queueing.models.batch_choice import DecodeOffer, PromptOffer, best_batch
from queueing.models.demand import Stairs

WORTH = st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0])
COST = st.sampled_from([0.0, 0.01, 0.3])


@st.composite
def offers(draw):
    """Few requests, a short staircase."""
    steps = draw(st.lists(st.sampled_from([0.0, 0.5, 2.0]), min_size=1, max_size=6))
    stairs = Stairs(tuple(0.5 + float(x) for x in np.cumsum(steps)))
    prompts = draw(st.lists(st.builds(PromptOffer, st.integers(1, 4), WORTH, COST), max_size=3))
    decodes = draw(st.lists(st.builds(DecodeOffer, WORTH, COST), min_size=0 if prompts else 1, max_size=4))
    return stairs, prompts, decodes, draw(st.integers(0 if prompts else 1, 4))


def listed(stairs, prompts, decodes, most) -> float:
    """Best worth per second over every batch."""
    best = 0.0
    for chunk in itertools.product(*(range(p.left + 1) for p in prompts)):
        for on in itertools.product((0, 1), repeat=len(decodes)):
            n = sum(chunk) + sum(on)
            if not 1 <= n <= len(stairs.seconds) or sum(on) > most:
                continue
            worth = sum(q * p.worth for q, p in zip(chunk, prompts, strict=True))
            worth += sum(y * d.worth for y, d in zip(on, decodes, strict=True))
            seconds = stairs.seconds[n - 1] + sum(
                q * p.attention for q, p in zip(chunk, prompts, strict=True)
            )
            seconds += sum(y * d.attention for y, d in zip(on, decodes, strict=True))
            best = max(best, worth / seconds)
    return best


def by_milp(stairs, prompts, decodes, most, rate) -> float:
    """Largest worth - rate·time as a mixed-integer program with one binary per number of tokens."""
    budget, n, m = len(stairs.seconds), len(prompts), len(decodes)
    gain = [p.worth - rate * p.attention for p in prompts] + [d.worth - rate * d.attention for d in decodes]
    gain += [-rate * t for t in stairs.seconds]
    size = np.concatenate([np.ones(n + m), -np.arange(1, budget + 1)])
    one = np.concatenate([np.zeros(n + m), np.ones(budget)])
    few = np.concatenate([np.zeros(n), np.ones(m), np.zeros(budget)])
    upper = [p.left for p in prompts] + [1] * (m + budget)
    found = milp(
        -np.array(gain),
        constraints=[
            LinearConstraint(size, 0, 0),
            LinearConstraint(one, 1, 1),
            LinearConstraint(few, 0, most),
        ],
        bounds=Bounds(0, upper),
        integrality=np.ones(n + m + budget),
    )
    assert found.status == 0
    return -found.fun


@given(offers())
def test_no_batch_is_better(case):
    """The optimum of the list; legal; and by a MILP nothing is worth more than its time at the optimal rate."""
    stairs, prompts, decodes, most = case
    found = best_batch(stairs, prompts, decodes, most)
    assert found.rate == pytest.approx(listed(*case), rel=1e-12)
    assert all(0 <= q <= p.left for q, p in zip(found.prompt, prompts, strict=True))
    assert sum(found.decodes) <= most
    assert 1 <= sum(found.prompt) + sum(found.decodes) <= len(stairs.seconds)
    if found.rate > 0:
        assert by_milp(stairs, prompts, decodes, most, found.rate) == pytest.approx(0, abs=1e-7)
        assert by_milp(stairs, prompts, decodes, most, 0.99 * found.rate) > 1e-9  # control: a rate too low


def test_a_backlog_of_equal_tokens_fills_tiles():
    """On a staircase the best batch ends where a tile ends: RAD's principle."""
    stairs = Stairs(tuple(4.0 * -(-n // 8) + 0.01 * n for n in range(1, 33)))
    found = best_batch(stairs, [PromptOffer(100, 1.0)], [DecodeOffer(1.0)] * 5)
    assert (sum(found.prompt) + sum(found.decodes)) % 8 == 0


def test_a_plateau_is_filled_and_dear_tokens_go_first():
    stairs = Stairs((1.0,) * 10 + tuple(1.0 + 0.2 * k for k in range(1, 11)))
    found = best_batch(stairs, [PromptOffer(4, 1.0), PromptOffer(100, 0.1)], [DecodeOffer(3.0, 0.001)] * 3)
    assert found.decodes == (True, True, True)
    assert found.prompt == (4, 3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([], []), "nothing is on offer"),
        (([], [DecodeOffer(1.0)], 0), "nothing is on offer"),
        (([PromptOffer(0, 1.0)], []), "at least one token left"),
        (([], [DecodeOffer(-1.0)]), "worth and attention"),
    ],
)
def test_bad_offers_are_refused_in_a_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        best_batch(Stairs((1.0, 2.0)), *arguments)
