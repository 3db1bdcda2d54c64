"""Policies by name: what the command line understands, and what it says of the rest."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

import policies
from policies import Admission, Cost, Lift, Order, Rad, Sarathi, Slai, Vtc, Wait
from policies.catalogue import classes, named, names, router_named, router_names
from queueing.policy import Policy


def test_names_are_the_pages():
    assert set(names()) == {
        "a_min", "batching_switch", "chunk_only", "deficit_round_robin", "faster_transformer", "fcfs", "gittins",
        "hybrid_only", "mc_sf", "nested_wait", "orca", "rad", "sarathi", "slai", "vllm", "vtc", "vtc_slai", "wait",
    }  # fmt: skip
    assert "power_of_d" in router_names()


def test_every_name_makes_its_policy():
    for name, cls in classes(Policy).items():
        assert named(name) == named(name.replace("_", "-")) == cls()
    for name in router_names():
        assert router_named(name).name


def test_a_new_export_is_found():
    class NewIdea(Policy):
        pass

    package: Any = SimpleNamespace(__all__=["NewIdea", "names"], NewIdea=NewIdea, names=names)
    assert classes(Policy, package) == {"new_idea": NewIdea}


@pytest.mark.parametrize(
    ("name", "settings", "policy"),
    [
        ("slai", ["token-budget=256", "order=strict-spf"], Slai(token_budget=256, order=Order.STRICT_SPF)),
        ("slai", ["fixed_offset=true", "below_offset=10"], Slai(fixed_offset=True, below_offset=10.0)),
        ("Sarathi", ["order=fcfs", "admission=peak"], Sarathi(admission=Admission.PEAK)),
        ("rad", ["cycle=inf"], Rad(cycle=math.inf)),
        ("rad", ["cycle = 12"], Rad(cycle=12)),
        ("wait", ["thresholds=8/2", "outputs=64/512"], Wait(thresholds=(8, 2), outputs=(64, 512))),
        ("vtc", ["weights=1/0.5", "cost=1/4"], Vtc(weights=(1.0, 0.5), cost=Cost(1.0, 4.0))),
        ("vtc", ["cost=profiled", "lift=never"], Vtc(cost=Cost.profiled(), lift=Lift.NEVER)),
    ],
)
def test_settings_are_typed_by_the_fields(name: str, settings: list[str], policy: Policy):
    assert named(name, *settings) == policy


@pytest.mark.parametrize(
    ("name", "settings", "complaint"),
    [
        ("lifo", [], "there is no policy 'lifo'; the known ones are a_min, "),
        ("slai", ["budget=3"], "slai has no parameter 'budget'; it takes token_budget, max_num_seqs, "),
        ("slai", ["token_budget"], "a parameter is written key=value, not 'token_budget'"),
        ("wait", ["thresholds=8/x"], "thresholds of wait must be an integer, not 'x'"),
        ("vtc", ["cost=1/-2"], "a cost must not fall with tokens: "),
        ("vtc", ["cost=1/x"], 'a cost is "profiled" or up to six numbers separated by "/", not \'1/x\''),
        ("vtc_slai", ["turns=vtc"], "turns of vtc_slai is a policy of its own; set it in Python"),
        ("slai", ["token_budget=2.5"], "token_budget of slai must be an integer, not '2.5'"),
        ("slai", ["below_offset=much"], "below_offset of slai must be a number, not 'much'"),
        ("slai", ["fixed_offset=1"], "fixed_offset of slai must be true or false, not '1'"),
        ("slai", ["order=lifo"], "order of slai must be one of fifo, fcfs, spf, strict_spf, sjf, not 'lifo'"),
        ("slai", ["token_budget=0"], "token_budget of Slai must be an integer of at least 1, not 0"),
        ("rad", ["cycle=nan"], "cycle of Rad must be a whole number of prompts, at least 1, or inf, not nan"),
    ],
)
def test_one_sentence_says_what_is_wrong(name: str, settings: list[str], complaint: str):
    with pytest.raises(ValueError) as caught:
        named(name, *settings)
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


def test_routers_have_a_catalogue_of_their_own():
    with pytest.raises(
        ValueError, match="there is no router 'slai'; the known ones are join_shortest_queue, "
    ):
        router_named("slai")
    with pytest.raises(ValueError, match="round_robin has no parameter 'd'; it takes none"):
        router_named("round_robin", "d=2")
    assert router_named("power-of-d", "d=3").draws_per_request == 3


def test_name_shows_what_is_not_default():
    assert Slai().name == "Slai"
    assert Slai(order=Order.FIFO, below_offset=10.0).name == "Slai(order=FIFO, below_offset=10.0)"
    assert policies.Sarathi(order=Order.SPF).name == "Sarathi(order=SPF)"
