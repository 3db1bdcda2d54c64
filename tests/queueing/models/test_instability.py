"""Unmixed batching inside the capacity region: exact divergent paths of the real policies, rates, simulated growth."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from policies.faster_transformer import FasterTransformer
from policies.rad import Rad
from policies.sarathi import Sarathi
from policies.vllm import Vllm
from queueing.arrivals import Poisson, burstiness
from queueing.metrics.stability import growth_test
from queueing.models.instability import (
    faster_transformer_path,
    faster_transformer_rate,
    vllm_path,
    vllm_rate,
)
from queueing.models.iteration_time import Affine, TileLaw
from queueing.models.replay import ExactLaw, replay
from queueing.models.stability import backlog_bound, mixed_constant
from queueing.policy import Policy
from queueing.proofs.certificate import Kind, Refuted
from queueing.proofs.divergence import Divergence, Stretch
from queueing.proofs.sandwich import instants
from queueing.simulator import simulate
from queueing.system import ENDLESS, System
from queueing.workload import Workload

TILE, TAU = 8, 2.0**-6
LAW = TileLaw(TILE, TAU, 2.0**-12)
EXACT = ExactLaw(LAW)
NODE = System(LAW, ENDLESS, block_size=1, max_length=4096, max_running=512, last_chunk_emits=False)


def run(workload: Workload, policy: Policy) -> Any:
    arrivals, batches = replay(simulate(workload, NODE, policy, record_entries=True), EXACT)
    return arrivals, batches, list(instants(arrivals, batches, 1))


def stream(
    prompt: int, first: list[int], group: list[int], load: Fraction, count: int
) -> tuple[Workload, Fraction]:
    """Requests with these decodes at time 0, then `count` more, evenly spaced, in repeating groups; and the exact load.

    The gap is rounded up to a multiple of 2^-30 s, so that all times are exact.
    """
    mean = EXACT.price * (prompt + Fraction(sum(group), len(group)))
    gap = Fraction(-(-(mean / load) * 2**30 // 1), 2**30)
    later = [group[i % len(group)] for i in range(count)]
    times = [0.0] * len(first) + [float(gap * (i + 1)) for i in range(count)]
    return Workload(times, [prompt] * len(times), first + later), mean / gap


# -- exact paths


def seconds(path: Divergence) -> Fraction:
    return path.path(Fraction(0), 1)[-1][0]


def follows(path: Divergence, workload: Workload, policy: Policy, start: int, largest: Fraction) -> int:
    """Periods for which the policy repeats the path's batches from batch `start` on, and W the path, under arrivals."""
    arrivals, batches, at = run(workload, policy)
    last, period = arrivals[-1].time, list(path.period)
    real = {i.time: i.real for i in at}
    periods, begin = 0, start
    w0, t0 = real[batches[start].start], batches[start].start
    while True:
        now = batches[begin : begin + len(period)]
        if len(now) < len(period) or now[-1].end > last:
            return periods
        if [(b.end - b.start, b.work) for b in now] != period:
            return periods
        for (t, w), batch in zip(
            islice(path.path(w0, periods + 1), len(period) * periods, None), now, strict=False
        ):
            assert t0 + t == batch.start
            assert abs(real[batch.start] - w) <= largest  # requests come one by one, not as a fluid
        periods, begin = periods + 1, begin + len(period)


def test_vllm_falls_behind_on_a_path_of_its_own():
    """8 places, prompts of 2, 4 decodes, two ending in each batch: 27/35 of the time is work, at a load of 0.95."""
    load = Fraction(19, 20)
    group, staggered = [4] * 8, [1, 1, 2, 2, 3, 3, 4, 4]
    workload, load = stream(2, staggered + [4] * 8, group, load, 400)
    path = vllm_path(EXACT, 2, 4, 8, load)
    path.check()
    assert path.kind is Kind.RATIONAL
    policy = Vllm(max_num_seqs=8)
    periods = follows(path, workload, policy, 1, EXACT.price * 6)
    assert periods > 60
    arrivals, _, at = run(workload, policy)
    grown = path.growth * seconds(path) * periods
    assert max(i.real for i in at) > grown > 10 * path.needs
    # what mixed batches make of the same arrivals
    arrivals, _, mixed = run(workload, Sarathi(8, max_num_seqs=8))
    bound = backlog_bound(burstiness(*zip(*arrivals, strict=True), 1), 1, mixed_constant(EXACT, 8, 4).stated)
    assert max(i.real for i in mixed) <= bound < grown
    # and what vLLM makes of them if all places begin together: they stay together, and nothing builds up
    together, _ = stream(2, [4] * 16, group, load, 400)
    _, _, synchronous = run(together, policy)
    assert max(i.real for i in synchronous) < grown / 2
    assert follows(path, together, policy, 1, EXACT.price * 6) == 0


