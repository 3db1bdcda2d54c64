"""The gated activation in torch: what the kernel computes."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import silu

__all__ = ["swiglu"]


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate)·up with silu(z) = z/(1 + e^-z), in float32.

    Shapes: `gate_up` [N, 2·I], the gate first; returns [N, I].

    Source: Shazeer, "GLU Variants Improve Transformer", arXiv 2002.05202.
    """
    gate, up = gate_up.chunk(2, dim=-1)
    return (silu(gate.float()) * up.float()).to(gate_up.dtype)
