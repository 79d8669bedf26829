"""The chunks of a model that reads bytes, as the tokens of a text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import torch

from tokenry.core.errors import InvalidValue
from tokenry.core.fields import setting
from tokenry.core.origin import Source
from tokenry.core.sequence import TokenSequence
from tokenry.core.vocabulary import Vocabulary
from tokenry.segment.base import Tokenizer
from tokenry.segment.engines.encoding import checked
from tokenry.segment.engines.lossless import Lossless
from tokenry.segment.hierarchy.model import HierarchicalLM
from tokenry.segment.parts.boundaries import MARK


@dataclass(frozen=True, kw_only=True)
class Chunks(Tokenizer):
    """What a model of chunks makes of a text: a token for each chunk, with its bytes and without an id.

    A chunk may be any bytes, so there is no vocabulary of them: ids are -1. What the model reads are bytes, which
    `vocabulary` lists and `decode` takes; encoded tokens are decoded by their places.
    """

    model: HierarchicalLM = setting(None, doc="a model of chunks; built, where it learns where to cut")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.model, HierarchicalLM):
            raise InvalidValue(f"Chunks: model must be a model of chunks such as hnet; got {self.model!r}.")

    @classmethod
    def name(cls) -> str:
        return "chunks"

    def encode(self, raw: str | bytes) -> TokenSequence:
        text = checked(raw)
        ends = torch.tensor(self.model.ends(text if isinstance(text, bytes) else text.encode()), dtype=torch.long)
        spans = torch.zeros(len(ends), 6, dtype=torch.long)
        spans[1:, 0], spans[:, 1] = ends[:-1], ends
        return TokenSequence(
            ids=torch.full_like(ends, -1), source=torch.zeros_like(ends), spans=spans, sources=(Source("text", text),)
        )

    def decode(self, tokens: Iterable[int] | TokenSequence) -> bytes:
        if isinstance(tokens, TokenSequence):
            return b"".join(_held(tokens, i) for i in range(len(tokens)))
        ids = list(tokens)
        wrong = next((id for id in ids if not 0 <= id < MARK), None)
        if wrong is not None:
            raise InvalidValue(
                f"decode: ids must be from 0 to {MARK - 1}, bytes; got {wrong}; chunks have no ids: decode what "
                "`encode` gave."
            )
        return bytes(ids)

    @property
    def vocabulary(self) -> Vocabulary:
        return _bytes()

    @property
    def lossless(self) -> Lossless:
        return Lossless("bytes")

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        raise InvalidValue(f"Chunks: must be made of a model; load {folder} with its own class.")


def _held(tokens: TokenSequence, i: int) -> bytes:
    source = int(tokens.source[i])
    data = tokens.sources[source].data if source >= 0 else None
    if not isinstance(data, str | bytes):
        raise InvalidValue(
            "decode: chunks must have their text; got some without; keep the `sources` of what was encoded."
        )
    start, end = tokens.spans[i, :2].tolist()
    return _encoded(data)[start:end]


@lru_cache(maxsize=4)
def _encoded(data: str | bytes) -> bytes:
    return data if isinstance(data, bytes) else data.encode()


@lru_cache(maxsize=1)
def _bytes() -> Vocabulary:
    return Vocabulary(tuple(bytes([b]) for b in range(MARK)))
