"""TokenAdapt: a new piece is a mixture of its own old pieces and of the old pieces that mean the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tokenry.core.card import Card
from tokenry.core.fields import between, natural, positive, setting
from tokenry.embed.base import EmbeddingTable
from tokenry.embed.transfer.donor import Donor, Rows
from tokenry.embed.transfer.mixture import Mixture, flat, lengths, segment_softmax
from tokenry.embed.transfer.neighbours import nearest
from tokenry.embed.transfer.surfaces import Surfaces, read
from tokenry.models.files.load import load_encoder


@dataclass(frozen=True, kw_only=True)
class TokenAdapt(EmbeddingTable):
    """Embed a new piece by its own old pieces and by its neighbours in the space of a sentence encoder.

    What it does
        With o_i the old pieces that spell the new piece t, and g the encoder:
        a = softmax_i(cos(g(t), g(o_i))),  l_i = bytes of o_i / bytes of t,
        w = softmax_i((a_i + l_i) / 2 / temperature),  local(t) = sum_i w_i E[o_i].
        With n_j the `neighbours` old pieces nearest to t: v = softmax_j(cos(g(t), g(n_j)) / temperature),
        global(t) = sum_j v_j E[n_j].
        e(t) = (1 - weight) local(t) + weight global(t). Where one of them is missing it is the other; where both are,
        numbers drawn from N(mean(E), std(E)).
    Where it acts
        On the input and output matrices, before any training, with the same weights on both.
    Shapes
        P pieces, E (V, E) -> rows (P, E).
    Guarantees
        Pieces that the old vocabulary has are copied bit for bit, so that a model keeps its logits when it gets its own
        vocabulary. A row does not depend on the other pieces. `weight=0` is the local part, `weight=1` the global one.
        Vectors of the encoder are kept on disk; an interrupted run goes on.
    Raises
        UnknownModel: the encoder cannot be found.
        UnsupportedModel: a model whose matrices cannot be replaced, or a tokenizer that is not a fast one.
        InvalidValue: a tokenizer without pieces, or a field out of range.
    Deviations
        The encoder is all-MiniLM-L6-v2, which knows English and no case. Parts of characters, white space and what the
        encoder has no pieces for get no global part, and similarity zero in the local one.
    Relations
        `mean_of_pieces` weighs all old pieces of a new one alike and needs no encoder. `embed/random` is the control.
    """

    card = Card(
        title="Achieving Tokenizer Flexibility in Language Models through Heuristic Adaptation and Supertoken Learning",
        year=2025,
        url="https://arxiv.org/abs/2505.09738",
        summary="embed new pieces by their old pieces and by old pieces of the same meaning",
        trial={"neighbours": 2},
        claims=(
            "when SmolLM2-135M gets byte pairs that were trained anew, it needs at least 0.03 bits per byte less than "
            "with the mean of pieces, on passages of five documents",
            "there the mixture of both parts is better than either of them alone",
        ),
        deviations=(
            "the default encoder is all-MiniLM-L6-v2, not a multilingual retrieval encoder",
            "pieces are compared in bytes: a part of a character is never shown to the encoder as a replacement "
            "character, and has no global part; nor has white space or text of unknown characters",
            "lengths are bytes, not characters",
            "what the old tokenizer would not spell exactly is cut by longest matches",
            "of pieces that the encoder cannot tell apart, those with the lowest ids are neighbours",
            "marks that text does not use, and padding, hold the mean row, not random numbers",
            "no constant is added to the temperature, which is at least 0.01",
        ),
    )

    encoder: str = setting("minilm", doc="sentence encoder: an alias, a folder or a hub id")
    weight: float = between(0.0, 1.0, default=0.3, doc="of the global part beside the local one")
    neighbours: int = positive(3, doc="old pieces that make the global part")
    temperature: float = between(0.01, 100.0, default=0.3, doc="of both softmaxes; the lower, the fewer pieces count")
    threshold: float = between(-1.0, 1.0, default=0.0, doc="cosine below which an old piece is no neighbour")
    seed: int = natural(0, doc="of rows for pieces that have neither part")

    @torch.no_grad()
    def table(self, pieces: Sequence[bytes | None], donor: Donor) -> Rows:
        return self.mixture(pieces, donor).rows(donor, pieces, self.seed)

    @torch.no_grad()
    def mixture(self, pieces: Sequence[bytes | None], donor: Donor) -> Mixture:
        """The weights of the old rows: of each piece they sum to one, or there are none."""
        encoder = load_encoder(self.encoder)
        old = read(encoder, donor.vocabulary.pieces, donor.tell)
        new = read(encoder, pieces, donor.tell)
        local = self._local(pieces, donor, new, old)
        if self.weight == 0:
            return local
        near = self._global(new, old, donor)
        share = torch.where(near.known, torch.where(local.known, self.weight, 1.0), 0.0)
        return local.scaled(1 - share) + near.scaled(share)

    def _local(self, pieces: Sequence[bytes | None], donor: Donor, new: Surfaces, old: Surfaces) -> Mixture:
        size = len(pieces)
        piece, part = flat(donor.cut(pieces))
        cosine = (new.at(piece) * old.at(part)).sum(1)
        alike = segment_softmax(cosine, piece, size)
        length = lengths(pieces)[piece]
        long = lengths(donor.vocabulary.pieces)[part] / length
        return Mixture.softmax(size, piece, part, (alike + long) / 2 / self.temperature)

    def _global(self, new: Surfaces, old: Surfaces, donor: Donor) -> Mixture:
        piece, neighbour, cosine = nearest(new, old, self.neighbours, self.threshold, donor.tell)
        return Mixture.softmax(len(new.row), piece, neighbour, cosine / self.temperature)
