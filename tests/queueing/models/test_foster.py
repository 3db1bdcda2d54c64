"""Foster's criterion step by step: brute force, exact chains, the real policies, and what fails without mixing."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations_with_replacement, product
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from scipy import stats

from policies.rad import Rad
from policies.sarathi import Sarathi
from policies.vllm import Vllm
from queueing.arrivals import Poisson
from queueing.models.foster import (
    converse_growth,
    derivation,
    drift,
    hitting_batches,
    hitting_seconds,
    short_batch_work,
)
from queueing.models.iteration_time import Affine, TileLaw
from queueing.models.replay import ExactLaw, replay
from queueing.models.stability import Sizes, rad_constant
from queueing.policy import Policy
from queueing.proofs.identity import Identity
from queueing.proofs.sandwich import instants
from queueing.simulator import simulate
from queueing.system import ENDLESS, System
from queueing.workload import Workload
from tests.strategies import pressing_workloads

State = tuple[tuple[int, int], ...]  # prompt and decode tokens left, in order of arrival


def loadable(state: State) -> int:
    """Tokens that may be served at once: every prompt as a whole, one token of every other request."""
    return sum(p or 1 for p, _ in state)


def served(state: State, b: int) -> State:
    """The state after a batch of min(b, loadable) tokens, decodes first."""
    room, after = b, []
    for prompts in (False, True):
        for i, (p, d) in enumerate(state):
            if (p > 0) == prompts:
                n = min(p or 1, room)
                room -= n
                after.append((i, (p - n, d) if p else (0, d - n)))
    return tuple(left for _, left in sorted(after) if left != (0, 0))


def total(state: State) -> int:
    return sum(p + d for p, d in state)


# -- P1


@given(st.integers(1, 9), st.integers(1, 9))
def test_p1_in_closed_form(b, longest):
    found = short_batch_work(b, longest)
    assert found.computed == found.stated


def test_p1_over_all_small_states():
    b, longest = 3, 3
    kinds = [(p, d) for p in range(longest + 1) for d in range(longest + 1) if 1 <= p + d <= longest]
    worst = 0
    for n in range(5):
        for state in combinations_with_replacement(kinds, n):
            full = total(state) - total(served(state, b)) == b
            assert full == (loadable(state) >= b)
            worst = worst if full else max(worst, total(state))
    assert worst == short_batch_work(b, longest).stated


def short_at_high_work(workload: Workload, policy: Policy, b: int) -> bool:
    """Whether some batch of a run is short though more than (b - 1)·L tokens are there."""
    law = TileLaw(b, 2.0**-6, 2.0**-12)
    node = System(law, ENDLESS, block_size=1, max_length=ENDLESS, last_chunk_emits=False)
    trace = simulate(workload, node, policy, record_entries=True, python=True)
    exact = ExactLaw(law)
    arrivals, batches = replay(trace, exact)
    low = short_batch_work(b, int((workload.prompt + workload.output).max())).stated
    work = {i.time: i.real / exact.price for i in instants(arrivals, batches, 1)}
    return any(work[batch.start] > low and batch.work / exact.price < b for batch in batches)


@given(st.integers(1, 5), st.integers(1, 6), st.data())
def test_p1_on_runs_of_a_mixed_policy(b, prompt, data):
    workload = data.draw(pressing_workloads(tile=prompt, decodes=4))
    assert not short_at_high_work(workload, Sarathi(b, max_num_seqs=b), b)


def test_control_p1_fails_without_mixing():
    """Two prompt tokens and three decodes, b = 5: five tokens are loadable, and either kind alone is short."""
    state: State = ((2, 1), (0, 1), (0, 1), (0, 1))
    assert loadable(state) == 5
    assert max(2, 3) < 5
    quick = settings(
        max_examples=300, derandomize=True, database=None, deadline=None, phases=[Phase.generate]
    )
    streams = pressing_workloads(tile=1, decodes=3, least=20, most=40)
    find(streams, lambda w: short_at_high_work(w, Vllm(max_num_seqs=5), 5), settings=quick, random=Random(0))


# -- P2 and P4


laws_of_arrivals = st.lists(st.integers(0, 5), min_size=1, max_size=4).map(
    lambda tokens: {a: Fraction(tokens.count(a), len(tokens)) for a in tokens}
)


@given(st.integers(1, 4), st.integers(1, 4), laws_of_arrivals, st.integers(1, 6))
def test_p4_bounds_the_mean_time_to_the_set(b, longest, arriving, above):
    epsilon = drift(b, arriving)
    start = (b - 1) * longest + above
    if epsilon > 0:
        found = [hitting_batches(start, b, longest, arriving, start + more) for more in (0, 5, 20)]
        assert found[0].computed <= found[1].computed <= found[2].computed <= found[0].stated
        assert found[0].stated <= Fraction(start) / epsilon  # the plain form of the bound
    else:
        with pytest.raises(ValueError, match="lower the arrivals"):
            hitting_batches(start, b, longest, arriving, start)


def test_p4_is_an_equality_for_single_tokens():
    """b = 1: the mean busy period, W₀/ε; and there a drift stated too large is found out."""
    arriving = {0: Fraction(3, 4), 2: Fraction(1, 4)}
    found = hitting_batches(3, 1, 1, arriving, 60)
    assert found.stated == 6
    assert 0 < found.stated - found.computed < Fraction(1, 10**6)
    assert found.computed > Fraction(3) / (drift(1, arriving) * Fraction(11, 10))  # control


def test_p1_to_p4_on_the_exact_chain_of_a_tiny_system():
    """b = 2, requests (1, 1) and (2, 1) with probabilities 1/4 and 1/8 per batch: every state, 16 batches deep."""
    b, longest = 2, 3
    choices: list[tuple[State, Fraction]] = [
        ((), Fraction(5, 8)),
        (((1, 1),), Fraction(1, 4)),
        (((2, 1),), Fraction(1, 8)),
    ]
    arriving = {total(new): p for new, p in choices}
    epsilon, low = drift(b, arriving), int(short_batch_work(b, longest).stated)
    assert epsilon == 2 - Fraction(7, 8)
    start: State = ((2, 1), (0, 1), (2, 1))
    law: dict[State, Fraction] = {start: Fraction(1)}
    expected = Fraction(0)  # E[min(N, k)]
    bound = hitting_batches(total(start), b, longest, arriving, 40)
    for _ in range(16):
        alive = {s: p for s, p in law.items() if total(s) > low}
        expected += sum(alive.values())
        law = {}
        for state, p in alive.items():
            rest = served(state, b)
            assert total(state) - total(rest) == b  # P1
            mean = Fraction(0)
            for new, q in choices:
                after = (*rest, *new)
                mean += q * total(after)
                law[after] = law.get(after, Fraction(0)) + p * q
            assert mean - total(state) == -epsilon  # P2
            assert all(total((*rest, *new)) >= low + 1 - b for new, _ in choices)
        assert expected <= bound.stated  # P4
    assert bound.computed - expected < Fraction(1, 100)  # the chain of W alone has the same mean
    assert bound.computed > bound.stated * Fraction(3, 4)
    assert expected > Fraction(total(start) - low, 1) / (
        epsilon * 3
    )  # control: an ε three times too large fails


def test_p4_in_seconds_for_rad():
    """40 runs from 20 requests at once, load 3/4, seed 0: the mean time to W <= (b - 1)·ω, by Wald from both sides.

    Each side errs for one seed in a thousand.
    """
    law, rng = TileLaw(4, 2.0**-6, 2.0**-12), np.random.default_rng(0)
    exact = ExactLaw(law)
    low = 3 * exact.decode_work(4, 3)
    assert rad_constant(exact, Sizes(4, 3)).stated >= low
    mean = exact.price * 6  # prompts of 4, decodes 1 to 3
    times: list[float] = []
    start = Fraction(0)
    node = System(law, ENDLESS, block_size=1, max_length=ENDLESS, last_chunk_emits=False)
    for _ in range(40):
        came = np.floor(Poisson(0.75 / float(mean)).times(250, rng) * 2**20) / 2**20
        decodes = np.concatenate([np.full(20, 2), rng.integers(1, 4, 250)])
        workload = Workload(np.concatenate([np.zeros(20), came]), np.full(270, 4), decodes)
        trace = simulate(workload, node, Rad(4, 4), record_entries=True)
        arrivals, batches = replay(trace, exact)
        start = sum((a.work for a in arrivals[:20]), Fraction(0))
        work = {i.time: i.real for i in instants(arrivals, batches, 1)}
        times.append(float(next(b.start for b in batches if work[b.start] <= low)))
    reach = stats.t.ppf(1 - 1e-3, 39) * np.std(times, ddof=1) / np.sqrt(40)
    bound = float(hitting_seconds(start, low, Fraction(3, 4), exact.seconds(4)))
    assert float((start - low) * 4) - reach < np.mean(times) < bound + reach
    assert np.mean(times) > bound / 2 + reach  # control: the bound for half the load's slack


# -- P5


def test_p5_needs_the_best_rate_and_not_that_of_the_largest_batch():
    """t(n) = 1/2 + (n - 1)^+ has its best rate, 2, at n = 1: b/t(b) = 4/3 is no bound for b = 2."""
    times = {1: Fraction(1, 2), 2: Fraction(3, 2)}
    rates = {n: n / t for n, t in times.items()}
    assert rates == {1: 2, 2: Fraction(4, 3)}
    price = min(t / n for n, t in times.items())
    assert converse_growth(Fraction(3, 2), 1, price) < 0  # no growth is promised at a load between the two
    assert (
        converse_growth(Fraction(3, 2), 1, times[2] / 2) > 0
    )  # and the formula with b/t(b) would promise it
    law = ExactLaw(Affine(0.5, 0.25), most=4)
    assert law.price == law.seconds(4) / 4


@given(st.integers(1, 6), st.sampled_from([0.25, 0.5]), st.sampled_from([0.25, 1.0]))
def test_p5_on_an_overloaded_run(most, base, per_token):
    """One request of 3 tokens every t: W grows by at least what P5 says, under any policy of the kind."""
    law = ExactLaw(Affine(base, per_token), most)
    gap = law.price  # three times the capacity
    n = 20
    workload = Workload([float(Fraction(int(k * gap * 2**10), 2**10)) for k in range(n)], [2] * n, [1] * n)
    limits: Any = {
        "max_batch_tokens": most,
        "max_length": ENDLESS,
        "block_size": 1,
        "last_chunk_emits": False,
    }
    trace = simulate(
        workload, System(law.law, ENDLESS, **limits), Sarathi(most), record_entries=True, python=True
    )
    last = Fraction(float(workload.arrival[-1]))
    work = {i.time: i.real / law.price for i in instants(*replay(trace, law), 1)}
    assert work[last] >= converse_growth(1 / gap, 3, law.price) * last


def test_the_algebra_and_its_wrong_variants():
    for identity in derivation():
        identity.check()
        assert not Identity(identity.name, identity.computed, 2 * identity.stated).holds


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: short_batch_work(0, 1), "b, L >= 1"),
        (lambda: drift(2, {1: Fraction(1, 2)}), "exactly 1"),
        (lambda: hitting_batches(1, 2, 2, {0: Fraction(1)}, 9), "start above 2"),
        (lambda: hitting_batches(10, 2, 2, {0: Fraction(1)}, 9), "cap of 9"),
        (lambda: hitting_seconds(Fraction(3), Fraction(1), Fraction(1)), "load is 1.0"),
        (lambda: converse_growth(1, 1, Fraction(0)), "price above 0"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_service_of_a_state_is_what_it_says():
    """The helper against the definition: never more than b, all decodes before any prompt, nothing lost."""
    for state in product([(2, 1), (0, 1), (1, 2), (0, 3)], repeat=3):
        rest = served(state, 4)
        assert total(state) - total(rest) == min(4, loadable(state))
