"""The queueing network: stations where a request spends work, nodes that share their time, and how requests move.

Notation: station s is one kind of work (prefill, decode) on one group of nodes; γ_s requests/s enter it from outside,
and a request that leaves s goes on to t with probability P_st.  Throughputs solve the traffic equations

    λ_t = γ_t + Σ_s λ_s P_st ,      that is      λ = (I - Pᵀ)⁻¹ γ .

A visit to s takes w_s seconds of a node in full batches (minimal work).  Stations that share a group of g nodes need
Σ λ_s w_s < g, so that the group's load is ρ = Σ λ_s w_s / g, and the largest multiple of the arrivals that the network
can carry, by this count, is 1 / max ρ.  That is a necessary condition for every scheduler; it suffices for RAD on one
group (arXiv 2508.01002, theorem 2, cited), not for every work-conserving scheduler in a network of several.

| instance | groups | stations |
|---|---|---|
| :meth:`Network.colocated` | one, of g nodes | prefill → decode, both on it |
| :meth:`Network.disaggregated` | prefill nodes, decode nodes | prefill on one → decode on the other |
| :meth:`Network.hybrid` | prefill nodes, nodes that do both | a share of prompts is prefilled on each |

RAD's network is the first: w_prefill = P·w and w_decode = D·w with  w = 1/(c_Lin·b_col) + 1/c_nLin,  prompts in chunks
of b_lcm = LCM(b_row, b_col, b_red), g nodes behind a uniformly random router.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from queueing.models.demand import Demand, Stairs
from queueing.models.iteration_time import TileLaw

__all__ = ["Network", "Station", "minimal_work"]


@dataclass(frozen=True, slots=True)
class Station:
    """One kind of work on one group of nodes.

    Args:
        name: of the station.
        group: name of the nodes it runs on.
        work: seconds of a node that a visit takes in full batches.
        arrivals: requests/s that enter from outside.

    Raises:
        ValueError: a number is negative or not finite.
    """

    name: str
    group: str
    work: float
    arrivals: float = 0.0

    def __post_init__(self) -> None:
        for field in ("work", "arrivals"):
            value = getattr(self, field)
            if not 0 <= value < math.inf:
                raise ValueError(
                    f"{field} of station {self.name!r} must be a finite number >= 0, not {value}"
                )


class Network:
    """Stations, groups of nodes and routing between stations, as a directed graph.

    Args:
        stations: every kind of work.
        nodes: number of nodes of each group.
        routing: {(from, to): probability}; what is missing to 1 leaves the network.

    Raises:
        ValueError: names do not match, probabilities do not add up, or requests would circulate for ever.
    """

    def __init__(
        self,
        stations: Sequence[Station],
        nodes: Mapping[str, int],
        routing: Mapping[tuple[str, str], float],
    ) -> None:
        names = [s.name for s in stations]
        if len(set(names)) < len(names) or not names:
            raise ValueError("a network needs stations, each with a name of its own")
        if strange := {s.group for s in stations} - set(nodes):
            raise ValueError(f"no nodes are given for {sorted(strange)}; give their number")
        if any(n != int(n) or n < 1 for n in nodes.values()):
            raise ValueError(f"every group needs a whole number of nodes, at least 1, not {dict(nodes)}")
        self.stations, self.nodes = tuple(stations), dict(nodes)
        self.graph: Any = nx.DiGraph()
        for station in stations:
            self.graph.add_node(station.name, station=station)
        for (start, end), probability in routing.items():
            if start not in names or end not in names:
                raise ValueError(f"routing names {start!r} -> {end!r}, and one of them is no station")
            if not 0 <= probability <= 1:
                raise ValueError(
                    f"the share of {start!r} that goes on to {end!r} must be in [0, 1], not {probability}"
                )
            if probability > 0:
                self.graph.add_edge(start, end, share=float(probability))
        for name in names:
            if sum(share for _, _, share in self.graph.out_edges(name, data="share")) > 1 + 1e-12:
                raise ValueError(
                    f"more than all requests go on from {name!r}; let the shares add up to at most 1"
                )
        leaving = {name for name in names if self._leaves(name)}
        reach = (
            set(leaving).union(*(nx.ancestors(self.graph, name) for name in leaving))
            if leaving
            else set[str]()
        )
        if stuck := set(names) - reach:
            raise ValueError(f"requests never leave {sorted(stuck)}; let some share of them leave")

    def _leaves(self, name: str) -> bool:
        return sum(share for _, _, share in self.graph.out_edges(name, data="share")) < 1 - 1e-12

    def routing(self) -> NDArray[np.float64]:
        """P, with P[s, t] the share of station s that goes on to station t, in the order of `stations`."""
        return nx.to_numpy_array(self.graph, [s.name for s in self.stations], weight="share")

    def throughputs(self) -> dict[str, float]:
        """λ by station (requests/s): the solution of the traffic equations."""
        gamma = np.array([s.arrivals for s in self.stations])
        rates = np.linalg.solve(np.eye(len(gamma)) - self.routing().T, gamma)
        return {s.name: float(rate) for s, rate in zip(self.stations, rates, strict=True)}

    def work(self) -> dict[str, float]:
        """Seconds of a node that a request from outside asks of each station in the mean, all its visits together."""
        outside = sum(s.arrivals for s in self.stations)
        if outside <= 0:
            raise ValueError("no request arrives from outside; give a station its arrivals")
        rates = self.throughputs()
        return {s.name: rates[s.name] * s.work / outside for s in self.stations}

    def loads(self) -> dict[str, float]:
        """ρ by group: seconds of work that arrive per second and node."""
        rates = self.throughputs()
        return {
            group: sum(rates[s.name] * s.work for s in self.stations if s.group == group) / nodes
            for group, nodes in self.nodes.items()
        }

    def bottleneck(self) -> tuple[str, float]:
        """The group with the largest load, and the largest multiple of the arrivals that it leaves room for."""
        loads = self.loads()
        group = max(loads, key=lambda name: loads[name])
        return group, math.inf if loads[group] == 0 else 1 / loads[group]

    def draw(self, axes: Any) -> None:
        """Draw stations, shares and loads onto matplotlib axes."""
        loads = self.loads()
        layers = {name: k for k, layer in enumerate(nx.topological_generations(nx.condensation(self.graph)))
                  for scc in layer for name in nx.condensation(self.graph).nodes[scc]["members"]}  # fmt: skip
        for name, layer in layers.items():
            self.graph.nodes[name]["layer"] = layer
        place = nx.multipartite_layout(self.graph, subset_key="layer")
        labels = {s.name: f"{s.name}\n{s.group}, load {loads[s.group]:.2f}" for s in self.stations}
        nx.draw_networkx(self.graph, place, labels=labels, ax=axes, node_size=3500, node_color="white",
                         edgecolors="black", font_size=8)  # fmt: skip
        shares = {(a, b): f"{share:.3g}" for a, b, share in self.graph.edges(data="share")}
        nx.draw_networkx_edge_labels(self.graph, place, shares, ax=axes, font_size=8)
        axes.set_axis_off()

    # --- instances -------------------------------------------------------------------------------------------------

    @classmethod
    def colocated(cls, rate: float, prefill: float, decode: float, nodes: int = 1) -> Network:
        """Prefill and decode share every node; `prefill` and `decode` are seconds of work per request."""
        stations = (Station("prefill", "nodes", prefill, rate), Station("decode", "nodes", decode))
        return cls(stations, {"nodes": nodes}, {("prefill", "decode"): 1.0})

    @classmethod
    def rad(cls, law: TileLaw, demand: Demand, nodes: int = 1) -> Network:
        """RAD's network: minimal work of a request in full tiles, w = τ/b + ν seconds a token (2508.01002, eq. 7)."""
        prefill, decode = minimal_work(Stairs.of(law.params(), law.tile), demand)
        return cls.colocated(demand.rate, prefill, decode, nodes)

    @classmethod
    def disaggregated(cls, rate: float, prefill: float, decode: float, nodes: tuple[int, int]) -> Network:
        """Prefill on the first group of nodes, decode on the second."""
        stations = (
            Station("prefill", "prefill nodes", prefill, rate),
            Station("decode", "decode nodes", decode),
        )
        return cls(stations, dict(zip(("prefill nodes", "decode nodes"), nodes, strict=True)),
                   {("prefill", "decode"): 1.0})  # fmt: skip

    @classmethod
    def hybrid(
        cls, rate: float, prefill: float, decode: float, nodes: tuple[int, int], share: float
    ) -> Network:
        """A `share` of the prompts on nodes of their own; the others, and every decode, on nodes that do both."""
        if not 0 <= share <= 1:
            raise ValueError(f"the share of prompts on nodes of their own must be in [0, 1], not {share}")
        stations = (
            Station("prefill apart", "prefill nodes", prefill, rate * share),
            Station("prefill", "nodes", prefill, rate * (1 - share)),
            Station("decode", "nodes", decode),
        )
        routing = {("prefill apart", "decode"): 1.0, ("prefill", "decode"): 1.0}
        return cls(stations, dict(zip(("prefill nodes", "nodes"), nodes, strict=True)), routing)


def minimal_work(stairs: Stairs, demand: Demand) -> tuple[float, float]:
    """Seconds of a node that prefill and decode of a request take at least: full batches at the best time per token."""
    token = min(seconds / n for n, seconds in enumerate(stairs.seconds, start=1))
    prompt = demand.prefill * (token + stairs.per_prompt_token) + stairs.per_pair * demand.pairs
    return prompt, demand.decodes * token + stairs.per_context * demand.context
