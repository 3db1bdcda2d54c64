"""Gittins: the learned index is the index, batches are filled by it, and one job at a time it is SOAP's Gittins.

Error probability of the simulated means: intervals at confidence 0.9999, so that each check of a true figure fails for
about one seed in 10,000.  Seeds are fixed.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import Gittins, RoundRobin, Sarathi
from policies.gittins import fresh_index, gittins_index, tabulate
from queueing import metrics as m
from queueing.compilation import interpreted
from queueing.models.gittins import gittins_index as exact_index
from queueing.models.gittins import gittins_rank
from queueing.models.iteration_time import TileLaw
from queueing.models.priority import Jobs, soap
from queueing.policy import Policy
from queueing.simulator import simulate
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload
from tests.policies.desk import Desk, Req, decode, waiting

histograms = st.dictionaries(st.integers(1, 40), st.integers(1, 9), min_size=1, max_size=5)
index = interpreted(gittins_index)


def learned(histogram: dict[int, int]):
    """The memory of a policy with bins of one token that has seen all outputs of the histogram end."""
    memory = Gittins(width=1).init(100)
    for size, weight in histogram.items():
        memory.tokens[:size] += weight
        memory.ended[size - 1] += weight
    return memory


@given(histogram=histograms, data=st.data())
def test_the_learned_index_is_the_index_of_what_ended(histogram: dict[int, int], data: st.DataObject):
    age = data.draw(st.integers(0, max(histogram) - 1))
    assert index(learned(histogram), 1, age, 0.0) == pytest.approx(float(exact_index(histogram, age)))


@given(histogram=histograms, prompt=st.integers(1, 20))
def test_a_prompt_is_service_before_the_first_token(histogram: dict[int, int], prompt: int):
    """G of a job of size p + X at age 0.  Control: without its prompt the index is higher."""
    longer = {prompt + size: weight for size, weight in histogram.items()}
    found = index(learned(histogram), 1, 0, float(prompt))
    assert found == pytest.approx(float(exact_index(longer, 0)))
    memory = learned(histogram)
    assert interpreted(fresh_index)(memory, interpreted(tabulate)(memory, 1), float(prompt)) == pytest.approx(
        found
    )
    assert found < index(learned(histogram), 1, 0, 0.0)


def test_learns_from_the_last_batch_which_tokens_were_the_last():
    """Of three served, one decodes on, one has ended, one is a prompt without a token; a fourth was not served."""
    ended = Req(waiting=True, decoded=18)
    desk = Desk([decode(50), ended, Req(prompt=90, prefilled=32), decode(50)], served=[0, 1, 2], queue=[])
    policy = Gittins(width=16)
    memory = policy.init(4)
    desk.ask(policy, memory)
    assert (memory.tokens[:3].tolist(), memory.ended[:3].tolist()) == ([1, 1, 0], [0, 1, 0])


@pytest.mark.parametrize(
    ("histogram", "first"),
    [({1: 90, 30: 10}, [1, 0]), ({10: 1, 30: 99}, [0, 1])],
    ids=["falling hazard: the young", "rising hazard: who has begun"],
)
def test_order_of_service(histogram: dict[int, int], first: list[int]):
    """An output of 5 tokens against one of none, a token each in one batch of two."""
    old, young = Req(prompt=4, prefilled=4, decoded=5), Req(prompt=4, prefilled=4)
    asked = Desk([old, young]).ask(Gittins(token_budget=2, width=1), learned(histogram))
    assert [r for r, _ in asked.entries] == first


def test_memory_is_taken_from_the_least_index():
    requests = [Req(prompt=16, prefilled=16, decoded=d, blocks=15 + d) for d in (1, 25, 12)]
    asked = Desk(requests, total_blocks=84, block_size=1).ask(Gittins(width=1), learned({30: 1}))
    assert asked.victims == [0]
    assert asked.entries == [(1, 1), (2, 1)]


def test_nothing_learned_is_first_come_first_served():
    asked = Desk([waiting(30), waiting(5), waiting(9)]).ask(Gittins(token_budget=40))
    assert asked.entries == [(0, 30), (1, 5), (2, 5)]


# -- one job at a time: M/G/1, a token per second

OUTPUTS = {1: 6, 9: 1, 25: 1}


def single_server(policy: Policy, rate: float, n: int, seed: int) -> Trace:
    rng = np.random.default_rng(seed)
    share = np.array(list(OUTPUTS.values())) / sum(OUTPUTS.values())
    output = rng.choice(list(OUTPUTS), n, p=share)
    system = System(TileLaw(1 << 20, 1.0, 0.0), blocks=1 << 30, last_chunk_emits=False)
    workload = Workload(np.cumsum(rng.exponential(1 / rate, n)), np.ones(n, int), output)
    return simulate(workload, system, policy, router=RoundRobin())  # as the contract compiles it


def response(trace: Trace) -> m.Interval:
    taken = trace.requests["finished"] - trace.requests["arrival"]
    return m.batch_means(taken[len(taken) // 10 :], level=0.9999)


def test_mean_response_is_that_of_soap():
    """A prompt token and the output, a second each: the mean inside the interval, far below first come first served."""
    sizes = {size + 1: Fraction(weight) for size, weight in OUTPUTS.items()}
    jobs = Jobs(size=list(sizes), prediction=[0.0] * len(sizes), weight=[float(w) for w in sizes.values()])
    rate = 0.75 / jobs.mean(jobs.size)
    stated = jobs.mean(soap(jobs, rate, gittins_rank({0.0: sizes})))
    fifo = jobs.mean(soap(jobs, rate, lambda y, a: 0 * (y + a)))
    ours = response(single_server(Gittins(token_budget=1, width=1), rate, 200_000, 11))
    assert stated in ours
    first_come = response(single_server(Sarathi(token_budget=1, max_num_seqs=1), rate, 200_000, 11))
    assert fifo in first_come
    assert fifo not in ours  # control
    assert ours.half_width < 0.1 * stated
