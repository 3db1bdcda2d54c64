"""The VTC authors' runs: accepted where they must be, refused where not, and what is said without their files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from queueing.data import data_folder
from validation import vtc_runs
from validation.experiments import vtc_isolation, vtc_overload, vtc_real, vtc_shift
from validation.vtc_runs import FACTORS, RUNS, Figures, agrees, figures, measured, server, simulated

needs_files = pytest.mark.skipif(
    data_folder() is None, reason="TANDEM_DATA is not set: the authors' files are not here"
)
MEDIANS: dict[str, Figures] = {}


def median(name: str) -> Figures:
    if name not in MEDIANS:
        table = np.array([figures(simulated(name, factor)) for factor in FACTORS])
        MEDIANS[name] = Figures(*np.median(table, axis=0).tolist())
    return MEDIANS[name]


@needs_files
@pytest.mark.parametrize("name", RUNS)
def test_simulated_as_measured(name: str):
    """Total, time to first token, Avg Diff and rejections within the limits that were set beforehand."""
    log = measured(name)
    assert log is not None
    theirs, ours = figures(log), median(name)
    for quantity in ("total", "first_token", "difference", "rejected"):
        if quantity != "difference" or not RUNS[name].bimodal:
            assert agrees(quantity, getattr(theirs, quantity), getattr(ours, quantity)), quantity


@needs_files
def test_the_limits_tell_schedulers_apart():
    """Controls: FCFS is not taken for VTC, nor VTC for its form with predictions, nor a slower server for this one."""
    pairs = (("fcfs_real", "vtc_real"), ("vtc_real", "fcfs_real"), ("vtc_overload", "vtc_pred_50_overload"))
    for one, other in pairs:
        assert not agrees("difference", figures(measured(one)).difference, median(other).difference)  # pyright: ignore
    slow = figures(simulated("vtc_overload_multi", 1.2))
    assert not agrees("total", figures(measured("vtc_overload_multi")).total, slow.total)  # pyright: ignore


@needs_files
def test_fcfs_then_lcf_then_vtc():
    """Avg Diff on the real requests falls, and so does the number of clients that wait 10 s or more in the mean."""
    assert median("fcfs_real").difference > median("lcf_real").difference > median("vtc_real").difference
    waiting: dict[str, int] = {}
    for name in ("fcfs_real", "vtc_real"):
        q = simulated(name, 1.09).requests
        waited = q["first_token"] - q["arrival"]
        waiting[name] = sum(waited[q["client"] == u].mean() >= 10 for u in np.unique(q["client"]))
    assert waiting["vtc_real"] <= 4 < 15 <= waiting["fcfs_real"]


def test_synthetic_runs_need_no_files(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.delenv("TANDEM_DATA", raising=False)
    result = vtc_isolation.run(quick=True, out=tmp_path)
    assert {row.verdict for row in result.rows} == {"not testable here"}
    assert all(row.published is None for row in result.rows)
    assert (tmp_path / "vtc-isolation.png").is_file()
    assert (tmp_path / "vtc-isolation.svg").is_file()
    assert json.loads(result.to_json())["name"] == "vtc-isolation"
    with pytest.raises(ValueError, match=r"set TANDEM_DATA to a folder that holds fairness/fcfs_real\.csv"):
        vtc_real.run(quick=True)


@needs_files
@pytest.mark.parametrize("module", [vtc_overload, vtc_shift])
def test_an_experiment_judges_every_row(module):
    seen: list[tuple[int, int]] = []
    result = module.run(quick=True, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(module.RUNS), len(module.RUNS))
    judged = [row for row in result.rows if row.verdict != "not testable here"]
    assert len(judged) >= len(result.rows) - 1
    assert {row.quantity.split(":")[0] for row in result.rows} >= set(module.RUNS)


def test_a_figure_out_of_its_limits_differs(monkeypatch: pytest.MonkeyPatch):
    """Control: the same rows from a server twice as slow."""
    monkeypatch.setattr(vtc_runs, "SHOWN", 2.0)
    theirs = Figures(928.7, 277.1, 103.8, 0)
    ours = [figures(simulated("vtc_overload", 2.0))]
    assert {row.verdict for row in vtc_runs.rows_of("vtc_overload", theirs, ours)} >= {"differs"}
    assert server(2.0).name == "S-LoRA on an A10G, K = 2"
