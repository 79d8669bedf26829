"""The last piece: a new piece is the last of the old pieces that spell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tokenry.core.card import Card
from tokenry.core.fields import natural
from tokenry.embed.base import EmbeddingTable
from tokenry.embed.transfer.donor import Donor, Rows
from tokenry.embed.transfer.mixture import mean


@dataclass(frozen=True, kw_only=True)
class LastPiece(EmbeddingTable):
    """Embed a new piece by the last of its own old pieces.

    What it does
        e(t) = E[o_n], where o_1 … o_n are the old pieces that spell t.
    Where it acts
        On the input and output matrices, before any training.
    Shapes
        P pieces, E (V, E) -> rows (P, E).
    Guarantees
        Pieces that the old vocabulary has are copied bit for bit. A row does not depend on the other pieces.
    Raises
        UnsupportedModel: a model whose matrices cannot be replaced, or a tokenizer that is not a fast one.
        InvalidValue: a tokenizer without pieces.
    Deviations
        A piece that the old vocabulary cannot spell is drawn from N(mean(E), std(E)).
    Relations
        `mean_of_pieces` takes all of them. `embed/random` is the control.
    """

    card = Card(
        title="The last of the old pieces (baseline)",
        year=2024,
        url="https://arxiv.org/abs/2405.07883",
        summary="embed new pieces by the last of their old pieces",
        claims=(
            "when SmolLM2-135M gets byte pairs that were trained anew, it needs "
            "2.12 bits per byte, with the mean of pieces 1.85 (benchmarks/embed/token_adapt.py)",
        ),
        deviations=("a piece that the old vocabulary cannot spell gets random numbers",),
    )

    seed: int = natural(0, doc="of rows for pieces that the old vocabulary cannot spell")

    @torch.no_grad()
    def table(self, pieces: Sequence[bytes | None], donor: Donor) -> Rows:
        return mean([ids[-1:] for ids in donor.cut(pieces)]).rows(donor, pieces, self.seed)
