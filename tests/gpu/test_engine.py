"""The engine: texts do not depend on the schedule, runs are runs of the formal system, replays decide alike."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpu.backend import operations
from gpu.config import ModelConfig
from gpu.engine import Sampling, TorchEngine, WallClock, engine_system, generate
from gpu.kv_cache import BlockTables
from gpu.loader import Model, random_model
from policies import Sarathi, Slai, Vllm, Vtc
from policies.catalogue import classes
from queueing.batch import ENTRIES
from queueing.policy import Facts, Policy, is_decoding, plan, preempt, take_chunk, take_decode
from queueing.refinement import lifecycle, vtc
from queueing.serving import ReplayEngine, serve
from queueing.system import System
from queueing.trace import Trace
from queueing.workload import Workload
from tests.laws import differing
from tests.strategies import parameters_of

CONFIG = ModelConfig(
    architecture="MistralForCausalLM", layers=2, hidden=32, heads=4, kv_heads=2, head_dim=8, intermediate=48, vocab=61,
    norm_epsilon=1e-5, rope_theta=1e4, window=None, tied=False, max_length=128, dtype="float32", eos=(),
)  # fmt: skip
MODEL = random_model(CONFIG, seed=3, dtype=torch.float32)
ALL = list(classes(Policy).values())
TIE = 1e-4  # logits that differ by less may be ordered otherwise by rounding


class StillClock(WallClock):
    """Each batch takes a thousandth of a second, so that runs on a busy machine are the same."""

    def __init__(self) -> None:
        self._at = 0.0

    def start(self, at: float) -> None:
        """Runs already."""

    def now(self) -> float:
        """A thousandth of a second after it was last asked."""
        self._at += 2.0**-10
        return self._at

    def sleep_until(self, until: float) -> None:
        """Be there."""
        self._at = max(self._at, until)


def greedy(model: Model, prompt: list[int], output: int) -> tuple[list[int], float]:
    """One-shot text of one prompt, each token from a fresh pass over all that is before it; and the closest call."""
    text, margin = list(prompt), np.inf
    for _ in range(output):
        logits = one_shot(model, text)
        best = torch.topk(logits, 2).values
        margin = min(margin, float(best[0] - best[1]))
        text.append(int(torch.argmax(logits)))
    return text[len(prompt) :], margin


def one_shot(model: Model, text: list[int]) -> torch.Tensor:
    """Logits after a text, in one pass."""
    engine = TorchEngine(model, engine_system(model.config, blocks=64, block_size=4), 1)
    engine.add(0, text, 1)
    seen: list[torch.Tensor] = []

    def keep(logits: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(logits)
        return operations("reference").sample(logits, *rest)

    engine._operations = engine._operations._replace(sample=keep)
    serve(Workload([0.0], [len(text)], [1]), engine.system, Vllm(), engine, python=True)
    return seen[0][0]


class Dice(NamedTuple):
    """State of a generator of Lehmer's kind."""

    state: Any


def roll(dice: Any, sides: int) -> int:
    """A whole number from 0 to sides - 1."""
    dice.state[0] = 48271 * dice.state[0] % (2**31 - 1)
    return int(dice.state[0]) % sides


@dataclasses.dataclass(frozen=True, slots=True)
class Chaos(Policy):
    """Any legal batch: chunks of any length, decodes or not, preemptions, in any company; runs interpreted only."""

    seed: int = 1

    @property
    def facts(self) -> Facts:
        """Nothing is promised."""
        return Facts(False, False, False, True, True, "this test")

    def init(self, requests: int) -> Dice:
        """The dice."""
        return Dice(np.array([self.seed], np.int64))

    @plan
    def chaos(p: Any, memory: Any, view: Any, batch: Any) -> None:
        running = [int(r) for r in view.running]
        if len(running) > 1 and roll(memory, 6) == 0:
            preempt(view, batch, running.pop(roll(memory, len(running))))
        requests = running + [int(r) for r in view.waiting]
        turn = roll(memory, len(requests))
        for r in requests[turn:] + requests[:turn]:
            if roll(memory, 4) == 0:
                continue
            if is_decoding(view, r):
                take_decode(view, batch, r)
            else:
                take_chunk(view, batch, r, 1 + roll(memory, 9))
        if batch.count[ENTRIES] > 0:
            return
        for other in running[1:]:  # somebody must be served: all others make room
            preempt(view, batch, other)
        if is_decoding(view, requests[0]):
            take_decode(view, batch, requests[0])
        else:
            take_chunk(view, batch, requests[0], 1 + roll(memory, 9))


