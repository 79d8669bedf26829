"""FrugalPrompt: keep the words that a small encoder's reading of the text rests on."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.compress.base import Compressor
from tokenry.compress.parts.attribution import Attribution, DecompX
from tokenry.compress.parts.kind import Kind, Word
from tokenry.compress.scores.lexrank import lexrank
from tokenry.compress.units.page import Page
from tokenry.core.card import Card
from tokenry.core.fields import part, setting
from tokenry.core.progress import counted
from tokenry.models.files.load import Encoder, LanguageModel, load_encoder
from tokenry.models.text.as_text import text_windows

WINDOW = 128
"""Encoder tokens read together: a longer sentence is cut, since attributions cost the square of the length."""


@dataclass(frozen=True, kw_only=True)
class FrugalPrompt(Compressor):
    """Keep the words to which an attribution method traces back what an encoder makes of their sentence.

    What it does
        a_t = weight of encoder token t in its sentence, by `attribution`;  â_t = (a_t - min a) / (max a - min a);
        s(w) = LexRank(sentence of w) * Σ â_t over the tokens t of the word w. The encoder's own marks take part in
        min and max, and are then left out. LexRank is 1 on average.
    Where it acts
        On the text, before the first layer; needs no query and not the model that answers, but a small encoder.
    Shapes
        Document of U words -> scores (U).
    Guarantees
        `budget=1.0` changes nothing. The kept count is exact, in tokens of the model that answers. A row's scores do
        not depend on padding or on the other rows. At most `WINDOW` tokens are read together, so memory is bounded.
    Raises
        InvalidValue: a field out of range, an unknown attribution, or a budget too small for `force`.
        UnknownModel: the encoder cannot be found.
        UnsupportedModel: the encoder's layers cannot be taken apart.
    Deviations
        The paper reads with fine-tuned classifiers; the default here is a sentence encoder. It counts the share in
        words of its own tokenizer, where punctuation stands alone; here words end at white space, and the budget is in
        tokens of the model that answers. With GlobEnc it normalises once more after merging. A sentence that is too
        long is cut into windows that do not see each other.
    Relations
        `self_information` asks what could have been guessed; this asks what the meaning rests on.
    """

    card = Card(
        title="FrugalPrompt: Reducing Contextual Overhead in Large Language Models via Token Attribution",
        year=2025,
        url="https://arxiv.org/abs/2510.16439",
        summary="keep the words to which the meaning of their sentence traces back",
        identity_at={"budget": 1.0},
        trial={"budget": 0.5, "attribution": "globenc"},
        claims=(
            "60 sentences of the shipped documents at 60 % of their tokens: cosine between their embeddings before and "
            "after, by the encoder that weighed them, is 0.91 with DecompX, 0.90 with GlobEnc, 0.78 with random words "
            "and 0.57 with GlobEnc upside down; each step is more than two standard errors of the paired difference",
        ),
        deviations=(
            "the encoder is a sentence encoder, all-MiniLM-L6-v2, and DecompX explains its embedding, not a label",
            "words end at white space, so punctuation belongs to its word",
            "the share is of the answering model's tokens, not of words",
            "scores are normalised once, before pieces are merged, also with GlobEnc",
            "a sentence longer than 128 encoder tokens is read in windows",
            "LexRank is the continuous one over the document's own sentences, with terms cut at white space",
        ),
    )

    units: Kind = part(Word(), doc="what is kept or dropped as a whole")
    attribution: Attribution = part(DecompX(), doc="how tokens are weighed: decompx or globenc")
    encoder: str = setting("minilm", doc="encoder that reads: an alias, a folder or a hub id")

    def score(self, document: Page, query: str | None, model: LanguageModel | None) -> Any:
        # Exact shares need 32-bit floats, whatever the hardware likes best.
        encoder = load_encoder(self.encoder, dtype="float32")
        words, sentences = document.words, document.sentences
        heads = [start for start, _ in words.bounds]
        scores = torch.zeros(len(words))
        for s, weights, characters in self._weights(encoder, document.texts_of(sentences)):
            inside = characters[:, 1] > characters[:, 0]
            # The last character of a piece is in its word, also where its first is the space before it.
            at = (characters[inside, 1] - 1 + sentences.bounds[s][0]).tolist()
            word = torch.tensor([bisect_right(heads, a) - 1 for a in at], dtype=torch.long)
            scores.index_add_(0, word, _spread(weights)[inside])
        central = torch.from_numpy(lexrank(_terms(document))).float()
        return document.of_words(scores * central[torch.from_numpy(words.within(sentences))])

    def _weights(
        self, encoder: Encoder, texts: Sequence[str]
    ) -> Iterator[tuple[int, Float[Tensor, "T"], Int[Tensor, "T 2"]]]:
        """Number of the text, weights of the tokens of one window of it, and the characters of each."""
        windows = text_windows(encoder.tokenizer, texts, min(WINDOW, encoder.max_tokens))
        for text, window in counted(windows, "reading sentence", len(windows)):
            ids = torch.tensor(window.ids, dtype=torch.long)
            weights = self.attribution.attribute(encoder, ids, torch.ones(len(ids), dtype=torch.bool))
            yield text, weights, torch.tensor(window.offsets).view(-1, 2)


def _terms(document: Page) -> list[list[str]]:
    """The words of every sentence without case and punctuation."""
    found: list[list[str]] = [[] for _ in document.sentences.bounds]
    sentence = document.words.within(document.sentences).tolist()
    for s, text in zip(sentence, document.texts_of(document.words), strict=True):
        found[s] += filter(None, [re.sub(r"\W+", "", text).casefold()])
    return found


def _spread(weights: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
    """Weights from 0 to 1; all 1 where they are equal."""
    low, high = weights.min(), weights.max()
    return (weights - low) / (high - low) if bool(high > low) else torch.ones_like(weights)