def test_faster_transformer_falls_behind_on_a_path_of_its_own():
    """Groups of 8 with one long answer of 9 tokens: three fifths of the time is work, at a load of 0.75."""
    group = [1] * 7 + [9]
    workload, load = stream(8, group * 3, group, Fraction(3, 4), 600)
    path = faster_transformer_path(EXACT, 8, tuple(group), load)
    path.check()
    periods = follows(path, workload, FasterTransformer(batch_size=8), 0, 16 * EXACT.price * 8)
    assert periods > 40
    _, _, at = run(workload, FasterTransformer(batch_size=8))
    grown = path.growth * seconds(path) * periods
    assert max(i.real for i in at) > grown > 10 * path.needs
    for policy in (Rad(8, 8), Sarathi(8, max_num_seqs=8)):
        assert max(i.real for i in run(workload, policy)[2]) < grown / 4


def test_a_path_that_does_not_diverge_is_refuted():
    path = vllm_path(EXACT, 2, 4, 8, Fraction(19, 20))
    path.check()
    assert not vllm_path(EXACT, 2, 4, 8, path.load - path.growth).holds
    with pytest.raises(Refuted, match="does not grow"):
        vllm_path(EXACT, 2, 4, 8, Fraction(1, 2)).check()
    for load in (Fraction(1), Fraction(-1, 2)):
        with pytest.raises(Refuted, match="not inside"):
            dataclasses.replace(path, load=load).check()
    lasts, work = path.period[0]
    for period, sentence in (
        ((), "no batch"),
        ((Stretch(Fraction(0), Fraction(0)),), "lasts 0"),
        ((Stretch(lasts, 2 * lasts), *path.period), "is no batch"),
        ((Stretch(lasts, work / 2), *path.period), "per second, not"),
    ):
        with pytest.raises(Refuted, match=sentence):
            dataclasses.replace(path, period=period).check()
    # batches that are full fall behind at no load inside the region
    full, load = (Stretch(lasts, lasts),), Fraction(999, 1000)
    assert not Divergence(load, full, load - 1).holds
    assert "falls behind" in path.claim


def test_one_flipped_digit_of_the_path_refutes():
    path = faster_transformer_path(EXACT, 8, (1,) * 7 + (9,), Fraction(3, 4))
    path.check()
    flips = 0
    for field, number in (("load", path.load), ("growth", path.growth)):
        for other in flipped(number):
            assert not dataclasses.replace(path, **{field: other}).holds
            flips += 1
    for i, stretch in enumerate(path.period):
        for j in (0, 1):
            for other in flipped(stretch[j]):
                altered = stretch._replace(**{Stretch._fields[j]: other})
                assert not dataclasses.replace(
                    path, period=(*path.period[:i], altered, *path.period[i + 1 :])
                ).holds
                flips += 1
    assert flips > 50


def flipped(number: Fraction) -> list[Fraction]:
    """Every fraction that differs from `number` in one digit, and in value."""
    text, found = str(number), []
    for i, digit in enumerate(text):
        if digit.isdigit():
            other = text[:i] + str((int(digit) + 1) % 10) + text[i + 1 :]
            if Fraction(other if not other.endswith("/0") else number) != number:
                found.append(Fraction(other))
    return found


# -- rates


laws_of_decodes = st.lists(st.integers(1, 6), min_size=1, max_size=5).map(
    lambda d: {k: Fraction(d.count(k), len(d)) for k in d}
)
laws = st.sampled_from([EXACT, ExactLaw(TileLaw(8, 0.5, 0.0)), ExactLaw(Affine(0.5, 0.25), 8)])


