"""A plan of buffers: costs, calls, padding and law of the latency against brute force and event simulation."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from policies.buffer_tuner import policy_of
from queueing.arrivals import Poisson
from queueing.compilation import interpreted, loop
from queueing.markovian_arrivals import MarkovianArrivals
from queueing.models.buffer_plan import BufferModel, Limit, Plan, Service, Setting, law_of, within
from queueing.models.serverless import PRICES, FunctionTime, mixes
from queueing.one_shot import Pool, Requests, metrics, serve
from tests.queueing.models.poisson_buffer import PoissonBuffer

RATE = 40.0


def law(share: float, size: int, timeout: float) -> PoissonBuffer:
    return PoissonBuffer(RATE * share, size, timeout)


SERVICE = Service(PRICES["aws-100ms"], (1024, 1536, 1792, 2560))
FAST = Service(
    PRICES["aws-x86"], SERVICE.memory, FunctionTime(0.001, 0.0002, 1.0, 1900.0)
)  # so that waits count
SHARES = mixes()["original"]
SOON, SOONER = Limit(0.35, per_kilobyte=False), Limit(0.25, per_kilobyte=False)


def three(limit: Limit) -> tuple[list[BufferModel], list[Setting]]:
    ranges = ((0, 7), (8, 15), (16, 31))
    settings = [Setting(4, 0.3, 2), Setting(8, 0.2, 2), Setting(6, 0.3, 1)]
    return [BufferModel(law, SHARES, FAST, limit, lo, hi) for lo, hi in ranges], settings


@pytest.fixture(scope="module")
def simulated():
    """Figures of 60,000 requests in 20 batches of equal size: (means, standard errors)."""
    models, settings = three(SOON)
    rng = np.random.default_rng(0)
    n = 60_000
    kind = rng.choice(32, n, p=SHARES)
    requests = Requests(np.cumsum(rng.exponential(1 / RATE, n)), kind=kind)
    trace = serve(requests, Pool(FAST.seconds, None), policy_of(Plan.of(models, settings)))
    x = FAST.kilobytes
    dollars = FAST.dollars[trace.config, trace.largest, trace.count - 1]
    per_request = (dollars / trace.count)[trace.batch]
    calls = (1 / trace.count)[trace.batch]
    padded = x[trace.largest][trace.batch]
    latency = metrics.latency(trace)
    rows = np.array(
        [per_request, calls, padded / x[kind].mean() - 1, latency <= SOON.seconds, latency <= SOONER.seconds]
    )
    parts = rows.reshape(5, 20, -1).mean(axis=2)
    return parts.mean(axis=1), parts.std(axis=1, ddof=1) / np.sqrt(20)


def test_a_plan_is_what_event_simulation_finds(simulated) -> None:
    """Five figures within 4.5 standard errors of 20 parts each (t law: an error probability of 1.3e-3 in all).

    Controls: the same plan without padding, or with everyone waiting until the timer, is far off.
    """
    mean, error = simulated
    models, settings = three(SOON)
    plan, tighter = Plan.of(models, settings), Plan.of(three(SOONER)[0], settings)
    stated = np.array([plan.cost, plan.calls, plan.padding, plan.attained, tighter.attained])
    assert (np.abs(stated - mean) <= 4.5 * error).all(), (stated, mean, error)

    class UntilTheTimer(PoissonBuffer):
        def joint_wait(self, t):
            return self.seen * (t[:, None] >= self.timeout)

    slow = [
        BufferModel(lambda s, b, t: UntilTheTimer(RATE * s, b, t), SHARES, FAST, SOON, m.lo, m.hi)
        for m in models
    ]
    assert abs(Plan.of(slow, settings).attained - mean[3]) > 10 * error[3]
    one_class = float(np.mean([m.service.dollars[0, 0, 0] for m in models]))
    assert abs(one_class - mean[0]) > 20 * error[0]


def test_latency_is_the_sum_over_own_class_largest_and_wait() -> None:
    """Against sampling of 20,000 batches of one buffer by hand; 5 standard errors (6e-7)."""
    service = Service(PRICES["aws-x86"], (1024,), FunctionTime(0.1, 0.05, 1.0, 1.0), (1.0, 2.0, 4.0), 4)
    f = np.array([0.5, 0.3, 0.2])
    m = BufferModel(law, f, service, Limit(0.4), 0, 2)
    setting = Setting(4, 0.08, 0)
    rng = np.random.default_rng(1)
    met = np.zeros(20_000)
    size = np.zeros(20_000)
    for i in range(len(met)):
        times = np.append(0.0, np.cumsum(rng.exponential(1 / RATE, 3)))
        times = times[times <= 0.08]
        closes = times[3] if len(times) == 4 else 0.08
        kinds = rng.choice(3, len(times), p=f)
        x = service.kilobytes[kinds]
        latency = closes - times + (0.1 + 0.05 * len(times)) * x.max()
        met[i], size[i] = (latency <= 0.4 * x).sum(), len(times)
    ratio = met.sum() / size.sum()
    error = np.std(met - ratio * size) / size.mean() / np.sqrt(len(met))
    assert abs(m.attained(setting) - ratio) <= 5 * error
    flat = BufferModel(
        law, f, service, dataclasses.replace(m.limit, per_kilobyte=False), 0, 2
    )  # control: another limit
    assert abs(flat.attained(setting) - ratio) > 5 * error


def test_the_compiled_sum_is_the_interpreted_one() -> None:
    rng = np.random.default_rng(2)
    f = rng.dirichlet(np.ones(4))
    below = np.append(0, np.cumsum(f))[:, None] ** np.arange(3)
    waits = np.sort(rng.random((9, 3)), axis=0) / 3
    arguments = (rng.random(4), rng.random((4, 3)), f, below, waits[-1] * 1.1, waits, 0.3)
    assert loop(within)(*arguments) == interpreted(within)(*arguments) > 0


def test_the_quantile_inverts_the_law() -> None:
    m = BufferModel(law, SHARES, SERVICE, Limit(0.3), 4, 12)
    setting = Setting(5, 0.3, 1)
    s = m.latency(setting)
    assert m.attained(setting, s) >= 0.95 > m.attained(setting, s * (1 - 1e-5))


def test_exhaustive_search_by_cost_is_exhaustive_search() -> None:
    """The cheapest feasible one of all, tried one by one; control: the cheapest of all is not feasible."""
    m = BufferModel(law, SHARES, SERVICE, Limit(0.2), 0, 31)
    settings = [Setting(b, t, k) for b in (1, 2, 4, 8) for t in (0.01, 0.1, 0.2) for k in range(4)]
    outcomes = [m.outcome(s) for s in settings]
    feasible = [o.cost for o in outcomes if o.attained >= 0.95]
    assert m.best(settings)[1] == min(feasible)
    assert min(o.cost for o in outcomes) < min(feasible)


def test_bad_input_is_one_sentence() -> None:
    m = BufferModel(law, SHARES, SERVICE, Limit(0.01), 0, 31)
    settings = [Setting(b, 0.05, k) for b in (1, 4) for k in range(4)]
    plan = Plan.of([m], [settings[0]])
    cases = {
        "no setting keeps 95% of latencies of classes 0 to 31 within 0.01 s per KB": lambda: m.best(settings),
        "the buffers are unstable: 40 requests/s keep": lambda: plan.require_stable(RATE, 20),
        "no request is of classes 3 to 2": lambda: BufferModel(law, SHARES, SERVICE, Limit(1.0), 3, 2),
        "for 32 classes": lambda: BufferModel(law, [1.0], SERVICE, Limit(1.0)),
        "a limit of 0 s": lambda: Limit(0),
        "is no buffer": lambda: Setting(0, 1.0, 0),
        "sizes (2.0, 1.0)": lambda: Service(PRICES["aws-x86"], (1024,), kilobytes=(2.0, 1.0)),
        "sizes (0.0, 1.0)": lambda: Service(PRICES["aws-x86"], (1024,), kilobytes=(0.0, 1.0)),
        "sizes (-1.0, 1.0)": lambda: Service(PRICES["aws-x86"], (1024,), kilobytes=(-1.0, 1.0)),
        "sizes (1.0, nan)": lambda: Service(PRICES["aws-x86"], (1024,), kilobytes=(1.0, np.nan)),
        "sizes (1.0, inf)": lambda: Service(PRICES["aws-x86"], (1024,), kilobytes=(1.0, np.inf)),
        "sizes ()": lambda: Service(PRICES["aws-x86"], (1024,), kilobytes=()),
        "batches of up to 0": lambda: Service(PRICES["aws-x86"], (1024,), largest_batch=0),
        "memory=5) is beyond the service; give a memory of 0 to 3": lambda: m.cost(Setting(4, 0.05, 5)),
        "size=27, timeout=0.05, memory=0) is beyond": lambda: m.outcome(Setting(27, 0.05, 0)),
        "size=27, timeout=0.06, memory=0) is beyond": lambda: m.attained(Setting(27, 0.06, 0)),
        "memory=6) is beyond": lambda: m.latency(Setting(4, 0.05, 6)),
        "a whole size": lambda: Setting(4, 0.05, 0.5),  # type: ignore[arg-type]
        "nan requests/s on 5 instances": lambda: plan.require_stable(np.nan, 5),
        "40.0 requests/s on nan instances": lambda: plan.require_stable(RATE, np.nan),  # type: ignore[arg-type]
    }
    for message, build in cases.items():
        with pytest.raises(ValueError, match=re.escape(message)) as error:
            build()
        assert "\n" not in str(error.value)
    plan.require_stable(RATE, 100_000)
    assert m.cost(Setting(26, 0.05, 3)) > 0  # control: the largest of both


def test_instances_that_are_busy_obey_littles_law() -> None:
    """Calls alone: requests/s times mean seconds of a request alone."""
    m = BufferModel(law, SHARES, SERVICE, Limit(1.0))
    alone = float(SHARES @ SERVICE.seconds[2, :, 0])
    assert m.outcome(Setting(1, 0.1, 2)).busy == pytest.approx(alone)
    assert m.outcome(Setting(8, 0.3, 2)).busy < 0.9 * alone  # batching saves time


def test_the_buffer_law_and_the_one_by_hand_agree() -> None:
    """Cost, attainment and calls, Poisson and a MAP of one phase; control: twice the rate."""
    setting = Setting(6, 0.3, 1)
    one_phase = MarkovianArrivals(((-RATE,),), ((RATE,),))
    laws = (law, law_of(Poisson(RATE)), law_of(one_phase), law_of(Poisson(2 * RATE)))
    by_hand, poisson, phase, double = (
        BufferModel(some, SHARES, FAST, SOON, 3, 9).outcome(setting) for some in laws
    )
    for outcome in (poisson, phase):
        assert dataclasses.astuple(outcome) == pytest.approx(dataclasses.astuple(by_hand), rel=1e-9)
    assert double.cost < 0.99 * by_hand.cost
