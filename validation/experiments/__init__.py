"""One claim, one file: each module has a `NAME` and `run(quick, out, workers, progress) -> Result`."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["MODULES", "load"]

MODULES = {
    "cluster-day": "validation.experiments.cluster_day",
    "cpu-engine": "validation.experiments.cpu_engine",
    "edge": "validation.experiments.edge",
    "gpu-tables": "validation.experiments.gpu_tables",
    "kv-stability": "validation.experiments.kv_stability",
    "mbs": "validation.experiments.mbs",
    "mixed": "validation.experiments.mixed",
    "rad": "validation.experiments.rad",
    "rrl": "validation.experiments.rrl",
    "sarathi": "validation.experiments.sarathi",
    "slackfit": "validation.experiments.slackfit",
    "slai": "validation.experiments.slai",
    "staircase": "validation.experiments.staircase",
    "supernet": "validation.experiments.supernet",
    "vllm-run": "validation.experiments.vllm_run",
    "vtc-isolation": "validation.experiments.vtc_isolation",
    "vtc-overload": "validation.experiments.vtc_overload",
    "vtc-real": "validation.experiments.vtc_real",
    "vtc-shift": "validation.experiments.vtc_shift",
    "wait": "validation.experiments.wait",
    "work-conservation": "validation.experiments.work_conservation",
}


def load(name: str) -> ModuleType:
    """Return the module of experiment `name`, imported only now, since each brings what it needs.

    Raises:
        ValueError: there is no such experiment.
    """
    if name not in MODULES:
        raise ValueError(f"there is no experiment {name!r}; known: {', '.join(MODULES)}")
    return importlib.import_module(MODULES[name])
