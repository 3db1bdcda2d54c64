"""Ahead-of-time compilation: what the kernels need of a GPU, read without one.

A kernel is compiled for an architecture by Triton, and its PTX by the `ptxas` that Triton brings, which states
registers and spilled bytes per thread.  Shared memory per program is Triton's.  From them follows how many programs a
processor holds, the `occupancy` of :class:`queueing.tile.Tile`, by the limits of the architecture.

Needs kernels that compile: in Triton's interpreter, TRITON_INTERPRET=1, there are none.
"""

# Triton's compiler has no types of its own.
# pyright: basic

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

import gpu.kernels
from gpu.kernels.variants import Variant

__all__ = [
    "ARCHITECTURES",
    "RESOURCES",
    "Architecture",
    "Resources",
    "breaches",
    "resources",
    "table",
    "variants",
]

RESOURCES = Path(__file__).with_name("resources.json")
MOST_SPILLED = 64  # bytes per thread
SLACK = 1.1  # registers, over the table's
THREADS = 32  # of a warp


@dataclass(frozen=True, slots=True)
class Architecture:
    """One generation of GPUs, `capability` as in sm_90; bytes of shared memory, and limits of one processor.

    `shared` is the most that one program may have, `shared_total` what all on a processor share; each program takes
    1 KiB more than it asks for.

    Source: CUDA C++ Programming Guide, table of technical specifications per compute capability.
    """

    capability: int
    shared: int
    shared_total: int
    programs: int
    threads: int
    registers: int = 65536

    def occupancy(self, needed: Resources, warps: int) -> int:
        """Programs of `warps` warps that one processor holds at a time.

        Registers are given out to warps in portions of 256.
        """
        per_warp = -(-max(needed.registers, 1) * THREADS // 256) * 256
        return min(
            self.registers // (per_warp * warps),
            self.shared_total // (needed.shared_bytes + 1024),
            self.threads // (THREADS * warps),
            self.programs,
        )


ARCHITECTURES = {
    architecture.capability: architecture
    for architecture in (
        Architecture(80, 163 << 10, 164 << 10, 32, 2048),
        Architecture(89, 99 << 10, 100 << 10, 24, 1536),
        Architecture(90, 227 << 10, 228 << 10, 32, 2048),
    )
}


@dataclass(frozen=True, slots=True)
class Resources:
    """What one kernel needs: registers and spilled bytes per thread, shared bytes per program, and what its PTX holds.

    `mma` and `wgmma` count its instructions for tensor cores, of a warp and of four warps, `copies` its asynchronous
    copies into shared memory.
    """

    registers: int
    spill_bytes: int
    shared_bytes: int
    mma: int
    wgmma: int
    copies: int


def variants() -> Iterator[Variant]:
    """The variants of every kernel, from the tuple `VARIANTS` of each `gpu/kernels/<op>/kernel.py`."""
    for module in pkgutil.iter_modules(gpu.kernels.__path__):
        if module.ispkg:
            yield from importlib.import_module(f"gpu.kernels.{module.name}.kernel").VARIANTS


def resources(variant: Variant, capability: int) -> Resources:
    """Compile one variant for one architecture, and read what it needs.

    Raises:
        ValueError: the kernel runs in the interpreter, or the architecture is not among :data:`ARCHITECTURES`.
    """
    if capability not in ARCHITECTURES:
        raise ValueError(f"sm_{capability} is not known; give one of {', '.join(map(str, ARCHITECTURES))}")
    if not isinstance(variant.kernel, triton.JITFunction):
        raise ValueError(
            "kernels do not compile in the interpreter; set TRITON_INTERPRET=0 before the import"
        )
    names = variant.kernel.arg_names
    source = ASTSource(
        variant.kernel,
        {name: variant.types.get(name, "constexpr") for name in names},
        {(names.index(name),): value for name, value in variant.constants.items()},
        {(names.index(name),): [["tt.divisibility", 16]] for name in variant.divisible},
    )
    compiled = triton.compile(
        source, target=GPUTarget("cuda", capability, THREADS), options=dict(variant.options)
    )
    ptx = compiled.asm["ptx"]
    stated = _assembled(ptx, capability)
    return Resources(
        _number(r"Used (\d+) registers", stated),
        _number(r"(\d+) bytes spill stores", stated),
        compiled.metadata.shared,
        len(re.findall(r"\bmma\.sync", ptx)),
        len(re.findall(r"\bwgmma\.mma_async", ptx)),
        len(re.findall(r"\bcp\.async\.c", ptx)),
    )


def _assembled(ptx: str, capability: int) -> str:
    """What `ptxas` says of a program; from sm_90 on Triton uses the features of one architecture, hence the a."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(ptx)
        name = f"sm_{capability}" + ("a" if capability >= 90 else "")
        command = [
            get_ptxas(capability).path,
            "-v",
            f"--gpu-name={name}",
            source,
            "-o",
            f"{folder}/kernel.cubin",
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def _number(pattern: str, text: str) -> int:
    """The number that the pattern finds.

    Raises:
        ValueError: it finds none, so that a change of words is no zero.
    """
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"ptxas states no {pattern!r} in {text!r}; read its words anew")
    return int(found[1])


def breaches(
    variant: Variant, capability: int, needed: Resources, table: Mapping[str, Any] | None = None
) -> list[str]:
    """What is wrong with a compiled variant, one sentence each.

    At most 64 bytes per thread are spilled; shared memory fits; products run on tensor cores, on tiles that
    are copied ahead.  If the `table` was read with this version of Triton, registers
    are at most a tenth above it.
    """
    wrong: list[str] = []
    limit = ARCHITECTURES[capability].shared
    if needed.spill_bytes > MOST_SPILLED:
        wrong.append(f"spills {needed.spill_bytes} bytes per thread, over {MOST_SPILLED}")
    if needed.shared_bytes > limit:
        wrong.append(f"asks for {needed.shared_bytes} bytes of shared memory, over {limit}")
    if variant.tensor:
        instruction = variant.tensor if capability >= 90 else "mma"
        if not getattr(needed, instruction):
            wrong.append(f"has no {instruction} instruction")
        if not needed.copies:
            wrong.append("has no asynchronous copy into shared memory")
    if table is not None and table["triton"] == triton.__version__:
        known = table["kernels"].get(variant.name, {}).get(f"sm_{capability}")
        if known is None:
            wrong.append("is not in the table; run python -m gpu.kernels.compiled")
        elif needed.registers > SLACK * known["registers"]:
            wrong.append(
                f"needs {needed.registers} registers, over {SLACK} of the table's {known['registers']}"
            )
    return [f"{variant.name} on sm_{capability} {sentence}" for sentence in wrong]


def table() -> dict[str, Any]:
    """Compile everything: {"triton": version, "kernels": {name: {"sm_80": {...}}}}."""
    return {
        "triton": triton.__version__,
        "kernels": {
            variant.name: {f"sm_{c}": asdict(resources(variant, c)) for c in ARCHITECTURES}
            for variant in variants()
        },
    }


if __name__ == "__main__":
    RESOURCES.write_text(json.dumps(table(), indent=1) + "\n")
