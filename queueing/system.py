"""System: what one node is: its iteration time, its KV memory and its limits."""

from __future__ import annotations

from dataclasses import dataclass

from queueing.models.iteration_time import IterationTime, Roofline, TileLaw


@dataclass(frozen=True, slots=True)
class System:
    """One node."""

    iteration_time: IterationTime
    blocks: int
    block_size: int = 16
    max_length: int = 8192
    max_running: int = 4096
    max_batch_tokens: int = 2**31 - 1
    last_chunk_emits: bool = True
    watermark: float = 0.01
    name: str = "system"

    @property
    def watermark_blocks(self) -> int:
        """Blocks that admission leaves free: at least one, so that a lone request always finds room to grow."""
        return max(1, int(self.watermark * self.blocks)) if self.blocks < 2**31 else 1

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV memory holds."""
        return self.blocks * self.block_size

    @classmethod
    def mistral_7b_rtx_6000_ada(cls) -> System:
        """SLAI's testbed."""
        return cls(Roofline(23.4e-3, 7e-3, 0.091e-3, 0.17e-6, 5e-9), 14733, name="mistral-7b on rtx-6000-ada")

    @classmethod
    def rad_tile_model(cls) -> System:
        """RAD's tile model."""
        return cls(TileLaw(128, 4e-3, 5e-6), 1 << 30, max_length=1 << 30, name="tile model")

    @classmethod
    def named(cls, model: str, hardware: str) -> System:
        """By name."""
        del model, hardware
        return cls.mistral_7b_rtx_6000_ada()
