"""Lexical relevance: keep the sentences that share rare words with the question."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import bm25s
import Stemmer
import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.compress.base import Compressor
from tokenry.compress.units.document import Document
from tokenry.core.card import Card
from tokenry.core.fields import between, choice

if TYPE_CHECKING:
    from tokenry.models.files.load import LanguageModel

_TERM = r"(?u)\b\w+\b"


@dataclass(frozen=True, kw_only=True)
class LexicalRelevance(Compressor):
    """Keep the sentences with the highest BM25 score for the query.

    What it does
        s(u) = sum over terms t of the query of idf(t) * f(t, u) / (f(t, u) + k1 (1 - b + b |u| / mean |u|)),
        idf(t) = log(1 + (U - n(t) + 1/2) / (n(t) + 1/2)), where f counts t in the sentence u, n counts the sentences
        that hold t, and the sentences of the row are the collection. Terms are lower-cased, stemmed words that are
        no stop words. As words, each is worth its sentence, plus idf(t) where it is a term t of the query itself.
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
        Stemming and stop words are English; other languages match by whole words.
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
            "stemming and stop words are English",
        ),
    )

    units: str = choice("sentence", "word", default="sentence", doc="what is kept or dropped as a whole")
    k1: float = between(0.0, 10.0, default=1.5, doc="how much more a term counts the more often it occurs")
    b: float = between(0.0, 1.0, default=0.75, doc="how much long sentences are held back")
    needs_query = True

    def score(self, document: Document, query: str | None, model: LanguageModel | None) -> Float[Tensor, "U"]:
        assert query is not None
        terms = _terms([query])[0]
        sentences = _terms(document.texts_of(document.sentences))
        scores = self._bm25(sentences, terms)
        if self.units == "sentence":
            return scores
        idf = _idf(sentences, terms)
        own = [max((idf.get(t, 0.0) for t in word), default=0.0) for word in _terms(document.texts)]
        return scores[torch.from_numpy(document.words.within(document.sentences))] + torch.tensor(own)

    def _bm25(self, sentences: list[list[str]], terms: list[str]) -> Float[Tensor, "S"]:
        known = set().union(*sentences)
        asked = [t for t in terms if t in known]
        if not asked:
            return torch.zeros(len(sentences))
        index = bm25s.BM25(k1=self.k1, b=self.b)
        index.index(sentences, show_progress=False)
        return torch.from_numpy(index.get_scores(asked)).clone()


def _terms(texts: list[str]) -> list[list[str]]:
    """Stems of the words of each text, without stop words."""
    stemmer = Stemmer.Stemmer("english")
    found = bm25s.tokenize(
        texts, token_pattern=_TERM, stopwords="en_plus", stemmer=stemmer, return_ids=False, show_progress=False
    )
    return [list(terms) for terms in found]


def _idf(sentences: list[list[str]], terms: list[str]) -> dict[str, float]:
    holds = Counter(t for sentence in sentences for t in set(sentence) & set(terms))
    return {t: math.log(1 + (len(sentences) - n + 0.5) / (n + 0.5)) for t, n in holds.items()}
