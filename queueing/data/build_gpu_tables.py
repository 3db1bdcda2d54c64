"""Rebuild the shipped slices of measured GPU kernel times from the tables of the package aiconfigurator-core.

Run as `python -m queueing.data.build_gpu_tables` where that package (extra `hardware`) and polars (extra `tables`) can
be imported; its version is checked.  Slices, in the folder `measured/gpu_tables`, times in ms as the source has them:

 *  `GPU_gemm.csv`: matrix products of bf16, one row per shape and number of tokens, one column per software stack.  The
    shapes are the six from which :mod:`queueing.models.gpu_tables` interpolates those of Mistral-7B and Llama-3.1-8B;
 *  `GPU_decode_attention.csv`, `GPU_prefill_attention.csv`: one layer's attention kernel, 32 query and 8 KV heads of
    128, bf16, no window.  Repeated rows of the source are averaged;
 *  `steps.csv`: t(M + 1)/t(M) of the products with both sides in 4096 ... 16384, quartiles over the 64 shapes;
 *  `gpus.csv`: device, stacks, and the sizes and peaks the package states;
 *  `llama_3_1_8b_h100_serving.csv`: measured serving points of one H100.
"""

from __future__ import annotations

import importlib.util
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from queueing.tabular import replacing

__all__ = ["SLICES", "SOURCES", "VERSION", "Source", "main", "slices", "systems"]

VERSION = "0.12.0"
SLICES = Path(__file__).with_name("measured") / "gpu_tables"
SHAPES = ((6144, 4096), (4096, 4096), (16384, 4096), (51200, 4096), (4096, 12288), (4096, 16384))
SQUARE = (4096, 5120, 6144, 7168, 8192, 10240, 12288, 16384)  # sides of the shapes in `steps.csv`
STACKS = ("vllm/0.24.0", "sglang/0.5.14", "trtllm/1.3.0rc20")
SERVED = ("meta-llama/Llama-3.1-8B-Instruct", "h100_sxm", 1)  # model, system and tensor-parallel size


class Source(NamedTuple):
    """Where a GPU's tables stand: folder of the package, stacks of its matrix products, stack of its attention."""

    folder: str
    gemm: tuple[str, ...] = STACKS
    attention: str = "vllm/0.24.0"


SOURCES: Mapping[str, Source] = {
    # the other stacks of the A100 were timed on a coarser grid
    "a100": Source("a100_sxm", ("sglang/0.5.10",), "vllm/0.14.0"),
    "h100": Source("h100_sxm"),
    "h200": Source("h200_sxm"),
    "l40s": Source("l40s"),
    "rtx-pro-6000": Source("rtx_pro_6000_server"),
    "b200": Source("b200_sxm"),
}


def systems() -> Path | None:
    """Folder `systems` of an importable aiconfigurator-core of the right version; None if there is none."""
    found = importlib.util.find_spec("aiconfigurator_core")
    if found is None or found.origin is None:
        return None
    try:
        version = metadata.version("aiconfigurator-core")
    except metadata.PackageNotFoundError:
        return None
    return Path(found.origin).parent / "systems" if version == VERSION else None


def _rows(path: Path, **wanted: Any) -> list[dict[str, Any]]:
    """Rows of a Parquet table in which the named columns, those that exist, have the wanted values."""
    import polars

    frame: Any = polars.read_parquet(path)
    for column, value in wanted.items():
        if column in frame.columns:
            frame = frame.filter(polars.col(column) == value)
    return frame.to_dicts()


def _averaged(rows: Iterable[Mapping[str, Any]], *keys: str) -> dict[tuple[Any, ...], float]:
    """Mean latency (ms) by the named columns, sorted."""
    found: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for row in rows:
        found[tuple(row[key] for key in keys)].append(row["latency"])
    return {key: statistics.fmean(found[key]) for key in sorted(found)}


def _products(where: Path, source: Source, stack: str) -> dict[tuple[Any, ...], float]:
    path = where / "data" / source.folder / "gemm" / stack / "gemm_perf.parquet"
    return _averaged(_rows(path, gemm_dtype="bfloat16"), "n", "k", "m")


def gemm(tables: Mapping[str, Mapping[tuple[Any, ...], float]]) -> list[str]:
    """Lines of a slice of matrix products, from one table by stack: sizes that every stack was timed at."""
    names = [stack.split("/")[0] for stack in tables]
    lines = [",".join(["out_features", "in_features", "tokens", *(f"{name}_ms" for name in names)])]
    first = next(iter(tables.values()))
    for n, k in SHAPES:
        lines += [
            ",".join([*map(str, key), *(f"{table[key]:.6g}" for table in tables.values())])
            for key in first
            if key[:2] == (n, k) and all(key in table for table in tables.values())
        ]
    return lines


