"""Another vocabulary for a model: which rows are copied, which must be made, and the model that comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tokenry.core.errors import InvalidValue
from tokenry.core.vocabulary import Vocabulary
from tokenry.embed.transfer.donor import Donor, Rows, Tell, silent, used_ids
from tokenry.models.attention.adapter import unwrap
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.embeddings import Matrices, marks_of, with_matrices
from tokenry.models.text.marks import dress
from tokenry.models.text.vocabulary import vocabulary_of

MADE, IDLE = -1, -2
"""In place of an id of the donor: a row that must be made, and one that no text uses."""

MULTIPLE = 128
"""Rows are padded to a multiple of this."""


@dataclass(frozen=True, eq=False)
class Transplant:
    """What becomes of every row when a model gets another vocabulary.

    Args:
        language: the model that gives its embeddings.
        donor: its pieces and rows.
        tokenizer: the new one, with the marks and the chat template of the model.
        vocabulary: its pieces.
        source: of each new id the donor's id whose row is copied, else `MADE` or `IDLE`.
    """

    language: LanguageModel
    donor: Donor
    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary
    source: Int[Tensor, "V"]

    @classmethod
    def of(cls, language: LanguageModel, tokenizer: PreTrainedTokenizerBase, tell: Tell = silent) -> Transplant:
        """Match the pieces by their bytes and the marks by name and role.

        Raises:
            InvalidValue: a tokenizer without pieces, or a model with a tokenizer that is not its own.
            UnsupportedModel: a model whose matrices cannot be replaced, or a tokenizer that is not a fast one.
        """
        donor = Donor.of(language, tell)
        dressed = dress(tokenizer, language.tokenizer, marks_of(language.model), len(donor.input))
        vocabulary = vocabulary_of(dressed.tokenizer)
        found = torch.full((len(vocabulary),), IDLE)
        for i, source in _matches(donor, dressed.tokenizer, vocabulary):
            found[i] = source
        for i, source in dressed.marks.items():
            found[i] = source
        return cls(language, donor, dressed.tokenizer, vocabulary, found)

    def without_copies(self) -> Transplant:
        """The same with all rows made but those of marks."""
        kept = {IDLE, MADE, *marks_of(self.language.model)}
        sources = self.source.tolist()
        text = [i for i, piece in enumerate(self.vocabulary) if piece is not None and sources[i] not in kept]
        source = self.source.clone()
        source[text] = MADE
        return replace(self, source=source)

    @cached_property
    def pieces(self) -> list[bytes | None]:
        """The pieces whose rows must be made, in the order of their ids."""
        return [self.vocabulary[i] for i in (self.source == MADE).nonzero()[:, 0].tolist()]

    @property
    def counts(self) -> dict[str, int]:
        """How many rows are copied, made, and used by no text."""
        idle = int((self.source == IDLE).sum())
        return {"copied": len(self.source) - idle - len(self.pieces), "made": len(self.pieces), "idle": idle}

    @property
    def share(self) -> float:
        """The share of the rows in use that are copied."""
        counts = self.counts
        return counts["copied"] / (counts["copied"] + counts["made"])

    @torch.no_grad()
    def build(self, rows: Rows, multiple: int = MULTIPLE) -> LanguageModel:
        """The model with the new vocabulary; the weights between the matrices are shared with the old one.

        Args:
            rows: of `pieces`, in their order.
            multiple: rows are padded to a multiple of this.
        """
        if multiple < 1:
            raise InvalidValue(f"transfer: multiple must be at least 1; got {multiple}.")
        total = -(-len(self.source) // multiple) * multiple
        output = None if self.donor.output is None else self._fill(self.donor.output, rows.output, total)
        matrices = Matrices(self._fill(self.donor.input, rows.input, total), output)
        ids = {old: new for new, old in enumerate(self.source.tolist()) if old >= 0}
        model = with_matrices(unwrap(self.language.model), matrices, ids)
        name = f"{self.language.name}+{self.tokenizer.name_or_path}".rstrip("+")
        return LanguageModel(model, self.tokenizer, name, self.language.context)

    def _fill(self, old: Float[Tensor, "V E"], made: Float[Tensor, "P E"] | None, total: int) -> Float[Tensor, "W E"]:
        assert made is not None
        assert made.shape == (len(self.pieces), old.shape[1])
        # The mean row is never likelier than the mean token: exp of a mean logit is at most the mean of exp.
        new = old.float().mean(0).to(old.dtype).repeat(total, 1)
        used = len(self.source)
        spare = old[len(self.donor.vocabulary) :][: total - used]
        new[used : used + len(spare)] = spare
        copied, wanted = (self.source >= 0).nonzero()[:, 0], (self.source == MADE).nonzero()[:, 0]
        new[copied] = old[self.source[copied]]
        new[wanted] = made.to(old)
        return new


def _matches(donor: Donor, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> Iterator[tuple[int, int]]:
    """Every id that texts use, with the donor's id of the same name and bytes, else of the same bytes, else `MADE`."""
    used = used_ids(tokenizer, vocabulary)
    theirs = donor.tokenizer.get_vocab()
    names = tokenizer.convert_ids_to_tokens(list(range(len(vocabulary))))
    for i, piece in enumerate(vocabulary):
        named = theirs.get(names[i], -1)
        if 0 <= named < len(donor.vocabulary) and donor.vocabulary[named] == piece:
            yield i, named
        elif piece and used[piece] == i:
            yield i, donor.ids.get(piece, MADE)
