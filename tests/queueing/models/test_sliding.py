"""The fluid of long requests: limit of the paths and of scaled runs, rest, slopes, and which mixture slides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.rad import Rad
from policies.sarathi import Sarathi
from policies.vllm import Vllm
from queueing.models.fluid import Alternating, Fluid, FullTile, MixedBudget, PrefillFirst, path
from queueing.models.sliding import derivation, drift, flow, limit, stationary
from tests.scaling import BASE, PER_TOKEN, Offered, run, seconds

NODE = Fluid(0.0, 60.0, (0.1,), seconds)
DISCIPLINES = (
    MixedBudget(60, 100),
    MixedBudget(200, 20),
    FullTile(30, 30),
    PrefillFirst(120, 30),
    PrefillFirst(240, 30),
    Alternating(60, 60),
    Alternating(200, 20),
)


def largest_gap(flowing, start, prompts, decoding, step=0.5):
    """Of prompts in requests and of decodes, at times up to the shorter end, against steps that start at `start`."""
    t = np.arange(step, min(flowing[-1, 0], start[-1]), step)
    at = np.searchsorted(start, t, side="right") - 1
    gap_p = prompts[at] / NODE.prompt - np.interp(t, flowing[:, 0], flowing[:, 1]) / NODE.prompt
    gap_d = decoding[at] - np.interp(t, flowing[:, 0], flowing[:, 2])
    return max(float(np.abs(gap_p).max()), float(np.abs(gap_d).max()))


# --- limit of the recursion


@pytest.mark.parametrize("discipline", DISCIPLINES, ids=repr)
@pytest.mark.parametrize("load", [0.5, 0.9, 1.2])
@pytest.mark.parametrize("full", [False, True])
def test_the_refined_path_tends_to_the_flow(discipline, load, full):
    """From an empty node, and from one with a queue and its limit exceeded, through every bound that it meets."""
    fluid = replace(NODE, rate=load * discipline.edge(NODE))
    prompts, decoding = (20 * NODE.prompt, 1.3 * limit(discipline)) if full else (0.0, 0.0)
    flowing = flow(fluid, discipline, 80, 0.02, prompts, decoding)
    gaps = []
    for m in (4, 16, 64):
        r = path(fluid.refined(m), discipline, 110 * m, m * prompts, (decoding,))
        gaps.append(largest_gap(flowing, r.start, r.prompts / m, r.decoding))
    assert gaps[2] < 0.6
    assert gaps[2] < 0.5 * gaps[0] + 0.05


def test_another_discipline_has_another_flow():
    fluid = replace(NODE, rate=0.25)
    r = path(fluid.refined(64), FullTile(30, 30), 3000)
    own = flow(fluid, FullTile(30, 30), 40, 0.02)
    assert largest_gap(own, r.start, r.prompts / 64, r.decoding) < 0.6
    for other in DISCIPLINES:
        if not isinstance(other, FullTile):
            wrong = flow(fluid, other, 40, 0.02)
            assert largest_gap(wrong, r.start, r.prompts / 64, r.decoding) > 1.2


@given(
    st.sampled_from(DISCIPLINES), st.floats(0.05, 1.5), st.floats(0, 3000), st.floats(0, 1.5), st.booleans()
)
def test_the_drift_points_into_the_states_and_balances(discipline, load, prompts, share, empty):
    fluid = replace(NODE, rate=load * discipline.edge(NODE))
    prompts, decoding = (0.0 if empty else prompts), share * limit(discipline)
    dp, dd = drift(fluid, discipline, prompts, decoding)
    assert dp >= 0 or prompts > 0
    assert dd >= 0 or decoding > 0
    assert dd <= 0 or decoding < limit(discipline)
    leaving = fluid.rate - dp / fluid.prompt - dd  # requests that end per second
    assert -1e-9 <= leaving <= 0.1 * max(decoding, 1e-9) / seconds(0)


# --- rest and slopes


@given(load=st.floats(0.02, 0.98), hazard=st.floats(0.02, 0.5), prompt=st.floats(5, 80))
@settings(max_examples=60)
def test_rest_in_closed_form(load, hazard, prompt):
    """Mixed: D = λd·c₀/(1 - δλ(p + d)).  Full tiles: the same with (1 - α)/λ for a second, α = λpT(c)/c."""
    fluid = Fluid(0.0, prompt, (hazard,), seconds)
    mixed, tiles = MixedBudget(60, 1000), FullTile(30, 60)
    fluid = replace(fluid, rate=load * mixed.edge(fluid))
    lam, d = fluid.rate, fluid.output
    assert stationary(fluid, mixed) == pytest.approx(lam * d * BASE / (1 - PER_TOKEN * lam * (prompt + d)))
    fluid = replace(fluid, rate=load * tiles.edge(fluid))
    lam, alpha = fluid.rate, fluid.rate * prompt * seconds(60) / 60
    assert stationary(fluid, tiles) == pytest.approx(lam * d * BASE / (1 - alpha - PER_TOKEN * lam * d))


@pytest.mark.parametrize("discipline", DISCIPLINES, ids=repr)
def test_below_the_edge_every_start_ends_at_rest_and_above_it_prompts_pile_up(discipline):
    edge = discipline.edge(NODE.refined(1e9))  # places: d + 1 becomes d
    below, above = replace(NODE, rate=0.8 * edge), replace(NODE, rate=1.25 * edge)
    rest = stationary(below, discipline)
    for prompts, decoding in ((0.0, 0.0), (1500.0, 0.0), (600.0, 1.5 * limit(discipline))):
        end = flow(below, discipline, 900, 0.1, prompts, decoding)[-1]
        assert end[1] == 0
        assert end[2] == pytest.approx(rest, abs=0.05)
    ends = flow(above, discipline, 600, 0.1)
    slope = np.polyfit(*ends[len(ends) // 2 :, :2].T, 1)[0]
    assert slope == pytest.approx(0.25 * edge * NODE.prompt, rel=1e-3)
    with pytest.raises(ValueError, match="rate below the edge"):
        stationary(above, discipline)
    assert stationary(replace(NODE, rate=0.99 * edge), discipline) <= limit(discipline)


def test_prompts_first_is_not_a_mixture_of_full_caps_and_full_decodes():
    """Filippov's convex combination at D = S would carry more than the path does: caps are never waited for."""
    discipline = PrefillFirst(240, 30)
    mixture = 1 / (NODE.prompt * seconds(240) / 240 + seconds(30) / (0.1 * 30))
    r = path(NODE.refined(32), discipline, 8000, 1e9)
    rate = (r.finished[-1] - r.finished[4000]) / (r.start[-1] - r.start[4000])
    assert rate == pytest.approx(discipline.edge(NODE), rel=1e-3)
    assert mixture > 1.03 * rate