def served(
    prompts: list[list[int]],
    output: list[int],
    policy: Policy,
    system: System,
    *,
    model: Model = MODEL,
    sampling: Sampling | None = None,
    workload: Workload | None = None,
) -> tuple[list[list[int]], Trace]:
    """Texts and trace, under a clock that stands still but for a millisecond a batch."""
    engine = TorchEngine(model, system, len(prompts), sampling=sampling, clock=StillClock())
    for i, (prompt, most) in enumerate(zip(prompts, output, strict=True)):
        engine.add(i, prompt, most)
    workload = workload or Workload(np.zeros(len(prompts)), [len(p) for p in prompts], output)
    trace = serve(workload, system, policy, engine, python=True)
    assert trace.finished.all()
    assert engine.tables.free == system.blocks  # nothing is left behind
    return [engine.text(i) for i in range(len(prompts))], trace


PROMPTS = st.lists(
    st.lists(st.integers(0, CONFIG.vocab - 1), min_size=1, max_size=25), min_size=1, max_size=5
)
SMALL = engine_system(CONFIG, blocks=24, block_size=4, max_running=4)  # two long requests do not fit together


@given(PROMPTS, st.integers(1, 2**30), st.data())
def test_any_schedule_gives_the_one_shot_text(
    prompts: list[list[int]], seed: int, data: st.DataObject
) -> None:
    """Chunks, company, preemptions at random: each text is that of one pass over all before each token.

    Where two tokens are within rounding of each other the text may differ, and such prompts are left out.
    """
    output = [data.draw(st.integers(1, 8)) for _ in prompts]
    texts, _ = served(prompts, output, Chaos(seed), SMALL)
    for prompt, most, text in zip(prompts, output, texts, strict=True):
        stated, margin = greedy(MODEL, prompt, most)
        if margin > TIE:
            assert text == stated


@given(st.sampled_from(ALL).flatmap(parameters_of), PROMPTS, st.integers(0, 3))
def test_every_policy_gives_the_same_texts(policy: Policy, prompts: list[list[int]], seed: int) -> None:
    """Sampled, too: the draws are keyed by (seed, request, position)."""
    for sampling in (Sampling(), Sampling(temperature=1.0, seed=seed)):
        output = [5] * len(prompts)
        texts, trace = served(prompts, output, policy, SMALL, sampling=sampling)
        assert texts == served(prompts, output, Chaos(7), SMALL, sampling=sampling)[0]
        assert lifecycle(trace).ok


def test_chaos_reaches_what_it_is_for() -> None:
    """Chunks, preemptions, decodes beside chunks, decodes that wait: all occur, or the tests above would say little."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, CONFIG.vocab, n).tolist() for n in (25, 3, 20, 9, 14)]
    _, trace = served(prompts, [8] * 5, Chaos(11), SMALL)
    its = trace.iterations
    assert trace.requests["preemptions"].sum() > 0
    assert ((its["prefill"] > 0) & (its["decodes"] > 0)).any()
    assert its["running"].max() > 1
    assert np.nanmax(trace.requests["longest_gap"]) > 2.0**-9


def test_a_token_out_of_place_changes_texts() -> None:
    """Control: with one block of a request swapped for another's the texts are no longer the one-shot ones."""
    rng = np.random.default_rng(1)
    prompts = [rng.integers(0, CONFIG.vocab, 20).tolist() for _ in range(4)]

    class Wrong(BlockTables):
        def hold(self, requests: Any, blocks: Any) -> Any:
            rows = super().hold(requests, blocks)
            self.table[rows[0], 0] = self.table[rows[-1], 0]
            return rows

    engine = TorchEngine(MODEL, SMALL, 4, clock=StillClock())
    engine.tables = Wrong(SMALL.blocks, 4, 24, 4)
    for i, prompt in enumerate(prompts):
        engine.add(i, prompt, 6)
    serve(Workload(np.zeros(4), [20] * 4, [6] * 4), SMALL, Sarathi(token_budget=64), engine, python=True)
    right = served(prompts, [6] * 4, Sarathi(token_budget=64), SMALL)[0]
    assert [engine.text(i) for i in range(4)] != right


