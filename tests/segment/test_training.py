"""What vocabularies are learnt from: long words count whole, take no time, and fewer ids than asked are said."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import pytest

from tests.growth import growth
from tokenry.segment.bpe import Bpe
from tokenry.segment.training.trained import FewerIds
from tokenry.segment.unigram import Unigram
from tokenry.segment.wordpiece import WordPiece

KINDS = [Bpe, Unigram, WordPiece]


@pytest.fixture
def train(tmp_path):
    """A way to train into a new folder each time."""

    def trained(kind, corpus, size):
        if kind is Unigram:
            pytest.importorskip("sentencepiece")
        return kind.train(corpus, vocab_size=size, out=tmp_path / str(len(list(tmp_path.iterdir()))))

    return trained


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_word_counts(train, kind):
    """sentencepiece leaves out lines of more than 4,192 bytes; what stands in one teaches pieces all the same."""
    drawn = random.Random(0)
    word = "".join(drawn.choice(("qua", "xi", "zon")) for _ in range(4000))
    found = [piece or b"" for piece in train(kind, [word], 300).vocabulary]
    assert any(b"qua" in piece for piece in found)
    assert any(b"zon" in piece for piece in found)


@pytest.mark.parametrize("kind", [Bpe, WordPiece])
def test_a_long_word_takes_linear_time(train, kind):
    drawn = random.Random(0)
    word = "".join(drawn.choice("abcdefghij") for _ in range(160_000))
    assert growth(lambda n: train(kind, [word[:n]], 600), len(word)) < 2.5


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_taken_apart_between_characters(train, kind):
    """The parts of a word without one byte of ASCII are characters, and the file that is written takes none apart."""
    text = "漢字仮名交" * 400
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewerIds)
        found = train(kind, [text], 280)
    if found.lossless:
        assert found.decode(found.encode(text)) == text.encode()
    assert "{1,128}" not in (Path(found.source) / "tokenizer.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_ids_than_asked_are_said(train, kind):
    with pytest.warns(FewerIds, match=r"asked for 5000, learned \d+: .*; give more text"):
        found = train(kind, ["to be or not to be " * 3], 5000)
    assert found.vocab_size < 5000


def test_as_many_ids_as_asked_are_no_matter(train):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FewerIds)
        assert train(Bpe, ["to be or not to be " * 3], 260).vocab_size == 260
