"""The serving loop: RAD's instance and its stability edge, the twin, buffers that grow, horizons, several nodes."""

import dataclasses
import functools
import inspect
import math

import numpy as np
import pytest

from policies import routing
from policies.rad import Rad
from policies.sarathi import Sarathi
from policies.slai import Slai
from policies.vllm import Vllm
from queueing import metrics as m
from queueing import simulator
from queueing.models.iteration_time import TileLaw
from queueing.simulator import simulate
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload
from tests.laws import differing

TILE, TILE_TIME, TOKEN_TIME = 128, 4e-3, 5e-6
LAW = TileLaw(TILE, TILE_TIME, TOKEN_TIME)
AMPLE = System(LAW, blocks=1 << 30, max_length=1 << 20)
SCARCE = System(LAW, blocks=600, max_length=4096, max_running=64)

MEAN_PROMPT = TILE * 4.5  # 128 U{1..8}
MEAN_OUTPUT = math.fsum(math.exp(-k / 200) for k in range(512))  # sum over k of P(output > k), cut at 512
CAPACITY = (
    TILE / (TILE_TIME + TILE * TOKEN_TIME) / (MEAN_PROMPT + MEAN_OUTPUT)
)  # requests/s: 128/4640 tokens/us


def rad_instance(n: int, rate: float, seed: int) -> Workload:
    rng = np.random.default_rng(seed)
    return Workload(
        np.cumsum(rng.exponential(1 / rate, n)),
        TILE * rng.integers(1, 9, n),
        np.minimum(1 + np.floor(rng.exponential(200, n)), 512).astype(int),
        tbt=np.where(rng.random(n) < 0.05, 0.1, 0.5),
    )


# --- RAD's instance ------------------------------------------------------------------------------------------------


def test_every_batch_of_rad_is_full_or_all_decode():
    """A batch is one whole tile of one prompt, or decodes alone, at most a tile of them; Sarathi-Serve mixes."""

    def pure(trace: Trace) -> bool:
        prefill, decodes = trace.iterations["prefill"], trace.iterations["decodes"]
        full = (prefill == TILE) & (decodes == 0)
        all_decode = (prefill == 0) & (decodes > 0) & (decodes <= TILE)
        return bool(np.all(full | all_decode))

    offered = rad_instance(4000, 33.0, 41)
    assert pure(simulate(offered, AMPLE, Rad()))
    assert not pure(simulate(offered, AMPLE, Sarathi(TILE)))


@pytest.mark.parametrize("policy", [Rad(), Sarathi(TILE)])
def test_stable_below_capacity_and_not_above(policy):
    """At 0.9 of 128/4640 tokens/us the backlog takes up less than 2 % of the arrivals; at 1.1 it grows.

    Each verdict errs with probability 1e-4 (asymptotic; `metrics.growth_test`), by 20 increments of 145 s each, many
    times a request's stay.  Each verdict is denied at the other load, which is the negative control.
    """

    def growth(load: float) -> m.Growth:
        rate = load * CAPACITY
        offered = rad_instance(int(3100 * rate), rate, 42)
        trace = simulate(offered, AMPLE, policy, horizon=3000.0)
        return m.growth_test(trace, start=100.0, end=3000.0, error=1e-4)

    stable, unstable = growth(0.9), growth(1.1)
    assert stable.grows_less_than(0.02)
    assert not stable.grows
    assert unstable.grows
    assert not unstable.grows_less_than(0.02)
    # beyond capacity all that exceeds it queues up: 1.1 - 1 of the capacity, within the interval
    assert 0.1 * CAPACITY in unstable.rate


# --- compiled and interpreted --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy", [Rad(cycle=16), Sarathi(300), Slai(), Vllm()], ids=lambda p: type(p).__name__
)
@pytest.mark.parametrize("emits", [True, False])
def test_the_twin_agrees_on_a_longer_run(policy, emits):
    """60 requests in little memory, some preempted, on two nodes: every column is equal to the bit.

    Negative control: another seed of the router is noticed.
    """
    system = dataclasses.replace(SCARCE, blocks=180, last_chunk_emits=emits)
    run = functools.partial(
        simulate,
        rad_instance(60, 60.0, 43),
        system,
        policy,
        nodes=2,
        router=routing.UniformRandom(),
        record_entries=True,
    )
    compiled = run(seed=1)
    assert compiled.requests["preemptions"].sum() > 0
    assert differing(compiled, run(seed=1, python=True)) == []
    assert "node" in differing(compiled, run(seed=2))


# --- buffers -------------------------------------------------------------------------------------------------------


def test_a_full_log_is_emptied_and_the_run_goes_on(monkeypatch):
    """With room for 50 rows the run stops and goes on many times, and gives the same trace as in one go."""
    offered = rad_instance(150, 20.0, 44)
    whole = simulate(offered, AMPLE, Rad(), record_entries=True)
    stops = []
    rows = inspect.signature(simulator.Run).parameters["rows"].default
    assert rows > len(whole.iterations["start"])  # the ordinary run never filled its log
    monkeypatch.setattr(simulator, "Run", functools.partial(simulator.Run, rows=50))
    pieces = simulate(offered, AMPLE, Rad(), record_entries=True, progress=lambda done, _: stops.append(done))
    assert len(stops) > 20
    assert differing(whole, pieces) == []