def test_draws_depend_on_seed_request_and_position() -> None:
    """Control: another seed, or the same prompt under another id, is another text."""
    prompt = [5, 9, 2]
    one = served([prompt] * 2, [12] * 2, Vllm(), SMALL, sampling=Sampling(2.0, 1))[0]
    two = served([prompt] * 2, [12] * 2, Vllm(), SMALL, sampling=Sampling(2.0, 2))[0]
    assert one[0] != one[1]
    assert one[0] != two[0]


def test_a_real_run_is_a_run_of_the_formal_system_and_replays() -> None:
    """Under the machine's own clock: refinement accepts the trace, and each decision is met again, step by step."""
    rng = np.random.default_rng(2)
    prompts = [rng.integers(0, CONFIG.vocab, n).tolist() for n in (25, 3, 20, 9, 14, 30)]
    workload = Workload(
        [0.0, 0.0, 0.004, 0.004, 0.01, 0.02], [len(p) for p in prompts], [8] * 6, [0, 1, 0, 1, 2, 0]
    )
    for policy in (Vtc(), Slai(), Sarathi(token_budget=16)):
        made = generate(MODEL, prompts, policy, SMALL, workload=workload)
        assert made.trace.finished.all()
        assert lifecycle(made.trace).ok
        again = serve(made.workload, SMALL, policy, ReplayEngine(made.trace))
        assert differing(made.trace, again) == []
        if isinstance(policy, Vtc):
            assert vtc(made.trace).ok


def test_an_end_of_text_ends_it() -> None:
    """The end token is the last of a text, and its request needs no more of the engine."""
    rng = np.random.default_rng(4)
    prompts = [rng.integers(0, CONFIG.vocab, 6).tolist() for _ in range(4)]
    whole = served(prompts, [20] * 4, Vllm(), SMALL)[0]
    end = whole[0][4]
    model = dataclasses.replace(MODEL, config=dataclasses.replace(CONFIG, eos=(end,)))
    short, trace = served(prompts, [20] * 4, Vllm(), SMALL, model=model)
    for text, cut in zip(whole, short, strict=True):
        stop = text.index(end) + 1 if end in text else len(text)
        assert cut == text[:stop]
    assert trace.requests["output"].tolist() == [len(t) for t in short]
    assert min(map(len, short)) < 20
    assert served(prompts, [20] * 4, Vllm(), SMALL, model=model, sampling=Sampling(stop=False))[0] == whole


@pytest.mark.parametrize(
    ("prompt", "output", "words"),
    [
        ([], 1, "prompt 0 is empty"),
        ([1, 61], 1, "token 61; the vocabulary has tokens 0 to 60"),
        ([1] * 120, 9, "the context holds 128"),
        ([1] * 90, 20, "the KV memory holds 92"),
    ],
)
def test_prompts_that_do_not_fit(prompt: list[int], output: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        generate(MODEL, [prompt], Vllm(), SMALL, output=output)


def test_systems_that_no_model_serves() -> None:
    with pytest.raises(ValueError, match="last_chunk_emits"):
        TorchEngine(MODEL, dataclasses.replace(SMALL, last_chunk_emits=False), 1)
    with pytest.raises(ValueError, match="allow no more"):
        TorchEngine(MODEL, dataclasses.replace(SMALL, max_length=129), 1)
    with pytest.raises(ValueError, match="temperature is -1"):
        Sampling(-1.0)
    with pytest.raises(ValueError, match="not those of the prompts"):
        generate(MODEL, [[1, 2]], Vllm(), SMALL, workload=Workload([0.0], [3], [1]))
