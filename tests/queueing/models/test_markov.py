"""Exact chains of tiny systems, built from the very policy functions, against closed forms and the simulator."""

from fractions import Fraction

import numpy as np
import pytest

from policies import ChunkOnly, FasterTransformer, Orca, Rad, Sarathi, Slai, Vllm
from queueing import metrics
from queueing.models.iteration_time import IterationTime, Roofline, TileLaw
from queueing.models.markov import Kind, SlottedSystem, chain, in_system, mean_in_system
from queueing.proofs.exact_chain import StationaryLaw
from queueing.simulator import simulate
from queueing.system import System
from queueing.workload import Workload

ROOM = 6
SLOT = Roofline(1.0, 0.5, 1e-6)  # one second, however many of these few tokens a batch has
TWO_KINDS = (Kind(2, 2, Fraction(1, 8)), Kind(4, 1, Fraction(1, 16)))
SYSTEMS = {
    "rad": (Rad(tile=2, chunk=2, cycle=3), TWO_KINDS),
    "sarathi": (Sarathi(token_budget=3), TWO_KINDS),
    "vllm": (Vllm(max_batched_tokens=4), TWO_KINDS),
    "orca": (Orca(), TWO_KINDS),
    "chunk only": (ChunkOnly(token_budget=2), TWO_KINDS),
    "request level": (FasterTransformer(), (Kind(2, 2, Fraction(1, 5)), Kind(1, 3, Fraction(1, 10)))),
}


def crowding(law: StationaryLaw) -> Fraction:
    """Share of slots in which the system has no room left."""
    return sum((p for state, p in law.law.items() if len(state.requests) == ROOM), Fraction(0))


def simulated(policy, kinds, slots: int, law: IterationTime = SLOT) -> np.ndarray:
    """Requests in the system at each slot's beginning, arrivals of that instant included."""
    rng = np.random.default_rng(0)
    odds = [float(k.probability) for k in kinds]
    drawn = rng.choice(len(kinds) + 1, slots, p=[*odds, 1 - sum(odds)])
    at = np.flatnonzero(drawn < len(kinds))
    which = drawn[at]
    workload = Workload(at.astype(float), [kinds[k].prompt for k in which], [kinds[k].output for k in which])
    system = System(law, 1 << 20, block_size=1, max_length=1 << 10, max_running=ROOM, name="slots")
    trace = simulate(workload, system, policy)
    here = np.zeros(slots + 100, dtype=int)
    np.add.at(here, at, 1)
    gone = trace.requests["finished"].round().astype(int)
    np.add.at(here, gone[gone < len(here)], -1)
    return np.cumsum(here)[:slots]


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_simulator_lies_around_the_exact_mean(name):
    """Batch means at 99.99 %; the lost arrivals of the chain move its mean by far less than the interval is wide.

    The control is the chain with a fifth more arrivals of the first kind, which the interval excludes.
    """
    policy, kinds = SYSTEMS[name]
    law = chain(SlottedSystem(kinds, ROOM), policy)
    law.check()
    stated = float(law.mean(in_system(law)))
    found = metrics.batch_means(simulated(policy, kinds, 400_000).astype(float), level=0.9999)
    assert found.low < stated < found.high, (stated, found)
    assert float(crowding(law)) * ROOM / sum(float(k.probability) for k in kinds) < 0.2 * (
        found.high - found.low
    )
    busier = (kinds[0]._replace(probability=kinds[0].probability * Fraction(6, 5)), *kinds[1:])
    other = chain(SlottedSystem(busier, ROOM), policy)
    assert float(other.mean(in_system(other))) > found.high


@pytest.mark.parametrize(
    "policy", [Sarathi(token_budget=3), Vllm(max_batched_tokens=4), Rad(tile=2, chunk=4, cycle=3)]
)
def test_tiles_of_a_slot_each(policy):
    """Batches of n tokens take ⌈n/2⌉ slots: the simulator's mean, under the tile law of a second per tile, lies around
    the exact one (99.99 %), not around that of batches of one slot each.
    """
    tiles = SlottedSystem(TWO_KINDS, ROOM, slots=tuple(-(-n // 2) for n in range(1, 25)))
    stated = float(mean_in_system(tiles, policy))
    found = metrics.batch_means(
        simulated(policy, TWO_KINDS, 400_000, TileLaw(2, 1.0, 0.0)).astype(float), level=0.9999
    )
    assert found.low < stated < found.high, (stated, found)
    assert float(mean_in_system(SlottedSystem(TWO_KINDS, ROOM), policy)) < found.low


def test_one_slot_of_service_is_a_queue_that_never_waits():
    """Prompt and output of one token: everybody who arrives is gone a slot later, so P(n = 1) = p."""
    p = Fraction(1, 3)
    law = chain(SlottedSystem((Kind(1, 1, p),), 4), Sarathi(token_budget=1))
    assert law.mean(in_system(law)) == p


def test_one_at_a_time_is_the_queue_of_geometric_gaps():
    """Batches of one request, S slots each: Geo/D/1 has the mean number  ρ + λρ(S - 1)/(2(1 - ρ)),  to the bound of the
    arrivals that find no room; the control is the same formula without its waiting.
    """
    p, slots = Fraction(1, 8), 4
    law = chain(SlottedSystem((Kind(1, slots, p),), 14), FasterTransformer(batch_size=1))
    rho = p * slots
    stated = rho + p * rho * (slots - 1) / (2 * (1 - rho))
    assert float(law.mean(in_system(law))) == pytest.approx(float(stated), rel=1e-4)
    assert float(law.mean(in_system(law))) > 1.05 * float(rho)


def test_what_has_no_chain_is_refused_in_a_sentence():
    system = SlottedSystem(TWO_KINDS, 3)
    with pytest.raises(ValueError, match=r"remembers times|holds or preempts"):
        chain(system, Slai())
    with pytest.raises(ValueError, match="more than 4 states"):
        chain(system, Rad(tile=2, chunk=2, cycle=3), most=4)
    with pytest.raises(ValueError, match="add up to at most 1"):
        SlottedSystem((Kind(1, 1, Fraction(2, 3)), Kind(1, 2, Fraction(2, 3))), 3)
    with pytest.raises(ValueError, match="at least one token"):
        SlottedSystem((Kind(0, 1, Fraction(1, 3)),), 3)
