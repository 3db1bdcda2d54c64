"""vLLM: prompts before decodes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies import Vllm
from queueing.system import System
from queueing.workload import Workload
from tests.accountant import audit
from tests.laws import LAW, run
from tests.policies.desk import Desk, decode, waiting
from tests.strategies import systems, workloads

crowds = workloads(min_requests=3, max_requests=10, max_prompt=40, max_output=40, max_gap=0.25)


def test_prefill_first():
    """While a prompt fits, decodes stall; when none does, all of them run."""
    assert Desk([decode(), waiting(50), decode(), waiting(60)]).ask(Vllm()).entries == [(1, 50), (3, 60)]
    assert Desk([decode(), decode()]).ask(Vllm()).entries == [(0, 1), (1, 1)]


def test_cap_on_tokens():
    """A prompt that would pass the cap waits for the next batch; one longer than the cap goes alone."""
    queue = [waiting(50), waiting(60), waiting(10)]
    assert Desk(queue).ask(Vllm(max_batched_tokens=110)).entries == [(0, 50), (1, 60)]
    assert Desk(queue).ask(Vllm(max_batched_tokens=109)).entries == [(0, 50)]
    assert Desk(queue).ask(Vllm(max_batched_tokens=20)).entries == [(0, 50)]


def test_head_of_line_blocks_admission():
    desk = Desk([decode(16), waiting(100), waiting(5)], total_blocks=7)
    assert desk.ask(Vllm()).entries == [(0, 1)]
    assert Desk([decode(16), waiting(5), waiting(100)], total_blocks=7).ask(Vllm()).entries == [(1, 5)]


def test_latest_is_preempted():
    full = [decode(16, blocks=1), decode(16, blocks=1), decode(16, blocks=1)]
    asked = Desk([*full, waiting(200)], total_blocks=3).ask(Vllm())
    assert asked.victims == [2, 1]  # 1 finds no block left, and nobody after it
    assert asked.entries == [(0, 1)]


@given(
    workload=crowds, system=systems(LAW), cap=st.sampled_from([8, 64, 8192]), seats=st.sampled_from([2, 128])
)
def test_no_decode_only_batch_while_the_head_is_admissible(
    workload: Workload, system: System, cap: int, seats: int
):
    """A decode batch means that nobody waits, or places are taken, or the head leaves less than the watermark free."""
    policy = Vllm(max_batched_tokens=cap, max_num_seqs=seats)
    trace = run(workload, system, policy)
    prompt = {}
    for s in audit(workload, system, trace, policy.admission):
        waiting_before = [r for r in s.queue if r not in s.victims]
        for r in s.victims:
            prompt[r] = None
        if s.decodes and waiting_before:
            head = waiting_before[0]
            if head in prompt:
                continue  # its prompt has grown by what it generated
            need = -(-int(workload.prompt[head]) // system.block_size)
            full = len(s.running) >= min(seats, system.max_running)
            assert full or s.free - need < system.watermark_blocks