@given(laws, st.integers(1, 20), laws_of_decodes, st.integers(1, 8))
def test_rate_of_faster_transformer(law, prompt, decodes, batch_size):
    found = faster_transformer_rate(law, prompt, decodes, batch_size)
    assert found.computed == found.stated
    mean = sum(d * p for d, p in decodes.items())
    if isinstance(law.law, TileLaw):
        capacity = 1 / (law.price * (prompt + mean))
        assert found.stated <= capacity
        if len(decodes) == 1 and prompt % 8 == 0 and batch_size == 8:
            assert found.stated == capacity  # equal answers, full tiles: nothing is lost


@given(laws, st.integers(1, 4), st.fractions(Fraction(1, 20), 1, max_denominator=20), st.integers(1, 4))
def test_rate_of_vllm(law, prompt, hazard, places):
    if places * prompt <= 8:
        found = vllm_rate(law, prompt, hazard, places)
        assert found.computed == found.stated <= 1 / (law.price * (prompt + 1 / hazard))


@pytest.mark.parametrize("name", ["faster_transformer", "vllm"])
def test_simulated_growth_inside_the_capacity_region(name):
    """20,000 requests, Poisson, seed 0: 7 % above its rate the policy grows, 7 % below it does not, mixed never does.

    Each verdict errs with probability 0.001 at most.  The loads are inside the region: below 0.9 of the capacity.
    """
    rng, n = np.random.default_rng(0), 20_000
    if name == "vllm":
        prompt, hazard = 1, Fraction(1, 4)
        decodes = rng.geometric(float(hazard), n)
        edge, mean = vllm_rate(EXACT, prompt, hazard, 8).stated, 1 / hazard
        policy: Policy = Vllm(max_num_seqs=8)
    else:
        prompt, law = 8, {1: Fraction(1, 2), 12: Fraction(1, 2)}
        decodes = rng.choice([1, 12], n)
        edge, mean = faster_transformer_rate(EXACT, prompt, law, 8).stated, Fraction(13, 2)
        policy = FasterTransformer(batch_size=8)
    capacity = 1 / (EXACT.price * (prompt + mean))
    assert edge * Fraction(107, 100) < capacity * Fraction(9, 10)
    came = Poisson(1.0).times(n, rng)
    for share, who, grows in (
        (1.07, policy, True),
        (0.93, policy, False),
        (1.07, Sarathi(8, max_num_seqs=8), False),
    ):
        workload = Workload(came / (share * float(edge)), np.full(n, prompt), decodes)
        last = float(workload.arrival[-1])
        verdict = growth_test(simulate(workload, NODE, who, horizon=last), start=last / 10, error=1e-3)
        assert verdict.grows == grows
        assert grows or verdict.grows_less_than(0.04)


def test_rates_of_saturated_runs():
    """All requests at once, seed 0: the mean time of a FasterTransformer batch, within its interval (error 0.001)."""
    rng, law = np.random.default_rng(0), {1: Fraction(1, 2), 12: Fraction(1, 2)}
    n = 8 * 400
    trace = simulate(Workload(np.zeros(n), np.full(n, 8), rng.choice([1, 12], n)), NODE, FasterTransformer(8))
    ends = np.sort(trace.requests["finished"]).reshape(-1, 8)[:, -1]
    spans = np.diff(ends, prepend=0.0)
    reach = stats.t.ppf(1 - 5e-4, len(spans) - 1) * spans.std(ddof=1) / np.sqrt(len(spans))
    stated = float(8 / faster_transformer_rate(EXACT, 8, law, 8).stated)
    assert abs(spans.mean() - stated) < reach
    assert abs(spans.mean() - 8 * float(EXACT.price * (8 + Fraction(13, 2)))) > reach  # control: no waste


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: faster_transformer_rate(EXACT, 1, {1: Fraction(1)}, 9), "affine up to 9"),
        (lambda: faster_transformer_rate(EXACT, 1, {1: Fraction(1)}, 0), "sizes >= 1"),
        (lambda: faster_transformer_rate(EXACT, 1, {1: Fraction(1, 2)}, 2), "exactly 1"),
        (lambda: vllm_rate(EXACT, 1, Fraction(0), 2), "probability"),
        (lambda: vllm_path(EXACT, 1, 3, 8, Fraction(1, 2)), "multiple"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
