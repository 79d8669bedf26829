"""What a tokenizer makes of documents: the ids of each, its bytes, and whether they are all there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int

from tokenry.core.errors import InvalidValue
from tokenry.core.vocabulary import Vocabulary


class Codec(Protocol):
    """Anything that turns text into ids of a vocabulary."""

    name: str

    @property
    def vocabulary(self) -> Vocabulary: ...

    def encode(self, text: str) -> Any:
        """Ids, or something that has them as `ids`."""


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """One document as a tokenizer cut it.

    Args:
        data: the document.
        ids: what it became.
        whole: whether the pieces of the ids spell the document exactly.
    """

    data: bytes
    ids: Int[np.ndarray, "N"]
    whole: bool


class FastTokenizer:
    """A fast tokenizer of transformers, without the special tokens it would add."""

    def __init__(self, tokenizer: Any, name: str = "") -> None:
        from tokenry.models.text.vocabulary import vocabulary_of

        self.tokenizer, self.name = tokenizer, name or str(getattr(tokenizer, "name_or_path", "")) or "tokenizer"
        self.vocabulary = vocabulary_of(tokenizer)

    def __str__(self) -> str:
        return self.name

    def encode(self, text: str) -> list[int]:
        from tokenry.models.text.as_text import text_ids

        return text_ids(self.tokenizer, text)


class Bytes:
    """The control that does not compress: a token for each byte."""

    name = "bytes"
    vocabulary = Vocabulary(tuple(bytes([b]) for b in range(256)))

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8", "surrogatepass"))


def codec_of(tokenizer: Any) -> Codec:
    """A name as `load_tokenizer` takes it, a fast tokenizer, or anything with `encode` and `vocabulary`.

    Raises:
        InvalidValue: something else.
        UnknownModel: nothing was found under the name.
    """
    if isinstance(tokenizer, str):
        if tokenizer == Bytes.name:
            return Bytes()
        from tokenry.models.files.load import load_tokenizer

        return FastTokenizer(load_tokenizer(tokenizer), tokenizer)
    if hasattr(tokenizer, "backend_tokenizer"):
        return FastTokenizer(tokenizer)
    if hasattr(tokenizer, "encode") and isinstance(getattr(tokenizer, "vocabulary", None), Vocabulary):
        found: Codec = tokenizer
        return found
    raise InvalidValue(
        f"tokenizer: must be a name, a fast tokenizer, or have `encode` and `vocabulary`; got "
        f"{type(tokenizer).__name__}."
    )


def stream_of(codec: Codec, text: str) -> Stream:
    """A document as the tokenizer cuts it."""
    found = codec.encode(text)
    ids = getattr(found, "ids", found)
    data = text.encode("utf-8", "surrogatepass")
    array = np.asarray(ids, dtype=np.int64).reshape(-1)
    return Stream(data, array, codec.vocabulary.spell(array.tolist()) == data)


def pieces_of(codec: Codec, text: str) -> list[bytes]:
    """The bytes of each token: those it stands for where the tokenizer says which, else those its id spells."""
    found = codec.encode(text)
    if hasattr(found, "spans"):
        data = text.encode("utf-8", "surrogatepass")
        return [data[begin:end] for begin, end in found.spans[:, :2].tolist()]
    return [codec.vocabulary[int(i)] or b"" for i in found]
