"""Dense relevance: keep the sentences whose meaning is close to the question."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokenry.compress.base import Compressor
from tokenry.compress.parts.kind import Word
from tokenry.compress.scores.vectors import hidden_states, pooled, text_vectors
from tokenry.compress.units.page import Page
from tokenry.core.card import Card
from tokenry.core.fields import between, setting
from tokenry.models.files.load import Encoder, LanguageModel, load_encoder

ELSEWHERE = (
    "The bakery on the corner opens at six.", "A heron stood motionless in the shallow water.",
    "Two teams drew in the last minute of the match.", "The recipe asks for four eggs and a lemon.",
    "Snow closed the mountain pass for a week.", "Her violin needed a new string before the concert.",
    "The museum lends three paintings to another city.", "Most ferries to the island leave from the west pier.",
    "He repaired the clock with a pair of tweezers.", "The election was decided by a few hundred votes.",
    "Cells divide faster at higher temperatures.", "The factory painted its gates green last spring.",
    "Interest on the loan is due every quarter.", "The dentist moved my appointment to Friday.",
    "A loop runs until the list is empty.", "Tomatoes grow well along the southern wall.",
    "The treaty was signed after months of talks.", "Our dog is afraid of thunder.",
    "The server restarts whenever the disk is full.", "She learned to swim when she was forty.",
    "Copper conducts heat better than iron.", "The train stops twice before the border.",
    "Children built a dam across the stream.", "The novel ends where it began.",
)  # fmt: skip
"""Sentences about this and that, with which hardly any question has to do."""


@dataclass(frozen=True, kw_only=True)
class DenseRelevance(Compressor):
    """Keep the sentences whose embedding is nearest to that of the query.

    What it does
        s(u) = cos(e(u), e(query)) - c(query), where e is the mean of a sentence encoder's last hidden states, and
        c(query) what chance explains: the mean and two standard deviations of cos(e(x), e(query)) over sentences x on
        other things. As words, each is worth mix * cos(e(word), e(query)) + (1 - mix) * cos(e(its sentence),
        e(query)) - c(query), where e(word) is the mean of the states of the word as it stands in its sentence.
    Where it acts
        On the text, before the first layer, with the query; needs a small encoder, not the model that answers.
    Shapes
        Document of U units -> scores (U).
    Guarantees
        `budget=1.0` changes nothing. The kept count is exact. A row's scores do not depend on the other rows.
    Raises
        InvalidValue: no query, a field out of range, or a budget too small for `force`.
        UnknownModel: the encoder cannot be found.
    Deviations
        A sentence longer than the encoder reads is read in parts; its embedding is the mean over all of them.
    Relations
        `lexical_relevance` needs no model and finds names and numbers; this one finds paraphrases.
    """

    card = Card(
        title="Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks (as relevance to the question)",
        year=2019,
        url="https://arxiv.org/abs/1908.10084",
        summary="keep the sentences whose embedding is nearest to that of the question",
        identity_at={"budget": 1.0},
        trial={"budget": 0.5},
        deviations=(
            "the default encoder is all-MiniLM-L6-v2, a later and smaller one of the same kind",
            "words are ranked as well, by their states within the sentence",
            "the encoder computes in bfloat16 where the hardware does",
            "of a text, units that are no nearer than unrelated sentences are not kept to fill the budget",
        ),
    )

    encoder: str = setting("minilm", doc="sentence encoder: an alias, a folder or a hub id")
    mix: float = between(0.0, 1.0, default=0.5, doc="weight of a word's own relevance beside that of its sentence")
    needs_query = True

    def score(self, document: Page, query: str | None, model: LanguageModel | None) -> Any:
        assert query is not None
        encoder = load_encoder(self.encoder)
        asked = text_vectors(encoder, [query])[0]
        chance = _by_chance(self.encoder, asked)
        if not isinstance(self.units, Word):
            return _vectors_of(encoder, document.texts) @ asked - chance
        return document.of_words(self._words(document, encoder, asked)) - chance

    def worth(self, scores: Float[np.ndarray, "U"]) -> Bool[np.ndarray, "U"]:
        return scores > 0

    def _words(self, document: Page, encoder: Encoder, asked: Float[Tensor, "E"]) -> Float[Tensor, "W"]:
        words, sentences = document.words, document.sentences
        heads = [start for start, _ in words.bounds]
        by_word = torch.zeros(len(words), len(asked))
        by_sentence = torch.zeros(len(sentences), len(asked))
        held, length = torch.zeros(len(words)), torch.zeros(len(sentences))
        for s, states, characters in hidden_states(encoder, document.texts_of(sentences)):
            by_sentence[s] += states.sum(0)
            length[s] += len(states)
            inside = characters[:, 1] > characters[:, 0]
            at = (characters[inside, 0] + sentences.bounds[s][0]).tolist()
            word = torch.tensor([bisect_right(heads, a) - 1 for a in at], dtype=torch.long)
            by_word.index_add_(0, word, states[inside])
            held.index_add_(0, word, torch.ones(len(word)))
        around = (pooled(by_sentence, length) @ asked)[torch.from_numpy(words.within(sentences))]
        # A word of which the encoder sees nothing, such as a lone emoji, is worth its sentence.
        own = torch.where(held > 0, pooled(by_word, held) @ asked, around)
        return self.mix * own + (1 - self.mix) * around


def _vectors_of(encoder: Encoder, texts: Sequence[str]) -> Float[Tensor, "U E"]:
    """The vector of each text; one that comes again is read once."""
    place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    return text_vectors(encoder, list(place))[torch.tensor([place[text] for text in texts], dtype=torch.long)]


def _by_chance(encoder: str, asked: Float[Tensor, "E"]) -> float:
    """How near sentences that have nothing to do with it come to a query."""
    near = _elsewhere(encoder) @ asked
    return float(near.mean() + 2 * near.std())


@lru_cache(maxsize=4)
def _elsewhere(encoder: str) -> Float[Tensor, "X E"]:
    return text_vectors(load_encoder(encoder), ELSEWHERE)
