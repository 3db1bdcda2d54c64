"""Replay of a trace in exact fractions: the same batches under the same law, without the last bit of a float.

A batch of n tokens takes t(n) plus its attention (:mod:`queueing.models.iteration_time`).  Work is what a token costs
at the best rate, w = min t(n)/n, plus attention, so that no batch does more work than it lasts.  p, d are prompt and
decode tokens of a request; d counts decode iterations, one less than the output where the last prompt chunk emits a
token.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction

from queueing.models.iteration_time import Affine, Roofline, TileLaw
from queueing.proofs.rational import exact
from queueing.proofs.sandwich import Arrival, Batch
from queueing.trace import Trace

__all__ = ["ExactLaw", "Law", "replay"]

ZERO = Fraction(0)
CLOSE = 1e-9  # s by which exact times and recorded ones may differ
Law = TileLaw | Affine | Roofline


@dataclass(frozen=True, slots=True)
class ExactLaw:
    """A law of iteration time in fractions, every coefficient the decimal that it prints as.

    Fields: `law`; `most`, the most tokens in a batch (None: no limit).

    Raises:
        ValueError: `most` is no whole number >= 1, or is missing for a law whose best batch is the largest.

    Example:
        >>> law = ExactLaw(TileLaw(tile=128, tile_time=0.004, per_token=5e-6))
        >>> law.price, law.seconds(129)
        (Fraction(29, 800000), Fraction(1729, 200000))
    """

    law: Law
    most: int | None = None

    def __post_init__(self) -> None:
        if self.most is not None and self.most < 1:
            raise ValueError(f"a batch holds at least one token; give most >= 1, not {self.most}")
        if self.most is None and not isinstance(self.law, TileLaw):
            raise ValueError(
                f"the best batch of {type(self.law).__name__} is the largest; give most, in tokens"
            )

    def seconds(self, n: int) -> Fraction:
        """t(n) of a batch of n tokens, attention left out (s)."""
        law = self.law
        if isinstance(law, TileLaw):
            return exact(law.tile_time) * -(-n // law.tile) + exact(law.per_token) * n
        linear = exact(law.base) + exact(law.per_token) * n
        return max(exact(law.plateau), linear) if isinstance(law, Roofline) else linear

    @property
    def best(self) -> int:
        """A number of tokens at which t(n)/n is least: a full tile, or else the largest batch."""
        # t(n)/n falls along every affine piece, because none has a negative base
        if isinstance(self.law, TileLaw) and (self.most is None or self.most >= self.law.tile):
            return self.law.tile
        assert self.most is not None  # as the construction asks
        return self.most

    @property
    def price(self) -> Fraction:
        """The least t(n)/n, w (s per token)."""
        return self.seconds(self.best) / self.best

    def waste(self, n: int) -> Fraction:
        """t(n) - w·n >= 0: what a batch of n tokens takes beyond its work (s)."""
        return self.seconds(n) - self.price * n

    def chunk_attention(self, tokens: int, history: int) -> Fraction:
        """Attention of a chunk of `tokens` after `history` cached ones of its prompt (s)."""
        law = self.law
        if isinstance(law, TileLaw):
            b = law.tile
            return exact(law.per_tiled_pair) * (-(-tokens // b) * b) * (-(-(history + tokens) // b) * b)
        return exact(law.per_pair) * tokens * (history + Fraction(tokens, 2))

    def decode_attention(self, context: int) -> Fraction:
        """Attention of a decode with `context` tokens in the KV cache (s)."""
        return exact(self.law.per_context) * (context + 1)

    def prompt_work(self, prompt: int, chunk: int | None = None) -> Fraction:
        """Work of a prompt done in chunks of `chunk` tokens, or in one (s)."""
        step = chunk or max(prompt, 1)
        chunks = range(0, prompt, step)
        return self.price * prompt + sum(
            (self.chunk_attention(min(step, prompt - h), h) for h in chunks), ZERO
        )

    def decode_work(self, prompt: int, decodes: int) -> Fraction:
        """Work of `decodes` decodes that follow a prompt (s)."""
        return self.price * decodes + sum((self.decode_attention(prompt + j) for j in range(decodes)), ZERO)

    @property
    def has_attention(self) -> bool:
        """Whether a batch takes longer than its tokens alone."""
        pairs = self.law.per_tiled_pair if isinstance(self.law, TileLaw) else self.law.per_pair
        return pairs != 0 or self.law.per_context != 0


def replay(
    trace: Trace, law: ExactLaw, chunk: int | None = None
) -> tuple[tuple[Arrival, ...], tuple[Batch, ...]]:
    """Arrivals and batches of a run, in exact fractions, for :class:`~queueing.proofs.sandwich.Sandwich`.

    A batch starts where the batch before it on its node ended, or else where the float says (an arrival, the end of a
    hold), and lasts what `law` says exactly.  Rejected requests bring no work.  A preempted request has all its work
    before it again: what it had generated is recomputed as prompt.

    Args:
        trace: a run with `record_entries=True`, whatever the policy and the number of nodes.
        law: the law it was made with.
        chunk: tokens by which the policy cuts every prompt, if attention depends on that.

    Raises:
        ValueError: the trace has no entries; its times are not those of `law` to a nanosecond; an arrival and a batch
            come in another order in floats than exactly (choose dyadic coefficients and times); a request is preempted
            though there is attention, which then depends on the schedule.
    """
    if trace.entries is None:
        raise ValueError("the trace does not say who was served; simulate with record_entries=True")
    q, it = trace.requests, trace.iterations
    emits = bool(trace.meta["last_chunk_emits"])
    prompt, output = q["prompt"].tolist(), q["output"].tolist()
    came = q["arrival"].tolist()
    total = [p + o - emits for p, o in zip(prompt, output, strict=True)]
    arrivals = tuple(
        Arrival(Fraction(a), ZERO if gone else law.prompt_work(p, chunk) + law.decode_work(p, n - p))
        for a, p, n, gone in zip(came, prompt, total, trace.rejected.tolist(), strict=True)
    )
    exactly = [a.time for a in arrivals]
    done = [0] * len(came)  # tokens of each request in the KV cache
    worked = [ZERO] * len(came)
    ended: dict[
        int, tuple[float, Fraction]
    ] = {}  # end of the last batch of each node, as recorded and exactly
    batches: list[Batch] = []
    who, tokens = trace.entries["request"].tolist(), trace.entries["tokens"].tolist()
    at, price = 0, law.price
    columns = (it[name].tolist() for name in ("start", "seconds", "node", "entries"))
    for start, seconds, node, entries in zip(*columns, strict=True):
        known = ended.get(node)
        begin = known[1] if known is not None and known[0] == start else Fraction(start)
        if known is not None and begin < known[1]:
            raise ValueError(
                f"the batch at {start} s starts before the one before it has ended exactly; use dyadic times"
            )
        if bisect_right(came, start) != bisect_right(exactly, begin):
            raise ValueError(f"floats order the batch at {start} s and an arrival wrongly; use dyadic times")
        served: dict[int, Fraction] = {}
        undone: dict[int, Fraction] = {}
        n, attention = 0, ZERO
        for r, taken in zip(who[at : at + entries], tokens[at : at + entries], strict=True):
            if taken == 0:
                if law.has_attention:
                    raise ValueError(f"request {r} is preempted, and with attention its work is not defined")
                undone[r], worked[r], done[r] = worked[r], ZERO, 0
                continue
            cost = (
                law.chunk_attention(taken, done[r]) if done[r] < prompt[r] else law.decode_attention(done[r])
            )
            served[r] = price * taken + cost
            attention += cost
            worked[r] += served[r]
            done[r] += taken
            n += taken
        at += entries
        end = begin + law.seconds(n) + attention
        if max(abs(float(begin) - start), abs(float(end) - (start + seconds))) > CLOSE:
            raise ValueError(
                f"the batch at {start} s lasted {seconds} s and not {float(end - begin)}; give its law"
            )
        batches.append(Batch(begin, end, served, undone))
        ended[node] = (start + seconds, end)
    return arrivals, tuple(batches)
