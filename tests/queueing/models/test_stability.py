"""The right side of the sandwich on runs of the real policies, its controls, its sharpness, and what follows from it.

Every run has dyadic times and is replayed in exact fractions; no tolerance stands anywhere.
"""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, event, find, given, settings, target
from hypothesis import strategies as st
from scipy import stats

from policies.admission import Admission
from policies.faster_transformer import FasterTransformer
from policies.rad import Rad
from policies.routing import RoundRobin
from policies.sarathi import Sarathi
from policies.vllm import Vllm
from queueing.arrivals import Poisson, burstiness
from queueing.models.iteration_time import Affine, Roofline, TileLaw
from queueing.models.replay import ExactLaw, replay
from queueing.models.stability import (
    Sizes,
    backlog_bound,
    cyclic_constant,
    derivation,
    mixed_constant,
    poisson_workload,
    prompt_bound,
    prompt_free_interval,
    pull_constant,
    rad_constant,
    work_conserving_constant,
)
from queueing.policy import FIFO, SPF, Policy
from queueing.proofs.identity import Identity
from queueing.proofs.sandwich import Arrival, Batch, Sandwich, ideal_backlog, instants
from queueing.simulator import simulate
from queueing.system import ENDLESS, System
from queueing.trace import Trace
from queueing.workload import Workload
from tests.strategies import pressing_workloads
from tests.thorough import thorough

TAU = 2.0**-6  # s


def system(law: Any, emits: bool = False, **limits: Any) -> System:
    ample: dict[str, Any] = {"blocks": ENDLESS, "block_size": 1, "max_length": 4096, "max_running": 64}
    return System(law, last_chunk_emits=emits, **{**ample, **limits})


def run(workload: Workload, node: System, policy: Policy, **options: Any) -> Trace:
    return simulate(workload, node, policy, record_entries=True, **{"python": True, **options})


def sandwich(trace: Trace, law: ExactLaw, constant: Fraction, chunk: int | None = None) -> Sandwich:
    return Sandwich(*replay(trace, law, chunk), constant=constant)


def sizes_of(workload: Workload, emits: bool = False) -> Sizes:
    return Sizes(int(workload.prompt.max()), int(workload.output.max()) - emits)


def held(certificate: Sandwich) -> None:
    """Check it, and let hypothesis look for runs that use the constant up."""
    certificate.check()
    assert certificate.constant is not None
    if certificate.constant:
        share = certificate.extremes()[1].excess / certificate.constant
        target(float(share))
        event(f"tenths of the constant: {int(10 * share)}")


tile_laws = st.builds(
    lambda b, nu: TileLaw(b, TAU, nu),
    st.sampled_from([1, 2, 3, 4, 8]),
    st.sampled_from([0.0, 2.0**-12, 2.0**-8]),
)


# -- right side where it is claimed


@thorough
@given(st.data(), st.booleans())
def test_rad(data, emits):
    law = data.draw(tile_laws)
    chunk = law.tile * data.draw(st.integers(1, 2))
    workload = data.draw(pressing_workloads(tile=chunk, decodes=4, seconds_per_token=TAU / law.tile))
    trace = run(workload, system(law, emits), Rad(law.tile, chunk))
    constant = rad_constant(ExactLaw(law), sizes_of(workload, emits))
    assert constant.computed == constant.stated
    held(sandwich(trace, ExactLaw(law), constant.stated))


@thorough
@given(st.data())
def test_rad_with_attention(data):
    """Chunks of one size and decodes: their attention does not depend on the schedule and is work like any other."""
    law = TileLaw(4, TAU, 2.0**-12, 2.0**-13, data.draw(st.sampled_from([2.0**-12, 2.0**-8])))
    workload = data.draw(pressing_workloads(tile=4, decodes=4))
    trace = run(workload, system(law), Rad(4, 4))
    constant = rad_constant(ExactLaw(law), sizes_of(workload))
    assert constant.computed == constant.stated
    held(sandwich(trace, ExactLaw(law), constant.stated, chunk=4))


