"""WordPiece: spell every word by the longest pieces from its beginning."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tokenry.core.card import Card
from tokenry.core.fields import setting
from tokenry.models.files.vocabularies.opened import Kind
from tokenry.segment.base import FromFile
from tokenry.segment.training.corpus import texts, twice
from tokenry.segment.training.progress import Progress
from tokenry.segment.training.trained import Learnt, enough, in_parts

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
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

        library = Tokenizer(models.WordPiece(unk_token=MARKS["unk_token"]))
        library.normalizer = normalizers.BertNormalizer(lowercase=False)
        library.pre_tokenizer = split = pre_tokenizers.BertPreTokenizer()
        library.decoder = decoders.WordPiece()
        first, later = _letters(library, twice(corpus), progress)
        # The trainer numbers letters as they turn up in a table without order, unless they are given.
        given = [*MARKS.values(), *first, *(INSIDE + letter for letter in later)]
        enough(self.name(), vocab_size, len(given))
        library.pre_tokenizer = pre_tokenizers.Sequence([split, in_parts()])
        trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=given, show_progress=False)
        library.train_from_iterator(texts(corpus, progress), trainer=trainer)
        library.pre_tokenizer = split
        return Learnt(json.loads(library.to_str()), MARKS, list(MARKS.values()))


def _letters(library: object, corpus: Iterable[str | Path], progress: Progress) -> tuple[list[str], list[str]]:
    """Characters of the corpus, and those that stand inside words."""
    first: set[str] = set()
    later: set[str] = set()
    for text in texts(corpus, progress):
        for word, _ in library.pre_tokenizer.pre_tokenize_str(library.normalizer.normalize_str(text)):  # type: ignore[attr-defined]
            first.update(word)
            later.update(word[1:])
    return sorted(first), sorted(later)