def test_a_long_queue_grows_its_buffer():
    """5000 requests at once outgrow the queue's first buffer of 1024; none is lost, and they are admitted in order.

    The twin and the compiled loop agree here too, with preempted requests returned to the front of a full queue.
    """
    n = 5000
    offered = Workload(np.zeros(n), np.full(n, TILE), 1 + np.arange(n) % 3)
    trace = simulate(offered, AMPLE, Rad())
    assert trace.finished.all()
    assert np.all(np.diff(trace.requests["admitted"]) > 0)
    assert trace.iterations["waiting"].max() > 4900
    few = Workload(np.zeros(1100), np.full(1100, 16), np.full(1100, 40))
    scarce = dataclasses.replace(SCARCE, blocks=60)
    compiled = simulate(few, scarce, Sarathi(256))
    assert compiled.requests["preemptions"].sum() > 100
    assert differing(compiled, simulate(few, scarce, Sarathi(256), python=True)) == []


def test_progress_is_told_and_may_interrupt():
    """Progress goes up to (n, n); an exception of the listener ends the run."""
    offered = rad_instance(12_000, 20.0, 45)
    told: list[tuple[int, int]] = []
    trace = simulate(offered, AMPLE, Rad(), progress=lambda done, of: told.append((done, of)))
    assert len(trace.iterations["start"]) > 1 << 16
    assert len(told) >= 2
    assert told == sorted(told)
    assert told[-1] == (12_000, 12_000)
    assert told[0][0] < 12_000

    def ctrl_c(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(offered, AMPLE, Rad(), progress=ctrl_c)


# --- horizon -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", [1e-6, 3.0, 7.77])
def test_a_horizon_cuts_the_whole_run(horizon):
    """The batches are those of the whole run that start before it; requests know what had ended by then, no more."""
    offered = rad_instance(300, 30.0, 46)
    whole, cut = (
        simulate(offered, SCARCE, Sarathi(200)),
        simulate(offered, SCARCE, Sarathi(200), horizon=horizon),
    )
    before = whole.iterations["start"] < horizon
    for name, column in cut.iterations.items():
        np.testing.assert_array_equal(column, whole.iterations[name][before])
    for name in ("finished", "first_token", "prefill_end"):
        known = whole.requests[name] <= horizon
        np.testing.assert_array_equal(cut.requests[name], np.where(known, whole.requests[name], np.nan))
    np.testing.assert_array_equal(m.counted(cut), offered.arrival < horizon)
    assert (cut.unfinished & m.counted(cut)).any() or horizon < 1e-3


# --- several nodes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "router",
    [
        routing.RoundRobin(),
        routing.UniformRandom(),
        routing.JoinShortestQueue(),
        routing.LeastWork(),
        routing.PowerOfD(2),
    ],
    ids=lambda r: type(r).__name__,
)
def test_each_node_is_a_system_of_its_own(router):
    """Given who was sent where, node k runs as a single node does on those requests alone, bit by bit."""
    offered = rad_instance(400, 60.0, 47)
    trace = simulate(offered, SCARCE, Sarathi(256), nodes=3, router=router, seed=5)
    assert trace.requests["preemptions"].sum() > 0
    node = trace.requests["node"]
    assert set(node) == {0, 1, 2}
    for k in range(3):
        alone = simulate(offered[node == k], SCARCE, Sarathi(256))
        for name, column in alone.requests.items():
            if name not in ("node", "slo_class"):
                np.testing.assert_array_equal(column, trace.requests[name][node == k])
        for name, column in alone.iterations.items():
            if name != "node":
                np.testing.assert_array_equal(column, trace.iterations[name][trace.iterations["node"] == k])
    swapped = simulate(offered[node != 0], SCARCE, Sarathi(256))
    assert not np.array_equal(
        swapped.iterations["start"], trace.iterations["start"][trace.iterations["node"] == 0]
    )


def test_the_seed_is_the_only_randomness():
    """Equal seeds give equal traces; another seed sends the requests elsewhere."""
    run = functools.partial(
        simulate, rad_instance(200, 60.0, 48), AMPLE, Rad(), nodes=4, router=routing.UniformRandom()
    )
    assert differing(run(seed=3), run(seed=3)) == []
    assert "node" in differing(run(seed=3), run(seed=4))


def test_a_request_that_can_never_finish_is_rejected_and_counted():
    """Longer than the context limit or than the memory less the watermark: turned away, and nobody else is."""
    offered = Workload(np.arange(6.0), [100, 5000, 100, 100, 9000, 100], [50, 10, 50, 4000, 10, 50])
    trace = simulate(offered, dataclasses.replace(SCARCE, blocks=300), Sarathi(256))
    blocks = -(-(offered.prompt + offered.output) // 16)
    too_long = (offered.prompt + offered.output > 4096) | (blocks > 300 - 3)
    np.testing.assert_array_equal(trace.rejected, too_long)
    np.testing.assert_array_equal(trace.finished, ~too_long)
    assert too_long.sum() == 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"nodes": 0}, "not 0"),
        ({"nodes": 2}, "2 nodes need a router"),
        ({"horizon": 0.0}, r"not 0\.0"),
        ({"horizon": math.nan}, "not nan"),
    ],
)
def test_bad_arguments_get_one_clear_sentence(wrong, said):
    with pytest.raises(ValueError, match=said):
        simulate(rad_instance(3, 1.0, 49), AMPLE, Rad(), **wrong)