@thorough
@given(st.data(), st.integers(1, 2), st.sampled_from([FIFO, SPF]), st.booleans())
def test_mixed_batches_of_whole_budgets(data, tiles, order, emits):
    """Sarathi with a budget of B tokens, at most B requests at a time, and prompts of any length."""
    law = data.draw(tile_laws)
    budget = tiles * law.tile
    workload = data.draw(pressing_workloads(tile=data.draw(st.integers(1, 9)), decodes=4))
    trace = run(workload, system(law, emits), Sarathi(budget, order, max_num_seqs=budget))
    constant = mixed_constant(ExactLaw(law), budget, sizes_of(workload, emits).decodes)
    assert constant.computed == constant.stated
    held(sandwich(trace, ExactLaw(law), constant.stated))


@thorough
@given(st.data(), st.integers(1, 8), st.sampled_from([FIFO, SPF]))
def test_work_conserving_batches_under_an_affine_law(data, most, order):
    base = data.draw(st.sampled_from([0.0, 2.0**-6, 2.0**-4]))
    law = data.draw(
        st.sampled_from(
            [Affine(base, 2.0**-8), Roofline(base + 2.0**-7, base, 2.0**-8), Roofline(TAU, 0.0, 2.0**-8)]
        )
    )
    workload = data.draw(pressing_workloads(tile=data.draw(st.integers(1, 5)), decodes=4))
    trace = run(workload, system(law, max_batch_tokens=most), Sarathi(most, order, max_num_seqs=most))
    exact = ExactLaw(law, most)
    constant = work_conserving_constant(exact, int((workload.prompt + workload.output).max()))
    assert constant.computed == constant.stated
    longest = int((workload.prompt + workload.output).max())
    assert constant.stated <= exact.price * ((most - 1) * (longest - 1) + most)  # the form in whole tokens
    held(sandwich(trace, exact, constant.stated))


@thorough
@given(st.data(), st.integers(1, 5))
def test_rad_with_cycles_of_few_prompts(data, cycle):
    law = data.draw(tile_laws)
    workload = data.draw(pressing_workloads(tile=law.tile, decodes=4, seconds_per_token=TAU / law.tile))
    trace = run(workload, system(law), Rad(law.tile, law.tile, cycle))
    surcharge, constant = cyclic_constant(ExactLaw(law), sizes_of(workload), cycle)
    assert surcharge.computed == surcharge.stated
    assert constant.computed == constant.stated
    arrivals, batches = replay(trace, ExactLaw(law))
    held(Sandwich(arrivals, batches, 1, constant.stated, surcharge.stated))


def pull(
    workload: Workload, law: ExactLaw, engines: int, tile: int
) -> tuple[tuple[Arrival, ...], tuple[Batch, ...]]:
    """RAD on g engines that pull prompts from one queue, in exact time: arrivals and batches."""
    prompt, decodes = workload.prompt.tolist(), workload.output.tolist()
    arrivals = tuple(
        Arrival(Fraction(a), law.prompt_work(p) + law.decode_work(p, d))
        for a, p, d in zip(workload.arrival.tolist(), prompt, decodes, strict=True)
    )
    queue: deque[int] = deque()
    left = list(zip(prompt, decodes, strict=True))  # prompt and decode tokens still to be served
    at_prompt: list[int | None] = [None] * engines
    decoding: list[list[int]] = [[] for _ in range(engines)]
    until: list[Fraction | None] = [None] * engines
    batches: list[Batch] = []
    come = 0
    while come < len(arrivals) or any(end is not None for end in until):
        now = min([e for e in until if e is not None] + [a.time for a in arrivals[come : come + 1]])
        while come < len(arrivals) and arrivals[come].time == now:
            queue.append(come)
            come += 1
        for k in range(engines):
            if until[k] == now:
                until[k] = None
                decoding[k] = [r for r in decoding[k] if left[r][1] > 0]
        for k in range(engines):
            if until[k] is not None:
                continue
            if len(decoding[k]) < tile and (at_prompt[k] is not None or queue):
                r = at_prompt[k] if at_prompt[k] is not None else queue.popleft()
                assert r is not None
                served, n = {r: law.price * tile}, tile
                left[r] = (left[r][0] - tile, left[r][1])
                at_prompt[k] = r if left[r][0] else None
                if not left[r][0]:
                    decoding[k].append(r)
            elif decoding[k]:
                served, n = dict.fromkeys(decoding[k], law.price), len(decoding[k])
                for r in decoding[k]:
                    left[r] = (0, left[r][1] - 1)
            else:
                continue
            until[k] = now + law.seconds(n)
            batches.append(Batch(now, now + law.seconds(n), served))
    return arrivals, tuple(batches)


