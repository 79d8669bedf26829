"""Words that say nothing by themselves, in the language of a text."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache

# Of the lists that come with bm25s, the English one leaves these out.
_ENGLISH = """also already although always among another anything around away became become could either else enough
even ever every everything first however instead least less like made make many may maybe might much must near never
nothing often one per perhaps quite rather really said say says shall simply since something sometimes soon still
therefore though thus today together toward towards two upon us use used using usually various well whatever whether
within without would yet""".split()
_LANGUAGES = ("DANISH", "DUTCH", "FRENCH", "GERMAN", "ITALIAN", "KOREAN", "NORWEGIAN", "PORTUGUESE", "RUSSIAN",
              "SPANISH", "SWEDISH", "TURKISH")  # fmt: skip


def function_words(words: Sequence[str]) -> Collection[str]:
    """The function words of the language that has most of them among `words`, which are in lower case."""
    return max(_lists(), key=lambda known: sum(word in known for word in words))


@cache
def _lists() -> list[frozenset[str]]:
    """One list for each language; English comes first and is taken where none has more."""
    from bm25s import stopwords

    english = frozenset(stopwords.STOPWORDS_EN_PLUS).union(_ENGLISH)
    return [english, *(frozenset(getattr(stopwords, f"STOPWORDS_{language}")) for language in _LANGUAGES)]
