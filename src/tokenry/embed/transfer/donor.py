"""The model that gives its embeddings: its pieces, its rows, and how it would cut pieces of others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tokenry.core.errors import InvalidValue
from tokenry.core.vocabulary import Vocabulary
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.embeddings import matrices_of
from tokenry.models.text.vocabulary import vocabulary_of

Tell = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

AT_ONCE = 8192
"""Pieces that a tokenizer cuts in one call."""


class Rows(NamedTuple):
    """Rows for pieces, to stand before the first layer and behind the last; no output where both are the same."""

    input: Float[Tensor, "P E"]
    output: Float[Tensor, "P F"] | None


def silent(what: str, done: int, of: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, eq=False)
class Donor:
    """The vocabulary, tokenizer and matrices of a model.

    Args:
        tokenizer: a fast one.
        vocabulary: its pieces; there may be fewer than rows, and ids of the tokenizer behind the last row have none.
        input: embeddings, a row for each id.
        output: weights of the logits, or None where they are those of the input; a bias is their last column.
        tell: called during long work.
    """

    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary
    input: Float[Tensor, "V E"]
    output: Float[Tensor, "V F"] | None
    tell: Tell = silent

    def __post_init__(self) -> None:
        if not self.vocabulary.ids:
            raise InvalidValue("donor: its tokenizer must have pieces; got none; pass the model's own tokenizer.")
        if len(self.vocabulary) > len(self.input):
            raise InvalidValue(
                f"donor: its tokenizer must have no more than the model's {len(self.input)} ids; "
                f"got {len(self.vocabulary)}; pass the model's own tokenizer."
            )

    @classmethod
    def of(cls, language: LanguageModel, tell: Tell = silent) -> Donor:
        """A model as a donor.

        Raises:
            UnsupportedModel: the model's matrices cannot be replaced.
            InvalidValue: its tokenizer has no pieces, or more than the model has rows.
        """
        found, vocabulary = matrices_of(language.model), vocabulary_of(language.tokenizer)
        own = language.tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
        if max(own.values(), default=-1) < len(found.input):
            # Marks that were added to a tokenizer, but never to the model, stand for nothing that it knows.
            vocabulary = vocabulary.first(len(found.input))
        return cls(language.tokenizer, vocabulary, found.input, found.output, tell)

    @property
    def without_rows(self) -> list[str]:
        """What the tokenizer names beyond the rows of the model."""
        return sorted(name for name, i in self.tokenizer.get_vocab().items() if i >= len(self.input))

    @cached_property
    def ids(self) -> dict[bytes, int]:
        """The id of each piece: of several that spell the same the one that the tokenizer uses."""
        return used_ids(self.tokenizer, self.vocabulary)

    def cut(self, pieces: Sequence[bytes | None]) -> list[list[int]]:
        """The donor's own ids that spell each piece together; none for what it cannot spell.

        A piece that is whole characters is cut by the tokenizer; one that it would not spell exactly, such as a part of
        a character, by the longest matches from left to right.
        """
        texts = [text_of(piece) for piece in pieces]
        found: list[list[int]] = []
        for at in range(0, len(texts), AT_ONCE):
            given = [text or "" for text in texts[at : at + AT_ONCE]]
            found += self.tokenizer(given, add_special_tokens=False, verbose=False)["input_ids"]
        return [
            ids if text is not None and self._spell(ids) == piece else self._longest_matches(piece or b"")
            for piece, text, ids in zip(pieces, texts, found, strict=True)
        ]

    def draw(self, pieces: Sequence[bytes | None], seed: int) -> Rows:
        """Random rows from N(mean, std) of all numbers of each matrix; a piece draws the same in any company."""
        drawn = [torch.Generator().manual_seed(_seed(seed, piece)) for piece in pieces]
        given = (self.input,) if self.output is None else (self.input, self.output)
        rows = []
        for matrix in given:
            mean, std = matrix.float().mean().cpu(), matrix.float().std().cpu()
            noise = [torch.randn(matrix.shape[1], generator=g) for g in drawn]
            rows.append(mean + std * torch.stack(noise) if noise else torch.zeros(0, matrix.shape[1]))
        return Rows(rows[0], rows[1] if len(rows) > 1 else None)

    def _spell(self, ids: Sequence[int]) -> bytes | None:
        return self.vocabulary.spell(ids) if max(ids, default=0) < len(self.vocabulary) else None

    def _longest_matches(self, piece: bytes) -> list[int]:
        found, at = [], 0
        while at < len(piece):
            end = next((e for e in range(min(len(piece), at + self._longest), at, -1) if piece[at:e] in self.ids), at)
            if end == at:
                return []
            found.append(self.ids[piece[at:end]])
            at = end
        return found

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.ids))


def used_ids(tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> dict[bytes, int]:
    """The id of each piece: of several that spell the same the one that the tokenizer uses, else the last.

    Where each byte has a piece of its own beside those of characters, the pieces of bytes come first and are not used.
    """
    ids = dict(vocabulary.ids)
    for piece, among in vocabulary.duplicates.items():
        text = text_of(piece)
        found = [] if text is None else tokenizer(text, add_special_tokens=False)["input_ids"]
        ids[piece] = found[0] if len(found) == 1 and found[0] in among else among[-1]
    return {piece: i for piece, i in ids.items() if piece}


def text_of(piece: bytes | None) -> str | None:
    """The text of a piece; None where it is a part of a character, or no text."""
    try:
        return piece.decode() if piece else None
    except UnicodeDecodeError:
        return None


def _seed(seed: int, piece: bytes | None) -> int:
    hashed = hashlib.sha256(f"{seed}:".encode() + (b"" if piece is None else b"\1" + piece))
    return int.from_bytes(hashed.digest()[:8], "big") >> 1
