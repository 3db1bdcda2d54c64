"""KV memory: demand, capacity from both sides, the drift, peaks; and nodes that lose tokens or admit by peaks."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from queueing.models.congestion import SaturatedNode, find_cycle
from queueing.models.memory import (
    SwapNode,
    derivation,
    drift,
    held,
    lifetime_demand,
    memory_capacity,
    peak,
    replicas,
)
from queueing.models.stationary import certified_law
from queueing.proofs.identity import Identity

kinds = st.tuples(st.integers(1, 4), st.integers(0, 3))
laws = st.dictionaries(kinds, st.integers(1, 9), min_size=1, max_size=3)
rows = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), max_size=8)


def arriving(law, rate):
    """Probabilities of the kinds of `law` in an iteration, `rate` requests in the mean."""
    return {kind: Fraction(w, sum(law.values())) * rate for kind, w in law.items()}


# --- demand and capacity


@given(prompt=st.integers(1, 300), output=st.integers(0, 60), chunk=st.none() | st.integers(1, 100))
def test_demand_is_what_a_life_adds_up_to(prompt, output, chunk):
    life = held(prompt, output, chunk)
    z = prompt if chunk is None else chunk
    assert len(life) == -(-prompt // z) + output
    assert life[-1] == prompt + output
    computed, stated = lifetime_demand(prompt, output, chunk)
    assert computed == stated
    equal_chunks = (
        Fraction(prompt, 2) * (Fraction(prompt, z) + 1) + prompt * output + Fraction(output * (output + 1), 2)
    )
    q, r = divmod(prompt, z)
    assert stated - equal_chunks == (0 if r == 0 else (z - r) * (q + Fraction(r, 2 * z)))


@given(law=laws, spare=st.integers(0, 50), b=st.fractions(Fraction(1, 10), 5), chunk=st.integers(1, 4))
def test_capacity_by_the_cohorts_of_all_ages(law, spare, b, chunk):
    memory = spare + max(s + o for s, o in law)
    computed, stated = memory_capacity(law, memory, b, chunk)
    assert computed == stated
    by_longest = memory / (b * max(sum(held(*kind, chunk)) for kind in law))
    assert (stated == by_longest) == (len({sum(held(*kind, chunk)) for kind in law}) == 1)


@settings(max_examples=30)
@given(
    law=st.dictionaries(
        st.tuples(st.integers(1, 2), st.integers(0, 2)), st.integers(1, 5), min_size=1, max_size=2
    ),
    rate=st.fractions(Fraction(1, 5), Fraction(19, 20), max_denominator=20),
    spare=st.integers(0, 3),
    room=st.integers(2, 4),
)
def test_no_node_completes_more_than_the_capacity(law, rate, spare, room):
    """Exact stationary laws; what is lost for want of room is what is not completed."""
    node = SwapNode(spare + max(s + o for s, o in law), arriving(law, rate))
    chain = certified_law(node.chain(room))
    chain.check()
    mu = memory_capacity(law, node.memory).stated
    full = {state: Fraction(len(node.run(state)[0]) == room) for state in chain.transitions}
    completed = rate * (1 - chain.mean(full))
    assert completed <= min(mu, rate)
    used = {state: Fraction(node.run(state)[1]) for state in chain.transitions}
    assert chain.mean(used) == completed * sum(
        Fraction(w * sum(held(*k)), sum(law.values())) for k, w in law.items()
    )


def test_both_sides_of_the_capacity_in_the_exact_chain():
    """Lost shares of arrivals: falling by halves and more with each place below μ(1 - δ); 1 - μ/λ and more above μ."""
    lost: dict[tuple[int, Fraction], Fraction] = {}
    slow = {(1, 2): 1}
    for rate, memory in ((Fraction(1, 5), 4), (Fraction(4, 5), 4)):
        node = SwapNode(memory, arriving(slow, rate))
        for room in (4, 6, 8):
            chain = certified_law(node.chain(room))
            lost[room, rate] = chain.mean(
                {s: Fraction(len(node.run(s)[0]) == room) for s in chain.transitions}
            )
    mu = memory_capacity(slow, 4).stated
    below, above = Fraction(1, 5), Fraction(4, 5)
    assert below < mu * (1 - Fraction(2, 4)) < mu < above
    assert lost[8, below] < lost[6, below] / 2 < lost[4, below] / 4
    assert all(lost[room, above] >= 1 - mu / above for room in (4, 6, 8))


# --- drift


@settings(max_examples=40)
@given(
    law=st.dictionaries(
        st.tuples(st.integers(1, 3), st.integers(0, 2)), st.integers(1, 5), min_size=1, max_size=2
    ),
    rate=st.fractions(Fraction(1, 20), 1, max_denominator=20),
    spare=st.integers(0, 3),
    chunk=st.none() | st.integers(1, 2),
)
def test_the_work_falls_as_stated_whenever_a_request_is_left_out(law, rate, spare, chunk):
    node = SwapNode(spare + max(s + o for s, o in law), arriving(law, rate), chunk)
    try:
        computed, stated = drift(node, 4)
    except ValueError:
        assume(False)
    assert computed <= stated
    largest, memory = max(s + o for s, o in law), node.memory
    edge = memory_capacity(law, memory, 1, chunk).stated * (1 - Fraction(largest - 1, memory))
    assert (stated < 0) == (rate < edge)


def test_the_stated_drift_is_attained_and_no_smaller_one_holds():
    node = SwapNode(6, {(1, 2): Fraction(1, 2), (2, 1): Fraction(1, 4)})
    computed, stated = drift(node, 4)
    assert computed == stated
    as_if_full = Fraction(1, 2) * 6 + Fraction(1, 4) * 5 - node.memory  # no room missing
    assert computed > as_if_full


@given(rate=st.fractions(0, 50), law=laws, spare=st.integers(0, 50))
def test_the_fewest_nodes_with_slack(rate, law, spare):
    largest = max(s + o for s, o in law)
    memory = largest + spare
    computed, stated = replicas(rate, law, memory)
    assert computed == stated
    edge = memory_capacity(law, memory).stated * (1 - Fraction(largest - 1, memory))
    assert rate / stated < edge
    assert stated == 1 or rate / (stated - 1) >= edge


def test_rounding_up_leaves_no_slack_where_the_quotient_is_whole():
    edge = memory_capacity({(1, 1): 1}, 4).stated * (1 - Fraction(1, 4))
    assert replicas(3 * edge, {(1, 1): 1}, 4).stated == 4
    rounded_up = 3
    assert not 3 * edge / rounded_up < edge


# --- where the premise fails


@pytest.mark.parametrize(("output", "memory"), [(19, 400), (39, 1600), (9, 3000)])
def test_a_node_that_recomputes_what_it_evicts_carries_less(output, memory):
    """A prompt token, then `output` decodes; the queue never empty.  The rate between both is lost to recomputation."""
    kept = memory_capacity({(1, output): 1}, memory).stated * (1 - Fraction(output, memory))
    evicting = find_cycle(SaturatedNode(memory, 0, output + 1)).throughput
    assert evicting < Fraction(2, 3) * kept
    swapping, state, queue = SwapNode(memory, {(1, output): Fraction(1)}), (), ((1, output, 0),) * memory
    used = 0
    for _ in range(200):
        state, tokens = swapping.run((state + queue)[:memory])
        used += tokens
    assert Fraction(used, 200 * sum(held(1, output))) >= kept


@pytest.mark.parametrize(("output", "memory"), [(19, 400), (39, 1600)])
def test_admission_by_the_peak_never_overflows_and_also_carries_less(output, memory):
    running: list[tuple[int, int]] = []
    completed, steps = 0, 50 * (output + 1)
    for _ in range(steps):
        while peak(*zip(*running, (0, output + 1), strict=True)).stated <= memory:
            running.append((0, output + 1))
        running = [(h + 1, r - 1) for h, r in running]
        assert sum(h for h, _ in running) <= memory
        completed += sum(r == 0 for _, r in running)
        running = [(h, r) for h, r in running if r]
    kept = memory_capacity({(1, output): 1}, memory).stated * (1 - Fraction(output, memory))
    assert Fraction(completed, steps) < Fraction(2, 3) * kept


# --- peaks


@given(rows)
def test_completions_are_enough_for_the_peak(pairs):
    tokens, left = [h for h, _ in pairs], [r for _, r in pairs]
    computed, stated = peak(tokens, left)
    assert computed == stated
    at_completions = {sum(h + j for h, r in pairs if r >= j) for j in left}
    assert stated == max(at_completions, default=0)
    just_after = max((sum(h + j for h, r in pairs if r > j) for j in left), default=0)
    assert stated > just_after or not pairs  # what completes must be counted in its last iteration


@given(rows, st.integers(0, 30), st.integers(1, 12))
def test_a_peak_only_falls_with_time_and_only_grows_with_a_request(pairs, tokens, left):
    before = peak([h for h, _ in pairs], [r for _, r in pairs]).stated
    after = [(h + 1, r - 1) for h, r in pairs if r > 1]
    assert peak([h for h, _ in after], [r for _, r in after]).stated <= before
    more = [*pairs, (tokens, left)]
    assert peak([h for h, _ in more], [r for _, r in more]).stated >= max(before, tokens + left)


def test_outputs_beyond_the_prediction_overflow():
    memory, tokens, predicted, true = 12, [0, 0, 0], [4, 4, 4], [5, 5, 5]
    assert peak(tokens, predicted).stated <= memory < peak(tokens, true).stated


# --- algebra and bad input


def test_every_identity_holds_and_a_changed_one_fails():
    for identity in derivation():
        identity.check()
        assert not Identity(identity.name, identity.computed, identity.stated + 1).holds


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: held(0, 1), "s >= 1"),
        (lambda: lifetime_demand(1, -1), "o >= 0"),
        (lambda: memory_capacity({}, 5), "positive weights"),
        (lambda: memory_capacity({(3, 3): 1}, 5), "every request"),
        (lambda: memory_capacity({(1, 1): 1}, 5, 0), "b > 0"),
        (lambda: replicas(-1, {(1, 1): 1}, 5), "at least 0"),
        (lambda: SwapNode(5, {(1, 1): Fraction(2)}), "at most 1"),
        (lambda: SwapNode(5, {(5, 1): Fraction(1)}), "does not fit"),
        (lambda: drift(SwapNode(50, {(1, 1): Fraction(1)}), 2), "left out"),
        (lambda: peak([1], []), "a pair for each"),
        (lambda: peak([1], [0]), ">= 1"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()
