"""Words whose morphs are known: counted by hand, against themselves, and as single characters."""

from __future__ import annotations

import math
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenry import Morphology, open_tokenizer
from tokenry.core.errors import InvalidValue, UnreadableInput
from tokenry.core.vocabulary import Vocabulary
from tokenry.measure.morphs.distance import Edits, edits
from tokenry.measure.morphs.gold import Word, lower, treebank, words_of

WORDS = [Word(("ev", "ler", "imiz", "den")), Word(("kitab", "ı")), Word(("göz", "lük", "çü")), Word(("gel",))]


class Cut:
    """A tokenizer that cuts words as it was told."""

    def __init__(self, *words: str) -> None:
        self.words = {word.replace("+", ""): word.split("+") for word in words}
        self.vocabulary = Vocabulary(
            tuple(p.encode() for p in dict.fromkeys(p for w in self.words.values() for p in w))
        )

    def encode(self, text):
        return [self.vocabulary.ids[p.encode()] for p in self.words[text.strip()]]


class Letters(Cut):
    def __init__(self, words):
        super().__init__(*("+".join(w.text) for w in words))


def of(tokenizer, words=WORDS, **more):
    return Morphology(tokenizer=tokenizer, space=False, **more).over(words, draws=0).values


def test_morphs_against_themselves():
    found = of(Cut(*("+".join(w.morphs) for w in WORDS)))
    for name in ("boundary_f1", "macro_f1", "lemma_atomicity", "lemma_boundary", "over_segmentation", "exact",
                 "under_segmentation", "affix_coverage", "affix_atomicity", "information_preserved"):  # fmt: skip
        assert found[name] == 1, name
    for name in ("morph_error_rate", "match_error_rate", "character_error_rate", "information_lost", "misspelled"):
        assert found[name] == 0, name
    assert found["fertility"] == 10 / 4


def test_single_characters():
    for word in WORDS[:3]:
        found = of(Letters([word]), [word])
        assert found["boundary_recall"] == 1
        assert found["boundary_precision"] == pytest.approx((len(word.morphs) - 1) / (len(word.text) - 1))


def test_counted_by_hand():
    """evlerimizden as evler+imiz+den: boundaries 5 and 9 of 2, 5 and 9."""
    found = of(Cut("evler+imiz+den"), WORDS[:1])
    assert found["boundary_precision"] == 1
    assert found["boundary_recall"] == pytest.approx(2 / 3)
    assert found["boundary_f1"] == pytest.approx(0.8)
    assert found["lemma_atomicity"] == found["lemma_boundary"] == 0
    assert found["over_segmentation"] == pytest.approx(3 / 4)
    assert found["under_segmentation"] == pytest.approx(4 / 3)
    assert found["affix_coverage"] == found["affix_atomicity"] == pytest.approx(2 / 3)
    assert found["morph_error_rate"] == pytest.approx(2 / 4)
    assert found["character_error_rate"] == pytest.approx(1 / 15)
    final = of(Cut("evler+imiz+den"), WORDS[:1], include_final=True)
    assert final["boundary_recall"] == pytest.approx(3 / 4)
    whole = of(Cut("evlerimizden"), WORDS[:1])
    assert math.isnan(whole["boundary_precision"])
    assert (whole["boundary_recall"], whole["single_token"], whole["continued_words"]) == (0, 1, 0)


def test_kinds_are_counted_apart():
    words = [Word(("ev", "ler", "de"), ("lemma", "plural", "case"))]
    found = of(Cut("ev+ler+d+e"), words)
    assert (found["affix_atomicity_plural"], found["affix_atomicity_case"]) == (1, 0)


def test_the_most_frequent_suffixes():
    words = [Word(("a", "x")), Word(("b", "x")), Word(("c", "y"))]
    cut = Cut("a+x", "b+x", "cy")
    assert of(cut, words, top=1)["affix_coverage"] == 1
    assert of(cut, words, top=2)["affix_coverage"] == 0.5


def test_words_that_are_not_spelled_are_counted_and_left_out():
    cut = Cut("ev+ler")
    cut.words["evler"] = ["ev"]
    found = of(cut, [Word(("ev", "ler"))])
    assert found["misspelled"] == 1
    assert math.isnan(found["boundary_f1"])


