"""Length-weighted: a new piece is its old pieces, each by its share of the bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tokenry.core.card import Card
from tokenry.core.fields import natural
from tokenry.embed.base import EmbeddingTable
from tokenry.embed.transfer.donor import Donor, Rows
from tokenry.embed.transfer.mixture import Mixture, flat, lengths


@dataclass(frozen=True, kw_only=True)
class LengthWeighted(EmbeddingTable):
    """Embed a new piece by its own old pieces, each as much as it spells of it.

    What it does
        e(t) = sum_i l_i E[o_i],  l_i = bytes of o_i / bytes of t, where o_i are the old pieces that spell t.
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
        `mean_of_pieces` weighs all alike; `token_adapt` takes these lengths into its weights.
    """

    card = Card(
        title="Old pieces by their length (baseline)",
        year=2025,
        url="https://arxiv.org/abs/2505.09738",
        summary="embed new pieces by their old pieces, each as much as it spells",
        claims=(
            "when SmolLM2-135M gets byte pairs that were trained anew, it needs "
            "1.841 bits per byte, with the mean of pieces 1.847 (benchmarks/embed/token_adapt.py)",
        ),
        deviations=(
            "a piece that the old vocabulary cannot spell gets random numbers",
            "lengths are bytes, not characters",
        ),
    )

    seed: int = natural(0, doc="of rows for pieces that the old vocabulary cannot spell")

    @torch.no_grad()
    def table(self, pieces: Sequence[bytes | None], donor: Donor) -> Rows:
        new, old = flat(donor.cut(pieces))
        share = lengths(donor.vocabulary.pieces)[old] / lengths(pieces)[new]
        return Mixture(len(pieces), new, old, share).rows(donor, pieces, self.seed)
