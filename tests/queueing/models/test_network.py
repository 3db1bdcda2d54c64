"""The queueing network: traffic equations, loads, and where its count of work meets the capacity programs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queueing.models.composition import Composition
from queueing.models.demand import Demand, Limits, Stairs
from queueing.models.iteration_time import Roofline, TileLaw
from queueing.models.network import Network, Station, minimal_work

LAW = TileLaw(128, 4e-3, 5e-6)


def demand(rate: float, prompt: int, output: int) -> Demand:
    """One class of equal requests."""
    return Demand("all", rate, prompt, output, prompt * output + output * (output + 1) / 2, prompt**2 / 2)


@st.composite
def open_networks(draw):
    """Up to five stations, any routing from which requests leave."""
    n = draw(st.integers(1, 5))
    shares = draw(st.lists(st.lists(st.floats(0, 1), min_size=n + 1, max_size=n + 1), min_size=n, max_size=n))
    routing = {}
    for i, row in enumerate(shares):
        whole = sum(row) + 0.1
        routing |= {(str(i), str(j)): row[j] / whole for j in range(n)}
    stations = [Station(str(i), "all", draw(st.floats(0, 2)), draw(st.floats(0.1, 3))) for i in range(n)]
    return Network(stations, {"all": draw(st.integers(1, 4))}, routing)


@given(open_networks())
def test_what_flows_in_flows_out(network):
    """Conservation at every station and of the whole; loads add up over stations; work is per outside request."""
    rates = np.array(list(network.throughputs().values()))
    outside = np.array([s.arrivals for s in network.stations])
    routing = network.routing()
    assert rates == pytest.approx(outside + routing.T @ rates)
    assert (rates * (1 - routing.sum(axis=1))).sum() == pytest.approx(outside.sum())
    busy = sum(r * s.work for r, s in zip(rates, network.stations, strict=True))
    assert network.loads()["all"] * network.nodes["all"] == pytest.approx(busy)
    assert sum(network.work().values()) * outside.sum() == pytest.approx(busy)


def test_a_walk_through_the_network_visits_as_the_equations_say():
    """4 standard errors of 20,000 walks (error probability below 1e-4 per station); the control is a wrong routing."""
    routing = {("a", "b"): 0.7, ("b", "a"): 0.3, ("b", "c"): 0.5, ("c", "c"): 0.2}
    stations = [Station(name, "all", 1.0, 1.0 if name == "a" else 0.0) for name in "abc"]
    network = Network(stations, {"all": 1}, routing)
    rng, visits = np.random.default_rng(0), np.zeros((20_000, 3))
    matrix = np.hstack([network.routing(), 1 - network.routing().sum(axis=1, keepdims=True)])
    for walk in visits:
        at = 0
        while at < 3:
            walk[at] += 1
            at = int(rng.choice(4, p=matrix[at]))
    error = 4 * visits.std(axis=0) / np.sqrt(len(visits))
    stated = np.array(list(network.throughputs().values()))
    assert (abs(visits.mean(axis=0) - stated) < error + 1e-12).all()
    wrong = Network(stations, {"all": 1}, routing | {("b", "a"): 0.2})
    assert (abs(visits.mean(axis=0) - np.array(list(wrong.throughputs().values()))) > error).any()


@given(st.floats(0.1, 30), st.integers(1, 8), st.integers(1, 500), st.integers(1, 4))
def test_rads_network_has_the_capacity_of_the_program(rate, tiles, output, nodes):
    """In the tile model without attention the count of work and the composition program are the same number."""
    one = demand(rate, 128 * tiles, output)
    group, multiple = Network.rad(LAW, one, nodes).bottleneck()
    program = Composition(Stairs.of(LAW.params(), 128), [one], Limits(128, nodes=nodes))
    assert group == "nodes"
    assert multiple == pytest.approx(program.solve().theta, rel=1e-6)


def test_the_count_of_work_is_an_upper_bound_elsewhere():
    """With memory that binds, the network's count is not sharp: it does not know batches."""
    law = Roofline(0.0234, 0.007, 0.000091, 0.17e-6, 5e-9)
    stairs, one = Stairs.of(law.params(), 512), demand(1.0, 2000, 400)
    count = Network.colocated(1.0, *minimal_work(stairs, one)).bottleneck()[1]
    theta = Composition(stairs, [one], Limits(512, 50_000, 128)).solve().theta
    assert theta < 0.99 * count


@given(st.floats(0.01, 0.5), st.floats(0.01, 0.5), st.integers(1, 6), st.integers(1, 6))
def test_a_split_carries_no_more_than_sharing(prefill, decode, first, second):
    """Static splits lose unless the work divides like the nodes; a hybrid lies between."""
    shared = Network.colocated(1.0, prefill, decode, first + second).bottleneck()[1]
    split = Network.disaggregated(1.0, prefill, decode, (first, second)).bottleneck()[1]
    hybrid = [
        Network.hybrid(1.0, prefill, decode, (first, second), s / 50).bottleneck()[1] for s in range(51)
    ]
    assert split <= shared * (1 + 1e-9)
    assert split <= max(hybrid) * (1 + 1e-9)
    assert max(hybrid) <= shared * (1 + 1e-9)


def test_a_split_that_divides_like_the_work_loses_nothing():
    assert Network.disaggregated(1.0, 0.2, 0.6, (1, 3)).bottleneck()[1] == pytest.approx(
        Network.colocated(1.0, 0.2, 0.6, 4).bottleneck()[1]
    )


def test_a_drawing_names_stations_shares_and_loads():
    plt = pytest.importorskip("matplotlib.pyplot")
    figure, axes = plt.subplots()
    Network.hybrid(1.0, 0.2, 0.6, (1, 1), 0.25).draw(axes)
    said = {text.get_text() for text in axes.texts}
    plt.close(figure)
    assert "prefill apart\nprefill nodes, load 0.05" in said
    assert "1" in said


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Station("a", "g", -1.0), "work of station"),
        (lambda: Station("a", "g", 1.0, float("nan")), "arrivals of station"),
        (lambda: Network([], {}, {}), "needs stations"),
        (lambda: Network([Station("a", "g", 1.0)], {}, {}), "no nodes are given"),
        (lambda: Network([Station("a", "g", 1.0)], {"g": 0}, {}), "whole number of nodes"),
        (lambda: Network([Station("a", "g", 1.0)], {"g": 1}, {("a", "b"): 1.0}), "no station"),
        (lambda: Network([Station("a", "g", 1.0)], {"g": 1}, {("a", "a"): 1.5}), "must be in"),
        (lambda: Network([Station("a", "g", 1.0)], {"g": 1}, {("a", "a"): 1.0}), "never leave"),
        (
            lambda: Network(
                [Station("a", "g", 1.0), Station("b", "g", 1.0)], {"g": 1}, {("a", "b"): 0.6, ("a", "a"): 0.6}
            ),
            "more than all",
        ),
        (lambda: Network([Station("a", "g", 1.0)], {"g": 1}, {}).work(), "no request arrives"),
        (lambda: Network.hybrid(1.0, 1.0, 1.0, (1, 1), 2.0), "share of prompts"),
    ],
)
def test_bad_networks_are_refused_in_a_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence) as found:
        make()
    assert "\n" not in str(found.value)
