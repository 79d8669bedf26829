"""LLMLingua-2: keep the words that a small encoder, trained for it, says to keep."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.compress.base import Compressor
from tokenry.compress.heads.keep_drop import KeepDrop, holder
from tokenry.compress.kept.fit import fit
from tokenry.compress.parts.kind import Kind, Word
from tokenry.compress.units.keepsakes import keepsakes
from tokenry.compress.units.page import Page
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import part, setting
from tokenry.models.files.load import LanguageModel

SHIPPED = {"minilm": Path(__file__).parent / "heads" / "llmlingua2-minilm"}
"""Encoders for which a trained head ships."""


@dataclass(frozen=True, kw_only=True)
class LLMLingua2(Compressor):
    """Keep the words with the highest probability of a token classifier.

    What it does
        p_j = softmax(W h_j + b)[keep], where h_j is the encoder's state of the j-th piece, read with what stands on
        both sides;  s(u) = mean of p_j over the pieces of the unit u.
    Where it acts
        On the text, before the first layer; needs neither a query nor the model that answers. A long text is read in
        chunks that end where sentences do.
    Shapes
        Document of U units, S pieces of the encoder -> p (S) -> scores (U).
    Guarantees
        `budget=1.0` changes nothing. The kept count is exact, in tokens of the model that answers. A text that fits
        into the encoder is read as a plain forward reads it. The head is read from safetensors and JSON.
    Raises
        InvalidValue: no head ships for the encoder, a head of another encoder, or a budget too small for `force`.
        StorageError: the head's files are missing or damaged.
        UnknownModel: the encoder cannot be found.
    Deviations
        The encoder is all-MiniLM-L6-v2 and stays as it is: only a linear layer on the states of its third layer is
        trained, where the paper trains all of XLM-RoBERTa. Labels of the head that ships are the half of the words
        with the most self-information by SmolLM2-135M, where the paper has compressions by GPT-4.
        `by_compression` makes labels of those. Words end at white space, so that punctuation is kept or dropped with
        the word it belongs to; in the published code it is a word of its own, with a probability of its own.
    Relations
        `self_information` is its teacher, reads with a causal model and is many times slower. `llmlingua` follows
        what it has compressed so far. `train` of `tokenry.compress.heads.training` makes heads of other texts.
    """

    card = Card(
        title="LLMLingua-2: Data Distillation for Efficient and Faithful Task-Agnostic Prompt Compression",
        year=2024,
        url="https://arxiv.org/abs/2403.12968",
        summary="keep the words that a small encoder was trained to keep",
        identity_at={"budget": 1.0},
        trial={"budget": 0.5},
        claims=(
            "on two texts it was not trained on, a word that its teacher keeps scores higher than one that it drops in "
            "more than three of four pairs (area under the ROC curve above 0.75)",
            "of these texts, at half the tokens, it keeps at least 1.2 times the self-information of random words",
            "it reads at least five times as many tokens a second as `self_information` with SmolLM2-135M",
        ),
        deviations=(
            "a frozen MiniLM with a linear layer on its third layer, not a trained XLM-RoBERTa",
            "labels come from self-information, not from compressions by GPT-4; that answers are kept better than by "
            "chance is not shown",
            "exactly the budget stays, not everything above a percentile",
            "`drop_consecutive` is about all words but those that `force` keeps; in the published code only about "
            "forced ones",
            "words end at white space and hold their punctuation, which is a word of its own in the published code",
            "sentences may be units as well",
        ),
        training=True,
    )

    units: Kind = part(Word(), doc="what is kept or dropped as a whole")
    encoder: str = setting("minilm", doc="encoder that reads the text: an alias, a folder or a hub id")
    head: str | None = setting(None, doc="folder of a trained head; none for the one that ships for the encoder")
    drop_consecutive: bool = setting(False, doc="whether a unit that repeats the kept one before it gives way")

    @torch.no_grad()
    def score(self, document: Page, query: str | None, model: LanguageModel | None) -> Float[Tensor, "U"]:
        head = self._head()
        states, at = head.read(document.text, [start for start, _ in document.sentences.bounds])
        units = len(document.units)
        unit = torch.from_numpy(holder([start for start, _ in document.units.bounds], at))
        total = torch.zeros(units).index_add(0, unit, head.judge(states))
        # A unit of which the encoder sees nothing, such as a mark without width, is worth nothing.
        scores = total / torch.bincount(unit, minlength=units).clamp_min(1)
        return self._without_repeats(document, scores) if self.drop_consecutive else scores

    def _head(self) -> KeepDrop:
        folder = SHIPPED.get(self.encoder) if self.head is None else Path(self.head).expanduser()
        if folder is None:
            raise InvalidValue(
                f"{self.name()}: head must be given for an encoder for which none ships; got {self.encoder}; "
                f"train one with tokenry.compress.heads.training.train, or use {' or '.join(SHIPPED)}."
            )
        head = KeepDrop.at(folder)
        if head.encoder != self.encoder:
            raise InvalidValue(
                f"{self.name()}: encoder must be {head.encoder}, on which the head in {folder} was trained; "
                f"got {self.encoder}."
            )
        return head

    def _without_repeats(self, document: Page, scores: Float[Tensor, "U"]) -> Float[Tensor, "U"]:
        """Put last what would repeat the kept unit before it, until nothing does."""
        forced = keepsakes(document, self.force)
        fixed = np.bincount(document.units.of, weights=forced[document.words.of] | ~document.free) > 0
        texts, count = document.texts, self.budget.count(document.size)
        last = torch.zeros(len(scores), dtype=torch.bool)
        while True:
            ranked = scores - last.float()
            kept = np.unique(document.units.of[fit(document, ranked, count, forced)]).tolist()
            repeats = [b for a, b in pairwise(kept) if texts[a] == texts[b] and not fixed[b]]
            if bool(last[repeats].all()):
                return ranked
            last[repeats] = True