@thorough
@given(pressing_workloads(tile=4, decodes=4))
def test_the_pulling_engine_alone_is_the_library_s_rad(workload):
    law = TileLaw(4, TAU, 2.0**-12)
    assert pull(workload, ExactLaw(law), 1, 4) == replay(run(workload, system(law), Rad(4, 4)), ExactLaw(law))


@thorough
@given(st.data(), st.integers(2, 3))
def test_several_engines_that_pull(data, engines):
    law = data.draw(tile_laws)
    pace = TAU / law.tile / engines
    workload = data.draw(pressing_workloads(tile=law.tile, decodes=4, seconds_per_token=pace))
    exact, sizes = ExactLaw(law), sizes_of(workload)
    constant = pull_constant(exact, sizes, engines)
    assert constant.computed == constant.stated
    held(Sandwich(*pull(workload, exact, engines, law.tile), engines, constant.stated))


@thorough
@given(tile_laws, st.integers(1, 9), st.integers(1, 9), st.integers(1, 6))
def test_the_pulling_constant_is_sharper_than_one_waste_per_engine(law, prompts, decodes, engines):
    """Engines in a wasteful batch hold no prompt, so their waste need not be added to P_max + b·d_max."""
    exact, b = ExactLaw(law), law.tile
    sizes = Sizes(prompts * b, decodes)
    one = pull_constant(exact, sizes, 1)
    assert one == rad_constant(exact, sizes)
    w, tau = exact.price, Fraction(TAU)
    loose = w * ((engines - 1) * (sizes.prompt + b * decodes) + (b - 1) * decodes) + engines * tau * (
        1 - Fraction(1, b)
    )
    if b > 1 and engines > 1:
        assert pull_constant(exact, sizes, engines).stated <= loose
        assert (pull_constant(exact, sizes, engines).stated < loose) == ((b - 1) * engines > 1)


# -- controls: with one assumption dropped the same checker finds a violation


def violated(strategy: st.SearchStrategy[Workload], certificate: Any) -> Sandwich:
    """Some workload of the strategy for which the certificate fails; NoSuchExample if none is found."""
    quick = settings(
        max_examples=300, derandomize=True, database=None, deadline=None, phases=[Phase.generate]
    )
    found = find(strategy, lambda w: not certificate(w).holds, settings=quick, random=Random(0))
    certificate = certificate(found)
    assert Sandwich(certificate.arrivals, certificate.batches).holds  # what fails is the right side alone
    return certificate


LAW = TileLaw(4, TAU, 2.0**-12)
EXACT = ExactLaw(LAW)
pressing = pressing_workloads(tile=4, decodes=4)
steady = pressing_workloads(tile=1, decodes=2, least=40, most=40, paces=(1.0, 1.25))


