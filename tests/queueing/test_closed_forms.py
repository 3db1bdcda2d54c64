"""Classical queues come out of the serving loop under degenerate settings, inside stated confidence intervals.

One place, one batch per request: M/G/1 first come first served.  Many places, a batch time proportional to its tokens:
processor sharing.  Many places, a constant batch time: infinitely many servers.  Each test has a negative control: a
wrong formula that the same interval rejects.

Error probability: intervals are made at confidence 0.9999, so that each check of a true formula fails for about one
seed in 10,000 (asymptotically; `intervals` says why).  Seeds are fixed.
"""

import math

import numpy as np
import pytest
from scipy import stats

from policies.rad import Rad
from policies.sarathi import Sarathi
from queueing import metrics as m
from queueing.models.iteration_time import TileLaw
from queueing.simulator import simulate
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload

LEVEL = 0.9999
ALL_AT_ONCE = Sarathi(token_budget=1 << 20, max_num_seqs=4096)
CONSTANT = 1 << 14  # tile wide enough for any batch here: every batch takes the time of one tile


def serve(arrival, prompt, output, *, tile: int, tile_time: float, places: int) -> Trace:
    system = System(TileLaw(tile, tile_time, 0.0), blocks=1 << 30, max_length=1 << 20, max_running=places)
    return simulate(Workload(arrival, prompt, output), system, ALL_AT_ONCE)


def poisson(rng: np.random.Generator, rate: float, n: int) -> np.ndarray:
    return np.cumsum(rng.exponential(1 / rate, n))


# --- one server, first come first served -----------------------------------------------------------------------------

MS = 1e-3  # seconds of service per prompt token
LENGTHS = {  # prompt lengths (tokens) and their probabilities: the service law in milliseconds
    "D": ([1000], [1.0]),
    "two points": ([200, 5000], [5 / 6, 1 / 6]),
    "uniform": (np.arange(1, 2000), np.full(1999, 1 / 1999)),
}


def single_server(law: str, load: float, n: int, seed: int) -> tuple[Trace, float, float, float]:
    """A run, its arrival rate, and the first two moments of the service time."""
    rng = np.random.default_rng(seed)
    values, share = np.array(LENGTHS[law][0]), np.array(LENGTHS[law][1])
    first, second = MS * (values @ share), MS**2 * (values**2 @ share)
    rate = load / first
    prompt = rng.choice(values, n, p=share)
    trace = serve(poisson(rng, rate, n), prompt, np.ones(n, int), tile=1, tile_time=MS, places=1)
    assert trace.finished.all()
    return trace, rate, first, second


@pytest.mark.parametrize("law", LENGTHS)
@pytest.mark.parametrize("load", [0.5, 0.8])
def test_pollaczek_khinchine(law, load):
    """Mean wait of M/G/1: W = lam E[S^2] / (2 (1 - rho)); M/D/1 is the case E[S^2] = E[S]^2.

    The interval is narrower than 12 % of W and excludes the formula without the second moment (as if service were
    exponential) and the one without the factor 1 / (1 - rho).
    """
    trace, rate, first, second = single_server(law, load, 400_000, seed=31)
    wait = m.batch_means(m.queueing_time(trace)[4000:], level=LEVEL)
    computed = rate * second / (2 * (1 - load))
    assert computed in wait
    assert "correlated" not in wait.method
    assert wait.half_width < 0.12 * computed
    assert rate * 2 * first**2 / (2 * (1 - load)) not in wait
    assert rate * second / 2 not in wait
    sojourn = m.batch_means(m.e2e(trace)[4000:], level=LEVEL)
    assert computed + first in sojourn


@pytest.mark.parametrize("law", LENGTHS)
def test_waits_follow_lindley_path_by_path(law):
    """W_{i+1} = max(0, W_i + S_i - (a_{i+1} - a_i)), to rounding, and never an exchange of order.

    Negative control: the recursion with the service of the wrong request parts from the path.
    """
    trace, _, _, _ = single_server(law, 0.9, 20_000, seed=32)
    arrival, service = trace.requests["arrival"], MS * trace.requests["prompt"]

    def lindley(s: np.ndarray) -> np.ndarray:
        walk = np.r_[0.0, np.cumsum(s[:-1] - np.diff(arrival))]
        return walk - np.minimum.accumulate(walk)

    np.testing.assert_allclose(m.queueing_time(trace), lindley(service), rtol=0, atol=1e-8)
    if law != "D":
        assert np.abs(m.queueing_time(trace) - lindley(np.roll(service, 1))).max() > 0.1


