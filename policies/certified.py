"""Certificates on the very policies: exact chains of tiny systems, and a run of RAD that uses its constant up.

The chains are those of :mod:`queueing.models.markov`: the policy's own function, uncompiled, plans every batch of
every state.  The run is simulated with dyadic times and replayed in fractions, so that no rounding stands between the
policy and the inequality.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from policies.chunk_only import ChunkOnly
from policies.faster_transformer import FasterTransformer
from policies.orca import Orca
from policies.rad import Rad
from policies.sarathi import Sarathi
from policies.vllm import Vllm
from queueing.models.iteration_time import TileLaw
from queueing.models.markov import Kind as Requests
from queueing.models.markov import SlottedSystem, chain, mean_in_system
from queueing.models.replay import ExactLaw, replay
from queueing.models.stability import Sizes, rad_constant
from queueing.policy import Policy
from queueing.proofs.certificate import Certificate, Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity
from queueing.proofs.sandwich import Sandwich
from queueing.simulator import simulate
from queueing.system import ENDLESS, System
from queueing.workload import Workload

__all__ = ["CLAIMS", "MEANS", "TINY"]

SIXTH = Fraction(1, 6)
TILES = tuple(-(-n // 2) for n in range(1, 13))  # slots of a batch of n tokens, two tokens a slot
TINY = SlottedSystem((Requests(2, 1, SIXTH), Requests(2, 3, SIXTH)), room=4, slots=TILES)
MEANS: tuple[tuple[Policy, Fraction], ...] = (  # requests in the system
    (Sarathi(token_budget=2), Fraction(75857522, 91483103)),
    (Rad(tile=2, chunk=2, cycle=3), Fraction(347367128407, 414171342900)),
    (Vllm(max_batched_tokens=4), Fraction(12704832277928, 14263675314879)),
    (ChunkOnly(token_budget=2), Fraction(14069279, 14964457)),
    (FasterTransformer(), Fraction(3403544721, 3434948132)),
    (Orca(), Fraction(335738571448060, 330366057446847)),
)


def _chains() -> list[Certificate]:
    """Each policy's stationary law from batch to batch, and its mean over time."""
    found: list[Certificate] = []
    for policy, mean in MEANS:
        found += [chain(TINY, policy), Identity(policy.name, mean_in_system(TINY, policy), mean)]
    return found


def _busier() -> list[Certificate]:
    """The law of one policy for the chain of another rate; the means of a system with a fifth more short requests."""
    kinds = (TINY.kinds[0]._replace(probability=Fraction(1, 5)), TINY.kinds[1])
    busier = replace(TINY, kinds=kinds)
    law = chain(TINY, Sarathi(token_budget=2))
    means = [Identity(policy.name, mean_in_system(busier, policy), mean) for policy, mean in MEANS]
    return [replace(law, transitions=chain(busier, Sarathi(token_budget=2)).transitions), *means]


TAU, DECODES = 2.0**-6, 2  # s a tile; decodes of a request
LAW = TileLaw(2, TAU, 0.0)
EXACT = ExactLaw(LAW)


def _pressing() -> Workload:
    """Arrivals under which RAD, in tiles of two tokens, uses its constant up but for a delay of 2⁻²⁰ s.

    Whenever RAD starts a batch of its one fresh decode, there come, just too late for it, a request that makes the next
    batches full and a fresh one.  Each round wastes τ/2 and nothing else, and the ideal server never empties, until W
    exceeds Q* by all that a fresh request holds.  Then the last batch and a burst.
    """
    full, short, waste = EXACT.seconds(2), EXACT.seconds(1), EXACT.waste(1)
    late = Fraction(2.0**-20)
    coming, start, excess = [(Fraction(0), DECODES)], full, Fraction(0)
    while excess < EXACT.price * DECODES:
        coming += [(start + late, DECODES - 1), (start + late, DECODES)]
        start, excess = start + short + full * (DECODES + 1), excess + waste
    coming += [(start + late, DECODES)] + [(start + short, DECODES)] * 6
    return Workload([float(t) for t, _ in coming], [2] * len(coming), [d for _, d in coming])


def _run_of_rad(constant: Fraction, workload: Workload | None = None) -> list[Sandwich]:
    node = System(LAW, ENDLESS, block_size=1, max_length=4096, max_running=64, last_chunk_emits=False)
    trace = simulate(workload or _pressing(), node, Rad(2, 2), record_entries=True, python=True)
    return [Sandwich(*replay(trace, EXACT), constant=constant)]


CONSTANT = rad_constant(EXACT, Sizes(2, DECODES)).stated


def _ragged() -> list[Sandwich]:
    """Prompts of 3 tokens, no multiple of the chunk: every prompt wastes half a tile."""
    return _run_of_rad(CONSTANT, Workload([0.0] * 12, [3] * 12, [1] * 12))


CLAIMS = (
    Claim(
        name="policies-exact-means",
        statement="With prompts of 2 and outputs of 1 or 3, each arriving with 1/6 a slot, room for 4 and two "
        "tokens a slot, the mean number in the system is 0.8292 under Sarathi, 0.8387 under Rad, 0.8907 under Vllm, "
        "0.9402 under ChunkOnly, 0.9909 under FasterTransformer and 1.0163 under Orca; no scheduler has less than "
        "0.826159.",
        assumptions=(
            "slotted time, ample memory; who finds no room is lost",
            "budgets of 2, tiles of 2, cycles of 3, caps of 4",
            "the least: optimal-policy-instance",
        ),
        source="our calculation",
        kind=Kind.EXACT_CHAIN,
        evidence=_chains,
        controls={"more short requests": _busier},
        where="docs/models/markov.md",
    ),
    Claim(
        name="rad-constant-is-met",
        statement="On a run of Rad in tiles of two tokens W <= Q* + K₀ at all t, and W - Q* comes within a "
        "thousandth of K₀: no smaller constant would do.",
        assumptions=("the run as simulated; for all arrivals: rad-sandwich",),
        source="our derivation and calculation",
        kind=Kind.RATIONAL,
        evidence=lambda: _run_of_rad(CONSTANT),
        controls={
            "a constant a thousandth smaller": lambda: _run_of_rad(CONSTANT * Fraction(999, 1000)),
            "prompts that are no multiples of the chunk": _ragged,
        },
        where="docs/models/stability.md",
    ),
)
