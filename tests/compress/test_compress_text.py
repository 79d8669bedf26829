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


def check_copied(tokens, text: str, start: int, stop: int) -> None:
    """An answer that copies some words of the compressed text leads back to the original around them."""
    found = list(re.finditer(r"\S+", text))[start:stop]
    answer = text[found[0].start() : found[-1].end()]
    recovered = recover(tokens, answer)
    assert recovered, answer
    for r in recovered:
        data = tokens.origin.sources[r.source].data.encode()
        assert data[r.span[0] : r.span[1]].decode() == r.text
        copied = answer[r.answer[0] : r.answer[1]].split()
        inside = iter(r.text.split())
        assert all(any(w.strip(",.") in o for o in inside) for w in copied[:-1]), "the copied words are in the original"


@pytest.mark.parametrize("unit", ["word", "sentence"])
def test_recovering_copies_of_a_compressed_document(unit):
    tokens = RandomUnits(budget=0.3, units=unit).compress(batch(read("in_the_year_2889")[:8000]))
    text = text_of(tokens)
    for start in range(0, len(text.split()) - 12, 37):
        check_copied(tokens, text, start, start + 12)


def test_recover_returns_what_was_dropped_between():
    text = "The old lamp was repaired by Anna Moss in 1903. Nobody paid."
    tokens = batch(text)
    spans = tokens.origin.spans[0, :, :2].tolist()
    stay = [
        i for i, (a, b) in enumerate(spans) if text[a:b].strip() in ("lamp", "repai", "red", "Anna", "Moss", "1903")
    ]
    after = keep(tokens, stay)
    assert text_of(after) == "lamp repaired Anna Moss 1903"
    answer = "It was the lamp, repaired Anna Moss."
    (found,) = recover(after, answer)
    assert answer[slice(*found.answer)] == "lamp, repaired Anna Moss"
    assert found.text == "lamp was repaired by Anna Moss"
    assert text[slice(*found.span)] == found.text
    assert found.source == 0


def test_recover_takes_single_rare_words_only():
    tokens = batch("Alpha beta alpha gamma it on")
    assert [r.text for r in recover(tokens, "gamma")] == ["gamma"]
    assert recover(tokens, "alpha") == []
    assert recover(tokens, "it") == []
    assert recover(tokens, "") == []
    assert [r.text for r in recover(tokens, "x alpha gamma y beta z")] == ["alpha gamma", "beta"]


def test_recover_stays_in_one_source_and_counts_bytes():
    tokens = batch(row(("template", "é "), "Zoë lives", "here now, Zoë"))
    found = recover(tokens, "lives here now")
    assert [(r.source, r.span, r.text) for r in found] == [(1, (5, 10), "lives"), (2, (0, 8), "here now")]
    assert [r.span for r in recover(tokens, "Zoë lives")] == [(0, 10)]


def test_recover_identity():
    text = read("sotu_1930")[:1500]
    (found,) = recover(batch(text), text)
    assert found.text == text.strip().rstrip(".:;")