def md1_wait_at_most(t: float, rate: float, service: float) -> float:
    """P(W <= t) in M/D/1 (Erlang 1909)."""
    terms = [
        (rate * (k * service - t)) ** k / math.factorial(k) * math.exp(-rate * (k * service - t))
        for k in range(int(t / service) + 1)
    ]
    return (1 - rate * service) * math.fsum(terms)


def test_waits_of_md1_follow_erlang():
    """The distribution, not only its mean: P(W <= t) at five points; the exponential tail of M/M/1 is excluded."""
    trace, rate, service, _ = single_server("D", 0.7, 400_000, seed=33)
    wait = m.queueing_time(trace)[4000:]
    for t in (0.0, 0.5, 1.0, 2.0, 4.0):
        share = m.batch_means((wait <= t + 1e-9).astype(float), level=LEVEL)
        assert md1_wait_at_most(t, rate, service) in share
        if t > 0:
            assert 1 - 0.7 * math.exp(-(1 / service - rate) * t) not in share


def test_deterministic_queue_is_exact():
    """D/D/1 with arrivals every c seconds and service s: waits are 0 for s <= c, and i (s - c) for s > c.

    Powers of two make every sum exact, so the waits are equal, not close.
    """
    for service, gap in ((0.25, 0.5), (0.5, 0.5), (0.75, 0.5)):
        n = 500
        arrival = gap * np.arange(n)
        trace = serve(arrival, np.full(n, 3), np.ones(n, int), tile=1, tile_time=service / 4, places=1)
        assert not np.array_equal(m.e2e(trace), np.full(n, service))  # 3 tokens, not 4
        trace = serve(arrival, np.full(n, 4), np.ones(n, int), tile=1, tile_time=service / 4, places=1)
        np.testing.assert_array_equal(m.queueing_time(trace), max(service - gap, 0) * np.arange(n))
        np.testing.assert_array_equal(m.e2e(trace), m.queueing_time(trace) + service)
        assert m.utilisation(trace)[0] == n * service / trace.end


# --- processor sharing -----------------------------------------------------------------------------------------------

SIZES = {
    "D": ([12], [1.0]),
    "two points": ([4, 44], [0.8, 0.2]),
}  # output tokens at the coarse quantum, both mean 12


def shared_server(law: str, load: float, n: int, refine: int) -> tuple[np.ndarray, float, float]:
    """Sojourn times if each request is 1 s of work on average, in quanta of 1/(12 refine) s; and E[S], E[S^2]."""
    rng = np.random.default_rng(34)
    values, share = np.array(SIZES[law][0]), np.array(SIZES[law][1])
    arrival = poisson(rng, load, n)
    output = rng.choice(values, n, p=share) * refine
    quantum = 1 / (12 * refine)
    trace = serve(arrival, np.ones(n, int), output, tile=1, tile_time=quantum, places=4096)
    assert trace.finished.all()
    size = values / 12
    return m.e2e(trace), float(size @ share), float(size**2 @ share)


@pytest.mark.parametrize("law", SIZES)
def test_small_quanta_share_the_processor(law):
    """Mean sojourn of M/G/1-PS: T = E[S] / (1 - rho), whatever the law of S (insensitivity).

    Every batch gives each request one token and lasts q times its tokens: round robin in step, quantum q.  A request
    waits for the end of a batch to enter and leaves at the end of one, which biases its mean sojourn T_q by an amount
    that is linear in q and below the time of one mean busy batch, q / (1 - rho).  Two quanta and the same random
    numbers take it out: T = (4 T_{q/4} - T_q) / 3 + O(q^2).  The interval of the extrapolated mean holds T, and
    excludes what first come first served would give; halving q halves the bias.
    """
    load, n, warm_up = 0.6, 120_000, 1000
    runs = [shared_server(law, load, n, refine) for refine in (1, 2, 4)]
    coarse, middle, fine = (sojourn[warm_up:] for sojourn, _, _ in runs)
    first, second = runs[0][1:]
    sharing = first / (1 - load)
    limit = m.batch_means((4 * fine - coarse) / 3, level=LEVEL)
    assert sharing in limit
    assert limit.half_width < 0.1 * sharing
    assert first + load * second / (2 * (1 - load)) not in limit
    assert abs(coarse.mean() - limit.value) < first / 12 / (1 - load)
    assert (coarse - middle).mean() / (middle - fine).mean() == pytest.approx(2, rel=0.25)


