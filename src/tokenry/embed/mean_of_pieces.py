"""The mean of pieces: a new piece is the mean of the old pieces that spell it."""

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
class MeanOfPieces(EmbeddingTable):
    """Embed a new piece by the mean of its own old pieces.

    What it does
        e(t) = mean_i E[o_i], where o_i are the old pieces that spell t.
    Where it acts
        On the input and output matrices, before any training, with the same weights on both.
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
        `token_adapt` weighs the pieces and adds neighbours. `embed/random` is the control.
    """

    card = Card(
        title="Fast Vocabulary Transfer for Language Model Compression",
        year=2022,
        url="https://arxiv.org/abs/2402.09977",
        summary="embed new pieces by the mean of their old pieces",
        claims=(
            "when SmolLM2-135M gets byte pairs that were trained anew, it needs "
            "1.85 bits per byte, with random rows 2.76 (benchmarks/embed/token_adapt.py)",
        ),
        deviations=(
            "a piece that the old vocabulary cannot spell gets random numbers",
            "what the old tokenizer would not spell exactly is cut by longest matches",
        ),
    )

    seed: int = natural(0, doc="of rows for pieces that the old vocabulary cannot spell")

    @torch.no_grad()
    def table(self, pieces: Sequence[bytes | None], donor: Donor) -> Rows:
        return mean(donor.cut(pieces)).rows(donor, pieces, self.seed)
