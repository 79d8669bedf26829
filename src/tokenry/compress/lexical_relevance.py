"""Lexical relevance: keep the sentences that share rare words with the question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from tokenry.compress.base import Compressor
from tokenry.compress.parts.kind import Word
from tokenry.compress.scores.context import in_context
from tokenry.compress.scores.terms import bm25, terms_for, titled
from tokenry.compress.units.cut import Cut
from tokenry.compress.units.page import Page
from tokenry.core.card import Card
from tokenry.core.fields import between

if TYPE_CHECKING:
    from tokenry.models.files.load import LanguageModel

_TELLING = 1000
"""Units by which the language is told."""


@dataclass(frozen=True, kw_only=True)
class LexicalRelevance(Compressor):
    """Keep the sentences with the highest BM25 score for the query.

    What it does
        s(u) = sum over terms t of the query of idf(t) * f(t, u) / (f(t, u) + k1 (1 - b + b |u| / mean |u|)),
        idf(t) = log(1 + (U - n(t) + 1/2) / (n(t) + 1/2)), where f counts t in the sentence u, n counts the sentences
        that hold t, and the sentences of the row are the collection. Terms are lower-cased words without those that say
        nothing, stemmed in the language of the text; of scripts without spaces, pairs of signs. What u defines, such as
        a function, is a field of its own: where all terms of its name are in the query, their idf among the names comes
        to s(u). So does `beside`
        times that of the better neighbour, where the order of units tells something, and `above` times that of what u
        stands under, such as a definition or a heading. As words, each is worth its sentence, plus idf(t) where it is a
        term t of the query itself.
    Where it acts
        On the text, before the first layer, with the query; needs no model.
    Shapes
        Document of U units -> scores (U).
    Guarantees
        `budget=1.0` changes nothing. The kept count is exact. Where sentences are worth the same, as
        when none holds a term of the query, the earlier ones stay.
    Raises
        InvalidValue: no query, a field out of range, or a budget too small for `force`.
    Deviations
        The language is found by common words; where there is no stemmer for it, terms are whole words.
    Relations
        `dense_relevance` finds sentences that say the same in other words.
    """

    card = Card(
        title="The Probabilistic Relevance Framework: BM25 and Beyond",
        year=2009,
        url="https://doi.org/10.1561/1500000019",
        summary="keep the sentences that BM25 ranks highest for the question",
        identity_at={"budget": 1.0},
        trial={"budget": 0.5},
        claims=(
            "at a quarter of the tokens most passages that answer the sample questions stay whole, by chance a quarter",
        ),
        deviations=(
            "idf is that of Lucene, which is never negative",
            "words inherit the score of their sentence",
            "a unit is also worth something for what it stands under and beside",
            "terms are stems in the language of the text, which common words tell, or pairs of signs",
        ),
    )

    k1: float = between(0.0, 10.0, default=1.5, doc="how much more a term counts the more often it occurs")
    b: float = between(0.0, 1.0, default=0.75, doc="how much long sentences are held back")
    beside: float = between(0.0, 1.0, default=0.25, doc="share of the better neighbour's score that a unit gets too")
    above: float = between(0.0, 1.0, default=1.0, doc="share of the score of what it stands under that a unit gets too")
    needs_query = True

    def score(self, document: Page, query: str | None, model: LanguageModel | None) -> Any:
        assert query is not None
        if not isinstance(self.units, Word):
            texts = document.texts
            terms, asked = terms_for(query, "\n".join(texts[:_TELLING]))
            own, _ = bm25(texts, terms, asked, k1=self.k1, b=self.b)
            cut = document.cut if len(document.cut) == len(own) else Cut.of(self.units, "", np.zeros((len(own), 2)))
            own += titled(cut, terms, asked)
            return in_context(own, cut, beside=self.beside, above=self.above)
        terms, asked = terms_for(query, document.text)
        scores, idf = bm25(document.texts_of(document.sentences), terms, asked, k1=self.k1, b=self.b)
        around = scores[document.words.within(document.sentences)]
        words = document.texts_of(document.words)
        own = np.array([max((idf.get(t, 0.0) for t in terms.of(word)), default=0.0) for word in words])
        return document.of_words(around + own)

    def worth(self, scores: Float[np.ndarray, "U"]) -> Bool[np.ndarray, "U"]:
        return scores > 0
