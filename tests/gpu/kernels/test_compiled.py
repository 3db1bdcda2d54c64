"""Ahead-of-time compilation: every variant within its limits and the table; fat, deep and scalar ones are refused.

Compilation needs kernels outside the interpreter, so all of it is done by one process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import triton

from gpu.kernels import compiled
from gpu.kernels.compiled import ARCHITECTURES, RESOURCES, Resources, breaches, variants
from gpu.kernels.gemm import kernel as gemm

TABLE = json.loads(RESOURCES.read_text())
FITTING = Resources(128, 0, 64 << 10, mma=64, wgmma=0, copies=30)
GEMM = gemm.VARIANTS[0]

SCRIPT = """
import json
from dataclasses import asdict, replace
from gpu.kernels import compiled
from gpu.kernels.gemm.kernel import VARIANTS

square = VARIANTS[0]
single = dict(types=dict(square.types, x="*fp32", weight="*fp32"), constants=dict(square.constants, M=16, N=16, K=16))
planted = {
    "fat": (replace(square, options={"num_warps": 2, "num_stages": 2}), 80),
    "deep": (replace(square, options={"num_warps": 8, "num_stages": 6}), 89),
    "scalar": (replace(square, **single), 80),
    "in turn": (replace(square, options={"num_warps": 8, "num_stages": 1}), 80),
}
print(json.dumps({
    "table": compiled.table(),
    "planted": {
        name: compiled.breaches(variant, c, compiled.resources(variant, c))
        for name, (variant, c) in planted.items()
    },
}))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the script says."""
    environment = os.environ | {
        "TRITON_INTERPRET": "0",
        "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton")),
    }
    command = [sys.executable, "-c", SCRIPT]
    root = Path(compiled.__file__).parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(240)  # a cold compilation of every variant for three architectures, on a busy machine
def test_every_variant_keeps_its_limits_on_every_architecture(run) -> None:
    needed = run["table"]["kernels"]
    wrong = [
        sentence
        for variant in variants()
        for c in ARCHITECTURES
        for sentence in breaches(variant, c, Resources(**needed[variant.name][f"sm_{c}"]), TABLE)
    ]
    assert wrong == []
    assert len(needed) == len(list(variants()))


def test_the_table_has_every_variant_and_no_other() -> None:
    assert set(TABLE["kernels"]) == {variant.name for variant in variants()}
    operations = {name.split()[0] for name in TABLE["kernels"]}
    assert {"gemm", "rms_norm", "swiglu", "sample"} <= operations


@pytest.mark.parametrize(
    ("planted", "named"),
    [
        ("fat", "bytes per thread, over 64"),
        ("deep", "bytes of shared memory, over 101376"),
        ("scalar", "has no mma instruction"),
        ("in turn", "has no asynchronous copy"),
    ],
)
def test_planted_variants_are_refused(run, planted, named) -> None:
    assert any(named in sentence for sentence in run["planted"][planted])


def test_what_fits_is_not_refused_and_what_does_not_is() -> None:
    table = {"triton": triton.__version__, "kernels": {GEMM.name: {"sm_80": {"registers": 120}}}}
    assert breaches(GEMM, 80, FITTING, table) == []
    assert breaches(GEMM, 80, replace(FITTING, registers=133), table) == [
        f"{GEMM.name} on sm_80 needs 133 registers, over 1.1 of the table's 120"
    ]
    assert breaches(GEMM, 80, replace(FITTING, registers=133), table | {"triton": "0.0"}) == []
    assert "is not in the table" in breaches(GEMM, 89, FITTING, table)[0]
    assert breaches(GEMM, 80, replace(FITTING, spill_bytes=64)) == []
    assert "spills 65" in breaches(GEMM, 80, replace(FITTING, spill_bytes=65))[0]
    assert "has no wgmma" in breaches(GEMM, 90, FITTING)[0]


@pytest.mark.parametrize(
    ("c", "registers", "shared", "warps", "programs"),
    [
        (80, 32, 0, 4, 16),  # threads: 2048/128, and registers: 65536/(32·128)
        (89, 32, 0, 4, 12),  # threads: 1536/128
        (80, 128, 0, 8, 2),  # registers: 65536/(128·256)
        (80, 129, 0, 8, 1),  # registers are given out by eight per thread
        (80, 32, 54 << 10, 4, 2),  # 2·55 <= 164 < 3·55 KiB
        (90, 32, 75 << 10, 4, 3),  # 3·76 = 228 KiB
        (90, 16, 0, 1, 32),  # programs
    ],
)
def test_occupancy_is_the_scarcest_resource(c, registers, shared, warps, programs) -> None:
    needed = Resources(registers, 0, shared, 0, 0, 0)
    assert ARCHITECTURES[c].occupancy(needed, warps) == programs


def test_bad_variants_are_named() -> None:
    with pytest.raises(ValueError, match="give each once"):
        replace(GEMM, types={**GEMM.types, "M": "i32"})
    with pytest.raises(ValueError, match=r"no run-time arguments \['GROUP'\]"):
        replace(GEMM, divisible=frozenset({"GROUP"}))
    with pytest.raises(ValueError, match="sm_75 is not known"):
        compiled.resources(GEMM, 75)
    with pytest.raises(ValueError, match="do not compile in the interpreter"):
        compiled.resources(GEMM, 80)
