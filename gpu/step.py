"""Step: the index tensors of one iteration, which tell every operation whose each token is and where it lives."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """N tokens of S sequences, computed together.

    The tokens of sequence s are rows `starts[s]:starts[s+1]`; they stand at the end of its `lengths[s]` KV tokens.  The
    first `decodes` sequences have one token each.

    Shapes: `tokens` i64 [N]; `positions` i64 [N]; `starts` i32 [S + 1]; `lengths` i32 [S], KV tokens after this step;
    `slots` i64 [N], place of each token's key and value in the flattened cache, block·block_size + offset, -1 for
    padding; `blocks` i32 [S, most blocks], the block table; `sampled` i64 [R], rows whose logits are wanted.
    """

    tokens: Tensor
    positions: Tensor
    starts: Tensor
    lengths: Tensor
    slots: Tensor
    blocks: Tensor
    sampled: Tensor
    decodes: int
