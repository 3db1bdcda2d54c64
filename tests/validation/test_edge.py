"""The computed edge of stability against simulation, with controls that the comparison must fail."""

import pytest

from policies import FasterTransformer, Rad, Sarathi, Vllm
from queueing.metrics import Growth, Interval
from validation.experiments import edge
from validation.experiments.edge import SYSTEMS, edge_of, growth

REQUESTS = 150_000


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_edge_lies_where_the_program_says(name):
    """Stable below and growing above, both sides bracketed; each verdict errs with probability 1e-3 (asymptotically).

    Controls: FasterTransformer grows on the side where the best policy is stable; the best policy is not called stable
    on the side where it grows.
    """
    case = SYSTEMS[name]
    capacity, largest = edge_of(case, REQUESTS)
    rate = capacity.boundary().solution.theta
    best = Rad() if case.rad else Sarathi(token_budget=largest)
    below = growth(case, best, rate * (1 - case.closeness), REQUESTS)
    above = growth(case, best, rate * (1 + case.closeness), REQUESTS)
    assert not below.grows
    assert below.grows_less_than(0.025)
    assert above.grows
    assert not above.grows_less_than(0.0)
    assert growth(case, FasterTransformer(), rate * (1 - case.closeness), 20_000).grows


def test_pure_batches_stay_below_the_program_without_mixing():
    """vLLM on the roofline: saturated, it carries what pure batches can, and less than the edge of mixed ones."""
    case = SYSTEMS["roofline"]
    mixed = edge_of(case, REQUESTS)[0].boundary().solution.theta
    pure = edge_of(case, REQUESTS, pure=True)[0].boundary().solution.theta
    carried = 1.1 * mixed - growth(case, Vllm(), 1.1 * mixed, REQUESTS).rate.low
    assert carried < mixed
    assert carried - 0.02 * mixed < pure < mixed


def test_a_budget_off_the_tile_misses_the_edge():
    """Control: where the largest batch is not the program's, the policy falls behind before the edge."""
    case = SYSTEMS["A100 table"]
    rate = edge_of(case, REQUESTS)[0].boundary().solution.theta
    assert growth(case, Sarathi(token_budget=136), rate * 0.97, REQUESTS).grows


def test_the_experiment_reports_each_system_and_policy(tmp_path, monkeypatch):
    few = {"tile law": SYSTEMS["tile law"]}
    monkeypatch.setattr(edge, "SYSTEMS", few)
    monkeypatch.setattr(edge, "REQUESTS", {True: 1500, False: 1500})
    seen = []
    result = edge.run(
        quick=True, out=tmp_path, workers=1, progress=lambda done, total: seen.append((done, total))
    )
    assert [row.quantity.split(",")[2].split(" (")[0] for row in result.rows] == [
        " Rad",
        " Vllm",
        " FasterTransformer",
    ]
    assert {row.key for row in result.rows} == {None}  # theory is ours, not published
    assert seen[-1] == (5, 5)
    assert (tmp_path / "edge.json").is_file()
    assert "no schedule carries more" in result.notes[0]
    assert all(row.low <= row.ours <= row.high for row in result.rows)


def test_too_few_requests_settle_nothing():
    """Control of the verdicts: from a short run the best policy is neither reproduced nor refuted."""
    case = SYSTEMS["tile law"]
    tasks = [edge.Task("tile law", Rad(), 36.3, factor, 0) for factor in (0.98, 1.02, 1.1)]
    found = [growth(case, Rad(), task.edge * task.factor, 300) for task in tasks]
    (row,) = edge._rows(tasks, found, {"tile law": 36.3})
    assert row.verdict == "not testable here"


def made(policy, *shares):
    """The row of runs at 0.98, 1.02 and 1.1 of an edge of 10/s, or the last alone; `shares`: growth, as parts of it."""
    factors = (0.98, 1.02, edge.SATURATED)[-len(shares) :]
    tasks = [edge.Task("tile law", policy, 10.0, factor, 0) for factor in factors]
    found = [
        Growth(Interval(5 * (low + high), 10 * low, 10 * high, "made up"), 10 * factor, 1e-3)
        for factor, (low, high) in zip(factors, shares, strict=True)
    ]
    (row,) = edge._rows(tasks, found, {"tile law": 10.0})
    return row


def test_the_best_policy_is_judged_on_both_sides():
    """Above, at least 1 - 1/1.02 of what comes is left over."""
    flat, steep, tenth = (-0.005, 0.005), (0.01, 0.03), (0.09, 0.11)
    assert made(Rad(), flat, steep, tenth).verdict == "reproduced"
    assert made(Rad(), steep, steep, tenth).verdict == "differs"
    assert made(Rad(), flat, flat, tenth).verdict == "differs"
    for sides in ((flat, (-0.01, 0.03)), ((-0.01, 0.03), steep)):
        assert made(Rad(), *sides, tenth).verdict == "not testable here"


def test_pure_batches_are_judged_by_their_whole_interval():
    """Carried: 11 less the growth; at most 10 are claimed, and of vLLM under the tile law 10."""
    below, around, above = (0.11, 0.13), (0.09, 0.11), (0.07, 0.09)
    for policy, verdicts in (
        (FasterTransformer(), ["reproduced", "not testable here", "differs"]),
        (Vllm(), ["differs", "reproduced", "differs"]),
    ):
        assert [made(policy, shares).verdict for shares in (below, around, above)] == verdicts