def test_control_misaligned_prompts():
    """A prompt of 5 tokens takes two tiles, and its waste is repeated by every prompt."""

    def certificate(workload: Workload) -> Sandwich:
        trace = run(workload, system(LAW), Rad(4, 4))
        return sandwich(trace, EXACT, rad_constant(EXACT, Sizes(0, int(workload.output.max()))).stated)

    violated(pressing_workloads(tile=5, decodes=2), certificate)


@pytest.mark.parametrize("admission", list(Admission))
def test_control_memory_that_binds(admission):
    """Fewer than b requests fit: batches stay short while prompts wait, whatever the rule of admission."""

    def certificate(workload: Workload) -> Sandwich:
        node = system(LAW, blocks=18, max_length=17)
        trace = run(workload, node, Rad(4, 4, admission=admission))
        return sandwich(trace, EXACT, rad_constant(EXACT, sizes_of(workload)).stated)

    violated(pressing, certificate)


@pytest.mark.parametrize("policy", [Vllm(max_num_seqs=4), FasterTransformer(batch_size=4), Rad(4, 4)])
def test_control_unmixed_batches(policy):
    """Prompts of a few tokens in batches of their own: a tile for each handful, again and again."""

    def certificate(workload: Workload) -> Sandwich:
        constant = mixed_constant(EXACT, 4, int(workload.output.max()))
        return sandwich(run(workload, system(LAW), policy), EXACT, constant.stated)

    violated(steady, certificate)


def test_control_unmixed_batches_under_an_affine_law():
    law = Affine(2.0**-4, 2.0**-10)
    exact = ExactLaw(law, 4)

    def certificate(workload: Workload) -> Sandwich:
        constant = work_conserving_constant(exact, int((workload.prompt + workload.output).max()))
        trace = run(workload, system(law, max_batch_tokens=4), Vllm(4, max_num_seqs=4))
        return sandwich(trace, exact, constant.stated)

    violated(steady, certificate)


def test_control_cycles_without_their_surcharge():
    def certificate(workload: Workload) -> Sandwich:
        trace = run(workload, system(LAW), Rad(4, 4, cycle=1))
        return sandwich(trace, EXACT, rad_constant(EXACT, sizes_of(workload)).stated)

    violated(pressing, certificate)


