"""VTC: the virtual token counter, fair service among clients (Sheng et al., OSDI 2024, arXiv 2401.00588)."""

from __future__ import annotations

from dataclasses import dataclass

from policies.admission import ANNOUNCED_LENGTH, Admission, start
from policies.counters import (
    Counters,
    Lift,
    Predictor,
    admit_next,
    arrivals,
    counters,
    next_client,
    put_back,
    settle,
)
from policies.packing import Packing, decode_all, may_look_for_work, start_artifact
from policies.parameters import require_choice, require_counts, require_weights
from queueing.cost import TOKENS, Cost
from queueing.policy import (
    NONE,
    Batch,
    Facts,
    Policy,
    View,
    active,
    is_decoding,
    is_preempted,
    kernel,
    plan,
    prompt_if_admitted,
    take_chunk,
    tokens_used,
)

__all__ = ["Vtc"]


@dataclass(frozen=True, slots=True)
class Vtc(Policy):
    """Fair scheduler: the next request is that of the client with the least counter of service.

    Notation: c_u the counter of client u, Q the clients with a waiting request, h(x, y) the cost of x input and y
    output tokens.
    Algorithm:
        on arrival at u not in Q:   c_u := max(c_u, least c in Q), or, if Q is empty, the c of the last to leave it
        between two batches:
            while Q is nonempty:
                u := the client of Q with the least c;  r := its first request;  if r does not fit, stop
                admit r;  c_u += h(p_r, 0)
            for every output token j of the last batch:  c_u += h(p, j) - h(p, j - 1)
    Packing: PURE prefills who was admitted in a batch of their own, and else decodes; MIXED puts every decode in every
    batch, and prompt chunks in what the token budget leaves, as Sarathi-Serve does.

    Assumptions:  for the bounds below: h(x, y) = wp·x + wq·y, requests that fit alone, admission that reserves the
                  whole output (ANNOUNCED_LENGTH with true announcements, or CONTEXT_LIMIT), so that nothing is
                  preempted; M tokens of KV memory, prompts of at most L tokens;  U* = wq·M + max(0, wp - wq)·L.
    Guarantee:    the service of two clients that both have a request waiting all the while differs by at most 2U*, and
                  nobody gets more than 2U* beyond such a client (our derivation of the published bounds 2U and 4U, U =
                  max(wp·L, wq·M); queueing.models.vtc).
    Not promised: those bounds under the other admission rules, with a cost that falls, with Lift.NEVER or the artifact;
                  latency; a share to whoever splits into several clients.
    Args:
        lift: LEAST; NEVER is least counter first (LCF), whose clients hoard credit while they are away.
        predictor: what output is charged on admission: NONE, ANNOUNCED, the client's moving AVERAGE, or NOISY.
        noise: largest relative error of the NOISY predictor, in [0, 1].
        seed: of the NOISY predictor.
        cost: h, by default the authors' one token in, two per token out.
        weights: share of each client by its id, the last for all further ones.
        packing: how batches are filled.
        token_budget: most tokens in a MIXED batch unless the decodes alone are more.
        max_num_seqs: most requests that may hold KV blocks.
        admission: rule by which KV memory is promised to a new prompt.
        artifact: serve as the authors' server does: PURE packing, prompts looked for after ten decode batches, its
            own peak of memory, its lift, its order of ties, and output tokens charged twice where somebody ends.
    Source: Sheng et al., OSDI 2024, arXiv 2401.00588; Ying1123/VTC-artifact.

    Example:
        >>> Vtc(lift=Lift.NEVER, cost=Cost(1, 1)).facts.non_idling
        True
    """

    lift: Lift = Lift.LEAST
    predictor: Predictor = Predictor.NONE
    noise: float = 0.5
    seed: int = 1
    cost: Cost = TOKENS
    weights: tuple[float, ...] = (1.0,)
    packing: Packing = Packing.PURE
    token_budget: int = 512
    max_num_seqs: int = 1000
    admission: Admission = ANNOUNCED_LENGTH
    artifact: bool = False

    def __post_init__(self) -> None:
        require_counts(self, "token_budget", "max_num_seqs", "seed")
        require_choice(self, "lift", Lift)
        require_choice(self, "predictor", Predictor)
        require_choice(self, "packing", Packing)
        require_choice(self, "admission", Admission)
        require_weights(self, "weights")
        if not 0 <= self.noise <= 1:
            raise ValueError(f"noise of Vtc must be between 0 and 1, not {self.noise!r}")
        if self.artifact and (self.packing != Packing.PURE or self.lift == Lift.LEAST):
            raise ValueError(
                "the artifact packs PURE batches and lifts by ARTIFACT or NEVER; see Vtc.as_artifact"
            )

    @classmethod
    def as_artifact(cls, lcf: bool = False, predictor: Predictor = Predictor.NONE) -> Vtc:
        """VTC, or LCF, as in the authors' server."""
        return cls(lift=Lift.NEVER if lcf else Lift.ARTIFACT, predictor=predictor, artifact=True)

    @property
    def facts(self) -> Facts:
        """Out of order between clients; what a batch mixes is the packing's."""
        mixed = self.packing == Packing.MIXED
        return Facts(
            non_idling=True,
            fcfs=False,
            stall_free=mixed,
            mixed=mixed,
            chunked=mixed,
            source="arXiv 2401.00588",
        )

    def init(self, requests: int) -> Counters:
        """Return fresh memory: nobody seen, all counters 0."""
        return counters(requests)

    @plan
    def vtc(p, memory, view, batch):
        """Charge, lift, and admit by the least counter."""
        settle(p, memory, view)
        arrivals(p, memory, view)
        if p.packing == Packing.PURE:
            if may_look_for_work(p.artifact, memory.numbers, view):
                admit_fairly(p, memory, view, batch, view.max_tokens, p.max_num_seqs)
            decode_all(p.admission, memory.numbers, view, batch)
        else:
            budget = min(p.token_budget, view.max_tokens)
            decode_all(p.admission, memory.numbers, view, batch)
            for r in view.running:
                if not is_decoding(view, r) and not is_preempted(batch, r):
                    take_chunk(view, batch, r, budget - tokens_used(batch))
            admit_fairly(p, memory, view, batch, budget, p.max_num_seqs)
        put_back(p, memory, view, batch)


@kernel
def admit_fairly(p, memory, view: View, batch: Batch, budget: int, places: int) -> None:
    """Admit the first request of the client with the least counter, again and again while it fits."""
    while active(view, batch) < places and tokens_used(batch) < budget:
        u = next_client(p.artifact, memory)
        if u == NONE:
            break
        r = memory.head[u]
        if p.packing == Packing.PURE and tokens_used(batch) + prompt_if_admitted(view, r) > view.max_tokens:
            break
        room = budget - tokens_used(batch)
        if p.artifact:
            if not start_artifact(view, batch, r):
                break
        elif start(p.admission, view, batch, r, room) == 0:
            break
        admit_next(p, memory, view, u)
