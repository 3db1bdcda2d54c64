"""Choice of the next token in torch: what the kernel computes.

**Gumbel-max.**  If G_v are independent standard Gumbel variables, argmax_v (z_v/T + G_v) is distributed as
softmax(z/T).  A standard Gumbel variable is -log E with E exponential, and E is -log(1 - u) with u uniform.

**Counter-based generator.**  The u of column v is word v mod 4 of Philox-4x32-10 with the seed as key and the counter
(⌊v/4⌋, position, low and high half of request).  So a token is a function of (logits, temperature, seed, request,
position) and of nothing else: not of its row, of the other rows, or of how many draws came before.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, for Philox; Gumbel, "Statistical theory
of extreme values", 1954, for the maximum.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["exponential", "philox", "sample"]

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF


def sample(logits: Tensor, temperature: Tensor, seed: int, request: Tensor, position: Tensor) -> Tensor:
    """The next token of each row: its most likely one at temperature 0, else a draw from softmax(logits/temperature).

    Of equal scores the first column wins.

    Shapes: `logits` [R, V], finite or -inf; `temperature` f32 [R], >= 0; `request` i64 [R]; `position` i64 [R], below
    2³²; `seed` is taken modulo 2⁶⁴.  Returns tokens i64 [R].
    """
    scores = logits.float()
    drawn = temperature > 0
    if drawn.any():
        vocab = scores.shape[1]
        groups = torch.arange(-(-vocab // 4), device=logits.device)[None]
        row = request[drawn, None]
        words = philox((groups, position[drawn, None], row, row >> 32), seed)
        noise = -exponential(torch.stack(words, -1).flatten(1)[:, :vocab]).log()
        scores = scores.clone() if scores is logits else scores
        scores[drawn] = scores[drawn] / temperature[drawn, None] + noise
    return scores.argmax(-1)


def philox(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox-4x32-10: four random 32-bit words of a counter of four and a 64-bit key, all in int64 tensors.

    A round is (c₀, c₁, c₂, c₃) -> (hi(M₁c₂)⊕c₁⊕k₀, lo(M₁c₂), hi(M₀c₀)⊕c₃⊕k₁, lo(M₀c₀)); between rounds the key grows by
    two Weyl constants.  Products wrap modulo 2⁶⁴, which keeps their halves.
    """
    c0, c1, c2, c3 = (c & WORD for c in counter)
    k0, k1 = seed & WORD, seed >> 32 & WORD
    for _ in range(10):
        even, odd = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (odd >> 32 & WORD) ^ c1 ^ k0, odd & WORD, (even >> 32 & WORD) ^ c3 ^ k1, even & WORD
        k0, k1 = k0 + WEYL[0] & WORD, k1 + WEYL[1] & WORD
    return c0, c1, c2, c3


def exponential(words: Tensor) -> Tensor:
    """Exponential variables -log(1 - u) of random words w, with u = (w + ½)/2³² in float32 and at most 1 - 2⁻²⁴.

    Small ones, which become the large Gumbel variables that win, keep full relative precision.
    """
    u = ((words.float() + 0.5) * 2.0**-32).clamp(max=1 - 2.0**-24)
    return -torch.log1p(-u)
