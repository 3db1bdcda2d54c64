"""Backends: who computes the operations of the model, torch or the Triton kernels, as one table."""

from __future__ import annotations

import importlib
import os
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = ["BACKENDS", "Operations", "operations"]

BACKENDS = {"reference": "reference", "triton": "kernel"}  # backend -> module of each operation's folder


class Normalise(Protocol):
    """Root-mean-square normalisation after a residual has been added; returns (normalised, sum)."""

    def __call__(
        self, x: Tensor, weight: Tensor, epsilon: float, residual: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Normalise."""
        ...


class Multiply(Protocol):
    """x · weightᵀ."""

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        """Multiply."""
        ...


class Rotate(Protocol):
    """Rotary embedding of queries and keys; keys and values go into the cache; returns the queries."""

    def __call__(
        self, qkv: Tensor, positions: Tensor, cos_sin: Tensor, keys: Tensor, values: Tensor, slots: Tensor
    ) -> Tensor:
        """Rotate and store."""
        ...


class Attend(Protocol):
    """Causal attention of chunks over the paged cache."""

    def __call__(
        self, q: Tensor, keys: Tensor, values: Tensor, starts: Tensor, lengths: Tensor, blocks: Tensor,
        window: int | None,
    ) -> Tensor:  # fmt: skip
        """Attend."""
        ...


class AttendOnce(Protocol):
    """Attention of one token per sequence over the paged cache."""

    def __call__(
        self, q: Tensor, keys: Tensor, values: Tensor, lengths: Tensor, blocks: Tensor, window: int | None
    ) -> Tensor:
        """Attend."""
        ...


class Gate(Protocol):
    """silu(gate) · up."""

    def __call__(self, gate_up: Tensor) -> Tensor:
        """Gate."""
        ...


class Choose(Protocol):
    """Tokens by temperature and counter-based draws."""

    def __call__(
        self, logits: Tensor, temperature: Tensor, seed: int, request: Tensor, position: Tensor
    ) -> Tensor:
        """Choose."""
        ...


class Operations(NamedTuple):
    """What a forward pass and the choice of tokens are made of; shapes and mathematics in `gpu/kernels`."""

    matmul: Multiply
    rms_norm: Normalise
    rope_and_store: Rotate
    attention: Attend
    decode_attention: AttendOnce
    swiglu: Gate
    sample: Choose


FOLDERS = {
    "matmul": "gemm",
    "rms_norm": "rms_norm",
    "rope_and_store": "rope",
    "attention": "attention",
    "decode_attention": "decode_attention",
    "swiglu": "swiglu",
    "sample": "sample",
}


def operations(backend: str) -> Operations:
    """The operations of a backend: "reference" (torch) or "triton".

    Raises:
        ValueError: there is no such backend, or Triton has neither a GPU nor its interpreter to run on.
    """
    if backend not in BACKENDS:
        raise ValueError(f"there is no backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    if backend == "triton" and not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            "there is no GPU for the Triton kernels; use the backend 'reference', or set TRITON_INTERPRET=1 to try them"
        )
    module = BACKENDS[backend]
    found = {
        name: getattr(importlib.import_module(f"gpu.kernels.{folder}.{module}"), name)
        for name, folder in FOLDERS.items()
    }
    return Operations(**found)
