"""KV memory as the bottleneck: what a request occupies over its life, the rate memory carries, and peaks to come.

Notation.  A request has s prompt tokens, prefilled in chunks of z, then o decodes, one an iteration; an iteration takes
b seconds in the mean and the node holds M tokens.  In its i-th iteration the request holds h_i tokens: z, 2z, ..., s
while it is prefilled, then s + 1, ..., s + o.

    g(s, o) = Σ h_i        demand, tokens times iterations
    μ = M/(b·E[g])         requests/s that memory carries, since an iteration offers M tokens of it

No policy carries more than μ.  A node that leaves a request out only if it does not fit, and *loses no tokens* of what
it leaves out (they are swapped), carries every rate below μ(1 - δ), δ = (s + o - 1)/M for the largest request: what is
missing is the room that the next request does not fit into.  Nodes that recompute what they evict, or admit by the
peak to come, can carry little more than half of μ.

Peaks to come.  Tokens held only grow until a request completes, so a schedule never overflows if it does not at the
completions: :func:`peak`.

Sources: arXiv 2605.04595 for μ and the two sides (published; recalled), arXiv 2502.07115 for admission by peaks
(published).  The demand for chunks, the premise on lost tokens, the drift and the lemma on peaks are our derivation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import sympy

from queueing.models.closed_form import ClosedForm
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.identity import Identity

__all__ = [
    "CLAIMS",
    "SwapNode",
    "derivation",
    "drift",
    "held",
    "lifetime_demand",
    "memory_capacity",
    "peak",
    "replicas",
]

ZERO = Fraction(0)
Requests = Mapping[tuple[int, int], Fraction | int]  # weight of each (s, o)
State = tuple[tuple[int, int, int], ...]  # (s, o, iterations done) of each request, oldest first


def held(prompt: int, output: int, chunk: int | None = None) -> list[int]:
    """Tokens that a request holds in each iteration of its life:  z, 2z, ..., s, s + 1, ..., s + o.

    Args: prompt, s >= 1; output, o >= 0 decodes (one less than output tokens if the last chunk emits the first); chunk,
    z >= 1, None for the whole prompt at once.

    Raises:
        ValueError: a length is out of range.
    """
    z = prompt if chunk is None else chunk
    if prompt < 1 or output < 0 or z < 1:
        raise ValueError(f"give s >= 1, o >= 0 and z >= 1 tokens, not {prompt}, {output}, {z}")
    return [*range(z, prompt, z), *range(prompt, prompt + output + 1)]


def lifetime_demand(prompt: int, output: int, chunk: int | None = None) -> ClosedForm[Fraction]:
    """Memory demand of a request, in token-iterations:  g = z·c(c - 1)/2 + s·(o + 1) + o(o + 1)/2,  c = ⌈s/z⌉.

    If z divides s, that is  s(s/z + 1)/2 + s·o + o(o + 1)/2;  otherwise the latter is too small.
    Computed: summed over the life of the request.

    Raises:
        ValueError: as for :func:`held`.

    Example:
        >>> lifetime_demand(prompt=4, output=3, chunk=2)  # 2 + 4 + 5 + 6 + 7
        ClosedForm(computed=Fraction(24, 1), stated=Fraction(24, 1))
    """
    computed = sum(held(prompt, output, chunk))
    z = prompt if chunk is None else chunk
    c = -(-prompt // z)
    stated = Fraction(z * c * (c - 1) + output * (output + 1), 2) + prompt * (output + 1)
    return ClosedForm(Fraction(computed), stated)


def memory_capacity(
    requests: Requests, memory: int, iteration: Fraction | int = 1, chunk: int | None = None
) -> ClosedForm[Fraction]:
    """Requests per second that memory carries:  μ = M/(b·E[g]).

    Computed: one request, in fractions of each kind, is started in every iteration for good; what the cohorts of all
    ages hold at one time is M/μ in the unit of b.

    Assumptions: iterations take b seconds in the mean *while requests are left out*, whatever is held; nothing else
    binds.  If b depends on what is held, so does μ, and it bounds only policies whose mean is at least b.

    Args: requests, weight of each (s, o); memory, M tokens; iteration, b seconds; chunk, z tokens.

    Raises:
        ValueError: no weight is positive, M or b is not positive, or a request never fits.
    """
    law = _law(requests)
    if iteration <= 0 or any(s + o > memory for s, o in law):
        raise ValueError(
            f"give b > 0 and memory for s + o tokens of every request, not b = {iteration}, M = {memory}"
        )
    mean = sum((p * lifetime_demand(s, o, chunk).stated for (s, o), p in law.items()), ZERO)
    lives = {kind: held(*kind, chunk) for kind in law}
    used = ZERO
    for age in range(max(map(len, lives.values()))):
        used += sum((p * lives[kind][age] for kind, p in law.items() if age < len(lives[kind])), ZERO)
    return ClosedForm(memory / (used * iteration), memory / (mean * iteration))


def replicas(
    rate: Fraction | int, requests: Requests, memory: int, iteration: Fraction | int = 1
) -> ClosedForm[int]:
    """Fewest nodes that keep λ/n strictly below μ(1 - δ):  ⌊λ/(μ(1 - δ))⌋ + 1.

    Rounding up instead leaves no slack where the quotient is whole.
    Computed: one node after another is added while what arrives in an iteration asks at a node for M - (s + o - 1)
    token-iterations or more.

    Assumptions: arrivals are split evenly and independently of the state; swapping as in :class:`SwapNode`.

    Raises:
        ValueError: as for :func:`memory_capacity`, or the rate is negative.
    """
    law = _law(requests)
    if rate < 0:
        raise ValueError(f"the rate is {rate} requests/s; give one of at least 0")
    mu = memory_capacity(requests, memory, iteration).stated
    least = memory - _missing(law)
    arriving = Fraction(rate) * iteration * sum((p * sum(held(*kind)) for kind, p in law.items()), ZERO)
    nodes = 1
    while arriving / nodes >= least:
        nodes += 1
    return ClosedForm(nodes, math.floor(rate / (mu * Fraction(least, memory))) + 1)


@dataclass(frozen=True, slots=True)
class SwapNode:
    """A node of `memory` M tokens that runs the oldest requests that fit, and keeps the tokens of the others elsewhere.

    In an iteration the oldest requests advance, one by one, until the next does not fit; at its end one request of kind
    (s, o) arrives with the probability `arrivals` gives it.  Iterations take equally long.

    Raises:
        ValueError: the probabilities are no sub-distribution, or a request never fits.
    """

    memory: int
    arrivals: Mapping[tuple[int, int], Fraction]
    chunk: int | None = None

    def __post_init__(self) -> None:
        if min(self.arrivals.values(), default=ZERO) < 0 or not 0 < sum(self.arrivals.values()) <= 1:
            raise ValueError(
                "the probabilities of arrivals must be >= 0 and add up to at most 1, and not to 0"
            )
        if any(s + o > self.memory for s, o in self.arrivals):
            raise ValueError(
                f"a request does not fit into {self.memory} tokens; give more memory or shorter requests"
            )

    def run(self, state: State) -> tuple[State, int]:
        """The state after an iteration without arrivals, and the tokens held during it."""
        used, after = 0, list(state)
        for i, (s, o, age) in enumerate(state):
            needed = held(s, o, self.chunk)[age]
            if used + needed > self.memory:
                break
            used, after[i] = used + needed, (s, o, age + 1)
        return tuple((s, o, age) for s, o, age in after if age < len(held(s, o, self.chunk))), used

    def work(self, state: State) -> int:
        """V: token-iterations that the requests present still ask for."""
        return sum(sum(held(s, o, self.chunk)[age:]) for s, o, age in state)

    def chain(self, room: int) -> dict[State, dict[State, Fraction]]:
        """Transition probabilities from the empty state on, where an arrival that finds `room` requests is lost."""
        rows: dict[State, dict[State, Fraction]] = {}
        stack: list[State] = [()]
        while stack:
            state = stack.pop()
            if state in rows:
                continue
            after, _ = self.run(state)
            row: dict[State, Fraction] = {}
            if len(after) < room:
                row = {(*after, (s, o, 0)): p for (s, o), p in self.arrivals.items() if p}
            stay = 1 - sum(row.values(), ZERO)
            if stay:
                row[after] = stay
            rows[state] = row
            stack += row
        return rows


def drift(node: SwapNode, room: int) -> ClosedForm[Fraction]:
    """Growth of V per iteration while a request is left out, at most:  a·E[g] - (M - (s + o - 1)),  a arrivals in it.

    A request is left out only if its next tokens do not fit, so at least M - (s + o - 1) tokens are held, by which V
    falls.  Where nobody is left out everybody is held, so V is bounded; by Foster's criterion (cited) the node is
    stable if the drift is negative, which is λ < μ(1 - δ).  V never falls by more than M, hence grows if λ > μ.
    Computed: the largest drift over all states of the node with `room`; at most what is stated.

    Raises:
        ValueError: nobody is ever left out with so little room.
    """
    stated = sum((p * sum(held(*kind, node.chunk)) for kind, p in node.arrivals.items()), ZERO)
    stated -= node.memory - _missing(node.arrivals)
    drifts: list[Fraction] = []
    for state, row in node.chain(room).items():
        after, used = node.run(state)
        everybody = sum(held(s, o, node.chunk)[age] for s, o, age in state)
        if used < everybody and len(after) < room:
            drifts.append(sum((p * node.work(to) for to, p in row.items()), ZERO) - node.work(state))
    if not drifts:
        raise ValueError(
            f"with room for {room} requests nobody is ever left out; give more room or less memory"
        )
    return ClosedForm(max(drifts), stated)


def peak(tokens: Sequence[int], left: Sequence[int]) -> ClosedForm[int]:
    """Most tokens ever held from now on by requests that hold `tokens` and complete after `left` more iterations.

    Each holds one token more in every iteration to come.  With the requests in falling order of what is left,
    r_1 >= r_2 >= ..., the first n run up to iteration r_n and hold  Σ_{i<=n} h_i + n·r_n  in it; the peak is the
    largest of these over n.
    Computed: iteration by iteration.

    A batch that is admitted by its peak never overflows: the peak of those that remain after an iteration is one over
    fewer iterations.  Outputs that exceed what was predicted break this.

    Args: tokens, h_i >= 0; left, r_i >= 1; equally many.

    Raises:
        ValueError: a number is out of range, or there are not equally many.

    Example:
        >>> peak([4, 1], [1, 3])  # 5 + 2, then 3, then 4
        ClosedForm(computed=7, stated=7)
    """
    if len(tokens) != len(left) or any(h < 0 for h in tokens) or any(r < 1 for r in left):
        raise ValueError("give as many tokens (>= 0) as iterations left (>= 1), a pair for each request")
    pairs = list(zip(tokens, left, strict=True))
    ahead = range(1, max(left, default=0) + 1)
    computed = max((sum(h + j for h, r in pairs if r >= j) for j in ahead), default=0)
    stated = total = 0
    for n, (h, r) in enumerate(sorted(pairs, key=lambda pair: -pair[1]), start=1):
        total += h
        stated = max(stated, total + n * r)
    return ClosedForm(computed, stated)


def derivation() -> tuple[Identity, ...]:
    """The algebra of demand, drift and peaks, in symbols."""
    s, o, z, c, k, M, lam, b, g, h = sympy.symbols("s o z c k M lambda b g h", positive=True)
    chunks = sympy.summation(k * z, (k, 1, c - 1)) + s
    decodes = sympy.summation(s + k, (k, 1, o))
    demand = z * c * (c - 1) / 2 + s * (o + 1) + o * (o + 1) / 2
    mu, delta = M / (b * g), (h - 1) / M
    edge = sympy.solve(sympy.Eq(lam * b * g, M - (h - 1)), lam)[0]
    r, more, n = sympy.symbols("r j n", positive=True)
    return (
        Identity("demand of chunks and decodes", chunks + decodes, demand),
        Identity(
            "demand if the chunks are equal",
            demand.subs(c, s / z),
            s * (s / z + 1) / 2 + s * o + o * (o + 1) / 2,
        ),
        Identity("no drift at μ(1 - δ)", edge, mu * (1 - delta)),
        Identity("between completions n requests grow by n", h + n * (r + more) - (h + n * r), n * more),
    )


def _law(requests: Requests) -> dict[tuple[int, int], Fraction]:
    weights = {kind: Fraction(w) for kind, w in requests.items() if w}
    if not weights or min(weights.values()) < 0:
        raise ValueError(f"give positive weights of requests (s, o), not {dict(requests)}")
    total = sum(weights.values(), ZERO)
    return {kind: w / total for kind, w in weights.items()}


def _missing(requests: Mapping[tuple[int, int], Fraction]) -> int:
    """Tokens of memory that may be free while a request is left out: s + o - 1 of the largest."""
    return max(s + o for s, o in requests) - 1


def _misprints() -> tuple[Identity, ...]:
    """Chunks that divide no prompt, and the largest request missing in whole."""
    s, o, z, c, M, lam, b, g, h, k = sympy.symbols("s o z c M lambda b g h k", positive=True)
    chunks = sympy.summation(k * z, (k, 1, c - 1)) + s + sympy.summation(s + k, (k, 1, o))
    edge = sympy.solve(sympy.Eq(lam * b * g, M - (h - 1)), lam)[0]
    return (
        Identity("demand with s/z chunks, whatever c", chunks, s * (s / z + 1) / 2 + s * o + o * (o + 1) / 2),
        Identity("no drift at μ(1 - h/M)", edge, M / (b * g) * (1 - h / M)),
    )


def _halved() -> tuple[Identity, ...]:
    """The demand of decodes at their mean length, as if each held half its output from the start."""
    s, o, k = sympy.symbols("s o k", positive=True)
    return (Identity("decodes at s + o/2", sympy.summation(s + k, (k, 1, o)), o * (s + o / 2)),)


CLAIMS = (
    Claim(
        name="memory-capacity",
        statement="A request of s prompt and o decode tokens in c chunks of z asks for z·c(c - 1)/2 + s(o + 1) + "
        "o(o + 1)/2 token-iterations; the drift of what is asked for vanishes at λ = μ(1 - δ), μ = M/(b·E[g]), "
        "δ = (s + o - 1)/M; between completions n requests grow by n tokens an iteration.",
        assumptions=(
            "iterations take b seconds in the mean while requests are left out",
            "what is left out loses no tokens",
            "stability below μ(1 - δ) by Foster's criterion (cited)",
        ),
        source="arXiv 2605.04595 for μ (published; recalled); chunks, premise and drift are our derivation",
        kind=Kind.IDENTITY,
        evidence=derivation,
        controls={"chunks that do not divide, δ of s + o": _misprints, "decodes at their mean": _halved},
        where="docs/models/memory.md",
    ),
)