def test_derivation():
    for identity in derivation():
        identity.check()


# --- the simulator of scale n whose requests are n times longer


def gap_of_run(policy, discipline, rate, waiting, n):
    offered = Offered(rate, 150.0, waiting, prompt=60)
    r = run(offered, policy(n), n, m=n)
    flowing = flow(replace(NODE, rate=rate), discipline, 149.0, 0.05, 60.0 * waiting)
    return largest_gap(flowing, r.start, r.prompts, r.decoding)


JOINT = {
    "rad": (lambda n: Rad(tile=30 * n, chunk=30 * n), FullTile(30, 30)),
    "sarathi": (lambda n: Sarathi(token_budget=60 * n, max_num_seqs=100 * n), MixedBudget(60, 100)),
}


@pytest.mark.parametrize("name", JOINT)
@pytest.mark.parametrize(("rate", "waiting"), [(0.15, 0), (0.15, 20), (0.24, 20), (0.33, 0), (0.5, 0)])
def test_the_run_of_many_long_requests_tends_to_the_flow(name, rate, waiting):
    """Edges 0.27 and 0.39 per second.  Nothing is random."""
    policy, discipline = JOINT[name]
    far = [gap_of_run(policy, discipline, rate, waiting, n) for n in (1, 8, 64)]
    assert far[2] < 0.2
    assert far[2] < far[1] / 2 < far[0] / 4
    strange = next(d for other, (_, d) in JOINT.items() if other != name)
    assert gap_of_run(policy, strange, rate, waiting, 64) > 1


def test_prompts_first_depends_on_which_grows_first():
    """With few arrivals in an iteration some find no prompt, and decode: the places do not fill as in the flow."""
    policy, discipline = (lambda n: Vllm(120 * n, 30 * n)), PrefillFirst(120, 30)
    far = [gap_of_run(policy, discipline, 0.15, 0, n) for n in (8, 64)]
    assert min(far) > 15
    many = Offered(0.15, 60.0, 0, prompt=60)  # 1024 times as many, only 8 times longer
    r = run(many, Vllm(120 * 1024, 30 * 1024), 1024, m=8)
    flowing = flow(replace(NODE, rate=0.15), discipline, 59.0, 0.05)
    assert largest_gap(flowing, r.start, r.prompts, r.decoding) < 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: drift(replace(NODE, hazard=(0.5, 1.0)), FullTile(3, 3), 0, 0), "geometric"),
        (lambda: drift(NODE, MixedBudget(places=30), 1, 0), "finite one"),
        (lambda: stationary(replace(NODE, rate=1.0), FullTile(30, 30)), "pile up"),
    ],
)
def test_bad_input_is_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()
