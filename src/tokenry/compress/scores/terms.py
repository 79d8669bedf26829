"""Terms of texts as a search knows them: stems without words that say nothing, and pairs of signs without spaces."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import Stemmer
from jaxtyping import Float

from tokenry.compress.scores.languages import FUNCTION_WORDS, language_of, told_by

if TYPE_CHECKING:
    from tokenry.compress.units.cut import Cut

UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Signs of scripts that are written without spaces: Thai, Lao, Burmese, Khmer, Kana and Han."""

_TERM = re.compile(rf"[{UNSPACED}]+|[^\W{UNSPACED}]+")
_CASES = {"turkish": str.maketrans("Iİ", "ıi")}
"""Letters of which small ones are others than elsewhere."""
_DOT = "\u0307"
"""What the small letter of İ has above it in other languages."""
_UNSPACED = re.compile(rf"[{UNSPACED}]")


class Terms:
    """Makes terms as one language has them; a term that it saw before costs a look into a table.

    Args:
        language: the name of a Snowball stemmer; another one gets no stems.
    """

    def __init__(self, language: str) -> None:
        known = language in Stemmer.algorithms()
        self._stem = Stemmer.Stemmer(language).stemWord if known else str
        self._dropped = FUNCTION_WORDS.get(language, frozenset())
        self._cases = _CASES.get(language, {})
        self._seen: dict[str, str | None] = {}

    def of(self, text: str) -> list[str]:
        """The terms of a text in its order."""
        found: list[str] = []
        seen = self._seen
        for word in _TERM.findall(self._lower(text)):
            if word in seen:
                term = seen[word]
                if term is not None:
                    found.append(term)
            elif _UNSPACED.match(word):
                # Two signs that follow each other are the usual stand-in for words nobody sets apart.
                found += [word[i : i + 2] for i in range(max(1, len(word) - 1))]
            else:
                seen[word] = None if word in self._dropped else self._stem(word)
                found += [term] if (term := seen[word]) is not None else []
        return found

    def _lower(self, text: str) -> str:
        """A text in small letters, each written in one way, since a letter and its accents may be apart."""
        if text.isascii() and not self._cases:
            return text.lower()
        return unicodedata.normalize("NFKC", text).translate(self._cases).lower().replace(_DOT, "")


@lru_cache(maxsize=32)
def terms_of(language: str) -> Terms:
    return Terms(language)


def terms_for(query: str, text: str) -> tuple[Terms, list[str]]:
    """How a text and a question about it become terms, and those of the question, each once.

    Where the two are in different languages, that of the text counts, but for texts that tell none, as data do.
    """
    terms = terms_of(told_by(text) or language_of(query))
    return terms, list(dict.fromkeys(terms.of(query)))


def bm25(
    texts: Sequence[str], terms: Terms, asked: Sequence[str], *, k1: float, b: float
) -> tuple[Float[np.ndarray, "U"], dict[str, float]]:
    """The BM25 score of every text for some terms, with the idf of Lucene, and that idf."""
    counts, lengths = _counted(texts, terms, asked)
    n = len(texts)
    holds = (counts > 0).sum(0)
    idf = np.log1p((n - holds + 0.5) / (holds + 0.5)) * (holds > 0)
    norm = k1 * (1 - b + b * lengths / max(lengths.mean(), 1e-9)) if n else lengths
    scores = (idf * counts / (counts + norm[:, None] + 1e-30)).sum(1)
    return scores, {t: float(i) for t, i in zip(asked, idf, strict=True) if not math.isclose(i, 0.0)}


def titled(cut: Cut, terms: Terms, asked: Sequence[str]) -> Float[np.ndarray, "U"]:
    """What units are worth whose title is asked for: the idf of its terms among all titles."""
    found = np.zeros(len(cut))
    names = {u: terms.of(name) for u, name in cut.titles.items()}
    holds = Counter(term for name in names.values() for term in set(name))
    for u, name in names.items():
        if name and set(name) <= set(asked):
            found[u] = sum(math.log1p((len(names) - holds[t] + 0.5) / (holds[t] + 0.5)) for t in set(name))
    return found


def _counted(
    texts: Sequence[str], terms: Terms, asked: Sequence[str]
) -> tuple[Float[np.ndarray, "U A"], Float[np.ndarray, "U"]]:
    """How often each text has each term that is asked for, and how many terms it has."""
    place: dict[str, int] = {t: i for i, t in enumerate(asked)}
    counts = np.zeros((len(texts), len(asked)))
    lengths = np.zeros(len(texts))
    for u, text in enumerate(texts):
        found = terms.of(text)
        lengths[u] = len(found)
        for term in place.keys() & set(found):
            counts[u, place[term]] = found.count(term)
    return counts, lengths
