"""A real run of vLLM against its simulation, request by request; needs the folder TANDEM_DATA."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest

from queueing.data import data_folder
from queueing.workload import Workload
from validation import experiments
from validation.experiments import vllm_run
from validation.experiments.vllm_run import CUT, LIMIT, Served, calibrated, compared, predicted
from validation.published import keys_of, published

needs_run = pytest.mark.skipif(
    data_folder() is None, reason="needs the run of vLLM: set TANDEM_DATA to the folder that holds it"
)


@functools.cache
def real() -> Served:
    return vllm_run.measured()


def off(ours: Served, quantity: str, picked: object = slice(None)) -> float:
    """Ratio of medians less 1."""
    return compared(getattr(ours, quantity)[picked], getattr(real(), quantity)[picked])[0] - 1


@needs_run
def test_tables_alone_predict_the_gaps_and_not_the_waits() -> None:
    """Nothing fitted: the median gap is within 15 %; gaps 13 % short make waits 44 % short, and 36 % with the floor."""
    alone, floor = (
        predicted(real().workload, law) for law in (vllm_run.tables_alone(), vllm_run.with_floor())
    )
    assert abs(off(alone, "itl")) <= LIMIT
    assert abs(off(floor, "itl")) < abs(off(alone, "itl"))
    assert -0.5 < off(alone, "ttft") < off(floor, "ttft") < -2 * LIMIT


@needs_run
def test_one_constant_of_the_first_seconds_predicts_the_rest() -> None:
    """Both medians within 15 % with their intervals, on requests of which no stamp was used, and on all."""
    later = real().first_token >= CUT
    assert 100 < later.sum() < 200
    ours = predicted(real().workload, calibrated(real()))
    for quantity in ("ttft", "itl"):
        for picked in (later, np.ones(later.size, np.bool_)):
            _, low, high = compared(getattr(ours, quantity)[picked], getattr(real(), quantity)[picked])
            assert 1 - LIMIT <= low <= high <= 1 + LIMIT
        error = np.abs(getattr(ours, quantity) / getattr(real(), quantity) - 1)[later]
        assert np.median(error) < 0.02  # request by request, not in the median alone


@needs_run
def test_tables_of_another_gpu_do_not() -> None:
    """Controls: with a constant of its own, the H100 is off ten times as far, request by request; the L40S cannot be
    slowed down to be faster.
    """
    later = real().first_token >= CUT
    for gpu, least in (("h100", 0.1), ("l40s", 1.0)):
        ours = predicted(real().workload, calibrated(real(), gpu))
        assert np.median(np.abs(ours.ttft / real().ttft - 1)[later]) > least
    assert calibrated(real(), "l40s").params.per_iteration < 1e-4


@needs_run
def test_without_attention_to_context_the_run_is_far_off() -> None:
    """Control: the KV term, not the constant, carries the batch of 128."""
    law = calibrated(real())
    blind = dataclasses.replace(law, params=law.params._replace(decode=0.0 * law.params.decode))
    assert off(predicted(real().workload, blind), "itl") < -2 * LIMIT


@needs_run
def test_calibration_reads_no_stamp_after_the_cut() -> None:
    """Whatever came later, the constant is the same; control: an earlier stamp changes it."""
    run = real()
    late_first = np.where(run.first_token > CUT, CUT + 1.0, run.first_token)
    late_last = np.where(run.last_token > CUT, CUT + 2.0, run.last_token)
    blinded = dataclasses.replace(run, first_token=late_first, last_token=late_last)
    assert calibrated(blinded).params.per_iteration == calibrated(run).params.per_iteration
    early = dataclasses.replace(
        run, last_token=np.where(run.last_token < CUT, 0.97 * run.last_token, run.last_token)
    )
    assert calibrated(early).params.per_iteration < 0.9 * calibrated(run).params.per_iteration


@needs_run
def test_the_run_itself_is_what_its_notes_say() -> None:
    """128 requests at most; where none waits for a place, first tokens come about an iteration later than simulated.

    vLLM plans an iteration while the one before runs, which the simulator does not.
    """
    run = real()
    running = [np.sum((run.first_token <= t) & (run.last_token > t)) for t in np.arange(0.0, 60.0, 0.25)]
    assert max(running) == 128
    ours = predicted(run.workload, calibrated(run))
    unhindered = run.workload.arrival < 10.0
    ahead = np.median((run.ttft - ours.ttft)[unhindered])
    assert 0.5 < ahead / np.median(run.itl) < 1.5


@needs_run
def test_the_experiment_reports_both_readings(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = experiments.load("vllm-run").run(out=tmp_path)
    verdicts = {row.quantity.split(" (")[0]: row.verdict for row in result.rows}
    assert {row.key for row in result.rows} == keys_of("vllm-run")
    assert verdicts["median ttft, tables alone, all 300 requests"] == "differs"
    assert verdicts["median itl, tables alone, all 300 requests"] == "reproduced"
    assert {v for name, v in verdicts.items() if "one constant" in name} == {"reproduced"}
    assert json.loads((tmp_path / "vllm-run.json").read_text())["name"] == "vllm-run"
    assert len((tmp_path / "requests.csv").read_text().splitlines()) == 301


@needs_run
def test_the_registry_has_the_medians_of_the_run() -> None:
    """To four digits; control: not those of the requests of the first seconds."""
    run = real()
    for which, picked in (("all 300", run.ttft > 0), ("unseen 145", run.first_token >= CUT)):
        for quantity in ("ttft", "itl"):
            stated = published(f"vllm-run: median {quantity}, {which} requests").value
            assert np.median(getattr(run, quantity)[picked]) == pytest.approx(stated, rel=2e-4)
            assert np.median(getattr(run, quantity)[run.first_token < CUT]) != pytest.approx(stated, rel=2e-4)


def test_without_the_data_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TANDEM_DATA", raising=False)
    with pytest.raises(ValueError, match="set TANDEM_DATA to a folder that holds measured/vllm_rtxpro6000"):
        vllm_run.measured()
    monkeypatch.setenv("TANDEM_DATA", str(tmp_path))
    file = tmp_path / vllm_run.RUN
    file.parent.mkdir(parents=True)
    file.write_text("input_tokens\n1\n")
    with pytest.raises(ValueError, match=r"has sha256 .* get the run again"):
        vllm_run.measured()


def test_a_part_of_the_run_that_ended_nothing_cannot_calibrate() -> None:
    workload = Workload(np.array([0.0, 1.0]), np.array([10, 20]), np.array([5, 6]))
    run = Served(workload, workload.arrival + 1.0, workload.arrival + 100.0)
    with pytest.raises(ValueError, match="no request of the run ended before"):
        calibrated(run)