def test_a_boundary_inside_of_a_character_is_none():
    found = of("bytes", [Word(("göz", "ü"))])
    assert found["boundary_recall"] == 1
    assert found["boundary_precision"] == pytest.approx(1 / 3)
    assert found["fertility"] == 6


def test_the_space_before_a_word_is_no_piece_of_it():
    assert Morphology(tokenizer="bytes").pieces("ab") == [b"a", b"b"]
    assert b"".join(Morphology(tokenizer=open_tokenizer("sample-unigram")).pieces("evler")) == b"evler"


@settings(max_examples=200, deadline=None, database=None)
@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_edits(a, b):
    there, back = edits(a, b), edits(b, a)
    assert there.total == back.total
    assert there.hits + there.replaced + there.deleted == len(a)
    assert there.hits + there.replaced + there.inserted == len(b)
    assert (there.total == 0) == (a == b)
    assert edits(a, a) == Edits(len(a), 0, 0, 0)
    assert there.total == nearest(a, b)


def nearest(a, b):
    """The number of edits by its definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(nearest(a[1:], b[1:]) + (a[0] != b[0]), nearest(a[1:], b) + 1, nearest(a, b[1:]) + 1)


def test_of_as_few_edits_those_with_most_hits():
    assert edits("ab", "ba") == Edits(1, 0, 1, 1)
    assert edits("", "") == Edits(0, 0, 0, 0)
    assert edits(["ev", "ler"], ["evl", "er"]) == Edits(0, 2, 0, 0)


def test_a_very_long_word_is_counted():
    text = "".join(random.Random(0).choices("ab", k=3000))
    start = time.process_time()
    found = of(Letters([Word((text[:1500], text[1500:]))]), [Word((text[:1500], text[1500:]))])
    assert time.process_time() - start < 20
    assert found["character_error_rate"] == pytest.approx(2998 / 3001)


def test_samples():
    assert words_of("ev+ler\n\n gel \n") == [Word(("ev", "ler")), Word(("gel",))]
    with pytest.raises(InvalidValue, match="none of them empty"):
        words_of("ev++ler")
    with pytest.raises(InvalidValue, match="samples must be words"):
        words_of(3)
    with pytest.raises(InvalidValue, match="one for each of 1 morphs"):
        Word(("ev",), ("lemma", "plural"))


TREEBANK = """# text = Açıklanmayan soruların kitabı yok !
1\tAçık\taçık\tADJ\tJJ\tProper=False\t2\tig\t_\tSpaceAfter=No
2\tla\t_\tVERB\tVB\tDerivation=Make\t3\tig\t_\tSpaceAfter=No
3\tnma\t_\tVERB\tVB\tDerivation=Pass\t4\tig\t_\tSpaceAfter=No
4\tyanlar\t_\tADJ\tVJ\tPersonNumber=A3pl|Derivation=PresPart\t5\trcmod\t_\t_
5\tsoruların\tsoru\tNOUN\tNN\tPersonNumber=A3pl|Case=Gen\t6\tposs\t_\t_
6\tkitabı\tkitap\tNOUN\tNN\tPersonNumber=A3sg|Case=Acc\t7\targ\t_\t_
7\tburnu\tburun\tNOUN\tNN\tPersonNumber=A3sg|Case=Acc\t8\targ\t_\t_
8\t!\t!\tPUNCT\t.\tProper=False\t0\tp\t_\t_
"""


def test_a_treebank(tmp_path):
    file = tmp_path / "a.conllu"
    file.write_text(TREEBANK + "\n" + TREEBANK, encoding="utf-8")
    one, other = treebank(file)
    assert one == other
    assert [w.morphs for w in one] == [
        ("açık", "la", "nma", "yan", "lar"), ("soru", "lar", "ın"), ("kitab", "ı"),
    ]  # fmt: skip
    assert one[0].kinds == ("lemma", "derivation", "derivation", "derivation", "plural")
    assert lower("IĞDIR İzmir") == "ığdır izmir"
    file.write_text("1\tx\n", encoding="utf-8")
    for wrong in (file, tmp_path / "gone"):
        with pytest.raises(UnreadableInput):
            treebank(wrong)
