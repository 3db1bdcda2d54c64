"""Instability of unmixed batching: loads inside the capacity region that FasterTransformer and vLLM do not carry.

Notation.  t(n) seconds of n tokens, w = min t(n)/n; a request has p prompt and d decode tokens and x = w(p + d) seconds
of work.  Any mixed policy of full batches carries every λ < 1/E[x] (:mod:`queueing.models.stability`).  Here

* **FasterTransformer** with batches of B: one batch of B whole prompts, then max d batches of those not yet done.
  While B or more wait, these cycles are i.i.d. and the rate of service is  B / E[t(Bp) + Σ_k t(n_k)],  n_k = #{d >= k}.
* **vLLM** (before chunked prefill) with S places: whatever a decode batch frees is refilled at once by a batch of the
  new prompts alone.  With geometric d of hazard h and S or more waiting, a round is one decode batch of S and, if
  K ~ Binomial(S, h) > 0 requests ended, one prompt batch: the rate is  S·h / (t(S) + E[t(Kp); K > 0]).  With equal d
  the places may be staggered, S/d ending in every batch, and stay so.

A rate of service below λ makes the number waiting a random walk with positive drift: it diverges (the strong law).

Assumptions: memory never binds, no attention, prompts of one length.
Source: arXiv 2504.07347 names both as not maximally stable (published); the rates and paths are our derivation.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import comb

from queueing.models.closed_form import ClosedForm
from queueing.models.iteration_time import Affine, TileLaw
from queueing.models.replay import ExactLaw
from queueing.proofs.certificate import Kind
from queueing.proofs.claim import Claim
from queueing.proofs.divergence import Divergence, Stretch
from queueing.proofs.rational import exact

__all__ = ["CLAIMS", "faster_transformer_path", "faster_transformer_rate", "vllm_path", "vllm_rate"]

ZERO = Fraction(0)


def faster_transformer_rate(
    law: ExactLaw, prompt: int, decodes: Mapping[int, Fraction], batch_size: int
) -> ClosedForm[Fraction]:
    """Requests per second that FasterTransformer serves while enough wait:  B / (t(Bp) + φ·E[max d] + δ·B·E[d]).

    Here t(n) = φ + δ·n for 1 <= n <= B: a decode batch costs φ whatever it holds.  Computed: the mean of t(n_k) over
    the binomial law of n_k, summed over k.

    Args: prompt, p (tokens); decodes, law of d; batch_size, B, at most one tile.

    Raises:
        ValueError: B is below 1 or beyond a tile, or the probabilities do not add up to exactly 1.
    """
    fixed, slope = _line(law, batch_size)
    if sum(decodes.values()) != 1 or min(decodes.values()) < 0 or min(decodes) < 0:
        raise ValueError("decode lengths need probabilities that add up to exactly 1; give fractions")
    computed = stated = law.seconds(batch_size * prompt)
    longest = ZERO
    for k in range(1, max(decodes) + 1):
        going = sum((p for d, p in decodes.items() if d >= k), ZERO)
        computed += sum(
            (_binomial(batch_size, n, going) * law.seconds(n) for n in range(1, batch_size + 1)), ZERO
        )
        longest += 1 - (1 - going) ** batch_size
    stated += fixed * longest + slope * batch_size * sum((d * p for d, p in decodes.items()), ZERO)
    return ClosedForm(batch_size / computed, batch_size / stated)


def vllm_rate(law: ExactLaw, prompt: int, hazard: Fraction, places: int) -> ClosedForm[Fraction]:
    """Requests per second that vLLM serves while enough wait:  S·h / (t(S) + φ(1 - (1 - h)^S) + δ·S·h·p).

    Here t(n) = φ + δ·n for 1 <= n <= S·p.  Computed: the mean of t(Kp) over the binomial law of K.

    Args: prompt, p (tokens); hazard, h = P(d = k | d >= k), the decode length being geometric with mean 1/h; places, S.

    Raises:
        ValueError: S·p is below 1 or beyond a tile, or h is no probability above 0.
    """
    fixed, slope = _line(law, places * prompt)
    if not 0 < hazard <= 1:
        raise ValueError(f"a decode ends with a probability above 0 and at most 1, not {hazard}")
    refill = sum((_binomial(places, k, hazard) * law.seconds(k * prompt) for k in range(1, places + 1)), ZERO)
    closed = fixed * (1 - (1 - hazard) ** places) + slope * places * hazard * prompt
    decode = law.seconds(places)
    return ClosedForm(places * hazard / (decode + refill), places * hazard / (decode + closed))


def faster_transformer_path(
    law: ExactLaw, prompt: int, decodes: tuple[int, ...], load: Fraction
) -> Divergence:
    """Divergent path of FasterTransformer at `load` ρ: requests whose decode lengths repeat in groups of B.

    The period is one batch of requests from its prompts to its last token; whenever B or more wait at its start, it
    repeats itself.  It diverges if ρ exceeds the share of time that is work, and the certificate fails if not.

    Args: decodes, the B lengths of a group.
    """
    going = [sum(d >= k for d in decodes) for k in range(1, max(decodes) + 1)]
    w, size = law.price, len(decodes)
    batches = [size * prompt, *going]
    return _path(law, batches, load, w * (size * prompt + sum(decodes)))


def vllm_path(law: ExactLaw, prompt: int, decodes: int, places: int, load: Fraction) -> Divergence:
    """Divergent path of vLLM at `load` ρ: requests of one size, S/d of the S places ending in every decode batch.

    The period is one decode batch of S and one prompt batch of the S/d successors; whenever as many wait, it repeats
    itself.  Started all at once instead, the same requests keep step and waste nothing: the fluid model has both paths.

    Raises:
        ValueError: d does not divide S.
    """
    if decodes < 1 or places % decodes:
        raise ValueError(
            f"{places} places are not staggered evenly over {decodes} decodes; give a multiple of them"
        )
    w, ending = law.price, places // decodes
    # decodes left in the places, ages 0 to d - 1, and the successors
    held = w * (ending * decodes * (decodes + 1) // 2 + ending * (prompt + decodes))
    return _path(law, [places, ending * prompt], load, held)


def _path(law: ExactLaw, batches: list[int], load: Fraction, needs: Fraction) -> Divergence:
    """The run that goes through batches of so many tokens."""
    period = tuple(Stretch(law.seconds(n), law.price * n) for n in batches)
    busy = sum((s.work for s in period), ZERO) / sum((s.seconds for s in period), ZERO)
    return Divergence(load, period, load - busy, needs=needs)


def _binomial(n: int, k: int, p: Fraction) -> Fraction:
    return comb(n, k) * p**k * (1 - p) ** (n - k)


def _line(law: ExactLaw, most: int) -> tuple[Fraction, Fraction]:
    """Fixed cost and slope of t(n) for 1 <= n <= `most`."""
    if most < 1:
        raise ValueError(f"a batch holds at least one token; give sizes >= 1, not {most}")
    if isinstance(law.law, TileLaw) and most <= law.law.tile:
        return exact(law.law.tile_time), exact(law.law.per_token)
    if isinstance(law.law, Affine):
        return exact(law.law.base), exact(law.law.per_token)
    raise ValueError(
        f"the closed form needs t(n) affine up to {most} tokens; give a tile as large, or an affine law"
    )


NODE = ExactLaw(TileLaw(8, 2.0**-6, 2.0**-12))
LONG = (1, 1, 1, 1, 1, 1, 1, 9)  # decodes of a group


def _paths() -> list[Divergence]:
    return [
        vllm_path(NODE, 2, 4, 8, Fraction(19, 20)),
        faster_transformer_path(NODE, 8, LONG, Fraction(3, 4)),
    ]


def _bounded() -> list[Divergence]:
    """At the load that is work while they run they do not grow; nor do full tiles at theirs."""
    level = [
        vllm_path(NODE, 2, 4, 8, Fraction(27, 35)),
        faster_transformer_path(NODE, 8, LONG, Fraction(45, 73)),
    ]
    full = (Stretch(NODE.seconds(8), NODE.price * 8),)
    return [*level, Divergence(Fraction(99, 100), full, Fraction(-1, 100))]


CLAIMS = (
    Claim(
        name="unmixed-batching-diverges",
        statement="Inside the capacity region, vLLM before chunked prefill falls behind by 5/28 s per second at "
        "load 19/20 (8 places, 2 + 4 tokens), and FasterTransformer by 39/292 at load 3/4 (batches of 8, one answer "
        "in eight of 9 decodes), in tiles of 8 tokens.",
        assumptions=(
            "arrivals as a fluid",
            "the policies repeat the period (argued here, held against the policies by tests)",
        ),
        source="arXiv 2504.07347 names both (published; recalled); the paths are our derivation",
        kind=Kind.RATIONAL,
        evidence=_paths,
        controls={"at the load that is work, and of full tiles": _bounded},
        where="docs/models/stability.md",
    ),
)
