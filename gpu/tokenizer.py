"""Texts and token ids: the tokenizer of a checkpoint, run by the package `tokenizers`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu.gguf_loader import GgufFile
from gpu.loader import local_path

__all__ = ["Tokenizer"]

# pre-tokenizers by the name that GGUF files give them: whether digits are split one by one before the byte-level words
BYTE_LEVEL = {"smollm": True, "gpt-2": False, "default": False}
CONTROL = 3  # type of a token that is no text, such as the end of one


class Tokenizer:
    """Encodes texts into token ids and decodes them."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def of(cls, path: Path | str) -> Tokenizer:
        """The tokenizer of a checkpoint: `tokenizer.json` of a directory, or the vocabulary in a GGUF file.

        Raises:
            ValueError: there is none, or it is of a kind that is not read here.
        """
        import tokenizers

        place = local_path(path)
        if place.suffix == ".gguf":
            return cls(_of_gguf(GgufFile(place)))
        file = place / "tokenizer.json"
        if not file.exists():
            raise ValueError(f"{place} has no tokenizer.json; give prompts as lists of token ids")
        try:
            return cls(tokenizers.Tokenizer.from_file(str(file)))
        except Exception as problem:  # noqa: BLE001  # the package raises nothing more special
            raise ValueError(f"{file} cannot be read: {problem}") from None

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; nothing is put before or behind it."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of token ids, control tokens left out."""
        return self._tokenizer.decode(list(tokens))


def _of_gguf(file: GgufFile) -> Any:
    """Byte-pair encoding over bytes, from the vocabulary and the merges of the file's header."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    model, kind = file.field("tokenizer.ggml.model"), file.field("tokenizer.ggml.pre", "default")
    if model != "gpt2" or kind not in BYTE_LEVEL:
        raise ValueError(
            f"{file.path} has a tokenizer of kind {model}/{kind}, which is not read here; give prompts as token ids"
        )
    tokens, types = file.field("tokenizer.ggml.tokens"), file.field("tokenizer.ggml.token_type")
    merges = [tuple(pair.split(" ", 1)) for pair in file.field("tokenizer.ggml.merges")]
    built: Any = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
        if BYTE_LEVEL[kind]
        else words
    )
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens(
        [AddedToken(t, special=True) for t, k in zip(tokens, types, strict=True) if k == CONTROL]
    )
    return built
