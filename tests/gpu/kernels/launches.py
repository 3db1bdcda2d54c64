"""What a launcher asks for: grids and arguments, recorded in place of running the kernel."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest


def programs(module: ModuleType, name: str, *arguments: Any, launcher: str) -> int:
    """Programs of kernel `name` that one call of the launcher starts."""
    grids: list[tuple[int, ...]] = []

    class Recorder:
        def __getitem__(self, grid: tuple[int, ...]):
            grids.append(grid)
            return lambda *_, **__: None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, Recorder())
        getattr(module, launcher)(*arguments)
    return sum(math.prod(grid) for grid in grids)