def steps(gpu: str, table: Mapping[tuple[Any, ...], float]) -> list[str]:
    """Lines of one GPU: quartiles of t(M + 1)/t(M) over the shapes, at every M that was timed with its successor."""
    lines: list[str] = []
    for m in sorted({m for _, _, m in table}):
        ratios = [
            table[n, k, m + 1] / table[n, k, m]
            for n in SQUARE
            for k in SQUARE
            if (n, k, m) in table and (n, k, m + 1) in table
        ]
        if len(ratios) == len(SQUARE) ** 2:
            low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
            lines.append(f"{gpu},{m},{middle:.4f},{low:.4f},{high:.4f}")
    return lines


def attention(where: Path, source: Source, kind: str) -> list[str]:
    """Lines of a slice of attention kernels; `kind` is generation or context, as the source calls them."""
    path = where / "data" / source.folder / "attention" / source.attention / f"{kind}_attention_perf.parquet"
    rows = _rows(
        path,
        num_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        attn_dtype="bfloat16",
        kv_cache_dtype="bfloat16",
        window_size=0,
    )
    for row in rows:
        row["length"] = row["isl"] + row["step"] if kind == "generation" else row["isl"]
    length = "context_tokens" if kind == "generation" else "prompt_tokens"
    found = _averaged(rows, "batch_size", "length")
    return [f"sequences,{length},ms", *(f"{s},{n},{ms:.6g}" for (s, n), ms in found.items())]


def peaks(where: Path, gpu: str, source: Source) -> str:
    """Line of one GPU: what its description in the package states."""
    text = (where / f"{source.folder}.yaml").read_text(encoding="utf-8")
    numbers: list[str] = []
    for key in ("mem_capacity", "mem_bw", "bfloat16_tc_flops"):
        found = re.search(rf"^ +{key}: *(\d+)", text, re.MULTILINE)
        if found is None:
            raise ValueError(f"{source.folder}.yaml states no {key}; install aiconfigurator-core {VERSION}")
        numbers.append(found[1])
    return ",".join([gpu, source.folder, " ".join(source.gemm), source.attention, *numbers])


def serving(where: Path) -> list[str]:
    """Lines of the serving points; the concurrency stands in the source's column batch_size."""
    import polars

    frame: Any = polars.read_csv(where / "silicon_sample.csv", infer_schema_length=None)
    points = sorted(
        (row["isl"], row["osl"], row["batch_size"], row["silicon_ttft_ms"], row["silicon_tpot_ms"])
        for row in frame.to_dicts()
        if (row["model_path"], row["system"], row["tp_size"]) == SERVED
    )
    lines = [",".join(f"{value:.7g}" for value in point) for point in points]
    return ["prompt_tokens,output_tokens,concurrency,ttft_ms,tpot_ms", *lines]


def slices() -> dict[str, list[str]]:
    """Lines of every slice, by file name.

    Raises:
        ValueError: the package cannot be imported, or has another version.
    """
    where = systems()
    if where is None:
        raise ValueError(f"install aiconfigurator-core {VERSION} to rebuild the slices of the GPU tables")
    made: dict[str, list[str]] = {}
    stairs = ["gpu,tokens,median_ratio,lower_quartile,upper_quartile"]
    devices = ["gpu,system,gemm_stacks,attention_stack,memory_bytes,bandwidth_bytes_per_s,bf16_flops_per_s"]
    for gpu, source in SOURCES.items():
        tables = {stack: _products(where, source, stack) for stack in source.gemm}
        made[f"{gpu}_gemm.csv"] = gemm(tables)
        made[f"{gpu}_decode_attention.csv"] = attention(where, source, "generation")
        made[f"{gpu}_prefill_attention.csv"] = attention(where, source, "context")
        stairs += steps(gpu, tables[source.gemm[0]])
        devices.append(peaks(where, gpu, source))
    made["steps.csv"] = stairs
    made["gpus.csv"] = devices
    made["llama_3_1_8b_h100_serving.csv"] = serving(where)
    return made


def main() -> None:
    """Write every slice into the folder `measured/gpu_tables`."""
    for name, lines in slices().items():
        with replacing(SLICES / name) as written:
            written.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
