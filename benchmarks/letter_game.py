"""Questions about the letters of words that are one token each, in a small part of a real vocabulary."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tokenry.core.vocabulary import Vocabulary
from tokenry.data import documents, read
from tokenry.models.files.load import load_tokenizer
from tokenry.models.text.vocabulary import vocabulary_of
from tokenry.segment.spelling.splits import splits_of

ASKS = ("starts", "ends", "contains")
MARKS = (" ->", ":", "\n", *(f" {ask}" for ask in ASKS))
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Question:
    """Which of four words has a letter in some place."""

    ask: str
    letter: str
    options: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Game:
    """Words of the sample documents, most of them to learn from and some held out.

    Args:
        words: how many.
        shortest, longest: letters of a word.
        held_out: share of the words that no question for training holds.
    """

    words: int
    shortest: int
    longest: int
    held_out: float

    @cached_property
    def all_words(self) -> list[str]:
        """The most frequent words that one token spells, in an order by chance."""
        whole = vocabulary_of(load_tokenizer("smollm2")).ids
        found = Counter(w for name in documents() for w in re.findall(r"\b[a-z]+\b", read(name)))
        fits = [w for w, _ in found.most_common() if self.shortest <= len(w) <= self.longest and _token(w) in whole]
        chosen = fits[: self.words]
        random.Random(0).shuffle(chosen)
        return chosen

    @property
    def held_out_words(self) -> list[str]:
        return self.all_words[: round(self.held_out * len(self.all_words))]

    @property
    def training_words(self) -> list[str]:
        return self.all_words[round(self.held_out * len(self.all_words)) :]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words, the letters, and all pieces that spell them."""
        whole = vocabulary_of(load_tokenizer("smollm2"))
        texts = [*map(_token, (*self.all_words, *LETTERS)), *(mark.encode() for mark in MARKS)]
        found = {whole.ids[text] for text in texts}
        table, todo = splits_of(whole), list(found)
        while todo:
            new = {part for pair in table.pairs(todo.pop()) for part in pair} - found
            found |= new
            todo += new
        return Vocabulary(tuple(whole[i] for i in sorted(found)))

    def token(self, word: str) -> int:
        return self.vocabulary.ids[_token(word)]

    def mark(self, text: str) -> int:
        return self.vocabulary.ids[text.encode()]

    def question(self, words: Sequence[str], rng: random.Random) -> Question:
        """One answer among four of the words."""
        while True:
            ask, answer = rng.choice(ASKS), rng.choice(words)
            letter = {"starts": answer[0], "ends": answer[-1], "contains": rng.choice(answer)}[ask]
            others = [w for w in rng.sample(words, min(60, len(words))) if not _holds(ask, letter, w)][:3]
            if len(others) == 3:
                options = [answer, *others]
                rng.shuffle(options)
                return Question(ask, letter, tuple(options), answer)

    def prompt(self, question: Question) -> list[int]:
        """`starts c: dog chair sun sky ->`."""
        options = map(self.token, question.options)
        ask = (self.mark(f" {question.ask}"), self.token(question.letter), self.mark(":"))
        return [*ask, *options, self.mark(" ->")]


def _token(word: str) -> bytes:
    return b" " + word.encode()


def _holds(ask: str, letter: str, word: str) -> bool:
    return {"starts": word[0] == letter, "ends": word[-1] == letter, "contains": letter in word}[ask]
