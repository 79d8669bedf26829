"""The compressed text, and the way back from an answer to the original."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compress.compress_rows import NASTY, batch, row
from tests.compress.test_compress_units import HOSTILE
from tokenry.compress.kept.recover import recover
from tokenry.compress.kept.text import text_of
from tokenry.compress.random import RandomUnits
from tokenry.data import read


def keep(tokens, columns):
    return tokens.take(torch.tensor([columns], dtype=torch.long)).renumbered()


def words_kept(text: str, *gone: str) -> str:
    """The text that is left of `text` without the tokens `gone`."""
    tokens = batch(text)
    data = text.encode()
    spans = tokens.origin.spans[0, :, :2].tolist()
    return text_of(keep(tokens, [i for i, (a, b) in enumerate(spans) if data[a:b].decode().strip() not in gone]))


@pytest.mark.parametrize("text", [t for t in NASTY if t])
def test_an_untouched_source_comes_out_as_it_went_in(text):
    assert text_of(batch(text)) == text


@settings(max_examples=100, deadline=None)
@given(HOSTILE.filter(bool), st.integers(0, 9), st.sampled_from(["word", "sentence", "token"]))
def test_nothing_is_invented_or_glued(text, seed, unit):
    out = text_of(RandomUnits(budget=0.5, units=unit, seed=seed).compress(batch(text)))
    assert len(out) <= len(text) + 1 + out.count(" ")
    visible = iter("".join(text.split()))
    assert all(c in visible for c in "".join(out.split())), "the visible characters are a subsequence"
    if unit == "word" and " " in text and text.isascii() and text.replace(" ", "").isalnum():
        assert set(out.split()) <= set(text.split())


@pytest.mark.parametrize(
    ("text", "gone", "expected"),
    [
        ("one two three", ["two"], "one three"),
        ("one two three", ["one"], "two three"),
        ("one two three", ["three"], "one two"),
        ("one\ntwo\nthree", ["two"], "one\nthree"),
        ("one two\nthree four", ["two", "three"], "one\nfour"),
        ("one two\n\nthree four", ["two"], "one\n\nthree four"),
        ("one\n\ntwo\n\nthree", ["two"], "one\n\nthree"),
        ("one.two", ["."], "one two"),
        ("if x:\n  pass\n  stop", ["pass"], "if x:\n  stop"),
    ],
)
def test_gaps(text, gone, expected):
    assert words_kept(text, *gone) == expected


def test_sources_are_set_apart_and_chosen_by_kind():
    tokens = batch(row(("template", "<u>"), "One text.", ("template", " "), "Two.", ("question", "Why?")))
    assert text_of(tokens) == "One text.\n\nTwo."
    assert text_of(tokens, kinds=("question",)) == "Why?"
    assert text_of(tokens, kinds=()) == ""


def test_a_partly_kept_character_is_shown():
    assert text_of(keep(batch("a 🎉 b"), [0, 2])) == "a 🎉"


@pytest.mark.parametrize("unit", ["word", "sentence"])
def test_recovering_copies_of_a_compressed_document(unit):
    """Copied words lead back to where they stand, and never to anything that was dropped."""
    tokens = RandomUnits(budget=0.3, units=unit).compress(batch(read("in_the_year_2889")[:8000]))
    text, letters = text_of(tokens), 0
    for start in range(0, len(text.split()) - 12, 37):
        found = list(re.finditer(r"\S+", text))[start : start + 12]
        answer = text[found[0].start() : found[-1].end()]
        for r in recover(tokens, answer):
            data = tokens.origin.sources[r.source].data.encode()
            assert data[r.span[0] : r.span[1]].decode() == r.text
            assert answer[slice(*r.answer)].split() == r.text.split()
            letters += len(r.text)
    assert letters > (100 if unit == "word" else 500)


def kept_of(text: str, *words: str):
    """The tokens of a text of which only some words stay."""
    tokens = batch(text)
    spans = tokens.origin.spans[0, :, :2].tolist()
    return keep(tokens, [i for i, (a, b) in enumerate(spans) if text[a:b].strip() in words])


LAMP = "The old lamp was not repaired by Anna Moss in 1903. Nobody paid."


def test_recover_never_goes_over_what_was_dropped():
    tokens = kept_of(LAMP, "lamp", "repai", "red", "Anna", "Moss", "1903")
    assert text_of(tokens) == "lamp repaired Anna Moss 1903"
    answer = "It was the lamp, repaired Anna Moss 1903."
    assert [(r.text, answer[slice(*r.answer)]) for r in recover(tokens, answer)] == [
        ("Anna Moss", "Anna Moss"), ("1903", "1903"),
    ]  # fmt: skip


def test_recover_does_not_join_what_stands_far_apart():
    middle = "Much was said about other things. " * 60
    tokens = batch(f"The committee spoke of copper. {middle}Prices fell again in spring.")
    text = tokens.origin.sources[-1].data
    ends = text.index("copper") + len("copper"), text.index(" Prices")
    spans = tokens.origin.spans[0, :, :2].tolist()
    apart = keep(tokens, [i for i, (a, b) in enumerate(spans) if b <= ends[0] or a >= ends[1]])
    assert text_of(apart) == "The committee spoke of copper Prices fell again in spring."
    found = recover(apart, "The committee spoke of copper prices fell again in spring")
    assert [r.text for r in found] == ["The committee spoke of copper", "Prices fell again in spring"]


TALK = """You can also see the harbour. He said that you can also ask Mary Stone. Then they sailed to Rotterdam with
500 crates, and the tax on crates was high; a tax on sails was lower. Also the wind was good."""


@pytest.mark.parametrize(
    ("answer", "passages"),
    [
        ("You can", []),
        ("You can also do that.", []),
        ("also", []),
        ("It was high.", []),
        ("A tax on everything.", []),
        ("They went to Rotterdam.", ["to Rotterdam"]),
        ("Rotterdam", ["Rotterdam"]),
        ("500", ["500"]),
        ("There were 500 crates on board.", ["500 crates"]),
        ("You can also ask Mary Stone", ["you can also ask Mary Stone"]),
        ("It sailed the harbour.", []),
        ("", []),
    ],
)
def test_recover_lists_what_tells_something(answer, passages):
    assert [r.text.replace("\n", " ") for r in recover(batch(TALK), answer)] == passages


def test_recover_takes_what_stands_in_one_place_or_is_long():
    once, twice = "Blue whales sing.", "Sperm whales dive deep into cold southern seas."
    tokens = batch(f"{once} {twice} {twice}")
    assert [r.text for r in recover(tokens, "blue whales")] == ["Blue whales"]
    assert recover(tokens, "sperm whales") == []
    assert [r.span[0] for r in recover(tokens, twice)] == [len(once) + 1]


def test_recover_knows_other_languages():
    german = "Das ist auch eine Frage der Zeit, und die Antwort kennt Frau Weber aus Bremen nicht."
    assert recover(batch(german), "Das ist auch eine gute Idee, und die Sonne scheint.") == []
    assert [r.text for r in recover(batch(german), "Die Antwort kennt Frau Weber.")] == ["die Antwort kennt Frau Weber"]
    (found,) = recover(batch("我们明天坐火车去北京。"), "他们坐火车去北京")
    assert found.answer == (2, 8)


def test_recover_stays_in_one_source_and_counts_bytes():
    tokens = batch(row(("template", "é "), "Zoë Carmichael lives", "here now, Zoë Carmichael"))
    found = recover(tokens, "lives here; Carmichael lives")
    assert [(r.source, r.span, r.text) for r in found] == [(1, (5, 21), "Carmichael lives")]


def test_recover_identity():
    text = read("sotu_1930")[:1500]
    (found,) = recover(batch(text), text)
    assert found.text == text.strip().rstrip(".:;")
