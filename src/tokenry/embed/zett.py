"""ZeTT: a trained hypernetwork predicts the rows of any vocabulary from how the old one spells its pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import choice, setting
from tokenry.embed.base import EmbeddingTable
from tokenry.embed.hypernetwork.network import Hypernetwork, source_of, spellings
from tokenry.embed.transfer.donor import Donor, Rows, Tell, silent
from tokenry.embed.transfer.transplant import Transplant
from tokenry.models.files.load import LanguageModel, load

UNTRAINED = "none"

AT_ONCE = 2048
"""Pieces whose rows are predicted in one pass."""


@dataclass(frozen=True, kw_only=True)
class Zett(EmbeddingTable):
    """Predict the rows of every piece by a hypernetwork that was trained for the model.

    What it does
        With o_1 … o_n the old pieces that spell the new piece t, and S their rows of both matrices, brought to mean 0
        and spread 1 in every column:
        h = transformer(proj(S[o_1]) … proj(S[o_n])) at the first position,
        [e(t) ‖ u(t)] = shift + scale · (residual · mean_i S[o_i] + heads(h)).
        The transformer and both heads are learned: first to give the rows that there are, then to make the frozen
        model predict text over vocabularies that are drawn anew all the time.
    Where it acts
        On the input and output matrices. Rows of pieces that both vocabularies have are predicted too, since over
        another vocabulary they stand in other company; marks are copied.
    Shapes
        P pieces of up to `longest` old ones, E (V, E) -> rows (P, E).
    Guarantees
        A row does not depend on the other pieces. With `shared=copied` rows of both vocabularies are copied bit for
        bit, so that a model keeps its logits when it gets its own vocabulary. A hypernetwork that has learned nothing
        gives the mean of pieces.
    Raises
        StorageError: the folder of the hypernetwork is missing or damaged.
        InvalidValue: a hypernetwork for matrices of other widths; a tokenizer without pieces.
        UnsupportedModel: a model whose matrices cannot be replaced, or a tokenizer that is not a fast one.
    Deviations
        To every row the mean of its pieces is added, so that training begins there; with `residual=0` of the network it
        is not. The sum over pieces that no text of a step holds is estimated from random ones.
    Relations
        `mean_of_pieces` is where training begins; `token_adapt` needs no training. `tokenry hypernetwork` trains.
    """

    card = Card(
        title="Zero-Shot Tokenizer Transfer",
        year=2024,
        url="https://arxiv.org/abs/2405.07883",
        summary="rows for any vocabulary, predicted by a trained hypernetwork",
        trial={"shared": "copied"},
        claims=(
            "what has learned nothing gives a model its own vocabulary back bit for bit, shared rows predicted too",
            "after both stages a tiny model predicts text over drawn vocabularies with at least 0.2 bits per byte less",
            "when SmolLM2-135M gets byte pairs that were trained anew, it needs 0.12 bits per byte less than with "
            "token_adapt after ten minutes of one core; from the mean of pieces to the model's own vocabulary it goes "
            "a quarter of the way, where half was expected (benchmarks/embed/token_adapt.py)",
            "with a published vocabulary of 151,000 pieces, which it never saw, it needs 1.23 bits per byte, with "
            "token_adapt 1.28 and with the mean of pieces 1.37: 49 % of the way (benchmarks/embed/token_adapt.py)",
            "rows that are trained on for 60 steps of 512 tokens, which is no hypernetwork, come from the mean of "
            "pieces to 1.75 bits per byte, and from its own no further (benchmarks/embed/token_adapt.py)",
            "what is lost is lost in writing: with its own rows the model needs 1.09 bits per byte, 1.79 if all text "
            "is cut otherwise, and 1.95 if only what is predicted is (benchmarks/embed/token_adapt.py)",
        ),
        deviations=(
            "the mean of its pieces is added to every row, so that training begins there; `residual=0` is the paper's",
            "the sum over pieces that no text of a step holds is estimated from random ones, each weighed as if it "
            "stood for as many",
            "texts of a vocabulary are drawn anew for each step, not kept in a queue",
            "no vector for the language, and no bias beside the output row; where a model has a bias it is a column",
            "the rate falls to zero over the second half of a stage",
            "pieces are bytes, and each byte without an old piece has a learned row of its own",
            "training the whole model further after the transfer is left to whoever trains models",
        ),
        training=True,
    )

    hypernetwork: str = setting(UNTRAINED, doc="folder of a trained one; none for one that has learned nothing")
    shared: str = choice("predicted", "copied", default="predicted", doc="rows of pieces that both vocabularies have")
    base: str | None = setting(
        None, doc="model that the hypernetwork was trained for, where this one was tuned from it"
    )

    def plan(self, language: LanguageModel, tokenizer: PreTrainedTokenizerBase, tell: Tell = silent) -> Transplant:
        plan = Transplant.of(language, tokenizer, tell)
        return plan if self.shared == "copied" else plan.without_copies()

    @torch.no_grad()
    def table(self, pieces: Sequence[bytes | None], donor: Donor) -> Rows:
        if self.base is not None:
            donor = replace(Donor.of(load(self.base, device="cpu")), tell=donor.tell)
        network, source = self._network(donor), source_of(donor)
        spelled = spellings(donor, pieces)
        parts = []
        for at in range(0, len(spelled), AT_ONCE):
            donor.tell("predicting rows", at, len(spelled))
            parts.append(network.rows(source, spelled[at : at + AT_ONCE]))
        donor.tell("predicting rows", len(spelled), len(spelled))
        outputs = [part.output for part in parts if part.output is not None]
        width, wide = donor.input.shape[1], None if donor.output is None else donor.output.shape[1]
        made = torch.cat([part.input for part in parts]) if parts else torch.zeros(0, width)
        return Rows(made, None if wide is None else torch.cat([*outputs, torch.zeros(0, wide)]))

    def _network(self, donor: Donor) -> Hypernetwork:
        sizes = Hypernetwork.sizes(donor)
        if self.hypernetwork == UNTRAINED:
            network = Hypernetwork(rescaling="none").build(generator=None, **sizes)
            return network.eval()
        network = Hypernetwork.at(Path(self.hypernetwork))
        if network.built_with != sizes:
            raise InvalidValue(
                f"{self.name()}: hypernetwork must be one for rows of {sizes}; {self.hypernetwork} is one for "
                f"{network.built_with}; train one for this model."
            )
        return network
