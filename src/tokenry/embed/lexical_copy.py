"""Lexical copy: rows of pieces that both vocabularies have, and the mean row for all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenry.core.card import Card
from tokenry.embed.base import EmbeddingTable
from tokenry.embed.transfer.donor import Donor, Rows


@dataclass(frozen=True, kw_only=True)
class LexicalCopy(EmbeddingTable):
    """Copy what both vocabularies have, and embed every other piece by the mean row.

    What it does
        e(t) = mean_j E[j] over all old rows.
    Where it acts
        On the input and output matrices, before any training.
    Shapes
        P pieces, E (V, E) -> rows (P, E).
    Guarantees
        Pieces that the old vocabulary has are copied bit for bit. A new piece is never likelier than the mean one.
    Raises
        UnsupportedModel: a model whose matrices cannot be replaced, or a tokenizer that is not a fast one.
        InvalidValue: a tokenizer without pieces.
    Deviations
        The mean row stands for what the papers draw at random.
    Relations
        What copying is worth where new pieces say nothing; `embed/random` adds noise instead.
    """

    card = Card(
        title="Copied rows and the mean row (baseline)",
        year=2022,
        url="https://arxiv.org/abs/2112.06598",
        summary="copied rows for shared pieces, the mean row for all others",
        claims=(
            "when SmolLM2-135M gets byte pairs that were trained anew, it needs "
            "1.87 bits per byte, with the mean of pieces 1.85 (benchmarks/embed/token_adapt.py)",
        ),
        deviations=("the mean row stands for what the papers draw at random",),
    )

    @torch.no_grad()
    def table(self, pieces: Sequence[bytes | None], donor: Donor) -> Rows:
        def mean(matrix: Tensor) -> Tensor:
            return matrix.float().mean(0).cpu().expand(len(pieces), -1)

        return Rows(mean(donor.input), None if donor.output is None else mean(donor.output))
