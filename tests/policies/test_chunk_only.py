"""Chunking alone: prompts and decodes take turns."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from policies import ChunkOnly
from queueing.system import System
from queueing.workload import Workload
from tests.accountant import audit
from tests.laws import LAW, run
from tests.policies.desk import Desk, decode, prompt, waiting
from tests.strategies import workloads

crowds = workloads(min_requests=3, max_requests=10, max_prompt=40, max_output=40, max_gap=0.25)


def test_turns():
    """Chunks, decodes, chunks; a decode turn with nothing to decode goes to the prompts."""
    policy = ChunkOnly(token_budget=50)
    memory = policy.init(4)
    busy = Desk([decode(), prompt(90, 10), waiting(20)])
    asked = [busy.ask(policy, memory).entries for _ in range(4)]
    assert asked == [[(1, 50)], [(0, 1)], [(1, 50)], [(0, 1)]]
    prompts = Desk([prompt(90, 10), waiting(20)])
    assert [prompts.ask(policy, memory).entries for _ in range(3)] == [[(0, 50)]] * 3


def test_started_prompts_before_new_ones():
    """New prompts are admitted only in a batch that no started prompt is in."""
    policy = ChunkOnly(token_budget=50)
    assert Desk([prompt(20, 10), waiting(20)]).ask(policy).entries == [(0, 10)]
    assert Desk([waiting(20), waiting(70)]).ask(policy).entries == [(0, 20), (1, 30)]


@given(workload=crowds, budget=st.sampled_from([4, 16, 64]), emits=st.booleans())
def test_every_second_batch_decodes(workload: Workload, budget: int, emits: bool):
    """With ample memory no two batches of chunks follow each other while somebody decodes; chunks keep the budget."""
    system = System(LAW, blocks=4000, last_chunk_emits=emits, name="ample")
    policy = ChunkOnly(token_budget=budget)
    steps = audit(workload, system, run(workload, system, policy), policy.admission)
    for before, s in pairwise(steps):
        assert sum(s.chunks.values()) <= budget
        if before.decoding and before.chunks:
            assert s.decodes == s.decoding
