"""Rebuild the shipped slices of measured kernel times from the public tables.

Run as `python -m queueing.data.build_measured_slices`.  The tables are read from the folder TANDEM_DATA, and each is
known by its sha256.

Method: a table of token-wise operators becomes one row per measured size, with the time of a whole iteration of L
layers without attention,

    total = embedding + L·(sum of the operators of a layer + one more residual addition) ,

because the source times one of a layer's two residual additions; the attention table is sorted and every 17th row kept
(a prime, so that the rows kept do not beat with the grid of sizes); the chunk sweep is kept whole.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from queueing.data import data_folder
from queueing.tabular import Table, read_table, replacing

LAYERS = 32
EVERY = 17  # rows of the attention table per row kept
MEASURED = Path(__file__).with_name("measured")

TOKENWISE = {  # slice -> (table, sha256)
    "llama_3_8b_a100.csv": (
        "measured/vidur_mlp_a100_llama3_8b.csv.gz",
        "59b279202ee42ce83ccfcf80d4c0997f807d7ecaf4094c4bdbe54a3f824ea963",
    ),
    "llama_2_7b_a100.csv": (
        "measured/vidur_mlp_a100_llama2_7b.csv.gz",
        "f49d59b25a3418e511f007591cf101c16292df0b49da063507fecc2ffb700120",
    ),
    "llama_2_7b_h100.csv": (
        "measured/vidur_mlp_h100_llama2_7b.csv.gz",
        "80fc3a00f39345c8ccc2c9ad569165bb5a032c7528bbe2cb4bb35128666eb9c4",
    ),
    "llama_2_7b_a40.csv": (
        "measured/vidur_mlp_a40_llama2_7b.csv.gz",
        "788ab1c91e9f82bc13c806fcb43263cc34f12236e6fd671f7cd32e5a23be3cf8",
    ),
}
ATTENTION = (
    "llama_2_7b_attention_a800.csv",
    "measured/a800_llama2_7b_attention.csv.gz",
    "d3e5de6b448340cce8374bac37930a053f25d28e6c1077f32c8ba30399ebb8dc",
)
PRODUCTS = "llama_3_8b_a100_products.csv"  # from the table of llama_3_8b_a100.csv
PRODUCTS_OF_A_LAYER = ("attn_pre_proj_ms", "attn_post_proj_ms", "mlp_up_proj_ms", "mlp_down_proj_ms")
LARGEST_PRODUCT = 2048  # tokens
CHUNKS = (
    "mistral_7b_chunks_rtx_6000_ada.csv",
    "measured/rtx6000ada_mistral7b_chunks.csv",
    "38cf20b832323b54c4140854dcc65c261ce078174a6ae66ea917a6706147e657",
)


def table_of(path: str, sha256: str) -> Table:
    """Table of the folder TANDEM_DATA with that content; ValueError says what to do if there is none."""
    folder = data_folder()
    if folder is None or not (folder / path).is_file():
        raise ValueError(f"set TANDEM_DATA to a folder that holds {path} to rebuild the slices")
    found = hashlib.sha256((folder / path).read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(f"{folder / path} has sha256 {found}, expected {sha256}; get the table again")
    return read_table(folder / path)


def tokenwise(table: Table) -> list[str]:
    """Lines of a slice: tokens, and ms of an iteration without attention."""
    columns = {name: table.numbers(name) for name in table.columns}
    per_layer = [name for name in columns if name not in ("num_tokens", "emb_ms")]
    lines = ["num_tokens,total_ms"]
    for row, n in enumerate(columns["num_tokens"]):
        layer = sum(columns[name][row] for name in per_layer) + columns["add_ms"][row]
        lines.append(f"{n:.0f},{columns['emb_ms'][row] + LAYERS * layer:.3f}")
    return lines


def products(table: Table) -> list[str]:
    """Lines of a slice: tokens up to 2,048, and ms of the matrix products of all layers alone."""
    columns = {name: table.numbers(name) for name in PRODUCTS_OF_A_LAYER}
    lines = ["num_tokens,products_ms"]
    for row, n in enumerate(table.numbers("num_tokens")):
        if n <= LARGEST_PRODUCT:
            lines.append(f"{n:.0f},{LAYERS * sum(column[row] for column in columns.values()):.3f}")
    return lines


def attention(table: Table) -> list[str]:
    """Lines of a slice: every 17th row of one layer's attention kernel, by kind, batch, chunk and cache."""
    names = ("is_prefill", "batch_size", "prefill_chunk_tokens", "kv_cache_tokens", "attn_ms")
    rows = sorted(zip(*(table.numbers(name) for name in names), strict=True))[::EVERY]
    return [",".join(names), *(",".join(f"{value:g}" for value in row) for row in rows)]


def chunks(table: Table) -> list[str]:
    """Lines of the chunk sweep as it is."""
    return [",".join(table.columns), *map(",".join, zip(*table.columns.values(), strict=True))]


def slices() -> dict[str, list[str]]:
    """Lines of every slice, by file name."""
    made = {name: tokenwise(table_of(*source)) for name, source in TOKENWISE.items()}
    made[ATTENTION[0]] = attention(table_of(*ATTENTION[1:]))
    made[PRODUCTS] = products(table_of(*TOKENWISE["llama_3_8b_a100.csv"]))
    made[CHUNKS[0]] = chunks(table_of(*CHUNKS[1:]))
    return made


def main() -> None:
    """Write every slice into the folder `measured` beside this file."""
    for name, lines in slices().items():
        with replacing(MEASURED / name) as written:
            written.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
