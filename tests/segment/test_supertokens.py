"""Supertokens: stretches of drawn lengths, pieces across words, and what comes back."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.growth import growth
from tokenry.data import read
from tokenry.segment.supertokens import WEIGHTS, Supertokens, _lengths

pytest.importorskip("numba")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    corpus = [read("in_the_year_2889"), read("sotu_1975"), "=" * 500 + "cafe\u0301 " * 50]
    return Supertokens.train(corpus, vocab_size=1500, out=tmp_path_factory.mktemp("made") / "made")


def test_lengths_are_drawn_from_the_table():
    drawn = _lengths(np.random.default_rng(0), 400_000)
    share = np.bincount((drawn - 4) // 2, minlength=len(WEIGHTS)) / len(drawn)
    assert (drawn.min(), drawn.max()) == (4, 23)
    assert np.abs(share - np.array(WEIGHTS) / sum(WEIGHTS)).max() < 0.005
    assert all(_lengths(np.random.default_rng(seed), 100).sum() >= 100 for seed in range(50))


def test_pieces_hold_several_words_and_are_not_too_long(tokenizer):
    pieces = [piece for piece in tokenizer.vocabulary if piece]
    across = [piece for piece in pieces if b" " in piece.strip() and piece.strip().replace(b" ", b"").isalpha()]
    assert len(across) > 30
    assert max(map(len, pieces)) <= 30
    assert not tokenizer.vocabulary.missing_bytes


def test_a_run_of_equal_characters_is_never_part_of_more(tokenizer):
    assert not [piece for piece in tokenizer.vocabulary if piece and b"=======" in piece and set(piece) != {ord("=")}]
    assert tokenizer.vocabulary.ids.keys() >= {b"=" * 8}


@settings(max_examples=60, deadline=None, database=None)
@given(text=st.text(max_size=60))
def test_the_composed_form_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)).decode() == unicodedata.normalize("NFC", text)


def test_merges_run_over_the_whole_text(tokenizer):
    """What merging alone gives, without any split."""
    vocabulary, text = tokenizer.vocabulary, read("moby_dick")[:3000]
    ids = tokenizer.encode(text).ids.tolist()
    assert vocabulary.valid(ids)
    assert any(b" " in (vocabulary[i] or b"").strip() for i in ids)


def test_another_seed_draws_another_vocabulary(tmp_path):
    made = [Supertokens.train([read("sotu_1975")], vocab_size=500, seed=s, out=tmp_path / str(i)) for i, s in
            enumerate((0, 0, 1))]  # fmt: skip
    prints = [t.vocabulary.fingerprint for t in made]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("unit", ["a", "^", " ", "中", "the ", "ab"])
def test_no_text_takes_time_that_grows_with_its_square(tokenizer, unit):
    assert growth(lambda n: tokenizer.ids(unit * (n // len(unit))), 100_000) < 2.5
