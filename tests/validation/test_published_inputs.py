"""Registered figures that no experiment tests, computed again from the files or the figures they follow from.

A figure is met if it is within half a unit of the last digit that is printed.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from importlib.resources import files

import numpy as np
import pytest

from queueing.data import data_folder
from queueing.metrics import smeared_service
from queueing.models.calibrations import chunk_sweep
from queueing.tabular import read_table
from queueing.trace import Trace
from validation import vtc_runs

needs_files = pytest.mark.skipif(
    data_folder() is None, reason="TANDEM_DATA is not set: the authors' files are not here"
)
CHUNKS = (64, 128, 256, 384, 512, 768, 1024)  # tokens
PROMPT = 2048  # tokens
RUNS = {  # by what the registry calls them
    "fcfs_overload": ("fcfs_overload",),
    "vtc_overload and vtc_pred_50_overload": ("vtc_overload", "vtc_pred_50_overload"),
    "vtc_overload_multi": ("vtc_overload_multi",),
    "vtc_dist_shift and lcf_dist_shift": ("vtc_dist_shift", "lcf_dist_shift"),
    "vtc_proportional": ("vtc_proportional",),
    "fcfs_on_off_less and vtc_on_off_less": ("fcfs_on_off_less", "vtc_on_off_less"),
}


LINES = (files("validation") / "published.csv").read_text(encoding="utf-8").splitlines()
PRINTED = {line["key"]: line["value"] for line in csv.DictReader(LINES)}


def value(key: str) -> float:
    return float(PRINTED[key])


def digit(key: str) -> float:
    """A unit of the last digit."""
    return 10.0 ** int(Decimal(PRINTED[key]).as_tuple().exponent)


def meets(key: str, found: float) -> bool:
    return abs(found - value(key)) <= 0.5 * digit(key) * (1 + 1e-9)


def measured(run: str) -> Trace:
    log = vtc_runs.measured(run)
    assert log is not None
    return log


def sharegpt() -> Mapping[str, float]:
    """Every figure of the list of lengths, by the key that it has after `slai: ShareGPT`."""
    folder = data_folder()
    assert folder is not None
    table = read_table(folder / "traces" / "sharegpt_8k.csv")
    p, o = (np.array(table.numbers(name)) for name in ("prompt_tokens", "output_tokens"))
    context = p * o + o * (o + 1) / 2
    found = {
        ", mean of prompt and output": (p + o).mean(),
        ", largest prompt and output": (p + o).max(),
        ", correlation": np.corrcoef(p, o)[0, 1],
        ", half the mean square of prompts": (p**2 / 2).mean(),
        ", mean context-tokens of decodes": context.mean(),
        ", context of a decode": context.sum() / o.sum(),
    }
    found |= {
        f", padding to {tile}": (np.ceil(p / tile) * tile).sum() / p.sum() for tile in (64, 128, 256, 512)
    }
    for name, x in (("prompts", p), ("outputs", o)):
        found |= {f" {name}, mean": x.mean(), f" {name}, standard deviation": x.std()}
        found |= {f" {name}, p{at}": np.percentile(x, at) for at in (25, 50, 75, 90, 99)}
        found |= {f" {name}, largest": x.max()}
    return {f"slai: ShareGPT{name}": float(x) for name, x in found.items()}


def fairness() -> Mapping[str, float]:
    """Figures of the authors' runs of VTC that stand in no row."""
    q = measured("vtc_real").requests
    sent = np.unique(q["client"], return_counts=True)[1]
    found = {
        "clients": len(sent),
        "requests": len(q["arrival"]),
        "mean input": q["prompt"].mean(),
        "mean output": q["output"].mean(),
        "shortest input": q["prompt"].min(),
        "longest input": q["prompt"].max(),
        "shortest output": q["output"].min(),
        "longest output": q["output"].max(),
        "fewest of a client": sent.min(),
        "most of a client": sent.max(),
    }
    found = {f"real requests, {name}": float(x) for name, x in found.items()}
    for name, runs in RUNS.items():
        (count,) = {len(measured(run).requests["arrival"]) for run in runs}
        found[f"requests of {name}"] = float(count)
    return {f"vtc: {name}": x for name, x in found.items()}


@needs_files
@pytest.mark.parametrize(("of_files", "prefix"), [(sharegpt, "slai: ShareGPT"), (fairness, "vtc: re")])
def test_figures_of_files(of_files: Callable[[], Mapping[str, float]], prefix: str):
    """Each is what the files give, and none of those that begin so is left out; control: a unit more is refused."""
    found = of_files()
    stated = {key for key in PRINTED if key.startswith(prefix)} - {
        "vtc: real requests, rejected without a limit"
    }
    assert stated <= found.keys()
    assert [key for key, amount in found.items() if not meets(key, amount)] == []
    assert not any(meets(key, amount + 1.1 * digit(key)) for key, amount in found.items())


