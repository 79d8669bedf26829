"""Words and sentences: partitions of the tokens on any text, and sentences as people see them on ordinary ones."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compress.compress_rows import NASTY, batch, row
from tokenry.compress.parts.kind import Sentence, Token, Word
from tokenry.compress.units.document import LONGEST, Document, documents
from tokenry.compress.units.sentences import sentence_starts, words
from tokenry.data import documents as samples
from tokenry.data import read

HOSTILE = st.text(
    st.one_of(
        st.sampled_from(list(" \n\t\r.!?,;:\"'()[]{}-—…。「」好あカ🎉👩\u200d\u0301é`#*|0123456789abcXYZ")),
        st.characters(codec="utf-8"),
    ),
    max_size=200,
)


KINDS = {"token": Token(), "word": Word(), "sentence": Sentence()}


def document(text: str, unit: str = "sentence") -> Document:
    return documents(batch(text), KINDS[unit], "test")[0]


def sentences(text: str) -> list[str]:
    found = words(text)
    starts = [i for i, begins in enumerate(sentence_starts(text, found)) if begins]
    return [text[found[a][0] : found[b - 1][1]] for a, b in pairwise([*starts, len(found)])]


def check_partition(text: str) -> None:
    found = document(text)
    t = len(found.columns)
    assert found.text == text
    assert found.size == t
    for units in (found.tokens, found.words, found.sentences):
        assert len(units.of) == t
        steps = np.diff(units.of, prepend=-1)
        assert set(steps.tolist()) <= {0, 1}, "numbers ascend without holes"
        assert (steps[:1] == 1).all()
        assert len(units) == (int(units.of[-1]) + 1 if t else 0)
        texts = found.texts_of(units)
        assert all(piece == piece.strip() for piece in texts)
        assert "".join("".join(texts).split()) == "".join(text.split()), "every visible character is in one unit"
    for fine, coarse in ((found.tokens, found.words), (found.words, found.sentences)):
        for u in range(len(fine)):
            assert len(set(coarse.of[fine.of == u].tolist())) == 1, "groupings refine each other"
    for a, b in pairwise(found.words.bounds):
        gap = text[a[1] : b[0]]
        assert gap.isspace() or not gap, "words stand apart or touch"


@pytest.mark.parametrize("text", NASTY)
def test_partition_of_nasty_texts(text):
    check_partition(text)


@settings(max_examples=150, deadline=None)
@given(HOSTILE)
def test_partition_of_hostile_texts(text):
    check_partition(text)


def test_every_source_begins_a_sentence():
    found = documents(batch(row("one two", "three four", "  ", "five")), Sentence(), "test")[0]
    assert found.texts == ["one two", "three four", "", "five"]
    assert found.text == "one two\n\nthree four\n\nfive"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mr. Smith met Dr. J. Doe of the U.S. Army. Gone!", ["Mr. Smith met Dr. J. Doe of the U.S. Army.", "Gone!"]),
        ("It cost $3.50 at 5 p.m. Then he paid. 7 more.", ["It cost $3.50 at 5 p.m.", "Then he paid.", "7 more."]),
        ("No. 5 is alive. No. That is it.", ["No. 5 is alive.", "No.", "That is it."]),
        ('"Really?" she said. "Yes." (It is.) [And so.]', ['"Really?" she said.', '"Yes."', "(It is.)", "[And so.]"]),
        ("e.g. this, i.e. that. See Fig. 3, Art. IV. So.", ["e.g. this, i.e. that.", "See Fig. 3, Art. IV.", "So."]),
        ("The end... maybe. Or not… Yes.", ["The end... maybe.", "Or not…", "Yes."]),
        ("wrapped\nline goes on. New\none.", ["wrapped\nline goes on.", "New\none."]),
        ("Title\n\nText here\n\nMore", ["Title", "Text here", "More"]),
        ("- one two\n- three\n  more\n- four", ["- one two", "- three\n  more", "- four"]),
        ("1. First thing. Second.\n2. Third", ["1. First thing.", "Second.", "2. Third"]),
        ("So:\ndef f(x):\n    return x + 1\nAnd then", ["So:", "def f(x):", "return x + 1", "And then"]),
        ("你好。我是学生！是。", ["你好。", "我是学生！", "是。"]),
        ("a\r\n\r\nb", ["a", "b"]),
        ("", []),
    ],
)  # fmt: skip
def test_sentences(text, expected):
    assert sentences(text) == expected


def test_words():
    text = 'A b-c, "d." {"k":1,"l":[{"m":"two words"}]} 你好。'
    assert [text[a:b] for a, b in words(text)] == [
        "A", "b-c,", '"d."', "{", '"k":1,', '"l":', "[", "{", '"m":', '"two', 'words"}]}', "你", "好。",
    ]  # fmt: skip


def test_a_token_over_a_boundary_joins_two_words():
    tokens = batch("ab cd ef")
    spans = tokens.origin.spans.clone()
    spans[0, 0, 1], spans[0, 1, 0] = 4, 4  # the first token now reaches into the second word
    object.__setattr__(tokens.origin, "spans", spans)
    found = documents(tokens, Word(), "test")[0]
    assert found.texts == ["ab cd", "ef"]


def test_indentation_goes_with_its_line():
    found = document("if x:\n    go home\n", "word")
    tokens = [found.text[a:b] for a, b in zip(found.starts, found.ends, strict=True)]
    by_word = [
        "".join(t for t, w in zip(tokens, found.words.of, strict=True) if w == u) for u in range(len(found.words))
    ]
    assert "".join(by_word) == found.text
    assert by_word[-1] == " home\n"


@pytest.mark.parametrize("text", ["word " * 1000, "this is, as said, long; " * 90, "x1 y2\n" * 300, "1 " * 121])
def test_long_sentences_are_cut(text):
    found = document(text)
    sizes = np.bincount(found.sentences.of)
    assert sizes.max() <= LONGEST
    assert len(sizes) < 4 * len(found.columns) / LONGEST
    if "," in text:
        assert all(piece.endswith((",", ";")) for piece in found.texts)


def test_a_long_word_is_not_cut():
    found = document("x" * 1000 + " y", "word")
    assert [len(t) for t in found.texts] == [1000, 1]


@pytest.mark.parametrize("name", samples())
def test_sample_documents(name):
    text = read(name)
    check_partition(text)
    found = document(text)
    assert 80 < len(found.sentences) < 500
    assert found.texts[-1].rstrip()[-1] in '.!?"”)]—'
