"""The drift field is the step of the recursion, and the path of a run is counted from its trace."""

import numpy as np
import pytest

from policies import Sarathi
from queueing.models.fluid import Fluid, MixedBudget, path
from queueing.simulator import simulate
from queueing.system import System
from queueing.workload import Workload
from validation.drift import field, trajectory

NODE = Fluid(2.0, 10.0, (0.25,), lambda x: 1 + x)


def test_the_field_is_a_step_of_the_recursion_over_its_time():
    run = path(NODE, MixedBudget(40.0), 2, prompts=100.0, decoding=[8.0])
    dP, dD = field(NODE, MixedBudget(40.0), 100.0, 8.0)
    seconds = run.start[1]
    assert (dP * seconds, dD * seconds) == (
        pytest.approx(run.prompts[1] - run.prompts[0]),
        pytest.approx(run.decoding[1] - run.decoding[0]),
    )
    assert field(NODE, MixedBudget(20.0), 100.0, 8.0)[0] != dP  # control: another budget, another drift


def test_a_trajectory_starts_with_all_prompts_and_ends_with_nothing():
    trace = simulate(Workload(np.zeros(5), [64] * 5, [10] * 5), System.rad_tile_model(), Sarathi(128))
    P, D = trajectory(trace, [0.0, trace.end / 2, trace.end])
    assert (P[0], D[0]) == (320, 0)
    assert (P[2], D[2]) == (0, 0)
    assert P[1] + D[1] > 0
