"""Rows about growth: what each says that theory claims is what its verdict holds the run against."""

import itertools

import pytest

from validation.experiments import kv_stability, rad, wait

FIGURES = {"growth": 0.02, "low": 0.01, "high": 0.03}
BELOW = 0.95 * (1 - kv_stability.largest())
RUNS = {
    rad: [{"load": load, "allowed": 1.0, "price": 0.9} for load in (0.9, 1.1)],
    wait: [
        {"share": share, "policy": policy}
        for share, policy in itertools.product((wait.SHARE, wait.ABOVE), ("WAIT", "WAIT, rounded down"))
    ],
    kv_stability: [
        {"load": load, "policy": policy}
        for load, policy in itertools.product((BELOW, 1.05), ("Sarathi", "vLLM"))
    ],
}


def verdicts(module, grows: bool, stable: bool) -> dict[str, str]:
    """By row about growth, for runs that all showed the same."""
    fed = [run | FIGURES | {"grows": grows, "stable": stable} for run in RUNS[module]]
    return {
        row.quantity: row.verdict for row in module._growth_rows(fed) if row.quantity.startswith("growth")
    }


@pytest.mark.parametrize("module", RUNS, ids=lambda module: module.NAME)
def test_each_row_is_judged_by_what_it_says(module) -> None:
    growing, settled = verdicts(module, True, False), verdicts(module, False, True)
    assert len(growing) == len(RUNS[module])
    for text, verdict in growing.items():
        claimed = "(theory: grows)" in text
        assert claimed or "(theory: does not grow)" in text
        assert verdict == ("reproduced" if claimed else "differs")
        assert settled[text] == ("differs" if claimed else "reproduced")
    assert set(growing.values()) == {"reproduced", "differs"}  # both claims are made
    assert set(verdicts(module, False, False).values()) == {
        "not testable here"
    }  # control: runs that are too short