def test_control_routing_that_does_not_look():
    """All long requests go to one engine: no constant for both together, but each engine keeps to its own."""
    n = 40
    workload = Workload([0.0] * n, [16, 4] * (n // 2), [4, 1] * (n // 2))
    trace = run(workload, system(LAW), Rad(4, 4), nodes=2, router=RoundRobin())
    arrivals, batches = replay(trace, EXACT)
    both = Sandwich(arrivals, batches, 2, pull_constant(EXACT, Sizes(16, 4), 2).stated)
    assert not both.holds
    assert Sandwich(arrivals, batches, 2).holds
    for k, sizes in enumerate((Sizes(16, 4), Sizes(4, 1))):
        mine = [
            a if node == k else Arrival(a.time, Fraction(0))
            for a, node in zip(arrivals, trace.requests["node"], strict=True)
        ]
        done = [b for b, node in zip(batches, trace.iterations["node"], strict=True) if node == k]
        Sandwich(tuple(mine), tuple(done), 1, rad_constant(EXACT, sizes).stated).check()


# -- how sharp the constant is


def peak(arrivals: Any, batches: Any) -> Fraction:
    return max(i.real for i in instants(arrivals, batches, 1))


def sharpest(law: TileLaw, decodes: int, delay: float = 2.0**-20) -> Workload:
    """Arrivals under which RAD uses its constant up, but for `delay`.

    Whenever RAD starts a batch of b - 1 fresh decodes, there comes just too late for it: a filler that makes the next
    batches full until D is empty, and b - 1 fresh prompts.  Each round wastes τ/b and nothing else, and the ideal
    server never empties, until W - Q* is all that b - 1 fresh requests hold.  Then the last batch and a burst.
    """
    exact, b = ExactLaw(law), law.tile
    full, short = exact.price * b, exact.seconds(b - 1)
    group = [decodes] * (b - 1)
    coming: list[tuple[Fraction, int]] = [(Fraction(0), d) for d in group]
    start, excess = (b - 1) * full, Fraction(0)
    while excess < exact.price * sum(group):
        filler = [decodes - 1] if decodes > 1 else []
        coming += [(start + Fraction(delay), d) for d in filler + group]
        start += short + full * (len(filler) * decodes + b - 1)
        excess += exact.waste(b - 1)
    coming += [(start + Fraction(delay), decodes)] + [(start + short, decodes)] * 3 * b
    return Workload([float(t) for t, _ in coming], [b] * len(coming), [d for _, d in coming])


@pytest.mark.parametrize(
    ("b", "decodes", "nu"), [(2, 2, 0.0), (4, 1, 2.0**-10), (4, 3, 2.0**-10), (8, 2, 2.0**-9)]
)
def test_no_smaller_constant_would_do(b, decodes, nu):
    """The excess comes within 10⁻⁴ of K₀, and the backlog of H, the bound for arrivals within (σ, 1)."""
    law = TileLaw(b, TAU, nu)
    workload = sharpest(law, decodes)
    constant = rad_constant(ExactLaw(law), sizes_of(workload)).stated
    certificate = sandwich(run(workload, system(law), Rad(b, b), python=False), ExactLaw(law), constant)
    certificate.check()
    assert certificate.extremes()[1].excess > constant * Fraction(9999, 10000)
    times, works = zip(*certificate.arrivals, strict=True)
    bound = backlog_bound(burstiness(times, works, 1), 1, constant)
    assert bound * Fraction(9999, 10000) < peak(certificate.arrivals, certificate.batches) <= bound


def test_a_blind_search_comes_near_the_bound():
    """Hill climbing over streams within σ = one request and ρ = 1, each as early as its pauses allow: 85 % of H."""
    law = TileLaw(4, TAU, 2.0**-10)
    exact, rng = ExactLaw(law), np.random.default_rng(0)
    sigma, rho = exact.price * 6, Fraction(1)
    bound = backlog_bound(sigma, rho, rad_constant(exact, Sizes(4, 2)).stated)

    def stream(plan: list[tuple[int, int]]) -> Workload:
        level, now, times = sigma, Fraction(0), []
        for decodes, pause in plan:  # a token bucket, its times rounded up to 2^-20 s
            need = max(Fraction(pause, 2**10), (exact.price * (4 + decodes) - level) / rho)
            wait = Fraction(-(-need * 2**20 // 1), 2**20)
            level = min(sigma, level + rho * wait) - exact.price * (4 + decodes)
            now += wait
            times.append(float(now))
        return Workload(times, [4] * len(plan), [d for d, _ in plan])

    def request() -> tuple[int, int]:
        return int(rng.integers(1, 3)), int(rng.integers(0, 40)) if rng.random() < 0.5 else 0

    best, most = [request() for _ in range(24)], Fraction(0)
    for _ in range(300):
        plan = list(best)
        for _ in range(rng.integers(1, 4)):
            plan[rng.integers(len(plan))] = request()
        workload = stream(plan)
        arrivals, batches = replay(run(workload, system(law), Rad(4, 4), python=False), exact)
        assert burstiness(*zip(*arrivals, strict=True), 1) <= sigma
        reached = peak(arrivals, batches)
        assert reached <= bound
        if reached >= most:
            best, most = plan, reached
    assert sigma < bound / 2  # a burst alone is less than half of it
    assert most >= bound * Fraction(85, 100)


# -- consequences


@thorough
@given(pressing, st.sampled_from([Fraction(1, 2), Fraction(4, 5), Fraction(1)]))
def test_backlog_and_prompts_within_an_envelope(workload, rho):
    """σ is the least for which the stream keeps within (σ, ρ): the backlog, prompts and prompt-free instants obey."""
    trace = run(workload, system(LAW), Rad(4, 4))
    constant = rad_constant(EXACT, sizes_of(workload)).stated
    arrivals, batches = replay(trace, EXACT)
    sigma = burstiness(*zip(*arrivals, strict=True), rho)
    bound = backlog_bound(sigma, rho, constant)
    assert peak(arrivals, batches) <= bound
    finished, shares = [Fraction(t) for t in trace.requests["prefill_end"].tolist()], [0.0]
    for (came, _), end, d in zip(arrivals, finished, workload.output.tolist(), strict=True):
        limit = prompt_bound(ideal_backlog(arrivals, 1, came), constant, EXACT.decode_work(0, d))
        shares.append(float((end - came) / limit))
        assert end - came <= limit <= prompt_bound(sigma, constant, EXACT.decode_work(0, d))
    target(max(shares))
    if rho < 1:
        # unserved prompts are there from the arrival of the first until the last of those that overlap has ended
        longest, first, last = Fraction(0), arrivals[0].time, Fraction(0)
        for (came, _), end in zip(arrivals, finished, strict=True):
            if came > last:
                first = came
            last = max(last, end)
            longest = max(longest, last - first)
        assert longest <= prompt_free_interval(sigma, rho, constant)


def test_at_rate_one_the_ideal_backlog_is_the_burst():
    """Two routes to σ: Lindley's recursion of the envelope, and the largest Q*."""
    workload = Workload([0.0, 0.25, 0.25, 1.0], [4, 8, 12, 4], [1, 2, 3, 4])
    arrivals, batches = replay(run(workload, system(LAW), Rad(4, 4)), EXACT)
    times, works = zip(*arrivals, strict=True)
    assert max(i.ideal for i in instants(arrivals, batches, 1)) == burstiness(times, works, 1)


@thorough
@given(pressing, st.integers(0, 8))
def test_initial_work_is_worked_off(workload, initial):
    """W₀ beyond the envelope at time 0 adds (W₀ - (1 - ρ)t)^+, and no more."""
    rho = Fraction(4, 5)
    later = Workload(
        [0.0] * initial + (workload.arrival + 2.0**-12).tolist(),
        [4] * initial + workload.prompt.tolist(),
        [4] * initial + workload.output.tolist(),
    )
    arrivals, batches = replay(run(later, system(LAW), Rad(4, 4)), EXACT)
    constant = rad_constant(EXACT, sizes_of(later)).stated
    sigma = burstiness(*zip(*arrivals[initial:], strict=True), rho)
    w0 = sum((a.work for a in arrivals[:initial]), Fraction(0))
    for time, real, _ in instants(arrivals, batches, 1):
        assert real <= backlog_bound(sigma, rho, constant, initial=w0, after=time)


@thorough
@given(
    st.dictionaries(st.fractions(0, 5, max_denominator=9), st.integers(1, 5), min_size=1, max_size=4),
    st.fractions(0, Fraction(19, 20), max_denominator=20),
    st.integers(1, 3),
)
def test_mean_backlog_under_poisson_arrivals(weights, load, engines):
    total = sum(weights.values())
    works = {x: Fraction(k, total) for x, k in weights.items()}
    mean = sum(x * p for x, p in works.items())
    rate = load * engines / mean if mean else Fraction(1)
    low, high = poisson_workload(rate, works, Fraction(3), engines)
    assert low.computed == low.stated
    assert high.computed == high.stated == low.stated + 3


def test_simulated_mean_backlog_lies_between_the_bounds():
    """20 runs, seed 0, seen by arrivals (PASTA), the first 100 cut: each comparison errs for one seed in a thousand."""
    law = TileLaw(4, TAU, 2.0**-12)
    exact, rng = ExactLaw(law), np.random.default_rng(0)
    works = {exact.price * (4 + d): Fraction(1, 3) for d in (1, 2, 3)}
    rate = 0.75 / float(sum(x * p for x, p in works.items()))
    low, high = (
        float(b.stated) for b in poisson_workload(rate, works, rad_constant(exact, Sizes(4, 3)).stated)
    )
    seen: list[tuple[float, float]] = []
    for _ in range(20):
        came = np.floor(Poisson(rate).times(500, rng) * 2**20) / 2**20
        workload = Workload(came, np.full(500, 4), rng.integers(1, 4, 500))
        arrivals, batches = replay(run(workload, system(law), Rad(4, 4), python=False), exact)
        at = {i.time: i for i in instants(arrivals, batches, 1)}
        rows = [(float(at[t].real - x), float(at[t].ideal - x)) for t, x in arrivals[100:]]
        seen.append(tuple(np.mean(rows, axis=0)))
    (real, ideal), sd = np.mean(seen, axis=0), np.std(seen, axis=0, ddof=1)
    reach = stats.t.ppf(1 - 1e-3 / 2, 19) * sd / np.sqrt(20)
    assert abs(ideal - low) < reach[1]
    assert low - reach[0] < real < high + reach[0]
    assert abs(ideal - 2 * low) > reach[1]  # control: the formula without its 2


def test_the_algebra_and_its_wrong_variants():
    for identity in derivation():
        identity.check()
        assert not Identity(identity.name, identity.computed, identity.stated * 2).holds
        assert not Identity(identity.name, identity.computed, identity.stated + identity.stated**2).holds


def test_the_instance_of_the_paper_s_size():
    """b = 128, 4 ms a tile, 5 µs a token, 512 decodes: K₀ = 127·512·36.25 µs + 31.25 µs, about 2.36 s."""
    constant = rad_constant(ExactLaw(TileLaw(128, 4e-3, 5e-6)), Sizes(4096, 512))
    assert constant.computed == constant.stated == Fraction(127 * 512 * 3625 + 3125, 10**8)


def test_nothing_is_wasted_by_tiles_of_one_token_or_without_decodes():
    assert rad_constant(ExactLaw(TileLaw(1, 0.5, 0.25)), Sizes(7, 3)).stated == 0
    assert rad_constant(EXACT, Sizes(8, 0)).stated == 0
    assert pull_constant(EXACT, Sizes(8, 0), 3).stated == 2 * 8 * EXACT.price


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: rad_constant(ExactLaw(Affine(1.0, 1.0), 4), Sizes(4, 1)), "give a TileLaw"),
        (lambda: rad_constant(EXACT, Sizes(4, -1)), "negative"),
        (lambda: rad_constant(ExactLaw(TileLaw(4, 1.0, 0.0, 0.5)), Sizes(5, 1)), "no multiples"),
        (lambda: pull_constant(EXACT, Sizes(4, 1), 0), "engines >= 1"),
        (lambda: mixed_constant(EXACT, 6, 1), "whole tiles"),
        (lambda: mixed_constant(ExactLaw(TileLaw(4, 1.0, 0.0, 0.0, 0.5)), 4, 1), "without attention"),
        (lambda: work_conserving_constant(EXACT, 4), "affine"),
        (lambda: work_conserving_constant(ExactLaw(Affine(1.0, 1.0), 4), 0), "longest >= 1"),
        (lambda: cyclic_constant(EXACT, Sizes(4, 1), 0), "cycle >= 1"),
        (lambda: backlog_bound(1, 1.5, Fraction(1)), "rate 1.5"),
        (lambda: backlog_bound(-1, 1, Fraction(1)), "not negative"),
        (lambda: prompt_free_interval(1, 1, Fraction(1)), "below 1"),
        (lambda: poisson_workload(2, {Fraction(1): Fraction(1)}, Fraction(1)), "load is 2.0"),
        (lambda: poisson_workload(1, {Fraction(1, 2): Fraction(1, 2)}, Fraction(1)), "add up to exactly 1"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
