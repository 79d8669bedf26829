"""WordPiece vocabularies: ids of tokenizers, places in the text, and letters in a fixed order."""

from __future__ import annotations

import pytest

from tests.growth import growth
from tests.segment.segment_peers import ids
from tokenry.core.errors import InvalidValue, UnknownModel
from tokenry.models.files.vocabularies.find import find_vocabulary
from tokenry.segment.engines.hostile import sample
from tokenry.segment.wordpiece import WordPiece


@pytest.fixture(scope="module")
def file():
    try:
        return find_vocabulary("minilm")
    except UnknownModel as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("special", [True, False])
def test_tokenizer_json_as_tokenizers_reads_it(file, special):
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_file(str(file))
    theirs.no_truncation()
    theirs.no_padding()
    theirs.encode_special_tokens = not special
    ours = WordPiece(special=special)
    for text in sample(ours.opened.marks):
        assert ids(ours, text) == theirs.encode(text, add_special_tokens=False).ids


def test_a_file_that_asks_for_cutting_is_not_cut(file):
    """This vocabulary's file cuts after 128 tokens and fills up."""
    assert len(WordPiece().ids("word " * 500)) == 500
    assert len(WordPiece().ids("word")) == 1


def test_places(file):
    text = "The unaffable  Ångström-cat.  "
    sequence = WordPiece().encode(text)
    held = [text.encode()[a:b].decode() for a, b in sequence.spans[:, :2].tolist()]
    assert held == ["The", " una", "ffa", "ble", "  Ång", "ström", "-", "cat", ".  "]


def test_what_is_lost_is_said(file):
    assert WordPiece().lossless.level == "lossy"
    assert "comes back as" in WordPiece().lossless.why


@pytest.mark.parametrize("character", ["a", "^", " ", "中"])
def test_long_runs_take_linear_time(file, character):
    tokenizer = WordPiece()
    ids(tokenizer, "warm")
    assert growth(lambda n: ids(tokenizer, character * n), 100_000) < 3


def test_letters_are_numbered_in_order(tmp_path):
    tokenizer = WordPiece.train(["cab bac\n", "abc"], vocab_size=20, out=tmp_path / "out")
    pieces = [t.decode() for t in tokenizer.opened.surfaces]
    assert pieces[:8] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"]
    assert pieces[8:11] == ["a", "b", "c"]
    assert tokenizer.opened.marks == {m: i for i, m in enumerate(pieces[:5])}


def test_a_corpus_that_can_be_read_once(tmp_path):
    with pytest.raises(InvalidValue, match="read twice"):
        WordPiece.train(iter(["text"]), vocab_size=100, out=tmp_path / "out")
