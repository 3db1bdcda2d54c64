"""Frontiers of subnets: dominance, properties P1-P3, the calibration, bytes."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueing.models import supernet
from queueing.models.supernet import OFA_RESNET, SLO, Frontier, SupernetMemory, ofa_resnet


@st.composite
def frontiers(draw: st.DrawFn, most: int = 6) -> Frontier:
    """Subnets in any order on a coarse grid, so that ties, duplicates and dominated ones are common."""
    subnets, batches = draw(st.integers(1, most)), draw(st.integers(1, 4))
    accuracy = draw(st.lists(st.integers(70, 75), min_size=subnets, max_size=subnets))
    steps = [draw(st.lists(st.integers(0, 3), min_size=batches, max_size=batches)) for _ in range(subnets)]
    return Frontier(np.array(accuracy) / 100, 1.0 + np.cumsum(steps, axis=1))


def dominates(f: Frontier, j: int, k: int) -> bool:
    """In words of the definition, cell by cell."""
    no_worse = f.accuracy[j] >= f.accuracy[k] and all(
        a <= b for a, b in zip(f.latency[j], f.latency[k], strict=True)
    )
    return no_worse and bool(f.accuracy[j] > f.accuracy[k] or any(f.latency[j] < f.latency[k]))


def rows(f: Frontier) -> set[tuple[float, ...]]:
    return {(float(f.accuracy[k]), *map(float, f.latency[k])) for k in range(len(f))}


@given(frontiers())
def test_pareto_keeps_what_nothing_dominates(f: Frontier):
    kept = f.pareto()
    alone = [k for k in range(len(f)) if not any(dominates(f, j, k) for j in range(len(f)))]
    assert rows(kept) == rows(Frontier(f.accuracy[alone], f.latency[alone]))
    assert len(kept) == len(rows(kept))  # of equals one
    assert (np.diff(kept.accuracy) >= 0).all()
    assert rows(kept.pareto()) == rows(kept)


def test_a_dominated_subnet_is_there_to_be_removed():
    """Control: the law above has something to find, and the curves of a Pareto set may cross (P2 is not implied)."""
    f = Frontier([0.7, 0.8, 0.75], [[2.0, 3.0], [1.0, 2.0], [1.0, 2.5]])
    assert f.pareto().accuracy.tolist() == [0.8]
    assert not f.by_accuracy
    crossing = Frontier([0.7, 0.8], [[1.0, 4.0], [2.0, 3.0]])
    assert len(crossing.pareto()) == 2
    assert not crossing.by_accuracy


@given(frontiers())
def test_latencies_go_by_accuracy_where_no_better_subnet_is_faster(f: Frontier):
    """Pair by pair, cell by cell, as P2 is worded."""
    pairs = [
        (low, high) for low in range(len(f)) for high in range(len(f)) if f.accuracy[low] < f.accuracy[high]
    ]
    assert f.by_accuracy == all(
        a <= b for low, high in pairs for a, b in zip(f.latency[low], f.latency[high], strict=True)
    )


def test_equally_accurate_subnets_may_cross():
    """P2 says nothing of them; control: either of them above a more accurate one breaks it."""
    cells = [[1.0, 4.0], [2.0, 3.0]]
    assert Frontier([0.7, 0.7], cells).by_accuracy
    assert Frontier([0.7, 0.7, 0.8], [*cells, [2.0, 4.0]]).by_accuracy
    assert not Frontier([0.7, 0.7, 0.8], [*cells, [1.5, 4.0]]).by_accuracy
    assert not Frontier([0.7, 0.7, 0.8], [*cells, [2.0, 3.5]]).by_accuracy


@given(frontiers(), st.floats(0.5, 12.0), st.integers(1, 8))
def test_capacity_is_the_best_batch_within_the_limit(f: Frontier, slo: float, servers: int):
    if f.latency[:, 0].min() > slo:
        with pytest.raises(ValueError, match="fastest subnet"):
            f.capacity(slo, servers)
        return
    for k, (rate, most) in enumerate(zip(f.capacity(slo, servers), f.largest_within(slo), strict=True)):
        fitting = [b for b in range(1, f.largest_batch + 1) if f.latency[k, b - 1] <= slo]
        assert most == max(fitting, default=0)
        assert rate == pytest.approx(servers * max((b / f.latency[k, b - 1] for b in fitting), default=0.0))


@given(frontiers(), st.floats(0.05, 20.0), st.integers(1, 3))
def test_fluid_worth_is_the_best_of_two_subnets(f: Frontier, rate: float, servers: int):
    """Two constraints: some optimum mixes at most two subnets, or leaves some of the load or of the time."""
    slo = 20.0
    most, acc = f.capacity(slo, servers), f.accuracy
    best = max(a * min(rate, c) for a, c in zip(acc, most, strict=True))
    for j in range(len(f)):
        for k in range(len(f)):
            if most[j] > rate > most[k]:
                share = (1 / rate - 1 / most[j]) / (1 / most[k] - 1 / most[j])  # of the load that k serves
                best = max(best, rate * (share * acc[k] + (1 - share) * acc[j]))
    assert f.fluid_worth(rate, slo, servers) == pytest.approx(best)


def test_calibration_meets_both_capacities():
    f = ofa_resnet()
    assert f.accuracy.tolist() == list(OFA_RESNET)
    capacity = f.capacity(SLO, 8)
    assert capacity[[0, -1]] == pytest.approx([8000.0, 2000.0])
    assert f.by_accuracy
    assert f.trades
    assert len(f.pareto()) == len(f)
    # the caution: 4 ms per request at the largest batch would miss the limit
    assert f.largest_within(SLO)[-1] == 9 < f.largest_batch
    assert f.latency[-1, -1] > SLO
    # control: on hardware of another speed the rates are others
    assert f.scaled(1.2).capacity(SLO, 8)[0] == pytest.approx(8000 / 1.2)
    assert ofa_resnet(scale=1.2).latency == pytest.approx(f.scaled(1.2).latency)


@pytest.mark.parametrize("power", [0.9, 0.95, 1.0])
@pytest.mark.parametrize("fixed", [0.0, 0.004])
def test_calibration_holds_for_every_form(power: float, fixed: float):
    capacity = ofa_resnet(power=power, fixed=fixed).capacity(SLO * (1 + 1e-9), 8)
    assert capacity[0] == pytest.approx(8000.0)
    assert capacity[-1] == pytest.approx(2000.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Frontier([], np.zeros((0, 3))), "empty"),
        (lambda: Frontier([0.7], [[1.0], [2.0]]), "shape"),
        (lambda: Frontier([73.8], [[1.0]]), "share"),
        (lambda: Frontier([0.7], [[1.0, np.inf]]), "finite"),
        (lambda: Frontier([0.7], [[1.0, 0.5]]), "faster for a batch of 2 than of 1"),
        (lambda: ofa_resnet().largest_within(0.001), "fastest subnet"),
        (lambda: ofa_resnet().capacity(SLO, 0), "0 servers"),
        (lambda: ofa_resnet().fluid_worth(0.0, SLO, 8), "0.0 requests"),
        (lambda: ofa_resnet((0.8, 0.7)), "do not rise"),
        (lambda: ofa_resnet(rates=(2000.0, 8000.0)), "slopes"),
        (lambda: ofa_resnet(rates=(8000.0, 100.0)), "longer than"),
        (lambda: ofa_resnet(power=2.0), "power"),
        (lambda: ofa_resnet(slo=np.nan), "a limit of nan s"),
        (lambda: ofa_resnet(slo=np.inf), "a limit of inf s"),
        (lambda: ofa_resnet(rates=(0.0, 2000.0)), "rates of \\(0.0, 2000.0\\)"),
        (lambda: ofa_resnet(rates=(8000.0, np.nan)), "rates of \\(8000.0, nan\\)"),
        (lambda: SupernetMemory(0.0, 1.0), "weights"),
        (lambda: SupernetMemory(1.0, 0.0).subnets_for([2.0]), "statistics"),
    ],
)
def test_bad_input_is_one_sentence(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@given(st.floats(1.0, 1e9), st.floats(0.001, 0.1), st.lists(st.floats(1.0, 1e9), max_size=5))
def test_bytes_break_even_where_it_says(weights: float, share: float, models: list[float]):
    memory = SupernetMemory(weights, weights * share)
    most = memory.subnets_for(models)
    assert memory.saving(models, most + 1) < 1 + 1e-9
    if most:
        assert memory.saving(models, most) >= 1 - 1e-9


def test_examples():
    assert doctest.testmod(supernet).failed == 0
    assert doctest.testmod(supernet).attempted > 0
