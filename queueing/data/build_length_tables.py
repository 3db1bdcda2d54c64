"""Rebuild the shipped quantile tables of request lengths from the public lists.

Run as `python -m queueing.data.build_length_tables`.  The lists are read from the folder TANDEM_DATA.

Method: sort the list by prompt length; cut it into strata at G cosine-spaced ranks; keep J steps of prompt quantiles
per stratum and L quantiles of the output lengths inside it, all by linear interpolation between order statistics and
rounded to whole tokens.  `summary` keeps figures of the list itself, so that the table can be held against them where
the list is absent.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from queueing.data import DATASETS, local_copy
from queueing.lengths import Empirical
from queueing.marginals import cosine_levels, stratum_levels
from queueing.tabular import replacing

STRATA, STEPS, LEVELS = 32, 8, 33
PERCENTILES = (25, 50, 75, 90, 99)
TABLES = {  # file -> (data set, bound on prompt + output, repository@commit)
    "sharegpt_lengths.json": ("sharegpt_8k", 8192, "agrimUT/SLAI@5098a7aba05e3edbcfa3a509d6cc9cd248fc4380"),
    "arxiv_lengths.json": (
        "arxiv_summarization",
        4096,
        "microsoft/vidur@7d47513363ec447a741ac5e47241580b47724fbf",
    ),
}


def length_table(name: str, limit: int, source: str) -> dict[str, Any]:
    """Quantile table and summary of one data set; see the module's first lines for the method."""
    listed = Empirical.read_csv(local_copy(name))
    order = np.argsort(listed.prompt, kind="stable")
    prompt, output = listed.prompt[order], listed.output[order]
    strata = cosine_levels(STRATA + 1)
    cuts = np.rint(np.array(strata) * len(order)).astype(int)
    m = listed.moments()
    return {
        "name": name,
        "source": source,
        "licence": DATASETS[name].licence,
        "sha256": DATASETS[name].sha256,
        "limit": limit,
        "summary": {
            "requests": len(order),
            "E[p]": m.prompt,
            "E[d]": m.output,
            "E[p^2]": m.prompt_square,
            "E[d^2]": m.output_square,
            "E[pd]": m.product,
            "percentiles": PERCENTILES,
            "prompt": np.percentile(prompt, PERCENTILES).tolist(),
            "output": np.percentile(output, PERCENTILES).tolist(),
        },
        "prompt_values": whole(np.quantile(prompt, stratum_levels(strata, STEPS))),
        "output_values": [
            whole(np.quantile(output[a:b], cosine_levels(LEVELS))) for a, b in itertools.pairwise(cuts)
        ],
    }


def whole(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[int]:
    """Values rounded to whole tokens."""
    return np.rint(values).astype(int).tolist()


def text(table: dict[str, Any]) -> str:
    """JSON with one line per field and per stratum, so that changes show."""
    fields: list[str] = []
    for key, value in table.items():
        shown = json.dumps(value)
        if key == "output_values":
            shown = "[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in value) + "\n]"
        fields.append(f"{json.dumps(key)}: {shown}")
    return "{\n" + ",\n".join(fields) + "\n}\n"


def main() -> None:
    """Write every table beside this file."""
    for file, (name, limit, source) in TABLES.items():
        with replacing(Path(__file__).with_name(file)) as written:
            written.write(text(length_table(name, limit, source)))


if __name__ == "__main__":
    main()
