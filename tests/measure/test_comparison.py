"""Tokenizers beside each other: what is counted by hand, and what is known of bytes and of triads."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from tokenry import open_tokenizer
from tokenry.core.errors import InvalidValue
from tokenry.core.vocabulary import Vocabulary
from tokenry.measure.comparison import families
from tokenry.measure.comparison.sheet import FAMILIES, compare
from tokenry.measure.morphs.gold import Word
from tokenry.measure.statistics.stream import Bytes
from tokenry.report.tokenizers_page import _rows, tokenizers_page

TEXTS = ("The lamp was paid for by the town. It cost 1250 marks.", "Bees make honey – and honey keeps.\n", "x")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(families, "LONG", 400)


class Quadratic(Bytes):
    """It takes time with the square of a text, drops zeros, and refuses a text."""

    def encode(self, text):
        if "Hello" in text:
            raise ValueError
        for _ in range(len(text) ** 2 // 20 if len(text) > 90 and len(set(text)) == 1 else 0):
            pass
        return [b for b in text.encode() if b != 48]


def test_bytes_are_known():
    sheet = compare({"bytes": "bytes"}, TEXTS, draws=10)
    found = {name: family.values for name, family in sheet.measured["bytes"].items()}
    assert list(found) == list(FAMILIES)
    assert found["compression"]["bytes_per_token"] == 1
    assert found["numbers"]["tokens_per_digit"] == found["numbers"]["cut_alike"] == 1
    assert found["coverage"] == {"missing_bytes": 0, "corpus_whole": 1, "languages_whole": 1}
    assert found["hostile"]["hostile_whole"] == 1
    assert found["robustness"]["capitals_cost"] == 1
    assert found["morphology"]["boundary_recall"] == 1
    words = [w for t in TEXTS for w in families.WORD.findall(t)]
    assert found["fertility"]["fertility"] == pytest.approx(sum(map(len, words)) / len(words))
    assert sheet.measured["bytes"]["fertility"].intervals


def test_triads_cut_numbers_in_threes():
    tokenizer = open_tokenizer("triadic_suffix:base=sample-unigram")
    found = families.numerals(tokenizer).values
    assert found["triad_boundary_f1"] == found["cut_alike"] == 1
    assert found["tokens_per_digit"] == pytest.approx(18 / 45)


def test_premium_and_gini():
    languages = {"one": ["ab", "cd"], "two": ["abab", "cdcdcd"], "three": ["é", "éé"]}
    found = families.fairness(Bytes(), languages, draws=20)
    assert found.values["premium_two"] == found.values["largest_premium"] == 10 / 4
    assert found.values["premium_three"] == 6 / 4
    assert found.intervals["premium_two"][0] < 2.5
    assert families.gini(np.array([5.0, 5.0, 5.0])) == 0
    assert families.gini(np.array([0.0, 0.0, 9.0])) == pytest.approx(2 / 3)
    assert math.isnan(families.gini(np.zeros(2)))


def test_an_edit_changes_what_it_touches():
    assert families._replaced([1, 2, 3, 4], [1, 9, 3, 4]) == 1
    assert families._replaced([1, 2, 3], [1, 2, 3]) == 0
    assert families._replaced([1, 1, 1], [1, 1]) == 1
    assert families._replaced([], [1]) == 1
    assert families.robustness(Bytes(), TEXTS[:1], 0).values["tokens_per_edit"] <= 1


def test_what_is_lost_refused_and_slow_is_shown(monkeypatch):
    monkeypatch.setattr(families, "LONG", 20_000)
    monkeypatch.setattr(families, "LONG_TEXTS", ("a",))
    found = families.hostile(Quadratic()).values
    assert found["refused"] == 1
    assert found["hostile_whole"] < 1
    assert found["slowest_growth"] > 8
    assert families.coverage(Quadratic(), ["10", "1"]).values["corpus_whole"] == 0.5


def test_what_refuses_long_texts_or_takes_very_long_is_told_without_infinities(monkeypatch):
    """No text is timed that is longer than one which took long already."""
    asked = []

    class Steep(Bytes):
        def encode(self, text):
            asked.append(len(text))
            if text[:1] == "^" and len(text) > 90:
                raise ValueError
            deadline = time.process_time() + (0.02 if len(text) >= 5_000 else 0)
            while time.process_time() < deadline:
                pass
            return super().encode(text)

    monkeypatch.setattr(families, "LONG", 20_000)
    monkeypatch.setattr(families, "SLOW", 0.01)
    monkeypatch.setattr(families, "LONG_TEXTS", ("a", "^"))
    found = families.hostile(Steep())
    assert (found.values["refused"], found.samples) == (1, len(families.HOSTILE) + 2)
    assert found.values["slowest_growth"] > 8
    assert max(asked) == 5_000
    monkeypatch.setattr(families, "LONG_TEXTS", ("^",))
    assert math.isnan(families.hostile(Steep()).values["slowest_growth"])


def test_own_languages_and_words():
    sheet = compare(
        {"bytes": "bytes"}, ["text"], languages={"a": ["x"], "b": ["xx"]}, words=[Word(("ev", "ler"))], draws=0
    )
    assert sheet.measured["bytes"]["fairness"].values["premium_b"] == 2
    assert sheet.measured["bytes"]["morphology"].samples == 1
    assert sheet.quantities("fairness") == ["gini", "largest_premium", "premium_b"]


def test_nothing_to_compare():
    for tokenizers, texts, more, words in (
        ({}, ["a"], {}, "must have a tokenizer"),
        ({"bytes": "bytes"}, [""], {}, "a text that is not empty"),
        ({"bytes": "bytes"}, ["a"], {"languages": {"a": ["x"], "b": []}}, "as many passages each"),
        ({"bytes": "bytes"}, ["a"], {"languages": {"a": ["x"]}}, "two or more"),
    ):
        with pytest.raises(InvalidValue, match=words):
            compare(tokenizers, texts, **more)


def test_pages_escape_and_draw():
    class Empty(Bytes):
        vocabulary = Vocabulary((None, b"a"))

        def encode(self, text):
            return []

    page = tokenizers_page(compare({"<b>": Empty(), "bytes": "bytes"}, TEXTS, draws=5).to_dict())
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert page.count("<svg") > 20
    assert "nan" not in page.lower().replace("finance", "")
    assert "<script" not in page


def test_the_numbers_of_a_row_on_a_page_are_all_whole_or_none():
    found = [{"values": {"cost": v, "missing": n}, "intervals": {}} for v, n in ((2.0, 0.0), (1.5, 1243.0))]
    rows = {row["name"]: [cell.text for cell in row["cells"]] for row in _rows(found)}
    assert rows == {"cost": ["2.000", "1.500"], "missing": ["0", "1,243"]}
