"""Fresh outputs that hold poison, so that what a kernel does not write shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module")
def poisoned() -> Iterator[None]:
    """`torch.empty` gives NaN, and -1 where there is none."""

    def poison(*size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return torch.full(size, float("nan") if dtype.is_floating_point else -1, dtype=dtype, device=device)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", poison)
        yield
