"""Orthogonal matching pursuit: a new piece is made of the old pieces that add up to it in another space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import positive, setting
from tokenry.embed.base import EmbeddingTable
from tokenry.embed.transfer.donor import Donor, Rows
from tokenry.embed.transfer.mixture import Mixture
from tokenry.embed.transfer.pursuit import pursue
from tokenry.embed.transfer.surfaces import read
from tokenry.models.files.load import load, load_encoder


@dataclass(frozen=True, kw_only=True)
class MatchingPursuit(EmbeddingTable):
    """Embed a new piece by the few old pieces that add up to it in a space that knows both.

    What it does
        With f(t) the vector of a piece in that space, orthogonal matching pursuit chooses `atoms` old pieces one after
        the other, each the one with the largest product with what is not explained yet, and fits all weights anew after
        each:
        f(t) ≈ sum_j w_j f(o_j).  Then e(t) = sum_j w_j E[o_j].
        The space is the input matrix of `model`, which has the new vocabulary; without a model it is that of a sentence
        encoder.
    Where it acts
        On the input and output matrices, before any training, with the same weights on both.
    Shapes
        P pieces, f (P, F), E (V, E) -> rows (P, E).
    Guarantees
        Pieces that the old vocabulary has are copied bit for bit. A row does not depend on the other pieces. Weights
        are exact where the atoms span the space.
    Raises
        UnknownModel: the encoder or the model cannot be found.
        UnsupportedModel: a model whose matrices cannot be replaced, or a tokenizer that is not a fast one.
        InvalidValue: a tokenizer without pieces, or a field out of range.
    Deviations
        Pieces that the space has no vector for are the mean row. Where nothing is left to explain, no more pieces are
        chosen: mergekit's tokensurgeon goes on, and where several rows are the same its weights grow without bound.
    Relations
        `token_adapt` mixes nearest neighbours instead. tokensurgeon does this between models: over the same rows both
        choose the same pieces (benchmarks/peers/against_tokensurgeon.py).
    """

    card = Card(
        title="Training-Free Tokenizer Transplantation via Orthogonal Matching Pursuit",
        year=2025,
        url="https://arxiv.org/abs/2506.06607",
        summary="embed new pieces by the old pieces that add up to them in another model",
        trial={"atoms": 3},
        claims=(
            "when SmolLM2-135M gets byte pairs that were trained anew, it needs "
            "1.82 bits per byte, with the mean of pieces 1.85 (benchmarks/embed/token_adapt.py)",
        ),
        deviations=(
            "without a model of the new vocabulary the space is that of a sentence encoder",
            "weights are chosen by input rows and serve the output rows too",
            "pieces without a vector in the space are the mean row",
            "no more pieces are chosen where nothing is left to explain",
        ),
    )

    model: str | None = setting(None, doc="model of the new vocabulary; none for the space of the encoder")
    encoder: str = setting("minilm", doc="sentence encoder, where no model is given")
    atoms: int = positive(64, doc="old pieces that a new one is made of, at most")

    @torch.no_grad()
    def table(self, pieces: Sequence[bytes | None], donor: Donor) -> Rows:
        mixed = self.mixture(pieces, donor)
        bare = ~mixed.known

        def rows(matrix: Tensor) -> Tensor:
            made = mixed.of(matrix)
            made[bare] = matrix.float().mean(0).cpu()
            return made

        return Rows(rows(donor.input), None if donor.output is None else rows(donor.output))

    @torch.no_grad()
    def mixture(self, pieces: Sequence[bytes | None], donor: Donor) -> Mixture:
        """The weights of the old rows; they need not sum to one."""
        new, wanted, old, atoms = (
            self._by_encoder(pieces, donor) if self.model is None else self._by_model(pieces, donor)
        )
        row, atom, weight = pursue(wanted, atoms, self.atoms, donor.tell)
        return Mixture(len(pieces), new[row], old[atom], weight)

    def _by_model(self, pieces: Sequence[bytes | None], donor: Donor) -> _Space:
        other = Donor.of(load(self.model or "", device="cpu"))
        table = other.input.float().cpu()
        shared = sorted((i, other.ids[piece]) for piece, i in donor.ids.items() if piece in other.ids)
        known = [(p, other.ids[piece]) for p, piece in enumerate(pieces) if piece in other.ids]
        return (*_rows(known, table), *_rows(shared, table))

    def _by_encoder(self, pieces: Sequence[bytes | None], donor: Donor) -> _Space:
        encoder = load_encoder(self.encoder)
        new, old = read(encoder, pieces, donor.tell), read(encoder, donor.vocabulary.pieces, donor.tell)
        # Of pieces that the encoder cannot tell apart the one with the lowest id is the atom.
        first = {row: i for i, row in reversed(list(enumerate(old.row.tolist()))) if row >= 0}
        atoms = sorted((i, row) for row, i in first.items())
        known = [(p, row) for p, row in enumerate(new.row.tolist()) if row >= 0]
        return (*_rows(known, new.vectors), *_rows(atoms, old.vectors))


_Space = tuple[Int[Tensor, "P"], Float[Tensor, "P F"], Int[Tensor, "O"], Float[Tensor, "O F"]]


def _rows(
    pairs: Sequence[tuple[int, int]], table: Float[Tensor, "U F"]
) -> tuple[Int[Tensor, "P"], Float[Tensor, "P F"]]:
    """Numbers of pieces, and their vectors, by the rows of a table."""
    who = torch.tensor([p for p, _ in pairs], dtype=torch.long)
    return who, table[torch.tensor([row for _, row in pairs], dtype=torch.long)]
