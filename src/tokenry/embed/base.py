"""Room: embed. Vectors for pieces that a model has never seen, from the vectors of those that it knows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from transformers import PreTrainedTokenizerBase

from tokenry.core.method import Method
from tokenry.embed.transfer.donor import Donor, Rows, Tell, silent
from tokenry.embed.transfer.transplant import MULTIPLE, Transplant
from tokenry.models.files.load import LanguageModel


class EmbeddingTable(Method):
    """A method that makes embeddings for pieces, given a model that has embeddings for others.

    A method says only what rows pieces get: `table`. It has no fields of its own, so that a method that is trained
    may stand on it and on `Learned` at once.
    """

    room: ClassVar[str] = "embed"

    @abstractmethod
    def table(self, pieces: Sequence[bytes | None], donor: Donor) -> Rows:
        """Rows for pieces, on the processor in 32-bit floats, each independent of the other pieces.

        Args:
            pieces: bytes, perhaps a part of a character; None for a mark that stands for no text.
            donor: the model that gives its embeddings.
        """

    @torch.no_grad()
    def transfer(
        self,
        language: LanguageModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        multiple: int = MULTIPLE,
        tell: Tell = silent,
    ) -> LanguageModel:
        """The same model over another vocabulary.

        Rows of pieces that both vocabularies have are copied bit for bit. Marks are carried over by name and by role
        together with the chat template that writes them. Rows that no text uses hold the mean of the old rows.
        The given model stays as it is; the new one shares its weights between the matrices, and does not copy them.

        Args:
            multiple: rows are padded to a multiple of this.
            tell: called during long work.

        Raises:
            UnsupportedModel: a model whose matrices cannot be replaced, or a tokenizer that is not a fast one.
            InvalidValue: a tokenizer without pieces, or one that does not belong to the model.
        """
        plan = self.plan(language, tokenizer, tell)
        return plan.build(self.table(plan.pieces, plan.donor), multiple)

    def plan(self, language: LanguageModel, tokenizer: PreTrainedTokenizerBase, tell: Tell = silent) -> Transplant:
        """Which rows are copied and which are made; by itself all that both vocabularies have are copied."""
        return Transplant.of(language, tokenizer, tell)
