"""Plants of parallelism: the textbooks' queues, the one-shot loop, and the formulae they state."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections import deque

import numpy as np
import pytest

from policies.multi_buffer import MultiBuffer
from queueing.models.parallelism import (
    CpuPlant,
    GpuPlant,
    distances,
    expected_rewards,
    first_come_first_served,
    reward,
    speed,
)
from queueing.one_shot import Pool, Requests, metrics, serve
from tests.queueing.test_one_shot import Greedy


def poisson(rate: float, n: int, seed: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).standard_exponential(n)) / rate


def test_the_cpu_plant_is_the_one_shot_loop() -> None:
    """Every configuration of a small CPU grid: the same ends, request by request, as ρ servers in the event loop."""
    plant = CpuPlant(workers=(1, 3), inter=(1, 4), intra=(2,))
    arrival = poisson(30.0, 400, 1)
    for x, (workers, _, _) in enumerate(plant.grid):
        pool = Pool(np.full((1, 1, 1), plant.seconds[x]), servers=int(workers))
        stated = metrics.latency(serve(Requests(arrival), pool, Greedy(1)))
        assert plant.latency(x, arrival) == pytest.approx(stated, rel=1e-12)
    assert plant.latency(0, arrival) != pytest.approx(plant.latency(2, arrival))  # negative control


def streams_by_events(plant: GpuPlant, x: int, arrival: np.ndarray) -> np.ndarray:
    """Latencies, event by event: requests come, timers run out, streams get idle; a heap of (time, what, which)."""
    streams, size, timeout = plant.grid[x]
    slowed = 1 + plant.sharing * (streams - 1)
    COMES, TIMER, IDLE = range(3)  # who comes as the timer runs out is still taken
    events: list[tuple[float, int, int]] = [(t, COMES, r) for r, t in enumerate(arrival.tolist())]
    buffer: list[int] = []
    closed: deque[list[int]] = deque()
    idle, finish = int(streams), np.empty(len(arrival))
    while events:
        now, what, which = heapq.heappop(events)
        if what == COMES:
            buffer.append(which)
            if len(buffer) == 1 < size:
                heapq.heappush(events, (now + timeout, TIMER, which))
        idle += what == IDLE
        if len(buffer) == size or (what == TIMER and buffer and buffer[0] == which):
            closed.append(buffer)
            buffer = []
        while idle and closed:
            batch = closed.popleft()
            finish[batch] = now + (plant.fixed + plant.each * len(batch)) * slowed
            heapq.heappush(events, (float(finish[batch[0]]), IDLE, -1))
            idle -= 1
    return finish - arrival


@pytest.mark.parametrize("load", [100.0, 800.0])
def test_the_gpu_plant_is_a_buffer_before_streams(load: float) -> None:
    """All 480 configurations, request by request.  Controls: another timeout, and a loop whose batches wait and fill.

    With a stream for every batch nothing waits for one, and the one-shot loop is the same.
    """
    plant = GpuPlant()
    arrival = poisson(load, 150, 4)
    later = dataclasses.replace(plant, timeouts=tuple(1.25 * t for t in plant.timeouts))
    differ = {"timer": 0, "loop": 0}
    for x, (streams, size, _) in enumerate(plant.grid):
        stated = plant.latency(x, arrival)
        assert stated == pytest.approx(streams_by_events(plant, x, arrival), rel=1e-9)
        differ["timer"] += stated != pytest.approx(later.latency(x, arrival), rel=1e-9)
        filling = stated != pytest.approx(looped(plant, x, arrival, int(streams)), rel=1e-9)
        differ["loop"] += filling
        assert size > 1 or not filling
    assert min(differ.values()) > 48
    free = GpuPlant(sharing=0.0, streams=(len(arrival),), sizes=(4, 32), timeouts=(0.002, 0.016))
    for x in range(len(free.grid)):
        assert free.latency(x, arrival) == pytest.approx(looped(free, x, arrival, len(arrival)), rel=1e-9)


def looped(plant: GpuPlant, x: int, arrival: np.ndarray, servers: int) -> np.ndarray:
    """The one-shot loop with the batch times of the configuration: a batch that waits for a server goes on filling."""
    streams, size, timeout = plant.grid[x]
    table = (plant.fixed + plant.each * np.arange(1, size + 1)) * (1 + plant.sharing * (streams - 1))
    policy = MultiBuffer(sizes=(int(size),), timeouts=(float(timeout),))
    return metrics.latency(serve(Requests(arrival), Pool(table[None, None], servers), policy))


@pytest.mark.parametrize("servers", [1, 3])
def test_exponential_jobs_wait_as_erlang_says(servers: int) -> None:
    """M/M/c at a load of 0.7, 400,000 jobs, 20 batch means, six standard errors: error 1e-5.  Control: load 0.75."""
    rng = np.random.default_rng(2)
    arrival = np.cumsum(rng.standard_exponential(400_000)) / (0.7 * servers)
    work = rng.standard_exponential(400_000)
    wait = first_come_first_served(arrival, work, servers) - arrival - work
    means = wait.reshape(20, -1).mean(axis=1)
    error = means.std(ddof=1) / math.sqrt(20)

    def erlang(load: float) -> float:
        a = load * servers
        last = a**servers / math.factorial(servers) / (1 - load)
        queued = last / (sum(a**k / math.factorial(k) for k in range(servers)) + last)
        return queued / (servers * (1 - load))

    assert abs(means.mean() - erlang(0.7)) < 6 * error
    assert abs(means.mean() - erlang(0.75)) > 6 * error


def test_the_buffer_of_the_gpu_holds_as_it_should() -> None:
    """No batch above B, none waits for the timer longer than T, and without sharing or fixed time only waits remain."""
    plant = GpuPlant(fixed=1e-9, each=1e-9, sharing=0.0, streams=(8,), sizes=(1, 4), timeouts=(0.01,))
    arrival = poisson(300.0, 2000, 3)
    alone, four = (plant.latency(x, arrival) for x in (0, 1))
    assert alone.max() < 1e-6
    assert four.max() <= 0.01 + 1e-6
    assert 0.001 < four.mean() < 0.01
    slow = GpuPlant(streams=(1, 2), sizes=(4,), timeouts=(0.01,))
    assert (
        slow.latency(1, arrival).mean() < slow.latency(0, arrival).mean()
    )  # at this load two streams carry it


def test_parallelism_helps_until_the_cores_are_used_up() -> None:
    plant = CpuPlant(synchronisation=0.0)
    tau = dict(zip(map(tuple, plant.grid.tolist()), plant.seconds.tolist(), strict=True))
    assert tau[1, 1, 1] == pytest.approx(plant.base)
    assert tau[1, 4, 4] < tau[1, 2, 4] < tau[1, 1, 1]
    assert tau[16, 4, 4] > tau[1, 4, 4]  # sixteen times the cores
    assert tau[1, 8, 1] == tau[1, 4, 1]  # wider than the graph: nothing gained


def test_distance_and_rewards() -> None:
    d = distances(np.array([[1.0, 8.0], [2.0, 8.0], [2.0, 16.0], [8.0, 16.0]]))
    assert d.tolist() == [[0, 1, 1, 3], [1, 0, 1, 2], [1, 1, 0, 2], [3, 2, 2, 0]]
    assert reward(np.array([0.02, 0.04]), 0.1) == pytest.approx(0.7)
    assert reward(np.array([0.05, 0.25]), 0.1) == pytest.approx(-1.0)
    assert reward(np.array([0.09, 0.12]), 0.1, weight=0.2) == pytest.approx(-0.05 - 0.1)
    assert speed(np.array([0.02, 0.08]), 0.1) == pytest.approx(2.0)


def test_brute_force_is_on_common_arrivals() -> None:
    plant = CpuPlant(workers=(1, 2), inter=(1,), intra=(1, 2))
    mean, spread = expected_rewards(plant, 10.0, 30, 50, np.random.default_rng(1))
    assert mean.shape == spread.shape == (4,)
    assert mean.argmax() == 3  # two workers of two threads: more of everything, cores to spare
    again, _ = expected_rewards(plant, 10.0, 30, 50, np.random.default_rng(1))
    assert np.array_equal(mean, again)
    other, _ = expected_rewards(plant, 10.0, 30, 50, np.random.default_rng(2))
    assert not np.array_equal(mean, other)  # control


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CpuPlant(cores=0), "the cores is 0"),
        (lambda: CpuPlant(serial=1.5), "the serial share is 1.5"),
        (lambda: CpuPlant(workers=(2, 1)), "an axis of the grid"),
        (lambda: CpuPlant(penalty=-1.0), "the penalty is -1.0"),
        (lambda: CpuPlant(penalty=math.nan), "the penalty is nan"),
        (lambda: CpuPlant(synchronisation=math.nan), "the synchronisation is nan"),
        (lambda: CpuPlant(inter=(1, math.nan)), "an axis of the grid is \\(1, nan\\)"),
        (lambda: CpuPlant(workers=(1, 2.5)), "rising whole numbers"),
        (lambda: GpuPlant(streams=(0.5, 1)), "rising whole numbers"),
        (lambda: GpuPlant(sizes=(1, math.inf)), "rising whole numbers"),
        (lambda: GpuPlant(timeouts=(math.nan,)), "rising finite numbers"),
        (lambda: GpuPlant(sharing=math.nan), "sharing is nan"),
        (lambda: GpuPlant(sizes=()), "an axis of the grid"),
        (lambda: GpuPlant(sharing=-0.1), "sharing is -0.1"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(make, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
