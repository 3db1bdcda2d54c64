"""The VTC authors' runs: accepted where they must be, refused where not, and what is said without their files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from importlib.resources import files

import numpy as np
import pytest

from queueing.data import data_folder
from queueing.request_log import request_log
from validation import vtc_runs
from validation.experiments import vtc_isolation, vtc_overload, vtc_real, vtc_shift
from validation.published import keys_of
from validation.vtc_figures import amounts, growth_while_both_wait, most_together
from validation.vtc_runs import FACTORS, RUNS, Figures, agrees, figures, measured, server, simulated

needs_files = pytest.mark.skipif(
    data_folder() is None, reason="TANDEM_DATA is not set: the authors' files are not here"
)
JUDGED = ("total time", "mean time to first token", "Avg Diff")
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
    """Every published figure has its row, and what has a limit is judged."""
    monkeypatch.delenv("TANDEM_DATA", raising=False)
    result = vtc_isolation.run(quick=True, out=tmp_path)
    assert {row.key for row in result.rows} == keys_of("vtc-isolation")
    judged = {row.quantity for row in result.rows if row.verdict != "not testable here"}
    assert judged == {f"{name}, {words}" for name in vtc_isolation.RUNS for words in JUDGED} | {
        f"Avg Diff of {' less that of '.join(vtc_isolation.FALLING)}"
    }
    assert (tmp_path / "vtc-isolation.png").is_file()
    assert (tmp_path / "vtc-isolation.svg").is_file()
    assert json.loads(result.to_json())["name"] == "vtc-isolation"
    with pytest.raises(ValueError, match=r"set TANDEM_DATA to a folder that holds fairness/fcfs_real\.csv"):
        vtc_real.run(quick=True)


@pytest.mark.parametrize("module", [vtc_overload, vtc_shift, pytest.param(vtc_real, marks=needs_files)])
def test_an_experiment_has_a_row_for_every_figure(module):
    seen: list[tuple[int, int]] = []
    result = module.run(quick=True, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(module.RUNS), len(module.RUNS))
    assert {row.key for row in result.rows} == keys_of(module.NAME)
    unjudged = {
        r.quantity for r in result.rows if r.verdict == "not testable here" and r.quantity.endswith(JUDGED)
    }
    assert unjudged == {f"{name}, Avg Diff" for name in module.RUNS if RUNS[name].bimodal}


def _published(module) -> Iterator[tuple[str, str, str]]:
    """Key, run and figure as printed."""
    for line in csv.DictReader(
        (files("validation") / "published.csv").read_text(encoding="utf-8").splitlines()
    ):
        if line["experiment"] == module.NAME and line["value"]:
            yield line["key"], line["key"].partition(": ")[2].partition(", ")[0], line["value"]


@needs_files
@pytest.mark.parametrize("module", [vtc_overload, vtc_shift, vtc_isolation, vtc_real])
def test_the_registry_has_what_the_files_give(module):
    """Every figure to the last printed digit; controls: a unit of that digit more, and the figures of another run."""

    @cache
    def of_files(run: str) -> dict[str, float]:
        log = measured(run)
        assert log is not None
        judged = dict(zip(JUDGED, figures(log)[:3], strict=True)) | {"rejected": figures(log).rejected}
        return {name: found.value for name, found in amounts(log).items()} | judged

    entries = list(_published(module))
    assert {run for _, run, _ in entries} == set(module.RUNS)
    foreign = 0
    for key, run, text in entries:
        name, unit = (
            key.removeprefix(f"{module.NAME}: {run}, "),
            10.0 ** int(Decimal(text).as_tuple().exponent),
        )
        off = abs(of_files(run)[name] - float(text))
        assert off <= 0.505 * unit, key  # half a unit; the authors' clock and ours end a thread of it apart
        assert abs(of_files(run)[name] - (float(text) + 1.1 * unit)) > 0.505 * unit, key
        other = of_files(module.RUNS[module.RUNS.index(run) - 1]).get(name)
        foreign += other is not None and abs(other - float(text)) <= 0.505 * unit
    assert foreign < 0.1 * len(entries)


def test_a_figure_out_of_its_limits_differs(monkeypatch: pytest.MonkeyPatch):
    """Control: the same rows from a server twice as slow."""
    monkeypatch.setattr(vtc_runs, "SHOWN", 2.0)
    slow = simulated("vtc_overload", 2.0)
    rows = vtc_runs.rows_of("vtc-overload", "vtc_overload", [figures(slow)], [amounts(slow)])
    assert "differs" in {row.verdict for row in rows}
    assert server(2.0).name == "S-LoRA on an A10G, K = 2"


def test_an_order_holds_at_every_factor_or_is_open():
    """Avg Diff by hand at three K: above, below, equal, and now above and now below."""

    def verdict(*gaps: float) -> str:
        name = ("fcfs_overload", "vtc_overload")
        ours = {name[0]: [Figures(1.0, 1.0, 50.0 + gap, 0) for gap in gaps]}
        ours[name[1]] = [Figures(1.0, 1.0, 50.0, 0)] * len(gaps)
        (row,) = vtc_runs.order_rows("vtc-overload", name, ours)
        assert row.published is not None
        assert row.published > 0
        return row.verdict

    assert verdict(30.0, 10.0, 20.0) == verdict(5.0) == "reproduced"
    assert verdict(-30.0, -10.0, -20.0) == verdict(0.0, 0.0, 0.0) == "differs"
    assert verdict(30.0, -10.0, 20.0) == verdict(30.0, float("nan"), 20.0) == "not testable here"


def test_growth_counts_only_while_both_wait():
    """By hand: client 1 is served 100 input and 50 output tokens from 2 s to 4 s while both have more that waits."""
    columns = [0.0, 0.0, 0.0, 60.0], [10, 100, 100, 1], [10, 50, 50, 2], [0, 1, 1, 0]
    early = [10.0, 2.0, 20.0, 1.0], [12.0, 4.0, 22.0, 2.0]
    assert growth_while_both_wait(request_log(*columns, *early)) == 200 / 40_000
    late = [10.0, 12.0, 20.0, 1.0], [12.0, 14.0, 22.0, 2.0]  # control: by then client 0 no longer waits
    assert growth_while_both_wait(request_log(*columns, *late)) == 0


def test_tokens_are_counted_while_requests_are_served_together():
    """By hand: 30 tokens from 1 s to 3 s, 60 from 2 s to 4 s, 70 from 4 s on; the second ends as the third begins."""
    arrived, prompt, output, client = [0.0, 0.0, 0.0], [10, 20, 30], [20, 40, 40], [0, 1, 0]
    assert most_together(request_log(arrived, prompt, output, client, [1.0, 2.0, 4.0], [3.0, 4.0, 5.0])) == 90
    later = [1.0, 2.0, 3.9], [3.0, 4.0, 5.0]  # control: the third begins before the second ends
    assert most_together(request_log(arrived, prompt, output, client, *later)) == 130
