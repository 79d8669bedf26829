"""BPE: start from bytes and merge pairs in the order in which they were learnt."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tokenry.core.card import Card
from tokenry.core.fields import setting
from tokenry.models.files.vocabularies.opened import Kind
from tokenry.segment.base import FromFile
from tokenry.segment.training.corpus import texts
from tokenry.segment.training.progress import Progress
from tokenry.segment.training.trained import (
    ALPHABET,
    END,
    Learnt,
    between,
    byte_level_steps,
    byte_level_words,
    byte_words,
)
from tokenry.segment.training.words import Words, repeated


@dataclass(frozen=True, kw_only=True)
class Bpe(FromFile):
    """Open a byte-pair vocabulary, or train one, and encode text with it.

    What it does
        Text is split by a regular expression. Each split starts as single bytes or characters; of all neighbours the
        pair that was learnt first is merged, until none is left. `train` merges the most frequent pair again and again.
    Where it acts
        On raw text, before everything else.
    Shapes
        N tokens: ids (N), spans (N, 6) of which the first two are bytes of the text.
    Guarantees
        The ids are those of the library the file was made for: tokenizers for tokenizer.json and GGUF files, tiktoken
        for .tiktoken and tekken files, sentencepiece for its models. A faster library is used for long texts where
        one is installed and gave the same ids on hostile texts; `engine` names it. `lossless` says what comes back.
        Spans follow each other and cover the text. Training the same texts twice gives the same file, which covers
        every byte.
    Raises
        UnknownModel: nothing is found under the name.
        StorageError: a damaged or hostile file.
        UnsupportedModel: a file of a kind that is not opened.
        InvalidValue: half a surrogate pair, an id that there is not, a pattern that is missing, a library that is not
        installed; in training too few ids, no text, or a folder that exists.
        LostBytes, a warning: the text holds bytes for which the vocabulary has no piece.
    Deviations
        See the card.
    Relations
        `unigram` and `wordpiece` open the other two kinds; `open_tokenizer` finds the kind.
    """

    card = Card(
        title="Neural Machine Translation of Rare Words with Subword Units",
        year=2015,
        url="https://arxiv.org/abs/1508.07909",
        summary="byte-pair encoding: opens any such vocabulary with its exact ids, and trains new ones",
        trial={"source": "smollm2"},
        claims=(
            "ids equal those of tokenizers, tiktoken and sentencepiece on hostile texts, for files of each format",
            "no run of one character takes time that grows with the square of its length, and no long word in training",
        ),
        deviations=(
            "of bytes that are no UTF-8, each becomes one id where bytes have ids, else U+FFFD; most libraries refuse "
            "them",
            "half of a surrogate pair is refused, not replaced",
            "cutting, filling up and dropout that a file asks for are not applied",
            "training starts from all 256 bytes and splits text first",
            "pieces are learnt from words of at most 128 characters; longer ones are taken apart between characters",
        ),
    )

    kind: ClassVar[Kind] = "bpe"
    fewest: ClassVar[int] = len(ALPHABET) + 1

    source: str = setting("smollm2", doc="an alias, a file, a folder, an encoding of tiktoken or a hub id")
    pattern: str | None = setting(None, doc="how a .tiktoken file that is not known splits text")

    def learn(self, corpus: Iterable[str | Path], vocab_size: int, seed: int, progress: Progress) -> Learnt:
        """Merge the most frequent pairs; nothing is drawn, so `seed` changes nothing."""
        return _learnt(texts(corpus, progress), byte_level_words(), vocab_size, progress)

    def words(self, text: str) -> Words:
        return byte_words(text)

    def learn_words(self, words: Words, vocab_size: int, progress: Progress) -> Learnt:
        return _learnt(repeated(words.counts), between(), vocab_size, progress)

    def _pattern(self) -> str | None:
        return self.pattern


def _learnt(found: Iterable[str], words: Any, vocab_size: int, progress: Progress) -> Learnt:
    """Learn from texts that are split into words."""
    from tokenizers import Tokenizer, models, trainers

    library = Tokenizer(models.BPE())
    library.pre_tokenizer = words
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END], initial_alphabet=list(ALPHABET), show_progress=False
    )
    library.train_from_iterator(_then(found, progress), trainer=trainer)
    library.pre_tokenizer, library.decoder = byte_level_steps()
    return Learnt(json.loads(library.to_str()), {"eos_token": END, "bos_token": END}, [END])


def _then(found: Iterable[str], progress: Progress) -> Iterable[str]:
    yield from found
    progress("merging", 0, 0)
