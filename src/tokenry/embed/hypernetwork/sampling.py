"""Vocabularies as ZeTT draws them: the best substrings of a few texts, with noise, as a unigram tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import log
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tokenry.core.errors import InvalidValue
from tokenry.models.text.vocabulary import byte_characters

SPACES = ("Ġ", "Ċ", "ĉ")
"""Space, newline and tab as byte-level vocabularies write them."""

NEVER = -1e5
"""The score of a substring that the noise took below zero."""

TEXT = 512
"""Characters of one text."""


@dataclass(frozen=True)
class Sampling:
    """How vocabularies are drawn.

    Args:
        pieces: in a vocabulary.
        texts: of which substrings are counted.
        length: characters of the longest substring.
        stride: substrings begin at every so many characters of a word.
        noise: median of the noise on scores that sum to one.
        spread: of the logarithm of the noise.
    """

    pieces: int = 32768
    texts: int = 2048
    length: int = 16
    stride: int = 4
    noise: float = 1e-5
    spread: float = 4.0


class Drawn(NamedTuple):
    """A vocabulary.

    Args:
        tokenizer: cuts text.
        pieces: what each of its ids spells.
    """

    tokenizer: Tokenizer
    pieces: list[bytes]


class Sampler:
    """Draws vocabularies from texts; what can be counted once is counted once."""

    def __init__(self, texts: Iterable[str], how: Sampling) -> None:
        self.how = how
        self.texts = [part for text in texts for part in parts_of(text)]
        if not self.texts:
            raise InvalidValue("sampling: texts must hold some text; got none.")
        words: dict[str, int] = {}
        split = pre_tokenizers.ByteLevel(add_prefix_space=True)
        found = [Counter(word for word, _ in split.pre_tokenize_str(text)) for text in self.texts]
        for counts in found:
            for word in counts:
                words.setdefault(word, len(words))
        self._of_text = [
            (np.array([words[w] for w in counts], dtype=np.int32), np.array(list(counts.values()), dtype=np.float64))
            for counts in found
        ]
        names: dict[str, int] = {}
        word_at, name_at = [], []
        for word, i in words.items():
            for name in _substrings(word, how.length, how.stride):
                word_at.append(i)
                name_at.append(names.setdefault(name, len(names)))
        self._words = len(words)
        self._names = list(names)
        self._word_at: Int[np.ndarray, "S"] = np.array(word_at, dtype=np.int32)
        self._name_at: Int[np.ndarray, "S"] = np.array(name_at, dtype=np.int32)

    @cached_property
    def _lengths(self) -> Float[np.ndarray, "U"]:
        return np.array([len(name) for name in self._names], dtype=np.float64)

    def scores(self, chosen: Iterable[int]) -> Float[np.ndarray, "U"]:
        """Frequency times length of every substring in some of the texts."""
        count = np.zeros(self._words)
        for i in chosen:
            at, often = self._of_text[i]
            count[at] += often
        return np.bincount(self._name_at, count[self._word_at], len(self._names)) * self._lengths

    def draw(self, chance: torch.Generator) -> Drawn:
        """A vocabulary; the same for the same random numbers."""
        how = self.how
        chosen = torch.randint(len(self.texts), (how.texts,), generator=chance).tolist()
        level = log(how.noise) + how.spread * float(torch.randn((), generator=chance)) if how.noise else -np.inf
        scores = self.scores(chosen)
        known = np.flatnonzero(scores)
        share = scores[known] / scores.sum()
        least = log(share.min())
        noise = torch.randn(len(known), generator=chance, dtype=torch.float64).numpy()
        noised = share + np.exp(min(level, 0.0)) * noise
        value = np.where(noised > 0, np.log(np.maximum(noised, 1e-300)), NEVER)
        vocabulary = {c: least for c in byte_characters().values()}
        vocabulary |= {b + a * n: 0.0 for a in SPACES for b in SPACES for n in range(1, how.length)}
        room = max(0, how.pieces - len(vocabulary))
        for at in np.argsort(-value, kind="stable"):
            name = self._names[known[at]]
            if name not in vocabulary:
                if not room:
                    break
                vocabulary[name] = float(value[at])
                room -= 1
        pieces = [bytes(_BYTES[c] for c in name) for name in vocabulary]
        return Drawn(unigram(list(vocabulary.items())), pieces)


def unigram(pieces: list[tuple[str, float]]) -> Tokenizer:
    """A byte-level tokenizer that takes the likeliest pieces of each word."""
    tokenizer = Tokenizer(models.Unigram(pieces, None, False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def parts_of(text: str) -> Iterator[str]:
    """A text in parts that end before a space, where there is one."""
    at = 0
    while at < len(text):
        end = at + TEXT if at + TEXT >= len(text) else max(text.rfind(" ", at + 1, at + TEXT), 0) or at + TEXT
        if text[at:end].strip():
            yield text[at:end]
        at = end


def _substrings(word: str, length: int, stride: int) -> set[str]:
    """Without single characters, and without runs of white space, which every vocabulary has."""
    found = {
        word[start:end]
        for start in range(0, len(word), stride)
        for end in range(start + 2, min(len(word), start + length) + 1)
    }
    return {name for name in found if sum(name.count(space) for space in SPACES) < 2}


_BYTES = {character: byte for byte, character in byte_characters().items()}
