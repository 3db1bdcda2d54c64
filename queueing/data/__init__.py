"""Public data by name: where it comes from, how its content is known, and the small tables derived from it.

A data set is a reduced copy of a file in a public repository at a fixed commit, known by the sha256 of the reduced
copy.  A local folder stands in for the network: the environment variable TANDEM_DATA names a folder that holds the
reduced copies under their `path`.  Nothing is ever fetched unless :func:`fetch` is called.

`sharegpt_lengths.json` and `arxiv_lengths.json` in this package are derived figures (quantiles), written by
`python -m queueing.data.build_length_tables`; see NOTICE.md beside them.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DATASETS", "Dataset", "Lacking", "data_folder", "local_copy", "verified"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """One reduced public file: `path` in a data folder, `sha256` of it, its number of `rows`, and the source `url`."""

    name: str
    path: str
    sha256: str
    rows: int
    url: str
    licence: str


_RAW = "https://raw.githubusercontent.com"

DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "sharegpt_8k",
            "traces/sharegpt_8k.csv",
            "8354b13928086235a133b057b57c43c645e732f1712a08f66d5136dfa5aa9cc9",
            30_731,
            f"{_RAW}/agrimUT/SLAI/5098a7aba05e3edbcfa3a509d6cc9cd248fc4380"
            "/data/processed_traces/sharegpt_8k_filtered_stats_llama2_tokenizer.csv",
            "Apache-2.0",
        ),
        Dataset(
            "arxiv_summarization",
            "traces/arxiv_summarization.csv",
            "a7b6ad92d101d37b9e95a00e3d4c4ee3828e29972248ded31279d9829d3273e5",
            28_257,
            f"{_RAW}/microsoft/vidur/7d47513363ec447a741ac5e47241580b47724fbf"
            "/data/processed_traces/arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv",
            "MIT",
        ),
        Dataset(
            "azure_2023_conv",
            "traces/azure_2023_conv.csv",
            "8de2d135b5e9e4d9d22a9e5230e64bc7175ed9c5cb70a7f6f8ebc4742a35cd78",
            19_366,
            f"{_RAW}/Azure/AzurePublicDataset/b469a113cedca53ddc3bdea71a143dc4b7d8700c"
            "/data/AzureLLMInferenceTrace_conv.csv",
            "CC-BY-4.0",
        ),
        Dataset(
            "azure_2023_code",
            "traces/azure_2023_code.csv",
            "8c0211c7ddb155e7004ac1bbc6b068b74ad93035b84a7d0bd47e6bfcbd1af8d5",
            8_819,
            f"{_RAW}/Azure/AzurePublicDataset/b469a113cedca53ddc3bdea71a143dc4b7d8700c"
            "/data/AzureLLMInferenceTrace_code.csv",
            "CC-BY-4.0",
        ),
    )
}


class Lacking(ValueError):
    """What is asked for needs data or a library that is not here; the message says how to come by it."""


def data_folder() -> Path | None:
    """Folder named by the environment variable TANDEM_DATA, or None if it is unset or empty."""
    named = os.environ.get("TANDEM_DATA", "")
    return Path(named) if named else None


def dataset(name: str) -> Dataset:
    """Data set of that name; ValueError names those there are."""
    if name not in DATASETS:
        raise ValueError(f"no data set is called {name!r}; there are {', '.join(DATASETS)}")
    return DATASETS[name]


def local_copy(name: str) -> Path:
    """Path of the verified reduced copy in the folder TANDEM_DATA; `Lacking` says what to do if there is none."""
    wanted = dataset(name)
    folder = data_folder()
    if folder is None:
        raise Lacking(f"set TANDEM_DATA to a folder that holds {wanted.path} to use the data set {name}")
    path = folder / wanted.path
    if not path.is_file():
        raise Lacking(
            f"TANDEM_DATA names {folder}, which lacks {wanted.path}; put the file there or unset TANDEM_DATA"
        )
    return verified(path, wanted)


def verified(path: Path, wanted: Dataset) -> Path:
    """`path` itself, if its content has the sha256 of the data set; ValueError otherwise."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != wanted.sha256:
        raise ValueError(
            f"{path} is not the data set {wanted.name}: its sha256 is {found}, expected {wanted.sha256}"
        )
    return path
