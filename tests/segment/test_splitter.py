"""Words for models that read words: nothing is lost, what is finished never changes, and no text takes long."""

from __future__ import annotations

import random

import pytest

from tests.growth import growth
from tokenry.core.errors import InvalidValue
from tokenry.segment.engines.hostile import TEXTS
from tokenry.segment.hierarchy.splitter import words

SIGNS = [*"aB1 .,'\"\n_⁄·:é世ก🇹🇷👨א\u2019-가", "\u0301", "\u200d", "\u200b", "\u202f", "\u00a0", "\ufe0f"]


def split(text, longest=64):
    return [word.decode() for word in words(text.encode(), longest)]


def test_spaces_go_ahead_and_signs_stay_behind():
    assert split("Hello, world!") == ["Hello,", " world!"]
    assert split("can't a_b 3.14") == ["can'", "t", " a_", "b", " 3.", "14"]
    assert split("fooBar  x\n\n  Yes?! (ok)") == ["foo", "Bar", "  x", "\n\n  Yes?!", " (", "ok)"]
    assert split("🇹🇷🇩🇪é你好 👨\u200d👩") == ["🇹🇷", "🇩🇪", "é", "你", "好", " 👨\u200d👩"]
    assert split("") == []


def test_long_words_are_cut_between_characters():
    assert split("aaaa" * 3, 5) == ["aaaaa", "aaaaa", "aa"]
    assert split("éééé", 5) == ["éé", "éé"]
    assert words(b"\x80" * 9, 4) == [b"\x80"] * 9
    with pytest.raises(InvalidValue, match="longest must be at least 4"):
        words(b"a", 3)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_no_byte_is_lost(text):
    assert b"".join(words(text.encode(), 16)) == text.encode()
    assert max(map(len, words(text.encode(), 16)), default=0) <= 16


def test_finished_words_of_any_prefix_are_words_of_the_whole():
    drawn = random.Random(0)
    for i in range(600):
        data = "".join(drawn.choices(SIGNS, k=drawn.randint(0, 12))).encode()
        if i % 3 == 0:
            data = bytes(drawn.choices(data + b"\xff\xc3\xe2\x80\xf0", k=len(data)))
        longest = drawn.choice((4, 6, 64))
        whole = words(data, longest)
        assert b"".join(whole) == data
        for n in range(len(data)):
            finished = words(data[:n], longest)[:-1]
            assert finished == whole[: len(finished)], (data, n)


def test_one_word_of_a_megabyte_is_cut_in_linear_time(monkeypatch):
    monkeypatch.setattr("tokenry.segment.hierarchy.splitter._words", lambda data: [data])
    assert growth(lambda n: words(b"a" * n, 4), 1 << 20) < 4


@pytest.mark.parametrize("unit", ["a", "a b ", "\u0301", "🇹", 'א"', "'", "世", " ", "aB", "👨\u200d", "1,", "\0"])
def test_time_is_linear(unit):
    assert growth(lambda n: words((unit * n).encode()), 80_000) < 4
