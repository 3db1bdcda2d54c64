"""Multi-buffer batching: buffers of their own, sizes, timers; one buffer is BATCH."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.multi_buffer import MultiBuffer
from queueing.one_shot import OneShotTrace, Pool, Requests, serve

POOL = Pool(np.full((2, 4, 6), 0.5) + np.arange(6) / 8, None)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Requests, MultiBuffer]:
    n = draw(st.integers(1, 20))
    gaps = draw(st.lists(st.integers(0, 6), min_size=n, max_size=n))
    kinds = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    cuts = tuple(sorted(draw(st.sets(st.integers(0, 2)))))
    buffers = len(cuts) + 1
    policy = MultiBuffer(
        cuts,
        tuple(draw(st.lists(st.integers(1, 6), min_size=buffers, max_size=buffers))),
        tuple(t / 8 for t in draw(st.lists(st.integers(0, 12), min_size=buffers, max_size=buffers))),
        tuple(draw(st.lists(st.integers(0, 1), min_size=buffers, max_size=buffers))),
    )
    return Requests(np.cumsum(gaps) / 8, kind=kinds), policy


def by_hand(requests: Requests, policy: MultiBuffer) -> list[tuple[float, int, tuple[int, ...]]]:
    """(time, configuration, members) of all batches, buffer by buffer: what a reader would do with pencil and paper."""
    batches: list[tuple[float, int, tuple[int, ...]]] = []
    buffer = np.searchsorted(policy.cuts, requests.kind)
    for i, (size, timeout, k) in enumerate(
        zip(policy.sizes, policy.timeouts, policy.configurations, strict=True)
    ):
        mine: list[int] = []
        for r in np.flatnonzero(buffer == i).tolist():
            now = requests.arrival[r]
            # whoever comes at the very instant of the timer is still taken
            if mine and requests.arrival[mine[0]] + timeout < now:
                batches.append((requests.arrival[mine[0]] + timeout, k, tuple(mine)))
                mine = []
            mine.append(r)
            if len(mine) == size:
                batches.append((now, k, tuple(mine)))
                mine = []
        if mine:
            batches.append((requests.arrival[mine[0]] + timeout, k, tuple(mine)))
    return sorted(batches)


def batches_of(trace: OneShotTrace) -> list[tuple[float, int, tuple[int, ...]]]:
    return sorted(
        (trace.begin[m], int(trace.config[m]), tuple(np.flatnonzero(trace.batch == m).tolist()))
        for m in range(len(trace.begin))
    )


@given(cases())
def test_batches_are_those_of_a_reader(case: tuple[Requests, MultiBuffer]) -> None:
    requests, policy = case
    assert batches_of(serve(requests, POOL, policy)) == by_hand(requests, policy)


def test_a_reader_finds_another_policy_out() -> None:
    """Control: one timer longer, or one request more to a batch, is not what the reader expects."""
    requests = Requests([0.0, 0.1, 0.2, 1.0], kind=[0, 3, 0, 0])
    policy = MultiBuffer((1,), (2, 2), (0.5, 0.5), (0, 1))
    assert batches_of(serve(requests, POOL, policy)) == by_hand(requests, policy)
    for wrong in (
        MultiBuffer((1,), (3, 2), (0.5, 0.5), (0, 1)),
        MultiBuffer((1,), (2, 2), (0.5, 0.6), (0, 1)),
    ):
        assert batches_of(serve(requests, POOL, wrong)) != by_hand(requests, policy)


@given(cases())
def test_none_waits_longer_than_its_timer_and_buffers_do_not_mix(case: tuple[Requests, MultiBuffer]) -> None:
    requests, policy = case
    trace = serve(requests, POOL, policy)
    buffer = np.searchsorted(policy.cuts, requests.kind)
    assert trace.served.all()
    assert (trace.start - requests.arrival <= np.array(policy.timeouts)[buffer] + 1e-12).all()
    for m in range(len(trace.begin)):
        assert len(set(buffer[trace.batch == m].tolist())) == 1


def test_one_value_counts_for_all_buffers_and_one_is_a_call_each() -> None:
    requests = Requests([0.0, 0.0, 0.5], kind=[0, 3, 2])
    one, all_ = MultiBuffer((1,), (2,), (0.25,), (0,)), MultiBuffer((1,), (2, 2), (0.25, 0.25), (0, 0))
    assert batches_of(serve(requests, POOL, one)) == batches_of(serve(requests, POOL, all_))
    for alone in (MultiBuffer(sizes=(1,)), MultiBuffer((0, 1, 2), timeouts=(0.0,))):
        assert serve(requests, POOL, alone).start == pytest.approx(requests.arrival)
    assert (
        len(serve(requests, POOL, MultiBuffer(timeouts=(1.0,))).begin) == 1
    )  # control: one buffer, one batch


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cuts": (3, 2)}, "kinds that rise"),
        ({"cuts": (-1,)}, "kinds that rise"),
        ({"sizes": (0,)}, "at least 1"),
        ({"timeouts": (-0.1,)}, "finite seconds"),
        ({"timeouts": ()}, "finite seconds"),
        ({"configurations": (-1,)}, "numbers >= 0"),
        ({"cuts": (1,), "sizes": (1, 2, 3)}, "give 1 or 2"),
    ],
)
def test_bad_parameters_are_one_sentence(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiBuffer(**arguments)


TIGHT = Pool([[[1.0, np.inf, 1.0], [1.0, 1.5, 2.0]], [[1.0, 1.5, np.inf], [np.inf, 1.5, 2.0]]], None)


def test_a_buffer_closes_at_what_its_configuration_can_run() -> None:
    """Kind 0 goes alone under configuration 0 and in twos under 1; kind 1, apart, in threes."""
    for kind, cuts, configuration, largest in (
        (0, (), 0, 1), (1, (), 0, 1), (0, (0,), 0, 1), (1, (0,), 0, 3), (0, (0,), 1, 2),
    ):  # fmt: skip
        policy = MultiBuffer(cuts, (3,), configurations=(configuration, 0) if cuts else (configuration,))
        trace = serve(Requests(np.zeros(6), kind=[kind] * 6), TIGHT, policy)
        assert trace.count.tolist() == [largest] * (6 // largest)
    assert serve(Requests(np.zeros(6)), POOL, MultiBuffer(sizes=(3,))).count.tolist() == [3, 3]  # control


def test_a_configuration_that_cannot_run_a_kind_of_its_buffer_is_refused() -> None:
    with pytest.raises(ValueError, match="configuration 1 of MultiBuffer cannot run a request of kind 1"):
        serve(Requests([0.0]), TIGHT, MultiBuffer(configurations=(1,)))
    serve(Requests([0.0]), TIGHT, MultiBuffer((0,), configurations=(1, 0)))  # control: a buffer of its own
