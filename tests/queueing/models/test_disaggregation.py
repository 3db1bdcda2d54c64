"""Disaggregation: each closed form against chains, enumeration and search, and where its assumptions are broken."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import assume, given
from hypothesis import strategies as st

from queueing.models.disaggregation import (
    AttentionFfn,
    attention_ffn_ratio,
    decode_batch,
    derivation,
    prefill_decode_ratio,
    prefill_rate,
    slot_load,
    static_split,
)
from queueing.models.iteration_time import Affine, Load, Roofline
from queueing.proofs.identity import Identity

NONE = np.zeros(0, np.int64)

works = st.fractions(Fraction(1, 20), 20, max_denominator=20)
requests = st.dictionaries(
    st.tuples(st.integers(0, 6), st.integers(1, 5)), st.integers(1, 9), min_size=1, max_size=4
)


# --- prefill and decode


@given(
    service=st.floats(0.1, 50),
    slack=st.floats(1.05, 40),
    quantile=st.none() | st.floats(0.5, 0.999),
)
def test_prefill_rate_is_where_the_chain_meets_the_limit(service, slack, quantile):
    share = 1 if quantile is None else math.log(1 / (1 - quantile))
    computed, stated = prefill_rate(service, slack * share / service, quantile)
    assert computed == pytest.approx(stated, rel=1e-8)
    wrong = service * (1 - 1 / (slack * share / service))  # 1 - 1/TTFT is no rate
    assert computed != pytest.approx(wrong, rel=1e-8) or service == pytest.approx(share)


@given(service=st.floats(0.5, 50), slack=st.floats(1.5, 40), scv=st.floats(0, 10))
def test_other_prefill_times_break_the_limit_exactly_if_they_vary_more_than_exponential_ones(
    service, slack, scv
):
    ttft = slack / service
    rate = prefill_rate(service, ttft).stated
    mean = 1 / service + rate * (1 + scv) / service**2 / (2 * (1 - rate / service))  # Pollaczek-Khinchine
    assume(abs(scv - 1) > 1e-6)
    assert (mean > ttft) == (scv > 1)


affine = st.builds(Affine, st.floats(0, 0.02), st.floats(1e-6, 1e-3), st.floats(0, 1e-6))
roofline = st.builds(
    Roofline, st.floats(0, 0.04), st.floats(0, 0.02), st.floats(1e-6, 1e-3), st.floats(0, 1e-6)
)


@given(law=affine | roofline, room=st.floats(1, 60), context=st.integers(1, 10_000))
def test_decode_batch_is_the_largest_that_keeps_its_limit(law, room, context):
    def seconds(n):
        return law(Load(n, n, n * context, NONE, NONE))

    tpot = room * seconds(1)
    computed, stated = decode_batch(law, tpot * (1 + 1e-12), context)
    assert computed == stated >= 1
    assert seconds(stated) <= tpot * (1 + 1e-9)
    assert seconds(stated + 1) > tpot * (1 - 1e-9)


def test_the_cost_of_a_token_alone_promises_too_large_a_batch():
    law = Affine(0.01, 1e-4, 1e-7)
    batch = decode_batch(law, 0.05, 1000).computed
    assert math.floor((0.05 - 0.01) / 1e-4) > batch


@given(rate=st.floats(0.1, 100), service=st.floats(2, 20), output=st.floats(1, 1000))
def test_the_ratio_is_that_of_the_counts_at_every_load(rate, service, output):
    law = Affine(0.01, 1e-4, 1e-7)
    computed, stated = prefill_decode_ratio(service, 1.0, law, 0.05, 1000, output)
    assert computed == pytest.approx(stated, rel=1e-8)
    batch = decode_batch(law, 0.05, 1000).computed
    prefills = rate / prefill_rate(service, 1.0).computed
    decodes = rate * output * law(Load(batch, batch, 1000 * batch, NONE, NONE)) / batch
    assert stated == pytest.approx(prefills / decodes, rel=1e-8)


@given(engines=st.integers(1, 40), prefill=works, decode=works)
def test_static_split_is_the_best_count_and_loses_at_most_one_engine_in_g(engines, prefill, decode):
    computed, stated = static_split(engines, prefill, decode)
    assert computed == stated
    shared, share = engines / (prefill + decode), prefill / (prefill + decode)
    assert (engines - 1) * shared / engines <= stated <= shared
    assert (stated == shared) == ((engines * share).denominator == 1)
    assert (stated == (engines - 1) * shared / engines) == (((engines - 1) * share).denominator == 1)


def test_rounding_to_the_nearest_count_is_not_the_best():
    prefill, decode, g = Fraction(1), Fraction(13), 5
    x = g * prefill / (prefill + decode)  # 5/14, nearest to 0 engines: nothing would be prefilled
    assert round(x) == 0
    assert static_split(g, prefill, decode).computed == Fraction(4, 13)


# --- attention and FFN


def stationary(chain):
    """Stationary vector of a finite irreducible chain {state: {next: probability}}, by elimination in fractions."""
    states = list(chain)
    rows = [[chain[s].get(t, Fraction(0)) - (s == t) for s in states] for t in states]
    rows[-1] = [Fraction(1)] * len(states)
    solved = sympy.Matrix(rows).LUsolve(sympy.Matrix([0] * (len(states) - 1) + [1]))
    return {s: Fraction(int(v.p), int(v.q)) for s, v in zip(states, solved, strict=True)}


@given(weights=requests)
def test_slot_load_is_that_of_the_full_chain_of_requests_and_ages(weights):
    total = sum(weights.values())
    fresh = {(p, d, 0): Fraction(w, total) for (p, d), w in weights.items()}
    chain = {
        (p, d, a): {(p, d, a + 1): Fraction(1)} if a + 1 < d else fresh for p, d in weights for a in range(d)
    }
    exactly = sum(weight * (p + a) for (p, _, a), weight in stationary(chain).items())
    computed, stated = slot_load(weights)
    assert computed == stated == exactly


@given(weights=requests)
def test_the_renewal_recursion_averages_to_the_slot_load(weights):
    total, steps = sum(weights.values()), 400
    renewal = [Fraction(1)]  # probability that a request starts at this step
    for n in range(1, steps):
        renewal.append(
            sum((w * renewal[n - d] for (_, d), w in weights.items() if d <= n), Fraction(0)) / total
        )
        renewal[-1] = Fraction(float(renewal[-1]))  # the average needs no more digits
    load = sum(
        float(u) * w * (p + a)
        for n, u in enumerate(renewal)
        for (p, d), w in weights.items()
        for a in range(min(d, steps - n))
    )
    # the first cycle is not stationary: at most 5 steps of at most 10 tokens each way, over 400
    assert load / total / steps == pytest.approx(float(slot_load(weights).stated), abs=2 * 50 / steps)


@given(weights=requests)
def test_the_mean_over_requests_is_not_the_mean_over_steps(weights):
    total = sum(weights.values())
    unbiased = sum(Fraction(w, total) * (p + Fraction(d - 1, 2)) for (p, d), w in weights.items())
    same = slot_load(weights).stated == unbiased
    covariance = sum(  # of D with the mean load of a request: what length bias adds
        Fraction(w * v, total**2) * (d - e) * (p + Fraction(d - 1, 2) - q - Fraction(e - 1, 2))
        for (p, d), w in weights.items()
        for (q, e), v in weights.items()
    )
    assert same == (covariance == 0)


systems = st.builds(
    AttentionFfn,
    attention_base=st.floats(0, 1e-3),
    per_kv=st.floats(0, 1e-6),
    ffn_base=st.floats(1e-5, 1e-3),
    per_slot=st.floats(1e-7, 1e-5),
    communication=st.floats(0, 1e-3),
    slots=st.integers(1, 256),
    load=st.floats(0, 5000),
)


@given(system=systems)
def test_the_best_ratio_is_the_largest_of_the_three(system):
    computed, stated = attention_ffn_ratio(system)
    assert computed == pytest.approx(stated, rel=1e-5)  # a smooth peak is flat to half the digits
    best = system.throughput(stated)
    for ratio in np.geomspace(1e-3, 1e4, 200):
        assert system.throughput(ratio) <= best * (1 + 1e-12)


def test_leaving_one_of_the_three_out_loses_throughput():
    system = AttentionFfn(1e-4, 1e-7, 1e-4, 1e-6, 2e-3, 64, 500)
    best = system.throughput(attention_ffn_ratio(system).stated)
    per_ratio = system.per_slot * system.slots
    for time in (system.attention, system.communication):
        ratio = (time - system.ffn_base) / per_ratio
        assert (system.throughput(ratio) < best) == (time < max(system.attention, system.communication))


def test_behind_a_barrier_the_slowest_attention_engine_moves_the_best_ratio():
    """One slot per engine that holds 1 or 100 tokens: the cycle waits for the maximum of r engines."""
    law = {(1, 1): 99, (100, 1): 1}  # a request in a hundred is long
    system = AttentionFfn(0.0, 1.0, 0.5, 0.5, 0.0, 1, float(slot_load(law).stated))
    stated = attention_ffn_ratio(system).stated

    def throughput(r):
        longest = 100 - 99 * 0.99**r  # mean of the maximum of r loads
        return r / ((r + 1) * max(longest, 0.5 + 0.5 * r))

    best = max(range(1, 200), key=throughput)
    assert throughput(best) > 1.05 * max(throughput(math.floor(stated)), throughput(math.ceil(stated)))


def test_communication_that_grows_with_the_ratio_moves_it_too():
    system = AttentionFfn(1e-3, 0.0, 1e-4, 1e-6, 0.0, 64, 0.0)

    def throughput(r):  # 2 us per slot on the wire
        return min(system.throughput(r), r * 64 / ((r + 1) * (2e-4 + 2e-6 * r * 64)))

    ratios = np.geomspace(0.1, 100, 2000)
    stated = attention_ffn_ratio(system).stated
    assert max(map(throughput, ratios)) > 1.05 * throughput(stated)


# --- algebra and bad input


def test_every_identity_holds_and_a_changed_one_fails():
    for identity in derivation():
        identity.check()
        assert not Identity(identity.name, identity.computed, identity.stated + 1).holds
    p, d, a = sympy.symbols("p d a", positive=True)
    assert not Identity("age from 1", sympy.summation(p + a, (a, 1, d)), p * d + d * (d - 1) / 2).holds


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: prefill_rate(2.0, 0.5), "even when idle"),
        (lambda: prefill_rate(2.0, 5.0, 1.0), "strictly between 0 and 1"),
        (lambda: prefill_rate(1e6, 1e6), "take μ itself"),
        (lambda: decode_batch(Affine(0.1, 1e-4), 0.05, 10), "allow more time"),
        (lambda: decode_batch(Affine(0.01, 0.0), 0.05, 10), "give a cost per token"),
        (lambda: decode_batch(Affine(0.01, 1e-4), 0.05, 0), "context >= 1"),
        (lambda: prefill_decode_ratio(4.0, 1.0, Affine(0.01, 1e-4), 0.05, 10, 0.0), "more than 0"),
        (lambda: static_split(0, Fraction(1), Fraction(1)), "g >= 1"),
        (lambda: static_split(2, Fraction(0), Fraction(1)), "both phases"),
        (lambda: slot_load({(3, 0): 1}), "D >= 1"),
        (lambda: slot_load({}), "positive weights"),
        (lambda: AttentionFfn(1.0, 1.0, 0.0, 1.0, 1.0, 1, 1.0), "those of the FFN > 0"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()


def test_one_engine_cannot_be_split():
    assert static_split(1, Fraction(3), Fraction(5)) == (0, 0)
