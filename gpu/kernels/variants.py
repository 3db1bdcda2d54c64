"""Variant: one specialisation of a Triton kernel, as a launch on a GPU would compile it.

Each `gpu/kernels/<op>/kernel.py` has a tuple `VARIANTS`, which :mod:`gpu.kernels.compiled` compiles without a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Variant"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One specialisation of a kernel.

    Args:
        name: unique among the variants, such as "gemm 128x128x64".
        kernel: the function under `triton.jit`.
        types: Triton type of each run-time argument, such as {"x": "*bf16", "rows": "i32"}.
        constants: value of each `tl.constexpr` argument.
        divisible: run-time arguments that a launch marks as multiples of 16: pointers of tensors, and numbers that are,
            unless the kernel asks not to be specialised on them.
        options: the compiler's, `num_warps` and `num_stages`.
        tensor: the instructions that its products must run on: "mma" of one warp; "wgmma" of four, which sm_90 has for
            tiles of 64 rows or more; or "" if it has no products.

    Raises:
        ValueError: types and constants together are not the kernel's arguments, or `divisible` names another.
    """

    name: str
    kernel: Any
    types: Mapping[str, str]
    constants: Mapping[str, Any]
    divisible: frozenset[str]
    options: Mapping[str, int]
    tensor: Literal["", "mma", "wgmma"] = ""

    def __post_init__(self) -> None:
        arguments = sorted(self.kernel.arg_names)
        given = sorted([*self.types, *self.constants])
        if given != arguments:
            raise ValueError(
                f"variant {self.name} is given {given} and its kernel takes {arguments}; give each once"
            )
        if not self.divisible <= set(self.types):
            raise ValueError(
                f"variant {self.name} has no run-time arguments {sorted(self.divisible - set(self.types))}; "
                "mark only those as divisible"
            )
