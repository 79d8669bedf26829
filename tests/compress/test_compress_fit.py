"""The kept count is exact on any text and budget, and words are whole wherever that is possible."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compress.compress_rows import NASTY, batch, free
from tests.compress.test_compress_units import HOSTILE, document
from tokenry.compress.kept.fit import fit
from tokenry.compress.random import RandomUnits
from tokenry.core.budget import Budget
from tokenry.data import documents as samples
from tokenry.data import read

UNITS = ("sentence", "word", "token")


def scores(n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed))


def cut_words(found, kept: np.ndarray) -> int:
    """Words of which only a part stays."""
    held, size = np.bincount(found.words.of, weights=kept), np.bincount(found.words.of)
    return int(((held > 0) & (held < size)).sum())


def exact(text: str, seed: int = 0, counts=None) -> None:
    for unit in UNITS:
        found = document(text, unit)
        for count in counts if counts is not None else range(found.size + 1):
            kept = fit(found, scores(len(found.units), seed), count)
            assert kept.sum() == count
            if unit != "token":
                assert cut_words(found, kept) <= 1


@pytest.mark.parametrize("text", [t for t in NASTY if len(t) < 120])
def test_every_count_of_nasty_texts(text):
    exact(text)


@pytest.mark.parametrize("text", [t for t in NASTY if len(t) >= 120])
def test_some_counts_of_long_nasty_texts(text):
    exact(text, counts=[0, 1, 2, 17, 33])


@settings(max_examples=60, deadline=None)
@given(HOSTILE, st.integers(0, 5), st.floats(0, 1))
def test_hostile_texts(text, seed, share):
    n = document(text).size
    exact(text, seed, counts={0, n, int(share * n)})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "bb", "word", "longer-word,", "Sentence.", "extraordinarily", "\n\n", "3.5"])),
    st.data(),
)
def test_random_texts(parts, data):
    text = " ".join(parts)
    n = document(text).size
    exact(text, data.draw(st.integers(0, 9)), counts={data.draw(st.integers(0, n)), n})


@pytest.mark.parametrize("name", samples())
def test_sample_documents_cut_no_word(name):
    text = read(name)
    for unit in ("sentence", "word"):
        found = document(text, unit)
        values = scores(len(found.units))
        for count in (1, 2, 3, 50, 333, found.size // 4, found.size // 2, found.size - 2, found.size - 1):
            kept = fit(found, values, count)
            assert kept.sum() == count
            assert cut_words(found, kept) == 0


def test_best_units_stay_whole():
    found = document("One two three. Four five six. Seven eight nine. Ten.")
    assert np.bincount(found.sentences.of).tolist() == [4, 4, 4, 2]
    scores = torch.tensor([0.1, 0.9, 0.5, 0.3])
    assert set(found.sentences.of[fit(found, scores, 8)]) == {1, 2}
    assert set(found.sentences.of[fit(found, scores, 6)]) == {1, 3}, "a smaller unit fills what is left"
    assert np.flatnonzero(fit(found, scores, 1)).tolist() == [4], "else the beginning of the best"


def test_ties_go_to_the_earlier():
    found = document("aa bb cc dd", "word")
    assert fit(found, torch.zeros(4), 2).tolist() == [True, True, False, False]


def test_words_of_the_best_unit_left_out_fill_up():
    found = document("One two three four five. Six seven eight nine ten.")
    kept = fit(found, torch.tensor([0.0, 1.0]), 3)
    assert np.flatnonzero(kept).tolist() == [6, 7, 8], "the beginning of the better sentence"


def test_one_exchange_saves_a_word_from_being_cut():
    found = document("a extraordinary b", "word")
    assert np.bincount(found.words.of).tolist() == [1, 3, 1]
    kept = fit(found, torch.tensor([0.9, 0.1, 0.5]), 4)
    assert cut_words(found, kept) == 0
    assert kept.tolist() == [True, True, True, True, False], "the better of the two short words stays"


def test_last_resort_leaves_off_a_full_stop_first():
    found = document("extraordinary bb.", "word")
    kept = fit(found, torch.tensor([0.9, 0.1]), 1)
    assert found.text[found.starts[kept][0] : found.ends[kept][0]].strip() == "bb"


def test_forced_words_come_first():
    found = document("One two three. Four five six.")
    forced = np.array([False, False, False, False, True, False])
    kept = fit(found, torch.tensor([1.0, 0.0]), 3, forced)
    assert kept[found.words.of == 4].all()
    assert kept.sum() == 3


@settings(max_examples=30, deadline=None)
@given(st.floats(0.001, 1), st.integers(0, 3))
def test_every_share_of_a_document(share, seed):
    text = read("sotu_1975")[:6000]
    tokens = batch(text)
    out = RandomUnits(budget=Budget(share=share), seed=seed).compress(tokens)
    assert free(out)[0] == Budget(share=share).count(free(tokens)[0])
