"""The experiment `slai`: its arithmetic on made-up curves, and a small run of the whole."""

import numpy as np
import pytest

from validation.experiments import slai
from validation.experiments.slai_plots import CONVENTIONS, write_plots
from validation.published import keys_of


def test_every_policy_sees_the_same_requests_at_every_rate():
    """Common random numbers: a rate only scales the times of arrival."""
    slow, fast = slai.workload(3, 0.5, 50), slai.workload(3, 1.0, 50)
    assert np.array_equal(slow.prompt, fast.prompt)
    assert np.array_equal(slow.tbt, fast.tbt)
    assert slow.arrival == pytest.approx(2 * fast.arrival)
    assert not np.array_equal(slow.prompt, slai.workload(4, 0.5, 50).prompt)  # negative control


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The whole experiment at a size of seconds: the figures mean nothing, the shape is that of the full one."""
    patch = pytest.MonkeyPatch()
    patch.setattr(slai, "QUICK", {"seeds": 2, "requests": 60, "sensitivity_seeds": 2})
    patch.setattr(slai, "SENSITIVITY_RATES", (0.8, 1.6))
    folder = tmp_path_factory.mktemp("slai")
    calls = []
    result = slai.run(
        quick=True, out=folder, workers=1, progress=lambda done, total: calls.append((done, total))
    )
    patch.undo()
    return result, folder, calls


def test_rows_are_those_the_project_promises(small):
    result, _, _ = small
    quantities = [row.quantity for row in result.rows]
    for measure in ("prefill_end", "ttft"):
        for baseline in ("sarathi fcfs", "sarathi spf"):
            assert f"capacity gain, {measure}, over {baseline}" in quantities
    assert len(set(quantities)) == len(quantities)
    headline = next(r for r in result.rows if r.quantity == "capacity gain, prefill_end, over sarathi fcfs")
    assert (headline.published, headline.unit) == (26.0, "percent")
    assert {row.key for row in result.rows} - {None} == keys_of("slai")
    assert not any(row.published is not None and row.key is None for row in result.rows)


def test_the_verdict_on_the_gain_takes_the_range_that_a_note_gives(small):
    """The published figure lies in the union over both coefficients, and a single wide interval in it suffices."""
    narrow = {"prefill_end, over sarathi fcfs low": 27.0, "prefill_end, over sarathi fcfs high": 29.0}
    wide = {"prefill_end, over sarathi fcfs low": 25.0, "prefill_end, over sarathi fcfs high": 28.0}
    assert slai.reach_of([narrow, wide], "prefill_end", "sarathi fcfs") == (25.0, 29.0)
    assert any("kappa and pi" in note for note in small[0].notes)


def test_seeds_that_never_cross_are_reported():
    tasks = [
        slai.Task(seed, rate, 40, False, 1.0, 1.0, tuple(slai.POLICIES))
        for seed in (0, 1)
        for rate in (0.2, 0.4)
    ]
    main = slai.Records([record for task in tasks for record in slai.run_task(task)])
    blank = {f"{slai.MEASURES[0]}, over {slai.BASELINES[0]} {end}": 0.0 for end in ("low", "high")}
    notes = list(slai.notes_of(main, [blank]))
    assert any(
        note.startswith("vllm: the median prefill_end crosses 0.5 s at no rate in 2 of 2") for note in notes
    )


def test_tables_cover_every_policy_rate_and_convention(small):
    result, _, _ = small
    for convention in CONVENTIONS:
        table = result.tables[f"{convention} (s)"]
        assert {(e["policy"], e["rate"]) for e in table} == {
            (p, r) for p in slai.POLICIES for r in slai.RATES
        }


def test_where_the_last_chunk_emits_the_two_measures_coincide(small):
    result, _, _ = small
    for entry in result.tables["last chunk emits (s)"]:
        assert entry["median prefill_end"] == entry["median ttft"]
    for entry in result.tables["decode emits first (s)"]:  # negative control
        assert entry["median prefill_end"] < entry["median ttft"]


def test_progress_counts_every_task(small):
    _, _, calls = small
    assert [done for done, _ in calls] == list(range(1, len(calls) + 1))
    assert {total for _, total in calls} == {len(calls)}


def test_plots_are_written_beside_their_data(small):
    result, folder, _ = small
    names = {path.name for path in folder.iterdir()}
    assert {"median_ttft.png", "median_ttft.svg", "p99_tbt.png", "p99_by_prompt.png"} <= names
    assert all(path.stat().st_size > 1000 for path in write_plots(result, folder))


def test_two_workers_give_what_one_gives():
    tasks = [slai.Task(seed, 1.0, 40, False, 1.0, 1.0, ("sarathi fcfs",)) for seed in range(3)]
    quiet = lambda done, total: None  # noqa: E731
    one, two = slai.simulate_all(tasks, 1, quiet), slai.simulate_all(tasks, 2, quiet)
    assert repr(one) == repr(two)  # to the last digit; nan, where a bucket is empty, equals itself