# --- infinitely many servers -----------------------------------------------------------------------------------------


def test_constant_batches_are_infinitely_many_servers():
    """M/G/inf in slotted time: the number in system at slot ends is Poisson with mean lam h E[d].

    Every batch lasts h, whatever it holds, and a request stays for d of them after the slot of its arrival; the load
    keeps the engine busy (it is empty with probability e^-20), so that slots never shift.  Slots further apart than the
    longest stay are independent, which makes the chi-square test of the distribution exact up to its usual limit; it
    rejects a true law once in 10,000 seeds.  Negative controls: it rejects a mean 10 % larger, and the geometric
    distribution of a single server.
    """
    rng = np.random.default_rng(35)
    h, longest, rate = 0.25, 19, 8.0
    n = 160_000
    output = rng.integers(1, longest + 1, n)
    trace = serve(poisson(rng, rate, n), np.ones(n, int), output, tile=CONSTANT, tile_time=h, places=4096)
    ends = trace.iterations["start"] + trace.iterations["seconds"]
    assert np.allclose(np.diff(ends), h, rtol=0, atol=1e-6)  # never idle
    stay = m.e2e(trace) - h * output
    assert stay.min() >= -1e-6
    assert stay.max() <= h + 1e-6
    sampled = ends[100 : np.searchsorted(ends, trace.requests["arrival"][-1]) : longest + 2]
    level = m.backlog(trace, sampled + 1e-6)
    arrivals_since = m.backlog(trace, sampled + 1e-6) - m.backlog(trace, sampled - 1e-6)
    assert arrivals_since.max() <= 0  # at a slot's end requests only leave
    mean = rate * h * output.mean()

    def p_value(law) -> float:
        edges = np.arange(10, 31)
        cells = np.diff(np.r_[0.0, law.cdf(edges), 1.0])
        counts = np.bincount(np.searchsorted(edges, level), minlength=len(edges) + 1)
        return float(stats.chisquare(counts, cells * len(level)).pvalue)

    assert p_value(stats.poisson(mean)) > 1e-4
    assert p_value(stats.poisson(1.1 * mean)) < 1e-4
    assert p_value(stats.geom(1 / (mean + 1), loc=-1)) < 1e-4


# --- Little's law ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [Rad(), Sarathi(128)])
def test_littles_law(policy):
    """L = lam W, with L integrated from the batches' log and W taken from the requests: two books that never meet.

    Exactly: the integral of (waiting + running) over the batches is the sum over requests of (finished - start of the
    first batch after the arrival).  Statistically: with the time before that batch added, and divided by the time T in
    which the n requests arrived, L / (lam W) = n / (lam T) at the nominal rate lam, where lam T has the gamma law of
    shape n: its quantiles are the interval, here -+ 2.8 %.  Negative controls: the wait in the queue is no W, and the
    integral without the waiting is no L.
    """
    rng = np.random.default_rng(36)
    n, rate = 20_000, 18.0
    prompt, output = 128 * rng.integers(1, 9, n), np.minimum(1 + rng.exponential(200, n).astype(int), 512)
    little_memory = System(TileLaw(128, 4e-3, 5e-6), blocks=1200, max_length=1 << 20)
    trace = simulate(Workload(poisson(rng, rate, n), prompt, output), little_memory, policy)
    q, its = trace.requests, trace.iterations
    assert q["preemptions"].sum() > 0
    running = float(its["running"] @ its["seconds"])
    present = running + float(its["waiting"] @ its["seconds"])
    seen = its["start"][
        np.searchsorted(its["start"], q["arrival"])
    ]  # first batch that could know of the request
    assert present == pytest.approx(float(np.sum(q["finished"] - seen)), rel=1e-9)
    assert running != pytest.approx(present, rel=1e-3)
    unseen = float(np.sum(seen - q["arrival"]))
    tail = (1 - LEVEL) / 2
    low, high = n / stats.gamma(n).isf(tail), n / stats.gamma(n).ppf(tail)
    span, w = float(q["arrival"][-1]), m.mean(m.e2e(trace))
    assert low < (present + unseen) / span / (rate * w) < high
    assert not low < (present + unseen) / span / (rate * m.mean(m.queueing_time(trace))) < high