@needs_files
def test_nothing_is_rejected_without_a_limit():
    """Control: the runs with a limit reject."""
    none = value("vtc: real requests, rejected without a limit")
    for name, run in vtc_runs.RUNS.items():
        assert (int(measured(name).rejected.sum()) == none) == (run.limit is None)


@needs_files
def test_equal_minutes_under_vtc_alone():
    """Demand that shifts, from 360 s to 600 s: within 2 % a minute under VTC, over 20 % apart under LCF (control)."""
    for minute in range(6, 10):
        apart: list[float] = []
        for run in ("vtc_dist_shift", "lcf_dist_shift"):
            served = smeared_service(measured(run), 60.0 * minute, 60.0 * minute + 60.0)[0]
            apart.append(float(served.max() / served.min()) - 1.0)
        assert apart[0] < 0.02
        assert apart[1] > 0.2


def test_the_capacity_is_what_the_overloaded_runs_carry():
    """Tokens per second over 512, within a twentieth of a request; control: rejections of the strictest limit."""
    carried = [
        value(f"vtc-overload: {run}, tokens per second") / 512
        for run in ("fcfs_overload", "vtc_overload", "vtc_pred_50_overload", "vtc_overload_multi")
    ]
    assert max(abs(rate - value("vtc: capacity of the server")) for rate in carried) < 0.05
    limited = value("vtc-real: lshare_rpm5_real, tokens per second") / 512
    assert abs(limited - value("vtc: capacity of the server")) > 0.05


def test_what_follows_from_the_chunk_sweep():
    """Time of a chunk and of the decode that the two measured figures imply, and what else was derived from them.

    Control: the figures of the next chunk size do not meet them.
    """
    sweep = chunk_sweep()
    first, batch = (
        [value(f"gpu-tables: {name}, chunks of {q}") for q in CHUNKS]
        for name in ("time to first token", "mean time of a batch")
    )
    assert first == pytest.approx((1e3 * sweep.seconds).tolist(), abs=0.051)
    number = [math.ceil(PROMPT / q) for q in CHUNKS]
    for k, q in enumerate(CHUNKS):
        chunk, decode = (
            f"gpu-tables: mean time of a chunk, chunks of {q}",
            f"time of one decode, chunks of {q}",
        )
        other = (k + 1) % len(CHUNKS)
        assert abs(first[k] / number[k] - value(chunk)) <= 0.05 + 0.05 / number[k]
        assert abs(first[other] / number[other] - value(chunk)) > 0.05 + 0.05 / number[k]
        given = (number[k] + 1) * batch[k] - first[k]
        slack = 0.005 * (number[k] + 1) + 0.05 + 0.05
        assert abs(given - value(f"gpu-tables: {decode}")) <= slack
        assert abs((number[k] + 2) * batch[k] - first[k] - value(f"gpu-tables: {decode}")) > slack
    per_chunk = dict(zip(CHUNKS, 1e3 * sweep.seconds / number, strict=True))
    assert meets("slai: time of 256 tokens over that of 128", per_chunk[256] / per_chunk[128])
    plateau, base, slope = (
        value(f"slai: iteration time, {name}") for name in ("plateau", "base", "time per token")
    )
    assert meets("slai: iteration time, knee", (plateau - base) / slope)
    assert not meets("slai: iteration time, knee", plateau / slope)
    assert meets("slai: time to read the weights", 14.5 / 960 * 1e3)


@pytest.mark.parametrize(("tile", "base"), [(128, "12"), (256, None)])
def test_tiles_on_the_chunk_sweep(tile: int, base: str | None):
    """Relative error of the best base + per tile·⌈q/tile⌉ on the times to first token, and its base.

    Least squares on relative errors.  Control: the error stated for the other tile is not met.
    """
    sweep = chunk_sweep()
    runs = np.arange(len(sweep.seconds))
    tiles = np.array([np.ceil(sweep.tokens[sweep.run == k] / tile).sum() for k in runs])
    terms = np.c_[[np.count_nonzero(sweep.run == k) for k in runs], tiles] / sweep.seconds[:, None]
    best = np.linalg.lstsq(terms, np.ones(len(runs)), rcond=None)[0]
    error = 100 * float(np.sqrt(np.mean((terms @ best - 1) ** 2)))
    assert meets(f"slai: iteration time, error of tiles of {tile}", error)
    assert not meets(f"slai: iteration time, error of tiles of {384 - tile}", error)
    if base is None:
        assert abs(best[0]) < 1e-3  # s: no base beside its tiles
    else:
        assert meets(f"slai: iteration time, base with tiles of {tile}", 1e3 * float(best[0]))
