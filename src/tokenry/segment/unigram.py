"""Unigram: of all ways to spell a text in pieces take the most likely one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import setting
from tokenry.core.needs import need
from tokenry.models.files.vocabularies.opened import Kind
from tokenry.segment.base import FromFile
from tokenry.segment.training.corpus import texts
from tokenry.segment.training.progress import Progress
from tokenry.segment.training.trained import ALPHABET, END, Learnt, byte_level_steps, byte_words
from tokenry.segment.training.words import Words

UNKNOWN = "<unk>"


@dataclass(frozen=True, kw_only=True)
class Unigram(FromFile):
    """Open a unigram vocabulary, or train one, and encode text with it.

    What it does
        Every piece has a log-probability. Of all ways to spell a split of the text, the one with the largest sum is
        found by dynamic programming. `train` starts from many frequent pieces, estimates their probabilities by
        expectation maximisation, and drops those whose loss costs the likelihood of the corpus least.
    Where it acts
        On raw text, before everything else.
    Shapes
        N tokens: ids (N), spans (N, 6) of which the first two are bytes of the text.
    Guarantees
        The ids are those of the library the file was made for: tokenizers for tokenizer.json, sentencepiece for its
        models. `lossless` says what comes back. Spans follow each other and cover the text. Training the same texts
        twice gives the same file, which covers every byte.
    Raises
        UnknownModel: nothing is found under the name.
        StorageError: a damaged or hostile file.
        UnsupportedModel: a file of a kind that is not opened.
        InvalidValue: half a surrogate pair, an id that there is not, a library that is not installed; in training too
        few ids, no text, or a folder that exists.
    Deviations
        See the card.
    Relations
        `bpe` and `wordpiece` open the other two kinds; `open_tokenizer` finds the kind.
    """

    card = Card(
        title="Subword Regularization: Improving Neural Network Translation Models with Multiple Subword Candidates",
        year=2018,
        url="https://arxiv.org/abs/1804.10959",
        summary="unigram language model: opens any such vocabulary with its exact ids, and trains new ones",
        trial={"source": "sample-unigram"},
        claims=("ids equal those of tokenizers and sentencepiece on hostile texts",),
        deviations=(
            "no sampling: always the most likely spelling",
            "bytes that are no UTF-8 become U+FFFD where bytes have no ids",
            "half of a surrogate pair is refused, not replaced",
            "training works on the bytes of text that was split first, so that every text can be spelled",
            "pieces are learnt from words of at most 128 characters; longer ones are taken apart between characters",
        ),
    )

    kind: ClassVar[Kind] = "unigram"
    fewest: ClassVar[int] = len(ALPHABET) + 2
    used_up: ClassVar[str] = "pieces are chosen among what occurs at least twice in the corpus, up to 16 bytes long"

    source: str = setting("sample-unigram", doc="a file, a folder, a hub id, or the small vocabulary that comes along")

    def learn(self, corpus: Iterable[str | Path], vocab_size: int, seed: int, progress: Progress) -> Learnt:
        """Count splits, then let sentencepiece choose pieces; nothing is drawn, so `seed` changes nothing.

        The trainer of tokenizers is not used: it gives another vocabulary each time.
        """
        counted = Words()
        for text in texts(corpus, progress):
            counted.add(self.words(text))
        return self.learn_words(counted, vocab_size, progress)

    def words(self, text: str) -> Words:
        return byte_words(text)

    def learn_words(self, words: Words, vocab_size: int, progress: Progress) -> Learnt:
        library = need("sentencepiece", "training a unigram vocabulary")
        split, decoder = byte_level_steps()
        progress("choosing pieces", 0, 0)
        pieces = _pieces(library, words.counts, vocab_size - 1)
        description = _description([*pieces[:1], [END, 0.0], *pieces[1:]], split, decoder)
        return Learnt(description, {"eos_token": END, "unk_token": UNKNOWN}, [UNKNOWN, END])


def _pieces(library: Any, counts: Mapping[str, int], size: int) -> list[list[Any]]:
    """Pieces and log-probabilities, the unknown one first."""
    model = BytesIO()
    try:
        library.SentencePieceTrainer.train(
            # Every byte stands in the corpus once more, so that each gets a piece.
            sentence_iterator=(
                f"{split}\t{count}" for split, count in (*((b, 1) for b in ALPHABET), *sorted(counts.items()))
            ),
            model_writer=model,
            input_format="tsv",
            model_type="unigram",
            vocab_size=size,
            hard_vocab_limit=False,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_by_whitespace=False,
            split_by_unicode_script=False,
            split_by_number=False,
            character_coverage=1.0,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise InvalidValue(f"unigram: the corpus must be large enough to choose pieces from; {error}.") from error
    found = library.SentencePieceProcessor(model_proto=model.getvalue())
    return [[found.id_to_piece(i), found.get_score(i)] for i in range(found.get_piece_size())]


def _description(vocabulary: list[list[Any]], split: Any, decoder: Any) -> dict[str, Any]:
    import json

    from tokenizers import Tokenizer, models

    library = Tokenizer(models.Unigram([(piece, score) for piece, score in vocabulary], unk_id=0))
    library.pre_tokenizer, library.decoder = split, decoder
    found: dict[str, Any] = json.loads(library.to_str())
    return found
