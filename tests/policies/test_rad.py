"""RAD: full tiles, the threshold, and cycles of N prompts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import Rad
from queueing.system import System
from queueing.workload import Workload
from tests.accountant import Step, audit
from tests.laws import LAW, run, same_tables
from tests.policies.desk import Desk, decode, prompt, waiting
from tests.strategies import workloads

TILE = 4
crowds = workloads(min_requests=4, max_requests=10, max_prompt=8, max_output=20, max_gap=0.25)


def aligned(workload: Workload, chunk: int) -> Workload:
    """The same with prompts of whole chunks (assumption 3)."""
    return Workload(workload.arrival, chunk * workload.prompt, workload.output)


def steps_of(workload: Workload, policy: Rad, emits: bool = True, blocks: int = 4000) -> list[Step]:
    system = System(LAW, blocks=blocks, last_chunk_emits=emits, name="ample")
    return audit(workload, system, run(workload, system, policy), policy.admission)


def test_threshold():
    """Fewer than b decodes and a prompt: a chunk of the oldest.  b decodes, or no prompt: a batch of decodes."""
    policy = Rad(tile=3, chunk=6)
    prefill = Desk([decode(), decode(), prompt(12, 6), waiting(12)])
    assert prefill.ask(policy).entries == [(2, 6)]
    full = Desk([decode(), decode(), decode(), prompt(12, 6), waiting(12)])
    assert full.ask(policy).entries == [(0, 1), (1, 1), (2, 1)]
    assert Desk([decode()]).ask(policy).entries == [(0, 1)]
    assert Desk([decode(), waiting(12), waiting(12)]).ask(policy).entries == [(1, 6)]


def test_memory_that_refuses_a_prompt_decodes():
    desk = Desk([decode(16), waiting(64)], total_blocks=5)
    assert desk.ask(Rad()).entries == [(0, 1)]


@given(workload=crowds, emits=st.booleans(), cycle=st.sampled_from([1.0, 2.0, 5.0, math.inf]))
def test_batches_are_full_or_all_decode(workload: Workload, emits: bool, cycle: float):
    """With aligned prompts: a full chunk of one prompt, or decodes alone, at most b; one prompt partly prefilled."""
    policy = Rad(tile=TILE, chunk=2 * TILE, cycle=cycle)
    for s in steps_of(aligned(workload, 2 * TILE), policy, emits):
        assert list(s.chunks.values()) in ([2 * TILE], [])
        assert not (s.chunks and s.decodes)
        assert len(s.decoding) <= TILE
        assert len([r for r in s.running if r not in s.decoding]) <= 1
        if s.decodes:
            assert s.decodes == s.decoding
            if cycle == math.inf:  # less than a tile of decodes only if there is nothing to prefill
                assert len(s.decodes) == TILE or (set(s.running) == set(s.decoding) and not s.queue)


def starts_per_cycle(steps: list[Step]) -> list[int]:
    """Prompts started between one moment with nothing running and the next."""
    cycles: list[int] = []
    for s in steps:
        if not s.running:
            cycles.append(0)
        cycles[-1] += len(s.admitted)
    return cycles


@given(workload=crowds, cycle=st.integers(1, 4), emits=st.booleans())
def test_a_cycle_starts_at_most_n(workload: Workload, cycle: int, emits: bool):
    """At most N prompts are started before all that were started are decoded."""
    steps = steps_of(aligned(workload, TILE), Rad(tile=TILE, chunk=TILE, cycle=cycle), emits)
    assert max(starts_per_cycle(steps)) <= cycle
    for s in steps:
        if s.decodes and s.queue and len(s.decodes) < TILE:
            assert len(s.running) <= cycle  # the tail of a cycle drains, a prompt that it started included


def test_infinite_cycle_starts_more():
    """Control: without cycles more than four prompts are started in one go."""
    crowd = Workload(np.zeros(10), np.full(10, TILE), np.arange(5, 15))
    assert max(starts_per_cycle(steps_of(crowd, Rad(tile=TILE, chunk=TILE)))) == 10
    assert max(starts_per_cycle(steps_of(crowd, Rad(tile=TILE, chunk=TILE, cycle=4)))) == 4


@given(workload=crowds)
def test_long_cycles_are_none(workload: Workload):
    """N of at least the number of requests is N = inf, batch by batch; so is any whole number as float or integer."""
    system = System(LAW, blocks=4000, name="ample")
    endless = run(workload, system, Rad(tile=TILE, chunk=TILE))
    assert same_tables(endless, run(workload, system, Rad(tile=TILE, chunk=TILE, cycle=len(workload)))) == ""


def test_started_prompt_is_finished_in_its_cycle():
    """The N-th prompt, once started, goes on though the cycle's starts are used up."""
    policy = Rad(tile=8, chunk=8, cycle=1)
    memory = policy.init(3)
    assert Desk([waiting(16), waiting(16)]).ask(policy, memory).entries == [(0, 8)]
    assert Desk([prompt(16, 8), waiting(16)]).ask(policy, memory).entries == [(0, 8)]
    assert Desk([decode(16), waiting(16)]).ask(policy, memory).entries == [(0, 1)]
    assert Desk([waiting(16), waiting(16)]).ask(policy, memory).entries == [(0, 8)]  # the next cycle


def test_chunk_is_the_least_common_multiple():
    assert Rad.for_tiles(row=64, column=128, reduction=48).chunk == 384
    assert Rad.for_tiles(row=64, column=128, reduction=48).tile == 128


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"tile": 0}, "tile of Rad must be an integer of at least 1, not 0"),
        ({"chunk": 100}, "chunk of Rad must be a multiple of the tile of 128, not 100"),
        ({"cycle": 0}, "cycle of Rad must be a whole number of prompts, at least 1, or inf, not 0"),
        ({"cycle": 2.5}, "cycle of Rad must be a whole number of prompts, at least 1, or inf, not 2.5"),
        ({"cycle": math.nan}, "cycle of Rad must be a whole number of prompts, at least 1, or inf, not nan"),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], complaint: str):
    with pytest.raises(ValueError) as caught:
        Rad(**parameters)
    assert str(caught.value) == complaint
