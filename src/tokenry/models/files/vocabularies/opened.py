"""What a vocabulary file holds, in the form its own library reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tokenry.core.vocabulary import Vocabulary

Kind = Literal["bpe", "unigram", "wordpiece"]

LARGEST_FILE = 256 << 20
"""Bytes of a vocabulary file beyond which it is refused; real ones stay below 40 MB."""

LARGEST_ID = 1 << 22
"""No id is this large: a table is made up to the largest one."""


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """A `tokenizer.json`, read or made from another file; the library is tokenizers."""

    description: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Byte pairs by rank, as in `.tiktoken` and tekken files; the library is tiktoken.

    Args:
        ranks: rank of each piece.
        pattern: the regular expression that splits text first.
        first: what is added to a rank to make it an id.
    """

    ranks: Mapping[bytes, int]
    pattern: str
    first: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A SentencePiece `.model`; the library is sentencepiece.

    Args:
        data: the file.
        rule: name of its normalisation, `identity` where there is none.
        prefix: whether a space is put before the text.
        keeps_spaces: whether runs of spaces stay as they are.
    """

    data: bytes
    rule: str
    prefix: bool
    keeps_spaces: bool


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A vocabulary that was opened.

    Args:
        name: what the user called it.
        kind: the algorithm.
        format: the kind of file.
        vocabulary: the bytes of every id.
        surfaces: what decoding writes for every id; unlike the vocabulary it also spells marks.
        marks: strings that become an id of their own where they stand in a text.
        content: what the library reads.
    """

    name: str
    kind: Kind
    format: str
    vocabulary: Vocabulary
    surfaces: tuple[bytes, ...]
    marks: Mapping[str, int]
    content: Described | Ranked | Scored
