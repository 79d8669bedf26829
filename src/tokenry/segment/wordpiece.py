"""WordPiece: spell every word by the longest pieces from its beginning."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from tokenry.core.card import Card
from tokenry.core.fields import setting
from tokenry.models.files.vocabularies.opened import Kind
from tokenry.segment.base import FromFile
from tokenry.segment.training.corpus import texts, twice
from tokenry.segment.training.progress import Progress
from tokenry.segment.training.trained import Learnt, between, enough, in_parts
from tokenry.segment.training.words import Words, repeated

MARKS = {
    "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
}  # fmt: skip
INSIDE = "##"
"""Stands before pieces that do not begin a word."""


@dataclass(frozen=True, kw_only=True)
class WordPiece(FromFile):
    """Open a WordPiece vocabulary, or train one, and encode text with it.

    What it does
        Text is cleaned and split into words and signs. Of each word the longest piece of the vocabulary that it begins
        with is taken off, and so on; a word that cannot be spelled becomes one unknown token. `train` merges the most
        frequent pair of pieces again and again.
    Where it acts
        On raw text, before everything else.
    Shapes
        N tokens: ids (N), spans (N, 6) of which the first two are bytes of the text.
    Guarantees
        The ids are those of tokenizers. Spans follow each other and cover the text; a space belongs to the word after
        it. Training the same texts twice gives the same file. White space never comes back as it was: `lossless` says
        what is lost.
    Raises
        UnknownModel: nothing is found under the name.
        StorageError: a damaged or hostile file.
        UnsupportedModel: a file of a kind that is not opened.
        InvalidValue: half a surrogate pair, an id that there is not; in training too few ids, no text, a folder that
        exists, or a corpus that can be read only once.
    Deviations
        See the card.
    Relations
        `bpe` and `unigram` open the other two kinds; `open_tokenizer` finds the kind.
    """

    card = Card(
        title="Google's Neural Machine Translation System: Bridging the Gap between Human and Machine Translation",
        year=2016,
        url="https://arxiv.org/abs/1609.08144",
        summary="longest pieces first: opens any WordPiece vocabulary with its exact ids, and trains new ones",
        trial={"source": "minilm"},
        claims=("ids equal those of tokenizers on hostile texts",),
        deviations=(
            "training merges by frequency, as tokenizers does; the paper merges by likelihood",
            "pieces are learnt from words of at most 128 characters; longer ones are taken apart between characters",
            "bytes that are no UTF-8 become U+FFFD",
            "half of a surrogate pair is refused, not replaced",
        ),
    )

    kind: ClassVar[Kind] = "wordpiece"
    fewest: ClassVar[int] = len(MARKS) + 2

    source: str = setting("minilm", doc="an alias, a file, a folder or a hub id")

    def learn(self, corpus: Iterable[str | Path], vocab_size: int, seed: int, progress: Progress) -> Learnt:
        """Merge the most frequent pairs inside words, with upper and lower case; nothing is drawn."""
        first, later = _letters(twice(corpus), progress)
        return self._learnt(first, later, texts(corpus, progress), _steps(), vocab_size)

    def words(self, text: str) -> Words:
        whole, parts = _split(text), _steps()[1].pre_tokenize_str(_steps()[0].normalize_str(text))
        first, later = set().union(*whole), set().union(*(word[1:] for word in whole))
        return Words(Counter(word for word, _ in parts), first, later)

    def learn_words(self, words: Words, vocab_size: int, progress: Progress) -> Learnt:
        progress("merging", 0, 0)
        steps = (None, between())
        return self._learnt(sorted(words.first), sorted(words.later), repeated(words.counts), steps, vocab_size)

    def _learnt(
        self, first: list[str], later: list[str], found: Iterable[str], steps: tuple[Any, Any], vocab_size: int
    ) -> Learnt:
        """Learn from texts that steps clean and split into words."""
        from tokenizers import Tokenizer, decoders, models, trainers

        # The trainer numbers letters as they turn up in a table without order, unless they are given.
        given = [*MARKS.values(), *first, *(INSIDE + letter for letter in later)]
        enough(self.name(), vocab_size, len(given))
        library = Tokenizer(models.WordPiece(unk_token=MARKS["unk_token"]))
        if steps[0] is not None:
            library.normalizer = steps[0]
        library.pre_tokenizer = steps[1]
        trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=given, show_progress=False)
        library.train_from_iterator(found, trainer=trainer)
        library.normalizer, library.pre_tokenizer = _cleaned()
        library.decoder = decoders.WordPiece()
        return Learnt(json.loads(library.to_str()), MARKS, list(MARKS.values()))


@lru_cache(maxsize=1)
def _cleaned() -> tuple[Any, Any]:
    """What cleans text, and what splits it into words."""
    from tokenizers import normalizers, pre_tokenizers

    return normalizers.BertNormalizer(lowercase=False), pre_tokenizers.BertPreTokenizer()


@lru_cache(maxsize=1)
def _steps() -> tuple[Any, Any]:
    """The same as training sees it, where no word is longer than pieces are learnt from."""
    from tokenizers import pre_tokenizers

    clean, split = _cleaned()
    return clean, pre_tokenizers.Sequence([split, in_parts()])


def _split(text: str) -> list[str]:
    """Words of a text, however long."""
    clean, split = _cleaned()
    return [word for word, _ in split.pre_tokenize_str(clean.normalize_str(text))]


def _letters(corpus: Iterable[str | Path], progress: Progress) -> tuple[list[str], list[str]]:
    """Characters of the corpus, and those that stand inside words."""
    first: set[str] = set()
    later: set[str] = set()
    for text in texts(corpus, progress):
        for word in _split(text):
            first.update(word)
            later.update(word[1:])
    return sorted(first), sorted(later)
