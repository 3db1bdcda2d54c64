"""The experiment `sarathi`: its arithmetic on laws with closed forms, its laws with controls, and a small run."""

import numpy as np
import pytest

from queueing.models.iteration_time import Affine
from validation.experiments import sarathi
from validation.experiments.sarathi_batches import (
    Saturated,
    chunk_overhead,
    falcon_bubble,
    hybrid_ratio,
    prompt_bubble,
    yi_overhead,
    yi_pair,
)
from validation.experiments.sarathi_capacity import AtRate, Search, ceiling, policy, requests, stall_capacity
from validation.experiments.sarathi_plots import TABLES
from validation.published import keys_of, published

LAW = Affine(0.01, 1e-4, 1e-7, 2e-9)


def capacity(case, slo, name, seed=0, count=300):
    return Search(case, slo, name, seed, count).record()["capacity"]


# --- single batches


@pytest.mark.parametrize("chunk", [512, 1000, 4096])
def test_chunks_cost_their_fixed_times_and_no_arithmetic(chunk):
    """Under an affine law the attention of chunks adds up to that of the prompt; only N - 1 fixed times are added."""
    whole = 0.01 + 1e-4 * 4096 + 2e-9 * 4096**2 / 2
    pieces = -(-4096 // chunk)
    assert chunk_overhead(LAW, 4096, chunk) == pytest.approx(100 * (pieces - 1) * 0.01 / whole, abs=1e-9)
    assert (chunk_overhead(LAW, 4096, chunk) < 1e-9) == (chunk == 4096)  # control


def test_overhead_on_measured_prompts_is_none_in_one_piece_and_large_in_tiny_ones():
    pair = yi_pair()
    assert pair > 0
    assert yi_overhead(4096, 4096, pair) == 0
    assert yi_overhead(4096, 512, pair) > yi_overhead(4096, 2048, pair)
    assert (
        yi_overhead(4096, 128, pair) > 100
    )  # control: a batch of 128 tokens costs nearly what one of 256 does


def test_decodes_wait_for_the_prompt_beside_them():
    alone = 0.01 + 32 * 1e-4 + 32 * 1000 * 1e-7
    beside = alone + 1e-4 * 4096 + 2e-9 * 4096**2 / 2
    assert hybrid_ratio(LAW, 4096, 32, 1000) == pytest.approx(beside / alone)
    assert hybrid_ratio(LAW, 480, 32, 1000) < hybrid_ratio(LAW, 4096, 32, 1000) / 4  # control: a chunk


def test_chunks_shrink_the_bubble_of_a_prompt():
    whole = prompt_bubble(LAW, 4096, 32, 1000)
    assert whole == pytest.approx((1e-4 * 4096 + 2e-9 * 4096**2 / 2) / 2)
    assert prompt_bubble(LAW, 4096, 32, 1000, 512) < whole / 4
    assert prompt_bubble(LAW, 4096, 32, 1000, 4096 + 32) == pytest.approx(whole)  # control: one chunk
    assert falcon_bubble(4096, 0.0, 2e14) == pytest.approx(2 * falcon_bubble(2048, 0.0, 2e14))


# --- capacities


def test_a_search_ends_where_feasibility_does():
    search = Search("sharegpt", "strict", "vllm", 0, 200)
    found = search.record()
    step = 1.6 * ceiling("sharegpt", 0, 200, 2048) / 2**10
    assert not found["tops"]
    assert search.feasible(found["capacity"])
    assert not search.feasible(found["capacity"] + step)


def test_the_strict_gain_is_that_of_the_budget():
    """Two seeds; the control is the same scheduler with a budget that holds every prompt."""
    for seed in range(2):
        ours = capacity("sharegpt", "strict", "sarathi 512", seed)
        assert ours > 2 * capacity("sharegpt", "strict", "vllm", seed)
        assert ours > 2 * capacity("sharegpt", "strict", "sarathi 16384", seed)


def test_vllm_breaks_the_limit_where_one_gap_in_a_hundred_is_stalled():
    """The formula leaves out that prompts share a batch; it is within a fifth, and follows what an engine adds."""
    for engine in (0.0, 0.01):
        found = Search("sharegpt", "strict", "vllm", 0, 600, engine=engine).record()["capacity"]
        assert stall_capacity("sharegpt", 0, 600, 0.1, engine) == pytest.approx(found, rel=0.2)
    slower = stall_capacity("sharegpt", 0, 600, 0.1, 0.01)
    assert slower < 0.7 * stall_capacity(
        "sharegpt", 0, 600, 0.1
    )  # control: the engine's share is not ignored


def test_vllm_gains_nothing_from_places_unless_they_bind():
    few, many = (capacity("sharegpt", "strict", name) for name in ("vllm 32", "vllm"))
    assert few == many
    assert capacity("sharegpt", "strict", "vllm 2") < 0.9 * many  # control


def test_at_low_load_the_benefit_is_a_cap_and_no_dominance():
    """The 99th percentile between tokens is higher under chunks than under vLLM where prompts seldom meet decodes."""
    gap = {
        (name, rate): AtRate("sharegpt", name, rate, 0, 300).record()["tbt99"]
        for name in ("sarathi 512", "vllm")
        for rate in (0.2, 2.5)
    }
    assert gap["sarathi 512", 0.2] > gap["vllm", 0.2]
    assert gap["sarathi 512", 2.5] < gap["vllm", 2.5] / 2  # control: under load it is the other way round


def test_every_policy_sees_the_same_requests():
    assert requests("arxiv", 0, 50) is requests("arxiv", 0, 50)
    assert int((requests("arxiv", 0, 500).prompt + requests("arxiv", 0, 500).output).max()) <= 16384
    assert not np.array_equal(requests("arxiv", 0, 50).prompt, requests("arxiv", 1, 50).prompt)  # control
    assert policy("vllm 32", 8192).name == "Vllm(max_num_seqs=32)"


def test_uniform_batches_have_few_bubbles():
    """A saturated pipeline: the closed form is the recursion; without a budget Sarathi-Serve has vLLM's bubbles."""
    found = {
        name: Saturated("sharegpt", name, 0, 150).record()
        for name in ("sarathi 512", "sarathi 16384", "vllm")
    }
    for record in found.values():
        assert record["bubbles"] == pytest.approx(record["stated"], rel=1e-9)
    assert found["sarathi 512"]["bubbles"] < found["vllm"]["bubbles"] / 3
    assert found["sarathi 16384"]["bubbles"] > found["vllm"]["bubbles"] / 2  # control


# --- the whole


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The whole experiment at a size of seconds: the figures mean little, the shape is that of the full one."""
    patch = pytest.MonkeyPatch()
    patch.setattr(sarathi, "QUICK", {"seeds": 2, "requests": 60, "short": 30, "saturated": 150})
    patch.setattr(sarathi, "LOADS", (0.1, 0.7))
    folder = tmp_path_factory.mktemp("sarathi")
    calls = []
    result = sarathi.run(
        quick=True, out=folder, workers=1, progress=lambda done, total: calls.append((done, total))
    )
    patch.undo()
    return result, folder, calls


def test_rows_answer_every_figure_that_the_registry_gives_this_experiment(small):
    result, _, _ = small
    assert {row.key for row in result.rows} - {None} == keys_of("sarathi")
    assert len({row.quantity for row in result.rows}) == len(result.rows)
    without_reason = {key for key in keys_of("sarathi") if published(key).reason}
    assert not without_reason


def test_figures_of_another_model_confirm_nothing(small):
    """Verdicts on Yi-34B's latencies and Falcon-180B's bubble are left open, whatever comes out."""
    result, _, _ = small
    for row in result.rows:
        if row.key and (("ablation" in row.key and "order" not in row.key) or "4k prompt" in row.key):
            assert row.verdict == "not testable here"
    assert any(row.verdict == "reproduced" for row in result.rows)  # control: others are judged


def test_the_verdict_on_a_ratio_takes_the_range_that_a_note_gives(small):
    result, _, _ = small
    assert sum("union of the intervals" in note for note in result.notes) == 4


def test_tables_plots_and_progress(small):
    result, folder, calls = small
    assert tuple(result.tables) == TABLES
    assert {(e["lengths"], e["limit"]) for e in result.tables[TABLES[0]]} == {
        (case, slo) for case in ("sharegpt", "arxiv") for slo in ("strict", "relaxed")
    }
    names = {path.name for path in folder.iterdir()}
    for plot in ("capacity", "p99_tbt", "chunks_and_prompts", "bubbles"):
        assert {f"{plot}.png", f"{plot}.svg"} <= names
    assert [done for done, _ in calls] == list(range(1, len(calls) + 1))
    assert {total for _, total in calls} == {len(calls)}
