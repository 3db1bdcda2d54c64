"""Synthetic clients: every request of the published runs, and what holds for any rates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueing.client_patterns import PATTERNS, Stage, client_pattern, draw
from queueing.data import data_folder
from queueing.tabular import read_table

FOLDER = data_folder()
needs_data = pytest.mark.skipif(FOLDER is None, reason="TANDEM_DATA names no folder with the fairness runs")

RUNS = {
    "fcfs_overload": ("overload", None),
    "vtc_overload": ("overload", 360.0),
    "vtc_pred_50_overload": ("overload", 360.0),
    "vtc_overload_multi": ("overload_multi", None),
    "vtc_dist_shift": ("dist_shift", None),
    "lcf_dist_shift": ("dist_shift", None),
    "vtc_proportional": ("proportional", None),
    "fcfs_on_off_less": ("on_off_less", None),
    "vtc_on_off_less": ("on_off_less", None),
}


def published(run: str) -> tuple[list[float], ...]:
    assert FOLDER is not None
    table = read_table(FOLDER / "fairness" / f"{run}.csv")
    return tuple(table.numbers(name) for name in ("arrival_s", "prompt_tokens", "output_tokens", "client"))


@needs_data
@pytest.mark.parametrize("run", RUNS)
def test_every_request_of_a_published_run(run: str) -> None:
    pattern, duration = RUNS[run]
    w = client_pattern(pattern, duration=duration)
    drawn = (w.arrival.tolist(), w.prompt.tolist(), w.output.tolist(), w.client.tolist())
    assert drawn == published(run)  # equal floats, not close ones
    other = client_pattern(pattern, duration=duration, rng=np.random.RandomState(43))
    assert other.arrival.tolist() != published(run)[0]


@needs_data
def test_it_is_the_first_client_that_is_on_and_off() -> None:
    """Dropping the second client's requests instead, as `client 1` may be read, gives another file."""
    arrival, _, _, client = published("vtc_on_off_less")
    minute = np.array(arrival) // 60
    odd = {u: int(np.count_nonzero((np.array(client) == u) & (minute % 2 == 1))) for u in (0, 1)}
    assert odd[0] == 0
    assert odd[1] > 500


rates = st.lists(st.sampled_from([0.1, 0.3, 1.0, 2.5, 1 / 3]), min_size=1, max_size=4)


@given(rates, st.integers(10, 60), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_requests_are_evenly_spaced_at_the_rate(
    rates: list[float], duration: int, start: int, seed: int
) -> None:
    stage = Stage(tuple(rates), float(duration), float(start), prompts=(3, 9), outputs=(1, 5))
    w = draw([stage], np.random.RandomState(seed))
    for client, rate in enumerate(rates):
        arrival = w.arrival[w.client == client]
        assert len(arrival) == int(rate * duration)
        np.testing.assert_allclose(np.diff(arrival), 1 / rate, rtol=1e-9)
        assert np.all(arrival[:1] > start + 1 / rate - 1e-9)
        assert np.all(arrival[:1] < start + 2 / rate)
    assert set(w.prompt) <= set(range(3, 9))
    assert set(w.output) <= set(range(1, 5))
    off = draw([Stage(tuple(rates), 60.0, on_off=7.0)], np.random.RandomState(seed))
    on = draw([Stage(tuple(rates), 60.0)], np.random.RandomState(seed))
    assert off == on[(on.client != 0) | (on.arrival // 7 % 2 == 0)]


def test_bad_input_says_what_to_do() -> None:
    for wrong, message in (
        ({"rates": ()}, "finite rate > 0"),
        ({"rates": (1.0, 0.0)}, "finite rate > 0"),
        ({"duration": 0.0}, "duration > 0"),
        ({"on_off": -1.0}, "seconds > 0, or None"),
        ({"prompts": (5, 5)}, "prompts are drawn from 5 to below 5"),
        ({"outputs": (0, 5)}, "outputs are drawn from 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Stage(**{"rates": (1.0,), "duration": 10.0, **wrong})
    with pytest.raises(ValueError, match="no client sends"):
        draw([Stage((0.01,), 10.0)], np.random.RandomState(0))
    with pytest.raises(ValueError, match=f"there are {', '.join(PATTERNS)}"):
        client_pattern("poisson")
    with pytest.raises(ValueError, match="3 stages"):
        client_pattern("dist_shift", duration=5.0)
