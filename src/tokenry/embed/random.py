"""Random rows: the control that any embedding of new pieces must beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenry.core.card import Card
from tokenry.core.fields import natural
from tokenry.embed.base import EmbeddingTable
from tokenry.embed.transfer.donor import Donor, Rows


@dataclass(frozen=True, kw_only=True)
class RandomEmbeddings(EmbeddingTable):
    """Embed every new piece by random numbers.

    What it does
        Each number of a row is drawn from N(mean(E), std(E)), where E are all numbers of the old matrix.
    Where it acts
        On the input and output matrices, before any training.
    Shapes
        P pieces, E (V, E) -> rows (P, E).
    Guarantees
        Pieces that the old vocabulary has are copied bit for bit. A piece draws the same in any company.
    Raises
        UnsupportedModel: a model whose matrices cannot be replaced, or a tokenizer that is not a fast one.
        InvalidValue: a tokenizer without pieces.
    Relations
        The control for `token_adapt` and `mean_of_pieces`: what copying alone is worth.
    """

    card = Card(
        title="Random embeddings of new pieces (control)",
        year=2026,
        url="https://en.wikipedia.org/wiki/Scientific_control",
        summary="random embeddings of new pieces, the control for every other embedding",
    )

    seed: int = natural(0, doc="of the numbers")

    def table(self, pieces: Sequence[bytes | None], donor: Donor) -> Rows:
        return donor.draw(pieces, self.seed)
