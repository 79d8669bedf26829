"""Tokenizers that choose nothing: beside them a vocabulary shows what its choice is worth."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from random import Random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tokenry.core.errors import InvalidValue
from tokenry.models.text.vocabulary import pieces_of

Pair = tuple[str, str]


def random_merges(texts: Iterable[str], size: int, seed: int = 0) -> Pieces:
    """A byte-level vocabulary grown by joining random neighbours instead of the most frequent ones.

    Each step draws one of the pairs that stand side by side somewhere, all equally likely however often they occur.
    Words are cut as byte-level vocabularies do, and no piece reaches over two of them.

    Args:
        texts: where pairs are drawn from.
        size: entries, bytes included; fewer where the texts have no more pairs.

    Raises:
        InvalidValue: a size that cannot hold the bytes.
    """
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    if size < len(bytes_):
        raise InvalidValue(f"random_merges: size must be at least {len(bytes_)}, one for each byte; got {size}.")
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = _Words(word for text in texts for word, _ in cut.pre_tokenize_str(text))
    random = Random(seed)
    merges: list[Pair] = []
    vocabulary = dict.fromkeys(bytes_)
    while len(vocabulary) < size and words.pairs:
        pair = random.choice(words.pairs)
        words.join(pair)
        merges.append(pair)
        vocabulary["".join(pair)] = None
    backend = Tokenizer(models.BPE({piece: i for i, piece in enumerate(vocabulary)}, merges))
    backend.pre_tokenizer, backend.decoder = cut, decoders.ByteLevel()
    return Pieces(backend, f"random merges, {len(vocabulary):,}")


class Pieces:
    """A tokenizer of the package tokenizers, without special tokens."""

    def __init__(self, backend: Tokenizer, name: str) -> None:
        self.backend, self.name = backend, name
        self.vocabulary = pieces_of(json.loads(backend.to_str()))

    def __str__(self) -> str:
        return self.name

    def encode(self, text: str) -> list[int]:
        found: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return found


class _Words:
    """Distinct words as pieces, and the pairs of pieces that stand side by side in them."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = [list(word) for word in sorted(Counter(words))]
        self.pairs: list[Pair] = []
        self._place: dict[Pair, int] = {}
        self._home: dict[Pair, set[int]] = {}
        for i in range(len(self.words)):
            self._enter(i)

    def join(self, pair: Pair) -> None:
        """Make one piece of a pair wherever it stands."""
        for i in sorted(self._home[pair]):
            self._leave(i)
            word, joined = self.words[i], []
            at = 0
            while at < len(word):
                step = 2 if tuple(word[at : at + 2]) == pair else 1
                joined.append("".join(word[at : at + step]))
                at += step
            self.words[i] = joined
            self._enter(i)

    def _enter(self, i: int) -> None:
        for pair in pairwise(self.words[i]):
            if pair not in self._home:
                self._home[pair], self._place[pair] = set(), len(self.pairs)
                self.pairs.append(pair)
            self._home[pair].add(i)

    def _leave(self, i: int) -> None:
        for pair in dict.fromkeys(pairwise(self.words[i])):
            self._home[pair].discard(i)
            if not self._home[pair]:
                at, last = self._place.pop(pair), self.pairs.pop()
                del self._home[pair]
                if last != pair:
                    self.pairs[at], self._place[last] = last, at
