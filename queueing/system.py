"""System: what one node is: how long its iterations take, its KV memory and its limits.

A system of `tandem` is named MODEL/HARDWARE (:meth:`System.names`) or read from a file of your own
(:meth:`System.from_file`); its iteration time comes from :mod:`queueing.models.calibrations`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queueing.models.calibrations import calibrated, calibration
from queueing.models.iteration_time import LAWS, IterationTime, TileLaw
from queueing.tabular import replacing

__all__ = ["System"]

ENDLESS = 1 << 30  # blocks, or tokens of context, that no workload exhausts
MEASURED_BLOCKS = {("mistral-7b", "rtx-6000-ada"): 14_733}  # what the engine of the testbed found free
CONTEXT_LIMIT = {
    "mistral-7b": 8192,
    "llama-3-8b": 8192,
    "llama-2-7b": 4096,
}  # tokens; Mistral's as the testbed set it
MAX_RUNNING = {("mistral-7b", "rtx-6000-ada"): 128}  # as the testbed set it
DEFAULT_MAX_RUNNING = 256  # requests, vLLM's default


@dataclass(frozen=True, slots=True)
class System:
    """One node: an iteration-time law, KV memory in blocks, and the limits of engine and model.

    `iteration_time` (s of a batch); `blocks` of KV memory, each of `block_size` tokens; `max_length` (tokens), the
    context limit of the model; `max_running`, requests that hold KV memory at once; `max_batch_tokens` per iteration;
    `last_chunk_emits`, whether the last prompt chunk emits the first output token; `watermark`, the share of the blocks
    that admission leaves free.

    Raises:
        ValueError: a limit is no whole number >= 1, the watermark is outside [0, 1), or the law is none.
    """

    iteration_time: IterationTime
    blocks: int
    block_size: int = 16
    max_length: int = 8192
    max_running: int = 4096
    max_batch_tokens: int = 2**31 - 1
    last_chunk_emits: bool = True
    watermark: float = 0.01
    name: str = "system"

    def __post_init__(self) -> None:
        if not callable(self.iteration_time) or not hasattr(self.iteration_time, "lower"):
            raise ValueError(f"a system needs a law of iteration time, not {self.iteration_time!r}")
        for limit in ("blocks", "block_size", "max_length", "max_running", "max_batch_tokens"):
            value: Any = getattr(self, limit)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
                raise ValueError(f"a system has {limit}={value!r}; give a whole number from 1 to 2^31 - 1")
        if not isinstance(self.last_chunk_emits, bool):
            raise ValueError(f"a system has last_chunk_emits={self.last_chunk_emits!r}; give true or false")
        mark: Any = self.watermark
        if isinstance(mark, bool) or not isinstance(mark, int | float) or not 0 <= mark < 1:
            raise ValueError(
                f"a system has watermark={mark!r}; give a share of the blocks, at least 0 and below 1"
            )
        if not isinstance(self.name, str):
            raise ValueError(f"a system has name={self.name!r}; give a text")

    @property
    def watermark_blocks(self) -> int:
        """Blocks that admission leaves free: at least one, so that a lone request always finds room to grow."""
        return max(1, int(self.watermark * self.blocks))

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV memory holds."""
        return self.blocks * self.block_size

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names "MODEL/HARDWARE" that :meth:`named` knows."""
        return tuple("/".join(pair) for pair in calibrated())

    @classmethod
    def named(cls, model: str, hardware: str) -> System:
        """System of a calibrated model and hardware, on one GPU.

        KV blocks are what 90 % of the memory leaves beside the weights (an estimate from above); at most 256 requests
        run at once, vLLM's default.  The testbed mistral-7b/rtx-6000-ada has the 14,733 blocks that its engine found
        and runs at most 128.

        Raises:
            ValueError: there is none of that name; the sentence lists those there are.
        """
        if (model, hardware) not in calibrated():
            raise ValueError(f"no system is called {model}/{hardware}; there are {', '.join(cls.names())}")
        found = calibration(model, hardware)
        pair = (model, hardware)
        return cls(
            found.law,
            MEASURED_BLOCKS[pair] if pair in MEASURED_BLOCKS else found.hardware.kv_blocks(found.model),
            max_length=CONTEXT_LIMIT[model],
            max_running=MAX_RUNNING.get(pair, DEFAULT_MAX_RUNNING),
            name=f"{model}/{hardware}",
        )

    @classmethod
    def mistral_7b_rtx_6000_ada(cls) -> System:
        """The testbed of the SLAI paper."""
        return cls.named("mistral-7b", "rtx-6000-ada")

    @classmethod
    def rad_tile_model(cls) -> System:
        """RAD's tile model: 4 ms a tile of 128 tokens and 5 µs a token, no attention, memory that never binds."""
        return cls(TileLaw(128, 4e-3, 5e-6), ENDLESS, max_length=ENDLESS, name="tile model")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> System:
        """Read a system from JSON, or from TOML if the name ends in .toml.

        The keys are the fields; `iteration_time` is a table with the key `law`, one of the classes of
        :mod:`queueing.models.iteration_time`, and the fields of that law.

        Raises:
            ValueError: the file is not such a document, or a key is unknown, missing or has a value that may not stand
                there; in one sentence.
        """
        where = Path(path)
        try:
            text = where.read_text(encoding="utf-8")
            read: Any = tomllib.loads(text) if where.suffix == ".toml" else json.loads(text)
        except (UnicodeDecodeError, json.JSONDecodeError, tomllib.TOMLDecodeError) as problem:
            kind = "TOML" if where.suffix == ".toml" else "JSON"
            raise ValueError(f"{where} is not {kind} in UTF-8: {problem}") from None
        try:
            document = _fields(read, "a system", cls)
            law = document["iteration_time"]
            if not isinstance(law, dict) or law.get("law") not in tuple(LAWS):
                raise ValueError(f"iteration_time needs the key law, one of {', '.join(LAWS)}")
            kind_of_law = LAWS[law.pop("law")]
            document["iteration_time"] = kind_of_law(**_fields(law, kind_of_law.__name__, kind_of_law))
            return cls(**document)
        except ValueError as problem:
            raise ValueError(f"{where}: {problem}") from None

    def to_file(self, path: str | os.PathLike[str]) -> None:
        """Write the system as JSON, whole or not at all; :meth:`from_file` reads an equal one.

        Raises:
            ValueError: the law is none of :mod:`queueing.models.iteration_time`, or the name asks for TOML.
        """
        law: Any = self.iteration_time
        if LAWS.get(type(law).__name__) is not type(law):
            raise ValueError(f"only the laws {', '.join(LAWS)} are kept in files, not {law!r}")
        if Path(path).suffix == ".toml":
            raise ValueError(f"systems are written as JSON; give {path} another ending")
        document = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        document["iteration_time"] = {"law": type(law).__name__, **dataclasses.asdict(law)}
        with replacing(path) as file:
            json.dump(document, file, indent=2)
            file.write("\n")


def _fields(read: Any, what: str, cls: Any) -> dict[str, Any]:
    """`read` as keyword arguments of `cls`; ValueError if it is no table, or a key is unknown or missing."""
    if not isinstance(read, dict):
        raise ValueError(f"{what} is a table of keys and values, not {read!r}")
    known = {field.name: field.default is dataclasses.MISSING for field in dataclasses.fields(cls)}
    for key in read:
        if key not in known:
            raise ValueError(f"{what} has no key {key!r}; its keys are {', '.join(known)}")
    for key, needed in known.items():
        if needed and key not in read:
            raise ValueError(f"{what} needs the key {key!r}")
    return dict(read)
